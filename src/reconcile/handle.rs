//! The service as others see it: what is, and commands on it.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::{Mutex, OwnedMutexGuard, mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use crate::act::Target;
use crate::model::condition::{ConditionStatus, ConditionType};
use crate::model::delivery::Announcement;
use crate::model::hash::UnitHash;
use crate::model::history::{Cause, TriggerKind};
use crate::model::id::{RunId, SourceName, UnitId};
use crate::model::source::{Declared, Origin, SourceSpec};
use crate::model::step::Generation;
use crate::model::unit::Version;
use crate::observe::Source;
use crate::plan::trace::FieldOrigin;
use crate::record::{SourceRecord, StoreError, UnitRecord};

use super::command::LEAVING;
use super::core::Core;
use super::daemons::Health;
use super::fire::Fire;
use super::message::{Awaited, Look, Message, PassOrder, Refusal, RefusalKind, Report};
use super::runs::{Asked, StopReason, chain};
use super::schedule;
use super::source_loop::{Open, SourceLoop};

/// How long a service that starts is not ready because a first pass is not done (DESIGN 11).
const READY_AFTER: std::time::Duration = std::time::Duration::from_secs(5);

/// A source as it was recorded, with its units.
pub struct Recorded {
    /// The source.
    pub source: SourceRecord,
    /// Its units, with the versions that are deployed.
    pub units: Vec<(UnitRecord, Option<Arc<Version>>)>,
    /// The generations of its units that are gone.
    pub gone: HashMap<Arc<str>, Generation>,
}

/// What becomes of a source that was recorded.
enum Start {
    Follow,
    /// No source is added while this one goes.
    Discard(Arc<OwnedMutexGuard<()>>),
}

type Opener<T> = Box<dyn Fn(&Handle<T>, Recorded, Start) + Send + Sync>;

/// The running service. Cheap to clone.
pub struct Handle<T>(Arc<Inner<T>>);

struct Inner<T> {
    core: Arc<Core<T>>,
    loops: RwLock<HashMap<SourceName, mpsc::UnboundedSender<Message>>>,
    open: Opener<T>,
    tasks: TaskTracker,
    /// Held while a source is added, so that no two have one name, and while those go that were left out at the start.
    adding: Arc<Mutex<()>>,
    began: Instant,
}

impl<T> Clone for Handle<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

/// Options of a reconcile command.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reconcile {
    /// Trust nothing that was known of the source's files.
    pub rescan: bool,
    /// Deploy again although nothing changed.
    pub force: bool,
    /// Remove units whatever the removal guard says.
    pub allow_removals: bool,
    /// Deploy a rewritten branch whatever the rewrite guard says.
    pub allow_rewrite: bool,
}

/// What a command is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A source.
    Source(SourceName),
    /// A unit.
    Unit(UnitId),
}

impl<T: Target> Handle<T> {
    /// A service without sources; `open` makes the observer of one.
    #[must_use]
    pub fn new<S: Source>(
        core: Arc<Core<T>>,
        open: impl Fn(&SourceSpec) -> S + Send + Sync + 'static,
    ) -> Self {
        let observer: Open<S> = Arc::new(open);
        let open: Opener<T> = Box::new(move |handle, Recorded { source: record, units, gone }, start| {
            let name = record.spec.name.clone();
            let (outbox, inbox) = mpsc::unbounded_channel();
            let core = Arc::clone(&handle.0.core);
            let made =
                SourceLoop::new(core, Arc::clone(&observer), record, units, gone, (outbox.clone(), inbox));
            if let Start::Discard(alone) = start {
                handle.0.tasks.spawn(async move {
                    let _alone = alone;
                    if let Err(refusal) = made.discard().await {
                        tracing::error!(
                            "source {name} left the configuration, but its units stay: {refusal}"
                        );
                    }
                });
                return;
            }
            handle.0.loops.write().unwrap_or_else(PoisonError::into_inner).insert(name, outbox);
            handle.0.tasks.spawn(made.run());
        });
        let loops = RwLock::new(HashMap::new());
        let (tasks, adding) = (TaskTracker::new(), Arc::default());
        Self(Arc::new(Inner { core, loops, open, tasks, adding, began: Instant::now() }))
    }

