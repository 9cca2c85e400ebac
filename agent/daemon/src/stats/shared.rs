//! What the hub, its subscriptions and the sampler's thread have in common.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::group::Groups;
use super::sampler::Clock;
use super::selector::Selector;
use super::subscription::{Reading, Slot};
use super::target::Target;
use crate::error::{Error, Reason, Result};

/// Streams side by side; each costs a slot, not a reading.
const MAX_SUBSCRIPTIONS: usize = 1024;
/// Readings that are asked for and not yet under way.
const MAX_REQUESTS: usize = 1024;

/// The hub's state, and the way to wake the sampler.
#[derive(Debug)]
pub(crate) struct Shared {
    state: Mutex<State>,
    /// Something changed for the sampler.
    wake: Condvar,
    pub(super) data_dir: PathBuf,
}

/// Never held across a kernel call.
#[derive(Debug, Default)]
pub(super) struct State {
    targets: BTreeMap<Arc<str>, Arc<Target>>,
    /// Changes with `targets`.
    epoch: u64,
    subscribers: BTreeMap<u64, Subscriber>,
    interests: BTreeMap<u64, Interest>,
    requests: Vec<Order>,
    /// Ended since the sampler looked: their files are to be closed.
    departed: Vec<Arc<Target>>,
    /// Somebody left: there may be files that nobody needs.
    left: bool,
    next_id: u64,
    /// Whether the sampler's thread is there.
    sampling: bool,
    closed: bool,
    passes: Passes,
}

/// The sampler's work so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Passes {
    /// How many times anything was read.
    pub(crate) count: u64,
    /// How long that took.
    pub(crate) time: Duration,
}

#[derive(Debug)]
struct Subscriber {
    interest: u64,
    groups: Groups,
    interval: Duration,
    due: Instant,
    slot: Arc<Slot>,
}

/// What some subscribers have chosen alike.
#[derive(Debug)]
struct Interest {
    selector: Selector,
    subscribers: usize,
    /// As of this epoch.
    selected: Option<(u64, Selection)>,
}

/// Containers, by id.
pub(super) type Selection = Arc<[Arc<Target>]>;

/// What a pass is for: containers, groups, and where to put them.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) targets: Selection,
    pub(super) groups: Groups,
    /// What is younger need not be read again.
    pub(super) max_age: Duration,
    pub(super) readers: Readers,
}

/// Who gets a reading.
#[derive(Debug)]
pub(super) enum Readers {
    Subscribers(Vec<Arc<Slot>>),
    Once(oneshot::Sender<Arc<Reading>>),
}

/// What the sampler has to do next.
#[derive(Debug)]
pub(super) struct Work {
    /// Their files are to be closed.
    pub(super) departed: Vec<Arc<Target>>,
    pub(super) orders: Vec<Order>,
    /// All that subscribers want, if files of other things may be open.
    pub(super) wanted: Option<Vec<(Selection, Groups)>>,
}

impl Shared {
    pub(super) fn new(data_dir: PathBuf) -> Self {
        Self { state: Mutex::default(), wake: Condvar::new(), data_dir }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it is held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn notify(&self) {
        self.wake.notify_one();
    }

    /// Puts a container in the place of the one with this id, or nothing.
    pub(super) fn change_targets(&self, id: Arc<str>, target: Option<Arc<Target>>) {
        let mut state = self.lock();
        state.epoch += 1;
        let old = match target {
            Some(target) => state.targets.insert(id, target),
            None => state.targets.remove(&id),
        };
        if state.sampling {
            state.departed.extend(old);
            drop(state);
            self.notify();
        }
    }

    /// Ends all subscriptions and takes no more.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.end_all();
    }

    /// There is no sampler: everyone's stream ends.
    pub(super) fn abandon(&self) {
        self.lock().sampling = false;
        self.end_all();
    }

    fn end_all(&self) {
        let mut state = self.lock();
        let subscribers = std::mem::take(&mut state.subscribers);
        state.interests.clear();
        // Their senders go, and with them the waiting ends.
        let requests = std::mem::take(&mut state.requests);
        drop(state);
        drop(requests);
        for subscriber in subscribers.values() {
            subscriber.slot.close();
        }
        self.notify();
    }

    /// A pass has taken this long.
    pub(super) fn passed(&self, time: Duration) {
        self.lock().passes.time += time;
    }

    pub(super) fn unsubscribe(&self, id: u64) {
        self.lock().unsubscribe(id);
        self.notify();
    }

    /// Waits until there is something to do. `None`: nobody is left, and the sampler's thread ends.
    pub(super) fn next_work(&self) -> Option<Work> {
        let mut state = self.lock();
        loop {
            let due = state.subscribers.values().map(|subscriber| subscriber.due).min();
            if due.is_none() && state.requests.is_empty() {
                state.sampling = false;
                state.departed = Vec::new();
                return None;
            }
            let now = Instant::now();
            if state.has_work(now) {
                return Some(state.work(now));
            }
            let pause = due.map_or(Duration::MAX, |due| due.saturating_duration_since(now));
            let waited = self.wake.wait_timeout(state, pause).unwrap_or_else(PoisonError::into_inner);
            state = waited.0;
        }
    }
}

impl State {
    pub(super) fn passes(&self) -> Passes {
        self.passes
    }

    pub(super) fn subscribers(&self) -> usize {
        self.subscribers.len()
    }

