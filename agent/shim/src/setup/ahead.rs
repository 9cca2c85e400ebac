//! What is made before there is a plan: a network namespace with its loopback interface up. It is the one step of a start that
//! nearly every container has and that takes the kernel half a millisecond; a waiting shim has that time.

use std::os::fd::OwnedFd;

use nix::fcntl::{OFlag, open};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::stat::Mode;

use crate::sys;

/// A network namespace that nobody is in. It vanishes with its descriptor where the plan has no use for it.
#[derive(Debug)]
pub(crate) struct NetworkAhead {
    /// The namespace.
    pub(super) made: OwnedFd,
    /// The shim's own, to return to.
    pub(super) home: OwnedFd,
}

/// Makes a network namespace. `None` where that does not work: init then tries itself, and says what is wrong.
///
/// # Errors
/// If the shim cannot return to its own namespace.
pub(crate) fn network() -> nix::Result<Option<NetworkAhead>> {
    let current = || open("/proc/self/ns/net", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty());
    let Ok(home) = current() else { return Ok(None) };
    if unshare(CloneFlags::CLONE_NEWNET).is_err() {
        return Ok(None);
    }
    let made = sys::link::loopback_up().and_then(|()| current());
    setns(&home, CloneFlags::CLONE_NEWNET)?;
    Ok(made.ok().map(|made| NetworkAhead { made, home }))
}
