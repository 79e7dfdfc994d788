//! Carries a plan out: removals first, then the rest. The plan leaves no choice.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use tokio::time::Instant;

use crate::act::Target;
use crate::act::registry::Change;
use crate::model::hash::ContentHash;
use crate::model::history::{Outcome, Phases};
use crate::model::path::RelPath;
use crate::model::problem::{Problem, Reason};
use crate::model::step::{Action, Restart, Rule, Step};
use crate::model::unit::Version;
use crate::observe::{Source, Want};
use crate::plan::hook::{self, Taken};

use super::daemons::Settled;
use super::message::{Doing, Message, PassOrder, Refusal};
use super::outcome::Finished;
use super::pass::{Decision, Verdict};
use super::source_loop::SourceLoop;
use super::units::Unit;

/// What became of the decisions of a pass.
#[derive(Default)]
pub(super) struct Acted {
    /// Steps that are over.
    pub finished: Vec<Finished>,
    /// Units that are broken.
    pub broken: Vec<(Arc<str>, Vec<Problem>)>,
    /// Units of which nothing is done, with the step that says why.
    pub noops: Vec<Step>,
    /// Steps that take their time.
    pub begun: Vec<Doing>,
}

impl<S: Source, T: Target> SourceLoop<S, T> {
    /// Does what was decided. Steps that wait for a process go on beside the loop and report to it.
    pub(super) async fn act(
        &mut self,
        order: &PassOrder,
        mut decisions: Vec<Decision>,
        phases: Phases,
    ) -> Result<(Acted, Vec<Decision>), Refusal> {
        let mut acted = Acted::default();
        let mut doings = Vec::new();
        for decision in &decisions {
            match &decision.verdict {
                Verdict::Broken(problems) => {
                    acted.broken.push((Arc::clone(&decision.key), problems.clone()));
                }
                Verdict::Step(step, _) if step.action == Action::Noop => acted.noops.push(step.clone()),
                Verdict::Step(step, version) => {
                    doings.push(self.doing(order, step.clone(), version.clone(), &phases));
                }
            }
        }
        let mut refused: HashMap<Arc<str>, Problem> = self.fill_blobs(&doings).await?.into_iter().collect();
        doings.retain(|doing| !refused.contains_key(&doing.step.unit.key));
        doings.sort_by_key(|doing| doing.step.action != Action::Remove);
        refused.extend(self.begin(doings, &mut acted));
        for decision in &mut decisions {
            if let Some(problem) = refused.remove(&decision.key) {
                acted.broken.push((Arc::clone(&decision.key), vec![problem.clone()]));
                decision.verdict = Verdict::Broken(vec![problem]);
            }
        }
        Ok((acted, decisions))
    }

    pub(super) fn doing(
        &self,
        order: &PassOrder,
        step: Step,
        version: Option<Arc<Version>>,
        phases: &Phases,
    ) -> Doing {
        let cause = match step.rule {
            Rule::Drifted => crate::model::history::Cause::new(
                crate::model::history::TriggerKind::Drift,
                order.cause.kind.as_str(),
            ),
            _ => order.cause.clone(),
        };
        Doing {
            revision: self.revision_of(&step.unit.key),
            rewritten: self.is_rewritten(&step.unit.key),
            step,
            version,
            cause,
            dev_path: self.dev_path(),
            phases: phases.clone(),
            began: Instant::now(),
            healthy: None,
            hold: None,
        }
    }

    /// Does the steps that are done at once and starts the others; gives back what came to a path too late.
    pub(super) fn begin(&mut self, mut doings: Vec<Doing>, acted: &mut Acted) -> Vec<(Arc<str>, Problem)> {
        let (mut stops, mut starts) = (Vec::new(), Vec::new());
        let late = self.register(&doings);
        doings.retain(|doing| late.iter().all(|(key, _)| *key != doing.step.unit.key));
        for doing in doings {
            let id = &doing.step.unit;
            match (doing.step.restart, &doing.version) {
                (Restart::None, version) => {
                    if let Some(version) = version.as_ref().filter(|version| version.spec.is_daemon()) {
                        self.core.daemons.refresh(id, Arc::clone(version));
                    }
                    acted.finished.push(Finished { doing, outcome: Outcome::Succeeded, error: None });
                }
                (Restart::StopThenStart, Some(_)) => starts.push(doing),
                (Restart::StopThenStart | Restart::Stop, _) => stops.push(doing),
            }
        }
        for doing in stops.iter().chain(&starts) {
            let unit = self.units.remove(&doing.step.unit.key).unwrap_or_else(|| {
                let name =
                    doing.version.as_ref().map(|version| version.spec.name.clone()).unwrap_or_default();
                let record = crate::record::UnitRecord::new(doing.step.unit.clone(), &name, self.core.now());
                Unit { record, version: None, busy: None }
            });
            self.units.put(Unit { busy: Some((doing.step.generation, doing.step.to)), ..unit });
            acted.begun.push(doing.clone());
        }
        if !stops.is_empty() || !starts.is_empty() {
            self.follow(stops, starts);
        }
        late
    }

