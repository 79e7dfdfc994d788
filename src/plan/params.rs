//! The parameters of one run: what was given, checked against what the task takes, with defaults filled in.

use std::collections::BTreeMap;

use crate::model::spec::{Param, ParamKind, ParamValue, TaskSpec};

use super::manifest::is_plain_number;

/// The values of all parameters that have one.
///
/// # Errors
/// One sentence for each value that is unknown, of the wrong type or missing.
pub fn resolve(
    spec: &TaskSpec,
    given: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, ParamValue>, Vec<String>> {
    let mut problems: Vec<String> = given
        .keys()
        .filter(|name| !spec.params.contains_key(*name))
        .map(|name| unknown(spec, name))
        .collect();
    let mut values = BTreeMap::new();
    for (name, param) in &spec.params {
        match value_of(param, given.get(name)) {
            Ok(Some(value)) => {
                values.insert(name.clone(), value);
            }
            Ok(None) => {}
            Err(why) => problems.push(format!("parameter `{name}` {why}")),
        }
    }
    if problems.is_empty() { Ok(values) } else { Err(problems) }
}

/// Reads `text` as a value of `kind`.
#[must_use]
pub fn read(kind: ParamKind, text: &str) -> Option<ParamValue> {
    match kind {
        ParamKind::String => Some(ParamValue::String(text.to_owned())),
        ParamKind::Number => is_plain_number(text).then(|| ParamValue::Number(text.to_owned())),
        ParamKind::Boolean => text.parse().ok().map(ParamValue::Boolean),
        ParamKind::Cron => is_cron(text).then(|| ParamValue::String(text.to_owned())),
    }
}

/// What a value of `kind` is called in a message, without its article.
#[must_use]
pub fn noun(kind: ParamKind) -> &'static str {
    if kind == ParamKind::Cron { "cron expression" } else { kind.as_str() }
}

/// Whether this has the shape of a cron expression.
fn is_cron(text: &str) -> bool {
    let fields = text.split_ascii_whitespace().count();
    if text.starts_with('@') { fields > 0 && text.len() > 1 } else { fields == 5 }
}

fn value_of(param: &Param, given: Option<&String>) -> Result<Option<ParamValue>, String> {
    match given {
        Some(text) => {
            read(param.kind, text).map(Some).ok_or_else(|| format!("must be a {}", noun(param.kind)))
        }
        None if param.required => Err("is required".into()),
        None => Ok(param.default.clone()),
    }
}

fn unknown(spec: &TaskSpec, name: &str) -> String {
    let name = name.escape_debug();
    if spec.params.is_empty() {
        return format!("the task has no parameters, so `{name}` is unknown");
    }
    let known: Vec<&str> = spec.params.keys().map(String::as_str).collect();
    format!("unknown parameter `{name}`; known: {}", known.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::spec::{Runtime, Trigger};

    fn spec() -> TaskSpec {
        let param = |kind, default, required| Param { kind, default, required, description: String::new() };
        TaskSpec {
            name: "t".into(),
            description: String::new(),
            runtime: Runtime::Shell,
            entry: None,
            trigger: Trigger::Manual,
            params: BTreeMap::from([
                ("who".into(), param(ParamKind::String, Some(ParamValue::String("world".into())), false)),
                ("n".into(), param(ParamKind::Number, None, true)),
                ("loud".into(), param(ParamKind::Boolean, None, false)),
            ]),
            env: BTreeMap::new(),
            timeout: None,
            retries: crate::model::spec::Retries::default(),
            concurrency: crate::model::spec::Concurrency::of(&Trigger::Manual),
            exclude: Vec::new(),
            permissions: crate::model::spec::Permissions::default(),
        }
    }

    fn given(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn fills_in_defaults_and_reads_types() {
        let values = resolve(&spec(), &given(&[("n", "1e3"), ("loud", "true")])).unwrap();
        assert_eq!(values["who"], ParamValue::String("world".into()));
        assert_eq!(values["n"], ParamValue::Number("1e3".into()));
        assert_eq!(values["loud"], ParamValue::Boolean(true));
    }

    #[test]
    fn names_everything_that_is_wrong() {
        let problems = resolve(&spec(), &given(&[("loud", "yes"), ("x", "1")])).unwrap_err();
        insta::assert_snapshot!(problems.join("\n"), @"
        unknown parameter `x`; known: loud, n, who
        parameter `loud` must be a boolean
        parameter `n` is required
        ");
    }
}
