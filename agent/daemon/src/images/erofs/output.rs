//! The file that an image is written to: front to back, through a buffer; blocks of zeros become holes.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use super::BLOCK;
use super::behind::SyncBehind;
use crate::error::{Error, Reason, Result};
use crate::images::limits::read_error;
use crate::images::verity::Hasher;

/// Bytes of the buffer, whole blocks.
const BUFFER: usize = 256 << 10;

#[derive(Debug)]
pub(super) struct Output {
    file: Arc<File>,
    synced: SyncBehind,
    buffer: Vec<u8>,
    /// Offset of the buffer's start in the file, at a block.
    start: u64,
    hasher: Hasher,
}

impl Output {
    /// Leaves block 0 free.
    pub(super) fn new(file: File) -> Self {
        let file = Arc::new(file);
        let synced = SyncBehind::new(Arc::clone(&file));
        Self { file, synced, buffer: Vec::with_capacity(BUFFER), start: BLOCK as u64, hasher: Hasher::new() }
    }

    fn position(&self) -> u64 {
        self.start + self.buffer.len() as u64
    }

    /// Number of the block that begins here; call where one does.
    pub(super) fn block(&self) -> Result<u32> {
        u32::try_from(self.position() / BLOCK as u64)
            .map_err(|_| Error::new(Reason::LimitExceeded, "a layer has more blocks than EROFS can count"))
    }

    pub(super) fn write(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(BUFFER - self.buffer.len()));
            self.buffer.extend_from_slice(now);
            self.flush_if_full()?;
            bytes = later;
        }
        Ok(())
    }

    /// Copies exactly `size` bytes.
    pub(super) fn copy(&mut self, reader: &mut impl Read, mut size: u64) -> Result<()> {
        while size > 0 {
            let old = self.buffer.len();
            let now = usize::try_from(size).unwrap_or(usize::MAX).min(BUFFER - old);
            self.buffer.resize(old + now, 0);
            reader
                .read_exact(&mut self.buffer[old..])
                .map_err(|error| read_error("reading a file of a layer", error))?;
            self.flush_if_full()?;
            size -= now as u64;
        }
        Ok(())
    }

    /// Fills the block up.
    pub(super) fn align(&mut self) -> Result<()> {
        self.buffer.resize(self.buffer.len().next_multiple_of(BLOCK), 0);
        self.flush_if_full()
    }

    fn flush_if_full(&mut self) -> Result<()> {
        if self.buffer.len() < BUFFER { Ok(()) } else { self.flush() }
    }

    /// Writes the buffer, which is whole blocks, except the blocks of zeros.
    fn flush(&mut self) -> Result<()> {
        let mut run = 0..0;
        for (at, block) in self.buffer.chunks(BLOCK).enumerate() {
            let end = at * BLOCK + block.len();
            if block.iter().all(|byte| *byte == 0) {
                self.hasher.zero();
                self.write_at(&self.buffer[run.clone()], self.start + run.start as u64)?;
                run = end..end;
            } else {
                self.hasher.block(block);
                run.end = end;
            }
        }
        self.write_at(&self.buffer[run.clone()], self.start + run.start as u64)?;
        self.start += self.buffer.len() as u64;
        self.synced.written(self.buffer.len())?;
        self.buffer.clear();
        Ok(())
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        self.file.write_all_at(bytes, offset).map_err(|error| Error::io("writing a layer", &error))
    }

    /// Writes what is left and block 0's `superblock`, and makes the file safe; returns its size and digest.
    pub(super) fn finish(mut self, superblock: &[u8; BLOCK]) -> Result<(u64, String)> {
        self.align()?;
        self.flush()?;
        self.write_at(superblock, 0)?;
        let length = self.file.set_len(self.start);
        length.and_then(|()| self.synced.finish()).map_err(|error| Error::io("syncing a layer", &error))?;
        Ok((self.start, self.hasher.finish(superblock, self.start)))
    }
}
