//! DiffContainer.

use hull_proto::v1;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::status::shutting_down;
use crate::error::Result;
use crate::images::{Change, ChangeKind};
use crate::lifecycle::Containers;

/// Batches that wait for a slow client; more of them stop the search.
const QUEUE: usize = 2;

/// Answers of the stream.
pub(super) type Answers = mpsc::Receiver<Result<v1::DiffContainerResponse, Status>>;

/// Starts to stream what the container `id` changed.
pub(super) fn stream(containers: Containers, id: String, shutdown: CancellationToken) -> Answers {
    let (answers, receiver) = mpsc::channel(QUEUE);
    tokio::spawn(async move {
        // The search is on a thread that may block, and ends with this channel.
        let (found, batches) = mpsc::channel(1);
        let diff = containers.diff(&id, move |batch| found.blocking_send(batch).is_ok());
        let pass_on = pass_on(batches, &answers);
        let result = tokio::select! {
            (result, ()) = async { tokio::join!(diff, pass_on) } => result,
            () = answers.closed() => return,
            () = shutdown.cancelled() => Err(shutting_down()),
        };
        if let Err(error) = result {
            // The client may be gone; then there is no one to tell.
            let _ = answers.send(Err(error.into())).await;
        }
    });
    receiver
}

async fn pass_on(
    mut batches: mpsc::Receiver<Vec<Change>>,
    answers: &mpsc::Sender<Result<v1::DiffContainerResponse, Status>>,
) {
    while let Some(batch) = batches.recv().await {
        let changes = batch.into_iter().map(change).collect();
        if answers.send(Ok(v1::DiffContainerResponse { changes })).await.is_err() {
            return;
        }
    }
}

fn change(change: Change) -> v1::PathChange {
    let kind = match change.kind {
        ChangeKind::Added => v1::ChangeKind::Added,
        ChangeKind::Modified => v1::ChangeKind::Modified,
        ChangeKind::Deleted => v1::ChangeKind::Deleted,
    };
    v1::PathChange { path: String::from_utf8_lossy(&change.path).into_owned(), kind: kind.into() }
}
