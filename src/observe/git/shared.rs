//! Repositories of our own, one for each remote, ref and credential: sources that follow the same share it and its
//! fetches.
//!
//! They lie in a folder each, named after the repository and a hash of the three. Never removes a folder that kindling
//! did not make, nor one that a source uses.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use gix::{ObjectId, ThreadSafeRepository, hash};
use tokio::time::Instant;

use super::Place;
use super::slots::HostSlots;
use super::store::Store;
use crate::model::source::{GitAuth, GitOrigin};
use crate::observe::Ask;

/// Longest part of a folder's name that comes from the URL, in bytes.
const MAX_NAME: usize = 40;

/// Digits of the hash in a folder's name.
const HASH_DIGITS: usize = 16;

/// The repositories of all sources of a service, and what they share per host. Clones are the same.
#[derive(Clone)]
pub struct Stores(Arc<Inner>);

struct Inner {
    dir: PathBuf,
    ssh: PathBuf,
    slots: HostSlots,
    used: Mutex<HashMap<String, Weak<Shared>>>,
}

impl Stores {
    /// Those of this data directory; nothing is touched.
    #[must_use]
    pub fn new(data_dir: &Path) -> Self {
        let (dir, ssh) = (data_dir.join("git"), data_dir.join("ssh"));
        Self(Arc::new(Inner { dir, ssh, slots: HostSlots::new(), used: Mutex::default() }))
    }

    /// The folder of what is fetched for this origin; `None` if nothing ever is, because it is refused.
    #[must_use]
    pub fn path_of(&self, origin: &GitOrigin) -> Option<PathBuf> {
        Some(self.0.dir.join(name(&Place::parse(origin).ok()?)))
    }

    /// Removes what none of these origins needs and no source uses; gives back how many folders that were.
    ///
    /// # Errors
    /// A folder cannot be listed or removed.
    pub fn keep_only<'a>(&self, origins: impl Iterator<Item = &'a GitOrigin>) -> io::Result<usize> {
        let mut kept: HashSet<PathBuf> = origins.filter_map(|origin| self.path_of(origin)).collect();
        let entries = match fs::read_dir(&self.0.dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
            entries => entries?,
        };
        let mut used = self.used();
        used.retain(|_, shared| shared.strong_count() > 0);
        kept.extend(used.keys().map(|name| self.0.dir.join(name)));
        let mut removed = 0;
        for entry in entries {
            let path = entry?.path();
            // The lock is held: no source begins to use what is being removed.
            if !kept.contains(&path) && Store::at(path).remove()? {
                removed += 1;
            }
        }
        Ok(removed)
    }

    /// The one that a source follows.
    pub(super) fn open(&self, place: &Place) -> Arc<Shared> {
        let name = name(place);
        let mut used = self.used();
        if let Some(shared) = used.get(&name).and_then(Weak::upgrade) {
            return shared;
        }
        let shared = Arc::new(Shared::new(Store::at(self.0.dir.join(&name))));
        used.insert(name, Arc::downgrade(&shared));
        shared
    }

    /// Takes one back from a source that is gone, and removes it if that was the last one.
    pub(super) fn give_back(&self, shared: Arc<Shared>) -> io::Result<bool> {
        let mut used = self.used();
        // Under the lock nobody gets another one.
        let Some(shared) = Arc::into_inner(shared) else { return Ok(false) };
        used.retain(|_, other| other.strong_count() > 0);
        shared.store.remove()
    }

    /// What all share per host.
    pub(super) fn slots(&self) -> &HostSlots {
        &self.0.slots
    }

    /// The folder of what ssh needs.
    pub(super) fn ssh_dir(&self) -> &Path {
        &self.0.ssh
    }

    fn used(&self) -> MutexGuard<'_, HashMap<String, Weak<Shared>>> {
        self.0.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Stores {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Stores({})", self.0.dir.display())
    }
}

/// The name of the folder: what the repository is called, for people, and a hash of all that makes it another one.
fn name(place: &Place) -> String {
    let remote = place.remote.to_string();
    let auth = match &place.auth {
        None => String::new(),
        Some(GitAuth::TokenEnv(name)) => format!("env {name}"),
        Some(GitAuth::TokenFile(path)) => format!("file {}", path.display()),
        Some(GitAuth::SshKeyFile(path)) => format!("key {}", path.display()),
    };
    let mut hasher = hash::hasher(hash::Kind::Sha1);
    for part in [&remote, &place.followed.key(), &auth] {
        hasher.update(&(part.len() as u64).to_be_bytes());
        hasher.update(part.as_bytes());
    }
    // It fails only for an input that was made to collide.
    let digits = hasher.try_finalize().map_or_else(|_| "collision".to_owned(), |id| id.to_hex().to_string());
    let last = remote.rsplit(['/', ':']).next().unwrap_or_default();
    let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_') { c } else { '-' };
    let last: String = last.trim_end_matches(".git").chars().map(plain).take(MAX_NAME).collect();
    format!("{last}-{}", digits.get(..HASH_DIGITS).unwrap_or(&digits))
}

