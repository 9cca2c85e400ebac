//! What one container uses at one moment. A value that the kernel does not offer is `None`.

use std::sync::Arc;
use std::time::SystemTime;

/// One reading of one container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sample {
    /// Id of the container.
    pub(crate) id: Arc<str>,
    /// Its name.
    pub(crate) name: Arc<str>,
    /// When it was read, wall clock.
    pub(crate) time: SystemTime,
    /// When it was read, nanoseconds of CLOCK_MONOTONIC: for rates.
    pub(crate) monotonic_nanos: u64,
    /// Its use.
    pub(crate) usage: Usage,
}

/// What a container uses, or has used since it started.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) cpu: CpuStats,
    pub(crate) memory: MemoryStats,
    pub(crate) pids: PidsStats,
    pub(crate) io: IoStats,
}

/// Processor time since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct CpuStats {
    /// Nanoseconds.
    pub(crate) usage_nanos: Option<u64>,
    /// Nanoseconds in user mode.
    pub(crate) user_nanos: Option<u64>,
    /// Nanoseconds in the kernel.
    pub(crate) system_nanos: Option<u64>,
    /// Enforcement periods of a quota.
    pub(crate) periods: Option<u64>,
    /// Periods with throttling.
    pub(crate) throttled_periods: Option<u64>,
    /// Nanoseconds of throttling.
    pub(crate) throttled_nanos: Option<u64>,
}

/// Memory in bytes where not said otherwise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct MemoryStats {
    /// All that is charged.
    pub(crate) usage: Option<u64>,
    /// Usage less inactive page cache.
    pub(crate) working_set: Option<u64>,
    /// Anonymous memory.
    pub(crate) anon: Option<u64>,
    /// Page cache, tmpfs included.
    pub(crate) file: Option<u64>,
    /// Kernel memory.
    pub(crate) kernel: Option<u64>,
    /// Swap.
    pub(crate) swap: Option<u64>,
    /// Limit; `None` if there is none.
    pub(crate) limit: Option<u64>,
    /// Highest usage so far.
    pub(crate) peak: Option<u64>,
    /// Count of major page faults.
    pub(crate) major_faults: Option<u64>,
    /// Count of processes killed for want of memory.
    pub(crate) oom_kills: Option<u64>,
}

/// Processes and threads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct PidsStats {
    /// How many.
    pub(crate) current: Option<u64>,
    /// Limit; `None` if there is none.
    pub(crate) limit: Option<u64>,
}

/// Input and output of block devices since the start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct IoStats {
    /// Each device that was used.
    pub(crate) devices: Vec<DeviceIo>,
}

/// Input and output of one block device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct DeviceIo {
    pub(crate) major: u32,
    pub(crate) minor: u32,
    pub(crate) read_bytes: u64,
    pub(crate) write_bytes: u64,
    pub(crate) read_ops: u64,
    pub(crate) write_ops: u64,
}

impl IoStats {
    /// The entry of a device, made if missing.
    pub(super) fn device(&mut self, major: u32, minor: u32) -> &mut DeviceIo {
        let at = self.devices.iter().position(|device| (device.major, device.minor) == (major, minor));
        let at = at.unwrap_or_else(|| {
            self.devices.push(DeviceIo { major, minor, ..DeviceIo::default() });
            self.devices.len() - 1
        });
        &mut self.devices[at]
    }
}
