//! Sources: where desired state comes from.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::id::SourceName;
use super::path::RelPath;
use super::time::Timestamp;

/// A source as it is configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceSpec {
    /// Its name.
    pub name: SourceName,
    /// Where its tree comes from.
    pub origin: Origin,
    /// What its units may ask for. Nothing in the source itself can widen it.
    pub allow: Allow,
}

/// What the units of a source may ask for (DESIGN 4, Trust). Written only in kindling.yaml.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allow {
    /// Variables of kindling's own environment that runs may be given.
    pub env: Vec<String>,
    /// Hosts beside the source's own that nested repositories may come from.
    pub hosts: Vec<String>,
}

/// Where a source's tree comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A ref of a git repository.
    Git(GitOrigin),
    /// A directory of this machine.
    Local(LocalOrigin),
}

impl Origin {
    /// `git` or `local`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Git(_) => "git",
            Self::Local(_) => "local",
        }
    }
}

/// A ref of a git repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GitOrigin {
    /// `file:`, `http:`, `https:` or `ssh:` URL, or an absolute path, without credentials.
    pub url: String,
    /// What of it is followed.
    pub reference: GitRef,
    /// The directory of the repository that holds the units.
    pub path: RelPath,
    /// Time between two polls, before jitter.
    pub poll_interval: Duration,
    /// How the remote is told who asks.
    pub auth: Option<GitAuth>,
    /// What is done when the new commit does not descend from the deployed one.
    pub rewrite: Rewrite,
}

/// What of a repository is followed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum GitRef {
    /// The branch that the remote's HEAD names.
    #[default]
    Head,
    /// A branch.
    Branch(String),
    /// A tag.
    Tag(String),
    /// The tag with the highest version in this range, such as `>=1.2, <2`.
    Semver(String),
    /// A commit, by its full id.
    Commit(String),
}

/// How a remote is told who asks. Names where the secret is, never the secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GitAuth {
    /// A token in a variable of kindling's environment.
    TokenEnv(String),
    /// A token in a file.
    TokenFile(PathBuf),
    /// A private key for ssh in a file.
    SshKeyFile(PathBuf),
}

/// What is done when a branch was rewritten.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rewrite {
    /// The new commit is deployed, and marked.
    #[default]
    Follow,
    /// A person is asked first.
    Guard,
}

/// The default time between two polls of a repository (DESIGN 4).
pub const DEFAULT_POLL_INTERVAL: Duration = Duration::from_secs(30);

/// A directory of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalOrigin {
    /// Absolute.
    pub path: PathBuf,
    /// A window that the user set: a change is acted on after this long without another one. `None` for the
    /// adaptive window.
    pub debounce: Option<Duration>,
}

/// A commit id in hexadecimal digits.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(Arc<str>);

impl Revision {
    /// Takes a full commit id.
    #[must_use]
    pub fn new(commit: &str) -> Self {
        Self(Arc::from(commit))
    }

    /// The full id.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first 8 digits, as tables show it.
    #[must_use]
    pub fn short(&self) -> &str {
        self.0.get(..8).unwrap_or(&self.0)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.short())
    }
}

/// Who brought a source in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Declared {
    /// The configuration file.
    File,
    /// `kindling source add`.
    Command,
}

/// Dev mode: the tree of a git source is taken from a working copy for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dev {
    /// The directory that stands for the source's `path`; absolute.
    pub path: Arc<str>,
    /// Since when.
    pub since: Timestamp,
    /// When it ends by itself.
    pub until: Option<Timestamp>,
}

/// Last seen, last attempted and last deployed are separate facts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Revisions {
    /// The newest that was fetched.
    pub seen: Option<Revision>,
    /// The newest that a pass decided on.
    pub attempted: Option<Revision>,
    /// The newest of which every unit took effect.
    pub deployed: Option<Revision>,
}
