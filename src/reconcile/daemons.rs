//! Daemons: tasks of which exactly one process is kept running.
//!
//! One loop per daemon owns its process, so that an old version has ended before a new one starts, whoever asked
//! and however often.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::act::Target;
use crate::model::id::UnitId;
use crate::model::run::{Run, RunStatus};
use crate::model::spec::{RestartPolicy, Trigger};
use crate::model::step::Generation;
use crate::model::time::human;
use crate::model::unit::Version;
use crate::plan::params;

use super::runs::{Asked, Order, Runner, StopReason, chain};

/// The wait before a daemon that ended is started again; doubles with each end in a row.
const FIRST_WAIT: Duration = Duration::from_millis(500);
/// The longest such wait.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// A daemon that ran this long has recovered: its next wait is the first one again.
const STEADY: Duration = Duration::from_secs(30);
/// Ends in a row, none steady in between, after which a daemon is in a crash loop.
pub const CRASH_LOOP: u32 = 5;

/// How a daemon fares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// Its process runs.
    Running,
    /// It ended and will be started again; the sentence says how it ended and when.
    Waiting(String),
    /// It ended [`CRASH_LOOP`] times in a row; it is still started again, after the longest wait.
    CrashLoop(String),
    /// It ended and its policy says that it stays so; `well` if with exit code 0.
    Ended {
        /// How it ended.
        how: String,
        /// Whether it ended well.
        well: bool,
    },
}

/// How a wish for a daemon came out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settled {
    /// A process of the wanted version was started, after the one before had ended; the start alone took this long.
    Started(Duration),
    /// No process is left.
    Stopped,
    /// A newer wish took its place.
    Superseded,
    /// The process could not be started; it is tried again.
    Failed(String),
    /// It could not be started, which was seen before the process of another version was ended: that one runs on.
    Refused(String),
}

/// Called whenever a daemon fares differently.
pub type Report = Box<dyn Fn(&UnitId, Health) + Send + Sync>;

/// All daemons of the service.
pub struct Daemons<T> {
    runner: Arc<Runner<T>>,
    report: Report,
    slots: Mutex<HashMap<UnitId, Slot>>,
    reached: Mutex<HashMap<UnitId, Generation>>,
    tasks: TaskTracker,
    closing: CancellationToken,
}

struct Slot {
    want: watch::Sender<Want>,
    waiting: Vec<(u64, oneshot::Sender<Settled>)>,
}

#[derive(Clone)]
struct Want {
    /// Grows with each wish that needs a restart.
    number: u64,
    version: Option<Arc<Version>>,
}

impl<T: Target> Daemons<T> {
    /// No daemons yet; `report` is called whenever one fares differently.
    #[must_use]
    pub fn new(runner: Arc<Runner<T>>, report: Report) -> Arc<Self> {
        let (slots, reached) = (Mutex::new(HashMap::new()), Mutex::new(HashMap::new()));
        Arc::new(Self {
            runner,
            report,
            slots,
            reached,
            tasks: TaskTracker::new(),
            closing: CancellationToken::new(),
        })
    }

    /// Wishes for a new process of `version` (`None`: for none), after the one that runs has ended. The answer
    /// comes when it is so. A wish of an older generation than one that was made before is refused.
    pub fn set(
        self: &Arc<Self>,
        unit: &UnitId,
        version: Option<Arc<Version>>,
        generation: Generation,
    ) -> oneshot::Receiver<Settled> {
        let (settled, answer) = oneshot::channel();
        let mut slots = self.lock();
        if !self.reaches(unit, generation) {
            let _ = settled.send(Settled::Superseded);
            return answer;
        }
        match slots.get_mut(unit) {
            Some(slot) => {
                let mut number = 0;
                slot.want.send_modify(|want| {
                    want.number += 1;
                    want.version = version;
                    number = want.number;
                });
                for (_, older) in slot.waiting.drain(..) {
                    let _ = older.send(Settled::Superseded);
                }
                slot.waiting.push((number, settled));
            }
            None if version.is_none() => {
                let _ = settled.send(Settled::Stopped);
            }
            None => {
                let (want, wanted) = watch::channel(Want { number: 0, version });
                slots.insert(unit.clone(), Slot { want, waiting: vec![(0, settled)] });
                let daemon = Daemon { all: Arc::clone(self), unit: unit.clone(), wanted };
                self.tasks.spawn(daemon.keep());
            }
        }
        answer
    }

