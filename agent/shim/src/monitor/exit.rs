//! How processes ended.

use std::os::fd::{AsFd, OwnedFd};

use hull_wire::{EXIT_FILE, ExitRecord};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat, renameat};
use nix::sys::stat::Mode;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::time::ClockId;
use nix::unistd::{Pid, read, write};

use crate::failure::nanos;

const UNFINISHED: &str = "exit.new";
/// See include/linux/sched.h and proc_pid_stat(5).
const PF_EXITING: u32 = 0x4;

/// Reaps one child that has ended: who, its code and the signal that ended it.
pub(crate) fn reap() -> Option<(Pid, i32, i32)> {
    loop {
        return match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) => Some((pid, code, 0)),
            Ok(WaitStatus::Signaled(pid, signal, _)) => Some((pid, 128 + signal as i32, signal as i32)),
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => None,
            Ok(_) | Err(_) => continue,
        };
    }
}

/// Whether a child that was not reaped yet has ended or ends at this moment. An init waits in its end for every other process of its
/// pid namespace, so it is no zombie yet when those are killed.
pub(crate) fn is_under_way(child: Pid) -> bool {
    let mut stat = [0; 512];
    let file = open(format!("/proc/{child}/stat").as_str(), OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty());
    let length = file.and_then(|file| read(&file, &mut stat)).unwrap_or_default();
    // The name, in parentheses, may hold anything.
    let after = stat[..length].iter().rposition(|byte| *byte == b')').map_or(length, |at| length.min(at + 2));
    let mut fields = str::from_utf8(&stat[after..length]).unwrap_or_default().split(' ');
    let state = fields.next();
    let flags = fields.nth(5).and_then(|flags| flags.parse::<u32>().ok()).unwrap_or_default();
    state == Some("Z") || flags & PF_EXITING != 0
}

/// The record of a process that ended now.
pub(crate) fn record(code: i32, signal: i32, oom_killed: bool) -> ExitRecord {
    ExitRecord { code, signal, oom_killed, finished_at_nanos: nanos(ClockId::CLOCK_REALTIME) }
}

/// Writes the exit file, which is whole or not there.
pub(crate) fn write_file(directory: &OwnedFd, record: &ExitRecord) -> nix::Result<()> {
    let bytes = hull_wire::encode(record).map_err(|_| Errno::ENOMEM)?;
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_TRUNC | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let file = openat(directory, UNFINISHED, flags, Mode::from_bits_truncate(0o600))?;
    if write(file.as_fd(), &bytes)? != bytes.len() {
        return Err(Errno::ENOSPC);
    }
    renameat(directory, UNFINISHED, directory, EXIT_FILE)
}
