//! Plans: the steps that turn deployed state into desired state, each with its rule and reason.

use super::hash::UnitHash;
use super::id::UnitId;
use super::unit::FileChange;

/// What a step does (DESIGN 11; a task's registration is `sync`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing: what is desired is there, or must not be put there.
    Noop,
    /// The new version takes the old one's place.
    Sync,
    /// The unit goes away.
    Remove,
}

impl Action {
    /// The word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Noop => "noop",
            Self::Sync => "sync",
            Self::Remove => "remove",
        }
    }

    /// Reads [`Action::as_str`].
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Noop, Self::Sync, Self::Remove].into_iter().find(|action| action.as_str() == word)
    }
}

/// What a step does to a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    /// There is none, or it is left alone.
    None,
    /// The old one is stopped to its end, then the new one is started.
    StopThenStart,
    /// It is stopped and stays stopped.
    Stop,
}

impl Restart {
    /// The word: `none`, `restart` or `stop`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::StopThenStart => "restart",
            Self::Stop => "stop",
        }
    }
}

/// The rule that made a decision; its id is shown wherever the decision is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rule {
    /// A new unit.
    Added,
    /// A unit's files or spec changed.
    Updated,
    /// A daemon's files, or what reaches its process, changed.
    DaemonChanged,
    /// Only what people read changed: name or description.
    MetadataOnly,
    /// A unit left the tree.
    Removed,
    /// A unit that was a daemon is none any more.
    DaemonEnded,
    /// What is there is not what was recorded.
    Drifted,
    /// Desired and deployed are equal.
    Same,
    /// The desired hash is held: not this hash again.
    Held,
    /// The unit or its source is suspended.
    Suspended,
    /// A person asked for it although nothing changed.
    Forced,
    /// A person asked for an earlier version.
    Rollback,
    /// A person asked for its process to be started anew.
    Restart,
    /// An attempt failed not long ago; the next one waits.
    BackingOff,
    /// The step for this hash is under way.
    InProgress,
}

impl Rule {
    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::Added,
        Self::Updated,
        Self::DaemonChanged,
        Self::MetadataOnly,
        Self::Removed,
        Self::DaemonEnded,
        Self::Drifted,
        Self::Same,
        Self::Held,
        Self::Suspended,
        Self::Forced,
        Self::Rollback,
        Self::Restart,
        Self::BackingOff,
        Self::InProgress,
    ];

    /// The rule's id.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Added => "task.added",
            Self::Updated => "task.updated",
            Self::DaemonChanged => "daemon.changed",
            Self::MetadataOnly => "daemon.metadata-only",
            Self::Removed => "unit.removed",
            Self::DaemonEnded => "daemon.ended",
            Self::Drifted => "unit.drifted",
            Self::Same => "unit.same",
            Self::Held => "unit.held",
            Self::Suspended => "unit.suspended",
            Self::Forced => "unit.forced",
            Self::Rollback => "unit.rollback",
            Self::Restart => "daemon.restart",
            Self::BackingOff => "unit.backing-off",
            Self::InProgress => "unit.in-progress",
        }
    }

    /// Reads [`Rule::as_str`].
    #[must_use]
    pub fn parse(id: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|rule| rule.as_str() == id)
    }
}

/// A number of a unit that grows with each plan whose desired hash or forced action differs from what is deployed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(pub u64);

impl Generation {
    /// The one after it.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// One step of a plan. It leaves the executor no choice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The unit.
    pub unit: UnitId,
    /// What is done.
    pub action: Action,
    /// What is done to its process.
    pub restart: Restart,
    /// The rule that decided.
    pub rule: Rule,
    /// Why, as a sentence without its full stop.
    pub reason: String,
    /// The deployed hash before.
    pub from: Option<UnitHash>,
    /// The hash after; `None` for a removal.
    pub to: Option<UnitHash>,
    /// The generation that the step belongs to.
    pub generation: Generation,
    /// The files that differ.
    pub files: Vec<FileChange>,
}
