//! What stays as it was, and what goes: below sets that cannot be read, and below entries that are gone.

use std::sync::Arc;

use crate::model::path::RelPath;
use crate::model::problem::Problem;
use crate::plan::catalog::{Declared, Known, SetState};
use crate::plan::taskset::{Dialect, file_of};

use super::{Work, broken};

impl Work<'_> {
    /// An entry leads to a repository that cannot be had now: its unit and what was below it stay.
    pub(super) fn keep_away(&mut self, key: &Arc<str>, dir: &RelPath) {
        self.dirty.remove(key);
        self.view.keep_unit(key);
        self.keep(key, dir, Vec::new());
    }

    /// Leaves everything below a set as it is, to the last file: what was meant to be said of it cannot be told, and
    /// without it a unit may be switched on that was switched off.
    pub(super) fn freeze(&mut self, key: &Arc<str>, dir: &RelPath, problems: Vec<Problem>) {
        self.view.forget_below(key);
        self.keep_as(key, dir, problems, true);
    }

    /// Leaves everything below a key as it is: what is declared there cannot be told.
    pub(super) fn keep(&mut self, key: &Arc<str>, dir: &RelPath, problems: Vec<Problem>) {
        self.keep_as(key, dir, problems, false);
    }

    fn keep_as(&mut self, key: &Arc<str>, dir: &RelPath, problems: Vec<Problem>, frozen: bool) {
        let Some(file) = file_of(dir) else { return };
        let catalog = self.input.catalog;
        let known = catalog.set(key).cloned();
        let state = match known {
            // Its entries are those that it had; where they lay is what their overrides were read from.
            Some(known) => SetState { problems, kept: true, frozen: frozen || known.frozen, ..known },
            None => SetState {
                dir: dir.clone(),
                file,
                dialect: Dialect::Kindling,
                defaults: None,
                children: Arc::from([]),
                ends_whole: true,
                problems,
                warnings: Vec::new(),
                kept: true,
                frozen,
            },
        };
        if state.frozen {
            // The entry may have led to a task before.
            self.view.keep_unit(key);
        }
        self.view.put_set(Arc::clone(key), state);
        if !self.is_in_scope(key) {
            return;
        }
        for (unit, _) in catalog.units_within(key).filter(|(unit, _)| *unit != key) {
            self.visited.insert(Arc::clone(unit));
            if catalog.declared(unit).is_none() {
                self.dirty.insert(Arc::clone(unit));
            }
        }
        self.visited.extend(catalog.sets_within(key).map(|(set, _)| Arc::clone(set)));
        let entries: Vec<Arc<str>> =
            catalog.declared_within(key).map(|(entry, _)| Arc::clone(entry)).collect();
        for entry in entries.iter().filter(|entry| *entry != key) {
            self.visit(entry);
        }
    }

    /// An entry that leads to no unit and no set: its unit is broken, and what was below it stays.
    pub(super) fn put_broken(&mut self, key: &Arc<str>, dir: Option<RelPath>, problems: Vec<Problem>) {
        self.dirty.remove(key);
        let home = dir.clone().unwrap_or_else(RelPath::root);
        // Where the entry itself cannot be read, its overrides cannot be told either.
        let is_read = dir.is_some();
        self.view.put_unit(Arc::clone(key), Some(broken(&home, dir, problems)));
        if is_read { self.keep(key, &home, Vec::new()) } else { self.freeze(key, &home, Vec::new()) }
    }

    /// Takes away what lies below an entry, and its own unit.
    pub(super) fn drop_below(&mut self, key: &Arc<str>) {
        self.dirty.remove(key);
        self.view.drop_unit(key);
        self.forget_set(key);
    }

    /// Takes an entry away with all below it.
    pub(super) fn drop_whole(&mut self, key: &Arc<str>) {
        self.drop_below(key);
        if let Some(dir) = self.input.catalog.declared(key).and_then(Declared::dir).cloned() {
            self.touch_around(&dir);
        }
        self.view.drop_declared(key);
    }

    /// An entry is no set: nothing lies below it.
    pub(super) fn forget_set(&mut self, key: &Arc<str>) {
        let catalog = self.input.catalog;
        if self.view.set(key).is_none() && catalog.set(key).is_none() {
            return;
        }
        let below = |other: &&Arc<str>| *other != key;
        let units: Vec<_> = catalog.units_within(key).map(|(unit, _)| unit).filter(below).collect();
        let entries: Vec<_> = catalog.declared_within(key).map(|(entry, _)| entry).filter(below).collect();
        let sets: Vec<_> = catalog.sets_within(key).map(|(set, _)| set).collect();
        for unit in units {
            self.dirty.remove(unit);
            self.view.drop_unit(unit);
        }
        entries.into_iter().for_each(|entry| self.view.drop_declared(entry));
        sets.into_iter().for_each(|set| self.view.drop_set(set));
        // Entries whose directories went at the same time were looked at before, and taken for broken.
        self.view.drop_found_below(key);
        self.view.drop_set(key);
    }
}
