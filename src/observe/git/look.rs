//! One attempt, on its own thread: opens our own repository, fetches, and reads what is different.

use gix::objs::{CommitRefIter, Kind};
use gix::{ObjectId, Repository, ThreadSafeRepository};
use tokio::runtime::Handle;
use tokio::time::Instant;

use super::error::Trouble;
use super::fetch::Fetch;
use super::job::Control;
use super::near::{self, Left};
use super::remote::Remote;
use super::shared::Stores;
use super::store::{self, Store};
use super::tree::{Delta, Trees};
use super::{Descent, Place, history};
use crate::model::path::RelPath;
use crate::model::source::Revision;
use crate::model::tree::Tree;

/// What an attempt is to do. It owns all that it needs, so that it can be abandoned.
pub(super) struct Request {
    pub(super) place: Place,
    pub(super) path: RelPath,
    pub(super) store: Store,
    /// Our own repository, if it is open.
    pub(super) repo: Option<ThreadSafeRepository>,
    /// Whether our own repository is thrown away first.
    pub(super) reset: bool,
    /// Where the ref was seen to be a moment ago; for a tag this may be the tag's own object.
    pub(super) probed: Option<ObjectId>,
    /// What another source fetched since this one asked.
    pub(super) fetched: Option<ObjectId>,
    /// What was observed last: the commit, its directory at `path` and the number of paths there.
    pub(super) seen: Option<(ObjectId, ObjectId, usize)>,
    pub(super) deployed: Option<Revision>,
    pub(super) known_descent: Option<Descent>,
    /// Whether a first fetch leaves the history out.
    pub(super) shallow: bool,
    /// The deadline once the remote has answered.
    pub(super) until: Instant,
    pub(super) stores: Stores,
    pub(super) runtime: Handle,
}

/// What an attempt found.
pub(super) struct Look {
    /// Our own repository, open; `None` where it was not needed.
    pub(super) repo: Option<ThreadSafeRepository>,
    /// The commit that is followed.
    pub(super) commit: ObjectId,
    pub(super) finding: Finding,
    /// Whether the commit does not descend from the deployed one.
    pub(super) rewritten: bool,
    /// Whether that is only so because our own repository has no history.
    pub(super) lacks_history: bool,
    /// Whether something was fetched.
    pub(super) received: bool,
    /// Where the ref was seen to be, if that leads to the commit.
    pub(super) probed: Option<ObjectId>,
}

/// How the tree differs from the one that was observed last.
pub(super) enum Finding {
    /// Not at all.
    Same,
    /// By this.
    Differs { root: ObjectId, delta: Delta },
    /// Nothing is known of an earlier one.
    Whole { root: ObjectId, tree: Tree },
}

impl Look {
    /// Nothing is different, and nothing had to be opened to find that out.
    pub(super) fn same(commit: ObjectId, rewritten: bool, probed: Option<ObjectId>) -> Self {
        let (lacks_history, received) = (false, false);
        Self { repo: None, commit, finding: Finding::Same, rewritten, lacks_history, received, probed }
    }
}

impl Request {
    /// Does it.
    pub(super) fn run(mut self, control: &Control) -> Result<Look, Trouble> {
        if self.reset {
            self.store.reset()?;
        }
        let repo = match self.repo.take() {
            Some(repo) => repo,
            None => self.store.prepare()?,
        };
        let here = repo.to_thread_local();
        let have = store::live(&here)?;
        let commit = match self.fetched {
            Some(commit) => commit,
            None => self.commit(&here, have, control)?,
        };
        let finding = self.finding(&here, commit, control)?;
        let rewritten = self.is_rewritten(&here, commit, control);
        let lacks_history = rewritten && self.lacks_history(&here);
        let leads = |raw: &ObjectId| matches!(store::peel(&here, *raw), Ok(Some(at)) if at == commit);
        let (received, probed) = (have != Some(commit), self.probed.filter(leads));
        Ok(Look { repo: Some(repo), commit, finding, rewritten, lacks_history, received, probed })
    }

    /// The commit that is followed, fetched unless it is here.
    fn commit(
        &self,
        repo: &Repository,
        have: Option<ObjectId>,
        control: &Control,
    ) -> Result<ObjectId, Trouble> {
        if let (Some(commit), Some(raw)) = (have, self.place.pinned().or(self.probed))
            && store::peel(repo, raw)? == Some(commit)
        {
            return Ok(commit);
        }
        let attempt = store::next_attempt();
        let damaged = match self.copied(repo, have, attempt, control) {
            Ok(commit) => return Ok(commit),
            Err(Left::Damaged(id)) => Some(id),
            Err(Left::Fetch) => None,
        };
        let fetch = Fetch {
            repo,
            store: &self.store,
            place: &self.place,
            have,
            shallow: self.shallow && have.is_none(),
            until: self.until,
            attempt,
            ssh_dir: self.stores.ssh_dir(),
            slots: self.stores.slots(),
            runtime: &self.runtime,
            control,
        };
        let told = |trouble| match (trouble, damaged) {
            (Trouble::Fetch(_), Some(id)) => {
                Trouble::Fetch(format!("its object {id} is damaged or missing: `git fsck` in it says more"))
            }
            (trouble, _) => trouble,
        };
        let commit = fetch.run().map_err(|trouble| told(blame(repo, have, trouble)))?;
        if have != Some(commit) {
            // What is no commit is not built upon.
            tree_of(repo, commit)?;
            if !control.is_abandoned() {
                self.store.settle(attempt, commit);
            }
        }
        Ok(commit)
    }

