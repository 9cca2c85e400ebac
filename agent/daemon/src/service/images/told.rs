//! Calls that take long: a stream of messages that tell how far it is, the last of which tells what came of it.

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Response, Status};

use super::{PROGRESS, QUEUE};
use crate::error::Result;
use crate::service::Edge;
use crate::service::status::shutting_down;

/// Where the messages of a call go.
pub(super) type Answers<T> = mpsc::Sender<Result<T, Status>>;
/// The stream of a call's messages.
pub(super) type Stream<T> = ReceiverStream<Result<T, Status>>;

/// Starts the work, which yields the last message. It is dropped when the client goes or the agent ends.
pub(super) fn stream<T, F>(edge: &Edge, work: impl FnOnce(Answers<T>) -> F) -> Response<Stream<T>>
where
    T: Send + 'static,
    F: Future<Output = Result<T, Status>> + Send + 'static,
{
    let (answers, stream) = mpsc::channel(QUEUE);
    let (shutdown, work) = (edge.shutdown.clone(), work(answers.clone()));
    tokio::spawn(async move {
        let last = tokio::select! {
            last = work => last,
            () = answers.closed() => return,
            () = shutdown.cancelled() => Err(shutting_down().into()),
        };
        // The client may be gone; then there is no one to tell.
        let _ = answers.send(last).await;
    });
    Response::new(ReceiverStream::new(stream))
}

/// Does the work, and sends what `far` makes of its progress whenever that has changed.
pub(super) async fn while_telling<T: Clone + PartialEq, R>(
    answers: &Answers<T>,
    far: impl Fn() -> T,
    work: impl Future<Output = Result<R>>,
) -> Result<R> {
    let tell = async {
        let mut ticks = tokio::time::interval(PROGRESS);
        let mut before = None;
        loop {
            ticks.tick().await;
            let now = far();
            if before.as_ref() != Some(&now) {
                let _ = answers.send(Ok(now.clone())).await;
                before = Some(now);
            }
        }
    };
    tokio::select! {
        result = work => result,
        never = tell => never,
    }
}
