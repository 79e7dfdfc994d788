//! From a tree to units: finds manifests, reads and checks them, lists each unit's files and hashes it.
//!
//! Pure: it says which files it needs the contents of, the caller reads them and calls again. It looks only at
//! units that the changes reach.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::model::id;
use crate::model::limits::Limits;
use crate::model::path::RelPath;
use crate::model::problem::{Problem, Reason};
use crate::model::spec::TaskSpec;
use crate::model::tree::{Changes, Content, Node, NodeKind, Stamp, Tree};
use crate::model::unit::{FileMode, UnitFile};

use super::catalog::{Catalog, Entry, Resolved};
use super::exclude::{self, Excludes};
use super::hash;
use super::manifest::{self, TaskRead};

/// The name of a task's manifest.
pub const TASK_MANIFEST: &str = "task.yaml";

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
    /// It was being written or went away meanwhile: look at its unit again at the next pass.
    Later,
}

/// The files that were read so far.
pub type Reads = BTreeMap<RelPath, FileRead>;

/// What one round gave.
#[derive(Debug, Default)]
pub struct Round {
    /// Files to read before the next round; empty when the discovery is complete.
    pub needs: Vec<Need>,
    /// The directories that were looked at, with their entries; `None` where no unit is any more.
    pub found: Vec<(RelPath, Option<Entry>)>,
    /// Directories of units that could not be read as a whole just now; their entries stay as they were.
    pub later: Vec<RelPath>,
}

/// Looks at every unit that the changes reach.
#[must_use]
pub fn discover(input: &Input<'_>, reads: &Reads) -> Round {
    let mut round = Round::default();
    for dir in candidates(input) {
        let mut unit = UnitReader { input, reads, dir: &dir, needs: Vec::new() };
        match unit.read() {
            Outcome::Entry(entry) => round.found.push((dir, entry)),
            Outcome::Later => round.later.push(dir),
            Outcome::Needs => round.needs.append(&mut unit.needs),
        }
    }
    if round.needs.is_empty() {
        mark_duplicates(input, &mut round);
    }
    round
}

/// Directories whose unit may differ: those that hold or held a manifest and lie at or above a changed path.
fn candidates(input: &Input<'_>) -> BTreeSet<RelPath> {
    let has_unit = |dir: &RelPath| {
        let holds_manifest = || manifest_of(dir).is_some_and(|path| input.tree.get(&path).is_some());
        input.catalog.get(dir).is_some() || (holds_manifest() && !exclude::is_never(dir))
    };
    let mut dirs: BTreeSet<RelPath> = match input.changes {
        Changes::Paths(paths) => paths
            .iter()
            // A path may be a directory in which names are refused, or not any more.
            .flat_map(|path| path.ancestors().chain([path.clone()]))
            .collect::<BTreeSet<_>>()
            .into_iter()
            .filter(has_unit)
            .collect(),
        Changes::All => {
            let manifests = input.tree.iter().filter(|(path, _)| is_manifest(path));
            let known = input.catalog.iter().map(|(dir, _)| dir.clone());
            manifests.filter_map(|(path, _)| path.parent()).chain(known).collect()
        }
    };
    add_rivals(input, &mut dirs);
    dirs
}

/// A manifest at the source's own path takes its key from its name, which a directory may have too: then both are
/// looked at together.
fn add_rivals(input: &Input<'_>, dirs: &mut BTreeSet<RelPath>) {
    let root = RelPath::root();
    let Some(Entry { key: Some(key), .. }) = input.catalog.get(&root) else { return };
    let Ok(rival) = RelPath::parse(key) else { return };
    if dirs.contains(&root) && input.catalog.get(&rival).is_some() {
        dirs.insert(rival);
    } else if dirs.contains(&rival) {
        dirs.insert(root);
    }
}

