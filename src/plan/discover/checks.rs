//! What is looked at before a set counts: whether it may lie where it does, and whether overrides of it mean something.

use crate::config::node::{Entry, Node, Value};
use crate::config::words::unknown;
use crate::model::path::RelPath;
use crate::model::problem::{Position, Problem, Reason};
use crate::plan::cascade;
use crate::plan::catalog::{Known, layers, sets_above};
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
        if let Some(first) = dirs.iter().position(|other| *other == dir) {
            let chain = dirs[first..].iter().map(ToString::to_string).collect::<Vec<_>>().join(" -> ");
            return Err(format!("the set refers to itself: {chain} -> {dir}"));
        }
        if dirs.len() >= MOST_NESTED {
            return Err(format!("more than {MOST_NESTED} sets lie inside one another"));
        }
        Ok(())
    }

    /// What overrides of a set say beside its entries: it has no field of its own that could be meant.
    pub(super) fn misplaced(&self, key: &str) -> Vec<Problem> {
        let overrides =
            layers(&self.view, key).into_iter().filter(|layer| layer.kind == cascade::Kind::Overrides);
        let mut problems = Vec::new();
        for layer in overrides {
            let Value::Map(fields) = &layer.node.value else { continue };
            for field in fields.iter().filter(|field| !matches!(field.name.as_str(), "entries" | "enabled")) {
                let message = "overrides of a set hold `entries` and `enabled` alone: what all its tasks should have \
                               goes into its `defaults`";
                let problem = Problem::new(Reason::InvalidManifest, message).in_file(layer.file.clone());
                problems.push(problem.at(field.at.line, field.at.column));
            }
        }
        problems
    }

    /// What overrides say of entries that the set does not have: problems, and warnings where dicode's words are
    /// spoken.
    pub(super) fn misnamed(&self, key: &str, set: &SetFile) -> (Vec<Problem>, Vec<Problem>) {
        let names = set.names();
        let (mut problems, mut warnings) = (Vec::new(), Vec::new());
        for layer in
            layers(&self.view, key).into_iter().filter(|layer| layer.kind == cascade::Kind::Overrides)
        {
            let Some(Value::Map(entries)) = layer.node.get("entries").map(|entries| &entries.value) else {
                continue;
            };
            let names: &Vec<&str> = names.get_or_insert_with(|| set.names());
            let is_there = |name: &str| names.binary_search(&name).is_ok();
            for entry in
                entries.iter().filter(|entry| entry.node.value != Value::Null && !is_there(&entry.name))
            {
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
