//! Whose turn it is: which runs may begin, and in which order the others wait. No input or output, no clock.
//!
//! There is a limit on all runs together, and one on the runs of each task. Whoever came first begins first; a run
//! whose task is at its limit lets others pass.

use std::collections::{BTreeMap, HashMap, VecDeque};

use crate::model::id::UnitId;

/// Runs that have begun, and those that wait; `W` wakes one that waits.
#[derive(Debug)]
pub(super) struct Turns<W> {
    most: usize,
    busy: usize,
    tasks: HashMap<UnitId, Task<W>>,
    /// Those that wait for nothing but the limit on all, in the order in which they came.
    ready: BTreeMap<Ticket, (UnitId, W)>,
    next: Ticket,
}

/// Names a run that waits; grows.
pub(super) type Ticket = u64;

#[derive(Debug)]
struct Task<W> {
    limit: usize,
    busy: usize,
    /// How many of it are in `ready`.
    ready: usize,
    /// Those that wait for others of the task, in order.
    waiting: VecDeque<(Ticket, W)>,
}

impl<W> Turns<W> {
    /// Nobody is there; `most` may begin.
    pub(super) fn new(most: usize) -> Self {
        Self { most, busy: 0, tasks: HashMap::new(), ready: BTreeMap::new(), next: 0 }
    }

    /// A run of a task comes, of which `limit` may have begun at once. Gives back its ticket, and who begins now: the
    /// newcomer too, if it is its turn.
    pub(super) fn enter(&mut self, task: &UnitId, limit: usize, who: W) -> (Ticket, Vec<W>) {
        let ticket = self.next;
        self.next += 1;
        let new = || Task { limit, busy: 0, ready: 0, waiting: VecDeque::new() };
        let entry = self.tasks.entry(task.clone()).or_insert_with(new);
        // A newer version may say otherwise than the one before.
        entry.limit = limit.max(1);
        entry.waiting.push_back((ticket, who));
        (ticket, self.advance(task))
    }

    /// A run that had begun is over; gives back who begins now.
    pub(super) fn leave(&mut self, task: &UnitId) -> Vec<W> {
        self.busy = self.busy.saturating_sub(1);
        if let Some(entry) = self.tasks.get_mut(task) {
            entry.busy = entry.busy.saturating_sub(1);
        }
        self.advance(task)
    }

    /// The task of the run that would begin if one of `task` that has begun were over; `None` where none would.
    pub(super) fn called_after(&self, task: &UnitId) -> Option<&UnitId> {
        if self.busy > self.most {
            return None;
        }
        let ready = self.ready.first_key_value().map(|(ticket, (of, _))| (*ticket, of));
        let promoted = self.tasks.get_key_value(task).and_then(|(of, entry)| {
            let has_room = entry.busy.saturating_sub(1) + entry.ready < entry.limit;
            entry.waiting.front().filter(|_| has_room).map(|(ticket, _)| (*ticket, of))
        });
        ready.into_iter().chain(promoted).min().map(|(_, of)| of)
    }

    /// A run waits no longer. Gives back whether it still waited; otherwise it has begun, and has to leave.
    pub(super) fn give_up(&mut self, task: &UnitId, ticket: Ticket) -> bool {
        let Some(entry) = self.tasks.get_mut(task) else { return false };
        if self.ready.remove(&ticket).is_some() {
            entry.ready -= 1;
        } else if let Ok(at) = entry.waiting.binary_search_by_key(&ticket, |(ticket, _)| *ticket) {
            entry.waiting.remove(at);
        } else {
            return false;
        }
        // Somebody else of the task is ready in its place. Nobody begins: whoever was ready waits for the limit on all.
        self.promote(task);
        true
    }

    /// Another limit on all; gives back who begins now.
    pub(super) fn set_most(&mut self, most: usize) -> Vec<W> {
        self.most = most;
        self.admit()
    }

    fn advance(&mut self, task: &UnitId) -> Vec<W> {
        self.promote(task);
        self.admit()
    }

    fn promote(&mut self, task: &UnitId) {
        let Some(entry) = self.tasks.get_mut(task) else { return };
        while entry.busy + entry.ready < entry.limit
            && let Some((ticket, who)) = entry.waiting.pop_front()
        {
            entry.ready += 1;
            self.ready.insert(ticket, (task.clone(), who));
        }
        if entry.busy + entry.ready == 0 && entry.waiting.is_empty() {
            self.tasks.remove(task);
        }
    }

