//! Statistics.

mod node;
mod values;

use std::collections::HashMap;

use hull_proto::v1::{ContainerStats, StreamStatsResponse};
use jiff::Timestamp;
use serde::Serialize;

pub(crate) use self::node::NODE_HEADINGS;
use self::node::NodeView;
use self::values::{CpuView, DeviceIoView, HugetlbSizeView, InterfaceView, MemoryView, PidsView, PressureView};
use super::human::{bytes, bytes_decimal, short_id};
use super::template::Fields;
use super::time::moment;

/// One frame, with the field names of protobuf's JSON mapping and rates beside them.
#[derive(Debug, Serialize)]
pub(crate) struct FrameView {
    stats: Vec<StatsView>,
    missed: u64,
    started: Vec<String>,
    stopped: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<NodeView>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct StatsView {
    id: String,
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<Timestamp>,
    monotonic_nanos: u64,
    /// Of one processor, since the frame before.
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu_percent: Option<f64>,
    cpu: CpuView,
    memory: MemoryView,
    pids: PidsView,
    io: IoView,
    #[serde(skip_serializing_if = "Option::is_none")]
    hugetlb: Option<HugetlbView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pressure: Option<PressureView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    network: Option<NetworkView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    writable_layer: Option<WritableLayerView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    open_files: Option<u64>,
}

#[derive(Debug, Serialize)]
struct IoView {
    devices: Vec<DeviceIoView>,
}

#[derive(Debug, Serialize)]
struct HugetlbView {
    sizes: Vec<HugetlbSizeView>,
}

#[derive(Debug, Serialize)]
struct NetworkView {
    interfaces: Vec<InterfaceView>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct WritableLayerView {
    bytes: u64,
    inodes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    measured_at: Option<Timestamp>,
}

/// What was read of each container in the frame before: when, and its processor time, both in nanoseconds.
pub(crate) type Before = HashMap<String, (u64, u64)>;

impl FrameView {
    /// A frame, with rates since the one before; `before` becomes this one.
    pub(crate) fn new(frame: StreamStatsResponse, before: &mut Before) -> Self {
        let known = std::mem::take(before);
        let mut stats: Vec<StatsView> = Vec::with_capacity(frame.stats.len());
        for sample in frame.stats {
            let usage = sample.cpu.as_ref().and_then(|cpu| cpu.usage_nanos);
            let percent =
                usage.zip(known.get(&sample.id)).and_then(|(usage, then)| rate(*then, (sample.monotonic_nanos, usage)));
            if let Some(usage) = usage {
                before.insert(sample.id.clone(), (sample.monotonic_nanos, usage));
            }
            stats.push(StatsView::new(sample, percent));
        }
        stats.sort_by(|a, b| a.name.cmp(&b.name));
        let node = frame.node.map(|node| NodeView::new(node, &known, before));
        Self { stats, missed: frame.missed, started: frame.started, stopped: frame.stopped, node }
    }

    /// Headings of [`Self::rows`].
    pub(crate) const HEADINGS: [&str; 8] =
        ["CONTAINER ID", "NAME", "CPU %", "MEM USAGE / LIMIT", "MEM %", "NET I/O", "BLOCK I/O", "PIDS"];

    /// Headings of [`Self::further_cells`].
    pub(crate) const FURTHER_HEADINGS: [&str; 6] =
        ["THROTTLED", "OOM KILLS", "CPU STALL", "MEM STALL", "IO STALL", "WRITABLE"];

    /// Fields of [`Self::fields`], with Docker's names.
    pub(crate) const FIELDS: Fields = &[
        ("Container", "CONTAINER"),
        ("ID", "CONTAINER ID"),
        ("Name", "NAME"),
        ("CPUPerc", "CPU %"),
        ("MemUsage", "MEM USAGE / LIMIT"),
        ("MemPerc", "MEM %"),
        ("NetIO", "NET I/O"),
        ("BlockIO", "BLOCK I/O"),
        ("PIDs", "PIDS"),
    ];

    /// One object per container.
    pub(crate) fn fields(&self, whole_ids: bool) -> impl Iterator<Item = serde_json::Value> {
        self.rows(whole_ids).map(|[id, name, cpu, memory, percent, network, io, pids]| {
            serde_json::json!({
                "Container": id, "ID": id, "Name": name, "CPUPerc": cpu, "MemUsage": memory, "MemPerc": percent,
                "NetIO": network, "BlockIO": io, "PIDs": pids,
            })
        })
    }

