//! The bare repository of our own that a source is fetched into. It can always be thrown away and fetched again.
//!
//! Opened isolated: no configuration of the user or the system, no hooks, no filters, no credential helpers. Never
//! touches a folder that kindling did not make.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use gix::objs::TagRefIter;
use gix::{ObjectId, Repository, ThreadSafeRepository};

use super::error::{Trouble, chain};
use crate::support::clock::Clock;

/// Stands in each folder that kindling made, and in no other one.
const MARKER: &str = "kindling-store";

/// The newest commit that was fetched; it keeps the history from being collected.
const LIVE: &str = "refs/kindling/live";

/// Each attempt fetches into a ref of its own below it.
const ATTEMPTS: &str = "refs/kindling/attempt/";

/// What was fetched to find a commit that the remote does not give out by its id; a folder for each attempt.
const ALL: &str = "refs/kindling/all/";

/// Tags of tags that are followed.
const MAX_TAGS: usize = 10;

/// What a killed process leaves behind is cleared once it is so old. Locks are held for milliseconds, and a pack that
/// is still received is written to all the time.
const STALE_AFTER: Duration = Duration::from_secs(60);

/// No object of a repository may need more memory than this, in bytes: the largest file that is ever synced
/// (DESIGN 12).
const LARGEST_OBJECT: u64 = 1 << 30;

/// Room in the object database for packs that arrive while it is open; each fetch brings one.
const SPARE_PACKS: usize = 32;

/// Numbers of attempts never come twice, also not after a restart: an attempt that was abandoned may still run.
static NEXT_ATTEMPT: LazyLock<AtomicU64> =
    LazyLock::new(|| AtomicU64::new(u64::try_from(Clock::System.now_ms()).unwrap_or_default()));

/// The folder of the repository.
#[derive(Clone, Debug)]
pub(super) struct Store {
    path: PathBuf,
}

impl Store {
    /// Names the folder; nothing is touched.
    pub(super) fn at(path: PathBuf) -> Self {
        Self { path }
    }

    /// Whether something was ever fetched into it.
    pub(super) fn was_fetched(&self) -> bool {
        self.path.join(LIVE).exists()
    }

    /// Makes the repository if it is not there, clears what a killed process left behind, and opens it.
    pub(super) fn prepare(&self) -> Result<ThreadSafeRepository, Trouble> {
        let failed = |error: io::Error| {
            Trouble::StoreDamaged(format!("cannot make {}: {}", self.path.display(), chain(&error)))
        };
        if !self.is_ours().map_err(failed)? {
            return Err(Trouble::StoreForeign(self.in_the_way()));
        }
        self.complete().map_err(failed)?;
        self.sweep();
        self.open()
    }

    /// Opens the repository.
    pub(super) fn open(&self) -> Result<ThreadSafeRepository, Trouble> {
        open(&self.path)
    }

    /// Makes the commit that an attempt fetched the live one. A failure costs nothing but the knowledge at the next
    /// start.
    pub(super) fn settle(&self, attempt: u64, commit: ObjectId) {
        // Our refs are plain files that nobody else writes to: a rename is whole and needs no lock. The attempt's own
        // may be at a tag.
        let from = self.path.join(attempt_ref(attempt));
        let made = from.parent().map_or(Ok(()), fs::create_dir_all);
        let moved = made.and_then(|()| fs::write(&from, format!("{commit}\n")));
        if let Err(error) = moved.and_then(|()| fs::rename(&from, self.path.join(LIVE))) {
            tracing::debug!(path = %from.display(), %error, "the live ref was not moved");
        }
    }

    /// Forgets all branches and tags that were fetched to find a commit, but those of the attempt `but`.
    pub(super) fn forget_all(&self, but: Option<u64>) {
        let Ok(entries) = fs::read_dir(self.path.join(ALL)) else { return };
        let but = but.map(|number| number.to_string());
        for entry in entries.flatten() {
            if entry.file_name().to_str() != but.as_deref() {
                // What stays is met again by the next attempt.
                let _ = remove_dir(&entry.path());
            }
        }
    }

    /// The folder itself.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Removes the folder, if kindling made it.
    pub(super) fn remove(&self) -> io::Result<bool> {
        if !self.path.join(MARKER).exists() {
            return Ok(false);
        }
        let aside = self.aside();
        remove_dir(&aside)?;
        // A rename first: what is half removed is not taken for a repository.
        fs::rename(&self.path, &aside)?;
        remove_dir(&aside)?;
        Ok(true)
    }

