//! What happened on the node, in order: one event for each transition, written in the commit of the transition itself, and kept until
//! there are too many ([`EVENTS_KEPT`]). Readers read the store, each at its own pace.

use std::collections::BTreeSet;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

pub(crate) use crate::store::EVENTS_KEPT;

use crate::error::{Error, Reason, Result};
use crate::store::Store;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Event {
    /// Wall clock, nanoseconds since the epoch.
    pub(crate) time_nanos: u64,
    pub(crate) what: What,
}

/// To whom it happened, and what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum What {
    /// An agent of this version is ready.
    AgentStarted { version: String },
    Container {
        id: String,
        name: String,
        /// As the container's config names it.
        image: String,
        change: ContainerChange,
    },
    Image {
        digest: String,
        /// Names that came, went or were there.
        names: Vec<String>,
        change: ImageChange,
    },
}

/// What became of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ContainerChange {
    Created,
    Started {
        /// Of init; 0 where it had ended before an agent saw it.
        pid: i32,
    },
    Paused,
    Resumed,
    /// Its limits were changed.
    Updated,
    Renamed {
        old: String,
    },
    /// A process was killed for want of memory.
    Oom {
        /// The group in which it was.
        cgroup: String,
    },
    Exited {
        code: i32,
        signal: i32,
        oom_killed: bool,
        /// Why it did not run; empty for one that ran.
        error: String,
    },
    Removed,
}

/// What became of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ImageChange {
    /// Pulled, imported, loaded or committed; or pulled anew under a further name.
    Added,
    Tagged,
    Untagged,
    Removed,
}

/// The kinds of events, for filters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    AgentStarted,
    ContainerCreated,
    ContainerStarted,
    ContainerPaused,
    ContainerResumed,
    ContainerUpdated,
    ContainerRenamed,
    ContainerOom,
    ContainerExited,
    ContainerRemoved,
    ImageAdded,
    ImageTagged,
    ImageUntagged,
    ImageRemoved,
}

impl What {
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::AgentStarted { .. } => Kind::AgentStarted,
            Self::Container { change, .. } => match change {
                ContainerChange::Created => Kind::ContainerCreated,
                ContainerChange::Started { .. } => Kind::ContainerStarted,
                ContainerChange::Paused => Kind::ContainerPaused,
                ContainerChange::Resumed => Kind::ContainerResumed,
                ContainerChange::Updated => Kind::ContainerUpdated,
                ContainerChange::Renamed { .. } => Kind::ContainerRenamed,
                ContainerChange::Oom { .. } => Kind::ContainerOom,
                ContainerChange::Exited { .. } => Kind::ContainerExited,
                ContainerChange::Removed => Kind::ContainerRemoved,
            },
            Self::Image { change, .. } => match change {
                ImageChange::Added => Kind::ImageAdded,
                ImageChange::Tagged => Kind::ImageTagged,
                ImageChange::Untagged => Kind::ImageUntagged,
                ImageChange::Removed => Kind::ImageRemoved,
            },
        }
    }

    /// What became of an image.
    pub(crate) fn image(digest: &str, names: &[String], change: ImageChange) -> Self {
        Self::Image { digest: digest.to_owned(), names: names.to_vec(), change }
    }

    /// For the commit of what it tells.
    pub(crate) fn encode_now(self) -> Result<Vec<u8>> {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let event = Event { time_nanos: u64::try_from(since.as_nanos()).unwrap_or(u64::MAX), what: self };
        serde_json::to_vec(&event).map_err(|error| Error::new(Reason::Internal, error.to_string()))
    }
}

/// Which events are wanted. Empty sets: all.
#[derive(Debug, Clone, Default)]
pub(crate) struct EventFilter {
    /// Ids of containers; events of images and of the agent are then not wanted.
    pub(crate) containers: BTreeSet<String>,
    pub(crate) kinds: BTreeSet<Kind>,
    /// Not before this moment, nanoseconds since the epoch.
    pub(crate) since_nanos: Option<u64>,
    /// Before this moment.
    pub(crate) until_nanos: Option<u64>,
}

impl EventFilter {
    pub(crate) fn wants(&self, event: &Event) -> bool {
        let of_container = match &event.what {
            What::Container { id, .. } => self.containers.contains(id),
            What::AgentStarted { .. } | What::Image { .. } => false,
        };
        (self.containers.is_empty() || of_container)
            && (self.kinds.is_empty() || self.kinds.contains(&event.what.kind()))
            && self.since_nanos.is_none_or(|since| event.time_nanos >= since)
            && self.until_nanos.is_none_or(|until| event.time_nanos < until)
    }
}

