//! The one place that asks the system for the time of day, so that tests can set it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// A clock for data: timestamps that are recorded and shown. Timers use tokio's own clock, which tests pause.
#[derive(Clone, Debug, Default)]
pub enum Clock {
    /// The machine's.
    #[default]
    System,
    /// Set by a test, in milliseconds since 1970.
    Set(Arc<AtomicI64>),
    /// Goes with tokio's clock, which tests pause: so many milliseconds since 1970 when it was made. A test moves it.
    Going(Arc<AtomicI64>, Instant),
}

impl Clock {
    /// A clock that stands still at `now_ms` until a test moves it.
    #[must_use]
    pub fn set_to(now_ms: i64) -> Self {
        Self::Set(Arc::new(AtomicI64::new(now_ms)))
    }

    /// A clock that shows `now_ms` and goes with tokio's.
    #[must_use]
    pub fn going_from(now_ms: i64) -> Self {
        Self::Going(Arc::new(AtomicI64::new(now_ms)), Instant::now())
    }

    /// Milliseconds since 1970-01-01 00:00:00 UTC.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is the place that may ask")]
    pub fn now_ms(&self) -> i64 {
        match self {
            Self::System => SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX)),
            Self::Set(now) => now.load(Ordering::Relaxed),
            Self::Going(began, at) => {
                let gone = i64::try_from(at.elapsed().as_millis()).unwrap_or(i64::MAX);
                began.load(Ordering::Relaxed).saturating_add(gone)
            }
        }
    }
}