    /// The parts that the service is made of, for reading.
    #[must_use]
    pub fn core(&self) -> &Arc<Core<T>> {
        &self.0.core
    }

    /// Registers the versions that are deployed. Of sources that are started together all are registered before any of
    /// them is looked at, so that none takes what is another one's.
    pub fn register(&self, recorded: &[Recorded]) {
        self.0.core.links.await_looks(recorded.iter().map(|of| of.source.spec.name.clone()));
        for version in recorded.iter().flat_map(|of| &of.units).filter_map(|(_, version)| version.as_ref()) {
            self.0.core.registry.put(Arc::clone(version));
        }
    }

    /// Starts the loop of a source, with what the store has of its units.
    ///
    /// The versions that are deployed are registered before anything is looked at.
    pub fn start_source(&self, recorded: Recorded) {
        self.register(std::slice::from_ref(&recorded));
        self.0.core.board.put_source(recorded.source.clone());
        self.0.core.board.put_units(recorded.units.iter().map(|(record, _)| record.clone()));
        (self.0.open)(self, recorded, Start::Follow);
    }

    /// Fires tasks by the clock from now on; called once, when every source that was recorded is started.
    pub fn start_schedules(&self) {
        self.0.tasks.spawn(schedule::run(Arc::clone(&self.0.core)));
    }

    /// Takes the units of sources away that nothing follows any more. It goes on by itself; a source of the same name
    /// that is added meanwhile comes after it.
    pub async fn discard_sources(&self, recorded: Vec<Recorded>) {
        let alone = Arc::new(Arc::clone(&self.0.adding).lock_owned().await);
        for recorded in recorded {
            (self.0.open)(self, recorded, Start::Discard(Arc::clone(&alone)));
        }
    }

