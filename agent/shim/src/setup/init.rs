//! Init between clone and exec: from the host's world into the container's.

use std::os::fd::{AsFd, OwnedFd};

use hull_wire::{Failure, Namespace, Plan, Step, mount_flags};
use nix::fcntl::{OFlag, open};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::unshare;
use nix::sys::stat::Mode;
use nix::unistd::{chdir, fchdir, pivot_root, sethostname, setsid, write};

use super::birth::Parent;
use super::process::{become_mapped_root, become_process, load_filter, set_standard_streams};
use super::program::Program;
use super::root::{Kind, Root, is_null_device};
use super::sources::Source;
use super::{devices, files, kernel, mask, mounts, namespaces, terminal};
use crate::failure::{At, Clock, Result};
use crate::sys;
use crate::sys::mount::{Attributes, attach, set_attributes};

/// What the shim has prepared for init. It belongs to the shim: init only borrows it.
#[derive(Debug)]
pub(crate) struct Prepared<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) overlay: OwnedFd,
    pub(crate) sources: Vec<Source>,
    pub(crate) devices: Vec<OwnedFd>,
    pub(crate) tasks: &'a [OwnedFd],
    /// The container's ends of its standard streams; `None`: /dev/null.
    pub(crate) streams: [Option<OwnedFd>; 3],
    /// Whether init is born into a network namespace whose loopback interface is up already.
    pub(crate) loopback_is_up: bool,
    /// When the shim began to make the process.
    pub(crate) since: u64,
}

/// Everything up to the user's program; returns what went wrong.
pub(crate) fn run(prepared: &Prepared<'_>, program: &mut Program, parent: Parent<'_>) -> Failure {
    match prepare(prepared, program, parent) {
        Ok(()) => program.execute(),
        Err(failure) => failure,
    }
}

fn prepare(prepared: &Prepared<'_>, program: &mut Program, parent: Parent<'_>) -> Result<()> {
    let plan = prepared.plan;
    let mut clock = Clock::since(prepared.since);
    clock.lap(Step::Clone);
    enter_groups(prepared.tasks)?;
    clock.lap(Step::EnterCgroup);
    enter_namespaces(plan, parent, &mut clock)?;
    let (root, host) = attach_root(&prepared.overlay)?;
    clock.lap(Step::Rootfs);
    for (mount, source) in plan.mounts.iter().zip(&prepared.sources) {
        mounts::place(&root, mount, source)?;
    }
    clock.lap(Step::Mount);
    devices::make(&root, &plan.devices, &prepared.devices)?;
    devices::link(&root, &plan.symlinks)?;
    clock.lap(Step::Devices);
    files::generate(&root, &plan.files, host.as_fd())?;
    clock.lap(Step::Files);
    kernel::set_parameters(&plan.sysctls)?;
    clock.lap(Step::Sysctl);
    name_host(plan)?;
    clock.lap(Step::Hostname);
    if plan.namespaces.network == Namespace::New && !prepared.loopback_is_up {
        sys::link::loopback_up().at(Step::Loopback, "lo")?;
    }
    clock.lap(Step::Loopback);
    let master = take_streams(&root, plan, &prepared.streams)?;
    clock.lap(Step::Stdio);
    root.find_or_make(&plan.process.cwd, Kind::Directory).at(Step::Cwd, &plan.process.cwd)?;
    mask::hide(&root, &plan.masked_paths)?;
    clock.lap(Step::Mask);
    mask::make_read_only(&root, &plan.readonly_paths)?;
    clock.lap(Step::Readonly);
    enter_root(&root, plan.rootfs.read_only)?;
    clock.lap(Step::Pivot);
    become_process(&plan.process, &root, program, &mut clock)?;
    load_filter(&plan.process, &mut clock)?;
    sys::fd::close_on_exec().at(Step::Exec, "closing descriptors")?;
    parent.ready(clock.into_times(), master.as_ref().map(AsFd::as_fd))
}

