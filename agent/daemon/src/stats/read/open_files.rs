//! How many files processes have open: since Linux 6.2 the size of `/proc/PID/fd` is their number, so that nothing is listed.

use std::io::Write as _;
use std::sync::OnceLock;

use rustix::fs::stat;

/// The most processes that are asked: one stat(2) each, which is cheap as long as they are few.
const MAX_PROCESSES: usize = 16;

/// Processes of a container.
#[derive(Debug, Default)]
pub(super) struct Members {
    pids: [u32; MAX_PROCESSES],
    /// How many there are, whether or not they have room.
    count: usize,
}

impl Members {
    /// A single one.
    pub(super) fn one(pid: i32) -> Self {
        let mut members = Self::default();
        members.add(u32::try_from(pid).unwrap_or_default());
        members
    }

    /// Those of a `cgroup.procs`.
    pub(super) fn add_all(&mut self, text: &[u8]) {
        let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        lines.map(|line| std::str::from_utf8(line).ok().and_then(|line| line.parse().ok())).for_each(|pid| {
            self.add(pid.unwrap_or_default());
        });
    }

    fn add(&mut self, pid: u32) {
        if let Some(place) = self.pids.get_mut(self.count) {
            *place = pid;
        }
        self.count += 1;
    }

    /// How many files all of them have open; one that has ended meanwhile has none. `None` where the kernel does not tell, where they
    /// are too many, or where they are not all that there are.
    pub(super) fn open_files(&self, processes: Option<u64>) -> Option<u64> {
        let all = processes.and_then(|processes| usize::try_from(processes).ok()) == Some(self.count);
        if !all || self.count > MAX_PROCESSES || !kernel_tells() {
            return None;
        }
        Some(self.pids[..self.count].iter().filter_map(|pid| open_files(*pid)).sum())
    }
}

/// Before Linux 6.2 the size is always 0, and this process has open files.
fn kernel_tells() -> bool {
    static TELLS: OnceLock<bool> = OnceLock::new();
    *TELLS.get_or_init(|| open_files(std::process::id()).is_some_and(|count| count > 0))
}

fn open_files(pid: u32) -> Option<u64> {
    let mut path = [0; 24];
    let mut rest = &mut path[..];
    write!(rest, "/proc/{pid}/fd").ok()?;
    let left = rest.len();
    let length = path.len() - left;
    u64::try_from(stat(&path[..length]).ok()?.st_size).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_processes_are_counted_and_many_are_not() {
        let own = i32::try_from(std::process::id()).unwrap();
        let uname = nix::sys::utsname::uname().unwrap();
        let release = uname.release().to_str().unwrap();
        let mut numbers = release.split(['.', '-']).map_while(|word| word.parse::<u32>().ok());
        let tells = (numbers.next(), numbers.next()) >= (Some(6), Some(2));
        assert_eq!(kernel_tells(), tells);
        assert_eq!(Members::one(own).open_files(Some(1)).is_some_and(|count| count > 2), tells);
        // One that is gone has none.
        assert_eq!(Members::one(i32::MAX).open_files(Some(1)), tells.then_some(0));
        assert_eq!(Members::one(own).open_files(Some(2)), None);
        assert_eq!(Members::one(own).open_files(None), None);
        let mut members = Members::default();
        members.add_all(b"4194304\n4194305\n");
        assert_eq!(members.open_files(Some(2)), tells.then_some(0));
        members.add_all("4194304\n".repeat(MAX_PROCESSES).as_bytes());
        assert_eq!(members.open_files(Some(2 + MAX_PROCESSES as u64)), None);
    }
}
