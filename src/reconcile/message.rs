//! What a source's loop is asked to do, and what it answers.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::model::delivery::Announcement;
use crate::model::hash::UnitHash;
use crate::model::history::Cause;
use crate::model::id::{SourceName, UnitId};
use crate::model::problem::Problem;
use crate::model::source::{Declared, Revision, SourceSpec};
use crate::model::step::Step;
use crate::plan::trace::FieldOrigin;

use super::daemons::{Health, Settled};

/// A message to a source's loop.
pub enum Message {
    /// Make a pass now.
    Pass(PassOrder, oneshot::Sender<Result<Report, Refusal>>),
    /// Put an earlier version of a unit back and hold the one that is desired.
    RollBack {
        /// The unit's key.
        key: Arc<str>,
        /// The version; `None` for the one before.
        to: Option<UnitHash>,
        /// The answer.
        reply: oneshot::Sender<Result<Report, Refusal>>,
    },
    /// Start the process of a daemon anew, in the version that is deployed.
    Restart {
        /// The unit's key.
        key: Arc<str>,
        /// The answer.
        reply: oneshot::Sender<Result<Report, Refusal>>,
    },
    /// Stop changes to the source or a unit of it.
    Suspend {
        /// The unit's key; `None` for the source.
        key: Option<Arc<str>>,
        /// Why.
        reason: String,
        /// The answer.
        reply: oneshot::Sender<Result<Report, Refusal>>,
    },
    /// Allow changes again and lift a hold.
    Resume {
        /// The unit's key; `None` for the source.
        key: Option<Arc<str>>,
        /// The answer.
        reply: oneshot::Sender<Result<Report, Refusal>>,
    },
    /// Take the tree from a working copy from now on.
    DevOn {
        /// The directory that stands for the source's `path`; absolute.
        path: Arc<str>,
        /// For how long; `None` until it is switched off.
        length: Option<Duration>,
        /// The answer, after the first pass.
        reply: oneshot::Sender<Result<Report, Refusal>>,
    },
    /// Take the tree from the repository again.
    DevOff(oneshot::Sender<Result<Report, Refusal>>),
    /// Say what a pass would do if the tree were taken from this directory.
    Preview(Arc<str>, oneshot::Sender<Result<Report, Refusal>>),
    /// Go on with the same units from a source that is configured differently.
    Configure(Box<SourceSpec>, Declared, oneshot::Sender<Result<Report, Refusal>>),
    /// Say where the fields of a unit come from of which sets speak.
    Origins(Arc<str>, oneshot::Sender<Vec<FieldOrigin>>),
    /// Take every unit away and end; the cause says why.
    Prune(Cause, oneshot::Sender<Result<Report, Refusal>>),
    /// A push concerns the source.
    Announced(Announcement),
    /// Look a little sooner than the next poll; somebody may have news, or plays an old one again.
    Sooner,
    /// Commits are told elsewhere than before, or by another token.
    Hosted,
    /// What these units are chained to, in other sources, differs.
    Rechain(BTreeSet<Arc<str>>),
    /// Something may have been missed, which this names: look at the source.
    Missed(&'static str),
    /// A daemon fares differently.
    Health(Arc<str>, Health),
    /// A step that took its time is over.
    Settled(Box<Doing>, Settled),
}

/// What a pass is to do.
#[derive(Clone, Debug)]
pub struct PassOrder {
    /// What woke it.
    pub cause: Cause,
    /// How closely to look.
    pub look: Look,
    /// Only decide, change nothing.
    pub dry: bool,
    /// The unit to deploy although nothing changed; see `force`.
    pub unit: Option<Arc<str>>,
    /// Deploy `unit`, or every unit, although nothing changed.
    pub force: bool,
    /// Remove units whatever the removal guard says.
    pub allow_removals: bool,
    /// Deploy a rewritten branch whatever the rewrite guard says.
    pub allow_rewrite: bool,
    /// Whose steps are waited for by whoever asked.
    pub awaited: Awaited,
    /// What was done already for whoever asked; the answer speaks of it too.
    pub so_far: Box<SoFar>,
    /// The source is looked at as soon as this pass is over, for the same answer.
    pub then_look: bool,
}

/// What was done for a request before its last pass.
#[derive(Clone, Debug, Default)]
pub struct SoFar {
    /// What it came to.
    pub report: Report,
    /// The commit that its units were brought back to.
    pub revision: Option<Revision>,
}

/// Whose steps an answer waits for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Awaited {
    /// Nobody's: the question is answered by the pass.
    Nothing,
    /// Those of one unit.
    Unit(Arc<str>),
    /// All of the source.
    #[default]
    All,
}

