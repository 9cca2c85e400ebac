//! A further process in a running container.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use hull_wire::{Failure, ProcessPlan, Step};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sched::{CloneFlags, setns};
use nix::sys::stat::Mode;
use nix::unistd::setsid;

use super::birth::{Born, Manner, Parent, give_birth, go};
use super::init::enter_groups;
use super::process::{become_mapped_root, become_process, set_standard_streams};
use super::program::Program;
use super::root::Root;
use super::stdio::lend;
use super::{kernel, terminal};
use crate::failure::{At, Clock, Result, nanos};
use crate::sys;
use crate::sys::clone::Memory;

/// What execs need of the container, kept open so that each is one clone3 and one setns.
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
    let nurse = |child: &sys::clone::Child, socket: BorrowedFd<'_>| {
        let Some(adjustment) = from_outside else { return Ok(()) };
        kernel::set_oom_score(Some(child.pid), adjustment)?;
        go(socket)
    };
    give_birth(manner, nurse, |parent| run(entrance, plan, streams, since, &mut program, parent))
}

fn run(
    entrance: &Entrance,
    plan: &ProcessPlan,
    streams: Option<&[OwnedFd; 3]>,
    since: u64,
    program: &mut Program,
    parent: Parent<'_>,
) -> Failure {
    match prepare(entrance, plan, streams, since, program, parent) {
        Ok(()) => program.execute(),
        Err(failure) => failure,
    }
}

fn prepare(
    entrance: &Entrance,
    plan: &ProcessPlan,
    streams: Option<&[OwnedFd; 3]>,
    since: u64,
    program: &mut Program,
    parent: Parent<'_>,
) -> Result<()> {
    let mut clock = Clock::since(since);
    clock.lap(Step::Clone);
    enter_groups(&entrance.tasks)?;
    clock.lap(Step::EnterCgroup);
    sys::process::release_signals();
    let _leads_already = setsid();
    match (plan.oom_score_adj, entrance.mapped_root) {
        (Some(_), Some(_)) => parent.wait_for_go()?,
        (Some(adjustment), None) => kernel::set_oom_score(None, adjustment)?,
        (None, _) => {}
    }
    clock.lap(Step::OomScore);
    setns(&entrance.init, entrance.namespaces).at(Step::Namespaces, "entering those of the container's init")?;
    if entrance.mapped_root.is_some() {
        become_mapped_root()?;
    }
    clock.lap(Step::Namespaces);
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
    become_process(plan, &root, program, &mut clock)?;
    parent.ready(clock.into_times(), master.as_ref().map(AsFd::as_fd))
}
