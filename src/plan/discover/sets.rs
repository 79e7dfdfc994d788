//! Sets: what they declare, where that leads, and which units a change of a set reaches.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::config::node::Node;
use crate::model::path::{MAX_PATH_BYTES, RelPath};
use crate::model::problem::{Position, Problem, Reason};
use crate::model::tree::NodeKind;
use crate::plan::catalog::{Declared, Known, SetState, is_enabled, is_frozen, layers, sets_above};
use crate::plan::nested::{self, MOST_REPOSITORIES};
use crate::plan::taskset::{Child, Home, SetFile, file_of};
use crate::plan::{cascade, exclude};

use super::{FileRead, Later, SET_MANIFEST, TASK_MANIFEST, Work, broken};

/// What stands in a directory that an entry leads to.
enum What {
    Task,
    Set,
    Neither(String),
    /// It is in another repository that cannot be had now.
    Away,
    /// The source may not lead there.
    Refused(Problem),
}

/// What is known of a set's manifest.
enum Manifest {
    Read(Arc<SetFile>),
    Broken(Vec<Problem>),
    Later,
    Needed,
}

impl Work<'_> {
    /// Reads sets and follows their entries until nothing new comes up.
    pub(super) fn resolve_sets(&mut self) {
        loop {
            while let Some((key, dir)) = self.queue.pop_front() {
                self.resolve_set(&key, &dir);
            }
            let Some(above) = self.recheck.pop_first() else { return };
            let below: Vec<Arc<str>> =
                self.input.catalog.declared_within(&above).map(|(key, _)| Arc::clone(key)).collect();
            for key in below.iter().filter(|key| **key != above) {
                self.visit(key);
            }
        }
    }

    /// Looks at a set that no entry leads to.
    pub(super) fn visit_root(&mut self, dir: &RelPath) {
        let key: Arc<str> = Arc::from(dir.as_str());
        self.visited.insert(Arc::clone(&key));
        self.view.drop_declared(&key);
        if !self.holds(dir, TASK_MANIFEST) {
            self.view.drop_unit(&key);
            self.queue.push_back((key, dir.clone()));
            return;
        }
        let problem = Problem::new(Reason::InvalidManifest, both()).at(1, 1);
        let problem = file_of(dir).map_or(problem.clone(), |file| problem.in_file(file));
        let homeless = if dir.is_root() { vec![problem.clone()] } else { Vec::new() };
        if !dir.is_root() {
            self.view.put_unit(Arc::clone(&key), Some(broken(dir, Some(dir.clone()), vec![problem])));
        }
        self.keep(&key, dir, homeless);
    }

    /// Looks at an entry of a set, or at a set that no entry leads to: where it leads, and whether that changed.
    pub(super) fn visit(&mut self, key: &Arc<str>) {
        let catalog = self.input.catalog;
        let Some(declared) = self.view.declared(key) else {
            if catalog.declared(key).is_none()
                && let Some(dir) =
                    catalog.set(key).map(|set| set.dir.clone()).filter(|dir| self.is_in_set(dir))
            {
                self.visit_root(&dir);
            }
            return;
        };
        self.visited.insert(Arc::clone(key));
        if is_frozen(&self.view, key) {
            self.view.keep_unit(key);
            return;
        }
        let layers = layers(&self.view, key);
        if !is_enabled(declared, &layers) {
            self.drop_below(key);
            return;
        }
        let place = self.view.set(&declared.set).map(|set| set.file.clone());
        let same_place = catalog.declared(key).is_some_and(|old| old.leads_where(declared))
            && cascade::say_the_same(&layers, &crate::plan::catalog::layers(catalog, key));
        let home = declared.home.clone();
        match home {
            Err(problems) => self.put_broken(key, None, problems),
            Ok(Home::Inline(_)) => self.visit_task(key, same_place),
            Ok(Home::At(dir, at)) => match self.what_is_at(key, &dir) {
                What::Away => self.keep_away(key, &dir),
                What::Refused(problem) => {
                    let problem = problem.at(at.line, at.column);
                    let problem = place.map_or(problem.clone(), |file| problem.in_file(file));
                    self.put_broken(key, Some(dir), vec![problem]);
                }
                What::Task => self.visit_task(key, same_place),
                What::Set => self.visit_set(key, &dir),
                What::Neither(why) => {
                    let problem = Problem::new(Reason::InvalidManifest, why).at(at.line, at.column);
                    let problem = place.map_or(problem.clone(), |file| problem.in_file(file));
                    self.put_broken(key, Some(dir), vec![problem]);
                }
            },
        }
    }

    /// What the entry `key` leads to, which may be in another repository.
    fn what_is_at(&mut self, key: &str, dir: &RelPath) -> What {
        let Some(root) = dir.mount_point() else { return self.what_is_in(dir) };
        let above = sets_above(&self.view, key);
        let roots: Vec<Option<RelPath>> =
            above.iter().filter_map(|set| self.view.set(set)).map(|set| set.dir.mount_point()).collect();
        let from = roots.first().cloned().flatten();
        let repositories = self.input.repositories;
        if let (Some(source), Some((url, _))) = (&repositories.source, root.repository()) {
            let from = from.as_ref().and_then(RelPath::repository).map(|(url, _)| url);
            if let Some(problem) = nested::refusal(source, repositories.declared(), from.as_deref(), &url) {
                return What::Refused(problem);
            }
        }
        let entered = roots.windows(2).filter(|pair| pair[0].is_some() && pair[0] != pair[1]).count();
        if from.as_ref() != Some(&root) && entered >= MOST_REPOSITORIES {
            return What::Neither(format!("more than {MOST_REPOSITORIES} repositories lead to one another"));
        }
        if repositories.is_away(&root) {
            return What::Away;
        }
        if !repositories.here.contains(&root) {
            self.repositories.insert(root);
            return What::Away;
        }
        self.what_is_in(dir)
    }

    fn what_is_in(&self, dir: &RelPath) -> What {
        let shown = dir.to_string();
        if exclude::is_never(dir) {
            return What::Neither(format!("the directory {shown} never counts: no unit is looked for in it"));
        }
        match (self.holds(dir, TASK_MANIFEST), self.holds(dir, SET_MANIFEST)) {
            (true, false) => What::Task,
            (false, true) => What::Set,
            (true, true) => What::Neither(format!("the directory {shown}: {}", both())),
            (false, false) => {
                What::Neither(format!("the directory {shown} holds no {TASK_MANIFEST} and no {SET_MANIFEST}"))
            }
        }
    }

    fn visit_task(&mut self, key: &Arc<str>, is_same: bool) {
        let known = self.input.catalog.get(key);
        self.forget_set(key);
        self.view.keep_unit(key);
        // A problem may stand in a line that moved.
        if !is_same || self.is_in_scope(key) || known.is_none_or(|entry| entry.state.is_err()) {
            self.dirty.insert(Arc::clone(key));
        }
    }

    fn visit_set(&mut self, key: &Arc<str>, dir: &RelPath) {
        let catalog = self.input.catalog;
        self.dirty.remove(key);
        self.view.drop_unit(key);
        if let Err(why) = self.may_nest(key, dir) {
            let place = self.place_of(key);
            let problem = place.map_or_else(
                || Problem::new(Reason::InvalidManifest, why.clone()),
                |(file, at)| {
                    Problem::new(Reason::InvalidManifest, why.clone()).in_file(file).at(at.line, at.column)
                },
            );
            self.keep(key, dir, vec![problem]);
            return;
        }
        let known = catalog.set(key).filter(|set| set.dir == *dir && !set.kept);
        // Overrides of a set are checked with what it is.
        let patched = self.is_patched_otherwise(key);
        if known.is_none()
            || patched
            || self.reread.contains(key)
            || self.is_in_scope(key)
            || self.is_dropped(key)
        {
            self.queue.push_back((Arc::clone(key), dir.clone()));
        }
    }

    fn is_patched_otherwise(&self, key: &str) -> bool {
        let (mut new, mut old) = (layers(&self.view, key), layers(self.input.catalog, key));
        new.retain(|layer| layer.kind == cascade::Kind::Overrides);
        old.retain(|layer| layer.kind == cascade::Kind::Overrides);
        !cascade::say_the_same(&new, &old)
    }

    fn is_dropped(&self, key: &str) -> bool {
        self.view.set(key).is_none()
    }

    /// Overrides of a set reach what lies below it.
    fn recheck_if_patched(&mut self, key: &Arc<str>) {
        let old = self.input.catalog.declared(key).and_then(|declared| declared.overrides.as_ref());
        let new = self.view.declared(key).and_then(|declared| declared.overrides.as_ref());
        if !say_the_same(old, new) {
            self.recheck.insert(Arc::clone(key));
        }
    }

    /// Where the entry stands that declares `key`.
    fn place_of(&self, key: &str) -> Option<(RelPath, Position)> {
        let declared = self.view.declared(key)?;
        Some((self.view.set(&declared.set)?.file.clone(), declared.at))
    }

    fn resolve_set(&mut self, key: &Arc<str>, dir: &RelPath) {
        let is_root = self.view.declared(key).is_none() && **key == *dir.as_str() && !self.is_below_set(dir);
        let leads_here = self.view.declared(key).is_some_and(|declared| declared.dir() == Some(dir));
        if (!is_root && !leads_here) || !self.resolved.insert((Arc::clone(key), dir.clone())) {
            return;
        }
        match self.manifest_of_set(dir) {
            Manifest::Read(set) => self.declare(key, dir, &set),
            Manifest::Broken(problems) => self.keep(key, dir, problems),
            Manifest::Later => {
                self.later.extend(file_of(dir).map(|path| Later { key: None, path }));
                self.keep(key, dir, Vec::new());
            }
            Manifest::Needed => self.keep(key, dir, Vec::new()),
        }
    }

    fn manifest_of_set(&mut self, dir: &RelPath) -> Manifest {
        let broken = |reason, message: &str| {
            let problem = Problem::new(reason, message).at(1, 1);
            Manifest::Broken(vec![file_of(dir).map_or(problem.clone(), |file| problem.in_file(file))])
        };
        let Some(path) = file_of(dir) else { return broken(Reason::RefusedPath, "the path is too long") };
        let node = self.input.tree.get(&path);
        if !node.is_some_and(|node| matches!(node.kind, NodeKind::Regular | NodeKind::Executable)) {
            return broken(Reason::RefusedPath, "a manifest must be a regular file");
        }
        if let Some(read) = self.reads.sets.get(&path) {
            return match read {
                Ok(set) => Manifest::Read(Arc::clone(set)),
                Err(problems) => Manifest::Broken(problems.clone()),
            };
        }
        match self.reads.get(&path) {
            Some(FileRead::Later) => Manifest::Later,
            Some(FileRead::Refused(reason, why)) => {
                let key = if *reason == Reason::LimitExceeded { " (`limits.taskset`)" } else { "" };
                broken(*reason, &format!("the manifest cannot be read: {why}{key}"))
            }
            _ => {
                self.need(&path, true, self.input.limits.set_bytes);
                Manifest::Needed
            }
        }
    }

    /// Takes in what a set declares.
    fn declare(&mut self, key: &Arc<str>, dir: &RelPath, set: &Arc<SetFile>) {
        let Some(file) = file_of(dir) else { return };
        let mut problems = set.problems.clone();
        let (misnamed, warnings) = self.misnamed(key, set);
        if !misnamed.is_empty() {
            problems.extend(misnamed);
            self.freeze(key, dir, problems);
            return;
        }
        let before = self.input.catalog.set(key);
        let most = self.input.limits.set_entries;
        self.entries += set.children.len();
        if self.entries > most {
            let message = format!(
                "the sets of this source have more entries than the {most} that `limits.entries` allows"
            );
            problems.push(Problem::new(Reason::LimitExceeded, message).in_file(file.clone()).at(1, 1));
            self.keep(key, dir, problems);
            return;
        }
        let entries = entries_of(key, set, &file, &mut problems);
        let children: Vec<Arc<str>> = entries.iter().map(|(name, _)| Arc::clone(name)).collect();
        self.drop_undeclared(key, &children);
        let state = SetState {
            dir: dir.clone(),
            file,
            dialect: set.dialect,
            defaults: set.defaults.clone(),
            children: children.clone().into(),
            ends_whole: set.ends_whole,
            problems,
            warnings: set.warnings.iter().cloned().chain(warnings).collect(),
            kept: false,
            frozen: false,
        };
        if before.is_some_and(|before| before.frozen) {
            // What changed below it meanwhile was not looked at.
            self.scopes.push(Arc::clone(key));
        }
        if before.is_some_and(|before| differ(before, &state)) {
            self.recheck.insert(Arc::clone(key));
        }
        self.view.put_set(Arc::clone(key), state);
        for (name, declared) in entries {
            self.moved(&name, &declared);
            self.view.put_declared(name, declared);
        }
        self.recheck_if_patched(key);
        for child in &children {
            self.visit(child);
        }
    }

    /// Takes away what a set does not declare any more.
    fn drop_undeclared(&mut self, key: &Arc<str>, children: &[Arc<str>]) {
        let before = self.input.catalog.set(key);
        let now: BTreeSet<&Arc<str>> = children.iter().collect();
        let old = before.map(|set| Arc::clone(&set.children)).unwrap_or_default();
        for gone in old.iter().filter(|child| !now.contains(child)) {
            self.drop_whole(gone);
        }
        if before.is_some_and(|before| before.kept) {
            // Units outside sets stayed while nobody knew whether the set has them.
            let outside = |key: &&Arc<str>| self.input.catalog.declared(key).is_none();
            let stayed: Vec<_> =
                self.input.catalog.units_within(key).map(|(unit, _)| unit).filter(outside).collect();
            for unit in stayed {
                self.dirty.remove(unit);
                self.view.drop_unit(unit);
            }
        }
    }

    /// Where an entry leads elsewhere than before, units around both places have other files.
    fn moved(&mut self, key: &str, declared: &Declared) {
        let old = self.input.catalog.declared(key).and_then(Declared::dir).cloned();
        if old.as_ref() != declared.dir() {
            old.iter().chain(declared.dir()).for_each(|dir| self.touch_around(dir));
        }
    }

    pub(super) fn touch_around(&mut self, dir: &RelPath) {
        let catalog = self.input.catalog;
        for key in dir.ancestors().flat_map(|above| catalog.users_of(&above).collect::<Vec<_>>()) {
            if catalog.get(key).is_some() && catalog.declared(key).is_some() {
                self.dirty.insert(Arc::clone(key));
            }
        }
    }
}

