//! One loop per source: everything that can happen wakes the same pass.
//!
//! The loop owns what is known of its source. While the source is looked at, which may take as long as a hanging
//! remote likes, messages are still answered.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::act::Target;
use crate::model::history::{Cause, TriggerKind};
use crate::model::id::UnitId;
use crate::model::path::RelPath;
use crate::model::problem::Problem;
use crate::model::source::{Origin, SourceSpec};
use crate::model::step::Generation;
use crate::model::time::Timestamp;
use crate::model::tree::{Changes, Tree};
use crate::model::unit::Version;
use crate::observe::{Ask, Hint, Observation, ObserveError, Source};
use crate::plan::backoff;
use crate::plan::catalog::Catalog;
use crate::record::{SourceRecord, UnitRecord};

use super::announced::Announced;
use super::circles::Untold;
use super::core::Core;
use super::dev::{self, Behind};
use super::doubt::Doubts;
use super::fall_back::{PATIENCE_ON_RETURN, RESUME};
use super::message::{Awaited, Look, Message, PassOrder, Refusal, Report, SoFar};
use super::nested::{Nested, Seen};
use super::runs::random;
use super::telling::Teller;
use super::units::{Unit, Units};
use super::window::Window;

/// Time between two full scans of a local tree (DESIGN 4).
pub(super) const SCAN_INTERVAL: Duration = Duration::from_secs(30);
/// A full scan follows a pass that looked only where events pointed, at most this often (DESIGN 4).
pub(super) const SCAN_AFTER_EVENT: Duration = Duration::from_secs(1);
/// What a pass says that no file event woke.
pub(super) const SCAN: &str = "scan";
/// How long an index lock of git postpones a pass before it is looked at again.
const BUSY_WAIT: Duration = Duration::from_millis(10);
/// Time after which daemons are started although the first pass is not done (DESIGN 11, readyz).
const FIRST_PASS_LIMIT: Duration = Duration::from_secs(5);

pub(super) type Reply = oneshot::Sender<Result<Report, Refusal>>;
pub(super) type Looked<S> = (S, Result<Observation, ObserveError>, Duration);
pub(super) type LookFuture<S> = Pin<Box<dyn Future<Output = Looked<S>> + Send>>;

/// Makes the observer of a source.
pub type Open<S> = Arc<dyn Fn(&SourceSpec) -> S + Send + Sync>;

