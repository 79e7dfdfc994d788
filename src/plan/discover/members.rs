//! The files of a unit and their contents.

use crate::model::limits::Limits;
use crate::model::path::RelPath;
use crate::model::problem::{Problem, Reason};
use crate::model::spec::Runtime;
use crate::model::tree::{Content, Node, NodeKind, Stamp};
use crate::model::unit::{FileMode, UnitFile};
use crate::plan::catalog::Entry;
use crate::plan::exclude::{self, Excludes};

use super::unit::{KnownFiles, Manifested, Stop};
use super::{FileRead, SET_MANIFEST, TASK_MANIFEST, Work};

/// A file of the unit before its content is known.
pub(super) struct Member<'a> {
    full: &'a RelPath,
    path: RelPath,
    node: &'a Node,
    mode: FileMode,
}

impl<'a> Work<'a> {
    /// The unit's files: what lies below its directory, without excludes and nested units.
    pub(super) fn members(&self, unit: &Manifested) -> Result<Vec<Member<'a>>, Stop> {
        let about = |message: String| {
            Problem::new(Reason::InvalidManifest, message).in_file(unit.manifest.clone()).at(1, 1)
        };
        let excludes = Excludes::new(&unit.spec.exclude).map_err(about)?;
        let nested = self.nested(&unit.dir);
        let is_root = unit.dir.is_root();
        let inside = |path: &RelPath| {
            if is_root && path.mount_point().is_some() {
                return None;
            }
            let below = path.strip_prefix(&unit.dir)?;
            let in_nested = nested.iter().any(|dir| path.is_within(dir));
            (!in_nested && (*path == unit.manifest || !excludes.leaves_out(&below))).then_some(below)
        };
        let mut problems = self.refused_names(&unit.dir, &inside);
        let mut members = Vec::new();
        for (full, node) in self.input.tree.below(&unit.dir) {
            let Some(path) = inside(full) else { continue };
            match member(full, path, node) {
                Ok(member) => members.push(member),
                Err(problem) => problems.push(problem),
            }
        }
        problems.extend(self.over_limits(unit, &members));
        if problems.is_empty() { Ok(members) } else { Err(Stop::Broken(problems)) }
    }

    /// Directories of units and sets below a unit's own: in a set, those that an entry leads to.
    fn nested(&self, own: &RelPath) -> Vec<RelPath> {
        let in_set = self.is_in_set(own);
        self.input
            .tree
            .below(own)
            .filter(|(path, _)| is_manifest(path))
            .filter_map(|(path, _)| path.parent())
            .filter(|dir| dir != own && (!in_set || self.view.leads_to(dir)))
            .collect()
    }

    fn refused_names(&self, own: &RelPath, inside: &impl Fn(&RelPath) -> Option<RelPath>) -> Vec<Problem> {
        let in_unit = |dir: &RelPath| dir == own || inside(dir).is_some();
        self.input
            .tree
            .refused_below(own)
            .filter(|refused| in_unit(&refused.dir))
            .map(|refused| {
                let message = format!("the file named \"{}\" is refused: {}", refused.name, refused.why);
                Problem::new(Reason::RefusedPath, message).in_file(refused.dir.clone())
            })
            .collect()
    }

    pub(super) fn over_limits(&self, unit: &Manifested, members: &[Member<'_>]) -> Vec<Problem> {
        let limits = self.input.limits;
        let mut problems = Vec::new();
        let mut limit = |message: String, file: &RelPath| {
            problems.push(Problem::new(Reason::LimitExceeded, message).in_file(file.clone()));
        };
        if members.len() > limits.unit_files {
            let (has, most) = (members.len(), limits.unit_files);
            limit(
                format!("the unit has {has} files, more than the {most} that `limits.files` allows"),
                &unit.dir,
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
                &unit.dir,
            );
        }
        problems
    }

    /// The content of each file: as it was known where the stamp is equal, else as it was read.
    pub(super) fn contents(
        &mut self,
        unit: &Manifested,
        members: &[Member<'_>],
    ) -> Result<(Vec<UnitFile>, Vec<Stamp>), Stop> {
        let known = self.known_files(unit);
        let (mut files, mut problems, mut later) = (Vec::with_capacity(members.len()), Vec::new(), false);
        let mut needs = Vec::new();
        for member in members {
            if let Some(file) = known.get(&member.path).filter(|(file, stamp)| {
                *stamp == member.node.stamp
                    && file.mode == member.mode
                    && self.reads.get(member.full).is_none()
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
                None => needs.push(member.full),
            }
        }
        if later {
            return Err(Stop::Later);
        }
        if !problems.is_empty() {
            return Err(Stop::Broken(problems));
        }
        if !needs.is_empty() {
            let max = self.input.limits.file_bytes;
            needs.into_iter().for_each(|path| self.need(path, false, max));
            return Err(Stop::Needs);
        }
        let whole: u64 = files.iter().map(|file| file.size).sum();
        if whole > self.input.limits.unit_bytes {
            let most = self.input.limits.unit_bytes;
            let message =
                format!("the unit has {whole} bytes, more than the {most} that `limits.unit` allows");
            return Err(Problem::new(Reason::LimitExceeded, message).in_file(unit.dir.clone()).into());
        }
        Ok((files, members.iter().map(|member| member.node.stamp).collect()))
    }

    fn known_files(&self, unit: &Manifested) -> KnownFiles {
        let known = self.input.catalog.get(&unit.key).filter(|entry| entry.dir == unit.dir);
        let Some(Entry { state: Ok(known), .. }) = known else { return KnownFiles::new() };
        let files = known.files.iter().zip(&known.stamps);
        files.map(|(file, stamp)| (file.path.clone(), (file.clone(), *stamp))).collect()
    }
}

/// Whether this is a manifest of a unit or a set; one in a directory that never counts is none.
fn is_manifest(path: &RelPath) -> bool {
    matches!(path.name(), Some(TASK_MANIFEST | SET_MANIFEST)) && !exclude::is_never(path)
}

/// A file of a unit, if its kind is allowed.
pub(super) fn member<'a>(full: &'a RelPath, path: RelPath, node: &'a Node) -> Result<Member<'a>, Problem> {
    let mode = mode_of(node.kind);
    let mode = mode.map_err(|why| Problem::new(Reason::RefusedPath, why).in_file(full.clone()))?;
    Ok(Member { full, path, node, mode })
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

/// The scripts that dicode looks for, in this order.
const DICODE_ENTRIES: &[&str] = &["task.ts", "task.js"];

/// The script of a task: the one that it names, or the first that its runtime looks for.
pub(super) fn entry_of(
    unit: &Manifested,
    members: &[Member<'_>],
    left_out: impl Fn(&str) -> Option<&'static str>,
) -> Result<Option<String>, Problem> {
    let is_there = |name: &str| members.iter().any(|member| member.path.as_str() == name);
    let missing = |message: String| Problem::new(Reason::MissingEntry, message);
    let spec = &unit.spec;
    match &spec.entry {
        Some(entry) if is_there(entry) => Ok(Some(entry.clone())),
        Some(entry) => {
            let why = left_out(entry).map_or("which is not there".into(), |why| format!("but {why}"));
            Err(missing(format!("`entry` names \"{}\", {why}", entry.escape_debug())))
        }
        None if matches!(spec.runtime, Runtime::Command(_)) => {
            check_program(unit, members, left_out).map_err(missing).map(|()| None)
        }
        None => {
            let mut defaults = spec.runtime.default_entries();
            if !unit.has_entry && spec.runtime == Runtime::Deno {
                defaults = DICODE_ENTRIES;
            }
            let found = defaults.iter().find(|name| is_there(name));
            if unit.is_inline && !defaults.is_empty() {
                return Err(missing(
                    "a task that is written in a set names its script with `entry`, from the set's directory"
                        .into(),
                ));
            }
            let left_out = defaults.iter().find_map(|name| Some((name, left_out(name)?)));
            if let (None, Some((name, why))) = (found, left_out) {
                return Err(missing(format!("there is no script: {name} is there, but {why}")));
            }
            if found.is_none() && !defaults.is_empty() {
                let gone = match defaults {
                    [one] => format!("{one} is not there"),
                    many => format!("none of {} is there", many.join(", ")),
                };
                let entry = if unit.has_entry { ", and no `entry` is given" } else { "" };
                return Err(missing(format!("there is no script: {gone}{entry}")));
            }
            Ok(found.map(|name| (*name).to_owned()))
        }
    }
}

/// Whether the program of a `command` is a file of the unit that can be executed, where its name says that it is one.
fn check_program(
    unit: &Manifested,
    members: &[Member<'_>],
    left_out: impl Fn(&str) -> Option<&'static str>,
) -> Result<(), String> {
    let Some(path) = unit.spec.runtime.own_program() else { return Ok(()) };
    let is_link = |at: &str| members.iter().any(|m| m.path.as_str() == at && m.mode == FileMode::Link);
    // What lies behind a link is seen when it is started.
    if path.match_indices('/').any(|(at, _)| is_link(&path[..at])) {
        return Ok(());
    }
    let shown = unit.spec.runtime.interpreter().escape_debug();
    match members.iter().find(|member| member.path.as_str() == path) {
        Some(member) if member.mode == FileMode::Regular => {
            Err(format!("`command` names \"{shown}\", which is not executable: `chmod +x` makes it so"))
        }
        Some(_) => Ok(()),
        None if unit.is_inline => Err(format!(
            "`command` names \"{shown}\", but a task that is written in a set has no files beside an `entry`"
        )),
        None => {
            let why = left_out(&path).map_or("which is not there".into(), |why| format!("but {why}"));
            Err(format!("`command` names \"{shown}\", {why}"))
        }
    }
}
