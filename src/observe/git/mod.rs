//! The observer of one branch of a git repository over file, http and https.
//!
//! The branch is fetched into a bare repository of our own, and trees and contents are read out of its object
//! database: there is no checkout. A poll that finds the ref where it was does nothing else. Everything that may
//! block runs on a thread with a deadline; one that is late is abandoned, and nothing that it does afterwards is
//! looked at. Never writes to the remote, never runs a hook, a filter or a credential helper, never leaves the host
//! that is configured.

mod error;
mod fetch;
mod history;
mod http;
mod job;
mod look;
mod probe;
mod read;
mod remote;
mod slots;
mod store;
mod tree;

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use gix::refs::FullName;
use gix::{ObjectId, ThreadSafeRepository};
use tokio::runtime::Handle;
use tokio::time::{Instant, timeout_at};

use self::error::Trouble;
use self::look::{Finding, Look, Request};
use self::probe::Probe;
use self::remote::Remote;
use self::store::Store;
use super::{Ask, Hint, Observation, ObserveError, Reading, Sink, Source, Want};
use crate::model::path::RelPath;
use crate::model::source::{GitOrigin, GitRef, Revision};
use crate::model::tree::{Changes, Tree};

pub use self::slots::{HostSlots, SLOTS_PER_HOST, install_tls};

/// How long one look at a remote may take (DESIGN 4).
pub const FETCH_TIMEOUT: Duration = Duration::from_secs(60);

/// How long the first fetch of a repository may take once the remote has answered (DESIGN 4).
pub const CLONE_TIMEOUT: Duration = Duration::from_secs(15 * 60);

/// What a [`GitSource`] needs.
#[derive(Clone, Debug)]
pub struct GitOptions {
    /// The branch.
    pub origin: GitOrigin,
    /// The folder of the bare repository, inside the data directory; made when first used, for its owner only.
    pub store: PathBuf,
    /// The deadline of a look at the remote; see [`FETCH_TIMEOUT`].
    pub fetch_timeout: Duration,
    /// The deadline of a first fetch; see [`CLONE_TIMEOUT`].
    pub clone_timeout: Duration,
    /// Shared by all sources of the service.
    pub slots: HostSlots,
}

/// One branch of a git repository.
#[derive(Debug)]
pub struct GitSource {
    /// As it is configured, or why that is refused.
    place: Result<Place, Refusal>,
    path: RelPath,
    store: Store,
    fetch_timeout: Duration,
    clone_timeout: Duration,
    slots: HostSlots,
    /// Threads of this source that look at the remote and have not ended.
    running: Arc<AtomicUsize>,
    /// Threads of this source that read files and have not ended.
    reading: Arc<AtomicUsize>,
    seen: Option<Seen>,
    /// Our own repository, opened. Replaced after each fetch: one handle has room for a limited number of packs.
    repo: Option<ThreadSafeRepository>,
    /// Whether `repo` saw a fetch.
    is_used: bool,
    /// The last answer to whether a commit descends from the deployed one.
    descent: Option<Descent>,
    /// The first fetch is to bring the whole history: one without it failed.
    needs_history: bool,
    /// Our own repository lacks something: fetch everything again.
    is_damaged: bool,
    /// The commit for which that was done last.
    mended: Option<ObjectId>,
}

#[derive(Clone, Debug)]
struct Place {
    remote: Remote,
    branch: Option<FullName>,
}

#[derive(Clone, Debug)]
struct Refusal {
    reason: &'static str,
    message: String,
}

#[derive(Debug)]
struct Seen {
    commit: ObjectId,
    /// The directory at the source's path.
    root: ObjectId,
    tree: Arc<Tree>,
}

#[derive(Clone, Debug)]
struct Descent {
    commit: ObjectId,
    deployed: Revision,
    rewritten: bool,
}

impl GitSource {
    /// Takes note of the branch. Nothing is touched and nothing fails before the first observation.
    #[must_use]
    pub fn open(options: GitOptions) -> Self {
        let GitOptions { origin, store, fetch_timeout, clone_timeout, slots } = options;
        Self {
            place: Place::parse(&origin),
            path: origin.path,
            store: Store::at(store),
            fetch_timeout,
            clone_timeout,
            slots,
            running: Arc::default(),
            reading: Arc::default(),
            seen: None,
            repo: None,
            is_used: false,
            descent: None,
            needs_history: false,
            is_damaged: false,
            mended: None,
        }
    }

