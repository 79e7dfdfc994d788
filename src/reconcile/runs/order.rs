//! What is asked for when a run is, and what its end means.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::act::Exit;
use crate::model::id::{RunId, UnitId};
use crate::model::run::{Run, RunStatus};
use crate::model::spec::ParamValue;
use crate::model::time::Timestamp;
use crate::model::unit::Version;

/// A run to start.
#[derive(Clone, Debug)]
pub struct Order {
    /// The version to execute.
    pub version: Arc<Version>,
    /// Every parameter that has a value.
    pub params: BTreeMap<String, ParamValue>,
    /// Those that were given, as they were given: another attempt may execute another version.
    pub given: Arc<BTreeMap<String, String>>,
    /// The input: JSON text.
    pub input: Arc<str>,
    /// What starts it: `manual`, `daemon`, `cron`, `chain` or `webhook`.
    pub trigger: &'static str,
    /// More of it, see [`Run::detail`].
    pub detail: String,
    /// The tasks of the runs that led to it, one chained to the other: none of them follows again.
    pub lineage: Arc<[UnitId]>,
}

impl Order {
    /// A run of `version` without input that no other one led to.
    #[must_use]
    pub fn new(version: Arc<Version>, params: BTreeMap<String, ParamValue>, trigger: &'static str) -> Self {
        Self {
            version,
            params,
            given: Arc::default(),
            input: "null".into(),
            trigger,
            detail: String::new(),
            lineage: Arc::default(),
        }
    }

    /// The run as it waits for its turn.
    pub(super) fn first_row(&self, id: RunId, now: Timestamp) -> Run {
        let version = &self.version;
        Run {
            id,
            task: version.unit.clone(),
            hash: version.hash,
            revision: version.revision.clone(),
            trigger: self.trigger.to_owned(),
            detail: self.detail.clone(),
            attempt: 1,
            first: None,
            retried_by: None,
            status: RunStatus::Queued,
            exit_code: None,
            started_at: now,
            ended_at: None,
            output: None,
            response: None,
            error: String::new(),
            process: None,
        }
    }
}

/// Why a run is ended before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// A person asked for it.
    Cancelled,
    /// A newer version takes its place, or its unit is gone.
    Replaced,
    /// Its task is gone, before its turn came.
    Removed,
    /// A newer run takes its place.
    Overtaken,
    /// kindling ends.
    Closing,
}

impl StopReason {
    /// The reason as a run's error.
    pub(super) fn sentence(self) -> &'static str {
        match self {
            Self::Cancelled => "it was cancelled",
            Self::Replaced => "a newer version took its place",
            Self::Removed => "its task was removed before its turn came",
            Self::Overtaken => "a newer run took its place",
            Self::Closing => "kindling ended while it ran",
        }
    }
}

/// What the end of kindling means for a run that stood so.
#[must_use]
pub fn interrupted(status: RunStatus) -> &'static str {
    match status {
        RunStatus::Queued => "kindling ended before its turn came",
        _ => StopReason::Closing.sentence(),
    }
}

/// The run's last state from how its process ended and why it was stopped.
pub(super) fn ended(run: Run, exit: Exit, why: Option<StopReason>) -> Run {
    let status = match why {
        Some(StopReason::Closing) if exit.stopped => RunStatus::Interrupted,
        _ if exit.stopped => RunStatus::Cancelled,
        _ if exit.timed_out => RunStatus::TimedOut,
        _ if exit.code == Some(0) && exit.error.is_none() => RunStatus::Succeeded,
        _ => RunStatus::Failed,
    };
    let error = match status {
        RunStatus::Interrupted | RunStatus::Cancelled => {
            why.unwrap_or(StopReason::Cancelled).sentence().into()
        }
        RunStatus::TimedOut => "its time was over".into(),
        RunStatus::Failed => exit.error.unwrap_or_else(|| how_it_ended(exit.code, exit.signal)),
        _ => String::new(),
    };
    Run { status, error, exit_code: exit.code, output: exit.output, response: exit.response, ..run }
}

fn how_it_ended(code: Option<i32>, signal: Option<i32>) -> String {
    match (code, signal) {
        (Some(code), _) => format!("it ended with exit code {code}"),
        (None, Some(signal)) => format!("it was ended by signal {signal}"),
        (None, None) => "it ended without an exit code".into(),
    }
}
