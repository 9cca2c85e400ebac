//! The states of a container.

/// Where a container is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Created,
    Starting,
    Running,
    Paused,
    Stopping,
    Exited,
    Removing,
}
