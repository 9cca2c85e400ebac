//! Points in time.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use crate::error::{Error, Result};
use crate::spec;

/// A point in time of the API; nothing where it is absent or out of range.
pub(crate) fn moment(time: Option<&prost_types::Timestamp>) -> Option<Timestamp> {
    time.and_then(|time| Timestamp::new(time.seconds, time.nanos).ok())
}

/// RFC 3339 with all nine digits, so that columns of it line up and sort.
pub(crate) fn fixed_width(time: Timestamp) -> String {
    format!("{time:.9}")
}

/// RFC 3339, a local date with or without time, Unix seconds with or without fraction, or a duration before `now`.
pub(crate) fn parse_moment(flag: &str, text: &str, now: Timestamp) -> Result<prost_types::Timestamp> {
    let unix = |text: &str| spec::unix_nanos(text).and_then(|nanos| Timestamp::from_nanosecond(nanos.into()).ok());
    let before = |text: &str| {
        let nanos = spec::nanos(flag, text).ok()?;
        now.checked_sub(SignedDuration::from_nanos(nanos)).ok()
    };
    let local = |text: &str| text.parse::<DateTime>().ok()?.to_zoned(TimeZone::system()).ok().map(|at| at.timestamp());
    let parsed = unix(text).or_else(|| before(text)).or_else(|| text.parse().ok()).or_else(|| local(text));
    let Some(time) = parsed else {
        let forms = "RFC 3339, a date, Unix seconds, or a duration such as 10m";
        return Err(Error::new(format!("{flag} {text}: expected {forms}")));
    };
    let time = time.as_nanosecond();
    let (seconds, nanos) = (time.div_euclid(1_000_000_000), time.rem_euclid(1_000_000_000));
    let wrong = |_| Error::new(format!("{flag} {text}: out of range"));
    Ok(prost_types::Timestamp { seconds: seconds.try_into().map_err(wrong)?, nanos: nanos.try_into().map_err(wrong)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments() {
        let now: Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
        let at = |text: &str| moment(Some(&parse_moment("--since", text, now).unwrap())).unwrap().to_string();
        assert_eq!(at("10m"), "2026-01-02T02:54:05Z");
        assert_eq!(at("1h30m"), "2026-01-02T01:34:05Z");
        assert_eq!(at("1767323045"), "2026-01-02T03:04:05Z");
        assert_eq!(at("1767323045.25"), "2026-01-02T03:04:05.25Z");
        assert_eq!(at("2026-01-02T03:04:05+01:00"), "2026-01-02T02:04:05Z");
        assert!(parse_moment("--since", "2026-01-02", now).is_ok());
        assert!(parse_moment("--since", "2026-01-02T03:04", now).is_ok());
        for wrong in ["", "soon", "10x", "2026-13-01"] {
            assert!(parse_moment("--since", wrong, now).is_err(), "{wrong}");
        }
    }

    #[test]
    fn nine_digits() {
        assert_eq!(fixed_width(Timestamp::new(0, 5_000).unwrap()), "1970-01-01T00:00:00.000005000Z");
        assert_eq!(moment(Some(&prost_types::Timestamp { seconds: i64::MAX, nanos: 0 })), None);
    }
}
