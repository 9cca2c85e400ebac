//! OCI image layouts for tests, made without the help of what is tested.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// Media types of the specification.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// The same.
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// The same.
pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// The same, without compression.
pub const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// How a layer is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip.
    Gzip,
    /// zstd.
    Zstd,
}

impl Compression {
    /// The bytes compressed.
    pub fn pack(self, data: &[u8]) -> Vec<u8> {
        match self {
            Self::None => data.to_vec(),
            Self::Gzip => filter("gzip", &["-1", "-n"], data),
            Self::Zstd => zstd::encode_all(data, 1).expect("compressing"),
        }
    }

    fn media_type(self) -> &'static str {
        match self {
            Self::None => LAYER,
            Self::Gzip => "application/vnd.oci.image.layer.v1.tar+gzip",
            Self::Zstd => "application/vnd.oci.image.layer.v1.tar+zstd",
        }
    }
}

/// Passes bytes through a program.
fn filter(program: &str, words: &[&str], data: &[u8]) -> Vec<u8> {
    let mut command = Command::new(program);
    let mut child = command.args(words).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect(program);
    let mut stdin = child.stdin.take().expect("a pipe");
    std::thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(data).expect("writing to a pipe"));
        let output = child.wait_with_output().expect(program);
        assert!(output.status.success(), "{program}");
        output.stdout
    })
}

/// An image layout in a directory.
#[derive(Debug)]
pub struct Layout {
    dir: PathBuf,
    manifests: Vec<Value>,
}

impl Layout {
    /// An empty one in a directory, which is made.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        let dir = dir.into();
        std::fs::create_dir_all(dir.join("blobs/sha256")).expect("mkdir");
        std::fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).expect("writing oci-layout");
        Self { dir, manifests: Vec::new() }
    }

    /// Puts a blob into it; its descriptor.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn blob(&self, media_type: &str, data: &[u8]) -> Value {
        let digest = hex::encode(Sha256::digest(data));
        std::fs::write(self.dir.join("blobs/sha256").join(&digest), data).expect("writing a blob");
        json!({"mediaType": media_type, "digest": format!("sha256:{digest}"), "size": data.len()})
    }

    /// Puts an image into it, of uncompressed layers, the lowest first; the descriptor of its manifest.
    pub fn image(&self, layers: &[(Vec<u8>, Compression)], platform: &str) -> Value {
        let mut platform = platform.split('/');
        let mut part = || platform.next().map(str::to_owned);
        let (os, architecture, variant) = (part(), part(), part());
        let diff_ids: Vec<String> =
            layers.iter().map(|(layer, _)| format!("sha256:{}", hex::encode(Sha256::digest(layer)))).collect();
        let mut config = json!({
            "architecture": architecture, "os": os,
            "config": {"Env": ["PATH=/usr/bin:/bin"], "Cmd": ["/bin/sh"]},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        if let Some(variant) = variant {
            config["variant"] = variant.into();
        }
        let config = self.blob(CONFIG, config.to_string().as_bytes());
        let layers: Vec<Value> =
            layers.iter().map(|(layer, packing)| self.blob(packing.media_type(), &packing.pack(layer))).collect();
        let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers});
        self.blob(MANIFEST, manifest.to_string().as_bytes())
    }

    /// Puts an index of images for platforms into it; its descriptor.
    pub fn index(&self, images: &[(Value, &str)]) -> Value {
        let entries: Vec<Value> = images
            .iter()
            .map(|(descriptor, platform)| {
                let mut parts = platform.split('/');
                let mut descriptor = descriptor.clone();
                descriptor["platform"] = json!({"os": parts.next(), "architecture": parts.next()});
                if let Some(variant) = parts.next() {
                    descriptor["platform"]["variant"] = variant.into();
                }
                descriptor
            })
            .collect();
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries});
        self.blob(INDEX, index.to_string().as_bytes())
    }

    /// Names a manifest or index; the source that skopeo copies it from.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn name(&mut self, descriptor: &Value, name: &str) -> String {
        let mut descriptor = descriptor.clone();
        descriptor["annotations"] = json!({"org.opencontainers.image.ref.name": name});
        self.manifests.push(descriptor);
        self.write_index();
        format!("oci:{}:{name}", self.dir.display())
    }

    fn write_index(&self) {
        let index = json!({"schemaVersion": 2, "manifests": self.manifests});
        std::fs::write(self.dir.join("index.json"), index.to_string()).expect("writing the index");
    }
}

/// Digest of a descriptor.
///
/// # Panics
/// If it has none.
pub fn digest(descriptor: &Value) -> String {
    descriptor["digest"].as_str().expect("a digest").to_owned()
}

/// An OCI archive (a tar of an image layout) of uncompressed layers, the lowest first. `work` is used for its files.
///
/// # Panics
/// If it cannot be written.
pub fn archive(layers: &[Vec<u8>], work: &Path) -> Vec<u8> {
    let mut layout = Layout::new(work);
    let layers: Vec<_> = layers.iter().map(|layer| (layer.clone(), Compression::None)).collect();
    let manifest = layout.image(&layers, "linux/amd64");
    layout.manifests.push(manifest);
    layout.write_index();
    tar_of(work)
}

/// A tar of a directory's contents.
///
/// # Panics
/// If tar fails.
pub fn tar_of(directory: &Path) -> Vec<u8> {
    let output = Command::new("tar").arg("-C").arg(directory).args(["-cf", "-", "."]).output().expect("starting tar");
    assert!(output.status.success(), "tar: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}
