//! Tasks that are chained to each other: circles are refused before they are live, and whoever follows nobody is told.
//!
//! A circle is looked for where something changed. Of other sources only what is live is known, so whoever starts a
//! run at the end of another one follows the live versions once more.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::act::Target;
use crate::model::id::UnitId;
use crate::model::problem::Problem;
use crate::model::spec::Trigger;
use crate::observe::Source;
use crate::plan::catalog::{Entry, Found, Resolved};
use crate::plan::chain::{self, Circles};

use super::source_loop::SourceLoop;

/// What changed about chains when a discovery was taken in.
#[derive(Default)]
pub(super) struct Rechained {
    /// Units whose place in a circle may differ.
    suspects: BTreeSet<Arc<str>>,
    /// Units that were not there before, or are not any more.
    appeared: BTreeSet<Arc<str>>,
}

impl<S: Source, T: Target> SourceLoop<S, T> {
    /// Before the catalog takes `found` in: which circles it may break.
    pub(super) fn before_chains(&mut self, found: &Found) -> Rechained {
        let mut rechained = Rechained::default();
        for key in found.keys() {
            if let Some(circle) = self.circles.get(key).cloned() {
                for member in self.own(&circle) {
                    self.circles.remove(&member);
                    rechained.suspects.insert(member);
                }
            }
            rechained.suspects.insert(Arc::clone(key));
            if self.catalog.get(key).is_some() {
                rechained.appeared.insert(Arc::clone(key));
            }
        }
        rechained
    }

    /// After the catalog took it in: notes circles, and decides about every unit whose chain differs.
    pub(super) fn after_chains(&mut self, rechained: Rechained) {
        if !self.catalog.has_chains() && self.circles.is_empty() {
            return;
        }
        let Rechained { suspects, appeared: known } = rechained;
        let mut circles = Circles::default();
        for key in &suspects {
            if self.catalog.get(key).is_some() != known.contains(key) {
                self.undecided.extend(self.catalog.followers(key).cloned());
            }
            let Some(circle) = circles.of(&self.unit_id(key), |unit| self.chained_to(unit)) else { continue };
            for (at, member) in circle.iter().enumerate() {
                if member.source == self.record.spec.name {
                    let members = circle.iter().cycle().skip(at).take(circle.len());
                    self.circles.insert(Arc::clone(&member.key), members.cloned().collect());
                    self.undecided.insert(Arc::clone(&member.key));
                }
            }
        }
        self.undecided.extend(suspects);
    }

    /// What is wrong with a unit that is in a circle.
    pub(super) fn circle_of(&self, key: &Arc<str>, unit: &Resolved) -> Option<Problem> {
        let circle = self.circles.get(key)?;
        Some(chain::at_place(chain::circle(circle), unit))
    }

    /// The warning of a unit that is chained to nothing that is there.
    pub(super) fn unknown_origin(&self, unit: &UnitId, resolved: &Resolved) -> Option<Problem> {
        let Trigger::Chain(chain) = &resolved.spec.trigger else { return None };
        let is_there = chain::origin(unit, &chain.from, |other| self.is_there(other)).is_some();
        (!is_there).then(|| chain::at_place(chain::unknown(unit, &chain.from), resolved))
    }

    fn own(&self, circle: &[UnitId]) -> Vec<Arc<str>> {
        let is_own = |unit: &&UnitId| unit.source == self.record.spec.name;
        circle.iter().filter(is_own).map(|unit| Arc::clone(&unit.key)).collect()
    }

    /// The unit that another one is chained to: as its manifest has it, else as it is live.
    fn chained_to(&self, unit: &UnitId) -> Option<UnitId> {
        let entry = self.catalog.get(&unit.key).filter(|_| unit.source == self.record.spec.name);
        let from = match entry {
            Some(entry @ Entry { state: Ok(_), .. }) => entry.chained_to()?.to_owned(),
            _ => match &self.core.registry.get(unit)?.spec.trigger {
                Trigger::Chain(chain) => chain.from.clone(),
                _ => return None,
            },
        };
        chain::origin(unit, &from, |other| self.is_there(other))
    }

    fn is_there(&self, unit: &UnitId) -> bool {
        if unit.source == self.record.spec.name {
            self.catalog.get(&unit.key).is_some()
        } else {
            self.core.board.unit(unit).is_some()
        }
    }
}