/// The loop of one source.
pub struct SourceLoop<S, T> {
    pub(super) core: Arc<Core<T>>,
    pub(super) inbox: mpsc::UnboundedReceiver<Message>,
    pub(super) outbox: mpsc::UnboundedSender<Message>,
    pub(super) source: Option<S>,
    pub(super) open: Open<S>,
    /// The repository while dev mode is on.
    pub(super) behind: Option<Behind<S>>,
    /// The repository's tree when it was last seen, until it is observed again after dev mode.
    pub(super) kept: Option<Observation>,
    /// Whether the pass is over the commit that was decided last, which says nothing of where the branch is.
    pub(super) recalls: bool,
    /// When the repository has not answered in time after dev mode.
    pub(super) go_back_at: Option<Instant>,
    /// The repositories that its sets lead to.
    pub(super) nested: Nested<S>,
    /// Its own tree as it was taken in last, while its sets lead to repositories.
    pub(super) own_tree: Option<Arc<Tree>>,
    /// It only tries a tree out: whatever happens, nothing is recorded or shown.
    pub(super) is_trial: bool,
    pub(super) record: SourceRecord,
    pub(super) catalog: Catalog,
    /// Changes of the tree that the catalog has not taken in.
    pub(super) pending: Changes,
    /// Keys of units that were found to differ and are not decided.
    pub(super) undecided: BTreeSet<Arc<str>>,
    /// Units that were being written when they were read; `None` for one whose key only its manifest knows.
    pub(super) unread: BTreeSet<Option<Arc<str>>>,
    /// The circle of each unit that is chained to itself through others.
    pub(super) circles: HashMap<Arc<str>, Vec<UnitId>>,
    /// What other sources are to be told about chains.
    pub(super) untold: Untold,
    /// Tells that a task has left the path of its webhook.
    freed: watch::Receiver<u64>,
    pub(super) units: Units,
    /// Units that nothing declares any more although their directory is there.
    pub(super) doubts: Doubts,
    /// Names that are refused in no unit.
    pub(super) strays: Vec<Problem>,
    /// The generations of units that are gone; one that comes back goes on from there.
    pub(super) gone: HashMap<Arc<str>, Generation>,
    /// Whether the source failed during this look, at the observation or at a read.
    pub(super) look_failed: bool,
    /// Whether the tree was read whole since the service started.
    pub(super) first_pass_done: bool,
    pub(super) daemons_started: bool,
    /// The changes of registry and units at which the two were compared last and agreed.
    pub(super) compared: Option<(u64, u64)>,
    /// Failures of the source in a row.
    pub(super) failures: u32,
    pub(super) revision: Option<crate::model::source::Revision>,
    pub(super) rewritten: bool,
    pub(super) first_retry: Option<Timestamp>,
    /// A pass that is wanted at a moment, and how closely it is to look.
    pub(super) soon: Option<(Instant, Look)>,
    /// What it told of its commits.
    pub(super) teller: Teller,
    /// The push that is waited for, and what tells whether pushes are delivered at all.
    pub(super) announced: Announced,
    /// The source said that trying again is useless until something changes.
    pub(super) needs_person: bool,
    pub(super) looking: Option<Looking<S>>,
    pub(super) queue: VecDeque<(PassOrder, Option<Reply>)>,
    waiting: Vec<(Reply, Report, Awaited)>,
    pub(super) window: Window,
    pub(super) next_look: Instant,
    pub(super) deadline_of_first_pass: Instant,
}

pub(super) struct Looking<S> {
    pub future: LookFuture<S>,
    pub order: PassOrder,
    pub reply: Option<Reply>,
}

enum Wake<S> {
    Close,
    Message(Option<Message>),
    Looked(Box<Looked<S>>),
    Behind(Option<Box<Looked<S>>>),
    Nested(Box<Seen<S>>),
    Hint(Hint),
    Mended,
    PathFreed,
    Due,
}

impl<S: Source, T: Target> SourceLoop<S, T> {
    /// A loop that has not looked at its source yet; `units` are what the store recorded of it.
    #[must_use]
    pub fn new(
        core: Arc<Core<T>>,
        open: Open<S>,
        record: SourceRecord,
        units: Vec<(UnitRecord, Option<Arc<Version>>)>,
        gone: HashMap<Arc<str>, Generation>,
        (outbox, inbox): (mpsc::UnboundedSender<Message>, mpsc::UnboundedReceiver<Message>),
    ) -> Self {
        let debounce = match &record.spec.origin {
            Origin::Local(local) => local.debounce,
            Origin::Git(_) => None,
        };
        let units = units.into_iter().map(|(record, version)| Unit { record, version, busy: None }).collect();
        let now = Instant::now();
        let configured = open(&record.spec);
        let (source, behind) = match &record.dev {
            Some(dev) => (open(&dev::working_copy(&record.spec, &dev.path)), Some(Behind::new(configured))),
            None => (configured, None),
        };
        let mut made = Self {
            freed: core.registry.freed(),
            core,
            inbox,
            outbox,
            source: Some(source),
            open,
            behind,
            kept: None,
            recalls: false,
            go_back_at: None,
            nested: Nested::new(),
            own_tree: None,
            is_trial: false,
            record,
            catalog: Catalog::default(),
            pending: Changes::All,
            undecided: BTreeSet::new(),
            unread: BTreeSet::new(),
            circles: HashMap::new(),
            untold: Untold::default(),
            units,
            doubts: Doubts::default(),
            strays: Vec::new(),
            gone,
            look_failed: false,
            first_pass_done: false,
            daemons_started: false,
            compared: None,
            failures: 0,
            revision: None,
            rewritten: false,
            first_retry: None,
            soon: None,
            teller: Teller::default(),
            announced: Announced::default(),
            needs_person: false,
            looking: None,
            queue: VecDeque::new(),
            waiting: Vec::new(),
            window: Window::new(debounce),
            next_look: now,
            deadline_of_first_pass: now + FIRST_PASS_LIMIT,
        };
        made.update_retry();
        made
    }

