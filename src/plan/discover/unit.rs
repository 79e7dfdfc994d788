//! One unit: its manifest with what sets say of it, and its files.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::config::node::{Entry as NodeEntry, Node, Value};
use crate::config::yaml::{Budget, YamlError};
use crate::model::id;
use crate::model::path::RelPath;
use crate::model::problem::{Position, Problem, Reason};
use crate::model::spec::TaskSpec;
use crate::model::tree::NodeKind;
use crate::plan::cascade::{self, Merged, Parts};
use crate::plan::catalog::{Entry, Known, Resolved, RootTask, is_kept, layers};
use crate::plan::exclude::{self, Excludes};
use crate::plan::hash;
use crate::plan::manifest::{self, TaskRead};
use crate::plan::taskset::Home;

use super::members::{Member, entry_of};
use super::{FileRead, TASK_MANIFEST, Work, broken};

pub(super) enum Outcome {
    Entry(Option<Box<Entry>>),
    Later(RelPath),
    Needs,
}

/// Why a unit is not read to its end.
pub(super) enum Stop {
    Broken(Vec<Problem>),
    Later,
    Needs,
}

impl From<Problem> for Stop {
    fn from(problem: Problem) -> Self {
        Self::Broken(vec![problem])
    }
}

/// A unit whose manifest was read, with every place in the file that it is in.
pub(super) struct Manifested {
    pub key: Arc<str>,
    /// Where its files lie.
    pub dir: RelPath,
    /// The file that stands for it in problems.
    pub manifest: RelPath,
    pub spec: TaskSpec,
    /// Where a script that is missing is to be reported.
    script_at: (Option<RelPath>, Position),
    /// Where what it is chained to, or the path of its webhook, is named.
    named_at: Option<(RelPath, Position)>,
    /// Whether a field of its manifest can name the script.
    pub has_entry: bool,
    warnings: Vec<Problem>,
    /// Whether it has no directory of its own.
    pub is_inline: bool,
}

impl<'a> Work<'a> {
    /// Reads a unit outside sets or an entry of one.
    pub(super) fn read_unit(&mut self, key: &Arc<str>) -> Outcome {
        let home = match self
            .view
            .declared(key)
            .map(|declared| (declared.home.clone(), Arc::clone(&declared.set)))
        {
            Some((Ok(Home::At(dir, _)), _)) => dir,
            Some((Ok(Home::Inline(node)), set)) => return self.read_inline(key, &node, &set),
            Some((Err(_), _)) => return Outcome::Needs,
            None => match RelPath::parse(key) {
                // Below a set only what an entry leads to is a unit; where the set cannot be read, nobody knows.
                Ok(dir) if !self.is_in_set(&dir) || is_kept(&self.view, key) => dir,
                _ => return Outcome::Entry(None),
            },
        };
        let Some(manifest) = home.join(TASK_MANIFEST).ok().filter(|path| self.input.tree.get(path).is_some())
        else {
            return Outcome::Entry(None);
        };
        let read = self.manifest(&manifest, key, &home);
        let read = read.and_then(|unit| self.resolve(&unit));
        let reach = Some(home.clone());
        match read {
            Ok(resolved) => Outcome::Entry(Some(Box::new(Entry { dir: home, state: Ok(resolved), reach }))),
            Err(Stop::Broken(problems)) => Outcome::Entry(Some(Box::new(broken(&home, reach, problems)))),
            Err(Stop::Later) => Outcome::Later(manifest),
            Err(Stop::Needs) => Outcome::Needs,
        }
    }

    /// Reads a task that is written in a set: its only file is the script that it names.
    fn read_inline(&mut self, key: &Arc<str>, node: &Arc<Node>, set: &str) -> Outcome {
        let Some((dir, file)) = self.view.set(set).map(|set| (set.dir.clone(), set.file.clone())) else {
            return Outcome::Entry(None);
        };
        let dialect = self.view.set(set).map_or("kindling/v1", |set| set.dialect.as_str());
        let name = key.rsplit('/').next().unwrap_or(key);
        let document =
            completed((**node).clone(), &[("apiVersion", dialect), ("kind", "Task"), ("name", name)]);
        let read = self.merged(document, key, &file, &dir, true);
        let script = read.as_ref().ok().and_then(|unit| unit.spec.entry.as_deref());
        let script = script.and_then(|entry| RelPath::parse(entry).ok()).map(|entry| dir.append(&entry));
        match read.and_then(|unit| self.resolve(&unit)) {
            Ok(resolved) => Outcome::Entry(Some(Box::new(Entry { dir, state: Ok(resolved), reach: script }))),
            Err(Stop::Broken(problems)) => Outcome::Entry(Some(Box::new(broken(&dir, script, problems)))),
            Err(Stop::Later) => Outcome::Later(script.unwrap_or(file)),
            Err(Stop::Needs) => Outcome::Needs,
        }
    }

