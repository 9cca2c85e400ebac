//! ImportImage: the archive comes in pieces, progress goes back.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use hull_proto::v1;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Response, Status, Streaming};

use super::{PROGRESS, QUEUE};
use crate::blocking::CancelOnDrop;
use crate::error::{Error, Reason, Result};
use crate::images::{Image, Images, ImportOptions, Progress};
use crate::service::convert::{self, images as parse};
use crate::service::pieces::{Incoming, MAX_DATA};
use crate::service::status::{from_transport, shutting_down, status};
use crate::service::{Edge, blocking};

/// Starts the import; the stream tells how it goes.
pub(super) async fn start(
    edge: &Edge,
    mut requests: Streaming<v1::ImportImageRequest>,
) -> Result<Response<ReceiverStream<Result<v1::ImportImageResponse, Status>>>, Status> {
    let first = requests.message().await.map_err(from_transport)?.and_then(|request| request.message);
    let Some(v1::import_image_request::Message::Start(start)) = first else {
        return Err(status(&Error::invalid("message", "the first must be start")));
    };
    let options = parse::import(start)?;
    let (answers, stream) = mpsc::channel(QUEUE);
    let (images, shutdown) = (edge.images.clone(), edge.shutdown.clone());
    tokio::spawn(async move {
        let imported = tokio::select! {
            images = import(images, options, requests, &answers) => images,
            () = answers.closed() => return,
            () = shutdown.cancelled() => Err(shutting_down().into()),
        };
        let last = match imported {
            Ok(images) => images
                .iter()
                .map(|image| Ok(answer(v1::import_image_response::Message::Image(parse::image(image)))))
                .collect(),
            Err(status) => vec![Err(status)],
        };
        for message in last {
            // The client may be gone; then there is no one to tell.
            let _ = answers.send(message).await;
        }
    });
    Ok(Response::new(ReceiverStream::new(stream)))
}

/// Feeds the archive to the importer and tells how far it is. Dropping the future cancels the import.
async fn import(
    images: Images,
    options: ImportOptions,
    mut requests: Streaming<v1::ImportImageRequest>,
    answers: &mpsc::Sender<Result<v1::ImportImageResponse, Status>>,
) -> Result<Vec<Arc<Image>>, Status> {
    let progress = Arc::new(Progress::default());
    let cancelled = CancelOnDrop::default();
    let (pieces, queue) = mpsc::channel(QUEUE);
    let importer = {
        let (progress, cancelled) = (Arc::clone(&progress), Arc::clone(&cancelled.0));
        blocking(move || images.import(&options, Incoming::new(queue), &progress, &cancelled))
    };
    let feed = async {
        match feed(&mut requests, pieces).await {
            Ok(()) => std::future::pending().await,
            Err(broken) => broken,
        }
    };
    let tell = async {
        let mut ticks = tokio::time::interval(PROGRESS);
        loop {
            ticks.tick().await;
            let message = v1::import_image_response::Message::Progress(far(&progress));
            let _ = answers.send(Ok(answer(message))).await;
        }
    };
    tokio::select! {
        images = importer => Ok(images?),
        broken = feed => Err(broken),
        never = tell => never,
    }
}

/// Passes the pieces of the archive on until the client ends them.
async fn feed(
    requests: &mut Streaming<v1::ImportImageRequest>,
    pieces: mpsc::Sender<Option<Bytes>>,
) -> Result<(), Status> {
    loop {
        let request = match requests.message().await {
            Ok(Some(request)) => request,
            Ok(None) => {
                let _ = pieces.send(None).await;
                return Ok(());
            }
            Err(broken) => return Err(from_transport(broken)),
        };
        match convert::required("message", request.message)? {
            v1::import_image_request::Message::Start(_) => {
                return Err(Error::invalid("start", "must come once, as the first message").into());
            }
            v1::import_image_request::Message::Data(data) if data.len() > MAX_DATA => {
                let problem = format!("data: {} bytes in one message are more than {MAX_DATA}", data.len());
                return Err(Error::new(Reason::LimitExceeded, problem).into());
            }
            // The importer ends before the archive's end if it has found a mistake, and says so itself.
            v1::import_image_request::Message::Data(data) => {
                let _ = pieces.send(Some(data)).await;
            }
        }
    }
}

fn far(progress: &Progress) -> v1::ImportProgress {
    v1::ImportProgress {
        bytes_read: progress.bytes_read.load(Ordering::Relaxed),
        layers_done: progress.layers_done.load(Ordering::Relaxed),
        entries: progress.entries.load(Ordering::Relaxed),
    }
}

fn answer(message: v1::import_image_response::Message) -> v1::ImportImageResponse {
    v1::ImportImageResponse { message: Some(message) }
}
