//! What is recorded, as the rest of kindling uses it.

use crate::model::condition::{ConditionStatus, ConditionType, Conditions};
use crate::model::event::Event;
use crate::model::hash::UnitHash;
use crate::model::history::HistoryRow;
use crate::model::id::{RunId, SourceName, UnitId};
use crate::model::problem::{Problem, Reason};
use crate::model::run::RunStatus;
use crate::model::source::{Declared, Dev, Origin, Revision, Revisions, SourceSpec};
use crate::model::step::{Action, Generation, Rule};
use crate::model::time::Timestamp;
use crate::model::unit::Version;

use super::outbox::Telling;

/// A source and what is known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceRecord {
    /// The source as it is configured.
    pub spec: SourceSpec,
    /// Who brought it in.
    pub declared: Declared,
    /// Which commits were seen, attempted and deployed.
    pub revisions: Revisions,
    /// When its tree was last looked at with success.
    pub last_fetch_at: Option<Timestamp>,
    /// Its conditions.
    pub conditions: Conditions,
    /// Set while nothing is done about it.
    pub suspended: Option<Suspension>,
    /// Set while its tree is taken from a working copy.
    pub dev: Option<Dev>,
    /// Whether something that is deployed came from a working copy, so that no commit can be said to be deployed.
    pub has_strayed: bool,
    /// How many passes found nothing.
    pub passes: u64,
}

impl SourceRecord {
    /// A source of which nothing is known yet.
    #[must_use]
    pub fn new(spec: SourceSpec, declared: Declared) -> Self {
        Self {
            spec,
            declared,
            revisions: Revisions::default(),
            last_fetch_at: None,
            conditions: Conditions::default(),
            suspended: None,
            dev: None,
            has_strayed: false,
            passes: 0,
        }
    }

    /// The part of it that a pass changes.
    #[must_use]
    pub fn state(&self) -> SourceState {
        SourceState {
            name: self.spec.name.clone(),
            revisions: self.revisions.clone(),
            last_fetch_at: self.last_fetch_at,
            conditions: self.conditions.clone(),
            suspended: self.suspended.clone(),
            dev: self.dev.clone(),
            has_strayed: self.has_strayed,
        }
    }

    /// The same source as it is configured now, by whom. What was seen of another repository or ref says nothing
    /// about this one, and a directory has no dev mode.
    #[must_use]
    pub fn configured(self, spec: SourceSpec, declared: Declared) -> Self {
        let is_same_place = match (&self.spec.origin, &spec.origin) {
            (Origin::Git(old), Origin::Git(new)) => old.url == new.url && old.reference == new.reference,
            (Origin::Local(_), Origin::Local(_)) => true,
            _ => false,
        };
        let revisions = if is_same_place { self.revisions } else { Revisions::default() };
        let dev = self.dev.filter(|_| matches!(spec.origin, Origin::Git(_)));
        let mut conditions = self.conditions;
        let says_on =
            conditions.get(ConditionType::DevMode).is_some_and(|c| c.status == ConditionStatus::True);
        if dev.is_none() && says_on {
            conditions.clear(ConditionType::DevMode);
        }
        Self { spec, declared, revisions, dev, conditions, ..self }
    }
}

/// The part of a [`SourceRecord`] that a pass changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceState {
    /// Which source.
    pub name: SourceName,
    /// Which commits were seen, attempted and deployed.
    pub revisions: Revisions,
    /// When its tree was last looked at with success.
    pub last_fetch_at: Option<Timestamp>,
    /// Its conditions.
    pub conditions: Conditions,
    /// Set while nothing is done about it.
    pub suspended: Option<Suspension>,
    /// Set while its tree is taken from a working copy.
    pub dev: Option<Dev>,
    /// Whether something that is deployed came from a working copy.
    pub has_strayed: bool,
}

/// Why a source or a unit is left as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suspension {
    /// What the person said.
    pub reason: String,
    /// Since when.
    pub since: Timestamp,
}

/// What is known of a unit that is there.
#[derive(Clone, Debug, PartialEq)]
pub struct UnitRecord {
    /// Its id.
    pub id: UnitId,
    /// Its name to show.
    pub name: String,
    /// The hash that its source asks for; `None` where its files cannot be read.
    pub desired: Option<UnitHash>,
    /// The hash of the last step that was begun.
    pub attempted: Option<UnitHash>,
    /// The hash of the last step that took effect.
    pub deployed: Option<UnitHash>,
    /// The commit that it was deployed from.
    pub deployed_revision: Option<Revision>,
    /// Its generation.
    pub generation: Generation,
    /// What was decided last.
    pub action: Option<Action>,
    /// The rule that decided.
    pub rule: Option<Rule>,
    /// Why; empty where nothing was decided.
    pub reason: String,
    /// Its conditions.
    pub conditions: Conditions,
    /// What keeps it from being deployed.
    pub problems: Vec<Problem>,
    /// What in its manifest has no effect, or another one than it seems.
    pub warnings: Vec<Problem>,
    /// A hash that is not deployed again.
    pub hold: Option<Hold>,
    /// Set while nothing is done about it.
    pub suspended: Option<Suspension>,
    /// How many attempts in a row failed.
    pub failures: u32,
    /// When it is tried again.
    pub retry_at: Option<Timestamp>,
    /// The version that a rollback chose.
    pub pinned: Option<UnitHash>,
    /// How long each phase of the last step took that took effect, in milliseconds.
    pub phases: Vec<(String, f64)>,
    /// When this record was last changed.
    pub updated_at: Timestamp,
}

