//! taskset.yaml to what it declares: entries with their overrides, and defaults for all of them.
//!
//! Reads one file. What an entry leads to, and what its overrides make of it, is not looked at here.

use std::sync::Arc;

use crate::config::node::{Entry, Field, Fields, Node, Value};
use crate::config::remote::{check_branch, check_url};
use crate::config::words::{quoted, unknown};
use crate::config::yaml::{Budget, YamlError};
use crate::model::id::MAX_NAME_BYTES;
use crate::model::limits::Limits;
use crate::model::path::RelPath;
use crate::model::problem::{Position, Problem, Reason};

/// The name of a set's manifest.
pub const SET_MANIFEST: &str = "taskset.yaml";

/// The name of a task's manifest.
pub const TASK_MANIFEST: &str = "task.yaml";

/// Whose words a manifest is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// `kindling/v1`: an unknown field is an error.
    Kindling,
    /// `dicode/v1`: an unknown field is a warning.
    Dicode,
}

impl Dialect {
    /// The value of `apiVersion`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Kindling => "kindling/v1",
            Self::Dicode => "dicode/v1",
        }
    }

    /// The dialect of a document; `kindling/v1` where it names none that is known, which its reader reports.
    #[must_use]
    pub fn of(document: &Node) -> Self {
        match document.get("apiVersion").and_then(Node::text) {
            Some("dicode/v1") => Self::Dicode,
            _ => Self::Kindling,
        }
    }
}

/// A set's manifest that was read.
#[derive(Clone, PartialEq)]
pub struct SetFile {
    /// Whose words it is written in.
    pub dialect: Dialect,
    /// What every task of the set gets that says nothing else.
    pub defaults: Option<Arc<Node>>,
    /// Its entries, in the order of the file.
    pub children: Vec<Child>,
    /// Whether its last line has its end.
    pub ends_whole: bool,
    /// Mistakes that break no entry.
    pub problems: Vec<Problem>,
    /// What is left out of it.
    pub warnings: Vec<Problem>,
}

/// One entry of a set.
#[derive(Clone, PartialEq)]
pub struct Child {
    /// Its key in the set.
    pub name: String,
    /// Where its key stands.
    pub at: Position,
    /// Where it leads, or what is wrong with it.
    pub home: Result<Home, Vec<Problem>>,
    /// Its `overrides`.
    pub overrides: Option<Arc<Node>>,
    /// Whether it counts at all.
    pub enabled: bool,
}

/// Where an entry leads.
#[derive(Clone, PartialEq)]
pub enum Home {
    /// A directory of the source or of another repository, with the place of the reference.
    At(RelPath, Position),
    /// A task that is written in the set itself.
    Inline(Arc<Node>),
}

/// Reads a set's manifest that lies in `dir`. `dev` says whether `dev_ref` counts.
///
/// # Errors
/// The set as a whole cannot be read: at least one problem, each with its place.
pub fn read_set(text: &[u8], dir: &RelPath, dev: bool, limits: &Limits) -> Result<SetFile, Vec<Problem>> {
    let file = file_of(dir);
    let in_file = |error: YamlError| problem(error, file.as_ref());
    let node = Node::read(text, &Budget::taskset(limits.set_bytes)).map_err(|error| vec![in_file(error)])?;
    let mut reader =
        Reader { dir, dev, dialect: Dialect::Kindling, errors: Vec::new(), warnings: Vec::new() };
    let read = reader.document(&Field::document(&node));
    let Reader { mut errors, warnings, .. } = reader;
    errors.sort_by_key(|error| error.at);
    match read {
        Some((defaults, children)) if errors.is_empty() => {
            let mut set = SetFile {
                dialect: Dialect::of(&node),
                defaults,
                children: children.into_iter().map(|child| child.into_child(&in_file)).collect(),
                ends_whole: text.ends_with(b"\n"),
                problems: Vec::new(),
                warnings: warnings.into_iter().map(in_file).collect(),
            };
            set.drop_nested_keys(file.as_ref());
            Ok(set)
        }
        _ => Err(errors.into_iter().map(in_file).collect()),
    }
}

/// The manifest of a set in `dir`.
#[must_use]
pub fn file_of(dir: &RelPath) -> Option<RelPath> {
    dir.join(SET_MANIFEST).ok()
}