    /// What the store has of these sources.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn recorded(&self, sources: Vec<SourceRecord>) -> Result<Vec<Recorded>, StoreError> {
        let store = &self.0.core.store;
        let versions = store.deployed_versions().await?.into_iter();
        let mut versions: HashMap<UnitId, Arc<Version>> =
            versions.map(|version| (version.unit.clone(), Arc::new(version))).collect();
        let mut units: HashMap<SourceName, Vec<_>> = HashMap::new();
        for unit in store.units().await? {
            let version = versions.remove(&unit.id);
            units.entry(unit.id.source.clone()).or_default().push((unit, version));
        }
        let mut gone: HashMap<SourceName, HashMap<Arc<str>, Generation>> = HashMap::new();
        for unit in store.removed_units().await? {
            gone.entry(unit.id.source).or_default().insert(unit.id.key, unit.generation.next());
        }
        let with = |source: SourceRecord| Recorded {
            units: units.remove(&source.spec.name).unwrap_or_default(),
            gone: gone.remove(&source.spec.name).unwrap_or_default(),
            source,
        };
        Ok(sources.into_iter().map(with).collect())
    }

    /// Takes in that a daemon fares differently.
    pub fn report_health(&self, unit: &UnitId, health: Health) {
        let loops = self.0.loops.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(outbox) = loops.get(&unit.source) {
            // The loop is gone only when its source is.
            let _ = outbox.send(Message::Health(Arc::clone(&unit.key), health));
        }
    }

    /// Adds a source by command; it is kept in the store. Answers when its first pass is done.
    ///
    /// # Errors
    /// There is a source of this name, or the store cannot keep it; or its first pass failed, which the message says,
    /// for then the source was added all the same.
    pub async fn add_source(&self, spec: SourceSpec) -> Result<Report, Refusal> {
        let name = spec.name.clone();
        let adding = self.0.adding.lock().await;
        if let Some(known) = self.0.core.board.source(&name) {
            let from = match known.declared {
                Declared::File => "in the configuration file",
                Declared::Command => "by an earlier command",
            };
            return Err(Refusal::new(
                RefusalKind::Conflict,
                format!("source {name} is declared already, {from}"),
            ));
        }
        let record = SourceRecord::new(spec, Declared::Command);
        // Whatever can fail comes before the source is kept.
        let recorded = self.recorded(vec![record.clone()]).await.map_err(|error| failed(&error))?;
        self.0.core.store.put_source(&record).await.map_err(|error| failed(&error))?;
        for recorded in recorded {
            self.start_source(recorded);
        }
        drop(adding);
        let order = PassOrder::new(Cause::new(TriggerKind::Command, "source add"), Look::Full);
        let first = self.ask(&name, |reply| Message::Pass(order, reply)).await;
        first.map_err(|refusal| self.added_but(&name, &refusal))
    }

    /// Says of a source whose first pass failed that it is there all the same.
    fn added_but(&self, name: &SourceName, refusal: &Refusal) -> Refusal {
        let source = self.0.core.board.source(name);
        let stalled = source.as_ref().and_then(|source| source.conditions.get(ConditionType::Stalled));
        let then = if stalled.is_some_and(|stalled| stalled.status == ConditionStatus::True) {
            format!("once that is mended, `kindling reconcile {name}` tries it again")
        } else {
            "it is tried again by itself".into()
        };
        let message =
            format!("source {name} was added, but its first pass failed: {}; {then}", refusal.message);
        Refusal::new(refusal.kind, message).hint(format!("kindling source remove {name}"))
    }

    /// Removes a source that was added by command, with all its units.
    ///
    /// # Errors
    /// There is none of this name, or the configuration file has it.
    pub async fn remove_source(&self, name: &SourceName) -> Result<Report, Refusal> {
        let Some(known) = self.0.core.board.source(name) else { return Err(no_source(name.as_str())) };
        if known.declared == Declared::File {
            let message = format!("source {name} is declared in the configuration file");
            let place = self.0.core.board.declared_at(name);
            let place = place.map(|place| format!(" at {place}")).unwrap_or_default();
            return Err(Refusal::new(RefusalKind::Conflict, message).hint(format!(
                "delete the entry `- name: {name}`{place}; that takes effect when the file is saved"
            )));
        }
        self.prune(name, Cause::new(TriggerKind::Command, "source remove")).await
    }

    /// Takes a source as the configuration file has it now: starts it, or goes on with its units from there. One
    /// that was added by command is the file's from now on. `anew` looks at it as if it were another one. Gives
    /// back whether anything was done; waits for no pass.
    ///
    /// # Errors
    /// The store cannot be written.
    pub async fn declare(&self, spec: SourceSpec, anew: bool) -> Result<bool, Refusal> {
        let name = spec.name.clone();
        let _adding = self.0.adding.lock().await;
        let Some(known) = self.0.core.board.source(&name) else {
            let record = SourceRecord::new(spec, Declared::File);
            self.0.core.store.put_source(&record).await.map_err(|error| failed(&error))?;
            for recorded in self.recorded(vec![record]).await.map_err(|error| failed(&error))? {
                self.start_source(recorded);
            }
            tracing::info!("source {name} was added to the configuration");
            return Ok(true);
        };
        match known.declared {
            Declared::File if known.spec == spec && !anew => return Ok(false),
            Declared::File if known.spec == spec => {}
            Declared::File => tracing::info!("source {name} is configured differently"),
            Declared::Command => tracing::info!(
                "source {name} was added by command and is in the configuration now, which counts from now on"
            ),
        }
        let spec = Box::new(spec);
        self.ask(&name, |reply| Message::Configure(spec, Declared::File, reply)).await?;
        Ok(true)
    }

    /// Looks at a source as if it were another one: limits changed.
    ///
    /// # Errors
    /// There is none of this name, or the store cannot be written.
    pub async fn look_anew(&self, name: &SourceName) -> Result<(), Refusal> {
        let Some(known) = self.0.core.board.source(name) else { return Err(no_source(name.as_str())) };
        let spec = Box::new(known.spec.clone());
        self.ask(name, |reply| Message::Configure(spec, known.declared, reply)).await.map(drop)
    }

    /// Takes a source away that left the configuration file, with all its units.
    ///
    /// # Errors
    /// There is none of this name, or the store cannot be written.
    pub async fn withdraw(&self, name: &SourceName) -> Result<Report, Refusal> {
        self.prune(name, Cause::new(TriggerKind::File, "kindling.yaml")).await
    }

    /// Takes a source away with all its units.
    ///
    /// # Errors
    /// The store cannot be written.
    async fn prune(&self, name: &SourceName, cause: Cause) -> Result<Report, Refusal> {
        let before = self.0.loops.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned();
        let report = self.ask(name, |reply| Message::Prune(cause, reply)).await?;
        let mut loops = self.0.loops.write().unwrap_or_else(PoisonError::into_inner);
        // A source of this name may have been added already since it ended.
        let is_same =
            |ended: &mpsc::UnboundedSender<_>| loops.get(name).is_some_and(|now| now.same_channel(ended));
        if before.as_ref().is_some_and(is_same) {
            loops.remove(name);
        }
        Ok(report)
    }

    /// Takes the tree of a git source from the directory `path`, absolute, for `length` or until it is switched off.
    /// Answers when the directory is watched and the first pass and its steps are over.
    ///
    /// # Errors
    /// There is no such source, it is a directory itself, or it is suspended.
    pub async fn dev_on(
        &self,
        source: &SourceName,
        path: &str,
        length: Option<Duration>,
    ) -> Result<Report, Refusal> {
        let path = Arc::from(path);
        self.ask(source, |reply| Message::DevOn { path, length, reply }).await
    }

    /// Takes the tree of a source from its repository again; answers after the first pass. Nothing is done where dev
    /// mode is off.
    ///
    /// # Errors
    /// There is no such source, or its repository cannot be observed.
    pub async fn dev_off(&self, source: &SourceName) -> Result<Report, Refusal> {
        self.ask(source, Message::DevOff).await
    }

    /// What a pass would do if the tree of a source were taken from the directory `path`, absolute.
    ///
    /// # Errors
    /// There is no such source, or the directory cannot be read.
    pub async fn preview(&self, source: &SourceName, path: &str) -> Result<Report, Refusal> {
        self.ask(source, |reply| Message::Preview(path.into(), reply)).await
    }

    /// One pass now; answers when it and all steps that it began are over.
    ///
    /// # Errors
    /// The source cannot be observed, a guard stops it, or it is suspended.
    pub async fn reconcile(&self, subject: &Subject, options: Reconcile) -> Result<Report, Refusal> {
        let look = if options.rescan { Look::Rescan } else { Look::Full };
        let order = PassOrder {
            force: options.force,
            allow_removals: options.allow_removals,
            allow_rewrite: options.allow_rewrite,
            unit: subject.unit().map(|unit| Arc::clone(&unit.key)),
            awaited: subject.awaited(),
            ..PassOrder::new(Cause::new(TriggerKind::Command, "reconcile"), look)
        };
        self.ask(subject.source(), |reply| Message::Pass(order, reply)).await
    }

    /// Answers when all that was on disk at the call is decided and every step is over. A repository is not fetched:
    /// what it has and nobody announced is not waited for.
    ///
    /// # Errors
    /// The source cannot be observed, or it is suspended.
    pub async fn settle(&self, subject: &Subject) -> Result<Report, Refusal> {
        let source = self.0.core.board.source(subject.source());
        let is_local = source.is_some_and(|s| s.dev.is_some() || matches!(s.spec.origin, Origin::Local(_)));
        let look = if is_local { Look::Full } else { Look::Away };
        let order = PassOrder {
            awaited: subject.awaited(),
            ..PassOrder::new(Cause::new(TriggerKind::Command, "wait"), look)
        };
        self.ask(subject.source(), |reply| Message::Pass(order, reply)).await
    }

    /// What a pass would do.
    ///
    /// # Errors
    /// The source cannot be observed.
    pub async fn diff(&self, source: &SourceName) -> Result<Report, Refusal> {
        let order = PassOrder {
            dry: true,
            awaited: Awaited::Nothing,
            ..PassOrder::new(Cause::new(TriggerKind::Command, "diff"), Look::Full)
        };
        self.ask(source, |reply| Message::Pass(order, reply)).await
    }

    /// Deploys an earlier version of a unit and holds the one that is desired.
    ///
    /// # Errors
    /// There is no such unit or version.
    pub async fn roll_back(&self, unit: &UnitId, to: Option<UnitHash>) -> Result<Report, Refusal> {
        let key = Arc::clone(&unit.key);
        self.ask(&unit.source, |reply| Message::RollBack { key, to, reply }).await
    }

    /// Starts the process of a daemon anew; answers when it runs.
    ///
    /// # Errors
    /// There is no such unit, or it is no daemon that is deployed.
    pub async fn restart(&self, unit: &UnitId) -> Result<Report, Refusal> {
        let key = Arc::clone(&unit.key);
        self.ask(&unit.source, |reply| Message::Restart { key, reply }).await
    }

    /// Stops changes.
    ///
    /// # Errors
    /// There is no such source or unit.
    pub async fn suspend(&self, subject: &Subject, reason: String) -> Result<Report, Refusal> {
        let key = subject.unit().map(|unit| Arc::clone(&unit.key));
        self.ask(subject.source(), |reply| Message::Suspend { key, reason, reply }).await
    }

    /// Allows changes again and lifts a hold; answers after a pass.
    ///
    /// # Errors
    /// There is no such source or unit.
    pub async fn resume(&self, subject: &Subject) -> Result<Report, Refusal> {
        let key = subject.unit().map(|unit| Arc::clone(&unit.key));
        self.ask(subject.source(), |reply| Message::Resume { key, reply }).await
    }

    /// Starts a run of a task's registered version. `input` is JSON text.
    ///
    /// # Errors
    /// The task is not registered, is a daemon, or its parameters do not fit.
    pub async fn run(
        &self,
        task: &UnitId,
        given: &BTreeMap<String, String>,
        input: String,
    ) -> Result<Asked, Refusal> {
        let fire = Fire { trigger: "manual", detail: String::new(), params: given, input: input.into() };
        self.0.core.fire(task, fire, &()).await
    }

    /// Where the fields of a unit come from of which sets speak; none where its source is not followed.
    pub async fn origins(&self, unit: &UnitId) -> Vec<FieldOrigin> {
        let outbox = self.0.loops.read().unwrap_or_else(PoisonError::into_inner).get(&unit.source).cloned();
        let (reply, answer) = oneshot::channel();
        // One that goes answers nothing any more.
        let outbox = outbox.filter(|_| !self.is_leaving(&unit.source));
        match outbox.map(|outbox| outbox.send(Message::Origins(Arc::clone(&unit.key), reply))) {
            Some(Ok(())) => answer.await.unwrap_or_default(),
            _ => Vec::new(),
        }
    }

    /// A push concerns a source: it is looked at, and again until the commit is there.
    pub fn announce(&self, source: &SourceName, push: Announcement) {
        self.tell(source, Message::Announced(push));
    }

    /// A delivery came again: the next poll of the source comes sooner.
    pub fn look_sooner(&self, source: &SourceName) {
        self.tell(source, Message::Sooner);
    }

    /// Commits are told elsewhere than before, or by another token: what is known of them is told at once.
    pub fn hosted_elsewhere(&self) {
        for source in self.0.core.board.sources() {
            self.tell(&source.spec.name, Message::Hosted);
        }
    }

    /// Pushes may have been missed; `detail` says why, in the history.
    pub fn look_for_missed(&self, source: &SourceName, detail: &'static str) {
        self.tell(source, Message::Missed(detail));
    }

    fn tell(&self, source: &SourceName, message: Message) {
        if let Some(outbox) = self.0.loops.read().unwrap_or_else(PoisonError::into_inner).get(source) {
            // A loop that ends has no use for it; the next start looks at everything.
            let _ = outbox.send(message);
        }
    }

    /// Ends a run.
    ///
    /// # Errors
    /// It is over already.
    pub fn cancel(&self, run: &RunId) -> Result<(), Refusal> {
        if self.0.core.runner.stop(run, StopReason::Cancelled) {
            return Ok(());
        }
        Err(Refusal::new(RefusalKind::Conflict, format!("run {run} is over")))
    }

    /// Why the service is not ready; `None` when it is.
    pub async fn not_ready(&self) -> Option<String> {
        if let Err(error) = self.0.core.store.check_writable().await {
            return Some(chain(&error));
        }
        let waits = |source: &Arc<SourceRecord>| {
            source.suspended.is_none() && !self.0.core.board.is_looked_at(&source.spec.name)
        };
        let first = self.0.core.board.sources().into_iter().find(waits)?;
        (self.0.began.elapsed() < READY_AFTER)
            .then(|| format!("the first pass of source {} is not done", first.spec.name))
    }

    /// Ends all loops, daemons and runs, in this order, and waits for each.
    pub async fn close(&self) {
        self.0.core.closing.cancel();
        self.0.tasks.close();
        self.0.tasks.wait().await;
        self.0.core.daemons.close().await;
        self.0.core.runner.close().await;
    }

    fn is_leaving(&self, source: &SourceName) -> bool {
        self.0.core.board.source(source).is_some_and(|source| is_leaving(&source))
    }

    async fn ask(
        &self,
        source: &SourceName,
        message: impl FnOnce(oneshot::Sender<Result<Report, Refusal>>) -> Message,
    ) -> Result<Report, Refusal> {
        let outbox = self.0.loops.read().unwrap_or_else(PoisonError::into_inner).get(source).cloned();
        let Some(outbox) = outbox else { return Err(no_source(source.as_str())) };
        let (reply, answer) = oneshot::channel();
        if self.is_leaving(source) {
            return Err(leaving(source));
        }
        let ended = || if self.0.core.closing.is_cancelled() { Refusal::closing() } else { leaving(source) };
        outbox.send(message(reply)).map_err(|_| ended())?;
        answer.await.unwrap_or_else(|_| Err(ended()))
    }
}