    pub(super) fn target(&self, id: &str) -> Option<&Arc<Target>> {
        self.targets.get(id)
    }

    /// Takes a request for one reading; true if the sampler's thread is to be started.
    pub(super) fn request(
        &mut self,
        selector: &Selector,
        groups: Groups,
        max_age: Duration,
        answer: oneshot::Sender<Arc<Reading>>,
    ) -> Result<bool> {
        self.open()?;
        if self.requests.len() >= MAX_REQUESTS {
            return Err(Error::new(Reason::LimitExceeded, format!("{MAX_REQUESTS} readings are waited for already")));
        }
        let targets = if groups.of_containers() { self.select(selector) } else { Arc::new([]) };
        self.requests.push(Order { targets, groups, max_age, readers: Readers::Once(answer) });
        Ok(!std::mem::replace(&mut self.sampling, true))
    }

    /// Takes a subscriber; its id, and true if the sampler's thread is to be started.
    pub(super) fn subscribe(
        &mut self,
        selector: Selector,
        groups: Groups,
        interval: Duration,
        slot: Arc<Slot>,
    ) -> Result<(u64, bool)> {
        self.open()?;
        if self.subscribers.len() >= MAX_SUBSCRIPTIONS {
            return Err(Error::new(
                Reason::LimitExceeded,
                format!("{MAX_SUBSCRIPTIONS} streams of statistics are open already"),
            ));
        }
        let id = self.next_id;
        self.next_id += 1;
        let known = self.interests.iter_mut().find(|(_, interest)| interest.selector == selector);
        let interest = match known {
            Some((at, interest)) => {
                interest.subscribers += 1;
                *at
            }
            None => {
                self.interests.insert(id, Interest { selector, subscribers: 1, selected: None });
                id
            }
        };
        self.subscribers.insert(id, Subscriber { interest, groups, interval, due: Instant::now(), slot });
        Ok((id, !std::mem::replace(&mut self.sampling, true)))
    }

    fn open(&self) -> Result<()> {
        if self.closed { Err(Error::new(Reason::ShuttingDown, "the agent is shutting down")) } else { Ok(()) }
    }

    fn unsubscribe(&mut self, id: u64) {
        let Some(subscriber) = self.subscribers.remove(&id) else { return };
        self.left = true;
        if let Some(interest) = self.interests.get_mut(&subscriber.interest) {
            interest.subscribers -= 1;
            if interest.subscribers == 0 {
                self.interests.remove(&subscriber.interest);
            }
        }
    }

    fn select(&self, selector: &Selector) -> Selection {
        let matching = |target: &&Arc<Target>| selector.matches(&target.identity());
        if selector.ids.is_empty() {
            self.targets.values().filter(matching).cloned().collect()
        } else {
            selector.ids.iter().filter_map(|id| self.targets.get(id.as_str())).filter(matching).cloned().collect()
        }
    }

    /// What subscribers with this interest read, chosen anew only if containers came or went.
    fn selected(&mut self, interest: u64) -> Selection {
        let known = self.interests.get(&interest);
        if let Some((epoch, selection)) = known.and_then(|interest| interest.selected.as_ref())
            && *epoch == self.epoch
        {
            return Arc::clone(selection);
        }
        let selection = known.map_or_else(|| Arc::new([]) as Selection, |interest| self.select(&interest.selector));
        if let Some(interest) = self.interests.get_mut(&interest) {
            interest.selected = Some((self.epoch, Arc::clone(&selection)));
        }
        selection
    }

    fn has_work(&self, now: Instant) -> bool {
        self.left
            || !self.departed.is_empty()
            || !self.requests.is_empty()
            || self.subscribers.values().any(|subscriber| subscriber.due <= now)
    }

    fn work(&mut self, now: Instant) -> Work {
        let mut orders = self.due(now);
        // What a request opens nobody needs afterwards.
        let trim = std::mem::take(&mut self.left) || !self.requests.is_empty();
        orders.append(&mut self.requests);
        self.passes.count += u64::from(!orders.is_empty());
        let wanted = trim.then(|| self.wanted());
        Work { departed: std::mem::take(&mut self.departed), orders, wanted }
    }

    /// One order for all subscribers that are due and want the same, and the time of their next one.
    fn due(&mut self, now: Instant) -> Vec<Order> {
        let mut alike: BTreeMap<(u64, Groups), Vec<Arc<Slot>>> = BTreeMap::new();
        for subscriber in self.subscribers.values_mut().filter(|subscriber| subscriber.due <= now) {
            subscriber.due = Clock::next(now, subscriber.interval);
            alike.entry((subscriber.interest, subscriber.groups)).or_default().push(Arc::clone(&subscriber.slot));
        }
        let mut orders = Vec::with_capacity(alike.len());
        for ((interest, groups), slots) in alike {
            let targets = if groups.of_containers() { self.selected(interest) } else { Arc::new([]) };
            orders.push(Order { targets, groups, max_age: Duration::ZERO, readers: Readers::Subscribers(slots) });
        }
        orders
    }

    fn wanted(&mut self) -> Vec<(Selection, Groups)> {
        let mut groups: BTreeMap<u64, Groups> = BTreeMap::new();
        for subscriber in self.subscribers.values() {
            let all = groups.entry(subscriber.interest).or_default();
            *all = all.union(subscriber.groups);
        }
        groups.into_iter().map(|(interest, groups)| (self.selected(interest), groups)).collect()
    }
}
