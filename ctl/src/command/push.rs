//! `push`.

use hull_proto::v1::{BlobProgress, PushImageRequest, PushResult, push_image_response};

use crate::cli::PushFlags;
use crate::client::Client;
use crate::error::{Error, Result};
use crate::output::{self, Progress, Step, short_digest};
use crate::registry;

/// Sends an image; prints what it is called there, or the digest alone.
pub(crate) async fn push(connect: impl Future<Output = Result<Client>>, flags: PushFlags) -> Result<u8> {
    let PushFlags { quiet, image, destination } = flags;
    let auth = registry::credentials(destination.as_ref().unwrap_or(&image))?;
    let request = PushImageRequest { image, destination: destination.unwrap_or_default(), auth };
    let PushResult { reference, digest } = send(&connect.await?, request, quiet).await?;
    output::line(&if quiet { digest } else { format!("{reference}: pushed {digest}") })?;
    Ok(0)
}

async fn send(client: &Client, request: PushImageRequest, quiet: bool) -> Result<PushResult> {
    let mut progress = Progress::new(quiet);
    let mut answers = client.images().push_image(request).await?.into_inner();
    while let Some(answer) = answers.message().await? {
        match answer.message {
            Some(push_image_response::Message::Progress(now)) => show(&mut progress, &now.blobs),
            Some(push_image_response::Message::Result(result)) => return Ok(result),
            None => {}
        }
    }
    Err(Error::new("the agent ended the push without a result"))
}

fn show(progress: &mut Progress, blobs: &[BlobProgress]) {
    for (at, blob) in blobs.iter().enumerate() {
        let (state, moves) = match blob {
            BlobProgress { present: true, .. } => ("Already exists", false),
            BlobProgress { bytes_done: 0, .. } => ("Waiting", false),
            BlobProgress { bytes_done, bytes_total, .. } if bytes_done < bytes_total => ("Pushing", true),
            _ => ("Pushed", false),
        };
        let bytes = moves.then_some((blob.bytes_done, blob.bytes_total));
        progress.step(at, &Step { name: short_digest(&blob.digest), state, bytes });
    }
}
