//! The agent's records: an embedded database (redb) with a journal in front of it.
//!
//! ```text
//! commit ──> queue ──> writer thread ──> journal (write(2), page cache) ──> acknowledged
//!                          │ at most a second later, or at once for commit_durable
//!                          v
//!                      flusher thread ──> one redb transaction, fsync ──> journal emptied
//!                                                                  └──> a durable commit acknowledged
//! ```
//!
//! A redb commit that survives SIGKILL also fsyncs: 0.7 ms at the median and 5 ms at the 99th percentile on a quiet virtio
//! disk, against 14 µs and 85 µs for the journal. That is too much for each step of a container's start. Leaving out redb's fsync would let a power cut tear the database itself (redb reuses pages of commits that it
//! believes to be on disk). So redb always syncs, and what it has not seen yet waits in the journal:
//!
//! - SIGKILL loses nothing that was acknowledged: the journal is in the page cache and is replayed at the next start.
//! - A power cut loses at most the last second of [`Store::commit`] and nothing of [`Store::commit_durable_blocking`]; what is
//!   found afterwards is a prefix of what was committed, never a mixture (records are numbered and checksummed).
//! - A full disk takes no more records, except those that remove something: for them room is set aside beforehand.
//! - Everything queued while the writer was busy goes into one write, and a second of writes into one transaction.

mod database;
mod events;
mod journal;
mod reserve;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::watch;

use crate::error::{Error, Reason, Result};
pub(crate) use events::EVENTS_KEPT;

use database::Database;
use journal::Journal;
use reserve::Reserve;
use writer::{Message, Overlay, Place, Request};

/// Most bytes of one value; far above any record, so that a defect shows as an error and not as a full disk.
const VALUE_MAX: usize = 16 << 20;
/// Most bytes of one key.
const KEY_MAX: usize = 4096;

/// The agent's database. Clones share it; the last one to be dropped flushes it.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// `None` only while dropping.
    queue: Option<Sender<Message>>,
    writer: Option<JoinHandle<()>>,
    database: Arc<Database>,
    overlay: Arc<Mutex<Overlay>>,
    /// Number of the last event.
    last_event: watch::Receiver<u64>,
    /// Commits that the journal does not have yet.
    waiting: Arc<AtomicUsize>,
    path: PathBuf,
}

/// A table of the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Table {
    /// Containers by id.
    Containers,
    /// Images by manifest digest.
    Images,
    /// Names of images: normalized name to manifest digest.
    ImageNames,
    /// OCI runtime specs of the last starts, by container id.
    Specs,
    /// Containers that are gone, by id.
    Tombstones,
    /// Events by number.
    Events,
}

/// What becomes visible and survives together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Commit {
    pub(crate) writes: Vec<Write>,
    /// Events that tell of it, encoded; each gets the next number.
    pub(crate) events: Vec<Vec<u8>>,
}

impl From<Vec<Write>> for Commit {
    fn from(writes: Vec<Write>) -> Self {
        Self { writes, events: Vec::new() }
    }
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Write {
    /// Sets a key.
    Put { table: Table, key: String, value: Vec<u8> },
    /// Removes a key; one that is not there is no error.
    Delete { table: Table, key: String },
}

impl Store {
    /// Opens or creates the database file at `path` (its journals lie beside it) and replays what was acknowledged.
    ///
    /// A file that is no database any more (torn by a power cut) is renamed aside with an error in the log and a new one
    /// is made. A database of a newer hull is refused, and so is one that another agent has open.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let database = Arc::new(Database::open(path)?);
        let applied = database.applied()?;
        let (journal, unapplied) = Journal::open(path, applied)?;
        let last = unapplied.last().map_or(applied, |record| record.number);
        let mut overlay = Overlay::default();
        overlay.add(unapplied.into_iter().flat_map(|record| record.writes));
        if last != applied {
            database.apply(overlay.active(), last)?;
        }
        journal.clear()?;
        let overlay = Arc::new(Mutex::new(Overlay::default()));
        let (numbers, last_event) = events::numbers(&database)?;
        let (queue, inbox) = mpsc::channel();
        let reserve = Arc::new(Reserve::open(path));
        let start = writer::Start { journal, last, numbers };
        let writer = writer::spawn(start, &database, &overlay, &reserve, queue.clone(), inbox)?;
        let (waiting, path) = (Arc::default(), path.to_owned());
        let (queue, writer) = (Some(queue), Some(writer));
        Ok(Self { shared: Arc::new(Shared { queue, writer, database, overlay, last_event, waiting, path }) })
    }

