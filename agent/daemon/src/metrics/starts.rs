//! Starts of containers: how many, how long, and where they failed.

use std::time::Duration;

use hull_wire::StepTime;
use prometheus_client::encoding::{EncodeLabelSet, LabelSetEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::error::Error;

/// Seconds of a whole start.
const START: [f64; 13] = [0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];
/// Seconds of one step, of which many take microseconds.
const STEP: [f64; 14] =
    [0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.1, 1.0, 10.0];

/// How a start went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Outcome {
    Succeeded,
    Failed,
}

impl EncodeLabelSet for Outcome {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> std::fmt::Result {
        let outcome = match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
        };
        [("outcome", outcome)].encode(encoder)
    }
}

/// A step, as the API names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct OfStep(&'static str);

impl EncodeLabelSet for OfStep {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> std::fmt::Result {
        [("step", self.0)].encode(encoder)
    }
}

/// Where and why a start failed. Before the first step it is empty, which to Prometheus is a label that is not there.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct OfFailure {
    step: &'static str,
    reason: String,
}

impl EncodeLabelSet for OfFailure {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> std::fmt::Result {
        [("step", self.step), ("reason", self.reason.as_str())].encode(encoder)
    }
}

/// The starts so far. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Starts {
    outcomes: Family<Outcome, Counter>,
    seconds: Histogram,
    steps: Family<OfStep, Histogram, fn() -> Histogram>,
    failures: Family<OfFailure, Counter>,
}

impl Starts {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let starts = Self {
            outcomes: Family::default(),
            seconds: Histogram::new(START),
            steps: Family::new_with_constructor(|| Histogram::new(STEP)),
            failures: Family::default(),
        };
        // There from the start on, so that the first failure is a change.
        for outcome in [Outcome::Succeeded, Outcome::Failed] {
            drop(starts.outcomes.get_or_create(&outcome));
        }
        registry.register("hull_starts", "Starts of containers", starts.outcomes.clone());
        let help = "Time of a start that succeeded, from the request's turn until init runs";
        registry.register("hull_start_duration_seconds", help, starts.seconds.clone());
        let help = "Time of each step of a start that succeeded; some steps run side by side";
        registry.register("hull_start_step_duration_seconds", help, starts.steps.clone());
        let help = "Starts that failed, by step and by the reason that the API told";
        registry.register("hull_start_failures", help, starts.failures.clone());
        starts
    }

    /// A container was started.
    pub(crate) fn succeeded(&self, took: Duration, steps: &[StepTime]) {
        self.outcomes.get_or_create(&Outcome::Succeeded).inc();
        self.seconds.observe(took.as_secs_f64());
        for StepTime { step, nanos } in steps {
            let seconds = Duration::from_nanos(*nanos).as_secs_f64();
            self.steps.get_or_create(&OfStep(step.as_str())).observe(seconds);
        }
    }

    /// A container could not be started.
    pub(crate) fn failed(&self, error: &Error) {
        self.outcomes.get_or_create(&Outcome::Failed).inc();
        let step = error.step.map_or("", |step| step.as_str());
        self.failures.get_or_create(&OfFailure { step, reason: error.reason.name() }).inc();
    }
}
