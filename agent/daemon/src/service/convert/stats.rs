//! Statistics -> protobuf, and groups of them from it.

use std::time::SystemTime;

use hull_proto::v1;
use prost_types::Timestamp;

use super::time;
use crate::error::{Error, Result};
use crate::space::Space;
use crate::stats::{
    CpuStats, DeviceIo, Group, Groups, HugetlbSize, Interface, MemoryStats, NodeCpu, NodeLoad, NodeMemory, NodeSample,
    PidsStats, Pressure, PressureStats, Sample, Stall, Usage, Writable,
};

/// Which groups are asked for; none: all of containers.
pub(crate) fn groups(asked: &[i32]) -> Result<Groups> {
    if asked.is_empty() {
        return Ok(Groups::CONTAINER);
    }
    asked.iter().try_fold(Groups::NONE, |groups, asked| Ok(groups.with(group(*asked)?)))
}

fn group(asked: i32) -> Result<Group> {
    match v1::StatsGroup::try_from(asked) {
        Ok(v1::StatsGroup::Cpu) => Ok(Group::Cpu),
        Ok(v1::StatsGroup::Memory) => Ok(Group::Memory),
        Ok(v1::StatsGroup::Pids) => Ok(Group::Pids),
        Ok(v1::StatsGroup::Io) => Ok(Group::Io),
        Ok(v1::StatsGroup::Hugetlb) => Ok(Group::Hugetlb),
        Ok(v1::StatsGroup::Pressure) => Ok(Group::Pressure),
        Ok(v1::StatsGroup::Network) => Ok(Group::Network),
        Ok(v1::StatsGroup::WritableLayer) => Ok(Group::WritableLayer),
        Ok(v1::StatsGroup::OpenFiles) => Ok(Group::OpenFiles),
        Ok(v1::StatsGroup::Node) => Ok(Group::Node),
        Ok(v1::StatsGroup::Unspecified) | Err(_) => {
            Err(Error::invalid("groups", format!("{asked} is no group of statistics")))
        }
    }
}

/// What one container uses, as far as it was asked for.
pub(crate) fn sample(sample: &Sample, groups: Groups) -> v1::ContainerStats {
    usage(sample, &sample.usage, groups)
}

/// What the counters of one container have grown by since an earlier sample of the same run.
pub(crate) fn growth(sample: &Sample, earlier: &Sample, groups: Groups) -> v1::ContainerStats {
    v1::ContainerStats {
        since_monotonic_nanos: Some(earlier.at.monotonic_nanos),
        ..usage(sample, &sample.since(earlier), groups)
    }
}

fn usage(sample: &Sample, usage: &Usage, groups: Groups) -> v1::ContainerStats {
    let io = || v1::IoStats { devices: usage.io.devices.iter().copied().map(device).collect() };
    let sizes = &usage.hugetlb.sizes;
    let interfaces = &usage.network.interfaces;
    v1::ContainerStats {
        id: sample.identity.id.to_string(),
        name: sample.identity.name.to_string(),
        time: Some(wall_clock(sample.at.time)),
        monotonic_nanos: sample.at.monotonic_nanos,
        cpu: groups.has(Group::Cpu).then(|| cpu(&usage.cpu)),
        memory: groups.has(Group::Memory).then(|| memory(usage.memory)),
        pids: groups.has(Group::Pids).then(|| pids(usage.pids)),
        io: groups.has(Group::Io).then(io),
        hugetlb: (groups.has(Group::Hugetlb) && !sizes.is_empty())
            .then(|| v1::HugetlbStats { sizes: sizes.iter().copied().map(huge_pages).collect() }),
        pressure: if groups.has(Group::Pressure) { pressures(usage.pressure) } else { None },
        network: (groups.has(Group::Network) && !interfaces.is_empty())
            .then(|| v1::NetworkStats { interfaces: interfaces.iter().map(interface).collect() }),
        writable_layer: usage.writable.filter(|_| groups.has(Group::WritableLayer)).map(writable),
        since_monotonic_nanos: None,
        open_files: usage.open_files.filter(|_| groups.has(Group::OpenFiles)),
    }
}

fn wall_clock(at: SystemTime) -> Timestamp {
    let since_epoch = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    time::to_timestamp(u64::try_from(since_epoch.as_nanos()).unwrap_or(u64::MAX))
}

fn cpu(cpu: &CpuStats) -> v1::CpuStats {
    let CpuStats {
        usage_nanos,
        user_nanos,
        system_nanos,
        periods,
        throttled_periods,
        throttled_nanos,
        ref per_cpu_nanos,
    } = *cpu;
    let per_cpu_nanos = per_cpu_nanos.clone();
    v1::CpuStats { usage_nanos, user_nanos, system_nanos, periods, throttled_periods, throttled_nanos, per_cpu_nanos }
}

fn memory(memory: MemoryStats) -> v1::MemoryStats {
    v1::MemoryStats {
        usage: memory.usage,
        working_set: memory.working_set,
        anon: memory.anon,
        file: memory.file,
        kernel: memory.kernel,
        swap: memory.swap,
        limit: memory.limit,
        peak: memory.peak,
        major_faults: memory.major_faults,
        oom_kills: memory.oom_kills,
        faults: memory.faults,
        mapped_file: memory.mapped_file,
        shmem: memory.shmem,
        active_anon: memory.active_anon,
        inactive_anon: memory.inactive_anon,
        active_file: memory.active_file,
        inactive_file: memory.inactive_file,
        unevictable: memory.unevictable,
        low_events: memory.low_events,
        high_events: memory.high_events,
        max_events: memory.max_events,
        oom_events: memory.oom_events,
    }
}