    /// Names of the containers.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.stats.iter().map(|stats| stats.name.as_str())
    }

    /// One row per container.
    pub(crate) fn rows(&self, whole_ids: bool) -> impl Iterator<Item = [String; 8]> {
        self.stats.iter().map(move |stats| stats.row(whole_ids))
    }

    /// What `-o wide` shows beside each row.
    pub(crate) fn further_cells(&self) -> impl Iterator<Item = [String; 6]> {
        self.stats.iter().map(StatsView::further_cells)
    }

    /// The node, under [`NODE_HEADINGS`].
    pub(crate) fn node_row(&self) -> Option<[String; 8]> {
        self.node.as_ref().map(NodeView::row)
    }
}

/// Share of one processor between two readings, in percent.
fn rate(then: (u64, u64), now: (u64, u64)) -> Option<f64> {
    let (elapsed, used) = (now.0.checked_sub(then.0)?, now.1.checked_sub(then.1)?);
    share(used, elapsed)
}

/// As it is shown.
fn percent(value: Option<f64>) -> String {
    value.map_or_else(|| "--".to_owned(), |value| format!("{value:.2}%"))
}

/// `part` of `whole` in percent, with two digits.
fn share(part: u64, whole: u64) -> Option<f64> {
    #[expect(clippy::cast_precision_loss, reason = "two digits are shown")]
    let percent = |part: u64, whole: u64| (part as f64 / whole as f64 * 10_000.0).round() / 100.0;
    (whole > 0).then(|| percent(part, whole))
}

impl StatsView {
    fn new(sample: ContainerStats, cpu_percent: Option<f64>) -> Self {
        Self {
            time: moment(sample.time.as_ref()),
            id: sample.id,
            name: sample.name,
            monotonic_nanos: sample.monotonic_nanos,
            cpu_percent,
            cpu: sample.cpu.unwrap_or_default().into(),
            memory: sample.memory.unwrap_or_default().into(),
            pids: sample.pids.unwrap_or_default().into(),
            io: IoView { devices: sample.io.unwrap_or_default().devices.into_iter().map(DeviceIoView::from).collect() },
            hugetlb: sample
                .hugetlb
                .map(|pages| HugetlbView { sizes: pages.sizes.into_iter().map(HugetlbSizeView::from).collect() }),
            pressure: sample.pressure.map(PressureView::from),
            network: sample.network.map(|network| NetworkView {
                interfaces: network.interfaces.into_iter().map(InterfaceView::from).collect(),
            }),
            writable_layer: sample.writable_layer.map(|layer| WritableLayerView {
                bytes: layer.bytes,
                inodes: layer.inodes,
                measured_at: moment(layer.measured_at.as_ref()),
            }),
            open_files: sample.open_files,
        }
    }

    fn row(&self, whole_ids: bool) -> [String; 8] {
        let absent = || "--".to_owned();
        // As Docker has it: page cache that can be given back is not counted.
        let used = self.memory.working_set.or(self.memory.usage);
        let limit = self.memory.limit;
        let io = |field: fn(&DeviceIoView) -> u64| bytes_decimal(self.io.devices.iter().map(field).sum());
        [
            if whole_ids { self.id.clone() } else { short_id(&self.id).to_owned() },
            self.name.clone(),
            percent(self.cpu_percent),
            format!("{} / {}", used.map_or_else(absent, bytes), limit.map_or_else(|| "none".to_owned(), bytes)),
            percent(used.zip(limit).and_then(|(used, limit)| share(used, limit))),
            self.network.as_ref().map_or_else(absent, NetworkView::traffic),
            format!("{} / {}", io(|device| device.read_bytes), io(|device| device.write_bytes)),
            self.pids.current.map_or_else(absent, |count| count.to_string()),
        ]
    }

