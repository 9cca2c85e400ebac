//! System calls that nix has no safe function for: the only unsafe code of the project. Each function is safe to call with any
//! arguments; what it does is in the manual page it names.
#![expect(unsafe_code, reason = "system calls without a safe wrapper live here and nowhere else")]

pub(crate) mod bpf;
pub(crate) mod clone;
pub(crate) mod credentials;
pub(crate) mod exec;
pub(crate) mod fd;
pub(crate) mod link;
pub(crate) mod loopdev;
pub(crate) mod mount;
pub(crate) mod packet;
pub(crate) mod process;
pub(crate) mod terminal;

use std::os::fd::{FromRawFd, OwnedFd};

use nix::errno::Errno;

/// Turns what syscall(2) returned into a result.
fn check(returned: libc::c_long) -> nix::Result<libc::c_long> {
    if returned == -1 { Err(Errno::last()) } else { Ok(returned) }
}

/// Takes the descriptor that a system call returned.
///
/// # Safety
/// `returned` is the result of a system call whose success is a new descriptor.
unsafe fn check_fd(returned: libc::c_long) -> nix::Result<OwnedFd> {
    let fd = libc::c_int::try_from(check(returned)?).map_err(|_| Errno::EBADF)?;
    // SAFETY: the kernel just made it, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
