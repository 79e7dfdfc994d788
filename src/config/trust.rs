//! What kindling.yaml says of trust: `allow` of a source, and the variables that are kindling's own.

use std::collections::BTreeSet;

use super::node::{Field, Node, Value};
use super::yaml::YamlError;
use crate::model::source::Allow;

pub(super) const ALLOW: [&str; 2] = ["env", "hosts"];

/// Reads what a source's units may ask for.
pub(super) fn allow(field: &Field<'_>, errors: &mut Vec<YamlError>) -> Allow {
    let Some(fields) = field.fields(&ALLOW, errors) else { return Allow::default() };
    let mut list = |name: &str, what: &str, rule: fn(&str) -> bool| -> Vec<String> {
        let field = fields.get(name);
        let entries = field.and_then(|field| field.list(errors)).unwrap_or_default();
        let read = |text: &str| rule(text).then(|| text.to_owned());
        entries.iter().filter_map(|entry| entry.parsed(what, read, errors)).collect()
    };
    Allow {
        env: list("env", "the name of a variable: letters, digits and `_`, no digit first", is_variable),
        hosts: list(
            "hosts",
            "the name of a host, such as `git.example.org`, with `:PORT` where it has one",
            is_host,
        ),
    }
}

fn is_variable(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn is_host(text: &str) -> bool {
    let allowed =
        |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.' | ':' | '[' | ']');
    !text.is_empty() && text.len() <= 255 && text.chars().all(allowed)
}

/// The variables that keys ending in `_env` name, wherever they stand.
pub(super) fn own_variables(node: &Node) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    gather(node, &mut found);
    found
}

fn gather(node: &Node, found: &mut BTreeSet<String>) {
    match &node.value {
        Value::List(nodes) => nodes.iter().for_each(|node| gather(node, found)),
        Value::Map(entries) => {
            for entry in entries {
                if entry.name.ends_with("_env") {
                    let one = std::slice::from_ref(&entry.node);
                    let named =
                        if let Value::List(nodes) = &entry.node.value { nodes.as_slice() } else { one };
                    found.extend(named.iter().filter_map(Node::text).map(str::to_owned));
                }
                gather(&entry.node, found);
            }
        }
        _ => {}
    }
}
