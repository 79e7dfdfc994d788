//! The pass: observe, discover, resolve, hash, inspect, diff, decide, act, record, report (DESIGN 2).
//!
//! It is told nothing about what changed; it finds out. Observing happens in the source's loop, which hands the
//! observation in.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::act::Target;
use crate::model::history::{Phases, TriggerKind};
use crate::model::id::UnitId;
use crate::model::path::RelPath;
use crate::model::problem::{Problem, Reason};
use crate::model::step::{Action, Step};
use crate::model::tree::{Changes, Tree};
use crate::model::unit::Version;
use crate::observe::{Observation, ReadRefusal, Reading, Sink, Source, Want};
use crate::plan::catalog::{Entry, Resolved, is_within};
use crate::plan::decide::{self, Facts, Live};
use crate::plan::discover::{self, FileRead, Input, Need, Reads};
use crate::plan::nested::Repositories;
use crate::plan::{guard, stray};

use super::message::{Done, Look, PassOrder, Refusal, RefusalKind, Report};
use super::source_loop::SourceLoop;
use super::trouble::held_back;
use super::units::Unit;
use crate::record::UnitRecord;

/// Rounds of discovery before it is given up (DESIGN 2).
pub const MOST_ROUNDS: usize = 16;
/// Changed paths above which a discovery leaves the loop's own thread.
const INLINE_PATHS: usize = 64;

/// Refused names that the log tells of one pass at most.
const MOST_STRAYS: usize = 10;

/// Time to the next look at a file that was being written while it was read.
const AGAIN: Duration = Duration::from_millis(50);

/// What was decided about one unit.
pub(super) struct Decision {
    pub key: Arc<str>,
    pub verdict: Verdict,
}

pub(super) enum Verdict {
    /// Nothing but what the step says, with the version to deploy.
    Step(Step, Option<Arc<Version>>),
    /// The unit is broken; its last good version stays.
    Broken(Vec<Problem>),
}

impl<S: Source, T: Target> SourceLoop<S, T> {
    /// One pass. Without an observation only units are decided that wait for something.
    pub(super) async fn pass(
        &mut self,
        order: &PassOrder,
        looked: Option<(Observation, Duration)>,
    ) -> Result<Report, Refusal> {
        let mut phases: Phases = Vec::new();
        let observed = looked.is_some();
        if let Some((observation, took)) = looked {
            phases.extend(self.announced.phases());
            phases.push((if self.is_local() { "observe" } else { "fetch" }, took));
            if self.is_guarded(order, &observation) {
                return Err(self.stall_on_rewrite(order, observation).await);
            }
            let began = Instant::now();
            self.take_in(observation).await?;
            phases.push(("hash", began.elapsed()));
        }
        let began = Instant::now();
        let decisions = self.decide_all(order);
        phases.push(("decide", began.elapsed()));
        if order.dry {
            if !self.undecided.is_empty() {
                // The look took in what would have woken a pass.
                self.pass_after(Duration::ZERO, Look::Away);
            }
            let name = &self.record.spec.name;
            let of_source: Vec<_> = self.catalog.homeless_problems().cloned().collect();
            let of_sources = if of_source.is_empty() { Vec::new() } else { vec![(name.clone(), of_source)] };
            let gone = self.needs_permission(order, &decisions);
            let guarded = gone.map(|gone| (name.clone(), held_back(name, &gone))).into_iter().collect();
            return Ok(Report { of_sources, guarded, ..report_of(name, &decisions, &[]) });
        }
        let (decisions, mut held) = self.hold_doubtful(order, decisions);
        let (decisions, waiting) = self.hold_chained(order, decisions);
        held.extend(waiting);
        if let Some(gone) = self.needs_permission(order, &decisions) {
            return Err(self.stall_on_removals(&gone).await);
        }
        self.tell_begin(&decisions);
        let (done, decisions) = self.act(order, decisions, phases).await?;
        let undecided = std::mem::take(&mut self.undecided);
        self.undecided =
            undecided.iter().filter(|key| self.is_unread(key) || held.contains(*key)).cloned().collect();
        let recorded = self.record_pass(order, done, observed).await;
        if recorded.is_err() {
            self.undecided.extend(undecided);
        }
        self.tell_others();
        Ok(report_of(&self.record.spec.name, &decisions, &recorded?))
    }

