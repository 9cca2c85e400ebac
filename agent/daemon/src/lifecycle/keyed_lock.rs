//! A lock per key, for as long as someone holds or awaits it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OwnedMutexGuard;

/// Locks by key.
#[derive(Clone, Debug, Default)]
pub(crate) struct KeyedLock {
    locks: Arc<Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>>,
}

/// A held lock.
#[derive(Debug)]
pub(crate) struct KeyedGuard {
    owner: KeyedLock,
    key: String,
    guard: Option<OwnedMutexGuard<()>>,
}

impl KeyedLock {
    /// Waits for the lock of `key`.
    pub(crate) async fn lock(&self, key: &str) -> KeyedGuard {
        let lock = {
            let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(locks.entry(key.to_owned()).or_default())
        };
        KeyedGuard { owner: self.clone(), key: key.to_owned(), guard: Some(lock.lock_owned().await) }
    }
}

impl Drop for KeyedGuard {
    fn drop(&mut self) {
        let mut locks = self.owner.locks.lock().unwrap_or_else(PoisonError::into_inner);
        self.guard = None;
        // Held by the map alone: nobody else waits.
        if locks.get(&self.key).is_some_and(|lock| Arc::strong_count(lock) == 1) {
            locks.remove(&self.key);
        }
    }
}
