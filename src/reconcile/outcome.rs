//! Records what a pass came to, and reports it: one transaction, then the board, the events and the log.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crate::act::Target;
use crate::model::condition::{ConditionStatus, ConditionType};
use crate::model::event::{Event, EventType};
use crate::model::hash::UnitHash;
use crate::model::history::{HistoryRow, Outcome};
use crate::model::id::UnitId;
use crate::model::problem::Problem;
use crate::model::step::{Action, Rule, Step};
use crate::model::unit::Version;
use crate::observe::Source;
use crate::plan::{backoff, diff};
use crate::record::{HeldBy, Hold, Recording, UnitRecord};

use super::daemons::{Health, Settled};
use super::history;
use super::message::{Doing, Look, PassOrder, Refusal, RefusalKind};
use super::metrics::Tally;
use super::perform::Acted;
use super::runs::chain;
use super::source_loop::{SourceLoop, chance};
use super::status;
use super::units::Unit;

/// Time between two attempts to record while the store cannot be written.
const STORE_RETRY: Duration = Duration::from_secs(1);

/// What a source says of itself while a repository that its sets lead to cannot be had.
pub(super) const REPOSITORY_AWAY: &str = "RepositoryUnavailable";

/// A step that is over.
pub(super) struct Finished {
    pub doing: Doing,
    pub outcome: Outcome,
    pub error: Option<String>,
}

/// Everything that one recording changes, before it is recorded.
#[derive(Default)]
pub(super) struct Draft {
    pub units: Vec<Unit>,
    pub removed: Vec<UnitId>,
    pub history: Vec<HistoryRow>,
    pub events: Vec<Event>,
    pub versions: Vec<Arc<Version>>,
    pub lines: Vec<String>,
    /// Whether something that took effect came from a working copy.
    pub strays: bool,
}

impl Draft {
    /// The units that it speaks of.
    pub fn keys(&self) -> impl Iterator<Item = &Arc<str>> {
        self.units.iter().map(|unit| &unit.record.id).chain(&self.removed).map(|id| &id.key)
    }

    fn is_empty(&self) -> bool {
        self.units.is_empty() && self.removed.is_empty() && self.events.is_empty() && self.history.is_empty()
    }
}

impl<S: Source, T: Target> SourceLoop<S, T> {
    /// Records what a pass did; `observed` says that it looked at its source. Gives back the units whose step failed.
    pub(super) async fn record_pass(
        &mut self,
        order: &PassOrder,
        acted: Acted,
        observed: bool,
    ) -> Result<Vec<(UnitId, String)>, Refusal> {
        let mut draft = Draft::default();
        let failed = acted
            .finished
            .iter()
            .filter_map(|done| done.error.clone().map(|error| (done.doing.step.unit.clone(), error)))
            .collect();
        for finished in acted.finished {
            self.draft_finished(finished, &mut draft);
        }
        for (key, problems) in acted.broken {
            self.draft_broken(&key, problems, &mut draft);
        }
        let equal = acted.noops.iter().filter(|step| step.rule == Rule::Same);
        let equal: BTreeSet<Arc<str>> = equal.map(|step| Arc::clone(&step.unit.key)).collect();
        for step in acted.noops {
            self.draft_noop(&step, &mut draft);
        }
        for doing in acted.begun {
            self.draft_begun(&doing, &mut draft);
        }
        let stays = if observed { self.draft_left_behind(&equal, &mut draft) } else { false };
        let mut source_changed = observed && self.note_observed(order, stays, &mut draft);
        source_changed |= self.note_deployed(&draft);
        if observed && !source_changed && draft.is_empty() {
            self.count_pass().await?;
        } else {
            self.commit(draft, source_changed).await?;
        }
        Ok(failed)
    }

