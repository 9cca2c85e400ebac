//! Device nodes and symbolic links.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use hull_wire::{DeviceNode, Step, Symlink};
use nix::errno::Errno;
use nix::libc::makedev;
use nix::sys::stat::{Mode, SFlag, mknodat};
use nix::unistd::{Gid, Uid, fchownat, symlinkat};

use super::root::{Kind, Root, split};
use crate::failure::{At, Result};
use crate::sys::mount::attach;

/// Makes device nodes; with `bound` (in a user namespace, which may not make any) the host's are bound instead.
pub(crate) fn make(root: &Root, devices: &[DeviceNode], bound: &[OwnedFd]) -> Result<()> {
    if bound.is_empty() {
        let mut parents = Parents::new(root);
        return devices.iter().try_for_each(|device| make_node(&mut parents, device));
    }
    for (device, tree) in devices.iter().zip(bound) {
        let target = root.find_or_make(&device.path, Kind::File).at(Step::Devices, &device.path)?;
        attach(tree.as_fd(), target.as_fd()).at(Step::Devices, &device.path)?;
    }
    Ok(())
}

fn make_node(parents: &mut Parents<'_>, device: &DeviceNode) -> Result<()> {
    let (parent, name) = parents.of(&device.path).at(Step::Devices, &device.path)?;
    let kind = if device.block { SFlag::S_IFBLK } else { SFlag::S_IFCHR };
    let mode = Mode::from_bits_truncate(device.mode & 0o7777);
    let node = makedev(device.major, device.minor);
    mknodat(parent, name, kind, mode, node).at(Step::Devices, &device.path)?;
    if (device.uid, device.gid) != (0, 0) {
        let (uid, gid) = (Uid::from_raw(device.uid), Gid::from_raw(device.gid));
        let flags = nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW;
        fchownat(parent, name, Some(uid), Some(gid), flags).at(Step::Devices, &device.path)?;
    }
    Ok(())
}

/// Makes symbolic links where nothing of that name is there.
pub(crate) fn link(root: &Root, links: &[Symlink]) -> Result<()> {
    let mut parents = Parents::new(root);
    for link in links {
        let (parent, name) = parents.of(&link.path).at(Step::Devices, &link.path)?;
        match symlinkat(link.target.as_str(), parent, name) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(errno) => return Err(crate::failure::failed(Step::Devices, errno, &link.path)),
        }
    }
    Ok(())
}

/// Directories of nodes and links, which are nearly always the same one.
struct Parents<'a> {
    root: &'a Root,
    last: Option<(String, OwnedFd)>,
}

impl<'a> Parents<'a> {
    fn new(root: &'a Root) -> Self {
        Self { root, last: None }
    }

    /// The directory in which `path` lies, made if missing, and the last component of `path`.
    fn of<'p>(&mut self, path: &'p str) -> nix::Result<(BorrowedFd<'_>, &'p str)> {
        let (parent, name) = split(path)?;
        let last = match self.last.take() {
            Some(last) if last.0 == parent => last,
            _ => (parent.to_owned(), self.root.find_or_make(parent, Kind::Directory)?),
        };
        Ok((self.last.insert(last).1.as_fd(), name))
    }
}
