//! Totals of the node.

use hull_proto::v1::NodeStats;
use jiff::Timestamp;
use serde::Serialize;

use super::values::{NodeCpuView, NodeDiskView, NodeLoadView, NodeMemoryView, PressureView};
use super::{Before, percent, rate};
use crate::output::human::bytes;
use crate::output::time::moment;

/// The node among what was read before: containers have ids.
const NODE: &str = "";

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct NodeView {
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<Timestamp>,
    monotonic_nanos: u64,
    /// Of one processor, since the frame before.
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu_percent: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu: Option<NodeCpuView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory: Option<NodeMemoryView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    load: Option<NodeLoadView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pressure: Option<PressureView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    disk: Option<NodeDiskView>,
}

/// Headings of [`NodeView::row`].
pub(crate) const NODE_HEADINGS: [&str; 8] =
    ["CPUS", "CPU %", "LOAD", "MEM USED / TOTAL", "DISK USED / SIZE", "CPU STALL", "MEM STALL", "IO STALL"];

impl NodeView {
    /// The node, with rates since `known`; `before` becomes this reading.
    pub(super) fn new(node: NodeStats, known: &Before, before: &mut Before) -> Self {
        let busy = node.cpu.as_ref().map(|cpu| (node.monotonic_nanos, cpu.user_nanos + cpu.system_nanos));
        if let Some(busy) = busy {
            before.insert(NODE.to_owned(), busy);
        }
        Self {
            time: moment(node.time.as_ref()),
            monotonic_nanos: node.monotonic_nanos,
            cpu_percent: busy.zip(known.get(NODE)).and_then(|(now, then)| rate(*then, now)),
            cpu: node.cpu.map(NodeCpuView::from),
            memory: node.memory.map(NodeMemoryView::from),
            load: node.load.map(NodeLoadView::from),
            pressure: node.pressure.map(PressureView::from),
            disk: node.disk.map(NodeDiskView::from),
        }
    }

    pub(super) fn row(&self) -> [String; 8] {
        let absent = || "--".to_owned();
        let of = |used: Option<u64>, all: Option<u64>| {
            used.zip(all).map_or_else(absent, |(used, all)| format!("{} / {}", bytes(used), bytes(all)))
        };
        let memory = self.memory.as_ref();
        let used = memory.and_then(|memory| memory.total?.checked_sub(memory.available?));
        let taken = self.disk.as_ref().map(|disk| disk.bytes.saturating_sub(disk.free_bytes));
        let [cpu, waits_for_memory, io] = PressureView::shares(self.pressure.as_ref()).map(percent);
        [
            self.cpu.as_ref().map_or_else(absent, |cpu| cpu.cpus.to_string()),
            percent(self.cpu_percent),
            self.load
                .as_ref()
                .map_or_else(absent, |load| format!("{:.2} {:.2} {:.2}", load.load1, load.load5, load.load15)),
            of(used, memory.and_then(|memory| memory.total)),
            of(taken, self.disk.as_ref().map(|disk| disk.bytes)),
            cpu,
            waits_for_memory,
            io,
        ]
    }
}
