//! From a tree to units: finds manifests and sets, resolves them, lists each unit's files and hashes it.
//!
//! Pure: it says which files it needs the contents of, the caller reads them and calls again. It looks only at what
//! the changes reach.

mod checks;
mod kept;
mod members;
mod sets;
mod start;
mod unit;
mod view;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use crate::model::limits::Limits;
use crate::model::path::RelPath;
use crate::model::problem::{Problem, Reason};
use crate::model::tree::{Changes, Content, Tree};

use self::unit::Outcome;
use self::view::View;
use super::catalog::{Catalog, Entry, Found, Known, is_frozen};
use super::nested::Repositories;
use super::taskset::{self, SetFile};

pub use super::taskset::{SET_MANIFEST, TASK_MANIFEST};

/// What a discovery looks at.
pub struct Input<'a> {
    /// The tree as it is now.
    pub tree: &'a Tree,
    /// What is not as it was when `catalog` was made.
    pub changes: &'a Changes,
    /// What was known before.
    pub catalog: &'a Catalog,
    /// Limits of a unit.
    pub limits: &'a Limits,
    /// Whether `dev_ref` counts. Where that changed, everything has to be looked at.
    pub dev: bool,
    /// The repositories that sets lead to. Where one comes in, everything has to be looked at.
    pub repositories: &'a Repositories,
}

/// A file that the discovery needs the content of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Need {
    /// The file.
    pub path: RelPath,
    /// Whether its bytes are needed, and not only its hash.
    pub bytes: bool,
    /// More than this many bytes are refused.
    pub max: u64,
}

/// A file that was read for a discovery.
#[derive(Clone, Debug)]
pub enum FileRead {
    /// Its content, with its bytes where they were needed.
    Read(Content, Option<Arc<[u8]>>),
    /// It could not be read; the reason as a sentence's end.
    Refused(Reason, String),
    /// It was being written or went away meanwhile: look at it again at the next pass.
    Later,
}

/// The files that were read so far.
#[derive(Default)]
pub struct Reads {
    files: BTreeMap<RelPath, FileRead>,
    /// Manifests of sets, read once for all rounds.
    sets: BTreeMap<RelPath, Result<Arc<SetFile>, Vec<Problem>>>,
}

impl Reads {
    /// Takes in a file that was needed.
    pub fn insert(&mut self, path: RelPath, read: FileRead) {
        self.sets.remove(&path);
        self.files.insert(path, read);
    }

    fn get(&self, path: &RelPath) -> Option<&FileRead> {
        self.files.get(path)
    }

    /// Reads the manifests of sets that have come in.
    fn read_sets(&mut self, input: &Input<'_>) {
        for (path, read) in &self.files {
            if let FileRead::Read(_, Some(bytes)) = read
                && path.name() == Some(SET_MANIFEST)
                && !self.sets.contains_key(path)
            {
                let dir = path.parent().unwrap_or_else(RelPath::root);
                let set = taskset::read_set(bytes, &dir, input.dev, input.limits).map(Arc::new);
                self.sets.insert(path.clone(), set);
            }
        }
    }
}

/// What could not be read as a whole just now and stays as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Later {
    /// The unit; `None` for a set, and where only the manifest knows the key.
    pub key: Option<Arc<str>>,
    /// What to look at again.
    pub path: RelPath,
}

/// What one round gave.
#[derive(Default)]
pub struct Round {
    /// Files to read before the next round; empty when the discovery is complete.
    pub needs: Vec<Need>,
    /// Repositories that are to be had before the next round, or said to be away.
    pub repositories: BTreeSet<RelPath>,
    /// What was looked at, and what became of it.
    pub found: Found,
    /// What could not be read as a whole just now.
    pub later: Vec<Later>,
}

impl Round {
    /// Whether nothing more is needed.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.needs.is_empty() && self.repositories.is_empty()
    }
}

/// Looks at every unit that the changes reach.
#[must_use]
pub fn discover(input: &Input<'_>, reads: &mut Reads) -> Round {
    reads.read_sets(input);
    let mut work = Work::new(input, reads);
    work.start();
    work.resolve_sets();
    work.read_units();
    work.finish()
}

