//! Metrics as a text, for Prometheus and whoever reads its formats: what hull counted, and what is looked up when somebody asks.
//!
//! ```text
//!   GET /metrics ──> server ──> Exposition::render ──> metrics      counters and histograms of hull's own work
//!                                     ├──> agent        gauges: containers, images, records, shims, room, the process
//!                                     └──> containers   what containers use, under cAdvisor's names
//! ```

mod agent;
mod containers;
mod family;
mod format;
mod label;
mod process;
mod server;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use prometheus_client::encoding::text;
use prometheus_client::registry::Registry;
use tokio::sync::Mutex;

use crate::blocking::blocking;
use crate::error::{Error, Reason, Result};
use crate::images::Images;
use crate::lifecycle::{Containers, View};
use crate::metrics::Metrics;
use crate::runtime::shim::ShimPool;
use crate::space::Space;
use crate::stats::{Group, Groups, Reading, Selector, StatsHub};
use crate::store::Store;
use agent::{AgentNow, ShimsNow, StatsNow, StoreNow};
use containers::ContainersNow;
use format::Format;
use process::Process;

pub(crate) use server::Endpoint;

/// What was read less long ago is not read again: several who ask cost one pass.
const FRESH: Duration = Duration::from_millis(500);

/// What is told, and where it comes from.
#[derive(Debug, Clone)]
pub(crate) struct Sources {
    pub(crate) metrics: Metrics,
    pub(crate) containers: Containers,
    pub(crate) images: Images,
    pub(crate) store: Store,
    pub(crate) shims: ShimPool,
    pub(crate) stats: StatsHub,
    pub(crate) data_dir: PathBuf,
    /// Labels of containers that are told, and under which names.
    pub(crate) labels: BTreeMap<String, String>,
}

/// Makes the text. Clones share their turns.
#[derive(Debug, Clone)]
pub(crate) struct Exposition {
    sources: Arc<Sources>,
    /// What was read last, and the turn: one text at a time, so that however many ask, it is the work of one thread.
    last: Arc<Mutex<Option<LastReading>>>,
}

/// What was read, and when.
#[derive(Debug)]
struct LastReading {
    reading: Arc<Reading>,
    begun: Instant,
}

impl Exposition {
    pub(crate) fn new(sources: Sources) -> Self {
        Self { sources: Arc::new(sources), last: Arc::default() }
    }

    /// Everything, in a format.
    async fn render(&self, format: Format) -> Result<String> {
        let mut last = Arc::clone(&self.last).lock_owned().await;
        if last.as_ref().is_none_or(|last| last.begun.elapsed() >= FRESH) {
            *last = self.read().await;
        }
        let sources = Arc::clone(&self.sources);
        blocking(move || {
            let reading = last.as_ref().map(|last| last.reading.as_ref());
            write(&sources, reading).map(|text| format.finish(text))
        })
        .await
    }

    /// What containers and the node use; of what others have just read, nothing is read again.
    async fn read(&self) -> Option<LastReading> {
        let (begun, groups) = (Instant::now(), Groups::CONTAINER.with(Group::Node));
        match self.sources.stats.read(&Selector::default(), groups, FRESH).await {
            Ok(reading) => Some(LastReading { reading, begun }),
            Err(error) => {
                tracing::warn!(%error, "metrics are told without those of containers");
                None
            }
        }
    }
}

/// The OpenMetrics text, without its end. Blocking.
fn write(sources: &Sources, reading: Option<&Reading>) -> Result<String> {
    let views = sources.containers.list();
    let mut now = Registry::default();
    now.register_collector(Box::new(agent_now(sources, &views)));
    let containers = ContainersNow::new(reading, &views, &sources.labels, &sources.data_dir);
    now.register_collector(Box::new(containers));
    let mut out = String::new();
    let written = sources.metrics.encode(&mut out).and_then(|()| text::encode_registry(&mut out, &now));
    written.map_err(|error| Error::new(Reason::Internal, format!("writing metrics: {error}")))?;
    Ok(out)
}

fn agent_now(sources: &Sources, views: &[Arc<View>]) -> AgentNow {
    AgentNow {
        states: views.iter().map(|view| view.state).collect(),
        requests_waiting: sources.containers.requests_waiting(),
        images: sources.images.kept(),
        store: StoreNow { bytes: sources.store.bytes(), commits_waiting: sources.store.commits_waiting() },
        shims: ShimsNow { warm: sources.shims.waiting(), warm_wanted: sources.shims.wanted() },
        stats: StatsNow { passes: sources.stats.passes(), streams: sources.stats.subscribers() },
        spans: sources.containers.traces().counts(),
        space: Space::of(&sources.data_dir).ok(),
        process: Process::read(),
    }
}
