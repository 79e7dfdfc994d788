//! What a commit may be said to be, where its repository is hosted. Pure: the loop brings what is so of its units.
//!
//! Only counts, keys and times are told, never a message: messages name paths and hosts of the machine.

use crate::model::commit_status::{CommitState, MAX_DESCRIPTION, Tell, Verdict};

/// How one unit fares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UnitFacts<'a> {
    /// Its key.
    pub key: &'a str,
    /// Whether its manifest or its files cannot be taken.
    pub is_broken: bool,
    /// Whether the last attempt failed, so that another one follows.
    pub has_failed: bool,
    /// Whether a step is under way.
    pub is_busy: bool,
    /// Whether its desired version is the deployed one.
    pub is_live: bool,
    /// Whether its process does not stay up.
    pub is_unhealthy: bool,
    /// Whether its desired version is not deployed because a person or a crash said so.
    pub is_held: bool,
    /// Whether a person stopped changes of it.
    pub is_suspended: bool,
}

/// What keeps a whole commit from being deployed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop<'a> {
    /// A person has to agree first; the word that says to what.
    Guard(&'a str),
    /// Something of the source that belongs to no unit is wrong: a set, a circle.
    Broken,
    /// kindling itself could not; the word that says why.
    Internal(&'a str),
}

/// All that is so of a commit of a source.
#[derive(Clone, Debug, Default)]
pub struct Facts<'a> {
    /// Whether what runs comes from a working copy.
    pub is_dev: bool,
    /// Whether a person stopped changes of the source.
    pub is_suspended: bool,
    /// What keeps the commit from being deployed.
    pub stop: Option<Stop<'a>>,
    /// Whether it was recorded that all that the commit asks for took effect.
    pub is_deployed: bool,
    /// How many units there are.
    pub units: usize,
    /// Those that are not simply live.
    pub restless: Vec<UnitFacts<'a>>,
}

/// Characters of a key that are told where whole ones do not fit.
const LONG_KEY: usize = 60;
/// Where these do not either.
const SHORT_KEY: usize = 20;

/// How a unit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fare {
    Live,
    Broken,
    Failed,
    Unhealthy,
    Held,
    Suspended,
    UnderWay,
    Waiting,
}

/// What is counted apart, in the order in which it is told, with its words.
const TOLD: [(Fare, &str); 7] = [
    (Fare::Broken, "broken"),
    (Fare::Failed, "failed"),
    (Fare::Unhealthy, "unhealthy"),
    (Fare::Held, "held"),
    (Fare::Suspended, "suspended"),
    (Fare::UnderWay, "under way"),
    (Fare::Waiting, "waiting"),
];

impl UnitFacts<'_> {
    fn fare(&self) -> Fare {
        // Another attempt after a failure is no news until it succeeds.
        match self {
            Self { is_broken: true, .. } => Fare::Broken,
            Self { has_failed: true, .. } => Fare::Failed,
            Self { is_busy: true, .. } => Fare::UnderWay,
            Self { is_live: true, is_unhealthy: true, .. } => Fare::Unhealthy,
            Self { is_live: true, .. } => Fare::Live,
            Self { is_held: true, .. } => Fare::Held,
            Self { is_suspended: true, .. } => Fare::Suspended,
            _ => Fare::Waiting,
        }
    }
}

/// What is told of a commit; `None` where there is nothing to say yet.
#[must_use]
pub fn decide(facts: &Facts<'_>) -> Option<Tell> {
    if facts.is_dev {
        return Some(end("dev mode was switched on before it was live"));
    }
    if let Some(stop) = facts.stop {
        return Some(Tell::Say(stopped(stop)));
    }
    let fares: Vec<(Fare, &str)> = facts.restless.iter().map(|unit| (unit.fare(), unit.key)).collect();
    let is_any = |wanted: &[Fare]| fares.iter().any(|(fare, _)| wanted.contains(fare));
    let summary = summary(facts.units, &fares);
    if is_any(&[Fare::Broken, Fare::Failed, Fare::Unhealthy]) {
        return Some(Tell::Say(Verdict::new(CommitState::Failure, summary)));
    }
    if is_any(&[Fare::UnderWay]) {
        return Some(Tell::Say(Verdict::new(CommitState::Pending, summary)));
    }
    if facts.is_suspended && !facts.is_deployed {
        return Some(end("its source was suspended before it was live"));
    }
    if is_any(&[Fare::Held, Fare::Suspended]) {
        return Some(Tell::Say(Verdict::new(CommitState::Failure, summary)));
    }
    let is_live = facts.is_deployed && !is_any(&[Fare::Waiting]);
    is_live.then(|| Tell::Say(Verdict::new(CommitState::Success, summary)))
}

