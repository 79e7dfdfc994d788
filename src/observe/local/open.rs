//! Opens directories below a root without ever following a link out of it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::model::path::RelPath;

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Whether the kernel (since 5.6) and the sandbox around this process know `openat2`.
static HAS_OPENAT2: AtomicBool = AtomicBool::new(true);

/// Opens the root itself, which is canonical, so that its last part is no link either.
pub(super) fn root(path: &Path) -> Result<OwnedFd, Errno> {
    rustix::fs::open(path, DIRECTORY, Mode::empty())
}

/// Opens the directory `dir` below `root`. A link anywhere on the way is `ELOOP` or `ENOTDIR`.
pub(super) fn dir(root: BorrowedFd<'_>, dir: &RelPath) -> Result<OwnedFd, Errno> {
    if dir.is_root() {
        return rustix::fs::openat(root, c".", DIRECTORY, Mode::empty());
    }
    if HAS_OPENAT2.load(Ordering::Relaxed) {
        let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        match rustix::fs::openat2(root, dir.as_str(), DIRECTORY, Mode::empty(), beneath) {
            // A sandbox refuses unknown calls with EPERM, which opening a directory never gives.
            Err(Errno::NOSYS | Errno::PERM) => HAS_OPENAT2.store(false, Ordering::Relaxed),
            Err(Errno::AGAIN) => {}
            done => return done,
        }
    }
    step_by_step(root, dir)
}

/// Part by part: each is opened in the directory before it, and may not be a link.
fn step_by_step(root: BorrowedFd<'_>, dir: &RelPath) -> Result<OwnedFd, Errno> {
    let mut at = None::<OwnedFd>;
    for part in dir.as_str().split('/') {
        let from = at.as_ref().map_or(root, AsFd::as_fd);
        at = Some(rustix::fs::openat(from, part, DIRECTORY, Mode::empty())?);
    }
    at.ok_or(Errno::NOENT)
}

/// Whether an error says that the path is not there any more, or is something else by now.
pub(super) fn is_gone(error: Errno) -> bool {
    matches!(error, Errno::NOENT | Errno::NOTDIR | Errno::LOOP)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn both_ways_refuse_links_and_agree_otherwise() {
        let outside = tempfile::tempdir().unwrap();
        let temp = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(temp.path().join("a/b")).unwrap();
        symlink(outside.path(), temp.path().join("out")).unwrap();
        symlink("a", temp.path().join("in")).unwrap();
        let fd = root(temp.path()).unwrap();
        for (path, refusal) in [
            ("a", None),
            ("a/b", None),
            ("out", Some([Errno::LOOP, Errno::NOTDIR])),
            ("in/b", Some([Errno::LOOP, Errno::NOTDIR])),
            ("a/c", Some([Errno::NOENT, Errno::NOENT])),
        ] {
            let path = RelPath::parse(path).unwrap();
            for opened in [dir(fd.as_fd(), &path), step_by_step(fd.as_fd(), &path)] {
                match refusal {
                    None => assert!(opened.is_ok(), "{path}"),
                    Some(refusal) => {
                        let error = opened.unwrap_err();
                        assert!(refusal.contains(&error) && is_gone(error), "{path}: {error}");
                    }
                }
            }
        }
    }
}
