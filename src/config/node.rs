//! A document as a tree in which every value knows its place, and readers that report all that is wrong at once.
//!
//! A type that serde derives stops at its first error; a person who wrote three mistakes wants to see three.
//! `null` means absent wherever a field is read.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use super::words::{quoted, unknown};
use super::yaml::{Budget, Spanned, YamlError, checked, position, read};
use crate::model::problem::Position;

/// One value of a document. It has no `Debug` on purpose: values of files stay out of messages.
#[derive(Clone, PartialEq)]
pub struct Node {
    /// Where its text begins; for a value that an alias brings in, where it is written.
    pub at: Position,
    /// The value.
    pub value: Value,
    /// Where its text stands, in bytes.
    span: Option<(u64, u64)>,
}

/// A value by its kind in YAML's core schema.
#[derive(Clone, PartialEq)]
pub enum Value {
    /// Nothing, `~` or `null`.
    Null,
    /// `true` or `false`, and how it is written.
    Boolean(bool, String),
    /// A number, as it is written.
    Number(String),
    /// Any other scalar, and every quoted one.
    Text(String),
    /// A list.
    List(Vec<Node>),
    /// A map in the order of the file; no two names are equal.
    Map(Vec<Entry>),
}

/// One entry of a map.
#[derive(Clone, PartialEq)]
pub struct Entry {
    /// Its key.
    pub name: String,
    /// Where the key stands.
    pub at: Position,
    /// Its value.
    pub node: Node,
}

impl Node {
    /// Reads a file that holds exactly one document.
    ///
    /// # Errors
    /// The text breaks the budget or is no YAML.
    pub fn read(text: &[u8], budget: &Budget) -> Result<Self, YamlError> {
        let mut node: Self = read(text, budget)?;
        node.take_written(checked(text, budget)?);
        Ok(node)
    }

    /// Puts numbers and booleans back as they are written: `1.10` and `0755` are not what their value prints.
    fn take_written(&mut self, file: &str) {
        let slice = self.span.and_then(|(from, length)| {
            file.get(usize::try_from(from).ok()?..usize::try_from(from.checked_add(length)?).ok()?)
        });
        match (&mut self.value, slice) {
            (Value::Boolean(_, text), Some(slice)) if slice.eq_ignore_ascii_case(text) => {
                *text = slice.into();
            }
            (Value::Number(text), Some(slice)) if is_written_number(slice) => *text = slice.into(),
            (Value::List(nodes), _) => nodes.iter_mut().for_each(|node| node.take_written(file)),
            (Value::Map(entries), _) => entries.iter_mut().for_each(|entry| entry.node.take_written(file)),
            _ => {}
        }
    }

    /// The same value as a part of a document that is merged of several files: every place in it says so.
    #[must_use]
    pub fn in_part(mut self, part: u32) -> Self {
        self.at = self.at.in_part(part);
        match &mut self.value {
            Value::List(nodes) => {
                *nodes = std::mem::take(nodes).into_iter().map(|node| node.in_part(part)).collect();
            }
            Value::Map(entries) => {
                *entries = std::mem::take(entries).into_iter().map(|entry| entry.in_part(part)).collect();
            }
            _ => {}
        }
        self
    }

    /// Whether both say the same, wherever they stand.
    #[must_use]
    pub fn says_the_same(&self, other: &Self) -> bool {
        match (&self.value, &other.value) {
            (Value::List(a), Value::List(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.says_the_same(b))
            }
            (Value::Map(a), Value::Map(b)) => {
                let same = |(a, b): (&Entry, &Entry)| a.name == b.name && a.node.says_the_same(&b.node);
                a.len() == b.len() && a.iter().zip(b).all(same)
            }
            (a, b) => a == b,
        }
    }

    /// The entry `name` of a map, if it is there and not `null`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Self> {
        let Value::Map(entries) = &self.value else { return None };
        entries
            .iter()
            .find(|entry| entry.name == name && entry.node.value != Value::Null)
            .map(|entry| &entry.node)
    }

    /// Text that no file has: it stands for what is at `at`.
    #[must_use]
    pub fn made(at: Position, value: Value) -> Self {
        Self { at, value, span: None }
    }

    /// A scalar's text as it is written; `None` for a list, a map and nothing.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Boolean(_, text) | Value::Number(text) | Value::Text(text) => Some(text),
            Value::Null | Value::List(_) | Value::Map(_) => None,
        }
    }

    /// Its kind, with an article.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match &self.value {
            Value::Null => "nothing",
            Value::Boolean(..) => "a boolean",
            Value::Number(_) => "a number",
            Value::Text(_) => "text",
            Value::List(_) => "a list",
            Value::Map(_) => "a map",
        }
    }
}

