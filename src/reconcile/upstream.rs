//! Chains across sources at a start: until a source has been looked at, nobody knows what its tasks are chained to.
//!
//! A new version of a task waits while what starts it, directly or not, lies in a source whose first look is not over:
//! its place in a circle is known only then. What is live stays live meanwhile, so no run that ends loses a follower.
//! Only delays, by no more than a first pass may take, and never a person's command.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::time::Instant;

use crate::act::Target;
use crate::model::history::TriggerKind;
use crate::model::id::{SourceName, UnitId};
use crate::model::step::Action;
use crate::observe::Source;

use super::message::{Look, PassOrder};
use super::pass::{Decision, Verdict};
use super::source_loop::SourceLoop;

impl<S: Source, T: Target> SourceLoop<S, T> {
    /// Takes out of a pass the new versions that wait for the first look at another source. Gives back what is left to
    /// do, and the keys that were held back.
    pub(super) fn hold_chained(
        &mut self,
        order: &PassOrder,
        decisions: Vec<Decision>,
    ) -> (Vec<Decision>, BTreeSet<Arc<str>>) {
        let (now, until) = (Instant::now(), self.deadline_of_first_pass);
        let may_wait = now < until && order.cause.kind != TriggerKind::Command;
        if !may_wait || !self.core.links.is_any_awaited() {
            return (decisions, BTreeSet::new());
        }
        let mut known = BTreeMap::new();
        let (mut free, mut held) = (Vec::new(), BTreeSet::new());
        for decision in decisions {
            let awaited =
                brings_another(&decision).then(|| self.awaited_by(&decision.key, &mut known)).flatten();
            match awaited {
                Some(source) => {
                    self.core.links.wake_after(&source, self.unit_id(&decision.key));
                    held.insert(decision.key);
                }
                None => free.push(decision),
            }
        }
        if !held.is_empty() {
            self.pass_after(until - now, Look::Away);
        }
        (free, held)
    }

    /// The source that has to be looked at before it is known what starts a unit.
    fn awaited_by(
        &self,
        key: &Arc<str>,
        known: &mut BTreeMap<UnitId, Option<SourceName>>,
    ) -> Option<SourceName> {
        let (mut way, mut found) = (Vec::new(), None);
        let mut next = Some(self.unit_id(key));
        while let Some(unit) = next.take() {
            if let Some(before) = known.get(&unit) {
                found.clone_from(before);
                break;
            }
            // Whoever comes back to it meanwhile is in a circle, which waits for nothing.
            known.insert(unit.clone(), None);
            if let Some(from) = self.named_by(&unit) {
                let named = UnitId::parse(&from).ok().map(|named| named.source);
                found = named.filter(|source| self.is_awaited(source));
                next = self.origin_of(&unit, &from).filter(|_| found.is_none());
            }
            way.push(unit);
        }
        known.extend(way.into_iter().map(|unit| (unit, found.clone())));
        found
    }

    fn is_awaited(&self, source: &SourceName) -> bool {
        *source != self.record.spec.name && self.core.links.is_awaited(source)
    }
}

/// Whether a decision makes another version live.
fn brings_another(decision: &Decision) -> bool {
    matches!(&decision.verdict, Verdict::Step(step, _) if step.action == Action::Sync && step.from != step.to)
}
