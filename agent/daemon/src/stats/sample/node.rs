//! What the node as a whole uses.

use super::{Moment, PressureStats};
use crate::space::Space;

/// One reading of the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NodeSample {
    /// When it was read.
    pub(crate) at: Moment,
    pub(crate) cpu: Option<NodeCpu>,
    pub(crate) memory: NodeMemory,
    pub(crate) load: Option<NodeLoad>,
    pub(crate) pressure: PressureStats,
    /// The file system that the data directory is on.
    pub(crate) disk: Option<Space>,
}

/// Time of all processors together since the node booted, in nanoseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct NodeCpu {
    /// Processors that are online.
    pub(crate) cpus: u32,
    /// In user mode, guests and niced processes included.
    pub(crate) user_nanos: u64,
    /// In the kernel, interrupts included.
    pub(crate) system_nanos: u64,
    pub(crate) idle_nanos: u64,
    pub(crate) iowait_nanos: u64,
    pub(crate) steal_nanos: u64,
}

/// Memory in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct NodeMemory {
    pub(crate) total: Option<u64>,
    pub(crate) free: Option<u64>,
    /// What can be had without swapping.
    pub(crate) available: Option<u64>,
    pub(crate) buffers: Option<u64>,
    pub(crate) cached: Option<u64>,
    pub(crate) swap_total: Option<u64>,
    pub(crate) swap_free: Option<u64>,
}

/// Load averages in hundredths, and tasks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct NodeLoad {
    pub(crate) load1: u32,
    pub(crate) load5: u32,
    pub(crate) load15: u32,
    /// Tasks that run or could run now.
    pub(crate) running: u64,
    /// Tasks that there are.
    pub(crate) tasks: u64,
}
