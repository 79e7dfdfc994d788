//! Values of options, and what is read from the arguments before they are parsed.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tracing::Level;

use crate::api::wire::AnyJson;
use crate::config::duration::{DURATION, duration};
use crate::model::time::Timestamp;
use crate::support::telemetry;

/// Fewest characters of a hash, a commit or a run's id that may stand for it.
pub const SHORTEST_PREFIX: usize = 4;

/// Reads a level of the log. Nothing is the default one, so that an empty variable is like none.
pub fn level(word: &str) -> Result<Level, String> {
    match word {
        "" => Ok(Level::INFO),
        _ => telemetry::parse_level(word)
            .ok_or_else(|| "one of error, warn, info, debug and trace is wanted".into()),
    }
}

/// Reads a format of the log.
pub fn log_format(word: &str) -> Result<telemetry::Format, String> {
    telemetry::Format::parse(word).ok_or_else(|| "text or json is wanted".into())
}

/// Reads a length of time.
pub fn time(text: &str) -> Result<Duration, String> {
    duration(text).ok_or_else(|| format!("give {DURATION}"))
}

/// A moment, or how long ago it was.
#[derive(Clone, Copy, Debug)]
pub enum Since {
    /// A moment.
    At(Timestamp),
    /// So long before now.
    Ago(Duration),
}

impl Since {
    /// The moment.
    #[must_use]
    pub fn at(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(at) => at,
            Self::Ago(length) => {
                Timestamp(now.0.saturating_sub(i64::try_from(length.as_millis()).unwrap_or(i64::MAX)))
            }
        }
    }
}

/// Reads a moment in RFC 3339, or a length of time before now.
pub fn since(text: &str) -> Result<Since, String> {
    let moment = Timestamp::parse(text).map(Since::At);
    moment.or_else(|| duration(text).map(Since::Ago)).ok_or_else(|| {
        "a time such as 2026-01-31T12:00:00Z, or a length of time such as 10m is wanted".into()
    })
}

/// Reads the beginning of a hash or a commit.
pub fn prefix(text: &str) -> Result<String, String> {
    let is_hex = text.bytes().all(|digit| digit.is_ascii_hexdigit());
    if is_hex && (SHORTEST_PREFIX..=64).contains(&text.len()) {
        return Ok(text.to_ascii_lowercase());
    }
    Err(format!("at least {SHORTEST_PREFIX} hexadecimal digits are wanted"))
}

/// Whether this may be the id of a run, or the beginning of one.
#[must_use]
pub fn is_run_id(text: &str) -> bool {
    (SHORTEST_PREFIX..=16).contains(&text.len())
        && text.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
}

/// Reads the id of a run, or the beginning of one.
pub fn run_id(text: &str) -> Result<String, String> {
    let lower = text.to_ascii_lowercase();
    if is_run_id(&lower) {
        Ok(lower)
    } else {
        Err(format!("at least {SHORTEST_PREFIX} digits of a run's id are wanted"))
    }
}

/// Reads `NAME=VALUE`.
pub fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) =
        text.split_once('=').filter(|(name, _)| !name.is_empty()).ok_or("NAME=VALUE is wanted")?;
    Ok((name.into(), value.into()))
}

/// Reads JSON.
pub fn json(text: &str) -> Result<AnyJson, String> {
    serde_json::from_str(text).map_err(|error| format!("JSON is wanted: {error}"))
}

/// Reads what is not empty.
pub fn some_text(text: &str) -> Result<String, String> {
    if text.trim().is_empty() { Err("it is empty".into()) } else { Ok(text.into()) }
}

/// The path relative to `here` where that is shorter to read.
#[must_use]
pub fn near(path: &Path, here: &Path) -> PathBuf {
    path.strip_prefix(here).ok().filter(|rest| !rest.as_os_str().is_empty()).unwrap_or(path).to_owned()
}

/// A word as a shell takes it.
#[must_use]
pub fn shell_word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+@%:,".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Whether errors are to be JSON, told from arguments that may not parse.
#[must_use]
pub fn wants_json(arguments: &[OsString]) -> bool {
    let words: Vec<&str> = arguments.iter().skip(1).map(|word| word.to_str().unwrap_or_default()).collect();
    let words = words.split(|word| *word == "--").next().unwrap_or_default();
    let alone = words.iter().any(|word| matches!(*word, "-ojson" | "-o=json" | "--output=json"));
    alone || words.windows(2).any(|pair| matches!(pair, ["-o" | "--output", "json"]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sees_json_in_arguments_that_do_not_parse() {
        let wants = |text: &str| {
            let words: Vec<OsString> = text.split(' ').map(OsString::from).collect();
            wants_json(&words)
        };
        for yes in ["k -o json", "k x -ojson --bad", "k --output json", "k --output=json", "k -o=json"] {
            assert!(wants(yes), "{yes}");
        }
        for no in ["k", "k -o yaml", "k run x -- -o json", "k json", "-o json"] {
            assert!(!wants(no), "{no}");
        }
    }

    #[test]
    fn reads_values() {
        assert!(prefix("abc").is_err() && prefix("xyzw").is_err() && prefix("").is_err());
        assert_eq!(prefix("ABCD"), Ok("abcd".into()));
        assert!(
            is_run_id("00ab") && !is_run_id("0ab") && !is_run_id("digest") && !is_run_id(&"0".repeat(17))
        );
        assert_eq!(pair("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert!(pair("=x").is_err() && pair("x").is_err());
        let now = Timestamp(10_000_000);
        assert_eq!(since("10m").unwrap().at(now), Timestamp(9_400_000));
        assert_eq!(since("1970-01-01T00:00:05Z").unwrap().at(now), Timestamp(5000));
        assert!(since("yesterday").is_err());
        assert_eq!(shell_word("a/b.yaml"), "a/b.yaml");
        assert_eq!(shell_word("it's"), r"'it'\''s'");
        assert_eq!(level(""), Ok(Level::INFO));
        assert!(level("loud").is_err());
    }
}
