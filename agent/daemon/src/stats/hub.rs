//! Who can be read and who wants to read.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::reader::Reader;
use super::sample::Sample;
use super::sampler::{self, Clock};
use super::subscription::{Slot, Subscription};
use crate::error::{Error, Reason, Result};
use crate::runtime::cgroup::StatDirs;

/// Streams side by side; each costs a slot, not a reading.
const MAX_SUBSCRIPTIONS: usize = 1024;

/// Which containers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Selector {
    /// Ids. Empty: all that are registered, those that come later included.
    pub(crate) ids: BTreeSet<String>,
    /// All of these labels; an empty value matches any value.
    pub(crate) labels: BTreeMap<String, String>,
}

impl Selector {
    fn matches(&self, target: &Target) -> bool {
        (self.ids.is_empty() || self.ids.contains(&*target.id))
            && self
                .labels
                .iter()
                .all(|(key, value)| target.labels.get(key).is_some_and(|found| value.is_empty() || found == value))
    }
}

/// A container that can be read.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) id: Arc<str>,
    pub(super) name: Arc<str>,
    pub(super) dirs: StatDirs,
    labels: BTreeMap<String, String>,
}

/// The statistics of all containers. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct StatsHub {
    shared: Arc<Shared>,
}

/// What the hub, its subscriptions and the sampler have in common.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    state: Mutex<State>,
    /// Something changed for the sampler.
    wake: Condvar,
}

/// Never held across a kernel call.
#[derive(Debug, Default)]
struct State {
    targets: BTreeMap<Arc<str>, Arc<Target>>,
    subscribers: BTreeMap<u64, Subscriber>,
    next_id: u64,
    sampling: bool,
    closed: bool,
    /// Passes so far.
    #[cfg(test)]
    passes: u64,
}

#[derive(Debug)]
struct Subscriber {
    selector: Selector,
    interval: Duration,
    due: Instant,
    slot: Arc<Slot>,
}

/// What a pass is for: a slot, and the containers that its reader wants.
pub(super) struct Order {
    pub(super) slot: Arc<Slot>,
    pub(super) targets: Vec<Arc<Target>>,
}

impl StatsHub {
    /// A container has started: it is in every frame from now on that wants it. One with the same id is replaced.
    pub(crate) fn register(&self, id: &str, name: &str, labels: BTreeMap<String, String>, dirs: StatDirs) {
        let target = Target { id: id.into(), name: name.into(), dirs, labels };
        self.shared.lock().targets.insert(target.id.clone(), Arc::new(target));
    }

    /// A container has stopped.
    pub(crate) fn unregister(&self, id: &str) {
        self.shared.lock().targets.remove(id);
    }

    /// Reads the chosen containers once, on a thread that may block. One whose groups are gone meanwhile is left out.
    ///
    /// # Errors
    /// `ShuttingDown` if the runtime is being stopped.
    pub(crate) async fn read_once(&self, selector: &Selector) -> Result<Vec<Arc<Sample>>> {
        let targets = self.shared.lock().select(selector);
        let read = move || {
            let mut buffer = Vec::new();
            let samples = targets.iter().filter_map(|target| {
                let usage = Reader::new(&target.dirs, false).read(&mut buffer).ok()?;
                Some(Arc::new(Clock::sample(target, usage)))
            });
            samples.collect()
        };
        tokio::task::spawn_blocking(read).await.map_err(|_| Error::new(Reason::ShuttingDown, "reading statistics"))
    }

    /// Frames of the chosen containers, the first one at once, then one per interval (rounded to tenths of a second).
    ///
    /// # Errors
    /// `LimitExceeded` if there are too many subscriptions, `ShuttingDown` after [`Self::close`], `System` if the sampler's
    /// thread cannot be started.
    pub(crate) fn subscribe(&self, selector: Selector, interval: Duration) -> Result<Subscription> {
        let slot = Arc::new(Slot::default());
        let mut state = self.shared.lock();
        if state.closed {
            return Err(Error::new(Reason::ShuttingDown, "the agent is shutting down"));
        }
        if state.subscribers.len() >= MAX_SUBSCRIPTIONS {
            return Err(Error::new(
                Reason::LimitExceeded,
                format!("{MAX_SUBSCRIPTIONS} streams of statistics are open already"),
            ));
        }
        let start = !std::mem::replace(&mut state.sampling, true);
        let id = state.next_id;
        state.next_id += 1;
        let interval = sampler::rounded(interval);
        state.subscribers.insert(id, Subscriber { selector, interval, due: Instant::now(), slot: slot.clone() });
        drop(state);
        let subscription = Subscription::new(id, slot, self.shared.clone());
        if start && let Err(error) = sampler::spawn(self.shared.clone()) {
            self.shared.lock().sampling = false;
            // Who subscribed meanwhile relied on this thread.
            self.shared.end_all();
            return Err(Error::io("starting the statistics thread", &error));
        }
        self.shared.wake.notify_one();
        Ok(subscription)
    }

    /// Ends all subscriptions and takes no more: for a drain.
    pub(crate) fn close(&self) {
        self.shared.lock().closed = true;
        self.shared.end_all();
    }

    /// How many times containers were read for subscribers so far.
    #[cfg(test)]
    pub(super) fn passes(&self) -> u64 {
        self.shared.lock().passes
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it is held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end_all(&self) {
        let subscribers = std::mem::take(&mut self.lock().subscribers);
        for subscriber in subscribers.values() {
            subscriber.slot.close();
        }
        self.wake.notify_one();
    }

    pub(super) fn unsubscribe(&self, id: u64) {
        self.lock().subscribers.remove(&id);
        self.wake.notify_one();
    }

    /// Waits until frames are due, and says for whom. `None`: nobody is left, and the sampler's thread ends.
    pub(super) fn next_orders(&self) -> Option<Vec<Order>> {
        let mut state = self.lock();
        loop {
            let Some(due) = state.subscribers.values().map(|subscriber| subscriber.due).min() else {
                state.sampling = false;
                return None;
            };
            let now = Instant::now();
            if due <= now {
                return Some(state.orders(now));
            }
            let waited = self.wake.wait_timeout(state, due - now).unwrap_or_else(PoisonError::into_inner);
            state = waited.0;
        }
    }
}

impl State {
    fn select(&self, selector: &Selector) -> Vec<Arc<Target>> {
        let matching = |target: &&Arc<Target>| selector.matches(target);
        if selector.ids.is_empty() {
            self.targets.values().filter(matching).cloned().collect()
        } else {
            selector.ids.iter().filter_map(|id| self.targets.get(id.as_str())).filter(matching).cloned().collect()
        }
    }

    /// Everyone whose frame is due, and the time of their next one.
    fn orders(&mut self, now: Instant) -> Vec<Order> {
        #[cfg(test)]
        {
            self.passes += 1;
        }
        let due: Vec<u64> =
            self.subscribers.iter().filter(|(_, subscriber)| subscriber.due <= now).map(|(id, _)| *id).collect();
        let mut orders = Vec::with_capacity(due.len());
        for id in due {
            let Some(subscriber) = self.subscribers.get_mut(&id) else { continue };
            subscriber.due = Clock::next(now, subscriber.interval);
            let (slot, selector) = (subscriber.slot.clone(), subscriber.selector.clone());
            orders.push(Order { slot, targets: self.select(&selector) });
        }
        orders
    }
}
