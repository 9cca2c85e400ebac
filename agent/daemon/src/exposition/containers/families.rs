//! A metric of containers: its head, and where its values come from.

use super::devices::Devices;
use super::{Extra, Row};
use crate::exposition::family::{Head, Value};

/// A metric.
#[derive(Debug, Clone, Copy)]
pub(super) struct Family {
    pub(super) head: Head,
    pub(super) values: Values,
}

/// The values of one container.
#[derive(Debug, Clone, Copy)]
pub(super) enum Values {
    /// One, or none where the kernel does not tell.
    One(fn(&Row) -> Option<Value>),
    /// Some, each with further labels.
    Many(for<'a> fn(&'a Row, &'a Devices) -> Vec<(Extra<'a>, Value)>),
}

pub(super) const fn one(head: Head, value: fn(&Row) -> Option<Value>) -> Family {
    Family { head, values: Values::One(value) }
}

pub(super) const fn many(head: Head, values: for<'a> fn(&'a Row, &'a Devices) -> Vec<(Extra<'a>, Value)>) -> Family {
    Family { head, values: Values::Many(values) }
}