fn both() -> String {
    format!("a directory holds one manifest, {TASK_MANIFEST} or {SET_MANIFEST}, not both")
}

fn declared(set: &Arc<str>, child: &Child) -> Declared {
    Declared {
        set: Arc::clone(set),
        home: child.home.clone(),
        overrides: child.overrides.clone(),
        enabled: child.enabled,
        at: child.at,
    }
}

/// The entries of a set by their keys in the source.
fn entries_of(
    key: &Arc<str>,
    set: &SetFile,
    file: &RelPath,
    problems: &mut Vec<Problem>,
) -> Vec<(Arc<str>, Declared)> {
    let mut entries = Vec::new();
    for child in &set.children {
        match joined(key, &child.name) {
            Some(name) => {
                entries.push((name, declared(key, child)));
            }
            // Its key is refused, which it says itself, or the whole id is too long.
            None => match &child.home {
                Err(known) => problems.extend(known.iter().cloned()),
                Ok(_) => {
                    let problem = Problem::new(Reason::RefusedPath, "the id of this entry is too long");
                    problems.push(problem.in_file(file.clone()).at(child.at.line, child.at.column));
                }
            },
        }
    }
    entries
}

/// The key of an entry below its set's.
fn joined(set: &str, name: &str) -> Option<Arc<str>> {
    let (set, name) = (RelPath::parse(set).ok()?, RelPath::parse(name).ok().filter(|name| !name.is_root())?);
    let key = set.append(&name);
    (key.as_str().len() <= MAX_PATH_BYTES).then(|| Arc::from(key.as_str()))
}

/// Whether what a set says of all its tasks differs.
fn differ(before: &SetState, now: &SetState) -> bool {
    !say_the_same(before.defaults.as_ref(), now.defaults.as_ref())
        || before.dialect != now.dialect
        || before.dir != now.dir
}

fn say_the_same(a: Option<&Arc<Node>>, b: Option<&Arc<Node>>) -> bool {
    match (a, b) {
        (None, None) => true,
        (Some(a), Some(b)) => Arc::ptr_eq(a, b) || a.says_the_same(b),
        _ => false,
    }
}
