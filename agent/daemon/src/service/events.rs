//! EventService.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use hull_proto::v1;
use hull_proto::v1::event_service_server::EventService;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::convert::{events as render, time};
use super::status::shutting_down;
use super::{Edge, blocking};
use crate::error::{Error, Result};
use crate::events::{EventFilter, Events};

/// Events read at once.
const BATCH: usize = 256;
/// Batches that wait for a slow client. What is not read stays in the store.
const QUEUE: usize = 1;
/// Most containers or types that one request names.
const MAX_FILTERS: usize = 1000;

type Answer = Result<v1::StreamEventsResponse, Status>;

#[tonic::async_trait]
impl EventService for Edge {
    type StreamEventsStream = ReceiverStream<Answer>;

    async fn stream_events(
        &self,
        request: Request<v1::StreamEventsRequest>,
    ) -> Result<Response<Self::StreamEventsStream>, Status> {
        let request = request.into_inner();
        let filter = self.event_filter(&request)?;
        let events = self.events.clone();
        // What happens from now on is not missed, however long the rest takes.
        let now = *events.last().borrow();
        let after = match request.after_sequence {
            Some(after) => Some(after),
            None => (request.since.is_some() || !request.follow).then_some(0),
        };
        let position = match after {
            Some(after) => blocking(move || events.resume(after)).await?,
            None => now,
        };
        let (answers, stream) = mpsc::channel(QUEUE);
        let reader = Reader { events: self.events.clone(), filter, position, answers, shutdown: self.shutdown.clone() };
        tokio::spawn(async move {
            if let Err(error) = reader.run(request.follow).await {
                // The client may be gone; then there is no one to tell.
                let _ = reader.answers.send(Err(error.into())).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

impl Edge {
    fn event_filter(&self, request: &v1::StreamEventsRequest) -> Result<EventFilter> {
        for (field, count) in [("containers", request.containers.len()), ("types", request.types.len())] {
            if count > MAX_FILTERS {
                return Err(Error::invalid(
                    field,
                    format_args!("has {count} entries; at most {MAX_FILTERS} are taken"),
                ));
            }
        }
        let containers = request.containers.iter().map(|reference| self.containers.id_of_any(reference));
        let nanos =
            |field: &str, at: Option<prost_types::Timestamp>| at.map(|at| time::timestamp_nanos(field, at)).transpose();
        Ok(EventFilter {
            containers: containers.collect::<Result<BTreeSet<_>>>()?,
            kinds: request.types.iter().map(|kind| render::kind(*kind)).collect::<Result<BTreeSet<_>>>()?,
            since_nanos: nanos("since", request.since)?,
            until_nanos: nanos("until", request.until)?,
        })
    }
}

/// One stream.
struct Reader {
    events: Events,
    filter: EventFilter,
    /// The last event that was looked at.
    position: u64,
    answers: mpsc::Sender<Answer>,
    shutdown: CancellationToken,
}

impl Reader {
    async fn run(&self, mut follow: bool) -> Result<()> {
        let (mut position, mut told) = (self.position, self.position);
        let mut last = self.events.last();
        let mut over = std::pin::pin!(over(self.filter.until_nanos));
        if !self.send(Vec::new(), position).await? {
            return Ok(());
        }
        loop {
            last.borrow_and_update();
            let events = self.events.clone();
            let batch = blocking(move || events.after(position, BATCH)).await?;
            let wanted = batch.iter().filter(|(_, event)| self.filter.wants(event));
            let wanted: Vec<_> = wanted.map(|(number, event)| render::event(*number, event)).collect();
            let at_end = batch.is_empty();
            position = batch.last().map_or(position, |(newest, _)| *newest);
            // Who gets nothing for long learns how far all is told, too.
            let unsaid = position - told;
            if !wanted.is_empty() || unsaid >= BATCH as u64 || (at_end && !follow && unsaid > 0) {
                told = position;
                if !self.send(wanted, position).await? {
                    return Ok(());
                }
            }
            if !at_end {
                continue;
            }
            if !follow {
                return Ok(());
            }
            tokio::select! {
                // The store lives as long as the agent.
                _ = last.changed() => {}
                // What came just before is told, and no more.
                () = &mut over => follow = false,
                () = self.answers.closed() => return Ok(()),
                () = self.shutdown.cancelled() => return Err(shutting_down()),
            }
        }
    }

    /// Returns whether the client is still there.
    async fn send(&self, events: Vec<v1::Event>, sequence: u64) -> Result<bool> {
        tokio::select! {
            sent = self.answers.send(Ok(v1::StreamEventsResponse { events, sequence })) => Ok(sent.is_ok()),
            () = self.shutdown.cancelled() => Err(shutting_down()),
        }
    }
}

/// Returns when a point in time has passed; never without one.
async fn over(nanos: Option<u64>) {
    let Some(nanos) = nanos else { return std::future::pending().await };
    let point = SystemTime::UNIX_EPOCH + Duration::from_nanos(nanos);
    tokio::time::sleep(point.duration_since(SystemTime::now()).unwrap_or_default()).await;
}
