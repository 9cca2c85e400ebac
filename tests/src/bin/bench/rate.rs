//! Section `rate`: starts per second with several side by side, and how long removing them all takes.

use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use hull_proto::v1::CreateContainerResponse;

use crate::Result;
use crate::client::{Client, SLEEP};
use crate::node::Node;
use crate::report::{Goal, Measure, Report};
use crate::summary::median;

/// Starts that the rate of the first and of the last is taken over.
const WINDOW: usize = 30;
/// The level that goals are set at, and how often it is measured.
const LEVEL: usize = 8;
const REPEATS: usize = 3;
/// Starts side by side where they are not what is measured.
const STARTERS: usize = 4;
/// Removals side by side.
const REMOVERS: usize = 16;

/// One batch of starts and its removal.
#[derive(Debug)]
struct Batch {
    /// When each start was answered, since the beginning, ascending.
    answered: Vec<Duration>,
    /// How long each start took, milliseconds.
    latency: Vec<f64>,
    failures: Vec<String>,
    removal: Duration,
}

/// Starts batches of `containers` at each level.
pub(crate) async fn measure(containers: usize) -> Result<()> {
    let node = Node::start().await?;
    let mut report = Report::new("rate", format!("{containers} containers of `sleep` per batch"));
    let mut failures = Vec::new();
    run_batch(&node.client, LEVEL, WINDOW).await?;
    for level in [1, 2, 4, 16] {
        let batch = run_batch(&node.client, level, containers).await?;
        report.figure(format!("{level} side by side"), "starts/s", batch.rate(), Goal::None);
        report.measure(Measure::new(format!("start, {level} side by side"), "ms", batch.latency));
        failures.extend(batch.failures);
    }
    let mut batches = Vec::new();
    for _ in 0..REPEATS {
        batches.push(run_batch(&node.client, LEVEL, containers).await?);
    }
    let of = |value: fn(&Batch) -> f64| batches.iter().map(value).collect::<Vec<f64>>();
    report.figure(format!("{LEVEL} side by side"), "starts/s", median(&of(Batch::rate)), Goal::AtLeast(120.0));
    report.figure("rate of the last 30 / of the first 30", "x", median(&of(Batch::endurance)), Goal::AtLeast(0.8));
    let removal = of(|batch| batch.removal.as_secs_f64());
    report.figure(format!("removal of {containers} running"), "s", median(&removal), Goal::AtMost(2.0));
    report.measure(Measure::new(format!("removal of {containers} running"), "s", removal));
    for batch in batches {
        report.measure(Measure::new(format!("start, {LEVEL} side by side"), "ms", batch.latency));
        failures.extend(batch.failures);
    }
    #[expect(clippy::cast_precision_loss, reason = "a count of failures")]
    report.figure("failed starts", "", failures.len() as f64, Goal::AtMost(0.0));
    report.notes.extend(failures.into_iter().take(5));
    report.publish()?;
    node.close().await;
    Ok(())
}

async fn run_batch(client: &Client, level: usize, containers: usize) -> Result<Batch> {
    let begin = Instant::now();
    let starts = futures_util::stream::iter(0..containers).map(|_| async {
        let asked = Instant::now();
        (client.start(SLEEP, false).await, begin.elapsed(), asked.elapsed().as_secs_f64() * 1e3)
    });
    let results: Vec<_> = starts.buffer_unordered(level).collect().await;
    let mut batch = Batch { answered: Vec::new(), latency: Vec::new(), failures: Vec::new(), removal: Duration::ZERO };
    let mut ids = Vec::new();
    for (result, answered, latency) in results {
        match result {
            Ok(created) => ids.push(created.id),
            Err(error) => batch.failures.push(format!("start at {level} side by side: {error}")),
        }
        batch.answered.push(answered);
        batch.latency.push(latency);
    }
    batch.answered.sort();
    batch.removal = remove_all(client, &ids).await?;
    Ok(batch)
}

/// Starts containers that sleep, several side by side.
pub(crate) async fn start_sleepers(client: &Client, count: usize) -> Result<Vec<CreateContainerResponse>> {
    let starts = futures_util::stream::iter(0..count).map(|_| client.start(SLEEP, false)).buffer_unordered(STARTERS);
    starts.collect::<Vec<_>>().await.into_iter().collect()
}

/// Removes running containers, several side by side.
pub(crate) async fn remove_all(client: &Client, ids: &[String]) -> Result<Duration> {
    let begin = Instant::now();
    let removals = futures_util::stream::iter(ids).map(|id| client.remove(id)).buffer_unordered(REMOVERS);
    removals.collect::<Vec<_>>().await.into_iter().collect::<Result<()>>()?;
    Ok(begin.elapsed())
}

impl Batch {
    /// Starts per second over the whole batch.
    fn rate(&self) -> f64 {
        per_second(self.answered.len(), self.answered.last().copied().unwrap_or_default())
    }

    /// Rate of the last [`WINDOW`] starts relative to the first.
    fn endurance(&self) -> f64 {
        let count = self.answered.len();
        let first = self.answered[WINDOW - 1];
        let last = self.answered[count - 1] - self.answered[count - 1 - WINDOW];
        first.as_secs_f64() / last.as_secs_f64()
    }
}

#[expect(clippy::cast_precision_loss, reason = "hundreds of containers")]
fn per_second(count: usize, time: Duration) -> f64 {
    count as f64 / time.as_secs_f64()
}