/// One round under way.
struct Work<'a> {
    input: &'a Input<'a>,
    reads: &'a Reads,
    view: View<'a>,
    needs: BTreeMap<RelPath, Need>,
    repositories: BTreeSet<RelPath>,
    later: Vec<Later>,
    /// Units to read.
    dirty: BTreeSet<Arc<str>>,
    /// Whether the manifest at the source's own path is to be read.
    root_is_dirty: bool,
    /// Keys below which everything is looked at, whatever was known.
    scopes: Vec<Arc<str>>,
    /// What is there in the scopes; the rest of what was known of them is gone.
    visited: BTreeSet<Arc<str>>,
    /// Sets to read, with their directories.
    queue: VecDeque<(Arc<str>, RelPath)>,
    /// Sets that were read in this round.
    resolved: BTreeSet<(Arc<str>, RelPath)>,
    /// Sets whose manifest changed.
    reread: BTreeSet<Arc<str>>,
    /// Keys below which overrides may differ.
    recheck: BTreeSet<Arc<str>>,
    /// How many entries the sets declare that were read in this round.
    entries: usize,
}

impl<'a> Work<'a> {
    fn new(input: &'a Input<'a>, reads: &'a Reads) -> Self {
        Self {
            input,
            reads,
            view: View::new(input.catalog),
            needs: BTreeMap::new(),
            repositories: BTreeSet::new(),
            later: Vec::new(),
            dirty: BTreeSet::new(),
            root_is_dirty: false,
            scopes: Vec::new(),
            visited: BTreeSet::new(),
            queue: VecDeque::new(),
            resolved: BTreeSet::new(),
            reread: BTreeSet::new(),
            recheck: BTreeSet::new(),
            entries: 0,
        }
    }

    fn need(&mut self, path: &RelPath, bytes: bool, max: u64) {
        let need = Need { path: path.clone(), bytes, max };
        let known = self.needs.entry(path.clone()).or_insert_with(|| need.clone());
        (known.bytes, known.max) = (known.bytes || need.bytes, known.max.max(need.max));
    }

    /// Whether everything about this key is looked at, whatever was known.
    fn is_in_scope(&self, key: &str) -> bool {
        self.scopes.iter().any(|scope| super::catalog::is_within(key, scope))
    }

    fn read_units(&mut self) {
        for key in std::mem::take(&mut self.dirty) {
            let is_frozen_set = self.view.set(&key).is_some_and(|set| set.frozen);
            if self.view.is_gone(&key) || is_frozen_set || is_frozen(&self.view, &key) {
                continue;
            }
            match self.read_unit(&key) {
                Outcome::Entry(entry) => self.view.put_unit(key, entry.map(|entry| *entry)),
                Outcome::Later(path) => self.later.push(Later { key: Some(key), path }),
                Outcome::Needs => {}
            }
        }
        if self.root_is_dirty {
            self.read_root();
        }
    }

    fn finish(mut self) -> Round {
        for scope in std::mem::take(&mut self.scopes) {
            let catalog = self.input.catalog;
            let stays = |key: &Arc<str>| self.visited.contains(key);
            let units: Vec<_> =
                catalog.units_within(&scope).map(|(key, _)| key).filter(|key| !stays(key)).collect();
            let sets: Vec<_> =
                catalog.sets_within(&scope).map(|(key, _)| key).filter(|key| !stays(key)).collect();
            let declared: Vec<_> =
                catalog.declared_within(&scope).map(|(key, _)| key).filter(|key| !stays(key)).collect();
            units.into_iter().for_each(|key| self.view.drop_unit(key));
            sets.into_iter().for_each(|key| self.view.drop_set(key));
            declared.into_iter().for_each(|key| self.view.drop_declared(key));
        }
        Round {
            needs: self.needs.into_values().collect(),
            repositories: self.repositories,
            found: self.view.into_found(),
            later: self.later,
        }
    }
}

/// An entry of a unit that is broken before its files are looked at.
fn broken(dir: &RelPath, reach: Option<RelPath>, problems: Vec<Problem>) -> Entry {
    Entry { dir: dir.clone(), state: Err(problems), reach }
}

#[cfg(test)]
mod tests;
