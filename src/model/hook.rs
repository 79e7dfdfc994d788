//! Task webhooks: the path that starts a task, and what a caller has to show.

use std::fmt;
use std::sync::Arc;

/// What every path of a task webhook begins with.
pub const HOOKS: &str = "/hooks/";

/// Longest path of a task webhook, in bytes.
pub const MAX_PATH_BYTES: usize = 256;

/// The whole path of a task webhook: `/hooks/` and one part or more, of characters that no client and no proxy writes
/// differently.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HookPath(Arc<str>);

impl HookPath {
    /// Reads a path.
    ///
    /// # Errors
    /// What is wrong with it, as the rest of a sentence.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let Some(rest) = text.strip_prefix(HOOKS) else {
            return Err("must be the whole path and begin with `/hooks/`, such as `/hooks/deploy`");
        };
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '~');
        if text.len() > MAX_PATH_BYTES {
            Err("is longer than 256 bytes")
        } else if rest.split('/').any(|part| matches!(part, "" | "." | "..")) {
            Err("has a part that is empty, `.` or `..`")
        } else if !rest.split('/').all(|part| part.chars().all(is_plain)) {
            Err("may only have letters, digits, `-`, `_`, `.` and `~` between its slashes")
        } else {
            Ok(Self(text.into()))
        }
    }

    /// The path.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for HookPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::borrow::Borrow<str> for HookPath {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// A method that a task webhook may be called with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum HookMethod {
    /// `GET`; it takes `HEAD` along.
    Get,
    /// `HEAD`
    Head,
    /// `POST`
    Post,
    /// `PUT`
    Put,
    /// `PATCH`
    Patch,
    /// `DELETE`
    Delete,
    /// `OPTIONS`
    Options,
}

impl HookMethod {
    /// Every method.
    pub const ALL: [Self; 7] =
        [Self::Get, Self::Head, Self::Post, Self::Put, Self::Patch, Self::Delete, Self::Options];

    /// The word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
            Self::Options => "OPTIONS",
        }
    }

    /// Reads [`HookMethod::as_str`].
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|method| method.as_str() == word)
    }
}

/// A trigger by HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    /// Where it is served.
    pub path: HookPath,
    /// The methods that it takes: at least one, each once, in the order of [`HookMethod::ALL`].
    pub methods: Vec<HookMethod>,
    /// The variable of kindling's environment that holds the secret which bodies are signed with.
    pub secret: Option<String>,
    /// The variable of kindling's environment that holds the token which callers show.
    pub bearer: Option<String>,
}

impl Hook {
    /// What a manifest without `methods` means (DESIGN 5).
    pub const DEFAULT_METHODS: [HookMethod; 2] = [HookMethod::Get, HookMethod::Post];

    /// The variables of kindling's environment that it names.
    pub fn variables(&self) -> impl Iterator<Item = &str> {
        self.secret.iter().chain(&self.bearer).map(String::as_str)
    }

    /// Whether it takes calls from whoever shows nothing.
    #[must_use]
    pub fn is_bare(&self) -> bool {
        self.secret.is_none() && self.bearer.is_none()
    }

    /// Whether it takes this method.
    #[must_use]
    pub fn takes(&self, method: HookMethod) -> bool {
        self.methods.contains(&method)
            || (method == HookMethod::Head && self.methods.contains(&HookMethod::Get))
    }

    /// The methods that it takes, as the header `Allow` lists them.
    #[must_use]
    pub fn allow(&self) -> String {
        let taken = HookMethod::ALL.into_iter().filter(|method| self.takes(*method));
        taken.map(HookMethod::as_str).collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_written_in_one_way_only() {
        for good in ["/hooks/a", "/hooks/a/b-c_d.e~f", "/hooks/A", "/hooks/..."] {
            assert_eq!(HookPath::parse(good).unwrap().as_str(), good);
        }
        let long = format!("/hooks/{}", "a".repeat(MAX_PATH_BYTES));
        for bad in [
            "",
            "/",
            "/hooks",
            "/hooks/",
            "hooks/a",
            "/Hooks/a",
            "/api/v1/status",
            "/hooks//a",
            "/hooks/a/",
            "/hooks/./a",
            "/hooks/../api",
            "/hooks/a b",
            "/hooks/%61",
            "/hooks/{a}",
            "/hooks/a?b",
            "/hooks/a#b",
            "/hooks/*",
            "/hooks/ä",
            "/hooks/a\n",
            &long,
        ] {
            assert!(HookPath::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn get_takes_head_along() {
        let hook = |methods: &[HookMethod]| Hook {
            path: HookPath::parse("/hooks/a").unwrap(),
            methods: methods.to_vec(),
            secret: None,
            bearer: None,
        };
        assert_eq!(hook(&Hook::DEFAULT_METHODS).allow(), "GET, HEAD, POST");
        assert_eq!(hook(&[HookMethod::Post]).allow(), "POST");
        assert!(!hook(&[HookMethod::Post]).takes(HookMethod::Head));
        assert!(hook(&[HookMethod::Options]).takes(HookMethod::Options));
        assert!(HookMethod::ALL.into_iter().all(|method| HookMethod::parse(method.as_str()) == Some(method)));
    }
}
