//! Calls of the API, by the names that gRPC dashboards know.

use std::sync::Arc;
use std::time::Instant;

use prometheus_client::encoding::{EncodeLabelSet, LabelSetEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// Seconds: from a look-up to a container that is stopped with patience.
const BUCKETS: [f64; 16] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

/// What becomes of a call that ends without a code: its client went away.
const CANCELED: &str = "Canceled";

/// A method, one of those that the agent serves.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Method {
    /// Service with its package.
    pub(crate) service: String,
    pub(crate) name: String,
    pub(crate) kind: Kind,
}

/// Which sides of a method are streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Unary,
    ClientStream,
    ServerStream,
    BidiStream,
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Unary => "unary",
            Self::ClientStream => "client_stream",
            Self::ServerStream => "server_stream",
            Self::BidiStream => "bidi_stream",
        }
    }
}

/// Labels of a method.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct OfMethod(Arc<Method>);

impl EncodeLabelSet for OfMethod {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> std::fmt::Result {
        let Method { service, name, kind } = self.0.as_ref();
        [("grpc_type", kind.as_str()), ("grpc_service", service), ("grpc_method", name)].encode(encoder)
    }
}

/// Those, and the code with which calls ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct OfEnd(OfMethod, &'static str);

impl EncodeLabelSet for OfEnd {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> std::fmt::Result {
        self.0.encode(encoder)?;
        [("grpc_code", self.1)].encode(encoder)
    }
}

/// The calls so far. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Calls {
    started: Family<OfMethod, Counter>,
    handled: Family<OfEnd, Counter>,
    seconds: Family<OfMethod, Histogram, fn() -> Histogram>,
}

impl Calls {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let calls = Self {
            started: Family::default(),
            handled: Family::default(),
            seconds: Family::new_with_constructor(|| Histogram::new(BUCKETS)),
        };
        registry.register("grpc_server_started", "Calls that came in", calls.started.clone());
        let help = "Calls that ended, a client that went away included, by code";
        registry.register("grpc_server_handled", help, calls.handled.clone());
        let help = "Time of a call to the end of its answer; of streams, how long they were open";
        registry.register("grpc_server_handling_seconds", help, calls.seconds.clone());
        calls
    }

    /// A call comes in.
    pub(crate) fn begin(&self, method: &Arc<Method>) -> Call {
        let labels = OfMethod(Arc::clone(method));
        self.started.get_or_create(&labels).inc();
        Call { calls: self.clone(), labels, begun: Instant::now(), ended: false }
    }
}

/// A call under way. One that is dropped was cancelled.
#[derive(Debug)]
pub(crate) struct Call {
    calls: Calls,
    labels: OfMethod,
    begun: Instant,
    ended: bool,
}

impl Call {
    /// The call has ended with a code, as gRPC's libraries write it ("OK", "NotFound"). Only the first one counts.
    pub(crate) fn end(&mut self, code: &'static str) {
        if !std::mem::replace(&mut self.ended, true) {
            self.calls.handled.get_or_create(&OfEnd(self.labels.clone(), code)).inc();
            self.calls.seconds.get_or_create(&self.labels).observe(self.begun.elapsed().as_secs_f64());
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.end(CANCELED);
    }
}
