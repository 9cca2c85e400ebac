//! Metrics as a text, for Prometheus and whoever reads its formats: what hull counted, and what is looked up when somebody asks.
//!
//! ```text
//!   GET /metrics ──> server ──> Exposition::render ──> metrics      counters and histograms of hull's own work
//!                                     ├──> agent        gauges: containers, images, records, shims, room, the process
//!                                     └──> containers   what containers use, under cAdvisor's names
//! ```

mod agent;
mod family;
mod format;
mod process;
mod server;

use std::path::PathBuf;
use std::sync::Arc;

use prometheus_client::encoding::text;
use prometheus_client::registry::Registry;
use tokio::sync::Semaphore;

use crate::blocking::blocking;
use crate::error::{Error, Reason, Result};
use crate::images::Images;
use crate::lifecycle::Containers;
use crate::metrics::Metrics;
use crate::runtime::shim::ShimPool;
use crate::space::Space;
use crate::store::Store;
use agent::{AgentNow, ShimsNow, StoreNow};
use format::Format;
use process::Process;

pub(crate) use server::Endpoint;

/// What is told, and where it comes from.
#[derive(Debug, Clone)]
pub(crate) struct Sources {
    pub(crate) metrics: Metrics,
    pub(crate) containers: Containers,
    pub(crate) images: Images,
    pub(crate) store: Store,
    pub(crate) shims: ShimPool,
    pub(crate) data_dir: PathBuf,
}

/// Makes the text. Clones share their turns.
#[derive(Debug, Clone)]
pub(crate) struct Exposition {
    sources: Arc<Sources>,
    /// One text at a time: however many ask, it is the work of one thread and the memory of few texts.
    turn: Arc<Semaphore>,
}

impl Exposition {
    pub(crate) fn new(sources: Sources) -> Self {
        Self { sources: Arc::new(sources), turn: Arc::new(Semaphore::new(1)) }
    }

    /// Everything, in a format.
    async fn render(&self, format: Format) -> Result<String> {
        let turn = Arc::clone(&self.turn).acquire_owned().await;
        let turn = turn.map_err(|error| Error::new(Reason::Internal, error.to_string()))?;
        let sources = Arc::clone(&self.sources);
        blocking(move || {
            let text = write(&sources).map(|text| format.finish(text));
            drop(turn);
            text
        })
        .await
    }
}

/// The OpenMetrics text, without its end. Blocking.
fn write(sources: &Sources) -> Result<String> {
    let mut now = Registry::default();
    now.register_collector(Box::new(agent_now(sources)));
    let mut out = String::new();
    let written = sources.metrics.encode(&mut out).and_then(|()| text::encode_registry(&mut out, &now));
    written.map_err(|error| Error::new(Reason::Internal, format!("writing metrics: {error}")))?;
    Ok(out)
}

fn agent_now(sources: &Sources) -> AgentNow {
    AgentNow {
        states: sources.containers.list().iter().map(|view| view.state).collect(),
        requests_waiting: sources.containers.requests_waiting(),
        images: sources.images.kept(),
        store: StoreNow { bytes: sources.store.bytes(), commits_waiting: sources.store.commits_waiting() },
        shims: ShimsNow { warm: sources.shims.waiting(), warm_wanted: sources.shims.wanted() },
        space: Space::of(&sources.data_dir).ok(),
        process: Process::read(),
    }
}
