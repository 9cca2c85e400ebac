//! The root file system: an overlay over the layers, mounted nowhere yet.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use hull_wire::{RootfsPlan, Step};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, open, openat};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{chdir, fchdir};

use crate::failure::{At, Result};
use crate::sys::mount::{Attributes, Filesystem, MOUNT_ATTR_IDMAP, attach, c_string, clone_tree, set_attributes};

const DIRECTORY: OFlag = OFlag::O_PATH.union(OFlag::O_DIRECTORY).union(OFlag::O_CLOEXEC);

/// Whatever the host's defaults are: a changed file lies in the upper directory by its own path, whole, so that the writable
/// layer can be read as one of an image.
const IN_PLACE: [(&str, &str); 2] = [("redirect_dir", "nofollow"), ("metacopy", "off")];

/// Mounts the overlay; with a user namespace, the ids of the layers are mapped by it.
pub(crate) fn overlay(plan: &RootfsPlan, run_dir: &str, ids: Option<BorrowedFd<'_>>) -> Result<OwnedFd> {
    let layers: Vec<Lower<'_>> = plan.layers.iter().map(|path| Lower { path, ids }).collect();
    mount_over(&layers, Some(plan), run_dir)
}

/// Mounts the overlay with the writable directory as its topmost layer, if it is there: nothing can be written, and whoever
/// mounts the container's own overlay meanwhile is not in the way.
pub(crate) fn read_only(plan: &RootfsPlan, run_dir: &str, ids: Option<BorrowedFd<'_>>) -> Result<OwnedFd> {
    // Its ids are the container's on the host already.
    let upper = Some(Lower { path: &plan.upper, ids: None }).filter(|upper| Path::new(upper.path).exists());
    let layers = plan.layers.iter().map(|path| Lower { path, ids });
    mount_over(&upper.into_iter().chain(layers).collect::<Vec<_>>(), None, run_dir)
}

/// A layer, and whose ids it is mapped by.
#[derive(Debug, Clone, Copy)]
struct Lower<'a> {
    path: &'a str,
    ids: Option<BorrowedFd<'a>>,
}