impl Entry {
    fn in_part(self, part: u32) -> Self {
        Self { name: self.name, at: self.at.in_part(part), node: self.node.in_part(part) }
    }
}

/// Whether this is the plain spelling of a number, and not a tag or a quote around one.
fn is_written_number(slice: &str) -> bool {
    slice.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.'))
        && slice.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.' | '_'))
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Spanned { value: Bare(value), defined, .. } = Spanned::deserialize(deserializer)?;
        let span = defined.span().byte_offset().zip(defined.span().byte_len());
        Ok(Self { at: position(&defined), value, span })
    }
}

struct Bare(Value);

impl<'de> Deserialize<'de> for Bare {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(BareVisitor).map(Bare)
    }
}

struct BareVisitor;

impl<'de> Visitor<'de> for BareVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Boolean(value, value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Number(value.to_string()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(value.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut nodes = Vec::new();
        while let Some(node) = seq.next_element()? {
            nodes.push(node);
        }
        Ok(Value::List(nodes))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(Spanned { value: name, defined, .. }) = map.next_key::<Spanned<String>>()? {
            entries.push(Entry { name, at: position(&defined), node: map.next_value()? });
        }
        Ok(Value::Map(entries))
    }
}

/// A value with the path that names it in messages, such as `sources[0].git.url`.
#[derive(Clone)]
pub struct Field<'a> {
    path: String,
    /// Where its key stands; for an entry of a list, where the value stands.
    pub key_at: Position,
    /// The value.
    pub node: &'a Node,
}

impl<'a> Field<'a> {
    /// The document itself.
    #[must_use]
    pub fn document(node: &'a Node) -> Self {
        Self { path: String::new(), key_at: node.at, node }
    }

    /// An error at the value that begins with its path: `` `timeout` MESSAGE``.
    #[must_use]
    pub fn error(&self, message: &str) -> YamlError {
        let subject = if self.path.is_empty() { "the file".into() } else { format!("`{}`", self.path) };
        YamlError::at(self.node.at, format!("{subject} {message}"))
    }

    fn expected(&self, what: &str, errors: &mut Vec<YamlError>) {
        errors.push(self.error(&format!("must be {what}, not {}", self.node.kind())));
    }

    /// A scalar's text as it is written: `1.10` and `true` are text where text is wanted.
    pub fn text(&self, errors: &mut Vec<YamlError>) -> Option<&'a str> {
        let text = self.node.text();
        if text.is_none() {
            self.expected("text", errors);
        }
        text
    }

    /// `true` or `false`.
    pub fn boolean(&self, errors: &mut Vec<YamlError>) -> Option<bool> {
        if let Value::Boolean(value, _) = self.node.value {
            return Some(value);
        }
        self.expected("`true` or `false`", errors);
        None
    }

    /// The text, read by `parse`; `what` ends the sentence that begins with "must be".
    pub fn parsed<T>(
        &self,
        what: &str,
        parse: impl Fn(&str) -> Option<T>,
        errors: &mut Vec<YamlError>,
    ) -> Option<T> {
        let Some(text) = self.node.text() else {
            self.expected(what, errors);
            return None;
        };
        let value = parse(text);
        if value.is_none() {
            errors.push(self.error(&format!("must be {what}")));
        }
        value
    }

    /// The entries of a list.
    pub fn list(&self, errors: &mut Vec<YamlError>) -> Option<Vec<Field<'a>>> {
        let Value::List(nodes) = &self.node.value else {
            self.expected("a list", errors);
            return None;
        };
        let entry = |(at, node): (usize, &'a Node)| Field {
            path: format!("{}[{at}]", self.path),
            key_at: node.at,
            node,
        };
        Some(nodes.iter().enumerate().map(entry).collect())
    }

    /// A map whose names are the user's own.
    pub fn map(&self, errors: &mut Vec<YamlError>) -> Option<Fields<'a>> {
        let Value::Map(entries) = &self.node.value else {
            self.expected("a map", errors);
            return None;
        };
        Some(Fields { path: self.path.clone(), at: self.node.at, entries })
    }

    /// A map of fields; every one that is not among `known` is reported.
    pub fn fields(&self, known: &[&str], errors: &mut Vec<YamlError>) -> Option<Fields<'a>> {
        let fields = self.map(errors)?;
        for entry in fields.entries.iter().filter(|entry| !known.contains(&entry.name.as_str())) {
            errors.push(fields.error(entry.at, &unknown("field", &entry.name, known)));
        }
        Some(fields)
    }
}

/// The fields of a map.
#[derive(Clone)]
pub struct Fields<'a> {
    path: String,
    /// Where the map begins.
    pub at: Position,
    entries: &'a [Entry],
}

