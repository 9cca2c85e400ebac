//! From resources to single limits: pure, so that creation, update and undoing are the same list read in another direction.

use std::collections::BTreeMap;

use super::hierarchy::Version;
use crate::error::{Error, Result};
use crate::lifecycle::config::{IoMax, Resources};

/// One limit as the kernel takes it. `-1` is "none" where the API says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Limit {
    /// memory.max, memory.limit_in_bytes.
    MemoryMax(i64),
    /// memory.high.
    MemoryHigh(i64),
    /// memory.low, memory.soft_limit_in_bytes.
    MemoryLow(i64),
    /// memory.swap.max.
    SwapMax(i64),
    /// memory.memsw.limit_in_bytes: memory and swap together.
    MemorySwapSum(i64),
    /// 1 to 10000.
    CpuWeight(u32),
    /// Microseconds.
    CpuBandwidth { quota: i64, period: u64 },
    /// `None`: those of the parent.
    CpusetCpus(Option<String>),
    /// `None`: those of the parent.
    CpusetMems(Option<String>),
    /// pids.max.
    Pids(i64),
    /// 1 to 10000.
    IoWeight(u32),
    /// Absent values: not limited.
    IoMax(IoMax),
    /// Page size as in the file name ("2MB"). `None`: no limit.
    Hugetlb { size: String, bytes: Option<u64> },
}

impl Limit {
    /// The field of the API that it comes from.
    pub(super) fn field(&self) -> &'static str {
        match self {
            Self::MemoryMax(_) => "memory_max",
            Self::MemoryHigh(_) => "memory_high",
            Self::MemoryLow(_) => "memory_low",
            Self::SwapMax(_) | Self::MemorySwapSum(_) => "memory_swap_max",
            Self::CpuWeight(_) => "cpu_weight",
            Self::CpuBandwidth { .. } => "cpu_quota",
            Self::CpusetCpus(_) => "cpuset_cpus",
            Self::CpusetMems(_) => "cpuset_mems",
            Self::Pids(_) => "pids_max",
            Self::IoWeight(_) => "io_weight",
            Self::IoMax(_) => "io_max",
            Self::Hugetlb { .. } => "hugetlb",
        }
    }
}

/// A limit that changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) from: Limit,
    pub(super) to: Limit,
}

/// What a group that nobody limited has (cgroup-v2.rst).
const DEFAULT_WEIGHT: u32 = 100;
const DEFAULT_PERIOD: u64 = 100_000;
const NONE: i64 = -1;

/// The changes that lead from one set of limits to another, in an order in which the kernel takes them. An absent field means
/// the kernel's default, so the changes of a new group are those from `Resources::default()`.
///
/// # Errors
/// `InvalidArgument` naming the field that is out of range.
pub(super) fn changes(old: &Resources, new: &Resources, memory: Version) -> Result<Vec<Change>> {
    check(new)?;
    let mut list = Vec::new();
    let mut add = |from: Limit, to: Limit| {
        if from != to {
            list.push(Change { from, to });
        }
    };
    let cpu = |r: &Resources| Limit::CpuBandwidth {
        quota: r.cpu_quota.unwrap_or(NONE),
        period: r.cpu_period.unwrap_or(DEFAULT_PERIOD),
    };
    for change in memory_changes(old, new, memory)? {
        add(change.from, change.to);
    }
    let weight = |r: &Resources| Limit::CpuWeight(r.cpu_weight.unwrap_or(DEFAULT_WEIGHT));
    add(weight(old), weight(new));
    add(cpu(old), cpu(new));
    add(Limit::CpusetMems(old.cpuset_mems.clone()), Limit::CpusetMems(new.cpuset_mems.clone()));
    add(Limit::CpusetCpus(old.cpuset_cpus.clone()), Limit::CpusetCpus(new.cpuset_cpus.clone()));
    let pids = |r: &Resources| Limit::Pids(r.pids_max.unwrap_or(NONE));
    add(pids(old), pids(new));
    let weight = |r: &Resources| Limit::IoWeight(r.io_weight.unwrap_or(DEFAULT_WEIGHT));
    add(weight(old), weight(new));
    for (from, to) in io_pairs(&old.io_max, &new.io_max) {
        add(Limit::IoMax(from), Limit::IoMax(to));
    }
    let sizes: BTreeMap<&String, ()> = old.hugetlb.keys().chain(new.hugetlb.keys()).map(|size| (size, ())).collect();
    for size in sizes.into_keys() {
        let limit = |r: &Resources| Limit::Hugetlb { size: size.clone(), bytes: r.hugetlb.get(size).copied() };
        add(limit(old), limit(new));
    }
    Ok(list)
}

