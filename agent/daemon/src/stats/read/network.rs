//! The interfaces of a container, read through its init without entering its network namespace.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, openat, statat};
use rustix::io::Errno;

use super::kept::Unopened;

/// `net/dev` of the network namespace that `pid` is in. The open file holds that namespace, whatever becomes of the process, so it has
/// to be closed when the container ends. [`Unopened::Missing`] if that is the agent's own namespace.
///
/// The process may be gone and its number given to another: what is opened below the first descriptor is of one process, and that
/// this one is the container's its control groups tell.
pub(super) fn open(pid: i32, id: &str) -> Result<File, Unopened> {
    let process =
        openat(CWD, format!("/proc/{pid}"), OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(unopened)?;
    if !is_of(&process, id)? {
        return Err(Unopened::Gone);
    }
    let namespace = |at: &OwnedFd, path: &str| {
        statat(at, path, AtFlags::empty()).map(|found| (found.st_dev, found.st_ino)).map_err(unopened)
    };
    let own = openat(CWD, "/proc/self", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(unopened)?;
    if namespace(&process, "ns/net")? == namespace(&own, "ns/net")? {
        return Err(Unopened::Missing);
    }
    openat(&process, "net/dev", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map(File::from).map_err(unopened)
}

/// Whether a process is in the control groups of a container, or in groups that it made there.
fn is_of(process: &OwnedFd, id: &str) -> Result<bool, Unopened> {
    let groups = openat(process, "cgroup", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map_err(unopened)?;
    let mut text = String::new();
    File::from(groups).take(1 << 16).read_to_string(&mut text).map_err(Unopened::Error)?;
    Ok(names_group(&text, id))
}

fn names_group(text: &str, id: &str) -> bool {
    text.lines().filter_map(|line| line.splitn(3, ':').nth(2)).any(|path| path.split('/').any(|part| part == id))
}

/// A process that is gone has no directory, or none that can be looked into.
fn unopened(errno: Errno) -> Unopened {
    match errno {
        Errno::NOENT | Errno::SRCH => Unopened::Gone,
        other => Unopened::Error(io::Error::from(other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_of_the_container_is_told_by_its_groups() {
        let text = "13:memory:/hull/abc\n1:name=systemd:/init.scope\n0::/hull/abc/payload\n";
        assert!(names_group(text, "abc"));
        assert!(!names_group(text, "ab") && !names_group(text, "memory") && !names_group("", "abc"));
    }

    #[test]
    fn other_processes_are_not_the_container_s() {
        let own = i32::try_from(std::process::id()).unwrap();
        assert!(matches!(open(own, "0123"), Err(Unopened::Gone)));
        assert!(matches!(open(i32::MAX, "0123"), Err(Unopened::Gone)));
    }
}