    /// The commit at the ref that was seen a moment ago in a repository on this machine, if it leads to what is here.
    fn copied(
        &self,
        repo: &Repository,
        have: Option<ObjectId>,
        attempt: u64,
        control: &Control,
    ) -> Result<ObjectId, Left> {
        let (Remote::File(path), Some(seen), Some(have)) = (&self.place.remote, self.probed, have) else {
            return Err(Left::Fetch);
        };
        // Nothing is built upon what cannot be read: a fetch finds out what is wrong with it.
        check(repo, have).map_err(|_| Left::Fetch)?;
        let commit = near::copy(path, seen, repo, &self.store, attempt, control)?;
        if !control.is_abandoned() {
            self.store.settle(attempt, commit);
        }
        Ok(commit)
    }

    fn finding(&self, repo: &Repository, commit: ObjectId, control: &Control) -> Result<Finding, Trouble> {
        if self.seen.is_some_and(|(seen, ..)| seen == commit) && !self.reset {
            return Ok(Finding::Same);
        }
        let trees = || Trees::new(&repo.objects, control.interrupted());
        let top = tree_of(repo, commit)?;
        let root = trees().find_dir(top, &self.path)?;
        let root = root.ok_or_else(|| Trouble::PathMissing { commit, path: self.path.clone() })?;
        if let Some((_, old, size)) = self.seen {
            match trees().delta(old, root, size) {
                Ok(delta) => return Ok(Finding::Differs { root, delta }),
                Err(Trouble::TimedOut) => return Err(Trouble::TimedOut),
                // The older tree may be gone with a repository that was thrown away, or be too large to count.
                Err(_) => {}
            }
        }
        Ok(Finding::Whole { root, tree: trees().whole(root)? })
    }

    /// Whether the deployed commit is not here, and it was never asked for all that leads to the newest one.
    fn lacks_history(&self, repo: &Repository) -> bool {
        let old = self.deployed.as_ref().and_then(|old| ObjectId::from_hex(old.as_str().as_bytes()).ok());
        old.is_some_and(|old| repo.is_shallow().unwrap_or(false) && !repo.has_object(old))
    }

    fn is_rewritten(&self, repo: &Repository, commit: ObjectId, control: &Control) -> bool {
        let Some(deployed) = &self.deployed else { return false };
        known_descent(self.known_descent.as_ref(), commit, deployed).unwrap_or_else(|| {
            // A revision that is no id was not recorded from git: nothing descends from it.
            let Ok(old) = ObjectId::from_hex(deployed.as_str().as_bytes()) else { return true };
            !history::is_ancestor(&repo.objects, old, commit, control.interrupted())
        })
    }
}

/// The directory at `path` of a commit that was fetched before, with its tree; nothing is fetched.
pub(super) fn recall(
    repo: &Repository,
    commit: ObjectId,
    path: &RelPath,
    control: &Control,
) -> Result<(ObjectId, Tree), Trouble> {
    let trees = || Trees::new(&repo.objects, control.interrupted());
    let root = trees().find_dir(tree_of(repo, commit)?, path)?;
    let root = root.ok_or_else(|| Trouble::PathMissing { commit, path: path.clone() })?;
    Ok((root, trees().whole(root)?))
}

/// Whether `commit` was rewritten, as far as that needs no look at the history.
pub(super) fn known_descent(known: Option<&Descent>, commit: ObjectId, deployed: &Revision) -> Option<bool> {
    if commit == deployed.as_str() {
        return Some(false);
    }
    let known = known.filter(|known| known.commit == commit && known.deployed == *deployed);
    known.map(|known| known.rewritten)
}

/// A fetch also fails when our own repository is damaged, and gix does not say which it was.
fn blame(repo: &Repository, have: Option<ObjectId>, trouble: Trouble) -> Trouble {
    let (Trouble::Fetch(_), Some(have)) = (&trouble, have) else { return trouble };
    match check(repo, have) {
        Err(damage @ Trouble::StoreDamaged(_)) => damage,
        _ => trouble,
    }
}

/// Whether what a fetch builds upon can be read.
fn check(repo: &Repository, have: ObjectId) -> Result<(), Trouble> {
    let tree = tree_of(repo, have)?;
    let found = repo.try_find_header(tree).map_err(|error| Trouble::damaged(&error))?;
    found.ok_or_else(|| Trouble::lacks("directory", tree))?;
    repo.shallow_commits().map_err(|error| Trouble::damaged(&error))?;
    Ok(())
}

fn tree_of(repo: &Repository, commit: ObjectId) -> Result<ObjectId, Trouble> {
    let found = repo.try_find_object(commit).map_err(|error| Trouble::damaged(&error))?;
    let found = found.ok_or_else(|| Trouble::lacks("commit", commit))?;
    if found.kind != Kind::Commit {
        return Err(Trouble::Fetch(format!("it leads to {commit}, which is no commit")));
    }
    CommitRefIter::from_bytes(&found.data, commit.kind()).tree_id().map_err(|error| Trouble::damaged(&error))
}
