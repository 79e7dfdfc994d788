//! The observer of one ref of a git repository over file, http, https and ssh.
//!
//! The ref is fetched into a bare repository of our own, and trees and contents are read out of its object database:
//! there is no checkout. Sources that follow the same share that repository and its fetches. A poll that finds the ref
//! where it was does nothing else. Everything that may block runs on a thread with a deadline; one that is late is
//! abandoned, and nothing that it does afterwards is looked at. Never writes to the remote, never runs a hook, a filter
//! or a credential helper, never leaves the host that is configured.

mod barred;
mod credential;
mod error;
mod fetch;
mod history;
mod http;
mod job;
mod look;
mod near;
mod pack;
mod plain;
mod probe;
mod read;
mod recall;
mod reference;
mod remote;
mod shared;
mod slots;
mod ssh;
mod store;
mod tree;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use gix::ObjectId;
use tokio::runtime::Handle;
use tokio::time::{Instant, timeout_at};

use self::barred::Barred;
use self::error::{AUTHENTICATION_FAILED, Trouble};
use self::look::{Finding, Look, Request};
use self::probe::Probe;
use self::reference::Followed;
use self::remote::Remote;
use self::shared::{Round, Shared};
use super::{Ask, Hint, Observation, ObserveError, Reading, Sink, Source, Want};
use crate::config::repository;
use crate::model::path::RelPath;
use crate::model::source::{GitAuth, GitOrigin, Revision};
use crate::model::tree::{Changes, Tree};

pub(super) use self::error::chain;
pub use self::shared::Stores;
pub use self::slots::{SLOTS_PER_HOST, install_tls};

/// How long one look at a remote may take (DESIGN 4).
pub const FETCH_TIMEOUT: Duration = Duration::from_secs(60);

/// How long the first fetch of a repository may take once the remote has answered (DESIGN 4).
pub const CLONE_TIMEOUT: Duration = Duration::from_secs(15 * 60);

/// A remote that refuses us so often in a row needs a person: a server that is restarted refuses for a moment.
const MOST_REFUSALS: u32 = 3;

/// What a [`GitSource`] needs.
#[derive(Clone, Debug)]
pub struct GitOptions {
    /// What is followed.
    pub origin: GitOrigin,
    /// Shared by all sources of the service.
    pub stores: Stores,
    /// The deadline of a look at the remote; see [`FETCH_TIMEOUT`].
    pub fetch_timeout: Duration,
    /// The deadline of a first fetch; see [`CLONE_TIMEOUT`].
    pub clone_timeout: Duration,
}

/// One ref of a git repository.
#[derive(Debug)]
pub struct GitSource {
    /// As it is configured, or why that is refused.
    place: Result<Follow, Refusal>,
    path: RelPath,
    poll_interval: Duration,
    stores: Stores,
    fetch_timeout: Duration,
    clone_timeout: Duration,
    /// Threads of this source that read files and have not ended.
    reading: Arc<AtomicUsize>,
    seen: Option<Seen>,
    /// The last answer to whether a commit descends from the deployed one.
    descent: Option<Descent>,
    /// How often everything had been fetched again when it was looked at last.
    times_anew: u64,
    /// How often in a row the remote refused us.
    refusals: u32,
    /// The files that a person has to mend before another attempt is worth anything.
    barred: Option<Barred>,
}

/// What is followed, and our own repository that it is fetched into.
#[derive(Clone, Debug)]
struct Follow {
    place: Place,
    shared: Arc<Shared>,
}

/// What is followed, where, and as whom.
#[derive(Clone, Debug)]
struct Place {
    remote: Remote,
    followed: Followed,
    auth: Option<GitAuth>,
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
    /// Takes note of what is followed. Nothing is touched and nothing fails before the first observation.
    #[must_use]
    pub fn open(options: GitOptions) -> Self {
        let GitOptions { origin, stores, fetch_timeout, clone_timeout } = options;
        let follow = |place: Place| Follow { shared: stores.open(&place), place };
        Self {
            place: Place::parse(&origin).map(follow),
            path: origin.path,
            poll_interval: origin.poll_interval,
            stores,
            fetch_timeout,
            clone_timeout,
            reading: Arc::default(),
            seen: None,
            descent: None,
            times_anew: 0,
            refusals: 0,
            barred: None,
        }
    }

