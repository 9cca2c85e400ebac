//! The reader's end: a slot that holds the newest frame.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::hub::Shared;
use super::sample::Sample;

/// What a subscriber gets each time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Frame {
    /// One sample per container, by id.
    pub(crate) samples: Vec<Arc<Sample>>,
    /// Frames that were replaced before this reader took them, since the one before.
    pub(crate) missed: u64,
}

/// Where the sampler puts frames and the reader takes them.
#[derive(Debug, Default)]
pub(super) struct Slot {
    state: Mutex<SlotState>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct SlotState {
    newest: Option<Frame>,
    closed: bool,
}

impl Slot {
    /// Puts a frame; one that was not taken yet is lost and counted.
    pub(super) fn put(&self, samples: Vec<Arc<Sample>>) {
        let mut state = self.lock();
        let missed = state.newest.as_ref().map_or(0, |unread| unread.missed.saturating_add(1));
        state.newest = Some(Frame { samples, missed });
        drop(state);
        self.changed.notify_one();
    }

    /// Ends the stream after the frame that is in it.
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
}

impl Subscription {
    pub(super) fn new(id: u64, slot: Arc<Slot>, hub: Arc<Shared>) -> Self {
        Self { id, slot, hub }
    }

    /// The newest frame that was not taken yet, waiting for one if there is none. `None`: the hub is closed. Safe to cancel.
    pub(crate) async fn next(&mut self) -> Option<Frame> {
        loop {
            {
                let mut state = self.slot.lock();
                if let Some(frame) = state.newest.take() {
                    return Some(frame);
                }
                if state.closed {
                    return None;
                }
            }
            self.slot.changed.notified().await;
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.hub.unsubscribe(self.id);
    }
}
