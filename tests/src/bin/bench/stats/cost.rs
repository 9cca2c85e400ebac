//! What statistics cost: processor time by the kernel's own count, and what the kernel alone needs for the same files.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};

use crate::Result;
use crate::cpu::{of_process, of_threads};
use crate::node::Node;

/// Milliseconds of processor time of the agent's threads that read statistics.
pub(super) fn of_sampler(node: &Node) -> Result<f64> {
    of_threads(node.agent.pid(), |name| name.starts_with("stats"))
}

/// The agent's share of a core, in percent, since some time.
#[derive(Debug)]
pub(super) struct Share {
    pid: i32,
    at: Instant,
    spent: f64,
}

impl Share {
    pub(super) fn begin(node: &Node) -> Result<Self> {
        let pid = node.agent.pid();
        Ok(Self { pid, at: Instant::now(), spent: of_process(pid)? })
    }

    /// The share until now; the next one begins.
    pub(super) fn lap(&mut self) -> Result<f64> {
        let (at, spent) = (Instant::now(), of_process(self.pid)?);
        let share = (spent - self.spent) / (at - self.at).as_secs_f64() / 10.0;
        (self.at, self.spent) = (at, spent);
        Ok(share)
    }
}

/// Memory that is the agent's alone, in bytes.
pub(super) fn memory(node: &Node) -> Result<f64> {
    let path = format!("/proc/{}/smaps_rollup", node.agent.pid());
    let text = std::fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("Private_Dirty:")).ok_or("no Private_Dirty")?;
    let kilobytes: f64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kilobytes * 1024.0)
}

/// The files that the agent keeps open for statistics, opened once more.
pub(super) fn kept_files(node: &Node) -> Result<Vec<File>> {
    let mut files = Vec::new();
    for link in std::fs::read_dir(format!("/proc/{}/fd", node.agent.pid()))? {
        let Ok(path) = std::fs::read_link(link?.path()) else { continue };
        let text = path.to_string_lossy();
        if (text.contains("/cgroup/") && text.contains(node.agent.cgroup())) || text.ends_with("/net/dev") {
            files.push(File::open(PathBuf::from(&path)).map_err(|e| format!("{}: {e}", path.display()))?);
        }
    }
    Ok(files)
}

/// Reads every file once; milliseconds of this thread's processor time.
pub(super) fn read_all(files: &[File], buffer: &mut [u8]) -> Result<f64> {
    let clock = || clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map(Duration::from);
    let before = clock()?;
    for file in files {
        file.read_at(buffer, 0)?;
    }
    Ok((clock()? - before).as_secs_f64() * 1e3)
}
