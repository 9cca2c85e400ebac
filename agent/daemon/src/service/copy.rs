//! StatPath, CopyFrom, CopyTo, ExportContainer: tars go out and come in as fast as the other side takes them.

use bytes::Bytes;
use hull_proto::v1;
use hull_proto::v1::copy_from_response::Message as FromMessage;
use hull_proto::v1::copy_to_request::Message as ToMessage;
use hull_proto::v1::export_container_response::Message as ExportMessage;
use prost_types::Timestamp;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tonic::codegen::BoxFuture;
use tonic::{Status, Streaming};

use super::convert::{self, reference};
use super::pieces::{Incoming, MAX_DATA, Outgoing};
use super::status::{from_transport, shutting_down};
use crate::error::{Error, Reason, Result};
use crate::images::{PathKind, PathStat, Shrunk};
use crate::lifecycle::Containers;

/// Messages that wait for a slow client, or for a slow disk; more of them stop the other side.
const QUEUE: usize = 2;

/// Answers of a stream.
pub(super) type Answers<T> = mpsc::Receiver<Result<T, Status>>;

/// Tells what is at a path.
pub(super) async fn stat(containers: &Containers, request: v1::StatPathRequest) -> Result<v1::StatPathResponse> {
    let v1::StatPathRequest { container, path, follow_link } = request;
    let stat = containers.stat_path(reference("container", &container)?, path, follow_link).await?;
    Ok(v1::StatPathResponse { stat: Some(path_stat(stat)) })
}

/// Starts to stream what is at a path. What is wrong with the path is said at once, and not in the stream.
pub(super) async fn from(
    containers: Containers,
    request: v1::CopyFromRequest,
    shutdown: CancellationToken,
) -> Result<Answers<v1::CopyFromResponse>> {
    let v1::CopyFromRequest { container, path, follow_link } = request;
    reference("container", &container)?;
    // The work is on a thread that may block, and ends with this channel.
    let (data, pieces) = mpsc::channel(QUEUE);
    let (told, mut stat) = oneshot::channel();
    let output = Outgoing::new(data, |piece| piece);
    let mut copy: BoxFuture<Shrunk, Error> =
        Box::pin(async move { containers.copy_from(&container, path, follow_link, told, output).await });
    let (stat, copy) = tokio::select! {
        biased;
        Ok(stat) = &mut stat => (stat, copy),
        // A small one is through before it is looked at.
        early = &mut copy => {
            let shrunk = early?;
            let stat = stat.await.map_err(|_| Error::new(Reason::Internal, "a copy ended without its file"))?;
            (stat, Box::pin(std::future::ready(Ok(shrunk))) as BoxFuture<Shrunk, Error>)
        }
    };
    let (answers, receiver) = mpsc::channel(QUEUE);
    let answer = |message| v1::CopyFromResponse { message: Some(message) };
    tokio::spawn(async move {
        if answers.send(Ok(answer(FromMessage::Stat(path_stat(stat))))).await.is_ok() {
            stream(copy, pieces, &answers, shutdown, |message| match message {
                Told::Data(data) => answer(FromMessage::Data(data)),
                Told::Done(done) => answer(FromMessage::Done(done)),
            })
            .await;
        }
    });
    Ok(receiver)
}

/// Starts to stream a container's file system.
pub(super) fn export(
    containers: Containers,
    container: String,
    shutdown: CancellationToken,
) -> Answers<v1::ExportContainerResponse> {
    let (answers, receiver) = mpsc::channel(QUEUE);
    tokio::spawn(async move {
        let (data, pieces) = mpsc::channel(QUEUE);
        let output = Outgoing::new(data, |piece| piece);
        let export = containers.export(&container, output);
        stream(export, pieces, &answers, shutdown, |message| {
            let message = match message {
                Told::Data(data) => ExportMessage::Data(data),
                Told::Done(done) => ExportMessage::Done(done),
            };
            v1::ExportContainerResponse { message: Some(message) }
        })
        .await;
    });
    receiver
}

/// What a stream of a tar tells.
enum Told {
    Data(Bytes),
    Done(v1::TarDone),
}

