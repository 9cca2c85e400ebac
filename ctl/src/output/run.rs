//! A run of a container: the steps of its start, and its end; with the field names of protobuf's JSON mapping.

use hull_proto::v1;
use jiff::Timestamp;
use serde::Serialize;

use super::time::moment;

/// How a process ended.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ExitView {
    pub(super) code: i32,
    pub(super) signal: i32,
    oom_killed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    finished_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) error: String,
}

/// How long a step took.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct StepView {
    step: String,
    /// Seconds with "s".
    duration: String,
}

impl From<v1::ExitStatus> for ExitView {
    fn from(exit: v1::ExitStatus) -> Self {
        let finished_at = moment(exit.finished_at.as_ref());
        Self { code: exit.code, signal: exit.signal, oom_killed: exit.oom_killed, finished_at, error: exit.error }
    }
}

impl From<v1::StepTiming> for StepView {
    fn from(timing: v1::StepTiming) -> Self {
        Self { step: timing.step, duration: duration_text(timing.duration.unwrap_or_default()) }
    }
}

/// A duration as protobuf's JSON mapping has it: "1.5s".
pub(crate) fn duration_text(duration: prost_types::Duration) -> String {
    let sign = if duration.seconds < 0 || duration.nanos < 0 { "-" } else { "" };
    let (seconds, nanos) = (duration.seconds.unsigned_abs(), duration.nanos.unsigned_abs());
    let text = format!("{sign}{seconds}.{nanos:09}");
    format!("{}s", text.trim_end_matches('0').trim_end_matches('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_of_json() {
        let text = |seconds, nanos| duration_text(prost_types::Duration { seconds, nanos });
        assert_eq!(text(1, 500_000_000), "1.5s");
        assert_eq!(text(10, 0), "10s");
        assert_eq!(text(0, -1), "-0.000000001s");
    }
}
