//! Writes EROFS images: uncompressed, 4 KiB blocks, extended inodes.
//!
//! From the kernel's description of the format (Documentation/filesystems/erofs.rst, fs/erofs/erofs_fs.h), restricted to
//! what Linux 5.10 mounts: no incompatible feature is used. The file is written front to back while the layer is read:
//!
//! ```text
//! block 0      superblock at 1024, written last
//! data         whole blocks of each file in the order of the archive, then those of large directories
//! metadata     inodes in the order of the archive, each followed by its attributes and the tail of its data
//! ```
//!
//! The last, partial block of a file stands beside its inode where that fits; until the metadata is written, tails wait
//! in an unnamed scratch file, so that memory is bounded by the number of entries and not by their size.

mod behind;
mod directory;
mod metadata;
mod output;

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};

use super::limits::{LAYER_BYTES_MAX, read_error};
use super::tar::Xattr;
use super::tree::Tree;
use crate::error::{Error, Reason, Result};
use output::Output;

/// Bytes of a block. Linux before 6.4 mounts no other size.
pub(super) const BLOCK: usize = 4096;
/// Bytes of an extended inode.
const INODE: usize = 64;

/// Where the data of a file or long link is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Data {
    pub(super) size: u64,
    /// First block of those that are written whole.
    start: u32,
    /// Offset in the scratch file of the partial block that will stand beside the inode.
    tail: Option<u64>,
}

/// An image being written.
#[derive(Debug)]
pub(super) struct Writer {
    output: Output,
    tails: BufWriter<File>,
    tails_end: u64,
    data_bytes: u64,
}

impl Writer {
    /// Writes to `file`, which is empty; `scratch` is an empty file for the time of writing.
    pub(super) fn new(file: File, scratch: File) -> Self {
        Self {
            output: Output::new(file),
            tails: BufWriter::with_capacity(256 << 10, scratch),
            tails_end: 0,
            data_bytes: 0,
        }
    }

    /// Copies the data of a file. `xattrs` are those of its inode: they decide whether its tail fits beside it.
    pub(super) fn data(&mut self, mut reader: impl Read, size: u64, xattrs: &[Xattr]) -> Result<Data> {
        self.data_bytes = self.data_bytes.saturating_add(size);
        if self.data_bytes > LAYER_BYTES_MAX {
            let line = format!("the files of a layer are larger than {LAYER_BYTES_MAX} bytes");
            return Err(Error::new(Reason::LimitExceeded, line));
        }
        let tail = usize::try_from(size % BLOCK as u64).unwrap_or_default();
        let inline = tail > 0 && metadata::inline_fits(xattrs, tail);
        let whole = if inline { size - tail as u64 } else { size };
        let start = self.output.block()?;
        self.output.copy(&mut reader, whole)?;
        self.output.align()?;
        if !inline {
            return Ok(Data { size, start, tail: None });
        }
        let mut bytes = [0; BLOCK];
        reader.read_exact(&mut bytes[..tail]).map_err(|error| read_error("reading a file of a layer", error))?;
        self.tails.write_all(&bytes[..tail]).map_err(scratch_error)?;
        let offset = self.tails_end;
        self.tails_end += tail as u64;
        Ok(Data { size, start, tail: Some(offset) })
    }

    /// Writes the target of a symbolic link that is too long to stand beside its inode.
    pub(super) fn link(&mut self, target: &[u8], xattrs: &[Xattr]) -> Result<Option<Data>> {
        if metadata::inline_fits(xattrs, target.len()) {
            return Ok(None);
        }
        self.data(target, target.len() as u64, xattrs).map(Some)
    }

    /// Writes everything but the data of files, and makes it safe. Returns the size of the file and its digest.
    pub(super) fn finish(mut self, tree: &Tree, uuid: [u8; 16]) -> Result<(u64, String)> {
        self.tails.flush().map_err(scratch_error)?;
        let tails = self.tails.into_inner().map_err(|error| scratch_error(error.into_error()))?;
        let superblock = metadata::write(&mut self.output, tree, &tails, uuid)?;
        self.output.finish(&superblock)
    }
}

fn scratch_error(error: io::Error) -> Error {
    Error::io("writing a scratch file", &error)
}

#[cfg(test)]
mod tests;
