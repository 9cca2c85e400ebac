//! PushImage: progress while it goes on, then the name and digest that the image has there.

use hull_proto::v1;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Response, Status};

use super::{PROGRESS, QUEUE};
use crate::images::{Images, PushProgress, PushRequest, Pushed};
use crate::service::Edge;
use crate::service::convert::images as parse;
use crate::service::status::shutting_down;

/// Starts the push; the stream tells how it goes, and ends it when it is dropped.
pub(super) fn start(
    edge: &Edge,
    request: v1::PushImageRequest,
) -> Result<Response<ReceiverStream<Result<v1::PushImageResponse, Status>>>, Status> {
    let request = parse::push(request)?;
    let (answers, stream) = mpsc::channel(QUEUE);
    let (images, shutdown) = (edge.images.clone(), edge.shutdown.clone());
    tokio::spawn(async move {
        let last = tokio::select! {
            pushed = push(&images, request, &answers) => pushed.map(|Pushed { reference, digest }| answer(
                v1::push_image_response::Message::Result(v1::PushResult { reference, digest }),
            )),
            () = answers.closed() => return,
            () = shutdown.cancelled() => Err(shutting_down().into()),
        };
        // The client may be gone; then there is no one to tell.
        let _ = answers.send(last).await;
    });
    Ok(Response::new(ReceiverStream::new(stream)))
}

/// Pushes, and tells how far it is.
async fn push(
    images: &Images,
    request: PushRequest,
    answers: &mpsc::Sender<Result<v1::PushImageResponse, Status>>,
) -> Result<Pushed, Status> {
    let progress = PushProgress::default();
    let tell = async {
        let mut ticks = tokio::time::interval(PROGRESS);
        let mut before = None;
        loop {
            ticks.tick().await;
            let now = far(&progress);
            if before.as_ref() != Some(&now) {
                let message = v1::push_image_response::Message::Progress(now.clone());
                let _ = answers.send(Ok(answer(message))).await;
                before = Some(now);
            }
        }
    };
    tokio::select! {
        pushed = images.push(request, &progress) => {
            let pushed = pushed?;
            // All blobs done is worth telling, whatever the clock says.
            let message = v1::push_image_response::Message::Progress(far(&progress));
            let _ = answers.send(Ok(answer(message))).await;
            Ok(pushed)
        }
        never = tell => never,
    }
}

fn far(progress: &PushProgress) -> v1::PushProgress {
    let blobs = progress.snapshot().into_iter().map(|blob| v1::BlobProgress {
        bytes_done: blob.sent(),
        present: blob.present(),
        digest: blob.digest,
        bytes_total: blob.size,
    });
    v1::PushProgress { blobs: blobs.collect() }
}

fn answer(message: v1::push_image_response::Message) -> v1::PushImageResponse {
    v1::PushImageResponse { message: Some(message) }
}
