//! Dev mode: a git source whose tree is taken from a working copy until it is switched off.
//!
//! The loop owns the switch. While it is on, the loop observes the working copy as it would any directory, and the
//! repository stands behind it: fetched and shown, never applied. Nothing here writes below the working copy.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::act::Target;
use crate::model::condition::{ConditionStatus, ConditionType};
use crate::model::event::{Event, EventType};
use crate::model::history::{Cause, TriggerKind};
use crate::model::source::{Declared, Dev, LocalOrigin, Origin, Revision, SourceSpec};
use crate::model::time::Timestamp;
use crate::model::tree::Changes;
use crate::observe::{Ask, Observation, ObserveError, Source};
use crate::plan::backoff;
use crate::plan::catalog::Catalog;
use crate::record::{Recording, SourceRecord};

use super::fall_back::PATIENCE_ON_RETURN;
use super::message::{Awaited, Look, PassOrder, Refusal, RefusalKind, Report};
use super::nested::Nested;
use super::runs::chain;
use super::source_loop::{LookFuture, Looked, Looking, Reply, SourceLoop, chance, retry_after};
use super::window::Window;

/// What the history and the log say of a pass after the configuration file changed.
pub(super) const CONFIGURATION: &str = "configuration";

/// As good as never.
const DAY: Duration = Duration::from_hours(24);

/// The repository of a source in dev mode.
pub(super) struct Behind<S> {
    /// `None` while it is looked at.
    source: Option<S>,
    looking: Option<LookFuture<S>>,
    /// Its tree when it was last fetched, to go back to where it cannot be fetched.
    kept: Option<Observation>,
    next_look: Instant,
    failures: u32,
}

impl<S> Behind<S> {
    /// A repository that is looked at soon.
    pub(super) fn new(source: S) -> Self {
        Self { source: Some(source), looking: None, kept: None, next_look: Instant::now(), failures: 0 }
    }

    /// It, unless it is being looked at.
    pub(super) fn source(&mut self) -> Option<&mut S> {
        self.source.as_mut()
    }

    /// When it is looked at next; `None` while it is.
    pub(super) fn due(&self) -> Option<Instant> {
        self.source.as_ref().map(|_| self.next_look)
    }
}

/// Waits for the end of a look at the repository; `None` where a file changed that an attempt depends on.
pub(super) async fn finished<S: Source>(behind: &mut Option<Behind<S>>) -> Option<Looked<S>> {
    match behind {
        Some(Behind { looking: Some(looking), .. }) => Some(looking.as_mut().await),
        Some(Behind { source: Some(source), .. }) => {
            source.mended().await;
            None
        }
        _ => std::future::pending().await,
    }
}

/// The source as it is observed in dev mode.
pub(super) fn working_copy(spec: &SourceSpec, path: &str) -> SourceSpec {
    let origin = Origin::Local(LocalOrigin { path: path.into(), debounce: None });
    SourceSpec { origin, ..spec.clone() }
}

impl<S: Source, T: Target> SourceLoop<S, T> {
    /// Whether the tree comes from a directory: it is watched, and no commit stands for it.
    pub(super) fn is_local(&self) -> bool {
        self.record.dev.is_some() || matches!(self.record.spec.origin, Origin::Local(_))
    }

    /// The working copy that files come from now.
    pub(super) fn dev_path(&self) -> Option<Arc<str>> {
        self.record.dev.as_ref().map(|dev| Arc::clone(&dev.path))
    }

    /// When dev mode ends by itself.
    pub(super) fn dev_ends(&self) -> Option<Instant> {
        let until = self.record.dev.as_ref().and_then(|dev| dev.until)?;
        Some(Instant::now() + until.since(self.core.now()))
    }

    /// Whether the time of dev mode is over.
    pub(super) fn is_dev_over(&self) -> bool {
        let until = self.record.dev.as_ref().and_then(|dev| dev.until);
        until.is_some_and(|until| until <= self.core.now())
    }

    /// Takes the tree from a working copy from now on; the reply is answered after the first pass.
    pub(super) async fn switch_on(&mut self, path: Arc<str>, length: Option<Duration>, reply: Reply) {
        if let Err(refusal) = self.record_dev(&path, length).await {
            let _ = reply.send(Err(refusal));
            return;
        }
        let copy = (self.open)(&working_copy(&self.record.spec, &path));
        let was_observed = self.source.replace(copy);
        let looked = self.stop_looking();
        if self.behind.is_none() {
            let next_look = Instant::now();
            self.behind =
                Some(Behind { source: was_observed, looking: looked, kept: None, next_look, failures: 0 });
        }
        self.start_anew();
        let cause = Cause::new(TriggerKind::Dev, &*path);
        self.queue.push_front((PassOrder::new(cause, Look::Full), Some(reply)));
    }