    /// Reads the manifest at the source's own path, whose name is its key.
    pub(super) fn read_root(&mut self) {
        let (root, known) = (RelPath::root(), self.view.root_key().cloned());
        let manifest = root.join(TASK_MANIFEST).ok().filter(|path| self.input.tree.get(path).is_some());
        let Some(manifest) = manifest.filter(|_| !self.is_in_set(&root)) else {
            self.view.put_root(None);
            if let Some(known) = &known {
                self.leave_root_key(known);
            }
            return;
        };
        let read = self.manifest(&manifest, "", &root).and_then(|mut unit| {
            unit.key = root_key(&unit.spec, &manifest)?;
            let resolved = self.resolve(&unit);
            Ok((unit.key, resolved))
        });
        let (key, state) = match read {
            Ok((key, Ok(resolved))) => (key, Ok(resolved)),
            Ok((key, Err(Stop::Broken(problems)))) => (key, Err(problems)),
            Err(Stop::Broken(problems)) => return self.root_is_broken(known, problems),
            Err(Stop::Later) | Ok((_, Err(Stop::Later))) => {
                self.visited.extend(known.clone());
                self.later.push(super::Later { key: known, path: manifest });
                return;
            }
            Err(Stop::Needs) | Ok((_, Err(Stop::Needs))) => return,
        };
        if let Some(known) = known.filter(|known| *known != key) {
            self.leave_root_key(&known);
        }
        self.visited.insert(Arc::clone(&key));
        self.view.put_root(Some(RootTask { key: Some(Arc::clone(&key)), problems: Vec::new() }));
        let mut entry = Entry { dir: root.clone(), state, reach: Some(root) };
        if let Some(rival) = self.rival(&key) {
            let message = format!(
                "the manifest at the source's own path and {rival} would both be the unit `{key}`: rename one"
            );
            let problem = |file| Problem::new(Reason::DuplicateId, message.clone()).in_file(file).at(1, 1);
            entry.state = Err(vec![problem(manifest), problem(rival)]);
        }
        self.view.put_unit(key, Some(entry));
    }

    /// The manifest of a directory that has the key which the manifest at the source's own path takes.
    fn rival(&self, key: &str) -> Option<RelPath> {
        let dir = RelPath::parse(key).ok().filter(|dir| !exclude::is_never(dir) && !self.is_in_set(dir))?;
        dir.join(TASK_MANIFEST).ok().filter(|path| self.input.tree.get(path).is_some())
    }

    /// A manifest that is broken claims no key that a directory has.
    fn root_is_broken(&mut self, known: Option<Arc<str>>, problems: Vec<Problem>) {
        let Some(key) = known.filter(|key| self.rival(key).is_none()) else {
            if let Some(known) = self.view.root_key().cloned() {
                self.leave_root_key(&known);
            }
            self.view.put_root(Some(RootTask { key: None, problems }));
            return;
        };
        self.visited.insert(Arc::clone(&key));
        let root = RelPath::root();
        self.view.put_unit(key, Some(broken(&root, Some(root.clone()), problems)));
    }

    /// The manifest at the source's own path is not the unit `key` any more; a directory may be.
    fn leave_root_key(&mut self, key: &Arc<str>) {
        if self.rival(key).is_none() {
            self.view.drop_unit(key);
            return;
        }
        self.visited.insert(Arc::clone(key));
        match self.read_unit(key) {
            Outcome::Entry(entry) => self.view.put_unit(Arc::clone(key), entry.map(|entry| *entry)),
            Outcome::Later(path) => self.later.push(super::Later { key: Some(Arc::clone(key)), path }),
            Outcome::Needs => {}
        }
    }

    /// The manifest of a directory, merged with what sets say of `key`.
    fn manifest(&mut self, path: &RelPath, key: &str, dir: &RelPath) -> Result<Manifested, Stop> {
        let broken = |reason, message: String| Problem::new(reason, message).in_file(path.clone()).at(1, 1);
        let node = self.input.tree.get(path);
        if !node.is_some_and(|node| matches!(node.kind, NodeKind::Regular | NodeKind::Executable)) {
            return Err(broken(Reason::RefusedPath, "a manifest must be a regular file".into()).into());
        }
        match self.reads.get(path) {
            Some(FileRead::Read(_, Some(bytes))) => {
                let budget = Budget::manifest(self.input.limits.manifest_bytes);
                let document = Node::read(bytes, &budget).map_err(|error| unreadable(error, path))?;
                self.merged(document, key, path, dir, false)
            }
            Some(FileRead::Refused(reason, why)) => {
                let key = if *reason == Reason::LimitExceeded { " (`limits.manifest`)" } else { "" };
                Err(broken(*reason, format!("the manifest cannot be read: {why}{key}")).into())
            }
            Some(FileRead::Later) => Err(Stop::Later),
            Some(FileRead::Read(_, None)) | None => {
                self.need(path, true, self.input.limits.manifest_bytes);
                Err(Stop::Needs)
            }
        }
    }

