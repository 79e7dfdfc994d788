//! Tasks that are chained to each other: circles are refused before they are live, and whoever follows nobody is told.
//!
//! A circle is looked for where something changed, over what the manifests of all sources say now ([`super::links`]).
//! Other sources that are in one that was found or broken are told; they look for themselves, and tell others in turn
//! only where they find it otherwise than they knew it, so that it ends.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crate::act::Target;
use crate::model::id::UnitId;
use crate::model::problem::Problem;
use crate::model::spec::Trigger;
use crate::observe::Source;
use crate::plan::catalog::{Found, Resolved};
use crate::plan::chain::{self, Circles};

use super::links::Link;
use super::message::Look;
use super::source_loop::SourceLoop;

/// What changed about chains when a discovery was taken in.
#[derive(Default)]
pub(super) struct Rechained {
    /// Units whose place in a circle may differ.
    suspects: BTreeSet<Arc<str>>,
    /// Those of them that were there before.
    known: BTreeSet<Arc<str>>,
    /// The circles that they were in.
    circles: BTreeSet<BTreeSet<UnitId>>,
}

/// What other sources are told once it is recorded: they look at what is recorded.
#[derive(Default)]
pub(super) struct Untold {
    /// Own units that appeared or went away.
    appeared: BTreeSet<Arc<str>>,
    /// Units of other sources that are in a circle that was found or broken.
    encircled: BTreeSet<UnitId>,
}

impl<S: Source, T: Target> SourceLoop<S, T> {
    /// Before the catalog takes `found` in: which circles it may break.
    pub(super) fn before_chains(&mut self, found: &Found) -> Rechained {
        self.suspect(found.keys().cloned())
    }

    /// Before the first discovery is taken in: others hear of what was recorded and is not found any more.
    pub(super) fn note_vanished(&mut self, found: &Found) {
        let found: BTreeSet<&Arc<str>> = found.keys().collect();
        let gone = self.units.keys().filter(|key| !found.contains(key)).cloned();
        self.untold.appeared.extend(gone);
    }

    /// After the catalog took it in: notes circles, and decides about every unit whose chain differs.
    pub(super) fn after_chains(&mut self, rechained: Rechained) {
        self.note_links(&rechained);
        self.look_for_circles(rechained);
    }

    /// Another source says that something differs to which these units are chained, directly or not.
    pub(super) fn rechain(&mut self, keys: BTreeSet<Arc<str>>) {
        let mut keys: Vec<Arc<str>> = keys.into_iter().collect();
        keys.retain(|key| self.catalog.get(key).is_some());
        if keys.is_empty() {
            return;
        }
        let rechained = self.suspect(keys.into_iter());
        self.look_for_circles(rechained);
        self.pass_after(Duration::ZERO, Look::Away);
    }

    /// After a pass was recorded: other sources are told what differs for them.
    pub(super) fn tell_others(&mut self) {
        let Untold { appeared, encircled } = std::mem::take(&mut self.untold);
        if !self.is_trial {
            self.core.links.tell(encircled);
            self.core.links.tell_followers(appeared.iter().map(|key| self.unit_id(key)));
        }
    }

    fn suspect(&mut self, keys: impl Iterator<Item = Arc<str>>) -> Rechained {
        let mut rechained = Rechained::default();
        for key in keys {
            if let Some(circle) = self.circles.get(&key).cloned() {
                for member in self.own(&circle) {
                    self.circles.remove(&member);
                    rechained.suspects.insert(member);
                }
                rechained.circles.insert(circle.into_iter().collect());
            }
            if self.catalog.get(&key).is_some() {
                rechained.known.insert(Arc::clone(&key));
            }
            rechained.suspects.insert(key);
        }
        rechained
    }

    /// Tells all sources what the suspects are chained to now, and who waits for those that appeared or went away.
    fn note_links(&mut self, rechained: &Rechained) {
        for key in &rechained.suspects {
            let entry = self.catalog.get(key);
            if entry.is_some() != rechained.known.contains(key) {
                self.undecided.extend(self.catalog.followers(key).cloned());
                self.untold.appeared.insert(Arc::clone(key));
            }
            if !self.is_trial {
                let unit = self.unit_id(key);
                let link = self.link(&unit);
                self.core.links.set(unit, link);
            }
        }
    }

    /// What the manifest of a unit says; nothing where nobody could take it for chained anyway.
    fn link(&self, unit: &UnitId) -> Link {
        match self.catalog.get(&unit.key).filter(|entry| entry.state.is_ok()) {
            Some(entry) => match entry.chained_to() {
                Some(from) => Link::To(from.into()),
                None if self.is_live_chain(unit) => Link::None,
                None => Link::Unknown,
            },
            None => Link::Unknown,
        }
    }

    fn is_live_chain(&self, unit: &UnitId) -> bool {
        self.core.registry.get(unit).is_some_and(|live| matches!(live.spec.trigger, Trigger::Chain(_)))
    }

    fn look_for_circles(&mut self, rechained: Rechained) {
        let Rechained { suspects, circles: before, .. } = rechained;
        if !self.catalog.has_chains() && before.is_empty() {
            self.undecided.extend(suspects);
            return;
        }
        let (mut circles, mut found) = (Circles::default(), BTreeSet::new());
        for key in &suspects {
            let Some(circle) = circles.of(&self.unit_id(key), |unit| self.chained_to(unit)) else { continue };
            if !found.insert(circle.iter().cloned().collect::<BTreeSet<UnitId>>()) {
                continue;
            }
            for (at, member) in circle.iter().enumerate() {
                if member.source == self.record.spec.name {
                    let members = circle.iter().cycle().skip(at).take(circle.len());
                    self.circles.insert(Arc::clone(&member.key), members.cloned().collect());
                    self.undecided.insert(Arc::clone(&member.key));
                }
            }
        }
        self.undecided.extend(suspects);
        let others = before.symmetric_difference(&found).flatten();
        let others: Vec<UnitId> = others.filter(|unit| !self.is_own(unit)).cloned().collect();
        self.untold.encircled.extend(others);
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
        circle.iter().filter(|unit| self.is_own(unit)).map(|unit| Arc::clone(&unit.key)).collect()
    }

    fn is_own(&self, unit: &UnitId) -> bool {
        unit.source == self.record.spec.name
    }

    /// The unit that another one is chained to: as its manifest has it, else as it is live.
    fn chained_to(&self, unit: &UnitId) -> Option<UnitId> {
        self.named_by(unit).and_then(|from| self.origin_of(unit, &from))
    }

    /// What a unit is chained to, as it is written.
    pub(super) fn named_by(&self, unit: &UnitId) -> Option<Arc<str>> {
        match if self.is_own(unit) { self.link(unit) } else { self.core.links.get(unit) } {
            Link::To(from) => Some(from),
            Link::None => None,
            Link::Unknown => match &self.core.registry.get(unit)?.spec.trigger {
                Trigger::Chain(chain) => Some(chain.from.as_str().into()),
                _ => None,
            },
        }
    }

    pub(super) fn origin_of(&self, unit: &UnitId, from: &str) -> Option<UnitId> {
        chain::origin(unit, from, |other| self.is_there(other))
    }

    fn is_there(&self, unit: &UnitId) -> bool {
        if self.is_own(unit) {
            self.catalog.get(&unit.key).is_some()
        } else {
            // What is chained counts before it is recorded: of sources that are looked at together, the last one that
            // looks for circles sees the links of all.
            self.core.board.unit(unit).is_some() || matches!(self.core.links.get(unit), Link::To(_))
        }
    }
}
