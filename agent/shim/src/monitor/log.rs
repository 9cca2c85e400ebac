//! The log: output as lines "TIME stdout|stderr F|P CONTENT", the format of Kubernetes' container runtime interface.

use std::io::IoSlice;
use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::sys::stat::fstat;
use nix::sys::uio::writev;
use nix::time::ClockId;
use nix::unistd::ftruncate;

use crate::failure::nanos;

/// Most bytes of content in one line of the log; a longer line of output is cut into parts, all but the last tagged P.
pub(crate) const MAX_LINE: usize = 16 * 1024;
/// Most lines in one writev(2): three slices each, of the kernel's 1,024.
const BATCH: usize = 256;

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

/// One line of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry<'a> {
    content: &'a [u8],
    /// It ends where a line of output does; otherwise more of that follows.
    full: bool,
}

/// Cuts output into entries, and returns how much was cut. What remains is the beginning of a line, shorter than [`MAX_LINE`].
fn frame<'a>(output: &'a [u8], mut entry: impl FnMut(Entry<'a>)) -> usize {
    let mut start = 0;
    while start < output.len() {
        let window = &output[start..output.len().min(start + MAX_LINE + 1)];
        match window.iter().position(|byte| *byte == b'\n') {
            Some(end) => {
                entry(Entry { content: &window[..end], full: true });
                start += end + 1;
            }
            None if window.len() > MAX_LINE => {
                entry(Entry { content: &window[..MAX_LINE], full: false });
                start += MAX_LINE;
            }
            None => break,
        }
    }
    start
}

/// The log file.
#[derive(Debug)]
pub(crate) struct Log(Option<OwnedFd>);

impl Log {
    pub(crate) fn new(file: Option<OwnedFd>) -> Self {
        Self(file)
    }

    /// Writes what is whole in `output`, and returns how much that is; `last`: the stream has ended, all is.
    ///
    /// A line that cannot be written is dropped: the container never waits for a disk.
    pub(crate) fn write(&self, stream: Stream, output: &[u8], last: bool) -> usize {
        let Some(file) = &self.0 else { return output.len() };
        let mut entries = Vec::new();
        let cut = frame(output, |entry| entries.push(entry));
        let rest = &output[cut..];
        if last && !rest.is_empty() {
            entries.push(Entry { content: rest, full: false });
        }
        if !entries.is_empty() {
            let stamp = timestamp(nanos(ClockId::CLOCK_REALTIME));
            let heads = ["P", "F"].map(|tag| format!("{stamp} {} {tag} ", stream.name()));
            for batch in entries.chunks(BATCH) {
                write_batch(file, &heads, batch);
            }
        }
        if last { output.len() } else { cut }
    }
}

/// Writes lines. Where there is room for some only (disk full), the last of them is not left torn.
fn write_batch(file: &OwnedFd, heads: &[String; 2], entries: &[Entry<'_>]) {
    let head = |entry: &Entry<'_>| heads[usize::from(entry.full)].as_bytes();
    let mut slices = Vec::with_capacity(3 * entries.len());
    for entry in entries {
        slices.extend([IoSlice::new(head(entry)), IoSlice::new(entry.content), IoSlice::new(b"\n")]);
    }
    let mut torn = write_all(file, &mut slices);
    for length in entries.iter().map(|entry| head(entry).len() + entry.content.len() + 1) {
        if torn < length {
            break;
        }
        torn -= length;
    }
    if torn > 0 {
        let end = fstat(file).map_or(0, |stat| stat.st_size);
        let _stays_torn = ftruncate(file, end - i64::try_from(torn).unwrap_or_default());
    }
}

/// Writes everything, or as much as there is room for, and returns how much that was.
fn write_all(file: &OwnedFd, mut slices: &mut [IoSlice<'_>]) -> usize {
    let mut total = 0;
    while !slices.is_empty() {
        match writev(file, slices) {
            Err(Errno::EINTR) => {}
            Ok(0) | Err(_) => break,
            Ok(written) => {
                total += written;
                IoSlice::advance_slices(&mut slices, written);
            }
        }
    }
    total
}

/// Nanoseconds since the epoch as in RFC 3339, in UTC: "2026-11-23T17:45:37.123456789Z".
fn timestamp(nanos: u64) -> String {
    let (seconds, fraction) = (nanos / 1_000_000_000, nanos % 1_000_000_000);
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = date(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{fraction:09}Z")
}

/// Gregorian date of a day since the epoch, counted in years that begin in March, so that leap days come last.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(output: &[u8]) -> (Vec<(usize, bool)>, usize) {
        let mut entries = Vec::new();
        let cut = frame(output, |entry| entries.push((entry.content.len(), entry.full)));
        (entries, output.len() - cut)
    }

    #[test]
    fn lines_are_framed() {
        assert_eq!(framed(b""), (vec![], 0));
        assert_eq!(framed(b"\n"), (vec![(0, true)], 0));
        assert_eq!(framed(b"a\nbc\nd"), (vec![(1, true), (2, true)], 1));
        assert_eq!(framed(b"a\0b\x1b[0m\r\n"), (vec![(8, true)], 0));
    }

    #[test]
    fn long_lines_are_cut_into_parts() {
        let of = |length: usize, end: &[u8]| [vec![b'x'; length], end.to_vec()].concat();
        assert_eq!(framed(&of(MAX_LINE, b"\n")), (vec![(MAX_LINE, true)], 0));
        assert_eq!(framed(&of(MAX_LINE, b"")), (vec![], MAX_LINE));
        assert_eq!(framed(&of(MAX_LINE + 1, b"\n")), (vec![(MAX_LINE, false), (1, true)], 0));
        assert_eq!(framed(&of(2 * MAX_LINE + 5, b"")), (vec![(MAX_LINE, false), (MAX_LINE, false)], 5));
    }

    #[test]
    fn what_is_framed_piece_by_piece_is_the_output() {
        let output: Vec<u8> =
            (0..200_000_u32).map(|n| if n % 977 == 0 { b'\n' } else { b'a' + (n % 26) as u8 }).collect();
        for step in [1, 7, 4096, 65_536] {
            let (mut pending, mut seen) = (Vec::new(), Vec::new());
            for chunk in output.chunks(step) {
                pending.extend_from_slice(chunk);
                let cut = frame(&pending, |entry| {
                    seen.extend_from_slice(entry.content);
                    seen.extend(entry.full.then_some(b'\n'));
                });
                pending.drain(..cut);
            }
            seen.extend_from_slice(&pending);
            assert!(seen == output, "in steps of {step}");
        }
    }

    #[test]
    fn times_are_rfc_3339() {
        assert_eq!(timestamp(0), "1970-01-01T00:00:00.000000000Z");
        assert_eq!(timestamp(951_782_399_000_000_001), "2000-02-28T23:59:59.000000001Z");
        assert_eq!(timestamp(951_782_400_000_000_000), "2000-02-29T00:00:00.000000000Z");
        assert_eq!(timestamp(1_795_455_937_123_456_789), "2026-11-23T17:45:37.123456789Z");
        assert_eq!(timestamp(4_107_542_399_999_999_999), "2100-02-28T23:59:59.999999999Z");
        assert_eq!(timestamp(4_107_542_400_000_000_000), "2100-03-01T00:00:00.000000000Z");
    }
}
