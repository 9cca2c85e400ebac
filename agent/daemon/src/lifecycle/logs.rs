//! Reads a container's log: lines of Kubernetes' CRI format, "TIME stdout|stderr F|P CONTENT\n".
//!
//! The shim writes its files; this only reads them, from the oldest to the newest. A file that is being read stays open, so that
//! rotation does not take it away; those after it may go, and then the reader says how many did. Memory is bounded by one batch and
//! one line, whatever the files hold.
//! A line that is torn (the node crashed while it was written) or not of the format is left out.

mod files;
mod line;
mod tail;
mod watch;

use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use bytes::{Bytes, BytesMut};
use memchr::memchr;

use self::files::Files;
pub(crate) use self::files::{Place, bytes};
use self::line::LastTime;
pub(crate) use self::line::{LogEntry, LogStream, LostOutput};
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
    /// Only what comes after this.
    pub(crate) from: Option<Place>,
}

/// Entries, in their order.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) entries: Vec<LogEntry>,
    /// Where the log goes on after them.
    pub(crate) next: Place,
    /// Files before them that were removed before they could be read.
    pub(crate) lost_files: u64,
    /// An entry at or after [`LogOptions::until`] was there: what comes after it is of no interest.
    pub(crate) over: bool,
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
    files: Files,
    options: LogOptions,
    /// The file that is read; `None`: the container never wrote, so there is none yet.
    file: Option<File>,
    /// In that file, the first byte after `buffer`.
    place: Place,
    /// What was read and not yet handed out; never more than a line and a block.
    buffer: BytesMut,
    /// Whether the line at the front of `buffer` is longer than [`MAX_LINE`] and is dropped up to its end.
    overlong: bool,
    /// The file has a successor, so that its end is the end.
    complete: bool,
    lost_files: u64,
    over: bool,
    /// With `tail`: where the wanted entries of each stream start.
    start: tail::Start,
    last_time: LastTime,
}

impl LogReader {
    /// Opens a log. One that does not exist yet is an empty one.
    ///
    /// # Errors
    /// If a file cannot be opened or read, or if the place to go on from is not in this log.
    pub(crate) fn open(path: &Path, options: LogOptions) -> Result<Self> {
        let mut reader = Self {
            path: path.to_owned(),
            files: Files::new(path),
            options,
            file: None,
            place: Place::default(),
            buffer: BytesMut::new(),
            overlong: false,
            complete: false,
            lost_files: 0,
            over: false,
            start: tail::Start::default(),
            last_time: LastTime::default(),
        };
        if let Some(from) = reader.options.from {
            reader.go_on(from)?;
        } else if let Some(lines) = reader.options.tail {
            let start = tail::find(&reader.files, lines, &reader.options).map_err(|error| reader.failed(&error))?;
            reader.start = start;
            reader.place = start.first();
            reader.file = reader.open_file(reader.place.number)?;
        } else {
            reader.place.number = reader.first_file()?;
            reader.file = reader.open_file(reader.place.number)?;
        }
        Ok(reader)
    }

