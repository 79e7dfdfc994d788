//! How many runs wait, and how much their inputs take: both have limits. What is beyond does not come.

use std::collections::HashMap;

use super::{Runner, StopReason};
use crate::act::Target;
use crate::model::id::{RunId, UnitId};
use crate::model::limits::RunLimits;
use crate::model::run::{Run, RunStatus};
use crate::record::StoreError;
use crate::support::text::count;

/// Why a run that was asked for is not recorded.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store did not take it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Too many wait already; names the limit.
    #[error("{0}")]
    Full(String),
}

/// The runs that wait.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// The size of each one's input, in bytes.
    runs: HashMap<RunId, u64>,
    tasks: HashMap<UnitId, usize>,
    bytes: u64,
}

impl Queue {
    /// A run waits from now on. `goes` is the task of one that waits no longer in a moment, when the run before gives
    /// its seat back: it takes no place.
    ///
    /// # Errors
    /// It may not: why, with the key of the limit.
    pub(super) fn enter(
        &mut self,
        task: &UnitId,
        id: &RunId,
        bytes: u64,
        goes: Option<&UnitId>,
        most: &RunLimits,
    ) -> Result<(), String> {
        let of_task = self.tasks.get(task).copied().unwrap_or(0);
        let of_task = of_task.saturating_sub(usize::from(goes == Some(task)));
        let all = self.runs.len().saturating_sub(usize::from(goes.is_some()));
        let wait = |count: usize| if count == 1 { "waits" } else { "wait" };
        if of_task >= most.queued_of_task {
            let (runs, wait) = (count(of_task, "run"), wait(of_task));
            return Err(format!(
                "{runs} of {task} {wait} already, as many as `limits.task_queued_runs` allows"
            ));
        }
        if all >= most.queued {
            let (runs, wait) = (count(all, "run"), wait(all));
            return Err(format!("{runs} {wait} already, as many as `limits.queued_runs` allows"));
        }
        // A single one always fits: its own size has a limit too.
        if self.bytes > 0 && self.bytes.saturating_add(bytes) > most.queued_bytes {
            return Err(format!(
                "the inputs of runs that wait would have more than the {} bytes of `limits.queued_input`",
                most.queued_bytes
            ));
        }
        self.runs.insert(id.clone(), bytes);
        self.bytes += bytes;
        *self.tasks.entry(task.clone()).or_default() += 1;
        Ok(())
    }

    /// Whether a run waits.
    fn has(&self, id: &RunId) -> bool {
        self.runs.contains_key(id)
    }

    /// A run waits no longer, if it did.
    pub(super) fn leave(&mut self, task: &UnitId, id: &RunId) {
        let Some(bytes) = self.runs.remove(id) else { return };
        self.bytes -= bytes;
        if let Some(of_task) = self.tasks.get_mut(task) {
            *of_task -= 1;
            if *of_task == 0 {
                self.tasks.remove(task);
            }
        }
    }
}

impl<T: Target> Runner<T> {
    /// Ends the runs of a task that wait, for the task is gone; those that have begun go on.
    pub fn drop_waiting(&self, task: &UnitId) {
        let book = self.lock();
        for id in book.of(task).iter().filter(|id| book.queue.has(id)) {
            if let Some(active) = book.runs.get(id) {
                active.stop(StopReason::Removed);
            }
        }
    }

    /// Why an input is too large for a run, if it is.
    #[must_use]
    pub fn oversized(&self, input: &str) -> Option<String> {
        let (bytes, most) = (input.len() as u64, self.limits.get().runs.input_bytes);
        (bytes > most).then(|| {
            format!("the input of the run has {bytes} bytes, more than the {most} of `limits.run_input`")
        })
    }
}

/// The run as it is recorded where it did not come.
pub(super) fn skipped(run: Run, error: String) -> Run {
    Run { status: RunStatus::Skipped, error, ended_at: Some(run.started_at), ..run }
}

/// Why a task that forbids two does not take another run.
pub(super) fn forbidden(other: &RunId) -> String {
    format!("run {other} of the task is not over, and the task forbids another one")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_beyond_a_limit_does_not_come() {
        let most = RunLimits { queued_of_task: 2, queued: 3, queued_bytes: 10, ..RunLimits::default() };
        let (a, b) = (UnitId::parse("s/a").unwrap(), UnitId::parse("s/b").unwrap());
        let id = |n: u8| RunId::from_random([n; 8]);
        let mut queue = Queue::default();
        assert_eq!(queue.enter(&a, &id(1), 11, None, &most), Ok(()), "one alone always fits");
        let why = queue.enter(&a, &id(2), 1, None, &most).unwrap_err();
        assert!(why.contains("more than the 10 bytes of `limits.queued_input`"), "{why}");
        queue.leave(&a, &id(1));
        queue.leave(&a, &id(1));
        for n in [2, 3] {
            assert_eq!(queue.enter(&a, &id(n), 3, None, &most), Ok(()));
        }
        let why = queue.enter(&a, &id(4), 0, None, &most).unwrap_err();
        assert_eq!(why, "2 runs of s/a wait already, as many as `limits.task_queued_runs` allows");
        assert_eq!(queue.enter(&b, &id(5), 3, None, &most), Ok(()));
        let why = queue.enter(&b, &id(6), 0, None, &most).unwrap_err();
        assert_eq!(why, "3 runs wait already, as many as `limits.queued_runs` allows");
        // One that begins in a moment takes no place.
        assert_eq!(queue.enter(&b, &id(6), 0, Some(&a), &most), Ok(()));
        queue.leave(&b, &id(6));
        assert!(queue.enter(&a, &id(6), 0, Some(&b), &most).is_err(), "two of its task wait");
        for (task, n) in [(&a, 2), (&a, 3), (&b, 5)] {
            queue.leave(task, &id(n));
        }
        assert!(queue.runs.is_empty() && queue.tasks.is_empty() && queue.bytes == 0);
    }
}