/// Makes both units of one key broken: which of them is meant, only a person can say. A manifest at the source's own
/// path that is broken itself claims no key that a directory has.
fn mark_duplicates(input: &Input<'_>, round: &mut Round) {
    let Some((_, Some(root))) = round.found.iter_mut().find(|(dir, _)| dir.is_root()) else { return };
    let Some(key) = root.key.clone() else { return };
    let Ok(rival) = RelPath::parse(&key) else { return };
    let root_is_broken = root.state.is_err();
    let in_round = round.found.iter().find(|(dir, _)| *dir == rival).map(|(_, entry)| entry.is_some());
    if !in_round.unwrap_or_else(|| input.catalog.get(&rival).is_some()) {
        return;
    }
    let mut put = |dir: &RelPath, entry: Entry| match round.found.iter_mut().find(|(found, _)| found == dir) {
        Some((_, found)) => *found = Some(entry),
        None => round.found.push((dir.clone(), Some(entry))),
    };
    let message =
        format!("the manifest here and {rival}/{TASK_MANIFEST} would both be the unit `{key}`: rename one");
    for dir in [RelPath::root(), rival] {
        let Some(manifest) = manifest_of(&dir) else { continue };
        let problem = Problem::new(Reason::DuplicateId, message.clone()).in_file(manifest).at(1, 1);
        if !root_is_broken {
            put(&dir, Entry { key: Some(key.clone()), state: Err(vec![problem]) });
        }
    }
    if root_is_broken && let Some((_, Some(root))) = round.found.iter_mut().find(|(dir, _)| dir.is_root()) {
        root.key = None;
    }
}

/// Whether this is a manifest of a unit; one in a directory that never counts is none.
fn is_manifest(path: &RelPath) -> bool {
    path.name() == Some(TASK_MANIFEST) && !exclude::is_never(path)
}

fn manifest_of(dir: &RelPath) -> Option<RelPath> {
    dir.join(TASK_MANIFEST).ok()
}

enum Outcome {
    Entry(Option<Entry>),
    Later,
    Needs,
}

/// Why a unit is not read to its end.
enum Stop {
    Broken(Vec<Problem>),
    Later,
    Needs,
}

impl From<Problem> for Stop {
    fn from(problem: Problem) -> Self {
        Self::Broken(vec![problem])
    }
}

struct UnitReader<'a> {
    input: &'a Input<'a>,
    reads: &'a Reads,
    dir: &'a RelPath,
    needs: Vec<Need>,
}

/// A file of the unit before its content is known.
struct Member<'a> {
    full: &'a RelPath,
    path: RelPath,
    node: &'a Node,
    mode: FileMode,
}

impl<'a> UnitReader<'a> {
    fn read(&mut self) -> Outcome {
        let Some(manifest) = manifest_of(self.dir).filter(|path| self.input.tree.get(path).is_some()) else {
            return Outcome::Entry(None);
        };
        match self.resolve(&manifest) {
            Ok((key, resolved)) => Outcome::Entry(Some(Entry { key: Some(key), state: Ok(resolved) })),
            Err(Stop::Broken(problems)) => {
                Outcome::Entry(Some(Entry { key: self.known_key(), state: Err(problems) }))
            }
            Err(Stop::Later) => Outcome::Later,
            Err(Stop::Needs) => Outcome::Needs,
        }
    }

    /// The key as far as it can be told without the manifest.
    fn known_key(&self) -> Option<Arc<str>> {
        if self.dir.is_root() {
            return self.input.catalog.get(self.dir).and_then(|entry| entry.key.clone());
        }
        Some(Arc::from(self.dir.as_str()))
    }

    fn resolve(&mut self, manifest: &RelPath) -> Result<(Arc<str>, Resolved), Stop> {
        let TaskRead { mut spec, script_at, warnings } = self.manifest(manifest)?;
        let key = match self.known_key().filter(|_| !self.dir.is_root()) {
            Some(key) => key,
            None => root_key(&spec, manifest)?,
        };
        let members = self.members(&spec, manifest)?;
        spec.entry = entry_of(&spec, &members, |name| self.left_out(&spec, name))
            .map_err(|problem| problem.in_file(manifest.clone()).at(script_at.line, script_at.column))?;
        let (files, stamps) = self.contents(&members)?;
        let hash = hash::task(&key, &spec, &files);
        let resolved = Resolved {
            spec: Arc::new(spec),
            files: files.into(),
            hash,
            warnings: warnings.into_iter().map(|warning| warning.in_file(manifest.clone())).collect(),
            stamps: stamps.into_boxed_slice(),
        };
        Ok((key, resolved))
    }