    /// Discovers, resolves and hashes what an observation changed; afterwards the catalog knows it.
    async fn take_in(&mut self, observation: Observation) -> Result<(), Refusal> {
        let Observation { tree, changes, revision, rewritten } = observation;
        self.pending.add(changes);
        if self.revision != revision {
            self.rewritten = rewritten;
        }
        self.revision = revision;
        if !self.nested.is_empty() {
            self.own_tree = Some(Arc::clone(&tree));
        }
        if self.pending.is_none() {
            self.first_pass_done = true;
            return Ok(());
        }
        let mut reads = Reads::default();
        let own = tree;
        let (mut tree, mut repositories) = self.whole_tree(&own);
        for _ in 0..MOST_ROUNDS {
            let round = self.discover(&tree, &repositories, &mut reads).await?;
            if round.is_complete() {
                self.learn(round, &tree);
                self.note_strays(stray::strays(&tree, &self.catalog));
                self.close_nested().await;
                return Ok(());
            }
            if !round.repositories.is_empty() {
                self.own_tree = Some(Arc::clone(&own));
                self.open_nested(&round.repositories).await;
                (tree, repositories) = self.whole_tree(&own);
            }
            self.read(round.needs, &mut reads).await?;
        }
        Err(Refusal::new(
            RefusalKind::Failed,
            format!("the units were not found within {MOST_ROUNDS} rounds"),
        ))
    }

    async fn discover(
        &mut self,
        tree: &Arc<Tree>,
        repositories: &Repositories,
        reads: &mut Reads,
    ) -> Result<discover::Round, Refusal> {
        let large = match &self.pending {
            Changes::All => true,
            Changes::Paths(paths) => paths.len() > INLINE_PATHS,
        };
        // References of sets for dev mode count while it is on.
        let dev = self.record.dev.is_some() || self.is_trial;
        if !large {
            let (changes, catalog, limits) = (&self.pending, &self.catalog, &*self.core.limits.get());
            return Ok(discover::discover(
                &Input { tree, changes, catalog, limits, dev, repositories },
                reads,
            ));
        }
        let (tree, changes) = (Arc::clone(tree), self.pending.clone());
        let (catalog, limits) = (std::mem::take(&mut self.catalog), self.core.limits.get());
        let (mut known, repositories) = (std::mem::take(reads), repositories.clone());
        let work = tokio::task::spawn_blocking(move || {
            let input = Input {
                tree: &tree,
                changes: &changes,
                catalog: &catalog,
                limits: &limits,
                dev,
                repositories: &repositories,
            };
            let round = discover::discover(&input, &mut known);
            (round, catalog, known)
        });
        let (round, catalog, known) = work.await.map_err(|_| {
            self.pending = Changes::All;
            Refusal::new(RefusalKind::Failed, "looking for units ended early")
        })?;
        (self.catalog, *reads) = (catalog, known);
        Ok(round)
    }

    async fn read(&mut self, needs: Vec<Need>, reads: &mut Reads) -> Result<(), Refusal> {
        let wants = needs.into_iter().map(|need| Want { path: need.path, bytes: need.bytes, max: need.max });
        for reading in self.read_from_source(wants.collect()).await? {
            reads.insert(reading.path.clone(), file_read(reading));
        }
        Ok(())
    }

