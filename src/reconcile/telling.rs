//! What a source's loop says of its commits. It brings the facts; `plan::status` decides, the outbox keeps it.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::act::Target;
use crate::model::commit_status::{CommitPlace, CommitState, Repository, Tell};
use crate::model::condition::{ConditionStatus, ConditionType};
use crate::model::history::{HistoryRow, Outcome};
use crate::model::source::Revision;
use crate::model::step::Action;
use crate::observe::Source;
use crate::plan::status::{self, Facts, Stop, UnitFacts};
use crate::record::{Telling, UnitRecord};

use super::outcome::{Draft, REPOSITORY_AWAY};
use super::pass::{Decision, Verdict as Decided};
use super::source_loop::SourceLoop;

/// What a loop remembers of what it told.
#[derive(Default)]
pub(super) struct Teller {
    /// The hosting that was told all that is known.
    epoch: u64,
    /// How long the phases of the steps took that were recorded last, and of which commit they were.
    times: Option<(Revision, String)>,
}

impl<S: Source, T: Target> SourceLoop<S, T> {
    fn host(&self) -> Option<(String, Repository)> {
        if self.is_trial { None } else { self.core.statuses.place_of(&self.record.spec) }
    }

    fn telling(&self, (api, repository): (String, Repository), revision: Revision, tell: Tell) -> Telling {
        let superseded = status::superseded(revision.short());
        let source = self.record.spec.name.clone();
        let place = CommitPlace { source, repository, revision };
        Telling { place, api, tell, is_first: false, superseded }
    }

    /// What is told of the commit once `draft` is recorded.
    pub(super) fn telling_after(&mut self, draft: &Draft) -> Option<Telling> {
        let host = self.host()?;
        let attempted = self.record.revisions.attempted.clone()?;
        let is_dev = self.record.dev.is_some();
        // In dev mode they speak of the repository, which is not applied.
        if !is_dev && self.revision.as_ref() != Some(&attempted) {
            return None;
        }
        if let Some(times) = times_of(&draft.history).filter(|_| !is_dev) {
            self.teller.times = Some((attempted.clone(), times));
        }
        let mut tell = status::decide(&self.facts_after(draft, &attempted))?;
        if let Tell::Say(verdict) = &mut tell
            && verdict.state != CommitState::Pending
            && let Some((_, times)) = self.teller.times.as_ref().filter(|(commit, _)| *commit == attempted)
        {
            verdict.times.clone_from(times);
        }
        self.core.statuses.forget(&self.record.spec.name);
        Some(self.telling(host, attempted, tell))
    }

    fn facts_after<'a>(&'a self, draft: &'a Draft, attempted: &Revision) -> Facts<'a> {
        let drafted: BTreeSet<&Arc<str>> = draft.keys().collect();
        let known = draft.units.iter().filter(|unit| self.units.contains(&unit.record.id.key)).count();
        let gone = draft.removed.iter().filter(|id| self.units.contains(&id.key)).count();
        let waiting: Vec<_> = self.undecided.iter().filter(|key| !drafted.contains(key)).collect();
        let new = waiting.iter().filter(|key| !self.units.contains(key)).count();
        let stays = |key: &Arc<str>| !drafted.contains(key) && !self.undecided.contains(key);
        let rest = self.units.restless().filter(|unit| stays(&unit.record.id.key));
        let restless = rest.chain(&draft.units).map(|unit| facts_of(&unit.record, unit.busy.is_some()));
        // What is to be decided yet is under way.
        let undecided =
            waiting.into_iter().map(|key| UnitFacts { key, is_busy: true, ..UnitFacts::default() });
        let was_live = self.record.revisions.deployed.as_ref() == Some(attempted) && !self.record.has_strayed;
        let is_any_away = self.nested.troubles().next().is_some();
        Facts {
            is_dev: self.record.dev.is_some(),
            is_suspended: self.is_suspended(),
            // What cannot be reached says nothing of a commit that is live: its units run on.
            stop: self.stop(is_any_away && !was_live),
            is_deployed: was_live && (is_any_away || self.nested.is_whole()),
            units: self.units.len() - gone + draft.units.len() - known + new,
            restless: restless.chain(undecided).collect(),
        }
    }

