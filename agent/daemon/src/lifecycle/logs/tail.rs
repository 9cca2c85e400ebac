//! Finds the last lines of a log by reading its files backwards in blocks.

use std::fs::File;
use std::io::Result;
use std::os::unix::fs::FileExt as _;

use super::files::{Files, Place};
use super::line::{self, Header, LogStream, MAX_HEADER};
use super::{BLOCK, LogOptions, MAX_LINE};

/// Where the wanted entries of each stream start. A line may be in several pieces with pieces of the other stream between
/// them, so one place for both would show too much or too little.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Start {
    stdout: Place,
    stderr: Place,
}

impl Start {
    /// Place from which to read.
    pub(super) fn first(self) -> Place {
        self.stdout.min(self.stderr)
    }

    /// Whether the entry of `stream` at `place` is wanted.
    pub(super) fn covers(self, stream: LogStream, place: Place) -> bool {
        match stream {
            LogStream::Stdout => place >= self.stdout,
            LogStream::Stderr => place >= self.stderr,
        }
    }
}

/// The search, from the end of the newest file to the start of the oldest.
struct Search<'a> {
    options: &'a LogOptions,
    /// Lines still to be found.
    missing: u32,
    /// State of standard output and of standard error.
    streams: [Stream; 2],
}

#[derive(Clone, Copy)]
struct Stream {
    /// Where its wanted entries start.
    start: Place,
    /// Whether earlier pieces of its first wanted line may come.
    open: bool,
    /// Whether an entry of it was seen.
    seen: bool,
}

impl Search<'_> {
    fn goes_on(&self) -> bool {
        self.missing > 0 || self.streams.iter().any(|stream| stream.open)
    }

    /// Takes the entry at `place`, which lies before all that were taken. False: all before it are too old.
    fn take(&mut self, place: Place, header: Header) -> bool {
        if self.options.since.is_some_and(|since| header.time < since) {
            return false;
        }
        if self.options.wants(header.stream, header.time) {
            let stream = &mut self.streams[header.stream as usize];
            // A last piece ends a line; so does whatever comes last.
            let ends_line = !header.partial || !stream.seen;
            stream.seen = true;
            if !ends_line {
                if stream.open {
                    stream.start = place;
                }
            } else if self.missing > 0 {
                self.missing -= 1;
                *stream = Stream { start: place, open: true, seen: true };
            } else {
                stream.open = false;
            }
        }
        true
    }

    /// Takes the entries of a file, from `end` to its start. False: enough was found.
    fn go_through(&mut self, number: u64, mut end: u64, newlines: &mut Newlines<'_>) -> Result<bool> {
        while self.goes_on() && end > 0 {
            let start = newlines.previous()?.unwrap_or(0);
            if let Some(header) = read_header(newlines.file, start, end)?
                && !self.take(Place { number, offset: start }, header)
            {
                return Ok(false);
            }
            end = start;
        }
        Ok(self.goes_on())
    }
}

/// Where to start so that the last `lines` lines that `options` want are read.
pub(super) fn find(files: &Files, lines: u32, options: &LogOptions) -> Result<Start> {
    let mut search = None;
    for number in files.numbers()?.into_iter().rev() {
        // Rotation has just removed it.
        let Some(file) = files.open(number)? else { break };
        let mut newlines = Newlines { position: file.metadata()?.len(), file: &file, block: vec![0; BLOCK], unread: 0 };
        // What follows the last newline is being written, and wanted once it is whole.
        let end = newlines.previous()?.unwrap_or(0);
        let search = search.get_or_insert_with(|| {
            let stream = Stream { start: Place { number, offset: end }, open: false, seen: false };
            Search { options, missing: lines, streams: [stream; 2] }
        });
        if !search.go_through(number, end, &mut newlines)? {
            break;
        }
    }
    let start = search.map(|search| Start { stdout: search.streams[0].start, stderr: search.streams[1].start });
    Ok(start.unwrap_or_default())
}

/// Walks back through a file from newline to newline.
struct Newlines<'a> {
    file: &'a File,
    block: Vec<u8>,
    /// Offset of `block` in the file.
    position: u64,
    /// Bytes of `block` that were not looked at.
    unread: usize,
}

impl Newlines<'_> {
    /// Offset after the newline before the last one found; `None` at the start of the file.
    fn previous(&mut self) -> Result<Option<u64>> {
        loop {
            if let Some(index) = self.block[..self.unread].iter().rposition(|&byte| byte == b'\n') {
                self.unread = index;
                return Ok(Some(self.position + index as u64 + 1));
            }
            if self.position == 0 {
                self.unread = 0;
                return Ok(None);
            }
            self.unread = usize::try_from(self.position).map_or(BLOCK, |left| left.min(BLOCK));
            self.position -= self.unread as u64;
            self.file.read_exact_at(&mut self.block[..self.unread], self.position)?;
        }
    }
}

/// The header of the line from `start` to `end`, if it is of the format and of a length that is taken.
fn read_header(file: &File, start: u64, end: u64) -> Result<Option<Header>> {
    let length = usize::try_from(end - 1 - start).unwrap_or(usize::MAX);
    if length > MAX_LINE {
        return Ok(None);
    }
    let mut bytes = [0; MAX_HEADER];
    let bytes = &mut bytes[..length.min(MAX_HEADER)];
    file.read_exact_at(bytes, start)?;
    Ok(line::header(bytes))
}
