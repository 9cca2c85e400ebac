//! The pseudo-terminal of a process, made in the container's own devpts.

use std::os::fd::{AsFd, OwnedFd};

use hull_wire::Step;
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::libc;
use nix::sys::stat::{SFlag, fstat};
use nix::sys::statfs::{DEVPTS_SUPER_MAGIC, fstatfs};

use super::process::set_standard_streams;
use super::root::{Kind, Root, file_type};
use crate::failure::{At, Result, refused};
use crate::sys;
use crate::sys::mount::{attach, clone_tree};

const STEP: Step = Step::Stdio;

/// A new terminal: its master side, and the other one, which becomes the caller's standard streams.
pub(crate) fn take(root: &Root, (rows, columns): (u16, u16)) -> Result<(OwnedFd, OwnedFd)> {
    let what = "a terminal from the container's /dev/pts/ptmx";
    let how = OpenHow::new()
        .flags(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS | ResolveFlag::RESOLVE_NO_SYMLINKS);
    let master = openat2(root.as_fd(), "/dev/pts/ptmx", how).at(STEP, what)?;
    let stat = fstat(&master).at(STEP, what)?;
    let devpts = fstatfs(&master).at(STEP, what)?.filesystem_type() == DEVPTS_SUPER_MAGIC;
    if !devpts || file_type(&stat) != SFlag::S_IFCHR || stat.st_rdev != libc::makedev(5, 2) {
        return Err(refused(STEP, "/dev/pts/ptmx in the container is not a terminal multiplexer"));
    }
    let slave = sys::terminal::open_peer(master.as_fd()).at(STEP, what)?;
    sys::terminal::set_size(master.as_fd(), rows, columns).at(STEP, "setting the terminal's size")?;
    set_standard_streams([slave.as_fd(); 3])?;
    Ok((master, slave))
}

/// Makes standard input, a terminal, the controlling one of the caller, who leads its session.
pub(crate) fn control() -> Result<()> {
    sys::terminal::make_controlling(std::io::stdin().as_fd()).at(STEP, "making the terminal the controlling one")
}

/// Binds the terminal to /dev/console, by descriptor (CVE-2025-52565).
pub(crate) fn bind_console(root: &Root, slave: &OwnedFd) -> Result<()> {
    let what = "the terminal at /dev/console";
    let tree = clone_tree(slave.as_fd(), c"", false).at(STEP, what)?;
    let target = match root.find_link("/dev/console") {
        Err(Errno::ENOENT) => root.find_or_make("/dev/console", Kind::File),
        found => found,
    };
    attach(tree.as_fd(), target.at(STEP, what)?.as_fd()).at(STEP, what)
}
