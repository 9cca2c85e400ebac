//! The way of spans to the collector: a bounded queue, a thread of the SDK's that empties it, OTLP over gRPC. A collector that is away
//! or slow costs spans, never time; what became of them is counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use opentelemetry::trace::TracerProvider as _;
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::WithExportConfig as _;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, SdkTracer, SdkTracerProvider, Span, SpanData, SpanExporter, SpanProcessor,
};

use crate::error::{Error, Result};

/// Time for one export.
const EXPORT: Duration = Duration::from_secs(5);
/// Time for what waits when the agent ends.
pub(super) const LAST_EXPORT: Duration = Duration::from_secs(1);
/// Spans that wait or are on their way; further ones are dropped.
const QUEUE: usize = 4096;
/// Longest wait of one.
const DELAY: Duration = Duration::from_secs(1);

pub(super) fn start(endpoint: &str, counts: &Arc<Counts>) -> Result<(SdkTracerProvider, SdkTracer)> {
    let exporter = opentelemetry_otlp::SpanExporter::builder().with_tonic().with_endpoint(endpoint);
    let exporter = exporter.with_timeout(EXPORT).build().map_err(|error| Error::invalid("otlp-endpoint", error))?;
    let (counts, failing) = (Arc::clone(counts), AtomicBool::new(false));
    let told = Told { exporter, endpoint: endpoint.to_owned(), failing, counts: Arc::clone(&counts) };
    let batches = BatchConfigBuilder::default().with_max_queue_size(QUEUE).with_scheduled_delay(DELAY).build();
    let batches = BatchSpanProcessor::builder(told).with_batch_config(batches).build();
    let processor = Bounded { batches, counts };
    let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
    let mut resource = Resource::builder().with_attribute(version);
    if std::env::var_os("OTEL_SERVICE_NAME").is_none() {
        resource = resource.with_service_name("hulld");
    }
    let provider = SdkTracerProvider::builder().with_span_processor(processor).with_resource(resource.build()).build();
    let tracer = provider.tracer("hulld");
    Ok((provider, tracer))
}

/// What became of spans.
#[derive(Debug, Default)]
pub(super) struct Counts {
    /// Waiting or on their way.
    waiting: AtomicUsize,
    /// Taken by the collector.
    sent: AtomicU64,
    /// Lost on their way: the collector was away, too slow, or refused them.
    failed: AtomicU64,
    /// Not even waiting: the queue was full.
    dropped: AtomicU64,
}

/// What became of spans so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SpanCounts {
    pub(crate) waiting: usize,
    pub(crate) sent: u64,
    pub(crate) failed: u64,
    pub(crate) dropped: u64,
}

impl Counts {
    pub(super) fn now(&self) -> SpanCounts {
        SpanCounts {
            waiting: self.waiting.load(Ordering::Relaxed),
            sent: self.sent.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            dropped: self.dropped.load(Ordering::Relaxed),
        }
    }

    /// Whether there is room for one more span, which takes it.
    fn admit(&self) -> bool {
        let more = |waiting| (waiting < QUEUE).then_some(waiting + 1);
        let admitted = self.waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok();
        self.dropped.fetch_add(u64::from(!admitted), Ordering::Relaxed);
        admitted
    }

    fn exported(&self, spans: usize, taken: bool) {
        self.waiting.fetch_sub(spans, Ordering::Relaxed);
        let count = if taken { &self.sent } else { &self.failed };
        count.fetch_add(u64::try_from(spans).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

/// The queue's bound, before that of the SDK, which counts for itself alone what it drops.
#[derive(Debug)]
struct Bounded {
    batches: BatchSpanProcessor,
    counts: Arc<Counts>,
}

impl SpanProcessor for Bounded {
    fn on_start(&self, span: &mut Span, context: &Context) {
        self.batches.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        if self.counts.admit() {
            self.batches.on_end(span);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.batches.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.batches.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.batches.set_resource(resource);
    }
}

/// An exporter that warns once when the collector goes, and says when it is there again.
#[derive(Debug)]
struct Told {
    exporter: opentelemetry_otlp::SpanExporter,
    endpoint: String,
    failing: AtomicBool,
    counts: Arc<Counts>,
}

impl SpanExporter for Told {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        let sent = self.exporter.export(batch).await;
        self.counts.exported(spans, sent.is_ok());
        match &sent {
            Ok(()) => {
                if self.failing.swap(false, Ordering::Relaxed) {
                    tracing::info!(endpoint = self.endpoint, "traces are taken again");
                }
            }
            Err(error) => {
                if !self.failing.swap(true, Ordering::Relaxed) {
                    tracing::warn!(endpoint = self.endpoint, %error, "traces are not taken, and dropped meanwhile");
                }
            }
        }
        sent
    }

    fn shutdown_with_timeout(&mut self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&mut self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_finds_no_room_is_counted() {
        let counts = Counts::default();
        assert_eq!((0..QUEUE + 3).filter(|_| counts.admit()).count(), QUEUE);
        assert_eq!(counts.now(), SpanCounts { waiting: QUEUE, sent: 0, failed: 0, dropped: 3 });
        counts.exported(512, true);
        counts.exported(256, false);
        assert!(counts.admit());
        assert_eq!(counts.now(), SpanCounts { waiting: QUEUE - 767, sent: 512, failed: 256, dropped: 3 });
    }
}
