//! Making a process and hearing from it until it executes its program.
//!
//! ```text
//!   shim                                      child
//!     | -- clone3 ------------------------------> |
//!     | -- Go (with a user namespace, mapped) --> |   steps …
//!     | <------------- Ok(times) [terminal] ----- |   execve next
//!     | <---------------- end of file ----------- |   execve done, or: Err(failure), then the end
//! ```

use std::convert::Infallible;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use hull_wire::{Failure, Step, StepTime};
use nix::errno::Errno;
use nix::sched::CloneFlags;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::sys::wait::waitpid;
use nix::unistd::{close, write};

use crate::failure::{At, Result, failed};
use crate::startup::MAX_REQUEST;
use crate::sys;
use crate::sys::clone::{Child, Memory};

/// What a child says: the times of its steps, or what failed.
type Report = std::result::Result<Vec<StepTime>, Failure>;

/// A process that runs its program.
#[derive(Debug)]
pub(crate) struct Born {
    pub(crate) child: Child,
    pub(crate) times: Vec<StepTime>,
    /// Master side of its terminal.
    pub(crate) terminal: Option<OwnedFd>,
}

/// How a process is made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Manner<'a> {
    pub(crate) memory: Memory,
    pub(crate) namespaces: CloneFlags,
    pub(crate) cgroup: Option<BorrowedFd<'a>>,
}

/// The child's side of the socket.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Parent<'a>(BorrowedFd<'a>);

/// Makes a process. `nurse` runs in the shim once there is a child (not before execve with borrowed memory, then it has to do
/// nothing that the child waits for); `body` runs in the child, ends in execve, and returns what went wrong.
pub(crate) fn give_birth(
    manner: Manner<'_>,
    nurse: impl FnOnce(&Child, BorrowedFd<'_>) -> Result<()>,
    mut body: impl FnMut(Parent<'_>) -> Failure,
) -> Result<Born> {
    let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
        .at(Step::Clone, "a socket")?;
    let child = sys::clone::clone(manner.memory, manner.namespaces, manner.cgroup, || -> Infallible {
        // The child's table of descriptors is its own: with this one open it would never see the shim's end.
        let _closed = close(ours.as_raw_fd());
        confess(&theirs, body(Parent(theirs.as_fd())));
        sys::process::end(1)
    })
    .at(Step::Clone, "clone3")?;
    drop(theirs);
    let heard = nurse(&child, ours.as_fd()).and_then(|()| hear(ours.as_fd()));
    match heard {
        Ok((times, terminal)) => Ok(Born { child, times, terminal }),
        Err(failure) => {
            let _gone_already = sys::process::send_signal(child.pidfd.as_fd(), nix::libc::SIGKILL);
            let _reaped = waitpid(child.pid, None);
            Err(failure)
        }
    }
}

/// Tells the parent what failed; nothing is left allocated when the child ends.
fn confess(socket: &OwnedFd, failure: Failure) {
    let report: Report = Err(failure);
    if let Ok(packet) = hull_wire::encode(&report) {
        // Not send(2): a filter that is loaded already may know write(2) only.
        let _nobody_listens = write(socket, &packet);
    }
}

/// Listens until the child's side closes.
fn hear(socket: BorrowedFd<'_>) -> Result<(Vec<StepTime>, Option<OwnedFd>)> {
    let mut packet = [0; MAX_REQUEST];
    let mut ready = None;
    loop {
        let (length, mut fds) = match sys::packet::receive(socket, &mut packet) {
            Err(Errno::EINTR) => continue,
            received => received.at(Step::Clone, "hearing from the process")?,
        };
        if length == 0 {
            return ready.ok_or_else(|| failed(Step::Clone, Errno::ESRCH, "the process ended during its setup"));
        }
        let report: Report = hull_wire::decode(&packet[..length])
            .map_err(|_| failed(Step::Clone, Errno::EBADMSG, "a malformed report"))?;
        ready = Some((report?, fds.pop()));
    }
}

impl Parent<'_> {
    /// Waits until the parent has done its part.
    pub(crate) fn wait_for_go(self) -> Result<()> {
        match sys::packet::receive(self.0, &mut [0]) {
            Ok((1, _)) => Ok(()),
            Ok(_) => Err(failed(Step::UserNamespace, Errno::ECANCELED, "")),
            Err(errno) => Err(failed(Step::UserNamespace, errno, "waiting for id maps")),
        }
    }

    /// Says that only execve is left.
    pub(crate) fn ready(self, times: Vec<StepTime>, terminal: Option<BorrowedFd<'_>>) -> Result<()> {
        let report: Report = Ok(times);
        let packet = hull_wire::encode(&report).map_err(|_| failed(Step::Exec, Errno::ENOMEM, ""))?;
        sys::packet::send(self.0, &packet, terminal, true).at(Step::Exec, "reporting")
    }
}

/// Lets a child that waits go on.
pub(crate) fn go(socket: BorrowedFd<'_>) -> Result<()> {
    sys::packet::send(socket, &[1], None, true).at(Step::UserNamespace, "telling the process to go on")
}
