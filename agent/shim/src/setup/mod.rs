//! From plan to running container: the list of steps. What needs the host is done here, in the shim, and held by descriptor; what
//! needs the container is done by init itself, in `init`.

pub(crate) mod ahead;
mod birth;
mod cgroup;
mod devices;
pub(crate) mod exec;
mod files;
mod init;
mod kernel;
mod mask;
mod mounts;
mod namespaces;
mod process;
mod program;
mod root;
mod rootfs;
pub(crate) mod run_dir;
mod sources;
mod stdio;
mod terminal;
mod user;
mod userns;
pub(crate) mod view;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use hull_wire::{IdMap, PROTOCOL_VERSION, Plan, Stdin, Step, StepTime, UserNamespace};
use nix::sched::CloneFlags;
use nix::sys::wait::waitpid;
use nix::time::ClockId;

use self::ahead::NetworkAhead;
use self::birth::{Born, Manner, give_birth, go};
use self::cgroup::Groups;
pub(crate) use self::cgroup::OomCounter;
use self::exec::Entrance;
use self::init::Prepared;
use self::program::Program;
pub(crate) use self::stdio::Streams;
use crate::failure::{At, Clock, Result, nanos, refused};
use crate::log::{Files, Log};
use crate::sys;
use crate::sys::clone::{Child, Memory};

/// A container whose init runs the user's program.
#[derive(Debug)]
pub(crate) struct Container {
    /// Process id of init.
    pub(crate) pid: nix::unistd::Pid,
    /// The steps and how long each took.
    pub(crate) times: Vec<StepTime>,
    /// The shim's ends of init's streams.
    pub(crate) streams: Streams,
    /// The terminal, instead of streams: its master side and, so that it never hangs up, the other one.
    pub(crate) terminal: Option<(OwnedFd, OwnedFd)>,
    /// What becomes of standard input.
    pub(crate) stdin: Stdin,
    pub(crate) log: Log,
    pub(crate) run_dir: OwnedFd,
    /// The root file system. Unmounting it syncs the whole file system that the writable layer is on, which init's end would wait
    /// for if init were the last to hold it.
    pub(crate) rootfs: OwnedFd,
    pub(crate) listener: OwnedFd,
    pub(crate) oom: OomCounter,
    /// How further processes get in.
    pub(crate) entrance: Entrance,
}

/// Makes the container of the plan; `listener` is the socket in its run directory, made by the agent. On failure nothing is left
/// of it.
pub(crate) fn start(plan: &Plan, listener: OwnedFd, network: Option<NetworkAhead>) -> Result<Container> {
    let mut clock = Clock::since(nanos(ClockId::CLOCK_MONOTONIC));
    let run_dir = run_dir::open_directory(&plan.run_dir)?;
    let files = plan.log.as_ref().map(Files::open).transpose();
    clock.lap(Step::RunDir);
    let running = files.and_then(|files| Ok((files, run(plan, network, &mut clock)?)));
    let (files, running) = running.inspect_err(|_| run_dir::remove_socket(&run_dir))?;
    let log = Log::new(files, plan.log.as_ref().and_then(|log| log.rate));
    let Running { child, child_times, streams, terminal, groups, mapped_root, rootfs } = running;
    let mut times = clock.into_times();
    times.extend(child_times);
    let entrance = Entrance {
        init: child.pidfd,
        namespaces: namespaces::entered_by_exec(&plan.namespaces),
        unified: groups.unified,
        tasks: groups.tasks,
        mapped_root,
        memory: if plan.namespaces.time.is_some() { Memory::Copy } else { Memory::Borrow },
    };
    let (pid, stdin, oom) = (child.pid, plan.stdin, groups.oom);
    Ok(Container { pid, times, streams, terminal, stdin, log, run_dir, rootfs, listener, oom, entrance })
}

/// What is there once init runs.
struct Running {
    child: Child,
    child_times: Vec<StepTime>,
    streams: Streams,
    terminal: Option<(OwnedFd, OwnedFd)>,
    groups: Groups,
    mapped_root: Option<(u32, u32)>,
    rootfs: OwnedFd,
}

