//! Parameters of a task: `params` as a map of values and of `{type, default, required, description}`.

use std::collections::BTreeMap;

use super::{Errors, bad_name, is_name, is_plain_number, without_nul, word};
use crate::config::node::{Field, Value};
use crate::config::words::quoted;
use crate::model::spec::{Param, ParamKind, ParamValue};

/// Reads them all.
pub(super) fn params(field: &Field<'_>, errors: &mut Errors) -> Option<BTreeMap<String, Param>> {
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
