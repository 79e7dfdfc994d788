//! A directory, the source that looks at it, and what a user of the source would know.

mod ignoring;
mod random;
mod reading;
mod scanning;
mod watching;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::{LocalOptions, LocalSource};
use crate::model::path::RelPath;
use crate::model::tree::{Changes, Node, Refused, Stamp};
use crate::observe::{Ask, ObserveError, ReadRefusal, Reading, Sink, Source, Want};

/// How long anything may take that does not depend on a timer.
const LIMIT: Duration = Duration::from_secs(20);

/// A source with its directory.
struct Site {
    /// Holds the root and what lies beside it.
    temp: TempDir,
    root: PathBuf,
    options: LocalOptions,
    source: LocalSource,
    /// What a user who only looks at changed paths knows.
    model: BTreeMap<RelPath, Node>,
    /// How many names were refused.
    model_refused: usize,
    /// The names themselves.
    refused: Vec<Refused>,
    /// A hint was taken and not followed yet.
    hinted: bool,
}

impl Site {
    /// Not looked at yet.
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut LocalOptions)) -> Self {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().canonicalize().unwrap().join("root");
        std::fs::create_dir(&root).unwrap();
        let prune = vec!["node_modules".into(), ".venv".into(), "__pycache__".into()];
        let mut options = LocalOptions { root: root.clone(), prune, ..LocalOptions::default() };
        change(&mut options);
        let source = LocalSource::open(options.clone());
        Self {
            temp,
            root,
            options,
            source,
            model: BTreeMap::new(),
            model_refused: 0,
            refused: Vec::new(),
            hinted: false,
        }
    }

    /// Looked at once, with these files in it.
    async fn seen(files: &[&str]) -> Self {
        let mut site = Self::new();
        files.iter().for_each(|file| site.write(file, file));
        site.observe(Ask::Hinted).await;
        site
    }

    fn at(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    /// Writes a file, with the directories above it.
    fn write(&self, path: &str, text: &str) {
        let path = self.at(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn rename(&self, from: &str, to: &str) {
        std::fs::rename(self.at(from), self.at(to)).unwrap();
    }

    fn remove(&self, path: &str) {
        let path = self.at(path);
        if path.symlink_metadata().unwrap().is_dir() {
            std::fs::remove_dir_all(path).unwrap();
        } else {
            std::fs::remove_file(path).unwrap();
        }
    }

    fn git(&self, args: &[&str]) {
        git(&self.root, args);
    }

    async fn observe(&mut self, ask: Ask) -> BTreeSet<String> {
        self.try_observe(ask).await.unwrap()
    }

    /// Observes, and holds what is told against what was told before.
    async fn try_observe(&mut self, ask: Ask) -> Result<BTreeSet<String>, ObserveError> {
        self.hinted = false;
        let seen = self.source.observe(ask, None).await?;
        let mut changed = BTreeSet::new();
        self.refused = seen.tree.refused().to_vec();
        self.model_refused = self.refused.len();
        match seen.changes {
            Changes::All => {
                self.model = seen.tree.iter().map(|(path, node)| (path.clone(), *node)).collect();
                changed.insert("ALL".into());
            }
            Changes::Paths(paths) => {
                for path in paths {
                    let (was, now) = (self.model.remove(&path), seen.tree.get(&path));
                    // A directory is told for the names that are refused in it.
                    let is_file = was.is_some() || now.is_some();
                    assert!(was.as_ref() != now || !is_file, "{path} did not change");
                    self.model.extend(now.map(|node| (path.clone(), *node)));
                    changed.insert(path.to_string());
                }
            }
        }
        assert!(self.model.iter().eq(seen.tree.iter()), "the changes do not lead to the tree");
        Ok(changed)
    }

    /// Observes by hints alone until what is known is what is there. Gives back all that was told to have changed.
    async fn settle(&mut self) -> BTreeSet<String> {
        let mut changed = BTreeSet::new();
        let begun = Instant::now();
        loop {
            if self.hinted
                || tokio::time::timeout(Duration::from_millis(20), self.source.hint()).await.is_ok()
            {
                changed.extend(self.observe(Ask::Hinted).await);
                continue;
            }
            let there = self.there().await;
            if self.known() == there {
                return changed;
            }
            if begun.elapsed() > LIMIT {
                assert_eq!(self.known(), there, "hints did not lead to what is there");
            }
        }
    }

    /// Observes by hints alone until something is so. Gives back all that was told to have changed.
    async fn settle_until(&mut self, is_so: impl Fn(&Self) -> bool) -> BTreeSet<String> {
        let mut changed = BTreeSet::new();
        while !is_so(self) {
            self.hint().await;
            changed.extend(self.observe(Ask::Hinted).await);
        }
        changed
    }

    /// What a new observer sees.
    async fn there(&self) -> Vec<(String, Node)> {
        let mut fresh = LocalSource::open(LocalOptions { max_watches: Some(0), ..self.options.clone() });
        let seen = fresh.observe(Ask::Full, None).await.unwrap();
        seen.tree.iter().map(|(path, node)| (path.to_string(), without_round(*node))).collect()
    }

    fn known(&self) -> Vec<(String, Node)> {
        self.model.iter().map(|(path, node)| (path.to_string(), without_round(*node))).collect()
    }

    fn paths(&self) -> Vec<String> {
        self.model.keys().map(ToString::to_string).collect()
    }

    /// The next hint, within the time that any of them takes.
    async fn hint(&mut self) -> String {
        self.hinted = true;
        tokio::time::timeout(LIMIT, self.source.hint()).await.expect("no hint").0
    }

    /// Takes hints up to the one of this path.
    async fn hint_of(&mut self, path: &str) {
        while self.hint().await != path {}
    }

    /// Fails if there is a hint within a time in which one would come many times over.
    async fn no_hint(&mut self) {
        let hint = tokio::time::timeout(Duration::from_millis(150), self.source.hint()).await;
        assert_eq!(hint.ok(), None);
    }

    /// Takes hints and observes until there are none.
    async fn drain(&mut self) {
        while tokio::time::timeout(Duration::from_millis(50), self.source.hint()).await.is_ok() {
            self.observe(Ask::Hinted).await;
        }
    }

    /// Looks until nothing is racy any more, and no hint is left.
    async fn quiet(&mut self) {
        self.drain().await;
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_millis(60) {
            self.observe(Ask::Full).await;
        }
    }

    async fn read(&mut self, path: &str) -> Reading {
        self.read_up_to(path, 1 << 20).await
    }

    async fn read_up_to(&mut self, path: &str, max: u64) -> Reading {
        let want = Want { path: RelPath::parse(path).unwrap(), bytes: true, max };
        let mut all = self.source.read(vec![want], no_sink()).await.unwrap();
        assert_eq!(all.len(), 1);
        all.remove(0)
    }

    async fn text(&mut self, path: &str) -> Result<String, ReadRefusal> {
        let reading = self.read(path).await;
        reading.content.map(|_| String::from_utf8(reading.bytes.unwrap().to_vec()).unwrap())
    }

    /// The names that are refused, after a full look.
    async fn refused(&mut self) -> Vec<Refused> {
        self.observe(Ask::Full).await;
        self.refused.clone()
    }
}

fn no_sink() -> Sink {
    Arc::new(|_, _| Ok(()))
}

fn without_round(node: Node) -> Node {
    match node.stamp {
        Stamp::Stat { size, modified, changed, inode, .. } => {
            Node { stamp: Stamp::Stat { size, modified, changed, inode, round: 0 }, ..node }
        }
        Stamp::Object(_) => node,
    }
}

fn git(dir: &Path, args: &[&str]) {
    let identity = ["-c", "user.name=t", "-c", "user.email=t@localhost", "-c", "init.defaultBranch=main"];
    let done = Command::new("git")
        .args(identity)
        .args(args)
        .current_dir(dir)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .output()
        .unwrap();
    assert!(done.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&done.stderr));
}

fn set(paths: &[&str]) -> BTreeSet<String> {
    paths.iter().map(ToString::to_string).collect()
}
