//! Variables in dicode's forms: a flat `env` of a set belongs to `permissions.env` of a task, which is a list by name.

use crate::config::node::{Entry, Node, Value};
use crate::model::problem::Position;

use super::{Kind, Merge, below, find, has, is_set, remove};
use crate::plan::taskset::Dialect;

/// One variable that a layer speaks of.
pub(super) struct Variable {
    pub name: String,
    pub at: Position,
    /// Its entry in a list by name; `None` takes it away.
    pub item: Option<Node>,
}

/// What one entry of a flat `env` says.
enum Said {
    Value(Node),
    Host(Node),
    Nothing,
}

/// Takes `env` and `net` out of a layer where the set or the task is written in dicode's words. What the task has in
/// fields of these names goes back into the layer; the rest is given back.
pub(super) fn take(patch: &mut Vec<Entry>, set: Dialect, task: Dialect, at: Position) -> Vec<Variable> {
    if set == Dialect::Kindling && task == Dialect::Kindling {
        return Vec::new();
    }
    if set == Dialect::Dicode
        && let Some(net) = take_field(patch, "net")
    {
        let permissions = below(patch, "permissions", at, || Value::Map(Vec::new()));
        if let Value::Map(permissions) = &mut permissions.value {
            remove(permissions, "net");
            permissions.push(net);
        }
    }
    let Some(env) = take_field(patch, "env") else { return Vec::new() };
    let (mut fields, mut variables) = (Vec::new(), Vec::new());
    for (name, at, said) in said(env) {
        match (said, task) {
            (Said::Value(node), Dialect::Kindling) => fields.push(Entry { name, at, node }),
            (Said::Nothing, Dialect::Kindling) => {
                fields.push(Entry { name, at, node: Node::made(at, Value::Null) });
            }
            (Said::Value(value), Dialect::Dicode) => {
                let name_entry =
                    Entry { name: "name".into(), at, node: Node::made(at, Value::Text(name.clone())) };
                let value = Entry { name: "value".into(), at: value.at, node: value };
                let item = Some(Node::made(at, Value::Map(vec![name_entry, value])));
                variables.push(Variable { name, at, item });
            }
            (Said::Host(item), _) => variables.push(Variable { name, at, item: Some(item) }),
            (Said::Nothing, Dialect::Dicode) => variables.push(Variable { name, at, item: None }),
        }
    }
    if !fields.is_empty() {
        patch.push(Entry { name: "env".into(), at, node: Node::made(at, Value::Map(fields)) });
    }
    variables
}

fn take_field(patch: &mut Vec<Entry>, name: &str) -> Option<Entry> {
    let at = find(patch, name)?;
    Some(patch.remove(at))
}

/// What each entry of a flat `env`, a map or a list, says of which variable.
fn said(env: Entry) -> Vec<(String, Position, Said)> {
    match env.node.value {
        Value::Map(entries) => entries.into_iter().map(of_map).collect(),
        Value::List(items) => items
            .into_iter()
            .map(|item| (item_name(&item).unwrap_or_default().to_owned(), item.at, of_item(item)))
            .collect(),
        _ => Vec::new(),
    }
}

fn of_map(entry: Entry) -> (String, Position, Said) {
    let Entry { name, at, node } = entry;
    let said = match &node.value {
        Value::Null => Said::Nothing,
        Value::Map(fields) => match fields.iter().find(|field| field.name == "value") {
            Some(value) => Said::Value(value.node.clone()),
            None => {
                let mut item = node.clone();
                if let Value::Map(fields) = &mut item.value
                    && find(fields, "name").is_none()
                {
                    let name = Node::made(at, Value::Text(name.clone()));
                    fields.push(Entry { name: "name".into(), at, node: name });
                }
                Said::Host(item)
            }
        },
        _ => Said::Value(node),
    };
    (name, at, said)
}

fn of_item(item: Node) -> Said {
    match &item.value {
        Value::Text(text) => match text.split_once('=') {
            Some((_, value)) => Said::Value(Node::made(item.at, Value::Text(value.to_owned()))),
            None => Said::Host(item),
        },
        Value::Map(_) => match item.get("value") {
            Some(value) => Said::Value(value.clone()),
            None => Said::Host(item),
        },
        _ => Said::Host(item),
    }
}

