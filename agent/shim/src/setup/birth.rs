//! Making a process and hearing from it until it executes its program.
//!
//! ```text
//!   shim                                      child
//!     | -- clone3 ------------------------------> |
//!     | -- Go (with a user namespace, mapped) --> |   steps …
//!     | <------------- Ok(times) [terminal] ----- |   execve next
//!     | <---------------- end of file ----------- |   execve done, or: Err(failure), then the end
//! ```
//!
//! or, where others could see the child while it still carries what is the host's, with a midwife between them:
//!
//! ```text
//!   shim                      midwife                            child
//!     | -- clone3 ------------> |   steps …                        |
//!     |                         | -- clone, as a sibling --------> |
//!     | <-- Ok(pid) [terminal]- |   end                            |
//!     | -- Go -----------------------------------------------------> |
//!     | <--------------------------------------------- Ok(times) -- |   execve next
//! ```

use std::convert::Infallible;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use hull_wire::{Failure, Step, StepTime};
use nix::errno::Errno;
use nix::libc::POLLIN;
use nix::sched::CloneFlags;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::sys::wait::waitpid;
use nix::unistd::{Pid, close, write};
use serde::de::DeserializeOwned;

use crate::failure::{At, Result, failed};
use crate::startup::MAX_REQUEST;
use crate::sys;
use crate::sys::clone::{Child, Memory};
use crate::sys::fd::Poll;

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

/// Which one a process is after [`Parent::deliver`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// Its work is done.
    Midwife,
    /// It is the process that was to be made.
    Child,
}