/// One repository of our own, and what is known of it.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) store: Store,
    /// Held by the one that fetches; the last fetch that succeeded.
    pub(super) gate: tokio::sync::Mutex<Option<Round>>,
    /// Held for reading while files are read, for writing while packs are removed.
    pub(super) packs: Arc<tokio::sync::RwLock<()>>,
    /// Threads that look at the remote and have not ended.
    pub(super) running: Arc<AtomicUsize>,
    notes: Mutex<Notes>,
}

/// How long a repository that was fetched again whole is not fetched so once more by itself for the same commit.
const MENDED_FOR: Duration = Duration::from_secs(300);

/// A fetch that succeeded: when it began, and what it found.
#[derive(Clone, Copy, Debug)]
pub(super) struct Round {
    pub(super) begun: Instant,
    pub(super) commit: ObjectId,
}

/// What is known of a repository of our own.
#[derive(Debug, Default)]
pub(super) struct Notes {
    /// It, opened. Replaced after each fetch: one handle has room for a limited number of packs.
    pub(super) repo: Option<ThreadSafeRepository>,
    /// Whether `repo` saw a fetch.
    pub(super) is_used: bool,
    /// Where the ref of a repository on this machine is, and the commit that this leads to.
    pub(super) probed: Option<(ObjectId, ObjectId)>,
    /// The first fetch is to bring the whole history: one without it failed, or did not do.
    pub(super) needs_history: bool,
    /// Fetch everything again.
    pub(super) is_damaged: bool,
    /// Something could not be read.
    pub(super) lacks: bool,
    /// The commit for which that was done last, and when.
    pub(super) mended: Option<(ObjectId, Instant)>,
    /// How often everything was fetched again: what could not be read before may be there then.
    pub(super) times_anew: u64,
}

impl Notes {
    /// Has everything fetched again where something is still missing after the last time: the remote may have it now.
    pub(super) fn mend_again(&mut self, ask: Ask) {
        let is_over = |(_, at): (ObjectId, Instant)| at.elapsed() >= MENDED_FOR;
        self.is_damaged |= self.lacks && (ask == Ask::Rescan || self.mended.is_some_and(is_over));
    }
}

impl Shared {
    fn new(store: Store) -> Self {
        Self {
            store,
            gate: tokio::sync::Mutex::default(),
            packs: Arc::default(),
            running: Arc::default(),
            notes: Mutex::default(),
        }
    }

    /// What is known; never held across a wait.
    pub(super) fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::path::RelPath;
    use crate::model::source::{GitRef, Rewrite};

    fn origin(url: &str, reference: GitRef, auth: Option<GitAuth>, path: &str) -> GitOrigin {
        GitOrigin {
            url: url.into(),
            reference,
            path: RelPath::parse(path).unwrap(),
            poll_interval: Duration::from_secs(30),
            auth,
            rewrite: Rewrite::Follow,
        }
    }

    #[test]
    fn equal_places_share_a_folder_and_others_do_not() {
        let stores = Stores::new(Path::new("/data"));
        let path = |origin: &GitOrigin| stores.path_of(origin).unwrap();
        let first = path(&origin("https://example.org/team/jobs.git", GitRef::Head, None, "."));
        let shown = first.file_name().unwrap().to_str().unwrap();
        assert!(
            first.starts_with("/data/git") && shown.starts_with("jobs-") && shown.len() == 5 + HASH_DIGITS
        );
        let same = origin("https://EXAMPLE.org:443/team/jobs.git/", GitRef::Head, None, "deep/er");
        assert_eq!(path(&same), first);
        let token = Some(GitAuth::TokenEnv("A".into()));
        for other in [
            origin("https://example.org/team/jobs", GitRef::Head, None, "."),
            origin("https://example.org/team/jobs.git", GitRef::Branch("HEAD1".into()), None, "."),
            origin("https://example.org/team/jobs.git", GitRef::Tag("v1".into()), None, "."),
            origin("https://example.org/team/jobs.git", GitRef::Head, token, "."),
        ] {
            assert_ne!(path(&other), first);
        }
        assert_eq!(stores.path_of(&origin("ext::id", GitRef::Head, None, ".")), None);
    }

    #[test]
    fn only_what_nothing_needs_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let stores = Stores::new(dir.path());
        let [a, b, c] = ["/a", "/b", "/c"].map(|url| origin(url, GitRef::Head, None, "."));
        for origin in [&a, &b, &c] {
            Store::at(stores.path_of(origin).unwrap()).prepare().unwrap();
        }
        let foreign = dir.path().join("git/thesis");
        fs::create_dir(&foreign).unwrap();
        fs::write(foreign.join("x"), "years of work").unwrap();
        let used = stores.open(&Place::parse(&b).unwrap());
        assert_eq!(stores.keep_only([&a].into_iter()).unwrap(), 1);
        let there = |origin| stores.path_of(origin).unwrap().exists();
        assert!(there(&a) && there(&b) && !there(&c) && foreign.exists());
        let second = stores.open(&Place::parse(&b).unwrap());
        assert!(!stores.give_back(used).unwrap() && there(&b), "another source follows it");
        assert!(stores.give_back(second).unwrap() && !there(&b));
    }
}
