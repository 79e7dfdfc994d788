//! Decides: from what is desired, what is deployed and what is there to one step per unit, with its rule and reason.

use crate::model::hash::UnitHash;
use crate::model::id::UnitId;
use crate::model::spec::TaskSpec;
use crate::model::step::{Action, Generation, Restart, Rule, Step};
use crate::model::unit::{FileChange, Version};

use super::catalog::Resolved;
use super::diff;
use super::discover::TASK_MANIFEST;

/// All that a decision rests on.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The unit.
    pub unit: &'a UnitId,
    /// What its source has; `None` where it is really absent from a tree that was read whole.
    pub desired: Option<&'a Resolved>,
    /// What the store recorded as deployed.
    pub deployed: Option<&'a Version>,
    /// The generation that was reached.
    pub generation: Generation,
    /// What is there.
    pub live: Live,
    /// A hash that must not be deployed again.
    pub hold: Option<UnitHash>,
    /// Whether a person has stopped changes to it.
    pub suspended: bool,
    /// Whether a person asked for it to be deployed although nothing changed.
    pub forced: bool,
    /// Whether an attempt failed and its wait is not over.
    pub backing_off: bool,
    /// The hash that a step under way will deploy.
    pub in_progress: Option<UnitHash>,
    /// Whether the step under way takes it away.
    pub is_leaving: bool,
}

/// What an inspection found of a unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Live {
    /// The version that a run started now would execute.
    pub registered: Option<UnitHash>,
    /// Whether its daemon is looked after: running, or waiting to be started again.
    pub supervised: bool,
}

/// The step for one unit.
#[must_use]
pub fn decide(facts: &Facts<'_>) -> Step {
    match (facts.desired, facts.deployed) {
        (None, None) => noop(facts, Rule::Same, "it is neither desired nor deployed"),
        _ if facts.suspended => noop(facts, Rule::Suspended, "it is suspended"),
        // Another one would only take its place, and be told of its end in turn, until its process is gone.
        (None, Some(_)) if facts.is_leaving => noop(facts, Rule::InProgress, "its removal is under way"),
        (None, Some(old)) => remove(facts, old),
        (Some(new), old) => deploy(facts, new, old),
    }
}

/// The step that puts an earlier version back.
#[must_use]
pub fn roll_back(facts: &Facts<'_>, to: &Version) -> Step {
    let old_spec = facts.deployed.map(|old| &*old.spec);
    let files = facts.deployed.map_or(&[][..], |old| &old.files);
    Step {
        unit: facts.unit.clone(),
        action: Action::Sync,
        restart: restart_for(old_spec, &to.spec),
        rule: Rule::Rollback,
        reason: format!("a person asked for version {}", to.hash.short()),
        from: facts.deployed.map(|old| old.hash),
        to: Some(to.hash),
        generation: facts.generation.next(),
        files: diff::files(files, &to.files),
    }
}

/// The step that starts the process of what is deployed anew.
#[must_use]
pub fn restart(unit: &UnitId, deployed: &Version, generation: Generation) -> Step {
    Step {
        unit: unit.clone(),
        action: Action::Sync,
        restart: Restart::StopThenStart,
        rule: Rule::Restart,
        reason: "a person asked for a restart".into(),
        from: Some(deployed.hash),
        to: Some(deployed.hash),
        generation: generation.next(),
        files: Vec::new(),
    }
}

fn deploy(facts: &Facts<'_>, new: &Resolved, old: Option<&Version>) -> Step {
    // Only another hash or `resume` lifts a hold: forcing a whole source must not undo its rollbacks.
    if facts.hold == Some(new.hash) {
        return noop(facts, Rule::Held, &format!("version {} is held", new.hash.short()));
    }
    if facts.in_progress == Some(new.hash) {
        return noop(facts, Rule::InProgress, "the step for this version is under way");
    }
    let step = wanted(facts, new, old);
    if step.action != Action::Noop && facts.backing_off && !facts.forced {
        return noop(facts, Rule::BackingOff, "the attempt before failed; the next one waits");
    }
    step
}

