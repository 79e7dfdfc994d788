//! What is counted while the service runs. In memory only: after a start it begins at nothing.
//!
//! A source has one set of counters, a unit none of its own but for calls of its webhook, so that what is kept grows with
//! sources and webhooks alone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::model::history::{HistoryRow, Outcome};
use crate::model::id::{SourceName, UnitId};
use crate::model::run::Run;
use crate::model::step::Rule;

/// Upper bounds of the buckets of a histogram, in seconds.
pub const BOUNDS: [f64; 12] = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0, 60.0];

/// How often something took how long.
#[derive(Clone, Debug, Default)]
pub struct Histogram {
    /// How many fell between one bound and the one before.
    pub buckets: [u64; BOUNDS.len()],
    /// All together, in seconds.
    pub sum: f64,
    /// How many.
    pub count: u64,
}

impl Histogram {
    /// Counts one.
    pub fn add(&mut self, took: Duration) {
        let seconds = took.as_secs_f64();
        if let Some(at) = BOUNDS.iter().position(|bound| seconds <= *bound) {
            self.buckets[at] += 1;
        }
        self.sum += seconds;
        self.count += 1;
    }

    fn merge(&mut self, other: &Self) {
        self.buckets.iter_mut().zip(other.buckets).for_each(|(bucket, more)| *bucket += more);
        self.sum += other.sum;
        self.count += other.count;
    }
}

/// What was counted of one source.
#[derive(Clone, Debug, Default)]
pub struct Series {
    /// `git` or `local`.
    pub kind: &'static str,
    /// Time of its passes.
    pub passes: Histogram,
    /// Steps by action and outcome.
    pub steps: BTreeMap<(&'static str, &'static str), u64>,
    /// Looks at its repository, by `probe` or `fetch` and by outcome.
    pub looks: BTreeMap<(&'static str, &'static str), u64>,
    /// Steps that found drift.
    pub drift_detected: u64,
    /// Those that corrected it.
    pub drift_corrected: u64,
    /// Runs by how they ended.
    pub runs: BTreeMap<&'static str, u64>,
    /// Deliveries of its webhook, by what they were told.
    pub deliveries: BTreeMap<&'static str, u64>,
    /// Commits that no delivery named.
    pub missed: u64,
    /// What commits were to be told, by how that ended.
    pub statuses: BTreeMap<&'static str, u64>,
    /// Passes that wait or are under way, and since when there is one.
    waiting: Option<(usize, Instant)>,
}

/// All that was counted.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// By source.
    pub sources: BTreeMap<SourceName, Series>,
    /// Calls of task webhooks by unit and by what became of them.
    pub hooks: BTreeMap<UnitId, BTreeMap<&'static str, u64>>,
    /// Time of looks at repositories, by `probe` or `fetch`.
    pub looks: BTreeMap<&'static str, Histogram>,
    /// Time of the phases of steps that took effect.
    pub phases: BTreeMap<String, Histogram>,
    /// Deliveries without a right signature.
    pub refused: u64,
    /// Passes that wait or are under way.
    pub waiting: usize,
    /// For how long the oldest of them has waited.
    pub oldest: Duration,
}

/// What the rows of one recording add, counted before they are handed over: only what was recorded counts.
#[derive(Debug, Default)]
pub(super) struct Tally {
    steps: BTreeMap<(&'static str, &'static str), u64>,
    drift_detected: u64,
    drift_corrected: u64,
    phases: BTreeMap<String, Histogram>,
}

impl Tally {
    pub(super) fn of(rows: &[HistoryRow]) -> Self {
        let mut tally = Self::default();
        for row in rows {
            let action = if row.rule == Rule::Rollback { "rollback" } else { row.action.as_str() };
            *tally.steps.entry((action, row.outcome.as_str())).or_default() += 1;
            let is_ok = row.outcome == Outcome::Succeeded;
            tally.drift_detected += u64::from(row.rule == Rule::Drifted);
            tally.drift_corrected += u64::from(row.rule == Rule::Drifted && is_ok);
            for (phase, ms) in row.phases.iter().filter(|_| is_ok) {
                let took = Duration::try_from_secs_f64(ms / 1e3).unwrap_or_default();
                match tally.phases.get_mut(phase) {
                    Some(times) => times.add(took),
                    None => tally.phases.entry(phase.clone()).or_default().add(took),
                }
            }
        }
        tally
    }
}

