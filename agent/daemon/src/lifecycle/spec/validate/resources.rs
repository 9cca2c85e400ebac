//! Limits: ranges as in `proto/hull/v1/spec.proto`.

use std::fmt;

use super::check_count;
use crate::error::{Error, Result};
use crate::lifecycle::config::{IoMax, Resources};
use crate::lifecycle::spec::path;

/// Least memory that a program can start with.
const MIN_MEMORY: i64 = 512 * 1024;
/// No processor or memory node has a larger number (CONFIG_NR_CPUS ends at 8192).
const MAX_CPU: u32 = 8191;
/// "None" in signed limits.
const NONE: i64 = -1;

/// Checks limits, at creation and at an update; `field` is the path of the message ("config.resources").
pub(crate) fn validate_resources(field: &str, resources: &Resources) -> Result<()> {
    let limits = [
        ("memory_max", resources.memory_max, MIN_MEMORY),
        ("memory_high", resources.memory_high, 1),
        ("memory_swap_max", resources.memory_swap_max, 0),
        ("cpu_quota", resources.cpu_quota, 1000),
        ("pids_max", resources.pids_max, 1),
    ];
    let invalid = |name: &str, problem: &dyn fmt::Display| Err(Error::invalid(&format!("{field}.{name}"), problem));
    for (name, value, least) in limits {
        if let Some(value) = value.filter(|value| *value < least && *value != NONE) {
            return invalid(name, &format_args!("{value} is neither -1 (none) nor at least {least}"));
        }
    }
    if let Some(value) = resources.memory_low.filter(|value| *value < 0) {
        return invalid("memory_low", &format_args!("{value} is negative"));
    }
    for (name, value) in [("cpu_weight", resources.cpu_weight), ("io_weight", resources.io_weight)] {
        if let Some(value) = value.filter(|value| !(1..=10_000).contains(value)) {
            return invalid(name, &format_args!("{value} is not between 1 and 10000"));
        }
    }
    if let Some(value) = resources.cpu_period.filter(|value| !(1000..=1_000_000).contains(value)) {
        return invalid("cpu_period", &format_args!("{value} is not between 1000 and 1000000"));
    }
    for (name, list) in [("cpuset_cpus", &resources.cpuset_cpus), ("cpuset_mems", &resources.cpuset_mems)] {
        if let Some(list) = list
            && !is_cpu_list(list)
        {
            return invalid(name, &format_args!("{list:?} is not a list such as \"0-2,4\""));
        }
    }
    if let Some(size) = resources.hugetlb.keys().find(|size| !is_page_size(size)) {
        return invalid("hugetlb", &format_args!("{size:?} is not a page size such as \"2MB\""));
    }
    io_max(field, &resources.io_max)
}

fn io_max(field: &str, limits: &[IoMax]) -> Result<()> {
    check_count(&format!("{field}.io_max"), limits.len(), 64)?;
    let mut seen = Vec::new();
    for (index, limit) in limits.iter().enumerate() {
        let field = format!("{field}.io_max[{index}]");
        let device = path::absolute(&format!("{field}.device"), &limit.device)?;
        if seen.contains(&device) {
            return Err(Error::invalid(&format!("{field}.device"), format_args!("{device} is given twice")));
        }
        seen.push(device);
        let values = [limit.read_bps, limit.write_bps, limit.read_iops, limit.write_iops];
        if values.iter().all(Option::is_none) {
            return Err(Error::invalid(&field, "no limit is given"));
        }
        if values.contains(&Some(0)) {
            return Err(Error::invalid(&field, "0 is no limit that the kernel knows"));
        }
    }
    Ok(())
}

/// "0-2,4": numbers and ascending ranges, see cpuset(7).
fn is_cpu_list(list: &str) -> bool {
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| text.parse::<u32>().ok()).flatten().filter(|number| *number <= MAX_CPU)
    };
    list.len() <= 4096
        && list.split(',').all(|part| match part.split_once('-') {
            None => number(part).is_some(),
            Some((first, last)) => matches!((number(first), number(last)), (Some(first), Some(last)) if first <= last),
        })
}

/// "64KB", "2MB", "1GB", as the files of the hugetlb controller are named.
fn is_page_size(size: &str) -> bool {
    let digits = ["KB", "MB", "GB"].iter().find_map(|unit| size.strip_suffix(unit));
    digits.is_some_and(|digits| digits.len() <= 4 && digits.parse::<u16>().is_ok_and(|number| number > 0))
}
