//! What is done to the processes of a container as a whole: freeze, signal, kill, and removing the groups after them.
//!
//! Version 2 tells in `cgroup.events` when a group is frozen or empty, and poll(2) waits for it. Version 1 has no such events:
//! there the state is read again after growing pauses, up to the deadline.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cgroups_rs::FreezerState;
use cgroups_rs::fs::freezer::FreezerController;
use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use rustix::process::{Pid, PidfdFlags, pidfd_open, pidfd_send_signal};

use super::apply::{Place, os_error};
use super::hierarchy::Controller;
use super::{ContainerCgroup, file};
use crate::error::{Error, Reason, Result};

/// Longest wait for a group to freeze, or to become empty after its processes were killed. A process in uninterruptible sleep can
/// take longer; then the caller hears of it and tries again.
const DEADLINE: Duration = Duration::from_secs(5);

impl ContainerCgroup {
    /// Stops all processes of the container where they are, and returns when they stand still.
    ///
    /// # Errors
    /// `System` with ETIMEDOUT if some process does not freeze in time (then all run again), `UnsupportedFeature` on version 1
    /// without the freezer controller.
    pub(crate) fn freeze(&self) -> Result<()> {
        let (freezer, unified) = self.freezer()?;
        freezer.freeze().map_err(|error| Error::io(format!("freezing {}", self.path()), &os_error(error)))?;
        let frozen = match &unified {
            Some(dir) => wait_event(dir, "frozen 1", DEADLINE),
            None => poll_until(DEADLINE, || Ok(matches!(freezer.state(), Ok(FreezerState::Frozen)))),
        };
        match frozen {
            Ok(true) => Ok(()),
            failed => {
                let _ = freezer.thaw();
                let error = failed.err().unwrap_or_else(|| io::Error::from_raw_os_error(libc::ETIMEDOUT));
                Err(Error::io(format!("freezing {}", self.path()), &error)
                    .hint("a process is in uninterruptible sleep; the container runs on"))
            }
        }
    }

    /// Lets frozen processes go on.
    ///
    /// # Errors
    /// As [`Self::freeze`].
    pub(crate) fn thaw(&self) -> Result<()> {
        let (freezer, _) = self.freezer()?;
        freezer.thaw().map_err(|error| Error::io(format!("thawing {}", self.path()), &os_error(error)))
    }

    /// Whether the container's processes have been asked to stand still.
    pub(crate) fn is_frozen(&self) -> bool {
        self.freezer().is_ok_and(|(freezer, _)| !matches!(freezer.state(), Ok(FreezerState::Thawed) | Err(_)))
    }

    fn freezer(&self) -> Result<(FreezerController, Option<PathBuf>)> {
        if let Some(dir) = self.unified() {
            return Ok((FreezerController::new(dir.clone(), PathBuf::new(), true), Some(dir)));
        }
        let Some((dir, _)) = self.place(Controller::Freezer) else {
            return Err(Error::new(
                Reason::UnsupportedFeature,
                "pause: this host has neither cgroup2 nor the freezer controller",
            ));
        };
        Ok((FreezerController::new(dir, PathBuf::new(), false), None))
    }

    /// Sends SIGKILL to every process of the container, frozen ones and those forked meanwhile included. They may still be
    /// ending when this returns; [`Self::remove`] waits for them.
    ///
    /// # Errors
    /// `System` if the kernel refuses, or, without `cgroup.kill`, if processes are still there after [`DEADLINE`].
    pub(crate) fn kill(&self) -> Result<()> {
        if let Some(dir) = self.unified() {
            match file::write(&dir, "cgroup.kill", "1") {
                Ok(()) => return Ok(()),
                // Gone, or a kernel before 5.14.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(Error::io(format!("killing {}", self.path()), &error)),
            }
        }
        self.kill_by_rounds()
    }

