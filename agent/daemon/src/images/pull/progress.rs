//! How far a pull is; counts up while it runs.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What is being done with a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum PullPhase {
    /// It waits for its turn.
    Waiting,
    /// It is being fetched and, while that goes on, converted.
    Downloading,
    /// It is fetched and still being converted.
    Converting,
    /// It is ready to be mounted.
    Done,
    /// It was there before.
    Present,
}

impl PullPhase {
    const ALL: [Self; 5] = [Self::Waiting, Self::Downloading, Self::Converting, Self::Done, Self::Present];
}

/// How far the fetch of one blob is.
#[derive(Debug, Default)]
pub(crate) struct BlobProgress {
    phase: AtomicU8,
    done: AtomicU64,
    fetched: AtomicU64,
}

impl BlobProgress {
    /// What is being done.
    pub(crate) fn phase(&self) -> PullPhase {
        PullPhase::ALL[usize::from(self.phase.load(Ordering::Relaxed)) % PullPhase::ALL.len()]
    }

    /// Bytes that are there, those of an earlier attempt included.
    pub(crate) fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// Bytes that came over the network.
    pub(super) fn fetched(&self) -> u64 {
        self.fetched.load(Ordering::Relaxed)
    }

    pub(super) fn set_phase(&self, phase: PullPhase) {
        self.phase.store(phase as u8, Ordering::Relaxed);
    }

    pub(super) fn set_done(&self, bytes: u64) {
        self.done.store(bytes, Ordering::Relaxed);
    }

    pub(super) fn add_done(&self, bytes: u64) {
        self.done.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn add_fetched(&self, bytes: u64) {
        self.fetched.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// One layer of a pull.
#[derive(Debug, Clone)]
pub(crate) struct LayerProgress {
    /// Digest of its blob.
    pub(crate) digest: String,
    /// Bytes of its blob.
    pub(crate) size: u64,
    /// Shared with other pulls of the same blob.
    pub(crate) blob: Arc<BlobProgress>,
}

/// How far a pull is.
#[derive(Debug, Default)]
pub(crate) struct PullProgress(Mutex<(String, Vec<LayerProgress>)>);

impl PullProgress {
    fn lock(&self) -> MutexGuard<'_, (String, Vec<LayerProgress>)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Digest of the manifest and the layers, the lowest first; empty until they are known.
    pub(crate) fn snapshot(&self) -> (String, Vec<LayerProgress>) {
        self.lock().clone()
    }

    pub(super) fn begin(&self, digest: &str, layers: Vec<LayerProgress>) {
        *self.lock() = (digest.to_owned(), layers);
    }

    /// Shows another's progress for a layer, whose fetch this pull has joined.
    pub(super) fn join(&self, index: usize, blob: &Arc<BlobProgress>) {
        if let Some(layer) = self.lock().1.get_mut(index) {
            layer.blob = Arc::clone(blob);
        }
    }
}
