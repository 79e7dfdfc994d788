//! A target whose processes live in the test alone.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kindling::act::{ActError, Exit, Launch, Started, StopHandle, Target};
use kindling::model::hash::UnitHash;
use kindling::model::id::UnitId;
use kindling::model::problem::{Problem, Reason};
use kindling::model::run::Stream;
use kindling::model::spec::TaskSpec;
use tokio::sync::{mpsc, oneshot, watch};

/// A target whose processes a test ends.
#[derive(Clone, Default)]
pub struct FakeTarget(Arc<Mutex<Processes>>);

#[derive(Default)]
struct Processes {
    started: Vec<Launch>,
    alive: HashMap<String, Alive>,
    stop_takes: Duration,
    missing: bool,
    unstartable: bool,
    unready: bool,
}

struct Alive {
    unit: UnitId,
    hash: UnitHash,
    _lines: mpsc::Sender<(Stream, String)>,
    exit: watch::Sender<Option<Exit>>,
}

impl FakeTarget {
    /// The versions of a unit whose processes live now.
    pub fn alive(&self, unit: &UnitId) -> Vec<UnitHash> {
        self.0.lock().unwrap().alive.values().filter(|p| p.unit == *unit).map(|p| p.hash).collect()
    }

    /// Everything that was started so far, as `unit` ids.
    pub fn started(&self) -> Vec<String> {
        self.0.lock().unwrap().started.iter().map(|launch| launch.version.unit.to_string()).collect()
    }

    /// Lets a process take this long to end when it is asked to.
    pub fn stop_takes(&self, time: Duration) {
        self.0.lock().unwrap().stop_takes = time;
    }

    /// Takes the interpreter away, or puts it back.
    pub fn interpreter_is_missing(&self, missing: bool) {
        self.0.lock().unwrap().missing = missing;
    }

    /// Lets every start fail, or none.
    pub fn cannot_start(&self, unstartable: bool) {
        self.0.lock().unwrap().unstartable = unstartable;
    }

    /// The inputs of everything that was started so far.
    pub fn inputs(&self) -> Vec<String> {
        self.0.lock().unwrap().started.iter().map(|launch| launch.input.clone()).collect()
    }

    /// Lets every look whether a process could be started say no, or yes.
    pub fn is_not_ready(&self, unready: bool) {
        self.0.lock().unwrap().unready = unready;
    }

    /// Ends every process of a unit with this code.
    pub fn end(&self, unit: &UnitId, code: i32) {
        self.end_with(unit, &Exit { code: Some(code), ..Exit::default() });
    }

    /// Ends every process of a unit so.
    pub fn end_with(&self, unit: &UnitId, exit: &Exit) {
        for process in self.0.lock().unwrap().alive.values().filter(|p| p.unit == *unit) {
            process.exit.send_replace(Some(exit.clone()));
        }
    }
}

impl Target for FakeTarget {
    fn check(&self, _: &TaskSpec) -> Option<Problem> {
        let missing = self.0.lock().unwrap().missing;
        missing.then(|| Problem::new(Reason::MissingInterpreter, "sh is not installed"))
    }

    async fn ready(&self, _: Launch) -> Result<(), ActError> {
        if !self.0.lock().unwrap().unready {
            return Ok(());
        }
        Err(ActError::Spawn { program: "sh".into(), source: std::io::Error::other("no such file") })
    }

    async fn start(&self, launch: Launch) -> Result<Started, ActError> {
        let mut processes = self.0.lock().unwrap();
        processes.started.push(launch.clone());
        if processes.unstartable {
            let source = std::io::Error::other("no such file");
            return Err(ActError::Spawn { program: "sh".into(), source });
        }
        let (lines, read) = mpsc::channel(64);
        let (ended, end) = oneshot::channel();
        let (stop, mut stopped) = watch::channel(false);
        let (exit, mut exited) = watch::channel(None);
        let unit = launch.version.unit.clone();
        let alive = Alive { unit, hash: launch.version.hash, _lines: lines, exit };
        processes.alive.insert(launch.run.to_string(), alive);
        let all = self.clone();
        tokio::spawn(async move {
            let exit = tokio::select! {
                exit = async { exited.wait_for(Option::is_some).await.ok().and_then(|exit| exit.clone()) } => exit,
                () = async { drop(stopped.wait_for(|stop| *stop).await) } => None,
            };
            let exit = match exit {
                Some(exit) => Some(exit),
                None => {
                    let stop_takes = all.0.lock().unwrap().stop_takes;
                    tokio::time::sleep(stop_takes).await;
                    Some(Exit { signal: Some(15), stopped: true, ..Exit::default() })
                }
            };
            all.0.lock().unwrap().alive.remove(launch.run.as_str());
            let _ = ended.send(exit.unwrap_or_default());
        });
        let kv = mpsc::channel(1).1;
        Ok(Started { process: None, lines: read, kv, stop: StopHandle(Arc::new(stop)), ended: end })
    }
}
