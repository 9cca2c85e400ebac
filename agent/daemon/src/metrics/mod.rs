//! What hull counts of its own work. Whoever does something tells it here, and the exposition reads it: this part knows numbers and
//! their names, and neither who asks for them nor by which protocol.
//!
//! The labels of a metric have few values, all known beforehand: methods of the API, codes, steps of a start, reasons of errors.

mod calls;
mod starts;

use std::fmt;
use std::sync::Arc;

use prometheus_client::encoding::text;
use prometheus_client::registry::Registry;

pub(crate) use calls::{Call, Calls, Kind, Method};
pub(crate) use starts::Starts;

/// The counts of this agent, from its start on. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    /// Calls of the API.
    pub(crate) calls: Calls,
    /// Starts of containers.
    pub(crate) starts: Starts,
    registry: Arc<Registry>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::default();
        let (calls, starts) = (Calls::new(&mut registry), Starts::new(&mut registry));
        Self { calls, starts, registry: Arc::new(registry) }
    }
}

impl Metrics {
    /// Adds them to an OpenMetrics text, without its end.
    pub(crate) fn encode(&self, to: &mut String) -> fmt::Result {
        text::encode_registry(to, &self.registry)
    }
}

#[cfg(test)]
mod tests;
