//! What is used at one moment. A value that the kernel does not offer is `None`.

mod delta;
mod node;
mod usage;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

pub(crate) use self::node::{NodeCpu, NodeLoad, NodeMemory, NodeSample};
pub(crate) use self::usage::{
    CpuStats, DeviceIo, HugetlbSize, HugetlbStats, Interface, InterfaceName, IoStats, MemoryStats, NetworkStats,
    PidsStats, Pressure, PressureStats, Stall, Usage, Writable,
};
use super::group::Groups;

/// Which container a sample is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) id: Arc<str>,
    pub(crate) name: Arc<str>,
    pub(crate) labels: BTreeMap<String, String>,
}

/// One reading of one container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sample {
    /// Of what.
    pub(crate) identity: Arc<Identity>,
    /// Which run of the container: one that is started anew has another.
    pub(crate) run: u64,
    /// When it was read.
    pub(crate) at: Moment,
    /// What was read.
    pub(crate) groups: Groups,
    pub(crate) usage: Usage,
}

/// A point in time, by two clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Moment {
    /// Wall clock.
    pub(crate) time: SystemTime,
    /// Nanoseconds of CLOCK_MONOTONIC: for rates.
    pub(crate) monotonic_nanos: u64,
}

impl Moment {
    /// Now.
    pub(super) fn now() -> Self {
        let clock = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let nanos = |value: i64| u64::try_from(value).unwrap_or(0);
        Self { time: SystemTime::now(), monotonic_nanos: nanos(clock.tv_sec) * 1_000_000_000 + nanos(clock.tv_nsec) }
    }
}
