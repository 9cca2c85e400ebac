//! `ps`.

use std::collections::HashMap;

use hull_proto::v1::{Container, ContainerFilter, ContainerState, ImageConfig, ListContainersRequest};
use jiff::Timestamp;

use super::image;
use crate::cli::{ListFormat, PsFlags};
use crate::client::Client;
use crate::error::{Error, Result};
use crate::output::{self, ContainerView, Table, ago, command_text, moment, short_digest, short_id, status_text};

const PAGE: i32 = 1000;
/// Characters of a command that are shown.
const COMMAND_WIDTH: usize = 20;
/// States in which a container's init is alive or about to be.
const RUNNING: [ContainerState; 4] =
    [ContainerState::Starting, ContainerState::Running, ContainerState::Paused, ContainerState::Stopping];

/// Lists containers.
pub(crate) async fn list(connect: impl Future<Output = Result<Client>>, flags: PsFlags) -> Result<u8> {
    let last = if flags.latest { Some(1) } else { flags.last };
    let mut filter = filter(&flags.filters)?;
    if filter.states.is_empty() && !flags.all && last.is_none() {
        filter.states = RUNNING.map(i32::from).to_vec();
    }
    let last = last.map_or(usize::MAX, |last| usize::try_from(last).unwrap_or(usize::MAX));
    let client = connect.await?;
    let containers = pages(&client, filter, last).await?;
    if flags.quiet {
        let id = |container: &Container| shown_id(container, flags.no_trunc);
        let ids: Vec<String> = containers.iter().map(id).collect();
        return if ids.is_empty() { Ok(0) } else { output::line(&ids.join("\n")).map(|()| 0) };
    }
    match flags.output.output.data() {
        Some(format) => {
            let views: Vec<ContainerView> = containers.into_iter().map(ContainerView::from).collect();
            output::data(format, &views)?;
        }
        None => {
            // The commands that images bring along are not in the records. A list without them is better than none.
            let images =
                if containers.is_empty() { Vec::new() } else { image::pages(&client, "").await.unwrap_or_default() };
            let configs = images.into_iter().filter_map(|image| Some((image.digest, image.config?))).collect();
            table(&containers, &configs, flags.output.output == ListFormat::Wide, flags.no_trunc).print()?;
        }
    }
    Ok(0)
}

/// At most `last` containers that fit the filter, newest first.
async fn pages(client: &Client, filter: ContainerFilter, last: usize) -> Result<Vec<Container>> {
    let mut containers = Vec::new();
    let mut page_token = String::new();
    loop {
        let missing = i32::try_from(last - containers.len()).unwrap_or(PAGE);
        let request = ListContainersRequest { filter: Some(filter.clone()), page_size: missing.min(PAGE), page_token };
        let page = client.containers().list_containers(request).await?.into_inner();
        containers.extend(page.containers);
        page_token = page.next_page_token;
        if page_token.is_empty() || containers.len() >= last {
            containers.truncate(last);
            return Ok(containers);
        }
    }
}

fn table(containers: &[Container], images: &HashMap<String, ImageConfig>, wide: bool, whole: bool) -> Table {
    let mut headings = vec!["CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "NAME"];
    if wide {
        headings.extend(["PID", "DIGEST", "CGROUP"]);
    }
    let mut table = Table::new(&headings);
    let now = Timestamp::now();
    for container in containers {
        let config = container.config.clone().unwrap_or_default();
        let width = if whole { usize::MAX } else { COMMAND_WIDTH };
        let mut cells = vec![
            shown_id(container, whole),
            config.image.clone(),
            command_text(&config, images.get(&container.image_digest), width),
            format!("{} ago", ago(moment(container.created_at.as_ref()), now)),
            status_text(container, now),
            container.name.clone(),
        ];
        if wide {
            let pid = if container.pid == 0 { "-".to_owned() } else { container.pid.to_string() };
            let digest = if whole { &container.image_digest } else { short_digest(&container.image_digest) };
            cells.extend([pid, digest.to_owned(), container.cgroup_path.clone()]);
        }
        table.row(cells);
    }
    table
}

fn shown_id(container: &Container, whole: bool) -> String {
    if whole { container.id.clone() } else { short_id(&container.id).to_owned() }
}

/// Conditions: several states are any of them, several labels all of them; the rest come once.
fn filter(conditions: &[String]) -> Result<ContainerFilter> {
    let mut filter = ContainerFilter::default();
    for condition in conditions {
        let wrong = |problem: &str| Error::new(format!("--filter {condition}: {problem}"));
        let Some((key, value)) = condition.split_once('=').filter(|(_, value)| !value.is_empty()) else {
            return Err(wrong("expected KEY=VALUE"));
        };
        let once = match key {
            "status" => {
                let state = state(value).ok_or_else(|| wrong("no such state"))?;
                filter.states.push(state.into());
                continue;
            }
            "label" => {
                let (label, value) = value.split_once('=').unwrap_or((value, ""));
                filter.labels.insert(label.to_owned(), value.to_owned());
                continue;
            }
            "name" => &mut filter.name,
            "id" => &mut filter.id,
            "ancestor" => &mut filter.image,
            _ => return Err(wrong("not known; status, label, name, id and ancestor are")),
        };
        if !once.is_empty() {
            return Err(wrong("was given before"));
        }
        value.clone_into(once);
    }
    Ok(filter)
}

fn state(name: &str) -> Option<ContainerState> {
    ContainerState::from_str_name(&format!("CONTAINER_STATE_{}", name.to_ascii_uppercase()))
        .filter(|state| *state != ContainerState::Unspecified)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conditions(conditions: &[&str]) -> Result<ContainerFilter> {
        filter(&conditions.iter().map(|&condition| condition.to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn filters() {
        let given = ["status=running", "status=exited", "label=a", "label=b=c=d", "name=web", "ancestor=demo/x:1"];
        let got = conditions(&given).unwrap();
        assert_eq!(got.states, [ContainerState::Running, ContainerState::Exited].map(i32::from));
        assert_eq!((got.labels["a"].as_str(), got.labels["b"].as_str()), ("", "c=d"));
        assert_eq!((got.name.as_str(), got.image.as_str()), ("web", "demo/x:1"));
    }

    #[test]
    fn unknown_filters_are_refused() {
        for wrong in ["status=unspecified", "status=frozen", "volume=x", "name", "name=", "=x"] {
            assert!(conditions(&[wrong]).is_err(), "{wrong}");
        }
        assert!(conditions(&["name=a", "name=b"]).unwrap_err().to_string().contains("before"));
    }

    #[test]
    fn a_row_per_container() {
        let id = "0123456789abcdef".repeat(4);
        let name = "web".to_owned();
        let container = Container { id, name, pid: 7, image_digest: "sha256:ab".into(), ..Container::default() };
        let lines: Vec<String> = table(&[container], &HashMap::new(), true, false).lines().collect();
        assert!(lines[0].starts_with("CONTAINER ID") && lines[0].ends_with("CGROUP"));
        assert!(lines[1].starts_with("0123456789ab   ") && lines[1].contains("web") && lines[1].contains("ab"));
    }
}
