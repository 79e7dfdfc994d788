//! What the observer remembers: the directories, the tree that is made of them, and what of it was not told yet.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::ignore::{IgnoreFile, Rules};
use super::scan::{Dir, Listing};
use super::stat::Fields;
use crate::model::path::RelPath;
use crate::model::tree::{Changes, Node, Tree};

/// A file that changed less than this before it was looked at may change again without new fields: file systems
/// stamp times from a clock that ticks every 1 to 10 ms.
pub(super) const RACY: Duration = Duration::from_millis(20);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Memory {
    tree: Arc<Tree>,
    dirs: HashMap<RelPath, Dir>,
    /// Files that have to be read once more, and since when that is known.
    racy: HashMap<RelPath, Instant>,
    /// What stood at each path that may have changed, when it was told.
    before: BTreeMap<RelPath, Option<Node>>,
    /// Directories whose refused names changed.
    odd: BTreeSet<RelPath>,
    /// Whether ignore rules, or what is kept in spite of them, changed since [`Memory::take_ignore_changed`].
    ignore_changed: bool,
}

/// When a scan looks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    /// For measuring.
    pub started: Instant,
    /// A file that changed then or later (nanoseconds since 1970) is racy.
    pub fresh: i64,
}

impl Moment {
    /// `now_ms` is the time of day, in milliseconds since 1970.
    pub(super) fn new(now_ms: i64) -> Self {
        let racy = i64::try_from(RACY.as_millis()).unwrap_or(0);
        Self { started: Instant::now(), fresh: now_ms.saturating_sub(racy).saturating_mul(1_000_000) }
    }
}

impl Memory {
    /// The tree as it is known now.
    pub(super) fn tree(&self) -> &Arc<Tree> {
        &self.tree
    }

    /// The directories.
    pub(super) fn dirs(&self) -> &HashMap<RelPath, Dir> {
        &self.dirs
    }

    /// One directory; made if it was not known.
    pub(super) fn dir(&mut self, dir: &RelPath) -> &mut Dir {
        if !self.dirs.contains_key(dir) {
            self.dirs.insert(dir.clone(), Dir::default());
        }
        self.dirs.entry(dir.clone()).or_default()
    }

    /// Takes in what a directory holds now. Gives back the watched directories that went away.
    pub(super) fn apply(&mut self, dir: &RelPath, now: Listing, moment: Moment) -> Vec<RelPath> {
        let entry = self.dir(dir);
        let was = std::mem::replace(&mut entry.listing, now);
        entry.listed = true;
        // Taken out for as long as the tree is changed by it.
        let now = std::mem::take(&mut entry.listing);
        self.ignore_changed |= was.kept != now.kept || !is_same_ignore(&was, &now);
        let mut gone = Vec::new();
        for (dir, _) in &was.dirs {
            if now.dirs.binary_search_by(|(other, _)| other.cmp(dir)).is_err() {
                gone.extend(self.forget(dir));
            }
        }
        self.change_files(&was.files, &now.files, moment);
        if was.refused != now.refused {
            Arc::make_mut(&mut self.tree).replace_refused(|other| other == dir, now.refused.clone());
            self.odd.insert(dir.clone());
        }
        self.dir(dir).listing = now;
        gone
    }

    /// Takes in the stamp of a directory that holds what it held, and which one it is: its watch may be a new one.
    pub(super) fn stamp(&mut self, dir: &RelPath, stamp: Option<Fields>, place: (u64, u64)) {
        if let Some(known) = self.dirs.get_mut(dir) {
            (known.listing.stamp, known.listing.place) = (stamp, Some(place));
        }
    }

    fn change_files(&mut self, was: &[(RelPath, Node)], now: &[(RelPath, Node)], moment: Moment) {
        let mut was = was.iter().peekable();
        for (path, node) in now {
            while let Some((gone, node)) = was.next_if(|(other, _)| other < path) {
                self.remove(gone, *node);
            }
            match was.next_if(|(other, _)| other == path) {
                Some((_, before)) if before == node => continue,
                Some((_, before)) => self.note(path, Some(*before)),
                None => self.note(path, None),
            }
            Arc::make_mut(&mut self.tree).insert(path.clone(), *node);
            if Fields::in_stamp(&node.stamp).is_some_and(|(fields, _)| fields.changed >= moment.fresh) {
                self.racy.insert(path.clone(), moment.started);
            }
        }
        for (gone, node) in was {
            self.remove(gone, *node);
        }
    }

    fn remove(&mut self, path: &RelPath, node: Node) {
        self.note(path, Some(node));
        Arc::make_mut(&mut self.tree).remove(path);
        self.racy.remove(path);
    }

    fn note(&mut self, path: &RelPath, was: Option<Node>) {
        self.before.entry(path.clone()).or_insert(was);
    }

    /// Forgets a directory that is gone, with all below it. Gives back those that were watched.
    pub(super) fn forget(&mut self, dir: &RelPath) -> Vec<RelPath> {
        let mut watched = Vec::new();
        let mut left = vec![dir.clone()];
        while let Some(dir) = left.pop() {
            let Some(known) = self.dirs.remove(&dir) else { continue };
            self.ignore_changed |= known.listing.own.is_some() || !known.listing.kept.is_empty();
            left.extend(known.listing.dirs.into_iter().map(|(dir, _)| dir));
            for (path, node) in &known.listing.files {
                self.remove(path, *node);
            }
            if !known.listing.refused.is_empty() {
                Arc::make_mut(&mut self.tree).replace_refused(|other| *other == dir, Vec::new());
                self.odd.insert(dir.clone());
            }
            if known.watched {
                watched.push(dir);
            }
        }
        watched
    }

