//! StreamLogs.

use std::pin::pin;
use std::time::Duration;

use hull_proto::v1;
use hull_wire::LostReason;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::blocking;
use super::convert::time;
use super::status::shutting_down;
use crate::error::{Reason, Result};
use crate::lifecycle::logs::{LogEntry, LogOptions, LogReader, LogStream, LogWatch, LostOutput};
use crate::lifecycle::{Containers, State, View, WaitCondition};

/// Batches that wait for a slow client.
const QUEUE: usize = 2;

/// Answers of the stream.
pub(super) type Answers = mpsc::Receiver<Result<v1::StreamLogsResponse, Status>>;

/// A log, and who reads it.
#[derive(Debug)]
struct Stream {
    containers: Containers,
    /// Id of the container.
    id: String,
    /// What ends the container as seen from its present state.
    end: WaitCondition,
    /// When there is nothing more to follow, whatever the container does.
    until: Option<Duration>,
    answers: mpsc::Sender<Result<v1::StreamLogsResponse, Status>>,
    shutdown: CancellationToken,
}

/// Starts to stream a container's log.
pub(super) async fn stream(
    containers: Containers,
    view: &View,
    options: LogOptions,
    follow: bool,
    shutdown: CancellationToken,
) -> Result<Answers> {
    let path = view.log_path.clone();
    // Before the first read, so that no line falls between.
    let watch = follow.then(|| LogWatch::new(&path)).transpose()?;
    let until = options.until.map(time::from_now);
    let reader = blocking(move || LogReader::open(&path, options)).await?;
    let (answers, receiver) = mpsc::channel(QUEUE);
    let end = match view.state {
        State::Created | State::Starting => WaitCondition::NextExit,
        _ => WaitCondition::NotRunning,
    };
    let stream = Stream { containers, id: view.id.clone(), end, until, answers, shutdown };
    tokio::spawn(async move {
        if let Err(error) = stream.run(reader, watch).await {
            // The client may be gone; then there is no one to tell.
            let _ = stream.answers.send(Err(error.into())).await;
        }
    });
    Ok(receiver)
}

impl Stream {
    async fn run(&self, mut reader: LogReader, watch: Option<LogWatch>) -> Result<()> {
        let mut ended = pin!(self.ended());
        let mut follow = watch;
        loop {
            let (back, batch) = blocking(move || reader.next_batch().map(|batch| (reader, batch))).await?;
            reader = back;
            let over = batch.over;
            if !batch.entries.is_empty() || batch.lost_files > 0 {
                let answer = v1::StreamLogsResponse {
                    entries: batch.entries.into_iter().map(entry).collect(),
                    cursor: batch.next.to_string(),
                    lost_files: batch.lost_files,
                };
                tokio::select! {
                    sent = self.answers.send(Ok(answer)) => if sent.is_err() { return Ok(()) },
                    () = self.shutdown.cancelled() => return Err(shutting_down()),
                }
                if !over {
                    continue;
                }
            }
            let Some(watch) = follow.as_ref().filter(|_| !over) else { return Ok(()) };
            tokio::select! {
                changed = watch.changed() => changed?,
                // What was written before the end is in the file: it is read to its end once more.
                result = &mut ended => {
                    result?;
                    follow = None;
                }
                () = self.answers.closed() => return Ok(()),
                () = self.shutdown.cancelled() => return Err(shutting_down()),
            }
        }
    }

    /// Returns when nothing that is wanted can be written any more.
    async fn ended(&self) -> Result<()> {
        let until = async {
            match self.until {
                Some(until) => tokio::time::sleep(until).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            ended = self.containers.wait(&self.id, self.end) => match ended {
                Err(error) if error.reason != Reason::ContainerNotFound => Err(error),
                _ => Ok(()),
            },
            () = until => Ok(()),
        }
    }
}

fn entry(entry: LogEntry) -> v1::LogEntry {
    let stream = match entry.stream {
        LogStream::Stdout => v1::LogStream::Stdout,
        LogStream::Stderr => v1::LogStream::Stderr,
    };
    v1::LogEntry {
        time: Some(time::to_timestamp(entry.time)),
        stream: stream.into(),
        line: entry.line,
        partial: entry.partial,
        lost: entry.lost.map(lost),
    }
}

fn lost(lost: LostOutput) -> v1::LostOutput {
    let reason = match lost.reason {
        LostReason::Rate => v1::LostReason::Rate,
        LostReason::Disk => v1::LostReason::Disk,
    };
    v1::LostOutput { lines: lost.lines, bytes: lost.bytes, reason: reason.into() }
}
