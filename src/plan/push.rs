//! What a push webhook says, and whether it concerns a source. Pure: a payload is only a hint, nothing of it is
//! deployed, and nothing of it is used but to compare.

use std::fmt;
use std::time::Duration;

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::config::remote::{Reach, SshUrl, check_commit, reach};
use crate::model::path::RelPath;
use crate::model::source::{GitRef, Origin, Revision, SourceSpec};
use crate::model::time::Timestamp;

use super::nested::as_source;

/// Hosts whose repositories are the same in every spelling of letters' case.
const CASELESS_HOSTS: [&str; 1] = ["github.com"];

/// A push, as far as the payload tells; every field may be missing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Push {
    /// The full name of the ref.
    pub reference: Option<String>,
    /// The commit that the ref is at now. An annotated tag is at no commit itself: then the commit that it leads to.
    pub commit: Option<Revision>,
    /// Whether the ref is gone.
    pub deleted: bool,
    /// The URLs of the repository, normalised.
    pub repositories: Vec<String>,
    /// The short name of the branch that the remote's HEAD names.
    pub default_branch: Option<String>,
    /// When it was pushed, to the second.
    pub pushed_at: Option<Timestamp>,
}

/// Whether a push concerns a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Concern {
    /// It does.
    Follow {
        /// The commit to wait for.
        commit: Option<Revision>,
        /// The repository where it is not the source's own.
        root: Option<RelPath>,
    },
    /// It does not, because of this.
    Ignore(String),
}

#[derive(Deserialize)]
struct Payload {
    #[serde(default)]
    r#ref: Value,
    #[serde(default)]
    after: Value,
    #[serde(default)]
    deleted: Value,
    #[serde(default)]
    head_commit: Value,
    #[serde(default)]
    repository: Value,
}

/// A payload that is an object: serde takes a list for a struct as well.
struct Object(Payload);

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Fields)
    }
}

struct Fields;

impl<'de> Visitor<'de> for Fields {
    type Value = Object;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object, A::Error> {
        Payload::deserialize(MapAccessDeserializer::new(map)).map(Object)
    }
}

