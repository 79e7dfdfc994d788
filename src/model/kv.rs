//! What a task keeps between its runs: values by key.

/// Longest key, in bytes.
pub const MAX_KEY_BYTES: usize = 512;

/// Limits on what one task may keep (DESIGN 12); each is a key of `limits` in kindling.yaml.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvLimits {
    /// Largest value, in bytes of its JSON.
    pub value_bytes: u64,
    /// All keys and values of a task together, in bytes.
    pub task_bytes: u64,
    /// Most keys of a task.
    pub keys: u64,
}

impl Default for KvLimits {
    fn default() -> Self {
        Self { value_bytes: 1 << 20, task_bytes: 64 << 20, keys: 10_000 }
    }
}

/// A key: not empty, at most [`MAX_KEY_BYTES`], without control characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KvKey(String);

impl KvKey {
    /// Checks a key.
    ///
    /// # Errors
    /// The rule that it breaks, as the end of a sentence.
    pub fn new(key: &str) -> Result<Self, &'static str> {
        if key.is_empty() {
            return Err("is empty");
        }
        check(key)?;
        Ok(Self(key.to_owned()))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Checks the beginning of keys, which may be empty.
///
/// # Errors
/// The rule that it breaks, as the end of a sentence.
pub fn check(prefix: &str) -> Result<(), &'static str> {
    if prefix.len() > MAX_KEY_BYTES {
        return Err("has more than 512 bytes");
    }
    if prefix.chars().any(char::is_control) {
        return Err("has a control character in it");
    }
    Ok(())
}

/// What a script asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KvRequest {
    /// The value of a key.
    Get(KvKey),
    /// Keep this JSON text as the value of a key.
    Set(KvKey, String),
    /// Forget a key.
    Delete(KvKey),
    /// The keys that begin so.
    List(String),
}

/// What it is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KvAnswer {
    /// The value, as it was set: JSON text; `None` where there is none.
    Value(Option<String>),
    /// It is kept.
    Kept,
    /// It is gone; whether it was there.
    Deleted(bool),
    /// Keys, in the order of their bytes.
    Keys(Vec<String>),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_rules() {
        for good in ["a", " a b ", "ключ/1", "%_", &"x".repeat(512)] {
            assert_eq!(KvKey::new(good).unwrap().as_str(), good);
        }
        for bad in ["", "a\0b", "a\nb", "\u{9b}", &"x".repeat(513)] {
            assert!(KvKey::new(bad).is_err(), "{bad:?}");
        }
    }
}
