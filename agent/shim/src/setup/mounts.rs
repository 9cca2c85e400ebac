//! The mounts of the plan, attached inside the container's root.

use std::os::fd::{AsFd, OwnedFd};

use hull_wire::{MountKind, MountPlan, Step, mount_flags};
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, SFlag, fstat, mkdirat};
use nix::unistd::symlinkat;

use super::root::{Kind, Root, file_type};
use super::sources::Source;
use crate::failure::{At, Result, failed, refused};
use crate::sys::mount::{Attributes, Filesystem, attach, c_string, set_attributes};

/// Attaches one mount.
pub(crate) fn place(root: &Root, mount: &MountPlan, source: &Source) -> Result<()> {
    match (&mount.kind, source) {
        (MountKind::Filesystem { fstype, options }, _) => {
            let target = filesystem_target(root, fstype, &mount.target)?;
            let tree = make(fstype, options, mount.flags, &mount.target)?;
            attach(tree.as_fd(), target.as_fd()).at(Step::Mount, format!("{fstype} at {}", mount.target))
        }
        (MountKind::Bind { source, .. }, Source::Tree(tree)) => {
            let what = || format!("{source} at {}", mount.target);
            let kind = Kind::of(tree.as_fd()).at(Step::Mount, what())?;
            attach(tree.as_fd(), bind_target(root, &mount.target, kind)?.as_fd()).at(Step::Mount, what())
        }
        (MountKind::CgroupV1 { hierarchies, links }, Source::Hierarchies(trees)) => {
            cgroup_v1(root, mount, hierarchies, links, trees)
        }
        _ => Err(failed(Step::Plan, Errno::EINVAL, &mount.target)),
    }
}

/// A new file system of the kernel, attached nowhere yet.
fn make(fstype: &str, options: &[(String, String)], flags: u64, target: &str) -> Result<OwnedFd> {
    let what = || format!("{fstype} at {target}");
    let at = |errno| failed(Step::Mount, errno, &what());
    let filesystem = Filesystem::open(&c_string(fstype).map_err(at)?).map_err(at)?;
    for (key, value) in options {
        let set = c_string(key).and_then(|key| c_string(value).and_then(|value| filesystem.set(&key, &value)));
        set.map_err(|errno| {
            let said = filesystem.message().map_or_else(String::new, |text| format!(" ({text})"));
            failed(Step::Mount, errno, &format!("{}: option {key}={value}{said}", what()))
        })?;
    }
    filesystem.mount(flags).map_err(at)
}

/// Where a file system of the kernel goes. Programs trust what they find in /dev, /proc and /sys: there, and for every type but
/// tmpfs, the target has to be a directory itself, not a link to one (CVE-2026-41579).
fn filesystem_target(root: &Root, fstype: &str, path: &str) -> Result<OwnedFd> {
    let trusted = fstype != "tmpfs" || ["/dev", "/proc", "/sys"].iter().any(|top| is_below(path, top));
    let found = if trusted { root.find_link(path) } else { root.find(path) };
    let target = match found {
        Err(Errno::ENOENT) => {
            root.find_or_make(path, Kind::Directory).at(Step::Mount, format!("{fstype} at {path}"))?
        }
        found => found.at(Step::Mount, format!("{fstype} at {path}"))?,
    };
    let kind = file_type(&fstat(&target).at(Step::Mount, path)?);
    match kind {
        SFlag::S_IFDIR if !is_root(path) => Ok(target),
        SFlag::S_IFDIR => {
            Err(refused(Step::Mount, format!("{fstype} at {path}: nothing can be mounted over the root")))
        }
        SFlag::S_IFLNK => Err(refused(Step::Mount, format!("{fstype} at {path}: the image has a symbolic link there"))),
        _ => Err(failed(Step::Mount, Errno::ENOTDIR, &format!("{fstype} at {path}: the image has a file there"))),
    }
}

/// Where a bind mount goes: a directory for a directory, a file for anything else.
pub(crate) fn bind_target(root: &Root, path: &str, kind: Kind) -> Result<OwnedFd> {
    if is_root(path) {
        return Err(refused(Step::Mount, format!("{path}: nothing can be mounted over the root")));
    }
    let target = root.find_or_make(path, kind).at(Step::Mount, path)?;
    match (kind, Kind::of(target.as_fd()).at(Step::Mount, path)?) {
        (Kind::Directory, Kind::File) => {
            Err(failed(Step::Mount, Errno::ENOTDIR, &format!("{path}: a directory cannot be mounted over a file")))
        }
        (Kind::File, Kind::Directory) => {
            Err(failed(Step::Mount, Errno::EISDIR, &format!("{path}: a file cannot be mounted over a directory")))
        }
        _ => Ok(target),
    }
}

fn is_root(path: &str) -> bool {
    path.split('/').all(|name| name.is_empty() || name == "." || name == "..")
}

fn is_below(path: &str, top: &str) -> bool {
    path.strip_prefix(top).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn cgroup_v1(
    root: &Root,
    mount: &MountPlan,
    hierarchies: &[(String, String)],
    links: &[(String, String)],
    trees: &[OwnedFd],
) -> Result<()> {
    let step = Step::Mount;
    let target = filesystem_target(root, "cgroup", &mount.target)?;
    let options = [("mode".to_owned(), "755".to_owned())];
    let top = make("tmpfs", &options, mount.flags & !mount_flags::RDONLY, &mount.target)?;
    attach(top.as_fd(), target.as_fd()).at(step, &mount.target)?;
    for ((name, _), tree) in hierarchies.iter().zip(trees) {
        let what = format!("{}/{name}", mount.target);
        let directory = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        mkdirat(&top, name.as_str(), Mode::from_bits_truncate(0o755)).at(step, &what)?;
        let at = openat(&top, name.as_str(), directory, Mode::empty()).at(step, &what)?;
        attach(tree.as_fd(), at.as_fd()).at(step, what)?;
    }
    for (name, to) in links {
        symlinkat(to.as_str(), &top, name.as_str()).at(step, format!("{}/{name}", mount.target))?;
    }
    let read_only = Attributes { set: mount_flags::RDONLY, ..Attributes::default() };
    set_attributes(top.as_fd(), read_only, false).at(step, &mount.target)
}
