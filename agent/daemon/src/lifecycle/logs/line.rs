//! One line of a log file.

use std::fs::File;
use std::io::Result;
use std::os::unix::fs::FileExt as _;

use bytes::Bytes;
use hull_wire::LostReason;
use jiff::Timestamp;

/// Longest header of a line: a timestamp with nanoseconds and offset, a stream, tags.
pub(super) const MAX_HEADER: usize = 160;

/// Which of the standard output streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogStream {
    Stdout,
    Stderr,
}

/// One line of a container's output, or a piece of a long one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogEntry {
    /// When it was read from the container, nanoseconds since the epoch.
    pub(crate) time: u64,
    pub(crate) stream: LogStream,
    /// Whether the line goes on in the next entry of this stream.
    pub(crate) partial: bool,
    /// Its bytes, without the newline.
    pub(crate) line: Bytes,
    /// It is no output: it tells that some is missing.
    pub(crate) lost: Option<LostOutput>,
}

/// Output that is not in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LostOutput {
    pub(crate) lines: u64,
    pub(crate) bytes: u64,
    pub(crate) reason: LostReason,
}

/// The time of the line before: lines that were written together have the same.
#[derive(Debug, Default)]
pub(super) struct LastTime {
    text: Bytes,
    nanos: u64,
}

impl LastTime {
    fn read(&mut self, text: &[u8]) -> Option<u64> {
        if text != self.text {
            self.nanos = nanos(text)?;
            self.text = Bytes::copy_from_slice(text);
        }
        Some(self.nanos)
    }
}

/// What stands before the content of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) time: u64,
    pub(super) stream: LogStream,
    pub(super) partial: bool,
    lost: Option<LostOutput>,
    /// Bytes of the header, the last space included.
    length: usize,
}

/// Reads the header of a line (which may be cut after it); `None` if it is not one.
pub(super) fn header(line: &[u8]) -> Option<Header> {
    header_with(line, nanos)
}

/// Time of the first line of a file; `None`: it does not begin with one.
pub(super) fn first_time(file: &File) -> Result<Option<u64>> {
    let mut start = [0; MAX_HEADER];
    let length = file.read_at(&mut start, 0)?;
    Ok(header(&start[..length]).map(|header| header.time))
}

fn header_with(line: &[u8], time: impl FnOnce(&[u8]) -> Option<u64>) -> Option<Header> {
    let mut fields = line.splitn(4, |&byte| byte == b' ');
    let time = time(fields.next()?)?;
    let stream = match fields.next()? {
        b"stdout" => LogStream::Stdout,
        b"stderr" => LogStream::Stderr,
        _ => return None,
    };
    // Tags are separated by colons; the first one is F or P, those that are not known are to be ignored.
    let tags = fields.next()?;
    let mut others = tags.split(|&byte| byte == b':');
    let partial = match others.next()? {
        b"F" => false,
        b"P" => true,
        _ => return None,
    };
    let lost = if tags.len() > 1 { lost(others) } else { None };
    let length = line.len() - fields.next()?.len();
    Some(Header { time, stream, partial, lost, length })
}

fn nanos(text: &[u8]) -> Option<u64> {
    let time: Timestamp = std::str::from_utf8(text).ok()?.parse().ok()?;
    u64::try_from(time.as_nanosecond()).ok()
}

/// From "lost:lines=N:bytes=N:reason=WORD".
fn lost<'a>(mut tags: impl Iterator<Item = &'a [u8]>) -> Option<LostOutput> {
    if tags.next()? != b"lost" {
        return None;
    }
    let mut value = |name: &str| std::str::from_utf8(tags.next()?).ok()?.strip_prefix(name)?.strip_prefix('=');
    let (lines, bytes) = (value("lines")?.parse().ok()?, value("bytes")?.parse().ok()?);
    Some(LostOutput { lines, bytes, reason: LostReason::parse(value("reason")?)? })
}

/// An entry from a line without its newline.
pub(super) fn parse(line: Bytes, last: &mut LastTime) -> Option<LogEntry> {
    let Header { time, stream, partial, lost, length } = header_with(&line, |text| last.read(text))?;
    Some(LogEntry { time, stream, partial, line: line.slice(length..), lost })
}