fn pids(pids: PidsStats) -> v1::PidsStats {
    v1::PidsStats { current: pids.current, limit: pids.limit, processes: pids.processes }
}

fn device(device: DeviceIo) -> v1::DeviceIo {
    let DeviceIo { major, minor, read_bytes, write_bytes, read_ops, write_ops } = device;
    v1::DeviceIo { major, minor, read_bytes, write_bytes, read_ops, write_ops }
}

fn huge_pages(size: HugetlbSize) -> v1::HugetlbSize {
    let HugetlbSize { page_size, usage, peak, max_events } = size;
    v1::HugetlbSize { page_size: page_size.to_owned(), usage, peak, max_events }
}

/// `None` where the kernel tells of nothing.
fn pressures(found: PressureStats) -> Option<v1::PressureStats> {
    let PressureStats { cpu, memory, io } = found;
    let [cpu, memory, io] = [cpu, memory, io].map(pressure);
    (cpu.is_some() || memory.is_some() || io.is_some()).then_some(v1::PressureStats { cpu, memory, io })
}

fn pressure(found: Pressure) -> Option<v1::Pressure> {
    let Pressure { some, full } = found;
    (some.is_some() || full.is_some()).then(|| v1::Pressure { some: some.map(stall), full: full.map(stall) })
}

fn stall(stall: Stall) -> v1::Stall {
    let Stall { avg10, avg60, avg300, total_nanos } = stall;
    let [avg10, avg60, avg300] = [avg10, avg60, avg300].map(of_hundredths);
    v1::Stall { avg10, avg60, avg300, total_nanos }
}

fn of_hundredths(value: u32) -> f64 {
    f64::from(value) / 100.0
}

fn interface(interface: &Interface) -> v1::NetworkInterface {
    v1::NetworkInterface {
        name: interface.name.as_str().to_owned(),
        rx_bytes: interface.rx_bytes,
        rx_packets: interface.rx_packets,
        rx_errors: interface.rx_errors,
        rx_dropped: interface.rx_dropped,
        tx_bytes: interface.tx_bytes,
        tx_packets: interface.tx_packets,
        tx_errors: interface.tx_errors,
        tx_dropped: interface.tx_dropped,
    }
}

fn writable(writable: Writable) -> v1::WritableLayerStats {
    let Writable { bytes, inodes, measured_at_nanos } = writable;
    v1::WritableLayerStats { bytes, inodes, measured_at: Some(time::to_timestamp(measured_at_nanos)) }
}

/// What the node uses.
pub(crate) fn node(node: &NodeSample) -> v1::NodeStats {
    v1::NodeStats {
        time: Some(wall_clock(node.at.time)),
        monotonic_nanos: node.at.monotonic_nanos,
        cpu: node.cpu.map(node_cpu),
        memory: Some(node_memory(node.memory)),
        load: node.load.map(load),
        pressure: pressures(node.pressure),
        disk: node.disk.map(disk),
        since_monotonic_nanos: None,
    }
}

/// What the counters of the node have grown by since an earlier sample.
pub(crate) fn node_growth(sample: &NodeSample, earlier: &NodeSample) -> v1::NodeStats {
    v1::NodeStats { since_monotonic_nanos: Some(earlier.at.monotonic_nanos), ..node(&sample.since(earlier)) }
}

fn node_cpu(cpu: NodeCpu) -> v1::NodeCpuStats {
    let NodeCpu { cpus, user_nanos, system_nanos, idle_nanos, iowait_nanos, steal_nanos } = cpu;
    v1::NodeCpuStats { cpus, user_nanos, system_nanos, idle_nanos, iowait_nanos, steal_nanos }
}

fn node_memory(memory: NodeMemory) -> v1::NodeMemoryStats {
    let NodeMemory { total, free, available, buffers, cached, swap_total, swap_free } = memory;
    v1::NodeMemoryStats { total, free, available, buffers, cached, swap_total, swap_free }
}

fn load(load: NodeLoad) -> v1::NodeLoad {
    let NodeLoad { load1, load5, load15, running, tasks } = load;
    let [load1, load5, load15] = [load1, load5, load15].map(of_hundredths);
    v1::NodeLoad { load1, load5, load15, running, tasks }
}

fn disk(space: Space) -> v1::NodeDisk {
    let Space { bytes, free_bytes, inodes, free_inodes } = space;
    v1::NodeDisk { bytes, free_bytes, inodes, free_inodes }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_checked() {
        assert_eq!(groups(&[]), Ok(Groups::CONTAINER));
        assert_eq!(groups(&[1, 9, 1]), Ok(Groups::NONE.with(Group::Cpu).with(Group::Node)));
        for wrong in [0, 11, -1] {
            assert!(groups(&[1, wrong]).unwrap_err().message.starts_with("groups: "));
        }
        for known in (1..=8).chain([10]) {
            assert!(Groups::CONTAINER.contain(groups(&[known]).unwrap()), "{known}");
        }
    }
}
