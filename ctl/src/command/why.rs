//! `why`: what happened to a container, for somebody who is woken by it.

use std::io::Write as _;

use hull_proto::v1::{Container, ContainerState, GetContainerRequest, StreamEventsRequest, StreamLogsRequest};
use jiff::Timestamp;
use serde::Serialize;

use crate::cli::WhyFlags;
use crate::client::Client;
use crate::error::{Result, one_line};
use crate::output::{self, ContainerView, EventView, ago, bytes, fixed_width, status_text};

/// The same as programs see it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct WhyView {
    /// Absent once it is removed.
    #[serde(skip_serializing_if = "Option::is_none")]
    container: Option<ContainerView>,
    events: Vec<EventView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<&'static str>,
    last_lines: Vec<String>,
}

/// Tells it.
pub(crate) async fn why(client: Client, flags: WhyFlags) -> Result<u8> {
    let request = GetContainerRequest { container: flags.container.clone() };
    let container = match client.containers().get_container(request).await {
        Ok(answer) => answer.into_inner().container,
        // One that is gone still has its events.
        Err(status) if status.code() == tonic::Code::NotFound => None,
        Err(status) => return Err(status.into()),
    };
    let reference = container.as_ref().map_or(flags.container.clone(), |container| container.id.clone());
    let events = events(&client, reference).await?;
    let last_lines = match container.as_ref().filter(|_| flags.lines > 0) {
        Some(container) => log(&client, &container.id, flags.lines).await?,
        None => Vec::new(),
    };
    match flags.output.output {
        Some(format) => {
            let advice = container.as_ref().and_then(advice);
            let container = container.map(ContainerView::from);
            output::data(format, &WhyView { container, events, advice, last_lines })?;
        }
        None => print(&flags, container.as_ref(), &events, &last_lines)?,
    }
    Ok(0)
}

fn print(flags: &WhyFlags, container: Option<&Container>, events: &[EventView], last_lines: &[String]) -> Result<()> {
    let now = Timestamp::now();
    let mut out = output::stdout();
    match container {
        Some(container) => {
            let name = &container.config.clone().unwrap_or_default().name;
            writeln!(out, "{} ({}): {}", one_line(name), output::short_id(&container.id), status_text(container, now))?;
            limits(&mut out, container)?;
        }
        None if events.is_empty() => {
            writeln!(out, "{}: nothing is known of it any more", one_line(&flags.container))?;
        }
        None => writeln!(out, "{}: removed", one_line(&flags.container))?,
    }
    writeln!(out, "\nWhat happened:")?;
    for event in events {
        let at = event.at.map(fixed_width).unwrap_or_default();
        writeln!(out, "  {at}  {:>12} ago  {}", ago(event.at, now), event.words())?;
    }
    if let Some(advice) = container.and_then(advice) {
        writeln!(out, "\n{advice}")?;
    }
    if container.is_some() && flags.lines > 0 {
        let heading = if last_lines.is_empty() { "Its log is empty." } else { "Last lines of its log:" };
        writeln!(out, "\n{heading}")?;
        for line in last_lines {
            writeln!(out, "  {}", one_line(line))?;
        }
    }
    Ok(out.flush()?)
}

async fn events(client: &Client, container: String) -> Result<Vec<EventView>> {
    let request = StreamEventsRequest { containers: vec![container], ..StreamEventsRequest::default() };
    let mut answers = client.events().stream_events(request).await?.into_inner();
    let mut events = Vec::new();
    while let Some(answer) = answers.message().await? {
        events.extend(answer.events.into_iter().map(EventView::from));
    }
    Ok(events)
}

fn limits(out: &mut impl std::io::Write, container: &Container) -> Result<()> {
    let resources = container.config.as_ref().and_then(|config| config.resources.clone()).unwrap_or_default();
    if let Some(limit) = resources.memory_max.and_then(|limit| u64::try_from(limit).ok()) {
        writeln!(out, "memory limit {}", bytes(limit))?;
    }
    if let Some(limit) = resources.pids_max.filter(|limit| *limit > 0) {
        writeln!(out, "limit of processes {limit}")?;
    }
    Ok(())
}

/// What to do about how it ended.
fn advice(container: &Container) -> Option<&'static str> {
    let exit = container.exit.as_ref().filter(|_| container.state() == ContainerState::Exited)?;
    Some(match (exit.oom_killed, exit.code, exit.signal, exit.error.is_empty()) {
        (true, ..) => "It needed more memory than its limit: raise --memory, or look for a leak with `hullctl stats`.",
        (_, 126, _, false) => "Its program could not be executed: is it executable, and built for this architecture?",
        (_, 127, _, false) => "Its program was not found: is the path right, and its interpreter in the image?",
        (_, 255, _, false) => "Nobody saw it end: the node was restarted, or its shim was killed.",
        (_, _, _, false) => "It could not be set up; the line above names the step that failed.",
        (_, 137, 9, _) => "It was killed: by `kill`, `stop` after its grace period, `rm -f`, or from within the node.",
        (_, 139, 11, _) => "It read or wrote memory that is not its own: a defect of the program.",
        (_, 0, ..) => return None,
        _ => "It ended by itself; its own words are below.",
    })
}

async fn log(client: &Client, container: &str, lines: u32) -> Result<Vec<String>> {
    let request =
        StreamLogsRequest { container: container.to_owned(), tail: Some(lines), ..StreamLogsRequest::default() };
    let mut batches = client.containers().stream_logs(request).await?.into_inner();
    let mut last = Vec::new();
    while let Some(batch) = batches.message().await? {
        last.extend(batch.entries.into_iter().map(|entry| String::from_utf8_lossy(&entry.line).into_owned()));
    }
    Ok(last)
}
