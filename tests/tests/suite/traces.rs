//! OpenTelemetry traces, as a collector gets them.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use hull_proto::v1::{CreateContainerRequest, GetInfoRequest};
use hull_tests::harness::monitoring::{METRICS_PORT, now, value, values};
use hull_tests::harness::{AgentOptions, Network, Session, wait};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

const PORT: u16 = 4317;
const ENDPOINT: &str = "http://127.0.0.1:4317";

/// A collector that keeps everything.
#[derive(Debug, Clone, Default)]
struct Collector {
    got: Arc<Mutex<Vec<ExportTraceServiceRequest>>>,
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.got.lock().expect("the lock").push(request.into_inner());
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    fn serve(&self, listener: TcpListener) {
        listener.set_nonblocking(true).expect("non-blocking");
        let incoming = TcpListenerStream::new(tokio::net::TcpListener::from_std(listener).expect("a listener"));
        let server = tonic::transport::Server::builder().add_service(TraceServiceServer::new(self.clone()));
        tokio::spawn(server.serve_with_incoming(incoming));
    }

    fn spans(&self) -> Vec<Span> {
        let got = self.got.lock().expect("the lock");
        let resources = got.iter().flat_map(|request| &request.resource_spans);
        resources.flat_map(|resource| &resource.scope_spans).flat_map(|scope| &scope.spans).cloned().collect()
    }

    /// What is said of who sends.
    fn resource(&self) -> BTreeMap<String, String> {
        let got = self.got.lock().expect("the lock");
        got[0].resource_spans[0].resource.as_ref().map(|resource| attributes(&resource.attributes)).unwrap_or_default()
    }

    async fn span(&self, name: &str, fits: impl Fn(&Span) -> bool) -> Span {
        wait::until_async(&format!("the span {name:?} has come"), || async {
            self.spans().into_iter().find(|span| span.name == name && fits(span))
        })
        .await
    }
}

fn attributes(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let value = |attribute: &KeyValue| match attribute.value.as_ref().and_then(|value| value.value.as_ref()) {
        Some(any_value::Value::StringValue(text)) => text.clone(),
        Some(any_value::Value::IntValue(number)) => number.to_string(),
        other => format!("{other:?}"),
    };
    attributes.iter().map(|attribute| (attribute.key.clone(), value(attribute))).collect()
}

fn traced(network: &Arc<Network>) -> AgentOptions {
    let metrics = format!("127.0.0.1:{METRICS_PORT}");
    let arguments = ["--otlp-endpoint", ENDPOINT, "--metrics-listen", &metrics].map(str::to_owned).to_vec();
    AgentOptions { arguments, network: Some(Arc::clone(network)), ..AgentOptions::default() }
}

/// Spans of which that became.
fn outcome(network: &Network, outcome: &str) -> f64 {
    value(&now(network), "hull_trace_spans_total", &[("outcome", outcome)])
}

#[tokio::test]
async fn a_call_and_every_step_of_its_start_are_spans_below_the_caller_s() {
    let (network, collector) = (Network::new(), Collector::default());
    collector.serve(network.listen(PORT));
    let hull = Session::own_with(traced(&network)).await;
    let (trace, caller) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
    let config = Some(hull.probe(&["sleep"]));
    let mut request = Request::new(CreateContainerRequest { config, start: true, ..CreateContainerRequest::default() });
    let header = format!("00-{trace}-{caller}-01").parse().expect("a header");
    request.metadata_mut().insert("traceparent", header);
    let id = hull.clients.containers.clone().create_container(request).await.expect("Create").into_inner().id;
    let ours = |span: &Span| hex::encode(&span.trace_id) == trace;
    let call = collector.span("hull.v1.ContainerService/CreateContainer", ours).await;
    assert_eq!(hex::encode(&call.parent_span_id), caller);
    let said = attributes(&call.attributes);
    assert_eq!((said["rpc.method"].as_str(), said["rpc.grpc.status_code"].as_str()), ("CreateContainer", "0"));
    let start = collector.span("start container", ours).await;
    assert_eq!((&start.parent_span_id, &attributes(&start.attributes)["container.id"]), (&call.span_id, &id));
    assert!(
        call.start_time_unix_nano <= start.start_time_unix_nano && start.end_time_unix_nano <= call.end_time_unix_nano
    );
    // Each step, as the API tells them.
    let told = hull.get(&id).await.start_steps;
    let spans = collector.spans();
    let steps: Vec<&Span> = spans.iter().filter(|span| span.parent_span_id == start.span_id).collect();
    let times = |span: &&Span| (span.name.clone(), span.end_time_unix_nano - span.start_time_unix_nano);
    let mut found: Vec<_> = steps.iter().map(times).collect();
    let nanos = |duration: prost_types::Duration| (duration.seconds * 1_000_000_000) as u64 + duration.nanos as u64;
    let mut expected: Vec<_> = told.iter().map(|step| (step.step.clone(), step.duration.map_or(0, nanos))).collect();
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
    for step in steps {
        assert!(step.start_time_unix_nano >= start.start_time_unix_nano, "{step:?}");
        assert!(step.end_time_unix_nano <= start.end_time_unix_nano, "{step:?}");
    }
    assert_eq!(collector.resource()["service.name"], "hulld");
    wait::until("what was sent is counted", || (outcome(&network, "sent") >= spans.len() as f64).then_some(()));
    assert_eq!((outcome(&network, "failed"), outcome(&network, "dropped")), (0.0, 0.0));
    // A call without a caller's span begins a trace of its own.
    hull.clients.node.clone().get_info(GetInfoRequest {}).await.expect("GetInfo");
    let info = collector.span("hull.v1.NodeService/GetInfo", |_| true).await;
    assert!(info.parent_span_id.is_empty() && hex::encode(&info.trace_id) != trace);
}

