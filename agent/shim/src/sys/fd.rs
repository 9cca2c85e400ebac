//! Descriptors: the standard ones, closing in bulk, polling and vectored writing.

use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use nix::errno::Errno;

use super::check;

/// What to wait for on one descriptor, and what there was. POLLERR and POLLHUP come unasked.
#[derive(Debug, Clone, Copy)]
#[repr(transparent)]
pub(crate) struct Poll(libc::pollfd);

impl Poll {
    /// Waits for `events`: bits of POLLIN and POLLOUT.
    pub(crate) fn new(fd: BorrowedFd<'_>, events: libc::c_short) -> Self {
        Self(libc::pollfd { fd: fd.as_raw_fd(), events, revents: 0 })
    }

    /// Whether this is about `fd`.
    pub(crate) fn is_of(self, fd: BorrowedFd<'_>) -> bool {
        self.0.fd == fd.as_raw_fd()
    }

    /// What there was.
    pub(crate) fn ready(self) -> libc::c_short {
        self.0.revents
    }
}

/// poll(2). `timeout` in milliseconds; negative: for ever.
pub(crate) fn poll(entries: &mut [Poll], timeout: libc::c_int) -> nix::Result<usize> {
    let count = libc::nfds_t::try_from(entries.len()).map_err(|_| Errno::EINVAL)?;
    // SAFETY: Poll is transparent over pollfd; a descriptor that is closed is reported, not touched.
    let returned = unsafe { libc::poll(entries.as_mut_ptr().cast(), count, timeout) };
    Errno::result(returned).map(|ready| usize::try_from(ready).unwrap_or_default())
}

/// dup2(2) onto one of the standard descriptors, 0 to 2.
pub(crate) fn make_standard(fd: BorrowedFd<'_>, number: RawFd) -> nix::Result<()> {
    debug_assert!((0..=2).contains(&number));
    if fd.as_raw_fd() == number {
        // SAFETY: only the flags of a standard descriptor change.
        return check(unsafe { libc::fcntl(number, libc::F_SETFD, 0) }.into()).map(drop);
    }
    // SAFETY: nothing in this program owns 0 to 2.
    check(unsafe { libc::dup2(fd.as_raw_fd(), number) }.into()).map(drop)
}

/// close_range(2): closes every descriptor above the standard ones. For the very start of the program only.
pub(crate) fn close_inherited() -> nix::Result<()> {
    // SAFETY: called before anything was opened.
    check(unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, 0) }).map(drop)
}

/// close_range(2): marks every descriptor above the standard ones to be closed by execve.
pub(crate) fn close_on_exec() -> nix::Result<()> {
    // SAFETY: only flags change.
    check(unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) }).map(drop)
}

/// close_range(2): closes every descriptor above the standard ones but these.
///
/// # Errors
/// Those of close_range(2).
pub(crate) fn close_all_but(kept: &mut [RawFd]) -> nix::Result<()> {
    kept.sort_unstable();
    let mut first = 3;
    for end in kept.iter().copied().chain([RawFd::MAX]).filter(|fd| *fd >= 3) {
        if first < end {
            // SAFETY: for a process that is about to copy itself: whoever still owns one of these in the caller uses it no more.
            check(unsafe { libc::syscall(libc::SYS_close_range, first, end - 1, 0) })?;
        }
        first = end.saturating_add(1);
    }
    Ok(())
}

/// Adds O_NONBLOCK to a descriptor's open file.
pub(crate) fn set_nonblocking(fd: BorrowedFd<'_>) -> nix::Result<()> {
    // SAFETY: only flags are read and written.
    unsafe {
        let flags = check(libc::fcntl(fd.as_raw_fd(), libc::F_GETFL).into())?;
        check(libc::syscall(libc::SYS_fcntl, fd.as_raw_fd(), libc::F_SETFL, flags | i64::from(libc::O_NONBLOCK)))?;
    }
    Ok(())
}