impl UnitRecord {
    /// Whether it is chained to a task that is not there.
    #[must_use]
    pub fn follows_nobody(&self) -> bool {
        self.warnings.iter().any(|warning| warning.reason == Reason::UnknownTask)
    }

    /// A unit of which nothing is known yet.
    #[must_use]
    pub fn new(id: UnitId, name: &str, now: Timestamp) -> Self {
        Self {
            id,
            name: name.to_owned(),
            desired: None,
            attempted: None,
            deployed: None,
            deployed_revision: None,
            generation: Generation::default(),
            action: None,
            rule: None,
            reason: String::new(),
            conditions: Conditions::default(),
            problems: Vec::new(),
            warnings: Vec::new(),
            hold: None,
            suspended: None,
            failures: 0,
            retry_at: None,
            pinned: None,
            phases: Vec::new(),
            updated_at: now,
        }
    }
}

/// "Not this hash again."
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// The hash.
    pub hash: UnitHash,
    /// Who set it.
    pub by: HeldBy,
    /// Why.
    pub reason: String,
    /// Since when.
    pub since: Timestamp,
}

/// Who set a hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeldBy {
    /// A person, by a rollback.
    User,
    /// kindling, because the version did not stay up.
    Crash,
}

impl HeldBy {
    /// The word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Crash => "crash",
        }
    }

    /// Reads [`HeldBy::as_str`].
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        [Self::User, Self::Crash].into_iter().find(|by| by.as_str() == word)
    }
}

/// Everything that one pass records: all of it becomes visible at once, or nothing.
#[derive(Clone, Debug)]
pub struct Recording {
    /// When it is recorded.
    pub at: Timestamp,
    /// What is known of the source now; the source must have been put before.
    pub source: Option<SourceState>,
    /// Units that are gone: their rows go, what else is kept of them stays for a while.
    pub removed: Vec<UnitId>,
    /// Units that are there, as they are now.
    pub units: Vec<UnitRecord>,
    /// Versions to keep. One whose unit stands in `units` with its hash as `deployed` counts as deployed at `at`.
    pub versions: Vec<Version>,
    /// What happened.
    pub history: Vec<HistoryRow>,
    /// What clients are told, once this is recorded.
    pub events: Vec<Event>,
    /// What commits of the source are told.
    pub telling: Option<Telling>,
}

impl Recording {
    /// A recording of nothing.
    #[must_use]
    pub fn new(at: Timestamp) -> Self {
        Self {
            at,
            source: None,
            removed: Vec::new(),
            units: Vec::new(),
            versions: Vec::new(),
            history: Vec::new(),
            events: Vec::new(),
            telling: None,
        }
    }
}

/// A unit that is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemovedUnit {
    /// Its id.
    pub id: UnitId,
    /// Its generation when it went; a unit that comes back goes on from here.
    pub generation: Generation,
    /// When it went.
    pub removed_at: Timestamp,
}

/// One of a unit's versions, for listings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionSummary {
    /// Its hash.
    pub hash: UnitHash,
    /// The commit that it was first seen in; `None` from a local directory.
    pub revision: Option<Revision>,
    /// When it was last deployed; `None` if it never was.
    pub deployed_at: Option<Timestamp>,
    /// The name to show that it had.
    pub name: String,
}

/// Which rows of history. Where a unit is given, its source is not looked at.
#[derive(Clone, Debug)]
pub struct HistoryQuery {
    /// Only of this unit.
    pub unit: Option<UnitId>,
    /// Only of this source's units.
    pub source: Option<SourceName>,
    /// Only rows before the one with this number: the last one of the page before.
    pub before: Option<i64>,
    /// At most so many.
    pub limit: u32,
}

/// Which runs.
#[derive(Clone, Debug)]
pub struct RunQuery {
    /// Only of this task.
    pub task: Option<UnitId>,
    /// Only those that stand so.
    pub status: Option<RunStatus>,
    /// Only those that were recorded before this one: the last one of the page before. After a run that is not
    /// recorded (any more) there is nothing.
    pub before: Option<RunId>,
    /// At most so many.
    pub limit: u32,
}

/// Rows of a page where nothing else is asked for.
const PAGE: u32 = 50;

impl Default for HistoryQuery {
    fn default() -> Self {
        Self { unit: None, source: None, before: None, limit: PAGE }
    }
}

impl Default for RunQuery {
    fn default() -> Self {
        Self { task: None, status: None, before: None, limit: PAGE }
    }
}

/// How many rows [`super::Store::prune`] took away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Rows of history.
    pub history: u64,
    /// Runs, with their logs.
    pub runs: u64,
    /// Events.
    pub events: u64,
    /// Versions.
    pub versions: u64,
    /// Values that tasks kept.
    pub values: u64,
    /// Units of which nothing is left.
    pub units: u64,
}
