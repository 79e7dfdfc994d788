//! Where the value of a field comes from: each file that set it on the way up, from task.yaml on.

use std::collections::BTreeMap;

use crate::config::node::{Entry, Node, Value};
use crate::config::words::quoted;
use crate::model::path::RelPath;
use crate::model::problem::Position;

use super::cascade::{Layer, Parts, item_name, merge_traced};

/// The places that set one field of a task, the lowest first: the last one holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldOrigin {
    /// The field, such as `env.MODE`.
    pub field: String,
    /// Every place that had a say.
    pub chain: Vec<Place>,
}

/// A place that had a say in a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file, relative to the source's path.
    pub file: RelPath,
    /// Where in it.
    pub at: Position,
    /// Whether it takes the field away.
    pub clears: bool,
}

/// What was noted while a document was merged.
#[derive(Default)]
pub(super) struct Trace(BTreeMap<Vec<String>, Vec<(Position, bool)>>);

impl Trace {
    /// Notes that `entry` below `path` was put in place.
    pub(super) fn set(&mut self, path: &[String], entry: &Entry) {
        let mut path = path.to_vec();
        path.push(entry.name.clone());
        self.forget_below(&path);
        self.leaves(&path, entry);
    }

    /// Notes that a field was taken away.
    pub(super) fn clear(&mut self, path: &[String], entry: &Entry) {
        let mut path = path.to_vec();
        path.push(entry.name.clone());
        self.forget_below(&path);
        self.0.entry(path).or_default().push((entry.at, true));
    }

    /// Notes that nothing was put at `path` after all.
    pub(super) fn forget(&mut self, path: &[&str]) {
        self.0.retain(|other, _| !other.iter().map(String::as_str).take(path.len()).eq(path.iter().copied()));
    }

    fn forget_below(&mut self, path: &[String]) {
        self.0.retain(|other, _| other.len() <= path.len() || !other.starts_with(path));
    }

    fn leaves(&mut self, path: &[String], entry: &Entry) {
        match &entry.node.value {
            // A trigger is replaced whole: its kind is the field that counts.
            Value::Map(fields) if !fields.is_empty() && path != ["trigger"] => {
                for field in fields {
                    let mut path = path.to_vec();
                    path.push(field.name.clone());
                    self.leaves(&path, field);
                }
            }
            _ => self.0.entry(path.to_vec()).or_default().push((entry.at, false)),
        }
    }
}

/// Where each field of a task comes from that more than its own manifest speaks of. `base` is the manifest in `file`,
/// where it can still be had.
#[must_use]
pub fn origins(base: Option<Node>, file: &RelPath, layers: &[Layer<'_>]) -> Vec<FieldOrigin> {
    let start = Position { line: 1, column: 1 };
    let base = base.unwrap_or_else(|| Node::made(start, Value::Map(Vec::new())));
    let mut trace = Some(Trace::default());
    let parts = merge_traced(base.clone(), file, layers, &mut trace).parts;
    let noted = trace.unwrap_or_default().0.into_iter();
    noted
        .map(|(path, places)| {
            let own = place_in(&base, &path).map(|at| (at, false));
            let chain = own.into_iter().chain(places).filter_map(|place| located(&parts, place));
            FieldOrigin { field: shown(&path), chain: chain.collect() }
        })
        .collect()
}

fn located(parts: &Parts, (at, clears): (Position, bool)) -> Option<Place> {
    let (file, at) = parts.place(at);
    Some(Place { file: file?.clone(), at, clears })
}

/// Where a document has the field at `path`.
fn place_in(document: &Node, path: &[String]) -> Option<Position> {
    let (mut node, mut place) = (document, None);
    for name in path {
        match &node.value {
            Value::Map(fields) => {
                let entry =
                    fields.iter().find(|entry| entry.name == *name && entry.node.value != Value::Null)?;
                (node, place) = (&entry.node, Some(entry.at));
            }
            Value::List(items) => {
                node = items.iter().find(|item| item_name(item) == Some(name))?;
                place = Some(node.at);
            }
            // A parameter that is its default alone.
            _ => return place.filter(|_| name == "default"),
        }
    }
    place
}

fn shown(path: &[String]) -> String {
    let names: Vec<String> = path.iter().map(|name| quoted(name).trim_matches('`').to_owned()).collect();
    names.join(".")
}
