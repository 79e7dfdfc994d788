//! The world in: what a source's tree is now. Adapters only; nothing is decided here.

pub mod file;
pub mod git;
pub mod local;
pub mod relay;

use std::future::Future;
use std::io;
use std::sync::Arc;

use crate::model::hash::ContentHash;
use crate::model::path::RelPath;
use crate::model::source::Revision;
use crate::model::tree::{Changes, Content, Tree};

/// How closely to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Only where hints pointed since the observation before.
    Hinted,
    /// Everything, trusting equal stamps: a full `lstat` of a local tree, a fetch of a repository.
    Full,
    /// Everything, trusting no stamp: every file counts as changed.
    Rescan,
}

/// A source's tree at one moment.
#[derive(Clone, Debug)]
pub struct Observation {
    /// The tree.
    pub tree: Arc<Tree>,
    /// What is not as at the observation before by the same [`Source`]; [`Changes::All`] at the first.
    pub changes: Changes,
    /// The commit; `None` from a local directory.
    pub revision: Option<Revision>,
    /// Whether the commit does not descend from the one that was given as deployed.
    pub rewritten: bool,
}

/// A file to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Want {
    /// Which one.
    pub path: RelPath,
    /// Whether its bytes are wanted back, and not only its hash.
    pub bytes: bool,
    /// More than this many bytes are refused unread.
    pub max: u64,
}

/// A file that was read once: the hash, what went to the sink and `bytes` are of the same bytes.
#[derive(Clone, Debug)]
pub struct Reading {
    /// Which one.
    pub path: RelPath,
    /// What it holds.
    pub content: Result<Content, ReadRefusal>,
    /// Its bytes where they were wanted.
    pub bytes: Option<Arc<[u8]>>,
}

/// Why one file could not be read. The others are read all the same.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadRefusal {
    /// It is gone since the tree was observed.
    #[error("it is gone")]
    Gone,
    /// It was written to each time that it was read.
    #[error("it changes while it is read")]
    Moving,
    /// It is larger than was allowed.
    #[error("it has {size} bytes, more than the {max} allowed")]
    TooLarge {
        /// Its size in bytes.
        size: u64,
        /// The limit in bytes.
        max: u64,
    },
    /// The system refused.
    #[error("{0}")]
    Failed(String),
}

/// Takes the bytes of each file that is read, with their hash.
pub type Sink = Arc<dyn Fn(&ContentHash, &[u8]) -> io::Result<()> + Send + Sync>;

/// A path that something happened to, relative to the source's path as far as it can be told; only a hint of where
/// to look first.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Hint(pub String);

/// One source's view of the world. Its calls are made one after another.
pub trait Source: Send + 'static {
    /// Looks at the tree. `deployed` is the commit that is deployed, to tell a rewritten branch.
    fn observe(
        &mut self,
        ask: Ask,
        deployed: Option<Revision>,
    ) -> impl Future<Output = Result<Observation, ObserveError>> + Send;

    /// The tree at a commit that was observed before, or at the one that was fetched last, as far as it is kept on this
    /// machine: nobody else is asked. It counts as the tree that was observed last.
    fn recall(
        &mut self,
        revision: Option<Revision>,
    ) -> impl Future<Output = Result<Observation, ObserveError>> + Send {
        let message = match revision {
            Some(revision) => format!("commit {} is not kept here", revision.short()),
            None => "nothing of it is kept here".to_owned(),
        };
        std::future::ready(Err(ObserveError { reason: "CommitGone", message, stalled: false, source: None }))
    }

    /// Waits until a file is another one without which trying again is useless, such as a credential's; for ever where
    /// the last observation did not end so. Cancel safe.
    fn mended(&mut self) -> impl Future<Output = ()> + Send {
        std::future::pending()
    }

    /// Reads files of the tree that was observed last; answers in the order of `wants`. Every content that is read
    /// goes to `sink` first; a sink that fails fails the call.
    fn read(
        &mut self,
        wants: Vec<Want>,
        sink: Sink,
    ) -> impl Future<Output = Result<Vec<Reading>, ObserveError>> + Send;

    /// Waits for the next hint; for ever where there are none. Cancel safe.
    fn hint(&mut self) -> impl Future<Output = Hint> + Send;

    /// Whether the commit `new` is `old` or descends from it, as far as what was fetched tells.
    fn leads_to(&mut self, old: &Revision, new: &Revision) -> impl Future<Output = bool> + Send {
        let is_same = old == new;
        async move { is_same }
    }

    /// Takes note that nothing follows it any more: what was kept for it alone may go.
    fn forget(&mut self) -> impl Future<Output = ()> + Send {
        async {}
    }

    /// Whether somebody is in the middle of a larger change (git holds its index lock, younger than 5 s).
    fn is_busy(&self) -> bool {
        false
    }

    /// What limits the observer at the moment (the watch limit is reached), with the command that mends it.
    fn warning(&self) -> Option<String> {
        None
    }
}

/// A source of any kind, as the service has them.
pub enum AnySource {
    /// A ref of a git repository.
    Git(Box<git::GitSource>),
    /// A directory of this machine.
    Local(Box<local::LocalSource>),
}

impl Source for AnySource {
    async fn observe(&mut self, ask: Ask, deployed: Option<Revision>) -> Result<Observation, ObserveError> {
        match self {
            Self::Git(source) => source.observe(ask, deployed).await,
            Self::Local(source) => source.observe(ask, deployed).await,
        }
    }

    async fn recall(&mut self, revision: Option<Revision>) -> Result<Observation, ObserveError> {
        match self {
            Self::Git(source) => source.recall(revision).await,
            Self::Local(source) => source.recall(revision).await,
        }
    }

    async fn mended(&mut self) {
        match self {
            Self::Git(source) => source.mended().await,
            Self::Local(source) => source.mended().await,
        }
    }

    async fn read(&mut self, wants: Vec<Want>, sink: Sink) -> Result<Vec<Reading>, ObserveError> {
        match self {
            Self::Git(source) => source.read(wants, sink).await,
            Self::Local(source) => source.read(wants, sink).await,
        }
    }

    async fn hint(&mut self) -> Hint {
        match self {
            Self::Git(source) => source.hint().await,
            Self::Local(source) => source.hint().await,
        }
    }

    async fn leads_to(&mut self, old: &Revision, new: &Revision) -> bool {
        match self {
            Self::Git(source) => source.leads_to(old, new).await,
            Self::Local(source) => source.leads_to(old, new).await,
        }
    }

    async fn forget(&mut self) {
        match self {
            Self::Git(source) => source.forget().await,
            Self::Local(source) => source.forget().await,
        }
    }

    fn is_busy(&self) -> bool {
        match self {
            Self::Git(source) => source.is_busy(),
            Self::Local(source) => source.is_busy(),
        }
    }

    fn warning(&self) -> Option<String> {
        match self {
            Self::Git(source) => source.warning(),
            Self::Local(source) => source.warning(),
        }
    }
}

/// The reason word where the sink of [`Source::read`] fails: the source is well, the store is not.
pub const STORE_FAILED: &str = "StoreFailed";

/// Why a source could not be observed.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct ObserveError {
    /// A word in CamelCase for conditions, such as `RootMissing`.
    pub reason: &'static str,
    /// What failed, with its path or URL, without any credential.
    pub message: String,
    /// Whether a person is needed: nothing is tried again until something changes.
    pub stalled: bool,
    /// Why.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}
