//! The way of spans to the collector: a bounded queue, a thread of the SDK's that empties it, OTLP over gRPC. A collector that is away
//! or slow costs spans, never time.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::WithExportConfig as _;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, SdkTracer, SdkTracerProvider, SpanData, SpanExporter,
};

use crate::error::{Error, Result};

/// Time for one export.
const EXPORT: Duration = Duration::from_secs(5);
/// Time for what waits when the agent ends.
pub(super) const LAST_EXPORT: Duration = Duration::from_secs(1);
/// Spans that wait; further ones are dropped.
const QUEUE: usize = 4096;
/// Longest wait of one.
const DELAY: Duration = Duration::from_secs(1);

pub(super) fn start(endpoint: &str) -> Result<(SdkTracerProvider, SdkTracer)> {
    let exporter = opentelemetry_otlp::SpanExporter::builder().with_tonic().with_endpoint(endpoint);
    let exporter = exporter.with_timeout(EXPORT).build().map_err(|error| Error::invalid("otlp-endpoint", error))?;
    let told = Told { exporter, endpoint: endpoint.to_owned(), failing: AtomicBool::new(false) };
    let batches = BatchConfigBuilder::default().with_max_queue_size(QUEUE).with_scheduled_delay(DELAY).build();
    let processor = BatchSpanProcessor::builder(told).with_batch_config(batches).build();
    let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
    let mut resource = Resource::builder().with_attribute(version);
    if std::env::var_os("OTEL_SERVICE_NAME").is_none() {
        resource = resource.with_service_name("hulld");
    }
    let provider = SdkTracerProvider::builder().with_span_processor(processor).with_resource(resource.build()).build();
    let tracer = provider.tracer("hulld");
    Ok((provider, tracer))
}

/// An exporter that warns once when the collector goes, and says when it is there again.
#[derive(Debug)]
struct Told {
    exporter: opentelemetry_otlp::SpanExporter,
    endpoint: String,
    failing: AtomicBool,
}

impl SpanExporter for Told {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let sent = self.exporter.export(batch).await;
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
