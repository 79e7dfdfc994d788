//! Whether one commit is among the ancestors of another one.

use std::collections::{BinaryHeap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};

use gix::ObjectId;
use gix::objs::{CommitRefIter, Find, Kind};

/// Most commits that are looked at. No branch is that far ahead of what is deployed; one that has nothing in common
/// with it would be walked to its end.
const MAX_COMMITS: usize = 250_000;

/// From which of the two a commit was reached.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Seen {
    from_tip: bool,
    from_old: bool,
}

/// Walks both histories, newest commits first, so that it ends soon after the place where they part. A commit that
/// is an ancestor of `old` cannot lead to it and is not followed for the tip, whatever the dates say: a wrong clock
/// makes this slower, never wrong.
pub(super) fn is_ancestor(
    objects: &dyn Find,
    old: ObjectId,
    tip: ObjectId,
    interrupted: &AtomicBool,
) -> bool {
    if old == tip {
        return true;
    }
    let mut walk = Walk::new(objects);
    if !walk.mark(old, Seen { from_tip: false, from_old: true }) {
        // Unknown here: it was never fetched, or is gone.
        return false;
    }
    walk.mark(tip, Seen { from_tip: true, from_old: false });
    for _ in 0..MAX_COMMITS {
        if interrupted.load(Ordering::Relaxed) || walk.open_for_tip == 0 {
            return false;
        }
        let Some((_, id)) = walk.queue.pop() else { return false };
        let seen = walk.settle(id);
        for parent in walk.parents(id) {
            walk.mark(parent, seen);
            if parent == old && seen.from_tip && !seen.from_old {
                return true;
            }
        }
    }
    false
}

struct Commit {
    seen: Seen,
    time: i64,
    parents: Vec<ObjectId>,
    queued: bool,
}

struct Walk<'a> {
    objects: &'a dyn Find,
    commits: HashMap<ObjectId, Commit>,
    queue: BinaryHeap<(i64, ObjectId)>,
    /// Commits in the queue that were reached from the tip alone.
    open_for_tip: usize,
}

impl<'a> Walk<'a> {
    fn new(objects: &'a dyn Find) -> Self {
        Self { objects, commits: HashMap::new(), queue: BinaryHeap::new(), open_for_tip: 0 }
    }

    /// Notes how a commit was reached and queues it if that is news. `false` if it is not here: the history of a
    /// shallow fetch ends somewhere.
    fn mark(&mut self, id: ObjectId, by: Seen) -> bool {
        if !self.commits.contains_key(&id) {
            let Some((time, parents)) = self.load(id) else { return false };
            self.commits.insert(id, Commit { seen: Seen::default(), time, parents, queued: false });
        }
        let Some(commit) = self.commits.get_mut(&id) else { return false };
        let before = commit.seen;
        commit.seen =
            Seen { from_tip: before.from_tip || by.from_tip, from_old: before.from_old || by.from_old };
        if commit.seen == before {
            return true;
        }
        let open = |seen: Seen| usize::from(seen.from_tip && !seen.from_old);
        if commit.queued {
            self.open_for_tip = self.open_for_tip + open(commit.seen) - open(before);
        } else {
            commit.queued = true;
            self.open_for_tip += open(commit.seen);
            self.queue.push((commit.time, id));
        }
        true
    }

    fn settle(&mut self, id: ObjectId) -> Seen {
        let Some(commit) = self.commits.get_mut(&id) else { return Seen::default() };
        commit.queued = false;
        self.open_for_tip -= usize::from(commit.seen.from_tip && !commit.seen.from_old);
        commit.seen
    }

    fn parents(&self, id: ObjectId) -> Vec<ObjectId> {
        self.commits.get(&id).map(|commit| commit.parents.clone()).unwrap_or_default()
    }

