//! The states of a container and what may follow what. Pure.
//!
//! ```text
//!            start                 pause
//!  Created ---------> Starting --> Running <-------> Paused
//!     |                | failed    |     \  resume     |
//!     |                v           | exit \ stop       | stop
//!     |             Exited <-------+       v           |
//!     |              |  ^ \  start         Stopping <--+
//!     |              |  |  +--> Starting      | exit
//!     |              |  +---------------------+
//!     +-- remove --> Removing --> (gone)
//! ```

use serde::{Deserialize, Serialize};

use crate::error::{Error, Reason, Result};

/// Where a container is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum State {
    /// Recorded, never started.
    Created,
    /// Being set up.
    Starting,
    /// Its init runs.
    Running,
    /// Its processes are frozen.
    Paused,
    /// Asked to stop; its init still runs.
    Stopping,
    /// Its init has ended, or its start has failed.
    Exited,
    /// Being removed.
    Removing,
}

impl State {
    /// Whether a process of the container may exist.
    pub(crate) fn is_active(self) -> bool {
        matches!(self, Self::Starting | Self::Running | Self::Paused | Self::Stopping)
    }

    /// As users read it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopping => "stopping",
            Self::Exited => "exited",
            Self::Removing => "being removed",
        }
    }

    /// Whether `next` may follow.
    pub(crate) fn may_become(self, next: Self) -> bool {
        use State::{Created, Exited, Paused, Removing, Running, Starting, Stopping};
        matches!(
            (self, next),
            (Created | Exited, Starting | Removing)
                | (Starting, Running | Exited)
                | (Running, Paused | Stopping | Exited)
                | (Paused, Running | Stopping | Exited)
                | (Stopping, Exited)
        )
    }
}

/// That the container `name` is in a state in which `what` cannot be done.
pub(crate) fn refused(name: &str, state: State, what: &str) -> Error {
    let error = Error::new(Reason::InvalidState, format!("cannot {what} container {name}: it is {}", state.as_str()));
    match state {
        State::Running | State::Stopping => error.hint("stop it first"),
        State::Paused => error.hint("resume it first"),
        State::Created | State::Exited => error.hint("start it first"),
        State::Starting | State::Removing => error,
    }
}

/// Refuses unless the container is in one of these states.
pub(crate) fn require(name: &str, state: State, allowed: &[State], what: &str) -> Result<()> {
    if allowed.contains(&state) { Ok(()) } else { Err(refused(name, state, what)) }
}

#[cfg(test)]
mod tests {
    use super::State::{self, Created, Exited, Paused, Removing, Running, Starting, Stopping};

    const ALL: [State; 7] = [Created, Starting, Running, Paused, Stopping, Exited, Removing];

    #[test]
    fn nothing_follows_removal_and_nothing_returns_to_created() {
        for state in ALL {
            assert!(!Removing.may_become(state));
            assert!(!state.may_become(Created));
            assert!(!state.may_become(state));
        }
    }

    #[test]
    fn an_active_container_is_never_removed_directly() {
        for state in ALL {
            assert_eq!(state.may_become(Removing), !state.is_active() && state != Removing);
        }
    }

    #[test]
    fn every_active_container_may_exit() {
        for state in ALL.into_iter().filter(|state| state.is_active()) {
            assert!(state.may_become(Exited), "{state:?}");
        }
    }
}
