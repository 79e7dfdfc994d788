//! Units, sources, runs and history as rows of tables.

use crate::api::wire::{
    ConditionView, DeliveryView, HistoryView, RunView, SourceView, SuspensionView, UnitView,
};
use crate::model::time::{Timestamp, human};

use super::output::{Row, age, short, short_revision};

impl Row for UnitView {
    fn headers(wide: bool) -> Vec<&'static str> {
        let mut headers = vec!["NAME", "KIND", "READY", "HASH", "ACTION", "AGE"];
        if wide {
            headers.extend([
                "SOURCE",
                "REVISION",
                "RULE",
                "HELD",
                "SUSPENDED",
                "WARNINGS",
                "LAST RUN",
                "NEXT RUN",
                "HOOK",
            ]);
        }
        headers.push("MESSAGE");
        headers
    }

    fn cells(&self, wide: bool, now: Timestamp) -> Vec<String> {
        let mut cells = vec![
            self.id.clone(),
            self.kind.clone(),
            ready(&self.conditions),
            short(self.deployed_hash.as_deref()),
            self.action.clone().unwrap_or_default(),
            age(&self.updated_at, now),
        ];
        if wide {
            cells.extend([
                self.source.clone(),
                short_revision(self.deployed_revision.as_deref()),
                self.rule.clone().unwrap_or_default(),
                self.held.as_ref().map(|held| short(Some(&held.hash))).unwrap_or_default(),
                self.suspended.as_ref().map(|suspended| age(&suspended.since, now)).unwrap_or_default(),
                Some(self.warnings.len())
                    .filter(|count| *count > 0)
                    .map(|count| count.to_string())
                    .unwrap_or_default(),
                self.last_run_at.as_deref().map(|at| age(at, now)).unwrap_or_default(),
                self.next_run_at.as_deref().and_then(|at| ahead(at, now)).unwrap_or_default(),
                self.hook.clone().unwrap_or_default(),
            ]);
        }
        cells.push(unit_message(self));
        cells
    }

    fn name(&self) -> String {
        self.id.clone()
    }
}

impl Row for SourceView {
    fn headers(wide: bool) -> Vec<&'static str> {
        let mut headers = vec!["NAME", "TYPE", "READY", "REVISION", "AGE"];
        if wide {
            headers.extend(["SEEN", "FETCHED", "DECLARED", "SUSPENDED", "LOCATION"]);
        }
        headers.push("MESSAGE");
        headers
    }

    fn cells(&self, wide: bool, now: Timestamp) -> Vec<String> {
        let since =
            condition(&self.conditions, "Ready").map(|ready| ready.since.as_str()).unwrap_or_default();
        let mut cells = vec![
            self.name.clone(),
            self.kind.clone(),
            ready(&self.conditions),
            at_reference(self, self.revision.deployed.as_deref()),
            age(since, now),
        ];
        if wide {
            cells.extend([
                short_revision(self.revision.seen.as_deref()),
                self.last_fetch_at.as_deref().map(|at| age(at, now)).unwrap_or_default(),
                self.declared.clone(),
                self.suspended.as_ref().map(|suspended| age(&suspended.since, now)).unwrap_or_default(),
                self.location.clone(),
            ]);
        }
        let stops =
            dev(self).into_iter().chain(suspension(self.suspended.as_ref())).chain(broken_webhook(self));
        let stops: Vec<String> = stops.collect();
        cells.push(with_stops((!stops.is_empty()).then(|| stops.join("; ")), worst(&self.conditions)));
        cells
    }

    fn name(&self) -> String {
        self.name.clone()
    }
}

impl Row for RunView {
    fn headers(wide: bool) -> Vec<&'static str> {
        let mut headers = vec!["ID", "TASK", "STATUS", "EXIT", "STARTED", "TOOK"];
        if wide {
            headers.extend(["TRIGGER", "HASH", "REVISION", "ERROR"]);
        }
        headers
    }

    fn cells(&self, wide: bool, now: Timestamp) -> Vec<String> {
        let started = Timestamp::parse(&self.started_at);
        let ended = self.ended_at.as_deref().and_then(Timestamp::parse).unwrap_or(now);
        let mut cells = vec![
            self.id.clone(),
            self.task.clone(),
            self.status.clone(),
            self.exit_code.map(|code| code.to_string()).unwrap_or_default(),
            age(&self.started_at, now),
            started.map(|started| human(ended.since(started))).unwrap_or_default(),
        ];
        if wide {
            cells.extend([
                self.trigger.clone(),
                short(Some(&self.hash)),
                short_revision(self.revision.as_deref()),
                self.error.clone(),
            ]);
        }
        cells
    }

    fn name(&self) -> String {
        self.id.clone()
    }
}

impl Row for DeliveryView {
    fn headers(wide: bool) -> Vec<&'static str> {
        let mut headers = vec!["NUMBER", "SOURCE", "EVENT", "REF", "REVISION", "OUTCOME", "AGE"];
        if wide {
            headers.extend(["PROVIDER", "ID", "REPEAT", "DUPLICATES"]);
        }
        headers.push("MESSAGE");
        headers
    }

    fn cells(&self, wide: bool, now: Timestamp) -> Vec<String> {
        let mut cells = vec![
            self.number.to_string(),
            self.source.clone(),
            self.event.clone(),
            self.reference.clone().unwrap_or_default(),
            short_revision(self.revision.as_deref()),
            self.outcome.clone(),
            age(&self.received_at, now),
        ];
        if wide {
            let repeat = if self.repeat { "yes" } else { "" };
            cells.extend([
                self.provider.clone(),
                self.id.clone(),
                repeat.to_owned(),
                self.duplicates.to_string(),
            ]);
        }
        cells.push(self.reason.clone());
        cells
    }

    fn name(&self) -> String {
        self.number.to_string()
    }
}