    /// Takes the look that is under way out of the loop; who waits for its pass gets another one.
    fn stop_looking(&mut self) -> Option<LookFuture<S>> {
        let Looking { future, order, reply } = self.looking.take()?;
        if reply.is_some() {
            self.queue.push_back((order, reply));
        }
        Some(future)
    }

    /// Checks whether dev mode can be switched on, and records that it is.
    async fn record_dev(&mut self, path: &Arc<str>, length: Option<Duration>) -> Result<(), Refusal> {
        let name = &self.record.spec.name;
        if matches!(self.record.spec.origin, Origin::Local(_)) {
            let message = format!("source {name} is a directory already: dev mode is for git sources");
            return Err(
                Refusal::new(RefusalKind::Invalid, message).hint("its files take effect when they are saved")
            );
        }
        if self.is_suspended() {
            return Err(self.refuse_suspended());
        }
        let now = self.core.now();
        let since = self.record.dev.as_ref().filter(|dev| dev.path == *path).map_or(now, |dev| dev.since);
        let dev = Dev { path: Arc::clone(path), since, until: length.map(|length| now.plus(length)) };
        let message = in_words(&dev);
        let mut next = self.record.clone();
        next.dev = Some(dev);
        // What kept the repository from being applied says nothing about the working copy.
        next.conditions.clear(ConditionType::Stalled);
        show_dev(&mut next, now, None);
        self.put_dev(next, EventType::DevEnabled, &message).await?;
        tracing::info!("source {}: dev mode is on: {message}", self.record.spec.name);
        Ok(())
    }

    /// Takes the tree from the repository again; the reply is answered after the first pass.
    pub(super) async fn switch_off(&mut self, why: &str, reply: Option<Reply>) {
        if self.record.dev.is_none() {
            self.answer(reply, Ok(Report::default()), Awaited::Nothing);
            return;
        }
        let mut next = self.record.clone();
        end_dev(&mut next, self.core.now());
        next.conditions.clear(ConditionType::Stalled);
        if let Err(refusal) = self.put_dev(next, EventType::DevDisabled, why).await {
            if let Some(dev) = self.record.dev.as_mut().filter(|_| reply.is_none()) {
                // Tried again where nobody waits for an answer.
                dev.until = Some(self.core.now().plus(backoff::delay(1, chance())));
            }
            self.answer(reply, Err(refusal), Awaited::Nothing);
            return;
        }
        tracing::info!("source {}: dev mode is off: {why}", self.record.spec.name);
        self.back_to_repository();
        let order = PassOrder::new(Cause::new(TriggerKind::Dev, why), Look::Full);
        if self.is_suspended() {
            // Its pass waits until that ends, and so do the units.
            if let Some(looking) = &mut self.looking {
                looking.order = PassOrder { dry: true, ..order };
            }
            self.mark_left_behind().await;
            self.answer(reply, Ok(Report::default()), Awaited::Nothing);
            return;
        }
        self.go_back_at = Some(Instant::now() + PATIENCE_ON_RETURN);
        match &mut self.looking {
            Some(looking) => (looking.order, looking.reply) = (order, reply),
            None => self.queue.push_front((order, reply)),
        }
    }

    /// Observes what stood behind the working copy.
    fn back_to_repository(&mut self) {
        drop(self.stop_looking());
        self.source = None;
        if let Some(Behind { source, looking, kept, .. }) = self.behind.take() {
            self.source = source;
            self.kept = kept;
            let order = PassOrder::new(self.timer_cause(), Look::Full);
            self.looking = looking.map(|future| Looking { future, order, reply: None });
        }
        self.start_anew();
    }