    /// Finds out where the ref is, and what is different there.
    async fn look(&self, follow: &Follow, deployed: Option<&Revision>) -> Result<Look, Trouble> {
        let Follow { place, shared } = follow;
        let (asked, until) = (Instant::now(), Instant::now() + self.fetch_timeout);
        let probed = self.probe(follow, until).await?;
        let (at, is_damaged) = {
            let notes = shared.notes();
            let led = notes.probed.filter(|(raw, _)| Some(*raw) == probed).map(|(_, commit)| commit);
            (place.pinned().or(led).or(probed), notes.is_damaged)
        };
        if let (Some(at), Some(seen)) = (at, &self.seen)
            && at == seen.commit
            && !is_damaged
            && let Some(rewritten) = self.known_descent(at, deployed)
        {
            // Not needed before the next commit, and a thousand sources would each keep one.
            shared.notes().repo = None;
            return Ok(Look::same(at, rewritten, probed));
        }
        // Whoever comes while another source fetches the same waits for it, the first fetch included.
        let patience = if shared.store.was_fetched() { until } else { asked + self.clone_timeout };
        let mut last = timeout_at(patience, shared.gate.lock()).await.map_err(|_| Trouble::TimedOut)?;
        let fetched = last.filter(|round| round.begun >= asked && !is_damaged).map(|round| round.commit);
        let begun = Instant::now();
        let until = begun + self.fetch_timeout;
        let mend = shared.notes().is_damaged;
        let order = Order { deployed, probed, fetched, reset: mend };
        let looked = match self.attempt(follow, order, until).await {
            Err(Trouble::StoreDamaged(why)) if !mend => {
                tracing::warn!(remote = %place.remote, why, "the local copy is damaged and fetched again");
                shared.notes().is_damaged = true;
                self.again(follow, deployed).await
            }
            Ok(look) if look.lacks_history && !shared.notes().needs_history => {
                shared.notes().needs_history = true;
                self.again(follow, deployed).await
            }
            done => done,
        };
        if let (Ok(look), None) = (&looked, fetched) {
            *last = Some(Round { begun, commit: look.commit });
        }
        looked
    }

    /// Throws our own repository away and fetches everything again.
    async fn again(&self, follow: &Follow, deployed: Option<&Revision>) -> Result<Look, Trouble> {
        let order = Order { deployed, probed: None, fetched: None, reset: true };
        self.attempt(follow, order, Instant::now() + self.fetch_timeout).await
    }

    /// Reads the ref of a repository on this machine; `None` where only a fetch can tell, or nothing needs to.
    async fn probe(&self, follow: &Follow, until: Instant) -> Result<Option<ObjectId>, Trouble> {
        let Follow { place, shared } = follow;
        let Remote::File(path) = &place.remote else { return Ok(None) };
        if place.pinned().is_some() {
            return Ok(None);
        }
        let (path, followed) = (path.clone(), place.followed.clone());
        match job::run(&shared.running, until, move |_| probe::look(&path, &followed)).await? {
            Probe::At(id) => Ok(Some(id)),
            Probe::Unsure => Ok(None),
            Probe::Gone => Err(Trouble::Unreachable("there is nothing at the path".to_owned())),
        }
    }

    /// Fetches where that is needed and reads what is different.
    async fn attempt(&self, follow: &Follow, order: Order<'_>, until: Instant) -> Result<Look, Trouble> {
        let Follow { place, shared } = follow;
        let Order { deployed, probed, fetched, reset } = order;
        let host = place.remote.host();
        let _slot = match fetched {
            Some(_) => None,
            None => {
                let slot = self.stores.slots().acquire(&host);
                timeout_at(until, slot).await.map_err(|_| Trouble::TimedOut)?
            }
        };
        let is_new = reset || (self.seen.is_none() && !shared.store.was_fetched());
        let (repo, needs_history) = {
            let mut notes = shared.notes();
            let is_fresh = (!notes.is_used || fetched.is_some()) && !reset;
            (notes.repo.take().filter(|_| is_fresh), notes.needs_history)
        };
        let request = Request {
            place: place.clone(),
            path: self.path.clone(),
            store: shared.store.clone(),
            repo,
            reset,
            probed,
            fetched,
            seen: self.seen.as_ref().map(|seen| (seen.commit, seen.root, seen.tree.len())),
            deployed: deployed.cloned(),
            known_descent: self.descent.clone(),
            shallow: deployed.is_none() && !needs_history,
            until: if is_new { Instant::now() + self.clone_timeout } else { until },
            stores: self.stores.clone(),
            runtime: Handle::current(),
        };
        let look = job::run(&shared.running, until, move |control| request.run(control)).await?;
        let mut notes = shared.notes();
        if is_new && let Err(Trouble::Fetch(why)) = &look {
            // A server that knows no depth is asked for everything. Nothing that is there is worth keeping.
            notes.needs_history |= why.contains("shallow");
            notes.is_damaged = true;
        }
        if let Ok(look) = &look {
            if reset {
                (notes.is_damaged, notes.mended) = (false, Some((look.commit, Instant::now())));
                (notes.lacks, notes.times_anew) = (false, notes.times_anew + 1);
            }
            if look.probed.is_some() {
                notes.probed = look.probed.map(|raw| (raw, look.commit));
            }
        }
        look
    }

