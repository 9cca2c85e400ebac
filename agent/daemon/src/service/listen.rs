//! Listening: unix sockets by file mode, TCP by mutual TLS, one set of bounds for both.

use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, socket};
use nix::unistd::{Gid, Group, chown};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::transport::server::Connected;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};

use crate::config::{Config, Listen, SocketMode, Tls};
use crate::error::{Error, Reason, Result};

/// Most connections of a listener at once; further ones wait to be accepted.
const MAX_CONNECTIONS: usize = 1024;
/// Most calls at once on one connection.
const MAX_STREAMS: u32 = 1024;
/// Most bytes of a call's headers.
const MAX_HEADERS: u32 = 16 * 1024;
/// Calls that a client may reset before they were looked at, before its connection is closed (CVE-2023-44487).
const MAX_RESETS: usize = 64;
/// Bytes that a call may have under way; also bounds what a stream holds in memory.
const STREAM_WINDOW: u32 = 256 * 1024;
/// Bytes that a connection may have under way.
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;
/// Silence after which a client is asked whether it is still there.
const KEEPALIVE: Duration = Duration::from_secs(30);
/// Time it has for the answer, and for a TLS handshake.
const PATIENCE: Duration = Duration::from_secs(20);
/// Wait before the next attempt where a connection could not be accepted (no descriptor left).
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// A server with hull's bounds.
pub(crate) fn server() -> Server {
    Server::builder()
        .max_concurrent_streams(MAX_STREAMS)
        .http2_max_header_list_size(MAX_HEADERS)
        .http2_max_pending_accept_reset_streams(Some(MAX_RESETS))
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(PATIENCE))
}

/// The TLS settings of tcp listeners: a client without a certificate of the configured authority gets no further.
///
/// # Errors
/// If a file cannot be read.
pub(crate) fn tls(tls: &Tls) -> Result<ServerTlsConfig> {
    let read = |key: &str, path: &Path| {
        std::fs::read(path).map_err(|error| Error::io(format_args!("{key}: reading {}", path.display()), &error))
    };
    let identity = Identity::from_pem(read("tls-cert", &tls.certificate)?, read("tls-key", &tls.key)?);
    let client_ca = Certificate::from_pem(read("tls-client-ca", &tls.client_ca)?);
    Ok(ServerTlsConfig::new().identity(identity).client_ca_root(client_ca).timeout(PATIENCE))
}

/// A bound address. Dropping it closes it, and removes a unix socket.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: Socket,
    connections: Arc<Semaphore>,
}

#[derive(Debug)]
enum Socket {
    Unix { listener: UnixListener, _file: SocketFile },
    Tcp(TcpListener),
}

/// The name of a unix socket, removed with it.
#[derive(Debug)]
struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.0) {
            tracing::warn!(path = %self.0.display(), %error, "removing the socket failed");
        }
    }
}

/// Binds every configured address.
///
/// # Errors
/// If one is in use or cannot be bound; then none stays bound.
pub(crate) async fn bind(config: &Config) -> Result<Vec<Listener>> {
    let mut listeners = Vec::new();
    for address in &config.listen {
        let socket = match address {
            Listen::Unix(path) => bind_unix(path, config.socket_mode, config.socket_group.as_deref()).await?,
            Listen::Tcp(address) => Socket::Tcp(
                TcpListener::bind(address)
                    .await
                    .map_err(|error| Error::io(format_args!("listening on {address}"), &error))?,
            ),
        };
        // Each its own, so that strangers at a tcp port do not lock out who comes by the unix socket.
        listeners.push(Listener { socket, connections: Arc::new(Semaphore::new(MAX_CONNECTIONS)) });
    }
    Ok(listeners)
}

