//! The root of a source: where it is, whether it is the one that it was, and where it would come back.

use std::collections::{BTreeSet, HashSet};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::open;
use crate::model::path::RelPath;
use crate::observe::ObserveError;

/// The word where there is no directory.
pub(super) const MISSING: &str = "RootMissing";

/// The root, open.
#[derive(Debug)]
pub(super) struct Root {
    /// Which directory it is.
    pub place: Place,
    /// To look below it.
    pub fd: OwnedFd,
}

/// Tells one directory from another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Its canonical path.
    pub path: PathBuf,
    /// The device that it is on.
    pub device: u64,
    /// Its inode there.
    pub inode: u64,
}

impl Root {
    /// Finds and opens the directory that `given` names at the moment.
    ///
    /// # Errors
    /// `RootMissing`, `RootNotADirectory`, `RootUnreadable`.
    pub(super) fn open(given: &Path) -> Result<Self, ObserveError> {
        let path = std::fs::canonicalize(given).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => missing(given, error),
            _ => unreadable(given, error),
        })?;
        let fd = open::root(&path).map_err(|errno| match errno {
            Errno::NOENT => missing(given, errno.into()),
            Errno::NOTDIR | Errno::LOOP => not_a_directory(given),
            _ => unreadable(given, errno.into()),
        })?;
        let stat = rustix::fs::fstat(&fd).map_err(|errno| unreadable(given, errno.into()))?;
        Ok(Self { place: Place { path, device: stat.st_dev, inode: stat.st_ino }, fd })
    }

    /// The device, if its file system is known to change a directory's times whenever an entry comes or goes. Others,
    /// over a network or made by programs, may not.
    pub(super) fn timed(&self) -> Option<u64> {
        /// `f_type` of ext2 to 4, xfs, btrfs, tmpfs, overlayfs, f2fs, zfs and bcachefs.
        const KNOWN: [i64; 8] = [
            0xef53,
            0x5846_5342,
            0x9123_683e,
            0x0102_1994,
            0x794c_7630,
            0xf2f5_2010,
            0x2fc1_2fc1,
            0xca45_1a4e,
        ];
        let kind = rustix::fs::fstatfs(&self.fd).ok()?.f_type;
        KNOWN.contains(&kind).then_some(self.place.device)
    }

    /// Whether its path still leads to it.
    pub(super) fn is_in_place(&self) -> bool {
        let stat = rustix::fs::lstat(&self.place.path);
        stat.is_ok_and(|stat| stat.st_dev == self.place.device && stat.st_ino == self.place.inode)
    }
}

/// Paths at which the root, or the link that leads to it, appears or goes away.
pub(super) fn doors(given: &Path, found: Option<&Path>) -> BTreeSet<PathBuf> {
    found.map(Path::to_path_buf).into_iter().chain(in_real_parent(given)).collect()
}

/// `given` with its parent canonical, whether or not it is there itself.
fn in_real_parent(given: &Path) -> Option<PathBuf> {
    let parent = std::fs::canonicalize(given.parent()?).ok()?;
    Some(parent.join(given.file_name()?))
}

/// The paths below the root, found at `root`, that are never entered.
pub(super) fn skipped(given: &Path, root: &Path, skip: &[PathBuf]) -> HashSet<RelPath> {
    let spellings = skip.iter().flat_map(|path| {
        let real = std::fs::canonicalize(path).ok();
        [Some(path.clone()), real, in_real_parent(path)].into_iter().flatten()
    });
    let below = spellings.filter_map(|path| {
        let below = path.strip_prefix(root).or_else(|_| path.strip_prefix(given)).ok()?;
        RelPath::parse(below.to_str()?).ok()
    });
    below.filter(|path| !path.is_root()).collect()
}

fn missing(given: &Path, error: io::Error) -> ObserveError {
    refusal(MISSING, format!("the directory {} is missing", given.display()), Some(error))
}

fn not_a_directory(given: &Path) -> ObserveError {
    refusal("RootNotADirectory", format!("{} is not a directory", given.display()), None)
}

fn unreadable(given: &Path, error: io::Error) -> ObserveError {
    refusal("RootUnreadable", format!("the directory {} cannot be read", given.display()), Some(error))
}

/// The root is on another device than at first: a volume was mounted over it, or is not mounted any more.
pub(super) fn device_changed(given: &Path) -> ObserveError {
    let message = format!("the directory {} is on another device than before", given.display());
    refusal("RootDeviceChanged", message, None)
}

/// The root was another directory after each look.
pub(super) fn replaced(given: &Path) -> ObserveError {
    refusal(MISSING, format!("the directory {} is being replaced", given.display()), None)
}

/// A directory below the root cannot be listed.
pub(super) fn dir_unreadable(given: &Path, dir: &RelPath, error: Errno) -> ObserveError {
    if dir.is_root() {
        return unreadable(given, error.into());
    }
    let message = format!("the directory {} cannot be read", given.join(dir.as_str()).display());
    refusal("DirectoryUnreadable", message, Some(error.into()))
}

fn refusal(reason: &'static str, message: String, source: Option<io::Error>) -> ObserveError {
    ObserveError { reason, message, stalled: false, source: source.map(Into::into) }
}
