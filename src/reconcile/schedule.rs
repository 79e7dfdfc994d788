//! Schedules: fires tasks by the clock. One loop with one timer for all of them.
//!
//! Which times are due is decided in `plan::schedule`; a run is started by [`Core::fire`], in one transaction with the
//! mark that the time has fired. So whatever ends the service, no time fires twice, and what was due and is not marked
//! is due still.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::act::Target;
use crate::model::cron::{Cron, Zone};
use crate::model::id::UnitId;
use crate::model::spec::{Schedule, Trigger};
use crate::model::time::Timestamp;
use crate::model::unit::Version;
use crate::plan::schedule::{Due, due, since};
use crate::record::CronState;

use super::core::Core;
use super::fire::Fire;
use super::message::{Refusal, RefusalKind};
use super::runs::chain;

/// Longest time that the loop sleeps: a clock that is set, or a machine that slept, is noticed after it.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);
/// How long the first passes are waited for before any time fires, so that what is gone meanwhile does not.
const FIRST_PASSES: Duration = Duration::from_secs(5);
/// Time between two looks at whether they are done.
const FIRST_PASSES_LOOK: Duration = Duration::from_millis(50);
/// Time between two attempts while the store cannot be written.
const STORE_RETRY: Duration = Duration::from_secs(1);
/// Runs that are being started at once.
const STARTS: usize = 16;
/// Changes of the registry that are taken together.
const CHANGES: usize = 1024;

/// When tasks ran and run by the clock, as it is shown. Clones are one.
#[derive(Clone, Debug, Default)]
pub struct Schedules(Arc<RwLock<HashMap<UnitId, Times>>>);

/// The times of one task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Times {
    /// The next one.
    pub next: Option<Timestamp>,
    /// The last one that fired.
    pub last: Option<Timestamp>,
}

impl Schedules {
    /// The times of a task; `None` where it does not run by the clock.
    #[must_use]
    pub fn get(&self, unit: &UnitId) -> Option<Times> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(unit).copied()
    }

    fn put(&self, unit: &UnitId, times: Option<Times>) {
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        match times {
            Some(times) => drop(all.insert(unit.clone(), times)),
            None => drop(all.remove(unit)),
        }
    }
}

/// What a task's schedule is known by: another expression or another zone is another schedule.
fn name_of(schedule: &Schedule) -> String {
    format!("{}\n{}", schedule.expression, schedule.timezone.as_deref().unwrap_or_default())
}

fn schedule_of(version: &Version) -> Option<&Schedule> {
    match &version.spec.trigger {
        Trigger::Cron(schedule) => Some(schedule),
        _ => None,
    }
}

/// Fires tasks by the clock until the service ends.
pub(super) async fn run<T: Target>(core: Arc<Core<T>>) {
    // What starts meanwhile is told; what was there before is known when it begins.
    first_passes(&core).await;
    let Some(recorded) = recorded(&core).await else { return };
    let (versions, mut changes) = core.registry.listen(|version| schedule_of(version).is_some());
    let mut clock = Clockwork::new(core);
    clock.begin(&versions, recorded).await;
    drop(versions);
    let mut changed = Vec::with_capacity(CHANGES);
    loop {
        let until = clock.sleeps_until();
        // Cancel safe: each branch leaves what it waits for as it is when another one wins.
        tokio::select! {
            biased;
            () = clock.core.closing.cancelled() => break,
            _ = changes.recv_many(&mut changed, CHANGES) => clock.changed(&mut changed).await,
            Some(fired) = clock.fires.join_next() => clock.fired(fired.ok()),
            () = tokio::time::sleep_until(until) => clock.tick().await,
        }
    }
    while clock.fires.join_next().await.is_some() {}
}

/// Waits until every source was looked at, but not for ever.
async fn first_passes<T: Target>(core: &Core<T>) {
    let is_done = || {
        let looked = |name| core.board.is_looked_at(name);
        core.board.sources().iter().all(|source| source.suspended.is_some() || looked(&source.spec.name))
    };
    let waiting = async {
        while !is_done() {
            tokio::time::sleep(FIRST_PASSES_LOOK).await;
        }
    };
    tokio::select! {
        () = waiting => {}
        () = tokio::time::sleep(FIRST_PASSES) => {}
        () = core.closing.cancelled() => {}
    }
}

/// What the store has of schedules; `None` when the service ends.
async fn recorded<T: Target>(core: &Core<T>) -> Option<HashMap<UnitId, CronState>> {
    loop {
        match core.store.cron_states().await {
            Ok(states) => return Some(states),
            Err(error) => tracing::error!("{} (trying again)", chain(&error)),
        }
        tokio::select! {
            () = tokio::time::sleep(STORE_RETRY) => {}
            () = core.closing.cancelled() => return None,
        }
    }
}

