//! Descriptors that the async runtime watches.

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::unix::AsyncFd;

/// A descriptor that is watched until it is closed.
pub(crate) type Watched = AsyncFd<OwnedFd>;

/// Watches a non-blocking descriptor. Must be called within the runtime.
#[expect(
    deprecated,
    reason = "its successor is unsafe; the descriptor is owned and stays open as long as it is watched"
)]
pub(crate) fn watch(fd: OwnedFd) -> io::Result<Watched> {
    AsyncFd::new(fd)
}