    /// Throws the repository away.
    pub(super) fn reset(&self) -> Result<(), Trouble> {
        let aside = self.aside();
        let away = || -> io::Result<()> {
            remove_dir(&aside)?;
            // A rename first: an abandoned attempt that still writes must not write into the next repository.
            match fs::rename(&self.path, &aside) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                done => done,
            }?;
            remove_dir(&aside)
        };
        match self.is_ours() {
            Ok(false) => Err(Trouble::StoreForeign(self.in_the_way())),
            Ok(true) => away().map_err(|error| Trouble::StoreDamaged(chain(&error))),
            Err(error) => Err(Trouble::StoreDamaged(chain(&error))),
        }
    }

    fn aside(&self) -> PathBuf {
        // No name of a store begins with a dot.
        let mut name = std::ffi::OsString::from(".damaged-");
        name.push(self.path.file_name().unwrap_or_default());
        self.path.with_file_name(name)
    }

    /// What is there in the place of the folder, or of one above it.
    fn in_the_way(&self) -> PathBuf {
        let there = self.path.ancestors().find(|path| path.symlink_metadata().is_ok());
        there.unwrap_or(&self.path).to_owned()
    }

    /// Absent, empty or marked.
    fn is_ours(&self) -> io::Result<bool> {
        match fs::read_dir(&self.path) {
            Ok(mut entries) => Ok(self.path.join(MARKER).exists() || entries.next().is_none()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Makes what is missing of an empty bare repository, the marker first.
    fn complete(&self) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.path)?;
        let file = |name: &str, text: &str| {
            let path = self.path.join(name);
            if fs::read(&path).is_ok_and(|there| there == text.as_bytes()) {
                return Ok(());
            }
            fs::write(path, text)
        };
        file(MARKER, "kindling fetches into this folder and may delete it at any time.\n")?;
        for dir in ["objects/pack", "objects/info", "refs/heads"] {
            fs::create_dir_all(self.path.join(dir))?;
        }
        file("config", "[core]\n\trepositoryformatversion = 0\n\tbare = true\n")?;
        file("HEAD", "ref: refs/heads/none\n")
    }

    /// Clears stale locks and half-written packs, and what earlier processes began. What cannot be cleared is met
    /// again by the fetch, which names it.
    fn sweep(&self) {
        let _ = remove_dir(&self.aside());
        let _ = remove_dir(&self.path.join(ATTEMPTS));
        clear(&self.path, 0, &|name| name.ends_with(".lock"), STALE_AFTER);
        clear(&self.path.join("refs"), 8, &|name| name.ends_with(".lock"), STALE_AFTER);
        let packs = self.path.join("objects/pack");
        clear(&packs, 0, &|name| name.starts_with(".tmp"), STALE_AFTER);
        clear(&packs, 0, &|name| name.ends_with(".keep"), Duration::ZERO);
    }
}

fn open(path: &Path) -> Result<ThreadSafeRepository, Trouble> {
    let slots = gix::odb::store::init::Slots::AsNeededByDiskState { multiplier: 2.0, minimum: SPARE_PACKS };
    let overrides = [
        format!("gitoxide.objects.allocLimit={LARGEST_OBJECT}"),
        // An object is what its id says.
        "core.useReplaceRefs=false".to_owned(),
    ];
    gix::open::Options::isolated()
        .with(gix::sec::Trust::Full)
        .open_path_as_is(true)
        .object_store_slots(slots)
        .config_overrides(overrides)
        .open(path)
        .map_err(|error| Trouble::damaged(&error))
}

/// Opens a repository that is not ours, to read objects.
pub(super) fn open_other(git_dir: &Path) -> Result<ThreadSafeRepository, Trouble> {
    open(git_dir)
}

/// A number for the next attempt.
pub(super) fn next_attempt() -> u64 {
    NEXT_ATTEMPT.fetch_add(1, Ordering::Relaxed)
}

/// The ref that attempt `number` fetches into.
pub(super) fn attempt_ref(number: u64) -> String {
    format!("{ATTEMPTS}{number}")
}

/// The folder of refs that attempt `number` fetches all branches and tags into.
pub(super) fn all_refs(number: u64) -> String {
    format!("{ALL}{number}")
}

/// The newest commit that was fetched.
pub(super) fn live(repo: &Repository) -> Result<Option<ObjectId>, Trouble> {
    read_ref(repo, LIVE)
}

/// The commit that a ref of ours is at.
pub(super) fn read_ref(repo: &Repository, name: &str) -> Result<Option<ObjectId>, Trouble> {
    let found = repo.try_find_reference(name).map_err(|error| Trouble::damaged(&error))?;
    Ok(found.and_then(|found| found.try_id().map(gix::Id::detach)))
}

