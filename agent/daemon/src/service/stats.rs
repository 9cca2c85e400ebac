//! StatsService.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use hull_proto::v1;
use hull_proto::v1::stats_service_server::StatsService;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::Edge;
use super::convert::{stats as render, time};
use super::status::shutting_down;
use crate::error::{Error, Reason, Result};
use crate::stats::{Selector, Subscription};

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
    type StreamStatsStream = ReceiverStream<Result<v1::StreamStatsResponse, Status>>;

    async fn get_stats(&self, request: Request<v1::GetStatsRequest>) -> Result<Response<v1::GetStatsResponse>, Status> {
        let selector = self.selector(request.into_inner().selector.unwrap_or_default())?;
        let samples = self.stats.read_once(&selector).await?;
        let stats = samples.iter().map(|sample| render::sample(sample)).collect();
        Ok(Response::new(v1::GetStatsResponse { stats }))
    }

    async fn stream_stats(
        &self,
        request: Request<v1::StreamStatsRequest>,
    ) -> Result<Response<Self::StreamStatsStream>, Status> {
        let request = request.into_inner();
        let interval = interval(request.interval)?;
        let selector = self.selector(request.selector.unwrap_or_default())?;
        let subscription = self.stats.subscribe(selector, interval)?;
        let (answers, stream) = mpsc::channel(QUEUE);
        tokio::spawn(push(subscription, answers));
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
async fn push(mut subscription: Subscription, answers: mpsc::Sender<Result<v1::StreamStatsResponse, Status>>) {
    loop {
        // Room first, then the newest frame: what came meanwhile is counted as missed.
        let Ok(room) = answers.reserve().await else { return };
        let frame = tokio::select! {
            frame = subscription.next() => frame,
            () = answers.closed() => return,
        };
        match frame {
            Some(frame) => {
                let stats = frame.samples.iter().map(|sample| render::sample(sample)).collect();
                room.send(Ok(v1::StreamStatsResponse { stats, missed: frame.missed }));
            }
            None => {
                room.send(Err(shutting_down().into()));
                return;
            }
        }
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