    /// Forgets what was known of the tree; units stay as they are until another one was read whole.
    fn start_anew(&mut self) {
        self.core.board.mark_unread(&self.record.spec.name);
        self.catalog = Catalog::default();
        (self.nested, self.own_tree) = (Nested::new(), None);
        self.pending = Changes::All;
        self.undecided.clear();
        self.unread.clear();
        self.first_pass_done = false;
        self.compared = None;
        self.failures = 0;
        self.needs_person = false;
        self.go_back_at = None;
        self.revision = None;
        self.rewritten = false;
        self.soon = None;
        // The order that comes next says when the one after it is.
        self.next_look = Instant::now() + DAY;
        let debounce = match &self.record.spec.origin {
            Origin::Local(local) => local.debounce,
            Origin::Git(_) => None,
        };
        self.window = Window::new(debounce);
    }

    /// Records a source whose dev mode is another one, and tells so.
    async fn put_dev(&mut self, next: SourceRecord, kind: EventType, message: &str) -> Result<(), Refusal> {
        let now = self.core.now();
        let events = vec![Event::new(now, kind, next.spec.name.clone(), message)];
        let recording =
            Recording { source: Some(next.state()), events: events.clone(), ..Recording::new(now) };
        let written = self.core.store.commit(recording).await;
        written.map_err(|error| Refusal::new(RefusalKind::Failed, chain(&error)))?;
        self.record = next;
        self.core.board.put_source(self.record.clone());
        self.core.events.publish(events);
        self.tell_stopped();
        Ok(())
    }

    /// Begins a look at the repository, to show where it is.
    pub(super) fn look_behind(&mut self) {
        // As an ordinary look does: what is adopted when dev mode ends has to pass the same guard.
        let deployed = self.guarded_revision();
        let Some(behind) = &mut self.behind else { return };
        let Some(mut source) = behind.source.take() else { return };
        behind.looking = Some(Box::pin(async move {
            let began = Instant::now();
            let looked = source.observe(Ask::Full, deployed).await;
            (source, looked, began.elapsed())
        }));
    }

    /// Brings the next look at the repository forward.
    pub(super) fn look_behind_soon(&mut self) {
        if let Some(behind) = &mut self.behind {
            behind.next_look = Instant::now();
        }
    }

    /// Notes where the repository is. Nothing of it is applied.
    pub(super) async fn looked_behind(&mut self, (source, looked, _): Looked<S>) {
        let interval = self.poll_interval();
        let Some(behind) = &mut self.behind else { return };
        (behind.source, behind.looking) = (Some(source), None);
        match looked {
            Ok(observation) => {
                behind.failures = 0;
                behind.next_look = Instant::now() + interval;
                let revision = observation.revision.clone();
                // What was read of it does not count as applied, so all of it is news when it is.
                behind.kept = Some(Observation { changes: Changes::All, ..observation });
                self.seen_behind(revision).await;
            }
            Err(error) => {
                behind.failures = behind.failures.saturating_add(1);
                // What needs a person is tried again when one asks, and when dev mode ends.
                let wait = if error.stalled { DAY } else { retry_after(behind.failures, interval) };
                behind.next_look = Instant::now() + wait;
                self.failed_behind(&error).await;
            }
        }
    }

    async fn seen_behind(&mut self, revision: Option<Revision>) {
        let now = self.core.now();
        let mut next = self.record.clone();
        let moved = next.revisions.seen != revision;
        next.revisions.seen.clone_from(&revision);
        next.last_fetch_at = Some(now);
        let is_other = show_dev(&mut next, now, None);
        let seen = |revision| {
            let message = "a new commit, not applied: dev mode is on";
            let event = Event::new(now, EventType::SourceChanged, next.spec.name.clone(), message);
            Event { revision: Some(revision), ..event }
        };
        let events: Vec<Event> = revision.filter(|_| moved).map(seen).into_iter().collect();
        if is_other || !events.is_empty() {
            let recording =
                Recording { source: Some(next.state()), events: events.clone(), ..Recording::new(now) };
            if let Err(error) = self.core.store.commit(recording).await {
                tracing::error!("source {}: {}", next.spec.name, chain(&error));
                return;
            }
        }
        self.record = next;
        self.core.board.put_source(self.record.clone());
        self.core.events.publish(events);
    }

    /// The repository could not be fetched. Units do not depend on it now, so the source stays ready.
    async fn failed_behind(&mut self, error: &ObserveError) {
        let (now, why) = (self.core.now(), chain(error));
        let mut next = self.record.clone();
        if !show_dev(&mut next, now, Some(&why)) {
            return;
        }
        tracing::warn!("source {}: {why} (dev mode is on: its units do not depend on it)", next.spec.name);
        let recording = Recording { source: Some(next.state()), ..Recording::new(now) };
        if let Err(error) = self.core.store.commit(recording).await {
            tracing::error!("source {}: {}", next.spec.name, chain(&error));
        }
        self.record = next;
        self.core.board.put_source(self.record.clone());
    }

