//! Runs tasks as processes of this machine.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

use super::folder::Folders;
use super::interpreter::{self, Interpreters, Paths};
use super::invocation::Invocation;
use super::places::Places;
use super::process::{Running, Terms, Wires};
use super::shims::Shims;
use super::spawn::{Order, Spawned};
use super::streams::{Fate, WAITING_LINES};
use super::{ActError, Launch, STOP_GRACE, Started, StopHandle, Target, channel, check_input, environment};
use crate::model::problem::Problem;
use crate::model::spec::{ParamValue, TaskSpec};

/// A program file that another thread's new child still has open for writing cannot be executed; that passes
/// within milliseconds.
const BUSY_WAITS: [Duration; 6] = [
    Duration::from_millis(1),
    Duration::from_millis(4),
    Duration::from_millis(16),
    Duration::from_millis(64),
    Duration::from_millis(128),
    Duration::from_millis(256),
];

/// The [`Target`] of tasks. Clones share folders and what is known of interpreters.
#[derive(Clone, Debug)]
pub struct TaskTarget {
    folders: Folders,
    interpreters: Interpreters,
    shims: Shims,
    mark: Arc<str>,
    grace: Duration,
}

impl TaskTarget {
    /// Runs versions in `folders`. `mark` is what tells the processes of this data directory from all others
    /// ([`super::survivors::end_survivors`]).
    #[must_use]
    pub fn new(folders: Folders, mark: &str) -> Self {
        let shims = Shims::new(folders.root().with_file_name("shim"));
        Self {
            folders,
            interpreters: Interpreters::default(),
            shims,
            mark: Arc::from(mark),
            grace: STOP_GRACE,
        }
    }

    /// With these programs in place of those on `PATH`.
    #[must_use]
    pub fn with_programs(mut self, programs: Paths) -> Self {
        self.interpreters = Interpreters::new(programs);
        self
    }

    /// With another time between TERM and KILL than [`STOP_GRACE`].
    #[must_use]
    pub fn with_grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Goes as far as a start goes without a process.
    async fn prepare(&self, mut launch: Launch) -> Result<(), ActError> {
        let lease = self.folders.acquire(&launch.version).await?;
        let places = Places { task: lease.path(), data: self.data_dir() };
        put_places(&mut launch, places);
        let order = self.order(&launch, places)?;
        interpreter::startable(&order.program)
            .map_err(|source| ActError::Spawn { program: order.program.display().to_string(), source })
    }

    async fn run(&self, mut launch: Launch) -> Result<Started, ActError> {
        check_input(&launch.input).map_err(ActError::Input)?;
        let lease = self.folders.acquire(&launch.version).await?;
        let places = Places { task: lease.path(), data: self.data_dir() };
        put_places(&mut launch, places);
        let order = self.order(&launch, places)?;
        let spec = &launch.version.spec;
        let terms = Terms {
            fate: fate(spec, order.channel.is_some()),
            is_daemon: spec.is_daemon(),
            timeout: spec.timeout,
            grace: self.grace,
            request: if order.channel.is_some() {
                channel::request(&launch.params, &launch.input)
            } else {
                Vec::new()
            },
            stdin: format!("{}\n", launch.input).into_bytes(),
            lease,
        };
        drop(launch);
        let order = Arc::new(order);
        let failed = |source| ActError::Spawn { program: order.program.display().to_string(), source };
        let running = Running::new(spawn(&order).await.map_err(failed)?, terms).map_err(failed)?;
        Ok(accompany(running))
    }

    /// The versions' folder stands in it.
    fn data_dir(&self) -> &Path {
        self.folders.root().parent().unwrap_or(self.folders.root())
    }

    fn order(&self, launch: &Launch, places: Places<'_>) -> Result<Order, ActError> {
        let spec = &launch.version.spec;
        let failed = |source| ActError::Spawn { program: spec.runtime.interpreter().to_owned(), source };
        let program = self
            .interpreters
            .find(spec, places.task)
            .map_err(|problem| failed(io::Error::new(io::ErrorKind::NotFound, problem.message)))?;
        let refused = |why| failed(io::Error::new(io::ErrorKind::InvalidInput, why));
        let mut env = environment::of_run(launch, &self.mark, places).map_err(refused)?;
        let invocation = Invocation::of(&launch.version, places, &self.shims).map_err(failed)?;
        for (name, value) in invocation.env {
            env.entry((*name).into()).or_insert_with(|| (*value).into());
        }
        Ok(Order {
            run: launch.run.clone(),
            program,
            args: invocation.args,
            env,
            dir: places.task.to_owned(),
            channel: invocation.channel,
        })
    }
}

/// Puts places into parameters that have their default.
fn put_places(launch: &mut Launch, places: Places<'_>) {
    let version = Arc::clone(&launch.version);
    if !version.spec.permissions.places {
        return;
    }
    for (name, value) in &mut launch.params {
        let is_default =
            version.spec.params.get(name).is_some_and(|param| param.default.as_ref() == Some(value));
        if let ParamValue::String(text) = value
            && is_default
        {
            *text = places.expand(text);
        }
    }
}

impl Target for TaskTarget {
    fn check(&self, spec: &TaskSpec) -> Option<Problem> {
        self.interpreters.check(spec)
    }

    async fn ready(&self, launch: Launch) -> Result<(), ActError> {
        self.prepare(launch).await
    }

    async fn start(&self, launch: Launch) -> Result<Started, ActError> {
        self.run(launch).await
    }
}

fn fate(spec: &TaskSpec, has_channel: bool) -> Fate {
    match has_channel {
        _ if spec.is_daemon() => Fate::Log,
        true => Fate::Open,
        false => Fate::Output,
    }
}

async fn spawn(order: &Arc<Order>) -> io::Result<Spawned> {
    let mut waits = BUSY_WAITS.iter();
    loop {
        let order = order.clone();
        let spawned = tokio::task::spawn_blocking(move || order.spawn()).await.map_err(io::Error::other)?;
        match (spawned, waits.next()) {
            (Err(error), Some(wait)) if error.kind() == io::ErrorKind::ExecutableFileBusy => {
                tokio::time::sleep(*wait).await;
            }
            (spawned, _) => return spawned,
        }
    }
}

fn accompany(running: Running) -> Started {
    let (sender, lines) = mpsc::channel(WAITING_LINES);
    let (keeper, kv) = mpsc::channel(1);
    let (stop, stopped) = watch::channel(false);
    let (report, ended) = oneshot::channel();
    let process = running.id();
    tokio::spawn(running.accompany(Wires { lines: sender, kv: keeper, stop: stopped, ended: report }));
    Started { process, lines, kv, stop: StopHandle(Arc::new(stop)), ended }
}

#[cfg(test)]
pub(crate) mod tests;
