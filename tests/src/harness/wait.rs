//! Waiting: level-triggered, with a deadline; never for luck.

use std::future::Future;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

const INTERVAL: Duration = Duration::from_millis(5);

/// `time`, scaled for slow machines by HULL_TEST_TIME_FACTOR (default 1): the one place where it is read.
pub fn scaled(time: Duration) -> Duration {
    static FACTOR: OnceLock<f64> = OnceLock::new();
    let factor = FACTOR.get_or_init(|| {
        std::env::var("HULL_TEST_TIME_FACTOR")
            .map_or(1.0, |text| text.parse().expect("HULL_TEST_TIME_FACTOR is a number"))
    });
    time.mul_f64(*factor)
}

/// The deadline for anything that should be done at once.
pub fn soon() -> Duration {
    scaled(Duration::from_secs(10))
}

/// Polls until `check` gives a value.
///
/// # Panics
/// After [`soon`], with `what`.
pub fn until<T>(what: &str, mut check: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = check() {
            return value;
        }
        assert!(start.elapsed() < soon(), "waited {:?} in vain until {what}", start.elapsed());
        std::thread::sleep(INTERVAL);
    }
}

/// Polls until `check` gives a value, on the async side.
///
/// # Panics
/// After [`soon`], with `what`.
pub async fn until_async<T, F: Future<Output = Option<T>>>(what: &str, mut check: impl FnMut() -> F) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = check().await {
            return value;
        }
        assert!(start.elapsed() < soon(), "waited {:?} in vain until {what}", start.elapsed());
        tokio::time::sleep(INTERVAL).await;
    }
}

/// Bounds a future by [`soon`].
///
/// # Panics
/// If it takes longer, with `what`.
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(soon(), future).await {
        Ok(value) => value,
        Err(_) => panic!("{what} took longer than {:?}", soon()),
    }
}
