//! The agent's own metrics that are looked up when somebody asks: what there is, what waits, what room is left.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;

use super::family::{Value, counter, gauge};
use super::process::Process;
use crate::images::Kept;
use crate::lifecycle::State;
use crate::space::Space;
use crate::stats::Passes;
use crate::traces::SpanCounts;

/// Every state, in the order of a life.
const STATES: [State; 7] =
    [State::Created, State::Starting, State::Running, State::Paused, State::Stopping, State::Exited, State::Removing];

/// Version of the API that this agent serves.
const API: &str = "hull.v1";

/// The agent at one moment.
#[derive(Debug)]
pub(super) struct AgentNow {
    /// The state of each container.
    pub(super) states: Vec<State>,
    /// Requests that wait for the turn of their container.
    pub(super) requests_waiting: usize,
    pub(super) images: Kept,
    pub(super) store: StoreNow,
    pub(super) shims: ShimsNow,
    pub(super) stats: StatsNow,
    /// Where traces are sent.
    pub(super) spans: Option<SpanCounts>,
    /// Of the file system that the data is on.
    pub(super) space: Option<Space>,
    pub(super) process: Process,
}

/// The records at one moment.
#[derive(Debug)]
pub(super) struct StoreNow {
    pub(super) bytes: u64,
    pub(super) commits_waiting: usize,
}

/// The shims at one moment.
#[derive(Debug)]
pub(super) struct ShimsNow {
    pub(super) warm: usize,
    pub(super) warm_wanted: usize,
}

/// The sampler of statistics at one moment.
#[derive(Debug)]
pub(super) struct StatsNow {
    pub(super) passes: Passes,
    pub(super) streams: usize,
}

impl Collector for AgentNow {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let to = &mut encoder;
        let build = [([("version", env!("CARGO_PKG_VERSION")), ("api", API)], Value::Whole(1))];
        gauge("hull_build_info", "Version of hulld and of its API.").lines(to, build)?;
        self.encode_containers(to)?;
        self.encode_stats(to)?;
        self.encode_spans(to)?;
        self.encode_files(to)?;
        self.encode_process(to)
    }
}

impl AgentNow {
    fn encode_containers(&self, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let count = |wanted: State| self.states.iter().filter(|state| **state == wanted).count();
        let states = STATES.map(|state| ([("state", state.as_str())], Value::from(count(state))));
        gauge("hull_containers", "Containers by state.").lines(to, states)?;
        gauge("hull_container_requests_waiting", "Requests that wait for the turn of their container.")
            .line(to, Some(self.requests_waiting))?;
        let live = self.states.iter().filter(|state| state.is_active()).count();
        gauge("hull_shims_live", "Shims that have a container.").line(to, Some(live))?;
        gauge("hull_shims_warm", "Shims that wait for a container.").line(to, Some(self.shims.warm))?;
        gauge("hull_shims_warm_wanted", "Shims that are to wait for a container.")
            .line(to, Some(self.shims.warm_wanted))
    }

    fn encode_stats(&self, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let Passes { count, time } = self.stats.passes;
        counter("hull_stats_passes_total", "Times that containers or the node were read.").line(to, Some(count))?;
        counter("hull_stats_pass_seconds_total", "Time of this reading.").line(to, Some(time.as_secs_f64()))?;
        gauge("hull_stats_streams", "Streams of statistics that are open.").line(to, Some(self.stats.streams))
    }

    fn encode_spans(&self, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let outcomes = self.spans.into_iter().flat_map(|SpanCounts { sent, failed, dropped, .. }| {
            [("sent", sent), ("failed", failed), ("dropped", dropped)]
        });
        let outcomes = outcomes.map(|(outcome, count)| ([("outcome", outcome)], Value::from(count)));
        counter("hull_trace_spans_total", "Spans by what became of them; dropped: the queue was full.")
            .lines(to, outcomes)?;
        gauge("hull_trace_spans_waiting", "Spans that wait for the collector.")
            .line(to, self.spans.map(|spans| spans.waiting))
    }

    fn encode_files(&self, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let Kept { images, blobs, blob_bytes, layers, layer_bytes } = self.images;
        gauge("hull_images", "Images.").line(to, Some(images))?;
        gauge("hull_image_blobs", "Blobs of images, as they came.").line(to, Some(blobs))?;
        gauge("hull_image_blob_bytes", "Bytes of these blobs.").line(to, Some(blob_bytes))?;
        gauge("hull_image_layers", "Layers, as they are mounted.").line(to, Some(layers))?;
        gauge("hull_image_layer_bytes", "Bytes of these layers.").line(to, Some(layer_bytes))?;
        gauge("hull_store_bytes", "Bytes of the records, journals included.").line(to, Some(self.store.bytes))?;
        gauge("hull_store_commits_waiting", "Changes of records that wait for the journal.")
            .line(to, Some(self.store.commits_waiting))?;
        let space = self.space;
        // A file system that does not count inodes has 0.
        let inodes = space.filter(|space| space.inodes > 0);
        gauge("hull_filesystem_bytes", "Size of the file system of the data directory.")
            .line(to, space.map(|space| space.bytes))?;
        gauge("hull_filesystem_free_bytes", "Free bytes of that file system.")
            .line(to, space.map(|space| space.free_bytes))?;
        gauge("hull_filesystem_inodes", "Inodes of that file system.").line(to, inodes.map(|space| space.inodes))?;
        gauge("hull_filesystem_free_inodes", "Free inodes of that file system.")
            .line(to, inodes.map(|space| space.free_inodes))
    }

    fn encode_process(&self, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let process = &self.process;
        counter("process_cpu_seconds_total", "Processor time of hulld.").line(to, process.cpu_seconds)?;
        gauge("process_resident_memory_bytes", "Resident memory of hulld.").line(to, process.resident_bytes)?;
        gauge("process_virtual_memory_bytes", "Address space of hulld.").line(to, process.virtual_bytes)?;
        gauge("process_start_time_seconds", "When hulld started, since the epoch.").line(to, process.start_seconds)?;
        gauge("process_open_fds", "Open descriptors of hulld.").line(to, process.open_fds)?;
        gauge("process_max_fds", "Most descriptors that hulld may open.").line(to, process.max_fds)?;
        gauge("process_threads", "Threads of hulld.").line(to, process.threads)
    }
}
