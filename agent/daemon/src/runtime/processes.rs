//! Looks at processes through /proc, see proc_pid_stat(5), proc_pid_status(5) and proc_pid_cmdline(5).

use std::fs::{self, File};
use std::io::Read as _;
use std::time::Duration;

use nix::unistd::{SysconfVar, sysconf};

use crate::error::{Error, Result};

/// Processes looked at, at most.
const MOST: usize = 10_000;
/// Bytes of a process's arguments.
const ARGS_MAX: u64 = 4096;

/// One process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    /// In the container's pid namespace.
    pub(crate) container_pid: i32,
    pub(crate) parent_pid: i32,
    /// Effective user id as the container sees it.
    pub(crate) uid: u32,
    pub(crate) state: char,
    pub(crate) threads: u32,
    pub(crate) cpu_time: Duration,
    pub(crate) resident_bytes: u64,
    /// Nanoseconds since the epoch.
    pub(crate) started_at_nanos: u64,
    pub(crate) name: String,
    pub(crate) args: Vec<String>,
}

/// What /proc counts in, and since when.
struct Units {
    ticks_per_second: u64,
    page: u64,
    /// Nanoseconds from the epoch to the boot.
    booted_nanos: u64,
    /// How many pid namespaces the container's init is in.
    depth: usize,
    /// The container's user ids, see user_namespaces(7).
    uids: UidMap,
}

/// Looks at processes of the container with this init: they by id, and whether there are more. Those that are gone are left out.
/// Blocks.
pub(crate) fn list(pids: &[i32], init: i32) -> Result<(Vec<Process>, bool)> {
    let units = Units::now(init)?;
    let mut pids = pids.to_vec();
    pids.sort_unstable();
    pids.dedup();
    let more = pids.len() > MOST;
    pids.truncate(MOST);
    Ok((pids.into_iter().filter_map(|pid| look(pid, &units)).collect(), more))
}

impl Units {
    fn now(init: i32) -> Result<Self> {
        let value = |variable| {
            let value = sysconf(variable).map_err(|errno| Error::os("asking for the system's units", errno))?;
            Ok(value.and_then(|value| u64::try_from(value).ok()).unwrap_or(1))
        };
        let nanos = |clock| {
            let time = rustix::time::clock_gettime(clock);
            i128::from(time.tv_sec) * 1_000_000_000 + i128::from(time.tv_nsec)
        };
        let booted = nanos(rustix::time::ClockId::Realtime) - nanos(rustix::time::ClockId::Boottime);
        let status = fs::read_to_string(format!("/proc/{init}/status")).unwrap_or_default();
        let uids = fs::read_to_string(format!("/proc/{init}/uid_map")).unwrap_or_default();
        Ok(Self {
            ticks_per_second: value(SysconfVar::CLK_TCK)?.max(1),
            page: value(SysconfVar::PAGE_SIZE)?,
            booted_nanos: u64::try_from(booted).unwrap_or(0),
            depth: line(&status, "NSpid").map_or(1, |pids| pids.split_ascii_whitespace().count()),
            uids: UidMap::parse(&uids),
        })
    }

    fn duration(&self, ticks: u64) -> Duration {
        Duration::from_nanos(ticks.saturating_mul(1_000_000_000 / self.ticks_per_second))
    }
}

fn look(pid: i32, units: &Units) -> Option<Process> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let status = fs::read(format!("/proc/{pid}/status")).ok()?;
    let mut args = Vec::new();
    File::open(format!("/proc/{pid}/cmdline")).ok()?.take(ARGS_MAX).read_to_end(&mut args).ok()?;
    parse(pid, &stat, &String::from_utf8_lossy(&status), &args, units)
}

