//! Undoes what a layer or archive was compressed with, within bounds.

use std::io::{self, BufReader, Cursor, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::bufread::MultiGzDecoder;

use super::limits::{ARCHIVE_BYTES_MAX, RATIO_FREE_BYTES, RATIO_MAX, read_error};
use crate::error::{Error, Reason, Result};

/// Bytes read at once from what is compressed.
const BUFFER: usize = 128 << 10;
/// zstd's window may be as large as 2 to this power, which is what its own tool takes unasked.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;
/// First bytes of kinds that hull does not read.
const REFUSED: [(&[u8], &str); 4] =
    [(b"BZh", "bzip2"), (b"\xfd7zXZ\0", "xz"), (b"\x04\x22\x4d\x18", "lz4"), (b"PK\x03\x04", "zip")];

/// How something is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compression {
    None,
    Gzip,
    Zstd,
}

impl Compression {
    /// What the first bytes say.
    fn detect(start: &[u8]) -> Result<Self> {
        if let Some((_, name)) = REFUSED.iter().find(|(magic, _)| start.starts_with(magic)) {
            let line = format!("the archive is compressed with {name}, which is not supported");
            return Err(Error::new(Reason::InvalidArchive, line).hint("gzip, zstd or no compression is"));
        }
        Ok(match start {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            _ => Self::None,
        })
    }
}

/// What is inside `reader`, and how it was compressed.
pub(super) fn open<'a>(mut reader: impl Read + Send + 'a) -> Result<(Box<dyn Read + Send + 'a>, Compression)> {
    let mut start = Vec::new();
    let read = reader.by_ref().take(6).read_to_end(&mut start);
    read.map_err(|error| read_error("reading the archive", error))?;
    let compression = Compression::detect(&start)?;
    let taken = Arc::new(AtomicU64::new(0));
    let counting = Counting { inner: Cursor::new(start).chain(reader), taken: Arc::clone(&taken) };
    let inner: Box<dyn Read + Send + 'a> = match compression {
        Compression::None => return Ok((Box::new(counting), compression)),
        Compression::Gzip => Box::new(MultiGzDecoder::new(BufReader::with_capacity(BUFFER, counting))),
        Compression::Zstd => {
            let failed = |error| read_error("reading a zstd frame", error);
            let mut decoder = zstd::stream::read::Decoder::new(counting).map_err(failed)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(failed)?;
            Box::new(decoder)
        }
    };
    Ok((Box::new(Bounded { inner, taken, given: 0 }), compression))
}

/// Counts what is read.
struct Counting<R> {
    inner: R,
    taken: Arc<AtomicU64>,
}

impl<R: Read> Read for Counting<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.taken.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

/// Stops bombs: what inflates to more than it reasonably can.
struct Bounded<R> {
    inner: R,
    taken: Arc<AtomicU64>,
    given: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.given += read as u64;
        let allowed = self.taken.load(Ordering::Relaxed).saturating_mul(RATIO_MAX).max(RATIO_FREE_BYTES);
        if self.given > allowed.min(ARCHIVE_BYTES_MAX) {
            let line =
                format!("the archive inflates to more than {RATIO_MAX} times its size or {ARCHIVE_BYTES_MAX} bytes");
            return Err(io::Error::other(Error::new(Reason::LimitExceeded, line)));
        }
        Ok(read)
    }
}
