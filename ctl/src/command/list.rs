//! `ps`.

use std::collections::HashMap;

use hull_proto::v1::{
    Container, ContainerFilter, ContainerState, GetDiskUsageRequest, ImageConfig, ListContainersRequest,
};
use jiff::Timestamp;

use super::filter::ContainerConditions;
use super::image;
use crate::cli::PsFlags;
use crate::client::Client;
use crate::error::Result;
use crate::output::docker::{CONTAINER, ContainerRow};
use crate::output::{
    self, Cell, ContainerView, ListShape, Style, Table, ago, bytes_decimal, moment, short_digest, status_text,
};

const PAGE: i32 = 1000;
/// Characters of a command that are shown.
const COMMAND_WIDTH: usize = 20;
/// Columns that give way on a narrow terminal, the first one first.
const GIVING_WAY: [&str; 7] = ["CGROUP", "COMMAND", "IMAGE", "STATUS", "CREATED", "SIZE", "NAME"];
/// States in which a container's init is alive or about to be.
const RUNNING: [ContainerState; 4] =
    [ContainerState::Starting, ContainerState::Running, ContainerState::Paused, ContainerState::Stopping];

/// Lists containers.
pub(crate) async fn list(connect: impl Future<Output = Result<Client>>, flags: PsFlags) -> Result<u8> {
    let last = if flags.latest { Some(1) } else { flags.last };
    let shape = ListShape::of(&flags.output)?;
    let mut conditions = ContainerConditions::parse(&flags.filters)?;
    if conditions.agent.states.is_empty() && !flags.all && !conditions.want_ended() && last.is_none() {
        conditions.agent.states = RUNNING.map(i32::from).to_vec();
    }
    let last = last.map_or(usize::MAX, |last| usize::try_from(last).unwrap_or(usize::MAX));
    let client = connect.await?;
    let containers = fitting(&client, &conditions, last).await?;
    let shown = Shown { flags: &flags, client: &client, containers: &containers };
    if flags.quiet {
        let id = |container: &Container| shown.row(container).id().to_owned();
        return print_lines(&containers.iter().map(id).collect::<Vec<_>>());
    }
    match shape {
        ListShape::Names => {
            return print_lines(&containers.iter().map(|container| container.name.clone()).collect::<Vec<_>>());
        }
        ListShape::Data(format) => {
            let views: Vec<ContainerView> = containers.into_iter().map(ContainerView::from).collect();
            output::data(format, &views)?;
        }
        ListShape::Template(template) => {
            let details = shown.details(template.mentions("Command"), flags.size || template.mentions("Size")).await?;
            let now = Timestamp::now();
            let rows = containers.iter().map(|container| shown.detailed(container, &details).fields(now));
            template.print(CONTAINER, rows)?;
        }
        ListShape::Table { wide } => {
            let details = shown.details(true, flags.size).await?;
            let rows: Vec<ContainerRow> =
                containers.iter().map(|container| shown.detailed(container, &details)).collect();
            table(&rows, wide, flags.no_trunc).print()?;
        }
    }
    Ok(0)
}

/// Prints lines, and nothing where there is none.
pub(super) fn print_lines(lines: &[String]) -> Result<u8> {
    if lines.is_empty() { Ok(0) } else { output::line(&lines.join("\n")).map(|()| 0) }
}

/// What is to be shown of which containers.
#[derive(Debug)]
struct Shown<'a> {
    flags: &'a PsFlags,
    client: &'a Client,
    containers: &'a [Container],
}

/// What is not in the containers' records: configurations of images, and what the writable layers take.
#[derive(Debug, Default)]
struct Details {
    images: HashMap<String, (ImageConfig, u64)>,
    sizes: HashMap<String, Option<u64>>,
    with_sizes: bool,
}

impl Shown<'_> {
    async fn details(&self, commands: bool, sizes: bool) -> Result<Details> {
        let mut details = Details { with_sizes: sizes, ..Details::default() };
        if self.containers.is_empty() {
            return Ok(details);
        }
        if commands || sizes {
            // A list without them is better than none.
            let images = image::pages(self.client, "").await.unwrap_or_default();
            details.images = images
                .into_iter()
                .map(|image| (image.digest, (image.config.unwrap_or_default(), image.size)))
                .collect();
        }
        if sizes {
            let usage = self.client.node().get_disk_usage(GetDiskUsageRequest {}).await?.into_inner();
            let size =
                |usage: hull_proto::v1::ContainerDiskUsage| (usage.id, usage.measured_at.map(|_| usage.writable_bytes));
            details.sizes = usage.container.into_iter().map(size).collect();
        }
        Ok(details)
    }

    fn row<'c>(&self, container: &'c Container) -> ContainerRow<'c> {
        let whole = self.flags.no_trunc;
        ContainerRow { container, image: None, size: None, whole, command_width: COMMAND_WIDTH }
    }

    fn detailed<'c>(&self, container: &'c Container, details: &'c Details) -> ContainerRow<'c> {
        let image = details.images.get(&container.image_digest);
        let size = details.with_sizes.then(|| {
            let own = details.sizes.get(&container.id).copied().flatten();
            size_text(own, image.map(|(_, size)| *size))
        });
        ContainerRow { image: image.map(|(config, _)| config), size, ..self.row(container) }
    }
}