fn mount_over(layers: &[Lower<'_>], upper: Option<&RootfsPlan>, run_dir: &str) -> Result<OwnedFd> {
    match by_descriptor(layers, upper)? {
        Some(overlay) => Ok(overlay),
        None => by_name(layers, upper, run_dir),
    }
}

fn directory(path: &str) -> Result<OwnedFd> {
    open(path, DIRECTORY, Mode::empty()).at(Step::Rootfs, path)
}

/// Layers by descriptor; `None`: this kernel (before 6.13) cannot.
fn by_descriptor(layers: &[Lower<'_>], upper: Option<&RootfsPlan>) -> Result<Option<OwnedFd>> {
    let step = Step::Rootfs;
    let overlay = Filesystem::open(c"overlay").at(step, "the kernel has no overlay file system")?;
    for (option, value) in IN_PLACE {
        let set = c_string(option).and_then(|option| c_string(value).and_then(|value| overlay.set(&option, &value)));
        set.at(step, format!("overlay's option {option}={value}"))?;
    }
    let mut opened = Vec::with_capacity(layers.len());
    for (index, lower) in layers.iter().enumerate() {
        // Kept until the overlay is mounted: a detached mount is gone when its descriptor is closed.
        let layer = match lower.ids {
            None => directory(lower.path)?,
            Some(_) => layer(*lower)?,
        };
        match overlay.set_fd(c"lowerdir+", layer.as_fd()) {
            // Before 6.5 overlay takes no descriptors at all, from then to 6.13 none for layers.
            Err(Errno::EOPNOTSUPP | Errno::EINVAL) if index == 0 => return Ok(None),
            set => set.at(step, format!("layer {}", lower.path))?,
        }
        opened.push(layer);
    }
    if let Some(plan) = upper {
        let (upper, work) = (directory(&plan.upper)?, directory(&plan.work)?);
        overlay.set_fd(c"upperdir", upper.as_fd()).at(step, format!("upper directory {}", plan.upper))?;
        overlay.set_fd(c"workdir", work.as_fd()).at(step, format!("work directory {}", plan.work))?;
        if plan.volatile {
            overlay.set(c"volatile", c"").at(step, "volatile")?;
        }
    }
    overlay.mount(0).at(step, format!("over {} layers", layers.len())).map(Some)
}

/// A detached mount of a layer, with mapped ids if asked for.
fn layer(lower: Lower<'_>) -> Result<OwnedFd> {
    let Lower { path, ids } = lower;
    let name = c_string(path).at(Step::Rootfs, path)?;
    let tree = clone_tree(AT_FDCWD, &name, false).at(Step::Rootfs, path)?;
    if ids.is_some() {
        let mapped = Attributes { set: MOUNT_ATTR_IDMAP, user_namespace: ids, ..Attributes::default() };
        set_attributes(tree.as_fd(), mapped, false).at(Step::Rootfs, format!("mapping the ids of {path}"))?;
    }
    Ok(tree)
}

/// Layers by name, through mount(2), whose options must fit into a page: in a mount namespace of their own for the moment, each
/// layer is bound to a directory with a short name.
fn by_name(layers: &[Lower<'_>], upper: Option<&RootfsPlan>, run_dir: &str) -> Result<OwnedFd> {
    let step = Step::Rootfs;
    let read = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
    let home = open("/proc/self/ns/mnt", read, Mode::empty()).at(step, "/proc/self/ns/mnt")?;
    unshare(CloneFlags::CLONE_NEWNS).at(step, "a mount namespace for the layers")?;
    let overlay = mount_by_name(layers, upper, run_dir);
    // Back in any case, so that the copies of the host's mounts vanish. This moves the working directory to "/", too.
    setns(&home, CloneFlags::CLONE_NEWNS).at(step, "returning to the host's mount namespace")?;
    chdir("/").at(step, "/")?;
    overlay
}

fn mount_by_name(lowers: &[Lower<'_>], upper: Option<&RootfsPlan>, run_dir: &str) -> Result<OwnedFd> {
    let step = Step::Rootfs;
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).at(step, "/")?;
    let names = Filesystem::open(c"tmpfs").and_then(|tmpfs| tmpfs.mount(0)).at(step, "a tmpfs for the layers")?;
    let layers: Vec<OwnedFd> = lowers.iter().map(|lower| layer(*lower)).collect::<Result<_>>()?;
    let upper = upper.map(|plan| Ok((directory(&plan.upper)?, directory(&plan.work)?, plan.volatile))).transpose()?;
    let place = directory(run_dir)?;
    attach(names.as_fd(), place.as_fd()).at(step, run_dir)?;
    let mode = Mode::from_bits_truncate(0o700);
    let mut options = "lowerdir=".to_owned();
    for (index, tree) in layers.iter().enumerate() {
        let name = format!("{index:x}");
        mkdirat(&names, name.as_str(), mode).at(step, "a directory for a layer")?;
        let target = openat(&names, name.as_str(), DIRECTORY, Mode::empty()).at(step, "a directory for a layer")?;
        attach(tree.as_fd(), target.as_fd()).at(step, format!("layer {}", lowers[index].path))?;
        if index > 0 {
            options.push(':');
        }
        options.push_str(&name);
    }
    mkdirat(&names, "root", mode).at(step, "a directory for the root")?;
    fchdir(&names).at(step, run_dir)?;
    if let Some((upper, work, volatile)) = &upper {
        let by_descriptor = |fd: &OwnedFd| format!("/proc/self/fd/{}", fd.as_raw_fd());
        options += &format!(",upperdir={},workdir={}", by_descriptor(upper), by_descriptor(work));
        options += if *volatile { ",volatile" } else { "" };
    }
    options += &IN_PLACE.map(|(option, value)| format!(",{option}={value}")).concat();
    mount(Some("overlay"), "root", Some("overlay"), MsFlags::empty(), Some(options.as_str()))
        .at(step, format!("over {} layers", lowers.len()))?;
    let root: &CStr = c"root";
    clone_tree(names.as_fd(), root, false).at(step, "detaching the root")
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Read;

    use super::*;

    /// What kernels before 6.13 need, on any kernel. Needs root.
    #[test]
    fn layers_by_name_are_the_same_root() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
        let layers: Vec<String> = (0..200).map(|index| path(&format!("layers/{index}-{}", "x".repeat(64)))).collect();
        for (index, layer) in layers.iter().enumerate() {
            fs::create_dir_all(layer).unwrap();
            fs::write(format!("{layer}/top"), index.to_string()).unwrap();
            fs::write(format!("{layer}/file{index}"), "").unwrap();
        }
        ["upper", "work", "run"].iter().for_each(|name| fs::create_dir(path(name)).unwrap());
        let plan = RootfsPlan { layers, upper: path("upper"), work: path("work"), read_only: false, volatile: false };
        // In a thread: only it moves to another mount namespace and back.
        let run = path("run");
        let by_name = move |writable: bool| {
            let (plan, run) = (plan.clone(), run.clone());
            let mount = move || {
                let layers: Vec<_> = plan.layers.iter().map(|path| Lower { path, ids: None }).collect();
                by_name(&layers, Some(&plan).filter(|_| writable), &run).unwrap()
            };
            std::thread::spawn(mount).join().unwrap()
        };
        let root = by_name(true);
        let mut text = String::new();
        fs::File::from(openat(&root, "top", OFlag::O_RDONLY, Mode::empty()).unwrap())
            .read_to_string(&mut text)
            .unwrap();
        assert_eq!(text, "0");
        openat(&root, "file199", OFlag::O_RDONLY, Mode::empty()).unwrap();
        mkdirat(&root, "made", Mode::S_IRWXU).unwrap();
        assert!(fs::exists(path("upper/made")).unwrap());
        let root = by_name(false);
        openat(&root, "file199", OFlag::O_RDONLY, Mode::empty()).unwrap();
        assert_eq!(mkdirat(&root, "made", Mode::S_IRWXU), Err(Errno::EROFS));
    }
}
