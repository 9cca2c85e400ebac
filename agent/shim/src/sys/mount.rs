//! The mount API of descriptors: fsopen(2), fsconfig(2), fsmount(2), open_tree(2), move_mount(2), mount_setattr(2).

use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;

use super::{check, check_fd};

const FSOPEN_CLOEXEC: u32 = 1;
const FSMOUNT_CLOEXEC: u32 = 1;
const FSCONFIG_SET_FLAG: u32 = 0;
const FSCONFIG_SET_STRING: u32 = 1;
const FSCONFIG_SET_FD: u32 = 5;
const FSCONFIG_CMD_CREATE: u32 = 6;
const OPEN_TREE_CLONE: u32 = 1;
const AT_EMPTY_PATH: u32 = 0x1000;
const AT_RECURSIVE: u32 = 0x8000;
const MOVE_MOUNT_F_EMPTY_PATH: u32 = 4;
const MOVE_MOUNT_T_EMPTY_PATH: u32 = 0x40;

/// Make the mount's ids those of a user namespace.
pub(crate) const MOUNT_ATTR_IDMAP: u64 = 0x0010_0000;
/// All bits that say how access times are kept.
pub(crate) const MOUNT_ATTR_ATIME: u64 = 0x70;

/// A file system being configured, see fsopen(2).
#[derive(Debug)]
pub(crate) struct Filesystem(OwnedFd);

impl Filesystem {
    /// Begins a new instance of `fstype`.
    pub(crate) fn open(fstype: &CStr) -> nix::Result<Self> {
        // SAFETY: the string lives during the call; success is a new descriptor.
        unsafe { check_fd(libc::syscall(libc::SYS_fsopen, fstype.as_ptr(), FSOPEN_CLOEXEC)) }.map(Self)
    }

    /// Sets an option; with an empty value, a flag.
    pub(crate) fn set(&self, key: &CStr, value: &CStr) -> nix::Result<()> {
        if value.is_empty() {
            self.config(FSCONFIG_SET_FLAG, Some(key), None, 0)
        } else {
            self.config(FSCONFIG_SET_STRING, Some(key), Some(value), 0)
        }
    }

    /// Sets an option that is a descriptor.
    pub(crate) fn set_fd(&self, key: &CStr, fd: BorrowedFd<'_>) -> nix::Result<()> {
        self.config(FSCONFIG_SET_FD, Some(key), None, fd.as_raw_fd())
    }

    /// Makes the file system and a mount of it that is nowhere attached, with MOUNT_ATTR_* bits.
    pub(crate) fn mount(self, attributes: u64) -> nix::Result<OwnedFd> {
        self.config(FSCONFIG_CMD_CREATE, None, None, 0)?;
        // SAFETY: takes numbers; success is a new descriptor.
        unsafe { check_fd(libc::syscall(libc::SYS_fsmount, self.0.as_raw_fd(), FSMOUNT_CLOEXEC, attributes)) }
    }

    fn config(&self, command: u32, key: Option<&CStr>, value: Option<&CStr>, aux: libc::c_int) -> nix::Result<()> {
        let key = key.map_or(std::ptr::null(), CStr::as_ptr);
        let value = value.map_or(std::ptr::null(), CStr::as_ptr);
        // SAFETY: the strings live during the call.
        check(unsafe { libc::syscall(libc::SYS_fsconfig, self.0.as_raw_fd(), command, key, value, aux) }).map(drop)
    }

    /// The last message that the kernel has for this file system's user; it often names the option that is wrong.
    pub(crate) fn message(&self) -> Option<String> {
        let mut text = [0_u8; 256];
        let length = nix::unistd::read(&self.0, &mut text).ok()?;
        // A letter for the severity and a space come first.
        Some(String::from_utf8_lossy(text.get(2..length)?).trim_end().to_owned())
    }
}

/// Copies the mount at `path` below `directory` (or, with an empty path, at `directory` itself) to one that is nowhere attached;
/// `recursive`: with those below it.
pub(crate) fn clone_tree(directory: BorrowedFd<'_>, path: &CStr, recursive: bool) -> nix::Result<OwnedFd> {
    let mut flags = OPEN_TREE_CLONE | libc::O_CLOEXEC.cast_unsigned();
    if path.is_empty() {
        flags |= AT_EMPTY_PATH;
    }
    if recursive {
        flags |= AT_RECURSIVE;
    }
    // SAFETY: the string lives during the call; success is a new descriptor.
    unsafe { check_fd(libc::syscall(libc::SYS_open_tree, directory.as_raw_fd(), path.as_ptr(), flags)) }
}

/// Attaches the mount `tree` at `target`, both by descriptor.
pub(crate) fn attach(tree: BorrowedFd<'_>, target: BorrowedFd<'_>) -> nix::Result<()> {
    let flags = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH;
    // SAFETY: the strings are static.
    check(unsafe {
        libc::syscall(libc::SYS_move_mount, tree.as_raw_fd(), c"".as_ptr(), target.as_raw_fd(), c"".as_ptr(), flags)
    })
    .map(drop)
}

/// What to change about a mount, see mount_setattr(2).
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Attributes<'fd> {
    /// MOUNT_ATTR_* to set.
    pub(crate) set: u64,
    /// MOUNT_ATTR_* to clear.
    pub(crate) clear: u64,
    /// MS_PRIVATE, MS_SLAVE, MS_SHARED; 0: as it is.
    pub(crate) propagation: u64,
    /// With [`MOUNT_ATTR_IDMAP`]: whose ids.
    pub(crate) user_namespace: Option<BorrowedFd<'fd>>,
}

#[repr(C)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    userns_fd: u64,
}

/// Changes the attributes of the mount `tree`; `recursive`: and of those below it.
pub(crate) fn set_attributes(tree: BorrowedFd<'_>, attributes: Attributes<'_>, recursive: bool) -> nix::Result<()> {
    let attr = MountAttr {
        set: attributes.set,
        clear: attributes.clear,
        propagation: attributes.propagation,
        userns_fd: attributes.user_namespace.map_or(0, |fd| u64::from(fd.as_raw_fd().cast_unsigned())),
    };
    let flags = AT_EMPTY_PATH | if recursive { AT_RECURSIVE } else { 0 };
    // SAFETY: the string is static, the structure lives during the call, and its size is passed.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attr,
            size_of::<MountAttr>(),
        )
    })
    .map(drop)
}

/// A C string of a path or option from the plan.
///
/// # Errors
/// EINVAL: it contains a NUL.
pub(crate) fn c_string(text: &str) -> nix::Result<CString> {
    CString::new(text).map_err(|_| Errno::EINVAL)
}