fn parse(pid: i32, stat: &[u8], status: &str, args: &[u8], units: &Units) -> Option<Process> {
    // A name may hold blanks and parentheses: it ends at the last one.
    let (open, close) = (stat.iter().position(|byte| *byte == b'(')?, stat.iter().rposition(|byte| *byte == b')')?);
    let name = String::from_utf8_lossy(stat.get(open + 1..close)?).into_owned();
    let rest = std::str::from_utf8(stat.get(close + 1..)?).ok()?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    // Counted from the third one of proc_pid_stat(5).
    let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    let inside = |pids: &str| pids.split_ascii_whitespace().nth(units.depth.checked_sub(1)?)?.parse::<i32>().ok();
    let uid = line(status, "Uid")?.split_ascii_whitespace().nth(1)?.parse::<u32>().ok()?;
    let args = args.strip_suffix(b"\0").unwrap_or(args);
    Some(Process {
        pid,
        container_pid: line(status, "NSpid").and_then(inside).unwrap_or(pid),
        parent_pid: i32::try_from(number(4)?).ok()?,
        uid: units.uids.inside(uid),
        state: fields.first()?.chars().next()?,
        threads: u32::try_from(number(20)?).ok()?,
        cpu_time: units.duration(number(14)?.saturating_add(number(15)?)),
        resident_bytes: number(24)?.saturating_mul(units.page),
        started_at_nanos: units
            .booted_nanos
            .saturating_add(u64::try_from(units.duration(number(22)?).as_nanos()).unwrap_or(u64::MAX)),
        name,
        args: if args.is_empty() {
            Vec::new()
        } else {
            args.split(|byte| *byte == 0).map(|arg| String::from_utf8_lossy(arg).into_owned()).collect()
        },
    })
}

/// What a line of proc_pid_status(5) says.
fn line<'a>(status: &'a str, key: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))
}

/// Ranges of user ids: first inside, first outside, how many.
#[derive(Debug, Default)]
struct UidMap(Vec<(u32, u32, u32)>);

impl UidMap {
    fn parse(text: &str) -> Self {
        let range = |line: &str| {
            let mut numbers = line.split_ascii_whitespace().map(|number| number.parse().ok());
            Some((numbers.next()??, numbers.next()??, numbers.next()??))
        };
        Self(text.lines().filter_map(range).collect())
    }

    /// An id as the container has it; one that it cannot have stays as it is.
    fn inside(&self, outside: u32) -> u32 {
        let found = self.0.iter().find(|(_, first, count)| outside.checked_sub(*first).is_some_and(|at| at < *count));
        found.map_or(outside, |(inside, first, _)| inside + (outside - first))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn units() -> Units {
        let uids = UidMap::parse("         0     524288      65536\n");
        Units { ticks_per_second: 100, page: 4096, booted_nanos: 1_000, depth: 2, uids }
    }

    #[test]
    fn a_name_may_look_like_the_rest() {
        let stat =
            b"42 (a) R 1 (b) S 7 42 42 0 -1 4194560 1 0 0 0 250 50 0 0 20 0 3 0 12345 1000 77 18446744073709551615 1";
        let status = "Name:\ta) R 1 (b\nUid:\t524288\t524388\t524288\t524288\nNSpid:\t42\t5\t1\n";
        let process = parse(42, stat, status, b"/bin/x\0-a\0\0b c\0", &units()).unwrap();
        assert_eq!(
            process,
            Process {
                pid: 42,
                container_pid: 5,
                parent_pid: 7,
                uid: 100,
                state: 'S',
                threads: 3,
                cpu_time: Duration::from_secs(3),
                resident_bytes: 77 * 4096,
                started_at_nanos: 123_450_000_000 + 1_000,
                name: "a) R 1 (b".into(),
                args: vec!["/bin/x".into(), "-a".into(), String::new(), "b c".into()],
            }
        );
        assert!(parse(42, b"42 (x", status, b"", &units()).is_none());
    }

    #[test]
    fn this_process_is_seen() {
        let own = i32::try_from(std::process::id()).unwrap();
        let (found, more) = list(&[own, i32::MAX, own], own).unwrap();
        assert_eq!((found.len(), more), (1, false));
        assert_eq!(found[0].pid, own);
        assert!(found[0].resident_bytes > 0 && !found[0].args.is_empty());
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos();
        assert!(u128::from(found[0].started_at_nanos) <= since + 20_000_000);
    }
}