    /// Reads files of the source; their contents are in the store afterwards.
    pub(super) async fn read_from_source(&mut self, wants: Vec<Want>) -> Result<Vec<Reading>, Refusal> {
        let blobs = self.core.blobs.clone();
        let sink: Sink = Arc::new(move |hash, bytes| blobs.put(hash, bytes));
        let (elsewhere, own): (Vec<Want>, Vec<Want>) =
            wants.into_iter().partition(|want| want.path.mount_point().is_some());
        let mut readings = Vec::new();
        if !elsewhere.is_empty() {
            match self.nested.read(elsewhere, &sink).await {
                Ok(read) => readings = read,
                Err(error) => return Err(self.read_failed(&error).await),
            }
        }
        if own.is_empty() {
            return Ok(readings);
        }
        let Some(source) = &mut self.source else {
            return Err(Refusal::new(RefusalKind::Failed, "the source is being looked at"));
        };
        match source.read(own, sink).await {
            Ok(read) => {
                readings.extend(read);
                Ok(readings)
            }
            Err(error) => Err(self.read_failed(&error).await),
        }
    }

    /// Takes a complete discovery into the catalog and notes which units are to be decided.
    fn learn(&mut self, round: discover::Round, tree: &Tree) {
        if self.is_local() {
            self.doubts.note(&round.found, &self.catalog, Instant::now());
        }
        self.undecided.extend(round.found.keys().cloned());
        for set in round.found.healed(&self.catalog) {
            // What it does not declare any more is gone.
            self.undecided.extend(self.units.keys().filter(|key| is_within(key, set)).cloned());
        }
        if !self.first_pass_done {
            self.undecided.extend(self.units.keys().cloned());
            self.note_vanished(&round.found);
        }
        let rechained = self.before_chains(&round.found);
        let (paths, changed) =
            (self.before_hooks(&round.found), round.found.keys().cloned().collect::<Vec<_>>());
        self.catalog.apply(round.found);
        self.doubts.keep(&self.catalog, tree);
        self.after_chains(rechained);
        self.after_hooks(paths, &changed);
        self.first_pass_done = true;
        self.unread = round.later.iter().map(|later| later.key.clone()).collect();
        let later: BTreeSet<RelPath> = round.later.into_iter().map(|later| later.path).collect();
        // What was looked at in another repository wakes a pass of its own.
        if later.iter().any(|path| path.mount_point().is_none()) {
            self.pass_after(AGAIN, Look::Hinted);
        }
        self.pending = Changes::Paths(later);
    }

    /// Takes note of names that are refused in no unit: the log tells once, the source as long as they are there.
    fn note_strays(&mut self, strays: Vec<Problem>) {
        let new = strays.iter().filter(|stray| !self.strays.contains(stray));
        for stray in new.take(MOST_STRAYS) {
            tracing::warn!("source {}: {stray}", self.record.spec.name);
        }
        self.strays = strays;
    }

    /// Whether a unit was being written when it was read: nothing is decided about it, least of all that it is gone.
    pub(super) fn is_unread(&self, key: &Arc<str>) -> bool {
        self.unread.contains(&Some(Arc::clone(key)))
            || (self.unread.contains(&None) && self.catalog.dir_of(key).is_none())
    }

    /// What is to be decided: what changed, what waits for another attempt, what drifted, what a person named.
    fn keys_to_decide(&mut self, order: &PassOrder) -> BTreeSet<Arc<str>> {
        let mut keys: BTreeSet<Arc<str>> =
            self.undecided.iter().filter(|key| !self.is_unread(key)).cloned().collect();
        keys.extend(self.retries_due(self.core.now()));
        // A push does not wait for a look at units that it did not change; the next poll takes it (DESIGN 2).
        if order.look >= Look::Full && order.cause.kind != TriggerKind::Webhook {
            keys.extend(self.drifted());
        }
        if order.dry {
            // Whoever asks what a pass would do is told what keeps it from doing anything.
            let broken = self.units.restless().filter(|unit| !unit.record.problems.is_empty());
            keys.extend(broken.map(|unit| Arc::clone(&unit.record.id.key)));
        }
        match (&order.unit, order.force) {
            (Some(key), _) => {
                keys.insert(Arc::clone(key));
            }
            (None, true) => keys.extend(self.units.keys().cloned()),
            (None, false) => {}
        }
        keys
    }