impl Push {
    /// Reads the payload of a push as GitHub and Gitea send it. Fields of other types than theirs count as missing.
    ///
    /// # Errors
    /// It is not a JSON object.
    pub fn read(body: &[u8]) -> Result<Self, serde_json::Error> {
        // A list would be read as the fields in their order.
        let object: Object = serde_json::from_slice(body)?;
        let payload = object.0;
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let commit = |value: &Value| value.as_str().filter(|id| is_commit(id)).map(Revision::new);
        let is_tag = payload.r#ref.as_str().is_some_and(|name| name.starts_with("refs/tags/"));
        let head = payload.head_commit.get("id").and_then(commit);
        let after = commit(&payload.after);
        let repository = &payload.repository;
        let urls = ["clone_url", "ssh_url", "git_url", "html_url"];
        let urls = urls.into_iter().filter_map(|field| repository.get(field)?.as_str());
        let seconds = repository.get("pushed_at").and_then(Value::as_i64);
        Ok(Self {
            reference: text(&payload.r#ref),
            commit: if is_tag { head } else { after.or(head) },
            deleted: payload.deleted.as_bool().unwrap_or(false)
                || payload.after.as_str().is_some_and(is_nothing),
            repositories: urls.map(normalised).collect(),
            default_branch: repository.get("default_branch").and_then(text),
            pushed_at: seconds.map(|seconds| Timestamp(seconds.saturating_mul(1000))),
        })
    }

    /// Whether it concerns `source`, whose sets lead to the repositories `roots`.
    #[must_use]
    pub fn concern(&self, source: &SourceSpec, roots: &[RelPath]) -> Concern {
        let Origin::Git(own) = &source.origin else {
            return Concern::Ignore("the source is a directory".into());
        };
        if self.repositories.is_empty() {
            return Concern::Ignore("it names no repository".into());
        }
        let own = (None, own.clone());
        let others = roots.iter().filter_map(|root| match as_source(source, root)?.origin {
            Origin::Git(git) => Some((Some(root.clone()), git)),
            Origin::Local(_) => None,
        });
        let here: Vec<_> = std::iter::once(own)
            .chain(others)
            .filter(|(_, git)| self.repositories.contains(&normalised(&git.url)))
            .collect();
        if here.is_empty() {
            return Concern::Ignore("it is of another repository".into());
        }
        let mut why = String::new();
        for (root, git) in here {
            match self.follows(&git.reference) {
                Ok(commit) => return Concern::Follow { commit, root },
                Err(refusal) => why = refusal,
            }
        }
        Concern::Ignore(why)
    }

    /// The commit to wait for where the ref is the one that is followed.
    fn follows(&self, reference: &GitRef) -> Result<Option<Revision>, String> {
        let Some(name) = self.reference.as_deref() else { return Err("it names no ref".into()) };
        let (branch, tag) = (name.strip_prefix("refs/heads/"), name.strip_prefix("refs/tags/"));
        let is_followed = match reference {
            GitRef::Branch(wanted) => branch == Some(wanted.as_str()),
            GitRef::Tag(wanted) => tag == Some(wanted.as_str()),
            GitRef::Semver(_) => tag.is_some(),
            GitRef::Head => match &self.default_branch {
                Some(default) => branch == Some(default.as_str()),
                None => branch.is_some(),
            },
            GitRef::Commit(_) => return Err("the source follows one commit, which no push moves".into()),
        };
        match (is_followed, self.deleted) {
            (false, _) => Err("it is of another ref".into()),
            // The next lower version may have to take its place.
            (true, true) if matches!(reference, GitRef::Semver(_)) => Ok(None),
            (true, true) => Err("the ref was deleted".into()),
            // A version may be out of range or lower than the deployed one: it is not waited for.
            (true, false) if matches!(reference, GitRef::Semver(_)) => Ok(None),
            (true, false) => Ok(self.commit.clone()),
        }
    }

    /// Time from the push to `received`, as far as the payload tells; the provider's clock may differ from ours.
    #[must_use]
    pub fn delivered_after(&self, received: Timestamp) -> Option<Duration> {
        self.pushed_at
            .map(|pushed| received.since(pushed))
            .filter(|length| *length < Duration::from_hours(24))
    }
}

fn is_commit(id: &str) -> bool {
    check_commit(id).is_ok() && !is_nothing(id)
}

/// The id that stands for no commit.
fn is_nothing(id: &str) -> bool {
    !id.is_empty() && id.bytes().all(|byte| byte == b'0')
}

/// What two URLs of one repository have in common: no scheme, no user, no usual port, no `.git` and no slash at the end.
#[must_use]
pub fn normalised(url: &str) -> String {
    let (host, path) = match reach(url) {
        Ok(Reach::Ssh) => match SshUrl::parse(url) {
            Ok(ssh) => (place(&ssh.host, ssh.port), ssh.path),
            Err(_) => return url.to_owned(),
        },
        Ok(Reach::File) => (String::new(), url.strip_prefix("file://localhost").unwrap_or(url).to_owned()),
        Ok(Reach::Web { .. }) => with_authority(url, &[("https", "443"), ("http", "80")]),
        // What kindling does not fetch from can still name a repository.
        Err(_) => with_authority(url, &[("git", "9418")]),
    };
    let path = path.strip_prefix("file://").unwrap_or(&path).trim_matches('/');
    let path = path.strip_suffix(".git").unwrap_or(path).trim_end_matches('/');
    let is_caseless = CASELESS_HOSTS.contains(&host.as_str());
    if is_caseless { format!("{host}/{}", path.to_ascii_lowercase()) } else { format!("{host}/{path}") }
}

fn place(host: &str, port: Option<u16>) -> String {
    port.map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// Host with port, and path; the usual port of its scheme is left out.
fn with_authority(url: &str, usual: &[(&str, &str)]) -> (String, String) {
    let Some((scheme, rest)) = url.split_once("://") else { return (String::new(), url.to_owned()) };
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host).to_ascii_lowercase();
    let port = usual.iter().find(|(name, _)| scheme.eq_ignore_ascii_case(name)).map(|(_, port)| port);
    let host = port.and_then(|port| authority.strip_suffix(&format!(":{port}"))).unwrap_or(&authority);
    (host.to_owned(), path.to_owned())
}

#[cfg(test)]
mod tests;