/// One schedule.
struct Entry {
    schedule: Schedule,
    name: String,
    cron: Cron,
    /// `None` for the machine's, which may change.
    zone: Option<Zone>,
    /// No time up to this one is due any more.
    settled: Timestamp,
    fired: Option<Timestamp>,
    /// The newest of its places in the queue; older ones count no more.
    ticket: u64,
    /// Whether times of it are being fired.
    is_firing: bool,
    /// Whether the last attempt failed, which was said.
    failed: bool,
}

impl Entry {
    fn zone(&self) -> Zone {
        self.zone.clone().unwrap_or_else(Zone::machine)
    }

    fn state(&self, unit: &UnitId) -> CronState {
        CronState {
            unit: unit.clone(),
            schedule: self.name.clone(),
            settled_at: self.settled,
            fired_at: self.fired,
        }
    }
}

/// What came of the times of one entry.
struct Fired {
    unit: UnitId,
    ticket: u64,
    /// The last time that was fired, or that nothing can be done about.
    settled: Option<Timestamp>,
    fired: Option<Timestamp>,
    /// Whether a later attempt may go better.
    failed: bool,
}

/// All schedules, and when each is looked at next.
struct Clockwork<T> {
    core: Arc<Core<T>>,
    entries: HashMap<UnitId, Entry>,
    queue: BinaryHeap<Reverse<(Timestamp, u64, UnitId)>>,
    fires: JoinSet<Fired>,
    starts: Arc<Semaphore>,
    tickets: u64,
    /// The time at the last look.
    seen: Timestamp,
}

impl<T: Target> Clockwork<T> {
    fn new(core: Arc<Core<T>>) -> Self {
        let seen = core.now();
        Self {
            core,
            entries: HashMap::new(),
            queue: BinaryHeap::new(),
            fires: JoinSet::new(),
            starts: Arc::new(Semaphore::new(STARTS)),
            tickets: 0,
            seen,
        }
    }

    /// Takes up what is registered where the store says that it was left.
    async fn begin(&mut self, versions: &[Arc<Version>], mut recorded: HashMap<UnitId, CronState>) {
        let mut new = Vec::new();
        for version in versions {
            let state = recorded.remove(&version.unit);
            new.extend(self.take(version, state));
        }
        self.record(&new).await;
    }

    fn sleeps_until(&self) -> Instant {
        let next = self.queue.peek().map(|Reverse((at, ..))| at.since(self.core.now()));
        Instant::now() + next.map_or(LONGEST_SLEEP, |next| next.min(LONGEST_SLEEP))
    }

    /// Takes in what is registered now of units of which that changed.
    async fn changed(&mut self, units: &mut Vec<UnitId>) {
        let mut new = Vec::new();
        for unit in units.drain(..) {
            match self.core.registry.get(&unit).filter(|version| schedule_of(version).is_some()) {
                Some(version) => new.extend(self.take(&version, None)),
                None => {
                    if self.entries.remove(&unit).is_some() {
                        self.core.schedules.put(&unit, None);
                    }
                }
            }
        }
        self.record(&new).await;
    }

    /// Takes up a schedule; gives back its state where it is a new one. The same schedule goes on, another one begins
    /// now.
    fn take(&mut self, version: &Version, state: Option<CronState>) -> Option<CronState> {
        let (unit, schedule) = (&version.unit, schedule_of(version)?);
        let name = name_of(schedule);
        if let Some(known) = self.entries.get_mut(unit).filter(|known| known.name == name) {
            known.schedule = schedule.clone();
            return None;
        }
        let cron = match schedule.expression.parse() {
            Ok(cron) => cron,
            Err(error) => {
                // Only what another kindling read can be so.
                tracing::error!("task {unit} does not run by the clock: its expression {error}");
                return None;
            }
        };
        let state = state.filter(|state| state.schedule == name);
        let now = self.core.now();
        let entry = Entry {
            schedule: schedule.clone(),
            name,
            cron,
            zone: schedule.timezone.as_deref().and_then(Zone::of_machine),
            settled: state.as_ref().map_or(now, |state| since(&cron, state.settled_at, now)),
            fired: state.as_ref().and_then(|state| state.fired_at),
            ticket: 0,
            is_firing: false,
            failed: false,
        };
        let new = state.is_none().then(|| entry.state(unit));
        self.entries.insert(unit.clone(), entry);
        self.enqueue(unit, None);
        new
    }

    /// Notes when an entry is looked at next: at its next time, or at `at`.
    fn enqueue(&mut self, unit: &UnitId, at: Option<Timestamp>) {
        let Some(entry) = self.entries.get_mut(unit) else { return };
        self.tickets += 1;
        entry.ticket = self.tickets;
        let next = entry.cron.next(entry.settled, &entry.zone());
        self.core.schedules.put(unit, Some(Times { next, last: entry.fired }));
        if let Some(at) = at.or(next) {
            self.queue.push(Reverse((at, self.tickets, unit.clone())));
        }
    }

