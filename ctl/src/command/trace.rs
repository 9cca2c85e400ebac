//! `trace`: where the time of a start went.

use std::io::Write as _;
use std::time::Duration;

use hull_proto::v1::{Container, GetContainerRequest, StepTiming};
use serde::Serialize;

use crate::cli::TraceFlags;
use crate::client::Client;
use crate::error::{Error, Result};
use crate::output::{self, StepView, duration_text};

/// Cells of the longest bar.
const BAR: u128 = 40;

/// The steps of a start, as programs see them.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct TraceView {
    container: String,
    start_steps: Vec<StepView>,
    /// Of all steps; some are done side by side, so a start may take less.
    total_duration: String,
}

/// Shows how long each step of the last start took.
pub(crate) async fn trace(client: Client, flags: TraceFlags) -> Result<u8> {
    let request = GetContainerRequest { container: flags.container.clone() };
    let container = client.containers().get_container(request).await?.into_inner().container.unwrap_or_default();
    if container.start_steps.is_empty() {
        return Err(Error::new(format!("container {} was not started yet", flags.container)));
    }
    match flags.output.output {
        Some(format) => output::data(format, &view(container)?)?,
        None => print(&container.start_steps)?,
    }
    Ok(0)
}

fn view(container: Container) -> Result<TraceView> {
    let total = container.start_steps.iter().map(duration).sum::<Duration>().try_into();
    let total: prost_types::Duration = total.map_err(|_| Error::new("the steps of the start took for ever"))?;
    Ok(TraceView {
        container: container.id,
        start_steps: container.start_steps.into_iter().map(StepView::from).collect(),
        total_duration: duration_text(total),
    })
}

fn duration(timing: &StepTiming) -> Duration {
    timing.duration.and_then(|duration| Duration::try_from(duration).ok()).unwrap_or_default()
}

fn print(steps: &[StepTiming]) -> Result<()> {
    let widest = steps.iter().map(|timing| timing.step.chars().count()).max().unwrap_or_default();
    let longest = steps.iter().map(duration).max().unwrap_or_default().as_nanos().max(1);
    let mut out = output::stdout();
    for timing in steps {
        let cells = usize::try_from((duration(timing).as_nanos() * BAR).div_ceil(longest)).unwrap_or_default();
        writeln!(out, "{:<widest$}  {:>10}  {}", timing.step, microseconds(duration(timing)), "#".repeat(cells))?;
    }
    writeln!(out, "{:<widest$}  {:>10}", "all", microseconds(steps.iter().map(duration).sum()))?;
    Ok(out.flush()?)
}

fn microseconds(time: Duration) -> String {
    format!("{}.{} us", time.as_micros(), time.subsec_nanos() % 1000 / 100)
}
