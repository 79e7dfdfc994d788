//! Reads trees out of the object database, and only those parts that differ from what is known.
//!
//! No checkout, no blob is opened. Equal ids of directories are equal contents, so a small commit in a large
//! repository costs the directories on the way to its files.

use std::collections::{BTreeSet, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};

use gix::ObjectId;
use gix::objs::tree::EntryKind;
use gix::objs::{Find, Kind, TreeRefIter};

use super::error::Trouble;
use crate::model::path::{PathRefusal, RelPath};
use crate::model::tree::{Node, NodeKind, Refused, Stamp, Tree};

/// Most directories on the way to a file. A unit may be 32 deep; the rest is for the path to it.
const MAX_DEPTH: usize = 64;

/// Most entries of a tree. A hostile repository of a few objects can name the same directory over and over.
const MAX_ENTRIES: usize = 2_000_000;

/// What turns one tree into another one.
#[derive(Debug, Default)]
pub(super) struct Delta {
    put: Vec<(RelPath, Node)>,
    gone: Vec<RelPath>,
    /// Directories of which everything is gone.
    gone_below: Vec<RelPath>,
    /// Directories whose names were read again.
    listed: HashSet<RelPath>,
    refused: Vec<Refused>,
}

impl Delta {
    /// Turns `tree` into the newer one; gives back every path that is not as it was. A directory stands for the
    /// refused names in it, which have no path of their own.
    pub(super) fn apply(self, tree: &mut Tree) -> BTreeSet<RelPath> {
        let mut changed = BTreeSet::new();
        for dir in &self.gone_below {
            changed.extend(tree.below(dir).map(|(path, _)| path.clone()));
        }
        changed.extend(self.gone);
        for path in &changed {
            tree.remove(path);
        }
        for (path, node) in self.put {
            tree.insert(path.clone(), node);
            changed.insert(path);
        }
        let stale = |dir: &RelPath| {
            self.listed.contains(dir) || self.gone_below.iter().any(|gone| dir.is_within(gone))
        };
        if !self.refused.is_empty() || !tree.refused().is_empty() {
            let before = tree.refused().to_vec();
            tree.replace_refused(stale, self.refused);
            let only_in_one = |one: &[Refused], other: &[Refused]| -> Vec<RelPath> {
                one.iter().filter(|name| !other.contains(name)).map(|name| name.dir.clone()).collect()
            };
            changed.extend(only_in_one(&before, tree.refused()));
            changed.extend(only_in_one(tree.refused(), &before));
        }
        changed
    }
}

/// Reads trees from `objects` until it is interrupted.
pub(super) struct Trees<'a> {
    objects: &'a dyn Find,
    interrupted: &'a AtomicBool,
    entries: usize,
    delta: Delta,
}

struct Entry {
    name: Vec<u8>,
    kind: EntryKind,
    id: ObjectId,
}

impl Entry {
    fn is_dir(&self) -> bool {
        self.kind == EntryKind::Tree
    }
}

impl<'a> Trees<'a> {
    /// Nothing is read yet.
    pub(super) fn new(objects: &'a dyn Find, interrupted: &'a AtomicBool) -> Self {
        Self { objects, interrupted, entries: 0, delta: Delta::default() }
    }

    /// The id of the directory `path` below the tree `root`; `None` if there is none.
    pub(super) fn find_dir(&mut self, root: ObjectId, path: &RelPath) -> Result<Option<ObjectId>, Trouble> {
        let mut at = root;
        for part in path.as_str().split('/').filter(|part| !part.is_empty()) {
            let entries = self.list(at)?;
            let Some(next) = entries.iter().find(|entry| entry.name == part.as_bytes()) else {
                return Ok(None);
            };
            if !next.is_dir() {
                return Ok(None);
            }
            at = next.id;
        }
        Ok(Some(at))
    }

    /// The whole tree at `root`.
    pub(super) fn whole(mut self, root: ObjectId) -> Result<Tree, Trouble> {
        self.add(&RelPath::root(), root)?;
        let mut tree = Tree::default();
        self.delta.apply(&mut tree);
        Ok(tree)
    }

    /// What turns the tree `old` into `new`. `size` is the number of paths in the old one.
    pub(super) fn delta(mut self, old: ObjectId, new: ObjectId, size: usize) -> Result<Delta, Trouble> {
        self.compare(&RelPath::root(), old, new)?;
        if size + self.delta.put.len() > MAX_ENTRIES {
            return Err(too_many());
        }
        Ok(self.delta)
    }

