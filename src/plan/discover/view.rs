//! What is known, with what a discovery found over it.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::model::path::RelPath;
use crate::plan::catalog::{Catalog, Declared, Entry, Found, Known, RootTask, SetState, is_within};

pub(super) struct View<'a> {
    catalog: &'a Catalog,
    found: Found,
    /// Directories that entries lead to which were read in this round.
    homes: BTreeSet<RelPath>,
}

impl<'a> View<'a> {
    pub fn new(catalog: &'a Catalog) -> Self {
        Self { catalog, found: Found::default(), homes: BTreeSet::new() }
    }

    pub fn into_found(self) -> Found {
        self.found
    }

    pub fn put_unit(&mut self, key: Arc<str>, entry: Option<Entry>) {
        if entry.is_some() || self.catalog.get(&key).is_some() {
            self.found.units.insert(key, entry);
        } else {
            self.found.units.remove(&key);
        }
    }

    pub fn drop_unit(&mut self, key: &Arc<str>) {
        self.put_unit(Arc::clone(key), None);
    }

    /// Everything below `key` is as it was known.
    pub fn forget_below(&mut self, key: &str) {
        let stays = |other: &Arc<str>| **other == *key || !is_within(other, key);
        self.found.units.retain(|other, _| stays(other));
        self.found.declared.retain(|other, _| stays(other));
        self.found.sets.retain(|other, _| stays(other));
    }

    /// Nothing that was found below `key` in this round is there.
    pub fn drop_found_below(&mut self, key: &str) {
        let stays = |other: &Arc<str>| **other == *key || !is_within(other, key);
        self.found.units.retain(|other, found| stays(other) || found.is_none());
        self.found.declared.retain(|other, found| stays(other) || found.is_none());
        self.found.sets.retain(|other, found| stays(other) || found.is_none());
    }

    /// A unit that was taken away is there after all.
    pub fn keep_unit(&mut self, key: &str) {
        if self.is_gone(key) {
            self.found.units.remove(key);
        }
    }

    /// Whether a unit was taken away in this round.
    pub fn is_gone(&self, key: &str) -> bool {
        matches!(self.found.units.get(key), Some(None))
    }

    pub fn put_set(&mut self, key: Arc<str>, set: SetState) {
        self.found.sets.insert(key, Some(set));
    }

    pub fn drop_set(&mut self, key: &Arc<str>) {
        if self.catalog.set(key).is_some() {
            self.found.sets.insert(Arc::clone(key), None);
        } else {
            self.found.sets.remove(key);
        }
    }

    pub fn put_declared(&mut self, key: Arc<str>, declared: Declared) {
        self.homes.extend(declared.dir().cloned());
        if self.catalog.declared(&key) == Some(&declared) {
            self.found.declared.remove(&key);
        } else {
            self.found.declared.insert(key, Some(declared));
        }
    }

    pub fn drop_declared(&mut self, key: &Arc<str>) {
        if self.catalog.declared(key).is_some() {
            self.found.declared.insert(Arc::clone(key), None);
        } else {
            self.found.declared.remove(key);
        }
    }

    pub fn put_root(&mut self, root: Option<RootTask>) {
        if self.catalog.root() != root.as_ref() {
            self.found.root = Some(root);
        }
    }

    /// The key of the manifest at the source's own path, as far as it is known.
    pub fn root_key(&self) -> Option<&Arc<str>> {
        self.catalog.root().and_then(|root| root.key.as_ref())
    }

    /// Whether an entry of a set leads to `dir`.
    pub fn leads_to(&self, dir: &RelPath) -> bool {
        let leads = |key: &Arc<str>| self.declared(key).is_some_and(|declared| declared.dir() == Some(dir));
        self.homes.contains(dir) || self.catalog.users_of(dir).any(leads)
    }
}

impl Known for View<'_> {
    fn declared(&self, key: &str) -> Option<&Declared> {
        match self.found.declared.get(key) {
            Some(found) => found.as_ref(),
            None => self.catalog.declared(key),
        }
    }

    fn set(&self, key: &str) -> Option<&SetState> {
        match self.found.sets.get(key) {
            Some(found) => found.as_ref(),
            None => self.catalog.set(key),
        }
    }
}
