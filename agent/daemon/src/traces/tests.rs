use opentelemetry::trace::TracerProvider as _;
use opentelemetry_sdk::trace::SdkTracerProvider;

use super::*;

fn traces() -> Traces {
    let provider = SdkTracerProvider::builder().build();
    let tracer = provider.tracer("test");
    Traces { on: Some(Arc::new(On { provider, tracer, counts: Arc::default() })) }
}

fn trace_of(parent: &Parent) -> String {
    parent.0.span().span_context().trace_id().to_string()
}

#[tokio::test]
async fn the_caller_s_trace_is_gone_on_with() {
    let id = "4bf92f3577b34da6a3ce929d0e0e4736";
    let header = format!("00-{id}-00f067aa0ba902b7-01");
    let call = traces().call("a.B", "C", |name| (name == "traceparent").then_some(header.as_str()));
    let parent = call.around(async { Parent::current() }).await;
    assert_eq!(trace_of(&parent), id);
    // Nonsense begins a trace of its own.
    let call = traces().call("a.B", "C", |name| (name == "traceparent").then_some("00-x"));
    let parent = call.around(async { Parent::current() }).await;
    assert_ne!(trace_of(&parent), id);
    assert!(parent.0.has_active_span());
}

#[tokio::test]
async fn nothing_is_traced_unless_it_is_asked_for() {
    let mut call = Traces::default().call("a.B", "C", |_| None);
    let parent = call.around(async { Parent::current() }).await;
    assert!(!parent.0.has_active_span());
    call.end(0, "OK");
}