fn memory_changes(old: &Resources, new: &Resources, version: Version) -> Result<Vec<Change>> {
    let pair = |make: fn(i64) -> Limit, field: fn(&Resources) -> Option<i64>, default: i64| Change {
        from: make(field(old).unwrap_or(default)),
        to: make(field(new).unwrap_or(default)),
    };
    let max = pair(Limit::MemoryMax, |r| r.memory_max, NONE);
    let swap = match version {
        Version::V2 => pair(Limit::SwapMax, |r| r.memory_swap_max, NONE),
        Version::V1 => Change { from: Limit::MemorySwapSum(swap_sum(old)?), to: Limit::MemorySwapSum(swap_sum(new)?) },
    };
    // Version 1 wants memory_limit <= memory + swap at every moment: the sum is raised first and lowered last.
    let raised = matches!((&swap.from, &swap.to), (Limit::MemorySwapSum(from), Limit::MemorySwapSum(to))
        if *from != NONE && (*to == NONE || to > from));
    let (first, second) = if raised { (swap, max) } else { (max, swap) };
    let low = pair(Limit::MemoryLow, |r| r.memory_low, 0);
    let high = pair(Limit::MemoryHigh, |r| r.memory_high, NONE);
    Ok(vec![low, high, first, second])
}

/// memory.memsw.limit_in_bytes for a limit of swap alone.
fn swap_sum(resources: &Resources) -> Result<i64> {
    match (resources.memory_max.unwrap_or(NONE), resources.memory_swap_max.unwrap_or(NONE)) {
        (_, NONE) => Ok(NONE),
        (NONE, _) => Err(Error::invalid(
            "memory_swap_max",
            "needs memory_max: control groups version 1 limit memory and swap together",
        )),
        (memory, swap) => memory
            .checked_add(swap)
            .ok_or_else(|| Error::invalid("memory_swap_max", "memory_max and memory_swap_max together exceed 2^63")),
    }
}

/// Each device's limits before and after, in the order of the new list.
fn io_pairs(old: &[IoMax], new: &[IoMax]) -> Vec<(IoMax, IoMax)> {
    let none = |device: &str| IoMax { device: device.to_owned(), ..IoMax::default() };
    let find = |list: &[IoMax], device: &str| list.iter().rev().find(|limit| limit.device == device).cloned();
    let dropped = old.iter().filter(|limit| find(new, &limit.device).is_none());
    let mut pairs: Vec<_> = dropped.map(|limit| (limit.clone(), none(&limit.device))).collect();
    for limit in new {
        pairs.push((find(old, &limit.device).unwrap_or_else(|| none(&limit.device)), limit.clone()));
    }
    pairs
}

