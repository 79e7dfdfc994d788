//! Runs of tasks from their first row to their last: starts them, keeps their log, records how they ended.
//!
//! A run executes the version that it was started with, whatever is registered meanwhile.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio_util::task::TaskTracker;

use crate::act::{Exit, Launch, StopHandle, Target};
use crate::model::event::{Event, EventType};
use crate::model::id::{RunId, UnitId};
use crate::model::run::{LogLine, Run, RunStatus, Stream};
use crate::model::spec::ParamValue;
use crate::model::time::Timestamp;
use crate::model::unit::Version;
use crate::plan::params;
use crate::record::{Store, StoreError};
use crate::support::clock::Clock;

use super::events::Events;
use super::metrics::Metrics;
use super::trust::Trust;

/// Lines of log that are written together.
const LOG_BATCH: usize = 512;
/// Longest time that a line waits for others to be written with.
const LOG_WAIT: Duration = Duration::from_millis(40);
/// About how much of a daemon's log is kept, in bytes: it may write for ever.
const DAEMON_LOG: usize = 64 << 20;
/// About how much of any other run's log is kept, in bytes.
const RUN_LOG: usize = 1 << 30;
/// What a line takes in the store beside its text, in bytes, roughly.
const LINE_BYTES: usize = 32;
/// Time between two attempts to write while the store cannot.
const STORE_RETRY: Duration = Duration::from_millis(500);

/// Repeats a write until the store takes it: what a run did must not be lost because the disk was full.
macro_rules! until_written {
    ($write:expr) => {{
        let mut said = false;
        while let Err(error) = $write.await {
            if !std::mem::replace(&mut said, true) {
                tracing::error!("{} (trying again)", chain(&error));
            }
            tokio::time::sleep(STORE_RETRY).await;
        }
    }};
}

/// Starts runs and follows them to their end.
pub struct Runner<T> {
    store: Store,
    target: Arc<T>,
    clock: Clock,
    events: Events,
    trust: Trust,
    metrics: Metrics,
    active: Mutex<HashMap<RunId, Arc<Active>>>,
    tasks: TaskTracker,
}

/// A run that is not over.
#[derive(Debug)]
struct Active {
    task: UnitId,
    stop: StopHandle,
    why: Mutex<Option<StopReason>>,
    lines: watch::Sender<u64>,
}

/// Why a run is ended before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// A person asked for it.
    Cancelled,
    /// A newer version takes its place, or its unit is gone.
    Replaced,
    /// kindling ends.
    Closing,
}

/// A run that was asked for.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Its id.
    pub id: RunId,
    /// Set when it is over.
    pub done: watch::Receiver<Option<Arc<Run>>>,
}

impl Asked {
    /// Waits until it is over.
    pub async fn end(&mut self) -> Option<Arc<Run>> {
        self.done.wait_for(Option::is_some).await.ok().and_then(|run| run.clone())
    }
}

impl<T: Target> Runner<T> {
    /// A runner without runs.
    #[must_use]
    pub fn new(store: Store, target: Arc<T>, clock: Clock, events: Events, trust: Trust) -> Arc<Self> {
        let (active, tasks) = (Mutex::new(HashMap::new()), TaskTracker::new());
        let metrics = Metrics::default();
        Arc::new(Self { store, target, clock, events, trust, metrics, active, tasks })
    }

    /// What is counted; runs are, so it is made here.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Starts a run of `version`. Whatever keeps the process from starting is the run's own failure.
    ///
    /// # Errors
    /// The run could not be recorded, so it was not started.
    pub async fn start(
        self: &Arc<Self>,
        version: Arc<Version>,
        params: BTreeMap<String, ParamValue>,
        input: String,
        trigger: &str,
    ) -> Result<Asked, StoreError> {
        let id = RunId::from_random(random());
        let run = new_run(&id, &version, trigger, Timestamp(self.clock.now_ms()));
        let most = if version.spec.is_daemon() { DAEMON_LOG } else { RUN_LOG };
        self.store.insert_run(&run).await?;
        self.tell(&run, EventType::RunStarted, format!("run {id} started")).await;
        let (done, over) = watch::channel(None);
        // What is registered may have been allowed more than it is now.
        let started = match self.trust.refusal(&version.unit.source, &version.spec) {
            Some(problem) => Err(format!("{}: it {problem}", problem.reason.as_str())),
            None => {
                let launch = Launch { run: id.clone(), version, params, input };
                self.target.start(launch).await.map_err(|error| chain(&error))
            }
        };
        match started {
            Ok(started) => {
                let active = Arc::new(Active {
                    task: run.task.clone(),
                    stop: started.stop,
                    why: Mutex::new(None),
                    lines: watch::Sender::new(0),
                });
                self.lock().insert(id.clone(), Arc::clone(&active));
                let runner = Arc::clone(self);
                self.tasks.spawn(async move {
                    let mut run = run;
                    if let Some(process) = started.process {
                        until_written!(runner.store.set_process(&run.id, &process));
                        run.process = Some(process);
                    }
                    runner.keep_log(&run.id, &active, started.lines, most).await;
                    let exit = started.ended.await.unwrap_or_else(|_| lost());
                    runner.finish(run, exit, &active, &done).await;
                });
            }
            Err(error) => {
                let run = Run { error, ..run };
                let lines = [(Stream::System, run.error.clone())];
                self.write_log(&id, &mut 0, &lines).await;
                self.record_end(Run { status: RunStatus::Failed, ..run }, &done).await;
            }
        }
        Ok(Asked { id, done: over })
    }

