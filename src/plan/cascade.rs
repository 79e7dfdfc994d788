//! The override cascade: what sets say of a task is merged into its manifest, value by value, each with its place.
//!
//! Merges documents and knows no field but those whose merging differs: triggers, parameters, variables. What comes
//! out is read and checked like any manifest.

mod env;
mod misfit;

pub(super) use self::env::item_name;

use std::sync::Arc;

use crate::config::node::{Entry, Node, Value};
use crate::model::path::RelPath;
use crate::model::problem::{Position, Problem};

use self::misfit::Misfits;
use super::taskset::Dialect;
use super::trace::Trace;

/// Ways to start a task: naming one in an override replaces the whole trigger.
const TRIGGERS: [&str; 5] = ["cron", "webhook", "manual", "daemon", "chain"];

/// How a layer counts against what lies below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It fills in what is not set.
    Defaults,
    /// It replaces what is set.
    Overrides,
}

/// What one set says of a task.
#[derive(Clone, Copy)]
pub struct Layer<'a> {
    /// How it counts.
    pub kind: Kind,
    /// The file that it stands in.
    pub file: &'a RelPath,
    /// Whose words it is written in.
    pub dialect: Dialect,
    /// What it says: a map.
    pub node: &'a Node,
}

impl Layer<'_> {
    fn says_the_same(&self, other: &Layer<'_>) -> bool {
        self.kind == other.kind
            && self.file == other.file
            && self.dialect == other.dialect
            && (std::ptr::eq(self.node, other.node) || self.node.says_the_same(other.node))
    }
}

/// Whether two cascades say the same, wherever in their files it stands.
#[must_use]
pub fn say_the_same(a: &[Layer<'_>], b: &[Layer<'_>]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.says_the_same(b))
}

/// The files of a merged document: the place of a value names its file by number.
#[derive(Clone, Debug, Default)]
pub struct Parts(Vec<RelPath>);

impl Parts {
    /// A document of one file.
    #[must_use]
    pub fn of(file: RelPath) -> Self {
        Self(vec![file])
    }

    fn number(&mut self, file: &RelPath) -> u32 {
        let known = self.0.iter().position(|other| other == file);
        let at = known.unwrap_or_else(|| {
            self.0.push(file.clone());
            self.0.len() - 1
        });
        u32::try_from(at).unwrap_or(u32::MAX)
    }

    /// The file of a place, and the place in it.
    #[must_use]
    pub fn place(&self, at: Position) -> (Option<&RelPath>, Position) {
        let (part, at) = at.split();
        (usize::try_from(part).ok().and_then(|part| self.0.get(part)), at)
    }

    /// A problem of the merged document, in the file that it is in.
    #[must_use]
    pub fn locate(&self, problem: Problem) -> Problem {
        let Some((file, at)) = problem.at.map(|at| self.place(at)) else { return problem };
        Problem { file: file.cloned(), at: Some(at), ..problem }
    }
}

/// What came out of a merge.
pub struct Merged {
    /// The document; the place of each value is one of [`Parts`].
    pub document: Node,
    /// The files that its values stand in.
    pub parts: Parts,
    /// What a layer says to no effect, in places of `parts`.
    pub warnings: Vec<Problem>,
}

