//! What a set says of all its tasks and one of them cannot have: it is left out of that one, and breaks nothing.

use crate::config::node::{Entry, Node, Value};
use crate::config::words::quoted;
use crate::model::problem::{Position, Problem, Reason};
use crate::plan::manifest::CONFINING;
use crate::plan::trace::Trace;

use super::{Kind, find, named, remove};

/// Values of layers that may not fit what the whole becomes, by their places.
#[derive(Default)]
pub(super) struct Misfits {
    limits: Vec<Position>,
    confining: Vec<Position>,
}

impl Misfits {
    /// A default for all tasks of a set is not meant for its daemons, which have no end.
    pub fn note_limit(&mut self, kind: Kind, patch: &[Entry]) {
        if kind == Kind::Defaults {
            self.limits.extend(value_of(patch, "timeout").map(|node| node.at));
        }
    }

    /// In dicode's words these are for scripts of Deno, and nothing for others.
    pub fn note_confining(&mut self, patch: &[Entry]) {
        let Some(Value::Map(permissions)) = value_of(patch, "permissions").map(|node| &node.value) else {
            return;
        };
        self.confining
            .extend(CONFINING.iter().filter_map(|name| value_of(permissions, name)).map(|node| node.at));
    }

    /// Takes out what does not fit; gives back what a person is to be told.
    pub fn take_out(&self, fields: &mut Vec<Entry>, trace: &mut Option<Trace>) -> Vec<Problem> {
        let is_daemon = matches!(
            value_of(fields, "trigger").map(|node| &node.value),
            Some(Value::Map(trigger)) if named(trigger) == Some("daemon")
        );
        if is_daemon && value_of(fields, "timeout").is_some_and(|node| self.limits.contains(&node.at)) {
            remove(fields, "timeout");
            if let Some(trace) = trace {
                trace.forget(&["timeout"]);
            }
        }
        let runtime = value_of(fields, "runtime").and_then(Node::text).unwrap_or("command");
        if self.confining.is_empty() || matches!(runtime, "deno" | "js") {
            return Vec::new();
        }
        let message = format!("has no effect: {} does not confine a script", quoted(runtime));
        let Some(at) = find(fields, "permissions") else { return Vec::new() };
        let Value::Map(permissions) = &mut fields[at].node.value else { return Vec::new() };
        let (unheld, held): (Vec<Entry>, Vec<Entry>) =
            std::mem::take(permissions).into_iter().partition(|entry| {
                self.confining.contains(&entry.node.at) && CONFINING.contains(&entry.name.as_str())
            });
        *permissions = held;
        let told = |entry: Entry| {
            if let Some(trace) = trace {
                trace.forget(&["permissions", &entry.name]);
            }
            let message = format!("`{}` {message}", entry.name);
            Problem::new(Reason::IgnoredField, message).at(entry.at.line, entry.at.column)
        };
        unheld.into_iter().map(told).collect()
    }
}

fn value_of<'f>(fields: &'f [Entry], name: &str) -> Option<&'f Node> {
    find(fields, name).map(|at| &fields[at].node).filter(|node| node.value != Value::Null)
}