/// Makes a process. `nurse` runs in the shim once there is a child (not before execve with borrowed memory, then it has to do
/// nothing that the child waits for); `body` runs in the child, ends in execve, and returns what went wrong.
pub(crate) fn give_birth(
    manner: Manner<'_>,
    nurse: impl FnOnce(&Child, BorrowedFd<'_>) -> Result<()>,
    mut body: impl FnMut(Parent<'_>) -> Failure,
) -> Result<Born> {
    let (child, ours) = make(manner, |parent| Some(body(parent)))?;
    match nurse(&child, ours.as_fd()).and_then(|()| hear(ours.as_fd())) {
        Ok((times, terminal)) => Ok(Born { child, times, terminal }),
        Err(failure) => {
            end(&child);
            Err(failure)
        }
    }
}

/// Makes a process by way of a midwife: `body` begins there, goes on in the process after [`Parent::deliver`], and returns nothing in
/// the midwife. `nurse` is the midwife's, see [`give_birth`].
pub(crate) fn give_birth_inside(
    manner: Manner<'_>,
    nurse: impl FnOnce(&Child, BorrowedFd<'_>) -> Result<()>,
    body: impl FnMut(Parent<'_>) -> Option<Failure>,
) -> Result<Born> {
    let (midwife, ours) = make(manner, body)?;
    if let Err(failure) = nurse(&midwife, ours.as_fd()) {
        end(&midwife);
        return Err(failure);
    }
    // It speaks before it ends. If it was killed in between, its child waits for a word that will not come, and ends.
    waitpid(midwife.pid, None).at(Step::Clone, "waiting for the midwife")?;
    let (pid, terminal) = hear_of_child(ours.as_fd())?;
    let pidfd = sys::process::open(pid).at(Step::Clone, "pidfd_open")?;
    let child = Child { pid, pidfd };
    match go(ours.as_fd(), Step::Clone).and_then(|()| hear(ours.as_fd())) {
        Ok((times, _)) => Ok(Born { child, times, terminal }),
        Err(failure) => {
            end(&child);
            Err(failure)
        }
    }
}

/// Makes a process that runs `body`, and the socket to hear from it.
fn make(manner: Manner<'_>, mut body: impl FnMut(Parent<'_>) -> Option<Failure>) -> Result<(Child, OwnedFd)> {
    let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
        .at(Step::Clone, "a socket")?;
    let child = sys::clone::clone(manner.memory, manner.namespaces, manner.cgroup, || -> Infallible {
        // The child's table of descriptors is its own: with this one open it would never see the shim's end.
        let _closed = close(ours.as_raw_fd());
        let Some(failure) = body(Parent(theirs.as_fd())) else { sys::process::end(0) };
        confess(&theirs, failure);
        sys::process::end(1)
    })
    .at(Step::Clone, "clone3")?;
    Ok((child, ours))
}

/// Ends a process that has failed.
fn end(child: &Child) {
    let _gone_already = sys::process::send_signal(child.pidfd.as_fd(), nix::libc::SIGKILL);
    let _reaped = waitpid(child.pid, None);
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
    let mut ready = None;
    while let Some((report, fd)) = hear_once::<Report>(socket)? {
        ready = Some((report?, fd));
    }
    ready.ok_or_else(silence)
}

/// What a midwife that has ended said of its child.
fn hear_of_child(socket: BorrowedFd<'_>) -> Result<(Pid, Option<OwnedFd>)> {
    let mut polls = [Poll::new(socket, POLLIN)];
    if !matches!(sys::fd::poll(&mut polls, 0), Ok(1..)) {
        return Err(silence());
    }
    let (pid, terminal) = hear_once::<std::result::Result<i32, Failure>>(socket)?.ok_or_else(silence)?;
    Ok((Pid::from_raw(pid?), terminal))
}

fn silence() -> Failure {
    failed(Step::Clone, Errno::ESRCH, "the process ended during its setup")
}

/// One packet and the descriptor in it; nothing at the end.
fn hear_once<T: DeserializeOwned>(socket: BorrowedFd<'_>) -> Result<Option<(T, Option<OwnedFd>)>> {
    let mut packet = [0; MAX_REQUEST];
    let (length, mut fds) = loop {
        match sys::packet::receive(socket, &mut packet) {
            Err(Errno::EINTR) => {}
            received => break received.at(Step::Clone, "hearing from the process")?,
        }
    };
    if length == 0 {
        return Ok(None);
    }
    let said =
        hull_wire::decode(&packet[..length]).map_err(|_| failed(Step::Clone, Errno::EBADMSG, "a malformed report"))?;
    Ok(Some((said, fds.pop())))
}

impl Parent<'_> {
    /// Waits until the parent has done its part, which is step `step`.
    pub(crate) fn wait_for_go(self, step: Step) -> Result<()> {
        match sys::packet::receive(self.0, &mut [0]) {
            Ok((1, _)) => Ok(()),
            Ok(_) => Err(failed(step, Errno::ECANCELED, "")),
            Err(errno) => Err(failed(step, errno, "waiting for the shim")),
        }
    }

    /// In a midwife: makes the child, a copy of the caller but for its descriptors, of which only the standard ones are left and the one
    /// to the parent; hands the parent the terminal's master side.
    pub(crate) fn deliver(self, terminal: Option<OwnedFd>) -> Result<Side> {
        let mut kept = [self.0.as_raw_fd(), terminal.as_ref().map_or(-1, AsRawFd::as_raw_fd)];
        sys::fd::close_all_but(&mut kept).at(Step::Exec, "closing descriptors")?;
        let Some(pid) = sys::clone::copy_as_sibling().at(Step::Clone, "a process in the container")? else {
            return Ok(Side::Child);
        };
        let said: std::result::Result<i32, Failure> = Ok(pid.as_raw());
        let packet = hull_wire::encode(&said).map_err(|_| failed(Step::Clone, Errno::ENOMEM, ""))?;
        sys::packet::send(self.0, &packet, terminal.as_ref().map(AsFd::as_fd), true).at(Step::Clone, "reporting")?;
        Ok(Side::Midwife)
    }

    /// Says that only execve is left.
    pub(crate) fn ready(self, times: Vec<StepTime>, terminal: Option<BorrowedFd<'_>>) -> Result<()> {
        let report: Report = Ok(times);
        let packet = hull_wire::encode(&report).map_err(|_| failed(Step::Exec, Errno::ENOMEM, ""))?;
        let said = match terminal {
            // Not send(2), as in `confess`.
            None => write(self.0, &packet).map(drop),
            Some(_) => sys::packet::send(self.0, &packet, terminal, true),
        };
        said.at(Step::Exec, "reporting")
    }
}

/// Lets a child that waits go on.
pub(crate) fn go(socket: BorrowedFd<'_>, step: Step) -> Result<()> {
    sys::packet::send(socket, &[1], None, true).at(step, "telling the process to go on")
}
