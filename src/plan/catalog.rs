//! What is known of a source's units and sets between two passes, so that a pass costs in proportion to what changed.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use crate::config::node::Node;
use crate::model::hash::UnitHash;
use crate::model::hook::HookPath;
use crate::model::path::RelPath;
use crate::model::problem::{Position, Problem};
use crate::model::spec::{TaskSpec, Trigger};
use crate::model::tree::Stamp;
use crate::model::unit::FileList;

use super::cascade::{self, Kind, Layer};
use super::chain;
use super::taskset::{Dialect, Home};
use super::trace::{self, FieldOrigin};

/// A unit as its source has it, whole and checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The resolved spec.
    pub spec: Arc<TaskSpec>,
    /// Its files.
    pub files: FileList,
    /// The unit hash.
    pub hash: UnitHash,
    /// What in its manifest has no effect. No part of the hash.
    pub warnings: Arc<[Problem]>,
    /// Where the task that it is chained to, or the path of its webhook, is named. No part of the hash either.
    pub named_at: Option<(RelPath, Position)>,
    /// The stamps of `files`, in their order: a file whose stamp is equal need not be read again.
    pub(super) stamps: Box<[Stamp]>,
}

/// A unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The directory that its files lie in.
    pub dir: RelPath,
    /// The unit, or what is wrong with it.
    pub state: Result<Resolved, Vec<Problem>>,
    /// What at or below this path changes may change the unit; `None` where no file of its own does.
    pub(super) reach: Option<RelPath>,
}

impl Entry {
    /// What it is chained to, as its manifest says it.
    #[must_use]
    pub fn chained_to(&self) -> Option<&str> {
        match &self.state.as_ref().ok()?.spec.trigger {
            Trigger::Chain(chain) => Some(&chain.from),
            _ => None,
        }
    }

    /// The path of its webhook, as its manifest says it.
    #[must_use]
    pub fn hook_path(&self) -> Option<&HookPath> {
        Some(&self.state.as_ref().ok()?.spec.hook()?.path)
    }
}

/// An entry of a set, as the set's manifest has it.
#[derive(Clone, PartialEq)]
pub(super) struct Declared {
    /// The key of the set.
    pub set: Arc<str>,
    /// Where it leads.
    pub home: Result<Home, Vec<Problem>>,
    /// Its overrides.
    pub overrides: Option<Arc<Node>>,
    /// Whether its own `enabled` lets it count.
    pub enabled: bool,
    /// Where its key stands in the set's manifest.
    pub at: Position,
}

impl Declared {
    /// The directory that it leads to.
    pub fn dir(&self) -> Option<&RelPath> {
        match &self.home {
            Ok(Home::At(dir, _)) => Some(dir),
            _ => None,
        }
    }

    /// Whether both lead to the same, wherever in the manifest they say so.
    pub fn leads_where(&self, other: &Self) -> bool {
        match (&self.home, &other.home) {
            (Ok(Home::At(a, _)), Ok(Home::At(b, _))) => a == b,
            (Ok(Home::Inline(a)), Ok(Home::Inline(b))) => a.says_the_same(b),
            _ => false,
        }
    }
}

/// A set of units.
#[derive(Clone)]
pub(super) struct SetState {
    /// Its directory.
    pub dir: RelPath,
    /// Its manifest.
    pub file: RelPath,
    /// Whose words it is written in.
    pub dialect: Dialect,
    /// What it fills in for all its tasks.
    pub defaults: Option<Arc<Node>>,
    /// The keys of its entries, in their order.
    pub children: Arc<[Arc<str>]>,
    /// Whether the last line of its manifest has its end.
    pub ends_whole: bool,
    /// What is wrong with it and is no unit's problem.
    pub problems: Vec<Problem>,
    /// What is left out of it.
    pub warnings: Vec<Problem>,
    /// What is declared below it cannot be told at the moment: units that were there before stay.
    pub kept: bool,
    /// Nothing at all changes below it: overrides of it name entries that it does not have, and what was meant by them
    /// cannot be told.
    pub frozen: bool,
}

/// The manifest at the source's own path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct RootTask {
    /// The key that its name gives; `None` where it is broken and has told none.
    pub key: Option<Arc<str>>,
    /// What is wrong with it, where no key is known.
    pub problems: Vec<Problem>,
}

/// What a discovery found to differ; `None` stands for what is gone.
#[derive(Default)]
pub struct Found {
    pub(super) units: BTreeMap<Arc<str>, Option<Entry>>,
    pub(super) declared: BTreeMap<Arc<str>, Option<Declared>>,
    pub(super) sets: BTreeMap<Arc<str>, Option<SetState>>,
    pub(super) root: Option<Option<RootTask>>,
}

