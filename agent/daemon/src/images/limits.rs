//! Bounds on what an archive may make hull do, and the errors of reading one.

use std::fmt;
use std::io::{self, Read};

use crate::error::{Error, Reason, Result};

/// Most entries of one layer.
pub(super) const ENTRIES_MAX: u64 = 1_000_000;
/// Most bytes of one name in a directory (NAME_MAX of Linux).
pub(super) const NAME_MAX: usize = 255;
/// Most bytes of a path in a layer (PATH_MAX of Linux).
pub(super) const PATH_MAX: usize = 4096;
/// Most directories above a file.
pub(super) const DEPTH_MAX: usize = 1024;
/// Most bytes of a symbolic link's target.
pub(super) const SYMLINK_MAX: usize = 4095;
/// Most bytes of one extended attribute's value (what EROFS can say; Linux itself: 65536).
pub(super) const XATTR_VALUE_MAX: usize = 65535;
/// Most bytes of all extended attributes of one file.
pub(super) const XATTRS_MAX: usize = 128 << 10;
/// Most bytes of names, link targets and extended attributes of one layer, which are kept in memory.
pub(super) const METADATA_MAX: usize = 256 << 20;
/// Most bytes of a header that describes the next entry.
pub(super) const EXTENDED_HEADER_MAX: usize = 1 << 20;
/// Most pieces of a sparse file.
pub(super) const SPARSE_SEGMENTS_MAX: usize = 1 << 20;
/// Most bytes of file contents of one layer.
pub(super) const LAYER_BYTES_MAX: u64 = 256 << 30;
/// Most bytes of one archive, as it comes and unpacked.
pub(super) const ARCHIVE_BYTES_MAX: u64 = 512 << 30;
/// How many times its size something may inflate to, once it is above [`RATIO_FREE_BYTES`]. gzip cannot do more than 1032.
pub(super) const RATIO_MAX: u64 = 1100;
/// Bytes that anything may inflate to.
pub(super) const RATIO_FREE_BYTES: u64 = 256 << 20;
/// Most bytes of a JSON document: manifest, config, index.
pub(super) const JSON_MAX: usize = 4 << 20;
/// Most layers of an image; as many names of 40 bytes fit overlay's page of mount options.
pub(super) const LAYERS_MAX: usize = 110;
/// Most names of one image.
pub(super) const NAMES_MAX: usize = 256;
/// Most images in one archive.
pub(super) const IMAGES_MAX: usize = 64;
/// Most files of an archive around layers.
pub(super) const ARCHIVE_ENTRIES_MAX: usize = 10_000;

/// The error of a failed read: one of hull's own that travelled through [`io::Error`], or damage, or the system's.
pub(super) fn read_error(what: impl fmt::Display, error: io::Error) -> Error {
    if let Some(own) = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        return own.clone();
    }
    match error.kind() {
        io::ErrorKind::UnexpectedEof => Error::new(Reason::InvalidArchive, format!("{what}: it ends too early")),
        io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput | io::ErrorKind::Other
            if error.raw_os_error().is_none() =>
        {
            Error::new(Reason::InvalidArchive, format!("{what}: {error}"))
        }
        _ => Error::io(what, &error),
    }
}

/// Reads all of a JSON document.
pub(super) fn read_json(what: &str, reader: impl Read) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = reader.take(JSON_MAX as u64 + 1).read_to_end(&mut bytes);
    read.map_err(|error| read_error(format_args!("reading {what}"), error))?;
    if bytes.len() > JSON_MAX {
        return Err(Error::new(Reason::LimitExceeded, format!("{what} is larger than {JSON_MAX} bytes")));
    }
    Ok(bytes)
}
