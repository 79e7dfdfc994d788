//! The rewrite guard: what a source with `rewrite: guard` does when its branch was rewritten.

use crate::act::Target;
use crate::model::condition::{ConditionStatus, ConditionType};
use crate::model::source::{Origin, Revision, Rewrite};
use crate::observe::{Observation, Source};

use super::message::{PassOrder, Refusal, RefusalKind};
use super::source_loop::SourceLoop;

impl<S: Source, T: Target> SourceLoop<S, T> {
    /// Whether a person must agree to what was observed: a branch that was rewritten.
    pub(super) fn is_guarded(&self, order: &PassOrder, seen: &Observation) -> bool {
        matches!(&self.record.spec.origin, Origin::Git(git) if git.rewrite == Rewrite::Guard)
            && seen.rewritten
            && seen.revision != self.record.revisions.deployed
            && !order.allow_rewrite
    }

    /// The branch was rewritten: nothing of it is taken in until a person agrees. What changed is kept for then.
    pub(super) async fn stall_on_rewrite(&mut self, order: &PassOrder, seen: Observation) -> Refusal {
        let Observation { changes, revision, .. } = seen;
        self.pending.add(changes);
        let name = self.record.spec.name.clone();
        let id = |revision: Option<&Revision>| revision.map(ToString::to_string).unwrap_or_default();
        let why = format!(
            "commit {} does not descend from {}, which is deployed",
            id(revision.as_ref()),
            id(self.guarded_revision().as_ref())
        );
        let lifts = format!("kindling reconcile {name} --allow-rewrite");
        let told = self.with_left_behind(format!("{why}; if it is meant: `{lifts}`"));
        let why = self.with_left_behind(why);
        if !order.dry {
            let now = self.core.now();
            let (record, failed) = (&mut self.record, ConditionStatus::False);
            let mut changed = record.conditions.set(now, ConditionType::Ready, failed, "RewriteGuard", &told);
            changed |= record.conditions.set(
                now,
                ConditionType::Stalled,
                ConditionStatus::True,
                "RewriteGuard",
                &told,
            );
            changed |= record.revisions.seen != revision;
            record.revisions.seen = revision;
            record.last_fetch_at = Some(now);
            self.needs_person = false;
            if changed {
                self.tell_source_failed(&told).await;
            }
        }
        Refusal::new(RefusalKind::Conflict, why).hint(lifts)
    }

    /// The commit that a newer one must descend from: with a guard the one that was decided last, for it passed the
    /// guard; else the deployed one.
    pub(super) fn guarded_revision(&self) -> Option<Revision> {
        let revisions = &self.record.revisions;
        match &self.record.spec.origin {
            Origin::Git(git) if git.rewrite == Rewrite::Guard => {
                revisions.attempted.clone().or_else(|| revisions.deployed.clone())
            }
            Origin::Git(_) | Origin::Local(_) => revisions.deployed.clone(),
        }
    }
}
