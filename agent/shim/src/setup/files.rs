//! Generated files such as /etc/hosts: written to a tmpfs of their own, each bound over its target.

use std::ffi::CString;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd};

use hull_wire::{FilePlan, Step};
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::mount::{MntFlags, umount2};
use nix::sys::stat::Mode;
use nix::unistd::fchdir;

use super::mounts::bind_target;
use super::root::{Kind, Root};
use crate::failure::{At, Result};
use crate::sys::mount::{Filesystem, attach, clone_tree};

const NOSUID_NODEV_NOEXEC: u64 =
    hull_wire::mount_flags::NOSUID | hull_wire::mount_flags::NODEV | hull_wire::mount_flags::NOEXEC;

/// Writes the files. Kernels before 6.15 copy attached mounts only: there, their tmpfs is attached over `place` for the moment.
pub(crate) fn generate(root: &Root, files: &[FilePlan], place: BorrowedFd<'_>) -> Result<()> {
    let step = Step::Files;
    if files.is_empty() {
        return Ok(());
    }
    let tmpfs = Filesystem::open(c"tmpfs").and_then(|tmpfs| {
        tmpfs.set(c"mode", c"755")?;
        tmpfs.mount(NOSUID_NODEV_NOEXEC)
    });
    let tmpfs = tmpfs.at(step, "a tmpfs for generated files")?;
    let mut attached = false;
    for (index, file) in files.iter().enumerate() {
        let name = CString::new(format!("{index:x}")).unwrap_or_default();
        let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_CLOEXEC;
        let mode = Mode::from_bits_truncate(file.mode & 0o7777);
        let written = openat(&tmpfs, name.as_c_str(), flags, mode).at(step, &file.target)?;
        File::from(written)
            .write_all(file.contents.as_bytes())
            .map_err(|error| super::userns::io(&error))
            .at(step, &file.target)?;
        let tree = match clone_tree(tmpfs.as_fd(), &name, false) {
            Err(Errno::EINVAL) if !attached => {
                attach(tmpfs.as_fd(), place).at(step, "a tmpfs for generated files")?;
                attached = true;
                clone_tree(tmpfs.as_fd(), &name, false)
            }
            tree => tree,
        };
        let tree = tree.at(step, &file.target)?;
        let target =
            bind_target(root, &file.target, Kind::File).map_err(|failure| hull_wire::Failure { step, ..failure })?;
        attach(tree.as_fd(), target.as_fd()).at(step, &file.target)?;
    }
    if !attached {
        return Ok(());
    }
    // Left there, it would cover the root for whoever enters this mount namespace.
    fchdir(&tmpfs).and_then(|()| umount2(".", MntFlags::MNT_DETACH)).at(step, "detaching the tmpfs of generated files")
}
