//! What a git source's units are taken from while its branch cannot be: the commit that was decided last, as it is kept
//! on this machine. Without it units stay as they are, and say where they come from.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::act::Target;
use crate::model::condition::{ConditionStatus, ConditionType};
use crate::model::history::{Cause, TriggerKind};
use crate::model::source::{Origin, Revision};
use crate::model::time::Timestamp;
use crate::model::tree::Changes;
use crate::observe::{Observation, ObserveError, Source};
use crate::record::UnitRecord;

use super::message::{Look, PassOrder, Refusal, RefusalKind, Report, SoFar};
use super::outcome::Draft;
use super::runs::chain;
use super::source_loop::{SCAN, SourceLoop};
use super::status;
use super::units::Unit;

/// What a command does after which a pass follows that a guard may stop.
pub(super) const RESUME: &str = "resume";

/// How long a repository may take to answer before units are taken from what is kept of it.
pub(super) const PATIENCE_ON_RETURN: Duration = Duration::from_secs(1);

/// What became of a way back.
enum Back {
    /// The units follow the last decided commit already.
    Unneeded,
    /// A pass took the units from this commit.
    Done(Report, Option<Revision>),
    /// They stay as they are.
    Lost(String),
}

impl<S: Source, T: Target> SourceLoop<S, T> {
    /// The pass that follows a look.
    pub(super) async fn follow_look(
        &mut self,
        order: &PassOrder,
        looked: Result<Observation, ObserveError>,
        took: Duration,
    ) -> Result<Report, Refusal> {
        match looked {
            Ok(observation) => {
                self.kept = None;
                let order = PassOrder { cause: named_by(&order.cause, &observation), ..order.clone() };
                if !self.is_guarded(&order, &observation) {
                    let done = self.pass(&order, Some((observation, took))).await;
                    return self.after_switch(&order, done).await;
                }
                let back = self.fall_back(&order).await;
                let refusal = self.stall_on_rewrite(&order, observation).await;
                back.beside_guard(&order, refusal)
            }
            Err(error) => {
                let back = match self.kept.take() {
                    // Back from dev mode to what was seen last.
                    Some(kept) if !self.is_guarded(order, &kept) => {
                        let revision = kept.revision.clone();
                        match self.pass(order, Some((kept, took))).await {
                            Ok(report) => Back::Done(report, revision),
                            Err(refusal) => {
                                self.mark_left_behind().await;
                                Back::Lost(refusal.message)
                            }
                        }
                    }
                    _ => self.fall_back(order).await,
                };
                let refusal = self.source_failed(&error).await;
                Err(match back {
                    Back::Done(report, Some(revision))
                        if !report.steps.is_empty() || order.cause.kind == TriggerKind::Dev =>
                    {
                        said(refusal, &format!("its units are those of commit {} again", revision.short()))
                    }
                    Back::Lost(why) => said(refusal, &why),
                    Back::Done(..) | Back::Unneeded => self.with_what_was_done(order, refusal),
                })
            }
        }
    }

    /// A refusal that says what became of the units all the same.
    fn with_what_was_done(&self, order: &PassOrder, refusal: Refusal) -> Refusal {
        let SoFar { report, revision } = &*order.so_far;
        match (revision, report.steps.len()) {
            (Some(revision), _) => {
                said(refusal, &format!("its units are those of commit {} again", revision.short()))
            }
            (None, 0) => self.with_units_that_stay(refusal),
            (None, 1) => said(refusal, "one step was done from what is known of it"),
            (None, steps) => said(refusal, &format!("{steps} steps were done from what is known of it")),
        }
    }

    /// When the look under way has taken so long that units are taken from what is kept meanwhile.
    pub(super) fn go_back_due(&self) -> Option<Instant> {
        self.go_back_at.filter(|_| self.looking.is_some())
    }

    /// The repository does not answer: takes the units from what is kept of it while the look goes on, so that no
    /// working copy runs as long as a remote likes. Without anything kept, the units say what runs.
    pub(super) async fn go_back(&mut self, now: Instant) {
        if self.go_back_due().is_none_or(|due| due > now) {
            return;
        }
        self.go_back_at = None;
        let Some(order) = self.looking.as_ref().map(|looking| looking.order.clone()) else { return };
        let seen = self.kept.as_ref().filter(|kept| !self.is_guarded(&order, kept));
        let seen = seen.and_then(|kept| kept.revision.clone());
        let mut source = (self.open)(&self.record.spec);
        for revision in [seen, self.record.revisions.attempted.clone()].into_iter().flatten() {
            let Ok(observation) = source.recall(Some(revision.clone())).await else { continue };
            self.source = Some(source);
            self.recalls = self.record.revisions.attempted.as_ref() == Some(&revision);
            let known = PassOrder { look: Look::Away, ..order };
            let done = self.pass(&known, Some((observation, Duration::ZERO))).await;
            (self.recalls, self.source) = (false, None);
            // What the look brings differs from what it had seen itself.
            self.pending = Changes::All;
            if let (Ok(report), Some(looking)) = (done, &mut self.looking) {
                looking.order.so_far = SoFar { report, revision: Some(revision) }.into();
                return;
            }
            break;
        }
        self.mark_left_behind().await;
    }

    /// A switch of dev mode took place although a guard stops its pass: what is not ready says so.
    async fn after_switch(
        &mut self,
        order: &PassOrder,
        done: Result<Report, Refusal>,
    ) -> Result<Report, Refusal> {
        match done {
            Err(refusal) if refusal.kind == RefusalKind::Conflict && order.cause.kind == TriggerKind::Dev => {
                self.mark_left_behind().await;
                Ok(Report::default())
            }
            done => done,
        }
    }

