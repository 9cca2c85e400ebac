//! Kernel parameters and the OOM adjustment, written through descriptors of procfs that the container cannot have touched.

use std::os::fd::OwnedFd;

use hull_wire::Step;
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::sys::stat::Mode;
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};
use nix::unistd::{Pid, write};

use crate::failure::{At, Result, failed, refused};
use crate::sys::mount::Filesystem;

/// Sets kernel parameters of init's namespaces, through a procfs that is attached nowhere (CVE-2019-16884, CVE-2025-52881).
pub(crate) fn set_parameters(parameters: &[(String, String)]) -> Result<()> {
    if parameters.is_empty() {
        return Ok(());
    }
    let proc = Filesystem::open(c"proc").and_then(|proc| proc.mount(0)).at(Step::Sysctl, "a procfs of its own")?;
    for (name, value) in parameters {
        let file = open_in_proc(&proc, &format!("sys/{name}")).at(Step::Sysctl, name)?;
        write(&file, value.as_bytes()).at(Step::Sysctl, format!("{name}={value}"))?;
    }
    Ok(())
}

fn open_in_proc(proc: &OwnedFd, path: &str) -> nix::Result<OwnedFd> {
    let how = OpenHow::new().flags(OFlag::O_WRONLY | OFlag::O_CLOEXEC).resolve(
        ResolveFlag::RESOLVE_BENEATH
            | ResolveFlag::RESOLVE_NO_XDEV
            | ResolveFlag::RESOLVE_NO_SYMLINKS
            | ResolveFlag::RESOLVE_NO_MAGICLINKS,
    );
    openat2(proc, path, how)
}

/// Sets the OOM adjustment of a process through the host's procfs: before the process enters the container's mounts, or from outside.
pub(crate) fn set_oom_score(process: Option<Pid>, adjustment: i32) -> Result<()> {
    let step = Step::OomScore;
    let proc = open("/proc", OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty()).at(step, "/proc")?;
    if fstatfs(&proc).at(step, "/proc")?.filesystem_type() != PROC_SUPER_MAGIC {
        return Err(refused(step, "/proc of the host is not a procfs"));
    }
    let who = process.map_or_else(|| "self".to_owned(), |pid| pid.to_string());
    let path = format!("{who}/oom_score_adj");
    let flags = OFlag::O_WRONLY | OFlag::O_CLOEXEC;
    let file = nix::fcntl::openat(&proc, path.as_str(), flags, Mode::empty()).at(step, &path)?;
    match write(&file, adjustment.to_string().as_bytes()) {
        Ok(_) => Ok(()),
        Err(errno @ (Errno::EACCES | Errno::EPERM)) => Err(failed(
            step,
            errno,
            &format!("to {adjustment}: the host does not permit to lower it (CAP_SYS_RESOURCE)"),
        )),
        Err(errno) => Err(failed(step, errno, &format!("to {adjustment}"))),
    }
}