    fn manifest(&mut self, path: &RelPath) -> Result<TaskRead, Stop> {
        let broken = |reason, message: String| Problem::new(reason, message).in_file(path.clone()).at(1, 1);
        let node = self.input.tree.get(path);
        if !node.is_some_and(|node| matches!(node.kind, NodeKind::Regular | NodeKind::Executable)) {
            return Err(broken(Reason::RefusedPath, "a manifest must be a regular file".into()).into());
        }
        match self.reads.get(path) {
            Some(FileRead::Read(_, Some(bytes))) => {
                manifest::read_task(bytes, self.input.limits).map_err(|problems| {
                    Stop::Broken(problems.into_iter().map(|problem| problem.in_file(path.clone())).collect())
                })
            }
            Some(FileRead::Refused(reason, why)) => {
                let key = if *reason == Reason::LimitExceeded { " (`limits.manifest`)" } else { "" };
                Err(broken(*reason, format!("the manifest cannot be read: {why}{key}")).into())
            }
            Some(FileRead::Later) => Err(Stop::Later),
            Some(FileRead::Read(_, None)) | None => {
                self.needs.push(Need {
                    path: path.clone(),
                    bytes: true,
                    max: self.input.limits.manifest_bytes,
                });
                Err(Stop::Needs)
            }
        }
    }

