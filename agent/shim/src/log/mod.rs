//! The log: output as lines "TIME stdout|stderr TAGS CONTENT", the format of Kubernetes' container runtime interface.
//!
//! Lines are put together in memory and written many at once. The container never waits for a disk: what cannot be written is
//! dropped, and so is what is above a rate that drops. How much that was is said in a line with tags of its own, of the stream that
//! lost it, as soon as lines are taken again:
//!
//! ```text
//! 2026-11-23T17:45:37.123456789Z stdout F:lost:lines=12:bytes=3456:reason=rate hull: 12 lines (3456 bytes) are missing …
//! ```

mod files;
mod frame;
mod limit;
mod time;

use std::io::Write as _;
use std::time::Duration;

use hull_wire::{LogRate, LostReason};
use memchr::memchr_iter;
use nix::time::ClockId;

use self::frame::{Entry, frame};
use self::limit::Limit;
use self::time::timestamp;
use crate::failure::nanos;

pub(crate) use self::files::Files;
pub(crate) use self::frame::MAX_LINE;

/// Bytes of lines at which they are written.
const BATCH: usize = 128 * 1024;
/// Longest head of a line.
const MAX_HEAD: usize = 64;
/// Bytes of a line beside its content: time, stream, tag, three spaces and the end.
const OVERHEAD: usize = time::LENGTH + 6 + 1 + 3 + 1;
/// How long after a loss it is told, if nothing more comes.
const TELL_AFTER: Duration = Duration::from_secs(1);

/// Which stream a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// What of one stream is missing, and has not been told.
#[derive(Debug, Clone, Copy, Default)]
struct Loss {
    /// Lines, and parts of long ones.
    lines: u64,
    bytes: u64,
    reason: Option<LostReason>,
    /// The line that output is in has lost a part, so it loses the rest.
    in_line: bool,
}

impl Loss {
    fn add(&mut self, lines: usize, bytes: usize, reason: LostReason) {
        self.lines += lines as u64;
        self.bytes += bytes as u64;
        self.reason = Some(reason);
    }
}

/// The log of a container.
#[derive(Debug)]
pub(crate) struct Log {
    /// `None`: nothing is kept.
    files: Option<Files>,
    limit: Option<Limit>,
    losses: [Loss; 2],
    /// Lines that are to be written together: only there while output flows.
    batch: Vec<u8>,
}

/// Lines of one stream on their way to the file.
struct Lines<'a> {
    files: &'a mut Files,
    batch: &'a mut Vec<u8>,
    loss: &'a mut Loss,
    /// Heads of parts and of whole lines.
    heads: [String; 2],
    /// Bytes of a loss's line at the beginning of the batch, and what it tells.
    told: (usize, Loss),
    /// Whether the last line of the batch is whole.
    full: bool,
    failed: bool,
}

impl Log {
    pub(crate) fn new(files: Option<Files>, rate: Option<LogRate>) -> Self {
        let limit = rate.map(|rate| Limit::new(rate, nanos(ClockId::CLOCK_MONOTONIC)));
        Self { files, limit, losses: [Loss::default(); 2], batch: Vec::new() }
    }