    /// The next entries; none at the present end.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub(crate) fn next_batch(&mut self) -> Result<Batch> {
        let (mut entries, mut size) = (Vec::new(), 0);
        let mut lost_files = std::mem::take(&mut self.lost_files);
        'full: while size < BATCH && !self.over {
            while let Some((offset, line)) = self.take_line() {
                if let Some(entry) = self.wanted(offset, line) {
                    size += entry.line.len() + ENTRY_OVERHEAD;
                    entries.push(entry);
                }
                if size >= BATCH || self.over {
                    break 'full;
                }
            }
            if self.fill()? {
                continue;
            }
            // Entries after a gap are in a batch of their own, which tells of it.
            if !self.next_file()? || (self.lost_files > 0 && !entries.is_empty()) {
                break;
            }
            lost_files += std::mem::take(&mut self.lost_files);
        }
        Ok(Batch { entries, next: self.next_place(), lost_files, over: self.over })
    }

    fn wanted(&mut self, offset: u64, line: Bytes) -> Option<LogEntry> {
        let entry = line::parse(line, &mut self.last_time)?;
        let place = Place { offset, ..self.place };
        self.over |= self.options.until.is_some_and(|until| entry.time >= until);
        (self.options.wants(entry.stream, entry.time) && self.start.covers(entry.stream, place)).then_some(entry)
    }

    /// Place of the first byte of `buffer`.
    fn next_place(&self) -> Place {
        Place { offset: self.place.offset - self.buffer.len() as u64, ..self.place }
    }

    /// The next whole line and its offset, if the buffer holds one.
    fn take_line(&mut self) -> Option<(u64, Bytes)> {
        loop {
            let offset = self.next_place().offset;
            let Some(end) = memchr(b'\n', &self.buffer) else {
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
        let read = file.read_at(&mut self.buffer[filled..], self.place.offset);
        let length = *read.as_ref().unwrap_or(&0);
        self.buffer.truncate(filled + length);
        self.place.offset += length as u64;
        match read {
            Ok(0) => {
                // A line that is not whole may be taken back by its writer (disk full): it is read again.
                self.place = self.next_place();
                self.buffer.clear();
                Ok(false)
            }
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(true),
            Err(error) => Err(self.failed(&error)),
        }
    }

    /// At the end of a file: goes on to the next one. False if there is nothing new.
    fn next_file(&mut self) -> Result<bool> {
        let Some(file) = &self.file else {
            return self.begin_after_gap(self.place.number);
        };
        let metadata = file.metadata().map_err(|error| self.failed(&error))?;
        let after = self.place.number.saturating_add(1);
        let Some(next) = self.open_file(after)? else {
            // With the file itself gone, its successors were there, and are gone too.
            return if metadata.nlink() > 0 { Ok(false) } else { self.begin_after_gap(after) };
        };
        // What was written between the last read and the rotation.
        if !std::mem::replace(&mut self.complete, true) {
            return Ok(true);
        }
        self.enter(after, next);
        Ok(true)
    }

    /// Goes to the first file that is left of those from `wanted` on; false if there is none.
    fn begin_after_gap(&mut self, wanted: u64) -> Result<bool> {
        let first = self.first_file()?;
        let Some(file) = self.open_file(first)?.filter(|_| first >= wanted) else { return Ok(false) };
        self.lost_files += first - wanted;
        self.enter(first, file);
        Ok(true)
    }

    fn enter(&mut self, number: u64, file: File) {
        self.file = Some(file);
        self.place = Place { number, offset: 0 };
        self.buffer.clear();
        self.overlong = false;
        self.complete = false;
    }

    /// Goes on from a place that was told to a reader.
    fn go_on(&mut self, from: Place) -> Result<()> {
        let foreign = || Error::invalid("cursor", "is not one of this container's log");
        if let Some(file) = self.open_file(from.number)? {
            let length = file.metadata().map_err(|error| self.failed(&error))?.len();
            if length < from.offset {
                return Err(foreign());
            }
            self.enter(from.number, file);
            self.place = from;
            return Ok(());
        }
        if self.first_file()? < from.number {
            return Err(foreign());
        }
        self.place = Place { offset: 0, ..from };
        Ok(())
    }

    /// Number of the file to begin with: the oldest, or one after it if all before that are too old.
    fn first_file(&self) -> Result<u64> {
        let numbers = self.files.numbers().map_err(|error| self.failed(&error))?;
        let mut first = numbers.first().copied().unwrap_or(0);
        let Some(since) = self.options.since else { return Ok(first) };
        for number in numbers {
            let begins = match self.open_file(number)? {
                Some(file) => line::first_time(&file).map_err(|error| self.failed(&error))?,
                None => None,
            };
            match begins {
                Some(time) if time >= since => break,
                Some(_) => first = number,
                None => {}
            }
        }
        Ok(first)
    }

    fn open_file(&self, number: u64) -> Result<Option<File>> {
        self.files.open(number).map_err(|error| self.failed(&error))
    }

    fn failed(&self, error: &std::io::Error) -> Error {
        Error::io(format_args!("reading the log {}", self.path.display()), error)
    }
}

#[cfg(test)]
mod tests;
