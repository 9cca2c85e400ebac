//! Where an archive's bytes come from, and the copy of them that becomes a blob.

use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Progress;
use crate::error::{Error, Reason, Result};
use crate::images::content::{BlobWriter, ScratchBlob};
use crate::images::limits::ARCHIVE_BYTES_MAX;

/// The archive as it comes: counts bytes, stops when the import is cancelled or too large.
#[derive(Debug)]
pub(super) struct Source<'a, R> {
    pub(super) inner: R,
    pub(super) progress: &'a Progress,
    pub(super) cancelled: &'a AtomicBool,
}

impl<R: Read> Read for Source<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        check(self.cancelled)?;
        let read = self.inner.read(buffer)?;
        let total = self.progress.bytes_read.fetch_add(read as u64, Ordering::Relaxed) + read as u64;
        if total > ARCHIVE_BYTES_MAX {
            let line = format!("the archive is larger than {ARCHIVE_BYTES_MAX} bytes");
            return Err(io::Error::other(Error::new(Reason::LimitExceeded, line)));
        }
        Ok(read)
    }
}

/// A reader that fails once one of its flags is set.
#[derive(Debug)]
pub(in crate::images) struct Stoppable<'a, R> {
    pub(in crate::images) inner: R,
    pub(in crate::images) stop: [&'a AtomicBool; 2],
}

impl<R: Read> Read for Stoppable<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stop.into_iter().try_for_each(check)?;
        self.inner.read(buffer)
    }
}

fn check(stop: &AtomicBool) -> io::Result<()> {
    if !stop.load(Ordering::Relaxed) {
        return Ok(());
    }
    Err(io::Error::other(Error::new(Reason::DeadlineExceeded, "the import was cancelled")))
}

/// A reader whose bytes are also kept, if it turns out that they should be. Clones share it.
pub(super) struct Tee<R>(Arc<Mutex<State<R>>>);

struct State<R> {
    inner: R,
    copy: Copy,
}

enum Copy {
    /// It is not known yet; what was read so far.
    Held(Vec<u8>),
    Kept(Box<BlobWriter>),
    Discarded,
}

impl<R> Clone for Tee<R> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<R> Tee<R> {
    pub(super) fn new(inner: R) -> Self {
        Self(Arc::new(Mutex::new(State { inner, copy: Copy::Held(Vec::new()) })))
    }

    fn state(&self) -> MutexGuard<'_, State<R>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Copies what was read and will be read.
    pub(super) fn keep(&self, mut blob: BlobWriter) -> Result<()> {
        let copy = &mut self.state().copy;
        if let Copy::Held(bytes) = copy {
            blob.write_all(bytes).map_err(|error| Error::io("writing a blob", &error))?;
        }
        *copy = Copy::Kept(Box::new(blob));
        Ok(())
    }

    /// Copies nothing.
    pub(super) fn discard(&self) {
        self.state().copy = Copy::Discarded;
    }

    /// Ends the copy.
    pub(super) fn finish(&self) -> Result<ScratchBlob> {
        match std::mem::replace(&mut self.state().copy, Copy::Discarded) {
            Copy::Kept(blob) => blob.finish(),
            Copy::Held(_) | Copy::Discarded => Err(Error::new(Reason::Internal, "the archive was not copied")),
        }
    }
}

impl<R: Read> Read for Tee<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut state = self.state();
        let read = state.inner.read(buffer)?;
        match &mut state.copy {
            Copy::Held(bytes) => bytes.extend_from_slice(&buffer[..read]),
            Copy::Kept(blob) => blob.write_all(&buffer[..read])?,
            Copy::Discarded => {}
        }
        Ok(read)
    }
}