/// What a container takes alone, and with its image, as Docker says it; the first is measured only now and then.
fn size_text(own: Option<u64>, image: Option<u64>) -> String {
    let Some(own) = own else { return "not yet measured".to_owned() };
    match image {
        Some(image) => format!("{} (virtual {})", bytes_decimal(own), bytes_decimal(own.saturating_add(image))),
        None => bytes_decimal(own),
    }
}

/// At most `last` containers that fit the conditions, newest first.
async fn fitting(client: &Client, conditions: &ContainerConditions, last: usize) -> Result<Vec<Container>> {
    if conditions.are_the_agents() {
        return pages(client, conditions.agent.clone(), last).await;
    }
    let mut containers = pages(client, conditions.agent.clone(), usize::MAX).await?;
    conditions.narrow(client, &mut containers).await?;
    containers.truncate(last);
    Ok(containers)
}

/// At most `last` containers that fit the filter, newest first.
pub(crate) async fn pages(client: &Client, filter: ContainerFilter, last: usize) -> Result<Vec<Container>> {
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

fn table(rows: &[ContainerRow], wide: bool, whole: bool) -> Table {
    let sizes = rows.iter().any(|row| row.size.is_some());
    let mut headings = vec!["CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "NAME"];
    if sizes {
        headings.push("SIZE");
    }
    if wide {
        headings.extend(["PID", "DIGEST", "CGROUP"]);
    }
    let mut table = Table::new(&headings);
    if !whole {
        table = table.fitting(&GIVING_WAY);
    }
    let now = Timestamp::now();
    for row in rows {
        let container = row.container;
        let image = container.config.as_ref().map(|config| config.image.clone()).unwrap_or_default();
        let created = format!("{} ago", ago(moment(container.created_at.as_ref()), now));
        let status = Cell::styled(status_text(container, now), style(container));
        let mut cells: Vec<Cell> =
            vec![row.id().to_owned().into(), image.into(), row.command().into(), created.into(), status];
        cells.push(container.name.clone().into());
        if sizes {
            cells.push(row.size.clone().unwrap_or_default().into());
        }
        if wide {
            let pid = if container.pid == 0 { "-".to_owned() } else { container.pid.to_string() };
            let digest = if whole { &container.image_digest } else { short_digest(&container.image_digest) };
            cells.extend([pid, digest.to_owned(), container.cgroup_path.clone()].map(Cell::from));
        }
        table.row(cells);
    }
    table
}

/// What a container's state is to a reader.
pub(super) fn style(container: &Container) -> Option<Style> {
    match container.state() {
        ContainerState::Running => Some(Style::Good),
        ContainerState::Starting | ContainerState::Paused | ContainerState::Stopping | ContainerState::Removing => {
            Some(Style::Waiting)
        }
        ContainerState::Exited if container.exit.as_ref().is_some_and(|exit| exit.code != 0) => Some(Style::Bad),
        ContainerState::Exited | ContainerState::Created | ContainerState::Unspecified => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_per_container() {
        let id = "0123456789abcdef".repeat(4);
        let name = "web".to_owned();
        let container = Container { id, name, pid: 7, image_digest: "sha256:ab".into(), ..Container::default() };
        let row = ContainerRow { container: &container, image: None, size: None, whole: false, command_width: 20 };
        let lines: Vec<String> = table(&[row], true, false).lines().collect();
        assert!(lines[0].starts_with("CONTAINER ID") && lines[0].ends_with("CGROUP"));
        assert!(lines[1].starts_with("0123456789ab   ") && lines[1].contains("web") && lines[1].contains("ab"));
    }

    #[test]
    fn sizes_are_those_that_were_measured() {
        assert_eq!(size_text(Some(1000), Some(2_000_000)), "1kB (virtual 2.001MB)");
        assert_eq!(size_text(Some(1000), None), "1kB");
        assert_eq!(size_text(None, Some(1)), "not yet measured");
    }
}
