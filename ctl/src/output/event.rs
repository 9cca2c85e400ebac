//! Events, as Docker names them.

use hull_proto::v1::event::Subject;
use hull_proto::v1::{Event, EventType};
use jiff::Timestamp;
use serde::Serialize;

use super::run::ExitView;
use super::{fixed_width, moment};
use crate::error::one_line;

/// What a type is called: to whom, and what happened.
const NAMES: [(EventType, &str, &str); 14] = [
    (EventType::AgentStarted, "daemon", "start"),
    (EventType::ContainerCreated, "container", "create"),
    (EventType::ContainerStarted, "container", "start"),
    (EventType::ContainerPaused, "container", "pause"),
    (EventType::ContainerResumed, "container", "unpause"),
    (EventType::ContainerUpdated, "container", "update"),
    (EventType::ContainerRenamed, "container", "rename"),
    (EventType::ContainerOom, "container", "oom"),
    (EventType::ContainerExited, "container", "die"),
    (EventType::ContainerRemoved, "container", "destroy"),
    (EventType::ImageAdded, "image", "add"),
    (EventType::ImageTagged, "image", "tag"),
    (EventType::ImageUntagged, "image", "untag"),
    (EventType::ImageRemoved, "image", "delete"),
];

/// The types that a filter's words mean: `subject` such as "container", `action` such as "die"; either may be left out.
pub(crate) fn event_types(subject: Option<&str>, action: Option<&str>) -> Vec<EventType> {
    let fits = |wanted: Option<&str>, is: &str| wanted.is_none_or(|wanted| wanted == is);
    let all = NAMES.iter().filter(|(_, who, what)| fits(subject, who) && fits(action, what));
    all.map(|(kind, _, _)| *kind).collect()
}

/// An event as programs see it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct EventView {
    sequence: u64,
    time: Option<String>,
    #[serde(rename = "type")]
    subject: &'static str,
    pub(crate) action: &'static str,
    /// Id of the container, digest of the image, or empty.
    id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    image: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    names: Vec<String>,
    #[serde(skip_serializing_if = "is_zero")]
    pid: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    exit: Option<ExitView>,
    #[serde(skip_serializing_if = "String::is_empty")]
    old_name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    cgroup: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    version: String,
    #[serde(skip)]
    pub(crate) at: Option<Timestamp>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands out references")]
fn is_zero(number: &i32) -> bool {
    *number == 0
}

impl From<Event> for EventView {
    fn from(event: Event) -> Self {
        let kind = event.r#type();
        let at = moment(event.time.as_ref());
        let (subject, action) = NAMES
            .iter()
            .find(|(known, _, _)| *known == kind)
            .map_or(("unknown", "unknown"), |(_, who, what)| (who, what));
        let mut view = Self {
            sequence: event.sequence,
            time: at.map(fixed_width),
            subject,
            action,
            id: String::new(),
            name: String::new(),
            image: String::new(),
            names: Vec::new(),
            pid: 0,
            exit: None,
            old_name: String::new(),
            cgroup: String::new(),
            version: String::new(),
            at,
        };
        match event.subject {
            Some(Subject::Container(told)) => {
                (view.id, view.name, view.image, view.pid) = (told.id, told.name, told.image, told.pid);
                (view.old_name, view.cgroup) = (told.old_name, told.cgroup);
                view.exit = told.exit.map(ExitView::from);
            }
            Some(Subject::Image(told)) => (view.id, view.names) = (told.digest, told.names),
            Some(Subject::Agent(told)) => view.version = told.version,
            None => {}
        }
        view
    }
}

impl EventView {
    /// The event with Docker's names.
    pub(crate) fn fields(&self) -> serde_json::Value {
        let mut attributes = serde_json::Map::new();
        let exit = self.exit.as_ref().map(|exit| exit.code.to_string()).unwrap_or_default();
        for (key, value) in
            [("name", &self.name), ("image", &self.image), ("exitCode", &exit), ("oldName", &self.old_name)]
        {
            if !value.is_empty() {
                attributes.insert(key.to_owned(), value.clone().into());
            }
        }
        serde_json::json!({
            "Type": self.subject,
            "Action": self.action,
            "Actor": {"ID": self.id, "Attributes": attributes},
            "ID": self.id,
            "Status": self.action,
            "From": self.image,
            "Scope": "local",
            "Time": self.at.map(Timestamp::as_second),
            "TimeNano": self.at.and_then(|at| i64::try_from(at.as_nanosecond()).ok()),
        })
    }