    /// Fires what is due.
    async fn tick(&mut self) {
        let now = self.core.now();
        if now < self.seen {
            self.set_back(now);
        }
        self.seen = now;
        let mut skipped = Vec::new();
        while let Some(Reverse((at, ..))) = self.queue.peek()
            && *at <= now
            && let Some(Reverse((_, ticket, unit))) = self.queue.pop()
        {
            let Some(entry) = self.entries.get_mut(&unit) else { continue };
            if entry.ticket != ticket || entry.is_firing {
                continue;
            }
            let due = due(&entry.cron, &entry.zone(), entry.schedule.catch_up, entry.settled, now);
            let is_suspended = self.core.board.is_suspended(&unit);
            if due.times.is_empty() || is_suspended {
                entry.settled = entry.settled.max(now);
                // What passes while a person stopped it is not missed.
                skipped.extend(is_suspended.then(|| entry.state(&unit)));
                self.enqueue(&unit, None);
            } else {
                self.fire(unit, due);
            }
        }
        self.record(&skipped).await;
    }

    /// The clock was set back: every schedule is looked at anew.
    fn set_back(&mut self, now: Timestamp) {
        let units: Vec<UnitId> = self.entries.keys().cloned().collect();
        for unit in units {
            if let Some(entry) = self.entries.get_mut(&unit).filter(|entry| !entry.is_firing) {
                entry.settled = since(&entry.cron, entry.settled, now);
                self.enqueue(&unit, None);
            }
        }
    }

    fn fire(&mut self, unit: UnitId, due: Due) {
        let Some(entry) = self.entries.get_mut(&unit) else { return };
        entry.is_firing = true;
        let (state, said) = (entry.state(&unit), entry.failed);
        let (core, starts, ticket) = (Arc::clone(&self.core), Arc::clone(&self.starts), entry.ticket);
        self.fires.spawn(async move {
            let mut fired = Fired { unit, ticket, settled: None, fired: None, failed: false };
            if let Some(why) = fire_all(&core, &starts, due, &state, &mut fired).await {
                fired.failed = true;
                if !said {
                    tracing::error!("task {} was not started by the clock: {why} (trying again)", fired.unit);
                }
            }
            fired
        });
    }

    /// Takes in what came of times that were fired.
    fn fired(&mut self, fired: Option<Fired>) {
        let Some(Fired { unit, ticket, settled, fired, failed }) = fired else { return };
        // One that was replaced meanwhile began anew.
        let Some(entry) = self.entries.get_mut(&unit).filter(|entry| entry.ticket == ticket) else { return };
        (entry.is_firing, entry.failed) = (false, failed);
        entry.settled = since(&entry.cron, settled.unwrap_or(entry.settled), self.core.now());
        entry.fired = fired.or(entry.fired);
        let again = failed.then(|| self.core.now().plus(STORE_RETRY));
        self.enqueue(&unit, again);
    }

    /// Writes states down of which no run is recorded.
    async fn record(&self, states: &[CronState]) {
        if let Err(error) = self.core.store.put_cron_states(states).await {
            // The next time that fires records it.
            tracing::error!("{}", chain(&error));
        }
    }
}

/// Fires times of one task in their order. While it catches up, each waits for the run before. Gives back why a later
/// attempt is needed.
async fn fire_all<T: Target>(
    core: &Core<T>,
    starts: &Semaphore,
    due: Due,
    state: &CronState,
    fired: &mut Fired,
) -> Option<Refusal> {
    let nothing = BTreeMap::new();
    let last = due.times.last().copied();
    for at in due.times {
        if core.closing.is_cancelled() || !is_wanted(core, state) {
            break;
        }
        let Ok(permit) = starts.acquire().await else { break };
        let mark = CronState { settled_at: at, fired_at: Some(at), ..state.clone() };
        let fire = Fire { trigger: "cron", detail: at.to_string(), params: &nothing, input: "null".into() };
        let asked = core.fire(&fired.unit, fire, &mark).await;
        drop(permit);
        match asked {
            Ok(mut asked) => {
                (fired.settled, fired.fired) = (Some(at), Some(at));
                if due.is_catching_up && Some(at) != last {
                    tokio::select! {
                        _ = asked.end() => {}
                        () = core.closing.cancelled() => break,
                    }
                }
            }
            Err(refusal) if refusal.kind == RefusalKind::Failed => return Some(refusal),
            Err(refusal) => {
                tracing::warn!("task {} was not started at {at}: {refusal}", fired.unit);
                fired.settled = Some(at);
            }
        }
    }
    None
}

/// Whether a task is still to run by the schedule that a time comes from.
fn is_wanted<T: Target>(core: &Core<T>, state: &CronState) -> bool {
    let live = core.registry.get(&state.unit);
    let is_same = live.as_deref().and_then(schedule_of).is_some_and(|live| name_of(live) == state.schedule);
    is_same && !core.board.is_suspended(&state.unit)
}
