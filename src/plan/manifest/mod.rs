//! task.yaml to a task's spec: every default filled in, every rule checked, every mistake reported at its place.
//!
//! Never looks at another file: whether the entry is there is discovery's question.

use crate::config::node::{Field, Node};
use crate::config::words::{quoted, unknown_value};
use crate::config::yaml::{Budget, YamlError};
use crate::model::id::MAX_NAME_BYTES;
use crate::model::limits::Limits;
use crate::model::problem::{Position, Problem, Reason};
use crate::model::spec::TaskSpec;

mod dicode;
mod hook;
mod kindling;
mod params;
mod permissions;
mod trigger;

pub(super) use self::permissions::CONFINING;

/// Most problems that are reported of one manifest; more would not be read by anybody.
const MAX_PROBLEMS: usize = 20;

/// Variables with this prefix are kindling's own.
const RESERVED_PREFIX: &str = "KINDLING_";

type Errors = Vec<YamlError>;

/// A task's manifest that was read.
#[derive(Clone, Debug)]
pub struct TaskRead {
    /// The task.
    pub spec: TaskSpec,
    /// Where a script that is not there is to be reported: the value of `entry`, else of `runtime` or
    /// `command`.
    pub script_at: Position,
    /// Where what its trigger names is to be reported: the task that it is chained to, or the path of its webhook.
    pub named_at: Option<Position>,
    /// Whether a field can name the script.
    pub has_entry: bool,
    /// What is no mistake but has no effect, or another one than it seems, in the order of the file, each with its line
    /// and column and none with
    /// its file.
    pub warnings: Vec<Problem>,
}

/// Reads a task's manifest.
///
/// # Errors
/// Everything that is wrong with it, in the order of the file: at least one problem, each with its line and column
/// and none with its file, which the caller knows.
pub fn read_task(text: &[u8], limits: &Limits) -> Result<TaskRead, Vec<Problem>> {
    let node = Node::read(text, &Budget::manifest(limits.manifest_bytes)).map_err(|e| vec![problem(e)])?;
    read_node(&node)
}

/// Reads a task that is a YAML document already, such as one in which overrides were merged.
///
/// # Errors
/// As [`read_task`].
pub fn read_node(node: &Node) -> Result<TaskRead, Vec<Problem>> {
    let mut errors = Errors::new();
    let read = task(&Field::document(node), &mut errors);
    match read {
        Some(read) if errors.is_empty() => Ok(read),
        _ => Err(reported(errors)),
    }
}

fn task(document: &Field<'_>, errors: &mut Errors) -> Option<TaskRead> {
    // What the other fields mean depends on these two.
    let header = document.map(errors)?;
    let versions = [("kindling/v1", Dialect::Kindling), ("dicode/v1", Dialect::Dicode)];
    let dialect = word(header.required("apiVersion", errors), "apiVersion", &versions, errors);
    let kind = match header.get("kind") {
        None if dialect == Some(Dialect::Dicode) => Some(()),
        _ => word(header.required("kind", errors), "kind", &[("Task", ())], errors),
    };
    match dialect.zip(kind)?.0 {
        Dialect::Kindling => kindling::task(document, errors),
        Dialect::Dicode => dicode::task(document, errors),
    }
}

/// Whose rules a manifest is read by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dialect {
    Kindling,
    Dicode,
}

/// The errors in the order of the file, bounded.
fn reported(mut errors: Errors) -> Vec<Problem> {
    errors.sort_by_key(|error| error.at);
    let more = errors.len().saturating_sub(MAX_PROBLEMS);
    errors.truncate(MAX_PROBLEMS);
    if let Some(last) = errors.last_mut().filter(|_| more > 0) {
        last.message.push_str(&format!(" (and {more} more problems in this file)"));
    }
    errors.into_iter().map(problem).collect()
}

/// What has no effect, as a warning of the unit.
fn warning(error: YamlError) -> Problem {
    Problem { reason: Reason::IgnoredField, ..problem(error) }
}

/// What a schedule does against expectation, as a warning of the unit.
fn surprise(error: YamlError) -> Problem {
    Problem { reason: Reason::SurprisingSchedule, ..problem(error) }
}

fn problem(error: YamlError) -> Problem {
    let at = error.at.unwrap_or(Position { line: 1, column: 1 });
    Problem::new(Reason::InvalidManifest, error.message).at(at.line, at.column)
}

/// One word of a closed list.
fn word<T: Clone>(
    field: Option<Field<'_>>,
    what: &str,
    known: &[(&str, T)],
    errors: &mut Errors,
) -> Option<T> {
    let field = field?;
    let text = field.text(errors)?;
    let found = known.iter().find(|(word, _)| *word == text).map(|(_, value)| value.clone());
    if found.is_none() {
        let words: Vec<&str> = known.iter().map(|(word, _)| *word).collect();
        errors.push(YamlError::at(field.node.at, unknown_value(what, text, &words)));
    }
    found
}

fn name(field: &Field<'_>, errors: &mut Errors) -> Option<String> {
    let text = field.text(errors)?;
    let refusal = match text {
        "" => "is empty",
        _ if text.len() > MAX_NAME_BYTES => "is longer than 100 bytes",
        _ if text.chars().any(char::is_control) => "has a control character in it",
        _ => return Some(text.into()),
    };
    errors.push(field.error(refusal));
    None
}

/// Text that may become an argument or a variable of a process.
fn without_nul(field: &Field<'_>, errors: &mut Errors) -> Option<String> {
    let text = field.text(errors)?;
    if text.contains('\0') {
        errors.push(field.error("has a NUL character in it"));
        return None;
    }
    Some(text.into())
}

/// Whether a number is written so that JSON reads it too: no `0755`, `1_000`, `0x1F`, `+5` or `.5`.
pub(super) fn is_plain_number(text: &str) -> bool {
    serde_json::from_str::<serde_json::Number>(text).is_ok() && text.parse::<f64>().is_ok_and(f64::is_finite)
}

/// Whether a name of a parameter or a variable is made of letters, digits, `_` and what `also` allows, and begins
/// with no digit.
fn is_name(name: &str, also: impl Fn(char) -> bool) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || also(c))
        && name.len() <= MAX_NAME_BYTES
}

fn bad_name(name: &str, allowed: &str) -> String {
    format!("{} is not a name here: {allowed}, no digit first, 100 bytes at most", quoted(name))
}

#[cfg(test)]
mod tests;
