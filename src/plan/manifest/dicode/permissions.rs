//! `permissions` of a dicode task.

use std::collections::BTreeMap;

use super::{Lenient, warn_of_unheld};
use crate::config::node::{Field, Fields, Value};
use crate::model::spec::{HostVariable, Permissions, Runtime, Sandbox};
use crate::plan::manifest::permissions::{DIRECTORY, refusal_of, sandbox, variable_name};
use crate::plan::manifest::{Dialect, without_nul};

/// What a task asks for, and the variables that it sets itself.
#[derive(Default)]
pub(super) struct Asked {
    pub env: BTreeMap<String, String>,
    pub permissions: Permissions,
}

/// One entry of `permissions.env`.
enum Variable {
    Host(HostVariable),
    Value(String),
}

/// Reads the permissions; a task without them asks for nothing.
pub(super) fn permissions(
    field: Option<&Field<'_>>,
    runtime: Option<&Runtime>,
    read: &mut Lenient<'_>,
) -> Asked {
    let mut asked = Asked::default();
    let is_deno = runtime.is_none_or(|runtime| *runtime == Runtime::Deno);
    // dicode always confines Deno.
    asked.permissions.sandbox = is_deno.then(Sandbox::default);
    let Some(fields) = field.and_then(|field| field.map(read.errors)) else { return asked };
    read.only(&fields, &["env", "fs", "net", "run", "sys"], &["dicode"]);
    for entry in fields.get("env").and_then(|field| field.list(read.errors)).unwrap_or_default() {
        let Some((name, variable)) = variable(&entry, read) else { continue };
        if asked.env.contains_key(&name) || asked.permissions.env.contains_key(&name) {
            read.errors.push(entry.error("is named twice"));
            continue;
        }
        match variable {
            Variable::Host(host) => drop(asked.permissions.env.insert(name, host)),
            Variable::Value(text) => drop(asked.env.insert(name, text)),
        }
    }
    if let Some(runtime) = runtime.filter(|_| !is_deno) {
        warn_of_unheld(&fields, runtime, read);
        return asked;
    }
    asked.permissions.sandbox = Some(sandbox(&fields, Dialect::Dicode, read.errors));
    for entry in fields.get("fs").and_then(|field| field.list(&mut Vec::new())).unwrap_or_default() {
        let Some(fields) = entry.map(&mut Vec::new()) else { continue };
        read.only(&fields, &DIRECTORY, &[]);
        let path = fields.get("path");
        if let Some((field, text)) = path.as_ref().and_then(|field| Some((field, field.node.text()?))) {
            read.note_places(field, text);
        }
    }
    asked
}

fn variable(field: &Field<'_>, read: &mut Lenient<'_>) -> Option<(String, Variable)> {
    if matches!(field.node.value, Value::Map(_)) {
        return described(&field.map(read.errors)?, field, read);
    }
    let text = without_nul(field, read.errors)?;
    let Some((name, value)) = text.split_once('=') else {
        let name = variable_name(field, read.errors)?;
        return Some((name.clone(), Variable::Host(HostVariable { name, optional: false })));
    };
    if let Some(refusal) = refusal_of(name) {
        read.errors.push(field.error(&format!("names {refusal}")));
        return None;
    }
    read.note_places(field, value);
    Some((name.to_owned(), Variable::Value(value.to_owned())))
}

fn described(fields: &Fields<'_>, field: &Field<'_>, read: &mut Lenient<'_>) -> Option<(String, Variable)> {
    read.only(fields, &["name", "from", "value", "optional", "secret", "if_missing"], &[]);
    let name = fields.required("name", read.errors).and_then(|field| variable_name(&field, read.errors));
    let optional = fields.get("optional").and_then(|field| field.boolean(read.errors)).unwrap_or(false);
    for (later, what) in [("secret", "stored secrets"), ("if_missing", "tasks that run first")] {
        if let Some(field) = fields.get(later) {
            read.errors.push(field.error(&format!("asks for {what}, which kindling does not have yet")));
        }
    }
    let name = name?;
    match (fields.get("from"), fields.get("value")) {
        (Some(_), Some(_)) => {
            read.errors.push(field.error("has both `from` and `value`"));
            None
        }
        (None, Some(value)) => {
            let text = without_nul(&value, read.errors)?;
            read.note_places(&value, &text);
            Some((name, Variable::Value(text)))
        }
        (Some(from), None) => {
            let host = host(&from, read)?;
            Some((name, Variable::Host(HostVariable { name: host, optional })))
        }
        (None, None) => Some((name.clone(), Variable::Host(HostVariable { name, optional }))),
    }
}

/// The variable of kindling that `from` names: bare, or behind `env:`.
fn host(from: &Field<'_>, read: &mut Lenient<'_>) -> Option<String> {
    let text = from.text(read.errors)?;
    if text.starts_with("task:") {
        read.errors.push(from.error("asks another task for a secret, which kindling does not have yet"));
        return None;
    }
    let name = text.strip_prefix("env:").unwrap_or(text);
    if let Some(refusal) = refusal_of(name) {
        read.errors.push(from.error(&format!("names {refusal}")));
        return None;
    }
    Some(name.to_owned())
}