/// Whether a source was removed, and only the end of its daemons is waited for.
#[must_use]
pub fn is_leaving(source: &SourceRecord) -> bool {
    source.conditions.get(ConditionType::Ready).is_some_and(|ready| ready.reason == LEAVING)
}

/// Nothing was done: the source went while it was asked.
fn leaving(source: &SourceName) -> Refusal {
    let message = format!("source {source} was removed, and takes its units away before anything else");
    Refusal::new(RefusalKind::Conflict, message).hint("kindling get sources")
}

impl Subject {
    /// The source that it is about.
    #[must_use]
    pub fn source(&self) -> &SourceName {
        match self {
            Self::Source(source) => source,
            Self::Unit(unit) => &unit.source,
        }
    }

    fn awaited(&self) -> Awaited {
        self.unit().map_or(Awaited::All, |unit| Awaited::Unit(Arc::clone(&unit.key)))
    }

    /// The unit that it is about.
    #[must_use]
    pub fn unit(&self) -> Option<&UnitId> {
        match self {
            Self::Source(_) => None,
            Self::Unit(unit) => Some(unit),
        }
    }
}

fn no_source(name: &str) -> Refusal {
    Refusal::new(RefusalKind::NotFound, format!("there is no source {name}")).hint("kindling get sources")
}

fn failed(error: &dyn std::error::Error) -> Refusal {
    Refusal::new(RefusalKind::Failed, chain(error))
}
