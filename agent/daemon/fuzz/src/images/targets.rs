//! What each target does.

use std::io::Read;
use std::os::unix::fs::FileExt;
use std::sync::atomic::AtomicU64;

use super::{document, layer, limits, reference, tar};
use crate::erofs::{self as second, Seen};

/// Most bytes that a target reads of one file: what is promised in a header may be a terabyte.
const READ_MAX: u64 = 1 << 20;

/// Reads all entries and their data. A file yields exactly as many bytes as its entry says.
pub fn read_tar(data: &[u8]) {
    let mut archive = tar::TarReader::new(data);
    while let Ok(Some(entry)) = archive.next() {
        assert!(!entry.path.is_empty() && entry.path.len() <= limits::PATH_MAX, "the bound on names");
        assert!(entry.mtime.nanos < 1_000_000_000);
        let tar::Kind::File(size) = entry.kind else { continue };
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
pub fn convert(data: &[u8]) -> Option<std::collections::BTreeMap<Vec<u8>, Seen>> {
    let file = tempfile::tempfile().expect("a scratch file");
    let other = file.try_clone().expect("a descriptor");
    let scratch = tempfile::tempfile().expect("a scratch file");
    let converted = layer::convert(data, other, scratch, &AtomicU64::new(0)).ok()?;
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
pub fn read_document(data: &[u8]) {
    if let Ok(document) = document::parse_manifest("it", data) {
        let loose: serde_json::Value = serde_json::from_slice(data).expect("what is taken is JSON");
        let has = |key: &str| loose.as_object().is_some_and(|all| all.keys().any(|name| name.eq_ignore_ascii_case(key)));
        match document {
            document::Document::Manifest { config, layers } => {
                assert!(!has("manifests") && layers.len() <= limits::LAYERS_MAX);
                assert!(reference::is_digest(&config.digest) && layers.iter().all(|layer| reference::is_digest(&layer.digest)));
            }
            document::Document::Index(entries) => {
                assert!(!has("layers") && !has("config"));
                assert!(entries.iter().all(|entry| reference::is_digest(&entry.digest)));
            }
        }
    }
    for layers in 0..3 {
        if let Ok(mut config) = document::ConfigDocument::parse(data, layers) {
            assert_eq!(config.rootfs.diff_ids.len(), layers);
            let _ = (config.created_at(), config.image_config());
        }
    }
}

/// Normalizes a reference. The normal form is its own normal form.
pub fn normalize(text: &str) {
    let Ok(parsed) = reference::Reference::parse(text) else { return };
    let normal = parsed.to_string();
    let again = reference::Reference::parse(&normal).expect("the normal form is a reference");
    assert_eq!(again, parsed);
    assert_eq!(again.to_string(), normal);
}
