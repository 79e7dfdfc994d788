//! Finds processes that belong to a run or to a data directory, and ends them.
//!
//! Every process is proved to be the one that is meant before it is signalled: by its start time, through a handle
//! that cannot come to mean another process. Nothing else is ever signalled.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions};
use tokio::time::Instant;

use super::procfs::{self, Stat};
use crate::model::run::ProcessId;

/// How long a process is waited for after KILL. One that is still there hangs in the kernel and never executes
/// anything again, or belongs to another user.
const AFTER_KILL: Duration = Duration::from_secs(5);

/// Longest time between two looks at what is still there; the first ones follow each other within milliseconds.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Number and start time: a process within one start of the machine.
type Key = (i32, u64);

/// Which processes are looked for.
#[derive(Debug, Default)]
pub(crate) struct Remaining {
    /// An entry of the environment (`NAME=value`) that only they carry.
    entry: Option<Vec<u8>>,
    /// Groups that are proved to be theirs, with the members that were seen in them last.
    groups: BTreeMap<i32, HashSet<Key>>,
    /// Never touched, whatever they carry.
    spared: HashSet<Key>,
}

impl Remaining {
    /// Processes with `entry` in their environment.
    pub(crate) fn with_entry(entry: String) -> Self {
        Self { entry: Some(entry.into_bytes()), ..Self::default() }
    }

    /// Also those of the group of `leader`, if that very process is still there, or waits to be waited for.
    pub(crate) fn add_group_of(&mut self, leader: &ProcessId) {
        let found = procfs::stat(leader.pid).filter(|stat| stat.id().as_ref() == Some(leader));
        if let Some(stat) = found.filter(|stat| stat.group == stat.pid) {
            self.groups.insert(stat.pid, HashSet::from([stat.key()]));
        }
    }

    /// Also those of a group whose leader was waited for a moment ago, so that its number cannot have been given
    /// to another one yet; and none that is older than the leader.
    pub(crate) fn add_group_without_leader(&mut self, leader: &ProcessId) {
        let members = procfs::all().into_iter();
        let members = members.filter(|stat| stat.group == leader.pid && stat.started >= leader.started);
        self.groups.insert(leader.pid, members.map(|stat| stat.key()).collect());
    }

    /// Never this process nor one that it was started by; and if this process carries the entry itself (it was
    /// started by a task), none that it started in its turn.
    pub(crate) fn spare_own_line(&mut self) {
        let all: BTreeMap<i32, Stat> = procfs::all().into_iter().map(|stat| (stat.pid, stat)).collect();
        let own = std::process::id().cast_signed();
        let parents = |pid: i32| std::iter::successors(all.get(&pid), |stat| all.get(&stat.parent));
        self.spared.extend(parents(own).map(Stat::key));
        if self.entry.as_ref().is_some_and(|entry| procfs::has_variable(own, entry)) {
            let own_children = all.values().filter(|stat| parents(stat.pid).any(|above| above.pid == own));
            self.spared.extend(own_children.map(Stat::key));
        }
    }

    /// Looks once. Reads `/proc`; blocking.
    pub(crate) fn find(&mut self) -> Vec<Stat> {
        let all = procfs::all();
        self.groups.retain(|group, known| {
            let members: HashSet<Key> =
                all.iter().filter(|stat| stat.group == *group).map(Stat::key).collect();
            // A number is not given away while its group has a member: one that was seen before proves the group.
            let proved = members.iter().any(|key| known.contains(key));
            *known = members;
            proved
        });
        let mut found = Vec::new();
        for stat in all {
            if stat.has_ended() || self.spared.contains(&stat.key()) {
                reap_orphan(&stat, &self.groups);
                continue;
            }
            let carries = |entry: &Vec<u8>| procfs::has_variable(stat.pid, entry);
            if self.groups.contains_key(&stat.group) || self.entry.as_ref().is_some_and(carries) {
                found.push(stat);
            }
        }
        found
    }
}

/// An orphan of a run falls to kindling where kindling is process 1 of a container; then nobody else waits for it.
fn reap_orphan(stat: &Stat, groups: &BTreeMap<i32, HashSet<Key>>) {
    let is_leader = stat.group == stat.pid;
    let is_own_child = stat.parent == std::process::id().cast_signed();
    if !is_leader && is_own_child && stat.has_ended() && groups.contains_key(&stat.group) {
        let _ = rustix::process::waitpid(Pid::from_raw(stat.pid), WaitOptions::NOHANG);
    }
}

/// Signals a process if it is still that very process. Gives back whether it was signalled.
pub(crate) fn signal(key: Key, signal: Signal) -> bool {
    let Some(pid) = Pid::from_raw(key.0) else { return false };
    // The handle first, the proof second: from then on no other process can be hit.
    let handle = rustix::process::pidfd_open(pid, PidfdFlags::empty());
    if procfs::stat(key.0).is_none_or(|stat| stat.key() != key || stat.has_ended()) {
        return false;
    }
    match handle {
        Ok(handle) => rustix::process::pidfd_send_signal(handle, signal).is_ok(),
        // A kernel or a sandbox without such handles.
        Err(rustix::io::Errno::NOSYS | rustix::io::Errno::PERM) => {
            rustix::process::kill_process(pid, signal).is_ok()
        }
        Err(_) => false,
    }
}

/// When processes are signalled.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schedule {
    /// When they get TERM; `None` where they got it already.
    pub term: Option<Instant>,
    /// When they get KILL.
    pub kill: Instant,
}

/// What came of ending processes.
#[derive(Debug, Default)]
pub(crate) struct Ending {
    /// Those that were signalled.
    pub signalled: Vec<Stat>,
    /// Those that were still there at the end.
    pub left: Vec<Stat>,
}

/// Ends what `remaining` finds, until nothing is left: at most [`AFTER_KILL`] beyond the schedule.
pub(crate) async fn end(mut remaining: Remaining, schedule: Schedule) -> Ending {
    let mut ending = Ending::default();
    let (mut termed, mut wait) = (HashSet::new(), Duration::from_millis(2));
    loop {
        let looked = tokio::task::spawn_blocking(move || (remaining.find(), remaining)).await;
        let Ok((found, next)) = looked else { return ending };
        remaining = next;
        let now = Instant::now();
        if found.is_empty() || now >= schedule.kill + AFTER_KILL {
            ending.left = found;
            return ending;
        }
        for stat in found {
            let sent = if now >= schedule.kill {
                signal(stat.key(), Signal::KILL)
            } else {
                let is_due = schedule.term.is_some_and(|at| now >= at) && termed.insert(stat.key());
                let sent = is_due && signal(stat.key(), Signal::TERM);
                // One that was stopped by a signal could not act on TERM.
                if sent {
                    signal(stat.key(), Signal::CONT);
                }
                sent
            };
            if sent && ending.signalled.iter().all(|other| other.key() != stat.key()) {
                ending.signalled.push(stat);
            }
        }
        tokio::time::sleep_until(next_look(now, wait, schedule)).await;
        wait = (wait * 2).min(LOOK_AGAIN);
    }
}

/// After `wait`, but not later than the next signal is due.
fn next_look(now: Instant, wait: Duration, schedule: Schedule) -> Instant {
    let due = [schedule.term, Some(schedule.kill)].into_iter().flatten().filter(|at| *at > now);
    due.fold(now + wait, Instant::min)
}
