//! Quantities as people say them.

use jiff::Timestamp;

/// Digits of an id that are shown.
const SHORT: usize = 12;

/// The first digits of an id.
pub(crate) fn short_id(id: &str) -> &str {
    id.get(..SHORT).unwrap_or(id)
}

/// The first digits of a digest, without its algorithm.
pub(crate) fn short_digest(digest: &str) -> &str {
    short_id(digest.split_once(':').map_or(digest, |(_, hex)| hex))
}

/// "3 minutes", as Docker says it: one unit, the largest that fits.
fn span(seconds: i64) -> String {
    const MINUTE: i64 = 60;
    const HOUR: i64 = 60 * MINUTE;
    const DAY: i64 = 24 * HOUR;
    match seconds {
        ..1 => "Less than a second".to_owned(),
        1 => "1 second".to_owned(),
        2..MINUTE => format!("{seconds} seconds"),
        MINUTE..120 => "About a minute".to_owned(),
        120..HOUR => format!("{} minutes", seconds / MINUTE),
        HOUR..7200 => "About an hour".to_owned(),
        7200..172_800 => format!("{} hours", seconds / HOUR),
        172_800..1_209_600 => format!("{} days", seconds / DAY),
        1_209_600..5_184_000 => format!("{} weeks", seconds / (7 * DAY)),
        5_184_000..63_072_000 => format!("{} months", seconds / (30 * DAY)),
        _ => format!("{} years", seconds / (365 * DAY)),
    }
}

/// How long ago `then` was; an empty text where it is not known.
pub(crate) fn ago(then: Option<Timestamp>, now: Timestamp) -> String {
    then.map(|then| span(now.as_second() - then.as_second())).unwrap_or_default()
}

/// Bytes in units of 1024: "12.5MiB".
pub(crate) fn bytes(count: u64) -> String {
    scaled(count, 1024.0, &["B", "KiB", "MiB", "GiB", "TiB", "PiB"])
}

/// Bytes in units of 1000: "12.5MB".
pub(crate) fn bytes_decimal(count: u64) -> String {
    scaled(count, 1000.0, &["B", "kB", "MB", "GB", "TB", "PB"])
}

/// Four significant digits, as Docker shows them.
fn scaled(count: u64, step: f64, units: &[&str]) -> String {
    #[expect(clippy::cast_precision_loss, reason = "four digits are shown")]
    let mut value = count as f64;
    let mut at = 0;
    while value >= step && at + 1 < units.len() {
        value /= step;
        at += 1;
    }
    let places = match value {
        _ if at == 0 => 0,
        1000.0.. => 0,
        100.0.. => 1,
        10.0.. => 2,
        _ => 3,
    };
    let text = format!("{value:.places$}");
    let text = if places > 0 { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{}", units[at])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids() {
        assert_eq!(short_id(&"a".repeat(64)), "aaaaaaaaaaaa");
        assert_eq!(short_id("abc"), "abc");
        assert_eq!(short_digest("sha256:0123456789abcdef"), "0123456789ab");
    }

    #[test]
    fn spans() {
        for (seconds, text) in [
            (-5, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (61, "About a minute"),
            (180, "3 minutes"),
            (4000, "About an hour"),
            (86_400, "24 hours"),
            (200_000, "2 days"),
            (1_300_000, "2 weeks"),
            (6_000_000, "2 months"),
            (70_000_000, "2 years"),
        ] {
            assert_eq!(span(seconds), text);
        }
    }

    #[test]
    fn sizes() {
        assert_eq!(bytes(0), "0B");
        assert_eq!(bytes(1023), "1023B");
        assert_eq!(bytes(64 << 20), "64MiB");
        assert_eq!(bytes(1_572_864), "1.5MiB");
        assert_eq!(bytes_decimal(12_345_678), "12.35MB");
        assert_eq!(bytes_decimal(999), "999B");
        assert_eq!(bytes(u64::MAX), "16384PiB");
    }
}
