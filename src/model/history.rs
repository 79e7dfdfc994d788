//! What happened: one row per step.

use std::sync::Arc;
use std::time::Duration;

use super::hash::UnitHash;
use super::id::UnitId;
use super::source::Revision;
use super::step::{Action, Generation, Rule};
use super::time::Timestamp;
use super::unit::FileChange;

/// What woke the pass (DESIGN 11).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TriggerKind {
    /// kindling was started.
    Start,
    /// A poll's tick.
    Poll,
    /// A push webhook.
    Webhook,
    /// A file event, or a scan of a local tree.
    File,
    /// A command of a person or a program.
    Command,
    /// Dev mode was switched on or off.
    Dev,
    /// A rollback.
    Rollback,
    /// What is there was found to differ from what was recorded.
    Drift,
}

impl TriggerKind {
    const ALL: [Self; 8] = [
        Self::Start,
        Self::Poll,
        Self::Webhook,
        Self::File,
        Self::Command,
        Self::Dev,
        Self::Rollback,
        Self::Drift,
    ];

    /// The word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Poll => "poll",
            Self::Webhook => "webhook",
            Self::File => "file",
            Self::Command => "command",
            Self::Dev => "dev",
            Self::Rollback => "rollback",
            Self::Drift => "drift",
        }
    }

    /// Reads [`TriggerKind::as_str`].
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }
}

/// What woke the pass, with what it said of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// What kind of thing it was.
    pub kind: TriggerKind,
    /// The first path that changed, the command; empty where there is nothing to say.
    pub detail: String,
}

impl Cause {
    /// A cause with its detail.
    #[must_use]
    pub fn new(kind: TriggerKind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into() }
    }
}

/// How a step ended (DESIGN 11).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It took effect.
    Succeeded,
    /// It did not; the last good version stays.
    Failed,
    /// A newer step took its place before it took effect.
    Superseded,
}

impl Outcome {
    /// The word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Superseded => "superseded",
        }
    }

    /// Reads [`Outcome::as_str`].
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Succeeded, Self::Failed, Self::Superseded].into_iter().find(|o| o.as_str() == word)
    }
}

/// How long each phase of a pass took, in the order in which they ran.
pub type Phases = Vec<(&'static str, Duration)>;

/// One row of history.
#[derive(Clone, Debug, PartialEq)]
pub struct HistoryRow {
    /// The unit.
    pub unit: UnitId,
    /// The generation of the step.
    pub generation: Generation,
    /// What woke the pass.
    pub cause: Cause,
    /// The commit; `None` from a local directory.
    pub revision: Option<Revision>,
    /// The working copy that the files came from, in dev mode.
    pub dev_path: Option<Arc<str>>,
    /// Whether the branch had been rewritten, so that the commit does not descend from the one before.
    pub rewritten: bool,
    /// The deployed hash before.
    pub from: Option<UnitHash>,
    /// The hash that the step was to deploy; `None` for a removal.
    pub to: Option<UnitHash>,
    /// What was done.
    pub action: Action,
    /// The rule that decided.
    pub rule: Rule,
    /// Why.
    pub reason: String,
    /// The files that differ.
    pub files: Vec<FileChange>,
    /// How long each phase took, in milliseconds.
    pub phases: Vec<(String, f64)>,
    /// How it ended.
    pub outcome: Outcome,
    /// What proves it: `registered`, `process` or `gone`; empty where it failed.
    pub proof: String,
    /// Why it failed; empty where it did not.
    pub error: String,
    /// When it ended.
    pub at: Timestamp,
}
