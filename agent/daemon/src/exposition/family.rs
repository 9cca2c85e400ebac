//! Writing a metric: its head, then a line for each value. One without values is not there at all.

use std::fmt;

use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

/// What a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// It grows. Its name ends in `_total`.
    Counter,
    /// It goes up and down.
    Gauge,
    /// It grows, but its name is not that of a counter.
    Untyped,
}

/// The head of a metric.
#[derive(Debug, Clone, Copy)]
pub(super) struct Head {
    pub(super) kind: Kind,
    /// As it is queried.
    pub(super) name: &'static str,
    pub(super) help: &'static str,
}

/// A value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Value {
    Whole(u64),
    Real(f64),
}

impl From<u64> for Value {
    fn from(value: u64) -> Self {
        Self::Whole(value)
    }
}

impl From<usize> for Value {
    fn from(value: usize) -> Self {
        Self::Whole(value as u64)
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Self::Real(value)
    }
}

pub(super) const fn counter(name: &'static str, help: &'static str) -> Head {
    Head { kind: Kind::Counter, name, help }
}

pub(super) const fn gauge(name: &'static str, help: &'static str) -> Head {
    Head { kind: Kind::Gauge, name, help }
}

pub(super) const fn untyped(name: &'static str, help: &'static str) -> Head {
    Head { kind: Kind::Untyped, name, help }
}

impl Head {
    /// Writes lines with labels.
    pub(super) fn lines<L: EncodeLabelSet>(
        &self,
        to: &mut DescriptorEncoder<'_>,
        lines: impl IntoIterator<Item = (L, Value)>,
    ) -> fmt::Result {
        let mut lines = lines.into_iter().peekable();
        if lines.peek().is_none() {
            return Ok(());
        }
        let mut metric = self.begin(to)?;
        for (labels, value) in lines {
            self.value(&mut metric.encode_family(&labels)?, value)?;
        }
        Ok(())
    }

    /// Writes one line without labels, or nothing.
    pub(super) fn line(&self, to: &mut DescriptorEncoder<'_>, value: Option<impl Into<Value>>) -> fmt::Result {
        match value {
            Some(value) => self.value(&mut self.begin(to)?, value.into()),
            None => Ok(()),
        }
    }

    fn begin<'s>(&self, to: &'s mut DescriptorEncoder<'_>) -> Result<MetricEncoder<'s>, fmt::Error> {
        let (name, kind) = match self.kind {
            // The encoder writes the suffix of a counter itself.
            Kind::Counter => (self.name.strip_suffix("_total").unwrap_or(self.name), MetricType::Counter),
            Kind::Gauge => (self.name, MetricType::Gauge),
            Kind::Untyped => (self.name, MetricType::Unknown),
        };
        to.encode_descriptor(name, self.help, None, kind)
    }

    fn value(&self, line: &mut MetricEncoder<'_>, value: Value) -> fmt::Result {
        match (self.kind, value) {
            (Kind::Counter, Value::Whole(value)) => line.encode_counter::<NoLabelSet, _, f64>(&value, None),
            (Kind::Counter, Value::Real(value)) => line.encode_counter::<NoLabelSet, _, f64>(&value, None),
            // The encoder has no gauge beyond.
            (Kind::Gauge | Kind::Untyped, Value::Whole(value)) => {
                line.encode_gauge(&i64::try_from(value).unwrap_or(i64::MAX))
            }
            (Kind::Gauge | Kind::Untyped, Value::Real(value)) => line.encode_gauge(&value),
        }
    }
}
