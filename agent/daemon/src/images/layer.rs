//! From a layer's tar stream to its EROFS file.

use std::fs::File;
use std::io::{self, Read};
use std::sync::atomic::{AtomicU64, Ordering};

use sha2::{Digest, Sha256};

use super::ahead;
use super::erofs::Writer;
use super::limits::{ENTRIES_MAX, SYMLINK_MAX, read_error};
use super::tar::{Entry, Kind, TarReader, invalid, shown};
use super::tree::{Attributes, Content, Directory, Node, Tree};
use crate::error::{Error, Reason, Result};

/// A layer that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Converted {
    /// Digest of the uncompressed tar, "sha256:…".
    pub(super) diff_id: String,
    /// Bytes of the EROFS file.
    pub(super) size: u64,
    /// fs-verity's digest of the EROFS file.
    pub(super) digest: String,
    /// Whether the tar had its end marker; without one, only its digest can tell that it is whole.
    pub(super) ended: bool,
}

/// Reads the uncompressed tar `stream` to its end and writes `file`, which is empty, as its EROFS image, synced.
/// `scratch` is an empty file for the time of writing; `entries` counts on.
///
/// Inflating the stream and hashing it is done on a thread of its own, ahead of writing.
pub(super) fn convert(stream: impl Read + Send, file: File, scratch: File, entries: &AtomicU64) -> Result<Converted> {
    let mut stream = Hashing { inner: stream, hash: Sha256::new() };
    let (mut layer, ended) = ahead::read(&mut stream, |stream| write(stream, file, scratch, entries))?;
    let digest: [u8; 32] = stream.hash.finalize().into();
    let mut uuid = [0; 16];
    uuid.copy_from_slice(&digest[..16]);
    layer.tree.finish();
    let (size, file_digest) = layer.writer.finish(&layer.tree, uuid)?;
    Ok(Converted { diff_id: format!("sha256:{}", hex::encode(digest)), size, digest: file_digest, ended })
}

/// Writes the data of all entries; says with it whether the tar had its end marker.
fn write(stream: impl Read, file: File, scratch: File, entries: &AtomicU64) -> Result<(Layer, bool)> {
    let mut archive = TarReader::new(stream);
    let mut layer = Layer { tree: Tree::new(), writer: Writer::new(file, scratch) };
    let mut count = 0;
    while let Some(entry) = archive.next()? {
        count += 1;
        entries.fetch_add(1, Ordering::Relaxed);
        if count > ENTRIES_MAX {
            return Err(Error::new(Reason::LimitExceeded, format!("a layer has more than {ENTRIES_MAX} entries")));
        }
        layer.add(entry, &mut archive)?;
    }
    let (mut rest, ended) = archive.into_inner();
    io::copy(&mut rest, &mut io::sink()).map_err(|error| read_error("reading a layer", error))?;
    Ok((layer, ended))
}

struct Layer {
    tree: Tree,
    writer: Writer,
}

impl Layer {
    fn add(&mut self, entry: Entry, data: &mut impl Read) -> Result<()> {
        let Entry { path, kind, mode, uid, gid, mtime, xattrs } = entry;
        let place = self.tree.place(&path, mtime)?;
        let content = match kind {
            Kind::HardLink(target) => return self.tree.hard_link(place, &target, &path),
            Kind::File(size) => Content::File(self.writer.data(data, size, &xattrs)?),
            Kind::Symlink(target) if target.is_empty() || target.len() > SYMLINK_MAX => {
                let problem =
                    format_args!("entry {}: the link is empty or longer than {SYMLINK_MAX} bytes", shown(&path));
                return Err(invalid(problem));
            }
            Kind::Symlink(target) => {
                let data = self.writer.link(&target, &xattrs)?;
                Content::Symlink(target, data)
            }
            Kind::CharDevice(major, minor) => Content::CharDevice(major, minor),
            Kind::BlockDevice(major, minor) => Content::BlockDevice(major, minor),
            Kind::Directory => Content::Directory(Directory::default()),
            Kind::Fifo => Content::Fifo,
        };
        // Linux shows every symbolic link as 0777.
        let mode = if matches!(content, Content::Symlink(..)) { 0o777 } else { mode };
        let attributes = Attributes { mode, uid, gid, mtime, xattrs };
        self.tree.put(place, Node { attributes, content }).map_err(|mut error| {
            error.message = format!("{} (entry {})", error.message, shown(&path));
            error
        })
    }
}

/// Hashes what is read.
struct Hashing<R> {
    inner: R,
    hash: Sha256,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.hash.update(&buffer[..read]);
        Ok(read)
    }
}

#[cfg(test)]
mod hostile;
#[cfg(test)]
mod tests;
