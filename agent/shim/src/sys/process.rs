//! The process itself: signals, limits, keyring, and its end.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use nix::unistd::Pid;

use super::{check, check_fd};

const KEYCTL_JOIN_SESSION_KEYRING: libc::c_int = 1;

/// Default dispositions for all signals and an empty signal mask. What was ignored or blocked by a parent (nohup) is no more.
pub(crate) fn reset_signals() {
    // The kernel's struct sigaction: SIG_DFL, no flags, no restorer, an empty mask. By system call, for glibc keeps signals 32 and
    // 33 to itself, and its posix_spawn leaves them ignored in every child.
    let default = [0_u64; 4];
    // SAFETY: SIG_DFL runs no code of ours; `default` is read only; errors (SIGKILL, SIGSTOP) have no consequence.
    unsafe {
        for signal in 1..=64 {
            let none: *mut libc::c_void = std::ptr::null_mut();
            libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), none, size_of::<u64>());
        }
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
}

/// What a monitor wants: writing to a closed pipe is an error, not the end; children are heard of through a signalfd; nothing
/// else interrupts.
pub(crate) fn hold_signals() {
    // SAFETY: SIG_IGN runs no code of ours; a full set is a valid one.
    unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_IGN);
        let mut all: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const all, std::ptr::null_mut());
    }
}

/// Undoes [`hold_signals`] in a child.
pub(crate) fn release_signals() {
    // SAFETY: as above.
    unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
}

/// prlimit(2) of the calling process with a resource number as it comes from the plan.
pub(crate) fn set_limit(resource: u32, soft: u64, hard: u64) -> nix::Result<()> {
    let limit = libc::rlimit64 { rlim_cur: soft, rlim_max: hard };
    // SAFETY: the structure lives during the call, and the kernel only reads it.
    check(unsafe {
        libc::syscall(libc::SYS_prlimit64, 0, resource, &raw const limit, std::ptr::null::<libc::rlimit64>())
    })
    .map(drop)
}

/// Joins a new, empty session keyring, see keyctl(2).
pub(crate) fn new_session_keyring() -> nix::Result<()> {
    // SAFETY: a null name makes an anonymous keyring.
    check(unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, std::ptr::null::<libc::c_char>()) })
        .map(drop)
}

/// setdomainname(2).
pub(crate) fn set_domain_name(name: &str) -> nix::Result<()> {
    // SAFETY: the kernel reads that many bytes, which live during the call.
    check(unsafe { libc::setdomainname(name.as_ptr().cast(), name.len()) }.into()).map(drop)
}

/// pidfd_send_signal(2).
pub(crate) fn send_signal(pidfd: BorrowedFd<'_>, signal: libc::c_int) -> nix::Result<()> {
    // SAFETY: a null siginfo makes that of kill(2).
    check(unsafe {
        libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, std::ptr::null::<libc::siginfo_t>(), 0)
    })
    .map(drop)
}

/// pidfd_open(2) of a child that is not reaped yet.
pub(crate) fn open(child: Pid) -> nix::Result<OwnedFd> {
    // SAFETY: takes numbers; its success is a new descriptor, which execve closes.
    unsafe { check_fd(libc::syscall(libc::SYS_pidfd_open, child.as_raw(), 0)) }
}

/// Ends the calling process at once, running nothing: for a child before execve, whose memory may be its parent's.
pub(crate) fn end(code: libc::c_int) -> ! {
    // SAFETY: takes a number.
    unsafe { libc::_exit(code) }
}

/// Gives free memory back to the kernel, see malloc_trim(3).
pub(crate) fn trim_memory() {
    // SAFETY: takes a number.
    unsafe { libc::malloc_trim(0) };
}