    fn further_cells(&self) -> [String; 6] {
        let absent = || "--".to_owned();
        let throttled = self.cpu.throttled_periods.zip(self.cpu.periods);
        let [cpu, memory, io] = PressureView::shares(self.pressure.as_ref()).map(percent);
        [
            percent(throttled.and_then(|(throttled, all)| share(throttled, all))),
            self.memory.oom_kills.map_or_else(absent, |count| count.to_string()),
            cpu,
            memory,
            io,
            self.writable_layer.as_ref().map_or_else(absent, |layer| bytes_decimal(layer.bytes)),
        ]
    }
}

impl NetworkView {
    /// Bytes received and sent; what a container says to itself is no traffic.
    fn traffic(&self) -> String {
        let sum = |field: fn(&InterfaceView) -> u64| {
            bytes_decimal(self.interfaces.iter().filter(|interface| interface.name != "lo").map(field).sum())
        };
        format!("{} / {}", sum(|interface| interface.rx_bytes), sum(|interface| interface.tx_bytes))
    }
}

#[cfg(test)]
mod tests {
    use hull_proto::v1::{
        CpuStats, MemoryStats, NetworkInterface, NetworkStats, NodeCpuStats, NodeMemoryStats, NodeStats, Pressure,
        PressureStats, Stall, WritableLayerStats,
    };

    use super::*;

    fn frame(at: u64, used: u64) -> StreamStatsResponse {
        let cpu = Some(CpuStats { usage_nanos: Some(used), ..Default::default() });
        let memory = Some(MemoryStats { working_set: Some(32 << 20), limit: Some(64 << 20), ..Default::default() });
        let (id, name) = ("a".repeat(64), "web".to_owned());
        let sample = ContainerStats { id, name, monotonic_nanos: at, cpu, memory, ..Default::default() };
        StreamStatsResponse { stats: vec![sample], ..Default::default() }
    }

    #[test]
    fn processor_use_is_the_difference_of_two_frames() {
        let mut before = Before::new();
        let first = FrameView::new(frame(1_000, 500), &mut before);
        assert_eq!(first.stats[0].cpu_percent, None);
        assert_eq!(first.rows(false).next().unwrap()[2], "--");
        let second = FrameView::new(frame(2_000, 1_250), &mut before);
        assert_eq!(second.stats[0].cpu_percent, Some(75.0));
        let row = second.rows(false).next().unwrap();
        assert_eq!(row, ["aaaaaaaaaaaa", "web", "75.00%", "32MiB / 64MiB", "50.00%", "--", "0B / 0B", "--"]);
        let restarted = FrameView::new(frame(3_000, 10), &mut before);
        assert_eq!(restarted.stats[0].cpu_percent, None);
    }

    #[test]
    fn a_wide_table_has_pressure_and_more() {
        let mut given = frame(1_000, 500);
        let interface =
            |name: &str, rx_bytes| NetworkInterface { name: name.to_owned(), rx_bytes, ..Default::default() };
        let some = Some(Stall { avg10: 12.5, ..Stall::default() });
        let sample = &mut given.stats[0];
        sample.network = Some(NetworkStats { interfaces: vec![interface("lo", 7_000), interface("eth0", 2_000)] });
        sample.pressure = Some(PressureStats { cpu: Some(Pressure { some, full: None }), ..Default::default() });
        sample.writable_layer = Some(WritableLayerStats { bytes: 5_000, ..Default::default() });
        sample.cpu = Some(CpuStats { periods: Some(8), throttled_periods: Some(2), ..Default::default() });
        let frame = FrameView::new(given, &mut Before::new());
        assert_eq!(frame.rows(false).next().unwrap()[5], "2kB / 0B");
        assert_eq!(frame.further_cells().next().unwrap(), ["25.00%", "--", "12.50%", "--", "--", "5kB"]);
        assert_eq!((FrameView::HEADINGS.len(), FrameView::FURTHER_HEADINGS.len()), (8, 6));
    }

    #[test]
    fn the_node_s_processor_use_is_the_difference_of_two_frames() {
        let node = |monotonic_nanos, user_nanos| {
            let cpu = Some(NodeCpuStats { cpus: 2, user_nanos, system_nanos: 100, ..Default::default() });
            let memory = Some(NodeMemoryStats { total: Some(4 << 30), available: Some(1 << 30), ..Default::default() });
            let node = Some(NodeStats { monotonic_nanos, cpu, memory, ..Default::default() });
            StreamStatsResponse { node, ..Default::default() }
        };
        let mut before = Before::new();
        let first = FrameView::new(node(1_000, 500), &mut before).node_row().unwrap();
        assert_eq!(first[..4], ["2", "--", "--", "3GiB / 4GiB"]);
        assert_eq!(FrameView::new(node(2_000, 1_500), &mut before).node_row().unwrap()[1], "100.00%");
    }
}
