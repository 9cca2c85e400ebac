//! The rate limit: so much in each second.

use std::time::Duration;

use hull_wire::{LogRate, LogUnit, Overrun};

const SECOND: u64 = 1_000_000_000;

/// A rate, and what is left of it for this second.
#[derive(Debug)]
pub(super) struct Limit {
    rate: LogRate,
    /// When this second began, nanoseconds of CLOCK_MONOTONIC.
    since: u64,
    /// Negative: taken in advance from the next.
    left: i64,
}

impl Limit {
    pub(super) fn new(rate: LogRate, now: u64) -> Self {
        let mut limit = Self { rate, since: now, left: 0 };
        limit.left = limit.amount();
        limit
    }

    fn amount(&self) -> i64 {
        i64::try_from(self.rate.amount).unwrap_or(i64::MAX).max(1)
    }

    /// Begins another second if it is time to.
    pub(super) fn refill(&mut self, now: u64) {
        let seconds = now.saturating_sub(self.since) / SECOND;
        self.since += seconds * SECOND;
        let more = i64::try_from(seconds).unwrap_or(i64::MAX).saturating_mul(self.amount());
        self.left = self.left.saturating_add(more).min(self.amount());
    }

    /// Takes what a line of so many bytes costs. False: it is to be dropped.
    pub(super) fn take(&mut self, bytes: usize) -> bool {
        if self.left <= 0 && self.rate.overrun == Overrun::Drop {
            return false;
        }
        let cost = match self.rate.unit {
            LogUnit::Bytes => i64::try_from(bytes).unwrap_or(i64::MAX),
            LogUnit::Lines => 1,
        };
        self.left = self.left.saturating_sub(cost);
        true
    }

    /// How long nothing is left.
    pub(super) fn pause(&self, now: u64) -> Option<Duration> {
        if self.left > 0 {
            return None;
        }
        let seconds = self.left.unsigned_abs() / self.amount().unsigned_abs() + 1;
        let until = self.since.saturating_add(seconds.saturating_mul(SECOND));
        Some(Duration::from_nanos(until.saturating_sub(now))).filter(|pause| !pause.is_zero())
    }

    /// Whether the container waits while nothing is left.
    pub(super) fn blocks(&self) -> bool {
        self.rate.overrun == Overrun::Block
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(amount: u64, unit: LogUnit, overrun: Overrun) -> Limit {
        Limit::new(LogRate { amount, unit, overrun }, 0)
    }

    #[test]
    fn so_many_lines_a_second() {
        let mut limit = limit(2, LogUnit::Lines, Overrun::Drop);
        assert_eq!([1, 1, 1].map(|bytes| limit.take(bytes)), [true, true, false]);
        assert_eq!(limit.pause(SECOND / 4), Some(Duration::from_millis(750)));
        limit.refill(SECOND - 1);
        assert!(!limit.take(1));
        limit.refill(SECOND);
        assert_eq!((limit.pause(SECOND), limit.take(1)), (None, true));
        // What was not used is not saved up.
        limit.refill(50 * SECOND);
        assert_eq!([1, 1, 1].map(|bytes| limit.take(bytes)), [true, true, false]);
    }

    #[test]
    fn what_is_taken_in_advance_is_paid_for() {
        let mut limit = limit(100, LogUnit::Bytes, Overrun::Block);
        assert!(limit.take(250) && limit.take(50));
        assert_eq!(limit.pause(0), Some(Duration::from_secs(3)));
        limit.refill(2 * SECOND);
        assert_eq!(limit.pause(2 * SECOND), Some(Duration::from_secs(1)));
        limit.refill(3 * SECOND);
        assert_eq!(limit.pause(3 * SECOND), None);
    }
}
