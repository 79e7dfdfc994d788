//! The bytes of every version's files, kept once each under their SHA-256. No SQL.

use std::collections::HashSet;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, UNIX_EPOCH};

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, utimensat};

use crate::model::hash::ContentHash;
use crate::model::time::Timestamp;
use crate::plan::hash::content;
use crate::support::clock::Clock;

/// A folder of files named by what they hold: `ab/cdef...`. Clones share it; no other process may sweep it.
#[derive(Clone, Debug)]
pub struct Blobs {
    root: PathBuf,
    /// Held for reading by every put, for writing by a sweep while it takes one file away: so a put either finds the
    /// file gone and writes it again, or makes it young before the sweep looks at its age.
    gate: Arc<RwLock<()>>,
}

/// What a sweep took away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Files, leftovers of interrupted writes among them.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// What could not be done with which file.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what} {path}")]
struct Failed {
    what: &'static str,
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// A stored file is not what it was.
#[derive(Debug, thiserror::Error)]
#[error("the stored file {0} is damaged")]
struct Damaged(PathBuf);

/// Begins the names of files that are still written.
const PART: &str = ".part-";

static NEXT: AtomicU64 = AtomicU64::new(0);

impl Blobs {
    /// The folder at `root`, which is made when it is first needed.
    #[must_use]
    pub fn new(root: PathBuf) -> Self {
        Self { root, gate: Arc::default() }
    }

    /// Keeps a content. One that is there is left, and counts as just put.
    ///
    /// The bytes are not forced to the disk. After a loss of power a file may be empty: the next put of it sees that,
    /// and [`Blobs::read`] tells it.
    ///
    /// # Errors
    /// It could not be written. Then nothing of it is visible.
    pub fn put(&self, hash: &ContentHash, bytes: &[u8]) -> io::Result<()> {
        let path = self.path(hash);
        let _gate = self.gate.read().unwrap_or_else(PoisonError::into_inner);
        match fs::metadata(&path) {
            Ok(there) if there.len() == bytes.len() as u64 => touch(&path),
            Ok(_) => write(&path, bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => write(&path, bytes),
            Err(error) => Err(error),
        }
        .map_err(|e| failed("write", &path, e))
    }

    /// Opens a content for reading, for example to copy it; its hash is not checked.
    ///
    /// # Errors
    /// It is not there, or cannot be opened.
    pub fn open(&self, hash: &ContentHash) -> io::Result<File> {
        let path = self.path(hash);
        File::open(&path).map_err(|e| failed("open", &path, e))
    }

    /// Reads a content and checks its hash.
    ///
    /// # Errors
    /// It is not there, cannot be read, or is damaged (`InvalidData`).
    pub fn read(&self, hash: &ContentHash) -> io::Result<Vec<u8>> {
        let path = self.path(hash);
        let bytes = fs::read(&path).map_err(|e| failed("read", &path, e))?;
        if content(&bytes) != *hash {
            return Err(io::Error::new(io::ErrorKind::InvalidData, Damaged(path)));
        }
        Ok(bytes)
    }

    /// Whether a content is there. Whoever is about to rely on it puts it instead: only that keeps a sweep away.
    #[must_use]
    pub fn contains(&self, hash: &ContentHash) -> bool {
        self.path(hash).is_file()
    }

    /// Takes away what is not referenced and was not put within `grace`, which must be longer than a pass takes.
    ///
    /// `referenced` may have been collected earlier: what a pass under way needs was put since then.
    ///
    /// # Errors
    /// A folder could not be listed, or a file not be taken away.
    pub fn sweep(&self, referenced: &HashSet<ContentHash>, grace: Duration) -> io::Result<Swept> {
        let mut swept = Swept::default();
        for folder in list(&self.root)? {
            let Some(start) =
                folder.file_name().and_then(|name| name.to_str()).filter(|name| name.len() == 2)
            else {
                continue;
            };
            for path in list(&folder)? {
                let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
                let doomed = match format!("{start}{name}").parse::<ContentHash>() {
                    Ok(hash) => !referenced.contains(&hash),
                    Err(_) => name.starts_with(PART),
                };
                if doomed {
                    self.sweep_one(&path, grace, &mut swept).map_err(|e| failed("remove", &path, e))?;
                }
            }
        }
        Ok(swept)
    }

    fn sweep_one(&self, path: &Path, grace: Duration, swept: &mut Swept) -> io::Result<()> {
        let _gate = self.gate.write().unwrap_or_else(PoisonError::into_inner);
        let there = match fs::symlink_metadata(path) {
            Ok(there) => there,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        let put = there.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
        let put = Timestamp::default().plus(put);
        if Timestamp(Clock::System.now_ms()).since(put) < grace {
            return Ok(());
        }
        fs::remove_file(path)?;
        swept.files += 1;
        swept.bytes += there.len();
        Ok(())
    }

    fn path(&self, hash: &ContentHash) -> PathBuf {
        let digits = hash.to_string();
        let (start, rest) = digits.split_at(2);
        self.root.join(start).join(rest)
    }
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let part = path.with_file_name(format!("{PART}{}-{number}", std::process::id()));
    let written =
        create(&part).and_then(|mut file| file.write_all(bytes)).and_then(|()| fs::rename(&part, path));
    if written.is_err() {
        // The disk may be full: every byte helps. What cannot be taken away here, a sweep takes.
        let _ = fs::remove_file(&part);
    }
    written
}

/// Makes a file that only its owner may read, and its folder where that is missing. A leftover of a process that had
/// the same number, as in a container, is written over.
fn create(path: &Path) -> io::Result<File> {
    let new = || OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
    match new() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if let Some(folder) = path.parent() {
                DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
            }
            new()
        }
        made => made,
    }
}

/// Makes a file count as just put.
fn touch(path: &Path) -> io::Result<()> {
    let time = |nanoseconds| Timespec { tv_sec: 0, tv_nsec: nanoseconds };
    let times = Timestamps { last_access: time(UTIME_OMIT), last_modification: time(UTIME_NOW) };
    Ok(utimensat(CWD, path, &times, AtFlags::empty())?)
}

/// What a folder holds; nothing if it is not there or is no folder.
fn list(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        entries => entries,
    };
    entries
        .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect())
        .map_err(|e| failed("list", folder, e))
}

