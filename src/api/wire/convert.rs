//! From what the service knows to what it shows.

use serde_json::Value;

use crate::model::condition::Condition;
use crate::model::delivery::{LedgerRow, RelayHealth, WebhookHealth};
use crate::model::event::Event;
use crate::model::history::HistoryRow;
use crate::model::problem::Problem;
use crate::model::run::{LogLine, Run};
use crate::model::source::{Declared, GitRef, Origin, SourceSpec};
use crate::model::unit::FileChange;
use crate::plan::trace::{FieldOrigin, Place};
use crate::reconcile::message::{Done, Report};
use crate::record::{Hold, SourceRecord, Suspension, UnitRecord};

use super::{
    AnyJson, ConditionView, DeliveryView, EventView, FieldPlaceView, FieldView, FileChangeView, HistoryView,
    HoldView, LogView, Phases, ProblemView, RelayView, ReportView, RevisionsView, RunView, SourceView,
    StepView, SuspensionView, TriggerView, UnitProblems, UnitView, Unready, WebhookView,
};

fn phases(all: &[(String, f64)]) -> Phases {
    let rounded = |ms: &f64| Value::from((ms * 1000.0).round() / 1000.0);
    all.iter().map(|(name, ms)| (name.clone(), rounded(ms))).collect()
}

fn text<T: ToString>(value: Option<&T>) -> Option<String> {
    value.map(ToString::to_string)
}

impl From<&UnitRecord> for UnitView {
    fn from(unit: &UnitRecord) -> Self {
        Self {
            id: unit.id.to_string(),
            kind: "task".into(),
            name: unit.name.clone(),
            source: unit.id.source.to_string(),
            dev_path: None,
            dev_since: None,
            desired_hash: text(unit.desired.as_ref()),
            attempted_hash: text(unit.attempted.as_ref()),
            deployed_hash: text(unit.deployed.as_ref()),
            deployed_revision: text(unit.deployed_revision.as_ref()),
            action: unit.action.map(|action| action.as_str().into()),
            rule: unit.rule.map(|rule| rule.as_str().into()),
            reason: unit.reason.clone(),
            generation: unit.generation.0,
            suspended: unit.suspended.as_ref().map(Into::into),
            held: unit.hold.as_ref().map(Into::into),
            problems: unit.problems.iter().map(Into::into).collect(),
            warnings: unit.warnings.iter().map(Into::into).collect(),
            hook: None,
            next_run_at: None,
            last_run_at: None,
            conditions: unit.conditions.iter().map(Into::into).collect(),
            phases: phases(&unit.phases),
            updated_at: unit.updated_at.to_string(),
        }
    }
}

impl From<&WebhookHealth> for WebhookView {
    fn from(health: &WebhookHealth) -> Self {
        Self {
            last_delivery_at: text(health.last_delivery_at.as_ref()),
            missed: health.missed,
            missed_revision: health.broken.as_ref().map(|(commit, _)| commit.to_string()),
            missed_at: health.broken.as_ref().map(|(_, at)| at.to_string()),
        }
    }
}

impl From<&RelayHealth> for RelayView {
    fn from(health: &RelayHealth) -> Self {
        Self {
            place: health.place.clone(),
            connected_since: text(health.connected_since.as_ref()),
            lost_since: text(health.lost_since.as_ref()),
            error: Some(health.error.clone()).filter(|error| !error.is_empty()),
        }
    }
}

impl From<&LedgerRow> for DeliveryView {
    fn from(row: &LedgerRow) -> Self {
        let delivery = &row.delivery;
        Self {
            number: row.number,
            source: delivery.source.to_string(),
            provider: delivery.provider.as_str().into(),
            via: delivery.via.as_str().into(),
            id: delivery.id.clone(),
            event: delivery.event.clone(),
            reference: delivery.reference.clone(),
            revision: text(delivery.commit.as_ref()),
            outcome: delivery.verdict.as_str().into(),
            reason: delivery.reason.clone(),
            repeat: row.is_repeat,
            duplicates: row.duplicates,
            received_at: delivery.received_at.to_string(),
        }
    }
}

impl From<&Suspension> for SuspensionView {
    fn from(suspension: &Suspension) -> Self {
        Self { reason: suspension.reason.clone(), since: suspension.since.to_string() }
    }
}

impl From<&Hold> for HoldView {
    fn from(hold: &Hold) -> Self {
        Self {
            hash: hold.hash.to_string(),
            by: hold.by.as_str().into(),
            reason: hold.reason.clone(),
            since: hold.since.to_string(),
        }
    }
}

impl From<&Condition> for ConditionView {
    fn from(condition: &Condition) -> Self {
        Self {
            kind: condition.kind.as_str().into(),
            status: condition.status.as_str().into(),
            reason: condition.reason.clone(),
            message: condition.message.clone(),
            since: condition.since.to_string(),
        }
    }
}

impl From<&FieldOrigin> for FieldView {
    fn from(origin: &FieldOrigin) -> Self {
        let place = |place: &Place| FieldPlaceView {
            file: place.file.to_string(),
            line: place.at.line,
            column: place.at.column,
            clears: place.clears,
        };
        Self { field: origin.field.clone(), chain: origin.chain.iter().map(place).collect() }
    }
}

impl From<&Problem> for ProblemView {
    fn from(problem: &Problem) -> Self {
        Self {
            reason: problem.reason.as_str().into(),
            message: problem.message.clone(),
            file: text(problem.file.as_ref()),
            line: problem.at.map(|at| at.line),
            column: problem.at.map(|at| at.column),
        }
    }
}