    /// Merges what sets say of `key` into its manifest, and reads and checks the whole.
    fn merged(
        &self,
        document: Node,
        key: &str,
        file: &RelPath,
        dir: &RelPath,
        is_inline: bool,
    ) -> Result<Manifested, Stop> {
        let layers = layers(&self.view, key);
        let Merged { document, parts, warnings: of_sets } = if layers.is_empty() {
            Merged { document, parts: Parts::of(file.clone()), warnings: Vec::new() }
        } else {
            cascade::merge(document, file, &layers)
        };
        let located =
            |problems: Vec<Problem>| problems.into_iter().map(|problem| parts.locate(problem)).collect();
        let read = manifest::read_node(&document).map_err(|problems| Stop::Broken(located(problems)))?;
        let TaskRead { spec, script_at, named_at, has_entry, mut warnings } = read;
        warnings.extend(of_sets);
        let (place, at) = parts.place(script_at);
        let named_at = named_at.map(|at| {
            let (place, at) = parts.place(at);
            (place.unwrap_or(file).clone(), at)
        });
        Ok(Manifested {
            key: Arc::from(key),
            dir: dir.clone(),
            manifest: file.clone(),
            spec,
            script_at: (place.cloned(), at),
            named_at,
            has_entry,
            warnings: located(warnings),
            is_inline,
        })
    }

    fn resolve(&mut self, unit: &Manifested) -> Result<Resolved, Stop> {
        let members = if unit.is_inline { self.script(unit)? } else { self.members(unit)? };
        let mut spec = unit.spec.clone();
        spec.entry = entry_of(unit, &members, |name| self.left_out(unit, name)).map_err(|problem| {
            let (file, at) = &unit.script_at;
            problem.in_file(file.clone().unwrap_or_else(|| unit.manifest.clone())).at(at.line, at.column)
        })?;
        let (files, stamps) = self.contents(unit, &members)?;
        let hash = hash::task(&unit.key, &spec, &files);
        let warnings = unit.warnings.clone().into();
        Ok(Resolved {
            spec: Arc::new(spec),
            files: files.into(),
            hash,
            warnings,
            named_at: unit.named_at.clone(),
            stamps: stamps.into_boxed_slice(),
        })
    }

    /// Why a file that lies in the unit's directory is no part of the unit; `None` where it is not there.
    fn left_out(&self, unit: &Manifested, name: &str) -> Option<&'static str> {
        let below = RelPath::parse(name).ok()?;
        self.input.tree.get(&unit.dir.append(&below))?;
        if exclude::is_never(&below) {
            return Some("it never belongs to a task where it lies");
        }
        let excluded = Excludes::new(&unit.spec.exclude).is_ok_and(|excludes| excludes.leaves_out(&below));
        Some(if excluded { "`exclude` leaves it out" } else { "it belongs to another unit" })
    }

    /// The files of a task that is written in a set.
    fn script(&self, unit: &Manifested) -> Result<Vec<Member<'a>>, Stop> {
        let Some(path) = unit.spec.entry.as_deref().and_then(|entry| RelPath::parse(entry).ok()) else {
            return Ok(Vec::new());
        };
        let tree = self.input.tree;
        let full = unit.dir.append(&path);
        // One that is not there is reported with the place that names it.
        let Some((full, node)) = tree.get_entry(&full) else { return Ok(Vec::new()) };
        let member = super::members::member(full, path, node)?;
        let problems = self.over_limits(unit, std::slice::from_ref(&member));
        if problems.is_empty() { Ok(vec![member]) } else { Err(Stop::Broken(problems)) }
    }
}

fn unreadable(error: YamlError, path: &RelPath) -> Stop {
    let at = error.at.unwrap_or(Position { line: 1, column: 1 });
    Problem::new(Reason::InvalidManifest, error.message).in_file(path.clone()).at(at.line, at.column).into()
}

/// A document with fields that it does not have itself.
fn completed(mut document: Node, fields: &[(&str, &str)]) -> Node {
    let at = document.at;
    if let Value::Map(entries) = &mut document.value {
        for (name, text) in fields {
            if !entries.iter().any(|entry| entry.name == *name) {
                let node = Node::made(at, Value::Text((*text).to_owned()));
                entries.push(NodeEntry { name: (*name).to_owned(), at, node });
            }
        }
    }
    document
}

fn root_key(spec: &TaskSpec, manifest: &RelPath) -> Result<Arc<str>, Stop> {
    id::check(&spec.name).map_err(|why| {
        let message = format!("the manifest at the source's own path takes its id from its `name`: {why}");
        Problem::new(Reason::InvalidManifest, message).in_file(manifest.clone()).at(1, 1)
    })?;
    Ok(Arc::from(spec.name.as_str()))
}

/// Where what is known of a unit's files can be looked up.
pub(super) type KnownFiles = BTreeMap<RelPath, (crate::model::unit::UnitFile, crate::model::tree::Stamp)>;