    /// Units of which something else is there than was recorded, or that wait for what is no part of the source: an
    /// interpreter, a line in kindling.yaml, or a task of another source.
    fn drifted(&mut self) -> Vec<Arc<str>> {
        let now = (self.core.registry.changes(), self.units.changes());
        let keys = |units: &mut dyn Iterator<Item = &Unit>| -> Vec<Arc<str>> {
            units.filter(|unit| self.differs(unit)).map(|unit| Arc::clone(&unit.record.id.key)).collect()
        };
        // Where neither side changed since they agreed, only what is alive by itself can differ.
        if self.compared == Some(now) {
            return keys(&mut self.units.restless());
        }
        let found = keys(&mut self.units.values());
        self.compared = found.is_empty().then_some(now);
        found
    }

    fn differs(&self, unit: &Unit) -> bool {
        let id = &unit.record.id;
        let outside = [Reason::MissingInterpreter, Reason::NotAllowed, Reason::PathTaken];
        let waits = unit.record.problems.iter().any(|problem| outside.contains(&problem.reason))
            || unit.record.follows_nobody();
        let Some(version) = &unit.version else { return waits };
        let registered = self.core.registry.get(id).map(|live| live.hash);
        let supervised =
            !version.spec.is_daemon() || !self.daemons_started || self.core.daemons.is_supervised(id);
        waits || (unit.busy.is_none() && (registered != Some(version.hash) || !supervised))
    }

    fn decide_all(&mut self, order: &PassOrder) -> Vec<Decision> {
        if !self.first_pass_done {
            return Vec::new();
        }
        let mut keys = self.keys_to_decide(order);
        let (mut decisions, mut asked) = (Vec::with_capacity(keys.len()), BTreeSet::new());
        while !keys.is_empty() {
            decisions.extend(keys.iter().filter_map(|key| self.decide(order, Arc::clone(key))));
            asked.append(&mut keys);
            keys = self.heirs(&decisions).filter(|key| !asked.contains(key)).collect();
        }
        self.refuse_taken(&mut decisions);
        decisions
    }

    fn decide(&mut self, order: &PassOrder, key: Arc<str>) -> Option<Decision> {
        let desired = match self.catalog.get(&key) {
            Some(Entry { state: Err(problems), .. }) => {
                return Some(Decision { key, verdict: Verdict::Broken(problems.clone()) });
            }
            Some(Entry { state: Ok(resolved), .. }) => Some(resolved.clone()),
            None => None,
        };
        let id = self.unit_id(&key);
        // What is live and could not be recorded goes like any other.
        let is_there = || self.units.contains(&key) || self.core.registry.get(&id).is_some();
        // What a set declares that cannot be read, nobody knows: nothing below it is decided.
        if desired.is_none() && (self.catalog.is_kept(&key) || !is_there()) {
            return None;
        }
        if let Some(problem) =
            desired.as_ref().and_then(|unit| self.core.trust.refusal(&id.source, &unit.spec))
        {
            return Some(Decision { key, verdict: Verdict::Broken(vec![problem]) });
        }
        let barred = |unit| self.circle_of(&key, unit).or_else(|| self.secretless(unit));
        if let Some(problem) = desired.as_ref().and_then(barred) {
            return Some(Decision { key, verdict: Verdict::Broken(vec![problem]) });
        }
        let is_unrecorded = desired.is_none() && !self.units.contains(&key);
        let unrecorded = self.core.registry.get(&id).filter(|_| is_unrecorded);
        let mut facts = self.facts(order, &id, desired.as_ref());
        facts.deployed = facts.deployed.or(unrecorded.as_deref());
        let step = decide::decide(&facts);
        if step.action == Action::Sync
            && let Some(problem) = desired.as_ref().and_then(|unit| self.core.target.check(&unit.spec))
        {
            return Some(Decision { key, verdict: Verdict::Broken(vec![problem]) });
        }
        let version = desired.filter(|_| step.action == Action::Sync).map(|unit| self.version_of(&id, &unit));
        Some(Decision { key, verdict: Verdict::Step(step, version) })
    }

