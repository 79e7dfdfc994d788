//! A service in memory: a source and a target that the test plays, a real store, time that runs fast.

mod target;
mod time;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kindling::act::registry::Registry;
use kindling::model::event::{Event, EventType};
use kindling::model::id::{SourceName, UnitId};
use kindling::model::limits::Limits;
use kindling::model::path::RelPath;
use kindling::model::source::{
    Allow, Declared, GitOrigin, GitRef, LocalOrigin, Origin, Revision, Rewrite, SourceSpec,
};
use kindling::model::time::Timestamp;
use kindling::model::tree::{Changes, Content, Node, NodeKind, Stamp, Tree};
use kindling::model::unit::Version;
use kindling::observe::{Ask, Hint, Observation, ObserveError, ReadRefusal, Reading, Sink, Source, Want};
use kindling::plan::hash;
use kindling::reconcile::board::Board;
use kindling::reconcile::core::{Core, Live};
use kindling::reconcile::daemons::{Daemons, Health};
use kindling::reconcile::events::Events;
use kindling::reconcile::handle::{Handle, Subject};
use kindling::reconcile::hooks::HookSecrets;
use kindling::reconcile::links::Links;
use kindling::reconcile::runs::{Runner, Tools};
use kindling::reconcile::schedule::Schedules;
use kindling::reconcile::statuses::Statuses;
use kindling::reconcile::trust::Trust;
use kindling::record::{Blobs, SourceRecord, Store, UnitRecord};
use kindling::support::clock::Clock;
use tokio::sync::{Notify, broadcast, mpsc};
use tokio_util::sync::CancellationToken;

pub use self::target::FakeTarget;
use self::time::FastTime;

/// Longest time that a test waits for a state, in the test's fast time.
pub const BOUND: Duration = Duration::from_secs(120);

/// A source that a test writes to.
#[derive(Clone, Default)]
pub struct FakeFiles(Arc<Mutex<Files>>);

#[derive(Default)]
struct Files {
    files: BTreeMap<String, Vec<u8>>,
    changed: BTreeSet<String>,
    hints: Vec<mpsc::UnboundedSender<Hint>>,
    fails: Option<&'static str>,
    looks: Vec<Ask>,
    torn: BTreeSet<String>,
    reads_take: Duration,
    looks_take: Duration,
    sink_fails: bool,
    revision: Option<Revision>,
    fetched: Option<Revision>,
    commits: HashMap<Revision, BTreeMap<String, Vec<u8>>>,
    mended: Arc<Notify>,
    copies: HashMap<PathBuf, FakeFiles>,
    hangs: bool,
    hanging: u32,
}

impl FakeFiles {
    /// Writes a file and tells the watcher.
    pub fn put(&self, path: &str, text: &str) -> &Self {
        self.silently(path, Some(text)).tell(path)
    }

    /// Removes a file and tells the watcher.
    pub fn remove(&self, path: &str) -> &Self {
        self.silently(path, None).tell(path)
    }

    /// Writes or removes a file without any event.
    pub fn silently(&self, path: &str, text: Option<&str>) -> &Self {
        let mut files = self.0.lock().unwrap();
        match text {
            Some(text) => files.files.insert(path.into(), text.as_bytes().to_vec()),
            None => files.files.remove(path),
        };
        files.changed.insert(path.into());
        drop(files);
        self
    }

    fn tell(&self, path: &str) -> &Self {
        self.0.lock().unwrap().hints.retain(|hints| hints.send(Hint(path.into())).is_ok());
        self
    }

    /// A manual shell task.
    pub fn task(&self, dir: &str, script: &str) -> &Self {
        self.put(&format!("{dir}/task.yaml"), &manifest(dir, "manual: true"))
            .put(&format!("{dir}/task.sh"), script)
    }

    /// A daemon.
    pub fn daemon(&self, dir: &str, script: &str) -> &Self {
        self.put(&format!("{dir}/task.yaml"), &manifest(dir, "daemon: true"))
            .put(&format!("{dir}/task.sh"), script)
    }

    /// Removes everything.
    pub fn clear(&self) -> &Self {
        let all: Vec<String> = self.0.lock().unwrap().files.keys().cloned().collect();
        all.iter().for_each(|path| {
            self.remove(path);
        });
        self
    }

    /// Lets every look fail with this reason, or none.
    pub fn fail(&self, reason: Option<&'static str>) -> &Self {
        self.0.lock().unwrap().fails = reason;
        self
    }

