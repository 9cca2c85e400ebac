//! Events: numbered in the order of their commits, without a gap, kept until there are too many.
//!
//! The number is given by the writer, when the commit that the event tells of is journalled: so the order of events is that of what
//! they tell, and there is no event without its change, nor a change without its event.

use std::collections::BTreeMap;
use std::sync::PoisonError;

use tokio::sync::watch;

use super::database::Database;
use super::writer::Overlay;
use super::{Store, Table, Write};
use crate::error::{Error, Reason, Result};

/// Events that are kept.
pub(crate) const EVENTS_KEPT: u64 = 65_536;

/// The writer's side: gives numbers.
pub(super) struct Numbers {
    last: u64,
    told: watch::Sender<u64>,
}

/// Goes on where the database ends.
pub(super) fn numbers(database: &Database) -> Result<(Numbers, watch::Receiver<u64>)> {
    let last = database.last(Table::Events)?.map_or(Ok(0), |key| number(&key))?;
    let (told, seen) = watch::channel(last);
    Ok((Numbers { last, told }, seen))
}

impl Numbers {
    /// The writes of some events, with those that make room for them. They count from [`Self::keep`] on.
    pub(super) fn writes(first: u64, events: Vec<Vec<u8>>) -> impl Iterator<Item = Write> {
        (first..).zip(events).flat_map(|(number, value)| {
            let put = Write::Put { table: Table::Events, key: key(number), value };
            let old = number.checked_sub(EVENTS_KEPT).filter(|old| *old > 0);
            std::iter::once(put).chain(old.map(|old| Write::Delete { table: Table::Events, key: key(old) }))
        })
    }

    /// Number of the next event.
    pub(super) fn next(&self) -> u64 {
        self.last + 1
    }

    /// All below `next` have been given.
    pub(super) fn keep(&mut self, next: u64) {
        self.last = next - 1;
    }

    /// Tells who follows, once the events can be read.
    pub(super) fn tell(&self) {
        self.told.send_if_modified(|told| std::mem::replace(told, self.last) != self.last);
    }
}

/// Whether a change only makes room for events. It is no removal that makes room on the disk.
pub(super) fn is_trim(table: Table) -> bool {
    table == Table::Events
}

/// Numbers as keys sort as numbers do.
fn key(number: u64) -> String {
    format!("{number:020}")
}

fn number(key: &str) -> Result<u64> {
    key.parse().map_err(|_| Error::new(Reason::Internal, format!("the store has an event with the number {key:?}")))
}

impl Store {
    /// Number of the last event; it changes when there are more. 0: there was none.
    pub(crate) fn last_event(&self) -> watch::Receiver<u64> {
        self.shared.last_event.clone()
    }

    /// The oldest events that are kept of those after number `after`, at most `most`, with their numbers. Blocks on the disk.
    pub(crate) fn events_after(&self, after: u64, most: usize) -> Result<Vec<(u64, Vec<u8>)>> {
        let mut from = key(after.saturating_add(1));
        loop {
            let (changed, snapshot) = {
                let overlay = self.shared.overlay.lock().unwrap_or_else(PoisonError::into_inner);
                let changed = overlay.from(Table::Events, &from);
                // What follows a new event is new, too: who follows never reads the database.
                let follows = matches!(changed.first_key_value(), Some((key, Some(_))) if *key == from);
                (changed, if follows { None } else { Some(self.shared.database.snapshot()?) })
            };
            let mut records = match snapshot {
                Some(snapshot) => self.shared.database.scan_from(&snapshot, Table::Events, &from, most)?,
                None => BTreeMap::new(),
            };
            // What was changed beyond the last of a full batch is for another one.
            let end = records.last_key_value().map(|(key, _)| key.clone()).filter(|_| records.len() >= most);
            for (key, value) in changed {
                match value {
                    Some(value) => drop(records.insert(key, value)),
                    None => drop(records.remove(&key)),
                }
            }
            if let Some(end) = end {
                records.retain(|key, _| *key <= end);
                if records.is_empty() {
                    from = key(number(&end)?.saturating_add(1));
                    continue;
                }
            }
            return records.into_iter().take(most).map(|(key, value)| Ok((number(&key)?, value))).collect();
        }
    }
}

impl Overlay {
    /// What was changed of a table from a key on; `None`: removed.
    fn from(&self, table: Table, from: &str) -> BTreeMap<String, Option<Vec<u8>>> {
        let changes = self.changes().into_iter().flat_map(|changes| changes.range((table, from.to_owned())..));
        // The newer ones come later, and stay.
        changes
            .filter(|((changed, _), _)| *changed == table)
            .map(|((_, key), value)| (key.clone(), value.clone()))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Commit;

    fn commit(store: &Store, events: &[&str]) {
        let events = events.iter().map(|event| event.as_bytes().to_vec()).collect();
        store.commit_durable_blocking(Commit { writes: Vec::new(), events }).unwrap();
    }

    fn texts(events: Vec<(u64, Vec<u8>)>) -> Vec<(u64, String)> {
        events.into_iter().map(|(number, event)| (number, String::from_utf8(event).unwrap())).collect()
    }

    #[test]
    fn numbers_go_on_after_reopening() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hull.redb");
        let store = Store::open(&path).unwrap();
        assert_eq!(*store.last_event().borrow(), 0);
        commit(&store, &["a", "b"]);
        store.commit_later(Commit { writes: Vec::new(), events: vec![b"c".to_vec()] });
        drop(store);
        let store = Store::open(&path).unwrap();
        assert_eq!(*store.last_event().borrow(), 3);
        commit(&store, &["d"]);
        assert_eq!(*store.last_event().borrow(), 4);
        let all = |pairs: &[(u64, &str)]| pairs.iter().map(|(n, t)| (*n, (*t).to_owned())).collect::<Vec<_>>();
        assert_eq!(texts(store.events_after(0, 3).unwrap()), all(&[(1, "a"), (2, "b"), (3, "c")]));
        assert_eq!(texts(store.events_after(3, 3).unwrap()), all(&[(4, "d")]));
        assert_eq!(store.events_after(4, 3).unwrap(), []);
        assert_eq!(store.events_after(u64::MAX, 3).unwrap(), []);
    }

    #[test]
    fn the_oldest_go_when_there_are_too_many() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("hull.redb")).unwrap();
        let more = usize::try_from(EVENTS_KEPT).unwrap() + 10;
        let events = (1..=more).map(|number| number.to_string().into_bytes()).collect();
        store.commit_durable_blocking(Commit { writes: Vec::new(), events }).unwrap();
        store.commit_later(Commit { writes: Vec::new(), events: vec![b"last".to_vec()] });
        let mut last = store.last_event();
        while *last.borrow_and_update() < more as u64 + 1 {
            std::thread::yield_now();
        }
        assert_eq!(texts(store.events_after(0, 1).unwrap()), [(12, "12".to_owned())]);
        assert_eq!(store.events_after(0, more).unwrap().len() as u64, EVENTS_KEPT);
        // No batch leaves one out, wherever the events are.
        let (mut after, mut count) = (0, 0);
        loop {
            let batch = store.events_after(after, 7).unwrap();
            let Some((last, _)) = batch.last() else { break };
            assert!(after == 0 || batch[0].0 == after + 1, "{batch:?} after {after}");
            (after, count) = (*last, count + batch.len() as u64);
        }
        assert_eq!((after, count), (more as u64 + 1, EVENTS_KEPT));
    }
}
