//! Archives around layers, made by hand: what is taken, what is refused.

use std::fmt::Write as _;
use std::sync::Arc;

use super::*;
use crate::error::Reason;
use crate::images::testing::Tar;
use crate::images::{Image, Images, RegistryConfig};
use crate::store::Store;

fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest;
    hex::encode(sha2::Sha256::digest(bytes))
}

fn import(archive: &[u8]) -> Result<Arc<Image>> {
    import_all(archive).map(|mut images| {
        assert_eq!(images.len(), 1);
        images.remove(0)
    })
}

fn import_all(archive: &[u8]) -> Result<Vec<Arc<Image>>> {
    let dir = tempfile::tempdir().unwrap();
    let images =
        Images::open(dir.path(), Store::open(&dir.path().join("x.redb")).unwrap(), RegistryConfig::default()).unwrap();
    let imported = images.import(&ImportOptions::default(), archive, &Progress::default(), &AtomicBool::new(false));
    if imported.is_err() {
        for folder in ["tmp", "layers", "content/blobs/sha256"] {
            let entries = std::fs::read_dir(dir.path().join("images").join(folder)).unwrap().flatten();
            let left: Vec<_> = entries.map(|entry| entry.file_name()).filter(|name| name != "base-1.erofs").collect();
            assert!(left.is_empty(), "{folder}: {left:?}");
        }
    }
    imported
}

fn refused(archive: &[u8], part: &str) {
    let error = import(archive).unwrap_err();
    assert!(error.to_string().contains(part), "{error}; expected {part:?}");
    let expected = [Reason::InvalidArchive, Reason::UnsupportedFeature, Reason::LimitExceeded, Reason::InvalidArgument];
    assert!(expected.contains(&error.reason), "{error:?}");
}

/// An OCI layout whose documents can be bent before it is packed.
struct Layout {
    layers: Vec<Vec<u8>>,
    config: String,
    manifest: String,
    index: String,
    other: Vec<(String, Vec<u8>)>,
}