/// Passes pieces on until the work is done, then says so or why not.
async fn stream<T>(
    work: impl Future<Output = Result<Shrunk>>,
    mut pieces: mpsc::Receiver<Bytes>,
    answers: &mpsc::Sender<Result<T, Status>>,
    shutdown: CancellationToken,
    message: impl Fn(Told) -> T,
) {
    let message = &message;
    // With this the pieces go, so that a work that nobody waits for notices.
    let pass_on = async move {
        while let Some(piece) = pieces.recv().await {
            if answers.send(Ok(message(Told::Data(piece)))).await.is_err() {
                return;
            }
        }
    };
    let work = async move {
        let (mut work, mut pass_on) = (std::pin::pin!(work), std::pin::pin!(pass_on));
        tokio::select! {
            biased;
            result = &mut work => {
                // Of a work that failed nobody waits for the pieces.
                if result.is_ok() {
                    pass_on.await;
                }
                result
            }
            () = &mut pass_on => work.await,
        }
    };
    let last = tokio::select! {
        result = work => result.map(|shrunk| message(Told::Done(done(shrunk)))),
        () = answers.closed() => return,
        () = shutdown.cancelled() => Err(shutting_down()),
    };
    // The client may be gone; then there is no one to tell.
    let _ = answers.send(last.map_err(Status::from)).await;
}

/// Unpacks what the client sends.
pub(super) async fn to(
    containers: &Containers,
    mut requests: Streaming<v1::CopyToRequest>,
    shutdown: &CancellationToken,
) -> Result<v1::CopyToResponse, Status> {
    let first = requests.message().await.map_err(from_transport)?.and_then(|request| request.message);
    let Some(ToMessage::Start(v1::CopyToStart { container, path, keep_ownership })) = first else {
        return Err(Error::invalid("message", "the first must be start").into());
    };
    reference("container", &container)?;
    let (pieces, queue) = mpsc::channel(QUEUE);
    let copy = containers.copy_to(&container, path, keep_ownership, Incoming::new(queue));
    let feed = async {
        match feed(&mut requests, pieces).await {
            Ok(()) => std::future::pending().await,
            Err(broken) => broken,
        }
    };
    let unpacked = tokio::select! {
        unpacked = copy => unpacked?,
        broken = feed => return Err(broken),
        () = shutdown.cancelled() => return Err(shutting_down().into()),
    };
    Ok(v1::CopyToResponse {
        entries: unpacked.entries,
        bytes: unpacked.bytes,
        bare: unpacked.bare,
        first_bare: String::from_utf8_lossy(&unpacked.first_bare).into_owned(),
    })
}

/// Passes the pieces of the tar on until the client ends them.
async fn feed(requests: &mut Streaming<v1::CopyToRequest>, pieces: mpsc::Sender<Option<Bytes>>) -> Result<(), Status> {
    while let Some(request) = requests.message().await.map_err(from_transport)? {
        match convert::required("message", request.message)? {
            ToMessage::Start(_) => {
                return Err(Error::invalid("start", "must come once, as the first message").into());
            }
            ToMessage::Data(data) if data.len() > MAX_DATA => {
                let problem = format!("data: {} bytes in one message are more than {MAX_DATA}", data.len());
                return Err(Error::new(Reason::LimitExceeded, problem).into());
            }
            // Who unpacks ends before the tar's end if there is a mistake, and says so.
            ToMessage::Data(data) => {
                let _ = pieces.send(Some(data)).await;
            }
        }
    }
    let _ = pieces.send(None).await;
    Ok(())
}

fn done(shrunk: Shrunk) -> v1::TarDone {
    v1::TarDone { shrunk: shrunk.count, first_shrunk: String::from_utf8_lossy(&shrunk.first).into_owned() }
}

fn path_stat(stat: PathStat) -> v1::PathStat {
    let kind = match stat.kind {
        PathKind::Regular => v1::PathKind::Regular,
        PathKind::Directory => v1::PathKind::Directory,
        PathKind::Symlink => v1::PathKind::Symlink,
        PathKind::Other => v1::PathKind::Other,
    };
    let (seconds, nanos) = stat.modified;
    v1::PathStat {
        name: stat.name,
        kind: kind.into(),
        mode: stat.mode,
        size: stat.size,
        modified_at: Some(Timestamp { seconds, nanos: i32::try_from(nanos).unwrap_or_default() }),
        link_target: stat.link_target,
    }
}
