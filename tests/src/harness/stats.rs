//! Statistics as a test asks for them.

use std::fs;

use hull_proto::v1::{
    ContainerStats, GetStatsRequest, StatsGroup, StatsSelector, StreamStatsRequest, StreamStatsResponse,
};
use tonic::Streaming;

use super::{Agent, Clients, Session, wait};

/// Chosen containers.
pub fn select(containers: &[&str]) -> Option<StatsSelector> {
    Some(StatsSelector { containers: containers.iter().map(|id| (*id).to_owned()).collect(), ..Default::default() })
}

/// Numbers of groups.
pub fn groups(groups: &[StatsGroup]) -> Vec<i32> {
    groups.iter().map(|group| i32::from(*group)).collect()
}

/// What one container uses now.
///
/// # Panics
/// If the agent does not tell of it.
pub async fn stats(hull: &Session, id: &str) -> ContainerStats {
    let request = GetStatsRequest { selector: select(&[id]), ..Default::default() };
    let answer = wait::within("GetStats", hull.clients.stats.clone().get_stats(request)).await.expect("GetStats");
    let mut all = answer.into_inner().stats;
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0)
}

/// A stream of frames.
///
/// # Panics
/// If the agent refuses.
pub async fn stream(clients: &Clients, request: StreamStatsRequest) -> Streaming<StreamStatsResponse> {
    wait::within("StreamStats", clients.stats.clone().stream_stats(request)).await.expect("StreamStats").into_inner()
}

/// The next frame.
///
/// # Panics
/// If the stream ends instead.
pub async fn frame(stream: &mut Streaming<StreamStatsResponse>) -> StreamStatsResponse {
    wait::within("a frame", stream.message()).await.expect("a frame").expect("the stream goes on")
}

/// How many descriptors an agent has of files that statistics are read from.
pub fn kept_files(agent: &Agent) -> usize {
    let links = fs::read_dir(format!("/proc/{}/fd", agent.pid())).into_iter().flatten().flatten();
    let targets = links.filter_map(|link| fs::read_link(link.path()).ok());
    // The agent's own groups are not below its parent group, so that what it has open there is its containers'.
    targets
        .filter(|target| {
            let text = target.to_string_lossy();
            (text.contains("/cgroup/") && text.contains(agent.cgroup())) || text.ends_with("/net/dev")
        })
        .count()
}
