//! The board: what kindling says of units and sources. Written after the store, read by everybody.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock};

use crate::model::condition::Conditions;
use crate::model::delivery::{RelayHealth, WebhookHealth};
use crate::model::id::{SourceName, UnitId};
use crate::model::path::RelPath;
use crate::record::{SourceRecord, Told, UnitRecord};

/// A read model of the recorded state. Cheap to clone: all clones are one board.
#[derive(Clone, Default)]
pub struct Board(Arc<Inner>);

#[derive(Default)]
struct Inner {
    units: RwLock<BTreeMap<UnitId, Arc<UnitRecord>>>,
    sources: RwLock<BTreeMap<SourceName, Arc<SourceRecord>>>,
    /// Sources whose first look since the service started is over, however it ended.
    looked: RwLock<BTreeSet<SourceName>>,
    /// Sources of which a tree was read whole since the service started.
    read: RwLock<BTreeSet<SourceName>>,
    /// Where the configuration file names its sources, as `FILE:LINE`.
    declared_at: RwLock<BTreeMap<SourceName, String>>,
    /// The repositories that the sets of a source lead to.
    repositories: RwLock<BTreeMap<SourceName, Arc<Vec<RelPath>>>>,
    webhooks: RwLock<BTreeMap<SourceName, WebhookHealth>>,
    relays: RwLock<BTreeMap<SourceName, RelayHealth>>,
    /// What commits were told last.
    told: RwLock<BTreeMap<SourceName, Told>>,
    /// What is so of the service itself.
    service: RwLock<Conditions>,
}

