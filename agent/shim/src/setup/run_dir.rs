//! What the shim keeps on the host: its socket, the log, and where the exit will be recorded.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use hull_wire::{LogPlan, SHIM_SOCKET, Step};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket};
use nix::sys::stat::{Mode, fchmod};
use nix::unistd::{UnlinkatFlags, unlinkat};

use crate::failure::{At, Result};

/// Opens the run directory.
pub(crate) fn open_directory(path: &str) -> Result<OwnedFd> {
    open(path, OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty()).at(Step::RunDir, path)
}

/// Listens on the shim's socket. Its address names the directory by descriptor, because addresses are 108 bytes long at most.
pub(crate) fn listen_in(directory: &OwnedFd) -> Result<OwnedFd> {
    let at = |errno| crate::failure::failed(Step::RunDir, errno, SHIM_SOCKET);
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let listener = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None).map_err(at)?;
    match unlinkat(directory, SHIM_SOCKET, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => {}
        Err(errno) => return Err(at(errno)),
    }
    // The mode that the socket's file will have: there is no moment at which others may connect.
    fchmod(&listener, Mode::from_bits_truncate(0o600)).map_err(at)?;
    let path = format!("/proc/self/fd/{}/{SHIM_SOCKET}", directory.as_raw_fd());
    let address = UnixAddr::new(path.as_str()).map_err(at)?;
    bind(listener.as_raw_fd(), &address).map_err(at)?;
    listen(&listener.as_fd(), Backlog::new(4).map_err(at)?).map_err(at)?;
    Ok(listener)
}

/// Opens the log.
pub(crate) fn open_log(plan: &LogPlan) -> Result<OwnedFd> {
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_APPEND | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    open(plan.path.as_str(), flags, Mode::from_bits_truncate(0o640)).at(Step::RunDir, &plan.path)
}

/// Removes the shim's socket.
pub(crate) fn remove_socket(directory: &OwnedFd) {
    let _gone_already = unlinkat(directory, SHIM_SOCKET, UnlinkatFlags::NoRemoveDir);
}