/// What the kernel would not refuse by itself, because a conversion or a special meaning hides it.
fn check(resources: &Resources) -> Result<()> {
    let none_or_positive = |field: &str, value: Option<i64>| match value {
        Some(value) if value < 1 && value != NONE => {
            Err(Error::invalid(field, format_args!("{value} is neither positive nor -1 (none)")))
        }
        _ => Ok(()),
    };
    none_or_positive("memory_max", resources.memory_max)?;
    none_or_positive("memory_high", resources.memory_high)?;
    none_or_positive("cpu_quota", resources.cpu_quota)?;
    none_or_positive("pids_max", resources.pids_max)?;
    if resources.memory_low.is_some_and(|value| value < 0) {
        return Err(Error::invalid("memory_low", "must not be negative"));
    }
    if resources.memory_swap_max.is_some_and(|value| value < NONE) {
        return Err(Error::invalid("memory_swap_max", "is neither 0 (no swap), positive nor -1 (no limit)"));
    }
    for (field, weight) in [("cpu_weight", resources.cpu_weight), ("io_weight", resources.io_weight)] {
        if weight.is_some_and(|weight| !(1..=10_000).contains(&weight)) {
            return Err(Error::invalid(field, "must be between 1 and 10000"));
        }
    }
    for (field, list) in [("cpuset_cpus", &resources.cpuset_cpus), ("cpuset_mems", &resources.cpuset_mems)] {
        let Some(list) = list else { continue };
        if list.is_empty() || !list.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b',' | b'-')) {
            return Err(Error::invalid(field, format_args!("{list:?} is not a list such as \"0-2,4\"")));
        }
    }
    for limit in &resources.io_max {
        let values = [limit.read_bps, limit.write_bps, limit.read_iops, limit.write_iops];
        if values.contains(&Some(0)) {
            return Err(Error::invalid(
                "io_max",
                format_args!("{}: 0 is no limit that the kernel knows", limit.device),
            ));
        }
    }
    for size in resources.hugetlb.keys() {
        if size.is_empty() || !size.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err(Error::invalid("hugetlb", format_args!("{size:?} is not a page size such as \"2MB\"")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: i64 = 1 << 20;

    fn memory(max: i64, swap: i64) -> Resources {
        Resources { memory_max: Some(max), memory_swap_max: Some(swap), ..Resources::default() }
    }

    fn to(changes: &[Change]) -> Vec<Limit> {
        changes.iter().map(|change| change.to.clone()).collect()
    }

    #[test]
    fn nothing_asked_is_nothing_written() {
        let none = Resources { memory_high: Some(-1), cpu_period: Some(100_000), ..Resources::default() };
        for version in [Version::V1, Version::V2] {
            assert_eq!(changes(&Resources::default(), &none, version).unwrap(), []);
        }
    }

    #[test]
    fn memory_with_swap_is_raised_from_the_outside() {
        let small = memory(10 * MIB, 0);
        let large = memory(20 * MIB, 5 * MIB);
        let set = changes(&Resources::default(), &small, Version::V1).unwrap();
        assert_eq!(to(&set), [Limit::MemoryMax(10 * MIB), Limit::MemorySwapSum(10 * MIB)]);
        let up = changes(&small, &large, Version::V1).unwrap();
        assert_eq!(to(&up), [Limit::MemorySwapSum(25 * MIB), Limit::MemoryMax(20 * MIB)]);
        let down = changes(&large, &small, Version::V1).unwrap();
        assert_eq!(to(&down), [Limit::MemoryMax(10 * MIB), Limit::MemorySwapSum(10 * MIB)]);
        let off = changes(&small, &memory(-1, -1), Version::V1).unwrap();
        assert_eq!(to(&off), [Limit::MemorySwapSum(-1), Limit::MemoryMax(-1)]);
    }

    #[test]
    fn swap_is_separate_on_version_2() {
        let set = changes(&Resources::default(), &memory(10 * MIB, 5 * MIB), Version::V2).unwrap();
        assert_eq!(to(&set), [Limit::MemoryMax(10 * MIB), Limit::SwapMax(5 * MIB)]);
        let alone = Resources { memory_swap_max: Some(0), ..Resources::default() };
        assert!(changes(&Resources::default(), &alone, Version::V2).is_ok());
        assert!(changes(&Resources::default(), &alone, Version::V1).is_err());
    }

    #[test]
    fn a_change_of_memory_moves_the_sum() {
        let old = memory(10 * MIB, MIB);
        let new = old.updated(&Resources { memory_max: Some(20 * MIB), ..Resources::default() });
        let up = changes(&old, &new, Version::V1).unwrap();
        assert_eq!(to(&up), [Limit::MemorySwapSum(21 * MIB), Limit::MemoryMax(20 * MIB)]);
    }

    #[test]
    fn devices_pair_up() {
        let limit = |device: &str, bps| IoMax { device: device.to_owned(), read_bps: Some(bps), ..IoMax::default() };
        let old = Resources { io_max: vec![limit("/dev/a", 1), limit("/dev/b", 2)], ..Resources::default() };
        let new = old.updated(&Resources { io_max: vec![limit("/dev/b", 3)], ..Resources::default() });
        let list = changes(&old, &new, Version::V2).unwrap();
        assert_eq!(list.len(), 1);
        assert_eq!(list[0].from, Limit::IoMax(limit("/dev/b", 2)));
        assert_eq!(list[0].to, Limit::IoMax(limit("/dev/b", 3)));
    }

    #[test]
    fn out_of_range_names_the_field() {
        let cases = [
            (Resources { memory_max: Some(-2), ..Resources::default() }, "memory_max"),
            (Resources { pids_max: Some(0), ..Resources::default() }, "pids_max"),
            (Resources { cpu_weight: Some(0), ..Resources::default() }, "cpu_weight"),
            (Resources { io_weight: Some(10_001), ..Resources::default() }, "io_weight"),
            (Resources { cpuset_cpus: Some("0\n1".to_owned()), ..Resources::default() }, "cpuset_cpus"),
            (Resources { hugetlb: [("../x".to_owned(), 1)].into(), ..Resources::default() }, "hugetlb"),
            (memory(i64::MAX, 1), "memory_swap_max"),
        ];
        for (resources, field) in cases {
            let error = changes(&Resources::default(), &resources, Version::V1).unwrap_err();
            assert!(error.message.starts_with(field), "{error}");
        }
    }
}
