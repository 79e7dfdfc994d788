//! Whether a run may come, and whether it begins at once or waits.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::order::{Order, StopReason};
use super::queue::forbidden;
use super::{Active, Book, Runner, Work, wake};
use crate::act::Target;
use crate::model::id::{RunId, UnitId};
use crate::model::spec::{Concurrency, Overlap};
use crate::plan::turns::Ticket;

/// Whether a run may begin.
#[derive(Debug)]
pub(super) enum Seat {
    /// At once, and beside all others: a daemon.
    Beside,
    /// At once.
    Taken,
    /// When it is called.
    Waits(Ticket, oneshot::Receiver<()>),
    /// It asks for a seat after this long.
    Later(Duration),
}

/// What the rules of its task say of a run that comes.
pub(super) enum Admission {
    /// It may come; those in the list have to go.
    Comes(Arc<Active>, Seat, Vec<RunId>),
    /// It may not, because another one is there: why.
    Forbidden(String),
    /// It would have to wait, and too many do: why.
    Full(String),
}

impl<T: Target> Runner<T> {
    /// Lets a run come, as far as the rules of its task allow it. `before` is the run that it follows, which is as
    /// good as over; `later` the time before it may begin.
    pub(super) fn admit(
        &self,
        order: &Order,
        id: &RunId,
        before: Option<&Work>,
        later: Option<Duration>,
    ) -> Admission {
        let spec = &order.version.spec;
        let task = &order.version.unit;
        let mut book = self.lock();
        let limit = spec.concurrency.limit.map_or(usize::MAX, |limit| limit as usize);
        let mut go = Vec::new();
        if !spec.is_daemon() {
            let mut others = book.of(task);
            others.retain(|other| before.is_none_or(|before| *other != before.run.id));
            match spec.concurrency.overlap {
                Overlap::Forbid if others.len() >= limit => {
                    return Admission::Forbidden(forbidden(&others[0]));
                }
                Overlap::Replace if others.len() >= limit => {
                    others.truncate(others.len() + 1 - limit);
                    go = others;
                }
                Overlap::Forbid | Overlap::Replace | Overlap::Allow => {}
            }
        }
        let active = book.add(task, id);
        let seat = match later {
            _ if spec.is_daemon() => Seat::Beside,
            Some(time) => Seat::Later(time),
            None => self.seat(&mut book, task, &spec.concurrency),
        };
        if matches!(seat, Seat::Waits(..) | Seat::Later(_)) {
            let bytes = order.input.len() as u64;
            let seated = before.filter(|before| before.seated);
            let goes = seated.and_then(|before| book.turns.called_after(&before.active.task)).cloned();
            if let Err(why) = book.queue.enter(task, id, bytes, goes.as_ref(), &self.limits.get().runs) {
                book.withdraw(id, &active, &seat);
                return Admission::Full(why);
            }
        }
        if self.closing.is_cancelled() {
            active.stop(StopReason::Closing);
        }
        Admission::Comes(active, seat, go)
    }

    pub(super) fn seat(&self, book: &mut Book, task: &UnitId, rule: &Concurrency) -> Seat {
        let limit = rule.limit.map_or(usize::MAX, |limit| limit as usize);
        let (call, mut called) = oneshot::channel();
        wake(book.turns.set_most(self.limits.get().runs.at_once));
        let (ticket, begin) = book.turns.enter(task, limit, call);
        wake(begin);
        if called.try_recv().is_ok() { Seat::Taken } else { Seat::Waits(ticket, called) }
    }
}
