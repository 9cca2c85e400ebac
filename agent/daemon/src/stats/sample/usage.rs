//! What a container uses.

use std::fmt;

/// What a container uses, or has used since it started. Groups that were not read are empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) cpu: CpuStats,
    pub(crate) memory: MemoryStats,
    pub(crate) pids: PidsStats,
    pub(crate) io: IoStats,
    pub(crate) hugetlb: HugetlbStats,
    pub(crate) pressure: PressureStats,
    pub(crate) network: NetworkStats,
    /// `None`: not measured yet.
    pub(crate) writable: Option<Writable>,
    /// Descriptors of all processes; `None` before Linux 6.2, and where processes are many or not known.
    pub(crate) open_files: Option<u64>,
}

/// Processor time since the start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
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
    /// Nanoseconds on each processor; empty where the kernel does not tell.
    pub(crate) per_cpu_nanos: Vec<u64>,
}

/// Memory in bytes where not said otherwise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct MemoryStats {
    /// All that is charged.
    pub(crate) usage: Option<u64>,
    /// Usage less inactive page cache.
    pub(crate) working_set: Option<u64>,
    /// Anonymous memory; "rss" of version 1.
    pub(crate) anon: Option<u64>,
    /// Page cache, tmpfs included; "cache" of version 1.
    pub(crate) file: Option<u64>,
    /// Kernel memory.
    pub(crate) kernel: Option<u64>,
    /// Swap.
    pub(crate) swap: Option<u64>,
    /// Limit; `None` if there is none.
    pub(crate) limit: Option<u64>,
    /// Highest usage so far.
    pub(crate) peak: Option<u64>,
    /// Page cache that is mapped.
    pub(crate) mapped_file: Option<u64>,
    /// tmpfs and shared memory.
    pub(crate) shmem: Option<u64>,
    pub(crate) active_anon: Option<u64>,
    pub(crate) inactive_anon: Option<u64>,
    pub(crate) active_file: Option<u64>,
    pub(crate) inactive_file: Option<u64>,
    pub(crate) unevictable: Option<u64>,
    /// Count of page faults, major ones included.
    pub(crate) faults: Option<u64>,
    /// Count of major page faults.
    pub(crate) major_faults: Option<u64>,
    /// Count of reclaims below the protection.
    pub(crate) low_events: Option<u64>,
    /// Count of throttlings above the soft limit.
    pub(crate) high_events: Option<u64>,
    /// Count of run-ins with the limit; "failcnt" of version 1.
    pub(crate) max_events: Option<u64>,
    /// Count of allocations that were about to fail.
    pub(crate) oom_events: Option<u64>,
    /// Count of processes killed for want of memory.
    pub(crate) oom_kills: Option<u64>,
}

/// Processes and threads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct PidsStats {
    /// How many threads in all processes.
    pub(crate) current: Option<u64>,
    /// Limit of threads; `None` if there is none.
    pub(crate) limit: Option<u64>,
    /// How many processes; `None` where the container has made groups of its own.
    pub(crate) processes: Option<u64>,
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

/// Huge pages.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct HugetlbStats {
    /// Each size of the node; empty where the container has no group of that controller.
    pub(crate) sizes: Vec<HugetlbSize>,
}

/// Huge pages of one size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HugetlbSize {
    /// As the kernel's files are named: "2MB".
    pub(crate) page_size: &'static str,
    /// Bytes.
    pub(crate) usage: u64,
    /// Bytes at most so far.
    pub(crate) peak: Option<u64>,
    /// Count of run-ins with the limit.
    pub(crate) max_events: Option<u64>,
}

/// Waiting for each thing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct PressureStats {
    pub(crate) cpu: Pressure,
    pub(crate) memory: Pressure,
    pub(crate) io: Pressure,
}

/// Waiting for one thing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Pressure {
    /// While at least one task waited.
    pub(crate) some: Option<Stall>,
    /// While all of them did.
    pub(crate) full: Option<Stall>,
}

/// How long something waited.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Stall {
    /// Share of the last 10 seconds, in hundredths of a percent, as the others.
    pub(crate) avg10: u32,
    /// Of the last minute.
    pub(crate) avg60: u32,
    /// Of the last five minutes.
    pub(crate) avg300: u32,
    pub(crate) total_nanos: u64,
}

/// Network interfaces of a network namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct NetworkStats {
    /// Empty: the container has the host's network, or it cannot be read.
    pub(crate) interfaces: Vec<Interface>,
}