    /// Makes a pass over the commit that was decided last, where units do not follow it yet.
    async fn fall_back(&mut self, order: &PassOrder) -> Back {
        let is_git = matches!(self.record.spec.origin, Origin::Git(_)) && self.record.dev.is_none();
        let is_left = self.left_behind().is_some();
        if !is_git || order.dry || (self.first_pass_done && !is_left) {
            return Back::Unneeded;
        }
        let back = match (self.record.revisions.attempted.clone(), self.source.as_mut()) {
            (Some(decided), Some(source)) => match source.recall(Some(decided.clone())).await {
                Ok(observation) => {
                    self.recalls = true;
                    let done = self.pass(order, Some((observation, Duration::ZERO))).await;
                    self.recalls = false;
                    match done {
                        Ok(report) => Back::Done(report, Some(decided)),
                        Err(refusal) => Back::Lost(refusal.message),
                    }
                }
                Err(error) => Back::Lost(chain(&error)),
            },
            _ => Back::Lost("no commit of it was ever decided".into()),
        };
        match back {
            Back::Lost(_) if !is_left => Back::Unneeded,
            Back::Lost(why) => {
                self.mark_left_behind().await;
                Back::Lost(why)
            }
            back => back,
        }
    }

    /// What says that units still come from a working copy although dev mode is off; `None` where none does.
    pub(super) fn left_behind(&self) -> Option<String> {
        let condition = self.record.conditions.get(ConditionType::DevMode);
        condition.filter(|c| c.status == ConditionStatus::False).map(|condition| condition.message.clone())
    }

    /// What stops the source, and where what runs comes from meanwhile.
    pub(super) fn with_left_behind(&self, why: String) -> String {
        match self.left_behind() {
            Some(left) => format!("{why}; {left}"),
            None => why,
        }
    }

    /// Says on each unit that comes from a working copy that it still does.
    pub(super) async fn mark_left_behind(&mut self) {
        let mut draft = Draft::default();
        self.draft_left_behind(&BTreeSet::new(), &mut draft);
        // Where the store cannot be written, `commit` says so.
        let _ = self.commit(draft, false).await;
    }

    /// Drafts that for each unit but those that a pass found to be `equal` in both; gives back whether there is one.
    pub(super) fn draft_left_behind(&self, equal: &BTreeSet<Arc<str>>, draft: &mut Draft) -> bool {
        let Some(left) = self.left_behind() else { return false };
        let now = self.core.now();
        let drafted: BTreeSet<Arc<str>> = draft.keys().cloned().collect();
        let mut is_any = false;
        for unit in &mut draft.units {
            if !equal.contains(&unit.record.id.key) && is_strayed(&unit.record) {
                is_any = true;
                mark(unit, &left, now);
            }
        }
        for unit in self.units.values() {
            let (record, key) = (&unit.record, &unit.record.id.key);
            if equal.contains(key) || drafted.contains(key) || !is_strayed(record) {
                continue;
            }
            is_any = true;
            let mut unit = Unit { record: record.clone(), version: unit.version.clone(), busy: unit.busy };
            if mark(&mut unit, &left, now) {
                unit.record.updated_at = now;
                draft.units.push(unit);
            }
        }
        is_any
    }
}

/// Whether what runs of a unit of a repository comes from no commit.
fn is_strayed(record: &UnitRecord) -> bool {
    record.deployed.is_some() && record.deployed_revision.is_none()
}

/// Says on a unit that what runs of it is `left` from a working copy; gives back whether that is news.
fn mark(unit: &mut Unit, left: &str, now: Timestamp) -> bool {
    let (kind, so) = (ConditionType::DevMode, ConditionStatus::True);
    let is_news = unit.record.conditions.set(now, kind, so, "WorkingCopy", left);
    if is_news {
        status::settle(&mut unit.record, unit.busy.is_some(), None, now);
    }
    is_news
}

impl Back {
    /// The answer to whoever asked while a guard holds. Whoever ends dev mode or a suspension gets what that did.
    fn beside_guard(self, order: &PassOrder, refusal: Refusal) -> Result<Report, Refusal> {
        let is_met = order.cause.kind == TriggerKind::Dev
            || (order.cause.kind == TriggerKind::Command && order.cause.detail == RESUME);
        match self {
            Self::Done(report, _) if is_met => Ok(report),
            Self::Unneeded if is_met => Ok(Report::default()),
            Self::Lost(why) => Err(said(refusal, &why)),
            Self::Done(..) | Self::Unneeded => Err(refusal),
        }
    }
}

fn said(refusal: Refusal, so: &str) -> Refusal {
    Refusal { message: format!("{} ({so})", refusal.message), ..refusal }
}

/// A cause that names the path that really changed, where a file event woke the pass: an event may speak of an editor's
/// temporary file.
fn named_by(cause: &Cause, observation: &Observation) -> Cause {
    let Changes::Paths(paths) = &observation.changes else { return cause.clone() };
    let (TriggerKind::File, Some(first)) = (cause.kind, paths.first()) else { return cause.clone() };
    let more = if paths.len() == 1 { String::new() } else { format!(" and {} more", paths.len() - 1) };
    if cause.detail == SCAN {
        // A scan also names what was saved a moment before it was read, and was told then.
        tracing::debug!("to be read again: {first}{more}");
        return cause.clone();
    }
    tracing::info!("file changed: {first}{more}");
    Cause::new(cause.kind, format!("{first}{more}"))
}