    fn facts<'a>(&'a self, order: &PassOrder, id: &'a UnitId, desired: Option<&'a Resolved>) -> Facts<'a> {
        let unit = self.units.get(&id.key);
        let record = unit.map(|unit| &unit.record);
        let live = Live {
            registered: self.core.registry.get(id).map(|live| live.hash),
            supervised: !self.daemons_started || self.core.daemons.is_supervised(id),
        };
        let named = order.unit.as_ref().is_none_or(|named| *named == id.key);
        Facts {
            unit: id,
            desired,
            deployed: unit.and_then(|unit| unit.version.as_deref()),
            generation: record
                .map(|record| record.generation)
                .or_else(|| self.gone.get(&id.key).copied())
                .unwrap_or_default(),
            live,
            hold: record.and_then(|record| record.hold.as_ref()).map(|hold| hold.hash),
            suspended: record.is_some_and(|record| record.suspended.is_some()),
            forced: order.force && named,
            backing_off: record.is_some_and(|record| self.waits(order, record, desired)),
            in_progress: unit.and_then(|unit| unit.busy).and_then(|(_, hash)| hash),
            is_leaving: matches!(unit.and_then(|unit| unit.busy), Some((_, None))),
        }
    }

    /// Whether the attempt at just this hash failed and its wait is not over. A person's command does not wait.
    fn waits(&self, order: &PassOrder, record: &UnitRecord, desired: Option<&Resolved>) -> bool {
        record.retry_at.is_some_and(|at| at > self.core.now())
            && record.attempted == desired.map(|unit| unit.hash)
            && order.cause.kind != TriggerKind::Command
    }

    fn version_of(&self, id: &UnitId, unit: &Resolved) -> Arc<Version> {
        Arc::new(Version {
            unit: id.clone(),
            hash: unit.hash,
            spec: Arc::clone(&unit.spec),
            files: Arc::clone(&unit.files),
            revision: self.revision_of(&id.key),
        })
    }

    /// The units that a pass would remove, if a person must agree first.
    fn needs_permission(&self, order: &PassOrder, decisions: &[Decision]) -> Option<Vec<UnitId>> {
        let removed = |decision: &Decision| match &decision.verdict {
            Verdict::Step(step, _) if step.action == Action::Remove => Some(step.unit.clone()),
            _ => None,
        };
        let gone: Vec<UnitId> = decisions.iter().filter_map(removed).collect();
        let needed = !order.allow_removals && guard::needs_permission(self.units.deployed(), gone.len());
        needed.then_some(gone)
    }
}

/// What was read of a source, as discovery takes it.
#[must_use]
pub fn file_read(reading: Reading) -> FileRead {
    match reading.content {
        Ok(content) => FileRead::Read(content, reading.bytes),
        Err(ReadRefusal::Gone | ReadRefusal::Moving) => FileRead::Later,
        Err(refusal @ ReadRefusal::TooLarge { .. }) => {
            FileRead::Refused(Reason::LimitExceeded, refusal.to_string())
        }
        Err(refusal @ ReadRefusal::Failed(_)) => FileRead::Refused(Reason::Unreadable, refusal.to_string()),
    }
}

fn report_of(
    source: &crate::model::id::SourceName,
    decisions: &[Decision],
    failed: &[(UnitId, String)],
) -> Report {
    let mut report = Report::default();
    for decision in decisions {
        match &decision.verdict {
            Verdict::Step(step, _) if step.action != Action::Noop => {
                let error = failed.iter().find(|(unit, _)| *unit == step.unit).map(|(_, why)| why.clone());
                report.steps.push(Done { step: step.clone(), error });
            }
            Verdict::Step(..) => {}
            Verdict::Broken(problems) => {
                let unit = UnitId { source: source.clone(), key: Arc::clone(&decision.key) };
                report.problems.push((unit, problems.clone()));
            }
        }
    }
    report
}
