//! JSON as people read it, from JSON text: every number and every name stays as it is written.

use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// One level of a JSON text.
#[derive(Debug)]
pub enum Part<'a> {
    /// Names and values, in their order.
    Map(Vec<(String, Part<'a>)>),
    /// Values.
    List(Vec<Part<'a>>),
    /// A text.
    Text(String),
    /// A number, a boolean or nothing, as it is written.
    Other(&'a str),
}

/// Reads JSON text.
///
/// # Errors
/// It is not JSON.
pub fn read(text: &str) -> Result<Part<'_>, serde_json::Error> {
    part(serde_json::from_str::<&RawValue>(text)?)
}

fn part(raw: &RawValue) -> Result<Part<'_>, serde_json::Error> {
    let text = raw.get();
    Ok(match text.as_bytes().first() {
        Some(b'{') => {
            let Fields(fields) = serde_json::from_str(text)?;
            Part::Map(
                fields.into_iter().map(|(name, value)| Ok((name, part(value)?))).collect::<Result<_, _>>()?,
            )
        }
        Some(b'[') => {
            let items: Vec<&RawValue> = serde_json::from_str(text)?;
            Part::List(items.into_iter().map(part).collect::<Result<_, _>>()?)
        }
        Some(b'"') => Part::Text(serde_json::from_str(text)?),
        _ => Part::Other(text),
    })
}

/// The fields of a map, whatever their names.
struct Fields<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FieldsVisitor)
    }
}

struct FieldsVisitor;

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = Fields<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
        let mut fields = Vec::new();
        while let Some(field) = map.next_entry()? {
            fields.push(field);
        }
        Ok(Fields(fields))
    }
}

/// The value over several lines, indented by two.
#[must_use]
pub fn pretty(value: &Part<'_>) -> String {
    let mut text = String::new();
    write(&mut text, value, 0);
    text
}

fn write(text: &mut String, value: &Part<'_>, depth: usize) {
    match value {
        Part::Map(fields) if !fields.is_empty() => {
            text.push('{');
            for (at, (name, value)) in fields.iter().enumerate() {
                begin(text, at, depth + 1);
                text.push_str(&quoted(name));
                text.push_str(": ");
                write(text, value, depth + 1);
            }
            end(text, depth, '}');
        }
        Part::List(items) if !items.is_empty() => {
            text.push('[');
            for (at, value) in items.iter().enumerate() {
                begin(text, at, depth + 1);
                write(text, value, depth + 1);
            }
            end(text, depth, ']');
        }
        Part::Map(_) => text.push_str("{}"),
        Part::List(_) => text.push_str("[]"),
        Part::Text(value) => text.push_str(&quoted(value)),
        Part::Other(value) => text.push_str(value),
    }
}

fn begin(text: &mut String, at: usize, depth: usize) {
    text.push_str(if at > 0 { ",\n" } else { "\n" });
    text.extend(std::iter::repeat_n("  ", depth));
}

fn end(text: &mut String, depth: usize, bracket: char) {
    text.push('\n');
    text.extend(std::iter::repeat_n("  ", depth));
    text.push(bracket);
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_printed_as_serde_prints_it_but_for_numbers() {
        let value =
            serde_json::json!({"a": [1, {"b": null}, [], {}, "x\n\"é"], "": true, "c": {"d": -1.5e300}});
        let text = value.to_string();
        assert_eq!(pretty(&read(&text).unwrap()), serde_json::to_string_pretty(&value).unwrap());
        let odd = r#"{"$serde_json::private::RawValue":1.50,"$serde_json::private::Number":12345678901234567890123}"#;
        let shown = pretty(&read(odd).unwrap());
        assert!(
            shown.contains("Value\": 1.50,\n") && shown.contains("Number\": 12345678901234567890123\n"),
            "{shown}"
        );
        assert!(read("{").is_err() && read("1 2").is_err());
    }
}
