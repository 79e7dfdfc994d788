//! How long and how much is kept of what is recorded (DESIGN 10).

use std::time::Duration;

/// Bounds on rows of one kind: what is older goes, and what is more than so many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The age that a row may have.
    pub age: Duration,
    /// So many of the newest are kept.
    pub count: u32,
}

/// How long and how much is kept; each is a key of `retention` in kindling.yaml. What is in use stays whatever stands
/// here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Rows of history; the count is that of each unit.
    pub history: Kept,
    /// Runs with their logs, from their end on; the count is that of each task.
    pub runs: Kept,
    /// Events.
    pub events: Kept,
    /// Deliveries of push webhooks.
    pub deliveries: Kept,
    /// Versions of each unit beside those in use.
    pub versions: u32,
    /// How long anything is kept of a unit that is gone (DESIGN 2).
    pub removed: Duration,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            history: Kept { age: days(90), count: 1000 },
            runs: Kept { age: days(30), count: 1000 },
            events: Kept { age: days(7), count: 100_000 },
            deliveries: Kept { age: days(30), count: 10_000 },
            versions: 10,
            removed: days(30),
        }
    }
}

/// So many days of 24 hours.
#[must_use]
pub const fn days(count: u64) -> Duration {
    Duration::from_secs(count * 24 * 3600)
}
