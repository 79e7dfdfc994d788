//! The composition root: builds the parts from settings, runs them, stops them. Decides nothing.

mod relay;
mod reload;
mod told;

use std::collections::{BTreeSet, HashSet};
use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::act::folder::Folders;
use crate::act::registry::Registry;
use crate::act::survivors;
use crate::act::tasks::TaskTarget;
use crate::api::{self, Access, Webhooks};
use crate::config::Settings;
use crate::config::secret::Secret;
use crate::model::id::UnitId;
use crate::model::limits::Limits;
use crate::model::run::{Run, RunStatus};
use crate::model::source::{Declared, Origin, SourceSpec};
use crate::model::time::Timestamp;
use crate::observe::git::{GitOptions, GitSource, Stores};
use crate::observe::local::{LocalOptions, LocalSource};
use crate::observe::{self, AnySource};
use crate::plan::exclude::NEVER;
use crate::reconcile::board::Board;
use crate::reconcile::core::{Core, Live};
use crate::reconcile::daemons::{Daemons, Health};
use crate::reconcile::events::Events;
use crate::reconcile::handle::Handle;
use crate::reconcile::hooks::HookSecrets;
use crate::reconcile::ledger;
use crate::reconcile::links::Links;
use crate::reconcile::runs::{Runner, Tools, chain, interrupted};
use crate::reconcile::schedule::Schedules;
use crate::reconcile::statuses::Statuses;
use crate::reconcile::trust::Trust;
use crate::record::{Blobs, SourceRecord, Store, StoreError};
use crate::support::clock::Clock;
use crate::support::lifecycle::{Lifecycle, Stop};
use crate::support::manager::{self, Manager};

use self::reload::LiveRetention;
use self::told::ToldBy;

/// The file that names the address of the service that holds a data directory.
pub const ADDRESS_FILE: &str = "address";
/// The file that holds the API's token, alone.
pub const TOKEN_FILE: &str = "token";
/// The store's database.
pub const DATABASE_FILE: &str = "kindling.db";
/// The file whose lock says that a service holds the data directory.
pub const LOCK_FILE: &str = "lock";
/// The file that holds the mark of this data directory's child processes.
const MARK_FILE: &str = "mark";
/// How long the lock of a process that is gone is waited for, and the time between two looks at it.
const LOCK_WAIT: Duration = Duration::from_secs(5);
const LOCK_RETRY: Duration = Duration::from_millis(10);

/// A fetch takes no longer than this (DESIGN 4).
const FETCH_TIMEOUT: Duration = Duration::from_secs(60);
/// The first fetch of a repository takes no longer than this (DESIGN 4).
const CLONE_TIMEOUT: Duration = Duration::from_mins(15);
/// Time between two looks at whether the service is ready, while a service manager waits for it.
const READY_LOOK: Duration = Duration::from_millis(50);
/// Time between two sweeps of what is no longer kept.
const SWEEP_INTERVAL: Duration = Duration::from_hours(1);
/// Time between two looks whether each source has said what it follows.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// A content that nothing refers to stays this long: a pass may be about to.
const SWEEP_GRACE: Duration = Duration::from_hours(1);