    /// What is wrong with the source as a whole; `lacks` says that a repository that it needs cannot be had.
    fn stop(&self, lacks: bool) -> Option<Stop<'static>> {
        if self.catalog.homeless_problems().next().is_some() {
            Some(Stop::Broken)
        } else {
            lacks.then_some(Stop::Internal(REPOSITORY_AWAY))
        }
    }

    /// A pass begins to act on what it decided.
    pub(super) fn tell_begin(&self, decisions: &[Decision]) {
        let acts = |decision: &&Decision| matches!(&decision.verdict, Decided::Step(step, _) if step.action != Action::Noop);
        let steps = decisions.iter().filter(acts).count();
        let is_news = self.revision != self.record.revisions.attempted;
        if steps == 0 || !is_news || self.record.dev.is_some() {
            return;
        }
        if let (Some(host), Some(revision)) = (self.host(), self.revision.clone()) {
            let telling = self.telling(host, revision, Tell::Say(status::begins(steps)));
            self.core.statuses.tell(Telling { is_first: true, ..telling });
        }
    }

    /// A pass over a commit that was seen came to nothing, for a reason that the source's conditions name.
    pub(super) fn tell_refused(&self, seen: Option<Revision>) {
        let Some((host, revision)) = self.host().zip(seen).filter(|_| self.record.dev.is_none()) else {
            return;
        };
        let ready = self.record.conditions.get(ConditionType::Ready);
        let stop = match ready.filter(|ready| ready.status == ConditionStatus::False) {
            Some(ready) if matches!(ready.reason.as_str(), "RemovalGuard" | "RewriteGuard") => {
                Stop::Guard(&ready.reason)
            }
            Some(ready) => Stop::Internal(&ready.reason),
            None => Stop::Internal("Failed"),
        };
        let facts = Facts { stop: Some(stop), ..Facts::default() };
        if let Some(tell) = status::decide(&facts) {
            self.core.statuses.tell(self.telling(host, revision, tell));
        }
    }

    /// Commits are told elsewhere than before, or the service was started: what is so is told, unless it was.
    pub(super) fn tell_anew(&mut self) {
        let epoch = self.core.statuses.epoch();
        if self.teller.epoch == epoch {
            return;
        }
        self.teller.epoch = epoch;
        if let Some(telling) = self.telling_after(&Draft::default()) {
            self.core.statuses.tell(telling);
        }
    }

    /// The configuration names another host, or another token: what is known is told there now, and what only a look
    /// tells with the next one, which comes sooner.
    pub(super) fn hosted_elsewhere(&mut self) {
        if self.first_pass_done {
            self.tell_anew();
        }
        self.look_sooner();
    }

    /// What is told when the source goes away.
    pub(super) fn telling_of_removal(&self) -> Option<Telling> {
        let revision = self.record.revisions.attempted.clone()?;
        Some(self.telling(self.host()?, revision, status::removed()))
    }

    /// What is told now that dev mode is on, or the source suspended: commits that are under way are not any more.
    pub(super) fn tell_stopped(&mut self) {
        if let Some(telling) = self.telling_after(&Draft::default()) {
            self.core.statuses.tell(telling);
        }
    }
}

fn facts_of(record: &UnitRecord, is_busy: bool) -> UnitFacts<'_> {
    let healthy = record.conditions.get(ConditionType::Healthy);
    UnitFacts {
        key: &record.id.key,
        is_broken: !record.problems.is_empty(),
        has_failed: record.failures > 0,
        is_busy,
        is_live: record.desired.is_some() && record.desired == record.deployed,
        is_unhealthy: healthy.is_some_and(|healthy| {
            healthy.status == ConditionStatus::False
                && matches!(healthy.reason.as_str(), "CrashLoop" | "Ended")
        }),
        is_held: record.hold.as_ref().is_some_and(|hold| Some(hold.hash) == record.desired),
        is_suspended: record.suspended.is_some(),
    }
}

/// The phases of the step that took longest of those that are over.
fn times_of(history: &[HistoryRow]) -> Option<String> {
    let over = history.iter().filter(|row| row.outcome != Outcome::Superseded);
    let act = |row: &&HistoryRow| row.phases.last().map_or(0.0, |(_, ms)| *ms);
    let longest = over.max_by(|a, b| act(a).total_cmp(&act(b)))?;
    Some(status::times(&longest.phases))
}