/// One network interface. Counts of packets where not said otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Interface {
    pub(crate) name: InterfaceName,
    pub(crate) rx_bytes: u64,
    pub(crate) rx_packets: u64,
    pub(crate) rx_errors: u64,
    pub(crate) rx_dropped: u64,
    pub(crate) tx_bytes: u64,
    pub(crate) tx_packets: u64,
    pub(crate) tx_errors: u64,
    pub(crate) tx_dropped: u64,
}

/// Name of a network interface, kept in place: the kernel's are shorter than 16 bytes (`IFNAMSIZ`).
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct InterfaceName {
    bytes: [u8; 16],
    length: u8,
}

impl InterfaceName {
    /// `None` if it is empty, too long or no text.
    pub(crate) fn new(name: &[u8]) -> Option<Self> {
        let length = u8::try_from(name.len()).ok()?;
        let mut bytes = [0; 16];
        bytes.get_mut(..name.len())?.copy_from_slice(name);
        (length > 0 && std::str::from_utf8(name).is_ok()).then_some(Self { bytes, length })
    }

    pub(crate) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..usize::from(self.length)]).unwrap_or_default()
    }
}

impl fmt::Debug for InterfaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

/// What a container has written to its root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Writable {
    /// Bytes on the disk.
    pub(crate) bytes: u64,
    pub(crate) inodes: u64,
    /// When that was measured, in nanoseconds since the epoch.
    pub(crate) measured_at_nanos: u64,
}

impl Usage {
    /// Forgets every value, and keeps the room that lists took.
    pub(in crate::stats) fn clear(&mut self) {
        let mut old = std::mem::take(self);
        old.cpu.per_cpu_nanos.clear();
        old.io.devices.clear();
        old.hugetlb.sizes.clear();
        old.network.interfaces.clear();
        self.cpu.per_cpu_nanos = old.cpu.per_cpu_nanos;
        self.io = old.io;
        self.hugetlb = old.hugetlb;
        self.network = old.network;
    }
}

impl Usage {
    /// Takes over every value, into the room that lists have.
    pub(in crate::stats) fn copy(&mut self, other: &Self) {
        let Self { cpu, memory, pids, io, hugetlb, pressure, network, writable, open_files } = other;
        let mut per_cpu_nanos = std::mem::take(&mut self.cpu.per_cpu_nanos);
        per_cpu_nanos.clone_from(&cpu.per_cpu_nanos);
        self.cpu = CpuStats { per_cpu_nanos, ..*cpu };
        self.io.devices.clone_from(&io.devices);
        self.hugetlb.sizes.clone_from(&hugetlb.sizes);
        self.network.interfaces.clone_from(&network.interfaces);
        (self.memory, self.pids, self.pressure) = (*memory, *pids, *pressure);
        (self.writable, self.open_files) = (*writable, *open_files);
    }
}

impl Pressure {
    /// Whether nothing waited in the last minutes.
    fn is_over(&self) -> bool {
        [self.some, self.full].iter().flatten().all(|stall| (stall.avg10, stall.avg60, stall.avg300) == (0, 0, 0))
    }
}

impl PressureStats {
    /// Whether nothing waited for memory, input or output in the last minutes, nor has since `earlier`.
    pub(in crate::stats) fn stalls_are_over(&self, earlier: &Self) -> bool {
        (self.memory, self.io) == (earlier.memory, earlier.io) && self.memory.is_over() && self.io.is_over()
    }
}

impl NetworkStats {
    /// Whether only the container itself can have traffic.
    pub(in crate::stats) fn is_loopback(&self) -> bool {
        self.interfaces.iter().all(|interface| interface.name.as_str() == "lo")
    }
}

impl IoStats {
    /// The entry of a device, made if missing.
    pub(in crate::stats) fn device(&mut self, major: u32, minor: u32) -> &mut DeviceIo {
        let at = self.devices.iter().position(|device| (device.major, device.minor) == (major, minor));
        let at = at.unwrap_or_else(|| {
            // Most have one: no room for more, of which there would be as many as containers.
            self.devices.reserve_exact(1);
            self.devices.push(DeviceIo { major, minor, ..DeviceIo::default() });
            self.devices.len() - 1
        });
        &mut self.devices[at]
    }
}

impl HugetlbStats {
    /// The entry of a page size, made if missing.
    pub(in crate::stats) fn size(&mut self, page_size: &'static str) -> &mut HugetlbSize {
        let at = self.sizes.iter().position(|size| size.page_size == page_size);
        let at = at.unwrap_or_else(|| {
            self.sizes.push(HugetlbSize { page_size, usage: 0, peak: None, max_events: None });
            self.sizes.len() - 1
        });
        &mut self.sizes[at]
    }
}
