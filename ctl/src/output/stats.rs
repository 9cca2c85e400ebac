//! Statistics.

use std::collections::HashMap;

use hull_proto::v1::{ContainerStats, CpuStats, IoStats, MemoryStats, PidsStats, StreamStatsResponse};
use jiff::Timestamp;
use serde::Serialize;

use super::human::{bytes, bytes_decimal, short_id};
use super::template::Fields;
use super::time::moment;

/// One frame, with the field names of protobuf's JSON mapping and rates beside them.
#[derive(Debug, Serialize)]
pub(crate) struct FrameView {
    stats: Vec<StatsView>,
    missed: u64,
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
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct CpuView {
    #[serde(skip_serializing_if = "Option::is_none")]
    usage_nanos: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_nanos: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    system_nanos: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    periods: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    throttled_periods: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    throttled_nanos: Option<u64>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct MemoryView {
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    working_set: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    anon: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kernel: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    swap: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    peak: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    major_faults: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    oom_kills: Option<u64>,
}

#[derive(Debug, Serialize)]
struct PidsView {
    #[serde(skip_serializing_if = "Option::is_none")]
    current: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<u64>,
}

#[derive(Debug, Serialize)]
struct IoView {
    devices: Vec<DeviceIoView>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct DeviceIoView {
    major: u32,
    minor: u32,
    read_bytes: u64,
    write_bytes: u64,
    read_ops: u64,
    write_ops: u64,
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
        Self { stats, missed: frame.missed }
    }

    /// Headings of [`Self::rows`].
    pub(crate) const HEADINGS: [&str; 7] =
        ["CONTAINER ID", "NAME", "CPU %", "MEM USAGE / LIMIT", "MEM %", "BLOCK I/O", "PIDS"];

    /// Fields of [`Self::fields`], with Docker's names.
    pub(crate) const FIELDS: Fields = &[
        ("Container", "CONTAINER"),
        ("ID", "CONTAINER ID"),
        ("Name", "NAME"),
        ("CPUPerc", "CPU %"),
        ("MemUsage", "MEM USAGE / LIMIT"),
        ("MemPerc", "MEM %"),
        ("BlockIO", "BLOCK I/O"),
        ("PIDs", "PIDS"),
    ];

    /// One object per container.
    pub(crate) fn fields(&self, whole_ids: bool) -> impl Iterator<Item = serde_json::Value> {
        self.rows(whole_ids).map(|[id, name, cpu, memory, percent, io, pids]| {
            serde_json::json!({
                "Container": id, "ID": id, "Name": name, "CPUPerc": cpu, "MemUsage": memory, "MemPerc": percent,
                "BlockIO": io, "PIDs": pids,
            })
        })
    }

    /// Names of the containers.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.stats.iter().map(|stats| stats.name.as_str())
    }

    /// One row per container.
    pub(crate) fn rows(&self, whole_ids: bool) -> impl Iterator<Item = [String; 7]> {
        self.stats.iter().map(move |stats| stats.row(whole_ids))
    }
}

/// Share of one processor between two readings, in percent.
fn rate(then: (u64, u64), now: (u64, u64)) -> Option<f64> {
    let (elapsed, used) = (now.0.checked_sub(then.0)?, now.1.checked_sub(then.1)?);
    share(used, elapsed)
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
            io: sample.io.unwrap_or_default().into(),
        }
    }

    fn row(&self, whole_ids: bool) -> [String; 7] {
        let absent = || "--".to_owned();
        let percent = |value: Option<f64>| value.map_or_else(absent, |value| format!("{value:.2}%"));
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
            format!("{} / {}", io(|device| device.read_bytes), io(|device| device.write_bytes)),
            self.pids.current.map_or_else(absent, |count| count.to_string()),
        ]
    }
}

impl From<CpuStats> for CpuView {
    fn from(cpu: CpuStats) -> Self {
        Self {
            usage_nanos: cpu.usage_nanos,
            user_nanos: cpu.user_nanos,
            system_nanos: cpu.system_nanos,
            periods: cpu.periods,
            throttled_periods: cpu.throttled_periods,
            throttled_nanos: cpu.throttled_nanos,
        }
    }
}

impl From<MemoryStats> for MemoryView {
    fn from(memory: MemoryStats) -> Self {
        Self {
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
        }
    }
}

impl From<PidsStats> for PidsView {
    fn from(pids: PidsStats) -> Self {
        Self { current: pids.current, limit: pids.limit }
    }
}

impl From<IoStats> for IoView {
    fn from(io: IoStats) -> Self {
        let device = |device: hull_proto::v1::DeviceIo| DeviceIoView {
            major: device.major,
            minor: device.minor,
            read_bytes: device.read_bytes,
            write_bytes: device.write_bytes,
            read_ops: device.read_ops,
            write_ops: device.write_ops,
        };
        Self { devices: io.devices.into_iter().map(device).collect() }
    }
}

#[cfg(test)]
mod tests {
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
        assert_eq!(row, ["aaaaaaaaaaaa", "web", "75.00%", "32MiB / 64MiB", "50.00%", "0B / 0B", "--"]);
        let restarted = FrameView::new(frame(3_000, 10), &mut before);
        assert_eq!(restarted.stats[0].cpu_percent, None);
    }
}
