//! VerifyImages: damage is told as it is found, and how far it is.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use hull_proto::v1;
use hull_proto::v1::verify_images_response::Message;
use tonic::{Response, Status};

use super::told::{self, Answers, Stream};
use crate::blocking::CancelOnDrop;
use crate::error::{Error, Result};
use crate::images::{Damaged, FileKind, Images, Repair, VerifyProgress};
use crate::service::convert::{images as parse, reference};
use crate::service::{Edge, blocking};

/// Most images that one request names.
const IMAGES_MAX: usize = 1000;

/// Starts the verification; the stream tells how it goes.
pub(super) fn start(
    edge: &Edge,
    mut request: v1::VerifyImagesRequest,
) -> Result<Response<Stream<v1::VerifyImagesResponse>>, Status> {
    if request.images.len() > IMAGES_MAX {
        return Err(Error::invalid("images", format!("more than {IMAGES_MAX}")).into());
    }
    for image in &request.images {
        // What is not there is said at once, and not in the stream.
        edge.images.get(reference("images", image)?)?;
    }
    let credentials = parse::credentials(request.auth.take())?;
    let repair = request.repair.then_some(Repair { credentials });
    let images = edge.images.clone();
    Ok(told::stream(edge, |answers| async move {
        let progress = verify(images, request.images, repair, &answers).await?;
        Ok(answer(Message::Progress(progress)))
    }))
}

/// Dropping the future cancels the verification.
async fn verify(
    images: Images,
    references: Vec<String>,
    repair: Option<Repair>,
    answers: &Answers<v1::VerifyImagesResponse>,
) -> Result<v1::VerifyProgress> {
    let progress = Arc::new(VerifyProgress::default());
    let cancelled = CancelOnDrop::default();
    let verifying = {
        let (progress, cancelled, answers) = (Arc::clone(&progress), Arc::clone(&cancelled.0), answers.clone());
        blocking(move || {
            let mut report = |found| {
                // A client that is gone has cancelled.
                let _ = answers.blocking_send(Ok(answer(Message::Damaged(damaged(found)))));
            };
            images.verify(&references, repair.as_ref(), &progress, &cancelled, &mut report)
        })
    };
    let far = || far(&progress);
    told::while_telling(answers, || answer(Message::Progress(far())), verifying).await?;
    Ok(far())
}

fn damaged(found: Damaged) -> v1::DamagedFile {
    let kind = match found.kind {
        FileKind::Blob => v1::ImageFileKind::Blob,
        FileKind::Layer => v1::ImageFileKind::Layer,
    };
    let repaired = matches!(found.repaired, Some(Ok(())));
    let repair_error = found.repaired.and_then(Result::err).map(|error| error.to_string()).unwrap_or_default();
    v1::DamagedFile {
        digest: found.digest,
        kind: kind.into(),
        images: found.images,
        problem: found.problem,
        repaired,
        repair_error,
    }
}

fn far(progress: &VerifyProgress) -> v1::VerifyProgress {
    v1::VerifyProgress {
        files_done: progress.files_done.load(Ordering::Relaxed),
        files_total: progress.files_total.load(Ordering::Relaxed),
        bytes_done: progress.bytes_done.load(Ordering::Relaxed),
        bytes_total: progress.bytes_total.load(Ordering::Relaxed),
    }
}

fn answer(message: Message) -> v1::VerifyImagesResponse {
    v1::VerifyImagesResponse { message: Some(message) }
}
