//! One line of a log file.

use bytes::Bytes;
use jiff::Timestamp;

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
}

/// What stands before the content of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) time: u64,
    pub(super) stream: LogStream,
    pub(super) partial: bool,
    /// Bytes of the header, the last space included.
    length: usize,
}

/// Reads the header of a line (which may be cut after it); `None` if it is not one.
pub(super) fn header(line: &[u8]) -> Option<Header> {
    let mut fields = line.splitn(4, |&byte| byte == b' ');
    let time: Timestamp = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
    let stream = match fields.next()? {
        b"stdout" => LogStream::Stdout,
        b"stderr" => LogStream::Stderr,
        _ => return None,
    };
    // Tags are separated by colons; the first one is F or P, others are to be ignored.
    let partial = match fields.next()?.split(|&byte| byte == b':').next()? {
        b"F" => false,
        b"P" => true,
        _ => return None,
    };
    let length = line.len() - fields.next()?.len();
    Some(Header { time: u64::try_from(time.as_nanosecond()).ok()?, stream, partial, length })
}

/// An entry from a line without its newline.
pub(super) fn parse(line: Bytes) -> Option<LogEntry> {
    let Header { time, stream, partial, length } = header(&line)?;
    Some(LogEntry { time, stream, partial, line: line.slice(length..) })
}
