//! The address of a repository: what is accepted, and how it is written down without a secret.

use std::fmt;
use std::path::{Path, PathBuf};

use reqwest::Url;

use crate::config::remote::SshUrl;

/// Where a repository is. Spellings of one place are equal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Remote {
    /// A directory of this machine; absolute.
    File(PathBuf),
    /// An `http:` or `https:` URL without credentials, query and fragment.
    Http(Url),
    /// A repository that is reached through the `ssh` program.
    Ssh(SshUrl),
}

/// Why an address is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the URL `{shown}` is refused: {why}")]
pub(super) struct BadUrl {
    shown: String,
    why: &'static str,
}

const WHAT_IS_ACCEPTED: &str = "only file, http, https and ssh URLs and absolute paths are accepted";

impl Remote {
    /// Reads an address as it is configured.
    pub(super) fn parse(text: &str) -> Result<Self, BadUrl> {
        if text.starts_with('/') {
            return Self::file(Path::new(text)).map_err(|why| BadUrl { shown: text.to_owned(), why });
        }
        let bad = |shown: String, why| Err(BadUrl { shown, why });
        let is_url = text.contains("://");
        if !is_url || text.get(..6).is_some_and(|scheme| scheme.eq_ignore_ascii_case("ssh://")) {
            return SshUrl::parse(text).map(Self::Ssh).map_err(|why| BadUrl { shown: hide_user(text), why });
        }
        let Ok(mut url) = Url::parse(text) else {
            return bad(hide_user(text), WHAT_IS_ACCEPTED);
        };
        let shown = if url.cannot_be_a_base() { hide_user(text) } else { without_secrets(&url) };
        if !url.username().is_empty() || url.password().is_some() {
            return bad(shown, "it holds credentials, which must never stand in a URL");
        }
        if url.query().is_some() || url.fragment().is_some() {
            return bad(shown, "it has a query or a fragment");
        }
        match url.scheme() {
            "file" => match url.to_file_path() {
                Ok(path) => Self::file(&path).map_err(|why| BadUrl { shown, why }),
                Err(()) => bad(shown, "a file URL names no other host"),
            },
            "http" | "https" => {
                let path = url.path().trim_end_matches('/').to_owned();
                url.set_path(&path);
                Ok(Self::Http(url))
            }
            _ => bad(shown, WHAT_IS_ACCEPTED),
        }
    }

    fn file(path: &Path) -> Result<Self, &'static str> {
        if path.as_os_str().as_encoded_bytes().contains(&0) {
            return Err("the path has a NUL character");
        }
        Ok(Self::File(path.components().collect()))
    }

    /// The key of its slots: the host and port; one for all of this machine's directories.
    pub(super) fn host(&self) -> String {
        match self {
            Self::File(_) => String::new(),
            Self::Http(url) => authority(url),
            Self::Ssh(url) => format!("{}:{}", url.host, url.port.unwrap_or(22)),
        }
    }
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Http(url) => f.write_str(url.as_str().trim_end_matches('/')),
            Self::Ssh(SshUrl { user, host, port, path }) => {
                let user = user.as_ref().map(|user| format!("{user}@")).unwrap_or_default();
                let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
                let port = port.map(|port| format!(":{port}")).unwrap_or_default();
                match path.starts_with('/') {
                    true => write!(f, "ssh://{user}{host}{port}{path}"),
                    false => write!(f, "{user}{host}:{path}"),
                }
            }
        }
    }
}

/// `host:port`, the port of the scheme written out.
pub(super) fn authority(url: &Url) -> String {
    let port = url.port_or_known_default().unwrap_or_default();
    format!("{}:{port}", url.host_str().unwrap_or_default())
}

fn without_secrets(url: &Url) -> String {
    let mut shown = url.clone();
    // Both fail only for URLs that can hold no credentials.
    let _ = shown.set_username("");
    let _ = shown.set_password(None);
    shown.set_query(None);
    shown.set_fragment(None);
    shown.to_string()
}

fn hide_user(text: &str) -> String {
    let text = text.split(['?', '#']).next().unwrap_or_default();
    let shown = text.rsplit_once('@').map_or_else(|| text.to_owned(), |(_, rest)| format!("...@{rest}"));
    shown.escape_debug().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_place_are_equal() {
        let same = |a: &str, b: &str| assert_eq!(Remote::parse(a).unwrap(), Remote::parse(b).unwrap(), "{a}");
        same("/srv/team.git", "file:///srv/team.git");
        same("/srv/team.git/", "file://localhost/srv/./team.git");
        same("/srv/a b", "file:///srv/a%20b");
        same("https://Example.org:443/team/", "https://example.org/team");
        same("git@Example.org:/srv/a/", "ssh://git@example.org:22/srv/a");
        for shown in ["ssh://git@example.org:2222/a", "ssh://[::1]/a", "git@example.org:a/b"] {
            assert_eq!(Remote::parse(shown).unwrap().to_string(), shown);
        }
        assert_eq!(Remote::parse("http://example.org/a/").unwrap().to_string(), "http://example.org/a");
        assert_eq!(Remote::parse("http://example.org/a").unwrap().host(), "example.org:80");
    }

    #[test]
    fn refuses_what_is_not_served_and_never_shows_a_secret() {
        for bad in [
            "https://user:s3cret@example.org/a",
            "https://s3cret@example.org/a",
            "ssh://git:s3cret@example.org/a",
            "ssh://-oProxyCommand=id/a",
            "git:s3cret@example.org:a",
            "https://example.org/a?token=s3cret",
            "ext::sh -c id",
            "git://example.org/a",
            "file://example.org/a",
            "relative/path",
            "/srv/a\0b",
            "",
        ] {
            let refused = Remote::parse(bad).unwrap_err().to_string();
            assert!(!refused.contains("s3cret"), "{refused}");
        }
    }
}
