//! The units of one source, with those apart that a pass which finds nothing still has to look at. Decides nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::model::hash::UnitHash;
use crate::model::step::Generation;
use crate::model::unit::Version;
use crate::record::UnitRecord;

use super::status;

/// What a loop knows of one unit.
pub(super) struct Unit {
    pub record: UnitRecord,
    /// The deployed version.
    pub version: Option<Arc<Version>>,
    /// A step under way: its generation and the hash that it deploys.
    pub busy: Option<(Generation, Option<UnitHash>)>,
}

impl Unit {
    /// Whether nothing can be said of it but that it is registered: all that a pass asks of every unit has one answer
    /// for these, so it need not ask.
    fn is_at_rest(&self) -> bool {
        let Self { record, version, busy } = self;
        busy.is_none()
            && record.desired.is_some()
            && record.desired == record.deployed
            && record.problems.is_empty()
            && record.retry_at.is_none()
            && !record.follows_nobody()
            && status::unready(&record.conditions).is_none()
            && version.as_ref().is_some_and(|version| !version.spec.is_daemon())
    }
}

/// The units of a source by key.
#[derive(Default)]
pub(super) struct Units {
    all: BTreeMap<Arc<str>, Unit>,
    /// Those that are not at rest: few, and all that most questions are about.
    restless: BTreeSet<Arc<str>>,
    /// Those with a deployed version.
    deployed: usize,
    /// Counts the changes.
    changes: u64,
}

impl Units {
    pub fn get(&self, key: &str) -> Option<&Unit> {
        self.all.get(key)
    }

    pub fn contains(&self, key: &str) -> bool {
        self.all.contains_key(key)
    }

    pub fn len(&self) -> usize {
        self.all.len()
    }

    pub fn keys(&self) -> impl Iterator<Item = &Arc<str>> {
        self.all.keys()
    }

    pub fn values(&self) -> impl Iterator<Item = &Unit> {
        self.all.values()
    }

    /// Units that are not as they should be, or under way, or supervised.
    pub fn restless(&self) -> impl Iterator<Item = &Unit> {
        self.restless.iter().filter_map(|key| self.all.get(key))
    }

    pub fn is_any_busy(&self) -> bool {
        self.restless().any(|unit| unit.busy.is_some())
    }

    /// How many have a deployed version.
    pub fn deployed(&self) -> usize {
        self.deployed
    }

    /// A number that is another one after every change.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    pub fn put(&mut self, unit: Unit) {
        let key = Arc::clone(&unit.record.id.key);
        self.remove(&key);
        if !unit.is_at_rest() {
            self.restless.insert(Arc::clone(&key));
        }
        self.deployed += usize::from(unit.version.is_some());
        self.changes += 1;
        self.all.insert(key, unit);
    }

    pub fn remove(&mut self, key: &str) -> Option<Unit> {
        let unit = self.all.remove(key)?;
        self.restless.remove(key);
        self.deployed -= usize::from(unit.version.is_some());
        self.changes += 1;
        Some(unit)
    }

    /// Changes a unit, if it is there.
    pub fn change(&mut self, key: &str, change: impl FnOnce(&mut Unit)) {
        if let Some(mut unit) = self.remove(key) {
            change(&mut unit);
            self.put(unit);
        }
    }
}

impl FromIterator<Unit> for Units {
    fn from_iter<I: IntoIterator<Item = Unit>>(units: I) -> Self {
        let mut made = Self::default();
        units.into_iter().for_each(|unit| made.put(unit));
        made
    }
}
