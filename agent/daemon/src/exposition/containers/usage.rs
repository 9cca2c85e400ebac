//! What containers use.

use super::devices::{Device, Devices};
use super::families::{Family, many, one};
use super::spec::quota;
use super::{Extra, Row, Used, seconds};
use crate::exposition::family::{Value, counter, gauge, untyped};
use crate::stats::{DeviceIo, HugetlbSize, Interface, Stall};

type Many<'a> = Vec<(Extra<'a>, Value)>;

pub(super) const FAMILIES: &[Family] = &[
    many(counter("container_cpu_usage_seconds_total", "Processor time."), |row, _| {
        let usage = row.usage().cpu.usage_nanos;
        usage.map(|nanos| (vec![("cpu", "total")], seconds(nanos))).into_iter().collect()
    }),
    one(counter("container_cpu_user_seconds_total", "Processor time in user mode."), |row| {
        row.usage().cpu.user_nanos.map(seconds)
    }),
    one(counter("container_cpu_system_seconds_total", "Processor time in the kernel."), |row| {
        row.usage().cpu.system_nanos.map(seconds)
    }),
    one(counter("container_cpu_cfs_periods_total", "Periods of the quota that have passed."), |row| {
        quota(row).and(row.usage().cpu.periods.map(Value::from))
    }),
    one(counter("container_cpu_cfs_throttled_periods_total", "Periods in which the quota was used up."), |row| {
        quota(row).and(row.usage().cpu.throttled_periods.map(Value::from))
    }),
    one(counter("container_cpu_cfs_throttled_seconds_total", "Time of waiting for the next period."), |row| {
        quota(row).and(row.usage().cpu.throttled_nanos.map(seconds))
    }),
    one(gauge("container_memory_usage_bytes", "Memory, page cache included."), |row| {
        row.usage().memory.usage.map(Value::from)
    }),
    one(gauge("container_memory_working_set_bytes", "Memory that cannot be reclaimed easily."), |row| {
        row.usage().memory.working_set.map(Value::from)
    }),
    one(gauge("container_memory_max_usage_bytes", "Most memory so far."), |row| {
        row.usage().memory.peak.map(Value::from)
    }),
    one(gauge("container_memory_rss", "Anonymous memory in bytes."), |row| row.usage().memory.anon.map(Value::from)),
    one(gauge("container_memory_cache", "Page cache in bytes."), |row| row.usage().memory.file.map(Value::from)),
    one(gauge("container_memory_mapped_file", "Page cache that is mapped, in bytes."), |row| {
        row.usage().memory.mapped_file.map(Value::from)
    }),
    one(gauge("container_memory_kernel_usage", "Kernel memory in bytes."), |row| {
        row.usage().memory.kernel.map(Value::from)
    }),
    one(gauge("container_memory_swap", "Swap in bytes."), |row| row.usage().memory.swap.map(Value::from)),
    one(gauge("container_memory_total_active_file_bytes", "Page cache in use."), |row| {
        row.usage().memory.active_file.map(Value::from)
    }),
    one(gauge("container_memory_total_inactive_file_bytes", "Page cache that goes first."), |row| {
        row.usage().memory.inactive_file.map(Value::from)
    }),
    one(untyped("container_memory_failcnt", "Times that memory met its limit."), |row| {
        row.usage().memory.max_events.map(Value::from)
    }),
    one(counter("container_memory_events_high_total", "Times that memory met its soft limit."), |row| {
        row.usage().memory.high_events.map(Value::from)
    }),
    one(counter("container_memory_events_max_total", "Times that memory met its limit."), |row| {
        row.usage().memory.max_events.map(Value::from)
    }),
    many(counter("container_memory_failures_total", "Page faults, and those that had to wait for a disk."), faults),
    one(counter("container_oom_events_total", "Processes that were killed for want of memory."), |row| {
        row.usage().memory.oom_kills.map(Value::from)
    }),
    many(gauge("container_hugetlb_usage_bytes", "Huge pages in use."), |row, _| hugetlb(row, |size| Some(size.usage))),
    many(gauge("container_hugetlb_max_usage_bytes", "Most huge pages in use so far."), |row, _| {
        hugetlb(row, |size| size.peak)
    }),
    many(untyped("container_hugetlb_failcnt", "Times that huge pages met their limit."), |row, _| {
        hugetlb(row, |size| size.max_events)
    }),
    many(counter("container_fs_reads_bytes_total", "Bytes that were read from a device."), |row, devices| {
        io(row, devices, |io| io.read_bytes)
    }),
    many(counter("container_fs_reads_total", "Reads from a device."), |row, devices| {
        io(row, devices, |io| io.read_ops)
    }),
    many(counter("container_fs_writes_bytes_total", "Bytes that were written to a device."), |row, devices| {
        io(row, devices, |io| io.write_bytes)
    }),
    many(counter("container_fs_writes_total", "Writes to a device."), |row, devices| {
        io(row, devices, |io| io.write_ops)
    }),
    many(counter("container_blkio_device_usage_total", "Bytes that were moved, by operation."), blkio),
    many(gauge("container_fs_usage_bytes", "Bytes of the writable layer, as it was last measured."), |row, devices| {
        match (&row.used, row.usage().writable, &devices.data) {
            (Used::Container(_), Some(writable), Some((device, _))) => on(device, writable.bytes),
            (Used::Node(_), _, Some((device, space))) => on(device, space.bytes.saturating_sub(space.free_bytes)),
            _ => Vec::new(),
        }
    }),
    many(gauge("container_fs_limit_bytes", "Bytes of the file system that the writable layer is on."), |_, devices| {
        devices.data.as_ref().map_or_else(Vec::new, |(device, space)| on(device, space.bytes))
    }),
    many(counter("container_network_receive_bytes_total", "Bytes received."), |row, _| {
        network(row, |interface| interface.rx_bytes)
    }),
    many(counter("container_network_receive_packets_total", "Packets received."), |row, _| {
        network(row, |interface| interface.rx_packets)
    }),
    many(counter("container_network_receive_errors_total", "Packets received with an error."), |row, _| {
        network(row, |interface| interface.rx_errors)
    }),
    many(counter("container_network_receive_packets_dropped_total", "Packets dropped when received."), |row, _| {
        network(row, |interface| interface.rx_dropped)
    }),
    many(counter("container_network_transmit_bytes_total", "Bytes sent."), |row, _| {
        network(row, |interface| interface.tx_bytes)
    }),
    many(counter("container_network_transmit_packets_total", "Packets sent."), |row, _| {
        network(row, |interface| interface.tx_packets)
    }),
    many(counter("container_network_transmit_errors_total", "Packets that could not be sent."), |row, _| {
        network(row, |interface| interface.tx_errors)
    }),
    many(counter("container_network_transmit_packets_dropped_total", "Packets dropped when sent."), |row, _| {
        network(row, |interface| interface.tx_dropped)
    }),
    one(gauge("container_file_descriptors", "Open descriptors of all processes."), |row| {
        row.usage().open_files.map(Value::from)
    }),
    one(gauge("container_processes", "Processes."), |row| row.usage().pids.processes.map(Value::from)),
    one(gauge("container_threads", "Threads of all processes."), |row| row.usage().pids.current.map(Value::from)),
    one(gauge("container_threads_max", "Most threads that there may be."), |row| {
        row.usage().pids.limit.map(Value::from)
    }),
    one(counter("container_pressure_cpu_waiting_seconds_total", "Time in which a task waited to run."), |row| {
        total(row.usage().pressure.cpu.some)
    }),
    one(counter("container_pressure_cpu_stalled_seconds_total", "Time in which all tasks waited to run."), |row| {
        total(row.usage().pressure.cpu.full)
    }),
    one(counter("container_pressure_memory_waiting_seconds_total", "Time in which a task waited for memory."), |row| {
        total(row.usage().pressure.memory.some)
    }),
    one(
        counter("container_pressure_memory_stalled_seconds_total", "Time in which all tasks waited for memory."),
        |row| total(row.usage().pressure.memory.full),
    ),
    one(counter("container_pressure_io_waiting_seconds_total", "Time in which a task waited for a device."), |row| {
        total(row.usage().pressure.io.some)
    }),
    one(
        counter("container_pressure_io_stalled_seconds_total", "Time in which all tasks waited for a device."),
        |row| total(row.usage().pressure.io.full),
    ),
];