impl Found {
    /// Whether nothing differs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.units.is_empty() && self.declared.is_empty() && self.sets.is_empty() && self.root.is_none()
    }

    /// The keys of units that were looked at.
    pub fn keys(&self) -> impl Iterator<Item = &Arc<str>> {
        self.units.keys()
    }

    /// Units that `catalog` knows and that are gone now.
    pub fn gone<'a>(&'a self, catalog: &'a Catalog) -> impl Iterator<Item = (&'a Arc<str>, &'a Entry)> {
        let gone = self.units.iter().filter(|(_, entry)| entry.is_none());
        gone.filter_map(|(key, _)| catalog.units.get_key_value(key))
    }

    /// Sets that were read again, with whether their manifests ended with a whole line before, and whether they do now.
    pub fn reread<'a>(&'a self, catalog: &'a Catalog) -> impl Iterator<Item = (&'a Arc<str>, bool, bool)> {
        self.sets.iter().filter_map(|(key, set)| {
            let (before, now) = (catalog.sets.get(key)?, set.as_ref()?);
            Some((key, before.ends_whole, now.ends_whole))
        })
    }

    /// The topmost set above the unit `key`, as `catalog` has it, that was read again.
    #[must_use]
    pub fn reread_above<'a>(&self, catalog: &'a Catalog, key: &str) -> Option<&'a Arc<str>> {
        let is_reread = |set: &&Arc<str>| matches!(self.sets.get(&***set), Some(Some(_)));
        sets_above(catalog, key).into_iter().rev().find(is_reread)
    }

    /// Keys of sets of which `catalog` could not tell what is below them, and now it can be told.
    pub fn healed<'a>(&'a self, catalog: &'a Catalog) -> impl Iterator<Item = &'a Arc<str>> {
        let was_kept = |key: &Arc<str>| catalog.sets.get(key).is_some_and(|set| set.kept);
        let is_kept = |set: &Option<SetState>| set.as_ref().is_some_and(|set| set.kept);
        self.sets.iter().filter(move |(key, set)| was_kept(key) && !is_kept(set)).map(|(key, _)| key)
    }
}

/// All units and sets of a source by their keys.
#[derive(Clone, Default)]
pub struct Catalog {
    units: BTreeMap<Arc<str>, Entry>,
    declared: BTreeMap<Arc<str>, Declared>,
    sets: BTreeMap<Arc<str>, SetState>,
    /// From a directory or a file to the keys that it reaches.
    users: BTreeSet<(RelPath, Arc<str>)>,
    /// From a key to those of the tasks that may be chained to it.
    followers: BTreeSet<(Arc<str>, Arc<str>)>,
    /// From the path of a webhook to the keys of the tasks that ask for it.
    hooks: BTreeSet<(HookPath, Arc<str>)>,
    root: Option<RootTask>,
}

