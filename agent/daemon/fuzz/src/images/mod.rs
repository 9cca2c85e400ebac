//! The parts of hulld's `images` that read what others wrote, and what each target does with them.

#[path = "../../../src/images/ahead.rs"]
mod ahead;
#[path = "../../../src/images/compression.rs"]
mod compression;
#[path = "../../../src/images/content.rs"]
mod content;
#[path = "../../../src/images/document.rs"]
mod documents;
#[path = "../../../src/images/erofs/mod.rs"]
mod erofs;
#[path = "../../../src/images/layer.rs"]
mod layers;
#[path = "../../../src/images/limits.rs"]
mod limits;
#[path = "../../../src/images/record.rs"]
mod record;
#[path = "../../../src/images/reference.rs"]
mod references;
#[path = "../../../src/images/tar/mod.rs"]
mod tars;
#[path = "../../../src/images/tree.rs"]
mod tree;

use std::io::Read;
use std::os::unix::fs::FileExt;
use std::sync::atomic::AtomicU64;

use crate::erofs::{self as second, Seen};

/// Most bytes that a target reads of one file: what is promised in a header may be a terabyte.
const READ_MAX: u64 = 1 << 20;

/// Reads all entries and their data. A file yields exactly as many bytes as its entry says.
pub fn tar(data: &[u8]) {
    let mut archive = tars::TarReader::new(data);
    while let Ok(Some(entry)) = archive.next() {
        assert!(!entry.path.is_empty() && entry.path.len() <= limits::PATH_MAX, "the bound on names");
        assert!(entry.mtime.nanos < 1_000_000_000);
        let tars::Kind::File(size) = entry.kind else { continue };
        let mut read = Vec::new();
        match archive.by_ref().take(size.min(READ_MAX)).read_to_end(&mut read) {
            Ok(length) => assert_eq!(length as u64, size.min(READ_MAX)),
            Err(_) => return,
        }
        if size <= READ_MAX {
            assert!(archive.read(&mut [0]).is_ok_and(|more| more == 0), "a file is longer than its entry says");
        }
    }
}

/// Converts a layer. What comes of it must be an image without a fault.
pub fn layer(data: &[u8]) -> Option<std::collections::BTreeMap<Vec<u8>, Seen>> {
    let file = tempfile::tempfile().expect("a scratch file");
    let other = file.try_clone().expect("a descriptor");
    let scratch = tempfile::tempfile().expect("a scratch file");
    let converted = layers::convert(data, other, scratch, &AtomicU64::new(0)).ok()?;
    assert_eq!(file.metadata().expect("metadata").len(), converted.size);
    if converted.size > 64 << 20 {
        // Mostly holes: nothing to be gained from reading them.
        return None;
    }
    let mut image = vec![0; usize::try_from(converted.size).expect("a size")];
    file.read_exact_at(&mut image, 0).expect("reading the image");
    let seen = second::read(&image);
    for (path, seen) in &seen {
        let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        assert!(!name.starts_with(b".wh."), "a whiteout of the archive in the image");
        assert!(seen.mode >> 12 != 12, "a socket");
    }
    Some(seen)
}

/// Reads a manifest or index, and a config. One that is taken is not something else to another reader.
pub fn document(data: &[u8]) {
    if let Ok(document) = documents::parse_manifest("it", data) {
        let loose: serde_json::Value = serde_json::from_slice(data).expect("what is taken is JSON");
        let has = |key: &str| loose.as_object().is_some_and(|all| all.keys().any(|name| name.eq_ignore_ascii_case(key)));
        match document {
            documents::Document::Manifest { config, layers } => {
                assert!(!has("manifests") && layers.len() <= limits::LAYERS_MAX);
                assert!(references::is_digest(&config.digest) && layers.iter().all(|layer| references::is_digest(&layer.digest)));
            }
            documents::Document::Index(entries) => {
                assert!(!has("layers") && !has("config"));
                assert!(entries.iter().all(|entry| references::is_digest(&entry.digest)));
            }
        }
    }
    for layers in 0..3 {
        if let Ok(mut config) = documents::ConfigDocument::parse(data, layers) {
            assert_eq!(config.rootfs.diff_ids.len(), layers);
            let _ = (config.created_at(), config.image_config());
        }
    }
}

/// Normalizes a reference. The normal form is its own normal form.
pub fn reference(text: &str) {
    let Ok(parsed) = references::Reference::parse(text) else { return };
    let normal = parsed.to_string();
    let again = references::Reference::parse(&normal).expect("the normal form is a reference");
    assert_eq!(again, parsed);
    assert_eq!(again.to_string(), normal);
}