    /// Lets the next read of a path find it being written.
    pub fn tear(&self, path: &str) -> &Self {
        self.0.lock().unwrap().torn.insert(path.into());
        self
    }

    /// Lets every read take this long.
    pub fn reads_take(&self, time: Duration) -> &Self {
        self.0.lock().unwrap().reads_take = time;
        self
    }

    /// Lets every look take this long after it saw the files.
    pub fn looks_take(&self, time: Duration) -> &Self {
        self.0.lock().unwrap().looks_take = time;
        self
    }

    /// What a file says; `None` where there is none.
    pub fn text(&self, path: &str) -> Option<String> {
        let files = self.0.lock().unwrap();
        files.files.get(path).map(|bytes| String::from_utf8(bytes.clone()).unwrap())
    }

    /// Every file that is there.
    pub fn paths(&self) -> Vec<String> {
        self.0.lock().unwrap().files.keys().cloned().collect()
    }

    /// Lets the place where contents are kept refuse them, or not.
    pub fn sink_fails(&self, fails: bool) -> &Self {
        self.0.lock().unwrap().sink_fails = fails;
        self
    }

    /// The commit that is seen from now on.
    pub fn commit(&self, id: &str) -> &Self {
        let mut files = self.0.lock().unwrap();
        files.revision = Some(Revision::new(id));
        let tree = files.files.clone();
        files.commits.insert(Revision::new(id), tree);
        drop(files);
        self
    }

    /// Loses what was kept of earlier commits.
    pub fn forget(&self) -> &Self {
        self.0.lock().unwrap().commits.clear();
        self
    }

    /// Changes the file of a credential.
    pub fn mend(&self) -> &Self {
        self.0.lock().unwrap().mended.notify_one();
        self
    }

    /// Lets every look hang, or goes on with those that do.
    pub fn hang(&self, hangs: bool) -> &Self {
        self.0.lock().unwrap().hangs = hangs;
        self
    }

    /// Whether a look hangs now.
    pub fn is_hanging(&self) -> bool {
        self.0.lock().unwrap().hanging > 0
    }

    /// The directory or the repository at `path`, which may stand for these files; nothing is in it at first.
    pub fn copy_at(&self, path: &str) -> FakeFiles {
        self.0.lock().unwrap().copies.entry(path.into()).or_default().clone()
    }

    /// What a source of this kind sees.
    fn of(&self, spec: &SourceSpec) -> FakeFiles {
        let place = match &spec.origin {
            Origin::Local(local) => local.path.clone(),
            Origin::Git(git) => git.url.clone().into(),
        };
        self.0.lock().unwrap().copies.get(&place).unwrap_or(self).clone()
    }

    /// Whether somebody observes these files.
    pub fn is_observed(&self) -> bool {
        self.0.lock().unwrap().hints.iter().any(|hints| !hints.is_closed())
    }

    /// How often and how closely the source was looked at.
    pub fn looks(&self) -> Vec<Ask> {
        self.0.lock().unwrap().looks.clone()
    }
}

pub fn manifest(dir: &str, trigger: &str) -> String {
    let name = dir.rsplit('/').next().unwrap();
    format!("apiVersion: kindling/v1\nkind: Task\nname: {name}\nruntime: shell\ntrigger: {{{trigger}}}\n")
}

/// The observer of [`FakeFiles`].
pub struct FakeSource {
    files: FakeFiles,
    hints: mpsc::UnboundedReceiver<Hint>,
    seen: bool,
    recalled: Option<BTreeMap<String, Vec<u8>>>,
}

impl FakeSource {
    pub fn new(files: &FakeFiles) -> Self {
        let (send, hints) = mpsc::unbounded_channel();
        files.0.lock().unwrap().hints.push(send);
        Self { files: files.clone(), hints, seen: false, recalled: None }
    }
}

fn stamp(bytes: &[u8]) -> Stamp {
    let mut id = [0; 20];
    id.copy_from_slice(&hash::content(bytes).bytes()[..20]);
    Stamp::Object(id)
}

fn tree_of(files: &BTreeMap<String, Vec<u8>>) -> Tree {
    let mut tree = Tree::default();
    for (path, bytes) in files {
        let node = Node { kind: NodeKind::Regular, size: bytes.len() as u64, stamp: stamp(bytes) };
        tree.insert(RelPath::parse(path).unwrap(), node);
    }
    tree
}

