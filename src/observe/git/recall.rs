//! A look back: the tree of a commit that was fetched before, out of our own repository alone.

use std::sync::Arc;

use gix::ObjectId;
use tokio::time::Instant;

use super::error::Trouble;
use super::{Follow, GitSource, Seen, job, look, store};
use crate::model::source::Revision;
use crate::model::tree::Changes;
use crate::observe::{Observation, ObserveError};

impl GitSource {
    /// See [`crate::observe::Source::recall`].
    pub(super) async fn look_back(
        &mut self,
        revision: Option<Revision>,
    ) -> Result<Observation, ObserveError> {
        let wanted = revision.as_ref().map(|revision| ObjectId::from_hex(revision.as_str().as_bytes()));
        let (Ok(follow), Ok(wanted)) = (self.place.clone(), wanted.transpose()) else {
            return Err(gone(revision.as_ref(), None));
        };
        if !follow.shared.store.was_fetched() {
            return Err(gone(revision.as_ref(), None));
        }
        let recalled = self.recalled(&follow, wanted).await;
        let commit = recalled
            .map_err(|trouble| gone(revision.as_ref(), Some(trouble.report(&follow.place.remote))))?;
        let tree = self.seen.as_ref().map(|seen| Arc::clone(&seen.tree)).unwrap_or_default();
        let revision = Some(Revision::new(&commit.to_string()));
        Ok(Observation { tree, changes: Changes::All, revision, rewritten: false })
    }

    /// Reads the tree of a commit, or of the one that was fetched last; gives back which that is.
    async fn recalled(&mut self, follow: &Follow, wanted: Option<ObjectId>) -> Result<ObjectId, Trouble> {
        let shared = &follow.shared;
        // Kept by the thread, which may be late.
        let held = Arc::clone(&shared.packs).read_owned().await;
        let (repo, store, path) = (shared.notes().repo.clone(), shared.store.clone(), self.path.clone());
        let work = move |control: &job::Control| {
            let repo = repo.map_or_else(|| store.open(), Ok)?;
            let here = repo.to_thread_local();
            let commit = match wanted {
                Some(commit) => Some(commit),
                None => store::live(&here)?,
            };
            let commit = commit.ok_or(Trouble::Empty)?;
            let (root, tree) = look::recall(&here, commit, &path, control)?;
            drop(held);
            Ok::<_, Trouble>((repo, commit, root, tree))
        };
        let until = Instant::now() + self.fetch_timeout;
        let (repo, commit, root, tree) =
            job::run(&self.reading, until, work).await.map_err(Trouble::from)??;
        shared.notes().repo = Some(repo);
        self.seen = Some(Seen { commit, root, tree: Arc::new(tree) });
        Ok(commit)
    }
}

fn gone(revision: Option<&Revision>, why: Option<ObserveError>) -> ObserveError {
    let message = match revision {
        Some(revision) => format!("commit {} is not kept here any more", revision.short()),
        None => "nothing of it is kept here".to_owned(),
    };
    ObserveError { reason: "CommitGone", message, stalled: false, source: why.map(Into::into) }
}