/// Binds under another name, and listens and renames once mode and group are right: no one connects before, and there is
/// no moment without a socket where an old one is replaced.
async fn bind_unix(path: &Path, SocketMode(mode): SocketMode, group: Option<&str>) -> Result<Socket> {
    let failed = |errno| Error::os(format_args!("listening on {}", path.display()), errno);
    if let Some(directory) = path.parent() {
        let made = std::fs::create_dir_all(directory);
        made.map_err(|error| Error::io(format_args!("making {}", directory.display()), &error))?;
    }
    refuse_live(path).await?;
    let temporary = path.with_extension(format!("{}~", std::process::id()));
    let _ = std::fs::remove_file(&temporary);
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None).map_err(failed)?;
    nix::sys::socket::bind(socket.as_raw_fd(), &UnixAddr::new(&temporary).map_err(failed)?).map_err(failed)?;
    let mut file = SocketFile(temporary);
    let permitted = std::fs::set_permissions(&file.0, std::fs::Permissions::from_mode(mode));
    permitted.map_err(|error| Error::io("setting the socket's mode", &error))?;
    if let Some(group) = group {
        chown(&file.0, None, Some(group_id(group)?)).map_err(failed)?;
    }
    nix::sys::socket::listen(&socket, Backlog::MAXCONN).map_err(failed)?;
    let listener = UnixListener::from_std(std::os::unix::net::UnixListener::from(socket));
    let listener = listener.map_err(|error| Error::io("watching a socket", &error))?;
    let renamed = std::fs::rename(&file.0, path);
    renamed.map_err(|error| Error::io(format_args!("renaming the socket to {}", path.display()), &error))?;
    file.0 = path.to_owned();
    Ok(Socket::Unix { listener, _file: file })
}

/// A socket that no one listens on is left from a crash; anything else is not hull's to replace.
async fn refuse_live(path: &Path) -> Result<()> {
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Error::io(format_args!("looking at {}", path.display()), &error)),
        Ok(metadata) if metadata.file_type().is_socket() => {}
        Ok(_) => return Err(Error::invalid("listen", format!("{} exists and is not a socket", path.display()))),
    }
    match UnixStream::connect(path).await {
        Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound) => Ok(()),
        // Also a listener that is too busy to answer is one.
        Ok(_) | Err(_) => {
            let error = Error::new(Reason::InvalidState, format!("another agent listens on {}", path.display()));
            Err(error.hint("stop it, or choose another --listen and --run-dir"))
        }
    }
}

fn group_id(group: &str) -> Result<Gid> {
    if let Ok(id) = group.parse() {
        return Ok(Gid::from_raw(id));
    }
    match Group::from_name(group) {
        Ok(Some(found)) => Ok(found.gid),
        Ok(None) => Err(Error::invalid("socket-group", format!("there is no group {group:?}"))),
        Err(errno) => Err(Error::os("looking up the socket's group", errno)),
    }
}

impl Listener {
    /// Whether connections must speak TLS.
    pub(crate) fn is_tcp(&self) -> bool {
        matches!(self.socket, Socket::Tcp(_))
    }

    /// The connections as they come, as long as there is room for them.
    pub(crate) fn connections(self) -> impl tokio_stream::Stream<Item = io::Result<Connection>> + Send {
        futures_util::stream::unfold(self, |listener| async move {
            // The semaphore is never closed.
            let permit = Arc::clone(&listener.connections).acquire_owned().await.ok()?;
            let stream = loop {
                match listener.accept().await {
                    Ok(stream) => break stream,
                    Err(error) => {
                        tracing::warn!(%error, "accepting a connection failed");
                        tokio::time::sleep(ACCEPT_AGAIN).await;
                    }
                }
            };
            Some((Ok(Connection { stream, _permit: permit }), listener))
        })
    }

    async fn accept(&self) -> io::Result<Stream> {
        match &self.socket {
            Socket::Unix { listener, .. } => listener.accept().await.map(|(stream, _)| Stream::Unix(stream)),
            Socket::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok(Stream::Tcp(stream))
            }
        }
    }
}

/// An accepted connection, and its place among [`MAX_CONNECTIONS`].
#[derive(Debug)]
pub(crate) struct Connection {
    stream: Stream,
    _permit: OwnedSemaphorePermit,
}

#[derive(Debug)]
enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Connected for Connection {
    type ConnectInfo = ();

    fn connect_info(&self) -> Self::ConnectInfo {}
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Unix(stream) => Pin::new(stream).poll_read(context, buffer),
            Stream::Tcp(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Unix(stream) => Pin::new(stream).poll_write(context, bytes),
            Stream::Tcp(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Unix(stream) => Pin::new(stream).poll_write_vectored(context, slices),
            Stream::Tcp(stream) => Pin::new(stream).poll_write_vectored(context, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Unix(stream) => Pin::new(stream).poll_flush(context),
            Stream::Tcp(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Unix(stream) => Pin::new(stream).poll_shutdown(context),
            Stream::Tcp(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}

#[cfg(test)]
mod tests;
