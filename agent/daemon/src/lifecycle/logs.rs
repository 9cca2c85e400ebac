//! Reads a container's log: lines of Kubernetes' CRI format, "TIME stdout|stderr F|P CONTENT\n".
//!
//! The shim appends to the file; this only reads it. Memory is bounded by one batch and one line, whatever the file holds.
//! A line that is torn (the node crashed while it was written) or not of the format is left out.

mod line;
mod tail;
mod watch;

use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use bytes::{Bytes, BytesMut};

pub(crate) use self::line::{LogEntry, LogStream};
pub(crate) use self::watch::LogWatch;
use crate::error::{Error, Result};

/// Bytes that are read at once.
const BLOCK: usize = 64 * 1024;
/// Bytes of entries at which a batch ends.
const BATCH: usize = 256 * 1024;
/// Longest line of a file that is taken; the shim breaks output into far shorter pieces.
const MAX_LINE: usize = 256 * 1024;
/// What an entry counts for in a batch beside its bytes.
const ENTRY_OVERHEAD: usize = 32;

/// Which entries.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct LogOptions {
    /// Only the last lines, so many.
    pub(crate) tail: Option<u32>,
    /// Only entries at or after this, nanoseconds since the epoch.
    pub(crate) since: Option<u64>,
    /// Only entries before this, nanoseconds since the epoch.
    pub(crate) until: Option<u64>,
    /// Only this stream.
    pub(crate) stream: Option<LogStream>,
}

impl LogOptions {
    fn wants(&self, stream: LogStream, time: u64) -> bool {
        self.stream.is_none_or(|only| only == stream)
            && self.since.is_none_or(|since| time >= since)
            && self.until.is_none_or(|until| time < until)
    }
}

/// Reads one log from its first wanted entry on. All methods do blocking input.
#[derive(Debug)]
pub(crate) struct LogReader {
    path: PathBuf,
    options: LogOptions,
    /// `None`: the container never wrote, so there is no file yet.
    file: Option<File>,
    /// Offset in the file of the first byte after `buffer`.
    position: u64,
    /// What was read and not yet handed out; never more than a line and a block.
    buffer: BytesMut,
    /// Whether the line at the front of `buffer` is longer than [`MAX_LINE`] and is dropped up to its end.
    overlong: bool,
    /// With `tail`: where the wanted entries of each stream start.
    start: tail::Start,
}

impl LogReader {
    /// Opens a log. One that does not exist yet is an empty one.
    ///
    /// # Errors
    /// If the file cannot be opened or read.
    pub(crate) fn open(path: &Path, options: LogOptions) -> Result<Self> {
        let mut reader = Self {
            path: path.to_owned(),
            options,
            file: None,
            position: 0,
            buffer: BytesMut::new(),
            overlong: false,
            start: tail::Start::default(),
        };
        reader.file = reader.open_file()?;
        if let (Some(file), Some(lines)) = (&reader.file, reader.options.tail) {
            reader.start = tail::find(file, lines, &reader.options).map_err(|error| reader.failed(&error))?;
            reader.position = reader.start.first();
        }
        Ok(reader)
    }

    /// The next entries, in the order of the file; empty at its present end.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub(crate) fn next_batch(&mut self) -> Result<Vec<LogEntry>> {
        let (mut batch, mut size) = (Vec::new(), 0);
        while size < BATCH {
            while let Some((offset, line)) = self.take_line() {
                if let Some(entry) = self.wanted(offset, line) {
                    size += entry.line.len() + ENTRY_OVERHEAD;
                    batch.push(entry);
                    if size >= BATCH {
                        return Ok(batch);
                    }
                }
            }
            if !self.fill()? && !self.next_file()? {
                break;
            }
        }
        Ok(batch)
    }

    fn wanted(&self, offset: u64, line: Bytes) -> Option<LogEntry> {
        let entry = line::parse(line)?;
        (self.options.wants(entry.stream, entry.time) && self.start.covers(entry.stream, offset)).then_some(entry)
    }

    /// The next whole line and its offset, if the buffer holds one.
    fn take_line(&mut self) -> Option<(u64, Bytes)> {
        loop {
            let offset = self.position - self.buffer.len() as u64;
            let Some(end) = self.buffer.iter().position(|&byte| byte == b'\n') else {
                if self.buffer.len() > MAX_LINE {
                    self.buffer.clear();
                    self.overlong = true;
                }
                return None;
            };
            let line = self.buffer.split_to(end + 1).freeze();
            if !std::mem::take(&mut self.overlong) {
                return Some((offset, line.slice(..end)));
            }
        }
    }

    /// Reads a block; false at the end of the file.
    fn fill(&mut self) -> Result<bool> {
        let Some(file) = &self.file else { return Ok(false) };
        let filled = self.buffer.len();
        self.buffer.resize(filled + BLOCK, 0);
        let read = file.read_at(&mut self.buffer[filled..], self.position);
        let length = *read.as_ref().unwrap_or(&0);
        self.buffer.truncate(filled + length);
        self.position += length as u64;
        match read {
            Ok(length) => Ok(length > 0),
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(true),
            Err(error) => Err(self.failed(&error)),
        }
    }

    /// At the end of a file: goes on to the one that took its place (rotation), or to its start if it became shorter.
    /// False if there is nothing new.
    fn next_file(&mut self) -> Result<bool> {
        let Some(new) = self.open_file()? else { return Ok(false) };
        let new_metadata = new.metadata().map_err(|error| self.failed(&error))?;
        let same = match &self.file {
            Some(old) => {
                let old = old.metadata().map_err(|error| self.failed(&error))?;
                // What was written between the last read and the rotation.
                if old.ino() != new_metadata.ino() && old.len() > self.position {
                    return Ok(true);
                }
                old.ino() == new_metadata.ino() && old.dev() == new_metadata.dev()
            }
            None => false,
        };
        if same && new_metadata.len() >= self.position {
            return Ok(new_metadata.len() > self.position);
        }
        self.file = Some(new);
        self.position = 0;
        self.buffer.clear();
        self.overlong = false;
        self.start = tail::Start::default();
        Ok(new_metadata.len() > 0)
    }

    fn open_file(&self) -> Result<Option<File>> {
        match File::open(&self.path) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.failed(&error)),
        }
    }

    fn failed(&self, error: &std::io::Error) -> Error {
        Error::io(format_args!("reading the log {}", self.path.display()), error)
    }
}

#[cfg(test)]
mod tests;