/// What is told of a commit when a pass begins to act on it.
#[must_use]
pub fn begins(steps: usize) -> Verdict {
    Verdict::new(CommitState::Pending, format!("{} to deploy", count(steps)))
}

/// What a commit is told that was pending when a newer one took its place.
#[must_use]
pub fn superseded(by: &str) -> Verdict {
    Verdict::new(CommitState::Error, format!("superseded by {by} before it was live"))
}

/// What a commit is told that was pending when its source went away.
#[must_use]
pub fn removed() -> Tell {
    end("its source was removed before it was live")
}

fn end(why: &str) -> Tell {
    Tell::End(Verdict::new(CommitState::Error, why))
}

fn stopped(stop: Stop<'_>) -> Verdict {
    match stop {
        Stop::Guard(word) => {
            Verdict::new(CommitState::Failure, format!("not deployed: a person has to agree ({word})"))
        }
        Stop::Broken => Verdict::new(CommitState::Failure, "the source as a whole has a problem"),
        Stop::Internal(word) => {
            Verdict::new(CommitState::Error, format!("kindling could not deploy it ({word})"))
        }
    }
}

fn count(units: usize) -> String {
    if units == 1 { "1 unit".into() } else { format!("{units} units") }
}

/// `2 of 3 units live, 1 failed (jobs/a)`; the key is that of the first one. Where a host would not take all of it, the
/// keys are cut, or left out: the counts matter more.
fn summary(units: usize, fares: &[(Fare, &str)]) -> String {
    let fits = |summary: &String| summary.chars().count() <= MAX_DESCRIPTION;
    let lengths = [usize::MAX, LONG_KEY, SHORT_KEY];
    let keyed = lengths.into_iter().map(|length| counted(units, fares, length)).find(fits);
    keyed.unwrap_or_else(|| counted(units, fares, 0))
}

/// With keys of this many characters at most.
fn counted(units: usize, fares: &[(Fare, &str)], key_length: usize) -> String {
    let others = fares.iter().filter(|(fare, _)| *fare != Fare::Live).count();
    let mut parts = vec![match others {
        0 if units == 0 => "no units".to_owned(),
        0 => format!("{} live", count(units)),
        _ => format!("{} of {} live", units.saturating_sub(others), count(units)),
    }];
    for (fare, word) in TOLD {
        let mut keys = fares.iter().filter(|(found, _)| *found == fare).map(|(_, key)| *key);
        if let Some(first) = keys.next() {
            let key = if key_length > 0 { format!(" ({})", cut(first, key_length)) } else { String::new() };
            parts.push(format!("{} {word}{key}", 1 + keys.count()));
        }
    }
    parts.join(", ")
}

/// The end of a key tells units apart.
fn cut(key: &str, length: usize) -> String {
    match key.chars().count().checked_sub(length) {
        None | Some(0) => key.to_owned(),
        Some(more) => format!("...{}", key.chars().skip(more + 3).collect::<String>()),
    }
}

/// How long the phases took, as a description tells it.
#[must_use]
pub fn times(phases: &[(String, f64)]) -> String {
    let told = |(name, ms): &(String, f64)| match *ms {
        ms if ms < 10.0 => format!("{name} {ms:.1} ms"),
        ms if ms < 10_000.0 => format!("{name} {ms:.0} ms"),
        ms => format!("{name} {:.1} s", ms / 1e3),
    };
    phases.iter().map(told).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests;
