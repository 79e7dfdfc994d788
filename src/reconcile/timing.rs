//! When a source's loop looks again by itself: the next poll or scan, and units that are tried again.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::act::Target;
use crate::model::history::{Cause, TriggerKind};
use crate::model::source::Origin;
use crate::model::time::Timestamp;
use crate::observe::Source;

use super::message::{Look, PassOrder};
use super::source_loop::{SCAN, SCAN_AFTER_EVENT, SCAN_INTERVAL, SourceLoop, chance, retry_after};
use super::units::Unit;

impl<S: Source, T: Target> SourceLoop<S, T> {
    /// Sets when the source is looked at next.
    pub(super) fn schedule(&mut self, order: &PassOrder, failed: bool) {
        if order.dry {
            return;
        }
        let now = Instant::now();
        if failed {
            self.failures = self.failures.saturating_add(1);
            let interval = if self.is_local() { SCAN_INTERVAL } else { self.poll_interval() };
            self.next_look = now + retry_after(self.failures, interval);
            return;
        }
        self.failures = 0;
        self.next_look = match order {
            _ if !self.is_local() => now + self.poll_interval(),
            _ if order.look == Look::Hinted => now + SCAN_AFTER_EVENT,
            _ => now + SCAN_INTERVAL,
        };
    }

    /// Time to the next poll, with its jitter.
    pub(super) fn poll_interval(&self) -> Duration {
        match &self.record.spec.origin {
            Origin::Git(git) => git.poll_interval.mul_f64(0.9 + 0.2 * chance()),
            Origin::Local(_) => SCAN_INTERVAL,
        }
    }

    pub(super) fn timer_cause(&self) -> Cause {
        if self.is_local() { Cause::new(TriggerKind::File, SCAN) } else { Cause::new(TriggerKind::Poll, "") }
    }

    /// Makes a pass soon although nothing will wake it: something was being written, or could not be recorded.
    pub(super) fn pass_after(&mut self, wait: Duration, look: Look) {
        let at = Instant::now() + wait;
        self.soon = Some(self.soon.map_or((at, look), |(known, other)| (known.min(at), other.max(look))));
    }

    /// When the next unit that failed is tried again.
    pub(super) fn next_retry(&self) -> Option<Instant> {
        self.first_retry.map(|at| Instant::now() + at.since(self.core.now()))
    }

    /// Looks up the first moment at which a unit is tried again; called when that may have changed.
    pub(super) fn update_retry(&mut self) {
        let waiting = self.units.restless().filter(|unit| unit.busy.is_none());
        self.first_retry = waiting.filter_map(|unit| unit.record.retry_at).min();
    }

    /// Keys of units whose wait after a failure is over.
    pub(super) fn retries_due(&self, now: Timestamp) -> Vec<Arc<str>> {
        if self.first_retry.is_none_or(|first| first > now) {
            return Vec::new();
        }
        let due = |unit: &&Unit| unit.busy.is_none() && unit.record.retry_at.is_some_and(|at| at <= now);
        self.units.restless().filter(due).map(|unit| Arc::clone(&unit.record.id.key)).collect()
    }
}
