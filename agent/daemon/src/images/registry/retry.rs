//! Which failures are tried again, and when.
//!
//! Tried again is what may pass by itself: a connection that fails or stands still, 429 and 5xx. What a registry says about
//! the request itself (4xx) stays true.

use std::time::{Duration, SystemTime};

use http::header::RETRY_AFTER;
use http::{HeaderMap, StatusCode};

use crate::error::Error;

/// Attempts of one request; bytes that came in between start the count anew.
const ATTEMPTS: u32 = 6;
/// The pause after the first failure; it doubles with each further one.
const FIRST: Duration = Duration::from_millis(250);
/// The longest pause of hull's own.
const LONGEST: Duration = Duration::from_secs(8);
/// The longest pause that a registry can ask for.
const LONGEST_ASKED: Duration = Duration::from_secs(60);

/// A failed request.
#[derive(Debug, Clone)]
pub(in crate::images) struct Trouble {
    pub(in crate::images) error: Error,
    pub(in crate::images) kind: Kind,
}

/// What to make of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::images) enum Kind {
    /// It may pass; the registry may have said how long that takes.
    Passing { after: Option<Duration> },
    /// There is no such thing.
    Missing,
    /// It stays.
    Final,
}

impl Trouble {
    pub(in crate::images) fn passing(error: Error) -> Self {
        Self { error, kind: Kind::Passing { after: None } }
    }

    pub(in crate::images) fn lasting(error: Error) -> Self {
        Self { error, kind: Kind::Final }
    }
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::lasting(error)
    }
}

/// What a status means for trying again.
pub(super) fn kind(status: StatusCode, headers: &HeaderMap) -> Kind {
    match status {
        StatusCode::NOT_FOUND => Kind::Missing,
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
            Kind::Passing { after: retry_after(headers, SystemTime::now()) }
        }
        status if status.is_server_error() => Kind::Passing { after: None },
        _ => Kind::Final,
    }
}

/// Retry-After: seconds or a date.
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let asked = match text.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => httpdate::parse_http_date(text).ok()?.duration_since(now).unwrap_or_default(),
    };
    Some(asked.min(LONGEST_ASKED))
}

/// Counts failures, and waits after each.
#[derive(Debug, Default)]
pub(in crate::images) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// Waits before the next attempt, or gives the failure back if it is final or was the last that is borne.
    pub(in crate::images) async fn after(&mut self, trouble: Trouble) -> Result<(), Trouble> {
        let pause = self.next(&trouble)?;
        tracing::debug!(error = %trouble.error, ?pause, "trying again");
        tokio::time::sleep(pause).await;
        Ok(())
    }

    /// The pause after one more failure.
    fn next(&mut self, trouble: &Trouble) -> Result<Duration, Trouble> {
        self.failures += 1;
        match trouble.kind {
            Kind::Passing { after } if self.failures < ATTEMPTS => Ok(self.pause(after, random())),
            _ => Err(trouble.clone()),
        }
    }

    /// Something worked in between.
    pub(in crate::images) fn reset(&mut self) {
        self.failures = 0;
    }

    /// The pause: what was asked for at least, else between half and all of the doubling one.
    fn pause(&self, asked: Option<Duration>, random: u32) -> Duration {
        let own = FIRST.saturating_mul(1 << self.failures.saturating_sub(1).min(16)).min(LONGEST);
        let share = 0.5 + f64::from(random) / f64::from(u32::MAX) / 2.0;
        match asked {
            // Spread, so that those who were sent away together do not come back together.
            Some(asked) => asked + FIRST.mul_f64(share),
            None => own.mul_f64(share),
        }
    }
}

fn random() -> u32 {
    let mut bytes = [0; 4];
    // Without a random number the pauses are only less spread.
    let _ = getrandom::fill(&mut bytes);
    u32::from_le_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Reason;

    fn asked(text: &str) -> Option<Duration> {
        let headers = HeaderMap::from_iter([(RETRY_AFTER, text.parse().unwrap())]);
        // 1994-11-06 08:49:07 GMT
        retry_after(&headers, SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_747))
    }

    #[test]
    fn retry_after_is_seconds_or_a_date_and_bounded() {
        assert_eq!(asked("3"), Some(Duration::from_secs(3)));
        assert_eq!(asked("0"), Some(Duration::ZERO));
        assert_eq!(asked("86400"), Some(LONGEST_ASKED));
        assert_eq!(asked("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::from_secs(30)));
        assert_eq!(asked("Sun, 06 Nov 1994 08:00:00 GMT"), Some(Duration::ZERO));
        assert_eq!(asked("soon"), None);
        assert_eq!(retry_after(&HeaderMap::new(), SystemTime::now()), None);
    }

    #[test]
    fn only_what_may_pass_is_tried_again() {
        let kind = |status: u16| kind(StatusCode::from_u16(status).unwrap(), &HeaderMap::new());
        for passing in [429, 500, 502, 503, 504] {
            assert_eq!(kind(passing), Kind::Passing { after: None }, "{passing}");
        }
        for lasting in [400, 401, 403, 405, 416, 200, 301] {
            assert_eq!(kind(lasting), Kind::Final, "{lasting}");
        }
        assert_eq!(kind(404), Kind::Missing);
    }

    #[test]
    fn pauses_double_up_to_a_bound_and_are_spread() {
        let pause = |failures, random| Backoff { failures }.pause(None, random);
        assert_eq!(pause(1, u32::MAX), FIRST);
        assert_eq!(pause(1, 0), FIRST / 2);
        assert_eq!(pause(3, u32::MAX), FIRST * 4);
        assert_eq!(pause(60, u32::MAX), LONGEST);
        let asked = Backoff { failures: 1 }.pause(Some(Duration::from_secs(5)), 0);
        assert!(asked > Duration::from_secs(5) && asked < Duration::from_secs(6));
    }

    #[test]
    fn attempts_are_counted() {
        let trouble = Trouble::passing(Error::new(Reason::RegistryUnavailable, "x"));
        let mut backoff = Backoff::default();
        for _ in 1..ATTEMPTS {
            backoff.next(&trouble).unwrap();
        }
        backoff.next(&trouble).unwrap_err();
        backoff.reset();
        backoff.next(&trouble).unwrap();
        let lasting = Trouble::lasting(Error::new(Reason::RegistryDenied, "x"));
        Backoff::default().next(&lasting).unwrap_err();
    }
}