impl Board {
    /// All units in the order of their ids.
    #[must_use]
    pub fn units(&self) -> Vec<Arc<UnitRecord>> {
        self.0.units.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// One unit.
    #[must_use]
    pub fn unit(&self, id: &UnitId) -> Option<Arc<UnitRecord>> {
        self.0.units.read().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    /// The units whose id ends with whole parts that a person typed; an exact id is the only answer.
    #[must_use]
    pub fn matching(&self, typed: &str) -> Vec<Arc<UnitRecord>> {
        let units = self.0.units.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(exact) = UnitId::parse(typed).ok().and_then(|id| units.get(&id)) {
            return vec![Arc::clone(exact)];
        }
        units.values().filter(|unit| unit.id.ends_with(typed)).cloned().collect()
    }

    /// All sources in the order of their names.
    #[must_use]
    pub fn sources(&self) -> Vec<Arc<SourceRecord>> {
        self.0.sources.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// One source.
    #[must_use]
    pub fn source(&self, name: &SourceName) -> Option<Arc<SourceRecord>> {
        self.0.sources.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// Whether the first look at a source since the service started is over.
    #[must_use]
    pub fn is_looked_at(&self, name: &SourceName) -> bool {
        self.0.looked.read().unwrap_or_else(PoisonError::into_inner).contains(name)
    }

    /// Whether a person stopped changes of a unit or of its source.
    #[must_use]
    pub fn is_suspended(&self, unit: &UnitId) -> bool {
        self.unit(unit).is_some_and(|unit| unit.suspended.is_some())
            || self.source(&unit.source).is_some_and(|source| source.suspended.is_some())
    }

    /// Where the configuration file names a source, as `FILE:LINE`.
    #[must_use]
    pub fn declared_at(&self, name: &SourceName) -> Option<String> {
        self.0.declared_at.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// Notes where the configuration file names its sources.
    pub fn set_declared_at(&self, places: BTreeMap<SourceName, String>) {
        *self.0.declared_at.write().unwrap_or_else(PoisonError::into_inner) = places;
    }

    /// What is so of the service itself: whether its configuration could be read, whether it needs a restart.
    #[must_use]
    pub fn service(&self) -> Conditions {
        self.0.service.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes what is so of the service itself.
    pub fn change_service(&self, change: impl FnOnce(&mut Conditions)) {
        change(&mut self.0.service.write().unwrap_or_else(PoisonError::into_inner));
    }

    /// The roots of the repositories that the sets of a source lead to.
    #[must_use]
    pub fn repositories(&self, name: &SourceName) -> Arc<Vec<RelPath>> {
        self.0
            .repositories
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(name)
            .cloned()
            .unwrap_or_default()
    }

    pub(super) fn set_repositories(&self, name: &SourceName, roots: Vec<RelPath>) {
        if *self.repositories(name) == roots {
            return;
        }
        let mut all = self.0.repositories.write().unwrap_or_else(PoisonError::into_inner);
        all.insert(name.clone(), Arc::new(roots));
    }

    /// How the push webhook of a source fares.
    #[must_use]
    pub fn webhook(&self, name: &SourceName) -> WebhookHealth {
        self.0.webhooks.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned().unwrap_or_default()
    }

    /// What commits of a source were told last.
    #[must_use]
    pub fn told(&self, name: &SourceName) -> Told {
        self.0.told.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned().unwrap_or_default()
    }

    pub(super) fn set_told(&self, name: &SourceName, told: Told) {
        self.0.told.write().unwrap_or_else(PoisonError::into_inner).insert(name.clone(), told);
    }

    pub(super) fn change_webhook(&self, name: &SourceName, change: impl FnOnce(&mut WebhookHealth)) {
        let mut all = self.0.webhooks.write().unwrap_or_else(PoisonError::into_inner);
        change(all.entry(name.clone()).or_default());
    }

    /// How the relay of a source fares; `None` where it has none.
    #[must_use]
    pub fn relay(&self, name: &SourceName) -> Option<RelayHealth> {
        self.0.relays.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// Notes how the relay of a source fares, or that it has none.
    pub fn set_relay(&self, name: &SourceName, health: Option<RelayHealth>) {
        let mut all = self.0.relays.write().unwrap_or_else(PoisonError::into_inner);
        match health {
            Some(health) => drop(all.insert(name.clone(), health)),
            None => drop(all.remove(name)),
        }
    }

    pub(super) fn mark_looked(&self, name: &SourceName) {
        if !self.is_looked_at(name) {
            self.0.looked.write().unwrap_or_else(PoisonError::into_inner).insert(name.clone());
        }
    }

    /// Whether a tree of every source was read whole since the service started: what it leads to is followed now.
    #[must_use]
    pub fn is_all_read(&self) -> bool {
        let read = self.0.read.read().unwrap_or_else(PoisonError::into_inner);
        self.0.sources.read().unwrap_or_else(PoisonError::into_inner).keys().all(|name| read.contains(name))
    }

    /// Its tree is to be read anew: nobody knows now what it leads to.
    pub(super) fn mark_unread(&self, name: &SourceName) {
        self.0.read.write().unwrap_or_else(PoisonError::into_inner).remove(name);
    }

    pub(super) fn mark_read(&self, name: &SourceName) {
        let is_known = self.0.read.read().unwrap_or_else(PoisonError::into_inner).contains(name);
        if !is_known {
            self.0.read.write().unwrap_or_else(PoisonError::into_inner).insert(name.clone());
        }
    }

    pub(super) fn put_units(&self, changed: impl IntoIterator<Item = UnitRecord>) {
        let mut units = self.0.units.write().unwrap_or_else(PoisonError::into_inner);
        for unit in changed {
            units.insert(unit.id.clone(), Arc::new(unit));
        }
    }

    pub(super) fn remove_units<'a>(&self, gone: impl IntoIterator<Item = &'a UnitId>) {
        let mut units = self.0.units.write().unwrap_or_else(PoisonError::into_inner);
        for id in gone {
            units.remove(id);
        }
    }

    pub(super) fn put_source(&self, source: SourceRecord) {
        let mut sources = self.0.sources.write().unwrap_or_else(PoisonError::into_inner);
        sources.insert(source.spec.name.clone(), Arc::new(source));
    }

    pub(super) fn remove_source(&self, name: &SourceName) {
        self.0.sources.write().unwrap_or_else(PoisonError::into_inner).remove(name);
        self.0.repositories.write().unwrap_or_else(PoisonError::into_inner).remove(name);
        self.0.webhooks.write().unwrap_or_else(PoisonError::into_inner).remove(name);
        self.0.relays.write().unwrap_or_else(PoisonError::into_inner).remove(name);
        self.0.told.write().unwrap_or_else(PoisonError::into_inner).remove(name);
        self.0.read.write().unwrap_or_else(PoisonError::into_inner).remove(name);
        self.0.looked.write().unwrap_or_else(PoisonError::into_inner).remove(name);
    }
}
