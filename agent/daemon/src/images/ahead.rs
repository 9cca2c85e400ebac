//! Reads ahead on a thread of its own, so that inflating a stream and using it go side by side.

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;

use crate::error::{Error, Reason, Result};

/// Bytes of a piece.
const PIECE: usize = 256 << 10;
/// Pieces that wait.
const WAITING: usize = 8;

/// Calls `consume` with a reader of what `stream` yields. Returns when `stream` is not being read any more.
pub(super) fn read<T>(mut stream: impl Read + Send, consume: impl FnOnce(&mut PieceReader) -> Result<T>) -> Result<T> {
    let (pieces, received) = sync_channel(WAITING);
    thread::scope(|scope| {
        let reader = move || {
            loop {
                let mut piece = Vec::with_capacity(PIECE);
                let read = stream.by_ref().take(PIECE as u64).read_to_end(&mut piece);
                let last = read.is_err() || piece.is_empty();
                // What was read before an error comes first.
                let given = piece.is_empty() || pieces.send(Ok(piece)).is_ok();
                if let Err(error) = read {
                    drop(pieces.send(Err(error)));
                }
                if last || !given {
                    return;
                }
            }
        };
        let spawned = thread::Builder::new().name("read-ahead".into()).spawn_scoped(scope, reader);
        spawned.map_err(|error| Error::io("starting a thread", &error))?;
        let mut pieces = PieceReader { received: Some(received), piece: Vec::new(), used: 0 };
        let result = consume(&mut pieces);
        // Tells the thread to stop.
        drop(pieces.received.take());
        result
    })
}

/// What was read ahead.
#[derive(Debug)]
pub(super) struct PieceReader {
    received: Option<Receiver<io::Result<Vec<u8>>>>,
    piece: Vec<u8>,
    used: usize,
}

impl Read for PieceReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.used == self.piece.len() {
            let Some(received) = &self.received else {
                return Err(io::Error::other(Error::new(Reason::Internal, "read after the end of reading ahead")));
            };
            // The thread has ended: so has the stream.
            let Ok(piece) = received.recv() else { return Ok(0) };
            (self.piece, self.used) = (piece?, 0);
        }
        let rest = &self.piece[self.used..];
        let length = rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        self.used += length;
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_arrives_then_the_error() {
        let bytes: Vec<u8> = (0..=255).cycle().take(3 * PIECE + 17).collect();
        let mut all = Vec::new();
        read(&*bytes, |reader| Ok(reader.read_to_end(&mut all).unwrap())).unwrap();
        assert_eq!(all, bytes);

        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("broken"))
            }
        }
        all.clear();
        let error = read((&*bytes).chain(Broken), |reader| Ok(reader.read_to_end(&mut all).unwrap_err())).unwrap();
        assert_eq!((all, error.to_string().as_str()), (bytes, "broken"));
    }

    #[test]
    fn a_consumer_may_leave_early() {
        let mut first = [0; 3];
        let read = read(io::repeat(7), |reader| Ok(reader.read_exact(&mut first)));
        read.unwrap().unwrap();
        assert_eq!(first, [7; 3]);
    }
}