impl Catalog {
    /// What was found of the unit `key`.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Entry> {
        self.units.get(key)
    }

    /// Every unit, in byte order of the keys.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Entry)> {
        self.units.iter()
    }

    /// The directory that the files of the unit `key` lie in.
    #[must_use]
    pub fn dir_of(&self, key: &str) -> Option<RelPath> {
        self.units.get(key).map(|entry| entry.dir.clone())
    }

    /// How many units there are, broken ones counted.
    #[must_use]
    pub fn len(&self) -> usize {
        self.units.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.units.is_empty()
    }

    /// The units that a change of `path` reaches.
    pub fn reached(&self, path: &RelPath) -> impl Iterator<Item = (&Arc<str>, &Entry)> {
        let places: Vec<RelPath> = path.ancestors().chain([path.clone()]).collect();
        let keys = places.into_iter().flat_map(|place| self.users_of(&place));
        keys.filter_map(|key| self.units.get_key_value(key))
    }

    /// The tasks that may be chained to the unit `key`, whether it is there or not.
    pub fn followers(&self, key: &Arc<str>) -> impl Iterator<Item = &Arc<str>> + use<'_> {
        let (key, from) = (Arc::clone(key), (Arc::clone(key), Arc::from("")));
        self.followers.range(from..).take_while(move |(other, _)| *other == key).map(|(_, follower)| follower)
    }

    /// The units that ask for the path of a webhook, in byte order.
    pub fn hooked(&self, path: &HookPath) -> impl Iterator<Item = &Arc<str>> + use<'_> {
        let (path, from) = (path.clone(), (path.clone(), Arc::from("")));
        self.hooks.range(from..).take_while(move |(other, _)| *other == path).map(|(_, key)| key)
    }

    /// Whether any task is chained to another one.
    #[must_use]
    pub fn has_chains(&self) -> bool {
        !self.followers.is_empty()
    }

    /// The roots of other repositories that something here leads to, or that units come from.
    #[must_use]
    pub fn repositories(&self) -> BTreeSet<RelPath> {
        // Their paths come before all others but the root.
        let others = self.users.iter().skip_while(|(place, _)| place.is_root());
        others.map_while(|(place, _)| place.mount_point()).collect()
    }

    /// How many entries lead to other repositories.
    #[must_use]
    pub fn elsewhere(&self) -> usize {
        let leads_away = |(key, declared): &(&Arc<str>, &Declared)| {
            declared.dir().is_some_and(|dir| dir.mount_point().is_some())
                && is_enabled(declared, &layers(self, key))
        };
        self.declared.iter().filter(leads_away).count()
    }

    /// Problems that belong to no unit.
    pub fn homeless_problems(&self) -> impl Iterator<Item = &Problem> {
        let root = self.root.iter().flat_map(|root| &root.problems);
        root.chain(self.sets.values().flat_map(|set| &set.problems))
    }

    /// What has no effect although it was written.
    pub fn warnings(&self) -> impl Iterator<Item = &Problem> {
        let of_units = self.units.values().filter_map(|entry| entry.state.as_ref().ok());
        of_units.flat_map(|unit| unit.warnings.iter()).chain(self.sets.values().flat_map(|set| &set.warnings))
    }

    /// Whether a unit that is not known may be there all the same: it would be below a set that cannot be read.
    #[must_use]
    pub fn is_kept(&self, key: &str) -> bool {
        !self.sets.is_empty() && is_kept(self, key)
    }

    /// Where the fields of a unit come from of which sets speak. `manifest` is its task.yaml, where it can be had.
    #[must_use]
    pub fn origins(&self, key: &str, manifest: Option<Node>) -> Vec<FieldOrigin> {
        let (Some(entry), Some(declared)) = (self.units.get(key), self.declared.get(key)) else {
            return Vec::new();
        };
        let layers = layers(self, key);
        let (base, file) = match (&declared.home, self.sets.get(&declared.set)) {
            (Ok(Home::Inline(node)), Some(set)) => (Some((**node).clone()), Some(set.file.clone())),
            _ => (manifest, entry.dir.join(super::taskset::TASK_MANIFEST).ok()),
        };
        file.map(|file| trace::origins(base, &file, &layers)).unwrap_or_default()
    }

    /// Takes in what a discovery found.
    pub fn apply(&mut self, found: Found) {
        let units = found.units.keys().chain(found.declared.keys()).chain(found.sets.keys());
        let touched: BTreeSet<Arc<str>> = units.cloned().collect();
        for key in &touched {
            for place in self.places_of(key) {
                self.users.remove(&(place, Arc::clone(key)));
            }
            for other in self.chained_keys(key) {
                self.followers.remove(&(other, Arc::clone(key)));
            }
            if let Some(path) = self.hook_path(key) {
                self.hooks.remove(&(path, Arc::clone(key)));
            }
        }
        put_all(&mut self.units, found.units);
        put_all(&mut self.declared, found.declared);
        put_all(&mut self.sets, found.sets);
        if let Some(root) = found.root {
            self.root = root;
        }
        for key in touched {
            let places = self.places_of(&key).into_iter();
            self.users.extend(places.map(|place| (place, Arc::clone(&key))));
            let others = self.chained_keys(&key).into_iter();
            self.followers.extend(others.map(|other| (other, Arc::clone(&key))));
            self.hooks.extend(self.hook_path(&key).map(|path| (path, key)));
        }
    }

    fn hook_path(&self, key: &str) -> Option<HookPath> {
        self.units.get(key).and_then(Entry::hook_path).cloned()
    }

    /// The keys that what `key` is chained to may have.
    fn chained_keys(&self, key: &str) -> Vec<Arc<str>> {
        let from = self.units.get(key).and_then(Entry::chained_to);
        from.map(|from| chain::candidate_keys(key, from).collect()).unwrap_or_default()
    }

    /// Where something may change that reaches `key`.
    fn places_of(&self, key: &str) -> Vec<RelPath> {
        let unit = self.units.get(key).and_then(|entry| entry.reach.clone());
        let declared = self.declared.get(key).and_then(|declared| declared.dir().cloned());
        let set = self.sets.get(key).map(|set| set.dir.clone());
        unit.into_iter().chain(declared).chain(set).collect()
    }

    pub(super) fn root(&self) -> Option<&RootTask> {
        self.root.as_ref()
    }

    /// Keys that live in `place`, or of which it is the only file.
    pub(super) fn users_of(&self, place: &RelPath) -> impl Iterator<Item = &Arc<str>> + use<'_> {
        let (place, from) = (place.clone(), (place.clone(), Arc::from("")));
        self.users.range(from..).take_while(move |(other, _)| *other == place).map(|(_, key)| key)
    }

    pub(super) fn units_within(&self, key: &str) -> impl Iterator<Item = (&Arc<str>, &Entry)> {
        within(&self.units, key)
    }

    pub(super) fn declared_within(&self, key: &str) -> impl Iterator<Item = (&Arc<str>, &Declared)> {
        within(&self.declared, key)
    }

    pub(super) fn sets_within(&self, key: &str) -> impl Iterator<Item = (&Arc<str>, &SetState)> {
        within(&self.sets, key)
    }
}

