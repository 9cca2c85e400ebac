//! The span of a start, and those of its steps.
//!
//! How long each step took is measured where it is done, and told when all is over. Where a step lies is worked out from that: the
//! agent's own follow one another from the beginning, control groups beside those that come after the shim; the shim's end with the
//! start.

use std::time::{Duration, SystemTime};

use hull_wire::{Step, StepTime};
use opentelemetry::trace::{Span as _, Status, TraceContextExt as _, Tracer as _};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace::{SdkTracer, Span};

use crate::error::Error;

/// The span of a start under way.
#[derive(Debug)]
pub(crate) struct StartTrace {
    on: Option<(SdkTracer, Span, SystemTime)>,
}

impl StartTrace {
    pub(super) fn begin(tracer: Option<&SdkTracer>, container: &str, name: &str, image: &str) -> Self {
        let Some(tracer) = tracer else { return Self { on: None } };
        let begun = SystemTime::now();
        let span = tracer.span_builder("start container").with_start_time(begun).with_attributes([
            KeyValue::new("container.id", container.to_owned()),
            KeyValue::new("container.name", name.to_owned()),
            KeyValue::new("container.image.name", image.to_owned()),
        ]);
        let span = span.start_with_context(tracer, &Context::current());
        Self { on: Some((tracer.clone(), span, begun)) }
    }

    /// The container runs. `own`: steps of the agent; `shim`: those of the shim.
    pub(crate) fn succeeded(self, own: &[StepTime], shim: &[StepTime]) {
        let Some((tracer, span, begun)) = self.on else { return };
        let ended = SystemTime::now();
        let context = Context::new().with_span(span);
        for (step, from, to) in placed(begun, ended, own, shim) {
            let span = tracer.span_builder(step.as_str()).with_start_time(from);
            span.start_with_context(&tracer, &context).end_with_timestamp(to);
        }
        context.span().end_with_timestamp(ended);
    }

    /// The container could not be started.
    pub(crate) fn failed(self, error: &Error) {
        let Some((_, mut span, _)) = self.on else { return };
        span.set_attribute(KeyValue::new("error.type", error.reason.name()));
        if let Some(step) = error.step {
            span.set_attribute(KeyValue::new("hull.step", step.as_str()));
        }
        span.set_status(Status::error(error.to_string()));
        span.end();
    }
}

/// Each step with its beginning and its end.
fn placed(
    begun: SystemTime,
    ended: SystemTime,
    own: &[StepTime],
    shim: &[StepTime],
) -> Vec<(Step, SystemTime, SystemTime)> {
    let mut all = Vec::with_capacity(own.len() + shim.len());
    let (mut at, mut after_shim) = (begun, begun);
    for time in own {
        let took = Duration::from_nanos(time.nanos);
        if time.step == Step::Cgroup {
            all.push((time.step, after_shim, after_shim + took));
            continue;
        }
        all.push((time.step, at, at + took));
        at += took;
        if time.step == Step::Shim {
            after_shim = at;
        }
    }
    let whole: Duration = shim.iter().map(|time| Duration::from_nanos(time.nanos)).sum();
    let mut at = ended.checked_sub(whole).unwrap_or(begun);
    for time in shim {
        let took = Duration::from_nanos(time.nanos);
        all.push((time.step, at, at + took));
        at += took;
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_lie_where_they_were_done() {
        let time = |step, millis: u64| StepTime { step, nanos: millis * 1_000_000 };
        let own = [time(Step::Shim, 2), time(Step::Layers, 3), time(Step::Plan, 1), time(Step::Cgroup, 4)];
        let shim = [time(Step::Mount, 5), time(Step::Exec, 1)];
        let begun = SystemTime::UNIX_EPOCH;
        let millis = |at: SystemTime| at.duration_since(begun).unwrap().as_millis();
        let placed = placed(begun, begun + Duration::from_millis(20), &own, &shim);
        let found: Vec<_> = placed.iter().map(|(step, from, to)| (*step, millis(*from), millis(*to))).collect();
        let expected = [
            (Step::Shim, 0, 2),
            (Step::Layers, 2, 5),
            (Step::Plan, 5, 6),
            (Step::Cgroup, 2, 6),
            (Step::Mount, 14, 19),
            (Step::Exec, 19, 20),
        ];
        assert_eq!(found, expected);
    }
}
