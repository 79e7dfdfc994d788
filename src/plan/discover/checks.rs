//! What is looked at before a set counts: whether it may lie where it does, and whether overrides of it mean something.

use crate::config::node::{Entry, Node, Value};
use crate::config::words::unknown;
use crate::model::path::RelPath;
use crate::model::problem::{Position, Problem, Reason};
use crate::plan::cascade;
use crate::plan::catalog::{Known, layers, sets_above};
use crate::plan::nested;
use crate::plan::taskset::{Dialect, SetFile};

use super::Work;

/// Sets inside one another: each costs a round, and a pass has 16.
const MOST_NESTED: usize = 10;

const MISPLACED: &str = "overrides of a set hold `entries` and `enabled` alone: what all its tasks should have goes into \
                         its `defaults`";

impl Work<'_> {
    /// Whether a set may lie here: not inside itself, and not too deep.
    pub(super) fn may_nest(&self, key: &str, dir: &RelPath) -> Result<(), String> {
        let above = sets_above(&self.view, key);
        let dirs: Vec<&RelPath> =
            above.iter().rev().filter_map(|key| self.view.set(key)).map(|set| &set.dir).collect();
        let own = self.input.repositories.source.as_ref();
        let place =
            |dir: &RelPath| own.and_then(|own| nested::own_place(own, dir)).unwrap_or_else(|| dir.clone());
        let (here, places) = (place(dir), dirs.iter().map(|dir| place(dir)));
        if let Some(first) = places.into_iter().position(|other| other == here) {
            let chain = dirs[first..].iter().map(ToString::to_string).collect::<Vec<_>>().join(" -> ");
            return Err(format!("the set refers to itself: {chain} -> {dir}"));
        }
        if dirs.len() >= MOST_NESTED {
            return Err(format!("more than {MOST_NESTED} sets lie inside one another"));
        }
        Ok(())
    }

    /// What overrides of a set say that cannot be meant: fields beside its entries, of which it has none, and entries
    /// that it does not have. Problems, and warnings where dicode's words are spoken.
    pub(super) fn misnamed(&self, key: &str, set: &SetFile) -> (Vec<Problem>, Vec<Problem>) {
        let names = set.names();
        let (mut problems, mut warnings) = (Vec::new(), Vec::new());
        for layer in
            layers(&self.view, key).into_iter().filter(|layer| layer.kind == cascade::Kind::Overrides)
        {
            let mut tell = |what: &str, until: &str, at: Position| {
                let (list, reason, so) = match layer.dialect {
                    Dialect::Kindling => {
                        let so = format!("nothing below this set changes until {until}");
                        (&mut problems, Reason::InvalidManifest, so)
                    }
                    Dialect::Dicode => (&mut warnings, Reason::IgnoredField, "it has no effect".into()),
                };
                let problem = Problem::new(reason, format!("{what}; {so}")).in_file(layer.file.clone());
                list.push(problem.at(at.line, at.column));
            };
            for field in misplaced(layer.node) {
                tell(MISPLACED, "this is mended", field.at);
            }
            for entry in unknown_entries(layer.node, &names) {
                tell(&unknown("entry", &entry.name, &names), "it has it", entry.at);
            }
        }
        (problems, warnings)
    }
}

/// What overrides of a set hold that is no field of them.
fn misplaced(overrides: &Node) -> impl Iterator<Item = &Entry> {
    fields_of(Some(overrides)).iter().filter(|field| !matches!(field.name.as_str(), "entries" | "enabled"))
}

/// What overrides say of entries that are not among these names, which are sorted.
fn unknown_entries<'n>(overrides: &'n Node, names: &[&str]) -> impl Iterator<Item = &'n Entry> {
    let is_there = |name: &str| names.binary_search(&name).is_ok();
    fields_of(overrides.get("entries"))
        .iter()
        .filter(move |entry| entry.node.value != Value::Null && !is_there(&entry.name))
}

fn fields_of(node: Option<&Node>) -> &[Entry] {
    match node.map(|node| &node.value) {
        Some(Value::Map(fields)) => fields,
        _ => &[],
    }
}
