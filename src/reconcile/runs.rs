//! Runs of tasks from their first row to their last: lets them begin in their turn, starts them, records how they
//! ended and what follows from it.
//!
//! A run executes the version that it was asked for with, whatever is registered meanwhile. What follows from the end
//! of a run, another attempt or what is chained to it, is recorded in the transaction that records the end: so it
//! follows once, whenever kindling is killed.

mod admit;
mod follow;
mod log;
mod order;
mod queue;

use std::collections::{BTreeMap, HashMap};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::act::registry::Registry;
use crate::act::{Exit, Launch, Started, StopHandle, Target};
use crate::model::event::{Event, EventType};
use crate::model::id::{RunId, UnitId};
use crate::model::limits::Limits;
use crate::model::run::{Run, RunStatus, Stream};
use crate::model::time::Timestamp;
use crate::model::unit::Version;
use crate::plan::params;
use crate::plan::turns::Turns;
use crate::record::{Along, Store};
use crate::support::clock::Clock;

use self::admit::{Admission, Seat};
use self::queue::{Queue, skipped};
use super::board::Board;
use super::core::Live;
use super::events::Events;
use super::kv::Keeper;
use super::metrics::Metrics;
use super::trust::Trust;

pub use self::order::{Order, StopReason, interrupted};
pub use self::queue::StartError;

/// Time between two attempts to write while the store cannot.
const STORE_RETRY: Duration = Duration::from_millis(500);

/// Repeats a write until the store takes it, and gives back what it said: what a run did must not be lost because the
/// disk was full.
macro_rules! until_written {
    ($write:expr) => {{
        let mut said = false;
        loop {
            match $write.await {
                Ok(done) => break done,
                Err(error) => {
                    if !std::mem::replace(&mut said, true) {
                        tracing::error!("{} (trying again)", $crate::reconcile::runs::chain(&error));
                    }
                    tokio::time::sleep($crate::reconcile::runs::STORE_RETRY).await;
                }
            }
        }
    }};
}
use until_written;

/// What a runner works with.
pub struct Tools<T> {
    /// Recorded state.
    pub store: Store,
    /// Where runs are started.
    pub target: Arc<T>,
    /// The time of day.
    pub clock: Clock,
    /// Where events are told.
    pub events: Events,
    /// What units may have.
    pub trust: Trust,
    /// Limits of runs and of what tasks keep.
    pub limits: Live<Limits>,
    /// Versions that a run started now would execute.
    pub registry: Registry,
    /// What is suspended.
    pub board: Board,
}

/// Starts runs and follows them to their end.
pub struct Runner<T> {
    store: Store,
    target: Arc<T>,
    clock: Clock,
    events: Events,
    trust: Trust,
    limits: Live<Limits>,
    registry: Registry,
    board: Board,
    kv: Keeper,
    metrics: Metrics,
    book: Mutex<Book>,
    tasks: TaskTracker,
    closing: CancellationToken,
}

/// The runs that are not over, and whose turn it is.
struct Book {
    runs: HashMap<RunId, Arc<Active>>,
    /// The same runs by task, in the order in which they came.
    tasks: HashMap<UnitId, BTreeMap<u64, RunId>>,
    turns: Turns<oneshot::Sender<()>>,
    queue: Queue,
    /// How many runs came so far.
    count: u64,
}

/// A run that is not over.
#[derive(Debug)]
struct Active {
    task: UnitId,
    /// Grows from run to run.
    number: u64,
    /// Cancelled when it shall end.
    ending: CancellationToken,
    process: OnceLock<StopHandle>,
    why: Mutex<Option<StopReason>>,
    lines: watch::Sender<u64>,
}

impl Active {
    fn stop(&self, why: StopReason) {
        self.why.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(why);
        self.ending.cancel();
        if let Some(process) = self.process.get() {
            process.stop();
        }
    }