fn total(stall: Option<Stall>) -> Option<Value> {
    stall.map(|stall| seconds(stall.total_nanos))
}

/// Those of the container and those with the groups below it are the same to hull: a container is its whole group.
fn faults<'a>(row: &'a Row, _: &'a Devices) -> Many<'a> {
    let memory = &row.usage().memory;
    let kinds = [("pgfault", memory.faults), ("pgmajfault", memory.major_faults)];
    let lines = kinds.into_iter().filter_map(|(kind, count)| Some((kind, count?)));
    lines
        .flat_map(|(kind, count)| {
            ["container", "hierarchy"].map(|scope| (vec![("failure_type", kind), ("scope", scope)], Value::from(count)))
        })
        .collect()
}

fn hugetlb(row: &Row, of: fn(&HugetlbSize) -> Option<u64>) -> Many<'_> {
    let sizes = row.usage().hugetlb.sizes.iter();
    sizes.filter_map(|size| Some((vec![("pagesize", size.page_size)], of(size)?.into()))).collect()
}

fn known<'a>(row: &'a Row, devices: &'a Devices) -> impl Iterator<Item = (&'a Device, &'a DeviceIo)> {
    let used = row.usage().io.devices.iter();
    used.filter_map(|io| Some((devices.get(io.major, io.minor)?, io)))
}

fn io<'a>(row: &'a Row, devices: &'a Devices, of: fn(&DeviceIo) -> u64) -> Many<'a> {
    known(row, devices).map(|(device, io)| (vec![("device", device.name.as_str())], of(io).into())).collect()
}

fn blkio<'a>(row: &'a Row, devices: &'a Devices) -> Many<'a> {
    let lines = known(row, devices).flat_map(|(device, io)| {
        [("Read", io.read_bytes), ("Write", io.write_bytes)].map(|(operation, bytes)| {
            let Device { name, major, minor } = device;
            (
                vec![("device", name.as_str()), ("major", major), ("minor", minor), ("operation", operation)],
                bytes.into(),
            )
        })
    });
    lines.collect()
}

fn on(device: &str, bytes: u64) -> Many<'_> {
    vec![(vec![("device", device)], bytes.into())]
}

/// Loopback is not told of, as cAdvisor has it: what counts as traffic leaves the container.
fn network(row: &Row, of: fn(&Interface) -> u64) -> Many<'_> {
    let interfaces = row.usage().network.interfaces.iter().filter(|interface| interface.name.as_str() != "lo");
    interfaces.map(|interface| (vec![("interface", interface.name.as_str())], of(interface).into())).collect()
}
