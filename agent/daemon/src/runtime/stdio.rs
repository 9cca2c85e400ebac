//! Standard streams of a process.

use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::unix::pipe;
use tokio::sync::oneshot;

use crate::error::Result;
use crate::lifecycle::Exit;

#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) pid: i32,
    pub(crate) terminal: bool,
    pub(crate) stdin: Option<Input>,
    pub(crate) stdout: Option<Output>,
    pub(crate) stderr: Option<Output>,
    pub(crate) control: Control,
    pub(crate) exit: oneshot::Receiver<Exit>,
}

#[derive(Debug)]
pub(crate) struct Input(pub(crate) pipe::Sender);

#[derive(Debug)]
pub(crate) struct Output(pub(crate) pipe::Receiver);

#[derive(Debug, Clone)]
pub(crate) struct Control;

#[allow(unused_variables, clippy::unused_async)]
impl Control {
    pub(crate) async fn resize(&self, rows: u16, columns: u16) -> Result<()> {
        Ok(())
    }
    pub(crate) async fn signal(&self, signal: i32) -> Result<()> {
        Ok(())
    }
}

impl AsyncRead for Output {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Input {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