impl FakeSource {
    /// The files as they are now.
    fn see(&mut self, ask: Ask, deployed: Option<&Revision>) -> Result<Observation, ObserveError> {
        let mut files = self.files.0.lock().unwrap();
        files.looks.push(ask);
        if let Some(reason) = files.fails {
            let message = "the source fails".into();
            return Err(ObserveError { reason, message, stalled: reason == "Denied", source: None });
        }
        let tree = tree_of(&files.files);
        self.recalled = None;
        let changed = std::mem::take(&mut files.changed);
        let changes = if self.seen {
            Changes::Paths(changed.iter().map(|path| RelPath::parse(path).unwrap()).collect())
        } else {
            Changes::All
        };
        self.seen = true;
        let revision = files.revision.clone();
        files.fetched.clone_from(&revision);
        // A directory has no commits.
        let rewritten = revision.is_some() && deployed.is_some() && deployed != revision.as_ref();
        Ok(Observation { tree: Arc::new(tree), changes, revision, rewritten })
    }
}

impl Source for FakeSource {
    async fn observe(&mut self, ask: Ask, deployed: Option<Revision>) -> Result<Observation, ObserveError> {
        self.files.0.lock().unwrap().hanging += 1;
        while self.files.0.lock().unwrap().hangs {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        self.files.0.lock().unwrap().hanging -= 1;
        let (seen, takes) = (self.see(ask, deployed.as_ref()), self.files.0.lock().unwrap().looks_take);
        if !takes.is_zero() {
            tokio::time::sleep(takes).await;
        }
        seen
    }

    async fn read(&mut self, wants: Vec<Want>, sink: Sink) -> Result<Vec<Reading>, ObserveError> {
        let takes = self.files.0.lock().unwrap().reads_take;
        if !takes.is_zero() {
            tokio::time::sleep(takes).await;
        }
        let mut files = self.files.0.lock().unwrap();
        if files.sink_fails {
            let message = "cannot keep what was read".into();
            return Err(ObserveError { reason: "StoreFailed", message, stalled: false, source: None });
        }
        let mut readings = Vec::new();
        for want in wants {
            let torn = files.torn.remove(want.path.as_str());
            let all = self.recalled.as_ref().unwrap_or(&files.files);
            let found = all.get(want.path.as_str()).filter(|_| !torn).cloned();
            let content = match &found {
                None => Err(if torn { ReadRefusal::Moving } else { ReadRefusal::Gone }),
                Some(bytes) => {
                    sink(&hash::content(bytes), bytes).unwrap();
                    Ok(Content { hash: hash::content(bytes), size: bytes.len() as u64, target: None })
                }
            };
            let bytes = found.filter(|_| want.bytes).map(Into::into);
            readings.push(Reading { path: want.path, content, bytes });
        }
        Ok(readings)
    }

    async fn recall(&mut self, revision: Option<Revision>) -> Result<Observation, ObserveError> {
        let kept = {
            let files = self.files.0.lock().unwrap();
            let revision = revision.or_else(|| files.fetched.clone());
            revision.and_then(|revision| Some((files.commits.get(&revision)?.clone(), revision)))
        };
        let Some((files, revision)) = kept else {
            let message = "the commit is not kept here".into();
            return Err(ObserveError { reason: "CommitGone", message, stalled: false, source: None });
        };
        // The next look differs from this one in everything.
        self.seen = false;
        let tree = Arc::new(tree_of(&files));
        self.recalled = Some(files);
        Ok(Observation { tree, changes: Changes::All, revision: Some(revision), rewritten: false })
    }

    async fn mended(&mut self) {
        let mended = Arc::clone(&self.files.0.lock().unwrap().mended);
        mended.notified().await;
    }

    async fn hint(&mut self) -> Hint {
        match self.hints.recv().await {
            Some(hint) => hint,
            None => std::future::pending().await,
        }
    }
}

/// A service with one source `s`.
pub struct World {
    pub time: FastTime,
    pub files: FakeFiles,
    pub target: FakeTarget,
    pub service: Handle<FakeTarget>,
    pub events: broadcast::Receiver<Arc<[Event]>>,
    pub store: Store,
    pub dir: Arc<tempfile::TempDir>,
}

pub fn source() -> SourceName {
    SourceName::new("s").unwrap()
}

pub fn unit(key: &str) -> UnitId {
    UnitId::new(source(), key)
}

pub fn all() -> Subject {
    Subject::Source(source())
}

/// The environment of the service.
fn variable(name: &str) -> Option<std::ffi::OsString> {
    (name == "ALLOWED").then(|| "0123456789abcdef".into())
}

/// The sources that the store has, or else one that is a directory.
async fn recorded_sources(store: &Store) -> Vec<SourceRecord> {
    let known = store.sources().await.unwrap();
    if known.is_empty() {
        let origin = Origin::Local(LocalOrigin { path: "/nowhere".into(), debounce: None });
        let spec = SourceSpec { name: source(), origin, allow: Allow::default() };
        let record = SourceRecord::new(spec, Declared::File);
        store.put_source(&record).await.unwrap();
    }
    let mut sources = store.sources().await.unwrap();
    for record in &mut sources {
        // The store has none: it comes from the configuration alone.
        let env = vec!["ALLOWED".into(), "OWN_SECRET".into()];
        record.spec.allow = Allow { env, hosts: Vec::new() };
    }
    sources
}

impl World {
    /// A service over these files that has looked at nothing yet.
    pub async fn start(files: &FakeFiles) -> Self {
        let store = Store::in_memory().await.unwrap();
        let dir = Arc::new(tempfile::tempdir().unwrap());
        Self::start_with(files, FakeTarget::default(), store, dir, FastTime::start()).await
    }