    /// Records the end of a step that took its time.
    pub(super) async fn settled(&mut self, mut doing: Doing, settled: Settled) {
        let key = Arc::clone(&doing.step.unit.key);
        let current = self.units.get(&key).and_then(|unit| unit.busy);
        let is_current = current.is_some_and(|(generation, _)| generation == doing.step.generation);
        if is_current {
            self.units.change(&key, |unit| unit.busy = None);
        }
        let runs_on = matches!(settled, Settled::Refused(_));
        if let Settled::Started(took) = settled {
            doing.healthy = Some(took);
        }
        let (outcome, error) = match settled {
            Settled::Started(_) | Settled::Stopped => (Outcome::Succeeded, None),
            Settled::Superseded => (Outcome::Superseded, None),
            Settled::Failed(why) | Settled::Refused(why) => (Outcome::Failed, Some(why)),
        };
        let mut draft = Draft::default();
        if outcome == Outcome::Failed && is_current {
            self.bring_back(&doing, runs_on);
        }
        self.draft_finished(Finished { doing, outcome, error }, &mut draft);
        self.draft_left_behind(&BTreeSet::new(), &mut draft);
        // No pass comes to find it out while a person stops changes.
        let is_all_known = self.pending.is_none() && self.unread.is_empty();
        let is_deployed = self.is_suspended() && is_all_known && self.note_deployed(&draft);
        // A failed write is told and made up for by the pass that follows it.
        let _ = self.commit(draft, is_deployed).await;
        // What became desired, or went away, while the step was under way is decided now.
        self.undecided.insert(key);
        self.pass_after(Duration::ZERO, Look::Away);
    }

    /// A daemon's new version could not be started: the last good one runs again, or still.
    fn bring_back(&mut self, doing: &Doing, runs_on: bool) {
        let Some(old) = self.units.get(&doing.step.unit.key).and_then(|unit| unit.version.clone()) else {
            return;
        };
        self.core.registry.put(Arc::clone(&old));
        if old.spec.is_daemon() && !runs_on {
            drop(self.core.daemons.set(&doing.step.unit, Some(old), doing.step.generation));
        }
    }

    /// Records that a daemon fares differently.
    pub(super) async fn health(&mut self, key: &Arc<str>, health: &Health) {
        let now = self.core.now();
        let Some(unit) = self.units.get(key) else { return };
        let mut unit = Unit { record: unit.record.clone(), version: unit.version.clone(), busy: unit.busy };
        if !status::fares(&mut unit.record, unit.busy.is_some(), health, now) {
            return;
        }
        let mut draft = Draft::default();
        match health {
            Health::Running => {}
            Health::Waiting(how) => draft.lines.push(format!("daemon {}: {how}", unit.record.id)),
            Health::CrashLoop(how) => {
                draft.lines.push(format!("daemon {} is in a crash loop: {how}", unit.record.id));
            }
            Health::Ended { how, .. } => {
                draft.lines.push(format!("daemon {} stays ended: {how}", unit.record.id));
            }
        }
        draft.units.push(unit);
        // A failed write is made up for by the next one: health is told again at every change.
        let _ = self.commit(draft, false).await;
    }

    fn next_state(&self, id: &UnitId) -> Unit {
        let mut unit = self.last_state(id);
        if let Some(Ok(resolved)) = self.catalog.get(&id.key).map(|entry| &entry.state) {
            unit.record.warnings = resolved.warnings.to_vec();
            unit.record.warnings.extend(self.unknown_origin(id, resolved));
        }
        unit
    }

    fn last_state(&self, id: &UnitId) -> Unit {
        match self.units.get(&id.key) {
            Some(unit) => {
                Unit { record: unit.record.clone(), version: unit.version.clone(), busy: unit.busy }
            }
            None => {
                let name = id.key.rsplit('/').next().unwrap_or_default();
                let generation = self.gone.get(&id.key).copied().unwrap_or_default();
                let record = UnitRecord { generation, ..UnitRecord::new(id.clone(), name, self.core.now()) };
                Unit { record, version: None, busy: None }
            }
        }
    }

