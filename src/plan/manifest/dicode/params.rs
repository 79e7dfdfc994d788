//! Parameters of a dicode task: a map of scalars and of `{type, default, required, description}`, or a list of the
//! latter with a `name`.

use std::collections::BTreeMap;

use super::{Lenient, is_list};
use crate::config::node::{Field, Fields, Value};
use crate::config::words::quoted;
use crate::model::problem::Position;
use crate::model::spec::{Param, ParamKind, ParamValue};
use crate::plan::manifest::{bad_name, is_name, without_nul, word};
use crate::plan::params;

const KINDS: [ParamKind; 4] = [ParamKind::String, ParamKind::Number, ParamKind::Boolean, ParamKind::Cron];

/// Parameters under their names, and the variables that they become.
#[derive(Default)]
struct Found<'a> {
    params: BTreeMap<String, Param>,
    variables: BTreeMap<String, &'a str>,
}

/// Reads all parameters.
pub(super) fn params(field: &Field<'_>, read: &mut Lenient<'_>) -> BTreeMap<String, Param> {
    let mut found = Found::default();
    if is_list(field) {
        for entry in field.list(read.errors).unwrap_or_default() {
            let Some(fields) = entry.map(read.errors) else { continue };
            let Some(named) = fields.required("name", read.errors) else { continue };
            let Some(name) = named.text(read.errors) else { continue };
            let param = described(&fields, read);
            found.put(name, named.node.at, param, read, &fields);
        }
    } else if let Some(fields) = field.map(read.errors) {
        for (name, field) in fields.iter() {
            let param = match field.node.value {
                Value::Null => Some(Param::default()),
                Value::Map(_) => field.map(read.errors).and_then(|fields| described(&fields, read)),
                _ => default(&field, ParamKind::String, read)
                    .map(|value| Param { default: Some(value), ..Param::default() }),
            };
            found.put(name, field.key_at, param, read, &fields);
        }
    }
    found.params
}

impl<'a> Found<'a> {
    fn put(
        &mut self,
        name: &'a str,
        at: Position,
        param: Option<Param>,
        read: &mut Lenient<'_>,
        fields: &Fields<'_>,
    ) {
        if !is_name(name, |c| c == '-') {
            read.errors.push(fields.error(at, &bad_name(name, "letters, digits, `_` and `-`")));
            return;
        }
        let variable = Param::variable(name);
        if let Some(first) = self.variables.insert(variable.clone(), name) {
            let (first, second, variable) = (quoted(first), quoted(name), quoted(&variable));
            let message = format!("{first} and {second} would both be the variable {variable}");
            read.errors.push(fields.error(at, &message));
        }
        if let Some(param) = param {
            self.params.insert(name.into(), param);
        }
    }
}

fn described(fields: &Fields<'_>, read: &mut Lenient<'_>) -> Option<Param> {
    read.only(fields, &["name", "type", "default", "required", "description"], &[]);
    let kinds = KINDS.map(|kind| (kind.as_str(), kind));
    let kind = match fields.get("type") {
        Some(field) => word(Some(field), "parameter type", &kinds, read.errors)?,
        None => ParamKind::String,
    };
    let required = fields.get("required").and_then(|field| field.boolean(read.errors)).unwrap_or(false);
    let description = fields.get("description").and_then(|field| field.text(read.errors)).unwrap_or_default();
    let default = match fields.get("default") {
        Some(field) => Some(default(&field, kind, read)?),
        None => None,
    };
    // With a default nobody has to give it.
    let required = required && default.is_none();
    Some(Param { kind, default, required, description: description.into() })
}

fn default(field: &Field<'_>, kind: ParamKind, read: &mut Lenient<'_>) -> Option<ParamValue> {
    let text = without_nul(field, read.errors)?;
    read.note_places(field, &text);
    let value = params::read(kind, &text);
    if value.is_none() {
        read.errors.push(field.error(&format!("must be a {}, as `type` says", params::noun(kind))));
    }
    value
}
