//! What mounts take from the host, taken before init is made: detached copies of mounts, which need no path any more.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use hull_wire::{DeviceNode, MountKind, MountPlan, Propagation, Step, mount_flags};
use nix::errno::Errno;
use nix::fcntl::AT_FDCWD;
use nix::libc;
use nix::sys::stat::{SFlag, fstat};

use super::root::file_type;
use crate::failure::{At, Result, failed, refused};
use crate::sys::mount::{Attributes, MOUNT_ATTR_ATIME, MOUNT_ATTR_IDMAP, c_string, clone_tree, set_attributes};

/// What one mount of the plan takes from the host.
#[derive(Debug)]
pub(crate) enum Source {
    /// Nothing: the child makes a file system.
    New,
    /// A detached mount.
    Tree(OwnedFd),
    /// One for each version 1 hierarchy.
    Hierarchies(Vec<OwnedFd>),
}

/// Takes the source of one mount; `ids`: the user namespace to map its ids by.
pub(crate) fn take(mount: &MountPlan, ids: Option<BorrowedFd<'_>>) -> Result<Source> {
    match &mount.kind {
        MountKind::Filesystem { .. } => Ok(Source::New),
        MountKind::Bind { source, recursive, propagation, idmap } => {
            let tree = open_tree(source, *recursive).at(Step::Mount, format!("{source} at {}", mount.target))?;
            let ids = ids.filter(|_| *idmap);
            let attributes = Attributes {
                set: mount.flags | ids.map_or(0, |_| MOUNT_ATTR_IDMAP),
                clear: cleared(mount.flags),
                propagation: match propagation {
                    Propagation::Private => libc::MS_PRIVATE,
                    Propagation::Slave => libc::MS_SLAVE,
                    Propagation::Shared => libc::MS_SHARED,
                },
                user_namespace: ids,
            };
            set_attributes(tree.as_fd(), attributes, *recursive).map_err(|errno| {
                let why = match (errno, ids) {
                    (Errno::EINVAL, Some(_)) => ": its file system takes no id map on this kernel",
                    _ => "",
                };
                failed(Step::Mount, errno, &format!("{source} at {}{why}", mount.target))
            })?;
            Ok(Source::Tree(tree))
        }
        MountKind::CgroupV1 { hierarchies, .. } => hierarchies
            .iter()
            .map(|(_, path)| hierarchy(path, mount.flags))
            .collect::<Result<_>>()
            .map(Source::Hierarchies),
    }
}

fn hierarchy(path: &str, flags: u64) -> Result<OwnedFd> {
    let tree = open_tree(path, false).at(Step::Mount, path)?;
    let attributes = Attributes {
        set: flags | mount_flags::RDONLY,
        clear: cleared(flags),
        propagation: libc::MS_PRIVATE,
        user_namespace: None,
    };
    set_attributes(tree.as_fd(), attributes, false).at(Step::Mount, path)?;
    Ok(tree)
}

/// How access times are kept is one choice of several bits: to set it is to clear the others.
fn cleared(flags: u64) -> u64 {
    if flags & MOUNT_ATTR_ATIME == 0 { 0 } else { MOUNT_ATTR_ATIME }
}

/// Takes a device node of the host, and checks that it is the one that was meant.
pub(crate) fn device(device: &DeviceNode) -> Result<OwnedFd> {
    let path = &device.host_path;
    let tree = open_tree(path, false).at(Step::Devices, path)?;
    let stat = fstat(&tree).at(Step::Devices, path)?;
    let kind = if device.block { SFlag::S_IFBLK } else { SFlag::S_IFCHR };
    if file_type(&stat) != kind || stat.st_rdev != libc::makedev(device.major, device.minor) {
        return Err(refused(Step::Devices, format!("{path} is not device {}:{}", device.major, device.minor)));
    }
    let private = Attributes { propagation: libc::MS_PRIVATE, ..Attributes::default() };
    set_attributes(tree.as_fd(), private, false).at(Step::Devices, path)?;
    Ok(tree)
}

fn open_tree(path: &str, recursive: bool) -> nix::Result<OwnedFd> {
    let path: CString = c_string(path)?;
    clone_tree(AT_FDCWD, &path, recursive)
}
