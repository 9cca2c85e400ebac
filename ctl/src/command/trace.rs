//! `trace`: where the time of a start went.

use std::io::Write as _;
use std::time::Duration;

use hull_proto::v1::{GetContainerRequest, StepTiming};
use serde::Serialize;

use crate::cli::TraceFlags;
use crate::client::Client;
use crate::error::{Error, Result};
use crate::output::{self};

/// Cells of the longest bar.
const BAR: u64 = 40;

/// The steps of a start, as programs see them.
#[derive(Debug, Serialize)]
struct TraceView {
    container: String,
    steps: Vec<StepView>,
    /// Of all steps; some are done side by side, so a start may take less.
    total_nanos: u64,
}

#[derive(Debug, Serialize)]
struct StepView {
    step: String,
    nanos: u64,
}

/// Shows how long each step of the last start took.
pub(crate) async fn trace(client: Client, flags: TraceFlags) -> Result<u8> {
    let request = GetContainerRequest { container: flags.container.clone() };
    let container = client.containers().get_container(request).await?.into_inner().container.unwrap_or_default();
    if container.start_steps.is_empty() {
        return Err(Error::new(format!("container {} was not started yet", flags.container)));
    }
    let steps: Vec<StepView> = container.start_steps.iter().map(StepView::from).collect();
    let total_nanos = steps.iter().map(|step| step.nanos).sum();
    let view = TraceView { container: container.id, steps, total_nanos };
    match flags.output.output {
        Some(format) => output::data(format, &view)?,
        None => print(&view)?,
    }
    Ok(0)
}

impl From<&StepTiming> for StepView {
    fn from(timing: &StepTiming) -> Self {
        let duration = timing.duration.and_then(|duration| Duration::try_from(duration).ok()).unwrap_or_default();
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Self { step: timing.step.clone(), nanos }
    }
}

fn print(view: &TraceView) -> Result<()> {
    let widest = view.steps.iter().map(|step| step.step.chars().count()).max().unwrap_or_default();
    let longest = view.steps.iter().map(|step| step.nanos).max().unwrap_or_default().max(1);
    let mut out = output::stdout();
    for StepView { step, nanos } in &view.steps {
        let cells = usize::try_from(nanos.saturating_mul(BAR).div_ceil(longest)).unwrap_or_default();
        writeln!(out, "{step:<widest$}  {:>10}  {}", microseconds(*nanos), "#".repeat(cells))?;
    }
    writeln!(out, "{:<widest$}  {:>10}", "all", microseconds(view.total_nanos))?;
    Ok(out.flush()?)
}

fn microseconds(nanos: u64) -> String {
    format!("{}.{} us", nanos / 1000, nanos % 1000 / 100)
}
