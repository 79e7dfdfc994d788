//! Rows of history as steps leave them.

use std::time::Duration;

use crate::model::history::{Cause, HistoryRow, Outcome};
use crate::model::step::{Action, Rule};
use crate::model::time::Timestamp;

use super::message::Doing;
use super::units::Unit;

/// The row of a step that is over.
pub(super) fn row(doing: &Doing, outcome: Outcome, error: Option<&str>, now: Timestamp) -> HistoryRow {
    let step = &doing.step;
    let proof = match (outcome, step.action, &doing.version) {
        (Outcome::Succeeded, Action::Remove, _) => "gone",
        (Outcome::Succeeded, _, Some(version)) if version.spec.is_daemon() => "process",
        (Outcome::Succeeded, ..) => "registered",
        _ => "",
    };
    HistoryRow {
        unit: step.unit.clone(),
        generation: step.generation,
        cause: doing.cause.clone(),
        revision: doing.revision.clone(),
        dev_path: doing.dev_path.clone(),
        rewritten: doing.rewritten,
        from: step.from,
        to: step.to,
        action: step.action,
        rule: step.rule,
        reason: step.reason.clone(),
        files: step.files.clone(),
        phases: phases(doing),
        outcome,
        proof: proof.into(),
        error: error.unwrap_or_default().to_owned(),
        at: now,
    }
}

/// How long each phase took, in milliseconds: those of the pass, then what the step did and what proved it.
fn phases(doing: &Doing) -> Vec<(String, f64)> {
    let ms = |took: Duration| took.as_secs_f64() * 1e3;
    let act = doing.began.elapsed().saturating_sub(doing.healthy.unwrap_or_default());
    let own = [("act", Some(act)), ("healthy", doing.healthy)];
    let own = own.into_iter().filter_map(|(name, took)| Some((name, took?)));
    doing.phases.iter().copied().chain(own).map(|(name, took)| (name.to_owned(), ms(took))).collect()
}

/// The row of a unit that goes because its source does.
pub(super) fn pruned(unit: &Unit, cause: &Cause, why: &str, at: Timestamp) -> HistoryRow {
    HistoryRow {
        unit: unit.record.id.clone(),
        generation: unit.record.generation.next(),
        cause: cause.clone(),
        revision: None,
        dev_path: None,
        rewritten: false,
        from: unit.record.deployed,
        to: None,
        action: Action::Remove,
        rule: Rule::Removed,
        reason: why.into(),
        files: Vec::new(),
        phases: Vec::new(),
        outcome: Outcome::Succeeded,
        proof: "gone".into(),
        error: String::new(),
        at,
    }
}