    fn draft_finished(&self, finished: Finished, draft: &mut Draft) {
        let Finished { mut doing, outcome, error } = finished;
        let mut unit = self.next_state(&doing.step.unit);
        begin_at(&mut doing, unit.version.as_deref());
        let row = history::row(&doing, outcome, error.as_deref(), self.core.now());
        if outcome == Outcome::Succeeded {
            unit.record.phases.clone_from(&row.phases);
        }
        let (first, phases) = (draft.events.len(), row.phases.clone());
        draft.history.push(row);
        self.draft_outcome(&doing, outcome, error.as_deref(), unit, draft);
        for event in &mut draft.events[first..] {
            event.phases.clone_from(&phases);
        }
    }

    fn draft_outcome(
        &self,
        doing: &Doing,
        outcome: Outcome,
        error: Option<&str>,
        mut unit: Unit,
        draft: &mut Draft,
    ) {
        let id = &doing.step.unit;
        match outcome {
            Outcome::Succeeded if doing.step.action == Action::Remove => {
                draft.strays |= doing.dev_path.is_some();
                draft.removed.push(id.clone());
                draft.events.push(self.event(EventType::UnitRemoved, id, None, "removed".into()));
                draft.lines.push(format!("task/{} removed", id.key));
                return;
            }
            Outcome::Succeeded => self.draft_live(doing, &mut unit, draft),
            Outcome::Superseded => {}
            Outcome::Failed => self.draft_failed(doing, &mut unit, error.unwrap_or_default(), draft),
        }
        status::settle(&mut unit.record, unit.busy.is_some(), error, self.core.now());
        draft.units.push(unit);
    }

    /// The new version is live.
    fn draft_live(&self, doing: &Doing, unit: &mut Unit, draft: &mut Draft) {
        let Some(version) = &doing.version else { return };
        let step = &doing.step;
        let known = unit.record.deployed.is_some();
        // What was saved over it while the step was under way is still wrong.
        let is_broken = self.catalog.get(&step.unit.key).is_some_and(|entry| entry.state.is_err());
        let record = &mut unit.record;
        record.name.clone_from(&version.spec.name);
        if step.rule == Rule::Rollback {
            record.hold.clone_from(&doing.hold);
            record.pinned = doing.hold.as_ref().map(|_| version.hash);
        } else if step.rule != Rule::Restart {
            // A newer step knows better what is desired.
            if unit.busy.is_none() && !is_broken {
                record.desired = Some(version.hash);
            }
            record.pinned = None;
            record.hold = None;
        }
        (record.attempted, record.deployed) = (Some(version.hash), Some(version.hash));
        // In dev mode a set of the working copy may say something of it, wherever its files come from.
        record.deployed_revision = version.revision.clone().filter(|_| doing.dev_path.is_none());
        record.conditions.clear(ConditionType::DevMode);
        note_step(record, step);
        (record.failures, record.retry_at) = (0, None);
        if !is_broken {
            record.problems.clear();
        }
        record.updated_at = self.core.now();
        if !version.spec.is_daemon() {
            record.conditions.clear(ConditionType::Healthy);
        }
        unit.version = Some(Arc::clone(version));
        draft.versions.push(Arc::clone(version));
        draft.strays |= doing.dev_path.is_some();
        let (kind, word) = if known {
            (EventType::UnitUpdated, "updated")
        } else {
            (EventType::UnitRegistered, "registered")
        };
        draft.events.push(self.event(kind, &step.unit, Some(version.hash), word.into()));
        let source = &self.record.spec.name;
        let rewritten = if doing.rewritten { " rewritten=true" } else { "" };
        let hash = version.hash.short();
        draft.lines.push(format!("task/{} {word} (hash: {hash}) source={source}{rewritten}", step.unit.key));
    }

    fn draft_failed(&self, doing: &Doing, unit: &mut Unit, error: &str, draft: &mut Draft) {
        let record = &mut unit.record;
        record.attempted = doing.step.to;
        note_step(record, &doing.step);
        record.failures = record.failures.saturating_add(1);
        record.retry_at = Some(self.core.now().plus(backoff::delay(record.failures, chance())));
        record.updated_at = self.core.now();
        draft.events.push(self.event(
            EventType::UnitFailed,
            &doing.step.unit,
            doing.step.to,
            error.to_owned(),
        ));
        draft.lines.push(failure_line(record, error));
    }

