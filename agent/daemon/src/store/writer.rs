//! The two threads of the store: one appends to the journal, one moves it into the database.

use std::collections::BTreeMap;
use std::mem;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::database::Database;
use super::events::{self, Numbers};
use super::journal::{self, Journal, Segment};
use super::reserve::Reserve;
use super::{Commit, Table, Write};
use crate::error::{Error, Reason, Result};

/// How long a change may wait in the journal.
const FLUSH_AFTER: Duration = Duration::from_secs(1);
/// How many bytes may wait in the journal.
const FLUSH_ABOVE: u64 = 8 << 20;
/// Most commits in one write, so that the first of a flood is not kept waiting.
const GROUP_MAX: usize = 256;

/// What is told when a commit is safe or failed.
pub(super) type Answer = Box<dyn FnOnce(Result<()>) + Send>;
/// Last value of every changed key; `None`: removed.
pub(super) type Changes = BTreeMap<(Table, String), Option<Vec<u8>>>;

/// A commit on its way.
pub(super) struct Request {
    pub(super) commit: Commit,
    pub(super) durable: bool,
    pub(super) answer: Answer,
    pub(super) _place: Place,
}

/// A place in the queue; counted for as long as it is there.
#[derive(Debug)]
pub(super) struct Place(Arc<AtomicUsize>);

impl Place {
    pub(super) fn take(waiting: &Arc<AtomicUsize>) -> Self {
        waiting.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(waiting))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What the writer thread is told.
pub(super) enum Message {
    /// Commit this.
    Commit(Request),
    /// The flusher is done with what it got.
    Flushed(Result<()>),
    /// Flush and end.
    Stop,
}

/// Changes that are in the journal and perhaps not yet in the database.
#[derive(Debug, Default)]
pub(super) struct Overlay {
    /// In the inactive file, on the way into the database.
    flushing: Arc<Changes>,
    /// In the active file.
    active: Changes,
}

impl Overlay {
    pub(super) fn add(&mut self, writes: impl IntoIterator<Item = Write>) {
        self.active.extend(writes.into_iter().map(|write| match write {
            Write::Put { table, key, value } => ((table, key), Some(value)),
            Write::Delete { table, key } => ((table, key), None),
        }));
    }

    pub(super) const fn active(&self) -> &Changes {
        &self.active
    }

    /// All changes, the older ones first.
    pub(super) fn changes(&self) -> [&Changes; 2] {
        [&self.flushing, &self.active]
    }

    /// The value of a key that was changed; `Some(None)`: removed.
    pub(super) fn get(&self, table: Table, key: &str) -> Option<Option<Vec<u8>>> {
        let key = (table, key.to_owned());
        self.active.get(&key).or_else(|| self.flushing.get(&key)).cloned()
    }

