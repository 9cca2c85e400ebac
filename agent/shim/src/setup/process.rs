//! From a process in the right namespaces to the user's one, all but its program: the same road for init and execs.

use std::os::fd::{AsFd, BorrowedFd};

use hull_wire::{ProcessPlan, Step};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::prctl;
use nix::sys::stat::{Mode, SFlag, fstat, umask};
use nix::unistd::{Gid, Uid, fchdir, fchown, getcwd};

use super::program::Program;
use super::root::{Root, file_type};
use super::user::{Identity, look_up};
use crate::failure::{At, Clock, Result, failed, refused};
use crate::sys;
use crate::sys::credentials;

/// Highest number that a capability can have.
const MAX_CAPABILITY: u32 = 63;

/// Becomes the process of the plan: its user, directory, limits, privileges. A filter that can wait for no_new_privs is left to
/// [`load_filter`], for it has to be the last step where it may be.
pub(crate) fn become_process(plan: &ProcessPlan, root: &Root, program: &mut Program, clock: &mut Clock) -> Result<()> {
    let identity = look_up(root, &plan.user, program.lacks_home())?;
    if program.lacks_home() {
        program.set_home(identity.home.as_deref().unwrap_or("/"));
    }
    clock.lap(Step::User);
    own_standard_streams(identity.uid, plan.terminal.is_some());
    enter_directory(root, &plan.cwd)?;
    umask(Mode::from_bits_truncate(plan.umask & 0o777));
    clock.lap(Step::Cwd);
    // As late as privileges allow: they hold for the rest of the setup, too.
    set_limits(plan)?;
    clock.lap(Step::Rlimits);
    if !plan.no_new_privs {
        // Without no_new_privs a filter needs CAP_SYS_ADMIN, so it comes before that may go.
        filter(plan)?;
        clock.lap(Step::Seccomp);
    }
    set_credentials(plan, &identity)?;
    if plan.no_new_privs {
        prctl::set_no_new_privs().at(Step::Credentials, "no_new_privs")?;
    }
    clock.lap(Step::Credentials);
    Ok(())
}

/// Loads the filter of a process with no_new_privs; the others have theirs.
pub(crate) fn load_filter(plan: &ProcessPlan, clock: &mut Clock) -> Result<()> {
    if plan.no_new_privs {
        filter(plan)?;
        clock.lap(Step::Seccomp);
    }
    Ok(())
}

/// Gives pipes and the process's own terminal to the user, so that it can open /dev/stdout anew. Whatever else the agent handed in
/// stays whose it is.
fn own_standard_streams(uid: Uid, terminal: bool) {
    for fd in [&std::io::stdin().as_fd(), &std::io::stdout().as_fd(), &std::io::stderr().as_fd()] {
        let Ok(stat) = fstat(fd) else { continue };
        let own = terminal || file_type(&stat) == SFlag::S_IFIFO;
        if own && stat.st_uid != uid.as_raw() {
            let _not_ours = fchown(fd, Some(uid), None);
        }
    }
}

fn set_limits(plan: &ProcessPlan) -> Result<()> {
    for limit in &plan.rlimits {
        let what = || format!("number {} to {}:{}", limit.resource, limit.soft, limit.hard);
        match sys::process::set_limit(limit.resource, limit.soft, limit.hard) {
            Err(errno @ Errno::EPERM) => {
                let detail = format!("{}: the host does not permit to raise it (CAP_SYS_RESOURCE)", what());
                return Err(failed(Step::Rlimits, errno, &detail));
            }
            set => set.at(Step::Rlimits, what())?,
        }
    }
    Ok(())
}

/// Enters the working directory, which has to lie in the root (CVE-2024-21626).
fn enter_directory(root: &Root, path: &str) -> Result<()> {
    let directory = root.open(path, OFlag::O_PATH | OFlag::O_DIRECTORY).at(Step::Cwd, path)?;
    fchdir(&directory).at(Step::Cwd, path)?;
    match getcwd() {
        Ok(way) if way.is_absolute() => Ok(()),
        _ => Err(refused(Step::Cwd, format!("{path} is not inside the container"))),
    }
}

fn set_credentials(plan: &ProcessPlan, identity: &Identity) -> Result<()> {
    let step = Step::Credentials;
    let sets = &plan.capabilities;
    for capability in 0..=MAX_CAPABILITY {
        if sets.bounding & (1 << capability) != 0 {
            continue;
        }
        match credentials::drop_bounding(capability) {
            // Past the last one that this kernel knows.
            Err(Errno::EINVAL) => break,
            dropped => dropped.at(step, format!("capability {capability}"))?,
        }
    }
    prctl::set_keepcaps(true).at(step, "PR_SET_KEEPCAPS")?;
    let Identity { uid, gid, groups, .. } = identity;
    credentials::set_ids(*uid, *gid, groups).at(step, format!("to {uid}:{gid}"))?;
    credentials::set_capabilities(sets.effective, sets.permitted, sets.inheritable)
        .at(step, format!("capabilities {:#x}", sets.permitted))?;
    credentials::clear_ambient().at(step, "ambient capabilities")?;
    for capability in (0..=MAX_CAPABILITY).filter(|capability| sets.ambient & (1 << capability) != 0) {
        credentials::raise_ambient(capability).at(step, format!("ambient capability {capability}"))?;
    }
    Ok(())
}

fn filter(plan: &ProcessPlan) -> Result<()> {
    let Some(program) = &plan.seccomp else { return Ok(()) };
    credentials::set_filter(program, plan.seccomp_flags).at(Step::Seccomp, format!("{} bytes", program.len()))
}

/// Makes the caller root of its user namespace, which its maps now name.
pub(crate) fn become_mapped_root() -> Result<()> {
    credentials::set_ids(Uid::from_raw(0), Gid::from_raw(0), &[])
        .at(Step::UserNamespace, "becoming root of the user namespace")
}

/// Makes three descriptors the standard streams.
pub(crate) fn set_standard_streams(streams: [BorrowedFd<'_>; 3]) -> Result<()> {
    for (stream, number) in streams.into_iter().zip(0..) {
        sys::fd::make_standard(stream, number).at(Step::Stdio, "duplicating descriptors")?;
    }
    Ok(())
}