    /// Puts the packs of many fetches together, beside everything else.
    fn tidy(&self, shared: &Arc<Shared>) {
        if !pack::is_due(&shared.store) {
            return;
        }
        let (shared, until) = (Arc::clone(shared), Instant::now() + self.clone_timeout);
        tokio::spawn(async move {
            let _fetching = shared.gate.lock().await;
            let store = shared.store.clone();
            let work = move |control: &job::Control| pack::consolidate(&store, control);
            let old = match job::run(&shared.running, until, work).await.map_err(Trouble::from) {
                Ok(Ok(old)) => old,
                Ok(Err(trouble)) | Err(trouble) => {
                    let error = trouble.report(&shared.store.path().display());
                    tracing::warn!("packs were not put together: {}", chain(&error));
                    return;
                }
            };
            // Whoever reads now has the old packs open; opened anew there is one in their place.
            // While somebody reads for long, both stay until the next time.
            let Ok(_reading) = shared.packs.try_write() else { return };
            shared.notes().repo = None;
            pack::remove(&old);
            tracing::debug!(count = old.len(), "packs were put together");
        });
    }

    /// Takes over what was found.
    fn accept(&mut self, look: Look, ask: Ask, deployed: Option<&Revision>) -> Observation {
        let Look { repo, commit, finding, rewritten, received, .. } = look;
        let times_anew = self.place.as_ref().map_or(0, |follow| follow.shared.notes().times_anew);
        let is_anew = std::mem::replace(&mut self.times_anew, times_anew) != times_anew;
        if let (Some(repo), Ok(Follow { shared, .. })) = (repo, &self.place) {
            {
                let mut notes = shared.notes();
                (notes.repo, notes.is_used) = (Some(repo), received);
            }
            if received {
                self.tidy(shared);
            }
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
        if ask == Ask::Rescan || is_anew {
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

/// What an attempt is to bring.
struct Order<'a> {
    deployed: Option<&'a Revision>,
    /// Where the ref was seen to be a moment ago.
    probed: Option<ObjectId>,
    /// What another source fetched since this one asked.
    fetched: Option<ObjectId>,
    /// Whether our own repository is thrown away first.
    reset: bool,
}

impl Place {
    fn parse(origin: &GitOrigin) -> Result<Self, Refusal> {
        let remote = Remote::parse(&origin.url)
            .map_err(|bad| Refusal { reason: "BadUrl", message: bad.to_string() })?;
        let followed =
            Followed::parse(&origin.reference).map_err(|(reason, message)| Refusal { reason, message })?;
        if let Some(why) = origin.auth.as_ref().and_then(|auth| repository::mismatch(auth, &origin.url)) {
            let message = format!("the credential for {remote} {why}");
            return Err(Refusal { reason: "BadCredential", message });
        }
        Ok(Self { remote, followed, auth: origin.auth.clone() })
    }

    /// The commit, where it can never be another one.
    fn pinned(&self) -> Option<ObjectId> {
        match self.followed {
            Followed::Commit(id) => Some(id),
            Followed::Head | Followed::Ref(_) | Followed::Highest(_) => None,
        }
    }
}

impl Source for GitSource {
    async fn observe(&mut self, ask: Ask, deployed: Option<Revision>) -> Result<Observation, ObserveError> {
        let follow = self.place.clone().map_err(|Refusal { reason, message }| ObserveError {
            reason,
            message,
            stalled: true,
            source: None,
        })?;
        self.barred = None;
        let ssh_dir = self.stores.ssh_dir();
        let files = Barred::before(&follow.place, ssh_dir, self.poll_interval).await;
        follow.shared.notes().mend_again(ask);
        let looked = self.look(&follow, deployed.as_ref()).await;
        let mut error = match looked {
            Ok(look) => {
                self.refusals = 0;
                return Ok(self.accept(look, ask, deployed.as_ref()));
            }
            Err(trouble) => trouble.report(&follow.place.remote),
        };
        if error.reason == AUTHENTICATION_FAILED {
            self.refusals = self.refusals.saturating_add(1);
            error.stalled = self.refusals >= MOST_REFUSALS;
        } else {
            self.refusals = 0;
        }
        self.barred = files.filter(|_| error.stalled);
        Err(error)
    }

    async fn recall(&mut self, revision: Option<Revision>) -> Result<Observation, ObserveError> {
        self.look_back(revision).await
    }

    async fn mended(&mut self) {
        match &mut self.barred {
            Some(barred) => barred.changed(self.poll_interval).await,
            None => std::future::pending().await,
        }
        self.refusals = 0;
    }

    async fn read(&mut self, wants: Vec<Want>, sink: Sink) -> Result<Vec<Reading>, ObserveError> {
        let (Some(seen), Ok(Follow { shared, .. })) = (&self.seen, &self.place) else {
            return Ok(read::nothing(wants));
        };
        let with_nodes = |want: Want| {
            let node = seen.tree.get(&want.path).copied();
            (want, node)
        };
        let wants: Vec<_> = wants.into_iter().map(with_nodes).collect();
        let until = Instant::now() + self.clone_timeout;
        // Kept by the thread, which may be late.
        let held = Arc::clone(&shared.packs).read_owned().await;
        let (repo, store) = (shared.notes().repo.clone(), shared.store.clone());
        let work = move |control: &job::Control| {
            let repo = repo.map_or_else(|| store.open(), Ok)?;
            let read = read::read(&repo.to_thread_local(), wants, &sink, || control.is_abandoned());
            drop(held);
            Ok::<_, Trouble>((repo, read))
        };
        let done = job::run(&self.reading, until, work).await.map_err(Trouble::from).and_then(|done| done);
        let mut notes = shared.notes();
        let shown = self.shown();
        let failed = |message: &str, source| ObserveError {
            reason: "ReadFailed",
            message: format!("{message} {shown}"),
            stalled: false,
            source: Some(source),
        };
        match done {
            Ok((repo, Ok(readings))) => {
                notes.lacks |= readings.damaged;
                // At once for a commit that is new: an object that the remote itself lacks would be missing again.
                notes.is_damaged |=
                    readings.damaged && notes.mended.is_none_or(|(commit, _)| commit != seen.commit);
                notes.repo = Some(repo);
                Ok(readings.all)
            }
            Ok((_, Err(error))) => Err(failed("cannot keep what was read from", Box::new(error))),
            Err(trouble) => {
                notes.is_damaged |= matches!(trouble, Trouble::StoreDamaged(_));
                Err(failed("cannot read from the copy of", Box::new(trouble.report(&shown))))
            }
        }
    }

    fn hint(&mut self) -> impl Future<Output = Hint> + Send {
        std::future::pending()
    }

    async fn leads_to(&mut self, old: &Revision, new: &Revision) -> bool {
        if old == new {
            return true;
        }
        let id = |revision: &Revision| ObjectId::from_hex(revision.as_str().as_bytes()).ok();
        let (Some(old), Some(new), Ok(Follow { shared, .. })) = (id(old), id(new), &self.place) else {
            return false;
        };
        let (repo, store) = (shared.notes().repo.clone(), shared.store.clone());
        let held = Arc::clone(&shared.packs).read_owned().await;
        let work = move |control: &job::Control| {
            let repo = repo.map_or_else(|| store.open(), Ok).ok()?.to_thread_local();
            let leads = history::is_ancestor(&repo.objects, old, new, control.interrupted());
            drop(held);
            Some(leads)
        };
        let until = Instant::now() + self.fetch_timeout;
        matches!(job::run(&self.reading, until, work).await, Ok(Some(true)))
    }

    async fn forget(&mut self) {
        let gone = Refusal { reason: "Forgotten", message: "it is followed no more".to_owned() };
        let Ok(Follow { shared, .. }) = std::mem::replace(&mut self.place, Err(gone)) else { return };
        let stores = self.stores.clone();
        let removed = tokio::task::spawn_blocking(move || stores.give_back(shared)).await;
        if let Ok(Err(error)) = removed {
            tracing::warn!("what was fetched for a source that is gone stays: {error}");
        }
    }
}

impl GitSource {
    fn shown(&self) -> String {
        self.place.as_ref().map_or_else(|_| String::new(), |follow| follow.place.remote.to_string())
    }
}