    fn why(&self) -> Option<StopReason> {
        *self.why.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A run on its way.
struct Work {
    run: Run,
    order: Order,
    active: Arc<Active>,
    /// Whether it has a seat to give back.
    seated: bool,
    done: watch::Sender<Option<Arc<Run>>>,
}

/// A run that was asked for.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Its id.
    pub id: RunId,
    /// Set when it is over.
    pub done: watch::Receiver<Option<Arc<Run>>>,
}

impl Asked {
    /// Waits until it is over.
    pub async fn end(&mut self) -> Option<Arc<Run>> {
        self.done.wait_for(Option::is_some).await.ok().and_then(|run| run.clone())
    }
}

impl<T: Target> Runner<T> {
    /// A runner without runs.
    #[must_use]
    pub fn new(tools: Tools<T>) -> Arc<Self> {
        let Tools { store, target, clock, events, trust, limits, registry, board } = tools;
        let kv = Keeper { store: store.clone(), clock: clock.clone(), limits: limits.clone() };
        let turns = Turns::new(limits.get().runs.at_once);
        let book = Mutex::new(Book {
            runs: HashMap::new(),
            tasks: HashMap::new(),
            turns,
            queue: Queue::default(),
            count: 0,
        });
        let (tasks, closing) = (TaskTracker::new(), CancellationToken::new());
        Arc::new(Self {
            store,
            target,
            clock,
            events,
            trust,
            limits,
            registry,
            board,
            kv,
            metrics: Metrics::default(),
            book,
            tasks,
            closing,
        })
    }

    /// What is counted; runs are, so it is made here.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Starts a run, or lets it wait for its turn. Whatever keeps its process from starting is the run's own failure.
    /// `along` is recorded in the transaction that records the run (`&()` for nothing).
    ///
    /// # Errors
    /// The run could not be recorded, or too many wait for a person to be kept waiting too: it was not started, and
    /// `along` is not recorded either. What the clock starts is recorded as skipped then.
    pub async fn start(self: &Arc<Self>, order: Order, along: &dyn Along) -> Result<Asked, StartError> {
        let run = order.first_row(RunId::from_random(random()), Timestamp(self.clock.now_ms()));
        let (done, over) = watch::channel(None);
        let asked = Asked { id: run.id.clone(), done: over };
        let (active, seat, go) = match self.admit(&order, &run.id, None, None) {
            Admission::Comes(active, seat, go) => (active, seat, go),
            Admission::Full(why) if order.trigger != "cron" => return Err(StartError::Full(why)),
            Admission::Full(why) | Admission::Forbidden(why) => {
                let run = skipped(run, why);
                self.store.insert_run_along(&run, along).await?;
                self.tell_end(run, &done).await;
                return Ok(asked);
            }
        };
        let begins = matches!(seat, Seat::Beside | Seat::Taken);
        let run = if begins { Run { status: RunStatus::Running, ..run } } else { run };
        if let Err(error) = self.store.insert_run_along(&run, along).await {
            self.lock().withdraw(&run.id, &active, &seat);
            return Err(error.into());
        }
        for other in go {
            self.stop(&other, StopReason::Overtaken);
        }
        let seated = matches!(seat, Seat::Taken);
        let work = Work { run, order, active, seated, done };
        if begins {
            self.begin(work).await;
        } else {
            self.tasks.spawn(Arc::clone(self).wait(work, seat));
        }
        Ok(asked)
    }

    /// Whether a run of `version` without given parameters could be started now, as far as that can be told without one.
    ///
    /// # Errors
    /// What keeps it from being started.
    pub async fn ready(&self, version: &Arc<Version>) -> Result<(), String> {
        let params =
            params::resolve(&version.spec, &BTreeMap::new()).map_err(|problems| problems.join("; "))?;
        let run = RunId::from_random(random());
        let launch = Launch { run, version: Arc::clone(version), params, input: "null".into() };
        self.target.ready(launch).await.map_err(|error| chain(&error))
    }

    /// Ends a run; gives back whether it was there to be ended.
    pub fn stop(&self, id: &RunId, why: StopReason) -> bool {
        let active = self.lock().runs.get(id).cloned();
        active.is_some_and(|active| {
            active.stop(why);
            true
        })
    }

    /// The number of the newest line of an active run's log, as it grows; `None` when the run is over.
    #[must_use]
    pub fn follow(&self, id: &RunId) -> Option<watch::Receiver<u64>> {
        self.lock().runs.get(id).map(|active| active.lines.subscribe())
    }