    fn add(&mut self, dir: &RelPath, id: ObjectId) -> Result<(), Trouble> {
        let entries = self.list(id)?;
        self.delta.listed.insert(dir.clone());
        for entry in entries {
            self.put(dir, &entry)?;
        }
        Ok(())
    }

    /// Takes an entry that is new, with all below it.
    fn put(&mut self, dir: &RelPath, entry: &Entry) -> Result<(), Trouble> {
        let Some(path) = self.path(dir, entry) else { return Ok(()) };
        if entry.is_dir() {
            return self.add(&path, entry.id);
        }
        let mut object = [0; 20];
        object.copy_from_slice(entry.id.as_slice());
        let kind = match entry.kind {
            EntryKind::BlobExecutable => NodeKind::Executable,
            EntryKind::Link => NodeKind::Link,
            EntryKind::Commit => NodeKind::Submodule,
            EntryKind::Blob | EntryKind::Tree => NodeKind::Regular,
        };
        self.delta.put.push((path, Node { kind, size: 0, stamp: Stamp::Object(object) }));
        Ok(())
    }

    /// Both lists are in the order of their names.
    fn compare(&mut self, dir: &RelPath, old: ObjectId, new: ObjectId) -> Result<(), Trouble> {
        if old == new {
            return Ok(());
        }
        let before = self.list(old)?;
        let after = self.list(new)?;
        self.delta.listed.insert(dir.clone());
        let mut before = before.into_iter().peekable();
        for entry in after {
            while let Some(gone) = before.next_if(|old| old.name < entry.name) {
                self.take(dir, &gone);
            }
            match before.next_if(|old| old.name == entry.name) {
                Some(old) => self.compare_entry(dir, &old, &entry)?,
                None => self.put(dir, &entry)?,
            }
        }
        for gone in before {
            self.take(dir, &gone);
        }
        Ok(())
    }

    fn compare_entry(&mut self, dir: &RelPath, old: &Entry, new: &Entry) -> Result<(), Trouble> {
        // A name that is refused stays refused: it is noted, whatever it holds.
        let Some(path) = self.path(dir, new) else { return Ok(()) };
        if (old.kind, old.id) == (new.kind, new.id) {
            return Ok(());
        }
        if old.is_dir() && new.is_dir() {
            return self.compare(&path, old.id, new.id);
        }
        if old.is_dir() != new.is_dir() {
            self.take(dir, old);
        }
        self.put(dir, new)
    }

    fn take(&mut self, dir: &RelPath, entry: &Entry) {
        if let Ok(path) = dir.join_bytes(&entry.name) {
            if entry.is_dir() { &mut self.delta.gone_below } else { &mut self.delta.gone }.push(path);
        }
    }

    fn path(&mut self, dir: &RelPath, entry: &Entry) -> Option<RelPath> {
        // Deeper is not looked at, so that a tree that names itself over and over ends.
        let is_too_deep = |path: &RelPath| entry.is_dir() && path.depth() > MAX_DEPTH;
        match dir.join_bytes(&entry.name).map(|path| (is_too_deep(&path), path)) {
            Ok((false, path)) => Some(path),
            refused => {
                let why = refused.err().unwrap_or(PathRefusal::TooDeep);
                let name = entry.name.escape_ascii().to_string();
                self.delta.refused.push(Refused { dir: dir.clone(), name, why });
                None
            }
        }
    }

    /// The entries of one directory by name. A name that stands there twice, which git never writes, counts once.
    fn list(&mut self, id: ObjectId) -> Result<Vec<Entry>, Trouble> {
        if self.interrupted.load(Ordering::Relaxed) {
            return Err(Trouble::TimedOut);
        }
        let mut buffer = Vec::new();
        let found = self.objects.try_find(&id, &mut buffer).map_err(|error| Trouble::damaged(&error))?;
        let found = found.filter(|found| found.kind == Kind::Tree);
        let data = found.ok_or_else(|| Trouble::lacks("directory", id))?;
        let mut entries = Vec::new();
        for entry in TreeRefIter::from_bytes(data.data, id.kind()) {
            let entry = entry.map_err(|error| Trouble::damaged(&error))?;
            let (kind, id) = (entry.mode.kind(), entry.oid.to_owned());
            entries.push(Entry { name: entry.filename.to_vec(), kind, id });
        }
        self.entries += entries.len();
        if self.entries > MAX_ENTRIES {
            return Err(too_many());
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        entries.dedup_by(|b, a| a.name == b.name);
        Ok(entries)
    }
}

fn too_many() -> Trouble {
    Trouble::TreeTooLarge("has more than 2,000,000 entries")
}
