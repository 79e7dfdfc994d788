//! Units, sources, runs and history as rows of tables.

use std::time::Duration;

use crate::api::wire::{
    ConditionView, DeliveryView, HistoryView, HookView, Phases, RelayView, RunView, SourceView,
    SuspensionView, UnitView,
};
use crate::model::time::{Timestamp, human};

use super::output::{Row, age, short, short_revision};

/// A relay that is away for so long is told of.
const RELAY_PATIENCE: Duration = Duration::from_mins(1);

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
                "PHASES",
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
                phases(&self.phases),
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
            headers.extend(["SEEN", "FETCHED", "STATUS", "DECLARED", "SUSPENDED", "RELAY", "LOCATION"]);
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
                posted_status(self),
                self.declared.clone(),
                self.suspended.as_ref().map(|suspended| age(&suspended.since, now)).unwrap_or_default(),
                self.relay.as_ref().map(|relay| relay_state(relay, now)).unwrap_or_default(),
                self.location.clone(),
            ]);
        }
        let untold = self.status.as_ref().and_then(|status| status.error.as_ref());
        let untold = untold.filter(|_| wide).map(|why| format!("its commit status was not posted: {why}"));
        let stops =
            dev(self).into_iter().chain(suspension(self.suspended.as_ref())).chain(broken_webhook(self));
        let stops = stops.chain(self.relay.as_ref().and_then(|relay| broken_relay(relay, now)));
        let stops: Vec<String> = stops.chain(untold).collect();
        cells.push(with_stops((!stops.is_empty()).then(|| stops.join("; ")), readiness(&self.conditions)));
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
            headers.extend(["PROVIDER", "VIA", "ID", "REPEAT", "DUPLICATES"]);
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
                self.via.clone(),
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

impl Row for HookView {
    fn headers(_: bool) -> Vec<&'static str> {
        vec!["PATH", "TASK", "METHODS", "NEEDS", "SUSPENDED"]
    }

    fn cells(&self, _: bool, _: Timestamp) -> Vec<String> {
        let needs = if self.needs.is_empty() { "nothing".to_owned() } else { self.needs.join(", ") };
        let suspended = if self.suspended { "yes" } else { "" };
        vec![self.path.clone(), self.task.clone(), self.methods.join(", "), needs, suspended.to_owned()]
    }

    fn name(&self) -> String {
        self.path.clone()
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

/// What its readiness has to say.
fn readiness(conditions: &[ConditionView]) -> String {
    condition(conditions, "Ready")
        .map_or_else(|| "nothing was decided yet".into(), |ready| ready.message.clone())
}

/// Phases with their milliseconds: `hash 3.8ms, act 0.0ms`.
#[must_use]
pub fn phases(phases: &Phases) -> String {
    let one = |(name, ms): (&String, &serde_json::Value)| Some(format!("{name} {:.1}ms", ms.as_f64()?));
    phases.iter().filter_map(one).collect::<Vec<String>>().join(", ")
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
    with_stops((!stops.is_empty()).then(|| stops.join("; ")), readiness(&unit.conditions))
}

/// What a commit of a source was told last: `success@12345678`.
fn posted_status(source: &SourceView) -> String {
    let posted =
        source.status.as_ref().and_then(|status| status.state.as_deref().zip(status.commit.as_deref()));
    posted.map(|(state, commit)| format!("{state}@{}", short_revision(Some(commit)))).unwrap_or_default()
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

/// How a relay stands, for a column.
fn relay_state(relay: &RelayView, now: Timestamp) -> String {
    let state = match (&relay.connected_since, &relay.lost_since) {
        (Some(since), _) => format!("connected {}", age(since, now)),
        (None, Some(since)) => format!("away {}", age(since, now)),
        (None, None) => "connecting".into(),
    };
    format!("{} {state}", relay.place)
}

/// What is wrong with the relay of a source, if it is for longer than a connection may take to come back.
#[must_use]
pub fn broken_relay(relay: &RelayView, now: Timestamp) -> Option<String> {
    let since = Timestamp::parse(relay.lost_since.as_deref()?)?;
    let away = now.since(since);
    let why = relay.error.as_deref().unwrap_or_default();
    (away >= RELAY_PATIENCE)
        .then(|| format!("its relay {} has been away for {}: it {why}", relay.place, human(away)))
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
