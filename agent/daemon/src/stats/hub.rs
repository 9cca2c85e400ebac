//! Who can be read and who wants to read.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::group::Groups;
use super::sample::Writable;
use super::sampler;
use super::selector::Selector;
use super::shared::{Passes, Shared};
use super::subscription::{Reading, Slot, Subscription};
use super::target::{Registration, Target};
use crate::error::{Error, Reason, Result};

/// The statistics of all containers and of the node. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct StatsHub {
    pub(super) shared: Arc<Shared>,
}

impl StatsHub {
    /// `data_dir`: whose file system counts as the node's.
    pub(crate) fn new(data_dir: PathBuf) -> Self {
        Self { shared: Arc::new(Shared::new(data_dir)) }
    }

    /// A container has started: it is in every frame from now on that wants it. One with the same id is replaced; if its init is
    /// the same, it runs on and has another name.
    pub(crate) fn register(&self, registration: Registration) {
        let known = self.shared.lock().target(&registration.id).cloned();
        if let Some(known) = known.filter(|known| known.is_run_of(&registration)) {
            known.rename(&registration.name);
            return;
        }
        let target = Arc::new(Target::new(registration));
        self.shared.change_targets(target.identity().id.clone(), Some(target));
    }

    /// A container has stopped: its files are closed soon, at the latest when they are not being read.
    pub(crate) fn unregister(&self, id: &str) {
        self.shared.change_targets(id.into(), None);
    }

    /// The writable layer of a container was measured.
    pub(crate) fn measured(&self, id: &str, writable: Writable) {
        if let Some(target) = self.shared.lock().target(id) {
            target.measured(writable);
        }
    }

    /// The limits of a container were changed: the next reading has them.
    pub(crate) fn limits_changed(&self, id: &str) {
        if let Some(target) = self.shared.lock().target(id) {
            target.limits_changed();
        }
    }

    /// Reads the chosen containers once, beside what is read for subscribers. What was read less than `max_age` ago is not read again.
    /// A container that ends meanwhile is left out. Where nobody subscribes, no file stays open.
    ///
    /// # Errors
    /// `ShuttingDown` after [`Self::close`], `System` if the sampler's thread cannot be started.
    pub(crate) async fn read(&self, selector: &Selector, groups: Groups, max_age: Duration) -> Result<Arc<Reading>> {
        let (answer, reading) = oneshot::channel();
        let start = self.shared.lock().request(selector, groups, max_age, answer)?;
        self.wake(start)?;
        reading.await.map_err(|_| Error::new(Reason::ShuttingDown, "reading statistics"))
    }

    /// Frames of the chosen containers, the first one at once, then one per interval (rounded to tenths of a second).
    ///
    /// # Errors
    /// `LimitExceeded` if there are too many subscriptions, `ShuttingDown` after [`Self::close`], `System` if the sampler's
    /// thread cannot be started.
    pub(crate) fn subscribe(&self, selector: Selector, groups: Groups, interval: Duration) -> Result<Subscription> {
        let slot = Arc::new(Slot::default());
        let interval = sampler::rounded(interval);
        let (id, start) = self.shared.lock().subscribe(selector, groups, interval, Arc::clone(&slot))?;
        let subscription = Subscription::new(id, slot, Arc::clone(&self.shared));
        self.wake(start)?;
        Ok(subscription)
    }

    /// Ends all subscriptions and takes no more: for a drain.
    pub(crate) fn close(&self) {
        self.shared.close();
    }

    /// Tells the sampler's thread that there is something new, and starts it if it is not there.
    fn wake(&self, start: bool) -> Result<()> {
        if start && let Err(error) = sampler::spawn(Arc::clone(&self.shared)) {
            // Who came meanwhile relied on this thread.
            self.shared.abandon();
            return Err(Error::io("starting the statistics thread", &error));
        }
        self.shared.notify();
        Ok(())
    }

    /// The sampler's work so far.
    pub(crate) fn passes(&self) -> Passes {
        self.shared.lock().passes()
    }

    /// How many streams there are.
    pub(crate) fn subscribers(&self) -> usize {
        self.shared.lock().subscribers()
    }
}
