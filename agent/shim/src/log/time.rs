//! Time as the log says it.

/// Bytes of a timestamp.
pub(super) const LENGTH: usize = 30;

/// Nanoseconds since the epoch as in RFC 3339, in UTC: "2026-11-23T17:45:37.123456789Z".
pub(super) fn timestamp(nanos: u64) -> String {
    let (seconds, fraction) = (nanos / 1_000_000_000, nanos % 1_000_000_000);
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = date(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{fraction:09}Z")
}

/// Gregorian date of a day since the epoch, counted in years that begin in March, so that leap days come last.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rfc_3339() {
        assert_eq!(timestamp(0), "1970-01-01T00:00:00.000000000Z");
        assert_eq!(timestamp(0).len(), LENGTH);
        assert_eq!(timestamp(951_782_399_000_000_001), "2000-02-28T23:59:59.000000001Z");
        assert_eq!(timestamp(951_782_400_000_000_000), "2000-02-29T00:00:00.000000000Z");
        assert_eq!(timestamp(1_795_455_937_123_456_789), "2026-11-23T17:45:37.123456789Z");
        assert_eq!(timestamp(4_107_542_399_999_999_999), "2100-02-28T23:59:59.999999999Z");
        assert_eq!(timestamp(4_107_542_400_000_000_000), "2100-03-01T00:00:00.000000000Z");
    }
}
