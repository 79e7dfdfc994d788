//! A look back: the tree of a commit that was fetched before, out of our own repository alone.

use std::sync::Arc;

use gix::ObjectId;
use tokio::time::Instant;

use super::error::Trouble;
use super::{Follow, GitSource, Seen, job, look};
use crate::model::source::Revision;
use crate::model::tree::Changes;
use crate::observe::{Observation, ObserveError};

impl GitSource {
    /// See [`crate::observe::Source::recall`].
    pub(super) async fn look_back(&mut self, revision: Revision) -> Result<Observation, ObserveError> {
        let commit = ObjectId::from_hex(revision.as_str().as_bytes()).ok();
        let (Ok(follow), Some(commit)) = (self.place.clone(), commit) else {
            return Err(gone(&revision, None));
        };
        if !follow.shared.store.was_fetched() {
            return Err(gone(&revision, None));
        }
        self.recalled(&follow, commit)
            .await
            .map_err(|trouble| gone(&revision, Some(trouble.report(&follow.place.remote))))?;
        let tree = self.seen.as_ref().map(|seen| Arc::clone(&seen.tree)).unwrap_or_default();
        Ok(Observation { tree, changes: Changes::All, revision: Some(revision), rewritten: false })
    }

    async fn recalled(&mut self, follow: &Follow, commit: ObjectId) -> Result<(), Trouble> {
        let shared = &follow.shared;
        // Kept by the thread, which may be late.
        let held = Arc::clone(&shared.packs).read_owned().await;
        let (repo, store, path) = (shared.notes().repo.clone(), shared.store.clone(), self.path.clone());
        let work = move |control: &job::Control| {
            let repo = repo.map_or_else(|| store.open(), Ok)?;
            let found = look::recall(&repo.to_thread_local(), commit, &path, control);
            drop(held);
            found.map(|found| (repo, found))
        };
        let until = Instant::now() + self.fetch_timeout;
        let (repo, (root, tree)) = job::run(&self.reading, until, work).await.map_err(Trouble::from)??;
        shared.notes().repo = Some(repo);
        self.seen = Some(Seen { commit, root, tree: Arc::new(tree) });
        Ok(())
    }
}

fn gone(revision: &Revision, why: Option<ObserveError>) -> ObserveError {
    ObserveError {
        reason: "CommitGone",
        message: format!("commit {} is not kept here any more", revision.short()),
        stalled: false,
        source: why.map(Into::into),
    }
}