impl Layout {
    fn new() -> Self {
        let lower = Tar::default().file("a", b"lower").file("b", b"").end();
        let upper = Tar::default().file(".wh.b", b"").file("c", b"upper").end();
        let mut layout = Self {
            layers: vec![lower, upper],
            config: String::new(),
            manifest: String::new(),
            index: String::new(),
            other: Vec::new(),
        };
        let diff_ids: Vec<_> = layout.layers.iter().map(|layer| format!("\"sha256:{}\"", sha256(layer))).collect();
        layout.config = format!(
            r#"{{"created":"2020-02-03T04:05:06Z","architecture":"amd64","os":"linux",
            "config":{{"Cmd":["/c"],"Env":null,"Labels":{{"a":"b"}},"ExposedPorts":{{"80/tcp":{{}}}}}},
            "rootfs":{{"type":"layers","diff_ids":[{}]}},"history":[]}}"#,
            diff_ids.join(",")
        );
        layout.manifest = layout.manifest_of("application/vnd.oci.image.layer.v1.tar");
        layout.index = layout.index_of("");
        layout
    }

    fn descriptor(kind: &str, bytes: &[u8], more: &str) -> String {
        format!(r#"{{"mediaType":"{kind}","digest":"sha256:{}","size":{}{more}}}"#, sha256(bytes), bytes.len())
    }

    fn manifest_of(&self, layer_type: &str) -> String {
        let layers: Vec<_> = self.layers.iter().map(|layer| Self::descriptor(layer_type, layer, "")).collect();
        let config = Self::descriptor(CONFIG_TYPE, self.config.as_bytes(), "");
        format!(r#"{{"schemaVersion":2,"config":{config},"layers":[{}]}}"#, layers.join(","))
    }

    fn index_of(&self, more: &str) -> String {
        let name = r#","annotations":{"io.containerd.image.name":"docker.io/demo/x:1"}"#;
        let manifest = Self::descriptor("application/vnd.oci.image.manifest.v1+json", self.manifest.as_bytes(), name);
        format!(r#"{{"schemaVersion":2,"manifests":[{manifest}{more}]}}"#)
    }

    /// Bends the config, and the documents above it.
    fn with_config(mut self, from: &str, to: &str) -> Self {
        assert!(self.config.contains(from));
        self.config = self.config.replace(from, to);
        self.manifest = self.manifest_of("application/vnd.oci.image.layer.v1.tar");
        self.index = self.index_of("");
        self
    }

    fn with_manifest(mut self, from: &str, to: &str) -> Self {
        assert!(self.manifest.contains(from));
        self.manifest = self.manifest.replace(from, to);
        self.index = self.index_of("");
        self
    }

    fn with_index(mut self, more: &str) -> Self {
        self.index = self.index_of(more);
        self
    }

    fn pack(&self) -> Vec<u8> {
        let mut blobs: Vec<_> = self.layers.iter().map(Vec::as_slice).collect();
        blobs.extend([self.config.as_bytes(), self.manifest.as_bytes()]);
        let mut tar = Tar::default();
        for blob in blobs {
            tar = tar.file(&format!("blobs/sha256/{}", sha256(blob)), blob);
        }
        for (path, bytes) in &self.other {
            tar = tar.file(path, bytes);
        }
        tar.file("index.json", self.index.as_bytes()).file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#).end()
    }
}

#[test]
fn an_oci_layout() {
    let layout = Layout::new();
    let image = import(&layout.pack()).unwrap();
    assert_eq!(image.names, ["docker.io/demo/x:1"]);
    assert_eq!(image.digest, format!("sha256:{}", sha256(layout.manifest.as_bytes())));
    assert_eq!(image.layers.len(), 2);
    assert_eq!(image.config.cmd, ["/c"]);
    assert_eq!(image.config.exposed_ports, ["80/tcp"]);
    assert_eq!(image.created, Some(std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_580_702_706)));
    // In an archive that is compressed as a whole, and as an index within an index beside an attestation.
    let zstd = zstd::encode_all(&*layout.pack(), 1).unwrap();
    assert_eq!(import(&zstd).unwrap().digest, image.digest);
    let attestation = r#",{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:DIGEST","size":2,
        "platform":{"architecture":"unknown","os":"unknown"}}"#
        .replace("DIGEST", &"0".repeat(64));
    let mut nested = layout.with_index(&attestation);
    let inner = std::mem::take(&mut nested.index);
    let descriptor = Layout::descriptor("application/vnd.oci.image.index.v1+json", inner.as_bytes(), "");
    nested.index = format!(r#"{{"schemaVersion":2,"manifests":[{descriptor}]}}"#);
    nested.other.push((format!("blobs/sha256/{}", sha256(inner.as_bytes())), inner.into_bytes()));
    assert_eq!(import(&nested.pack()).unwrap().digest, image.digest);
}

#[test]
fn the_same_layer_twice() {
    let mut layout = Layout::new();
    let first = layout.layers[0].clone();
    layout.layers.push(first.clone());
    let diff_id = format!("\"sha256:{}\"]", sha256(&first));
    let mut layout = layout.with_config("]},", &format!(",{diff_id}}},"));
    layout.layers.pop();
    let image = import(&layout.pack()).unwrap();
    assert_eq!(image.layers.len(), 3);
    assert_eq!(image.layers[0], image.layers[2]);
}

#[test]
fn ambiguous_documents_are_refused() {
    // GHSA-5j5w-g665-5m35: a manifest that is an index as well.
    refused(&Layout::new().with_manifest(r#""layers""#, r#""manifests":[],"layers""#).pack(), "not clearly");
    refused(
        &Layout::new()
            .with_manifest(
                "{\"schemaVersion\":2,",
                "{\"schemaVersion\":2,\"mediaType\":\"application/vnd.oci.image.index.v1+json\",",
            )
            .pack(),
        "not clearly",
    );
    refused(&Layout::new().with_manifest(r#""layers""#, r#""layers":[],"layers""#).pack(), "duplicate");
    refused(&Layout::new().with_manifest(r#""layers""#, r#""Layers":[],"layers""#).pack(), "case only");
    refused(&Layout::new().with_manifest(r#""schemaVersion":2"#, r#""schemaVersion":1"#).pack(), "schema version");
    refused(
        &Layout::new().with_config(r#""rootfs""#, r#""rootfs":{"type":"layers","diff_ids":[]},"rootfs""#).pack(),
        "duplicate",
    );
    refused(&Layout::new().with_config(r#""Cmd""#, r#""Cmd":[],"Cmd""#).pack(), "duplicate");
    refused(&Layout::new().with_config(r#""created""#, r#""created":"","os":"linux","created""#).pack(), "duplicate");
}

#[test]
fn damage_is_refused() {
    let missing = "sha256:".to_owned() + &"1".repeat(64);
    let present = |layout: &Layout| format!("sha256:{}", sha256(&layout.layers[0]));
    let layout = Layout::new();
    let digest = present(&layout);
    refused(&layout.with_manifest(&digest, &missing).pack(), "is missing");
    let layout = Layout::new();
    let digest = present(&layout);
    refused(&layout.with_config(&digest, &missing).pack(), "diff id");
    refused(&Layout::new().with_config(r#"["sha256:"#, r#"["sha512:"#).pack(), "no SHA-256");
    refused(&Layout::new().with_manifest("sha256:", "sha256:../../").pack(), "no SHA-256");
    let mut layout = Layout::new();
    layout.other.push((format!("blobs/sha256/{}", "1".repeat(64)), b"not what its name says".to_vec()));
    refused(&layout.pack(), "damaged");
    let mut layout = Layout::new();
    layout.other.push(("index.json".to_owned(), b"{}".to_vec()));
    refused(&layout.pack(), "comes twice");
    let mut layout = Layout::new();
    let size = layout.manifest.len();
    layout.index = layout.index.replace(&format!(r#""size":{size}"#), r#""size":3"#);
    refused(&layout.pack(), "not as long");
    let mut layout = Layout::new();
    layout.index = String::from("{\"schemaVersion\":2,\"manifests\":[]}");
    refused(&layout.pack(), "none of the archive's 0 images");
    let mut layout = Layout::new();
    layout.index = format!("[{}", " ".repeat(5 << 20));
    refused(&layout.pack(), "larger than");
}

#[test]
fn what_this_node_cannot_run_is_refused_by_name() {
    refused(&Layout::new().with_config("amd64", "s390x").pack(), "linux/s390x");
    refused(&Layout::new().with_config("\"linux\"", "\"windows\"").pack(), "windows/amd64");
    let mut layout = Layout::new();
    layout.manifest = layout.manifest_of("application/vnd.oci.image.layer.v1.tar+encrypted");
    layout.index = layout.index_of("");
    refused(&layout.pack(), "+encrypted");
    let mut layout = Layout::new();
    layout.index =
        layout.index.replace("\"annotations\"", r#""platform":{"architecture":"arm","os":"linux"},"annotations""#);
    refused(&layout.pack(), "none of the archive's 1 images is for linux/amd64");
    let other = Layout::new().with_config("2020", "2021");
    let more = Layout::descriptor("", other.manifest.as_bytes(), "");
    refused(&Layout::new().with_index(&format!(",{more}")).pack(), "is missing");
    let mut layout = Layout::new();
    layout.index = layout.index.replace("io.containerd.image.name", "something.else");
    refused(&layout.pack(), "names no image");
    let mut many = String::new();
    let layout = Layout::new();
    let digest = sha256(&layout.layers[0]);
    for _ in 0..=crate::images::limits::LAYERS_MAX {
        write!(many, r#"{{"mediaType":"","digest":"sha256:{digest}","size":1}},"#).unwrap();
    }
    refused(
        &layout.with_manifest(r#""layers":["#, &format!(r#""layers":[{many}"#)).pack(),
        &format!("{} layers", crate::images::limits::LAYERS_MAX + 3),
    );
}

#[test]
fn a_docker_archive_with_shared_layers() {
    let layout = Layout::new();
    let [lower, upper] = layout.layers.as_slice() else { panic!() };
    let id = sha256(layout.config.as_bytes());
    let manifest = format!(
        r#"[{{"Config":"{id}.json","RepoTags":["demo/x:1","demo/x:2"],"Layers":["{0}/layer.tar","{1}/layer.tar"]}}]"#,
        "a".repeat(64),
        "b".repeat(64),
    );
    let archive = |manifest: &str, target: &str| {
        Tar::default()
            .dir(&"a".repeat(64))
            .link(&format!("{}/layer.tar", "a".repeat(64)), b'2', target)
            .file("shared.tar", lower)
            .file(&format!("{}/layer.tar", "b".repeat(64)), upper)
            .file(&format!("{id}.json"), layout.config.as_bytes())
            .file("manifest.json", manifest.as_bytes())
            .end()
    };
    let image = import(&archive(&manifest, "../shared.tar")).unwrap();
    assert_eq!(image.names, ["docker.io/demo/x:1", "docker.io/demo/x:2"]);
    assert_eq!(image.layers.len(), 2);
    refused(&archive(&manifest, "../../../etc/passwd"), "out of the archive");
    refused(&archive(&manifest, "nowhere"), "missing");
    refused(&archive(&manifest.replace("[{", "[{},{"), "../shared.tar"), "manifest.json");
    refused(&archive(&manifest.replace("\"Layers\"", "\"Layers\":[],\"Layers\""), "../shared.tar"), "duplicate");
}
