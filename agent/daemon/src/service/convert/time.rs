//! Durations and points in time.

use std::time::{Duration, SystemTime};

use prost_types::Timestamp;

use crate::error::{Error, Result};

const NANOS_PER_SECOND: i64 = 1_000_000_000;

/// A duration that may be negative, in nanoseconds.
pub(crate) fn signed_nanos(field: &str, duration: prost_types::Duration) -> Result<i64> {
    let prost_types::Duration { seconds, nanos } = duration;
    let nanos = i64::from(nanos);
    if nanos.abs() >= NANOS_PER_SECOND || (seconds > 0 && nanos < 0) || (seconds < 0 && nanos > 0) {
        return Err(Error::invalid(field, "nanos must be below a second and have the sign of seconds"));
    }
    let total = seconds.checked_mul(NANOS_PER_SECOND).and_then(|total| total.checked_add(nanos));
    total.ok_or_else(|| Error::invalid(field, "is longer than 292 years"))
}

/// A duration of zero or more.
pub(crate) fn duration(field: &str, duration: prost_types::Duration) -> Result<Duration> {
    let nanos = signed_nanos(field, duration)?;
    let nanos = u64::try_from(nanos).map_err(|_| Error::invalid(field, "must not be negative"))?;
    Ok(Duration::from_nanos(nanos))
}

/// An absent duration stays absent.
pub(crate) fn optional_duration(field: &str, value: Option<prost_types::Duration>) -> Result<Option<Duration>> {
    value.map(|value| duration(field, value)).transpose()
}

/// A point in time as nanoseconds since the epoch.
pub(crate) fn timestamp_nanos(field: &str, timestamp: Timestamp) -> Result<u64> {
    let Timestamp { seconds, nanos } = timestamp;
    if !(0..NANOS_PER_SECOND).contains(&i64::from(nanos)) {
        return Err(Error::invalid(field, "nanos must be between 0 and 999999999"));
    }
    let total = seconds.checked_mul(NANOS_PER_SECOND).and_then(|total| total.checked_add(i64::from(nanos)));
    total
        .and_then(|total| u64::try_from(total).ok())
        .ok_or_else(|| Error::invalid(field, "must be between the years 1970 and 2262"))
}

/// Time from now to a point in time, nanoseconds since the epoch; zero for one that has passed.
pub(crate) fn from_now(nanos: u64) -> Duration {
    let point = SystemTime::UNIX_EPOCH + Duration::from_nanos(nanos);
    point.duration_since(SystemTime::now()).unwrap_or_default()
}

/// The duration as protobuf has it; what is longer than 292 years becomes that.
pub(crate) fn to_proto_duration(duration: Duration) -> prost_types::Duration {
    let nanos = i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX);
    nanos_to_proto(nanos)
}

/// Nanoseconds, negative or not, as protobuf has them.
pub(crate) fn nanos_to_proto(nanos: i64) -> prost_types::Duration {
    let rest = i32::try_from(nanos % NANOS_PER_SECOND).unwrap_or_default();
    prost_types::Duration { seconds: nanos / NANOS_PER_SECOND, nanos: rest }
}

/// Nanoseconds since the epoch as protobuf has them.
pub(crate) fn to_timestamp(nanos: u64) -> Timestamp {
    let nanos = i64::try_from(nanos).unwrap_or(i64::MAX);
    let rest = i32::try_from(nanos % NANOS_PER_SECOND).unwrap_or_default();
    Timestamp { seconds: nanos / NANOS_PER_SECOND, nanos: rest }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn nanoseconds_go_round(nanos: i64) {
            prop_assert_eq!(signed_nanos("f", nanos_to_proto(nanos)), Ok(nanos));
        }

        #[test]
        fn timestamps_go_round(nanos in 0..=u64::try_from(i64::MAX).unwrap()) {
            prop_assert_eq!(timestamp_nanos("f", to_timestamp(nanos)), Ok(nanos));
        }

        #[test]
        fn no_value_panics(seconds: i64, nanos: i32) {
            let _ = signed_nanos("f", prost_types::Duration { seconds, nanos });
            let _ = duration("f", prost_types::Duration { seconds, nanos });
            let _ = timestamp_nanos("f", Timestamp { seconds, nanos });
        }
    }

    #[test]
    fn a_negative_duration_is_refused() {
        let error = duration("grace_period", prost_types::Duration { seconds: 0, nanos: -1 }).unwrap_err();
        assert_eq!(error.to_string(), "grace_period: must not be negative");
    }

    #[test]
    fn mixed_signs_are_refused() {
        assert!(signed_nanos("f", prost_types::Duration { seconds: 1, nanos: -1 }).is_err());
        assert!(signed_nanos("f", prost_types::Duration { seconds: 0, nanos: 1_000_000_000 }).is_err());
    }
}