    /// The active runs of a task, those that wait included; the oldest first.
    #[must_use]
    pub fn active_of(&self, task: &UnitId) -> Vec<RunId> {
        self.lock().of(task)
    }

    /// Ends every run as interrupted and waits until all are recorded. None begins any more.
    pub async fn close(&self) {
        self.closing.cancel();
        let all: Vec<_> = self.lock().runs.values().cloned().collect();
        for active in all {
            active.stop(StopReason::Closing);
        }
        self.tasks.close();
        self.tasks.wait().await;
    }

    fn lock(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a run's turn, and lets it begin.
    fn wait(self: Arc<Self>, work: Work, seat: Seat) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(async move {
            let Some(mut work) = self.take_seat(work, seat).await else { return };
            until_written!(self.store.begin_run(&work.run.id));
            work.run.status = RunStatus::Running;
            self.begin(work).await;
        })
    }

    /// Gives the run back when it has a seat; records its end where it was ended before.
    async fn take_seat(self: &Arc<Self>, mut work: Work, mut seat: Seat) -> Option<Work> {
        let active = Arc::clone(&work.active);
        if let Seat::Later(time) = seat {
            tokio::select! {
                biased;
                () = active.ending.cancelled() => {
                    self.never_began(work).await;
                    return None;
                }
                () = tokio::time::sleep(time) => {}
            }
            seat = self.seat(&mut self.lock(), &active.task, &work.order.version.spec.concurrency);
        }
        if let Seat::Waits(ticket, called) = seat {
            tokio::select! {
                biased;
                () = active.ending.cancelled() => {
                    // It may have been called at the same moment.
                    work.seated = !self.lock().turns.give_up(&active.task, ticket);
                    self.never_began(work).await;
                    return None;
                }
                _ = called => {}
            }
        }
        work.seated = true;
        self.lock().queue.leave(&active.task, &work.run.id);
        Some(work)
    }

    async fn never_began(self: &Arc<Self>, work: Work) {
        let (status, error) = match work.active.why() {
            Some(StopReason::Closing) => (RunStatus::Interrupted, interrupted(RunStatus::Queued)),
            Some(why) => (RunStatus::Cancelled, why.sentence()),
            None => (RunStatus::Cancelled, StopReason::Cancelled.sentence()),
        };
        let run = Run { status, error: error.into(), ..work.run.clone() };
        self.record_end(run, work, 0).await;
    }

    /// Starts the process of a run that has its seat and is recorded as running.
    async fn begin(self: &Arc<Self>, mut work: Work) {
        if work.active.ending.is_cancelled() {
            return self.never_began(work).await;
        }
        let Work { run, order, active, .. } = &work;
        self.tell(run, EventType::RunStarted, format!("run {} started", run.id)).await;
        let version = Arc::clone(&order.version);
        // What is registered may have been allowed more than it is now.
        let started = match self.trust.refusal(&version.unit.source, &version.spec) {
            Some(problem) => Err(format!("{}: it {problem}", problem.reason.as_str())),
            None => {
                let (params, input) = (order.params.clone(), order.input.to_string());
                let launch = Launch { run: run.id.clone(), version, params, input };
                self.target.start(launch).await.map_err(|error| chain(&error))
            }
        };
        match started {
            Ok(started) => {
                let _ = active.process.set(started.stop.clone());
                if active.ending.is_cancelled() {
                    started.stop.stop();
                }
                let runner = Arc::clone(self);
                self.tasks.spawn(async move {
                    if let Some(process) = &started.process {
                        until_written!(runner.store.set_process(&work.run.id, process));
                        work.run.process = Some(process.clone());
                    }
                    runner.accompany(work, started).await;
                });
            }
            Err(error) => {
                let mut seq = 0;
                self.write_log(&run.id, &mut seq, [(Stream::System, error.clone())].into_iter()).await;
                let run = Run { error, status: RunStatus::Failed, ..run.clone() };
                self.record_end(run, work, seq).await;
            }
        }
    }

    /// Follows a run whose process was started to its end.
    async fn accompany(self: &Arc<Self>, work: Work, started: Started) {
        let Work { run, order, active, .. } = &work;
        let most = if order.version.spec.is_daemon() { log::DAEMON_LOG } else { log::RUN_LOG };
        let (seq, ()) = tokio::join!(
            self.keep_log(&run.id, active, started.lines, most),
            self.kv.serve(&run.task, started.kv),
        );
        let exit = started.ended.await.unwrap_or_else(|_| lost());
        let run = order::ended(run.clone(), exit, active.why());
        self.record_end(run, work, seq).await;
    }