    /// Runs until the service ends or the source is pruned.
    pub async fn run(mut self) {
        self.core.links.join(self.record.spec.name.clone(), self.outbox.clone());
        if self.is_dev_over() {
            self.switch_off("its time passed while the service was down", None).await;
        } else if !self.is_suspended() {
            let start = PassOrder::new(Cause::new(TriggerKind::Start, ""), Look::Full);
            self.go_back_at = self.left_behind().map(|_| Instant::now() + PATIENCE_ON_RETURN);
            self.queue.push_back((start, None));
        }
        if self.is_suspended() {
            // Nobody is to wait for a look that is not made.
            self.core.links.looked(&self.record.spec.name);
        }
        loop {
            self.start_next().await;
            let waiting = self.queue.len() + usize::from(self.looking.is_some());
            self.core.metrics().waiting(&self.record.spec.name, waiting);
            // A pass that looks at nothing is over already, and nothing may wake the loop for long.
            self.answer_waiting();
            match self.wake().await {
                Wake::Close | Wake::Message(None) => return,
                Wake::Message(Some(message)) => {
                    if self.handle(message).await {
                        return;
                    }
                }
                Wake::Looked(looked) => self.looked(*looked).await,
                Wake::Behind(Some(looked)) => self.looked_behind(*looked).await,
                Wake::Behind(None) => self.look_behind_soon(),
                Wake::Nested(seen) => self.seen_nested(*seen).await,
                Wake::Hint(hint) => self.hinted(hint),
                Wake::Mended => self.mended(),
                Wake::PathFreed => self.path_freed(),
                Wake::Due => self.due_now().await,
            }
            self.answer_waiting();
        }
    }

    /// Waits for whatever comes first. Cancel safe: a branch that does not win keeps its value, the look goes on.
    async fn wake(&mut self) -> Wake<S> {
        let (due, is_barred) = (self.due(), self.is_barred());
        tokio::select! {
            biased;
            () = self.core.closing.cancelled() => Wake::Close,
            message = self.inbox.recv() => Wake::Message(message),
            looked = finished(&mut self.looking) => Wake::Looked(Box::new(looked)),
            looked = dev::finished(&mut self.behind) => Wake::Behind(looked.map(Box::new)),
            seen = self.nested.next() => Wake::Nested(Box::new(seen)),
            hint = next_hint(&mut self.source, is_barred) => match hint {
                Some(hint) => Wake::Hint(hint),
                None => Wake::Mended,
            },
            // The registry is there as long as the loop.
            Ok(()) = self.freed.changed() => Wake::PathFreed,
            () = tokio::time::sleep_until(due) => Wake::Due,
        }
    }

