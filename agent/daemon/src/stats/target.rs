//! A container that can be read.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::sample::{Identity, Writable};
use crate::runtime::cgroup::StatDirs;

/// What the hub has to know of a container that has started.
#[derive(Debug, Clone)]
pub(crate) struct Registration {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) labels: BTreeMap<String, String>,
    /// Its control groups.
    pub(crate) dirs: StatDirs,
    /// Process id of its init, as the agent sees it.
    pub(crate) pid: i32,
    /// What was measured of its writable layer last, if anything.
    pub(crate) writable: Option<Writable>,
}

/// One run of a container.
#[derive(Debug)]
pub(super) struct Target {
    /// Differs from that of every other run.
    pub(super) run: u64,
    pub(super) dirs: StatDirs,
    pub(super) pid: i32,
    /// How often its limits have been changed.
    limits: AtomicU32,
    facts: Mutex<Facts>,
}

/// What may change while it runs. Never held across a kernel call.
#[derive(Debug)]
struct Facts {
    identity: Arc<Identity>,
    writable: Option<Writable>,
}

impl Target {
    pub(super) fn new(registration: Registration) -> Self {
        static RUNS: AtomicU64 = AtomicU64::new(0);
        let Registration { id, name, labels, dirs, pid, writable } = registration;
        let identity = Arc::new(Identity { id: id.into(), name: name.into(), labels });
        let run = RUNS.fetch_add(1, Ordering::Relaxed);
        Self { run, dirs, pid, limits: AtomicU32::new(0), facts: Mutex::new(Facts { identity, writable }) }
    }

    pub(super) fn identity(&self) -> Arc<Identity> {
        Arc::clone(&self.facts().identity)
    }

    pub(super) fn writable(&self) -> Option<Writable> {
        self.facts().writable
    }

    pub(super) fn measured(&self, writable: Writable) {
        self.facts().writable = Some(writable);
    }

    /// How often its limits have been changed.
    pub(super) fn limits(&self) -> u32 {
        self.limits.load(Ordering::Acquire)
    }

    /// Its limits have been changed.
    pub(super) fn limits_changed(&self) {
        self.limits.fetch_add(1, Ordering::Release);
    }

    /// Whether this is the run that is registered (again).
    pub(super) fn is_run_of(&self, registration: &Registration) -> bool {
        self.pid == registration.pid && self.dirs == registration.dirs
    }

    pub(super) fn rename(&self, name: &str) {
        let mut facts = self.facts();
        facts.identity = Arc::new(Identity { name: name.into(), ..(*facts.identity).clone() });
    }

    fn facts(&self) -> MutexGuard<'_, Facts> {
        // Nothing panics while it is held.
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
