//! Kernel work off the async workers.

use crate::error::{Error, Reason, Result};

/// Queues work that may block on a thread for it, at once and in the order of the calls; the future is its end. Dropping that
/// does not stop the work.
pub(crate) fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> impl Future<Output = Result<T>> {
    let queued = tokio::task::spawn_blocking(work);
    async move {
        queued.await.unwrap_or_else(|error| Err(Error::new(Reason::Internal, format!("a task ended early: {error}"))))
    }
}
