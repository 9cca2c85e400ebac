//! Room that is set aside: on a full disk, what frees space must itself be recorded first.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::fs::{FallocateFlags, fallocate};

/// Bytes of the reserve: a journal and the pages of one transaction of redb.
const BYTES: u64 = 4 << 20;

/// A file that is only there to be given up.
#[derive(Debug)]
pub(super) struct Reserve {
    path: PathBuf,
    state: Mutex<State>,
    released: Condvar,
}

#[derive(Debug, Default)]
struct State {
    held: bool,
    /// How often it was given up.
    releases: u64,
}

impl Reserve {
    /// The reserve beside a database; a disk that is full already has none.
    pub(super) fn open(database: &Path) -> Self {
        let mut path = database.as_os_str().to_owned();
        path.push(".reserve");
        let reserve = Self { path: PathBuf::from(path), state: Mutex::default(), released: Condvar::new() };
        reserve.refill();
        reserve
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the room again, if it was given up and is there.
    pub(super) fn refill(&self) {
        let mut state = self.state();
        if state.held {
            return;
        }
        let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&self.path);
        let taken = file.and_then(|file| Ok(fallocate(&file, FallocateFlags::empty(), 0, BYTES)?));
        state.held = taken.is_ok();
        if let Err(error) = taken {
            tracing::debug!(%error, "no room can be set aside for the store");
            let _absent = fs::remove_file(&self.path);
        }
    }

    /// Gives the room up; `false` if there is none.
    pub(super) fn release(&self) -> bool {
        let mut state = self.state();
        let released = std::mem::take(&mut state.held) && fs::remove_file(&self.path).is_ok();
        if released {
            state.releases += 1;
            self.released.notify_all();
        }
        released
    }

    /// How often the room was given up so far.
    pub(super) fn releases(&self) -> u64 {
        self.state().releases
    }

    /// Waits, unless the room has been given up since it had been so many times.
    pub(super) fn wait(&self, time: Duration, releases: u64) {
        drop(self.released.wait_timeout_while(self.state(), time, |state| state.releases == releases));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_taken_given_up_once_and_taken_again() {
        use std::os::unix::fs::MetadataExt as _;
        let dir = tempfile::tempdir().unwrap();
        let reserve = Reserve::open(&dir.path().join("x"));
        let path = dir.path().join("x.reserve");
        assert!(fs::metadata(&path).unwrap().blocks() * 512 >= BYTES);
        assert!(reserve.release() && !path.exists());
        assert!(!reserve.release());
        reserve.refill();
        assert!(fs::metadata(&path).unwrap().blocks() * 512 >= BYTES);
    }
}