fn failed(what: &'static str, path: &Path, source: io::Error) -> io::Error {
    io::Error::new(source.kind(), Failed { what, path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::sync::Barrier;
    use std::time::Instant;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn blobs() -> (tempfile::TempDir, Blobs) {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::new(dir.path().join("blobs"));
        (dir, blobs)
    }

    fn put(blobs: &Blobs, text: &str) -> ContentHash {
        let hash = content(text.as_bytes());
        blobs.put(&hash, text.as_bytes()).unwrap();
        hash
    }

    /// Makes a file look as if it had been put two hours ago.
    fn age(path: &Path) {
        let put = UNIX_EPOCH + Duration::from_millis(Clock::System.now_ms().unsigned_abs()) - 2 * HOUR;
        File::open(path).unwrap().set_modified(put).unwrap();
    }

    #[test]
    fn gives_back_what_was_put() {
        let (_dir, blobs) = blobs();
        let (a, empty) = (put(&blobs, "a"), put(&blobs, ""));
        assert_eq!(put(&blobs, "a"), a);
        assert_eq!((blobs.read(&a).unwrap(), blobs.read(&empty).unwrap()), (b"a".to_vec(), Vec::new()));
        assert_eq!(io::read_to_string(blobs.open(&a).unwrap()).unwrap(), "a");
        assert!(blobs.contains(&a) && !blobs.contains(&content(b"b")));
        let error = blobs.read(&content(b"b")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert!(error.to_string().contains("blobs/3e/23e8"), "{error}");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let path = blobs.path(&a);
        assert_eq!((mode(&path), mode(path.parent().unwrap()), mode(&blobs.root)), (0o600, 0o700, 0o700));
    }

    #[test]
    fn a_torn_file_is_told_and_mended_by_the_next_put() {
        let (_dir, blobs) = blobs();
        let hash = put(&blobs, "whole");
        fs::write(blobs.path(&hash), "").unwrap();
        assert_eq!(blobs.read(&hash).unwrap_err().kind(), io::ErrorKind::InvalidData);
        put(&blobs, "whole");
        assert_eq!(blobs.read(&hash).unwrap(), b"whole");
    }

    #[test]
    fn a_sweep_takes_what_is_old_and_not_referenced() {
        let (_dir, blobs) = blobs();
        assert_eq!(blobs.sweep(&HashSet::new(), HOUR).unwrap(), Swept::default());
        let [kept, old, young, again] = ["kept", "old", "young", "again"].map(|text| put(&blobs, text));
        let part = blobs.path(&old).with_file_name(".part-1-1");
        let fresh = blobs.path(&old).with_file_name(".part-1-2");
        let foreign = blobs.root.join("README");
        for path in [&part, &fresh, &foreign] {
            fs::write(path, "left").unwrap();
        }
        for path in [&blobs.path(&kept), &blobs.path(&old), &blobs.path(&again), &part, &foreign] {
            age(path);
        }
        put(&blobs, "again");
        let swept = blobs.sweep(&HashSet::from([kept]), HOUR).unwrap();
        assert_eq!(swept, Swept { files: 2, bytes: 7 });
        assert!([kept, young, again].iter().all(|hash| blobs.contains(hash)) && !blobs.contains(&old));
        assert!(!part.exists() && fresh.exists() && foreign.exists());
    }

    #[test]
    fn a_sweep_never_takes_what_is_put_at_the_same_time() {
        let (_dir, blobs) = blobs();
        for _ in 0..300 {
            let hash = put(&blobs, "raced");
            age(&blobs.path(&hash));
            let barrier = Barrier::new(2);
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    barrier.wait();
                    blobs.sweep(&HashSet::new(), HOUR).unwrap();
                });
                barrier.wait();
                put(&blobs, "raced");
            });
            assert!(blobs.contains(&hash));
        }
    }

    #[test]
    fn a_failed_put_leaves_nothing() {
        let (_dir, blobs) = blobs();
        let hash = content(b"a");
        let path = blobs.path(&hash);
        fs::create_dir_all(path.join("in the way")).unwrap();
        assert!(blobs.put(&hash, b"a").is_err());
        assert_eq!(list(path.parent().unwrap()).unwrap(), [path]);
    }

    #[test]
    fn many_puts() {
        let (_dir, blobs) = blobs();
        let texts: Vec<String> = (0..2000).map(|n| format!("{n} {}", "x".repeat(1000))).collect();
        let hashes: Vec<_> = texts.iter().map(|text| content(text.as_bytes())).collect();
        for round in ["new", "known"] {
            let begun = Instant::now();
            for (hash, text) in hashes.iter().zip(&texts) {
                blobs.put(hash, text.as_bytes()).unwrap();
            }
            println!("put of a {round} blob: {:?}", begun.elapsed() / 2000);
        }
        assert!(hashes.iter().all(|hash| blobs.contains(hash)));
    }
}