    /// Begins the next pass that was asked for, unless one is looking at the source.
    async fn start_next(&mut self) {
        while self.looking.is_none() {
            let Some((order, reply)) = self.queue.pop_front() else { return };
            let ask = match order.look {
                Look::Away => None,
                Look::Hinted => Some(Ask::Hinted),
                Look::Full => Some(Ask::Full),
                Look::Rescan => Some(Ask::Rescan),
            };
            match (ask, self.source.take()) {
                (Some(ask), Some(mut source)) => {
                    if !order.dry {
                        self.window.close();
                    }
                    let deployed = self.guarded_revision();
                    let others = self.look_at_nested(&order);
                    let future = Box::pin(async move {
                        let began = Instant::now();
                        let looked = source.observe(ask, deployed).await;
                        let took = began.elapsed();
                        if let Some(others) = others {
                            others.await;
                        }
                        (source, looked, took)
                    });
                    self.looking = Some(Looking { future, order, reply });
                }
                (_, source) => {
                    self.source = source;
                    let result = self.pass(&order, None).await;
                    if order.then_look {
                        let report = result.unwrap_or_default();
                        let so_far = SoFar { report, revision: None }.into();
                        let order = PassOrder { look: Look::Full, then_look: false, so_far, ..order };
                        self.queue.push_front((order, reply));
                        continue;
                    }
                    self.answer(reply, result, order.awaited);
                }
            }
        }
    }

    async fn looked(&mut self, (source, looked, took): Looked<S>) {
        self.source = Some(source);
        let Some(Looking { order, reply, .. }) = self.looking.take() else { return };
        (self.look_failed, self.go_back_at) = (false, None);
        self.count_look(looked.as_ref().ok(), took);
        let began = Instant::now();
        self.wait_for_nested(None, Duration::ZERO).await;
        if let Ok(observation) = &looked {
            self.was_announced(&order, observation, took).await;
        }
        let seen = looked.as_ref().ok().and_then(|observation| observation.revision.clone());
        let result = self.follow_look(&order, looked, took).await;
        match &result {
            _ if order.dry => {}
            Ok(_) => self.tell_anew(),
            Err(_) => self.tell_refused(seen),
        }
        let result = result.map(|report| report.after(order.so_far.report.clone()));
        let kind = self.record.spec.origin.kind();
        self.core.metrics().passed(&self.record.spec.name, kind, took + began.elapsed());
        if !self.core.board.is_looked_at(&self.record.spec.name) {
            self.core.board.mark_looked(&self.record.spec.name);
            self.core.links.looked(&self.record.spec.name);
        }
        if self.first_pass_done {
            self.core.board.mark_read(&self.record.spec.name);
        }
        self.schedule(&order, self.look_failed);
        self.await_announced();
        if !self.daemons_started {
            self.start_daemons();
        }
        self.answer(reply, result, order.awaited);
    }

    /// Counts a look at a repository. One that failed brought nothing, so it counts as a probe.
    fn count_look(&self, seen: Option<&Observation>, took: Duration) {
        if self.record.dev.is_none() && matches!(self.record.spec.origin, Origin::Git(_)) {
            let is_new = seen.is_some_and(|seen| seen.revision != self.revision);
            let op = if is_new { "fetch" } else { "probe" };
            self.core.metrics().looked(&self.record.spec.name, op, seen.is_some(), took);
        }
    }

    /// A file is another one that kept the source from being reached.
    fn mended(&mut self) {
        tracing::info!("source {}: a credential or a host key changed", self.record.spec.name);
        self.needs_person = false;
        self.next_look = Instant::now();
    }

    fn due(&self) -> Instant {
        let mut due = Instant::now() + Duration::from_secs(3600);
        let mut earliest = |at: Instant| due = due.min(at);
        [self.dev_ends(), self.go_back_due()].into_iter().flatten().for_each(&mut earliest);
        if !self.is_suspended() {
            self.behind.as_ref().and_then(Behind::due).into_iter().for_each(&mut earliest);
            self.nested.retry_due().into_iter().for_each(&mut earliest);
        }
        if !self.daemons_started {
            earliest(self.deadline_of_first_pass);
        }
        if self.looking.is_none() && !self.is_suspended() {
            if !self.is_stalled_for_good() {
                earliest(self.next_look);
            }
            [self.window.due(), self.next_retry(), self.soon.map(|(at, _)| at), self.announced.due()]
                .into_iter()
                .flatten()
                .for_each(&mut earliest);
        }
        due
    }