fn wanted(facts: &Facts<'_>, new: &Resolved, old: Option<&Version>) -> Step {
    let Some(old) = old else {
        let restart = restart_for(None, &new.spec);
        let files = diff::files(&[], &new.files);
        return sync(facts, new, Rule::Added, restart, "it is new".into(), files);
    };
    if old.hash == new.hash {
        return same(facts, new);
    }
    let files = diff::files(&old.files, &new.files);
    let restart = restart_for(Some(&old.spec), &new.spec);
    if only_metadata(&old.spec, &new.spec, &files) {
        let reason = "only what people read changed in its manifest".into();
        return sync(facts, new, Rule::MetadataOnly, Restart::None, reason, files);
    }
    let rule = match restart {
        Restart::None => Rule::Updated,
        Restart::StopThenStart => Rule::DaemonChanged,
        Restart::Stop => Rule::DaemonEnded,
    };
    let reason = describe(&files, &old.spec, &new.spec);
    sync(facts, new, rule, restart, reason, files)
}

/// Desired and deployed are equal: is what is there equal too?
fn same(facts: &Facts<'_>, new: &Resolved) -> Step {
    let restart = restart_for(Some(&new.spec), &new.spec);
    if facts.forced {
        return sync(facts, new, Rule::Forced, restart, "a person asked for it".into(), Vec::new());
    }
    if facts.live.registered != Some(new.hash) {
        let reason = match facts.live.registered {
            None => "it was recorded as deployed but is not registered".to_owned(),
            Some(other) => format!("version {} is registered in its place", other.short()),
        };
        return sync(facts, new, Rule::Drifted, restart, reason, Vec::new());
    }
    if new.spec.is_daemon() && !facts.live.supervised {
        let reason = "its daemon is not looked after".into();
        return sync(facts, new, Rule::Drifted, restart, reason, Vec::new());
    }
    noop(facts, Rule::Same, "desired and deployed are equal")
}

fn restart_for(old: Option<&TaskSpec>, new: &TaskSpec) -> Restart {
    match (old.is_some_and(TaskSpec::is_daemon), new.is_daemon()) {
        (_, true) => Restart::StopThenStart,
        (true, false) => Restart::Stop,
        (false, false) => Restart::None,
    }
}

/// Whether nothing that reaches the process differs: manifests count by their meaning.
fn only_metadata(old: &TaskSpec, new: &TaskSpec, files: &[FileChange]) -> bool {
    old.runs_alike(new) && files.iter().all(|change| change.path.as_str() == TASK_MANIFEST)
}

fn describe(files: &[FileChange], old: &TaskSpec, new: &TaskSpec) -> String {
    match files {
        [] if old != new => "its resolved settings changed".into(),
        [] => "its place in the hash changed".into(),
        [one] => format!("{} {}", one.path, one.kind.as_str()),
        [first, rest @ ..] => format!("{} {} and {} more", first.path, first.kind.as_str(), rest.len()),
    }
}

fn sync(
    facts: &Facts<'_>,
    new: &Resolved,
    rule: Rule,
    restart: Restart,
    reason: String,
    files: Vec<FileChange>,
) -> Step {
    Step {
        unit: facts.unit.clone(),
        action: Action::Sync,
        restart,
        rule,
        reason,
        from: facts.deployed.map(|old| old.hash),
        to: Some(new.hash),
        generation: facts.generation.next(),
        files,
    }
}

fn remove(facts: &Facts<'_>, old: &Version) -> Step {
    Step {
        unit: facts.unit.clone(),
        action: Action::Remove,
        restart: if old.spec.is_daemon() { Restart::Stop } else { Restart::None },
        rule: Rule::Removed,
        reason: "it is gone from its source".into(),
        from: Some(old.hash),
        to: None,
        generation: facts.generation.next(),
        files: diff::files(&old.files, &[]),
    }
}

fn noop(facts: &Facts<'_>, rule: Rule, reason: &str) -> Step {
    Step {
        unit: facts.unit.clone(),
        action: Action::Noop,
        restart: Restart::None,
        rule,
        reason: reason.to_owned(),
        from: facts.deployed.map(|old| old.hash),
        to: facts.desired.map(|new| new.hash),
        generation: facts.generation,
        files: Vec::new(),
    }
}