/// The object that a tag leads to, through further tags; any other object is itself. `None` if it is not here.
pub(super) fn peel(repo: &Repository, id: ObjectId) -> Result<Option<ObjectId>, Trouble> {
    let mut at = id;
    for _ in 0..MAX_TAGS {
        let found = repo.try_find_object(at).map_err(|error| Trouble::damaged(&error))?;
        let Some(found) = found else { return Ok(None) };
        if found.kind != gix::objs::Kind::Tag {
            return Ok(Some(at));
        }
        at = TagRefIter::from_bytes(&found.data, at.kind())
            .target_id()
            .map_err(|error| Trouble::damaged(&error))?;
    }
    Ok(None)
}

fn remove_dir(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

/// Removes files that match and were not written to for `age`, down to `depth` levels below `dir`.
fn clear(dir: &Path, depth: usize, matches: &dyn Fn(&str) -> bool, age: Duration) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        let Ok(meta) = entry.metadata() else { continue };
        if meta.is_dir() && depth > 0 {
            clear(&entry.path(), depth - 1, matches, age);
        }
        let name = entry.file_name();
        if meta.is_file() && name.to_str().is_some_and(matches) && is_older(&meta, age) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

fn is_older(meta: &fs::Metadata, age: Duration) -> bool {
    let Ok(Ok(written)) = meta.modified().map(|at| at.duration_since(UNIX_EPOCH)) else { return true };
    let now = Duration::from_millis(u64::try_from(Clock::System.now_ms()).unwrap_or_default());
    now.saturating_sub(written) >= age
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    fn store() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::at(dir.path().join("a/store"));
        (dir, store)
    }

    fn age(path: &Path, by: Duration) {
        let written = fs::metadata(path).unwrap().modified().unwrap() - by;
        fs::File::options().write(true).open(path).unwrap().set_modified(written).unwrap();
    }

    #[test]
    fn makes_a_private_bare_repository() {
        let (_dir, store) = store();
        let repo = store.prepare().unwrap().to_thread_local();
        assert!(repo.is_bare());
        assert_eq!(fs::metadata(&store.path).unwrap().mode() & 0o777, 0o700);
        assert_eq!(live(&repo).unwrap(), None);
        assert!(!store.was_fetched());
    }

    #[test]
    fn completes_what_was_half_made() {
        let (_dir, store) = store();
        store.prepare().unwrap();
        fs::remove_file(store.path.join("HEAD")).unwrap();
        fs::write(store.path.join("config"), "[core\n").unwrap();
        assert!(store.prepare().is_ok());
    }

    #[test]
    fn never_touches_a_folder_of_somebody_else() {
        let (_dir, store) = store();
        fs::create_dir_all(&store.path).unwrap();
        fs::write(store.path.join("thesis.txt"), "years of work").unwrap();
        assert!(matches!(store.prepare(), Err(Trouble::StoreForeign(_))));
        assert!(matches!(store.reset(), Err(Trouble::StoreForeign(_))));
        assert!(store.path.join("thesis.txt").exists());
    }

    #[test]
    fn a_file_above_it_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("git");
        fs::write(&file, "").unwrap();
        let store = Store::at(file.join("jobs-1"));
        assert!(matches!(store.prepare(), Err(Trouble::StoreForeign(path)) if path == file));
    }

    #[test]
    fn clears_only_what_is_stale() {
        let (_dir, store) = store();
        store.prepare().unwrap();
        let at = |name: &str| store.path.join(name);
        fs::create_dir_all(at("refs/kindling/attempt")).unwrap();
        let names =
            ["shallow.lock", "refs/kindling/live.lock", "objects/pack/.tmp1", "refs/kindling/new.lock"];
        for name in names.into_iter().chain(["objects/pack/pack-1.keep", "refs/kindling/attempt/1.lock"]) {
            fs::write(at(name), "").unwrap();
        }
        for name in &names[..3] {
            age(&at(name), STALE_AFTER * 2);
        }
        store.sweep();
        let left: Vec<_> = names.iter().filter(|name| at(name).exists()).collect();
        assert_eq!(left, [&"refs/kindling/new.lock"]);
        assert!(!at("objects/pack/pack-1.keep").exists() && !at("refs/kindling/attempt").exists());
    }

    #[test]
    fn numbers_of_attempts_grow() {
        assert!(next_attempt() < next_attempt());
    }
}
