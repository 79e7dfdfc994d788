//! Whether a text is JSON that every later reader can take. Builds no value.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// Most lists and maps that may lie inside one another. Readers of an answer of the API, which puts some around it, give
/// up at 128.
pub const MAX_LEVELS: usize = 100;

/// Why a text cannot be taken as JSON: the end of a sentence.
#[derive(Debug, thiserror::Error)]
pub enum JsonRefusal {
    /// It breaks a rule of JSON.
    #[error("is not JSON: {0}")]
    NotJson(serde_json::Error),
    /// It has more than `MAX_LEVELS` levels.
    #[error("is nested deeper than the {MAX_LEVELS} levels allowed")]
    TooDeep,
    /// It has a number that is beyond every float.
    #[error("has a number in it that is too large, at line {0} column {1}")]
    OutOfRange(usize, usize),
    /// It has half of a surrogate pair, which is no character.
    #[error("has a text in it with a lone surrogate, which is no character, at line {0} column {1}")]
    LoneSurrogate(usize, usize),
}

impl From<serde_json::Error> for JsonRefusal {
    fn from(error: serde_json::Error) -> Self {
        // The kinds of an error are told by its text alone.
        let text = error.to_string();
        if text.starts_with("number out of range") {
            Self::OutOfRange(error.line(), error.column())
        } else if text.contains("surrogate") || text.starts_with("unexpected end of hex escape") {
            Self::LoneSurrogate(error.line(), error.column())
        } else {
            Self::NotJson(error)
        }
    }
}

/// Checks a text as strictly as a reader that keeps its values: with whole surrogate pairs, numbers that a float can
/// hold and at most [`MAX_LEVELS`] levels. Costs no memory in proportion to the text.
///
/// # Errors
/// What is wrong, with line and column.
pub fn check(text: &str) -> Result<(), JsonRefusal> {
    if levels(text) > MAX_LEVELS {
        return Err(JsonRefusal::TooDeep);
    }
    serde_json::from_str::<Checked>(text).map(|Checked| ()).map_err(Into::into)
}

/// How many lists and maps lie inside one another. What is no JSON has some number too.
fn levels(text: &str) -> usize {
    let (mut depth, mut deepest, mut in_text, mut is_escaped) = (0_usize, 0, false, false);
    for byte in text.bytes() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if in_text => is_escaped = true,
            b'"' => in_text = !in_text,
            b'[' | b'{' if !in_text => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' if !in_text => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// Stands for any value.
struct Checked;

impl<'de> Deserialize<'de> for Checked {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Checked)
    }
}

impl<'de> Visitor<'de> for Checked {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut all: A) -> Result<Self, A::Error> {
        while let Some(Checked) = all.next_element()? {}
        Ok(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut all: A) -> Result<Self, A::Error> {
        while let Some((Checked, Checked)) = all.next_entry()? {}
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_exactly_what_can_be_read_later() {
        for good in [
            "null",
            " [1, -2.5e3, \"a\\u00e4\\ud83d\\ude00\"] ",
            "{\"a\":{\"b\":[]}}",
            "12345678901234567890123",
        ] {
            assert!(check(good).is_ok(), "{good}");
            assert!(serde_json::from_str::<serde_json::Value>(good).is_ok(), "{good}");
        }
        for bad in ["", "nul", "{a:1}", "[1,]", "1 2", "1e999", "\"\\ud83d\"", "NaN"] {
            assert!(check(bad).is_err(), "{bad}");
            assert!(serde_json::from_str::<serde_json::Value>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn says_what_it_does_not_take() {
        let nested = |levels: usize| "[".repeat(levels) + "\"[\\\"[\"" + &"]".repeat(levels);
        assert!(check(&nested(MAX_LEVELS)).is_ok());
        for (bad, why) in [
            (nested(MAX_LEVELS + 1).as_str(), "is nested deeper than the 100 levels allowed"),
            (&"[".repeat(100_000), "is nested deeper than the 100 levels allowed"),
            ("[1,\n 1e999]", "has a number in it that is too large, at line 2 column 6"),
            (
                "\"\\ud83d\"",
                "has a text in it with a lone surrogate, which is no character, at line 1 column 8",
            ),
            (
                "\"\\ude00 \"",
                "has a text in it with a lone surrogate, which is no character, at line 1 column 7",
            ),
            (
                "\"\\ud83dab\"",
                "has a text in it with a lone surrogate, which is no character, at line 1 column 8",
            ),
            ("[1,]", "is not JSON: trailing comma at line 1 column 4"),
        ] {
            assert_eq!(check(bad).unwrap_err().to_string(), why, "{bad:.20}");
        }
    }
}
