//! PullImage: progress while it goes on, then the image.

use std::sync::Arc;

use hull_proto::v1;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Response, Status};

use super::{PROGRESS, QUEUE};
use crate::images::{Images, PullPhase, PullProgress, PullRequest, Pulled};
use crate::service::Edge;
use crate::service::convert::images as parse;
use crate::service::status::shutting_down;

/// Starts the pull; the stream tells how it goes, and ends it when it is dropped.
pub(super) fn start(
    edge: &Edge,
    request: v1::PullImageRequest,
) -> Result<Response<ReceiverStream<Result<v1::PullImageResponse, Status>>>, Status> {
    let request = parse::pull(request)?;
    let (answers, stream) = mpsc::channel(QUEUE);
    let (images, shutdown) = (edge.images.clone(), edge.shutdown.clone());
    tokio::spawn(async move {
        let last = tokio::select! {
            pulled = pull(&images, request, &answers) => pulled.map(|pulled| answer(
                v1::pull_image_response::Message::Result(v1::PullResult {
                    image: Some(parse::image(&pulled.image)),
                    up_to_date: pulled.up_to_date,
                    bytes_fetched: pulled.bytes_fetched,
                }),
            )),
            () = answers.closed() => return,
            () = shutdown.cancelled() => Err(shutting_down().into()),
        };
        // The client may be gone; then there is no one to tell.
        let _ = answers.send(last).await;
    });
    Ok(Response::new(ReceiverStream::new(stream)))
}

/// Pulls, and tells how far it is.
async fn pull(
    images: &Images,
    request: PullRequest,
    answers: &mpsc::Sender<Result<v1::PullImageResponse, Status>>,
) -> Result<Pulled, Status> {
    let progress = Arc::new(PullProgress::default());
    let tell = async {
        let mut ticks = tokio::time::interval(PROGRESS);
        let mut before = None;
        loop {
            ticks.tick().await;
            let now = far(&progress);
            if before.as_ref() != Some(&now) {
                let message = v1::pull_image_response::Message::Progress(now.clone());
                let _ = answers.send(Ok(answer(message))).await;
                before = Some(now);
            }
        }
    };
    tokio::select! {
        pulled = images.pull(request, &progress) => {
            let pulled = pulled?;
            // All layers done is worth telling, whatever the clock says.
            let message = v1::pull_image_response::Message::Progress(far(&progress));
            let _ = answers.send(Ok(answer(message))).await;
            Ok(pulled)
        }
        never = tell => never,
    }
}

fn far(progress: &PullProgress) -> v1::PullProgress {
    let (digest, layers) = progress.snapshot();
    let layers = layers.into_iter().map(|layer| v1::LayerProgress {
        digest: layer.digest,
        phase: phase(layer.blob.phase()).into(),
        bytes_done: layer.blob.done(),
        bytes_total: layer.size,
    });
    v1::PullProgress { digest, layers: layers.collect() }
}

const fn phase(phase: PullPhase) -> v1::PullPhase {
    match phase {
        PullPhase::Waiting => v1::PullPhase::Waiting,
        PullPhase::Downloading => v1::PullPhase::Downloading,
        PullPhase::Converting => v1::PullPhase::Converting,
        PullPhase::Done => v1::PullPhase::Done,
        PullPhase::Present => v1::PullPhase::Present,
    }
}

fn answer(message: v1::pull_image_response::Message) -> v1::PullImageResponse {
    v1::PullImageResponse { message: Some(message) }
}
