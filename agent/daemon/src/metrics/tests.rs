use std::sync::Arc;
use std::time::Duration;

use hull_wire::{Step, StepTime};

use super::{Kind, Method, Metrics};
use crate::error::{Error, Reason};

fn text(metrics: &Metrics) -> String {
    let mut text = String::new();
    metrics.encode(&mut text).unwrap();
    text
}

#[test]
fn a_call_counts_once_whoever_ends_it() {
    let metrics = Metrics::default();
    let method = Arc::new(Method { service: "a.B".into(), name: "C".into(), kind: Kind::Unary });
    let mut call = metrics.calls.begin(&method);
    call.end("NotFound");
    call.end("OK");
    drop(call);
    drop(metrics.calls.begin(&method));
    let text = text(&metrics);
    let labels = r#"grpc_type="unary",grpc_service="a.B",grpc_method="C""#;
    for line in [
        format!("grpc_server_started_total{{{labels}}} 2"),
        format!("grpc_server_handled_total{{{labels},grpc_code=\"NotFound\"}} 1"),
        format!("grpc_server_handled_total{{{labels},grpc_code=\"Canceled\"}} 1"),
        format!("grpc_server_handling_seconds_count{{{labels}}} 2"),
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
    assert!(!text.contains("\"OK\""), "{text}");
}

#[test]
fn starts_are_told_by_step_and_reason() {
    let metrics = Metrics::default();
    let steps = [StepTime { step: Step::Mount, nanos: 1_000_000 }, StepTime { step: Step::Mount, nanos: 3_000_000 }];
    metrics.starts.succeeded(Duration::from_millis(9), &steps);
    metrics.starts.failed(&Error::new(Reason::StartFailed, "").step(Step::Exec));
    metrics.starts.failed(&Error::new(Reason::ImageNotFound, ""));
    let text = text(&metrics);
    for line in [
        r#"hull_starts_total{outcome="succeeded"} 1"#,
        r#"hull_starts_total{outcome="failed"} 2"#,
        "hull_start_duration_seconds_count 1",
        r#"hull_start_step_duration_seconds_sum{step="mounting"} 0.004"#,
        r#"hull_start_failures_total{step="executing",reason="START_FAILED"} 1"#,
        r#"hull_start_failures_total{step="",reason="IMAGE_NOT_FOUND"} 1"#,
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
}