fn problem(error: YamlError, file: Option<&RelPath>) -> Problem {
    let at = error.at.unwrap_or(Position { line: 1, column: 1 });
    let problem = Problem::new(Reason::InvalidManifest, error.message).at(at.line, at.column);
    match file {
        Some(file) => problem.in_file(file.clone()),
        None => problem,
    }
}

impl SetFile {
    /// The keys of its entries that can be a part of an id, in byte order.
    #[must_use]
    pub fn names(&self) -> Vec<&str> {
        let names = self.children.iter().map(|child| child.name.as_str());
        let mut names: Vec<&str> = names.filter(|name| check_key(name).is_ok()).collect();
        names.sort_unstable();
        names
    }

    /// A key below another one of the same set could give two units one id.
    fn drop_nested_keys(&mut self, file: Option<&RelPath>) {
        if !self.children.iter().any(|child| child.name.contains('/')) {
            return;
        }
        let names: std::collections::BTreeSet<String> =
            self.children.iter().map(|child| child.name.clone()).collect();
        let above = |name: &str| {
            name.match_indices('/')
                .map(|(at, _)| &name[..at])
                .find(|above| names.contains(*above))
                .map(str::to_owned)
        };
        let problems = &mut self.problems;
        self.children.retain(|child| {
            let Some(above) = above(&child.name) else { return true };
            let (child_name, above) = (quoted(&child.name), quoted(&above));
            let message = format!("the entry {child_name} lies below the entry {above}: rename one of them");
            problems.push(problem(YamlError::at(child.at, message), file));
            false
        });
    }
}

/// An entry whose mistakes have no file yet.
struct ReadChild {
    child: Child,
    errors: Vec<YamlError>,
}

impl ReadChild {
    fn into_child(self, in_file: &impl Fn(YamlError) -> Problem) -> Child {
        let Self { mut child, errors } = self;
        if !errors.is_empty() {
            child.home = Err(errors.into_iter().map(in_file).collect());
        }
        child
    }
}

struct Reader<'a> {
    dir: &'a RelPath,
    dev: bool,
    dialect: Dialect,
    errors: Vec<YamlError>,
    warnings: Vec<YamlError>,
}

type Body = (Option<Arc<Node>>, Vec<ReadChild>);