    fn draft_begun(&self, doing: &Doing, draft: &mut Draft) {
        let mut unit = self.next_state(&doing.step.unit);
        unit.record.attempted = doing.step.to;
        unit.record.generation = unit.record.generation.max(doing.step.generation);
        if !matches!(doing.step.rule, Rule::Rollback | Rule::Restart) {
            unit.record.desired = doing.step.to;
        }
        unit.record.problems.clear();
        status::settle(&mut unit.record, true, None, self.core.now());
        draft.units.push(unit);
    }

    fn draft_broken(&self, key: &Arc<str>, problems: Vec<Problem>, draft: &mut Draft) {
        let id = self.unit_id(key);
        let mut unit = self.next_state(&id);
        if unit.record.problems == problems && self.units.contains(key) {
            return;
        }
        let message = problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
        unit.record.desired = None;
        (unit.record.failures, unit.record.retry_at) = (0, None);
        unit.record.problems = problems;
        unit.record.updated_at = self.core.now();
        status::settle(&mut unit.record, unit.busy.is_some(), None, self.core.now());
        draft.events.push(self.event(EventType::UnitFailed, &id, unit.record.deployed, message.clone()));
        draft.lines.push(failure_line(&unit.record, &message));
        draft.units.push(unit);
    }

    /// Nothing is done, but what is desired, and why nothing is done, may have changed.
    fn draft_noop(&self, step: &Step, draft: &mut Draft) {
        let mut unit = self.next_state(&step.unit);
        if step.to.is_none() && unit.version.is_none() && step.rule == Rule::Same && unit.busy.is_none() {
            // A broken unit that was never deployed and is gone now.
            draft.removed.push(step.unit.clone());
            return;
        }
        let before = self.last_state(&step.unit).record;
        unit.record.desired = step.to;
        if unit.record.hold.as_ref().is_some_and(|hold| Some(hold.hash) != step.to) && step.rule == Rule::Same
        {
            (unit.record.hold, unit.record.pinned) = (None, None);
        }
        if matches!(step.rule, Rule::Held | Rule::Suspended) || !before.problems.is_empty() {
            (unit.record.action, unit.record.rule) = (Some(step.action), Some(step.rule));
            unit.record.reason.clone_from(&step.reason);
        }
        if step.rule == Rule::Same {
            unit.record.conditions.clear(ConditionType::DevMode);
        }
        if step.rule == Rule::Same
            && self.record.dev.is_none()
            && unit.record.deployed_revision.is_none()
            && step.to == unit.record.deployed
        {
            // What came from a working copy is in the repository now.
            unit.record.deployed_revision = self.revision_of(&step.unit.key).filter(|_| step.to.is_some());
        }
        unit.record.problems.clear();
        if !matches!(step.rule, Rule::BackingOff | Rule::InProgress) {
            (unit.record.failures, unit.record.retry_at) = (0, None);
        }
        status::settle(&mut unit.record, unit.busy.is_some(), None, self.core.now());
        if unit.record != before {
            if !before.problems.is_empty() && step.rule == Rule::Same {
                let hash = unit.record.deployed.map(|hash| hash.short()).unwrap_or_default();
                draft.lines.push(format!("task/{} is well again (hash: {hash})", step.unit.key));
            }
            unit.record.updated_at = self.core.now();
            draft.units.push(unit);
        }
    }