    /// Brings the records of `table` up to date.
    pub(super) fn lay_over(&self, table: Table, records: &mut BTreeMap<String, Vec<u8>>) {
        for ((changed, key), value) in self.flushing.iter().chain(&self.active) {
            match value {
                _ if *changed != table => {}
                Some(value) => drop(records.insert(key.clone(), value.clone())),
                None => drop(records.remove(key)),
            }
        }
    }
}

/// What the flusher is to move into the database.
struct Flush {
    changes: Arc<Changes>,
    /// Number of the last record among them.
    last: u64,
    segment: Segment,
}

/// Where the writer goes on.
pub(super) struct Start {
    pub(super) journal: Journal,
    /// Number of the last record that the database has.
    pub(super) last: u64,
    pub(super) numbers: Numbers,
}

struct Writer {
    journal: Journal,
    /// Number of the last record.
    last: u64,
    numbers: Numbers,
    overlay: Arc<Mutex<Overlay>>,
    reserve: Arc<Reserve>,
    flusher: Sender<Flush>,
    flusher_thread: JoinHandle<()>,
    /// What the flusher works on; taken back if it fails.
    flushing: Option<Vec<Answer>>,
    /// Durable commits in the active file.
    waiting: Vec<Answer>,
    /// When the active file is to be flushed; `None` if it is empty.
    due: Option<Instant>,
    flush_failed: bool,
    stopping: bool,
}

/// Starts both threads.
pub(super) fn spawn(
    start: Start,
    database: &Arc<Database>,
    overlay: &Arc<Mutex<Overlay>>,
    reserve: &Arc<Reserve>,
    queue: Sender<Message>,
    inbox: Receiver<Message>,
) -> Result<JoinHandle<()>> {
    let failed = |error| Error::io("starting the store's threads", &error);
    let (flusher, flushes) = std::sync::mpsc::channel();
    let (database, room) = (Arc::clone(database), Arc::clone(reserve));
    let flusher_thread = thread::Builder::new()
        .name("store-flush".into())
        .spawn(move || flush_all(&database, &room, &flushes, &queue))
        .map_err(failed)?;
    let Start { journal, last, numbers } = start;
    let writer = Writer {
        journal,
        last,
        numbers,
        overlay: Arc::clone(overlay),
        reserve: Arc::clone(reserve),
        flusher,
        flusher_thread,
        flushing: None,
        waiting: Vec::new(),
        due: None,
        flush_failed: false,
        stopping: false,
    };
    thread::Builder::new().name("store-write".into()).spawn(move || writer.run(&inbox)).map_err(failed)
}

/// The flusher: ends when the writer drops its end.
fn flush_all(database: &Database, reserve: &Reserve, flushes: &Receiver<Flush>, queue: &Sender<Message>) {
    for Flush { changes, last, segment } in flushes {
        let flush = || database.apply(&changes, last).and_then(|()| segment.clear());
        let mut backoff = FLUSH_AFTER;
        let mut releases = reserve.releases();
        let mut result = flush();
        if is_full(&result) && removes(&changes) && reserve.release() {
            result = flush();
        }
        while let Err(error) = &result {
            // The records stay in the journal and the changes in the overlay; nothing acknowledged is lost meanwhile.
            tracing::error!(%error, "flushing the store failed, trying again in {} s", backoff.as_secs());
            if queue.send(Message::Flushed(result)).is_err() {
                return;
            }
            reserve.wait(backoff, releases);
            backoff = (backoff * 2).min(Duration::from_secs(30));
            releases = reserve.releases();
            result = flush();
        }
        reserve.refill();
        if queue.send(Message::Flushed(Ok(()))).is_err() {
            return;
        }
    }
}

/// Whether changes make room on the disk.
fn removes(changes: &Changes) -> bool {
    changes.iter().any(|((table, _), value)| value.is_none() && !events::is_trim(*table))
}

fn is_full(result: &Result<()>) -> bool {
    result.as_ref().is_err_and(|error| error.reason == Reason::StorageFull)
}

impl Writer {
    fn run(mut self, inbox: &Receiver<Message>) {
        loop {
            let first = match self.due.filter(|_| self.flushing.is_none()) {
                Some(due) => inbox.recv_timeout(due.saturating_duration_since(Instant::now())),
                None => inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match first {
                Ok(first) => self.handle(first, inbox),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.flush_if_due();
            if self.stopping && self.flushing.is_none() && self.due.is_none() {
                drop(self.flusher);
                if self.flusher_thread.join().is_err() {
                    tracing::error!("the store's flusher thread panicked");
                }
                return;
            }
            if self.stopping && self.flush_failed {
                // Nothing is lost: the next start replays the journal.
                return;
            }
        }
    }

    /// Handles a message and what else is queued.
    fn handle(&mut self, first: Message, inbox: &Receiver<Message>) {
        let mut group = Vec::new();
        let mut next = Some(first);
        while let Some(message) = next {
            match message {
                Message::Commit(request) => group.push(request),
                Message::Flushed(result) => self.flushed(&result),
                Message::Stop => self.stopping = true,
            }
            next = if group.len() < GROUP_MAX { inbox.try_recv().ok() } else { None };
        }
        if !group.is_empty() {
            self.commit(group);
        }
    }

    /// Appends the group with one system call, then answers.
    fn commit(&mut self, mut group: Vec<Request>) {
        let removes =
            |request: &Request| request.commit.writes.iter().any(|write| matches!(write, Write::Delete { .. }));
        let removes = group.iter().any(removes);
        let (mut bytes, mut event) = (Vec::new(), self.numbers.next());
        for (request, number) in group.iter_mut().zip(self.last + 1..) {
            let Commit { writes, events } = &mut request.commit;
            let count = events.len() as u64;
            writes.extend(Numbers::writes(event, mem::take(events)));
            event += count;
            journal::encode(number, writes, &mut bytes);
        }
        if removes && self.flush_failed {
            self.reserve.release();
        }
        let mut appended = self.journal.append(&bytes);
        if is_full(&appended) && removes && self.reserve.release() {
            appended = self.journal.append(&bytes);
        }
        if let Err(error) = appended {
            for request in group {
                (request.answer)(Err(error.clone()));
            }
            return;
        }
        self.last += group.len() as u64;
        self.numbers.keep(event);
        self.due.get_or_insert_with(|| Instant::now() + FLUSH_AFTER);
        let mut acknowledged = Vec::new();
        let mut overlay = self.overlay.lock().unwrap_or_else(PoisonError::into_inner);
        for request in group {
            overlay.add(request.commit.writes);
            if request.durable { self.waiting.push(request.answer) } else { acknowledged.push(request.answer) }
        }
        drop(overlay);
        self.numbers.tell();
        for answer in acknowledged {
            answer(Ok(()));
        }
    }

    fn flush_if_due(&mut self) {
        let urgent = !self.waiting.is_empty() || self.stopping || self.journal.len() > FLUSH_ABOVE;
        let due = self.due.is_some_and(|due| urgent || due <= Instant::now());
        if !due || self.flushing.is_some() {
            return;
        }
        let segment = match self.journal.switch() {
            Ok(segment) => segment,
            Err(error) => {
                tracing::error!(%error, "flushing the store is put off");
                self.due = Some(Instant::now() + FLUSH_AFTER);
                return;
            }
        };
        self.due = None;
        self.flushing = Some(mem::take(&mut self.waiting));
        let mut overlay = self.overlay.lock().unwrap_or_else(PoisonError::into_inner);
        overlay.flushing = Arc::new(mem::take(&mut overlay.active));
        let flush = Flush { changes: Arc::clone(&overlay.flushing), last: self.last, segment };
        drop(overlay);
        if self.flusher.send(flush).is_err() {
            tracing::error!("the store's flusher thread is gone");
        }
    }

    fn flushed(&mut self, result: &Result<()>) {
        self.flush_failed = result.is_err();
        if is_full(result) {
            // What waits behind it may be what makes room.
            let overlay = self.overlay.lock().unwrap_or_else(PoisonError::into_inner);
            if removes(overlay.active()) {
                self.reserve.release();
            }
        }
        let answers = match result {
            Ok(()) => {
                self.overlay.lock().unwrap_or_else(PoisonError::into_inner).flushing = Arc::default();
                self.flushing.take().unwrap_or_default()
            }
            // The flusher goes on trying; who waited for it is told now.
            Err(_) => self.flushing.as_mut().map(mem::take).unwrap_or_default(),
        };
        for answer in answers {
            answer(result.clone());
        }
    }
}