    /// Makes live what is to be live. A path that goes from one task to another is never without one.
    fn register(&mut self, doings: &[Doing]) -> Vec<(Arc<str>, Problem)> {
        let (mut moves, mut together) = (Vec::new(), Vec::new());
        for doing in doings {
            let (change, one) = (change_of(doing), self.move_of(&doing.step, doing.version.as_ref()));
            match one {
                Some(one) => {
                    moves.push(one);
                    together.push(change);
                }
                None => drop(self.core.registry.change(vec![change])),
            }
        }
        if moves.is_empty() {
            return Vec::new();
        }
        // Decided again under the lock: a task of another source may have come to a path meanwhile.
        let refused = self.core.registry.change_paths(together, |there| hook::refused(&moves, there));
        let told = |(at, taken): (usize, Taken)| {
            let key = Arc::clone(&moves[at].unit.key);
            let problem = self.taken(&key, &taken);
            (key, problem)
        };
        refused.into_iter().map(told).collect()
    }

    /// Waits beside the loop until processes have ended, then starts others, and reports each.
    fn follow(&self, stops: Vec<Doing>, starts: Vec<Doing>) {
        let (daemons, outbox) = (Arc::clone(&self.core.daemons), self.outbox.clone());
        tokio::spawn(async move {
            let tell = |doing, settled| {
                // The loop is gone only when the service ends.
                let _ = outbox.send(Message::Settled(Box::new(doing), settled));
            };
            let stopping: Vec<_> = stops
                .into_iter()
                .map(|doing| (daemons.set(&doing.step.unit, None, doing.step.generation), doing))
                .collect();
            for (answer, doing) in stopping {
                tell(doing, answer.await.unwrap_or(Settled::Superseded));
            }
            let starting: Vec<_> = starts
                .into_iter()
                .map(|doing| {
                    let version = doing.version.clone();
                    (daemons.set(&doing.step.unit, version, doing.step.generation), doing)
                })
                .collect();
            for (answer, doing) in starting {
                tell(doing, answer.await.unwrap_or(Settled::Superseded));
            }
        });
    }

    /// Reads again what a version needs and the store does not have (any more); gives back the units of which a
    /// file cannot be had.
    async fn fill_blobs(&mut self, doings: &[Doing]) -> Result<Vec<(Arc<str>, Problem)>, Refusal> {
        let versions: Vec<Arc<Version>> = doings.iter().filter_map(|doing| doing.version.clone()).collect();
        if versions.is_empty() {
            return Ok(Vec::new());
        }
        let blobs = self.core.blobs.clone();
        let look = move || -> Vec<(Arc<str>, RelPath, ContentHash)> {
            let missing = |version: &Arc<Version>| {
                let files: Vec<_> =
                    version.files.iter().filter(|file| !blobs.contains(&file.hash)).cloned().collect();
                let key = Arc::clone(&version.unit.key);
                files
                    .into_iter()
                    .map(move |file| (Arc::clone(&key), file.path, file.hash))
                    .collect::<Vec<_>>()
            };
            versions.iter().flat_map(missing).collect()
        };
        let missing = if doings.len() > 16 {
            tokio::task::spawn_blocking(look).await.unwrap_or_default()
        } else {
            look()
        };
        if missing.is_empty() { Ok(Vec::new()) } else { self.read_missing(missing).await }
    }

    async fn read_missing(
        &mut self,
        missing: Vec<(Arc<str>, RelPath, ContentHash)>,
    ) -> Result<Vec<(Arc<str>, Problem)>, Refusal> {
        let max = self.core.limits.get().file_bytes;
        let place = |key: &str, path: &RelPath| self.catalog.dir_of(key).map(|dir| dir.append(path));
        let asked: Vec<_> = missing
            .into_iter()
            .filter_map(|(key, path, hash)| place(&key, &path).map(|full| (key, full, hash)))
            .collect();
        let wants = asked.iter().map(|(_, path, _)| Want { path: path.clone(), bytes: false, max }).collect();
        let readings = self.read_from_source(wants).await?;
        let got: HashSet<ContentHash> =
            readings.iter().filter_map(|reading| reading.content.as_ref().ok()).map(|c| c.hash).collect();
        let lost = asked.into_iter().filter(|(_, _, hash)| !got.contains(hash));
        let problem = |path: RelPath| {
            Problem::new(Reason::Unreadable, "the file changed before it could be kept").in_file(path)
        };
        Ok(lost.map(|(key, path, _)| (key, problem(path))).collect())
    }
}

fn change_of(doing: &Doing) -> Change {
    match &doing.version {
        Some(version) => Change::Put(Arc::clone(version)),
        None => Change::Remove(doing.step.unit.clone()),
    }
}
