//! Masked and read-only paths.

use std::os::fd::{AsFd, OwnedFd};

use hull_wire::{Step, mount_flags};
use nix::errno::Errno;
use nix::fcntl::OFlag;

use super::root::{Kind, Root, is_null_device};
use crate::failure::{At, Result, refused};
use crate::sys::mount::{Attributes, Filesystem, attach, clone_tree, set_attributes};

const HIDDEN: u64 = mount_flags::RDONLY | mount_flags::NOSUID | mount_flags::NODEV | mount_flags::NOEXEC;

/// Hides paths: a file behind the null device, a directory behind an empty tmpfs. Those that do not exist are skipped.
pub(crate) fn hide(root: &Root, paths: &[String]) -> Result<()> {
    let step = Step::Mask;
    let mut empty: Option<OwnedFd> = None;
    let mut null: Option<OwnedFd> = None;
    for path in paths {
        let target = match root.find(path) {
            Err(Errno::ENOENT | Errno::ENOTDIR) => continue,
            found => found.at(step, path)?,
        };
        let tree = match Kind::of(target.as_fd()).at(step, path)? {
            Kind::File => {
                let null = match &mut null {
                    Some(null) => null,
                    none => none.insert(null_device(root)?),
                };
                clone_tree(null.as_fd(), c"", false)
            }
            // The first use attaches the tmpfs itself; kernels before 6.15 copy attached mounts only.
            Kind::Directory => match &empty {
                Some(empty) => clone_tree(empty.as_fd(), c"", false),
                None => {
                    let tmpfs = Filesystem::open(c"tmpfs").and_then(|tmpfs| tmpfs.mount(HIDDEN)).at(step, path)?;
                    attach(tmpfs.as_fd(), target.as_fd()).at(step, path)?;
                    empty = Some(tmpfs);
                    continue;
                }
            },
        };
        attach(tree.at(step, path)?.as_fd(), target.as_fd()).at(step, path)?;
    }
    Ok(())
}

/// The container's null device, which must be it: an image or another container may have put something else there
/// (CVE-2025-31133).
fn null_device(root: &Root) -> Result<OwnedFd> {
    let null = root.open("/dev/null", OFlag::O_PATH | OFlag::O_NOFOLLOW).at(Step::Mask, "/dev/null")?;
    if is_null_device(null.as_fd()) {
        Ok(null)
    } else {
        Err(refused(Step::Mask, "/dev/null in the container is not the null device (1:3)"))
    }
}

/// Makes paths read-only, with what is mounted below them. Those that do not exist are skipped.
pub(crate) fn make_read_only(root: &Root, paths: &[String]) -> Result<()> {
    let step = Step::Readonly;
    for path in paths {
        let target = match root.find(path) {
            Err(Errno::ENOENT | Errno::ENOTDIR) => continue,
            found => found.at(step, path)?,
        };
        let tree = clone_tree(target.as_fd(), c"", true).at(step, path)?;
        let read_only = Attributes { set: mount_flags::RDONLY, ..Attributes::default() };
        set_attributes(tree.as_fd(), read_only, true).at(step, path)?;
        attach(tree.as_fd(), target.as_fd()).at(step, path)?;
    }
    Ok(())
}