fn put_all<T>(map: &mut BTreeMap<Arc<str>, T>, found: BTreeMap<Arc<str>, Option<T>>) {
    for (key, value) in found {
        match value {
            Some(value) => map.insert(key, value),
            None => map.remove(&key),
        };
    }
}

/// Whether `key` is `above` or lies below it.
#[must_use]
pub fn is_within(key: &str, above: &str) -> bool {
    above.is_empty() || key.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The entries of `above` and of what lies below it, those above first.
fn within<'m, T>(
    map: &'m BTreeMap<Arc<str>, T>,
    above: &str,
) -> impl Iterator<Item = (&'m Arc<str>, &'m T)> + use<'m, T> {
    // `0` is the byte after `/`.
    let (from, to) = (format!("{above}/"), format!("{above}0"));
    let whole = above.is_empty();
    let bounds = if whole {
        (Bound::Unbounded, Bound::Unbounded)
    } else {
        (Bound::Included(from.as_str()), Bound::Excluded(to.as_str()))
    };
    let own = (!whole).then(|| map.get_key_value(above)).flatten();
    let below: Vec<_> = map.range::<str, _>(bounds).collect();
    own.into_iter().chain(below)
}

/// What is declared and which sets there are, as far as somebody knows.
pub(super) trait Known {
    fn declared(&self, key: &str) -> Option<&Declared>;
    fn set(&self, key: &str) -> Option<&SetState>;
}

impl Known for Catalog {
    fn declared(&self, key: &str) -> Option<&Declared> {
        self.declared.get(key)
    }

    fn set(&self, key: &str) -> Option<&SetState> {
        self.sets.get(key)
    }
}

/// Whether something at or above `key` is a set that cannot be read.
pub(super) fn is_kept(known: &impl Known, key: &str) -> bool {
    let kept = |key: &str| known.set(key).is_some_and(|set| set.kept);
    kept("") || kept(key) || key.match_indices('/').any(|(at, _)| kept(&key[..at]))
}

/// Whether nothing about `key` may change: a set above it is frozen.
pub(super) fn is_frozen(known: &impl Known, key: &str) -> bool {
    sets_above(known, key).into_iter().any(|set| known.set(set).is_some_and(|set| set.frozen))
}

/// The keys of the sets above an entry, the nearest first.
pub(super) fn sets_above<'k>(known: &'k impl Known, key: &str) -> Vec<&'k Arc<str>> {
    let mut sets: Vec<&Arc<str>> = Vec::new();
    let mut next = known.declared(key);
    while let Some(declared) = next {
        sets.push(&declared.set);
        next = known.declared(&declared.set);
    }
    sets
}

/// What sets say of an entry, the lowest first (DESIGN 5).
pub(super) fn layers<'k>(known: &'k impl Known, key: &str) -> Vec<Layer<'k>> {
    let sets = sets_above(known, key);
    let layer = |kind, set: &'k SetState, node| Layer { kind, file: &set.file, dialect: set.dialect, node };
    let mut layers = Vec::new();
    for set in sets.iter().filter_map(|set| known.set(set)) {
        layers.extend(set.defaults.as_deref().map(|defaults| layer(Kind::Defaults, set, defaults)));
    }
    // Overrides of each set on the way, the outermost first, and then the entry's own.
    for depth in (0..sets.len()).rev() {
        let target = if depth == 0 { key } else { sets[depth - 1] };
        let (Some(declared), Some(set)) = (known.declared(target), known.set(sets[depth])) else { continue };
        let Some(overrides) = &declared.overrides else { continue };
        let way: Vec<&str> = (0..depth)
            .rev()
            .map(|below| relative(if below == 0 { key } else { sets[below - 1] }, sets[below]))
            .collect();
        layers.extend(cascade::patch_of(overrides, &way).map(|patch| layer(Kind::Overrides, set, patch)));
    }
    layers
}

/// The key of an entry in its set.
pub(super) fn relative<'k>(key: &'k str, set: &str) -> &'k str {
    key.strip_prefix(set).map_or(key, |rest| rest.trim_start_matches('/'))
}

/// Whether an entry counts: nothing that speaks of it switches it off.
pub(super) fn is_enabled(declared: &Declared, layers: &[Layer<'_>]) -> bool {
    declared.enabled
        && !layers.iter().any(|layer| layer.kind == Kind::Overrides && cascade::switches_off(layer.node))
}
