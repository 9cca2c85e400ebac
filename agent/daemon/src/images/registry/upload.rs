//! Writing to a repository: blobs that are not there yet, each in one request, and manifests.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue, LOCATION};
use http::{Method, StatusCode, Uri};
use http_body::Frame;
use http_body_util::StreamBody;
use http_body_util::combinators::UnsyncBoxBody;
use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;

use super::auth::with_query;
use super::line::Line;
use super::retry::{Backoff, Trouble};
use super::transport::{Answer, Body, Call, Payload, resolve, shown};
use super::{Session, answer};
use crate::error::{Error, Reason, Result};

/// Bytes of a file that are read at once.
const PIECE: usize = 256 << 10;
/// Pieces that wait to be sent.
const WAITING: usize = 4;
/// How many times longer than between two bytes a registry may take to check a blob that it has whole.
const CHECKING: u32 = 10;

/// How a blob came to be in a registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::images) enum Placed {
    /// It was there.
    Present,
    /// Another repository of the registry has it.
    Mounted,
    /// It was sent.
    Sent,
}

/// A blob to send.
#[derive(Debug)]
pub(in crate::images) struct Upload {
    pub(in crate::images) digest: String,
    pub(in crate::images) size: u64,
    pub(in crate::images) path: PathBuf,
    /// Counts bytes that were handed to the connection.
    pub(in crate::images) sent: Arc<AtomicU64>,
    /// A repository of the same registry that may have it.
    pub(in crate::images) mount_from: Option<String>,
}

impl Session {
    /// Sees to it that the repository has a blob.
    ///
    /// # Errors
    /// `REGISTRY_DENIED`, `REGISTRY_UNAUTHENTICATED`, `REGISTRY_UNAVAILABLE`, `REGISTRY_ERROR`.
    pub(in crate::images) async fn place(&self, upload: &Upload) -> Result<Placed> {
        let line = self.push_line()?;
        let mut backoff = Backoff::default();
        loop {
            upload.sent.store(0, Ordering::Relaxed);
            match self.place_once(line, upload).await {
                Ok(placed) => return Ok(placed),
                Err(trouble) => backoff.after(trouble).await.map_err(|trouble| trouble.error)?,
            }
        }
    }

    /// Writes a manifest under a tag.
    ///
    /// # Errors
    /// As [`Self::place`].
    pub(in crate::images) async fn put_manifest(&self, tag: &str, media_type: &str, bytes: Vec<u8>) -> Result<()> {
        let line = self.push_line()?;
        let what = format!("sending the manifest of {}:{tag}", self.repository());
        let mut call = line.call(Method::PUT, &format!("/{}/manifests/{tag}", self.repository), &[])?;
        let value = HeaderValue::from_str(media_type)
            .map_err(|_| Error::new(Reason::Internal, "a media type holds a control character"))?;
        call.headers.insert(CONTENT_TYPE, value);
        call.payload = Payload::Bytes(Bytes::from(bytes));
        let mut backoff = Backoff::default();
        loop {
            match self.expect(line, &call, &what, &[StatusCode::CREATED, StatusCode::OK, StatusCode::ACCEPTED]).await {
                Ok(_) => return Ok(()),
                Err(trouble) => backoff.after(trouble).await.map_err(|trouble| trouble.error)?,
            }
        }
    }

    fn push_line(&self) -> Result<&Line> {
        self.lines.iter().find(|line| line.endpoint.capabilities.push).ok_or_else(|| {
            let line = format!("no host of {} may be pushed to", self.domain);
            Error::new(Reason::RegistryConfig, line).hint("see `capabilities` in its hosts.toml")
        })
    }