impl Row for HistoryView {
    fn headers(wide: bool) -> Vec<&'static str> {
        let mut headers = vec!["AT", "UNIT", "GEN", "ACTION", "FROM", "TO", "OUTCOME", "TRIGGER"];
        if wide {
            headers.extend(["REVISION", "RULE", "PROOF", "TOOK"]);
        }
        headers.push("REASON");
        headers
    }

    fn cells(&self, wide: bool, _: Timestamp) -> Vec<String> {
        let mut cells = vec![
            self.at.clone(),
            self.unit.clone(),
            self.generation.to_string(),
            self.action.clone(),
            short(self.from_hash.as_deref()),
            short(self.to_hash.as_deref()),
            self.outcome.clone(),
            self.trigger.kind.clone(),
        ];
        if wide {
            let revision = short_revision(self.revision.as_deref());
            let took: f64 = self.phases.values().filter_map(serde_json::Value::as_f64).sum();
            cells.extend([
                match &self.dev_path {
                    Some(path) => path.clone(),
                    None if self.rewritten => format!("{revision} (rewritten)"),
                    None => revision,
                },
                self.rule.clone(),
                self.proof.clone(),
                format!("{took:.1}ms"),
            ]);
        }
        cells.push(if self.error.is_empty() {
            self.reason.clone()
        } else {
            format!("{}: {}", self.reason, self.error)
        });
        cells
    }

    fn name(&self) -> String {
        self.unit.clone()
    }
}

/// The condition of this type.
#[must_use]
pub fn condition<'a>(conditions: &'a [ConditionView], kind: &str) -> Option<&'a ConditionView> {
    conditions.iter().find(|condition| condition.kind == kind)
}

fn ready(conditions: &[ConditionView]) -> String {
    condition(conditions, "Ready").map_or_else(|| "Unknown".into(), |ready| ready.status.clone())
}

/// What the conditions have to say, worst first: not ready, then not healthy, then that all is well.
fn worst(conditions: &[ConditionView]) -> String {
    let unhealthy = condition(conditions, "Healthy").filter(|healthy| healthy.status == "False");
    match condition(conditions, "Ready") {
        Some(ready) if ready.status == "True" => unhealthy.unwrap_or(ready).message.clone(),
        Some(ready) => ready.message.clone(),
        None => "nothing was decided yet".into(),
    }
}

/// How far ahead a moment is: `in 5m`.
pub fn ahead(at: &str, now: Timestamp) -> Option<String> {
    Some(format!("in {}", human(Timestamp::parse(at)?.since(now))))
}

/// The message, behind what keeps changes back and is not in it already.
fn unit_message(unit: &UnitView) -> String {
    let reason = condition(&unit.conditions, "Ready").map(|ready| ready.reason.as_str()).unwrap_or_default();
    let suspended = suspension(unit.suspended.as_ref()).filter(|_| reason != "Suspended");
    let held = hold(unit).filter(|_| reason != "Held");
    let stops: Vec<String> = dev_of_unit(unit).into_iter().chain(suspended).chain(held).collect();
    with_stops((!stops.is_empty()).then(|| stops.join("; ")), worst(&unit.conditions))
}

/// What is wrong with the webhook of a source, if anything is.
fn broken_webhook(source: &SourceView) -> Option<String> {
    let webhook = source.webhook.as_ref()?;
    let revision = webhook.missed_revision.as_deref()?;
    Some(format!(
        "its webhook did not deliver {} ({} missed)",
        short_revision(Some(revision)),
        webhook.missed
    ))
}

/// Dev mode in words.
#[must_use]
pub fn dev(source: &SourceView) -> Option<String> {
    let path = source.dev_path.as_deref()?;
    Some(in_dev(path, source.dev_since.as_deref(), source.dev_until.as_deref()))
}

/// Dev mode of a unit's source in words.
#[must_use]
pub fn dev_of_unit(unit: &UnitView) -> Option<String> {
    unit.dev_path.as_deref().map(|path| in_dev(path, unit.dev_since.as_deref(), None))
}

fn in_dev(path: &str, since: Option<&str>, until: Option<&str>) -> String {
    let part = |word, at: Option<&str>| at.map(|at| format!(" {word} {at}")).unwrap_or_default();
    format!("dev mode: {path}{}{}", part("since", since), part("until", until))
}

/// A hold in words.
#[must_use]
pub fn hold(unit: &UnitView) -> Option<String> {
    unit.held.as_ref().map(|held| {
        let reason = if held.reason.is_empty() { String::new() } else { format!(": {}", held.reason) };
        format!("{} held by {}{reason}", short(Some(&held.hash)), held.by)
    })
}

/// A suspension in words.
#[must_use]
pub fn suspension(suspended: Option<&SuspensionView>) -> Option<String> {
    suspended.map(|suspended| format!("suspended: {}", suspended.reason))
}

fn with_stops(stops: Option<String>, message: String) -> String {
    match stops {
        Some(stops) => format!("[{stops}] {message}"),
        None => message,
    }
}

/// What is followed and the commit, as `branch@12345678`; empty for a local source, and while there is no commit.
fn at_reference(source: &SourceView, revision: Option<&str>) -> String {
    if source.kind != "git" {
        return String::new();
    }
    let followed = match (&source.branch, &source.tag, &source.semver, &source.commit) {
        (Some(name), ..) | (_, Some(name), ..) | (_, _, Some(name), _) => name,
        (.., Some(_)) => "commit",
        (None, None, None, None) => "HEAD",
    };
    revision.map_or_else(String::new, |revision| format!("{followed}@{}", short_revision(Some(revision))))
}
