//! Containers.

use std::collections::BTreeMap;

use hull_proto::v1::{self, Container, ContainerState};
use jiff::Timestamp;
use serde::Serialize;

use super::human::ago;
use super::run::{ExitView, StepView};
use super::time::moment;

mod config;

use config::ConfigView;

/// A container, with the field names of protobuf's JSON mapping.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ContainerView {
    id: String,
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    config: Option<ConfigView>,
    image_digest: String,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    created_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    started_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exit: Option<ExitView>,
    pid: i32,
    log_path: String,
    cgroup_path: String,
    userns_base: u32,
    start_steps: Vec<StepView>,
    generation: u64,
    /// The runtime spec as an object; of `inspect` alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    runtime_spec: Option<serde_json::Value>,
}

impl From<Container> for ContainerView {
    fn from(container: Container) -> Self {
        Self {
            state: container.state().as_str_name(),
            created_at: moment(container.created_at.as_ref()),
            started_at: moment(container.started_at.as_ref()),
            id: container.id,
            name: container.name,
            config: container.config.map(ConfigView::from),
            image_digest: container.image_digest,
            exit: container.exit.map(ExitView::from),
            pid: container.pid,
            log_path: container.log_path,
            cgroup_path: container.cgroup_path,
            userns_base: container.userns_base,
            start_steps: container.start_steps.into_iter().map(StepView::from).collect(),
            generation: container.generation,
            runtime_spec: None,
        }
    }
}

impl ContainerView {
    /// With the runtime spec of its last start; a spec that is no JSON is shown as the text that it is.
    pub(crate) fn with_runtime_spec(mut self, json: &str) -> Self {
        if !json.is_empty() {
            self.runtime_spec = Some(serde_json::from_str(json).unwrap_or_else(|_| json.into()));
        }
        self
    }
}

/// "Up 3 minutes", "Exited (0) 2 hours ago".
pub(crate) fn status_text(container: &Container, now: Timestamp) -> String {
    let up = || format!("Up {}", lower(&ago(moment(container.started_at.as_ref()), now)));
    match container.state() {
        ContainerState::Unspecified => "Unknown".to_owned(),
        ContainerState::Created => "Created".to_owned(),
        ContainerState::Starting => "Starting".to_owned(),
        ContainerState::Running => up(),
        ContainerState::Paused => format!("{} (Paused)", up()),
        ContainerState::Stopping => format!("{} (Stopping)", up()),
        ContainerState::Removing => "Removing".to_owned(),
        ContainerState::Exited => {
            let exit = container.exit.clone().unwrap_or_default();
            let since = lower(&ago(moment(exit.finished_at.as_ref()), now));
            let oom = if exit.oom_killed { ", out of memory" } else { "" };
            format!("Exited ({}{oom}) {since} ago", exit.code)
        }
    }
}

fn lower(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_lowercase().chain(chars).collect()).unwrap_or_default()
}

/// What a container runs, its image's part included, in double quotes; at most `width` characters.
pub(crate) fn command_text(config: &v1::ContainerConfig, image: Option<&v1::ImageConfig>, width: usize) -> String {
    let own_program = !config.entrypoint.is_empty();
    let entrypoint = match image {
        _ if own_program || config.clear_entrypoint => &config.entrypoint[..],
        image => image.map_or(&[][..], |image| &image.entrypoint),
    };
    let args = match image {
        Some(image) if config.args.is_empty() && !own_program => &image.cmd[..],
        _ => &config.args[..],
    };
    let words: Vec<&str> = entrypoint.iter().chain(args).map(String::as_str).collect();
    let text = words.join(" ");
    if text.chars().count() <= width {
        return format!("\"{text}\"");
    }
    let cut: String = text.chars().take(width.saturating_sub(1)).collect();
    format!("\"{cut}…\"")
}

/// Entries in the order of their keys, so that an answer is the same each time.
fn sorted(map: std::collections::HashMap<String, String>) -> BTreeMap<String, String> {
    map.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(state: ContainerState) -> Container {
        let at = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
        let exit = Some(v1::ExitStatus { code: 137, finished_at: at(2000), ..Default::default() });
        Container { state: state.into(), started_at: at(1000), exit, ..Container::default() }
    }

    #[test]
    fn states_as_people_read_them() {
        let now = Timestamp::new(9200, 0).unwrap();
        let text = |state| status_text(&container(state), now);
        assert_eq!(text(ContainerState::Running), "Up 2 hours");
        assert_eq!(text(ContainerState::Paused), "Up 2 hours (Paused)");
        assert_eq!(text(ContainerState::Exited), "Exited (137) 2 hours ago");
        assert_eq!(text(ContainerState::Created), "Created");
        let soon = status_text(&container(ContainerState::Running), Timestamp::new(1000, 0).unwrap());
        assert_eq!(soon, "Up less than a second");
    }

    #[test]
    fn commands_are_completed_from_the_image() {
        let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
        let image = v1::ImageConfig { entrypoint: words(&["/init"]), cmd: words(&["serve"]), ..Default::default() };
        let text = |entrypoint: &[&str], args: &[&str], clear_entrypoint: bool| {
            let (entrypoint, args) = (words(entrypoint), words(args));
            let config = v1::ContainerConfig { entrypoint, args, clear_entrypoint, ..Default::default() };
            command_text(&config, Some(&image), 20)
        };
        assert_eq!(text(&[], &[], false), "\"/init serve\"");
        assert_eq!(text(&[], &["x"], false), "\"/init x\"");
        assert_eq!(text(&["/a"], &[], false), "\"/a\"");
        assert_eq!(text(&[], &[], true), "\"serve\"");
        assert_eq!(text(&["/a"], &["0123456789abcdefghij"], false), "\"/a 0123456789abcdef…\"");
    }

    #[test]
    fn json_has_the_names_of_the_api() {
        let json =
            serde_json::to_value(ContainerView::from(container(ContainerState::Exited)).with_runtime_spec("{\"a\":1}"));
        let json = json.unwrap();
        assert_eq!(json["state"], "CONTAINER_STATE_EXITED");
        assert_eq!(json["startedAt"], "1970-01-01T00:16:40Z");
        assert_eq!(json["exit"]["finishedAt"], "1970-01-01T00:33:20Z");
        assert_eq!(json["runtimeSpec"]["a"], 1);
        assert!(json.get("createdAt").is_none());
    }
}
