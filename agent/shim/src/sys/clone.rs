//! clone3(2), in its two forms: a child with memory of its own, and a child that borrows its parent's until it executes a program;
//! and a copy that is no child but a sibling.

use std::arch::asm;
use std::convert::Infallible;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sched::CloneFlags;
use nix::unistd::Pid;

use super::check;

/// A child just made.
#[derive(Debug)]
pub(crate) struct Child {
    /// Its process id in the caller's pid namespace.
    pub(crate) pid: Pid,
    /// Refers to it, see pidfd_open(2).
    pub(crate) pidfd: OwnedFd,
}

/// How a child gets its memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Memory {
    /// A copy, as with fork(2): the parent runs on.
    Copy,
    /// The parent's own, which sleeps until the child executes a program or ends, as with vfork(2). Several times faster.
    Borrow,
}

/// Runs `child` in a new process, in new namespaces as `flags` say and in the version 2 control group `cgroup`.
///
/// # Errors
/// Those of clone3(2).
pub(crate) fn clone<F>(
    memory: Memory,
    flags: CloneFlags,
    cgroup: Option<BorrowedFd<'_>>,
    mut child: F,
) -> nix::Result<Child>
where
    F: FnMut() -> Infallible,
{
    let mut pidfd: libc::c_int = -1;
    let mut bits = u64::from(flags.bits().cast_unsigned()) | libc::CLONE_PIDFD as u64;
    if memory == Memory::Borrow {
        bits |= (libc::CLONE_VM | libc::CLONE_VFORK) as u64;
    }
    let mut group = 0;
    if let Some(cgroup) = cgroup {
        bits |= CLONE_INTO_CGROUP;
        group = u64::from(cgroup.as_raw_fd().cast_unsigned());
    }
    let arguments = libc::clone_args {
        flags: bits,
        pidfd: &raw mut pidfd as u64,
        child_tid: 0,
        parent_tid: 0,
        exit_signal: libc::SIGCHLD as u64,
        stack: 0,
        stack_size: 0,
        tls: 0,
        set_tid: 0,
        set_tid_size: 0,
        cgroup: group,
    };
    // SAFETY: the arguments live during the call; `enter::<F>` never returns and gets a pointer to `child`, which outlives the
    // child's use of it: with borrowed memory this function sleeps meanwhile, otherwise the child has its own copy.
    let returned = unsafe { clone3(&raw const arguments, enter::<F>, (&raw mut child).cast()) };
    if returned < 0 {
        return Err(Errno::from_raw(i32::try_from(-returned).unwrap_or(libc::EINVAL)));
    }
    let pid = Pid::from_raw(i32::try_from(returned).unwrap_or(-1));
    // SAFETY: clone3 succeeded with CLONE_PIDFD, so it stored a new descriptor there.
    Ok(Child { pid, pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) } })
}

/// Makes a copy of the calling process that is a child of its parent: the copy's process id, in the caller's pid namespace, or `None`
/// in the copy itself. By clone(2), for many filters know no clone3(2).
///
/// # Errors
/// Those of clone(2).
pub(crate) fn copy_as_sibling() -> nix::Result<Option<Pid>> {
    // With CLONE_PARENT the signal at the end is the caller's own.
    let flags = libc::c_long::from(libc::CLONE_PARENT);
    // SAFETY: as fork(2) in a process without threads: the copy goes on with memory of its own, on a copy of this stack.
    let returned = unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) };
    let pid = check(returned)?;
    Ok((pid != 0).then(|| Pid::from_raw(i32::try_from(pid).unwrap_or(-1))))
}

const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Where a child begins.
extern "C" fn enter<F: FnMut() -> Infallible>(child: *mut libc::c_void) -> ! {
    // SAFETY: `clone` passed a pointer to its F.
    let child = unsafe { &mut *child.cast::<F>() };
    match child() {}
}

/// clone3 on the caller's stack. A child with borrowed memory must never return to the frame of its parent, nor may the
/// compiler see two returns: so it leaves for `entry` inside the assembly, and writes only below the parent's stack pointer.
///
/// # Safety
/// `arguments` is valid, without a stack; `entry` never returns and accepts `data`.
#[cfg(target_arch = "x86_64")]
unsafe fn clone3(
    arguments: *const libc::clone_args,
    entry: extern "C" fn(*mut libc::c_void) -> !,
    data: *mut libc::c_void,
) -> i64 {
    let returned: i64;
    // SAFETY: the system call clobbers rax, rcx and r11 only; the child goes to `entry` with an aligned stack.
    unsafe {
        asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "and rsp, -16",
            "mov rdi, r12",
            "call r13",
            "ud2",
            "2:",
            inlateout("rax") libc::SYS_clone3 => returned,
            in("rdi") arguments,
            in("rsi") size_of::<libc::clone_args>(),
            in("r12") data,
            in("r13") entry,
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    returned
}

/// As above.
#[cfg(target_arch = "aarch64")]
unsafe fn clone3(
    arguments: *const libc::clone_args,
    entry: extern "C" fn(*mut libc::c_void) -> !,
    data: *mut libc::c_void,
) -> i64 {
    let returned: i64;
    // SAFETY: the system call clobbers x0 only; the child goes to `entry` on a stack that is always aligned.
    unsafe {
        asm!(
            "svc #0",
            "cbnz x0, 2f",
            "mov x29, xzr",
            "mov x0, x20",
            "blr x21",
            "brk #1",
            "2:",
            inlateout("x0") arguments => returned,
            in("x1") size_of::<libc::clone_args>(),
            in("x8") libc::SYS_clone3,
            in("x20") data,
            in("x21") entry,
            lateout("x30") _,
        );
    }
    returned
}