/// Why the service did not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The data directory cannot be used.
    #[error("cannot use the data directory {path}")]
    DataDir {
        /// The directory, or the file in it.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Another service holds the data directory.
    #[error("the data directory {path} is in use by another kindling{who}")]
    InUse {
        /// The directory.
        path: PathBuf,
        /// What is known of it.
        who: String,
    },
    /// The store cannot be used.
    #[error("cannot use the store")]
    Store(#[from] StoreError),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The system refuses something that the service cannot do without.
    #[error("cannot {what}")]
    System {
        /// What was tried.
        what: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A part of the service ended by itself.
    #[error("the part `{0}` ended by itself: this is a bug in kindling")]
    Bug(&'static str),
}

type Service = Handle<TaskTarget>;

/// Runs the service until it is told to end.
///
/// # Errors
/// It cannot start, or a part of it failed.
pub async fn serve(settings: Settings) -> Result<(), AppError> {
    observe::git::install_tls();
    let lifecycle = Lifecycle::new();
    lifecycle.take_signals().map_err(|source| AppError::System { what: "take signals", source })?;
    let dir = DataDir::hold(&settings.data_dir).await?;
    let listener = listen(&settings).await?;
    let token = dir.token(settings.token.clone())?;
    let store = Store::open(&dir.file(DATABASE_FILE)).await?;
    let parts = Parts::new(settings, store, dir.mark()?);
    parts.end_survivors().await?;
    let service = parts.service();
    let webhooks = Arc::new(Webhooks::default());
    let shared = reload::Shared {
        limits: parts.limits.clone(),
        retention: parts.retention.clone(),
        webhooks: Arc::clone(&webhooks),
        relays: relay::Relays::new(service.clone(), Arc::clone(&webhooks), lifecycle.clone()),
        told: parts.told.clone(),
    };
    let follow = reload::Reload::new(&parts.settings, service.clone(), shared);
    parts.start_sources(&service).await?;
    ledger::wait_on(&service).await?;
    service.start_schedules();
    let (signals, closing) = (lifecycle.clone(), lifecycle.soft().clone());
    lifecycle.spawn_long("configuration", async move { follow.follow(&signals, &closing).await });
    lifecycle
        .spawn_long("sweep", sweep(parts.sweeper(), service.core().board.clone(), lifecycle.soft().clone()));
    let address =
        listener.local_addr().map_err(|source| AppError::System { what: "tell the address", source })?;
    dir.announce(&address.to_string())?;
    lifecycle.spawn_long("statuses", parts.told.speaker(&service).run(lifecycle.soft().clone()));
    let access = Access::new(token, address.ip(), parts.told.public.clone());
    let closing = lifecycle.soft().clone();
    let routes = api::router(service.clone(), access, dir.path.clone(), webhooks, closing.clone());
    lifecycle.spawn_long("http", async move {
        if let Err(error) = api::serve(listener, routes, closing).await {
            tracing::error!("the listener failed: {error}");
        }
    });
    tracing::info!("serving on http://{address} data={}", dir.path.display());
    let manager = Manager::look(&|name| std::env::var_os(name));
    tokio::select! {
        () = lifecycle.soft().cancelled() => {}
        () = tell_ready(&manager, &service) => lifecycle.soft().cancelled().await,
    }
    tell(&manager, manager::STOPPING);
    tracing::info!("ending");
    dir.withdraw();
    // The second signal, or the time limit of the lifecycle, ends the wait.
    tokio::select! {
        () = service.close() => {}
        () = lifecycle.hard().cancelled() => tracing::warn!("ended before everything was stopped"),
    }
    let why = lifecycle.ended().await;
    parts.store.close().await?;
    match why {
        Stop::Bug(part) => Err(AppError::Bug(part)),
        Stop::Terminate | Stop::Interrupt | Stop::Done => Ok(()),
    }
}

/// Tells the service manager, if there is one, as soon as the service is ready.
async fn tell_ready(manager: &Manager, service: &Service) {
    if !manager.is_there() {
        return;
    }
    while service.not_ready().await.is_some() {
        tokio::time::sleep(READY_LOOK).await;
    }
    tell(manager, manager::READY);
}

fn tell(manager: &Manager, state: &str) {
    if let Err(error) = manager.tell(state) {
        tracing::warn!("the service manager at {} cannot be told {state}: {error}", manager::VARIABLE);
    }
}

async fn listen(settings: &Settings) -> Result<TcpListener, AppError> {
    let address = settings.listen;
    TcpListener::bind(address)
        .await
        .map_err(|source| AppError::Listen { address: address.to_string(), source })
}

/// Takes the lock. One that was killed may hold it a moment longer: by a child that it was about to start.
async fn try_lock(lock: &File, dir: &Path) -> Result<(), TryLockError> {
    let until = tokio::time::Instant::now() + LOCK_WAIT;
    loop {
        match lock.try_lock() {
            Err(TryLockError::WouldBlock)
                if tokio::time::Instant::now() < until && !is_held_by_living(dir) =>
            {
                tokio::time::sleep(LOCK_RETRY).await;
            }
            done => return done,
        }
    }
}

/// Whether the process that took the lock last is there.
fn is_held_by_living(dir: &Path) -> bool {
    let written = fs::read_to_string(dir.join(LOCK_FILE)).unwrap_or_default();
    let pid = written.trim().parse().ok().and_then(rustix::process::Pid::from_raw);
    pid.is_some_and(|pid| rustix::process::test_kill_process(pid) != Err(rustix::io::Errno::SRCH))
}

/// A data directory that this process alone holds.
struct DataDir {
    path: PathBuf,
    /// Its lock is given back when the process ends, however it ends.
    _lock: File,
}

impl DataDir {
    async fn hold(path: &Path) -> Result<Self, AppError> {
        let failed = |at: &Path, source| AppError::DataDir { path: at.to_owned(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|source| failed(path, source))?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o700))
            .map_err(|source| failed(path, source))?;
        let at = path.join(LOCK_FILE);
        let lock = private().open(&at).map_err(|source| failed(&at, source))?;
        match try_lock(&lock, path).await {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let read = |name| fs::read_to_string(path.join(name)).unwrap_or_default().trim().to_owned();
                let (pid, address) = (read(LOCK_FILE), read(ADDRESS_FILE));
                let pid = if pid.is_empty() { String::new() } else { format!(", process {pid}") };
                let address = if address.is_empty() { address } else { format!(", at http://{address}") };
                return Err(AppError::InUse { path: path.to_owned(), who: format!("{pid}{address}") });
            }
            Err(TryLockError::Error(source)) => return Err(failed(&at, source)),
        }
        // In place: the lock is on this very file.
        let named = lock.set_len(0).and_then(|()| writeln!(&lock, "{}", std::process::id()));
        named.map_err(|source| failed(&at, source))?;
        let dir = Self { path: path.to_owned(), _lock: lock };
        dir.withdraw();
        Ok(dir)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    fn write(&self, name: &str, text: &str) -> Result<(), AppError> {
        let (at, draft) = (self.file(name), self.file(&format!(".{name}.new")));
        let written = private().truncate(true).open(&draft).and_then(|mut file| writeln!(file, "{text}"));
        // Whoever reads it meanwhile finds the old one or the new one whole.
        let written = written.and_then(|()| fs::rename(&draft, &at));
        written.map_err(|source| AppError::DataDir { path: at, source })
    }

    /// The configured token, else the one of the last start, else a new one.
    fn token(&self, configured: Option<Secret>) -> Result<Secret, AppError> {
        if let Some(token) = configured {
            // A file of an earlier start would lead clients astray.
            let _ = fs::remove_file(self.file(TOKEN_FILE));
            return Ok(token);
        }
        self.kept(TOKEN_FILE).map(Secret::new)
    }

    /// What marks child processes of this data directory in their environment.
    fn mark(&self) -> Result<String, AppError> {
        self.kept(MARK_FILE)
    }

    /// A random text that is made once.
    fn kept(&self, name: &str) -> Result<String, AppError> {
        if let Ok(text) = fs::read_to_string(self.file(name))
            && text.trim().len() >= 32
        {
            return Ok(text.trim().to_owned());
        }
        let mut bytes = [0_u8; 24];
        getrandom::fill(&mut bytes).map_err(|source| AppError::System {
            what: "get random bytes",
            source: io::Error::other(source),
        })?;
        let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        self.write(name, &text)?;
        Ok(text)
    }

    fn announce(&self, address: &str) -> Result<(), AppError> {
        self.write(ADDRESS_FILE, address)
    }

    fn withdraw(&self) {
        // It is not there at the first start.
        let _ = fs::remove_file(self.file(ADDRESS_FILE));
    }
}

fn private() -> fs::OpenOptions {
    let mut options = fs::OpenOptions::new();
    options.read(true).write(true).create(true).mode(0o600);
    options
}

/// What the service is built from.
struct Parts {
    settings: Settings,
    store: Store,
    blobs: Blobs,
    folders: Folders,
    clock: Clock,
    mark: String,
    /// Shared by the service and the observers, as they may change.
    limits: Live<Limits>,
    retention: LiveRetention,
    stores: Stores,
    told: ToldBy,
}

/// What is swept now and then.
struct Sweeper {
    store: Store,
    blobs: Blobs,
    folders: Folders,
    clock: Clock,
    retention: LiveRetention,
    stores: Stores,
}

impl Parts {
    fn new(settings: Settings, store: Store, mark: String) -> Self {
        let blobs = Blobs::new(settings.data_dir.join("blobs"));
        let folders = Folders::new(settings.data_dir.join("versions"), Arc::new(BlobFiles(blobs.clone())));
        let limits = Live::from(settings.limits.clone());
        let stores = Stores::new(&settings.data_dir);
        let (retention, told) = (LiveRetention::new(settings.retention), ToldBy::default());
        let clock = Clock::default();
        Self { settings, store, blobs, folders, clock, mark, limits, retention, stores, told }
    }

    fn sweeper(&self) -> Sweeper {
        let (store, clock, stores) = (self.store.clone(), self.clock.clone(), self.stores.clone());
        let (folders, retention) = (self.folders.clone(), self.retention.clone());
        Sweeper { store, blobs: self.blobs.clone(), folders, clock, retention, stores }
    }

    /// Ends what a killed service left running, and says so in its runs, before anything starts.
    async fn end_survivors(&self) -> Result<(), AppError> {
        let runs = self.store.unfinished_runs().await?;
        let recorded: Vec<_> = runs.iter().filter_map(|run| run.process.clone()).collect();
        let ended = survivors::end_survivors(&self.mark, &recorded).await;
        if !ended.is_empty() {
            tracing::info!("ended {} processes that an earlier kindling left running", ended.len());
        }
        for run in runs {
            let error = interrupted(run.status).into();
            let ended_at = Some(Timestamp(self.clock.now_ms()));
            let run = Run { status: RunStatus::Interrupted, error, ended_at, ..run };
            // Nothing follows from it: what had to follow was recorded with the end that it did not have.
            self.store.finish_run(&run, &[]).await?;
        }
        Ok(())
    }

    fn service(&self) -> Service {
        let (events, clock) = (Events::default(), self.clock.clone());
        let target = Arc::new(
            TaskTarget::new(self.folders.clone(), &self.mark).with_programs(self.settings.programs.clone()),
        );
        let (board, registry) = (Board::default(), Registry::default());
        let trust = Trust::new(board.clone(), self.settings.own_variables.clone());
        let runner = Runner::new(Tools {
            store: self.store.clone(),
            target: Arc::clone(&target),
            clock: clock.clone(),
            events: events.clone(),
            trust: trust.clone(),
            limits: self.limits.clone(),
            registry: registry.clone(),
            board: board.clone(),
        });
        // Daemons report to the service, which is made of them.
        let late: Arc<OnceLock<Service>> = Arc::default();
        let told = Arc::clone(&late);
        let report = Box::new(move |unit: &UnitId, health: Health| {
            if let Some(service) = told.get() {
                service.report_health(unit, health);
            }
        });
        let core = Core {
            store: self.store.clone(),
            blobs: self.blobs.clone(),
            registry,
            target,
            daemons: Daemons::new(Arc::clone(&runner), report),
            runner,
            schedules: Schedules::default(),
            events,
            board,
            links: Links::default(),
            trust,
            hooks: HookSecrets::new(|name| std::env::var_os(name)),
            clock,
            limits: self.limits.clone(),
            webhooks: Live::from(BTreeSet::new()),
            statuses: Statuses::default(),
            closing: CancellationToken::new(),
        };
        let service = Service::new(Arc::new(core), self.opener());
        // It is set once, here.
        let _ = late.set(service.clone());
        service
    }

    /// Makes the observer of a source.
    fn opener(&self) -> impl Fn(&SourceSpec) -> AnySource + Send + Sync + 'static {
        let (data_dir, limits, stores) =
            (self.settings.data_dir.clone(), self.limits.clone(), self.stores.clone());
        move |spec| match &spec.origin {
            Origin::Git(origin) => AnySource::Git(Box::new(GitSource::open(GitOptions {
                origin: origin.clone(),
                stores: stores.clone(),
                fetch_timeout: FETCH_TIMEOUT,
                clone_timeout: CLONE_TIMEOUT,
            }))),
            Origin::Local(origin) => AnySource::Local(Box::new(LocalSource::open(LocalOptions {
                root: origin.path.clone(),
                prune: NEVER.iter().map(|name| (*name).to_owned()).collect(),
                skip: log_file().into_iter().chain([data_dir.clone()]).collect(),
                limits: (*limits.get()).clone(),
                max_watches: None,
            }))),
        }
    }

    /// Starts every source of the configuration and of the store; those that left the configuration are pruned.
    async fn start_sources(&self, service: &Service) -> Result<(), AppError> {
        let known = self.store.sources().await?;
        let mut records = Vec::new();
        for spec in &self.settings.sources {
            let record = match known.iter().find(|record| record.spec.name == spec.name) {
                Some(record) => {
                    if record.declared == Declared::Command {
                        tracing::info!(
                            "source {} was added by command and is in the configuration now",
                            spec.name
                        );
                    }
                    record.clone().configured(spec.clone(), Declared::File)
                }
                None => SourceRecord::new(spec.clone(), Declared::File),
            };
            self.store.put_source(&record).await?;
            records.push(record);
        }
        ledger::recall(&self.store, &service.core().board).await?;
        let configured: HashSet<_> = records.iter().map(|record| record.spec.name.clone()).collect();
        let rest = known.into_iter().filter(|record| !configured.contains(&record.spec.name));
        let (gone, added): (Vec<_>, Vec<_>) = rest.partition(|record| record.declared == Declared::File);
        records.extend(added);
        if records.is_empty() {
            keep_repositories(self.stores.clone(), &records).await;
        }
        let recorded = service.recorded(records).await?;
        service.register(&recorded);
        for recorded in recorded {
            service.start_source(recorded);
        }
        service.discard_sources(service.recorded(gone).await?).await;
        Ok(())
    }
}

/// The file that the log is written to, if it is one: each line would wake a pass, and each pass writes lines.
fn log_file() -> Option<PathBuf> {
    std::fs::read_link("/proc/self/fd/2").ok().filter(|file| file.is_file())
}

/// The store's contents as the source of version folders.
struct BlobFiles(Blobs);

impl crate::act::folder::BlobSource for BlobFiles {
    fn open(&self, hash: &crate::model::hash::ContentHash) -> io::Result<File> {
        self.0.open(hash)
    }
}

/// Removes what was fetched for sources that are gone.
async fn keep_repositories(stores: Stores, sources: &[SourceRecord]) {
    let origin = |record: &SourceRecord| match &record.spec.origin {
        Origin::Git(origin) => Some(origin.clone()),
        Origin::Local(_) => None,
    };
    let origins: Vec<_> = sources.iter().filter_map(origin).collect();
    match tokio::task::spawn_blocking(move || stores.keep_only(origins.iter())).await {
        Ok(Ok(0)) => {}
        Ok(Ok(removed)) => tracing::info!("removed {removed} copies of repositories that nothing follows"),
        Ok(Err(error)) => tracing::warn!("cannot remove copies of repositories: {error}"),
        Err(_) => tracing::warn!("removing copies of repositories ended early"),
    }
}

/// Whether units of a source come from a working copy: what its own sets lead to is needed when that ends.
fn is_any_dev(board: &Board) -> bool {
    board.sources().iter().any(|source| source.dev.is_some())
}

/// Forgets what is no longer kept, now and then, until `closing`.
async fn sweep(sweeper: Sweeper, board: Board, closing: CancellationToken) {
    let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + SWEEP_INTERVAL, SWEEP_INTERVAL);
    let mut looks = tokio::time::interval(LOOK_AGAIN);
    let mut owes_repositories = true;
    loop {
        let swept = tokio::select! {
            () = closing.cancelled() => return,
            _ = ticks.tick() => {
                owes_repositories = true;
                sweeper.run().await
            }
            () = sweeper.retention.changed.notified() => sweeper.run().await,
            // A source's sets lead to repositories that nobody knows of before they were read.
            _ = looks.tick(), if owes_repositories => match board.is_all_read() && !is_any_dev(&board) {
                false => Ok(()),
                true => {
                    owes_repositories = false;
                    sweeper.keep_repositories().await
                }
            },
        };
        if let Err(error) = swept {
            tracing::warn!("cannot forget what is no longer kept: {}", chain(&error));
        }
    }
}

impl Sweeper {
    async fn keep_repositories(&self) -> Result<(), StoreError> {
        keep_repositories(self.stores.clone(), &self.store.sources().await?).await;
        Ok(())
    }

    async fn run(&self) -> Result<(), StoreError> {
        let pruned = self.store.prune(&self.retention.kept.get(), Timestamp(self.clock.now_ms())).await?;
        tracing::debug!("forgot {} rows of history and {} runs", pruned.history, pruned.runs);
        let contents = self.store.referenced_contents().await?;
        let kept = self.store.kept_versions().await?;
        if let Err(error) = self.folders.prune(&kept).await {
            tracing::warn!("cannot remove folders of versions: {error}");
        }
        let blobs = self.blobs.clone();
        let swept = tokio::task::spawn_blocking(move || blobs.sweep(&contents, SWEEP_GRACE));
        match swept.await {
            Ok(Ok(swept)) => tracing::debug!("swept {} contents", swept.files),
            Ok(Err(error)) => tracing::warn!("cannot sweep contents: {error}"),
            Err(_) => tracing::warn!("sweeping ended early"),
        }
        Ok(())
    }
}
