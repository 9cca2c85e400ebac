//! The reader's end: a slot that holds the newest reading.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

use super::sample::{NodeSample, Sample};
use super::shared::Shared;

/// What was read at one time, for all that want the same.
#[derive(Debug, Default)]
pub(crate) struct Reading {
    /// One sample per container, by id.
    pub(crate) samples: Vec<Arc<Sample>>,
    /// The node, if wanted.
    pub(crate) node: Option<Arc<NodeSample>>,
    rendered: OnceLock<Bytes>,
}

impl Reading {
    pub(crate) fn new(samples: Vec<Arc<Sample>>, node: Option<Arc<NodeSample>>) -> Self {
        Self { samples, node, rendered: OnceLock::new() }
    }

    /// As the first subscriber that asks renders it, for all that share it.
    pub(crate) fn rendered(&self, render: impl FnOnce() -> Bytes) -> Bytes {
        self.rendered.get_or_init(render).clone()
    }

    /// The sample of a run of a container.
    pub(crate) fn of_run(&self, id: &str, run: u64) -> Option<&Arc<Sample>> {
        let at = self.samples.binary_search_by(|sample| (*sample.identity.id).cmp(id)).ok()?;
        Some(&self.samples[at]).filter(|sample| sample.run == run)
    }
}

/// What a subscriber gets each time.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) reading: Arc<Reading>,
    /// Frames that were replaced before this reader took them, since the one before.
    pub(crate) missed: u64,
    /// Ids of containers that were not in the frame before, or have been started anew since; none in the first one.
    pub(crate) started: Vec<Arc<str>>,
    /// Ids of containers that were in the frame before only, or have been started anew since.
    pub(crate) stopped: Vec<Arc<str>>,
}

/// Where the sampler puts readings and the reader takes them.
#[derive(Debug, Default)]
pub(super) struct Slot {
    state: Mutex<SlotState>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct SlotState {
    newest: Option<Arc<Reading>>,
    missed: u64,
    closed: bool,
}

impl Slot {
    /// Puts a reading; one that was not taken yet is lost and counted.
    pub(super) fn put(&self, reading: Arc<Reading>) {
        let mut state = self.lock();
        let unread = state.newest.replace(reading);
        state.missed += u64::from(unread.is_some());
        drop(state);
        self.changed.notify_one();
        // Perhaps the last of it: not while the lock is held.
        drop(unread);
    }

    /// The newest reading that was not taken yet, and how many were lost before it.
    pub(super) fn take(&self) -> Option<(Arc<Reading>, u64)> {
        let mut state = self.lock();
        let newest = state.newest.take()?;
        Some((newest, std::mem::take(&mut state.missed)))
    }

    fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Ends the stream after the reading that is in it.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, SlotState> {
        // Nothing panics while it is held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A subscription. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Subscription {
    id: u64,
    slot: Arc<Slot>,
    hub: Arc<Shared>,
    /// Runs and ids of the frame before.
    before: Option<Vec<(u64, Arc<str>)>>,
}

impl Subscription {
    pub(super) fn new(id: u64, slot: Arc<Slot>, hub: Arc<Shared>) -> Self {
        Self { id, slot, hub, before: None }
    }

    /// The newest frame that was not taken yet, waiting for one if there is none. `None`: the hub is closed. Safe to cancel.
    pub(crate) async fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some((reading, missed)) = self.slot.take() {
                return Some(self.frame(reading, missed));
            }
            if self.slot.is_closed() {
                return None;
            }
            self.slot.changed.notified().await;
        }
    }

    fn frame(&mut self, reading: Arc<Reading>, missed: u64) -> Frame {
        let mut frame = Frame { reading, missed, started: Vec::new(), stopped: Vec::new() };
        let samples = &frame.reading.samples;
        if let Some(before) = &self.before {
            let same = before.len() == samples.len()
                && before.iter().zip(samples).all(|((run, _), sample)| *run == sample.run);
            if same {
                return frame;
            }
            let known = |id: &str, run| {
                before.binary_search_by(|(_, other)| (**other).cmp(id)).is_ok_and(|at| before[at].0 == run)
            };
            let new = samples.iter().filter(|sample| !known(&sample.identity.id, sample.run));
            frame.started = new.map(|sample| Arc::clone(&sample.identity.id)).collect();
            let gone = before.iter().filter(|(run, id)| frame.reading.of_run(id, *run).is_none());
            frame.stopped = gone.map(|(_, id)| Arc::clone(id)).collect();
        }
        self.before = Some(samples.iter().map(|sample| (sample.run, Arc::clone(&sample.identity.id))).collect());
        frame
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.hub.unsubscribe(self.id);
    }
}
