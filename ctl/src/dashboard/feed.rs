//! What the agent says, as long as it is there; and when it is not.

use std::collections::BTreeSet;
use std::time::Duration;

use hull_proto::v1::event::Subject;
use hull_proto::v1::{
    Container, ContainerFilter, Event, EventType, GetContainerRequest, GetDiskUsageRequest, GetDiskUsageResponse,
    GetInfoRequest, GetInfoResponse, LogEntry, StatsGroup, StreamEventsRequest, StreamLogsRequest, StreamStatsRequest,
    StreamStatsResponse,
};
use tokio::sync::mpsc::Sender;
use tokio::time::{interval, sleep};

use crate::cli::Connection;
use crate::client::Client;
use crate::command::pages;
use crate::error::{Error, Result};
use crate::output::EventView;

/// Until an agent that is away is asked again.
const AGAIN: Duration = Duration::from_secs(1);
/// How often it is asked what takes the disk.
const DISK: Duration = Duration::from_secs(10);
/// Lines of a log that are shown at first.
const TAIL: u32 = 500;

/// Something to show.
#[derive(Debug)]
pub(super) enum News {
    /// The agent is there.
    Here(Client, Box<GetInfoResponse>),
    /// It is not; why.
    Away(String),
    /// All containers.
    All(Vec<Container>),
    /// One of them changed.
    Changed(Box<Container>),
    /// One of them is no more.
    Gone(String),
    /// What is used now.
    Frame(Box<StreamStatsResponse>),
    /// What takes the disk.
    Disk(Box<GetDiskUsageResponse>),
    /// What a container wrote.
    Log(String, Vec<LogEntry>),
    /// What happened to a container.
    Happened(String, Vec<EventView>),
}

/// Nobody listens any more.
struct Closed;

/// Tells of the node until nobody listens; an agent that goes away is waited for.
pub(super) async fn node(connection: Connection, mut client: Client, pace: prost_types::Duration, news: Sender<News>) {
    loop {
        let ended = match watch(&client, pace, &news).await {
            Ok(Closed) => return,
            Err(error) => error,
        };
        let mut away = News::Away(ended.to_string());
        client = loop {
            if news.send(away).await.is_err() {
                return;
            }
            sleep(AGAIN).await;
            match Client::connect(&connection).await {
                Ok(client) => break client,
                Err(error) => away = News::Away(error.to_string()),
            }
        };
    }
}

async fn watch(client: &Client, pace: prost_types::Duration, news: &Sender<News>) -> Result<Closed> {
    let info = client.node().get_info(GetInfoRequest {}).await?.into_inner();
    // Events first, so that no change falls between them and the list.
    let request = StreamEventsRequest { follow: true, ..StreamEventsRequest::default() };
    let mut events = client.events().stream_events(request).await?.into_inner();
    events.message().await?;
    let containers = pages(client, ContainerFilter::default(), usize::MAX).await?;
    // Everything that the table or the view of one container shows.
    let groups = [
        StatsGroup::Cpu,
        StatsGroup::Memory,
        StatsGroup::Pids,
        StatsGroup::Io,
        StatsGroup::Pressure,
        StatsGroup::Network,
        StatsGroup::WritableLayer,
        StatsGroup::Node,
    ];
    let request = StreamStatsRequest {
        interval: Some(pace),
        groups: groups.map(i32::from).to_vec(),
        ..StreamStatsRequest::default()
    };
    let mut frames = client.stats().stream_stats(request).await?.into_inner();
    let mut disk = interval(DISK);
    for first in [News::Here(client.clone(), Box::new(info)), News::All(containers)] {
        if news.send(first).await.is_err() {
            return Ok(Closed);
        }
    }
    loop {
        let told = tokio::select! {
            frame = frames.message() => {
                let frame = frame?.ok_or_else(ended)?;
                // A container that has ended is told of before its record says so.
                let mut told = current(client, frame.stopped.iter().cloned().collect()).await?;
                told.insert(0, News::Frame(Box::new(frame)));
                told
            }
            answer = events.message() => changes(client, answer?.ok_or_else(ended)?.events).await?,
            _ = disk.tick() => {
                vec![News::Disk(Box::new(client.node().get_disk_usage(GetDiskUsageRequest {}).await?.into_inner()))]
            }
        };
        for one in told {
            if news.send(one).await.is_err() {
                return Ok(Closed);
            }
        }
    }
}

fn ended() -> Error {
    Error::new("the agent ended the call")
}

/// The containers that events are about, as they are now.
async fn changes(client: &Client, events: Vec<Event>) -> Result<Vec<News>> {
    let mut ids = BTreeSet::new();
    let mut changes = Vec::new();
    for event in events {
        let removed = event.r#type() == EventType::ContainerRemoved;
        match event.subject {
            Some(Subject::Container(container)) if removed => {
                ids.remove(&container.id);
                changes.push(News::Gone(container.id));
            }
            Some(Subject::Container(container)) => {
                ids.insert(container.id);
            }
            _ => {}
        }
    }
    changes.extend(current(client, ids).await?);
    Ok(changes)
}

/// Containers as they are now.
async fn current(client: &Client, ids: BTreeSet<String>) -> Result<Vec<News>> {
    let mut changes = Vec::new();
    for id in ids {
        match client.containers().get_container(GetContainerRequest { container: id.clone() }).await {
            Ok(answer) => changes.extend(answer.into_inner().container.map(|now| News::Changed(Box::new(now)))),
            Err(status) if status.code() == tonic::Code::NotFound => changes.push(News::Gone(id)),
            Err(status) => return Err(status.into()),
        }
    }
    Ok(changes)
}

/// Tells what a container wrote last and writes, until it ends for good. An agent that goes away is told by [`node`].
pub(super) async fn log(client: Client, id: String, news: Sender<News>) {
    let request =
        StreamLogsRequest { container: id.clone(), follow: true, tail: Some(TAIL), ..StreamLogsRequest::default() };
    let Ok(batches) = client.containers().stream_logs(request).await else { return };
    let mut batches = batches.into_inner();
    while let Ok(Some(batch)) = batches.message().await {
        if news.send(News::Log(id.clone(), batch.entries)).await.is_err() {
            return;
        }
    }
}

/// Tells what happened to a container, and what happens.
pub(super) async fn happenings(client: Client, id: String, news: Sender<News>) {
    let request = StreamEventsRequest {
        after_sequence: Some(0),
        follow: true,
        containers: vec![id.clone()],
        ..StreamEventsRequest::default()
    };
    let Ok(answers) = client.events().stream_events(request).await else { return };
    let mut answers = answers.into_inner();
    while let Ok(Some(answer)) = answers.message().await {
        let events: Vec<EventView> = answer.events.into_iter().map(EventView::from).collect();
        if !events.is_empty() && news.send(News::Happened(id.clone(), events)).await.is_err() {
            return;
        }
    }
}
