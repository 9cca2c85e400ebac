//! Pseudo-terminals, see ioctl_tty(2).

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use super::{check, check_fd};

/// Unlocks the other side of `master` and opens it, by descriptor: no path can lead elsewhere (TIOCSPTLCK, TIOCGPTPEER).
pub(crate) fn open_peer(master: BorrowedFd<'_>) -> nix::Result<OwnedFd> {
    let unlocked: libc::c_int = 0;
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: the number lives during the call; TIOCGPTPEER takes flags, and its success is a new descriptor.
    unsafe {
        check(libc::ioctl(master.as_raw_fd(), libc::TIOCSPTLCK, &raw const unlocked).into())?;
        check_fd(libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER, flags).into())
    }
}

/// Sets the size (TIOCSWINSZ).
pub(crate) fn set_size(terminal: BorrowedFd<'_>, rows: u16, columns: u16) -> nix::Result<()> {
    let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the structure lives during the call.
    check(unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) }.into()).map(drop)
}

/// Makes `terminal` the controlling one of the calling session leader (TIOCSCTTY).
pub(crate) fn make_controlling(terminal: BorrowedFd<'_>) -> nix::Result<()> {
    // SAFETY: takes a number.
    check(unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSCTTY, 0) }.into()).map(drop)
}
