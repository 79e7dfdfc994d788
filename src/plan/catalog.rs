//! What is known of a source's units between two passes, so that a pass costs in proportion to what changed.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::hash::UnitHash;
use crate::model::path::RelPath;
use crate::model::problem::Problem;
use crate::model::spec::TaskSpec;
use crate::model::tree::Stamp;
use crate::model::unit::FileList;

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
    /// The stamps of `files`, in their order: a file whose stamp is equal need not be read again.
    pub(super) stamps: Box<[Stamp]>,
}

/// One directory that holds a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The unit's key; `None` where a broken manifest at the source's own path has told no name yet.
    pub key: Option<Arc<str>>,
    /// The unit, or what is wrong with it.
    pub state: Result<Resolved, Vec<Problem>>,
}

/// All units of a source by their directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Catalog {
    entries: BTreeMap<RelPath, Entry>,
}

impl Catalog {
    /// The entry of `dir`.
    #[must_use]
    pub fn get(&self, dir: &RelPath) -> Option<&Entry> {
        self.entries.get(dir)
    }

    /// Every directory with its entry, in byte order.
    pub fn iter(&self) -> impl Iterator<Item = (&RelPath, &Entry)> {
        self.entries.iter()
    }

    /// The directory whose manifest makes the unit `key`.
    #[must_use]
    pub fn dir_of(&self, key: &str) -> Option<RelPath> {
        let root = RelPath::root();
        if self.entries.get(&root).is_some_and(|entry| entry.key.as_deref() == Some(key)) {
            return Some(root);
        }
        RelPath::parse(key).ok().filter(|dir| !dir.is_root() && self.entries.contains_key(dir))
    }

    /// What was found of the unit `key`.
    #[must_use]
    pub fn of_key(&self, key: &str) -> Option<&Entry> {
        self.dir_of(key).and_then(|dir| self.get(&dir))
    }

    /// How many units there are, broken ones counted.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Problems of a manifest that belongs to no unit: only the one at the source's own path can be without a key.
    #[must_use]
    pub fn homeless_problems(&self) -> &[Problem] {
        match self.entries.get(&RelPath::root()) {
            Some(Entry { key: None, state: Err(problems) }) => problems,
            _ => &[],
        }
    }

    /// Takes in what a discovery found.
    pub fn apply(&mut self, found: Vec<(RelPath, Option<Entry>)>) {
        for (dir, entry) in found {
            match entry {
                Some(entry) => self.entries.insert(dir, entry),
                None => self.entries.remove(&dir),
            };
        }
    }
}
