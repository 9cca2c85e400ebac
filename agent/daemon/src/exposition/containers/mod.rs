//! What containers use, under the names and labels of cAdvisor, so that dashboards and alerts made for it work as they are. The node
//! as a whole is the container "/" there.

mod devices;
mod families;
mod spec;
mod usage;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, LabelSetEncoder};

use self::devices::Devices;
use self::families::{Family, Values};
use super::family::{Head, Value, gauge};
use super::label;
use crate::lifecycle::View;
use crate::stats::{NodeSample, Reading, Sample, Usage};

/// Everything that is told of containers and the node at one moment.
#[derive(Debug)]
pub(super) struct ContainersNow {
    /// The node first, if it was read.
    rows: Vec<Row>,
    node: Option<Arc<NodeSample>>,
    devices: Devices,
    /// Whether nothing could be read.
    failed: bool,
}

/// One container, or the node.
#[derive(Debug)]
struct Row {
    /// Names, and values as they are written.
    labels: Vec<(String, String)>,
    used: Used,
    /// `None`: the node, or a container that is gone meanwhile.
    view: Option<Arc<View>>,
}

#[derive(Debug)]
enum Used {
    Container(Arc<Sample>),
    Node(Box<Usage>),
}

impl Row {
    fn usage(&self) -> &Usage {
        match &self.used {
            Used::Container(sample) => &sample.usage,
            Used::Node(usage) => usage,
        }
    }
}

/// Names and values that one line has beside those of its container.
type Extra<'a> = Vec<(&'static str, &'a str)>;

/// The labels of a line.
struct Labels<'a> {
    row: &'a Row,
    extra: Extra<'a>,
}

impl EncodeLabelSet for Labels<'_> {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        self.extra.encode(encoder)?;
        self.row.labels.encode(encoder)
    }
}

impl ContainersNow {
    /// `reading`: what was read of them, if it could be. `labels`: which labels of containers are told, and under which names. Looks
    /// devices up, which blocks for a moment.
    pub(super) fn new(
        reading: Option<&Reading>,
        views: &[Arc<View>],
        labels: &BTreeMap<String, String>,
        data_dir: &Path,
    ) -> Self {
        let node = reading.and_then(|reading| reading.node.clone());
        let by_id: HashMap<&str, &Arc<View>> = views.iter().map(|view| (view.id.as_str(), view)).collect();
        let mut rows: Vec<Row> = node.iter().map(|node| of_node(node)).collect();
        for sample in reading.iter().flat_map(|reading| &reading.samples) {
            // One that was removed after it was read has lost its image and labels, too: nothing is told of it.
            let Some(view) = by_id.get(&*sample.identity.id) else { continue };
            let used = Used::Container(Arc::clone(sample));
            rows.push(Row { labels: labels_of(view, labels), used, view: Some(Arc::clone(view)) });
        }
        let mut devices = Devices::new(data_dir);
        for device in rows.iter().flat_map(|row| &row.usage().io.devices) {
            devices.add(device.major, device.minor);
        }
        Self { rows, node, devices, failed: reading.is_none() }
    }

    fn family(&self, to: &mut DescriptorEncoder<'_>, head: &Head, values: Values) -> fmt::Result {
        let mut lines = Vec::new();
        for row in &self.rows {
            match values {
                Values::One(value) => {
                    lines.extend(value(row).map(|value| (Labels { row, extra: Extra::new() }, value)));
                }
                Values::Many(values) => {
                    let found = values(row, &self.devices).into_iter();
                    lines.extend(found.map(|(extra, value)| (Labels { row, extra }, value)));
                }
            }
        }
        head.lines(to, lines)
    }

    fn machine(&self, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let node = self.node.as_deref();
        let cpus = node.and_then(|node| node.cpu).map(|cpu| u64::from(cpu.cpus));
        gauge("machine_cpu_cores", "Processors that are online.").line(to, cpus)?;
        let memory = node.map(|node| node.memory).unwrap_or_default();
        gauge("machine_memory_bytes", "Memory of the node.").line(to, memory.total)?;
        gauge("machine_swap_bytes", "Swap of the node.").line(to, memory.swap_total)
    }
}

impl Collector for ContainersNow {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let to = &mut encoder;
        gauge("container_scrape_error", "Whether containers could not be read.")
            .line(to, Some(u64::from(self.failed)))?;
        for Family { head, values } in usage::FAMILIES.iter().chain(spec::FAMILIES) {
            self.family(to, head, *values)?;
        }
        self.machine(to)
    }
}

fn labels_of(view: &View, labels: &BTreeMap<String, String>) -> Vec<(String, String)> {
    let own = [("id", &view.cgroup_path), ("image", &view.config.image), ("name", &view.name)];
    let own = own.into_iter().map(|(key, value)| (key.to_owned(), value));
    let chosen = labels.iter().filter_map(|(key, name)| Some((name.clone(), view.config.labels.get(key)?)));
    own.chain(chosen).map(|(key, value)| (key, label::value(value).into_owned())).collect()
}

/// The node as the container of all.
fn of_node(node: &NodeSample) -> Row {
    let mut usage = Usage { pressure: node.pressure, ..Usage::default() };
    if let Some(cpu) = node.cpu {
        usage.cpu.user_nanos = Some(cpu.user_nanos);
        usage.cpu.system_nanos = Some(cpu.system_nanos);
        usage.cpu.usage_nanos = Some(cpu.user_nanos.saturating_add(cpu.system_nanos));
    }
    let memory = node.memory;
    let less = |part: Option<u64>| Some(memory.total?.saturating_sub(part?));
    usage.memory.usage = less(memory.free);
    usage.memory.working_set = less(memory.available);
    usage.memory.file = memory.cached;
    usage.memory.swap = memory.swap_total.zip(memory.swap_free).map(|(total, free)| total.saturating_sub(free));
    Row { labels: vec![("id".to_owned(), "/".to_owned())], used: Used::Node(Box::new(usage)), view: None }
}

/// Nanoseconds in seconds.
#[expect(
    clippy::cast_precision_loss,
    reason = "53 bits of nanoseconds are a quarter of a year, and microseconds beyond do not count"
)]
fn seconds(nanos: u64) -> Value {
    Value::Real(nanos as f64 / 1e9)
}

#[cfg(test)]
mod tests;
