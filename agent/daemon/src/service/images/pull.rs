//! PullImage: progress while it goes on, then the image.

use hull_proto::v1;
use hull_proto::v1::pull_image_response::Message;
use tonic::{Response, Status};

use super::told::{self, Stream};
use crate::images::{PullPhase, PullProgress};
use crate::service::Edge;
use crate::service::convert::images as parse;

/// Starts the pull; the stream tells how it goes, and ends it when it is dropped.
pub(super) fn start(
    edge: &Edge,
    request: v1::PullImageRequest,
) -> Result<Response<Stream<v1::PullImageResponse>>, Status> {
    let request = parse::pull(request)?;
    let images = edge.images.clone();
    Ok(told::stream(edge, |answers| async move {
        let progress = PullProgress::default();
        let far = || answer(Message::Progress(far(&progress)));
        let pulled = told::while_telling(&answers, far, images.pull(request, &progress)).await?;
        // All layers done is worth telling, whatever the clock says.
        let _ = answers.send(Ok(far())).await;
        Ok(answer(Message::Result(v1::PullResult {
            image: Some(parse::image(&pulled.image)),
            up_to_date: pulled.up_to_date,
            bytes_fetched: pulled.bytes_fetched,
        })))
    }))
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

fn answer(message: Message) -> v1::PullImageResponse {
    v1::PullImageResponse { message: Some(message) }
}
