//! Standard streams of init: pipes, of which the shim keeps the other ends.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use hull_wire::{Plan, Stdin, Step};
use nix::fcntl::OFlag;
use nix::sys::stat::{SFlag, fstat};
use nix::unistd::{Gid, Uid, fchown, pipe2};

use super::root::file_type;
use crate::failure::{At, Result};
use crate::sys::fd::set_nonblocking;

/// The shim's ends, which do not block.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    /// Writes to init's standard input.
    pub(crate) stdin: Option<OwnedFd>,
    /// Reads its standard output.
    pub(crate) stdout: Option<OwnedFd>,
    /// Reads its standard error.
    pub(crate) stderr: Option<OwnedFd>,
}

/// Makes the pipes: the shim's ends and the container's. None for a terminal, which init makes.
pub(crate) fn make(plan: &Plan, owner: Option<(u32, u32)>) -> Result<(Streams, [Option<OwnedFd>; 3])> {
    let mut ours = Streams::default();
    let mut theirs = [None, None, None];
    if plan.process.terminal.is_some() {
        return Ok((ours, theirs));
    }
    let pipe = || pipe2(OFlag::O_CLOEXEC).at(Step::Stdio, "making a pipe");
    if plan.stdin != Stdin::Null {
        let (read, write) = pipe()?;
        (ours.stdin, theirs[0]) = (Some(write), Some(read));
    }
    let (read, write) = pipe()?;
    (ours.stdout, theirs[1]) = (Some(read), Some(write));
    let (read, write) = pipe()?;
    (ours.stderr, theirs[2]) = (Some(read), Some(write));
    for end in [&ours.stdin, &ours.stdout, &ours.stderr].into_iter().flatten() {
        set_nonblocking(end.as_fd()).at(Step::Stdio, "O_NONBLOCK")?;
    }
    if let Some(owner) = owner {
        theirs.iter().flatten().for_each(|end| lend(end.as_fd(), owner));
    }
    Ok((ours, theirs))
}

/// Gives a pipe to root of a user namespace, which can then give it to the process's user; other files stay whose they are.
pub(crate) fn lend(stream: BorrowedFd<'_>, (uid, gid): (u32, u32)) {
    if fstat(stream).is_ok_and(|stat| file_type(&stat) == SFlag::S_IFIFO) {
        let _stays = fchown(stream, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
    }
}