    /// Whether a run of `version` without given parameters could be started now, as far as that can be told without one.
    ///
    /// # Errors
    /// What keeps it from being started.
    pub async fn ready(&self, version: &Arc<Version>) -> Result<(), String> {
        let params =
            params::resolve(&version.spec, &BTreeMap::new()).map_err(|problems| problems.join("; "))?;
        let run = RunId::from_random(random());
        let launch = Launch { run, version: Arc::clone(version), params, input: "null".into() };
        self.target.ready(launch).await.map_err(|error| chain(&error))
    }

    /// Ends a run; gives back whether it was there to be ended.
    pub fn stop(&self, id: &RunId, why: StopReason) -> bool {
        let active = self.lock().get(id).cloned();
        active.is_some_and(|active| {
            active.why.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(why);
            active.stop.stop();
            true
        })
    }

    /// The number of the newest line of an active run's log, as it grows; `None` when the run is over.
    #[must_use]
    pub fn follow(&self, id: &RunId) -> Option<watch::Receiver<u64>> {
        self.lock().get(id).map(|active| active.lines.subscribe())
    }

    /// The active runs of a task.
    #[must_use]
    pub fn active_of(&self, task: &UnitId) -> Vec<RunId> {
        self.lock().iter().filter(|(_, active)| active.task == *task).map(|(id, _)| id.clone()).collect()
    }

