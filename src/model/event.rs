//! Events: what clients are told when something is so, after it was recorded.

use super::hash::UnitHash;
use super::id::{SourceName, UnitId};
use super::source::Revision;
use super::time::Timestamp;

/// What happened (DESIGN 11).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventType {
    /// A unit is there for the first time.
    UnitRegistered,
    /// A unit's new version is live.
    UnitUpdated,
    /// A unit is gone.
    UnitRemoved,
    /// A unit's new version is not live.
    UnitFailed,
    /// A source is at another revision.
    SourceChanged,
    /// A source could not be observed.
    SourceFailed,
    /// A source's tree is taken from a working copy.
    DevEnabled,
    /// A source's tree is taken from its repository again.
    DevDisabled,
    /// A run began.
    RunStarted,
    /// A run is over.
    RunFinished,
}

impl EventType {
    const ALL: [Self; 10] = [
        Self::UnitRegistered,
        Self::UnitUpdated,
        Self::UnitRemoved,
        Self::UnitFailed,
        Self::SourceChanged,
        Self::SourceFailed,
        Self::DevEnabled,
        Self::DevDisabled,
        Self::RunStarted,
        Self::RunFinished,
    ];

    /// The word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UnitRegistered => "unit.registered",
            Self::UnitUpdated => "unit.updated",
            Self::UnitRemoved => "unit.removed",
            Self::UnitFailed => "unit.failed",
            Self::SourceChanged => "source.changed",
            Self::SourceFailed => "source.failed",
            Self::DevEnabled => "dev.enabled",
            Self::DevDisabled => "dev.disabled",
            Self::RunStarted => "run.started",
            Self::RunFinished => "run.finished",
        }
    }

    /// Reads [`EventType::as_str`].
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }
}

/// One event.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// When it was recorded.
    pub at: Timestamp,
    /// What happened.
    pub kind: EventType,
    /// The source that it is about.
    pub source: SourceName,
    /// The unit that it is about; `None` where it is about the source.
    pub unit: Option<UnitId>,
    /// The unit's hash now.
    pub hash: Option<UnitHash>,
    /// The commit.
    pub revision: Option<Revision>,
    /// A sentence.
    pub message: String,
    /// How long each phase of the step took that it tells of, in milliseconds; empty where it tells of none.
    pub phases: Vec<(String, f64)>,
}

impl Event {
    /// An event about a source; of no commit.
    #[must_use]
    pub fn new(at: Timestamp, kind: EventType, source: SourceName, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { at, kind, source, unit: None, hash: None, revision: None, message, phases: Vec::new() }
    }
}
