//! What a source says of itself when a pass cannot be made: it could not be observed, its files could not be read, or
//! a guard stops it. Its units stay as they are.

use crate::act::Target;
use crate::model::condition::{ConditionStatus, ConditionType};
use crate::model::event::EventType;
use crate::model::id::UnitId;
use crate::observe::{self, ObserveError, Source};

use super::message::{Refusal, RefusalKind};
use super::outcome::Draft;
use super::runs::chain;
use super::source_loop::SourceLoop;

impl<S: Source, T: Target> SourceLoop<S, T> {
    /// Files could not be read, or what was read could not be kept: what depends on them is looked at again.
    pub(super) async fn read_failed(&mut self, error: &ObserveError) -> Refusal {
        if self.is_trial {
            return Refusal::new(RefusalKind::Failed, chain(error));
        }
        if error.reason == observe::STORE_FAILED {
            return self.store_failed(&[], &chain(error));
        }
        let refusal = self.source_failed(error).await;
        self.with_units_that_stay(refusal)
    }

    /// A refusal of a pass that left every unit as it is.
    pub(super) fn with_units_that_stay(&self, refusal: Refusal) -> Refusal {
        match self.units.len() {
            0 => refusal,
            units => Refusal {
                message: format!("{} (its {units} units stay as they are)", refusal.message),
                ..refusal
            },
        }
    }

    /// The source could not be observed, and it says why.
    pub(super) async fn source_failed(&mut self, error: &ObserveError) -> Refusal {
        let (now, why) = (self.core.now(), self.with_left_behind(chain(error)));
        self.needs_person = error.stalled;
        self.look_failed = true;
        // It comes back when the directory does, but nobody but a person can bring it.
        let is_gone = self.record.dev.is_some() && error.reason.starts_with("Root");
        let conditions = &mut self.record.conditions;
        let mut changed =
            conditions.set(now, ConditionType::Ready, ConditionStatus::False, error.reason, &why);
        let other = if error.stalled || is_gone {
            (ConditionType::Stalled, ConditionType::Reconciling)
        } else {
            (ConditionType::Reconciling, ConditionType::Stalled)
        };
        // What was to be tried again may need a person now, for the same reason.
        changed |= conditions.set(now, other.0, ConditionStatus::True, error.reason, &why);
        conditions.clear(other.1);
        if changed {
            self.tell_source_failed(&why).await;
        }
        Refusal::new(RefusalKind::Failed, why)
    }

    /// The pass would remove too much: nothing is done until a person agrees.
    pub(super) async fn stall_on_removals(&mut self, gone: &[UnitId]) -> Refusal {
        let now = self.core.now();
        let shown: Vec<String> = gone.iter().take(10).map(ToString::to_string).collect();
        let more = gone.len().saturating_sub(shown.len());
        let more = if more == 0 { String::new() } else { format!(" and {more} more") };
        let why = format!("this would remove {} units: {}{more}", gone.len(), shown.join(", "));
        let lifts = format!("kindling reconcile {} --allow-removals", self.record.spec.name);
        let told = format!("{why}; if they are to go: `{lifts}`");
        let mut changed = false;
        for (kind, so) in
            [(ConditionType::Ready, ConditionStatus::False), (ConditionType::Stalled, ConditionStatus::True)]
        {
            changed |= self.record.conditions.set(now, kind, so, "RemovalGuard", &told);
        }
        if changed {
            self.tell_source_failed(&told).await;
        }
        Refusal::new(RefusalKind::Conflict, why).hint(lifts)
    }

    pub(super) async fn tell_source_failed(&mut self, why: &str) {
        let event = self.source_event(EventType::SourceFailed, why.to_owned());
        tracing::warn!("source {}: {why}", self.record.spec.name);
        let draft = Draft { events: vec![event], ..Draft::default() };
        // Where the store fails too, `commit` says so.
        let _ = self.commit(draft, true).await;
        self.core.board.put_source(self.record.clone());
    }
}
