//! A further process in a running container. Whoever is in there sees it from its first moment on, and with CAP_SYS_PTRACE in the
//! host's user namespace may take it over; so a midwife, whom nobody inside sees, goes through everything that needs the host, and the
//! process that it then makes carries nothing but what belongs to the container.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use hull_wire::{ProcessPlan, Step};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sched::{CloneFlags, setns};
use nix::sys::stat::Mode;
use nix::unistd::setsid;

use super::birth::{Born, Manner, Parent, Side, give_birth_inside, go};
use super::init::enter_groups;
use super::process::{become_mapped_root, become_process, load_filter, set_standard_streams};
use super::program::Program;
use super::root::Root;
use super::stdio::lend;
use super::{kernel, terminal};
use crate::failure::{At, Clock, Result, nanos};
use crate::sys;
use crate::sys::clone::Memory;

/// Bit of the capability that gets its holder into every process that it sees, see capabilities(7). Where it is, the filter has to be
/// loaded before the process is seen, and then also has to let it be made: clone(2), setsid(2), recvmsg(2).
const CAP_SYS_PTRACE: u64 = 1 << 19;

/// What execs need of the container, kept open so that each needs no path.
#[derive(Debug)]
pub(crate) struct Entrance {
    /// Refers to init.
    pub(crate) init: OwnedFd,
    /// Namespaces of init that are not the shim's.
    pub(crate) namespaces: CloneFlags,
    /// The group of the version 2 hierarchy.
    pub(crate) unified: Option<OwnedFd>,
    /// `tasks` files of the version 1 hierarchies.
    pub(crate) tasks: Vec<OwnedFd>,
    /// Host ids of root in the container's user namespace, if it has one.
    pub(crate) mapped_root: Option<(u32, u32)>,
    pub(crate) memory: Memory,
}

/// Starts a process in the container; `streams`: its standard ones, none with a terminal.
pub(crate) fn start(entrance: &Entrance, plan: &ProcessPlan, streams: &[OwnedFd]) -> Result<Born> {
    let mut program = Program::new(plan)?;
    let streams: Option<&[OwnedFd; 3]> = streams.try_into().ok();
    if streams.is_none() && plan.terminal.is_none() {
        return Err(crate::failure::failed(
            Step::Plan,
            Errno::EINVAL,
            "an exec without terminal needs three descriptors",
        ));
    }
    if let (Some(owner), Some(streams)) = (entrance.mapped_root, streams) {
        streams.iter().for_each(|stream| lend(stream.as_fd(), owner));
    }
    let since = nanos(nix::time::ClockId::CLOCK_MONOTONIC);
    // In a user namespace only the shim may still set the OOM adjustment, so the process waits for that.
    let from_outside = plan.oom_score_adj.filter(|_| entrance.mapped_root.is_some());
    let manner = Manner {
        memory: if from_outside.is_some() { Memory::Copy } else { entrance.memory },
        namespaces: CloneFlags::empty(),
        cgroup: entrance.unified.as_ref().map(AsFd::as_fd),
    };
    let nurse = |midwife: &sys::clone::Child, socket: BorrowedFd<'_>| {
        let Some(adjustment) = from_outside else { return Ok(()) };
        kernel::set_oom_score(Some(midwife.pid), adjustment)?;
        go(socket, Step::OomScore)
    };
    give_birth_inside(manner, nurse, |parent| match prepare(entrance, plan, streams, since, &mut program, parent) {
        Ok(Side::Midwife) => None,
        Ok(Side::Child) => Some(program.execute()),
        Err(failure) => Some(failure),
    })
}

/// What needs the host's world or its privileges, in the midwife; then, in the child, what only the process itself can do.
fn prepare(
    entrance: &Entrance,
    plan: &ProcessPlan,
    streams: Option<&[OwnedFd; 3]>,
    since: u64,
    program: &mut Program,
    parent: Parent<'_>,
) -> Result<Side> {
    let mut clock = Clock::since(since);
    clock.lap(Step::Clone);
    enter_groups(&entrance.tasks)?;
    clock.lap(Step::EnterCgroup);
    sys::process::release_signals();
    match (plan.oom_score_adj, entrance.mapped_root) {
        (Some(_), Some(_)) => parent.wait_for_go(Step::OomScore)?,
        (Some(adjustment), None) => kernel::set_oom_score(None, adjustment)?,
        (None, _) => {}
    }
    clock.lap(Step::OomScore);
    enter_namespaces(entrance)?;
    clock.lap(Step::Namespaces);
    let master = dress(plan, streams, program, &mut clock)?;
    let is_exposed = plan.capabilities.permitted & CAP_SYS_PTRACE != 0;
    if is_exposed {
        load_filter(plan, &mut clock)?;
    }
    if parent.deliver(master)? == Side::Midwife {
        return Ok(Side::Midwife);
    }
    let _leads_already = setsid();
    if plan.terminal.is_some() {
        terminal::control()?;
    }
    parent.wait_for_go(Step::Clone)?;
    if !is_exposed {
        load_filter(plan, &mut clock)?;
    }
    parent.ready(clock.into_times(), None)?;
    Ok(Side::Child)
}

fn enter_namespaces(entrance: &Entrance) -> Result<()> {
    let step = Step::Namespaces;
    let mut namespaces = entrance.namespaces;
    // The first of them, for it may belong to another user namespace; the caller's children are born into it.
    if namespaces.contains(CloneFlags::CLONE_NEWPID) {
        setns(&entrance.init, CloneFlags::CLONE_NEWPID)
            .at(step, "entering the pid namespace of the container's init")?;
        namespaces.remove(CloneFlags::CLONE_NEWPID);
    }
    setns(&entrance.init, namespaces).at(step, "entering those of the container's init")?;
    if entrance.mapped_root.is_some() {
        become_mapped_root()?;
    }
    Ok(())
}

/// Standard streams and everything that the plan says of the process; returns the master side of its terminal.
fn dress(
    plan: &ProcessPlan,
    streams: Option<&[OwnedFd; 3]>,
    program: &mut Program,
    clock: &mut Clock,
) -> Result<Option<OwnedFd>> {
    let root = open("/", OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty());
    let root = Root::new(root.at(Step::Namespaces, "the container's root")?);
    let master = match (plan.terminal, streams) {
        (None, Some([input, output, error])) => {
            set_standard_streams([input.as_fd(), output.as_fd(), error.as_fd()])?;
            None
        }
        (size, _) => Some(terminal::take(&root, size.unwrap_or_default())?.0),
    };
    clock.lap(Step::Stdio);
    become_process(plan, &root, program, clock)?;
    Ok(master)
}