    /// One line, as `docker events` prints them.
    pub(crate) fn line(&self) -> String {
        let mut attributes = Vec::new();
        let mut add = |key: &str, value: String| {
            if !value.is_empty() {
                attributes.push(format!("{key}={}", one_line(&value)));
            }
        };
        if let Some(exit) = &self.exit {
            add("exitCode", exit.code.to_string());
            add("error", exit.error.clone());
        }
        add("image", self.image.clone());
        add("name", if self.names.is_empty() { self.name.clone() } else { self.names.join(",") });
        add("oldName", self.old_name.clone());
        add("cgroup", self.cgroup.clone());
        add("version", self.version.clone());
        let time = self.time.clone().unwrap_or_default();
        let id = if self.id.is_empty() { "hulld" } else { &self.id };
        format!("{time} {} {} {id} ({})", self.subject, self.action, attributes.join(", "))
    }

    /// What happened, in words.
    pub(crate) fn words(&self) -> String {
        match (self.action, &self.exit) {
            ("create", _) => format!("created from {}", one_line(&self.image)),
            ("start", _) if self.pid == 0 => "started; it had ended before an agent saw it".to_owned(),
            ("start", _) => format!("started as process {}", self.pid),
            ("pause", _) => "paused: all its processes were frozen".to_owned(),
            ("unpause", _) => "resumed".to_owned(),
            ("update", _) => "its limits were changed".to_owned(),
            ("rename", _) => format!("renamed from {} to {}", one_line(&self.old_name), one_line(&self.name)),
            ("oom", _) => {
                format!("the kernel killed a process in {} for want of memory", self.cgroup)
            }
            ("die", Some(exit)) if !exit.error.is_empty() => format!("did not run: {}", one_line(&exit.error)),
            ("die", Some(exit)) if exit.signal != 0 => {
                format!("ended by signal {}, exit code {}", signal_name(exit.signal), exit.code)
            }
            ("die", Some(exit)) => format!("ended with exit code {}", exit.code),
            ("destroy", _) => "removed".to_owned(),
            (other, _) => other.to_owned(),
        }
    }
}

/// "SIGKILL", or the number where it has no name.
fn signal_name(number: i32) -> String {
    nix::sys::signal::Signal::try_from(number).map_or_else(|_| number.to_string(), |signal| signal.as_str().to_owned())
}

#[cfg(test)]
mod tests {
    use hull_proto::v1::{ContainerEvent, ExitStatus};

    use super::*;

    fn exited(exit: ExitStatus) -> EventView {
        let told = ContainerEvent {
            id: "ab".into(),
            name: "web".into(),
            image: "demo/x:1".into(),
            exit: Some(exit),
            ..ContainerEvent::default()
        };
        let time = Some(prost_types::Timestamp { seconds: 1, nanos: 2 });
        let subject = Some(Subject::Container(told));
        Event { sequence: 7, time, r#type: EventType::ContainerExited.into(), subject }.into()
    }

    #[test]
    fn lines_are_docker_s() {
        let view = exited(ExitStatus { code: 3, ..ExitStatus::default() });
        assert_eq!(
            view.line(),
            "1970-01-01T00:00:01.000000002Z container die ab (exitCode=3, image=demo/x:1, name=web)"
        );
        let json = serde_json::to_value(&view).unwrap();
        assert_eq!(
            (&json["sequence"], &json["type"], &json["exit"]["code"]),
            (&7.into(), &"container".into(), &3.into())
        );
        assert!(json.get("pid").is_none() && json["exit"]["oomKilled"] == false);
    }

    #[test]
    fn words_say_how_it_ended() {
        let words = |exit| exited(exit).words();
        assert_eq!(
            words(ExitStatus { code: 137, signal: 9, ..ExitStatus::default() }),
            "ended by signal SIGKILL, exit code 137"
        );
        assert_eq!(
            words(ExitStatus { error: "mounting\n/x".into(), ..ExitStatus::default() }),
            "did not run: mounting\\n/x"
        );
    }

    #[test]
    fn filters_choose_types() {
        assert_eq!(event_types(Some("daemon"), None), [EventType::AgentStarted]);
        assert_eq!(event_types(None, Some("start")), [EventType::AgentStarted, EventType::ContainerStarted]);
        assert!(event_types(Some("image"), Some("die")).is_empty());
        assert_eq!(event_types(None, None).len(), NAMES.len());
    }
}
