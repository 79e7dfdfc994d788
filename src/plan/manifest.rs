//! task.yaml to a task's spec: every default filled in, every rule checked, every mistake reported at its place.
//!
//! Never looks at another file: whether the entry is there is discovery's question.

use std::collections::BTreeMap;
use std::time::Duration;

use ignore::gitignore::GitignoreBuilder;

use crate::config::duration::{DURATION, duration};
use crate::config::node::{Field, Fields, Node, Value};
use crate::config::words::{quoted, unknown};
use crate::config::yaml::{Budget, YamlError};
use crate::model::id::MAX_NAME_BYTES;
use crate::model::limits::Limits;
use crate::model::path::RelPath;
use crate::model::problem::{Position, Problem, Reason};
use crate::model::spec::{
    DEFAULT_TIMEOUT, Param, ParamKind, ParamValue, Permissions, RestartPolicy, Runtime, TaskSpec, Trigger,
};

const FIELDS: [&str; 12] = [
    "apiVersion",
    "kind",
    "name",
    "description",
    "runtime",
    "command",
    "entry",
    "trigger",
    "params",
    "env",
    "timeout",
    "exclude",
];

/// Variables with this prefix are kindling's own.
const RESERVED_PREFIX: &str = "KINDLING_";

/// Most patterns in `exclude`, and most bytes of one: they are compiled together, and a hostile set of 200 with 800
/// bytes each took 0.2 s.
const MAX_EXCLUDES: usize = 100;
const MAX_EXCLUDE_BYTES: usize = 256;

/// Most problems that are reported of one manifest; more would not be read by anybody.
const MAX_PROBLEMS: usize = 20;

type Errors = Vec<YamlError>;

/// A task's manifest that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskRead {
    /// What it says.
    pub spec: TaskSpec,
    /// Where a script that is not there is to be reported: at the value of `entry`, else of `runtime`.
    pub script_at: Position,
    /// What is left out of it.
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