    /// Writes what is whole in `output`, and returns how much that is; `last`: the stream has ended, all is.
    pub(crate) fn write(&mut self, stream: Stream, output: &[u8], last: bool) -> usize {
        let Some(files) = &mut self.files else { return output.len() };
        let limit = &mut self.limit;
        if let Some(limit) = limit {
            limit.refill(nanos(ClockId::CLOCK_MONOTONIC));
        }
        let mut lines = Lines::new(files, &mut self.batch, &mut self.losses[stream as usize], stream);
        let mut take = |entry: Entry<'_>| {
            if lines.loss.in_line || !limit.as_mut().is_none_or(|limit| limit.take(entry.content.len() + 1)) {
                lines.loss.add(1, entry.content.len() + usize::from(entry.full), LostReason::Rate);
                lines.loss.in_line = !entry.full;
            } else {
                lines.add(entry, stream);
            }
        };
        let cut = frame(output, &mut take);
        if last && cut < output.len() {
            take(Entry { content: &output[cut..], full: false });
        }
        lines.flush();
        if last {
            lines.tell(stream);
            lines.flush();
        }
        if last { output.len() } else { cut }
    }

    /// How long the container has to wait before more of its output is read.
    pub(crate) fn pause(&self) -> Option<Duration> {
        let limit = self.limit.as_ref().filter(|limit| limit.blocks())?;
        limit.pause(nanos(ClockId::CLOCK_MONOTONIC))
    }

    /// When there is something to do if no output comes.
    pub(crate) fn wait(&self) -> Option<Duration> {
        let untold = self.losses.iter().any(|loss| loss.lines > 0);
        self.pause().or(untold.then_some(TELL_AFTER))
    }

    /// Tells what was lost, and lets go of memory. To be called when no output comes.
    pub(crate) fn rest(&mut self) {
        for stream in [Stream::Stdout, Stream::Stderr] {
            if let Some(files) = &mut self.files {
                let mut lines = Lines::new(files, &mut self.batch, &mut self.losses[stream as usize], stream);
                lines.tell(stream);
                lines.flush();
            }
        }
        self.batch = Vec::new();
    }
}

impl<'a> Lines<'a> {
    fn new(files: &'a mut Files, batch: &'a mut Vec<u8>, loss: &'a mut Loss, stream: Stream) -> Self {
        let stamp = timestamp(nanos(ClockId::CLOCK_REALTIME));
        let heads = ["P", "F"].map(|tag| format!("{stamp} {} {tag} ", stream.name()));
        Self { files, batch, loss, heads, told: (0, Loss::default()), full: true, failed: false }
    }

    fn add(&mut self, entry: Entry<'_>, stream: Stream) {
        if self.failed {
            self.loss.add(1, entry.content.len() + usize::from(entry.full), LostReason::Disk);
            self.loss.in_line = !entry.full;
            return;
        }
        self.tell(stream);
        if self.batch.len() + entry.content.len() + MAX_HEAD > self.room() {
            self.flush();
            if self.failed {
                return self.add(entry, stream);
            }
        }
        self.batch.extend_from_slice(self.heads[usize::from(entry.full)].as_bytes());
        self.batch.extend_from_slice(entry.content);
        self.batch.push(b'\n');
        self.full = entry.full;
    }

    fn room(&self) -> usize {
        self.files.most().min(BATCH)
    }

    /// Begins the batch with a line about what was lost before it.
    fn tell(&mut self, stream: Stream) {
        let Loss { lines, bytes, reason: Some(reason), .. } = *self.loss else { return };
        let why = match reason {
            LostReason::Rate => "the log's rate limit",
            LostReason::Disk => "the log could not be written",
        };
        let stamp = &self.heads[0][..time::LENGTH];
        let tags = format!("F:lost:lines={lines}:bytes={bytes}:reason={reason}");
        let text = format!("hull: {lines} lines ({bytes} bytes) are missing here: {why}");
        let begin = self.batch.len();
        // Writing to memory does not fail.
        let _ = writeln!(self.batch, "{stamp} {} {tags} {text}", stream.name());
        self.told = (self.batch.len() - begin, *self.loss);
        *self.loss = Loss { in_line: self.loss.in_line, ..Loss::default() };
    }

    /// Writes the batch; what cannot be written is lost.
    fn flush(&mut self) {
        let written = if self.batch.is_empty() { 0 } else { self.files.append(self.batch) };
        let (told, loss) = std::mem::take(&mut self.told);
        let mut lost = &self.batch[written..];
        if !lost.is_empty() {
            self.failed = true;
            if written < told {
                lost = &lost[told..];
                self.loss.add(usize::try_from(loss.lines).unwrap_or(usize::MAX), 0, LostReason::Disk);
                self.loss.bytes += loss.bytes;
            }
            let lines = memchr_iter(b'\n', lost).count();
            if lines > 0 {
                // The ends of lines stand for themselves: those of parts, one at most here, are not told apart.
                self.loss.add(lines, lost.len() - lines * (OVERHEAD - 1), LostReason::Disk);
                self.loss.in_line = !self.full;
            }
        }
        self.batch.clear();
    }
}