    fn load(&self, id: ObjectId) -> Option<(i64, Vec<ObjectId>)> {
        let mut buffer = Vec::new();
        let found = self.objects.try_find(&id, &mut buffer).ok()??;
        if found.kind != Kind::Commit {
            return None;
        }
        let commit = CommitRefIter::from_bytes(found.data, id.kind());
        let time = commit.committer().ok().map_or(0, |signature| signature.seconds());
        Some((time, commit.parent_ids().collect()))
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// Commits by number; number 0 is never there.
    struct History {
        commits: HashMap<ObjectId, Vec<u8>>,
        reads: Cell<usize>,
    }

    fn id(number: u32) -> ObjectId {
        let mut bytes = [0; 20];
        bytes[..4].copy_from_slice(&number.to_be_bytes());
        ObjectId::from_bytes_or_panic(&bytes)
    }

    impl History {
        /// Each of `commits` is a number, its date and its parents.
        fn new(commits: impl IntoIterator<Item = (u32, i64, Vec<u32>)>) -> Self {
            let text = |(number, date, parents): (u32, i64, Vec<u32>)| {
                let mut text = format!("tree {}\n", id(9));
                for parent in parents {
                    text += &format!("parent {}\n", id(parent));
                }
                text += &format!("author a <a@b> {date} +0000\ncommitter a <a@b> {date} +0000\n\nm\n");
                (id(number), text.into_bytes())
            };
            Self { commits: commits.into_iter().map(text).collect(), reads: Cell::new(0) }
        }

        fn is_ancestor(&self, old: u32, tip: u32) -> bool {
            is_ancestor(self, id(old), id(tip), &AtomicBool::new(false))
        }
    }

    impl Find for History {
        fn try_find<'a>(
            &self,
            id: &gix::oid,
            buffer: &'a mut Vec<u8>,
        ) -> gix::Result<Option<gix::objs::Data<'a>>> {
            self.reads.set(self.reads.get() + 1);
            let Some(text) = self.commits.get(&id.to_owned()) else { return Ok(None) };
            buffer.clone_from(text);
            Ok(Some(gix::objs::Data::new(buffer, Kind::Commit, gix::hash::Kind::Sha1)))
        }
    }

    #[test]
    fn follows_every_parent() {
        // 1 - 2 - 4 - 5, and 3 merged into 4.
        let history = History::new([
            (1, 1, vec![]),
            (2, 2, vec![1]),
            (3, 3, vec![1]),
            (4, 4, vec![2, 3]),
            (5, 5, vec![4]),
        ]);
        for old in 1..=5 {
            assert!(history.is_ancestor(old, 5), "{old}");
        }
        assert!(!history.is_ancestor(5, 4) && !history.is_ancestor(2, 3) && !history.is_ancestor(0, 5));
    }

    #[test]
    fn dates_do_not_matter() {
        // The deployed commit claims to be the newest of all; its child and grandchild claim to be ancient.
        let history = History::new([(1, 50, vec![]), (2, 900, vec![1]), (3, 10, vec![2]), (4, 5, vec![3])]);
        assert!(history.is_ancestor(2, 4));
        assert!(!history.is_ancestor(4, 2) && !history.is_ancestor(3, 1));
    }

    #[test]
    fn the_history_of_a_shallow_fetch_ends_somewhere() {
        let history = History::new([(2, 2, vec![1]), (3, 3, vec![2])]);
        assert!(history.is_ancestor(2, 3));
        assert!(!history.is_ancestor(1, 3), "it is not here, so nothing is known of it");
    }

    #[test]
    fn a_rewritten_branch_costs_only_what_differs() {
        let line = (2..1000).map(|n| (n, i64::from(n), vec![n - 1]));
        let sides = [(1, 1, vec![]), (2001, 2001, vec![999]), (2002, 2002, vec![999])];
        let history = History::new(line.chain(sides));
        assert!(!history.is_ancestor(2001, 2002));
        assert!(history.reads.get() < 10, "{}", history.reads.get());
    }
}
