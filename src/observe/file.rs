//! Watches one file, which editors write, replace and remove as they like. Never reads it: what it says now is for the
//! caller to find out.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::event::EventKindMask;
use notify::{Config, Event, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;

/// How often the file is looked at without any event: some file systems send none, and a directory above it may be
/// replaced.
const POLL: Duration = Duration::from_secs(2);

/// The watch of one file.
#[derive(Debug)]
pub struct FileWatch {
    path: PathBuf,
    told: Arc<Notify>,
    /// `None` where the system has no watch to give: then it is only polled.
    watcher: Option<RecommendedWatcher>,
    seen: Option<Stamp>,
}

/// Device, inode, size and time of the last change of what the path leads to.
type Stamp = (u64, u64, u64, i64, i64);

impl FileWatch {
    /// Watches from now on. The file may be missing, and may be a link.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        let told = Arc::default();
        let watcher = watch(&path, &told);
        let seen = stamp(&path);
        Self { path, told, watcher, seen }
    }

    /// Waits until the file may have changed. Cancel safe.
    pub async fn changed(&mut self) {
        loop {
            let is_told = tokio::time::timeout(POLL, self.told.notified()).await.is_ok();
            let now = stamp(&self.path);
            let differs = std::mem::replace(&mut self.seen, now) != now;
            if differs && !is_told {
                // No event came: the watch is on a directory that is not the file's any more.
                self.watcher = watch(&self.path, &self.told);
            }
            if differs || is_told {
                return;
            }
        }
    }
}

/// How some files stood at a moment, for those of which it is enough to look now and then.
#[derive(Clone, Debug, Default)]
pub struct Stamps(BTreeMap<PathBuf, Option<Stamp>>);

impl Stamps {
    /// How the same files stand now.
    #[must_use]
    pub fn again(&self) -> Self {
        Self(self.0.keys().map(|path| (path.clone(), stamp(path))).collect())
    }

    /// These files: as they stood where that is known, the others as they stand now.
    #[must_use]
    pub fn of(self, paths: &BTreeSet<PathBuf>) -> Self {
        let stood = |path: &PathBuf| self.0.get(path).copied().unwrap_or_else(|| stamp(path));
        Self(paths.iter().map(|path| (path.clone(), stood(path))).collect())
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The first file that stands otherwise now.
    #[must_use]
    pub fn changed(&self) -> Option<&Path> {
        self.0.iter().find(|(path, stood)| stamp(path) != **stood).map(|(path, _)| path.as_path())
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let meta = fs::metadata(path).ok()?;
    Some((meta.dev(), meta.ino(), meta.size(), meta.mtime(), meta.mtime_nsec()))
}

/// Watches the directories that hold the file and what it links to: a file that is replaced takes its own watch with
/// it.
fn watch(path: &Path, told: &Arc<Notify>) -> Option<RecommendedWatcher> {
    let places: Vec<PathBuf> =
        [Some(path.to_owned()), fs::canonicalize(path).ok()].into_iter().flatten().collect();
    let names: Vec<_> = places.iter().filter_map(|place| place.file_name()).map(ToOwned::to_owned).collect();
    let told = Arc::clone(told);
    let handler = move |event: notify::Result<Event>| {
        let is_ours =
            |path: &PathBuf| path.file_name().is_some_and(|name| names.iter().any(|ours| ours == name));
        // An error may have cost an event.
        if event.map_or(true, |event| event.need_rescan() || event.paths.iter().any(is_ours)) {
            told.notify_one();
        }
    };
    let config = Config::default().with_event_kinds(EventKindMask::CORE).with_follow_symlinks(false);
    let mut watcher = RecommendedWatcher::new(handler, config).ok()?;
    for dir in places.iter().filter_map(|place| place.parent()) {
        if let Err(error) = watcher.watch(dir, RecursiveMode::NonRecursive) {
            tracing::debug!("{} is only polled: {error}", path.display());
        }
    }
    Some(watcher)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    const BOUND: Duration = Duration::from_secs(20);

    async fn changes(watch: &mut FileWatch, what: &str) {
        assert!(tokio::time::timeout(BOUND, watch.changed()).await.is_ok(), "not seen: {what}");
    }

    /// Lets the events of what was done before go by.
    async fn drain(watch: &mut FileWatch) {
        while tokio::time::timeout(Duration::from_millis(100), watch.changed()).await.is_ok() {}
    }

    #[tokio::test]
    async fn whatever_way_a_file_is_saved_it_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let (file, other) = (dir.path().join("kindling.yaml"), dir.path().join(".kindling.yaml.swp"));
        let mut watch = FileWatch::new(file.clone());
        fs::write(&file, "1").unwrap();
        changes(&mut watch, "it is made").await;
        drain(&mut watch).await;
        fs::write(&file, "2").unwrap();
        changes(&mut watch, "it is written in place").await;
        drain(&mut watch).await;
        fs::write(&other, "3").unwrap();
        let seen = tokio::time::timeout(Duration::from_millis(200), watch.changed()).await;
        assert!(seen.is_err(), "an editor's temporary file is another file");
        fs::rename(&other, &file).unwrap();
        changes(&mut watch, "another one is renamed over it").await;
        drain(&mut watch).await;
        fs::remove_file(&file).unwrap();
        changes(&mut watch, "it is removed").await;
    }

    #[tokio::test]
    async fn a_link_is_followed_and_a_replaced_directory_is_found_by_polling() {
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| dir.path().join(path);
        fs::create_dir_all(at("real")).unwrap();
        fs::create_dir_all(at("here")).unwrap();
        fs::write(at("real/k.yaml"), "1").unwrap();
        std::os::unix::fs::symlink(at("real/k.yaml"), at("here/kindling.yaml")).unwrap();
        let mut watch = FileWatch::new(at("here/kindling.yaml"));
        fs::write(at("real/k.yaml"), "2").unwrap();
        let began = Instant::now();
        changes(&mut watch, "what it links to is written").await;
        assert!(began.elapsed() < POLL, "by an event");
        drain(&mut watch).await;
        fs::rename(at("here"), at("gone")).unwrap();
        fs::create_dir_all(at("here")).unwrap();
        fs::write(at("here/kindling.yaml"), "3").unwrap();
        changes(&mut watch, "the directory is replaced").await;
        drain(&mut watch).await;
        fs::write(at("here/kindling.yaml"), "4").unwrap();
        let began = Instant::now();
        changes(&mut watch, "the new one is written").await;
        assert!(began.elapsed() < POLL, "by an event again");
    }

    #[test]
    fn a_file_that_is_replaced_made_or_removed_stands_otherwise() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (dir.path().join("one"), dir.path().join("two"));
        fs::write(&one, "1").unwrap();
        let stamps = Stamps::default().of(&BTreeSet::from([one.clone(), two.clone()]));
        assert_eq!(stamps.changed(), None);
        fs::write(&two, "2").unwrap();
        assert_eq!(stamps.changed(), Some(two.as_path()));
        // What stood before is remembered, what is new is taken as it is.
        let again = stamps.clone().of(&BTreeSet::from([two.clone(), dir.path().to_owned()]));
        assert_eq!(again.changed(), Some(two.as_path()));
        let now = stamps.again();
        assert_eq!(now.changed(), None);
        fs::write(dir.path().join("new"), "3").unwrap();
        fs::rename(dir.path().join("new"), &one).unwrap();
        assert_eq!(now.changed(), Some(one.as_path()));
        assert!(Stamps::default().is_empty() && Stamps::default().changed().is_none());
    }
}
