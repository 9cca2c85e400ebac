//! The agent's own process, by the names that every exporter of Prometheus uses.

use std::fs;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit};
use nix::unistd::{SysconfVar, sysconf};

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
        let mut process = parse(&stat.unwrap_or_default(), &machine.unwrap_or_default(), &Units::ask());
        // Less the one that is open for the reading.
        process.open_fds =
            fs::read_dir("/proc/self/fd").ok().and_then(|open| u64::try_from(open.count().saturating_sub(1)).ok());
        process.max_fds = getrlimit(Resource::RLIMIT_NOFILE).ok().map(|(soft, _)| soft);
        process
    }
}

/// What the kernel counts in.
struct Units {
    ticks_a_second: u64,
    page_bytes: u64,
}

impl Units {
    fn ask() -> Self {
        let ask = |variable, usual| {
            let value = sysconf(variable).ok().flatten().and_then(|value| u64::try_from(value).ok());
            value.filter(|value| *value > 0).unwrap_or(usual)
        };
        Self { ticks_a_second: ask(SysconfVar::CLK_TCK, 100), page_bytes: ask(SysconfVar::PAGE_SIZE, 4096) }
    }
}

/// Of /proc/self/stat, see proc_pid_stat(5), and the time of the boot in /proc/stat.
fn parse(stat: &str, machine: &str, units: &Units) -> Process {
    // The name, in parentheses, may have anything in it. The first field behind it is the third.
    let fields: Vec<&str> = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_ascii_whitespace().collect();
    let field = |number: usize| fields.get(number - 3).and_then(|field| field.parse::<u64>().ok());
    let seconds = |ticks: u64| {
        let nanos = u128::from(ticks) * 1_000_000_000 / u128::from(units.ticks_a_second);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)).as_secs_f64()
    };
    let boot = machine.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse::<f64>().ok());
    Process {
        cpu_seconds: field(14).zip(field(15)).map(|(user, system)| seconds(user.saturating_add(system))),
        threads: field(20),
        virtual_bytes: field(23),
        resident_bytes: field(24).map(|pages| pages.saturating_mul(units.page_bytes)),
        start_seconds: field(22).zip(boot).map(|(ticks, boot)| boot + seconds(ticks)),
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
        let process = parse(stat, "cpu 1 2\nbtime 1700000000\n", &Units { ticks_a_second: 100, page_bytes: 4096 });
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
        assert_eq!(parse("", "", &Units { ticks_a_second: 100, page_bytes: 4096 }), Process::default());
    }

    #[test]
    fn the_kernel_tells_of_this_process() {
        let process = Process::read();
        assert!(process.resident_bytes > Some(1 << 20) && process.threads >= Some(1), "{process:?}");
        assert!(process.open_fds >= Some(3) && process.open_fds <= process.max_fds, "{process:?}");
    }
}