/// The counters. Cheap to clone: all clones are one.
#[derive(Clone, Debug, Default)]
pub struct Metrics(Arc<Mutex<Counts>>);

impl Metrics {
    /// What was counted, of these sources, and of the units that `is_there` knows; the counters of others are dropped.
    #[must_use]
    pub fn counts(&self, there: &BTreeSet<SourceName>, is_there: impl Fn(&UnitId) -> bool) -> Counts {
        let mut counts = self.lock();
        counts.hooks.retain(|unit, _| is_there(unit));
        counts.sources.retain(|name, _| there.contains(name));
        let waiting = counts.sources.values().filter_map(|series| series.waiting);
        let (depth, oldest) = waiting.fold((0, Duration::ZERO), |(depth, oldest), (many, since)| {
            (depth + many, oldest.max(since.elapsed()))
        });
        Counts { waiting: depth, oldest, ..counts.clone() }
    }

    /// A pass over a source is over.
    pub(super) fn passed(&self, source: &SourceName, kind: &'static str, took: Duration) {
        let mut counts = self.lock();
        let series = counts.of(source);
        series.kind = kind;
        series.passes.add(took);
    }

    /// A pass found nothing.
    pub(super) fn found_nothing(&self, source: &SourceName) {
        *self.lock().of(source).steps.entry(("noop", Outcome::Succeeded.as_str())).or_default() += 1;
    }

    /// A repository was looked at.
    pub(super) fn looked(&self, source: &SourceName, op: &'static str, is_ok: bool, took: Duration) {
        let mut counts = self.lock();
        let result = if is_ok { Outcome::Succeeded } else { Outcome::Failed };
        *counts.of(source).looks.entry((op, result.as_str())).or_default() += 1;
        counts.looks.entry(op).or_default().add(took);
    }

    /// So many passes of a source wait or are under way.
    pub(super) fn waiting(&self, source: &SourceName, many: usize) {
        let mut counts = self.lock();
        let series = counts.of(source);
        let since = series.waiting.map_or_else(Instant::now, |(_, since)| since);
        series.waiting = (many > 0).then_some((many, since));
    }

    /// Steps are over, and were recorded.
    pub(super) fn recorded(&self, source: &SourceName, tally: Tally) {
        let Tally { steps, drift_detected, drift_corrected, phases } = tally;
        if steps.is_empty() {
            return;
        }
        let mut counts = self.lock();
        for (phase, times) in phases {
            counts.phases.entry(phase).or_default().merge(&times);
        }
        let series = counts.of(source);
        for (step, many) in steps {
            *series.steps.entry(step).or_default() += many;
        }
        series.drift_detected += drift_detected;
        series.drift_corrected += drift_corrected;
    }

    /// A run is over.
    pub(super) fn ran(&self, run: &Run) {
        *self.lock().of(&run.task.source).runs.entry(run.status.as_str()).or_default() += 1;
    }

    /// A delivery was told this: a verdict, or that it is a duplicate.
    pub fn delivered(&self, source: &SourceName, outcome: &'static str) {
        *self.lock().of(source).deliveries.entry(outcome).or_default() += 1;
    }

    /// A delivery had no right signature.
    pub fn refused(&self) {
        self.lock().refused += 1;
    }

    /// No delivery named a commit.
    pub(super) fn missed(&self, source: &SourceName) {
        self.lock().of(source).missed += 1;
    }

    /// A commit was to be told how it fares.
    pub(super) fn told(&self, source: &SourceName, result: &'static str) {
        *self.lock().of(source).statuses.entry(result).or_default() += 1;
    }

    /// The webhook of a task was called; `result` is a word of ours.
    pub fn hooked(&self, unit: &UnitId, result: &'static str) {
        let mut counts = self.lock();
        match counts.hooks.get_mut(unit) {
            Some(of) => *of.entry(result).or_default() += 1,
            None => drop(counts.hooks.insert(unit.clone(), BTreeMap::from([(result, 1)]))),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counts {
    fn of(&mut self, source: &SourceName) -> &mut Series {
        self.sources.entry(source.clone()).or_default()
    }
}
