//! Kernel work off the async workers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

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

/// Tells work that looks at the flag to stop once no one waits for it.
#[derive(Debug, Default)]
pub(crate) struct CancelOnDrop(pub(crate) Arc<AtomicBool>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}
