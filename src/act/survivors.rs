//! Ends what an earlier kindling left running when it was killed, before anything new is started.

use std::time::Duration;

use tokio::time::Instant;

use super::remaining::{self, Remaining, Schedule};
use super::{environment, procfs};
use crate::model::id::RunId;
use crate::model::run::ProcessId;

/// The time between TERM and KILL. Shorter than for a run that is stopped: everything waits for it.
const GRACE: Duration = Duration::from_secs(2);

/// A process that had survived an earlier kindling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Survivor {
    /// The process.
    pub process: ProcessId,
    /// The run that it belonged to, if it said so.
    pub run: Option<RunId>,
    /// Whether it is gone. If not, it hangs in the kernel or may not be signalled by this user.
    pub is_gone: bool,
}

/// Ends every process that carries `mark` in its environment, and every group whose leader is one of `recorded`
/// still: the same number, start time and start of the machine. TERM, KILL after 2 s, and at most 5 s more.
///
/// Never touches another process, nor this one, nor one that this one was started by.
pub async fn end_survivors(mark: &str, recorded: &[ProcessId]) -> Vec<Survivor> {
    end_within(mark, recorded, GRACE).await
}

async fn end_within(mark: &str, recorded: &[ProcessId], grace: Duration) -> Vec<Survivor> {
    let (mark, recorded) = (mark.to_owned(), recorded.to_vec());
    let looked = tokio::task::spawn_blocking(move || {
        let mut remaining = look_for(&mark, &recorded);
        // Their environment can be read only while they live.
        let found = remaining.find();
        let runs: Vec<_> =
            found.iter().map(|stat| (stat.key(), procfs::variable(stat.pid, environment::RUN))).collect();
        (remaining, runs)
    });
    let Ok((remaining, runs)) = looked.await else { return Vec::new() };
    if runs.is_empty() {
        return Vec::new();
    }
    let now = Instant::now();
    let ending = remaining::end(remaining, Schedule { term: Some(now), kill: now + grace }).await;
    let is_left = |key| ending.left.iter().any(|stat| stat.key() == key);
    let unsignalled =
        ending.left.iter().filter(|stat| ending.signalled.iter().all(|other| other.key() != stat.key()));
    let touched = ending.signalled.iter().chain(unsignalled);
    let survivor = |stat: &procfs::Stat| {
        let run = runs.iter().find(|(key, _)| *key == stat.key()).and_then(|(_, run)| run.clone());
        let run = run.map(|run| RunId::recorded(&run));
        Some(Survivor { process: stat.id()?, run, is_gone: !is_left(stat.key()) })
    };
    touched.filter_map(survivor).collect()
}

fn look_for(mark: &str, recorded: &[ProcessId]) -> Remaining {
    let mut remaining = if mark.is_empty() {
        Remaining::default()
    } else {
        Remaining::with_entry(format!("{}={mark}", environment::MARK))
    };
    for leader in recorded {
        remaining.add_group_of(leader);
    }
    remaining.spare_own_line();
    remaining
}
