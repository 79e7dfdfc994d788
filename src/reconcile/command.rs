//! Commands on a source's units that are not a pass: rollback, suspend, resume, prune.

use std::sync::Arc;

use crate::act::Target;
use crate::config::node::Node;
use crate::config::yaml::Budget;
use crate::model::condition::{ConditionStatus, ConditionType};
use crate::model::event::{Event, EventType};
use crate::model::hash::UnitHash;
use crate::model::history::{Cause, TriggerKind};
use crate::model::id::UnitId;
use crate::observe::Source;
use crate::plan::decide::{self, Facts, Live};
use crate::plan::discover::TASK_MANIFEST;
use crate::plan::trace;
use crate::record::{Recording, Suspension, UnitRecord};

use super::dev::Behind;
use super::history;
use super::message::{Done, Look, PassOrder, Refusal, RefusalKind, Report};
use super::perform::Acted;
use super::runs::chain;
use super::source_loop::SourceLoop;
use super::status;
use super::units::Units;

/// Why the units of a source were removed.
const LEFT_CONFIGURATION: &str = "its source left the configuration";
/// Why the units of a source were removed.
const REMOVED: &str = "its source was removed";

/// The reason of `Ready` of a source that goes.
pub(super) const LEAVING: &str = "Removed";

impl<S: Source, T: Target> SourceLoop<S, T> {
    /// Deploys an earlier version and holds what is desired now.
    pub(super) async fn roll_back(
        &mut self,
        key: &Arc<str>,
        to: Option<UnitHash>,
    ) -> Result<Report, Refusal> {
        let id = self.unit_id(key);
        let Some(unit) = self.units.get(key) else { return Err(not_found(&id.to_string())) };
        if unit.busy.is_some() {
            return Err(under_way(&id));
        }
        let (record, deployed) = (unit.record.clone(), unit.version.clone());
        let target = match to {
            Some(hash) => hash,
            None => self.version_before(&record).await?,
        };
        let found = self.core.store.version(&id, &target).await.map_err(|error| failed(&error))?;
        let Some(version) = found.map(Arc::new) else {
            let message = format!("{id} has no version {} any more", target.short());
            return Err(Refusal::new(RefusalKind::NotFound, message).hint(format!("kindling history {id}")));
        };
        if Some(target) == record.deployed {
            let message = format!("version {} of {id} is live already", target.short());
            return Err(Refusal::new(RefusalKind::Conflict, message));
        }
        if let Some(refusal) = self.refused_path(&id, version.spec.hook()) {
            return Err(refusal);
        }
        let facts = Facts {
            unit: &id,
            desired: None,
            deployed: deployed.as_deref(),
            generation: record.generation,
            live: Live::default(),
            hold: None,
            suspended: false,
            forced: true,
            backing_off: false,
            in_progress: None,
            is_leaving: false,
        };
        let step = decide::roll_back(&facts, &version);
        let order = PassOrder::new(Cause::new(TriggerKind::Rollback, target.short()), Look::Away);
        let mut doing = self.doing(&order, step.clone(), Some(version), &Vec::new());
        doing.revision = doing.version.as_ref().and_then(|version| version.revision.clone());
        doing.dev_path = None;
        doing.hold = self.hold_for(&record).filter(|hold| hold.hash != target);
        let mut acted = Acted::default();
        if let Some((_, problem)) = self.begin(vec![doing], &mut acted).pop() {
            return Err(Refusal::new(RefusalKind::Conflict, problem.message));
        }
        self.record_pass(&order, acted, false).await?;
        Ok(Report { steps: vec![Done { step, error: None }], ..Report::default() })
    }

    /// Starts the process of a daemon anew. What is desired, and whatever keeps that back, stays as it is.
    pub(super) async fn restart(&mut self, key: &Arc<str>) -> Result<Report, Refusal> {
        let id = self.unit_id(key);
        let Some(unit) = self.units.get(key) else { return Err(not_found(&id.to_string())) };
        if unit.busy.is_some() {
            return Err(under_way(&id));
        }
        let conflict = |message: String| Refusal::new(RefusalKind::Conflict, message);
        let Some(version) = unit.version.clone() else {
            let message = format!("{id} was never deployed, so nothing of it runs");
            return Err(conflict(message).hint(format!("kindling why {id}")));
        };
        if !version.spec.is_daemon() {
            let message = format!("{id} is no daemon: nothing of it runs but its runs");
            return Err(conflict(message).hint(format!("kindling run {id}")));
        }
        let step = decide::restart(&id, &version, unit.record.generation);
        let (revision, order) = (
            unit.record.deployed_revision.clone(),
            PassOrder::new(Cause::new(TriggerKind::Command, "restart"), Look::Away),
        );
        let mut doing = self.doing(&order, step.clone(), Some(version), &Vec::new());
        (doing.revision, doing.dev_path, doing.rewritten) = (revision, None, false);
        let mut acted = Acted::default();
        self.begin(vec![doing], &mut acted);
        self.record_pass(&order, acted, false).await?;
        Ok(Report { steps: vec![Done { step, error: None }], ..Report::default() })
    }

