//! Processor time of others.

use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};
use nix::time::{clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;

use crate::Result;

/// Milliseconds of processor time that a process has had itself, ended threads included.
pub(crate) fn of_process(pid: i32) -> Result<f64> {
    let clock = clock_getcpuclockid(Pid::from_raw(pid))?;
    Ok(Duration::from(clock_gettime(clock)?).as_secs_f64() * 1e3)
}

/// Processor time of the children of this process that have ended, seconds.
pub(crate) fn of_children() -> Result<f64> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let seconds = |time: nix::sys::time::TimeVal| {
        Duration::from_micros((time.tv_sec() * 1_000_000 + time.tv_usec()).cast_unsigned())
    };
    Ok((seconds(usage.user_time()) + seconds(usage.system_time())).as_secs_f64())
}

/// Processor time of a process and its children that have ended, seconds; proc_pid_stat(5).
pub(crate) fn of_family(pid: i32) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, fields) = stat.rsplit_once(')').ok_or("a strange /proc/PID/stat")?;
    let ticks = fields.split_whitespace().skip(11).take(4).map(str::parse::<u32>).sum::<Result<u32, _>>()?;
    Ok(f64::from(ticks) / 100.0)
}

/// Milliseconds of processor time that those threads of a process have had whose names are right; `/proc/PID/task/TID/schedstat`.
pub(crate) fn of_threads(pid: i32, is_counted: impl Fn(&str) -> bool) -> Result<f64> {
    let mut nanos = 0_u64;
    for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let path = task?.path();
        // One may end meanwhile.
        let Ok(name) = std::fs::read_to_string(path.join("comm")) else { continue };
        let Ok(times) = std::fs::read_to_string(path.join("schedstat")) else { continue };
        if is_counted(name.trim()) {
            nanos += times.split(' ').next().unwrap_or_default().parse::<u64>()?;
        }
    }
    Ok(Duration::from_nanos(nanos).as_secs_f64() * 1e3)
}