    /// Finds out where the branch is, and what is different there.
    async fn look(&mut self, place: &Place, deployed: Option<&Revision>) -> Result<Look, Trouble> {
        let until = Instant::now() + self.fetch_timeout;
        let probed = self.probe(place, until).await?;
        if let (Some(at), Some(seen)) = (probed, &self.seen)
            && at == seen.commit
            && !self.is_damaged
            && let Some(rewritten) = self.known_descent(at, deployed)
        {
            // Not needed before the next commit, and a thousand sources would each keep one.
            self.repo = None;
            return Ok(Look { repo: None, commit: at, finding: Finding::Same, rewritten, received: false });
        }
        let mend = self.is_damaged;
        match self.attempt(place, deployed, probed, mend, until).await {
            Err(Trouble::StoreDamaged(why)) if !mend => {
                tracing::warn!(remote = %place.remote, why, "the local copy is damaged and fetched again");
                self.is_damaged = true;
                let until = Instant::now() + self.fetch_timeout;
                self.attempt(place, deployed, None, true, until).await
            }
            done => done,
        }
    }

    /// Reads the ref of a repository on this machine; `None` where only a fetch can tell.
    async fn probe(&self, place: &Place, until: Instant) -> Result<Option<ObjectId>, Trouble> {
        let Remote::File(path) = &place.remote else { return Ok(None) };
        let (path, branch) = (path.clone(), place.branch.clone());
        match job::run(&self.running, until, move |_| probe::look(&path, branch.as_ref())).await? {
            Probe::At(commit) => Ok(Some(commit)),
            Probe::Unsure => Ok(None),
            Probe::Gone => Err(Trouble::Unreachable("there is nothing at the path".to_owned())),
        }
    }

    /// Fetches where that is needed and reads what is different.
    async fn attempt(
        &mut self,
        place: &Place,
        deployed: Option<&Revision>,
        probed: Option<ObjectId>,
        reset: bool,
        until: Instant,
    ) -> Result<Look, Trouble> {
        let host = place.remote.host();
        let _slot = timeout_at(until, self.slots.acquire(&host)).await.map_err(|_| Trouble::TimedOut)?;
        let repo = self.repo.take().filter(|_| !self.is_used && !reset);
        let is_new = reset || (self.seen.is_none() && !self.store.was_fetched());
        let request = Request {
            place: place.clone(),
            path: self.path.clone(),
            store: self.store.clone(),
            repo,
            reset,
            probed,
            seen: self.seen.as_ref().map(|seen| (seen.commit, seen.root, seen.tree.len())),
            deployed: deployed.cloned(),
            known_descent: self.descent.clone(),
            shallow: deployed.is_none() && !self.needs_history,
            until: if is_new { Instant::now() + self.clone_timeout } else { until },
            slots: self.slots.clone(),
            runtime: Handle::current(),
        };
        let look = job::run(&self.running, until, move |control| request.run(control)).await?;
        if is_new && let Err(Trouble::Fetch(why)) = &look {
            // A server that knows no depth is asked for everything. Nothing that is there is worth keeping.
            self.needs_history |= why.contains("shallow");
            self.is_damaged = true;
        }
        if reset && let Ok(look) = &look {
            (self.is_damaged, self.mended) = (false, Some(look.commit));
        }
        look
    }

    /// Takes over what was found.
    fn accept(&mut self, look: Look, ask: Ask, deployed: Option<&Revision>) -> Observation {
        let Look { repo, commit, finding, rewritten, received } = look;
        if repo.is_some() {
            (self.repo, self.is_used) = (repo, received);
        }
        let mut changes = Changes::none();
        match (finding, &mut self.seen) {
            (Finding::Differs { root, delta }, Some(seen)) => {
                changes = Changes::Paths(delta.apply(Arc::make_mut(&mut seen.tree)));
                (seen.commit, seen.root) = (commit, root);
            }
            (Finding::Whole { root, tree }, seen) => {
                changes = Changes::All;
                *seen = Some(Seen { commit, root, tree: Arc::new(tree) });
            }
            (Finding::Same, Some(seen)) => seen.commit = commit,
            // Both need a tree to differ from, and are only found where there is one.
            (Finding::Same | Finding::Differs { .. }, None) => {}
        }
        if ask == Ask::Rescan {
            changes = Changes::All;
        }
        if let Some(deployed) = deployed {
            self.descent = Some(Descent { commit, deployed: deployed.clone(), rewritten });
        }
        let tree = self.seen.as_ref().map(|seen| Arc::clone(&seen.tree)).unwrap_or_default();
        let revision = Some(Revision::new(&commit.to_string()));
        Observation { tree, changes, revision, rewritten }
    }