    pub(super) fn kill_by_rounds(&self) -> Result<()> {
        let begun = Instant::now();
        let mut pause = Duration::ZERO;
        while begun.elapsed() < DEADLINE {
            if self.processes()?.is_empty() {
                return Ok(());
            }
            // Frozen processes cannot fork away; where they cannot be frozen, the next round finds the children.
            let frozen = self.freezer().is_ok_and(|(freezer, _)| freezer.freeze().is_ok());
            let sent = self.signal_all(Signal::SIGKILL);
            if frozen {
                self.thaw()?;
            }
            sent?;
            std::thread::sleep(pause);
            pause = (pause * 2).clamp(Duration::from_millis(1), Duration::from_millis(10));
        }
        match self.processes()? {
            left if left.is_empty() => Ok(()),
            left => Err(Error::os(format!("killing {}: processes {left:?} do not end", self.path()), Errno::ETIMEDOUT)),
        }
    }

    /// Sends a signal to every process of the container. One that forks meanwhile may get away with a child, see [`Self::kill`].
    ///
    /// # Errors
    /// `System` if processes cannot be listed or signalled.
    pub(crate) fn signal_all(&self, signal: Signal) -> Result<()> {
        // A process id may change hands between being read and being used. A descriptor does not: it is opened first, and
        // counts if the id still belongs to the container afterwards.
        let mut targets = Vec::new();
        for pid in self.processes()? {
            if let Some(pid) = Pid::from_raw(pid)
                && let Ok(descriptor) = pidfd_open(pid, PidfdFlags::empty())
            {
                targets.push((pid.as_raw_nonzero().get(), descriptor));
            }
        }
        let still = self.processes()?;
        let number =
            rustix::process::Signal::from_named_raw(signal as i32).ok_or_else(|| Error::invalid("signal", signal))?;
        for (_, descriptor) in targets.iter().filter(|(pid, _)| still.contains(pid)) {
            match pidfd_send_signal(descriptor, number) {
                Ok(()) | Err(rustix::io::Errno::SRCH) => {}
                Err(error) => {
                    return Err(Error::os(
                        format!("signalling {}", self.path()),
                        Errno::from_raw(error.raw_os_error()),
                    ));
                }
            }
        }
        Ok(())
    }

    /// Ids of the container's processes, those in nested groups included, as the agent's pid namespace sees them.
    ///
    /// # Errors
    /// `System` if a group cannot be read. A group that is gone has no processes.
    pub(crate) fn processes(&self) -> Result<Vec<i32>> {
        let dir = self.unified().or_else(|| {
            [Controller::Freezer, Controller::Pids, Controller::Memory, Controller::Cpu]
                .into_iter()
                .find_map(|controller| self.place(controller))
                .map(|(dir, _)| dir)
        });
        let Some(dir) = dir else { return Ok(Vec::new()) };
        let failed =
            |dir: &Path, error: &io::Error| Error::io(format!("listing processes of {}", dir.display()), error);
        let mut found = Vec::new();
        let mut pending = vec![dir];
        while let Some(dir) = pending.pop() {
            match fs::read_to_string(dir.join("cgroup.procs")) {
                Ok(text) => {
                    found.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()).filter(|pid| *pid > 0))
                }
                // EOPNOTSUPP: a threaded group; its processes are listed further up.
                Err(error) if is_gone(&error) || error.raw_os_error() == Some(libc::EOPNOTSUPP) => {}
                Err(error) => return Err(failed(&dir, &error)),
            }
            let nested = file::children(&dir).map_err(|error| failed(&dir, &error))?;
            pending.extend(nested.into_iter().map(|name| dir.join(name)));
        }
        Ok(found)
    }

    /// Whether the container has a process. A zombie that its parent has not waited for is none.
    pub(crate) fn is_populated(&self) -> bool {
        match self.unified() {
            Some(dir) => {
                file::read(&dir, "cgroup.events").is_ok_and(|text| text.lines().any(|line| line == "populated 1"))
            }
            None => self.processes().is_ok_and(|processes| !processes.is_empty()),
        }
    }

    /// Removes the groups in every hierarchy, nested ones that the container made included, and waits a bounded time for
    /// processes that are still ending. What is gone already is no error.
    ///
    /// # Errors
    /// `InvalidState` if processes remain, `System` if the kernel refuses otherwise.
    pub(crate) fn remove(&self) -> Result<()> {
        self.remove_within(DEADLINE)
    }

    pub(super) fn remove_within(&self, wait: Duration) -> Result<()> {
        let end = Instant::now() + wait;
        let left = || end.saturating_duration_since(Instant::now());
        for dir in self.every_dir() {
            match remove_tree(&dir) {
                Ok(()) => continue,
                Err(error) if error.raw_os_error() != Some(libc::EBUSY) => return Err(self.left_behind(&dir, &error)),
                Err(_) => {}
            }
            if let Some(unified) = self.unified() {
                wait_event(&unified, "populated 0", left()).map_err(|error| self.left_behind(&dir, &error))?;
            }
            // An empty group can be busy a moment longer, while the kernel takes its last process apart.
            poll_until(left(), || match remove_tree(&dir) {
                Ok(()) => Ok(true),
                Err(error) if error.raw_os_error() == Some(libc::EBUSY) => Ok(false),
                Err(error) => Err(error),
            })
            .and_then(|gone| if gone { Ok(()) } else { Err(io::Error::from_raw_os_error(libc::EBUSY)) })
            .map_err(|error| self.left_behind(&dir, &error))?;
        }
        Ok(())
    }

    fn left_behind(&self, dir: &Path, error: &io::Error) -> Error {
        let mut result = Error::io(format!("removing control group {}", dir.display()), error);
        if error.raw_os_error() == Some(libc::EBUSY) {
            let procs = file::read(dir, "cgroup.procs").unwrap_or_default().replace('\n', ", ");
            result.reason = Reason::InvalidState;
            result = result.hint(format!("processes of {} are still there: {procs}", self.id()));
        }
        result
    }
}

