//! OCI image archives for tests, made without the help of what is tested.

use std::path::Path;
use std::process::Command;

use serde_json::json;
use sha2::{Digest as _, Sha256};

/// An OCI archive (a tar of an image layout) of uncompressed layers, the lowest first. `work` is used for its files.
///
/// # Panics
/// If it cannot be written.
pub fn archive(layers: &[Vec<u8>], work: &Path) -> Vec<u8> {
    archive_with(layers, work, |_| {})
}

/// The same, with a config that was changed.
///
/// # Panics
/// If it cannot be written.
pub fn archive_with(layers: &[Vec<u8>], work: &Path, change: impl FnOnce(&mut serde_json::Value)) -> Vec<u8> {
    let blobs = work.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).expect("mkdir");
    let put = |data: &[u8]| {
        let digest = hex::encode(Sha256::digest(data));
        std::fs::write(blobs.join(&digest), data).expect("writing a blob");
        format!("sha256:{digest}")
    };
    let diff_ids: Vec<String> = layers.iter().map(|layer| put(layer)).collect();
    let descriptor =
        |media_type: &str, digest: &str, size: usize| json!({"mediaType": media_type, "digest": digest, "size": size});
    let mut config = json!({
        "architecture": "amd64", "os": "linux",
        "config": {"Env": ["PATH=/usr/bin:/bin"], "Cmd": ["/bin/sh"]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    });
    change(&mut config);
    let config = config.to_string();
    let config_digest = put(config.as_bytes());
    let manifest = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("application/vnd.oci.image.config.v1+json", &config_digest, config.len()),
        "layers": layers.iter().zip(&diff_ids)
            .map(|(layer, digest)| descriptor("application/vnd.oci.image.layer.v1.tar", digest, layer.len()))
            .collect::<Vec<_>>(),
    })
    .to_string();
    let manifest_digest = put(manifest.as_bytes());
    let index = json!({
        "schemaVersion": 2,
        "manifests": [descriptor("application/vnd.oci.image.manifest.v1+json", &manifest_digest, manifest.len())],
    });
    std::fs::write(work.join("index.json"), index.to_string()).expect("writing the index");
    std::fs::write(work.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).expect("writing oci-layout");
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