    /// Ends every run as interrupted and waits until all are recorded.
    pub async fn close(&self) {
        let ids: Vec<RunId> = self.lock().keys().cloned().collect();
        for id in ids {
            self.stop(&id, StopReason::Closing);
        }
        self.tasks.close();
        self.tasks.wait().await;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<RunId, Arc<Active>>> {
        self.active.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes down what a run says, to its end; only about the newest `most` bytes of it are kept.
    async fn keep_log(
        &self,
        id: &RunId,
        active: &Active,
        mut lines: mpsc::Receiver<(Stream, String)>,
        most: usize,
    ) {
        let (mut seq, mut batch) = (0, Vec::with_capacity(LOG_BATCH));
        let mut length = LogLength::new(most);
        while lines.recv_many(&mut batch, LOG_BATCH).await > 0 {
            let deadline = tokio::time::Instant::now() + LOG_WAIT;
            while batch.len() < LOG_BATCH {
                let room = LOG_BATCH - batch.len();
                match tokio::time::timeout_at(deadline, lines.recv_many(&mut batch, room)).await {
                    Ok(0) | Err(_) => break,
                    Ok(_) => {}
                }
            }
            self.write_log(id, &mut seq, &batch).await;
            if let Some(first) = length.grow(&batch, seq)
                && let Err(error) = self.store.trim_log(id, first).await
            {
                // The next part that is full takes this one with it.
                tracing::warn!("{}", chain(&error));
            }
            batch.clear();
            active.lines.send_replace(seq);
        }
    }

    async fn write_log(&self, id: &RunId, seq: &mut u64, lines: &[(Stream, String)]) {
        let at = Timestamp(self.clock.now_ms());
        let mut number = *seq;
        let numbered: Vec<LogLine> = lines
            .iter()
            .map(|(stream, text)| {
                number += 1;
                LogLine { seq: number, at, stream: *stream, text: text.clone() }
            })
            .collect();
        until_written!(self.store.append_log(id, &numbered));
        *seq = number;
    }

    async fn finish(&self, run: Run, exit: Exit, active: &Active, done: &watch::Sender<Option<Arc<Run>>>) {
        let why = *active.why.lock().unwrap_or_else(PoisonError::into_inner);
        let run = ended(run, exit, why);
        self.record_end(run, done).await;
    }

    async fn record_end(&self, run: Run, done: &watch::Sender<Option<Arc<Run>>>) {
        let run = Run { ended_at: Some(Timestamp(self.clock.now_ms())), ..run };
        until_written!(self.store.finish_run(&run));
        self.lock().remove(&run.id);
        self.metrics.ran(&run);
        let message = format!("run {} {}", run.id, run.status.as_str());
        self.tell(&run, EventType::RunFinished, message).await;
        done.send_replace(Some(Arc::new(run)));
    }

    async fn tell(&self, run: &Run, kind: EventType, message: String) {
        let event = Event {
            at: Timestamp(self.clock.now_ms()),
            kind,
            source: run.task.source.clone(),
            unit: Some(run.task.clone()),
            hash: Some(run.hash),
            revision: run.revision.clone(),
            message,
        };
        if let Err(error) = self.store.put_events(std::slice::from_ref(&event)).await {
            tracing::error!("{}", chain(&error));
        }
        self.events.publish(vec![event]);
    }
}

/// How long a log has become, in parts of equal size, so that the oldest part can go.
struct LogLength {
    part: usize,
    /// The first line of each full part, oldest first.
    firsts: VecDeque<u64>,
    bytes: usize,
}

impl LogLength {
    /// Full parts beside the one that grows.
    const PARTS: usize = 8;

    fn new(most: usize) -> Self {
        Self { part: most / Self::PARTS, firsts: VecDeque::from([1]), bytes: 0 }
    }

    /// Counts lines of which `last` is the last one's number; gives back the first line that stays, if others go.
    fn grow(&mut self, lines: &[(Stream, String)], last: u64) -> Option<u64> {
        self.bytes += lines.iter().map(|(_, text)| text.len() + LINE_BYTES).sum::<usize>();
        if self.bytes < self.part {
            return None;
        }
        self.bytes = 0;
        self.firsts.push_back(last + 1);
        if self.firsts.len() <= Self::PARTS {
            return None;
        }
        self.firsts.pop_front();
        self.firsts.front().copied()
    }
}

fn new_run(id: &RunId, version: &Version, trigger: &str, now: Timestamp) -> Run {
    Run {
        id: id.clone(),
        task: version.unit.clone(),
        hash: version.hash,
        revision: version.revision.clone(),
        trigger: trigger.to_owned(),
        status: RunStatus::Running,
        exit_code: None,
        started_at: now,
        ended_at: None,
        output: None,
        response: None,
        error: String::new(),
        process: None,
    }
}

/// The run's last state from how its process ended and why it was stopped.
fn ended(run: Run, exit: Exit, why: Option<StopReason>) -> Run {
    let status = match why {
        Some(StopReason::Closing) if exit.stopped => RunStatus::Interrupted,
        _ if exit.stopped => RunStatus::Cancelled,
        _ if exit.timed_out => RunStatus::TimedOut,
        _ if exit.code == Some(0) && exit.error.is_none() => RunStatus::Succeeded,
        _ => RunStatus::Failed,
    };
    let error = match status {
        RunStatus::Succeeded | RunStatus::Running => String::new(),
        RunStatus::Interrupted => "kindling ended while it ran".into(),
        RunStatus::Cancelled if why == Some(StopReason::Replaced) => "a newer version took its place".into(),
        RunStatus::Cancelled => "it was cancelled".into(),
        RunStatus::TimedOut => "its time was over".into(),
        RunStatus::Failed => exit.error.unwrap_or_else(|| how_it_ended(exit.code, exit.signal)),
    };
    Run { status, error, exit_code: exit.code, output: exit.output, response: exit.response, ..run }
}

fn how_it_ended(code: Option<i32>, signal: Option<i32>) -> String {
    match (code, signal) {
        (Some(code), _) => format!("it ended with exit code {code}"),
        (None, Some(signal)) => format!("it was ended by signal {signal}"),
        (None, None) => "it ended without an exit code".into(),
    }
}

fn lost() -> Exit {
    Exit { error: Some("its end was not seen".into()), ..Exit::default() }
}

/// 8 random bytes for an id; the system's source does not fail once the machine has started.
pub(super) fn random() -> [u8; 8] {
    let mut bytes = [0; 8];
    if let Err(error) = getrandom::fill(&mut bytes) {
        tracing::error!("the system gives no random bytes: {error}");
    }
    bytes
}

/// An error with its causes in one line.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_without_end_keeps_its_newest_parts() {
        let mut length = LogLength::new(8_000);
        let lines = vec![(Stream::Stdout, "x".repeat(68)); 10];
        let firsts: Vec<u64> = (1..=20).filter_map(|batch| length.grow(&lines, batch * 10)).collect();
        // Each batch fills one part of 1,000 bytes; eight are kept.
        assert_eq!(firsts[..3], [11, 21, 31]);
        assert_eq!(firsts.last(), Some(&131), "lines 131 to 200 stay, and a part that grows");
    }
}
