//! The ends of pipes and terminals that a session reads and writes.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use nix::fcntl::OFlag;
use rustix::io::Errno;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::error::{Error, Result};
use crate::runtime::watched::{self, Watched};

/// Makes a descriptor non-blocking and watches it.
fn watch(fd: OwnedFd) -> Result<Arc<Watched>> {
    rustix::io::ioctl_fionbio(&fd, true)
        .map_err(|errno| Error::io("making a pipe non-blocking", &io::Error::from(errno)))?;
    watched::watch(fd).map(Arc::new).map_err(|error| Error::io("watching a pipe", &error))
}

/// Where a process's standard input is written. Dropping it closes a pipe; a terminal stays open for its output.
#[derive(Debug)]
pub(crate) struct Input(Arc<Watched>);

/// Where a process's output is read.
#[derive(Debug)]
pub(crate) struct Output(Arc<Watched>);

/// A pipe for input: the other process's end and ours.
pub(crate) fn input_pipe() -> Result<(OwnedFd, Input)> {
    let (read, write) = pipe()?;
    Ok((read, Input(watch(write)?)))
}

/// A pipe for output: the other process's end and ours.
pub(crate) fn output_pipe() -> Result<(OwnedFd, Output)> {
    let (read, write) = pipe()?;
    Ok((write, Output(watch(read)?)))
}

/// Both directions of a terminal's master side, and the terminal for its size.
pub(crate) fn terminal(master: OwnedFd) -> Result<(Input, Output)> {
    let master = watch(master)?;
    Ok((Input(Arc::clone(&master)), Output(master)))
}

/// /dev/null for a process that gets no input.
pub(crate) fn null() -> Result<OwnedFd> {
    std::fs::File::open("/dev/null").map(OwnedFd::from).map_err(|error| Error::io("opening /dev/null", &error))
}

fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    nix::unistd::pipe2(OFlag::O_CLOEXEC).map_err(|errno| Error::os("making a pipe", errno))
}

impl Output {
    /// Reads what is there into the room of `buffer` without waiting; `None`: nothing is, `Some(0)`: the end.
    pub(crate) fn read_now(&self, buffer: &mut BytesMut) -> io::Result<Option<usize>> {
        let start = buffer.len();
        buffer.resize(buffer.capacity(), 0);
        let read = loop {
            match rustix::io::read(self.0.get_ref(), &mut buffer[start..]) {
                Err(Errno::INTR) => {}
                read => break read,
            }
        };
        buffer.truncate(start + read.unwrap_or_default());
        match read {
            Ok(length) => Ok(Some(length)),
            Err(Errno::AGAIN) => Ok(None),
            // A terminal whose other side is closed: end of file.
            Err(Errno::IO) => Ok(Some(0)),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Sets the size of the terminal whose master this is.
    pub(crate) fn terminal_size(&self) -> TerminalSize {
        TerminalSize(Arc::clone(&self.0))
    }
}

/// The size of a terminal.
#[derive(Debug, Clone)]
pub(crate) struct TerminalSize(Arc<Watched>);

impl TerminalSize {
    /// Sets it; the process gets SIGWINCH.
    pub(crate) fn set(&self, rows: u16, columns: u16) -> Result<()> {
        let size = rustix::termios::Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(self.0.get_ref().as_fd(), size)
            .map_err(|errno| Error::io("setting the terminal's size", &io::Error::from(errno)))
    }
}

impl AsyncRead for Output {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut guard = ready!(self.0.poll_read_ready(context))?;
            let space = buffer.initialize_unfilled();
            match guard.try_io(|inner| Ok(rustix::io::read(inner.get_ref(), &mut *space)?)) {
                Ok(Ok(length)) => {
                    buffer.advance(length);
                    return Poll::Ready(Ok(()));
                }
                // A terminal whose other side is closed: end of file.
                Ok(Err(error)) if error.raw_os_error() == Some(nix::libc::EIO) => return Poll::Ready(Ok(())),
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(Err(error)) => return Poll::Ready(Err(error)),
                Err(_would_block) => {}
            }
        }
    }
}

impl AsyncWrite for Input {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            let mut guard = ready!(self.0.poll_write_ready(context))?;
            match guard.try_io(|inner| Ok(rustix::io::write(inner.get_ref(), bytes)?)) {
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(result) => return Poll::Ready(result),
                Err(_would_block) => {}
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