    fn admit(&mut self) -> Vec<W> {
        let mut begin = Vec::new();
        while self.busy < self.most
            && let Some((_, (task, who))) = self.ready.pop_first()
        {
            self.busy += 1;
            if let Some(entry) = self.tasks.get_mut(&task) {
                entry.ready -= 1;
                entry.busy += 1;
            }
            begin.push(who);
        }
        begin
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn task(n: u8) -> UnitId {
        UnitId::parse(&format!("s/task-{n}")).unwrap()
    }

    #[test]
    fn first_in_first_out_within_both_limits() {
        let (a, b) = (task(0), task(1));
        let mut turns = Turns::new(2);
        assert_eq!(turns.enter(&a, 1, "a1").1, ["a1"]);
        let (a2, begun) = turns.enter(&a, 1, "a2");
        assert!(begun.is_empty());
        assert!(turns.enter(&a, 1, "a3").1.is_empty());
        assert_eq!(turns.enter(&b, usize::MAX, "b1").1, ["b1"], "a task at its limit lets others pass");
        assert!(turns.enter(&b, usize::MAX, "b2").1.is_empty());
        assert_eq!(turns.leave(&a), ["a2"], "it came before b2");
        assert!(!turns.give_up(&a, a2), "it has begun");
        assert_eq!(turns.leave(&b), ["b2"], "a3 waits for a2");
        assert_eq!(turns.leave(&b), [] as [&str; 0]);
        assert_eq!(turns.leave(&a), ["a3"]);
        assert!(turns.leave(&a).is_empty() && turns.tasks.is_empty());
    }

    #[test]
    fn whoever_gives_up_is_never_called() {
        let a = task(0);
        let mut turns = Turns::new(1);
        let _ = turns.enter(&a, 2, 0);
        let tickets: Vec<_> = (1..5).map(|n| turns.enter(&a, 2, n).0).collect();
        assert!(turns.give_up(&a, tickets[0]) && turns.give_up(&a, tickets[2]));
        assert!(!turns.give_up(&a, tickets[0]));
        assert_eq!(turns.leave(&a), [2]);
        assert_eq!(turns.set_most(3), [4], "two of the task at most");
        assert!(turns.leave(&a).is_empty() && turns.leave(&a).is_empty());
        assert!(turns.tasks.is_empty() && turns.ready.is_empty() && turns.busy == 0);
    }

    proptest! {
        /// Whatever comes and goes: no limit is broken, nobody is forgotten, and nobody waits without a reason.
        #[test]
        fn limits_hold_and_everybody_has_a_turn(steps in prop::collection::vec((0..4_u8, 0..3_u8), 1..200)) {
            let limits = [1, 2, usize::MAX];
            let mut turns = Turns::new(4);
            let (mut begun, mut waits, mut count) = (Vec::new(), Vec::new(), 0_u32);
            let over = |begun: &mut Vec<(u32, u8)>, at: usize| begun.remove(at % begun.len()).1;
            for (what, of) in steps {
                let new = match what {
                    0 | 1 => {
                        count += 1;
                        let (ticket, new) = turns.enter(&task(of), limits[usize::from(of)], (count, of));
                        waits.push((ticket, count, of));
                        new
                    }
                    2 if !begun.is_empty() => {
                        let of = over(&mut begun, usize::from(of) * 7);
                        let foretold = turns.called_after(&task(of)).cloned();
                        let new = turns.leave(&task(of));
                        prop_assert_eq!(foretold, new.first().map(|(_, of)| task(*of)));
                        new
                    }
                    3 if !waits.is_empty() => {
                        let (ticket, _, of) = waits.remove(usize::from(of) * 5 % waits.len());
                        prop_assert!(turns.give_up(&task(of), ticket));
                        Vec::new()
                    }
                    _ => Vec::new(),
                };
                waits.retain(|(_, id, _)| !new.iter().any(|(begins, _)| begins == id));
                begun.extend(new);
                let of_task = |of: u8| begun.iter().filter(|(_, other)| *other == of).count();
                prop_assert!(begun.len() <= 4 && (0..3).all(|of| of_task(of) <= limits[usize::from(of)]));
                prop_assert!(waits.iter().all(|(_, _, of)| begun.len() == 4 || of_task(*of) == limits[usize::from(*of)]));
            }
            while !begun.is_empty() {
                let of = over(&mut begun, 0);
                let new = turns.leave(&task(of));
                waits.retain(|(_, id, _)| !new.iter().any(|(begins, _)| begins == id));
                begun.extend(new);
            }
            prop_assert!(waits.is_empty() && turns.tasks.is_empty());
        }
    }
}
