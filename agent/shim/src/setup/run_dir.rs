//! What the shim keeps on the host: its socket, the log, and where the exit will be recorded.

use std::os::fd::OwnedFd;

use hull_wire::{LogPlan, SHIM_SOCKET, Step};
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, unlinkat};

use crate::failure::{At, Result};

/// Opens the run directory.
pub(crate) fn open_directory(path: &str) -> Result<OwnedFd> {
    open(path, OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty()).at(Step::RunDir, path)
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
