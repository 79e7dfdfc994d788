//! `permissions` of a task: what it asks for beyond its own files. Whether it may have that is the source's `allow`.

use std::collections::BTreeMap;

use super::{Dialect, Errors, RESERVED_PREFIX, bad_name, is_name, without_nul, word};
use crate::config::node::{Field, Fields, Value};
use crate::config::words::quoted;
use crate::model::spec::{HostVariable, Permissions, Runtime, Sandbox};

/// The fields that confine a script.
pub(in crate::plan) const CONFINING: [&str; 4] = ["fs", "net", "run", "sys"];

/// The fields of an entry of `fs`.
pub(super) const DIRECTORY: [&str; 2] = ["path", "permission"];

/// Deno has no way to write a comma that separates nothing.
const COMMA: &str = "has a comma in it, by which the flags of `deno run` separate values";

/// Reads the permissions of a `kindling/v1` task. `env` are the variables that it sets itself.
pub(super) fn permissions(
    field: &Field<'_>,
    runtime: Option<&Runtime>,
    env: &BTreeMap<String, String>,
    errors: &mut Errors,
) -> Option<Permissions> {
    let fields = field.fields(&["env", "fs", "net", "run", "sys"], errors)?;
    let mut variables = BTreeMap::new();
    for entry in fields.get("env").and_then(|field| field.list(errors)).unwrap_or_default() {
        let Some((name, host)) = variable(&entry, errors) else { continue };
        if env.contains_key(&name) {
            errors.push(entry.error("is set by `env` too"));
        } else if variables.insert(name, host).is_some() {
            errors.push(entry.error("is named twice"));
        }
    }
    let confines: Vec<Field<'_>> = CONFINING.iter().filter_map(|name| fields.get(name)).collect();
    if let Some(runtime) = runtime.filter(|runtime| **runtime != Runtime::Deno) {
        for field in &confines {
            let word = runtime.as_str();
            errors.push(
                field.error(&format!("cannot be held by `{word}`: only `runtime: deno` confines a script")),
            );
        }
    }
    let sandbox = (!confines.is_empty()).then(|| sandbox(&fields, Dialect::Kindling, errors));
    Some(Permissions { env: variables, sandbox, places: false })
}

fn variable(field: &Field<'_>, errors: &mut Errors) -> Option<(String, HostVariable)> {
    if !matches!(field.node.value, Value::Map(_)) {
        let name = variable_name(field, errors)?;
        return Some((name.clone(), HostVariable { name, optional: false }));
    }
    let fields = field.fields(&["name", "from", "optional"], errors)?;
    let name = fields.required("name", errors).and_then(|field| variable_name(&field, errors));
    let from = fields.get("from").map(|field| variable_name(&field, errors));
    let optional = fields.get("optional").and_then(|field| field.boolean(errors)).unwrap_or(false);
    let name = name?;
    let host = from.unwrap_or_else(|| Some(name.clone()))?;
    Some((name, HostVariable { name: host, optional }))
}

/// The name of a variable. Those of kindling itself are refused: no source can be allowed to read them.
pub(super) fn variable_name(field: &Field<'_>, errors: &mut Errors) -> Option<String> {
    let name = field.text(errors)?;
    if let Some(refusal) = refusal_of(name) {
        errors.push(field.error(&format!("names {refusal}")));
        return None;
    }
    Some(name.to_owned())
}

/// Why a variable may not be named so, or taken from kindling.
pub(super) fn refusal_of(name: &str) -> Option<String> {
    if !is_name(name, |_| false) {
        return Some(format!("a variable, but {}", bad_name(name, "letters, digits and `_`")));
    }
    name.starts_with(RESERVED_PREFIX)
        .then(|| format!("{}: variables in {RESERVED_PREFIX} are kindling's own", quoted(name)))
}

/// Reads what a script may do; what is not named is denied, but for `net`: without it every host may be reached.
pub(super) fn sandbox(fields: &Fields<'_>, dialect: Dialect, errors: &mut Errors) -> Sandbox {
    let mut sandbox = Sandbox::default();
    for entry in fields.get("fs").and_then(|field| field.list(errors)).unwrap_or_default() {
        if let Some((path, mode)) = directory(&entry, dialect, errors) {
            if mode.contains('r') {
                sandbox.read.push(path.clone());
            }
            if mode.contains('w') {
                sandbox.write.push(path);
            }
        }
    }
    let plain = |c: char| !c.is_control() && !c.is_whitespace();
    let net = fields.get("net").and_then(|field| words(&field, "a host", plain, errors));
    sandbox.net = net.filter(|hosts| !hosts.iter().any(|host| host == "*"));
    let run = fields.get("run").and_then(|field| words(&field, "a program", |c| !c.is_control(), errors));
    let fact = |c: char| c.is_ascii_alphanumeric() || c == '*';
    let sys = fields.get("sys").and_then(|field| words(&field, "a fact of the system", fact, errors));
    (sandbox.run, sandbox.sys) = (run.unwrap_or_default(), sys.unwrap_or_default());
    sandbox
}

/// One entry of `fs`. Whoever reads dicode's words warns of unknown fields himself.
fn directory(field: &Field<'_>, dialect: Dialect, errors: &mut Errors) -> Option<(String, &'static str)> {
    let fields = match dialect {
        Dialect::Kindling => field.fields(&DIRECTORY, errors)?,
        Dialect::Dicode => field.map(errors)?,
    };
    let path = fields.required("path", errors).and_then(|field| {
        let path = without_nul(&field, errors)?;
        if path.is_empty() {
            errors.push(field.error("is empty"));
        } else if path.contains(',') {
            errors.push(field.error(COMMA));
        }
        Some(path)
    });
    let modes = ["r", "w", "rw"].map(|mode| (mode, mode));
    let mode = match fields.get("permission") {
        Some(field) => word(Some(field), "permission", &modes, errors),
        None => Some("r"),
    };
    path.zip(mode)
}

fn words(
    field: &Field<'_>,
    what: &str,
    allowed: impl Fn(char) -> bool,
    errors: &mut Errors,
) -> Option<Vec<String>> {
    let mut entries = field.list(errors)?;
    entries.retain(|entry| {
        let has_comma = entry.node.text().is_some_and(|text| text.contains(','));
        if has_comma {
            errors.push(entry.error(COMMA));
        }
        !has_comma
    });
    let expected = format!("the name of {what}");
    let read = |text: &str| (!text.is_empty() && text.chars().all(&allowed)).then(|| text.to_owned());
    Some(entries.iter().filter_map(|entry| entry.parsed(&expected, read, errors)).collect())
}