#[tokio::test]
async fn what_failed_says_so_and_the_last_spans_are_sent_at_the_end() {
    let (network, collector) = (Network::new(), Collector::default());
    collector.serve(network.listen(PORT));
    let hull = Session::own_with(traced(&network)).await;
    hull.try_run(hull.command(&["/nothing"])).await.expect_err("no such program");
    let failed = |span: &Span| span.status.as_ref().is_some_and(|status| status.code() == StatusCode::Error);
    let start = collector.span("start container", failed).await;
    let said = attributes(&start.attributes);
    assert_eq!((said["hull.step"].as_str(), said["error.type"].as_str()), ("executing", "START_FAILED"));
    collector.span("hull.v1.ContainerService/CreateContainer", failed).await;
    hull.try_get("nobody").await.expect_err("unknown");
    let agent = Arc::clone(&hull.agent);
    tokio::task::spawn_blocking(move || agent.terminate()).await.expect("terminating");
    let spans = collector.spans();
    assert!(spans.iter().any(|span| span.name == "hull.v1.ContainerService/GetContainer"), "{spans:?}");
    hull.agent.spawn();
}

/// More spans than there is room for are dropped and counted, and nothing waits for that: not a start either.
async fn full_queues_drop(hull: &Session, network: &Network) {
    wait::until_async("spans are dropped", || async {
        let calls = (0..500).map(|_| async { hull.clients.node.clone().get_info(GetInfoRequest {}).await });
        for answer in futures_util::future::join_all(calls).await {
            answer.expect("GetInfo");
        }
        (outcome(network, "dropped") > 0.0).then_some(())
    })
    .await;
    assert!(values(&now(network), "hull_trace_spans_waiting", &[])[0] <= 4096.0);
    let begun = Instant::now();
    let id = hull.run(hull.probe(&["sleep"])).await;
    assert!(begun.elapsed() < wait::soon() / 2, "{:?}", begun.elapsed());
    hull.remove(&id).await;
}

#[tokio::test]
async fn a_collector_that_is_away_or_silent_costs_a_warning_and_no_time() {
    for silent in [false, true] {
        let network = Network::new();
        let listener = silent.then(|| network.listen(PORT));
        let hull = Session::own_with(traced(&network)).await;
        let begun = Instant::now();
        for _ in 0..200 {
            hull.clients.node.clone().get_info(GetInfoRequest {}).await.expect("GetInfo");
        }
        assert!(begun.elapsed() < wait::soon());
        let id = hull.run(hull.probe(&["sleep"])).await;
        hull.remove(&id).await;
        let warning = "traces are not taken";
        wait::until("it is told", || hull.agent.log().contains(warning).then_some(()));
        for _ in 0..200 {
            hull.clients.node.clone().get_info(GetInfoRequest {}).await.expect("GetInfo");
        }
        assert_eq!(hull.agent.log().matches(warning).count(), 1, "{}", hull.agent.log());
        assert!(outcome(&network, "failed") >= 1.0 && outcome(&network, "sent") == 0.0);
        if silent {
            full_queues_drop(&hull, &network).await;
        }
        let agent = Arc::clone(&hull.agent);
        let code = tokio::task::spawn_blocking(move || agent.terminate()).await.expect("terminating");
        assert_eq!(code, Some(0));
        hull.agent.spawn();
        drop(listener);
    }
}
