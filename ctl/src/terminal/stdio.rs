//! Standard streams of this process. They may be files, which epoll refuses, and terminals and pipes, which are shared
//! with other processes and must not be made non-blocking: so each side has a thread that may block.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::thread;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use crate::error::{Error, Result};

/// Bytes read at once.
const PIECE: usize = 64 << 10;
/// Pieces that wait in either direction.
pub(super) const QUEUE: usize = 8;

/// What is read from standard input, until it ends. The thread may stay in its read; it ends with the process.
pub(super) fn read_stdin() -> Result<mpsc::Receiver<Bytes>> {
    let (queue, pieces) = mpsc::channel(QUEUE);
    let read = move || {
        let mut stdin = io::stdin().lock();
        let mut buffer = vec![0; PIECE];
        loop {
            match stdin.read(&mut buffer) {
                Ok(count @ 1..) => {
                    if queue.blocking_send(Bytes::copy_from_slice(&buffer[..count])).is_err() {
                        return;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // A terminal that has gone answers EIO; that is an end, too.
                Ok(0) | Err(_) => return,
            }
        }
    };
    spawn("stdin", read)?;
    Ok(pieces)
}

/// Where a piece goes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Sink {
    Stdout,
    Stderr,
}

/// Standard output and standard error, written in the order in which pieces come.
#[derive(Debug)]
pub(super) struct Writer {
    queue: mpsc::Sender<(Sink, Bytes)>,
    done: oneshot::Receiver<Result<()>>,
}

impl Writer {
    /// With a queue for so many pieces.
    pub(super) fn spawn(length: usize) -> Result<Self> {
        let (queue, mut pieces) = mpsc::channel::<(Sink, Bytes)>(length);
        let (end, done) = oneshot::channel();
        // Copies of the descriptors, because std keeps an incomplete line of standard output back.
        let copy =
            |fd: io::Result<_>| fd.map(File::from).map_err(|error| Error::new(format!("standard output: {error}")));
        let mut stdout = copy(io::stdout().as_fd().try_clone_to_owned())?;
        let mut stderr = copy(io::stderr().as_fd().try_clone_to_owned())?;
        let mut write = move || {
            while let Some((sink, piece)) = pieces.blocking_recv() {
                match sink {
                    Sink::Stdout => stdout.write_all(&piece)?,
                    Sink::Stderr => stderr.write_all(&piece)?,
                }
            }
            Ok(())
        };
        spawn("stdout", move || {
            // Nobody waits any more where the command was interrupted.
            let _ = end.send(write());
        })?;
        Ok(Self { queue, done })
    }

    /// Room for one more piece; nothing once writing has failed. Cancel-safe.
    pub(super) async fn room(&self) -> Option<mpsc::Permit<'_, (Sink, Bytes)>> {
        self.queue.reserve().await.ok()
    }

    /// Waits until everything is written; why writing failed, if it did.
    pub(super) async fn finish(self) -> Result<()> {
        drop(self.queue);
        self.done.await.unwrap_or(Ok(()))
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<()> {
    let spawned = thread::Builder::new().name(name.to_owned()).stack_size(64 << 10).spawn(work);
    spawned.map(drop).map_err(|error| Error::new(format!("starting a thread for {name}: {error}")))
}