    async fn due_now(&mut self) {
        let now = Instant::now();
        if !self.daemons_started && now >= self.deadline_of_first_pass {
            self.start_daemons();
        }
        if self.is_dev_over() {
            return self.switch_off("its time is over", None).await;
        }
        self.go_back(now).await;
        if !self.is_suspended() && self.behind.as_ref().and_then(Behind::due).is_some_and(|due| due <= now) {
            self.look_behind();
        }
        if !self.is_suspended() && self.nested.retry_due().is_some_and(|due| due <= now) {
            self.nested.look_at_all(Ask::Full, false);
        }
        if self.looking.is_some() || self.is_suspended() {
            return;
        }
        if self.window.due().is_some_and(|due| due <= now) {
            if self.source.as_ref().is_some_and(Source::is_busy) {
                self.window.postpone(now + BUSY_WAIT);
                return;
            }
            let path = self.window.first_path().unwrap_or_default().to_owned();
            let cause = Cause::new(TriggerKind::File, path);
            self.queue.push_back((PassOrder::new(cause, Look::Hinted), None));
        } else if !self.is_stalled_for_good() && self.next_look <= now {
            self.queue.push_back((PassOrder::new(self.timer_cause(), Look::Full), None));
        } else if let Some(cause) = self.announced.take_due(now) {
            self.queue.push_back((PassOrder::new(cause, Look::Full), None));
        } else if self.announced.take_sooner(now) {
            self.queue.push_back((PassOrder::new(self.timer_cause(), Look::Full), None));
        } else if let Some((_, look)) = self.soon.take_if(|(due, _)| *due <= now) {
            self.queue.push_back((PassOrder::new(self.timer_cause(), look), None));
        } else if self.first_retry.is_some_and(|at| at <= self.core.now()) {
            self.queue.push_back((PassOrder::new(self.timer_cause(), Look::Away), None));
        }
    }

    fn hinted(&mut self, Hint(path): Hint) {
        let restarts = RelPath::parse(&path).is_ok_and(|path| self.belongs_to_daemon(&path));
        self.window.change(Instant::now(), path, restarts);
    }

    fn belongs_to_daemon(&self, path: &RelPath) -> bool {
        let mut units = self.catalog.reached(path).filter_map(|(_, entry)| entry.state.as_ref().ok());
        units.any(|unit| unit.spec.is_daemon())
    }

    /// Carries a message out; gives back whether the loop ends.
    async fn handle(&mut self, message: Message) -> bool {
        match message {
            Message::Pass(order, reply) => {
                if self.is_suspended() && !order.dry {
                    let _ = reply.send(Err(self.refuse_suspended()));
                } else {
                    if order.look >= Look::Full && !order.dry {
                        self.look_behind_soon();
                    }
                    self.queue.push_back((order, Some(reply)));
                }
            }
            Message::DevOn { path, length, reply } => self.switch_on(path, length, reply).await,
            Message::DevOff(reply) => self.switch_off("switched off", Some(reply)).await,
            Message::Preview(path, reply) => self.preview(&path, reply),
            Message::Configure(spec, declared, reply) => self.configure(*spec, declared, reply).await,
            Message::RollBack { key, to, reply } => {
                let result = self.roll_back(&key, to).await;
                self.answer(Some(reply), result, Awaited::Unit(key));
            }
            Message::Restart { key, reply } => {
                let result = self.restart(&key).await;
                self.answer(Some(reply), result, Awaited::Unit(key));
            }
            Message::Suspend { key, reason, reply } => {
                let result = self.suspend(key.as_ref(), reason).await;
                self.answer(Some(reply), result, Awaited::Nothing);
            }
            Message::Resume { key, reply } => {
                let result = self.resume(key.as_ref()).await;
                match result {
                    Ok(()) => {
                        let awaited = key.map_or(Awaited::All, Awaited::Unit);
                        let cause = Cause::new(TriggerKind::Command, RESUME);
                        // What is known is deployed at once, also while the source is away.
                        let known =
                            PassOrder { awaited, then_look: true, ..PassOrder::new(cause, Look::Away) };
                        self.queue.push_back((known, Some(reply)));
                    }
                    Err(refusal) => self.answer(Some(reply), Err(refusal), Awaited::Nothing),
                }
            }
            Message::Origins(key, reply) => {
                // Whoever asked may be gone.
                let _ = reply.send(self.origins(&key));
            }
            Message::Prune(cause, reply) => {
                let result = self.prune(&cause).await;
                let ended = result.is_ok();
                let _ = reply.send(result);
                return ended;
            }
            Message::Announced(push) => self.announce(push),
            Message::Sooner => self.look_sooner(),
            Message::Hosted => self.hosted_elsewhere(),
            Message::Rechain(keys) => self.rechain(keys),
            Message::Missed(detail) => self.look_for_missed(detail),
            Message::Health(key, health) => self.health(&key, &health).await,
            Message::Settled(doing, settled) => self.settled(*doing, settled).await,
        }
        false
    }