    /// Applies all of it together; returns when SIGKILL of the agent can no longer undo it.
    ///
    /// # Errors
    /// `STORAGE_FULL` or `SYSTEM` if the journal cannot be written: then nothing was applied.
    pub(crate) async fn commit(&self, commit: impl Into<Commit>) -> Result<()> {
        let (answer, answered) = tokio::sync::oneshot::channel();
        // A caller that went away does not undo the commit.
        self.send(commit.into(), false, Box::new(move |result| drop(answer.send(result))))?;
        answered.await.unwrap_or_else(|_| Err(stopped()))
    }

    /// Applies all of it together; returns when a power cut can no longer undo it. Blocks.
    ///
    /// # Errors
    /// As [`Self::commit`]; if the sync itself fails, the writes are visible and may or may not survive.
    pub(crate) fn commit_durable_blocking(&self, commit: impl Into<Commit>) -> Result<()> {
        let (answer, answered) = mpsc::sync_channel(1);
        self.send(commit.into(), true, Box::new(move |result| drop(answer.send(result))))?;
        answered.recv().unwrap_or_else(|_| Err(stopped()))
    }

    /// All records of a table, in the order of their keys, with everything committed so far. Blocks on the disk.
    pub(crate) fn scan(&self, table: Table) -> Result<Vec<(String, Vec<u8>)>> {
        // Held while the database's snapshot is taken: what the flusher moves there stays in the overlay until after.
        let overlay = self.shared.overlay.lock().unwrap_or_else(PoisonError::into_inner);
        let mut records = self.shared.database.scan(table)?;
        overlay.lay_over(table, &mut records);
        Ok(records.into_iter().collect())
    }

    /// The value of a key, with everything committed so far. Blocks on the disk.
    pub(crate) fn get(&self, table: Table, key: &str) -> Result<Option<Vec<u8>>> {
        let overlay = self.shared.overlay.lock().unwrap_or_else(PoisonError::into_inner);
        match overlay.get(table, key) {
            Some(changed) => Ok(changed),
            None => self.shared.database.get(table, key),
        }
    }

    /// [`Self::commit`] in its turn, without waiting: a failure is logged.
    pub(crate) fn commit_later(&self, commit: impl Into<Commit>) {
        let log = |error| tracing::error!(%error, "a record could not be written");
        let answer = move |result: Result<()>| result.unwrap_or_else(log);
        self.send(commit.into(), false, Box::new(answer)).unwrap_or_else(log);
    }

    /// Commits that wait for the journal.
    pub(crate) fn commits_waiting(&self) -> usize {
        self.shared.waiting.load(Ordering::Relaxed)
    }

    /// Bytes of the database and its journals. Asks the disk for their lengths.
    pub(crate) fn bytes(&self) -> u64 {
        let journals = journal::paths(&self.shared.path);
        let files = journals.iter().chain([&self.shared.path]);
        files.filter_map(|path| std::fs::metadata(path).ok()).map(|file| file.len()).sum()
    }

    fn send(&self, commit: Commit, durable: bool, answer: writer::Answer) -> Result<()> {
        let writes = commit.writes.iter().map(|write| match write {
            Write::Put { key, value, .. } => (key.len(), value.len()),
            Write::Delete { key, .. } => (key.len(), 0),
        });
        for (key, value) in writes.chain(commit.events.iter().map(|event| (0, event.len()))) {
            if key > KEY_MAX || value > VALUE_MAX {
                let line = format!("a record of {key} bytes of key and {value} of value is above the store's bounds");
                return Err(Error::new(Reason::LimitExceeded, line));
            }
        }
        let queue = self.shared.queue.as_ref().ok_or_else(stopped)?;
        let place = Place::take(&self.shared.waiting);
        queue.send(Message::Commit(Request { commit, durable, answer, _place: place })).map_err(|_| stopped())
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Some(queue) = self.queue.take() {
            // Fails only if the writer is gone already.
            drop(queue.send(Message::Stop));
        }
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            tracing::error!("the store's writer thread panicked");
        }
    }
}

fn stopped() -> Error {
    Error::new(Reason::Internal, "the store's writer has stopped").hint("see the agent's log")
}

#[cfg(test)]
mod tests;
