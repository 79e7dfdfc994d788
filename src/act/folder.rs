//! Folders of versions: made when first used, checked at each use, kept while they are in use.
//!
//! A folder is a copy that a run may read (and that an interpreter may leave its caches in); it is never the place
//! where a version is kept. A folder in which somebody changed a file is never handed out.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{ActError, make};
use crate::model::hash::{ContentHash, UnitHash};
use crate::model::unit::Version;

/// Where the stored bytes of files come from.
pub trait BlobSource: Send + Sync {
    /// Opens the content with this hash, from its first byte.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] where it is not stored; otherwise why it cannot be read.
    fn open(&self, hash: &ContentHash) -> io::Result<fs::File>;
}

/// The folders of versions below one directory. Clones share what they know.
#[derive(Clone)]
pub struct Folders {
    shared: Arc<Shared>,
}

struct Shared {
    root: PathBuf,
    blobs: Arc<dyn BlobSource>,
    uses: Mutex<HashMap<UnitHash, Use>>,
}

/// Who uses a folder.
#[derive(Default)]
struct Use {
    leases: usize,
    /// Held while the folder is checked or made, so that it is made once.
    making: Arc<Mutex<()>>,
}

/// Keeps a folder in place until it is dropped.
pub struct FolderLease {
    shared: Arc<Shared>,
    hash: UnitHash,
    path: PathBuf,
}

impl Folders {
    /// Folders below `root`, which is made when it is needed. A relative `root` is taken from the directory that
    /// kindling is in now.
    #[must_use]
    pub fn new(root: PathBuf, blobs: Arc<dyn BlobSource>) -> Self {
        let root = std::path::absolute(&root).unwrap_or(root);
        Self { shared: Arc::new(Shared { root, blobs, uses: Mutex::default() }) }
    }

    /// The directory that holds the folders.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.shared.root
    }

    /// The folder of a version, whole and as it was stored. Files that are no part of the version are left in it.
    ///
    /// # Errors
    /// [`ActError::Folder`] where it cannot be made, [`ActError::Blob`] where a stored file is missing or damaged.
    pub async fn acquire(&self, version: &Version) -> Result<FolderLease, ActError> {
        let (lease, making) = self.lease(version.hash);
        let (unit, path) = (version.unit.clone(), lease.path.clone());
        let version = version.clone();
        let made = tokio::task::spawn_blocking(move || {
            let _one = making.lock().unwrap_or_else(PoisonError::into_inner);
            let shared = &lease.shared;
            make::ensure(&version, &shared.root, &lease.path, &*shared.blobs).map(|()| lease)
        });
        // The blocking part ends early only when it panicked, or when the service stops.
        made.await.map_err(|join| ActError::Folder { unit, path, source: io::Error::other(join) })?
    }

    /// Removes every folder that is neither in `keep` nor in use, and what an interrupted making or removal left.
    /// Gives back how many of them.
    ///
    /// # Errors
    /// The directory cannot be listed. A folder that cannot be removed is logged and left for the next time.
    pub async fn prune(&self, keep: &HashSet<UnitHash>) -> io::Result<usize> {
        let (shared, keep) = (self.shared.clone(), keep.clone());
        tokio::task::spawn_blocking(move || shared.prune(&keep)).await.map_err(io::Error::other)?
    }

    fn lease(&self, hash: UnitHash) -> (FolderLease, Arc<Mutex<()>>) {
        let mut uses = self.shared.uses();
        let entry = uses.entry(hash).or_default();
        entry.leases += 1;
        let path = self.shared.root.join(hash.to_string());
        (FolderLease { shared: self.shared.clone(), hash, path }, entry.making.clone())
    }
}

impl Shared {
    fn uses(&self) -> MutexGuard<'_, HashMap<UnitHash, Use>> {
        self.uses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn prune(&self, keep: &HashSet<UnitHash>) -> io::Result<usize> {
        let entries = match fs::read_dir(&self.root) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
            entries => entries?,
        };
        let mut removed = 0;
        for entry in entries {
            let entry = entry?;
            let Some((hash, is_whole)) = entry.file_name().to_str().and_then(make::hash_of_name) else {
                continue;
            };
            if is_whole && keep.contains(&hash) {
                continue;
            }
            let removal = self.take_out(hash, is_whole, &entry.path()).and_then(|out| match out {
                Some(path) => fs::remove_dir_all(path).map(|()| true),
                None => Ok(false),
            });
            match removal {
                Ok(gone) => removed += usize::from(gone),
                Err(error) => {
                    tracing::warn!(path = %entry.path().display(), %error, "cannot remove a version's folder");
                }
            }
        }
        Ok(removed)
    }

    /// Makes sure that nobody can get the folder any more. The lock is held for one rename, never for a removal.
    fn take_out(&self, hash: UnitHash, is_whole: bool, path: &Path) -> io::Result<Option<PathBuf>> {
        let uses = self.uses();
        if uses.contains_key(&hash) {
            return Ok(None);
        }
        if !is_whole {
            return Ok(Some(path.to_owned()));
        }
        let aside = make::sibling(&self.root, hash, make::Kind::Aside)?;
        fs::rename(path, &aside).map(|()| Some(aside))
    }
}

impl FolderLease {
    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for FolderLease {
    fn drop(&mut self) {
        let mut uses = self.shared.uses();
        if let Some(entry) = uses.get_mut(&self.hash) {
            entry.leases -= 1;
            if entry.leases == 0 {
                uses.remove(&self.hash);
            }
        }
    }
}

impl std::fmt::Debug for Folders {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Folders").field(&self.shared.root).finish()
    }
}

impl std::fmt::Debug for FolderLease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("FolderLease").field(&self.path).finish()
    }
}

#[cfg(test)]
mod tests;