    /// The same, where the time of day goes with the test's time from `now` on.
    pub async fn start_at(files: &FakeFiles, now: Timestamp) -> Self {
        let store = Store::in_memory().await.unwrap();
        let dir = Arc::new(tempfile::tempdir().unwrap());
        let clock = Clock::going_from(now.0);
        Self::start_by(files, FakeTarget::default(), store, dir, FastTime::start(), (clock, None)).await
    }

    /// The same, where the source is a branch of a repository that is polled this often.
    pub async fn start_git(files: &FakeFiles, poll_interval: Duration) -> Self {
        Self::start_git_with(files, poll_interval, Rewrite::Follow).await
    }

    /// The same, where each commit counts as one that rewrites the branch.
    pub async fn start_guarded(files: &FakeFiles, poll_interval: Duration) -> Self {
        Self::start_git_with(files, poll_interval, Rewrite::Guard).await
    }

    /// A service with these sources, each the directory of its name, that has looked at none of them yet.
    pub async fn start_sources(files: &FakeFiles, names: &[&str]) -> Self {
        let store = Store::in_memory().await.unwrap();
        for name in names {
            let origin = Origin::Local(LocalOrigin { path: format!("/{name}").into(), debounce: None });
            let spec = SourceSpec { name: SourceName::new(name).unwrap(), origin, allow: Allow::default() };
            store.put_source(&SourceRecord::new(spec, Declared::File)).await.unwrap();
        }
        let dir = Arc::new(tempfile::tempdir().unwrap());
        Self::start_with(files, FakeTarget::default(), store, dir, FastTime::start()).await
    }

    async fn start_git_with(files: &FakeFiles, poll_interval: Duration, rewrite: Rewrite) -> Self {
        let store = Store::in_memory().await.unwrap();
        let origin = Origin::Git(GitOrigin {
            url: "https://example.org/team/r.git".into(),
            reference: GitRef::Head,
            path: RelPath::root(),
            poll_interval,
            auth: None,
            rewrite,
        });
        let spec = SourceSpec { name: source(), origin, allow: Allow::default() };
        store.put_source(&SourceRecord::new(spec, Declared::File)).await.unwrap();
        let dir = Arc::new(tempfile::tempdir().unwrap());
        Self::start_with(files, FakeTarget::default(), store, dir, FastTime::start()).await
    }

    /// The same service after it was killed: its processes are gone, the store and the blobs are what is left.
    pub async fn again(self) -> Self {
        self.again_without(None).await
    }

    /// The same, where a source has left the configuration meanwhile.
    pub async fn again_without(self, left: Option<&SourceName>) -> Self {
        let Self { files, store, dir, time, service, .. } = self;
        service.core().closing.cancel();
        while files.0.lock().unwrap().hints.iter().any(|hints| !hints.is_closed()) {
            tokio::task::yield_now().await;
        }
        let clock = service.core().clock.clone();
        Self::start_by(&files, FakeTarget::default(), store, dir, time, (clock, left)).await
    }

