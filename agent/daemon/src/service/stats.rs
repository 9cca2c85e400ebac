//! StatsService.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use hull_proto::rendered_v1::stats_service_server::StatsService;
use hull_proto::{RenderedStats, v1};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::Edge;
use super::convert::{stats as render, time};
use super::status::shutting_down;
use crate::error::{Error, Reason, Result};
use crate::stats::{Frame, Groups, Reading, Sample, Selector, Subscription};

/// Time between frames where the request does not say.
const DEFAULT_INTERVAL: Duration = Duration::from_secs(1);
/// Least and most time between frames.
const INTERVALS: std::ops::RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(3600);
/// Most containers that one request names.
const MAX_CONTAINERS: usize = 10_000;
/// Frames that wait for a slow client; what it misses beyond is counted, not kept.
const QUEUE: usize = 1;

#[tonic::async_trait]
impl StatsService for Edge {
    type StreamStatsStream = ReceiverStream<Result<RenderedStats, Status>>;

    async fn get_stats(&self, request: Request<v1::GetStatsRequest>) -> Result<Response<v1::GetStatsResponse>, Status> {
        let request = request.into_inner();
        let groups = render::groups(&request.groups)?;
        let selector = self.selector(request.selector.unwrap_or_default())?;
        let reading = self.stats.read(&selector, groups, Duration::ZERO).await?;
        let stats = reading.samples.iter().map(|sample| render::sample(sample, groups)).collect();
        let node = reading.node.as_deref().map(render::node);
        Ok(Response::new(v1::GetStatsResponse { stats, node }))
    }

    async fn stream_stats(
        &self,
        request: Request<v1::StreamStatsRequest>,
    ) -> Result<Response<Self::StreamStatsStream>, Status> {
        let request = request.into_inner();
        let interval = interval(request.interval)?;
        let selector = self.selector(request.selector.unwrap_or_default())?;
        let groups = render::groups(&request.groups)?;
        let subscription = self.stats.subscribe(selector, groups, interval)?;
        let (answers, stream) = mpsc::channel(QUEUE);
        tokio::spawn(push(subscription, Renderer::new(groups, request.deltas), answers));
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

impl Edge {
    /// Resolves references to ids.
    fn selector(&self, selector: v1::StatsSelector) -> Result<Selector> {
        if selector.containers.len() > MAX_CONTAINERS {
            let problem = format!("selector.containers: more than {MAX_CONTAINERS} are named");
            return Err(Error::new(Reason::LimitExceeded, problem));
        }
        let id = |reference: &String| self.containers.get(reference).map(|view| view.id.clone());
        let ids: BTreeSet<_> = selector.containers.iter().map(id).collect::<Result<_>>()?;
        let labels: HashMap<_, _> = selector.labels;
        Ok(Selector { ids, labels: labels.into_iter().collect() })
    }
}

fn interval(given: Option<prost_types::Duration>) -> Result<Duration> {
    match time::optional_duration("interval", given)? {
        None => Ok(DEFAULT_INTERVAL),
        Some(interval) if INTERVALS.contains(&interval) => Ok(interval),
        Some(_) => Err(Error::invalid("interval", "must be between 100 ms and 1 h")),
    }
}

/// Passes frames on until the client is gone or the hub is closed for the agent's end.
async fn push(
    mut subscription: Subscription,
    mut renderer: Renderer,
    answers: mpsc::Sender<Result<RenderedStats, Status>>,
) {
    loop {
        // Room first, then the newest frame: what came meanwhile is counted as missed.
        let Ok(room) = answers.reserve().await else { return };
        let frame = tokio::select! {
            frame = subscription.next() => frame,
            () = answers.closed() => return,
        };
        match frame {
            Some(frame) => room.send(Ok(renderer.render(frame))),
            None => {
                room.send(Err(shutting_down().into()));
                return;
            }
        }
    }
}

/// Makes answers of frames.
#[derive(Debug)]
struct Renderer {
    groups: Groups,
    /// For deltas: the reading of the frame before.
    before: Option<Arc<Reading>>,
    deltas: bool,
}

impl Renderer {
    fn new(groups: Groups, deltas: bool) -> Self {
        Self { groups, before: None, deltas }
    }

    fn render(&mut self, frame: Frame) -> RenderedStats {
        let Frame { reading, missed, started, stopped } = frame;
        let ids = |ids: Vec<Arc<str>>| ids.iter().map(|id| id.to_string()).collect();
        let rest =
            v1::StreamStatsResponse { missed, started: ids(started), stopped: ids(stopped), ..Default::default() };
        if self.deltas {
            let rest =
                v1::StreamStatsResponse { stats: self.growth(&reading), node: self.node_growth(&reading), ..rest };
            self.before = Some(reading);
            return RenderedStats { rest, ..RenderedStats::default() };
        }
        let all = || RenderedStats::samples(reading.samples.iter().map(|sample| render::sample(sample, self.groups)));
        let node = reading.node.as_deref().map(render::node);
        RenderedStats { samples: reading.rendered(all), rest: v1::StreamStatsResponse { node, ..rest } }
    }

    fn growth(&self, reading: &Reading) -> Vec<v1::ContainerStats> {
        let sample = |sample: &Arc<Sample>| {
            let before = self.before.as_ref().and_then(|before| before.of_run(&sample.identity.id, sample.run));
            match before {
                Some(before) => render::growth(sample, before, self.groups),
                None => render::sample(sample, self.groups),
            }
        };
        reading.samples.iter().map(sample).collect()
    }

    fn node_growth(&self, reading: &Reading) -> Option<v1::NodeStats> {
        let node = reading.node.as_deref()?;
        let before = self.before.as_ref().and_then(|before| before.node.as_deref());
        Some(before.map_or_else(|| render::node(node), |before| render::node_growth(node, before)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_bounded() {
        let given = |seconds, nanos| interval(Some(prost_types::Duration { seconds, nanos }));
        assert_eq!(interval(None), Ok(DEFAULT_INTERVAL));
        assert_eq!(given(0, 100_000_000), Ok(Duration::from_millis(100)));
        assert_eq!(given(3600, 0), Ok(Duration::from_secs(3600)));
        for wrong in [given(0, 0), given(0, 99_999_999), given(3600, 1), given(-1, 0)] {
            assert!(wrong.unwrap_err().message.starts_with("interval: "));
        }
    }
}