/// The variable that an entry of a list is about.
pub(in crate::plan) fn item_name(item: &Node) -> Option<&str> {
    match &item.value {
        Value::Text(text) => Some(text.split_once('=').map_or(text.as_str(), |(name, _)| name)),
        Value::Map(_) => item.get("name").and_then(Node::text),
        _ => None,
    }
}

/// Merges one variable into a list (or a map) by name; gives back whether that changed anything.
fn merge(into: &mut Node, variable: &Variable, kind: Kind) -> bool {
    match &mut into.value {
        Value::List(items) => {
            let known = items.iter().position(|item| item_name(item) == Some(&variable.name));
            match (known, &variable.item) {
                (Some(_), _) if kind == Kind::Defaults => return false,
                (Some(at), Some(item)) => items[at] = item.clone(),
                (Some(at), None) => drop(items.remove(at)),
                (None, Some(item)) => items.push(item.clone()),
                (None, None) => return false,
            }
            true
        }
        Value::Map(fields) => {
            let known = find(fields, &variable.name);
            match (known, &variable.item) {
                (Some(_), _) if kind == Kind::Defaults => return false,
                (Some(at), Some(item)) => fields[at].node = item.clone(),
                (Some(at), None) => drop(fields.remove(at)),
                (None, Some(item)) => {
                    fields.push(Entry { name: variable.name.clone(), at: variable.at, node: item.clone() });
                }
                (None, None) => return false,
            }
            true
        }
        _ => false,
    }
}

fn value_mut<'f>(fields: &'f mut [Entry], name: &str) -> Option<&'f mut Value> {
    find(fields, name).map(|at| &mut fields[at].node.value)
}

/// Whether a list or a map by name has this variable.
fn names(list: &Node, name: &str) -> bool {
    match &list.value {
        Value::List(items) => items.iter().any(|item| item_name(item) == Some(name)),
        Value::Map(fields) => has(fields, name),
        _ => false,
    }
}

impl Merge<'_> {
    /// A variable has one home in a task, which a set in dicode's words does not know: what it says of one replaces
    /// the other, or gives way to it.
    pub(super) fn settle_variables(
        &mut self,
        fields: &mut [Entry],
        patch: &mut [Entry],
        variables: &mut Vec<Variable>,
    ) {
        if let Some(Value::Map(values)) = value_mut(patch, "env")
            && let Some(Value::Map(permissions)) = value_mut(fields, "permissions")
            && let Some(at) = find(permissions, "env")
        {
            let list = &mut permissions[at].node;
            if self.kind == Kind::Defaults {
                values.retain(|value| !names(list, &value.name));
            }
            for value in values.iter() {
                let gone = Variable { name: value.name.clone(), at: value.at, item: None };
                if merge(list, &gone, self.kind) {
                    self.note_gone(&["permissions", "env"], value);
                }
            }
        }
        let Some(Value::Map(own)) = value_mut(fields, "env") else { return };
        if self.kind == Kind::Defaults {
            variables.retain(|variable| !has(own, &variable.name));
        }
        for variable in variables.iter().filter(|variable| variable.item.is_some()) {
            if let Some(at) = find(own, &variable.name) {
                let gone = own.remove(at);
                self.note_gone(&["env"], &Entry { at: variable.at, ..gone });
            }
        }
    }

    fn note_gone(&mut self, path: &[&str], entry: &Entry) {
        if let Some(trace) = &mut self.trace {
            let path: Vec<String> = path.iter().map(|name| (*name).to_owned()).collect();
            trace.clear(&path, entry);
        }
    }

    /// Variables that are a list by name in the document, below `permissions.env`.
    pub(super) fn variables(&mut self, fields: &mut Vec<Entry>, variables: Vec<Variable>, at: Position) {
        if variables.is_empty() {
            return;
        }
        let permissions = below(fields, "permissions", at, || Value::Map(Vec::new()));
        let Value::Map(permissions) = &mut permissions.value else { return };
        let list = below(permissions, "env", at, || Value::List(Vec::new()));
        let path = ["permissions".to_owned(), "env".to_owned()];
        for variable in variables {
            let changed = merge(list, &variable, self.kind);
            let entry = Entry {
                name: variable.name,
                at: variable.at,
                node: variable.item.unwrap_or_else(|| Node::made(variable.at, Value::Null)),
            };
            match &mut self.trace {
                Some(trace) if changed && is_set(&entry) => trace.set(&path, &entry),
                Some(trace) if changed => trace.clear(&path, &entry),
                _ => {}
            }
        }
    }
}
