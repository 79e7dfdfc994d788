//! The process group of one run: signals it, waits for it, and never leaves it behind.

use std::io;
use std::process::ExitStatus;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions};
use tokio::process::Child;
use tokio::time::Instant;

use super::environment;
use super::procfs;
use super::remaining::{self, Ending, Remaining, Schedule};
use crate::model::id::RunId;
use crate::model::run::ProcessId;

/// How long what the main process left behind has to end by itself before it gets TERM: a helper that writes the
/// last lines needs some milliseconds.
const SETTLE: Duration = Duration::from_millis(100);

/// A child that leads its own process group. Dropping it before its end kills the group.
#[derive(Debug)]
pub(crate) struct Group {
    child: Child,
    pid: Option<Pid>,
    id: Option<ProcessId>,
    run: RunId,
    is_over: bool,
}

impl Group {
    /// Takes charge of a child that was just started as the leader of a new group.
    pub(crate) fn new(child: Child, run: RunId) -> Self {
        let number = child.id().map(u32::cast_signed);
        let id = number.and_then(|number| procfs::stat(number)?.id());
        Self { child, pid: number.and_then(Pid::from_raw), id, run, is_over: false }
    }

    /// Its leader; `None` where `/proc` does not tell.
    pub(crate) fn id(&self) -> Option<&ProcessId> {
        self.id.as_ref()
    }

    /// Waits until the leader has ended. From then on its number may mean another process. Cancel safe.
    ///
    /// # Errors
    /// Somebody else waited for it.
    pub(crate) async fn leader_ended(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// Signals the whole group. Does nothing once the leader was waited for: until then nobody else can have its
    /// number, so no proof is needed.
    pub(crate) fn signal(&self, signal: Signal) {
        let (Some(_), Some(pid)) = (self.child.id(), self.pid) else { return };
        if rustix::process::kill_process_group(pid, signal).is_err() {
            // It made another group for itself.
            let _ = rustix::process::kill_process(pid, signal);
        }
    }

    /// Sees to it that nothing of the group is left, after its leader has ended. `kill` says when what is left gets
    /// KILL, if the group got TERM already; otherwise it gets TERM soon and KILL `grace` later.
    pub(crate) async fn rest_ended(&mut self, kill: Option<Instant>, grace: Duration) -> Ending {
        let mut wait = Duration::from_millis(1);
        while self.has_members() {
            if wait <= Duration::from_millis(8) {
                tokio::time::sleep(wait).await;
                wait *= 2;
                continue;
            }
            let term = Instant::now() + SETTLE;
            let schedule = match kill {
                Some(kill) => Schedule { term: None, kill },
                None => Schedule { term: Some(term), kill: term + grace },
            };
            let ending = remaining::end(self.rest(), schedule).await;
            self.is_over = true;
            return ending;
        }
        self.is_over = true;
        Ending::default()
    }

    /// Ends the processes of the run that left its group.
    pub(crate) async fn escaped_ended(&mut self, grace: Duration) -> Ending {
        let term = Instant::now();
        let marked = Remaining::with_entry(format!("{}={}", environment::RUN, self.run));
        remaining::end(marked, Schedule { term: Some(term), kill: term + grace }).await
    }

    /// Whether the group has a member, ended ones that nobody waited for included. Signals nothing.
    fn has_members(&self) -> bool {
        let Some(pid) = self.pid else { return false };
        // Orphans fall to kindling where it is process 1 of a container; then nobody else waits for them.
        while let Ok(Some(_)) = rustix::process::waitpgid(pid, WaitOptions::NOHANG) {}
        rustix::process::test_kill_process_group(pid) != Err(Errno::SRCH)
    }

    fn rest(&self) -> Remaining {
        let mut remaining = Remaining::default();
        if let Some(leader) = &self.id {
            remaining.add_group_without_leader(leader);
        }
        remaining
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Does nothing if the leader was waited for; otherwise tokio waits for it.
        self.signal(Signal::KILL);
        if self.child.id().is_none() && !self.is_over {
            for stat in self.rest().find() {
                remaining::signal(stat.key(), Signal::KILL);
            }
        }
    }
}
