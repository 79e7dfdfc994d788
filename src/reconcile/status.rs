//! Conditions: derives them from what was recorded, so that no two places can disagree.

use crate::model::condition::{ConditionStatus, ConditionType, Conditions};
use crate::model::hash::UnitHash;
use crate::model::problem::Reason;
use crate::model::time::Timestamp;
use crate::record::UnitRecord;

use super::daemons::Health;

/// Sets a unit's Ready, Reconciling and Stalled. `busy` says that a step is under way, `error` why the attempt before
/// failed.
pub(super) fn settle(record: &mut UnitRecord, busy: bool, error: Option<&str>, now: Timestamp) {
    let verdict = with_origin(verdict(record, busy, error), record);
    let conditions = &mut record.conditions;
    conditions.set(now, ConditionType::Ready, verdict.ready, &verdict.reason, &verdict.message);
    for (kind, so) in
        [(ConditionType::Reconciling, verdict.reconciling), (ConditionType::Stalled, verdict.stalled)]
    {
        if so {
            conditions.set(now, kind, ConditionStatus::True, &verdict.reason, &verdict.message);
        } else {
            conditions.clear(kind);
        }
    }
    conditions.clear(ConditionType::Drifted);
}

/// The reason of a daemon that failed and is not started again.
const ENDED: &str = "Ended";

struct Verdict {
    ready: ConditionStatus,
    reason: String,
    message: String,
    reconciling: bool,
    stalled: bool,
}

/// What runs while a unit is not as it should be may come from where nobody expects it.
fn with_origin(mut verdict: Verdict, record: &UnitRecord) -> Verdict {
    let left_behind = record.conditions.get(ConditionType::DevMode).map(|left| left.message.as_str());
    if let Some(left) = left_behind
        && verdict.ready == ConditionStatus::False
        && !verdict.message.contains(left)
    {
        verdict.message = format!("{}; {left}", verdict.message);
    }
    verdict
}

fn verdict(record: &UnitRecord, busy: bool, error: Option<&str>) -> Verdict {
    let no = |reason: &str, message: String, reconciling, stalled| Verdict {
        ready: ConditionStatus::False,
        reason: reason.to_owned(),
        message,
        reconciling,
        stalled,
    };
    let still = record.deployed.map(|hash| format!(" (still running {})", hash.short())).unwrap_or_default();
    if busy {
        let message = "a step is under way".to_owned();
        return Verdict { ready: ConditionStatus::Unknown, ..no("Progressing", message, true, false) };
    }
    if let Some(problem) = record.problems.first() {
        let more = record.problems.len() - 1;
        let more = if more == 0 { String::new() } else { format!(" (and {more} more)") };
        // What another program may mend is looked at again by itself; the rest waits for a person.
        let heals = matches!(problem.reason, Reason::MissingInterpreter | Reason::Unreadable);
        return no(problem.reason.as_str(), format!("{problem}{more}{still}"), heals, !heals);
    }
    if record.failures > 0 {
        let why = error.map_or_else(
            || record.conditions.get(ConditionType::Ready).map(|c| c.message.clone()).unwrap_or_default(),
            |error| format!("{error}{still}"),
        );
        return no("Failed", why, true, false);
    }
    let left_behind = record.conditions.get(ConditionType::DevMode);
    match (record.desired, record.deployed) {
        (Some(desired), Some(deployed)) if desired == deployed && left_behind.is_some() => {
            let why = left_behind.map(|left| left.message.clone()).unwrap_or_default();
            no("WorkingCopy", format!("version {} is live: {why}", deployed.short()), true, false)
        }
        (Some(desired), Some(deployed)) if desired == deployed => live(record, &deployed),
        (Some(desired), _) if record.hold.as_ref().is_some_and(|hold| hold.hash == desired) => {
            let by = record.hold.as_ref().map(|hold| hold.reason.as_str()).unwrap_or_default();
            no("Held", format!("version {} is held: {by}{still}", desired.short()), false, false)
        }
        _ if record.suspended.is_some() => {
            let why = record.suspended.as_ref().map(|s| s.reason.as_str()).unwrap_or_default();
            no("Suspended", format!("it is suspended: {why}{still}"), false, false)
        }
        _ => no("Pending", format!("its desired version is not live{still}"), true, false),
    }
}

/// The verdict on a unit of which the desired version is live: a daemon has to be well besides.
fn live(record: &UnitRecord, hash: &UnitHash) -> Verdict {
    let healthy = record.conditions.get(ConditionType::Healthy);
    if let Some(ill) = healthy.filter(|healthy| healthy.status == ConditionStatus::False) {
        let message = format!("version {} is live: {}", hash.short(), ill.message);
        // What ended for good waits for a person; the rest is started again.
        let reconciling = ill.reason != ENDED;
        return Verdict {
            ready: ConditionStatus::False,
            reason: ill.reason.clone(),
            message,
            reconciling,
            stalled: !reconciling,
        };
    }
    Verdict {
        ready: ConditionStatus::True,
        reason: "Deployed".into(),
        message: format!("version {} is live", hash.short()),
        reconciling: false,
        stalled: false,
    }
}

/// Sets a unit's Healthy, and with it its Ready, from how its daemon fares; gives back whether anything changed.
pub(super) fn fares(record: &mut UnitRecord, busy: bool, health: &Health, now: Timestamp) -> bool {
    let changed = set_health(&mut record.conditions, health, now);
    if changed {
        settle(record, busy, None, now);
    }
    changed
}

fn set_health(conditions: &mut Conditions, health: &Health, now: Timestamp) -> bool {
    let (status, reason, message) = match health {
        Health::Running => (ConditionStatus::True, "Running", "its process runs"),
        Health::Waiting(how) => (ConditionStatus::False, "Restarting", how.as_str()),
        Health::CrashLoop(how) => (ConditionStatus::False, "CrashLoop", how.as_str()),
        Health::Ended { how, well: true } => (ConditionStatus::True, "Completed", how.as_str()),
        Health::Ended { how, well: false } => (ConditionStatus::False, ENDED, how.as_str()),
    };
    conditions.set(now, ConditionType::Healthy, status, reason, message)
}

/// Whether a unit is as it should be, and otherwise one sentence.
#[must_use]
pub fn unready(conditions: &Conditions) -> Option<String> {
    match conditions.get(ConditionType::Ready) {
        None => Some("Pending: nothing was decided yet".into()),
        Some(ready) if ready.status == ConditionStatus::True => None,
        Some(ready) => Some(format!("{}: {}", ready.reason, ready.message)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_of_healthy_is_documented() {
        let how = || "it ended".to_owned();
        let line =
            include_str!("../../docs/formats.md").lines().find(|line| line.starts_with("| `Healthy` |"));
        for health in [
            Health::Running,
            Health::Waiting(how()),
            Health::CrashLoop(how()),
            Health::Ended { how: how(), well: true },
            Health::Ended { how: how(), well: false },
        ] {
            let mut conditions = Conditions::default();
            set_health(&mut conditions, &health, Timestamp(0));
            let reason = &conditions.get(ConditionType::Healthy).unwrap().reason;
            assert!(line.unwrap().contains(&format!("`{reason}`")), "{reason}");
        }
    }
}