/// The events of the node. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Events {
    store: Store,
}

impl Events {
    pub(crate) fn new(store: Store) -> Self {
        Self { store }
    }

    /// Number of the last event; it changes when there are more.
    pub(crate) fn last(&self) -> watch::Receiver<u64> {
        self.store.last_event()
    }

    /// Number of the oldest event that is kept; the next one's if there is none. Blocks on the disk.
    pub(crate) fn oldest(&self) -> Result<u64> {
        let first = self.store.events_after(0, 1)?;
        Ok(first.first().map_or(*self.last().borrow() + 1, |(number, _)| *number))
    }

    /// Where a reader goes on that has seen the event `after` last; 0: at the oldest that is kept. Blocks on the disk.
    ///
    /// # Errors
    /// `EVENTS_LOST` if events in between are kept no longer, or were never there.
    pub(crate) fn resume(&self, after: u64) -> Result<u64> {
        let (oldest, last) = (self.oldest()?, *self.last().borrow());
        if after == 0 {
            return Ok(oldest - 1);
        }
        if after > last {
            let line = format!("there is no event {after}: the last one is {last}; the records were begun anew");
            return Err(Error::new(Reason::EventsLost, line).hint("list the containers, and go on from the last event"));
        }
        if after + 1 < oldest { Err(lost(after, oldest)) } else { Ok(after) }
    }

    /// The next events after `after`, at most `most`: with their numbers, which rise by one. Blocks on the disk.
    ///
    /// # Errors
    /// `EVENTS_LOST` if the reader was so slow that the next ones are gone.
    pub(crate) fn after(&self, after: u64, most: usize) -> Result<Vec<(u64, Event)>> {
        let found = self.store.events_after(after, most)?;
        if let Some((first, _)) = found.first().filter(|(first, _)| *first != after + 1) {
            return Err(lost(after, *first));
        }
        let decode = |(number, bytes): (u64, Vec<u8>)| {
            let event = serde_json::from_slice(&bytes);
            let unreadable = |error| Error::new(Reason::Internal, format!("event {number} cannot be read: {error}"));
            event.map(|event| (number, event)).map_err(unreadable)
        };
        found.into_iter().map(decode).collect()
    }
}

fn lost(after: u64, oldest: u64) -> Error {
    let line = format!("events {} to {} are kept no longer; {EVENTS_KEPT} are", after + 1, oldest - 1);
    Error::new(Reason::EventsLost, line).hint("list the containers, and go on from the oldest event")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Commit;

    fn commit(store: &Store, what: What) {
        let events = vec![what.encode_now().unwrap()];
        store.commit_durable_blocking(Commit { writes: Vec::new(), events }).unwrap();
    }

    fn container(id: &str, change: ContainerChange) -> What {
        What::Container { id: id.into(), name: "n".into(), image: "i".into(), change }
    }

    #[test]
    fn a_reader_goes_on_where_it_was_or_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("hull.redb")).unwrap();
        let events = Events::new(store.clone());
        assert_eq!(events.resume(0).unwrap(), 0);
        assert_eq!(events.resume(1).unwrap_err().reason, Reason::EventsLost);
        commit(&store, container("a", ContainerChange::Created));
        commit(&store, container("a", ContainerChange::Started { pid: 7 }));
        assert_eq!(events.resume(1).unwrap(), 1);
        let found = events.after(1, 10).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].0, found[0].1.what.kind()), (2, Kind::ContainerStarted));
    }

    #[test]
    fn filters_are_and_of_or() {
        let event = |what| Event { time_nanos: 50, what };
        let created = event(container("a", ContainerChange::Created));
        let removed = event(container("b", ContainerChange::Removed));
        let agent = event(What::AgentStarted { version: "1".into() });
        let filter = EventFilter { containers: ["a".to_owned()].into(), ..EventFilter::default() };
        assert!(filter.wants(&created) && !filter.wants(&removed) && !filter.wants(&agent));
        let filter =
            EventFilter { kinds: [Kind::ContainerRemoved, Kind::AgentStarted].into(), ..EventFilter::default() };
        assert!(!filter.wants(&created) && filter.wants(&removed) && filter.wants(&agent));
        let filter = EventFilter { since_nanos: Some(50), until_nanos: Some(51), ..EventFilter::default() };
        assert!(filter.wants(&created));
        let filter = EventFilter { until_nanos: Some(50), ..EventFilter::default() };
        assert!(!filter.wants(&created));
    }
}