fn run(plan: &Plan, network: Option<NetworkAhead>, clock: &mut Clock) -> Result<Running> {
    if plan.version != PROTOCOL_VERSION {
        return Err(refused(Step::Plan, format!("version {} instead of {PROTOCOL_VERSION}", plan.version)));
    }
    let mut program = Program::new(&plan.process)?;
    clock.lap(Step::Plan);
    let groups = cgroup::open_groups(&plan.cgroup)?;
    clock.lap(Step::DeviceFilter);
    let mapped_root = plan.namespaces.user.as_ref().map(mapped_root).transpose()?;
    let ids = plan.namespaces.user.as_ref().map(userns::hold).transpose()?;
    clock.lap(Step::UserNamespace);
    let (streams, theirs) = stdio::make(plan, mapped_root)?;
    clock.lap(Step::Stdio);
    let mut prepared = prepare(plan, ids.as_ref().map(AsFd::as_fd), &groups, theirs, clock)?;
    let joined = namespaces::join(&plan.namespaces, network)?;
    plan.namespaces.time.map(namespaces::set_time).transpose()?;
    clock.lap(Step::TimeNamespace);
    prepared.since = clock.last();
    prepared.loopback_is_up = joined.network_is_new;
    let born_into = namespaces::born_into(&plan.namespaces, &joined);
    let Born { child, times: child_times, terminal } = make_init(born_into, &prepared, &groups, &mut program)?;
    let rootfs = prepared.overlay;
    match joined.leave().and_then(|()| adopt(terminal)) {
        Ok(terminal) => Ok(Running { child, child_times, streams, terminal, groups, mapped_root, rootfs }),
        Err(failure) => {
            let _gone_already = sys::process::send_signal(child.pidfd.as_fd(), nix::libc::SIGKILL);
            let _reaped = waitpid(child.pid, None);
            Err(failure)
        }
    }
}

/// Takes from the host what init will need, as descriptors.
fn prepare<'a>(
    plan: &'a Plan,
    ids: Option<BorrowedFd<'_>>,
    groups: &'a Groups,
    streams: [Option<OwnedFd>; 3],
    clock: &mut Clock,
) -> Result<Prepared<'a>> {
    let sources = plan.mounts.iter().map(|mount| sources::take(mount, ids)).collect::<Result<_>>()?;
    clock.lap(Step::Mount);
    let devices = match ids {
        Some(_) => plan.devices.iter().map(sources::device).collect::<Result<_>>()?,
        None => Vec::new(),
    };
    clock.lap(Step::Devices);
    let overlay = rootfs::overlay(&plan.rootfs, &plan.run_dir, ids)?;
    clock.lap(Step::Rootfs);
    Ok(Prepared { plan, overlay, sources, devices, tasks: &groups.tasks, streams, loopback_is_up: false, since: 0 })
}

fn make_init(namespaces: CloneFlags, prepared: &Prepared<'_>, groups: &Groups, program: &mut Program) -> Result<Born> {
    let plan = prepared.plan;
    let user = plan.namespaces.user.as_ref();
    let manner = Manner {
        // With memory borrowed, the shim could not write id maps meanwhile, and no time namespace would be entered.
        memory: if user.is_some() || plan.namespaces.time.is_some() { Memory::Copy } else { Memory::Borrow },
        namespaces,
        cgroup: groups.unified.as_ref().map(AsFd::as_fd),
    };
    let nurse = |child: &Child, socket: BorrowedFd<'_>| {
        let Some(user) = user else { return Ok(()) };
        userns::write_maps(child.pid, user)?;
        if let Some(adjustment) = plan.process.oom_score_adj {
            kernel::set_oom_score(Some(child.pid), adjustment)?;
        }
        go(socket, Step::UserNamespace)
    };
    give_birth(manner, nurse, |parent| init::run(prepared, program, parent))
}

/// Readies the shim for a life beside init: it holds the other side of the terminal, too.
fn adopt(master: Option<OwnedFd>) -> Result<Option<(OwnedFd, OwnedFd)>> {
    let Some(master) = master else { return Ok(None) };
    sys::fd::set_nonblocking(master.as_fd()).at(Step::Stdio, "O_NONBLOCK")?;
    let slave = sys::terminal::open_peer(master.as_fd()).at(Step::Stdio, "the terminal's other side")?;
    Ok(Some((master, slave)))
}

/// Host ids of root in a user namespace.
fn mapped_root(user: &UserNamespace) -> Result<(u32, u32)> {
    let host = |maps: &[IdMap]| maps.iter().find(|map| map.container == 0 && map.size > 0).map(|map| map.host);
    host(&user.uid_maps)
        .zip(host(&user.gid_maps))
        .ok_or_else(|| refused(Step::UserNamespace, "the id maps lack id 0 of the container"))
}
