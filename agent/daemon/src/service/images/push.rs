//! PushImage: progress while it goes on, then the name and digest that the image has there.

use hull_proto::v1;
use hull_proto::v1::push_image_response::Message;
use tonic::{Response, Status};

use super::told::{self, Stream};
use crate::images::{PushProgress, Pushed};
use crate::service::Edge;
use crate::service::convert::images as parse;

/// Starts the push; the stream tells how it goes, and ends it when it is dropped.
pub(super) fn start(
    edge: &Edge,
    request: v1::PushImageRequest,
) -> Result<Response<Stream<v1::PushImageResponse>>, Status> {
    let request = parse::push(request)?;
    let images = edge.images.clone();
    Ok(told::stream(edge, |answers| async move {
        let progress = PushProgress::default();
        let far = || answer(Message::Progress(far(&progress)));
        let Pushed { reference, digest } = told::while_telling(&answers, far, images.push(request, &progress)).await?;
        // All blobs done is worth telling, whatever the clock says.
        let _ = answers.send(Ok(far())).await;
        Ok(answer(Message::Result(v1::PushResult { reference, digest })))
    }))
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

fn answer(message: Message) -> v1::PushImageResponse {
    v1::PushImageResponse { message: Some(message) }
}