/// Removes a group and those nested in it, from the inside out. EBUSY: one has processes.
pub(super) fn remove_tree(dir: &Path) -> io::Result<()> {
    match fs::remove_dir(dir) {
        Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {}
        Err(error) if is_gone(&error) => return Ok(()),
        other => return other,
    }
    // Every group before those nested in it; removed from the back. By a list and not by recursion: the container chose the depth.
    let mut groups = vec![dir.to_owned()];
    let mut next = 0;
    while let Some(group) = groups.get(next).cloned() {
        groups.extend(file::children(&group)?.into_iter().map(|name| group.join(name)));
        next += 1;
    }
    for group in groups.iter().rev() {
        match fs::remove_dir(group) {
            Err(error) if !is_gone(&error) => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ENODEV)
}

/// Waits until `cgroup.events` has a line; the kernel wakes poll(2) when the file changes. `false`: the time is over. A group that is
/// gone has neither processes nor anything to freeze.
fn wait_event(dir: &Path, line: &str, wait: Duration) -> io::Result<bool> {
    let end = Instant::now() + wait;
    let file = match File::open(dir.join("cgroup.events")) {
        Err(error) if is_gone(&error) => return Ok(true),
        other => other?,
    };
    let mut buffer = [0_u8; 256];
    loop {
        // Reading comes before waiting: it arms the notification.
        let length = match file.read_at(&mut buffer, 0) {
            Err(error) if is_gone(&error) => return Ok(true),
            other => other?,
        };
        if buffer[..length].split(|byte| *byte == b'\n').any(|found| found == line.as_bytes()) {
            return Ok(true);
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        // Rounded up, so that the last wait is not a busy loop.
        let timeout = PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(file.as_fd(), PollFlags::POLLPRI)], timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Asks again after pauses that grow from 50 microseconds to 10 milliseconds. `false`: the time is over.
fn poll_until(wait: Duration, mut done: impl FnMut() -> io::Result<bool>) -> io::Result<bool> {
    let end = Instant::now() + wait;
    let mut pause = Duration::from_micros(50);
    loop {
        if done()? {
            return Ok(true);
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        std::thread::sleep(pause.min(left));
        pause = (pause * 2).min(Duration::from_millis(10));
    }
}