    /// Where the fields of a unit come from of which sets speak.
    pub(super) fn origins(&self, key: &str) -> Vec<trace::FieldOrigin> {
        let unit = self.catalog.get(key).and_then(|entry| entry.state.as_ref().ok());
        let file = unit.and_then(|unit| unit.files.iter().find(|file| file.path.as_str() == TASK_MANIFEST));
        // Without its content the chain begins above it.
        let text = file.and_then(|file| self.core.blobs.read(&file.hash).ok());
        let budget = Budget::manifest(self.core.limits.get().manifest_bytes);
        let manifest = text.and_then(|text| Node::read(&text, &budget).ok());
        self.catalog.origins(key, manifest)
    }

    /// The version that was deployed before the one that is.
    async fn version_before(&mut self, record: &UnitRecord) -> Result<UnitHash, Refusal> {
        let versions = self.core.store.versions(&record.id).await.map_err(|error| failed(&error))?;
        let held = record.hold.as_ref().map(|hold| hold.hash);
        let is_earlier =
            |hash| Some(hash) != record.deployed && Some(hash) != held && Some(hash) != record.desired;
        let other = versions.into_iter().find(|v| is_earlier(v.hash) && v.deployed_at.is_some());
        other.map(|version| version.hash).ok_or_else(|| {
            Refusal::new(RefusalKind::Conflict, format!("{} has no earlier version", record.id))
                .hint(format!("kindling history {}", record.id))
        })
    }

    /// Stops changes to the source, or to one unit.
    pub(super) async fn suspend(
        &mut self,
        key: Option<&Arc<str>>,
        reason: String,
    ) -> Result<Report, Refusal> {
        let suspension = Some(Suspension { reason, since: self.core.now() });
        match key {
            None => {
                self.record.suspended = suspension;
                self.put_source().await?;
                self.tell_stopped();
            }
            Some(key) => {
                let Some(unit) = self.units.get(key) else {
                    return Err(not_found(&self.unit_id(key).to_string()));
                };
                let record = UnitRecord { suspended: suspension, ..unit.record.clone() };
                self.put_unit(key, record).await?;
                self.tell_stopped();
            }
        }
        Ok(Report::default())
    }

    /// Allows changes again and lifts holds; the caller makes a pass.
    pub(super) async fn resume(&mut self, key: Option<&Arc<str>>) -> Result<(), Refusal> {
        match key {
            None => {
                self.record.suspended = None;
                self.put_source().await?;
                self.undecided.extend(self.units.keys().cloned());
            }
            Some(key) => {
                let Some(unit) = self.units.get(key) else {
                    return Err(not_found(&self.unit_id(key).to_string()));
                };
                let record = UnitRecord {
                    suspended: None,
                    hold: None,
                    pinned: None,
                    failures: 0,
                    retry_at: None,
                    ..unit.record.clone()
                };
                self.put_unit(key, record).await?;
                self.undecided.insert(Arc::clone(key));
            }
        }
        Ok(())
    }

    async fn put_source(&mut self) -> Result<(), Refusal> {
        let recording = Recording { source: Some(self.record.state()), ..Recording::new(self.core.now()) };
        self.core.store.commit(recording).await.map_err(|error| failed(&error))?;
        self.core.board.put_source(self.record.clone());
        Ok(())
    }

    async fn put_unit(&mut self, key: &Arc<str>, mut record: UnitRecord) -> Result<(), Refusal> {
        let now = self.core.now();
        let busy = self.units.get(key).is_some_and(|unit| unit.busy.is_some());
        status::settle(&mut record, busy, None, now);
        record.updated_at = now;
        let recording = Recording { units: vec![record.clone()], ..Recording::new(now) };
        self.core.store.commit(recording).await.map_err(|error| failed(&error))?;
        self.core.board.put_units([record.clone()]);
        self.units.change(key, |unit| unit.record = record);
        self.update_retry();
        Ok(())
    }

    /// Prunes a source that nothing follows.
    pub async fn discard(mut self) -> Result<(), Refusal> {
        self.prune(&Cause::new(TriggerKind::Start, "")).await.map(drop)
    }

    /// Says that the source and its units go, while the last of its daemons end.
    fn show_leaving(&self, units: &Units) {
        let (now, no) = (self.core.now(), ConditionStatus::False);
        let message = "it was removed; its units are taken away once its daemons have ended";
        let mut source = self.record.clone();
        source.conditions.set(now, ConditionType::Ready, no, LEAVING, message);
        self.core.board.put_source(source);
        let leaving = units.values().map(|unit| {
            let mut record = unit.record.clone();
            let message = "its source was removed: it goes once the daemons of the source have ended";
            record.conditions.set(now, ConditionType::Ready, no, LEAVING, message);
            record
        });
        self.core.board.put_units(leaving);
    }

