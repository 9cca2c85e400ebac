//! OpenTelemetry traces: a span for every call, and below it one for a start and each of its steps. Off unless an endpoint is
//! configured, and then all of this does nothing.
//!
//! Who asks for something passes its place in a trace on as a [`Parent`]: from the call's headers to the task of a container.

mod export;
mod starts;

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use opentelemetry::propagation::{Extractor, TextMapPropagator as _};
use opentelemetry::trace::{FutureExt as _, SpanKind, Status, TraceContextExt as _, Tracer as _};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};

use crate::error::Result;

pub(crate) use export::SpanCounts;
pub(crate) use starts::StartTrace;

const TRACEPARENT: &str = "traceparent";
const TRACESTATE: &str = "tracestate";

/// Where spans go. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Traces {
    on: Option<Arc<On>>,
}

#[derive(Debug)]
struct On {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
    counts: Arc<export::Counts>,
}

impl Traces {
    /// Sends spans to a collector from now on. Must be called within the runtime.
    ///
    /// # Errors
    /// If the endpoint or an `OTEL_…` variable of the environment makes no sense. That nobody listens there is none.
    pub(crate) fn to(endpoint: &str) -> Result<Self> {
        let counts = Arc::default();
        let (provider, tracer) = export::start(endpoint, &counts)?;
        Ok(Self { on: Some(Arc::new(On { provider, tracer, counts })) })
    }

    /// A call begins. `header` gives its headers by name.
    pub(crate) fn call<'a>(&self, service: &str, method: &str, header: impl Fn(&str) -> Option<&'a str>) -> CallTrace {
        let Some(on) = &self.on else { return CallTrace { context: None } };
        let parent =
            TraceContextPropagator::new().extract(&Headers { parent: header(TRACEPARENT), state: header(TRACESTATE) });
        let span = on
            .tracer
            .span_builder(format!("{service}/{method}"))
            .with_kind(SpanKind::Server)
            .with_attributes([
                KeyValue::new("rpc.system", "grpc"),
                KeyValue::new("rpc.service", service.to_owned()),
                KeyValue::new("rpc.method", method.to_owned()),
            ])
            .start_with_context(&on.tracer, &parent);
        CallTrace { context: Some(parent.with_span(span)) }
    }

    /// A start begins.
    pub(crate) fn start(&self, container: &str, name: &str, image: &str) -> StartTrace {
        StartTrace::begin(self.on.as_ref().map(|on| &on.tracer), container, name, image)
    }

    /// What became of spans so far. `None`: nothing is traced.
    pub(crate) fn counts(&self) -> Option<SpanCounts> {
        self.on.as_ref().map(|on| on.counts.now())
    }

    /// Sends what waits, for a bounded time. Blocking.
    pub(crate) fn finish(&self) {
        if let Some(on) = &self.on
            && let Err(error) = on.provider.shutdown_with_timeout(export::LAST_EXPORT)
        {
            tracing::debug!(%error, "the last traces were not sent");
        }
    }
}

/// The headers of a call that say where in a trace it is, see W3C Trace Context.
struct Headers<'a> {
    parent: Option<&'a str>,
    state: Option<&'a str>,
}

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        match key {
            TRACEPARENT => self.parent,
            TRACESTATE => self.state,
            _ => None,
        }
    }

    fn keys(&self) -> Vec<&str> {
        vec![TRACEPARENT, TRACESTATE]
    }
}

/// The span of a call. One that is dropped was cancelled.
#[derive(Debug)]
pub(crate) struct CallTrace {
    context: Option<Context>,
}

impl CallTrace {
    /// Makes it the parent of what a future does.
    pub(crate) fn around<T: Future>(&self, future: T) -> impl Future<Output = T::Output> + use<T> {
        Parent(self.context.clone().unwrap_or_default()).around(future)
    }

    /// The call has ended with a code of gRPC. Only the first one counts.
    pub(crate) fn end(&mut self, code: i32, name: &'static str) {
        let Some(context) = self.context.take() else { return };
        let span = context.span();
        span.set_attribute(KeyValue::new("rpc.grpc.status_code", i64::from(code)));
        if code != 0 {
            span.set_status(Status::error(name));
        }
        span.end();
    }
}

impl Drop for CallTrace {
    fn drop(&mut self) {
        if let Some(context) = self.context.take() {
            context.span().set_status(Status::error("Canceled"));
            context.span().end();
        }
    }
}

/// The place in a trace at which something is asked for.
#[derive(Clone, Default)]
pub(crate) struct Parent(Context);

impl Parent {
    /// That of the future that runs.
    pub(crate) fn current() -> Self {
        Self(Context::current())
    }

    /// Makes it the parent of what a future does.
    pub(crate) fn around<T: Future>(self, future: T) -> impl Future<Output = T::Output> + use<T> {
        future.with_context(self.0)
    }
}

impl fmt::Debug for Parent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Parent({:?})", self.0.span().span_context().span_id())
    }
}

#[cfg(test)]
mod tests;
