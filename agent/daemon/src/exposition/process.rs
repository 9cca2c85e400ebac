//! The agent's own process, by the names that every exporter of Prometheus uses.

use std::fs;

use nix::sys::resource::{Resource, getrlimit};

use crate::runtime::proc_stat::{ProcStat, Units};

/// What the kernel says of this process. What it does not say is `None`.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Process {
    /// Seconds of processor time.
    pub(super) cpu_seconds: Option<f64>,
    pub(super) threads: Option<u64>,
    pub(super) virtual_bytes: Option<u64>,
    pub(super) resident_bytes: Option<u64>,
    /// Seconds since the epoch.
    pub(super) start_seconds: Option<f64>,
    pub(super) open_fds: Option<u64>,
    pub(super) max_fds: Option<u64>,
}

impl Process {
    /// Asks the kernel. Blocking, for a moment.
    pub(super) fn read() -> Self {
        let (stat, machine) = (fs::read_to_string("/proc/self/stat"), fs::read_to_string("/proc/stat"));
        let mut process = parse(&stat.unwrap_or_default(), &machine.unwrap_or_default(), Units::ask());
        // Less the one that is open for the reading.
        process.open_fds =
            fs::read_dir("/proc/self/fd").ok().and_then(|open| u64::try_from(open.count().saturating_sub(1)).ok());
        process.max_fds = getrlimit(Resource::RLIMIT_NOFILE).ok().map(|(soft, _)| soft);
        process
    }
}

/// Of /proc/self/stat, see proc_pid_stat(5), and the time of the boot in /proc/stat.
fn parse(stat: &str, machine: &str, units: Units) -> Process {
    let boot = machine.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse::<f64>().ok());
    let Some(stat) = ProcStat::parse(stat.as_bytes(), units) else { return Process::default() };
    Process {
        cpu_seconds: stat.cpu_time().map(|time| time.as_secs_f64()),
        threads: stat.number(20),
        virtual_bytes: stat.number(23),
        resident_bytes: stat.resident_bytes(),
        start_seconds: stat.started().zip(boot).map(|(since, boot)| boot + since.as_secs_f64()),
        open_fds: None,
        max_fds: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_counted_behind_the_name() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 1 0 0 0 250 50 0 0 20 0 9 0 1000 2000000 300 184";
        let process = parse(stat, "cpu 1 2\nbtime 1700000000\n", Units { ticks_per_second: 100, page_bytes: 4096 });
        let expected = Process {
            cpu_seconds: Some(3.0),
            threads: Some(9),
            virtual_bytes: Some(2_000_000),
            resident_bytes: Some(300 * 4096),
            start_seconds: Some(1_700_000_010.0),
            open_fds: None,
            max_fds: None,
        };
        assert_eq!(process, expected);
        assert_eq!(parse("", "", Units { ticks_per_second: 100, page_bytes: 4096 }), Process::default());
    }

    #[test]
    fn the_kernel_tells_of_this_process() {
        let process = Process::read();
        assert!(process.resident_bytes > Some(1 << 20) && process.threads >= Some(1), "{process:?}");
        assert!(process.open_fds >= Some(3) && process.open_fds <= process.max_fds, "{process:?}");
    }
}
