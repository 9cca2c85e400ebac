//! Events.

use hull_proto::v1;
use hull_proto::v1::EventType;
use hull_proto::v1::event::Subject;

use super::time;
use crate::error::{Error, Result};
use crate::events::{ContainerChange, Event, Kind, What};

/// All kinds, and what they are called.
const KINDS: [(Kind, EventType); 14] = [
    (Kind::AgentStarted, EventType::AgentStarted),
    (Kind::ContainerCreated, EventType::ContainerCreated),
    (Kind::ContainerStarted, EventType::ContainerStarted),
    (Kind::ContainerPaused, EventType::ContainerPaused),
    (Kind::ContainerResumed, EventType::ContainerResumed),
    (Kind::ContainerUpdated, EventType::ContainerUpdated),
    (Kind::ContainerRenamed, EventType::ContainerRenamed),
    (Kind::ContainerOom, EventType::ContainerOom),
    (Kind::ContainerExited, EventType::ContainerExited),
    (Kind::ContainerRemoved, EventType::ContainerRemoved),
    (Kind::ImageAdded, EventType::ImageAdded),
    (Kind::ImageTagged, EventType::ImageTagged),
    (Kind::ImageUntagged, EventType::ImageUntagged),
    (Kind::ImageRemoved, EventType::ImageRemoved),
];

/// A type of a filter.
pub(crate) fn kind(value: i32) -> Result<Kind> {
    let found = KINDS.iter().find(|(_, kind)| i32::from(*kind) == value);
    found.map(|(kind, _)| *kind).ok_or_else(|| Error::invalid("types", format_args!("{value} is no type of events")))
}

/// One event.
pub(crate) fn event(sequence: u64, event: &Event) -> v1::Event {
    let kind = event.what.kind();
    let kind = KINDS.iter().find(|(known, _)| *known == kind).map_or(EventType::Unspecified, |(_, kind)| *kind);
    let subject = match &event.what {
        What::AgentStarted { version } => Subject::Agent(v1::AgentEvent { version: version.clone() }),
        What::Image { digest, names, change: _ } => {
            Subject::Image(v1::ImageEvent { digest: digest.clone(), names: names.clone() })
        }
        What::Container { id, name, image, change } => {
            let mut told = v1::ContainerEvent {
                id: id.clone(),
                name: name.clone(),
                image: image.clone(),
                ..v1::ContainerEvent::default()
            };
            match change {
                ContainerChange::Started { pid } => told.pid = *pid,
                ContainerChange::Renamed { old } => told.old_name.clone_from(old),
                ContainerChange::Oom { cgroup } => told.cgroup.clone_from(cgroup),
                ContainerChange::Exited { code, signal, oom_killed, error } => {
                    let (code, signal, oom_killed) = (*code, *signal, *oom_killed);
                    told.exit = Some(v1::EventExit { code, signal, oom_killed, error: error.clone() });
                }
                ContainerChange::Created
                | ContainerChange::Paused
                | ContainerChange::Resumed
                | ContainerChange::Updated
                | ContainerChange::Removed => {}
            }
            Subject::Container(told)
        }
    };
    let time = Some(time::to_timestamp(event.time_nanos));
    v1::Event { sequence, time, r#type: kind.into(), subject: Some(subject) }
}
