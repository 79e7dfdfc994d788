//! Runs of tasks.

use super::hash::UnitHash;
use super::id::{RunId, UnitId};
use super::source::Revision;
use super::time::Timestamp;

/// How a run stands (DESIGN 11).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunStatus {
    /// It waits for its turn, or for the time of its next attempt.
    Queued,
    /// Its process is there, or is being started.
    Running,
    /// It ended well.
    Succeeded,
    /// It ended badly, or could not be started.
    Failed,
    /// Its time was over, and it was ended.
    TimedOut,
    /// A person or an update ended it.
    Cancelled,
    /// kindling ended under it, or before its turn came.
    Interrupted,
    /// Another run of the task was there, and the task forbids two.
    Skipped,
}

impl RunStatus {
    const ALL: [Self; 8] = [
        Self::Queued,
        Self::Running,
        Self::Succeeded,
        Self::Failed,
        Self::TimedOut,
        Self::Cancelled,
        Self::Interrupted,
        Self::Skipped,
    ];

    /// The word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::TimedOut => "timedOut",
            Self::Cancelled => "cancelled",
            Self::Interrupted => "interrupted",
            Self::Skipped => "skipped",
        }
    }

    /// Reads [`RunStatus::as_str`].
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == word)
    }

    /// Whether the run is over.
    #[must_use]
    pub fn is_final(self) -> bool {
        !matches!(self, Self::Queued | Self::Running)
    }
}

/// A process, told from a later one with the same number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessId {
    /// Its number; also its group's.
    pub pid: i32,
    /// When it was started, in clock ticks since the machine was (field 22 of `/proc/PID/stat`).
    pub started: u64,
    /// Which start of the machine it belongs to (`/proc/sys/kernel/random/boot_id`).
    pub boot: String,
}

/// One run of a task.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    /// Its id.
    pub id: RunId,
    /// The task.
    pub task: UnitId,
    /// The version that it executes.
    pub hash: UnitHash,
    /// The commit that the version was deployed from.
    pub revision: Option<Revision>,
    /// What started it: `manual`, `daemon`, `cron` or `chain`.
    pub trigger: String,
    /// More of it: for `chain` the id of the run that it follows, for `cron` the instant that was due; else empty.
    pub detail: String,
    /// Which attempt it is, from 1.
    pub attempt: u32,
    /// The first attempt; `None` where it is the first itself.
    pub first: Option<RunId>,
    /// The next attempt, once it is decided that there is one.
    pub retried_by: Option<RunId>,
    /// How it stands.
    pub status: RunStatus,
    /// The task's own exit code; `None` while it runs, or when a signal ended it.
    pub exit_code: Option<i32>,
    /// When it was asked for.
    pub started_at: Timestamp,
    /// When it was over.
    pub ended_at: Option<Timestamp>,
    /// What it gave back: JSON text.
    pub output: Option<String>,
    /// The HTTP answer that it set by `output.response`: JSON text.
    pub response: Option<String>,
    /// Why it failed, as a sentence; empty where it did not.
    pub error: String,
    /// Its process.
    pub process: Option<ProcessId>,
}

/// Which of a process's streams a line of log came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// The `log` argument of `main`.
    Log,
    /// kindling itself.
    System,
}

impl Stream {
    const ALL: [Self; 4] = [Self::Stdout, Self::Stderr, Self::Log, Self::System];

    /// The word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
            Self::Log => "log",
            Self::System => "system",
        }
    }

    /// Reads [`Stream::as_str`].
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|stream| stream.as_str() == word)
    }
}

/// One line of a run's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// Its number within the run, from 1, without gaps.
    pub seq: u64,
    /// When it was read.
    pub at: Timestamp,
    /// Where it came from.
    pub stream: Stream,
    /// The text without its line break; bytes that are not UTF-8 are escaped as `\xff`.
    pub text: String,
}
