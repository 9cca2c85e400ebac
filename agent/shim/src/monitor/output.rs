//! Init's output: from its pipes (or terminal) to the log and to attachments.

use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::unistd::{read, write};

use crate::log::{Log, MAX_LINE, Stream};
use crate::sys::fd::set_nonblocking;

/// Bytes read at once; in front of them is room for the beginning of a line that came before.
const CHUNK: usize = 64 * 1024;
/// Reads in a row from one stream, before others have their turn.
const TURNS: u32 = 16;
/// Most bytes taken from one stream after init has ended, if a process that lives on keeps writing: the largest pipe.
const MAX_REST: usize = 1 << 20;

/// A pipe of the agent's that gets a copy.
#[derive(Debug)]
struct Sink {
    pipe: OwnedFd,
    /// What did not fit yet.
    unsent: Vec<u8>,
}

/// One stream of output.
#[derive(Debug)]
pub(crate) struct Output {
    stream: Stream,
    source: Option<OwnedFd>,
    /// The beginning of a line whose end has not come, for the log.
    line: Vec<u8>,
    sinks: Vec<Sink>,
}

/// Memory to read into: only there while output flows.
pub(crate) type Buffer = Option<Box<[u8]>>;

impl Output {
    pub(crate) fn new(stream: Stream, source: Option<OwnedFd>) -> Self {
        Self { stream, source, line: Vec::new(), sinks: Vec::new() }
    }

    /// Adds an attachment; at once at its end if the stream has ended.
    pub(crate) fn attach(&mut self, pipe: OwnedFd) -> nix::Result<()> {
        set_nonblocking(pipe.as_fd())?;
        if self.source.is_some() {
            self.sinks.push(Sink { pipe, unsent: Vec::new() });
        }
        Ok(())
    }

    /// What to read from now: nothing while an attachment is behind, so that the container waits for it.
    pub(crate) fn source(&self) -> Option<&OwnedFd> {
        self.source.as_ref().filter(|_| !self.is_behind())
    }

    /// The attachments, and whether each waits for room. Those that do not are watched for their end.
    pub(crate) fn sinks(&self) -> impl Iterator<Item = (&OwnedFd, bool)> {
        self.sinks.iter().map(|sink| (&sink.pipe, !sink.unsent.is_empty()))
    }

    /// Whether an attachment has not got everything yet.
    pub(crate) fn is_behind(&self) -> bool {
        self.sinks.iter().any(|sink| !sink.unsent.is_empty())
    }

    /// Copies what is there.
    pub(crate) fn pump(&mut self, buffer: &mut Buffer, log: &mut Log) {
        for _ in 0..TURNS {
            if self.is_behind() || log.pause().is_some() || !self.pump_once(buffer, log) {
                break;
            }
        }
    }

    /// Copies what is left after init has ended, without waiting for attachments, and ends the stream.
    pub(crate) fn drain(&mut self, buffer: &mut Buffer, log: &mut Log) {
        for _ in 0..MAX_REST / CHUNK {
            if !self.pump_once(buffer, log) {
                break;
            }
        }
        self.end(log);
    }

    /// Reads once; false: nothing more is there now.
    fn pump_once(&mut self, buffer: &mut Buffer, log: &mut Log) -> bool {
        let Some(source) = &self.source else { return false };
        let buffer = buffer.get_or_insert_with(|| vec![0; MAX_LINE + CHUNK].into_boxed_slice());
        let begun = self.line.len();
        let length = match read(source, &mut buffer[begun..begun + CHUNK]) {
            Err(Errno::EAGAIN) => return false,
            Err(Errno::EINTR) => return true,
            // EIO: the last process that had the terminal open has closed it.
            Ok(0) | Err(_) => {
                self.end(log);
                return false;
            }
            Ok(length) => length,
        };
        self.sinks.retain_mut(|sink| sink.send(&buffer[begun..begun + length]));
        buffer[..begun].copy_from_slice(&self.line);
        let output = &buffer[..begun + length];
        let logged = log.write(self.stream, output, false);
        self.line.clear();
        self.line.extend_from_slice(&output[logged..]);
        true
    }

    fn end(&mut self, log: &mut Log) {
        self.source = None;
        log.write(self.stream, &self.line, true);
        self.line = Vec::new();
        // Those that have everything end now; the others when they have.
        self.sinks.retain(|sink| !sink.unsent.is_empty());
    }

    /// Attends to an attachment on which something happened.
    pub(crate) fn flush(&mut self) {
        let ended = self.source.is_none();
        self.sinks.retain_mut(|sink| sink.send(&[]) && !(ended && sink.unsent.is_empty()));
    }

    /// Drops the attachments whose reader is gone.
    pub(crate) fn drop_sink(&mut self, gone: impl Fn(&OwnedFd) -> bool) {
        self.sinks.retain(|sink| !gone(&sink.pipe));
    }
}

impl Sink {
    /// Sends what is left and then `more`; false: nobody reads any more.
    fn send(&mut self, more: &[u8]) -> bool {
        if !self.unsent.is_empty() {
            match write_some(&self.pipe, &self.unsent) {
                Err(_) => return false,
                Ok(sent) if sent == self.unsent.len() => self.unsent = Vec::new(),
                Ok(sent) => drop(self.unsent.drain(..sent)),
            }
        }
        if self.unsent.is_empty() && !more.is_empty() {
            match write_some(&self.pipe, more) {
                Err(_) => return false,
                Ok(sent) => self.unsent.extend_from_slice(&more[sent..]),
            }
        } else {
            self.unsent.extend_from_slice(more);
        }
        true
    }
}

/// Writes as much as fits without waiting.
pub(crate) fn write_some(pipe: &OwnedFd, bytes: &[u8]) -> nix::Result<usize> {
    let mut sent = 0;
    while sent < bytes.len() {
        match write(pipe, &bytes[sent..]) {
            Ok(more) => sent += more,
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => break,
            Err(errno) => return Err(errno),
        }
    }
    Ok(sent)
}
