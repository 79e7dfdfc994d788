//! What follows from the end of a run: another attempt, or the tasks that are chained to it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::order::{Order, StopReason};
use super::queue::skipped;
use super::{Active, Admission, Runner, Seat, Work, random};
use crate::act::Target;
use crate::model::id::{RunId, UnitId};
use crate::model::run::{Run, RunStatus};
use crate::model::spec::{ChainOn, Trigger};
use crate::model::time::{Timestamp, human};
use crate::plan::{chain, params};

/// The longest wait between two attempts.
const LONGEST_BACKOFF: Duration = Duration::from_secs(3600);

/// A run that follows from the end of another one.
pub(super) enum Follower {
    /// It waits for its turn.
    Waits { row: Run, order: Order, active: Arc<Active>, seat: Seat, go: Vec<RunId> },
    /// It is over before it began.
    Over(Run),
}

impl Follower {
    /// Its first row, which may be its last.
    pub(super) fn row(&self) -> &Run {
        match self {
            Self::Waits { row, .. } | Self::Over(row) => row,
        }
    }
}

impl<T: Target> Runner<T> {
    /// The runs that follow from the end of `run`, which learns of its next attempt. They are there from now on: a
    /// task that forbids two sees them.
    pub(super) fn followers(&self, run: &mut Run, work: &Work) -> Vec<Follower> {
        if self.closing.is_cancelled() || work.order.version.spec.is_daemon() {
            return Vec::new();
        }
        let retry = self.retry(run, work);
        if let Some(Follower::Waits { row, .. }) = &retry {
            run.retried_by = Some(row.id.clone());
            return retry.into_iter().collect();
        }
        // An attempt that may not come leaves the run at the end that it has come to.
        let chained = self.registry.chained();
        let follows = |unit: &UnitId| *unit != run.task && !work.order.lineage.contains(unit);
        let chained = chained.iter().filter(|unit| follows(unit));
        retry.into_iter().chain(chained.filter_map(|unit| self.chained(unit, run, work))).collect()
    }

    /// The next attempt of a run that failed, while its task is there and allows one.
    fn retry(&self, run: &Run, work: &Work) -> Option<Follower> {
        let retries = work.order.version.spec.retries;
        let failed = matches!(run.status, RunStatus::Failed | RunStatus::TimedOut);
        if !failed || run.attempt > retries.limit {
            return None;
        }
        let mut order = work.order.clone();
        let live = self.registry.get(&run.task)?;
        // What was mended meanwhile counts, as far as it takes what was given.
        if let Ok(params) = params::resolve(&live.spec, &order.given) {
            order = Order { params, version: live, ..order };
        }
        let row = self.row(&order);
        let first = Some(run.first.as_ref().unwrap_or(&run.id).clone());
        let row = Run { attempt: run.attempt.saturating_add(1), first, ..row };
        Some(self.comes(row, order, work, Some(backoff(retries.backoff, run.attempt))))
    }

    /// A run of `unit`, if it is chained to the task of `run` and to such an end.
    fn chained(&self, unit: &UnitId, run: &Run, work: &Work) -> Option<Follower> {
        let version = self.registry.get(unit)?;
        let Trigger::Chain(link) = &version.spec.trigger else { return None };
        let is_there = |unit: &UnitId| self.registry.get(unit).is_some();
        if chain::origin(unit, &link.from, is_there)? != run.task
            || !starts(link.on, run.status)
            || self.board.is_suspended(unit)
        {
            return None;
        }
        let lineage: Arc<[UnitId]> = work.order.lineage.iter().chain([&run.task]).cloned().collect();
        let params = params::resolve(&version.spec, &BTreeMap::new());
        let (params, refused) = match params {
            Ok(params) => (params, None),
            Err(problems) => (BTreeMap::new(), Some(problems.join("; "))),
        };
        let input = run.output.as_deref().unwrap_or("null").into();
        let order =
            Order { input, detail: run.id.to_string(), lineage, ..Order::new(version, params, "chain") };
        let row = self.row(&order);
        if let Some(why) = self.oversized(&order.input) {
            return Some(Follower::Over(skipped(row, why)));
        }
        match refused {
            None => Some(self.comes(row, order, work, None)),
            Some(error) => {
                let ended_at = Some(row.started_at);
                Some(Follower::Over(Run { status: RunStatus::Failed, error, ended_at, ..row }))
            }
        }
    }

    fn row(&self, order: &Order) -> Run {
        order.first_row(RunId::from_random(random()), Timestamp(self.clock.now_ms()))
    }

    fn comes(&self, row: Run, order: Order, before: &Work, later: Option<Duration>) -> Follower {
        match self.admit(&order, &row.id, Some(before), later) {
            Admission::Comes(active, seat, go) => Follower::Waits { row, order, active, seat, go },
            Admission::Full(why) | Admission::Forbidden(why) => Follower::Over(skipped(row, why)),
        }
    }

    /// Lets a run that was recorded with the end of the one before go its way; forgets it where it was not recorded.
    pub(super) async fn set_off(self: &Arc<Self>, follower: Follower, is_recorded: bool) {
        match follower {
            Follower::Waits { row, active, seat, .. } if !is_recorded => {
                self.lock().withdraw(&row.id, &active, &seat);
            }
            Follower::Waits { row, order, active, seat, go } => {
                for other in go {
                    self.stop(&other, StopReason::Overtaken);
                }
                let (done, _) = watch::channel(None);
                let seated = matches!(seat, Seat::Taken);
                let work = Work { run: row, order, active, seated, done };
                self.tasks.spawn(Arc::clone(self).wait(work, seat));
            }
            Follower::Over(row) if is_recorded => self.tell_end(row, &watch::Sender::new(None)).await,
            Follower::Over(_) => {}
        }
    }
}

/// What the log of a run says of its next attempt, or of why there is none.
pub(super) fn announcement(run: &Run, order: &Order, next: &[Follower]) -> Option<String> {
    let (attempt, all) = (run.attempt, u64::from(order.version.spec.retries.limit) + 1);
    match next.first()? {
        Follower::Waits { row, seat: Seat::Later(time), .. } => Some(format!(
            "attempt {attempt} of {all} failed; run {} tries again after {}",
            row.id,
            human(*time)
        )),
        Follower::Over(row) if row.task == run.task => {
            Some(format!("attempt {attempt} of {all} failed; it is not tried again: {}", row.error))
        }
        _ => None,
    }
}

/// The wait after the attempt with this number.
fn backoff(first: Duration, attempt: u32) -> Duration {
    first
        .saturating_mul(2u32.saturating_pow(attempt.saturating_sub(1).min(31)))
        .min(LONGEST_BACKOFF.max(first))
}

/// Whether an end starts what is chained to it. A run that was ended from outside has come to no end that counts.
fn starts(on: ChainOn, status: RunStatus) -> bool {
    match status {
        RunStatus::Succeeded => matches!(on, ChainOn::Success | ChainOn::Always),
        RunStatus::Failed | RunStatus::TimedOut => matches!(on, ChainOn::Failure | ChainOn::Always),
        _ => false,
    }
}