    /// The unit's files: what lies below its directory, without excludes and nested units.
    fn members(&self, spec: &TaskSpec, manifest: &RelPath) -> Result<Vec<Member<'a>>, Stop> {
        let about = |message: String| {
            Problem::new(Reason::InvalidManifest, message).in_file(manifest.clone()).at(1, 1)
        };
        let excludes = Excludes::new(&spec.exclude).map_err(about)?;
        let nested = self.nested();
        let inside = |path: &RelPath| {
            let below = path.strip_prefix(self.dir)?;
            let in_nested = nested.iter().any(|dir| path.is_within(dir));
            (!in_nested && (path == manifest || !excludes.leaves_out(&below))).then_some(below)
        };
        let mut problems = self.refused_names(&inside);
        let mut members = Vec::new();
        for (full, node) in self.input.tree.below(self.dir) {
            let Some(path) = inside(full) else { continue };
            match mode_of(node.kind) {
                Ok(mode) => members.push(Member { full, path, node, mode }),
                Err(why) => problems.push(Problem::new(Reason::RefusedPath, why).in_file(full.clone())),
            }
        }
        problems.extend(self.over_limits(&members));
        if problems.is_empty() { Ok(members) } else { Err(Stop::Broken(problems)) }
    }

    /// Directories of units below this one.
    fn nested(&self) -> Vec<RelPath> {
        self.input
            .tree
            .below(self.dir)
            .filter(|(path, _)| is_manifest(path))
            .filter_map(|(path, _)| path.parent())
            .filter(|dir| dir != self.dir)
            .collect()
    }

    fn refused_names(&self, inside: &impl Fn(&RelPath) -> Option<RelPath>) -> Vec<Problem> {
        let in_unit = |dir: &RelPath| dir == self.dir || inside(dir).is_some();
        self.input
            .tree
            .refused_below(self.dir)
            .filter(|refused| in_unit(&refused.dir))
            .map(|refused| {
                let message = format!("the file named \"{}\" is refused: {}", refused.name, refused.why);
                Problem::new(Reason::RefusedPath, message).in_file(refused.dir.clone())
            })
            .collect()
    }

    fn over_limits(&self, members: &[Member<'_>]) -> Vec<Problem> {
        let limits = self.input.limits;
        let mut problems = Vec::new();
        let mut limit = |message: String, file: &RelPath| {
            problems.push(Problem::new(Reason::LimitExceeded, message).in_file(file.clone()));
        };
        if members.len() > limits.unit_files {
            let (has, most) = (members.len(), limits.unit_files);
            limit(
                format!("the unit has {has} files, more than the {most} that `limits.files` allows"),
                self.dir,
            );
        }
        if let Some(deep) = members.iter().find(|member| member.path.depth() > limits.depth) {
            let most = limits.depth;
            limit(
                format!("the file lies deeper than the {most} levels that `limits.depth` allows"),
                deep.full,
            );
        }
        for member in members.iter().filter(|member| member.node.size > limits.file_bytes) {
            limit(too_large(member.node.size, limits.file_bytes), member.full);
        }
        let whole: u64 = members.iter().map(|member| member.node.size).sum();
        if whole > limits.unit_bytes {
            let most = limits.unit_bytes;
            limit(
                format!("the unit has {whole} bytes, more than the {most} that `limits.unit` allows"),
                self.dir,
            );
        }
        problems
    }

    /// Why a file that lies in the unit's directory is no part of the unit; `None` where it is not there.
    fn left_out(&self, spec: &TaskSpec, name: &str) -> Option<&'static str> {
        let below = RelPath::parse(name).ok()?;
        self.input.tree.get(&self.dir.append(&below))?;
        if exclude::is_never(&below) {
            return Some("it never belongs to a task where it lies");
        }
        let excluded = Excludes::new(&spec.exclude).is_ok_and(|excludes| excludes.leaves_out(&below));
        Some(if excluded { "`exclude` leaves it out" } else { "it belongs to another unit" })
    }

    /// The content of each file: as it was known where the stamp is equal, else as it was read.
    fn contents(&mut self, members: &[Member<'_>]) -> Result<(Vec<UnitFile>, Vec<Stamp>), Stop> {
        let known = self.known_files();
        let (mut files, mut problems, mut later) = (Vec::with_capacity(members.len()), Vec::new(), false);
        let mut needs = Vec::new();
        for member in members {
            if let Some(file) = known.get(&member.path).filter(|(file, stamp)| {
                *stamp == member.node.stamp
                    && file.mode == member.mode
                    && !self.reads.contains_key(member.full)
            }) {
                files.push(file.0.clone());
                continue;
            }
            match self.reads.get(member.full) {
                Some(FileRead::Read(content, _)) => match checked(member, content, self.input.limits) {
                    Ok(file) => files.push(file),
                    Err(problem) => problems.push(problem),
                },
                Some(FileRead::Refused(reason, why)) => {
                    let key = if *reason == Reason::LimitExceeded { " (`limits.file`)" } else { "" };
                    problems.push(Problem::new(*reason, format!("{why}{key}")).in_file(member.full.clone()));
                }
                Some(FileRead::Later) => later = true,
                None => needs.push(Need {
                    path: member.full.clone(),
                    bytes: false,
                    max: self.input.limits.file_bytes,
                }),
            }
        }
        drop(known);
        if later {
            return Err(Stop::Later);
        }
        if !problems.is_empty() {
            return Err(Stop::Broken(problems));
        }
        if !needs.is_empty() {
            self.needs = needs;
            return Err(Stop::Needs);
        }
        let whole: u64 = files.iter().map(|file| file.size).sum();
        if whole > self.input.limits.unit_bytes {
            let most = self.input.limits.unit_bytes;
            let message =
                format!("the unit has {whole} bytes, more than the {most} that `limits.unit` allows");
            return Err(Problem::new(Reason::LimitExceeded, message).in_file(self.dir.clone()).into());
        }
        Ok((files, members.iter().map(|member| member.node.stamp).collect()))
    }

    fn known_files(&self) -> BTreeMap<RelPath, (UnitFile, Stamp)> {
        let Some(Entry { state: Ok(known), .. }) = self.input.catalog.get(self.dir) else {
            return BTreeMap::new();
        };
        known
            .files
            .iter()
            .zip(&known.stamps)
            .map(|(file, stamp)| (file.path.clone(), (file.clone(), *stamp)))
            .collect()
    }
}

