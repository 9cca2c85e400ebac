//! A stream of pieces, for code that reads or writes it and blocks meanwhile.

use std::io::{self, ErrorKind, Read, Write};

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::sync::mpsc;

/// Bytes of what goes out in one message.
const PIECE: usize = 256 * 1024;
/// Most bytes of what comes in one message.
pub(super) const MAX_DATA: usize = 1024 * 1024;

/// What is written, in whole pieces, each waiting for the client to take one before.
#[derive(Debug)]
pub(super) struct Outgoing<T> {
    messages: mpsc::Sender<T>,
    message: fn(Bytes) -> T,
    piece: BytesMut,
}

impl<T> Outgoing<T> {
    /// Pieces become messages by `message`.
    pub(super) fn new(messages: mpsc::Sender<T>, message: fn(Bytes) -> T) -> Self {
        Self { messages, message, piece: BytesMut::with_capacity(PIECE) }
    }

    fn send(&mut self) -> io::Result<()> {
        let piece = std::mem::replace(&mut self.piece, BytesMut::with_capacity(PIECE)).freeze();
        let sent = self.messages.blocking_send((self.message)(piece));
        sent.map_err(|_| io::Error::from(ErrorKind::BrokenPipe))
    }
}

impl<T> Write for Outgoing<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(PIECE - self.piece.len());
        self.piece.extend_from_slice(&bytes[..taken]);
        if self.piece.len() == PIECE {
            self.send()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.piece.is_empty() { Ok(()) } else { self.send() }
    }
}

/// What is read: pieces, then `None`. A queue that ends without it is a call that was broken off, and no end of file.
#[derive(Debug)]
pub(super) struct Incoming {
    queue: mpsc::Receiver<Option<Bytes>>,
    rest: Bytes,
    ended: bool,
}

impl Incoming {
    pub(super) fn new(queue: mpsc::Receiver<Option<Bytes>>) -> Self {
        Self { queue, rest: Bytes::new(), ended: false }
    }
}

impl Read for Incoming {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() && !self.ended {
            match self.queue.blocking_recv() {
                Some(Some(piece)) => self.rest = piece,
                Some(None) => self.ended = true,
                None => return Err(io::Error::new(ErrorKind::ConnectionAborted, "the client broke the call off")),
            }
        }
        let length = buffer.len().min(self.rest.len());
        self.rest.copy_to_slice(&mut buffer[..length]);
        Ok(length)
    }
}