/// Merges layers, the lowest first, into a manifest that `file` holds.
#[must_use]
pub fn merge(base: Node, file: &RelPath, layers: &[Layer<'_>]) -> Merged {
    merge_traced(base, file, layers, &mut None)
}

/// [`merge`], with a note of every field that a layer set.
pub(super) fn merge_traced(
    base: Node,
    file: &RelPath,
    layers: &[Layer<'_>],
    trace: &mut Option<Trace>,
) -> Merged {
    let mut parts = Parts::of(file.clone());
    let dialect = Dialect::of(&base);
    let mut document = base;
    let Value::Map(fields) = &mut document.value else {
        return Merged { document, parts, warnings: Vec::new() };
    };
    let mut misfits = Misfits::default();
    for layer in layers {
        let node = layer.node.clone().in_part(parts.number(layer.file));
        let Value::Map(mut patch) = node.value else { continue };
        patch.retain(|entry| entry.name != "enabled");
        let mut variables = env::take(&mut patch, layer.dialect, dialect, node.at);
        let mut merge = Merge { kind: layer.kind, trace: trace.as_mut(), path: Vec::new() };
        if (layer.dialect, dialect) == (Dialect::Dicode, Dialect::Kindling) {
            merge.settle_variables(fields, &mut patch, &mut variables);
            misfits.note_confining(&patch);
        }
        misfits.note_limit(layer.kind, &patch);
        merge.map(fields, patch);
        merge.variables(fields, variables, node.at);
    }
    let warnings = misfits.take_out(fields, trace);
    Merged { document, parts, warnings }
}

/// One layer on its way into a document.
struct Merge<'t> {
    kind: Kind,
    trace: Option<&'t mut Trace>,
    path: Vec<String>,
}

fn is_set(entry: &Entry) -> bool {
    entry.node.value != Value::Null
}

fn find(fields: &[Entry], name: &str) -> Option<usize> {
    fields.iter().position(|entry| entry.name == name)
}

fn remove(fields: &mut Vec<Entry>, name: &str) {
    fields.retain(|entry| entry.name != name);
}

impl Merge<'_> {
    fn map(&mut self, fields: &mut Vec<Entry>, patch: Vec<Entry>) {
        for entry in patch {
            match self.kind {
                Kind::Defaults => self.fill(fields, entry),
                Kind::Overrides => self.lay(fields, entry),
            }
        }
    }

    /// Goes on with the map below a field.
    fn inner(&mut self, name: &str, fields: &mut Vec<Entry>, patch: Vec<Entry>) {
        self.path.push(name.to_owned());
        self.map(fields, patch);
        self.path.pop();
    }

    fn is_top(&self) -> bool {
        self.path.is_empty()
    }

    fn is_in_params(&self) -> bool {
        matches!(self.path.as_slice(), [only] if only == "params")
    }

    /// Notes that `entry` is what holds now.
    fn note(&mut self, entry: &Entry) {
        if let Some(trace) = &mut self.trace {
            trace.set(&self.path, entry);
        }
    }

    fn fill(&mut self, fields: &mut Vec<Entry>, entry: Entry) {
        if !is_set(&entry) || (self.is_top() && rivals(&entry.name).iter().any(|rival| has(fields, rival))) {
            return;
        }
        let Some(at) = find(fields, &entry.name).filter(|at| is_set(&fields[*at])) else {
            remove(fields, &entry.name);
            self.note(&entry);
            fields.push(entry);
            return;
        };
        let (is_trigger, is_param) = (self.is_top() && entry.name == "trigger", self.is_in_params());
        match (&mut fields[at].node.value, entry.node.value) {
            (Value::Map(known), Value::Map(patch)) => {
                let kind = named(&patch);
                if is_trigger && kind.is_some() && kind != named(known) {
                    return;
                }
                if is_param && is_true(known, "required") {
                    return;
                }
                self.inner(&entry.name, known, patch);
            }
            (Value::Map(known), value) if is_param && !is_true(known, "required") => {
                let node = Node::made(entry.node.at, value);
                self.inner(&entry.name, known, vec![Entry { name: "default".into(), at: entry.at, node }]);
            }
            _ => {}
        }
    }

    fn lay(&mut self, fields: &mut Vec<Entry>, entry: Entry) {
        let Some(at) = find(fields, &entry.name) else {
            if is_set(&entry) {
                self.put(fields, entry);
            }
            return;
        };
        if !is_set(&entry) {
            if let Some(trace) = &mut self.trace {
                trace.clear(&self.path, &entry);
            }
            fields.remove(at);
            return;
        }
        let (is_trigger, is_param) = (self.is_top() && entry.name == "trigger", self.is_in_params());
        match (&mut fields[at].node.value, &entry.node.value) {
            (Value::Map(known), Value::Map(patch)) if is_trigger => {
                if named(patch).is_some() {
                    self.put(fields, without_unnamed(entry));
                } else {
                    let (name, patch) = (entry.name.clone(), as_nulls(patch.clone()));
                    self.inner(&name, known, patch);
                }
            }
            (known, patch) if is_param => self.param(known, patch.clone(), &entry),
            (Value::Map(known), Value::Map(patch)) => {
                let (name, patch) = (entry.name.clone(), patch.clone());
                self.inner(&name, known, patch);
            }
            _ => self.put(fields, entry),
        }
    }

    /// Puts a value in place of what was there, and of what cannot stand beside it.
    fn put(&mut self, fields: &mut Vec<Entry>, entry: Entry) {
        if self.is_top() {
            rivals(&entry.name).iter().for_each(|rival| remove(fields, rival));
        }
        self.note(&entry);
        match find(fields, &entry.name) {
            Some(at) => fields[at] = entry,
            None => fields.push(entry),
        }
    }

    /// A parameter may be its default alone, or a map. One that is given a value is not required any more.
    fn param(&mut self, known: &mut Value, patch: Value, entry: &Entry) {
        let default = |node: Node| Entry { name: "default".into(), at: entry.at, node };
        let patch = match patch {
            Value::Map(patch) => patch,
            value => {
                let scalar = Node::made(entry.node.at, value);
                if !matches!(known, Value::Map(_)) {
                    self.note(entry);
                    *known = scalar.value;
                    return;
                }
                vec![default(scalar)]
            }
        };
        if let Value::Map(fields) = known {
            if has(&patch, "default") && !patch.iter().any(|entry| entry.name == "required") {
                remove(fields, "required");
            }
            self.inner(&entry.name, fields, patch);
        } else {
            let scalar = std::mem::replace(known, Value::Null);
            let mut fields = Vec::new();
            if scalar != Value::Null {
                fields.push(default(Node::made(entry.at, scalar)));
            }
            self.inner(&entry.name, &mut fields, patch);
            *known = Value::Map(fields);
        }
    }
}