    /// Notes on the source what this pass saw; gives back whether its row changes.
    fn note_observed(&mut self, order: &PassOrder, stays: bool, draft: &mut Draft) -> bool {
        let now = self.core.now();
        let before = self.record.state();
        if self.record.dev.is_none() && !stays {
            self.record.conditions.clear(ConditionType::DevMode);
        }
        if self.recalls {
            return before != self.record.state();
        }
        if order.look > Look::Hinted && self.record.dev.is_none() {
            self.record.last_fetch_at = Some(now);
        }
        let problems = self.catalog.homeless_problems();
        let problems = problems.map(|problem| (problem.reason.as_str(), problem.to_string()));
        let mut problems = problems.chain(self.nested.troubles().map(|why| (REPOSITORY_AWAY, why)));
        let first = problems.next();
        let more = problems.count();
        let strays = self.strays.first().map(|stray| {
            let more = self.strays.len() - 1;
            if more == 0 { stray.to_string() } else { format!("{stray} (and {more} more)") }
        });
        let warnings: Vec<String> =
            self.source.as_ref().and_then(Source::warning).into_iter().chain(strays).collect();
        self.needs_person = false;
        let mut told = None;
        let conditions = &mut self.record.conditions;
        if let Some((reason, problem)) = first {
            let why = if more == 0 { problem } else { format!("{problem} (and {more} more)") };
            let known = conditions.get(ConditionType::Ready).map(|ready| ready.message.clone());
            conditions.set(now, ConditionType::Ready, ConditionStatus::False, reason, &why);
            if known.as_ref() != Some(&why) {
                told = Some(why.clone());
                draft.lines.push(format!("source {}: {why}", self.record.spec.name));
            }
        } else {
            let message = match warnings.as_slice() {
                [] => "it was read whole".to_owned(),
                warnings => warnings.join("; "),
            };
            conditions.set(now, ConditionType::Ready, ConditionStatus::True, "Observed", &message);
        }
        conditions.clear(ConditionType::Stalled);
        conditions.clear(ConditionType::Reconciling);
        draft.events.extend(told.map(|why| self.source_event(EventType::SourceFailed, why)));
        let revisions = &mut self.record.revisions;
        let mut moved = false;
        // In dev mode they speak of the repository, which is looked at apart.
        if self.record.dev.is_none() {
            // What a guard held back was seen before.
            moved = revisions.attempted != self.revision;
            (revisions.seen, revisions.attempted) = (self.revision.clone(), self.revision.clone());
        }
        if let Some(revision) = self.revision.clone().filter(|_| moved) {
            let message = if self.rewritten { "the branch was rewritten" } else { "a new commit" };
            draft.events.push(Event {
                revision: Some(revision),
                ..self.source_event(EventType::SourceChanged, message.into())
            });
        }
        let after = self.record.state();
        crate::record::SourceState { last_fetch_at: after.last_fetch_at, ..before } != after
    }

    /// The revision counts as deployed once what it asks for is live of every unit; gives back whether that changed.
    fn note_deployed(&mut self, draft: &Draft) -> bool {
        let is_noted = self.record.revisions.deployed == self.revision && !self.record.has_strayed;
        if !self.first_pass_done || self.record.dev.is_some() || is_noted || !self.undecided.is_empty() {
            return false;
        }
        if self.catalog.homeless_problems().next().is_some() || !self.nested.is_whole() {
            return false;
        }
        let is_live = |record: &UnitRecord| record.problems.is_empty() && record.desired == record.deployed;
        let drafted = |unit: &Unit| {
            draft.units.iter().any(|other| other.record.id == unit.record.id)
                || draft.removed.contains(&unit.record.id)
        };
        let all = draft.units.iter().all(|unit| is_live(&unit.record))
            && self
                .units
                .restless()
                .all(|unit| (is_live(&unit.record) && unit.busy.is_none()) || drafted(unit));
        if all {
            self.record.revisions.deployed = self.revision.clone();
            self.record.has_strayed = false;
            self.record.conditions.clear(ConditionType::DevMode);
        }
        all
    }

