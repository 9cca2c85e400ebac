//! A shim without a container: it keeps the root of one that does not run mounted for as long as the agent wants it.

use std::os::fd::{AsFd, OwnedFd};

use hull_wire::{Outcome, Report};
use nix::errno::Errno;

use crate::failure::Result;
use crate::sys::packet;

/// Hands the root over, and waits until the agent closes the connection. What is mounted goes with the shim.
pub(crate) fn serve(agent: OwnedFd, seq: u64, root: Result<OwnedFd>) {
    let (outcome, root) = match root {
        Ok(root) => (Outcome::Root, Some(root)),
        Err(failure) => (Outcome::Failed(failure), None),
    };
    let Ok(report) = hull_wire::encode(&Report::Reply { seq, outcome }) else { return };
    if packet::send(agent.as_fd(), &report, root.as_ref().map(AsFd::as_fd), true).is_err() || root.is_none() {
        return;
    }
    // Nothing else is asked of it: any packet is an end, too.
    while matches!(packet::receive(agent.as_fd(), &mut [0]), Err(Errno::EINTR)) {}
}
