//! Containers at rest.
//!
//! While no process of a container runs, what only its own processes change stays as it is, and need not be read again. Whether one
//! ran is told by a few files, the tell-tales: processor time, memory in use, number of threads. A container is at rest when they
//! have told the same for some time, and everything was read at the end of it. Then other files are read again when a tell-tale
//! tells something else, when limits were changed, when somebody asks for one reading of now, and every [`REFRESH`]: pages may be
//! reclaimed in favour of others, and limits be set past the agent. The files with limits are read no more often, rest or not.

use std::hash::{DefaultHasher, Hasher as _};
use std::time::Duration;

use crate::stats::group::Groups;

/// What the kernel tells lags behind by up to this: it sums up memory's counters and pressure's averages every two seconds.
const SETTLED: Duration = Duration::from_secs(3);
/// Everything is read again this often.
const REFRESH: Duration = Duration::from_secs(10);
/// Those who are refreshed together, one group of containers after the other.
const PHASES: u64 = 100;

/// What the tell-tales say, in short.
#[derive(Debug, Default)]
pub(super) struct Tale(DefaultHasher);

impl Tale {
    /// A tell-tale says this.
    pub(super) fn add(&mut self, text: &[u8]) {
        self.0.write_usize(text.len());
        self.0.write(text);
    }
}

/// A reading, as far as it matters for rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Told {
    tale: u64,
    groups: Groups,
    /// How often limits had been changed before it.
    limits: u32,
}

impl Told {
    pub(super) fn new(tale: &Tale, groups: Groups, limits: u32) -> Self {
        Self { tale: tale.0.finish(), groups, limits }
    }
}

/// Whether a container is at rest. Times are nanoseconds of the monotonic clock.
#[derive(Debug, Default)]
pub(super) struct Rest {
    told: Option<Told>,
    /// When that was told first.
    since: u64,
    /// When everything was read last.
    whole: u64,
    /// Whether that was long enough after `since`.
    settled: bool,
}

impl Rest {
    /// Whether what was read before still holds. `run` of the container spreads refreshing.
    pub(super) fn holds(&self, told: Told, now: u64, run: u64) -> bool {
        self.settled && self.told == Some(told) && self.limits_hold(told, now, run)
    }

    /// Whether limits are what they were before.
    pub(super) fn limits_hold(&self, told: Told, now: u64, run: u64) -> bool {
        let period = |at: u64| (u128::from(at) + phase(run)) / REFRESH.as_nanos();
        let same = |last: Told| (last.groups, last.limits) == (told.groups, told.limits);
        self.told.is_some_and(same) && period(now) == period(self.whole)
    }

    /// Everything was read.
    pub(super) fn read(&mut self, told: Told, now: u64) {
        if self.told != Some(told) {
            (self.told, self.since) = (Some(told), now);
        }
        self.whole = now;
        self.settled = u128::from(now.saturating_sub(self.since)) >= SETTLED.as_nanos();
    }

    /// Nothing is known any more.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }
}

fn phase(run: u64) -> u128 {
    REFRESH.as_nanos() / u128::from(PHASES) * u128::from(run % PHASES)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn told(texts: &[&str], limits: u32) -> Told {
        let mut tale = Tale::default();
        texts.iter().for_each(|text| tale.add(text.as_bytes()));
        Told::new(&tale, Groups::CONTAINER, limits)
    }

    #[test]
    fn rest_comes_after_some_time_and_ends_with_any_change() {
        let mut rest = Rest::default();
        let still = told(&["usage_usec 5\n", "4096\n"], 0);
        assert!(!rest.holds(still, 0, 0));
        for second in [0, 1, 2] {
            rest.read(still, second * SECOND);
            assert!(!rest.holds(still, (second + 1) * SECOND, 0));
        }
        rest.read(still, 3 * SECOND);
        assert!(rest.holds(still, 4 * SECOND, 0));
        let others = [
            told(&["usage_usec 6\n", "4096\n"], 0),
            told(&["usage_usec 5\n4096\n"], 0),
            told(&["usage_usec 5\n", "4096\n"], 1),
        ];
        for other in others {
            assert!(!rest.holds(other, 4 * SECOND, 0));
        }
        let fewer = Told { groups: Groups::NONE, ..still };
        assert!(!rest.holds(fewer, 4 * SECOND, 0) && !rest.limits_hold(fewer, 4 * SECOND, 0));
        assert!(rest.limits_hold(others[0], 4 * SECOND, 0) && !rest.limits_hold(others[2], 4 * SECOND, 0));
        rest.read(others[0], 5 * SECOND);
        assert!(!rest.holds(others[0], 6 * SECOND, 0) && !rest.holds(still, 6 * SECOND, 0));
        rest.forget();
        assert!(!rest.holds(still, 4 * SECOND, 0));
    }

    #[test]
    fn everything_is_read_every_ten_seconds_but_not_of_all_at_once() {
        let still = told(&[], 0);
        let refreshed = |run| {
            let mut rest = Rest::default();
            rest.read(still, 0);
            rest.read(still, 3 * SECOND);
            (3..20).find(|second| !rest.holds(still, second * SECOND, run)).unwrap()
        };
        let times: Vec<u64> = (0..100).map(refreshed).collect();
        assert!(times.iter().all(|second| (4..=13).contains(second)), "{times:?}");
        for second in 4..=13 {
            let together = times.iter().filter(|time| **time == second).count();
            assert!((5..=15).contains(&together), "{together} in second {second}");
        }
    }
}