    fn known_descent(&self, commit: ObjectId, deployed: Option<&Revision>) -> Option<bool> {
        let Some(deployed) = deployed else { return Some(false) };
        look::known_descent(self.descent.as_ref(), commit, deployed)
    }
}

impl Place {
    fn parse(origin: &GitOrigin) -> Result<Self, Refusal> {
        let remote = Remote::parse(&origin.url)
            .map_err(|bad| Refusal { reason: "BadUrl", message: bad.to_string() })?;
        let branch = match &origin.reference {
            GitRef::Head => None,
            GitRef::Tag(_) | GitRef::Semver(_) | GitRef::Commit(_) => {
                return Err(Refusal { reason: "BadBranch", message: "only branches are followed".into() });
            }
            GitRef::Branch(branch) => Some(full_name(branch).ok_or_else(|| Refusal {
                reason: "BadBranch",
                message: format!("`{}` is no name of a branch", branch.escape_debug()),
            })?),
        };
        Ok(Self { remote, branch })
    }
}

/// The ref of a branch; `None` if git would not accept the name.
fn full_name(branch: &str) -> Option<FullName> {
    if branch.starts_with('-') {
        return None;
    }
    FullName::try_from(format!("refs/heads/{branch}")).ok()
}

impl Source for GitSource {
    async fn observe(&mut self, ask: Ask, deployed: Option<Revision>) -> Result<Observation, ObserveError> {
        let place = self.place.clone().map_err(|Refusal { reason, message }| ObserveError {
            reason,
            message,
            stalled: true,
            source: None,
        })?;
        match self.look(&place, deployed.as_ref()).await {
            Ok(look) => Ok(self.accept(look, ask, deployed.as_ref())),
            Err(trouble) => Err(trouble.report(&place.remote)),
        }
    }

    async fn read(&mut self, wants: Vec<Want>, sink: Sink) -> Result<Vec<Reading>, ObserveError> {
        let Some(seen) = &self.seen else { return Ok(read::nothing(wants)) };
        let with_nodes = |want: Want| {
            let node = seen.tree.get(&want.path).copied();
            (want, node)
        };
        let wants: Vec<_> = wants.into_iter().map(with_nodes).collect();
        let (repo, store) = (self.repo.clone(), self.store.clone());
        let work = move |control: &job::Control| {
            let repo = repo.map_or_else(|| store.open(), Ok)?;
            let read = read::read(&repo.to_thread_local(), wants, &sink, || control.is_abandoned());
            Ok::<_, Trouble>((repo, read))
        };
        let until = Instant::now() + self.clone_timeout;
        let done = job::run(&self.reading, until, work).await.map_err(Trouble::from).and_then(|done| done);
        let shown = self.shown();
        let failed = |message: &str, source| ObserveError {
            reason: "ReadFailed",
            message: format!("{message} {shown}"),
            stalled: false,
            source: Some(source),
        };
        match done {
            Ok((repo, Ok(readings))) => {
                // Once for a commit: an object that the remote itself lacks would be missing again.
                self.is_damaged |=
                    readings.damaged && self.mended != self.seen.as_ref().map(|seen| seen.commit);
                self.repo = Some(repo);
                Ok(readings.all)
            }
            Ok((_, Err(error))) => Err(failed("cannot keep what was read from", Box::new(error))),
            Err(trouble) => {
                self.is_damaged |= matches!(trouble, Trouble::StoreDamaged(_));
                Err(failed("cannot read from the copy of", Box::new(trouble.report(&shown))))
            }
        }
    }

    fn hint(&mut self) -> impl Future<Output = Hint> + Send {
        std::future::pending()
    }
}

impl GitSource {
    fn shown(&self) -> String {
        self.place.as_ref().map_or_else(|_| String::new(), |place| place.remote.to_string())
    }
}
