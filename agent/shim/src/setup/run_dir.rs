//! What the shim keeps on the host: its socket, and where the exit will be recorded.

use std::os::fd::OwnedFd;

use hull_wire::{SHIM_SOCKET, Step};
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, unlinkat};

use crate::failure::{At, Result};

/// Opens the run directory.
pub(crate) fn open_directory(path: &str) -> Result<OwnedFd> {
    open(path, OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty()).at(Step::RunDir, path)
}

/// Removes the shim's socket.
pub(crate) fn remove_socket(directory: &OwnedFd) {
    let _gone_already = unlinkat(directory, SHIM_SOCKET, UnlinkatFlags::NoRemoveDir);
}
