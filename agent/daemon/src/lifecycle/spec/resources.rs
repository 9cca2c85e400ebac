//! Limits as the runtime spec has them. What it has no field for goes to `unified`, the files of version 2. hull itself sets
//! limits from the configuration; this is what inspect and plugins see.

use std::collections::HashMap;

use oci_spec::runtime::{
    LinuxBlockIo, LinuxCpu, LinuxDeviceCgroup, LinuxHugepageLimit, LinuxMemory, LinuxPids, LinuxResources,
    LinuxThrottleDevice, LinuxThrottleDeviceBuilder,
};

use super::SpecContext;
use super::host::HostFileKind;
use crate::error::{Error, Reason, Result};
use crate::lifecycle::config::{IoMax, Resources};

pub(super) fn build(
    limits: &Resources,
    devices: Vec<LinuxDeviceCgroup>,
    ctx: &SpecContext<'_>,
) -> Result<LinuxResources> {
    let mut unified = HashMap::new();
    let limit = |value: i64| if value < 0 { "max".to_owned() } else { value.to_string() };
    if let Some(high) = limits.memory_high {
        unified.insert("memory.high".to_owned(), limit(high));
    }
    let memory = memory(limits, &mut unified);
    let mut resources = LinuxResources::default();
    resources
        .set_devices(Some(devices))
        .set_memory((memory != LinuxMemory::default()).then_some(memory))
        .set_cpu(cpu(limits))
        .set_pids(limits.pids_max.map(pids))
        .set_block_io(block_io(limits, ctx)?)
        .set_hugepage_limits((!limits.hugetlb.is_empty()).then(|| hugepages(limits)))
        .set_unified((!unified.is_empty()).then_some(unified));
    Ok(resources)
}

/// The spec's `swap` is memory and swap together, which only a memory limit makes sense of.
fn memory(limits: &Resources, unified: &mut HashMap<String, String>) -> LinuxMemory {
    let mut memory = LinuxMemory::default();
    memory.set_limit(limits.memory_max).set_reservation(limits.memory_low);
    match (limits.memory_max, limits.memory_swap_max) {
        (_, None) => {}
        (_, Some(-1)) => {
            memory.set_swap(Some(-1));
        }
        (Some(max), Some(swap)) if max >= 0 => {
            memory.set_swap(Some(max.saturating_add(swap)));
        }
        (_, Some(swap)) => {
            unified.insert("memory.swap.max".to_owned(), swap.to_string());
        }
    }
    memory
}

/// Weights are converted so that runtimes convert them back to the same: weight = 1 + (shares - 2) * 9999 / 262142.
fn cpu(limits: &Resources) -> Option<LinuxCpu> {
    let shares = limits.cpu_weight.map(|weight| 2 + ((u64::from(weight) - 1) * 262_142).div_ceil(9999));
    let mut cpu = LinuxCpu::default();
    cpu.set_shares(shares)
        .set_quota(limits.cpu_quota)
        .set_period(limits.cpu_period)
        .set_cpus(limits.cpuset_cpus.clone())
        .set_mems(limits.cpuset_mems.clone());
    (cpu != LinuxCpu::default()).then_some(cpu)
}

fn pids(limit: i64) -> LinuxPids {
    let mut pids = LinuxPids::default();
    pids.set_limit(limit);
    pids
}

/// Weight of version 1, 10 to 1000: io.weight = 1 + (weight - 10) * 9999 / 990.
fn block_io(limits: &Resources, ctx: &SpecContext<'_>) -> Result<Option<LinuxBlockIo>> {
    if limits.io_weight.is_none() && limits.io_max.is_empty() {
        return Ok(None);
    }
    let weight = limits.io_weight.and_then(|weight| u16::try_from(10 + ((weight - 1) * 990).div_ceil(9999)).ok());
    let throttle = |rate: fn(&IoMax) -> Option<u64>| -> Result<Option<Vec<LinuxThrottleDevice>>> {
        let mut devices = Vec::new();
        for limit in &limits.io_max {
            if let Some(rate) = rate(limit) {
                devices.push(throttled(&limit.device, rate, ctx)?);
            }
        }
        Ok((!devices.is_empty()).then_some(devices))
    };
    let mut block_io = LinuxBlockIo::default();
    block_io
        .set_weight(weight)
        .set_throttle_read_bps_device(throttle(|limit| limit.read_bps)?)
        .set_throttle_write_bps_device(throttle(|limit| limit.write_bps)?)
        .set_throttle_read_iops_device(throttle(|limit| limit.read_iops)?)
        .set_throttle_write_iops_device(throttle(|limit| limit.write_iops)?);
    Ok(Some(block_io))
}

fn throttled(device: &str, rate: u64, ctx: &SpecContext<'_>) -> Result<LinuxThrottleDevice> {
    let Some(HostFileKind::Block { major, minor }) = ctx.host.get(device).map(|file| file.kind) else {
        return Err(Error::new(Reason::Internal, format!("config.resources.io_max: {device} was not looked at")));
    };
    let builder = LinuxThrottleDeviceBuilder::default().major(i64::from(major)).minor(i64::from(minor)).rate(rate);
    builder.build().map_err(|error| Error::new(Reason::Internal, error.to_string()))
}

fn hugepages(limits: &Resources) -> Vec<LinuxHugepageLimit> {
    let to_oci = |(size, limit): (&String, &u64)| {
        let mut entry = LinuxHugepageLimit::default();
        entry.set_page_size(size.clone()).set_limit(i64::try_from(*limit).unwrap_or(i64::MAX));
        entry
    };
    limits.hugetlb.iter().map(to_oci).collect()
}