    /// Forgets a directory that was found gone, also in the directory that holds it.
    pub(super) fn forget_entry(&mut self, dir: &RelPath) -> Vec<RelPath> {
        if let Some(parent) = dir.parent().and_then(|parent| self.dirs.get_mut(&parent)) {
            parent.listing.dirs.retain(|(other, _)| other != dir);
        }
        self.forget(dir)
    }

    /// Marks `dir` and everything below it as not watched, for other directories may be there now. Gives back what
    /// was watched.
    pub(super) fn unwatch_below(&mut self, dir: &RelPath) -> Vec<RelPath> {
        let mut watched = Vec::new();
        let mut left = vec![dir.clone()];
        while let Some(dir) = left.pop() {
            let Some(known) = self.dirs.get_mut(&dir) else { continue };
            left.extend(known.listing.dirs.iter().map(|(dir, _)| dir.clone()));
            // Whichever directory is there when it is watched anew is the right one.
            known.listing.place = None;
            if std::mem::take(&mut known.watched) {
                watched.push(dir);
            }
        }
        watched
    }

    /// Marks every directory as not watched.
    pub(super) fn unwatch_all(&mut self) {
        for dir in self.dirs.values_mut() {
            (dir.watched, dir.listing.place) = (false, None);
        }
    }

    /// Gives a new round to every file that was racy before this full scan and was not found changed by it: what was
    /// read of it then may have been written to since.
    pub(super) fn settle(&mut self, moment: Moment) {
        let is_due = |since: &Instant| moment.started.saturating_duration_since(*since) >= RACY;
        let due: Vec<RelPath> =
            self.racy.iter().filter(|(_, since)| is_due(since)).map(|(path, _)| path.clone()).collect();
        for path in due {
            self.racy.remove(&path);
            self.bump(&path);
        }
    }

    /// Gives a new round to every file.
    pub(super) fn bump_all(&mut self) {
        let paths: Vec<RelPath> = self.tree.iter().map(|(path, _)| path.clone()).collect();
        paths.iter().for_each(|path| self.bump(path));
        self.racy.clear();
    }

    fn bump(&mut self, path: &RelPath) {
        let Some(dir) = path.parent().and_then(|parent| self.dirs.get_mut(&parent)) else { return };
        let files = &mut dir.listing.files;
        let Ok(at) = files.binary_search_by(|(other, _)| other.cmp(path)) else { return };
        let node = &mut files[at].1;
        let Some((fields, round)) = Fields::in_stamp(&node.stamp) else { return };
        let was = *node;
        node.stamp = fields.stamp(round.wrapping_add(1));
        let now = *node;
        self.note(path, Some(was));
        Arc::make_mut(&mut self.tree).insert(path.clone(), now);
    }

    /// Notes that a file was read with these fields, `moment` being before. Gives back whether the tree says so too.
    pub(super) fn was_read(&mut self, path: &RelPath, fields: Fields, moment: Moment) -> bool {
        let known = self.tree.get(path).and_then(|node| Fields::in_stamp(&node.stamp));
        let is_same = known.is_some_and(|(known, _)| known == fields);
        if fields.changed >= moment.fresh {
            self.racy.insert(path.clone(), moment.started);
        } else if is_same {
            // Whoever read it after it was at rest has seen all of it.
            self.racy.remove(path);
        }
        is_same
    }

    /// What is not as it was told.
    pub(super) fn changes(&self) -> Changes {
        let differs = |(path, was): (&RelPath, &Option<Node>)| self.tree.get(path) != was.as_ref();
        let changed = self.before.iter().filter(|entry| differs(*entry)).map(|(path, _)| path);
        Changes::Paths(changed.chain(&self.odd).cloned().collect())
    }

    /// All that is known was told.
    pub(super) fn was_told(&mut self) {
        self.before.clear();
        self.odd.clear();
    }

    /// Every file that is tracked although it is ignored.
    pub(super) fn kept(&self) -> HashSet<RelPath> {
        self.dirs.values().flat_map(|dir| dir.listing.kept.iter().cloned()).collect()
    }

    /// What holds in each directory that has a `.gitignore`.
    pub(super) fn rules(&self) -> HashMap<RelPath, Arc<Rules>> {
        let with_own = self.dirs.iter().filter(|(_, known)| known.listing.own.is_some());
        with_own.filter_map(|(dir, known)| Some((dir.clone(), known.listing.rules.clone()?))).collect()
    }

    /// Whether [`Memory::kept`] or [`Memory::rules`] may give another answer than when this was asked last.
    pub(super) fn take_ignore_changed(&mut self) -> bool {
        std::mem::take(&mut self.ignore_changed)
    }
}

fn is_same_ignore(was: &Listing, now: &Listing) -> bool {
    let is_same_chain = match (&was.rules, &now.rules) {
        (Some(was), Some(now)) => Arc::ptr_eq(was, now),
        (None, None) => true,
        _ => false,
    };
    IgnoreFile::agree(was.own.as_ref(), now.own.as_ref()) && (now.own.is_none() || is_same_chain)
}