impl From<&SourceRecord> for SourceView {
    fn from(source: &SourceRecord) -> Self {
        let SourceSpec { name, origin, .. } = &source.spec;
        let (location, reference, path) = match origin {
            Origin::Git(git) => (git.url.clone(), git.reference.clone(), Some(git.path.to_string())),
            Origin::Local(local) => (local.path.display().to_string(), GitRef::Head, None),
        };
        let (mut branch, mut tag, mut semver, mut commit) = (None, None, None, None);
        match reference {
            GitRef::Head => {}
            GitRef::Branch(name) => branch = Some(name),
            GitRef::Tag(name) => tag = Some(name),
            GitRef::Semver(range) => semver = Some(range),
            GitRef::Commit(id) => commit = Some(id),
        }
        Self {
            name: name.to_string(),
            kind: origin.kind().into(),
            location,
            branch,
            tag,
            semver,
            commit,
            path,
            declared: match source.declared {
                Declared::File => "file".into(),
                Declared::Command => "command".into(),
            },
            revision: RevisionsView {
                seen: text(source.revisions.seen.as_ref()),
                attempted: text(source.revisions.attempted.as_ref()),
                deployed: text(source.revisions.deployed.as_ref()).filter(|_| !source.has_strayed),
            },
            dev_path: source.dev.as_ref().map(|dev| dev.path.to_string()),
            dev_since: source.dev.as_ref().map(|dev| dev.since.to_string()),
            dev_until: source.dev.as_ref().and_then(|dev| dev.until).map(|until| until.to_string()),
            last_fetch_at: text(source.last_fetch_at.as_ref()),
            passes: source.passes,
            webhook: None,
            relay: None,
            status: None,
            suspended: source.suspended.as_ref().map(Into::into),
            conditions: source.conditions.iter().map(Into::into).collect(),
        }
    }
}

impl From<&FileChange> for FileChangeView {
    fn from(change: &FileChange) -> Self {
        Self { path: change.path.to_string(), change: change.kind.as_str().into() }
    }
}

impl From<&(i64, HistoryRow)> for HistoryView {
    fn from((id, row): &(i64, HistoryRow)) -> Self {
        Self {
            id: *id,
            unit: row.unit.to_string(),
            generation: row.generation.0,
            trigger: TriggerView { kind: row.cause.kind.as_str().into(), detail: row.cause.detail.clone() },
            revision: text(row.revision.as_ref()),
            dev_path: text(row.dev_path.as_ref()),
            rewritten: row.rewritten,
            from_hash: text(row.from.as_ref()),
            to_hash: text(row.to.as_ref()),
            action: row.action.as_str().into(),
            rule: row.rule.as_str().into(),
            reason: row.reason.clone(),
            files: row.files.iter().map(Into::into).collect(),
            phases: phases(&row.phases),
            outcome: row.outcome.as_str().into(),
            proof: row.proof.clone(),
            error: row.error.clone(),
            at: row.at.to_string(),
        }
    }
}

impl From<&Run> for RunView {
    fn from(run: &Run) -> Self {
        let output = run.output.as_deref().and_then(AnyJson::read).unwrap_or_default();
        Self {
            id: run.id.to_string(),
            task: run.task.to_string(),
            hash: run.hash.to_string(),
            revision: text(run.revision.as_ref()),
            trigger: run.trigger.clone(),
            trigger_detail: run.detail.clone(),
            attempt: run.attempt,
            first_attempt: text(run.first.as_ref()),
            retried_by: text(run.retried_by.as_ref()),
            status: run.status.as_str().into(),
            exit_code: run.exit_code,
            started_at: run.started_at.to_string(),
            ended_at: text(run.ended_at.as_ref()),
            output,
            error: run.error.clone(),
        }
    }
}

impl From<&LogLine> for LogView {
    fn from(line: &LogLine) -> Self {
        Self {
            seq: line.seq,
            at: line.at.to_string(),
            stream: line.stream.as_str().into(),
            text: line.text.clone(),
        }
    }
}

impl From<&Event> for EventView {
    fn from(event: &Event) -> Self {
        Self {
            at: event.at.to_string(),
            kind: event.kind.as_str().into(),
            source: event.source.to_string(),
            unit: text(event.unit.as_ref()),
            hash: text(event.hash.as_ref()),
            revision: text(event.revision.as_ref()),
            message: event.message.clone(),
            phases: phases(&event.phases),
        }
    }
}

impl From<&Done> for StepView {
    fn from(done: &Done) -> Self {
        let step = &done.step;
        Self {
            unit: step.unit.to_string(),
            action: step.action.as_str().into(),
            restart: step.restart.as_str().into(),
            rule: step.rule.as_str().into(),
            reason: step.reason.clone(),
            from_hash: text(step.from.as_ref()),
            to_hash: text(step.to.as_ref()),
            files: step.files.iter().map(Into::into).collect(),
            error: done.error.clone(),
        }
    }
}

impl From<&Report> for ReportView {
    fn from(report: &Report) -> Self {
        let problems_of = |of: String, problems: &[Problem]| UnitProblems {
            unit: of,
            problems: problems.iter().map(Into::into).collect(),
        };
        let of_sources =
            report.of_sources.iter().map(|(name, problems)| problems_of(name.to_string(), problems));
        let of_units = report.problems.iter().map(|(unit, problems)| problems_of(unit.to_string(), problems));
        let unready = |name: String, why: &String| Unready { name, why: why.clone() };
        Self {
            steps: report.steps.iter().map(Into::into).collect(),
            problems: of_sources.chain(of_units).collect(),
            unready: report.unready.iter().map(|(name, why)| unready(name.clone(), why)).collect(),
            guarded: report.guarded.iter().map(|(name, why)| unready(name.to_string(), why)).collect(),
        }
    }
}
