//! Work that blocks, off the async workers.

use crate::error::{Error, Reason, Result};

/// Runs work that blocks on a thread that may. It goes on if the future is dropped.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let joined = tokio::task::spawn_blocking(work).await;
    joined.unwrap_or_else(|error| Err(Error::new(Reason::Internal, format!("a task ended early: {error}"))))
}
