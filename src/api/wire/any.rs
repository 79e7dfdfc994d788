//! JSON of a task's own: it travels as it is written, whatever its numbers and names.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// Any JSON, with every digit. Without line breaks where it comes from the service.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AnyJson(Box<RawValue>);

impl AnyJson {
    /// The text as JSON without white space between its parts; `None` if it is not JSON.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        RawValue::from_string(compact(text)).ok().map(Self)
    }

    /// The JSON text in one line, whatever it was written in: programs read it so.
    #[must_use]
    pub fn in_one_line(&self) -> String {
        compact(self.0.get())
    }

    /// The JSON text.
    #[must_use]
    pub fn text(&self) -> &str {
        self.0.get()
    }
}

impl Default for AnyJson {
    fn default() -> Self {
        Self(RawValue::NULL.to_owned())
    }
}

impl JsonSchema for AnyJson {
    fn schema_name() -> Cow<'static, str> {
        "AnyJson".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        true.into()
    }
}

/// JSON without the white space between its parts.
fn compact(text: &str) -> String {
    let (mut in_text, mut is_escaped) = (false, false);
    let keep = |c: &char| {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' if in_text => is_escaped = true,
            '"' => in_text = !in_text,
            _ => {}
        }
        in_text || !c.is_ascii_whitespace()
    };
    text.chars().filter(keep).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_all_but_white_space_between_parts() {
        let text = " {\"a b\" :\n\t[12345678901234567890123, 1.50, \"\\\" \\\\\" , \"c d\"],\r\n\"$serde_json::private::Number\": 1}";
        let any = AnyJson::read(text).unwrap();
        let compact = "{\"a b\":[12345678901234567890123,1.50,\"\\\" \\\\\",\"c d\"],\"$serde_json::private::Number\":1}";
        assert_eq!(any.text(), compact);
        assert_eq!(serde_json::to_string(&any).unwrap(), compact);
        assert_eq!(serde_json::from_str::<AnyJson>(compact).unwrap().text(), compact);
        assert!(AnyJson::read("1 2 x").is_none() && AnyJson::read("").is_none());
        assert_eq!(AnyJson::default().text(), "null");
    }
}
