//! What containers take on the disk. Writable layers are walked in the background, one at a time: while a container runs at
//! most once a minute, and once after it has ended. Who asks gets what was measured last.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::containers::Containers;
use super::record::{View, now_nanos};
use super::state::State;
use crate::blocking::blocking;
use crate::error::Result;
use crate::runtime::measure::{self, Measured};
use crate::stats::Writable;

/// Least time between two walks of a container that runs.
const INTERVAL: Duration = Duration::from_secs(60);
/// Least share of the time without a walk: one that takes long comes less often.
const REST: u32 = 20;
/// Least time between two looks at what is to be measured.
const PAUSE: Duration = Duration::from_secs(1);

/// The measured writable layers.
#[derive(Debug, Default)]
pub(crate) struct WritableLayers {
    measurements: Mutex<HashMap<String, Measurement>>,
    ended: Notify,
}

#[derive(Debug, Clone, Copy)]
struct Measurement {
    /// The last that succeeded, and when that was, in nanoseconds since the epoch.
    last: Option<(Measured, u64)>,
    /// When the last walk ended, and how long it took.
    walked: Instant,
    took: Duration,
    /// What the container was then.
    generation: u64,
}

/// What one container takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ContainerUsage {
    pub(crate) id: String,
    pub(crate) name: String,
    /// Whether it runs.
    pub(crate) active: bool,
    /// Its writable layer, and when it was measured, in nanoseconds since the epoch.
    pub(crate) writable: Option<(Measured, u64)>,
    pub(crate) log_bytes: u64,
}

impl WritableLayers {
    fn measurements(&self) -> MutexGuard<'_, HashMap<String, Measurement>> {
        self.measurements.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A container has ended: what it left is measured soon.
    pub(super) fn ended(&self) {
        self.ended.notify_one();
    }

    /// What was measured of a container last.
    pub(crate) fn last(&self, id: &str) -> Option<Writable> {
        let (measured, at) = self.measurements().get(id)?.last?;
        Some(Writable { bytes: measured.bytes, inodes: measured.inodes, measured_at_nanos: at })
    }

    fn is_due(&self, view: &View) -> bool {
        match self.measurements().get(&view.id) {
            // One that never ran has written nothing.
            None => view.state != State::Created,
            Some(last) if view.state.is_active() => last.walked.elapsed() >= INTERVAL.max(last.took * REST),
            Some(last) => last.generation != view.generation,
        }
    }

    fn keep(&self, view: &View, begun: Instant, measured: Option<Measured>) {
        let mut measurements = self.measurements();
        let before = measurements.get(&view.id).and_then(|last| last.last);
        let last = measured.map(|measured| (measured, now_nanos())).or(before);
        let (walked, took) = (Instant::now(), begun.elapsed());
        measurements.insert(view.id.clone(), Measurement { last, walked, took, generation: view.generation });
    }
}

impl Containers {
    /// Measures writable layers until the agent ends.
    pub(crate) async fn measure_writable_layers(self, shutdown: CancellationToken) {
        let writable = &self.context.writable;
        loop {
            for view in self.list().iter().filter(|view| writable.is_due(view)) {
                if shutdown.is_cancelled() {
                    return;
                }
                self.measure(view, shutdown.clone()).await;
            }
            let ids: HashSet<_> = self.list().iter().map(|view| view.id.clone()).collect();
            writable.measurements().retain(|id, _| ids.contains(id));
            let next = async {
                tokio::time::sleep(PAUSE).await;
                let _timeout = tokio::time::timeout(INTERVAL, writable.ended.notified()).await;
            };
            tokio::select! {
                () = next => {}
                () = shutdown.cancelled() => return,
            }
        }
    }

    async fn measure(&self, view: &View, shutdown: CancellationToken) {
        let upper = self.context.dirs.container(&view.id).upper();
        let begun = Instant::now();
        let walk = blocking(move || measure::measure(&upper, &|| shutdown.is_cancelled()));
        let measured = walk.await.inspect_err(|error| {
            tracing::debug!(container = %view.id, %error, "a writable layer could not be measured");
        });
        self.context.writable.keep(view, begun, measured.ok());
        if let Some(writable) = self.context.writable.last(&view.id) {
            self.context.stats.measured(&view.id, writable);
        }
    }

    /// What each container takes. Asks the disk for the length of each log's files, and for nothing else.
    pub(crate) async fn disk_usage(&self) -> Result<Vec<ContainerUsage>> {
        let views = self.list();
        let logs: Vec<_> = views.iter().map(|view| view.log_path.clone()).collect();
        let logs = blocking(move || {
            // One that never ran, or that is being removed, has none.
            Ok(logs.iter().map(|log| super::logs::bytes(log)).collect::<Vec<_>>())
        });
        let logs = logs.await?;
        let measurements = self.context.writable.measurements();
        let usage = views.iter().zip(logs).map(|(view, log_bytes)| ContainerUsage {
            id: view.id.clone(),
            name: view.name.clone(),
            active: view.state.is_active(),
            writable: measurements.get(&view.id).and_then(|measurement| measurement.last),
            log_bytes,
        });
        Ok(usage.collect())
    }
}
