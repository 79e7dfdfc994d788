//! The observer of git repositories against real ones, over files and smart HTTP.

mod branch;
mod figures;
mod login;
mod near;
mod nested;
mod reference;
mod server;
mod service;
mod shared;
mod ssh;
mod store;
mod tree;
mod words;

use std::collections::BTreeMap;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use kindling::model::path::{PathRefusal, RelPath};
use kindling::model::source::{DEFAULT_POLL_INTERVAL, GitAuth, GitOrigin, GitRef, Revision, Rewrite};
use kindling::model::tree::{Changes, NodeKind};
use kindling::observe::git::{CLONE_TIMEOUT, FETCH_TIMEOUT, GitOptions, GitSource, Stores};
use kindling::observe::{Ask, Observation, ObserveError, ReadRefusal, Reading, Sink, Source, Want};
use kindling::plan::hash;

use crate::http_backend::HttpRemote;
use crate::repo::Repo;

/// How a test reaches its remote.
#[derive(Clone, Copy, Debug)]
enum Via {
    File,
    Http,
}

/// One source with its remote.
struct Bench {
    repo: Repo,
    server: HttpRemote,
    data: tempfile::TempDir,
    via: Via,
}

impl Bench {
    fn new(via: Via, repo: Repo) -> Self {
        let server = HttpRemote::serve(repo.root());
        Self { repo, server, data: tempfile::tempdir().unwrap(), via }
    }

    fn url(&self) -> String {
        match self.via {
            Via::File => self.repo.bare().display().to_string(),
            Via::Http => self.server.url("remote.git"),
        }
    }

    /// Where the branch `main` is fetched into.
    fn store(&self) -> PathBuf {
        self.store_of(&self.url())
    }

    fn store_of(&self, url: &str) -> PathBuf {
        let options = self.options(url);
        options.stores.path_of(&options.origin).unwrap()
    }

    /// Options of a source that shares nothing with others but what is on the disk, as after a restart.
    fn options(&self, url: &str) -> GitOptions {
        let origin = GitOrigin {
            url: url.to_owned(),
            reference: GitRef::Branch("main".into()),
            path: RelPath::root(),
            poll_interval: DEFAULT_POLL_INTERVAL,
            auth: None,
            rewrite: Rewrite::Follow,
        };
        GitOptions {
            origin,
            stores: Stores::new(self.data.path()),
            fetch_timeout: FETCH_TIMEOUT,
            clone_timeout: CLONE_TIMEOUT,
        }
    }

    fn source(&self) -> GitSource {
        GitSource::open(self.options(&self.url()))
    }

    /// A source that has looked once, on the store of another one.
    async fn restarted(&self) -> GitSource {
        let mut source = self.source();
        look(&mut source).await;
        source
    }

    fn source_at(&self, branch: Option<&str>, path: &str) -> GitSource {
        let mut options = self.options(&self.url());
        options.origin.reference = branch.map_or(GitRef::Head, |branch| GitRef::Branch(branch.to_owned()));
        options.origin.path = RelPath::parse(path).unwrap();
        GitSource::open(options)
    }

    fn following(&self, reference: GitRef) -> GitSource {
        let mut options = self.options(&self.url());
        options.origin.reference = reference;
        GitSource::open(options)
    }

    /// A source with deadlines of its own.
    fn impatient(&self, url: &str, limit: Duration) -> GitSource {
        let mut options = self.options(url);
        (options.fetch_timeout, options.clone_timeout) = (limit, limit);
        GitSource::open(options)
    }
}

/// The packs of a repository.
fn packs(store: &Path) -> usize {
    let files = std::fs::read_dir(store.join("objects/pack")).unwrap().flatten();
    files.filter(|file| file.path().extension().is_some_and(|ending| ending == "pack")).count()
}

/// Runs a test over files and over HTTP.
async fn both<F: Future<Output = ()>>(files: &[(&str, &str)], test: impl Fn(Bench) -> F) {
    for via in [Via::File, Via::Http] {
        let repo = if files.is_empty() { Repo::new() } else { Repo::with(files) };
        test(Bench::new(via, repo)).await;
    }
}

async fn look(source: &mut GitSource) -> Observation {
    source.observe(Ask::Hinted, None).await.unwrap()
}

async fn look_from(source: &mut GitSource, deployed: &str) -> Observation {
    source.observe(Ask::Full, Some(Revision::new(deployed))).await.unwrap()
}

async fn fail(source: &mut GitSource) -> ObserveError {
    source.observe(Ask::Hinted, None).await.unwrap_err()
}

fn at(seen: &Observation) -> &str {
    seen.revision.as_ref().unwrap().as_str()
}

fn paths(seen: &Observation) -> Vec<&str> {
    seen.tree.iter().map(|(path, _)| path.as_str()).collect()
}

fn changed(seen: &Observation) -> Vec<&str> {
    match &seen.changes {
        Changes::All => panic!("everything changed"),
        Changes::Paths(paths) => paths.iter().map(RelPath::as_str).collect(),
    }
}

fn want(path: &str) -> Want {
    Want { path: RelPath::parse(path).unwrap(), bytes: true, max: 1000 }
}

fn no_sink() -> Sink {
    Arc::new(|_, _| Ok(()))
}

async fn read(source: &mut GitSource, path: &str) -> Reading {
    source.read(vec![want(path)], no_sink()).await.unwrap().remove(0)
}

async fn text(source: &mut GitSource, path: &str) -> String {
    let reading = read(source, path).await;
    String::from_utf8(reading.bytes.unwrap_or_else(|| panic!("{:?}", reading.content)).to_vec()).unwrap()
}

fn refs(store: &Path) -> Vec<String> {
    let all = crate::repo::run(store, &["for-each-ref", "--format=%(refname)"], b"");
    all.lines().map(str::to_owned).collect()
}