    async fn start_with(
        files: &FakeFiles,
        target: FakeTarget,
        store: Store,
        dir: Arc<tempfile::TempDir>,
        time: FastTime,
    ) -> Self {
        Self::start_by(files, target, store, dir, time, (Clock::default(), None)).await
    }

    async fn start_by(
        files: &FakeFiles,
        target: FakeTarget,
        store: Store,
        dir: Arc<tempfile::TempDir>,
        time: FastTime,
        (clock, left): (Clock, Option<&SourceName>),
    ) -> Self {
        let events = Events::default();
        let shared = Arc::new(target.clone());
        let board = Board::default();
        let trust = Trust::new(board.clone(), std::collections::BTreeSet::from(["OWN_SECRET".to_owned()]));
        let limits = Live::from(Limits::default());
        let registry = Registry::default();
        let runner = Runner::new(Tools {
            store: store.clone(),
            target: Arc::clone(&shared),
            clock: clock.clone(),
            events: events.clone(),
            trust: trust.clone(),
            limits: limits.clone(),
            registry: registry.clone(),
            board: board.clone(),
        });
        let slot: Arc<Mutex<Option<Handle<FakeTarget>>>> = Arc::default();
        let report = {
            let slot = Arc::clone(&slot);
            Box::new(move |unit: &UnitId, health: Health| {
                if let Some(service) = &*slot.lock().unwrap() {
                    service.report_health(unit, health);
                }
            })
        };
        let core = Arc::new(Core {
            store: store.clone(),
            blobs: Blobs::new(dir.path().join("blobs")),
            registry,
            target: shared,
            daemons: Daemons::new(Arc::clone(&runner), report),
            runner,
            schedules: Schedules::default(),
            events: events.clone(),
            board,
            links: Links::default(),
            trust,
            hooks: HookSecrets::new(variable),
            clock,
            limits,
            webhooks: std::collections::BTreeSet::new().into(),
            statuses: Statuses::default(),
            closing: CancellationToken::new(),
        });
        let listener = events.listen();
        let opened = files.clone();
        let service = Handle::new(core, move |spec: &SourceSpec| FakeSource::new(&opened.of(spec)));
        *slot.lock().unwrap() = Some(service.clone());
        let sources = recorded_sources(&store).await;
        let (gone, sources) = sources.into_iter().partition(|source| Some(&source.spec.name) == left);
        let recorded = service.recorded(sources).await.unwrap();
        service.register(&recorded);
        for recorded in recorded {
            service.start_source(recorded);
        }
        service.discard_sources(service.recorded(gone).await.unwrap()).await;
        service.start_schedules();
        Self { time, files: files.clone(), target, service, events: listener, store, dir }
    }

    /// Waits for an event of this kind on this unit.
    pub async fn event(&mut self, kind: EventType, key: &str) -> Event {
        let wanted = unit(key);
        tokio::time::timeout(BOUND, async {
            loop {
                let batch = self.events.recv().await.expect("the service lives and nothing was missed");
                if let Some(event) = batch.iter().find(|e| e.kind == kind && e.unit.as_ref() == Some(&wanted))
                {
                    return event.clone();
                }
            }
        })
        .await
        .unwrap_or_else(|_| {
            panic!("no {} of {key}: {:#?}", kind.as_str(), self.service.core().board.unit(&wanted))
        })
    }

    /// Waits until something is so.
    pub async fn until(&self, what: &str, so: impl Fn(&Self) -> bool) {
        let waited = tokio::time::timeout(BOUND, async {
            while !so(self) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
        assert!(waited.await.is_ok(), "not so: {what}; units: {:#?}", self.service.core().board.units());
    }

    pub fn record(&self, key: &str) -> Option<Arc<UnitRecord>> {
        self.service.core().board.unit(&unit(key))
    }

    pub fn live(&self, key: &str) -> Option<Arc<Version>> {
        self.service.core().registry.get(&unit(key))
    }

    /// A condition of a unit as `STATUS REASON: MESSAGE`.
    pub fn condition(&self, key: &str, kind: kindling::model::condition::ConditionType) -> String {
        let record = self.record(key);
        let found = record.as_ref().and_then(|record| record.conditions.get(kind));
        found.map_or_else(String::new, |c| format!("{} {}: {}", c.status.as_str(), c.reason, c.message))
    }
}
