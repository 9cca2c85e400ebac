//! Statistics -> protobuf.

use std::time::SystemTime;

use hull_proto::v1;

use super::time;
use crate::stats::{CpuStats, DeviceIo, MemoryStats, PidsStats, Sample};

/// What one container uses.
pub(crate) fn sample(sample: &Sample) -> v1::ContainerStats {
    let since_epoch = sample.time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let usage = &sample.usage;
    v1::ContainerStats {
        id: sample.id.to_string(),
        name: sample.name.to_string(),
        time: Some(time::to_timestamp(u64::try_from(since_epoch.as_nanos()).unwrap_or(u64::MAX))),
        monotonic_nanos: sample.monotonic_nanos,
        cpu: Some(cpu(usage.cpu)),
        memory: Some(memory(usage.memory)),
        pids: Some(pids(usage.pids)),
        io: Some(v1::IoStats { devices: usage.io.devices.iter().copied().map(device).collect() }),
    }
}

fn cpu(cpu: CpuStats) -> v1::CpuStats {
    let CpuStats { usage_nanos, user_nanos, system_nanos, periods, throttled_periods, throttled_nanos } = cpu;
    v1::CpuStats { usage_nanos, user_nanos, system_nanos, periods, throttled_periods, throttled_nanos }
}

fn memory(memory: MemoryStats) -> v1::MemoryStats {
    let MemoryStats { usage, working_set, anon, file, kernel, swap, limit, peak, major_faults, oom_kills } = memory;
    v1::MemoryStats { usage, working_set, anon, file, kernel, swap, limit, peak, major_faults, oom_kills }
}

fn pids(pids: PidsStats) -> v1::PidsStats {
    v1::PidsStats { current: pids.current, limit: pids.limit }
}

fn device(device: DeviceIo) -> v1::DeviceIo {
    let DeviceIo { major, minor, read_bytes, write_bytes, read_ops, write_ops } = device;
    v1::DeviceIo { major, minor, read_bytes, write_bytes, read_ops, write_ops }
}