    /// Records the end of a run with what follows from it; its log has `seq` lines so far.
    async fn record_end(self: &Arc<Self>, run: Run, work: Work, mut seq: u64) {
        let mut run = Run { ended_at: Some(Timestamp(self.clock.now_ms())), ..run };
        let next = self.followers(&mut run, &work);
        if let Some(line) = follow::announcement(&run, &work.order, &next) {
            self.write_log(&run.id, &mut seq, [(Stream::System, line)].into_iter()).await;
        }
        let rows: Vec<Run> = next.iter().map(|next| next.row().clone()).collect();
        let is_first = until_written!(self.store.finish_run(&run, &rows));
        {
            let mut book = self.lock();
            book.remove(&run.id);
            if work.seated {
                wake(book.turns.leave(&work.active.task));
            }
        }
        self.tell_end(run, &work.done).await;
        for next in next {
            self.set_off(next, is_first).await;
        }
    }

    async fn tell_end(&self, run: Run, done: &watch::Sender<Option<Arc<Run>>>) {
        self.metrics.ran(&run);
        let message = format!("run {} {}", run.id, run.status.as_str());
        self.tell(&run, EventType::RunFinished, message).await;
        done.send_replace(Some(Arc::new(run)));
    }

    async fn tell(&self, run: &Run, kind: EventType, message: String) {
        let event = Event {
            unit: Some(run.task.clone()),
            hash: Some(run.hash),
            revision: run.revision.clone(),
            ..Event::new(Timestamp(self.clock.now_ms()), kind, run.task.source.clone(), message)
        };
        if let Err(error) = self.store.put_events(std::slice::from_ref(&event)).await {
            tracing::error!("{}", chain(&error));
        }
        self.events.publish(vec![event]);
    }
}

impl Book {
    fn of(&self, task: &UnitId) -> Vec<RunId> {
        self.tasks.get(task).into_iter().flat_map(BTreeMap::values).cloned().collect()
    }

    fn add(&mut self, task: &UnitId, id: &RunId) -> Arc<Active> {
        self.count += 1;
        let active = Arc::new(Active {
            task: task.clone(),
            number: self.count,
            ending: CancellationToken::new(),
            process: OnceLock::new(),
            why: Mutex::new(None),
            lines: watch::Sender::new(0),
        });
        self.runs.insert(id.clone(), Arc::clone(&active));
        self.tasks.entry(task.clone()).or_default().insert(self.count, id.clone());
        active
    }

    /// Takes a run out that does not come after all.
    fn withdraw(&mut self, id: &RunId, active: &Active, seat: &Seat) {
        self.remove(id);
        match seat {
            Seat::Beside | Seat::Later(_) => {}
            Seat::Waits(ticket, _) if self.turns.give_up(&active.task, *ticket) => {}
            Seat::Waits(..) | Seat::Taken => wake(self.turns.leave(&active.task)),
        }
    }

    fn remove(&mut self, id: &RunId) {
        let Some(active) = self.runs.remove(id) else { return };
        self.queue.leave(&active.task, id);
        if let Some(runs) = self.tasks.get_mut(&active.task) {
            runs.remove(&active.number);
            if runs.is_empty() {
                self.tasks.remove(&active.task);
            }
        }
    }
}

/// Lets these begin. One that gave up meanwhile gives its seat back by itself.
fn wake(begin: Vec<oneshot::Sender<()>>) {
    for call in begin {
        let _ = call.send(());
    }
}

fn lost() -> Exit {
    Exit { error: Some("its end was not seen".into()), ..Exit::default() }
}

/// 8 random bytes for an id; the system's source does not fail once the machine has started.
pub(super) fn random() -> [u8; 8] {
    let mut bytes = [0; 8];
    if let Err(error) = getrandom::fill(&mut bytes) {
        tracing::error!("the system gives no random bytes: {error}");
    }
    bytes
}

/// An error with its causes in one line.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}