/// Reads a task's manifest that is a document already.
///
/// # Errors
/// As [`read_task`].
pub fn read_node(node: &Node) -> Result<TaskRead, Vec<Problem>> {
    let mut errors = Errors::new();
    let task = task(&Field::document(node), &mut errors);
    match task {
        Some((spec, script_at)) if errors.is_empty() => {
            Ok(TaskRead { spec, script_at, warnings: Vec::new() })
        }
        _ => Err(reported(errors)),
    }
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

fn problem(error: YamlError) -> Problem {
    let at = error.at.unwrap_or(Position { line: 1, column: 1 });
    Problem::new(Reason::InvalidManifest, error.message).at(at.line, at.column)
}

fn task(document: &Field<'_>, errors: &mut Errors) -> Option<(TaskSpec, Position)> {
    // What the other fields mean depends on these two.
    let header = document.map(errors)?;
    let version = word(header.required("apiVersion", errors), "apiVersion", &[("kindling/v1", ())], errors);
    let kind = word(header.required("kind", errors), "kind", &[("Task", ())], errors);
    version.and(kind)?;

    let fields = document.fields(&FIELDS, errors)?;
    let name = fields.required("name", errors).and_then(|field| name(&field, errors));
    let description = fields.get("description").and_then(|field| field.text(errors));
    let runtime = runtime(&fields, errors);
    let entry = fields.get("entry").and_then(|field| entry(&field, &fields, errors));
    let trigger = fields.required("trigger", errors).and_then(|field| trigger(&field, errors));
    let timeout = timeout(&fields, trigger, errors);
    let params = fields.get("params").and_then(|field| params(&field, errors));
    let env = fields.get("env").and_then(|field| env(&field, errors));
    let exclude = fields.get("exclude").and_then(|field| exclude(&field, errors));
    if let Some(field) = fields.get("params")
        && matches!(trigger, Some(Trigger::Daemon(_)))
        && params.as_ref().is_some_and(|params| params.values().any(|param| param.required))
    {
        errors.push(field.error("of a daemon cannot be required: nobody gives them; use `default`"));
    }
    let script_at =
        fields.get("entry").or_else(|| fields.get("runtime")).map_or(fields.at, |field| field.node.at);
    let spec = TaskSpec {
        name: name?,
        description: description.unwrap_or_default().into(),
        runtime: runtime?,
        entry,
        trigger: trigger?,
        params: params.unwrap_or_default(),
        env: env.unwrap_or_default(),
        timeout,
        exclude: exclude.unwrap_or_default(),
        permissions: Permissions::default(),
    };
    Some((spec, script_at))
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
        errors.push(YamlError::at(field.node.at, unknown(what, text, &words)));
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

fn runtime(fields: &Fields<'_>, errors: &mut Errors) -> Option<Runtime> {
    let known = [Runtime::Shell, Runtime::Python, Runtime::Node].map(|runtime| (runtime.as_str(), runtime));
    match (fields.get("runtime"), fields.get("command")) {
        (Some(field), None) => word(Some(field), "runtime", &known, errors),
        (None, Some(field)) => argv(&field, errors).map(Runtime::Command),
        (Some(one), Some(other)) => {
            let at = one.key_at.max(other.key_at);
            errors.push(fields.error(at, "a task has `runtime` or `command`, not both"));
            None
        }
        (None, None) => {
            errors.push(fields.error(fields.at, "the field `runtime` is missing, or `command` in its place"));
            None
        }
    }
}

fn argv(field: &Field<'_>, errors: &mut Errors) -> Option<Vec<String>> {
    if field.node.text().is_some() {
        errors.push(field.error("must be a list of arguments, such as `[sh, -c, \"make all\"]`, not text"));
        return None;
    }
    let argv: Option<Vec<String>> =
        field.list(errors)?.iter().map(|argument| without_nul(argument, errors)).collect();
    let argv = argv?;
    if argv.first().is_none_or(String::is_empty) {
        errors.push(field.error("must name a program first"));
        return None;
    }
    Some(argv)
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

fn entry(field: &Field<'_>, fields: &Fields<'_>, errors: &mut Errors) -> Option<String> {
    if fields.get("command").is_some() {
        errors.push(field.error("goes with `runtime`; a `command` names its own files"));
        return None;
    }
    let text = field.text(errors)?;
    match RelPath::parse(text) {
        Ok(path) if path.is_root() => errors.push(field.error("must name a file of the unit")),
        Ok(path) => return Some(path.as_str().into()),
        Err(refusal) => errors.push(field.error(&format!("must be a path inside the unit: {refusal}"))),
    }
    None
}

fn trigger(field: &Field<'_>, errors: &mut Errors) -> Option<Trigger> {
    if field.node.text().is_some() {
        errors.push(field.error("must be a map, such as `{manual: true}` or `{daemon: true}`, not text"));
        return None;
    }
    let before = errors.len();
    let fields = field.fields(&["manual", "daemon", "restart"], errors)?;
    let restart = fields.get("restart");
    match (fields.get("manual"), fields.get("daemon")) {
        (Some(manual), None) => {
            if let Some(restart) = restart {
                errors.push(restart.error("goes with `daemon`"));
            }
            on(&manual, errors).then_some(Trigger::Manual)
        }
        (None, Some(daemon)) => {
            let restart = restart.map_or(Some(RestartPolicy::Always), |field| {
                let policies = [RestartPolicy::Always, RestartPolicy::OnFailure, RestartPolicy::Never];
                word(Some(field), "restart policy", &policies.map(|policy| (policy.as_str(), policy)), errors)
            });
            on(&daemon, errors).then_some(Trigger::Daemon(restart?))
        }
        (Some(one), Some(other)) => {
            errors.push(
                fields.error(one.key_at.max(other.key_at), "a trigger is `manual` or `daemon`, not both"),
            );
            None
        }
        // An unknown kind was reported already.
        (None, None) if errors.len() > before => None,
        (None, None) => {
            errors.push(fields.error(fields.at, "one of `manual: true` and `daemon: true` is missing"));
            None
        }
    }
}

/// Whether a kind of trigger is switched on; there is no other way to write one.
fn on(field: &Field<'_>, errors: &mut Errors) -> bool {
    let on = matches!(field.node.value, Value::Boolean(true, _));
    if !on {
        errors.push(field.error("can only be `true`"));
    }
    on
}

/// The time limit; without one or with a bad one, the default.
fn timeout(fields: &Fields<'_>, trigger: Option<Trigger>, errors: &mut Errors) -> Option<Duration> {
    let is_daemon = matches!(trigger, Some(Trigger::Daemon(_)));
    let default = (!is_daemon).then_some(DEFAULT_TIMEOUT);
    let Some(field) = fields.get("timeout") else { return default };
    let what = format!("{DURATION}, or `none`");
    let read = |text: &str| if text == "none" { Some(Duration::ZERO) } else { duration(text) };
    let Some(limit) = field.parsed(&what, read, errors) else { return default };
    if is_daemon && !limit.is_zero() {
        errors.push(field.error("is not for daemons: they have no end"));
    }
    (!limit.is_zero()).then_some(limit)
}

fn params(field: &Field<'_>, errors: &mut Errors) -> Option<BTreeMap<String, Param>> {
    let fields = field.map(errors)?;
    let (mut params, mut variables) = (BTreeMap::new(), BTreeMap::new());
    for (name, field) in fields.iter() {
        if !is_name(name, |c| c == '-') {
            errors.push(fields.error(field.key_at, &bad_name(name, "letters, digits, `_` and `-`")));
            continue;
        }
        let variable = Param::variable(name);
        if let Some(first) = variables.insert(variable.clone(), name) {
            let (first, second, variable) = (quoted(first), quoted(name), quoted(&variable));
            let message = format!("{first} and {second} would both be the variable {variable}");
            errors.push(fields.error(field.key_at, &message));
        }
        if let Some(param) = param(&field, errors) {
            params.insert(name.into(), param);
        }
    }
    Some(params)
}

fn param(field: &Field<'_>, errors: &mut Errors) -> Option<Param> {
    const KINDS: [ParamKind; 3] = [ParamKind::String, ParamKind::Number, ParamKind::Boolean];
    match field.node.value {
        Value::Map(_) => {}
        Value::Null => {
            errors.push(field.error("has no value; write `{}` for a parameter without a default"));
            return None;
        }
        _ => {
            let (kind, default) = param_value(field, errors)?;
            return Some(Param { kind, default: Some(default), ..Param::default() });
        }
    }
    let fields = field.fields(&["type", "default", "required", "description"], errors)?;
    let kind = fields
        .get("type")
        .map(|field| word(Some(field), "parameter type", &KINDS.map(|kind| (kind.as_str(), kind)), errors));
    let required = fields.get("required").and_then(|field| field.boolean(errors)).unwrap_or(false);
    let description = fields.get("description").and_then(|field| field.text(errors)).unwrap_or_default();
    let default = fields.get("default").map(|field| (param_value(&field, errors), field));
    if let Some((_, field)) = default.as_ref().filter(|_| required) {
        errors.push(field.error("is never used: the parameter is required"));
    }
    let found = match default {
        Some((value, field)) => Some((value?, field)),
        None => None,
    };
    let kind = match (kind, &found) {
        (Some(kind), _) => kind?,
        (None, Some(((kind, _), _))) => *kind,
        (None, None) => ParamKind::default(),
    };
    if let Some(((given, _), field)) = found.as_ref().filter(|((given, _), _)| *given != kind) {
        let (kind, given) = (kind.as_str(), given.as_str());
        errors.push(field.error(&format!("must be a {kind}, as `type` says, not a {given}{}", advice(kind))));
    }
    let default = found.map(|((_, value), _)| value);
    Some(Param { kind, default, required, description: description.into() })
}

fn advice(wanted: &str) -> &'static str {
    if wanted == "string" { "; put it in quotes" } else { "" }
}

fn param_value(field: &Field<'_>, errors: &mut Errors) -> Option<(ParamKind, ParamValue)> {
    match &field.node.value {
        Value::Text(_) => Some((ParamKind::String, ParamValue::String(without_nul(field, errors)?))),
        Value::Boolean(value, _) => Some((ParamKind::Boolean, ParamValue::Boolean(*value))),
        Value::Number(text) if is_plain_number(text) => {
            Some((ParamKind::Number, ParamValue::Number(text.clone())))
        }
        Value::Number(_) => {
            errors.push(
                field.error("is a number that programs read differently; use decimal digits, or quotes"),
            );
            None
        }
        Value::Null | Value::List(_) | Value::Map(_) => {
            let kind = field.node.kind();
            errors.push(field.error(&format!("must be text, a number or a boolean, not {kind}")));
            None
        }
    }
}

/// Whether a number is written so that JSON reads it too: no `0755`, `1_000`, `0x1F`, `+5` or `.5`.
pub(super) fn is_plain_number(text: &str) -> bool {
    serde_json::from_str::<serde_json::Number>(text).is_ok() && text.parse::<f64>().is_ok_and(f64::is_finite)
}

fn env(field: &Field<'_>, errors: &mut Errors) -> Option<BTreeMap<String, String>> {
    let fields = field.map(errors)?;
    let mut env = BTreeMap::new();
    for (name, field) in fields.iter() {
        if !is_name(name, |_| false) {
            errors.push(fields.error(field.key_at, &bad_name(name, "letters, digits and `_`")));
        } else if name.starts_with(RESERVED_PREFIX) {
            let message =
                format!("{} is reserved: variables in {RESERVED_PREFIX} are kindling's own", quoted(name));
            errors.push(fields.error(field.key_at, &message));
        } else if field.node.value == Value::Null {
            errors.push(field.error("has no value; write `\"\"` for an empty one"));
        } else if let Some(text) = without_nul(&field, errors) {
            env.insert(name.into(), text);
        }
    }
    Some(env)
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

fn exclude(field: &Field<'_>, errors: &mut Errors) -> Option<Vec<String>> {
    let list = field.list(errors)?;
    if list.len() > MAX_EXCLUDES {
        errors.push(field.error(&format!("has {} patterns, more than {MAX_EXCLUDES}", list.len())));
        return None;
    }
    let (before, mut matcher) = (errors.len(), GitignoreBuilder::new("/"));
    let mut patterns = Vec::new();
    for field in &list {
        let Some(text) = field.text(errors) else { continue };
        if text.trim().is_empty() || text.starts_with('#') {
            errors.push(field.error("excludes nothing: an empty line or a comment in gitignore syntax"));
        } else if text.len() > MAX_EXCLUDE_BYTES {
            errors.push(field.error(&format!("is longer than {MAX_EXCLUDE_BYTES} bytes")));
        } else if text.chars().any(char::is_control) || matcher.add_line(None, text).is_err() {
            errors.push(field.error("is not a pattern in gitignore syntax"));
        } else {
            patterns.push(text.into());
        }
    }
    if errors.len() == before && matcher.build().is_err() {
        errors.push(field.error("is too much for one matcher; use fewer or simpler patterns"));
    }
    Some(patterns)
}

#[cfg(test)]
mod tests;