impl Reader<'_> {
    fn document(&mut self, document: &Field<'_>) -> Option<Body> {
        let header = document.map(&mut self.errors)?;
        let versions = [Dialect::Kindling, Dialect::Dicode].map(|dialect| (dialect.as_str(), dialect));
        let version = self.word(&header, "apiVersion", &versions);
        let kind = self.word(&header, "kind", &[("TaskSet", ())]);
        self.dialect = version?;
        kind?;
        let errors = &mut Vec::new();
        let fields = self.fields(document, &["apiVersion", "kind", "metadata", "spec"], errors);
        let body = fields.and_then(|fields| fields.required("spec", errors)).and_then(|spec| {
            let fields = self.fields(&spec, &["defaults", "entries"], errors)?;
            let defaults = fields.get("defaults").and_then(|field| self.defaults(&field, errors));
            let entries = fields.required("entries", errors)?.map(errors)?;
            Some((defaults, entries.iter().map(|(name, field)| self.child(name, &field)).collect()))
        });
        self.errors.append(errors);
        body
    }

    fn word<T: Copy>(&mut self, header: &Fields<'_>, name: &str, known: &[(&str, T)]) -> Option<T> {
        let field = header.required(name, &mut self.errors)?;
        let text = field.text(&mut self.errors)?;
        let found = known.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
        if found.is_none() {
            let words: Vec<&str> = known.iter().map(|(word, _)| *word).collect();
            self.errors.push(YamlError::at(field.node.at, unknown(name, text, &words)));
        }
        found
    }

    /// A map of fields; an unknown one is an error or, in `dicode/v1`, a warning.
    fn fields<'f>(
        &mut self,
        field: &Field<'f>,
        known: &[&str],
        errors: &mut Vec<YamlError>,
    ) -> Option<Fields<'f>> {
        if self.dialect == Dialect::Kindling {
            return field.fields(known, errors);
        }
        let fields = field.map(errors)?;
        for (name, field) in fields.iter().filter(|(name, _)| !known.contains(name)) {
            self.warnings.push(fields.error(field.key_at, &ignored(name)));
        }
        Some(fields)
    }

    fn defaults(&mut self, field: &Field<'_>, errors: &mut Vec<YamlError>) -> Option<Arc<Node>> {
        const DICODE: [&str; 3] = ["timeout", "env", "trigger"];
        self.layer(field, &DICODE, errors)
    }

    /// A map that is merged into tasks: a copy, without what is not read of it.
    fn layer(
        &mut self,
        field: &Field<'_>,
        dicode: &[&str],
        errors: &mut Vec<YamlError>,
    ) -> Option<Arc<Node>> {
        let fields = field.map(errors)?;
        let mut kept: Vec<Entry> = Vec::new();
        for (name, field) in fields.iter() {
            if matches!(name, "apiVersion" | "kind") {
                errors.push(fields.error(field.key_at, &format!("`{name}` cannot be overridden")));
            } else if self.dialect == Dialect::Dicode && !dicode.contains(&name) {
                self.warnings.push(fields.error(field.key_at, &ignored(name)));
            } else {
                kept.push(Entry { name: name.into(), at: field.key_at, node: field.node.clone() });
            }
        }
        (!kept.is_empty()).then(|| Arc::new(Node::made(field.node.at, Value::Map(kept))))
    }

    fn child(&mut self, name: &str, field: &Field<'_>) -> ReadChild {
        const OVERRIDES: [&str; 16] = [
            "name",
            "description",
            "runtime",
            "command",
            "entry",
            "trigger",
            "params",
            "env",
            "net",
            "timeout",
            "retries",
            "concurrency",
            "permissions",
            "exclude",
            "enabled",
            "entries",
        ];
        let mut errors = Vec::new();
        let mut child = Child {
            name: name.into(),
            at: field.key_at,
            home: Err(Vec::new()),
            overrides: None,
            enabled: true,
        };
        if let Err(why) = check_key(name) {
            errors.push(YamlError::at(field.key_at, format!("the key {} of an entry {why}", quoted(name))));
        }
        let Some(fields) = self.fields(field, &["ref", "inline", "overrides", "enabled"], &mut errors) else {
            return ReadChild { child, errors };
        };
        let enabled = fields.get("enabled").map(|field| field.boolean(&mut errors));
        // What cannot be read switches nothing off.
        child.enabled = enabled.flatten().unwrap_or(true);
        child.overrides =
            fields.get("overrides").and_then(|field| self.layer(&field, &OVERRIDES, &mut errors));
        if let Some(overrides) = &child.overrides {
            check_patch(&Field::document(overrides), &mut errors);
        }
        let home = match (fields.get("ref"), fields.get("inline")) {
            (Some(field), None) => self.reference(&field, &mut errors),
            (None, Some(field)) => field.map(&mut errors).map(|_| Home::Inline(Arc::new(field.node.clone()))),
            (Some(_), Some(other)) => {
                errors.push(fields.error(other.key_at, "an entry has `ref` or `inline`, not both"));
                None
            }
            (None, None) => {
                errors.push(fields.error(fields.at, "one of `ref` and `inline` is missing"));
                None
            }
        };
        child.home = home.ok_or_else(Vec::new);
        ReadChild { child, errors }
    }

    fn reference(&mut self, field: &Field<'_>, errors: &mut Vec<YamlError>) -> Option<Home> {
        if field.node.text().is_some() {
            errors.push(field.error("must be a map, such as `{path: jobs/digest}`, not text"));
            return None;
        }
        let known = ["path", "url", "branch", "dev_ref"];
        let fields = self.fields(field, &known, errors)?;
        // A mistake in it is one in every mode.
        if let Some(dev) = fields.get("dev_ref") {
            let home = self.dev_reference(&dev, errors)?;
            if self.dev {
                return Some(home);
            }
        }
        if let Some(url) = fields.get("url") {
            return repository(&fields, &url, errors);
        }
        if let Some(branch) = fields.get("branch") {
            errors.push(fields.error(branch.key_at, "`branch` goes with `url`"));
            return None;
        }
        self.beside(&fields, errors)
    }

    /// What stands for a reference in dev mode.
    fn dev_reference(&mut self, field: &Field<'_>, errors: &mut Vec<YamlError>) -> Option<Home> {
        if let Some(url) = field.node.get("url") {
            let message = "`dev_ref` leads to a directory beside this file, not to another repository";
            errors.push(YamlError::at(url.at, message));
            return None;
        }
        if field.node.text().is_some() {
            errors.push(field.error("must be a map, such as `{path: jobs/digest}`, not text"));
            return None;
        }
        let fields = self.fields(field, &["path"], errors)?;
        self.beside(&fields, errors)
    }

    /// A directory of the tree that this file is in.
    fn beside(&self, fields: &Fields<'_>, errors: &mut Vec<YamlError>) -> Option<Home> {
        let path = fields.required("path", errors)?;
        match resolved(self.dir, path.text(errors)?) {
            Ok(dir) => Some(Home::At(dir, path.node.at)),
            Err(why) => {
                errors.push(path.error(&why));
                None
            }
        }
    }
}