    /// What a pass would do if the tree were taken from `path`; nothing is changed, and the loop goes on meanwhile.
    pub(super) fn preview(&self, path: &str, reply: Reply) {
        let source = (self.open)(&working_copy(&self.record.spec, path));
        let units = self.units.values();
        let units = units.map(|unit| (unit.record.clone(), unit.version.clone())).collect();
        let mut trial = Self::new(
            Arc::clone(&self.core),
            Arc::clone(&self.open),
            self.record.clone(),
            units,
            self.gone.clone(),
            mpsc::unbounded_channel(),
        );
        trial.is_trial = true;
        trial.behind = None;
        trial.source = Some(source);
        let cause = Cause::new(TriggerKind::Command, "diff");
        let order = PassOrder { dry: true, ..PassOrder::new(cause, Look::Full) };
        tokio::spawn(async move {
            let _ = reply.send(trial.try_out(&order).await);
        });
    }

    async fn try_out(mut self, order: &PassOrder) -> Result<Report, Refusal> {
        let Some(source) = &mut self.source else { return Err(Refusal::closing()) };
        let looked = source.observe(Ask::Full, None).await;
        let observation = looked.map_err(|error| Refusal::new(RefusalKind::Failed, chain(&error)))?;
        self.pass(order, Some((observation, Duration::ZERO))).await
    }

    /// Goes on with the same units after the source was configured differently. It is answered when the source is
    /// taken as it is configured now; its pass comes next.
    pub(super) async fn configure(&mut self, spec: SourceSpec, declared: Declared, reply: Reply) {
        let next = self.record.clone().configured(spec, declared);
        if let Err(error) = self.core.store.put_source(&next).await {
            let _ = reply.send(Err(Refusal::new(RefusalKind::Failed, chain(&error))));
            return;
        }
        let was_dev = self.record.dev.is_some();
        self.record = next;
        self.core.board.put_source(self.record.clone());
        if was_dev && self.record.dev.is_none() {
            tracing::info!("source {}: dev mode is off: it is a directory now", self.record.spec.name);
            // Its state was written already. A failure is told by whatever is recorded next.
            let told =
                self.put_dev(self.record.clone(), EventType::DevDisabled, "it is a directory now").await;
            drop(told);
        }
        drop(self.stop_looking());
        self.kept = None;
        let opened = (self.open)(&self.record.spec);
        match self.dev_path() {
            Some(path) => {
                self.behind = Some(Behind::new(opened));
                self.source = Some((self.open)(&working_copy(&self.record.spec, &path)));
            }
            None => {
                self.behind = None;
                self.source = Some(opened);
            }
        }
        self.start_anew();
        if !self.is_suspended() {
            let order = PassOrder::new(Cause::new(TriggerKind::Command, CONFIGURATION), Look::Full);
            self.queue.push_front((order, None));
        }
        let _ = reply.send(Ok(Report::default()));
    }
}

/// Ends dev mode of a source. Units that came from the working copy still do, and the source says so until they are
/// decided anew.
fn end_dev(record: &mut SourceRecord, now: Timestamp) {
    let Some(dev) = record.dev.take() else { return };
    if !record.has_strayed {
        record.conditions.clear(ConditionType::DevMode);
        return;
    }
    let path = Path::new(&*dev.path).display();
    let left = format!("what runs still comes from the working copy at {path}, although dev mode is off");
    record.conditions.set(now, ConditionType::DevMode, ConditionStatus::False, "WorkingCopy", &left);
}

/// Sets the condition DevMode of a source; gives back whether that changed anything.
fn show_dev(record: &mut SourceRecord, now: Timestamp, trouble: Option<&str>) -> bool {
    let Some(dev) = &record.dev else { return false };
    let mut message = in_words(dev);
    let mut reason = "WorkingCopy";
    if let Some(why) = trouble {
        reason = "FetchFailed";
        message = format!("{message}; the repository cannot be fetched: {why}");
    }
    record.conditions.set(now, ConditionType::DevMode, ConditionStatus::True, reason, &message)
}

fn in_words(dev: &Dev) -> String {
    let until = dev.until.map(|until| format!(" until {until}")).unwrap_or_default();
    format!("units come from {}{until}", Path::new(&*dev.path).display())
}