/// The value of a field, which is made if it is not there.
fn below<'f>(
    fields: &'f mut Vec<Entry>,
    name: &str,
    at: Position,
    make: impl FnOnce() -> Value,
) -> &'f mut Node {
    fields.retain(|entry| entry.name != name || is_set(entry));
    let found = find(fields, name).unwrap_or_else(|| {
        fields.push(Entry { name: name.to_owned(), at, node: Node::made(at, make()) });
        fields.len() - 1
    });
    &mut fields[found].node
}

fn has(fields: &[Entry], name: &str) -> bool {
    fields.iter().any(|entry| entry.name == name && is_set(entry))
}

fn is_true(fields: &[Entry], name: &str) -> bool {
    fields.iter().any(|entry| entry.name == name && matches!(entry.node.value, Value::Boolean(true, _)))
}

/// Fields that a task cannot have together with this one.
fn rivals(name: &str) -> &'static [&'static str] {
    match name {
        "runtime" => &["command"],
        "command" => &["runtime", "entry"],
        "entry" => &["command"],
        _ => &[],
    }
}

/// Whether an entry of a trigger switches a kind off: `manual: false` names no kind.
fn is_off(entry: &Entry) -> bool {
    let off = matches!(entry.node.value, Value::Null | Value::Boolean(false, _));
    off && TRIGGERS.contains(&entry.name.as_str())
}

/// The kind that a trigger names.
fn named(trigger: &[Entry]) -> Option<&str> {
    let is_kind = |entry: &&Entry| TRIGGERS.contains(&entry.name.as_str()) && !is_off(entry);
    trigger.iter().find(is_kind).map(|entry| entry.name.as_str())
}

/// A trigger without the kinds that it switches off.
fn without_unnamed(mut entry: Entry) -> Entry {
    if let Value::Map(fields) = &mut entry.node.value {
        fields.retain(|field| !is_off(field) && is_set(field));
    }
    entry
}

fn as_nulls(mut patch: Vec<Entry>) -> Vec<Entry> {
    for entry in patch.iter_mut().filter(|entry| is_off(entry)) {
        entry.node.value = Value::Null;
    }
    patch
}

/// What the overrides of an entry say of one that lies below it, by the keys on the way.
#[must_use]
pub fn patch_of<'a>(overrides: &'a Arc<Node>, keys: &[&str]) -> Option<&'a Node> {
    keys.iter().try_fold(&**overrides, |node, key| node.get("entries")?.get(key))
}

/// Whether a patch switches what it is about off.
#[must_use]
pub fn switches_off(patch: &Node) -> bool {
    patch.get("enabled").is_some_and(|enabled| matches!(enabled.value, Value::Boolean(false, _)))
}

#[cfg(test)]
mod tests;
