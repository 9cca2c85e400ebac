//! What counters have grown by between two readings of the same thing.

use super::{
    CpuStats, DeviceIo, HugetlbStats, Interface, IoStats, MemoryStats, NetworkStats, NodeCpu, NodeSample, Pressure,
    PressureStats, Sample, Usage,
};

impl Sample {
    /// Counters since `earlier`, a reading of the same run; what is no counter as it is.
    pub(crate) fn since(&self, earlier: &Self) -> Usage {
        let (now, then) = (&self.usage, &earlier.usage);
        Usage {
            cpu: now.cpu.since(&then.cpu),
            memory: now.memory.since(&then.memory),
            io: now.io.since(&then.io),
            hugetlb: now.hugetlb.since(&then.hugetlb),
            pressure: now.pressure.since(&then.pressure),
            network: now.network.since(&then.network),
            ..now.clone()
        }
    }
}

impl NodeSample {
    /// Counters since `earlier`; what is no counter as it is.
    pub(crate) fn since(&self, earlier: &Self) -> Self {
        Self {
            cpu: self.cpu.map(|cpu| cpu.since(&earlier.cpu.unwrap_or_default())),
            pressure: self.pressure.since(&earlier.pressure),
            ..self.clone()
        }
    }
}

/// A counter that is read for the first time, or was set back, tells all that it has.
fn grown(now: u64, then: u64) -> u64 {
    now.checked_sub(then).unwrap_or(now)
}

fn maybe(now: Option<u64>, then: Option<u64>) -> Option<u64> {
    now.map(|now| grown(now, then.unwrap_or(0)))
}

impl CpuStats {
    fn since(&self, then: &Self) -> Self {
        let per_cpu = self.per_cpu_nanos.iter().enumerate();
        Self {
            usage_nanos: maybe(self.usage_nanos, then.usage_nanos),
            user_nanos: maybe(self.user_nanos, then.user_nanos),
            system_nanos: maybe(self.system_nanos, then.system_nanos),
            periods: maybe(self.periods, then.periods),
            throttled_periods: maybe(self.throttled_periods, then.throttled_periods),
            throttled_nanos: maybe(self.throttled_nanos, then.throttled_nanos),
            per_cpu_nanos: per_cpu
                .map(|(at, now)| grown(*now, then.per_cpu_nanos.get(at).copied().unwrap_or(0)))
                .collect(),
        }
    }
}

impl MemoryStats {
    fn since(&self, then: &Self) -> Self {
        Self {
            faults: maybe(self.faults, then.faults),
            major_faults: maybe(self.major_faults, then.major_faults),
            low_events: maybe(self.low_events, then.low_events),
            high_events: maybe(self.high_events, then.high_events),
            max_events: maybe(self.max_events, then.max_events),
            oom_events: maybe(self.oom_events, then.oom_events),
            oom_kills: maybe(self.oom_kills, then.oom_kills),
            ..*self
        }
    }
}

impl IoStats {
    fn since(&self, then: &Self) -> Self {
        let device = |now: &DeviceIo| {
            let same = |other: &&DeviceIo| (other.major, other.minor) == (now.major, now.minor);
            let then = then.devices.iter().find(same).copied().unwrap_or_default();
            DeviceIo {
                major: now.major,
                minor: now.minor,
                read_bytes: grown(now.read_bytes, then.read_bytes),
                write_bytes: grown(now.write_bytes, then.write_bytes),
                read_ops: grown(now.read_ops, then.read_ops),
                write_ops: grown(now.write_ops, then.write_ops),
            }
        };
        Self { devices: self.devices.iter().map(device).collect() }
    }
}

impl HugetlbStats {
    fn since(&self, then: &Self) -> Self {
        let mut since = self.clone();
        for size in &mut since.sizes {
            let then = then.sizes.iter().find(|other| other.page_size == size.page_size);
            size.max_events = maybe(size.max_events, then.and_then(|then| then.max_events));
        }
        since
    }
}

impl PressureStats {
    fn since(&self, then: &Self) -> Self {
        Self { cpu: self.cpu.since(then.cpu), memory: self.memory.since(then.memory), io: self.io.since(then.io) }
    }
}

impl Pressure {
    fn since(mut self, then: Self) -> Self {
        for (now, then) in [(&mut self.some, then.some), (&mut self.full, then.full)] {
            if let Some(now) = now {
                now.total_nanos = grown(now.total_nanos, then.map_or(0, |then| then.total_nanos));
            }
        }
        self
    }
}

impl NetworkStats {
    fn since(&self, then: &Self) -> Self {
        let interface = |now: &Interface| match then.interfaces.iter().find(|then| then.name == now.name) {
            Some(then) => now.since(then),
            None => *now,
        };
        Self { interfaces: self.interfaces.iter().map(interface).collect() }
    }
}

impl Interface {
    fn since(&self, then: &Self) -> Self {
        Self {
            name: self.name,
            rx_bytes: grown(self.rx_bytes, then.rx_bytes),
            rx_packets: grown(self.rx_packets, then.rx_packets),
            rx_errors: grown(self.rx_errors, then.rx_errors),
            rx_dropped: grown(self.rx_dropped, then.rx_dropped),
            tx_bytes: grown(self.tx_bytes, then.tx_bytes),
            tx_packets: grown(self.tx_packets, then.tx_packets),
            tx_errors: grown(self.tx_errors, then.tx_errors),
            tx_dropped: grown(self.tx_dropped, then.tx_dropped),
        }
    }
}

impl NodeCpu {
    fn since(&self, then: &Self) -> Self {
        Self {
            cpus: self.cpus,
            user_nanos: grown(self.user_nanos, then.user_nanos),
            system_nanos: grown(self.system_nanos, then.system_nanos),
            idle_nanos: grown(self.idle_nanos, then.idle_nanos),
            iowait_nanos: grown(self.iowait_nanos, then.iowait_nanos),
            steal_nanos: grown(self.steal_nanos, then.steal_nanos),
        }
    }
}
