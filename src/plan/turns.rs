//! Whose turn it is: which runs may begin, and which of those that wait is the next.
//!
//! There is a limit on all runs together, and one on the runs of each task. Tasks whose runs wait take turns, however many
//! runs of each there are: next is the task that had its last turn longest ago. Runs of one task begin in the order in
//! which they came; a task at its limit lets others pass.

use std::collections::{BTreeSet, HashMap, VecDeque};

use crate::model::id::UnitId;

/// Runs that have begun, and those that wait; `W` wakes one that waits.
#[derive(Debug)]
pub struct Turns<W> {
    most: usize,
    busy: usize,
    tasks: HashMap<UnitId, Task<W>>,
    /// Tasks that wait for nothing but the limit on all, by the turn that each had last.
    ready: BTreeSet<(u64, UnitId)>,
    /// How many turns there were.
    turns: u64,
    next: Ticket,
}

/// Names a run that waits; grows.
pub type Ticket = u64;

#[derive(Debug)]
struct Task<W> {
    limit: usize,
    busy: usize,
    /// The turn that it had last; that of all when it came.
    turn: u64,
    /// Its runs that wait, in order.
    waiting: VecDeque<(Ticket, W)>,
}

impl<W> Turns<W> {
    /// Nobody is there; `most` may begin.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { most, busy: 0, tasks: HashMap::new(), ready: BTreeSet::new(), turns: 0, next: 0 }
    }

    /// A run of a task comes, of which `limit` may have begun at once. Gives back its ticket, and who begins now: the
    /// newcomer too, if it is its turn.
    pub fn enter(&mut self, task: &UnitId, limit: usize, who: W) -> (Ticket, Vec<W>) {
        let ticket = self.next;
        self.next += 1;
        // A task that comes anew waits for those that are there.
        let turn = self.turns;
        let new = || Task { limit, busy: 0, turn, waiting: VecDeque::new() };
        let entry = self.tasks.entry(task.clone()).or_insert_with(new);
        // A newer version may say otherwise than the one before.
        entry.limit = limit.max(1);
        entry.waiting.push_back((ticket, who));
        (ticket, self.advance(task))
    }

    /// A run that had begun is over; gives back who begins now.
    pub fn leave(&mut self, task: &UnitId) -> Vec<W> {
        self.busy = self.busy.saturating_sub(1);
        if let Some(entry) = self.tasks.get_mut(task) {
            entry.busy = entry.busy.saturating_sub(1);
        }
        self.advance(task)
    }

    /// The task of the run that would begin if one of `task` that has begun were over; `None` where none would.
    #[must_use]
    pub fn called_after(&self, task: &UnitId) -> Option<&UnitId> {
        if self.busy > self.most {
            return None;
        }
        let freed = self
            .tasks
            .get_key_value(task)
            .filter(|(_, entry)| !entry.waiting.is_empty() && entry.busy.saturating_sub(1) < entry.limit);
        let first = self.ready.first().map(|(turn, of)| (*turn, of));
        first.into_iter().chain(freed.map(|(of, entry)| (entry.turn, of))).min().map(|(_, of)| of)
    }

    /// A run waits no longer. Gives back whether it still waited; otherwise it has begun, and has to leave.
    pub fn give_up(&mut self, task: &UnitId, ticket: Ticket) -> bool {
        let Some(entry) = self.tasks.get_mut(task) else { return false };
        let Ok(at) = entry.waiting.binary_search_by_key(&ticket, |(ticket, _)| *ticket) else { return false };
        entry.waiting.remove(at);
        self.sort_in(task);
        true
    }

    /// Another limit on all; gives back who begins now.
    pub fn set_most(&mut self, most: usize) -> Vec<W> {
        self.most = most;
        self.admit()
    }

    fn advance(&mut self, task: &UnitId) -> Vec<W> {
        self.sort_in(task);
        self.admit()
    }

    /// Puts a task where it belongs: among those that are ready, or not, or nowhere.
    fn sort_in(&mut self, task: &UnitId) {
        let Some(entry) = self.tasks.get(task) else { return };
        let place = (entry.turn, task.clone());
        if !entry.waiting.is_empty() && entry.busy < entry.limit {
            self.ready.insert(place);
        } else {
            self.ready.remove(&place);
        }
        if entry.busy == 0 && entry.waiting.is_empty() {
            self.tasks.remove(task);
        }
    }

    fn admit(&mut self) -> Vec<W> {
        let mut begin = Vec::new();
        while self.busy < self.most
            && let Some((_, task)) = self.ready.pop_first()
            && let Some(entry) = self.tasks.get_mut(&task)
        {
            if let Some((_, who)) = entry.waiting.pop_front() {
                self.busy += 1;
                entry.busy += 1;
                begin.push(who);
            }
            self.turns += 1;
            entry.turn = self.turns;
            self.sort_in(&task);
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
    fn a_task_with_many_runs_holds_up_no_other_one() {
        let (flood, a, b) = (task(0), task(1), task(2));
        let mut turns = Turns::new(2);
        for n in 0..1000 {
            let _ = turns.enter(&flood, usize::MAX, ("flood", n));
        }
        let _ = (turns.enter(&a, usize::MAX, ("a", 0)), turns.enter(&b, 1, ("b", 0)));
        let _ = (turns.enter(&a, usize::MAX, ("a", 1)), turns.enter(&b, 1, ("b", 1)));
        let mut begun = Vec::new();
        for _ in 0..3 {
            begun.extend(turns.leave(&flood));
        }
        assert_eq!(begun, [("flood", 2), ("a", 0), ("b", 0)]);
        // One that comes again and again gets no more than its turn.
        assert_eq!(turns.leave(&b), [("flood", 3)]);
        assert!(turns.enter(&b, 1, ("b", 2)).1.is_empty());
        assert_eq!(turns.leave(&a), [("a", 1)]);
        assert_eq!(turns.leave(&a), [("b", 1)]);
        assert_eq!(turns.leave(&flood), [("flood", 4)]);
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
        assert_eq!(turns.leave(&a), ["a2"], "its task had its turn before that of b2");
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