    /// The version that the next start shall execute, without touching the process that runs.
    pub fn refresh(&self, unit: &UnitId, version: Arc<Version>) {
        if let Some(slot) = self.lock().get_mut(unit) {
            slot.want.send_modify(|want| want.version = Some(version));
        }
    }

    /// Whether a loop looks after the daemon of `unit`.
    #[must_use]
    pub fn is_supervised(&self, unit: &UnitId) -> bool {
        self.lock().get(unit).is_some_and(|slot| slot.want.borrow().version.is_some())
    }

    /// Ends all daemons and waits for it; none is started again.
    pub async fn close(&self) {
        self.closing.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    fn reaches(&self, unit: &UnitId, generation: Generation) -> bool {
        let mut reached = self.reached.lock().unwrap_or_else(PoisonError::into_inner);
        let newest = reached.entry(unit.clone()).or_insert(generation);
        *newest = (*newest).max(generation);
        *newest == generation
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<UnitId, Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A wish came to nothing: what runs is wanted on, unless a newer wish came in meanwhile.
    fn stay(&self, unit: &UnitId, number: u64, running: &Arc<Version>) {
        if let Some(slot) = self.lock().get(unit) {
            slot.want.send_if_modified(|want| {
                let is_newest = want.number == number;
                if is_newest {
                    want.version = Some(Arc::clone(running));
                }
                is_newest
            });
        }
    }

    fn settle(&self, unit: &UnitId, number: u64, how: &Settled) {
        let mut slots = self.lock();
        let Some(slot) = slots.get_mut(unit) else { return };
        let (now, later) = slot.waiting.drain(..).partition(|(waiting, _)| *waiting <= number);
        slot.waiting = later;
        for (_, waiting) in Vec::from_iter::<Vec<_>>(now) {
            let _ = waiting.send(how.clone());
        }
    }
}

/// The loop of one daemon.
struct Daemon<T> {
    all: Arc<Daemons<T>>,
    unit: UnitId,
    wanted: watch::Receiver<Want>,
}

/// Why a process is no longer waited for.
enum Next {
    /// Start what is wanted now.
    Again,
    /// kindling ends.
    Close,
}

impl<T: Target> Daemon<T> {
    async fn keep(mut self) {
        let mut ends = 0;
        loop {
            let want = self.wanted.borrow_and_update().clone();
            let Some(version) = want.version else {
                if self.leave(want.number) {
                    return;
                }
                continue;
            };
            if self.all.closing.is_cancelled() {
                return;
            }
            let asked = self.start(&version, want.number, ends < CRASH_LOOP).await;
            let began = Instant::now();
            let next = match asked {
                Ok(run) => self.follow(run, want.number, &version, began, &mut ends).await,
                Err(why) => {
                    ends += 1;
                    self.pause(want.number, &mut ends, &why).await
                }
            };
            if matches!(next, Next::Close) {
                return;
            }
        }
    }

    /// Takes the slot away, unless a new wish came in meanwhile.
    fn leave(&self, number: u64) -> bool {
        self.all.settle(&self.unit, number, &Settled::Stopped);
        let mut slots = self.all.lock();
        let still = slots.get(&self.unit).is_some_and(|slot| slot.want.borrow().version.is_none());
        if still && let Some(slot) = slots.remove(&self.unit) {
            for (_, waiting) in slot.waiting {
                let _ = waiting.send(Settled::Stopped);
            }
        }
        still
    }

    /// Starts a process; in a crash loop that alone is not told, for it may be over in a moment.
    async fn start(&self, version: &Arc<Version>, number: u64, is_told: bool) -> Result<Asked, String> {
        let began = Instant::now();
        let started = match params::resolve(&version.spec, &std::collections::BTreeMap::new()) {
            Err(problems) => Err(problems.join("; ")),
            Ok(params) => {
                let order = Order::new(Arc::clone(version), params, "daemon");
                self.all.runner.start(order, &()).await.map_err(|error| chain(&error))
            }
        };
        // A process that could not be started shows as a run that is over already.
        let started = started.and_then(|run| match run.done.borrow().as_deref() {
            Some(over) if over.process.is_none() => Err(over.error.clone()),
            _ => Ok(run.clone()),
        });
        match &started {
            Ok(_) => {
                self.all.settle(&self.unit, number, &Settled::Started(began.elapsed()));
                if is_told {
                    (self.all.report)(&self.unit, Health::Running);
                }
            }
            Err(why) => self.all.settle(&self.unit, number, &Settled::Failed(why.clone())),
        }
        started
    }

    /// Waits until the process ended or another is wanted.
    async fn follow(
        &mut self,
        mut run: Asked,
        mut number: u64,
        version: &Arc<Version>,
        began: Instant,
        ends: &mut u32,
    ) -> Next {
        let mut is_told = *ends < CRASH_LOOP;
        // Cancel safe: every branch waits on a watch or a token, which keep their value, or until a moment.
        let over = loop {
            tokio::select! {
                over = run.end() => break over,
                () = tokio::time::sleep_until(began + STEADY), if !is_told => {
                    is_told = true;
                    (self.all.report)(&self.unit, Health::Running);
                }
                () = newer(&mut self.wanted, number) => {
                    if let Some(refused) = self.refuse(version).await {
                        number = refused;
                        continue;
                    }
                    self.all.runner.stop(&run.id, StopReason::Replaced);
                    run.end().await;
                    *ends = 0;
                    return Next::Again;
                }
                () = self.all.closing.cancelled() => {
                    self.all.runner.stop(&run.id, StopReason::Closing);
                    run.end().await;
                    return Next::Close;
                }
            }
        };
        let how = over.as_deref().map_or_else(|| "its end was not seen".into(), describe);
        if !starts_again(version, over.as_deref()) {
            let well = over.as_deref().is_some_and(|run| run.status == RunStatus::Succeeded);
            (self.all.report)(&self.unit, Health::Ended { how, well });
            return self.rest(number).await;
        }
        *ends = if began.elapsed() >= STEADY { 1 } else { *ends + 1 };
        self.pause(number, ends, &how).await
    }

    /// Looks whether the version that is wanted now could be started at all. If not, `running` stays, and the number of
    /// the wish that came to nothing is given back.
    async fn refuse(&self, running: &Arc<Version>) -> Option<u64> {
        let want = self.wanted.borrow().clone();
        let new = want.version.as_ref().filter(|new| new.hash != running.hash)?;
        let why = self.all.runner.ready(new).await.err()?;
        self.all.stay(&self.unit, want.number, running);
        self.all.settle(&self.unit, want.number, &Settled::Refused(why));
        Some(want.number)
    }

    /// Waits before the next start, or for another wish.
    async fn pause(&mut self, number: u64, ends: &mut u32, how: &str) -> Next {
        let wait = wait_after(*ends);
        let sentence = format!("{how}; it is started again after {}", human(wait));
        let health = if *ends >= CRASH_LOOP {
            Health::CrashLoop(format!("it ended {ends} times in a row: {sentence}"))
        } else {
            Health::Waiting(sentence)
        };
        (self.all.report)(&self.unit, health);
        tokio::select! {
            () = tokio::time::sleep(wait) => Next::Again,
            () = newer(&mut self.wanted, number) => {
                // What was wrong with another version says nothing of this one.
                *ends = 0;
                Next::Again
            }
            () = self.all.closing.cancelled() => Next::Close,
        }
    }

    async fn rest(&mut self, number: u64) -> Next {
        tokio::select! {
            () = newer(&mut self.wanted, number) => Next::Again,
            () = self.all.closing.cancelled() => Next::Close,
        }
    }
}

/// Waits for a wish that needs a restart. Ends too when nobody can wish any more, which `Daemons` prevents by
/// keeping the sender as long as the loop runs.
async fn newer(wanted: &mut watch::Receiver<Want>, number: u64) {
    let _ = wanted.wait_for(|want| want.number > number).await;
}

fn wait_after(ends: u32) -> Duration {
    FIRST_WAIT.saturating_mul(2u32.saturating_pow(ends.saturating_sub(1).min(16))).min(LONGEST_WAIT)
}

fn starts_again(version: &Version, over: Option<&Run>) -> bool {
    match &version.spec.trigger {
        Trigger::Daemon(RestartPolicy::Always) => true,
        Trigger::Daemon(RestartPolicy::OnFailure) => {
            over.is_none_or(|run| run.status != RunStatus::Succeeded)
        }
        Trigger::Daemon(RestartPolicy::Never)
        | Trigger::Manual
        | Trigger::Cron(_)
        | Trigger::Chain(_)
        | Trigger::Webhook(_) => false,
    }
}

fn describe(run: &Run) -> String {
    match run.status {
        RunStatus::Succeeded => "it ended with exit code 0".into(),
        _ => run.error.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_minute() {
        assert_eq!(wait_after(1), FIRST_WAIT);
        assert_eq!(wait_after(4), Duration::from_secs(4));
        assert_eq!(wait_after(100), LONGEST_WAIT);
    }
}