    /// Answers a command, when no step that it waits for is under way any more.
    pub(super) fn answer(&mut self, reply: Option<Reply>, result: Result<Report, Refusal>, awaited: Awaited) {
        let Some(reply) = reply else { return };
        match result {
            Ok(report) => self.waiting.push((reply, report, awaited)),
            Err(refusal) => {
                let _ = reply.send(Err(refusal));
            }
        }
    }

    fn answer_waiting(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        let is_any_busy = self.units.is_any_busy();
        let is_over = |awaited: &Awaited| match awaited {
            Awaited::Nothing => true,
            Awaited::Unit(key) => self.units.get(key).is_none_or(|unit| unit.busy.is_none()),
            Awaited::All => !is_any_busy,
        };
        let waiting = std::mem::take(&mut self.waiting);
        let (over, waiting): (Vec<_>, Vec<_>) =
            waiting.into_iter().partition(|(_, _, awaited)| is_over(awaited));
        self.waiting = waiting;
        if over.is_empty() {
            return;
        }
        let unready = self.unready();
        for (reply, report, _) in over {
            let _ = reply.send(Ok(Report { unready: unready.clone(), ..report }));
        }
    }

    /// Whether nothing but a command or a change wakes it: a person is needed to reach the source at all.
    fn is_stalled_for_good(&self) -> bool {
        self.needs_person
    }

    /// Whether a file may be another one soon without which the repository is not asked again.
    fn is_barred(&self) -> bool {
        self.is_stalled_for_good() && !self.is_local() && !self.is_suspended()
    }

    pub(super) fn is_suspended(&self) -> bool {
        self.record.suspended.is_some()
    }

    pub(super) fn unit_id(&self, key: &Arc<str>) -> UnitId {
        UnitId { source: self.record.spec.name.clone(), key: Arc::clone(key) }
    }
}

/// Time to the next attempt after so many failures in a row: sooner than the next poll at first, never later.
pub(super) fn retry_after(failures: u32, interval: Duration) -> Duration {
    backoff::delay(failures, chance()).min(interval)
}

/// A random number in `0.0..1.0`.
#[must_use]
pub fn chance() -> f64 {
    let [a, b, c, d, ..] = random();
    f64::from(u32::from_be_bytes([a, b, c, d])) / (f64::from(u32::MAX) + 1.0)
}

async fn finished<S>(looking: &mut Option<Looking<S>>) -> Looked<S> {
    match looking {
        Some(looking) => looking.future.as_mut().await,
        None => std::future::pending().await,
    }
}

/// The next hint; `None` where a file changed that an attempt depends on.
async fn next_hint<S: Source>(source: &mut Option<S>, is_barred: bool) -> Option<Hint> {
    match source {
        Some(source) if is_barred => {
            source.mended().await;
            None
        }
        Some(source) => Some(source.hint().await),
        None => std::future::pending().await,
    }
}