    async fn place_once(&self, line: &Line, upload: &Upload) -> Result<Placed, Trouble> {
        let digest = upload.digest.as_str();
        let what = format!("sending the blob {digest} to {}", self.repository());
        let head = line.call(Method::HEAD, &format!("/{}/blobs/{digest}", self.repository), &[])?;
        let there = self.expect(line, &head, &what, &[StatusCode::OK, StatusCode::NOT_FOUND]).await?;
        if there.status == StatusCode::OK {
            return Ok(Placed::Present);
        }
        let mut query = Vec::new();
        if let Some(from) = &upload.mount_from {
            query.extend([("mount", digest), ("from", from)]);
        }
        let mut begin = line.call(Method::POST, &format!("/{}/blobs/uploads/", self.repository), &query)?;
        begin.payload = Payload::Bytes(Bytes::new());
        let begun = self.expect(line, &begin, &what, &[StatusCode::ACCEPTED, StatusCode::CREATED]).await?;
        if begun.status == StatusCode::CREATED {
            return Ok(Placed::Mounted);
        }
        let place = place_of(&begun)?;
        let mut put = line.call_at(Method::PUT, with_query(&place.to_string(), &[("digest", digest)])?);
        put.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        put.payload = stream(upload);
        let sending = self.expect(line, &put, &what, &[StatusCode::CREATED, StatusCode::NO_CONTENT]);
        tokio::select! {
            sent = sending => sent?,
            stalled = self.watch(upload, &what) => return Err(stalled),
        };
        Ok(Placed::Sent)
    }

    async fn expect(&self, line: &Line, call: &Call, what: &str, accepted: &[StatusCode]) -> Result<Answer, Trouble> {
        let answer = line.send(call, &self.registries.shared.tokens).await?;
        if accepted.contains(&answer.status) {
            return Ok(answer);
        }
        Err(answer::refusal(answer, what).await)
    }

    /// Ends when nothing was sent for too long.
    async fn watch(&self, upload: &Upload, what: &str) -> Trouble {
        let stall = self.registries.shared.config.stall_timeout;
        let mut before = 0;
        loop {
            let time = if before == upload.size { stall * CHECKING } else { stall };
            tokio::time::sleep(time).await;
            let now = upload.sent.load(Ordering::Relaxed);
            if now == before {
                let line = format!("{what}: the connection stands still");
                return Trouble::passing(Error::new(Reason::RegistryUnavailable, line));
            }
            before = now;
        }
    }
}

/// Where an upload goes.
fn place_of(begun: &Answer) -> Result<Uri, Trouble> {
    let location = begun.headers.get(LOCATION).and_then(|location| location.to_str().ok());
    let Some(place) = location.and_then(|location| resolve(&begun.uri, location)) else {
        let line = format!("{} does not say where the blob is to go", shown(&begun.uri));
        return Err(Error::new(Reason::RegistryError, line).into());
    };
    if begun.uri.scheme_str() == Some("https") && place.scheme_str() != Some("https") {
        let line = format!("{} wants the blob at {}, which is not https", shown(&begun.uri), shown(&place));
        return Err(Error::new(Reason::RegistryError, line).into());
    }
    Ok(place)
}

/// The file as the body of a request, read on a thread that may block.
fn stream(upload: &Upload) -> Payload {
    let (path, size, sent) = (upload.path.clone(), upload.size, Arc::clone(&upload.sent));
    let make = move || -> Body {
        let (pieces, queue) = mpsc::channel(WAITING);
        let (path, sent) = (path.clone(), Arc::clone(&sent));
        tokio::task::spawn_blocking(move || read(&path, size, &pieces));
        let counted = ReceiverStream::new(queue).map(move |piece: std::io::Result<Bytes>| {
            piece.map(|piece| {
                sent.fetch_add(piece.len() as u64, Ordering::Relaxed);
                Frame::data(piece)
            })
        });
        UnsyncBoxBody::new(StreamBody::new(counted))
    };
    Payload::Stream(size, Arc::new(make))
}

fn read(path: &std::path::Path, size: u64, pieces: &mpsc::Sender<std::io::Result<Bytes>>) {
    use std::io::Read as _;

    let mut file = match std::fs::File::open(path) {
        Ok(file) => file.take(size),
        Err(error) => return drop(pieces.blocking_send(Err(error))),
    };
    loop {
        let mut piece = Vec::with_capacity(PIECE);
        let read = file.by_ref().take(PIECE as u64).read_to_end(&mut piece);
        let last = read.is_err() || piece.is_empty();
        let given = match read {
            Ok(0) => return,
            Ok(_) => pieces.blocking_send(Ok(Bytes::from(piece))),
            Err(error) => pieces.blocking_send(Err(error)),
        };
        if last || given.is_err() {
            return;
        }
    }
}
