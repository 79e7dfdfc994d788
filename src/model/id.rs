//! Names of sources, units and runs.

use std::fmt;
use std::sync::Arc;

/// Why a name is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` is not a name: {why}")]
pub struct BadName {
    name: String,
    why: &'static str,
}

/// Longest name of a source or last part of a unit's key, in bytes.
pub const MAX_NAME_BYTES: usize = 100;

/// A source's name: letters, digits, `-`, `_` and `.`; unique in one service.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceName(Arc<str>);

impl SourceName {
    /// Checks a name.
    ///
    /// # Errors
    /// Says which rule the name breaks.
    pub fn new(name: &str) -> Result<Self, BadName> {
        check(name).map_err(|why| BadName { name: name.escape_debug().to_string(), why })?;
        Ok(Self(Arc::from(name)))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Checks a name of a source, or a manifest's `name` where it becomes part of an id.
///
/// # Errors
/// The rule that it breaks, as the end of a sentence.
pub fn check(name: &str) -> Result<(), &'static str> {
    if name.is_empty() {
        return Err("it is empty");
    }
    if name.len() > MAX_NAME_BYTES {
        return Err("it is longer than 100 bytes");
    }
    if !name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')) {
        return Err("only ASCII letters, digits, `-`, `_` and `.` are allowed");
    }
    if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return Err("it must begin with a letter or a digit");
    }
    Ok(())
}

/// A unit's id, written `source/key`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnitId {
    /// The source it comes from.
    pub source: SourceName,
    /// Its key within the source: the directory below the source's path, or the manifest's `name` at that path.
    pub key: Arc<str>,
}

impl UnitId {
    /// Puts an id together; `key` comes from a checked path or name.
    #[must_use]
    pub fn new(source: SourceName, key: &str) -> Self {
        Self { source, key: Arc::from(key) }
    }

    /// Reads `source/key`.
    ///
    /// # Errors
    /// The source's part is no name, or there is no key.
    pub fn parse(text: &str) -> Result<Self, BadName> {
        let (source, key) = text.split_once('/').filter(|(_, key)| !key.is_empty()).ok_or_else(|| {
            BadName { name: text.escape_debug().to_string(), why: "a unit's id is SOURCE/KEY" }
        })?;
        Ok(Self::new(SourceName::new(source)?, key))
    }

    /// Whether a person who typed `suffix` may mean this unit: the whole id, or whole last parts of it.
    #[must_use]
    pub fn ends_with(&self, suffix: &str) -> bool {
        let id = self.to_string();
        id.strip_suffix(suffix).is_some_and(|rest| rest.is_empty() || rest.ends_with('/'))
            && !suffix.is_empty()
    }
}

/// A run's id: 16 hexadecimal digits, random.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunId(Arc<str>);

impl RunId {
    /// Makes an id of 8 random bytes.
    #[must_use]
    pub fn from_random(bytes: [u8; 8]) -> Self {
        Self(Arc::from(format!("{:016x}", u64::from_be_bytes(bytes))))
    }

    /// Takes an id that was recorded before.
    #[must_use]
    pub fn recorded(text: &str) -> Self {
        Self(Arc::from(text))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

macro_rules! show {
    ($name:ty, $self:ident, $f:ident => $body:expr) => {
        impl fmt::Display for $name {
            fn fmt(&$self, $f: &mut fmt::Formatter<'_>) -> fmt::Result {
                $body
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

show!(SourceName, self, f => f.write_str(&self.0));
show!(RunId, self, f => f.write_str(&self.0));
show!(UnitId, self, f => write!(f, "{}/{}", self.source, self.key));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_a_unit_by_whole_last_parts() {
        let id = UnitId::parse("team/jobs/digest").unwrap();
        assert!(id.ends_with("digest") && id.ends_with("jobs/digest") && id.ends_with("team/jobs/digest"));
        assert!(!id.ends_with("gest") && !id.ends_with("") && !id.ends_with("/digest"));
    }

    #[test]
    fn refuses_names_that_break_a_rule() {
        for bad in ["", "a b", "a/b", "-a", "ä", &"x".repeat(101)] {
            assert!(SourceName::new(bad).is_err(), "{bad}");
        }
        assert!(UnitId::parse("team").is_err());
    }
}