/// A directory of another repository; without `path`, its root.
fn repository(fields: &Fields<'_>, url: &Field<'_>, errors: &mut Vec<YamlError>) -> Option<Home> {
    let mut ruled = |field: &Field<'_>, rule: fn(&str) -> Result<(), &'static str>| {
        let text = field.text(errors)?;
        rule(text).map(|()| text.to_owned()).map_err(|why| errors.push(field.error(why))).ok()
    };
    let (at, url_text) = (url.node.at, ruled(url, check_url));
    let branch = fields.get("branch").map(|field| ruled(&field, check_branch));
    let (url_text, branch) = (url_text?, branch.map_or(Some(None), |branch| branch.map(Some))?);
    let root = match RelPath::mount(&url_text, branch.as_deref()) {
        Ok(root) => root,
        Err(why) => {
            errors.push(url.error(&format!("is refused: {why}")));
            return None;
        }
    };
    let Some(path) = fields.get("path") else { return Some(Home::At(root, at)) };
    match resolved(&root, path.text(errors)?) {
        Ok(dir) => Some(Home::At(dir, at)),
        Err(why) => {
            errors.push(path.error(&why));
            None
        }
    }
}

fn ignored(name: &str) -> String {
    format!("the field {} is not supported and has no effect", quoted(name))
}

/// Checks what overrides hold beside a task's own fields, at every depth.
fn check_patch(patch: &Field<'_>, errors: &mut Vec<YamlError>) {
    let Some(fields) = patch.map(errors) else { return };
    for name in ["apiVersion", "kind"] {
        if let Some(field) = fields.get(name) {
            errors.push(fields.error(field.key_at, &format!("`{name}` cannot be overridden")));
        }
    }
    if let Some(enabled) = fields.get("enabled") {
        enabled.boolean(errors);
    }
    if let Some(entries) = fields.get("entries").and_then(|field| field.map(errors)) {
        for (_, patch) in entries.iter().filter(|(_, patch)| patch.node.value != Value::Null) {
            check_patch(&patch, errors);
        }
    }
}

/// Whether a key of an entry can be a part of an id.
fn check_key(key: &str) -> Result<(), String> {
    match RelPath::parse(key) {
        Ok(path) if path.is_root() => Err("is empty".into()),
        Ok(_) if key.len() > MAX_NAME_BYTES => Err(format!("is longer than {MAX_NAME_BYTES} bytes")),
        Ok(_) => Ok(()),
        Err(why) => Err(format!("cannot be a part of an id: {why}")),
    }
}

/// The directory that `path`, written in a file of `dir`, leads to.
fn resolved(dir: &RelPath, path: &str) -> Result<RelPath, String> {
    if path.starts_with('/') {
        return Err("must be relative to the file that names it".into());
    }
    let mut at = dir.clone();
    for part in path.split('/').filter(|part| !matches!(*part, "" | ".")) {
        at = match part {
            ".." => at.parent().ok_or("leads out of the tree that it is in")?,
            name => at.join(name).map_err(|why| format!("is refused: {why}"))?,
        };
    }
    match at.name() {
        Some(SET_MANIFEST | TASK_MANIFEST) => Ok(at.parent().unwrap_or(at)),
        _ => Ok(at),
    }
}