    /// Writes a draft, then shows it.
    pub(super) async fn commit(&mut self, draft: Draft, source_changed: bool) -> Result<(), Refusal> {
        let now = self.core.now();
        if draft.is_empty() && !source_changed {
            return Ok(());
        }
        self.record.has_strayed |= draft.strays;
        let tally = Tally::of(&draft.history);
        let recording = Recording {
            telling: self.telling_after(&draft),
            source: Some(self.record.state()),
            removed: draft.removed.clone(),
            units: draft.units.iter().map(|unit| unit.record.clone()).collect(),
            versions: draft.versions.iter().map(|version| (**version).clone()).collect(),
            history: draft.history,
            events: draft.events.clone(),
            ..Recording::new(now)
        };
        if let Err(error) = self.core.store.commit(recording).await {
            return Err(self.store_failed(&draft.units, &chain(&error)));
        }
        self.core.statuses.wake();
        self.core.metrics().recorded(&self.record.spec.name, tally);
        self.core.board.put_units(draft.units.iter().map(|unit| unit.record.clone()));
        self.core.board.remove_units(&draft.removed);
        self.core.board.put_source(self.record.clone());
        for unit in draft.units {
            self.units.put(unit);
        }
        for gone in &draft.removed {
            self.core.runner.drop_waiting(gone);
            if let Some(unit) = self.units.remove(&gone.key) {
                self.gone.insert(Arc::clone(&gone.key), unit.record.generation.next());
            }
        }
        self.update_retry();
        draft.lines.iter().for_each(|line| tracing::info!("{line}"));
        self.core.events.publish(draft.events);
        Ok(())
    }

    /// A pass that found nothing writes one counter and no rows.
    async fn count_pass(&mut self) -> Result<(), Refusal> {
        if let Err(error) = self.core.store.count_pass(&self.record.spec.name).await {
            return Err(self.store_failed(&[], &chain(&error)));
        }
        self.record.passes += 1;
        self.core.metrics().found_nothing(&self.record.spec.name);
        self.core.board.put_source(self.record.clone());
        Ok(())
    }

    /// Nothing of this pass is recorded: its units are tried again, and the source says why.
    pub(super) fn store_failed(&mut self, units: &[Unit], why: &str) -> Refusal {
        let now = self.core.now();
        let again = now.plus(STORE_RETRY);
        for unit in units {
            let key = &unit.record.id.key;
            if self.units.contains(key) {
                self.units.change(key, |known| known.record.retry_at = Some(again));
            } else {
                self.undecided.insert(Arc::clone(key));
            }
        }
        let conditions = &mut self.record.conditions;
        if conditions.set(now, ConditionType::Ready, ConditionStatus::False, "StoreUnwritable", why) {
            tracing::error!("source {}: {why}", self.record.spec.name);
        }
        self.core.board.put_source(self.record.clone());
        self.update_retry();
        self.pass_after(STORE_RETRY, Look::Hinted);
        Refusal::new(RefusalKind::Failed, why)
    }

    fn event(&self, kind: EventType, unit: &UnitId, hash: Option<UnitHash>, message: String) -> Event {
        Event { unit: Some(unit.clone()), hash, ..self.source_event(kind, message) }
    }

    pub(super) fn source_event(&self, kind: EventType, message: String) -> Event {
        let event = Event::new(self.core.now(), kind, self.record.spec.name.clone(), message);
        Event { revision: self.revision.clone(), ..event }
    }

    /// A hold on what is desired now, for a rollback.
    pub(super) fn hold_for(&self, record: &UnitRecord) -> Option<Hold> {
        let hash = record.desired.or(record.deployed)?;
        Some(Hold {
            hash,
            by: HeldBy::User,
            reason: "rolled back by a person".into(),
            since: self.core.now(),
        })
    }
}

/// A step that was decided while another one was under way begins where that one ended.
fn begin_at(doing: &mut Doing, deployed: Option<&Version>) {
    let from = deployed.map(|version| version.hash);
    if doing.step.from != from {
        let new = doing.version.as_ref().map_or(&[][..], |version| &version.files);
        doing.step.files = diff::files(deployed.map_or(&[][..], |version| &version.files), new);
        doing.step.from = from;
    }
}

fn note_step(record: &mut UnitRecord, step: &Step) {
    record.generation = record.generation.max(step.generation);
    (record.action, record.rule) = (Some(step.action), Some(step.rule));
    record.reason.clone_from(&step.reason);
}

fn failure_line(record: &UnitRecord, error: &str) -> String {
    let still = record.deployed.map(|hash| format!(" (still running {})", hash.short())).unwrap_or_default();
    format!("task/{} failed: {error}{still}", record.id.key)
}