/// Enters version 1 groups through their `tasks` files: `cgroup.procs` would wait for an RCU grace period, some 15 ms.
pub(crate) fn enter_groups(tasks: &[OwnedFd]) -> Result<()> {
    for file in tasks {
        write(file, b"0").at(Step::EnterCgroup, "writing to a tasks file")?;
    }
    Ok(())
}

fn enter_namespaces(plan: &Plan, parent: Parent<'_>, clock: &mut Clock) -> Result<()> {
    sys::process::release_signals();
    let _leads_already = setsid();
    if plan.namespaces.user.is_some() {
        parent.wait_for_go(Step::UserNamespace)?;
        become_mapped_root()?;
        clock.lap(Step::UserNamespace);
    } else if let Some(adjustment) = plan.process.oom_score_adj {
        kernel::set_oom_score(None, adjustment)?;
        clock.lap(Step::OomScore);
    }
    let own = namespaces::made_by_init(&plan.namespaces);
    if !own.is_empty() {
        unshare(own).at(Step::Namespaces, "making a cgroup or ipc namespace")?;
    }
    clock.lap(Step::Namespaces);
    Ok(())
}

/// Attaches the overlay over the host's root, in a mount namespace of the caller's own: the one directory that is there on every host and
/// that every user namespace may look at. Returns the container's root and the host's.
pub(super) fn attach_root(overlay: &OwnedFd) -> Result<(Root, OwnedFd)> {
    let step = Step::Rootfs;
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).at(step, "making the host's mounts private")?;
    let host = open("/", OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty()).at(step, "/")?;
    attach(overlay.as_fd(), host.as_fd()).at(step, "attaching the root")?;
    let root = overlay.try_clone().map_err(|error| super::userns::io(&error)).at(step, "the root's descriptor")?;
    Ok((Root::new(root), host))
}

fn name_host(plan: &Plan) -> Result<()> {
    if let Some(name) = &plan.hostname {
        sethostname(name).at(Step::Hostname, name)?;
    }
    if let Some(name) = &plan.domainname {
        sys::process::set_domain_name(name).at(Step::Hostname, name)?;
    }
    Ok(())
}

/// Makes standard streams of pipes, of the null device or of a new terminal, whose master side it returns.
fn take_streams(root: &Root, plan: &Plan, streams: &[Option<OwnedFd>; 3]) -> Result<Option<OwnedFd>> {
    if let Some(size) = plan.process.terminal {
        let (master, slave) = terminal::take(root, size)?;
        terminal::control()?;
        terminal::bind_console(root, &slave)?;
        return Ok(Some(master));
    }
    // The container's own null device, so that /proc/self/fd/0 shows no mount of the host's; the shim's where there is none.
    let null = match root.open("/dev/null", OFlag::O_RDWR | OFlag::O_NOFOLLOW) {
        Ok(null) if is_null_device(null.as_fd()) => null,
        _ => open("/dev/null", OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty()).at(Step::Stdio, "/dev/null")?,
    };
    set_standard_streams(streams.each_ref().map(|stream| stream.as_ref().unwrap_or(&null).as_fd()))?;
    Ok(None)
}

/// Makes the container's root the root, and lets go of the host's.
pub(super) fn enter_root(root: &Root, read_only: bool) -> Result<()> {
    let step = Step::Pivot;
    if read_only {
        let attributes = Attributes { set: mount_flags::RDONLY, ..Attributes::default() };
        set_attributes(root.as_fd(), attributes, false).at(Step::Rootfs, "making the root read-only")?;
    }
    fchdir(root.as_fd()).at(step, "entering the root")?;
    // With both the same, the old root is stacked on the new one, see pivot_root(2).
    pivot_root(".", ".").at(step, "pivot_root")?;
    umount2(".", MntFlags::MNT_DETACH).at(step, "detaching the host's root")?;
    chdir("/").at(step, "/")
}
