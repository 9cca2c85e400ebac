//! Sizes and durations as people write them.

use std::time::Duration;

use crate::error::{Error, Result};

/// Bytes from "64m", "1.5g", "4096": Docker's suffixes b, k, m, g, t, p, alone or as "kb" or "KiB", each 1024 of the one before.
pub(crate) fn size(flag: &str, text: &str) -> Result<u64> {
    let wrong = || Error::new(format!("{flag} {text}: expected a size such as 64m or 1g"));
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits);
    let suffix = suffix.trim_start().to_ascii_lowercase();
    let shift = match suffix.strip_suffix("ib").or(suffix.strip_suffix('b')).unwrap_or(&suffix) {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        "p" => 50,
        _ => return Err(wrong()),
    };
    let thousandths = decimal(number, 3).ok_or_else(wrong)?;
    let bytes = (u128::from(thousandths) << shift) / 1000;
    i64::try_from(bytes).ok().and_then(|bytes| u64::try_from(bytes).ok()).ok_or_else(wrong)
}

/// Bytes, or -1 for no limit.
pub(crate) fn limit(flag: &str, text: &str) -> Result<i64> {
    if text == "-1" {
        return Ok(-1);
    }
    size(flag, text).map(|bytes| i64::try_from(bytes).unwrap_or(i64::MAX))
}

/// A decimal number in units of 10^-`places`; further digits are refused unless they are zeros.
pub(crate) fn decimal(text: &str, places: usize) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let fraction = fraction.trim_end_matches('0');
    let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    if (whole.is_empty() && fraction.is_empty()) || fraction.len() > places || !digits(whole) || !digits(fraction) {
        return None;
    }
    format!("0{whole}{fraction:0<places$}").parse().ok()
}

/// A duration such as "10s", "1m30s", "1.5h", "250ms", or a bare number of seconds; nanoseconds.
pub(crate) fn nanos(flag: &str, text: &str) -> Result<i64> {
    let wrong = || Error::new(format!("{flag} {text}: expected a duration such as 10s, 1m30s or 250ms"));
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if let Some(seconds) = decimal(rest, 9) {
        let seconds = i64::try_from(seconds).map_err(|_| wrong())?;
        return Ok(if negative { -seconds } else { seconds });
    }
    if rest.is_empty() {
        return Err(wrong());
    }
    let mut total: u128 = 0;
    while !rest.is_empty() {
        let unit_at = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let (number, tail) = rest.split_at(unit_at);
        let unit_end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        let scale: u128 = match unit {
            "ns" => 1,
            "us" | "µs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            "d" => 86_400_000_000_000,
            _ => return Err(wrong()),
        };
        total += u128::from(decimal(number, 9).ok_or_else(wrong)?) * scale / 1_000_000_000;
        rest = tail;
    }
    let total = i64::try_from(total).map_err(|_| wrong())?;
    Ok(if negative { -total } else { total })
}

/// A duration that is not negative.
pub(crate) fn duration(flag: &str, text: &str) -> Result<Duration> {
    let nanos = nanos(flag, text)?;
    u64::try_from(nanos).map(Duration::from_nanos).map_err(|_| Error::new(format!("{flag} {text}: is negative")))
}

/// Seconds of Unix time with at least nine whole digits (so that a smaller number is a duration), in nanoseconds.
pub(crate) fn unix_nanos(text: &str) -> Option<i64> {
    let whole = text.split('.').next().unwrap_or_default();
    decimal(text, 9).filter(|_| whole.len() >= 9).and_then(|nanos| i64::try_from(nanos).ok())
}

/// The API's form of a number of nanoseconds.
pub(crate) fn proto_nanos(nanos: i64) -> prost_types::Duration {
    let rest = i32::try_from(nanos % 1_000_000_000).unwrap_or_default();
    prost_types::Duration { seconds: nanos / 1_000_000_000, nanos: rest }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_dockers() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("1b", 1),
            ("64m", 64 << 20),
            ("64M", 64 << 20),
            ("1.5g", 3 << 29),
            ("2kb", 2048),
            ("2KiB", 2048),
            ("1 g", 1 << 30),
        ] {
            assert_eq!(size("--memory", text).unwrap(), bytes, "{text}");
        }
        for wrong in ["", "m", "-1", "64x", "1e3", "9000000p", "1..2k", "0x10", "1k1"] {
            assert!(size("--memory", wrong).is_err(), "{wrong}");
        }
        assert_eq!(limit("--memory", "-1").unwrap(), -1);
        assert!(limit("--memory", "-2").is_err());
    }

    #[test]
    fn decimals_are_exact() {
        assert_eq!(decimal("0.5", 9), Some(500_000_000));
        assert_eq!(decimal(".5", 1), Some(5));
        assert_eq!(decimal("1.", 3), Some(1000));
        assert_eq!(decimal("1.2340000", 3), Some(1234));
        for wrong in ["", ".", "1.2345", "+1", "-1", "1e3", "99999999999999999999"] {
            assert_eq!(decimal(wrong, 3), None, "{wrong}");
        }
    }

    #[test]
    fn durations() {
        for (text, expected) in [
            ("10", 10_000_000_000),
            ("10s", 10_000_000_000),
            ("1m30s", 90_000_000_000),
            ("1.5h", 5_400_000_000_000),
            ("250ms", 250_000_000),
            ("-1d", -86_400_000_000_000),
            ("0s", 0),
            ("1h0m", 3_600_000_000_000),
        ] {
            assert_eq!(nanos("--interval", text).unwrap(), expected, "{text}");
        }
        for wrong in ["", "s", "1x", "1s2", "--1s", "1.5.5s", "-"] {
            assert!(nanos("--interval", wrong).is_err(), "{wrong}");
        }
        assert!(duration("--interval", "-1s").is_err());
    }
}