impl<'a> Fields<'a> {
    /// A field that is there and not `null`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Field<'a>> {
        self.iter()
            .find(|(found, field)| *found == name && field.node.value != Value::Null)
            .map(|(_, field)| field)
    }

    /// A field that must be there.
    pub fn required(&self, name: &str, errors: &mut Vec<YamlError>) -> Option<Field<'a>> {
        let field = self.get(name);
        if field.is_none() {
            self.missing(&[name], &format!("the field `{name}` is missing"), errors);
        }
        field
    }

    /// Says that one of these fields is missing, unless it was told that one of them is mistyped.
    pub fn missing(&self, names: &[&str], message: &str, errors: &mut Vec<YamlError>) {
        let is_here = |at| self.entries.iter().any(|entry| Some(entry.at) == at);
        let is_told = names.iter().any(|name| {
            let asked = format!("; did you mean `{name}`?");
            errors.iter().any(|error| is_here(error.at) && error.message.contains(&asked))
        });
        if !is_told {
            errors.push(self.error(self.at, message));
        }
    }

    /// Every entry, `null` or not.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, Field<'a>)> {
        self.entries.iter().map(|entry| {
            let path = match self.path.as_str() {
                "" => bare(&entry.name),
                path => format!("{path}.{}", bare(&entry.name)),
            };
            (entry.name.as_str(), Field { path, key_at: entry.at, node: &entry.node })
        })
    }

    /// An error about the map as a whole, or about one of its keys.
    #[must_use]
    pub fn error(&self, at: Position, message: &str) -> YamlError {
        match self.path.as_str() {
            "" => YamlError::at(at, message),
            path => YamlError::at(at, format!("`{path}`: {message}")),
        }
    }
}

/// A key inside a path: escaped and bounded.
fn bare(name: &str) -> String {
    quoted(name).trim_matches('`').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(text: &str) -> Node {
        Node::read(text.as_bytes(), &Budget::settings()).map_err(|error| error.message).unwrap()
    }

    #[test]
    fn keeps_scalars_as_they_are_written() {
        let list =
            node("[0755, 1_000, 0x1F, 1.10, +5, .5, 123456789012345678901234567890, True, yes, !!int \"5\"]");
        let Value::List(nodes) = list.value else { unreachable!() };
        let found: Vec<_> = nodes.iter().map(|node| (node.kind(), node.text().unwrap())).collect();
        let number = |text| ("a number", text);
        assert_eq!(
            found,
            [
                number("0755"),
                number("1_000"),
                number("0x1F"),
                number("1.10"),
                number("+5"),
                number(".5"),
                number("123456789012345678901234567890"),
                ("a boolean", "True"),
                ("text", "yes"),
                number("5"),
            ]
        );
    }

    #[test]
    fn knows_the_place_of_keys_and_values_also_through_aliases() {
        let map = node("é: &a {x: 1}\nb:\n  <<: *a\n  y: *a\n");
        let fields = Field::document(&map).map(&mut Vec::new()).unwrap();
        let inner = fields.get("b").unwrap().map(&mut Vec::new()).unwrap();
        let place = |at: Position| (at.line, at.column);
        let found: Vec<_> =
            inner.iter().map(|(name, field)| (name, place(field.key_at), place(field.node.at))).collect();
        // An entry that `<<` brings in and a value that an alias brings in stand where they are written.
        assert_eq!(found, [("y", (4, 3), (1, 7)), ("x", (1, 8), (1, 11))]);
    }

    #[test]
    fn reports_every_unknown_and_missing_field_with_its_path() {
        let map = node("nmae: x\na: {b: [1, {c: 2, d: 3}]}\n");
        let mut errors = Vec::new();
        let fields = Field::document(&map).fields(&["name", "a"], &mut errors).unwrap();
        assert!(fields.required("name", &mut errors).is_none(), "its typo is told, which is enough");
        assert!(fields.required("kind", &mut errors).is_none());
        let list =
            fields.get("a").unwrap().map(&mut errors).unwrap().get("b").unwrap().list(&mut errors).unwrap();
        assert!(list[0].fields(&["c"], &mut errors).is_none());
        assert!(list[1].fields(&["c"], &mut errors).is_some());
        let found: Vec<_> =
            errors.iter().map(|e| (e.at.unwrap().line, e.at.unwrap().column, e.message.as_str())).collect();
        assert_eq!(
            found,
            [
                (1, 1, "unknown field `nmae`; did you mean `name`? known: name, a"),
                (1, 1, "the field `kind` is missing"),
                (2, 9, "`a.b[0]` must be a map, not a number"),
                (2, 19, "`a.b[1]`: unknown field `d`; known: c"),
            ]
        );
    }
}
