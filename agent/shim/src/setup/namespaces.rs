//! Which namespaces a container gets, and stepping into those of others.

use std::os::fd::OwnedFd;

use hull_wire::{Namespace, Namespaces, Step, TimeOffsets};
use nix::fcntl::{OFlag, open};
use nix::libc;
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::stat::Mode;

use super::ahead::NetworkAhead;
use crate::failure::{At, Result};

const NANOS: i64 = 1_000_000_000;
/// Missing in nix.
const CLONE_NEWTIME: CloneFlags = CloneFlags::from_bits_retain(libc::CLONE_NEWTIME);

/// Flag, name below /proc/self/ns, and whose, of the kinds that can be joined before init is made.
fn kinds(plan: &Namespaces) -> [(CloneFlags, &'static str, &Namespace); 5] {
    [
        (CloneFlags::CLONE_NEWPID, "pid_for_children", &plan.pid),
        (CloneFlags::CLONE_NEWNET, "net", &plan.network),
        (CloneFlags::CLONE_NEWIPC, "ipc", &plan.ipc),
        (CloneFlags::CLONE_NEWUTS, "uts", &plan.uts),
        (CloneFlags::CLONE_NEWCGROUP, "cgroup", &plan.cgroup),
    ]
}

/// The namespaces that are made with init.
pub(crate) fn born_into(plan: &Namespaces, joined: &Joined) -> CloneFlags {
    let mut flags = CloneFlags::CLONE_NEWNS;
    for (flag, _, namespace) in kinds(plan) {
        let made = flag == CloneFlags::CLONE_NEWNET && joined.network_is_new;
        flags.set(flag, *namespace == Namespace::New && !made);
    }
    flags.set(CloneFlags::CLONE_NEWUSER, plan.user.is_some());
    flags & !made_by_init(plan)
}

/// The namespaces that init makes when it has entered its groups and is root of its user namespace: the root of a cgroup namespace
/// is where its maker is, and the message queues' file system of an ipc namespace belongs to its maker.
pub(crate) fn made_by_init(plan: &Namespaces) -> CloneFlags {
    let mut flags = CloneFlags::empty();
    flags.set(CloneFlags::CLONE_NEWCGROUP, plan.cgroup == Namespace::New);
    flags.set(CloneFlags::CLONE_NEWIPC, plan.ipc == Namespace::New && plan.user.is_some());
    flags
}

/// The namespaces in which init differs from the shim, for execs.
pub(crate) fn entered_by_exec(plan: &Namespaces) -> CloneFlags {
    let mut flags = CloneFlags::CLONE_NEWNS;
    for (flag, _, namespace) in kinds(plan) {
        flags.set(flag, *namespace != Namespace::Host);
    }
    flags.set(CloneFlags::CLONE_NEWUSER, plan.user.is_some());
    flags
}

/// Namespaces in which the shim is for the moment, so that init is born into them: those of others, and what was made ahead.
#[derive(Debug, Default)]
pub(crate) struct Joined {
    /// The shim's own, to return to.
    own: Vec<(OwnedFd, CloneFlags)>,
    /// Whether the network namespace is the one that was made ahead, with its loopback interface up.
    pub(crate) network_is_new: bool,
}

/// Steps into the namespaces given by path, and into the network namespace that was made ahead if the plan wants a new one. It
/// belongs to the host's user namespace, so a container with one of its own gets another.
pub(crate) fn join(plan: &Namespaces, ahead: Option<NetworkAhead>) -> Result<Joined> {
    let read = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
    let mut joined = Joined::default();
    if let Some(NetworkAhead { made, home }) = ahead
        && plan.network == Namespace::New
        && plan.user.is_none()
    {
        setns(&made, CloneFlags::CLONE_NEWNET).at(Step::Namespaces, "entering the new network namespace")?;
        joined.own.push((home, CloneFlags::CLONE_NEWNET));
        joined.network_is_new = true;
    }
    for (flag, name, namespace) in kinds(plan) {
        let Namespace::Path(path) = namespace else { continue };
        let there = open(path.as_str(), read, Mode::empty()).at(Step::Namespaces, path)?;
        let own = format!("/proc/self/ns/{name}");
        joined.own.push((open(own.as_str(), read, Mode::empty()).at(Step::Namespaces, own)?, flag));
        setns(&there, flag).at(Step::Namespaces, path)?;
    }
    Ok(joined)
}

impl Joined {
    /// Steps back into the shim's own.
    pub(crate) fn leave(self) -> Result<()> {
        for (own, flag) in self.own {
            setns(&own, flag).at(Step::Namespaces, "returning to the host's")?;
        }
        Ok(())
    }
}

/// Makes a time namespace with these offsets for the shim's children.
pub(crate) fn set_time(offsets: TimeOffsets) -> Result<()> {
    unshare(CLONE_NEWTIME).at(Step::TimeNamespace, "making a time namespace")?;
    let line = |clock, nanos: i64| format!("{clock} {} {}\n", nanos.div_euclid(NANOS), nanos.rem_euclid(NANOS));
    let text = line("monotonic", offsets.monotonic_nanos) + &line("boottime", offsets.boottime_nanos);
    std::fs::write("/proc/self/timens_offsets", &text)
        .map_err(|error| super::userns::io(&error))
        .at(Step::TimeNamespace, text.trim_end().replace('\n', ", "))
}
