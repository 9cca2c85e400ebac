//! What containers were asked to be, and since when they are.

use super::families::{Family, one};
use super::{Row, Used, seconds};
use crate::exposition::family::{Value, gauge};
use crate::lifecycle::config::Resources;

/// The kernel's period of a quota.
const DEFAULT_PERIOD: u64 = 100_000;
/// The weight of a container that was given none, and the shares that are the same to the scheduler.
const DEFAULT_WEIGHT: u32 = 100;
const DEFAULT_SHARES: u64 = 1024;

/// Limits are 0 where there is none, as cAdvisor has it.
pub(super) const FAMILIES: &[Family] = &[
    one(gauge("container_last_seen", "When the container was read, since the epoch."), |row| match &row.used {
        Used::Container(sample) => {
            let since = sample.at.time.duration_since(std::time::UNIX_EPOCH).ok()?;
            Some(Value::Real(since.as_secs_f64()))
        }
        Used::Node(_) => None,
    }),
    one(gauge("container_start_time_seconds", "When the container was started, since the epoch."), |row| {
        row.view.as_ref()?.started_at_nanos.map(seconds)
    }),
    one(gauge("container_creation_time_seconds", "When the container was created, since the epoch."), |row| {
        Some(seconds(row.view.as_ref()?.created_at_nanos))
    }),
    one(gauge("container_spec_cpu_period", "Period of the processor quota in microseconds."), |row| {
        let resources = resources(row)?;
        Some(resources.cpu_period.unwrap_or(DEFAULT_PERIOD).into())
    }),
    one(gauge("container_spec_cpu_quota", "Processor quota in microseconds of each period."), |row| {
        Some(quota(row)?.into())
    }),
    one(gauge("container_spec_cpu_shares", "Processor shares: 1024 are usual."), |row| {
        let weight = resources(row)?.cpu_weight.unwrap_or(DEFAULT_WEIGHT);
        Some((u64::from(weight) * DEFAULT_SHARES / u64::from(DEFAULT_WEIGHT)).into())
    }),
    one(gauge("container_spec_memory_limit_bytes", "Memory limit; 0: none."), |row| {
        Some(bytes(resources(row)?.memory_max))
    }),
    one(gauge("container_spec_memory_swap_limit_bytes", "Limit of swap beside memory; 0: none."), |row| {
        Some(bytes(resources(row)?.memory_swap_max))
    }),
    one(gauge("container_spec_memory_reservation_limit_bytes", "Memory that is protected; 0: none."), |row| {
        Some(bytes(resources(row)?.memory_low))
    }),
];

fn resources(row: &Row) -> Option<&Resources> {
    row.view.as_ref().map(|view| &view.config.resources)
}

/// The quota of a container that has one.
pub(super) fn quota(row: &Row) -> Option<u64> {
    u64::try_from(resources(row)?.cpu_quota?).ok().filter(|quota| *quota > 0)
}

fn bytes(limit: Option<i64>) -> Value {
    limit.and_then(|limit| u64::try_from(limit).ok()).unwrap_or(0).into()
}