    /// Takes every unit of the source away: it was removed by command, or else has left the configuration.
    pub(super) async fn prune(&mut self, cause: &Cause) -> Result<Report, Refusal> {
        let why = if cause.kind == TriggerKind::Command { REMOVED } else { LEFT_CONFIGURATION };
        let units = std::mem::take(&mut self.units);
        let stopping: Vec<_> = units
            .values()
            .map(|unit| {
                self.core.registry.remove(&unit.record.id);
                self.core.daemons.set(&unit.record.id, None, unit.record.generation.next())
            })
            .collect();
        self.show_leaving(&units);
        for stopped in stopping {
            // An answer is missing only when the service ends.
            let _ = stopped.await;
        }
        let now = self.core.now();
        let mut recording = Recording { telling: self.telling_of_removal(), ..Recording::new(now) };
        for unit in units.values() {
            recording.removed.push(unit.record.id.clone());
            if unit.version.is_some() {
                recording.history.push(history::pruned(unit, cause, why, now));
                let event = Event::new(now, EventType::UnitRemoved, self.record.spec.name.clone(), why);
                recording.events.push(Event { unit: Some(unit.record.id.clone()), ..event });
            }
        }
        if self.record.dev.is_some() {
            recording.events.push(Event::new(
                now,
                EventType::DevDisabled,
                self.record.spec.name.clone(),
                why,
            ));
        }
        let events = recording.events.clone();
        let name = self.record.spec.name.clone();
        if let Err(error) = self.core.store.commit(recording).await {
            self.units = units;
            self.core.board.put_source(self.record.clone());
            self.core.board.put_units(self.units.values().map(|unit| unit.record.clone()));
            return Err(failed(&error));
        }
        self.core.store.remove_source(&name, now).await.map_err(|error| failed(&error))?;
        // Where it is being looked at, what is left is removed with the next sweep.
        self.forget_copies().await;
        self.core.board.remove_units(units.values().map(|unit| &unit.record.id));
        self.core.board.remove_source(&name);
        self.core.links.leave(&name);
        tracing::info!("source {name}: {why}");
        for unit in units.values() {
            self.core.runner.drop_waiting(&unit.record.id);
            tracing::info!("task/{} removed source={name}", unit.record.id.key);
        }
        self.core.statuses.wake();
        self.core.events.publish(events);
        Ok(Report::default())
    }

    /// Gives up what was fetched for the source and for what its sets lead to.
    async fn forget_copies(&mut self) {
        let behind = self.behind.as_mut().and_then(Behind::source);
        for source in self.source.iter_mut().chain(behind) {
            source.forget().await;
        }
        self.nested.forget().await;
    }

    /// Units that are not as they should be, and the source itself.
    pub(super) fn unready(&self) -> Vec<(String, String)> {
        let source =
            status::unready(&self.record.conditions).map(|why| (self.record.spec.name.to_string(), why));
        let units = self.units.restless().filter_map(|unit| {
            status::unready(&unit.record.conditions).map(|why| (unit.record.id.to_string(), why))
        });
        source.into_iter().chain(units).collect()
    }

    pub(super) fn refuse_suspended(&self) -> Refusal {
        let name = &self.record.spec.name;
        let why = self.record.suspended.as_ref().map(|s| s.reason.as_str()).unwrap_or_default();
        Refusal::new(RefusalKind::Conflict, format!("source {name} is suspended: {why}"))
            .hint(format!("kindling resume {name}"))
    }

    /// Starts the daemons of deployed versions that nobody looks after yet; called once.
    pub(super) fn start_daemons(&mut self) {
        self.daemons_started = true;
        for unit in self.units.restless().filter(|unit| unit.busy.is_none()) {
            let Some(version) = unit.version.clone().filter(|version| version.spec.is_daemon()) else {
                continue;
            };
            if !self.core.daemons.is_supervised(&unit.record.id) {
                drop(self.core.daemons.set(&unit.record.id, Some(version), unit.record.generation));
            }
        }
    }
}

fn not_found(what: &str) -> Refusal {
    Refusal::new(RefusalKind::NotFound, format!("there is no unit {what}")).hint("kindling get units")
}

fn under_way(id: &UnitId) -> Refusal {
    Refusal::new(RefusalKind::Conflict, format!("a step of {id} is under way"))
        .hint(format!("kindling wait {id}"))
}

fn failed(error: &dyn std::error::Error) -> Refusal {
    Refusal::new(RefusalKind::Failed, chain(error))
}