/// How closely a pass looks at its source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Look {
    /// Not at all: only units that wait for something.
    Away,
    /// Where file events pointed.
    Hinted,
    /// At everything.
    Full,
    /// At everything, trusting nothing that was known.
    Rescan,
}

impl PassOrder {
    /// A pass that only follows its source.
    #[must_use]
    pub fn new(cause: Cause, look: Look) -> Self {
        Self {
            cause,
            look,
            dry: false,
            unit: None,
            force: false,
            allow_removals: false,
            allow_rewrite: false,
            awaited: Awaited::default(),
            so_far: Box::default(),
            then_look: false,
        }
    }
}

/// What a pass did, or would do.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Every step but those that find nothing to do.
    pub steps: Vec<Done>,
    /// Units that are broken, with what is wrong.
    pub problems: Vec<(UnitId, Vec<Problem>)>,
    /// What a pass would do says too what is wrong with the source itself: with a set, which belongs to no unit.
    pub of_sources: Vec<(SourceName, Vec<Problem>)>,
    /// Units that are not ready now, with one sentence each.
    pub unready: Vec<(String, String)>,
    /// Sources of which a pass would do none of it until a person agrees, with the guard and the command that agrees.
    pub guarded: Vec<(SourceName, String)>,
}

impl Report {
    /// Puts what an earlier pass for the same request did before this one.
    #[must_use]
    pub fn after(mut self, earlier: Self) -> Self {
        let steps = earlier.steps.into_iter().chain(self.steps).collect();
        let known: Vec<UnitId> = self.problems.iter().map(|(unit, _)| unit.clone()).collect();
        self.problems.extend(earlier.problems.into_iter().filter(|(unit, _)| !known.contains(unit)));
        Self { steps, ..self }
    }
}

/// A step with its end.
#[derive(Clone, Debug)]
pub struct Done {
    /// The step.
    pub step: Step,
    /// Why it failed; `None` where it did not, or is under way.
    pub error: Option<String>,
}

/// Why a command was not carried out.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// Whose fault it is.
    pub kind: RefusalKind,
    /// What is not so.
    pub message: String,
    /// The next command, where there is one.
    pub hint: Option<String>,
}

/// Whose fault a refusal is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalKind {
    /// What was named does not exist.
    NotFound,
    /// It cannot be done as things stand.
    Conflict,
    /// There is too much to do already; later it may be done.
    Busy,
    /// What was given is wrong.
    Invalid,
    /// The source, the disk or the service failed.
    Failed,
}

impl Refusal {
    /// A refusal without a hint.
    #[must_use]
    pub fn new(kind: RefusalKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hint: None }
    }

    /// Adds the next command.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The service ends.
    #[must_use]
    pub fn closing() -> Self {
        Self::new(RefusalKind::Failed, "the service is ending")
    }
}

/// A step under way, with all that its row of history needs.
#[derive(Clone, Debug)]
pub struct Doing {
    /// The step.
    pub step: Step,
    /// The version to deploy; `None` for a removal.
    pub version: Option<Arc<crate::model::unit::Version>>,
    /// What woke the pass.
    pub cause: Cause,
    /// The commit of the pass.
    pub revision: Option<crate::model::source::Revision>,
    /// The working copy that the files come from, in dev mode.
    pub dev_path: Option<Arc<str>>,
    /// Whether the branch had been rewritten.
    pub rewritten: bool,
    /// How long each phase took so far.
    pub phases: crate::model::history::Phases,
    /// When the step began.
    pub began: tokio::time::Instant,
    /// How long it took until its process was up, of the time since then.
    pub healthy: Option<Duration>,
    /// A hold that takes effect with the step.
    pub hold: Option<crate::record::Hold>,
}
