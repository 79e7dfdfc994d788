//! What a source says of itself when a pass cannot be made: it could not be observed, its files could not be read, or
//! a guard stops it. Its units stay as they are.

use crate::act::Target;
use crate::model::condition::{ConditionStatus, ConditionType};
use crate::model::event::EventType;
use crate::model::id::{SourceName, UnitId};
use crate::observe::{self, ObserveError, Source};
use crate::support::text::count;

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
            1 => Refusal { message: format!("{} (its unit stays as it is)", refusal.message), ..refusal },
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
        let (why, lifts) = in_words(&self.record.spec.name, gone);
        let told = told(&why, &lifts);
        let mut changed = false;
        for (kind, so) in
            [(ConditionType::Ready, ConditionStatus::False), (ConditionType::Stalled, ConditionStatus::True)]
        {
            changed |= self.record.conditions.set(now, kind, so, REMOVAL_GUARD, &told);
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

/// What a source says of itself while it would remove too much.
const REMOVAL_GUARD: &str = "RemovalGuard";

/// What is said of a pass that would not be made: it would remove `gone`, and nobody has agreed to that.
#[must_use]
pub fn held_back(source: &SourceName, gone: &[UnitId]) -> String {
    let (why, lifts) = in_words(source, gone);
    format!("{REMOVAL_GUARD}: {}", told(&why, &lifts))
}

/// What would be done, and the command that lets it be done.
fn in_words(source: &SourceName, gone: &[UnitId]) -> (String, String) {
    let shown: Vec<String> = gone.iter().take(10).map(ToString::to_string).collect();
    let more = gone.len().saturating_sub(shown.len());
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    let why = format!("this would remove {}: {}{more}", count(gone.len(), "unit"), shown.join(", "));
    (why, format!("kindling reconcile {source} --allow-removals"))
}

fn told(why: &str, lifts: &str) -> String {
    format!("{why}; if they are to go: `{lifts}`")
}
