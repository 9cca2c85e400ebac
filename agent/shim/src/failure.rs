//! Failures and times of steps.

use hull_wire::{Failure, Step, StepTime};
use nix::errno::Errno;
use nix::time::{ClockId, clock_gettime};

/// Result of a step.
pub(crate) type Result<T> = std::result::Result<T, Failure>;

/// Adds the step to what a system call said.
pub(crate) trait At<T> {
    /// `detail`: what the step was about, without the errno's text.
    fn at(self, step: Step, detail: impl AsRef<str>) -> Result<T>;
}

impl<T> At<T> for nix::Result<T> {
    fn at(self, step: Step, detail: impl AsRef<str>) -> Result<T> {
        self.map_err(|errno| failed(step, errno, detail.as_ref()))
    }
}

/// Most bytes of a detail, so that a failure with the longest path is one packet still.
const MAX_DETAIL: usize = 2048;

/// A failure with an errno.
pub(crate) fn failed(step: Step, errno: Errno, detail: &str) -> Failure {
    Failure { errno: errno as i32, ..refused(step, detail) }
}

/// A failure that is not the kernel's.
pub(crate) fn refused(step: Step, detail: impl Into<String>) -> Failure {
    let mut detail = detail.into();
    if detail.len() > MAX_DETAIL {
        let whole = (0..=MAX_DETAIL).rev().find(|end| detail.is_char_boundary(*end));
        detail.truncate(whole.unwrap_or_default());
        detail.push('…');
    }
    Failure { step, errno: 0, detail }
}

/// Measures steps one after the other.
#[derive(Debug)]
pub(crate) struct Clock {
    last: u64,
    times: Vec<StepTime>,
}

impl Clock {
    /// Begins the first step at `since`, nanoseconds of CLOCK_MONOTONIC.
    pub(crate) fn since(since: u64) -> Self {
        Self { last: since, times: Vec::with_capacity(32) }
    }

    /// Ends a step, which began when the one before it ended.
    pub(crate) fn lap(&mut self, step: Step) {
        let now = nanos(ClockId::CLOCK_MONOTONIC);
        self.times.push(StepTime { step, nanos: now.saturating_sub(self.last) });
        self.last = now;
    }

    /// When the last step ended.
    pub(crate) fn last(&self) -> u64 {
        self.last
    }

    /// The steps.
    pub(crate) fn into_times(self) -> Vec<StepTime> {
        self.times
    }
}

/// What a clock shows, in nanoseconds.
pub(crate) fn nanos(clock: ClockId) -> u64 {
    let Ok(now) = clock_gettime(clock) else { return 0 };
    let seconds = u64::try_from(now.tv_sec()).unwrap_or_default();
    seconds.saturating_mul(1_000_000_000).saturating_add(u64::try_from(now.tv_nsec()).unwrap_or_default())
}
