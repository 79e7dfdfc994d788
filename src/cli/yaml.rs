//! JSON values as YAML: what `-o yaml` prints.
//!
//! Every text that could be taken for something else, or that a terminal would obey, stands in double quotes with
//! JSON's escapes, which YAML shares.

use super::json::Part;

/// The document of a value, with a line break at its end.
#[must_use]
pub fn document(value: &Part<'_>) -> String {
    let mut text = String::new();
    match value {
        Part::List(items) if !items.is_empty() => list(&mut text, items, 0),
        Part::Map(fields) if !fields.is_empty() => map(&mut text, fields, 0),
        other => {
            text.push_str(&scalar(other));
            text.push('\n');
        }
    }
    text
}

fn map(text: &mut String, fields: &[(String, Part<'_>)], depth: usize) {
    for (at, (name, value)) in fields.iter().enumerate() {
        if at > 0 {
            indent(text, depth);
        }
        text.push_str(&quoted(name));
        text.push(':');
        match value {
            Part::List(items) if !items.is_empty() => {
                text.push('\n');
                indent(text, depth + 1);
                list(text, items, depth + 1);
            }
            Part::Map(fields) if !fields.is_empty() => {
                text.push('\n');
                indent(text, depth + 1);
                map(text, fields, depth + 1);
            }
            other => push_scalar(text, other),
        }
    }
}

/// The first entry stands where the text ends; the others are indented.
fn list(text: &mut String, items: &[Part<'_>], depth: usize) {
    for (at, item) in items.iter().enumerate() {
        if at > 0 {
            indent(text, depth);
        }
        text.push('-');
        match item {
            Part::List(items) if !items.is_empty() => {
                text.push(' ');
                list(text, items, depth + 1);
            }
            Part::Map(fields) if !fields.is_empty() => {
                text.push(' ');
                map(text, fields, depth + 1);
            }
            other => push_scalar(text, other),
        }
    }
}

fn push_scalar(text: &mut String, value: &Part<'_>) {
    text.push(' ');
    text.push_str(&scalar(value));
    text.push('\n');
}

fn indent(text: &mut String, depth: usize) {
    text.extend(std::iter::repeat_n("  ", depth));
}

fn scalar(value: &Part<'_>) -> String {
    match value {
        Part::Other(written) => (*written).to_owned(),
        Part::Text(text) => quoted(text),
        Part::List(_) => "[]".into(),
        Part::Map(_) => "{}".into(),
    }
}

/// The text as it is where nothing else can be read into it.
fn quoted(text: &str) -> String {
    if is_plain(text) { text.to_owned() } else { in_quotes(text) }
}

/// Words that begin with a letter and hold nothing that YAML or a terminal has a meaning for; no word that some
/// version of YAML reads as a boolean, as nothing or as a number.
fn is_plain(text: &str) -> bool {
    const WORDS: [&str; 14] = [
        "null", "true", "false", "yes", "no", "on", "off", "y", "n", "nan", "inf", "infinity", "nil", "none",
    ];
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && !text.ends_with(' ')
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, ' ' | '-' | '_' | '.' | '/' | '@' | '+'))
        && !WORDS.contains(&text.to_ascii_lowercase().as_str())
}

fn in_quotes(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            '\r' => quoted.push_str("\\r"),
            ' '..='~' => quoted.push(c),
            c if c.is_alphanumeric() => quoted.push(c),
            c if u32::from(c) <= 0xffff => quoted.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => quoted.push_str(&format!("\\U{:08x}", u32::from(c))),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use serde_json::Value;

    use super::*;
    use crate::cli::json;
    use crate::config::yaml::{Budget, read};

    fn yaml(value: &Value) -> String {
        document(&json::read(&value.to_string()).unwrap())
    }

    #[test]
    fn nests_lists_and_maps() {
        let value = serde_json::json!({"items": [{"id": "local/a", "held": null, "no": "yes", "deep": [[1, 2.5], []],
            "conditions": [{"type": "Ready", "message": "a: b\n\u{1b}[2J"}]}, {}], "empty": [], "ok": true});
        insta::assert_snapshot!(yaml(&value), @r#"
        items:
          - id: local/a
            held: null
            "no": "yes"
            deep:
              - - 1
                - 2.5
              - []
            conditions:
              - type: Ready
                message: "a: b\n\u001b[2J"
          - {}
        empty: []
        ok: true
        "#);
    }

    fn text() -> impl Strategy<Value = String> {
        prop_oneof![
            "[ -~]{0,12}",
            any::<String>(),
            Just("1_000".into()),
            Just("0x1f".into()),
            Just("1e3".into()),
            Just("- a".into()),
            Just("a: b".into()),
            Just("a #b".into()),
            Just("\u{feff}\u{85}\u{2028}\u{7f}".into()),
            Just("True".into()),
            Just("~".into()),
            Just("---".into()),
            Just("<<".into()),
            Just("!tag x".into()),
            Just("&a *a".into()),
        ]
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            (-1000i32..1000).prop_map(|n| Value::from(f64::from(n) / 8.0 + 0.0625)),
            text().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 40, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::btree_map(text(), inner, 0..5)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_printed_reads_back(value in value()) {
            // The reader takes a file that holds something, and no top that is nothing.
            let value = serde_json::json!({"value": value});
            let text = yaml(&value);
            let back: Value = read(text.as_bytes(), &Budget::settings()).map_err(|e| {
                TestCaseError::fail(format!("{e}: {text}"))
            })?;
            prop_assert_eq!(back, value, "{}", text);
        }
    }
}
