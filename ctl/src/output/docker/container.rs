//! A row of `ps`.

use std::collections::HashMap;

use hull_proto::v1::{self, Container, ContainerState, NamespaceMode};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::local;
use crate::output::template::{Fields, LABELS};
use crate::output::{ago, command_text, moment, short_id, status_text};

/// Fields of a row of `ps`.
pub(crate) const CONTAINER: Fields = &[
    ("ID", "CONTAINER ID"),
    ("Image", "IMAGE"),
    ("Command", "COMMAND"),
    ("CreatedAt", "CREATED AT"),
    ("RunningFor", "CREATED"),
    ("Status", "STATUS"),
    ("State", "STATE"),
    ("Names", "NAMES"),
    ("Labels", "LABELS"),
    ("Mounts", "MOUNTS"),
    ("Networks", "NETWORKS"),
    ("Ports", "PORTS"),
    ("LocalVolumes", "LOCAL VOLUMES"),
    ("Size", "SIZE"),
    ("Pid", "PID"),
];

/// A container in a list, with what is shown of it.
#[derive(Debug)]
pub(crate) struct ContainerRow<'a> {
    pub(crate) container: &'a Container,
    pub(crate) image: Option<&'a v1::ImageConfig>,
    /// Bytes of its writable layer and of its image, where they were asked for.
    pub(crate) size: Option<String>,
    pub(crate) whole: bool,
    /// Characters of the command that are shown.
    pub(crate) command_width: usize,
}

impl ContainerRow<'_> {
    /// The id, whole or not.
    pub(crate) fn id(&self) -> &str {
        if self.whole { &self.container.id } else { short_id(&self.container.id) }
    }

    /// Program and arguments.
    pub(crate) fn command(&self) -> String {
        let config = self.container.config.clone().unwrap_or_default();
        command_text(&config, self.image, if self.whole { usize::MAX } else { self.command_width })
    }

    /// The row with Docker's names.
    pub(crate) fn fields(&self, now: Timestamp) -> Value {
        let container = self.container;
        let config = container.config.clone().unwrap_or_default();
        let created = moment(container.created_at.as_ref());
        let network = config.namespaces.as_ref().and_then(|namespaces| namespaces.network.as_ref());
        json!({
            "ID": self.id(),
            "Image": config.image,
            "Command": self.command(),
            "CreatedAt": local(created),
            "RunningFor": format!("{} ago", ago(created, now)),
            "Status": status_text(container, now),
            "State": state_word(container.state()),
            "Names": container.name,
            "Labels": labels_text(&config.labels),
            LABELS: config.labels,
            "Mounts": config.mounts.iter().map(mount_name).collect::<Vec<_>>().join(","),
            "Networks": network_name(network),
            "Ports": "",
            "LocalVolumes": "0",
            "Size": self.size.as_deref().unwrap_or_default(),
            "Pid": container.pid,
        })
    }
}

/// A state in Docker's words. Those that hull alone tells apart are what a container in them is to Docker.
pub(super) fn state_word(state: ContainerState) -> &'static str {
    match state {
        ContainerState::Unspecified => "unknown",
        ContainerState::Created | ContainerState::Starting => "created",
        ContainerState::Running | ContainerState::Stopping => "running",
        ContainerState::Paused => "paused",
        ContainerState::Exited => "exited",
        ContainerState::Removing => "removing",
    }
}

/// "KEY=VALUE" with commas between, in the order of the keys.
fn labels_text(labels: &HashMap<String, String>) -> String {
    let mut labels: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    labels.sort();
    labels.join(",")
}

fn mount_name(mount: &v1::Mount) -> &str {
    if mount.source.is_empty() { &mount.target } else { &mount.source }
}

/// The network that a container has, as `--network` says it.
pub(crate) fn network_name(network: Option<&v1::Namespace>) -> String {
    match network.map(|network| (network.mode(), &network.container)) {
        Some((NamespaceMode::Host, _)) => "host".to_owned(),
        Some((NamespaceMode::Container, other)) => format!("container:{other}"),
        _ => "none".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_the_fields_that_are_documented() {
        let config = v1::ContainerConfig {
            labels: HashMap::from([("b".into(), "2".into()), ("a".into(), "1".into())]),
            ..Default::default()
        };
        let container = Container {
            id: "0123456789abcdef".repeat(4),
            config: Some(config),
            state: ContainerState::Stopping.into(),
            ..Container::default()
        };
        let row = ContainerRow { container: &container, image: None, size: None, whole: false, command_width: 20 };
        let fields = row.fields(Timestamp::UNIX_EPOCH);
        for (field, _) in CONTAINER {
            assert!(fields.get(field).is_some(), "{field}");
        }
        assert_eq!(fields.as_object().unwrap().len(), CONTAINER.len() + 1);
        assert_eq!((&fields["ID"], &fields["Labels"]), (&json!("0123456789ab"), &json!("a=1,b=2")));
        assert_eq!((&fields["State"], &fields["Networks"]), (&json!("running"), &json!("none")));
    }
}
