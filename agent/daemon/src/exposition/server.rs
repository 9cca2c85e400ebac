//! `GET /metrics` over HTTP/1.1, and nothing else. Bounded in connections and in time, since it may be asked by anyone who reaches
//! its address.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, ALLOW, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Exposition;
use super::format::Format;
use crate::error::{Error, Result};

/// Most connections at once; further ones wait to be accepted.
const MAX_CONNECTIONS: usize = 32;
/// Most bytes of a request's head, and of what is kept for a client that reads slowly.
const MAX_HEAD: usize = 16 * 1024;
/// Time for the head of a request, and between two of them on one connection: longer than most wait between two scrapes.
const IDLE: Duration = Duration::from_secs(75);
/// Time for a scrape to be made: as long as Prometheus waits for it.
const SCRAPE: Duration = Duration::from_secs(10);
/// Time in which a client takes something of its answer.
const STALL: Duration = Duration::from_secs(10);
/// Time for answers under way when the agent ends.
const LINGER: Duration = Duration::from_secs(1);
/// Wait before the next attempt where a connection could not be accepted (no descriptor left).
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// The bound address.
#[derive(Debug)]
pub(crate) struct Endpoint {
    listener: TcpListener,
}

impl Endpoint {
    /// Binds the address.
    ///
    /// # Errors
    /// If it is in use or not the node's.
    pub(crate) async fn bind(address: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind(address).await;
        let failed = |error| Error::io(format_args!("metrics-listen: listening on {address}"), &error);
        Ok(Self { listener: listener.map_err(failed)? })
    }

    /// Answers until `shutdown`, then lets answers under way come to their end.
    pub(crate) async fn serve(self, exposition: Exposition, shutdown: CancellationToken) {
        let (places, connections) = (Arc::new(Semaphore::new(MAX_CONNECTIONS)), TaskTracker::new());
        loop {
            let (stream, place) = tokio::select! {
                accepted = self.accept(&places) => accepted,
                () = shutdown.cancelled() => break,
            };
            connections.spawn(serve(stream, place, exposition.clone(), shutdown.clone()));
        }
        drop(self);
        connections.close();
        if tokio::time::timeout(LINGER, connections.wait()).await.is_err() {
            tracing::info!("clients that do not read metrics to the end are cut off");
        }
    }

    async fn accept(&self, places: &Arc<Semaphore>) -> (TcpStream, Option<OwnedSemaphorePermit>) {
        // The semaphore is never closed.
        let place = Arc::clone(places).acquire_owned().await.ok();
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => return (stream, place),
                Err(error) => {
                    tracing::warn!(%error, "accepting a connection for metrics failed");
                    tokio::time::sleep(ACCEPT_AGAIN).await;
                }
            }
        }
    }
}

/// One connection.
async fn serve(
    stream: TcpStream,
    _place: Option<OwnedSemaphorePermit>,
    exposition: Exposition,
    shutdown: CancellationToken,
) {
    let service = service_fn(|request| answer(&exposition, request));
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(IDLE).max_buf_size(MAX_HEAD);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(Patient::new(stream)), service));
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = served {
        tracing::debug!(%error, "a connection for metrics ended early");
    }
}

async fn answer(exposition: &Exposition, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    Ok(if request.uri().path() != "/metrics" {
        plain(StatusCode::NOT_FOUND, "metrics are at /metrics\n")
    } else if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut refused = plain(StatusCode::METHOD_NOT_ALLOWED, "GET or HEAD\n");
        refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        refused
    } else {
        scrape(exposition, request.headers()).await
    })
}

async fn scrape(exposition: &Exposition, headers: &HeaderMap) -> Response<Full<Bytes>> {
    let accept: Vec<&str> = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
    let format = Format::preferred(&accept.join(","));
    match tokio::time::timeout(SCRAPE, exposition.render(format)).await {
        Ok(Ok(text)) => with_type(StatusCode::OK, format.content_type(), text.into()),
        Ok(Err(error)) => {
            tracing::warn!(%error, "metrics cannot be told");
            plain(StatusCode::INTERNAL_SERVER_ERROR, "metrics cannot be told: see the agent's log\n")
        }
        Err(_) => plain(StatusCode::SERVICE_UNAVAILABLE, "reading took too long\n"),
    }
}

fn plain(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    with_type(status, "text/plain; charset=utf-8", Bytes::from_static(text.as_bytes()))
}

fn with_type(status: StatusCode, content_type: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// A connection whose client must read: an answer is megabytes that wait in memory.
#[derive(Debug)]
struct Patient {
    stream: TcpStream,
    /// There while the client takes nothing.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl Patient {
    fn new(stream: TcpStream) -> Self {
        Self { stream, stalled: None }
    }

    fn watch<T>(&mut self, context: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let until = || Box::pin(tokio::time::sleep_until(Instant::now() + STALL));
        let stalled = self.stalled.get_or_insert_with(until);
        match stalled.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncRead for Patient {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Patient {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.watch(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.watch(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
