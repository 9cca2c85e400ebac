//! From a fresh process to a shim that waits for its plan.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use hull_wire::{AttachPipes, Plan, Request, RequestBody, Step, ViewPlan};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl, open};
use nix::sys::prctl;
use nix::sys::stat::{Mode, fstat, umask};
use nix::unistd::{chdir, setsid};
use serde::de::DeserializeOwned;

use crate::failure::{Result, failed};
use crate::sys;

/// Most bytes of a plan.
const MAX_PLAN: i64 = 4 << 20;
/// Requests themselves are small; what is large comes in a memfd.
pub(crate) const MAX_REQUEST: usize = 4096;

/// What a shim is for: the first request says it.
#[derive(Debug)]
pub(crate) enum Order {
    Setup(Box<SetupRequest>),
    View { seq: u64, plan: Result<ViewPlan> },
}

/// The one Setup.
#[derive(Debug)]
pub(crate) struct SetupRequest {
    pub(crate) seq: u64,
    /// The plan and the socket to listen on, or why they cannot be obeyed.
    pub(crate) order: Result<(Plan, OwnedFd)>,
    pub(crate) attach: Option<(AttachPipes, Vec<OwnedFd>)>,
}

/// Makes the process independent of what its parent was, and takes the control socket from descriptor 0.
pub(crate) fn become_shim() -> std::result::Result<OwnedFd, (&'static str, Errno)> {
    let step = |what: &'static str| move |errno| (what, errno);
    prctl::set_dumpable(false).map_err(step("PR_SET_DUMPABLE"))?;
    prctl::set_name(c"hull-shim").map_err(step("PR_SET_NAME"))?;
    prctl::set_child_subreaper(true).map_err(step("PR_SET_CHILD_SUBREAPER"))?;
    sys::fd::close_inherited().map_err(step("close_range"))?;
    sys::process::reset_signals();
    sys::process::hold_signals();
    // EPERM: it leads a session or group already.
    let _leads_already = setsid();
    chdir("/").map_err(step("chdir /"))?;
    umask(Mode::empty());
    // Init and execs share one session keyring that is not the host's. ENOSYS: the kernel has none.
    match sys::process::new_session_keyring() {
        Ok(()) | Err(Errno::ENOSYS) => {}
        Err(errno) => return Err(("joining a session keyring", errno)),
    }
    take_control_socket().map_err(step("taking the control socket from descriptor 0"))
}

fn take_control_socket() -> nix::Result<OwnedFd> {
    let stdin = std::io::stdin();
    let agent = stdin.as_fd().try_clone_to_owned().map_err(|_| Errno::EBADF)?;
    fcntl(&agent, FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC))?;
    let null = open("/dev/null", OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty())?;
    sys::fd::make_standard(null.as_fd(), 0)?;
    Ok(agent)
}

/// Waits for the first request; `None`: the agent closed the socket and needs no shim.
pub(crate) fn wait_for_order(agent: &OwnedFd) -> nix::Result<Option<Order>> {
    let mut packet = [0; MAX_REQUEST];
    let (length, fds) = loop {
        match sys::packet::receive(agent.as_fd(), &mut packet) {
            Err(Errno::EINTR) => {}
            Err(Errno::ECONNRESET) => return Ok(None),
            received => break received?,
        }
    };
    if length == 0 {
        return Ok(None);
    }
    let request: Request = hull_wire::decode(&packet[..length]).map_err(|_| Errno::EBADMSG)?;
    let mut fds = fds.into_iter();
    let attach = match request.body {
        RequestBody::Setup { attach } => attach,
        RequestBody::View => return Ok(Some(Order::View { seq: request.seq, plan: read_plan(fds.next()) })),
        _ => return Err(Errno::EPROTO),
    };
    let plan = read_plan(fds.next());
    let listener = fds.next().ok_or_else(|| failed(Step::Plan, Errno::EBADF, "the listening socket"));
    let mut order = plan.and_then(|plan| Ok((plan, listener?)));
    let pipes: Vec<OwnedFd> = fds.collect();
    if pipes.len() != attach.map_or(0, AttachPipes::count) {
        order = Err(failed(Step::Plan, Errno::EBADF, "descriptors of the attachment"));
    }
    let attach = attach.map(|which| (which, pipes));
    Ok(Some(Order::Setup(Box::new(SetupRequest { seq: request.seq, order, attach }))))
}

/// Reads a plan from its memfd.
pub(crate) fn read_plan<T: DeserializeOwned>(fd: Option<OwnedFd>) -> Result<T> {
    let at = |errno| failed(Step::Plan, errno, "the plan's memfd");
    let bytes = read_memfd(fd.ok_or_else(|| at(Errno::EBADF))?.as_fd()).map_err(at)?;
    hull_wire::decode(&bytes).map_err(|error| failed(Step::Plan, Errno::EBADMSG, &error.to_string()))
}

/// Reads a memfd from its start, whatever its offset.
fn read_memfd(fd: BorrowedFd<'_>) -> nix::Result<Vec<u8>> {
    let size = fstat(fd)?.st_size;
    if size > MAX_PLAN {
        return Err(Errno::EFBIG);
    }
    let mut bytes = vec![0; usize::try_from(size).unwrap_or_default()];
    let mut filled = 0;
    while filled < bytes.len() {
        let offset = i64::try_from(filled).unwrap_or(i64::MAX);
        match nix::sys::uio::pread(fd, &mut bytes[filled..], offset) {
            Ok(0) => break,
            Ok(more) => filled += more,
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}
