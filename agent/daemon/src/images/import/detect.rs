//! Finds out what a (decompressed) archive is from its first entries.

use super::ArchiveFormat;
use crate::error::{Error, Reason, Result};
use crate::images::tar::{Kind, TarReader};

/// How many bytes are looked at.
pub(super) const START: u64 = 64 << 10;

/// What the archive is that starts with these bytes.
///
/// An OCI layout begins with one of its three names; docker-archive with a digest's name or one of its documents. What
/// begins otherwise is a root file system.
pub(super) fn format(start: &[u8]) -> Result<ArchiveFormat> {
    if start.is_empty() {
        return Err(Error::new(Reason::InvalidArchive, "the archive is empty"));
    }
    let mut archive = TarReader::new(start);
    loop {
        let entry = match archive.next() {
            Ok(Some(entry)) => entry,
            Ok(None) => return Ok(ArchiveFormat::RootfsTar),
            Err(error) if start.len() < 512 || !looks_like_tar(start) => {
                return Err(Error::new(Reason::InvalidArchive, format!("the archive is no tar: {}", error.message)));
            }
            // Damage within is reported by who reads it whole.
            Err(_) => return Ok(ArchiveFormat::RootfsTar),
        };
        let mut parts = entry.path.split(|byte| *byte == b'/').filter(|part| !matches!(*part, b"" | b"."));
        let Some(first) = parts.next() else { continue };
        let is_file = matches!(entry.kind, Kind::File(_));
        return Ok(match first {
            b"oci-layout" | b"index.json" if is_file => ArchiveFormat::Oci,
            b"blobs" if parts.next().is_none_or(|second| second == b"sha256") => ArchiveFormat::Oci,
            b"manifest.json" | b"repositories" if is_file => ArchiveFormat::Docker,
            _ if is_docker_name(first) => ArchiveFormat::Docker,
            _ => ArchiveFormat::RootfsTar,
        });
    }
}

fn looks_like_tar(start: &[u8]) -> bool {
    start.get(257..262) == Some(b"ustar")
}

/// 64 hexadecimal digits, alone or before ".json" or ".tar".
fn is_docker_name(name: &[u8]) -> bool {
    let stem = [&b".json"[..], b".tar"].iter().find_map(|suffix| name.strip_suffix(*suffix)).unwrap_or(name);
    stem.len() == 64 && stem.iter().all(u8::is_ascii_hexdigit)
}
