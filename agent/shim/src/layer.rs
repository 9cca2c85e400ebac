//! `hull-shim mount-layer FILE TARGET`: mounts the EROFS image of a layer, read-only.

use std::ffi::{CString, OsStr};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;

use crate::sys::loopdev;
use crate::sys::mount::{Filesystem, attach};

/// How often another process may take the loop device that the kernel offered to us.
const ATTEMPTS: u32 = 64;
const RDONLY: u64 = hull_wire::mount_flags::RDONLY;

type Step<T> = Result<T, (String, Errno)>;

/// Mounts `file` at `target`: the file itself where the kernel can (6.12, on file systems that allow it), otherwise a loop
/// device that goes with the mount.
///
/// # Errors
/// One line: the step, the errno and its text.
pub(crate) fn mount(file: &OsStr, target: &OsStr) -> Result<(), String> {
    mount_layer(file, target).map_err(|(step, errno)| format!("{step}: {errno:?} {}", errno.desc()))
}

fn mount_layer(file: &OsStr, target: &OsStr) -> Step<()> {
    let path = CString::new(file.as_bytes()).map_err(|_| ("reading the file's name".to_owned(), Errno::EINVAL))?;
    let tree = match mount_source(&path) {
        Ok(tree) => tree,
        // ENOTBLK: this kernel or file system wants a block device. EINVAL: the kernel's message is the same for a damaged
        // image, which then fails through the loop device, too.
        Err(Errno::ENOTBLK | Errno::EINVAL) => mount_loop(file)?,
        Err(errno) => return Err((format!("mounting {}", file.display()), errno)),
    };
    let at = open(target, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
        .map_err(|errno| (format!("opening {}", target.display()), errno))?;
    attach(tree.as_fd(), at.as_fd()).map_err(|errno| (format!("attaching to {}", target.display()), errno))
}

fn mount_source(source: &CString) -> nix::Result<OwnedFd> {
    let filesystem = Filesystem::open(c"erofs")?;
    filesystem.set(c"source", source)?;
    filesystem.set(c"ro", c"")?;
    filesystem.mount(RDONLY)
}

fn mount_loop(file: &OsStr) -> Step<OwnedFd> {
    let at = |what: String| move |errno| (what, errno);
    let image = open(file, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())
        .map_err(at(format!("opening {}", file.display())))?;
    let control = open("/dev/loop-control", OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty())
        .map_err(at("opening /dev/loop-control".to_owned()))?;
    for _ in 0..ATTEMPTS {
        let number = loopdev::free_number(control.as_fd()).map_err(at("finding a free loop device".to_owned()))?;
        let path = format!("/dev/loop{number}");
        let device = open(path.as_str(), OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())
            .map_err(at(format!("opening {path}")))?;
        match loopdev::configure(device.as_fd(), image.as_fd()) {
            Ok(()) => {
                let source = CString::new(path.as_str()).unwrap_or_default();
                return mount_source(&source).map_err(at(format!("mounting {} from {path}", file.display())));
            }
            Err(Errno::EBUSY) => {}
            Err(errno) => return Err((format!("configuring {path}"), errno)),
        }
    }
    Err(("configuring a loop device".to_owned(), Errno::EBUSY))
}