fn root_key(spec: &TaskSpec, manifest: &RelPath) -> Result<Arc<str>, Stop> {
    id::check(&spec.name).map_err(|why| {
        let message = format!("the manifest at the source's own path takes its id from its `name`: {why}");
        Problem::new(Reason::InvalidManifest, message).in_file(manifest.clone()).at(1, 1)
    })?;
    Ok(Arc::from(spec.name.as_str()))
}

fn mode_of(kind: NodeKind) -> Result<FileMode, &'static str> {
    match kind {
        NodeKind::Regular => Ok(FileMode::Regular),
        NodeKind::Executable => Ok(FileMode::Executable),
        NodeKind::Link => Ok(FileMode::Link),
        NodeKind::Submodule => Err("submodules are refused: they are never fetched"),
        NodeKind::Special => Err("sockets, pipes and devices are refused"),
    }
}

fn too_large(size: u64, most: u64) -> String {
    format!("the file has {size} bytes, more than the {most} that `limits.file` allows")
}

/// A member with its content, if limits and links allow it.
fn checked(member: &Member<'_>, content: &Content, limits: &Limits) -> Result<UnitFile, Problem> {
    let refuse = |reason, message: String| Problem::new(reason, message).in_file(member.full.clone());
    if content.size > limits.file_bytes {
        return Err(refuse(Reason::LimitExceeded, too_large(content.size, limits.file_bytes)));
    }
    if let Some(target) = &content.target
        && !stays_inside(&member.path, target)
    {
        return Err(refuse(Reason::RefusedPath, "the link leads out of the unit".into()));
    }
    Ok(UnitFile { path: member.path.clone(), mode: member.mode, hash: content.hash, size: content.size })
}

/// Whether a link at `path` in a unit with this target stays inside the unit.
///
/// Judged by its text alone, so `..` may stand only at its beginning: after a name it could climb out of what that
/// name links to.
fn stays_inside(path: &RelPath, target: &str) -> bool {
    if target.is_empty() || target.starts_with('/') || target.contains('\0') {
        return false;
    }
    let parts: Vec<&str> = target.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    let climbs = parts.iter().take_while(|part| **part == "..").count();
    climbs < path.depth() && !parts[climbs..].contains(&"..")
}

/// The script of a task: the one that it names, or the first that its runtime looks for.
fn entry_of(
    spec: &TaskSpec,
    members: &[Member<'_>],
    left_out: impl Fn(&str) -> Option<&'static str>,
) -> Result<Option<String>, Problem> {
    let is_there = |name: &str| members.iter().any(|member| member.path.as_str() == name);
    let missing = |message: String| Problem::new(Reason::MissingEntry, message);
    match &spec.entry {
        Some(entry) if is_there(entry) => Ok(Some(entry.clone())),
        Some(entry) => {
            let why = left_out(entry).map_or("which is not there".into(), |why| format!("but {why}"));
            Err(missing(format!("`entry` names \"{}\", {why}", entry.escape_debug())))
        }
        None => {
            let defaults = spec.runtime.default_entries();
            let found = defaults.iter().find(|name| is_there(name));
            let left_out = defaults.iter().find_map(|name| Some((name, left_out(name)?)));
            if let (None, Some((name, why))) = (found, left_out) {
                return Err(missing(format!("there is no script: {name} is there, but {why}")));
            }
            if found.is_none() && !defaults.is_empty() {
                let wanted = defaults.join(", ");
                return Err(missing(format!(
                    "there is no script: none of {wanted} is there, and no `entry` is given"
                )));
            }
            Ok(found.map(|name| (*name).to_owned()))
        }
    }
}

#[cfg(test)]
mod tests;
