//! The world out: registers versions and runs them. Adapters only; nothing is decided here.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

use crate::model::id::{RunId, UnitId};
use crate::model::problem::Problem;
use crate::model::run::{ProcessId, Stream};
use crate::model::spec::{ParamValue, TaskSpec};
use crate::model::unit::Version;

mod channel;
mod deno;
mod environment;
pub mod folder;
mod group;
pub mod interpreter;
mod invocation;
pub(crate) mod json;
mod kv;
mod lines;
mod make;
mod places;
pub mod probe;
mod process;
mod procfs;
pub mod registry;
mod remaining;
pub mod response;
mod shims;
mod spawn;
mod streams;
pub mod survivors;
pub mod tasks;

pub use json::JsonRefusal;
pub use kv::KvCall;

/// A run to start.
#[derive(Clone, Debug)]
pub struct Launch {
    /// The run's id.
    pub run: RunId,
    /// The version to execute.
    pub version: Arc<Version>,
    /// Every parameter that has a value.
    pub params: BTreeMap<String, ParamValue>,
    /// The input: JSON text; `null` where none was given.
    pub input: String,
}

/// A run that was started.
#[derive(Debug)]
pub struct Started {
    /// Its process.
    pub process: Option<ProcessId>,
    /// Its log, line by line; closed when all of it was read.
    pub lines: mpsc::Receiver<(Stream, String)>,
    /// What its script asks of what the task keeps; closed at its end.
    pub kv: mpsc::Receiver<KvCall>,
    /// Ends it.
    pub stop: StopHandle,
    /// How it ended, once its whole process group is gone and its output was read.
    pub ended: oneshot::Receiver<Exit>,
}

/// Asks a run to end; may be cloned and used any number of times.
#[derive(Clone, Debug)]
pub struct StopHandle(pub Arc<watch::Sender<bool>>);

impl StopHandle {
    /// TERM to the process group, KILL after the grace time.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }
}

/// How long a process group has between TERM and KILL.
pub const STOP_GRACE: Duration = Duration::from_secs(10);

/// How a run ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exit {
    /// The exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// What it gave back: JSON text. What `main` returned (`null` for nothing); of a program, its standard output,
    /// as it is where it is JSON, otherwise as a string. `None` where there is none.
    pub output: Option<String>,
    /// What it set by `output.response`: JSON text.
    pub response: Option<String>,
    /// What the script threw, or why it could not be run to its end; one line. The run failed, whatever its code.
    pub error: Option<String>,
    /// Whether its time was over.
    pub timed_out: bool,
    /// Whether [`StopHandle::stop`] ended it.
    pub stopped: bool,
}

/// Where runs are started: the seam at which tests put a fake.
pub trait Target: Send + Sync + 'static {
    /// What keeps this machine from running `spec`, if anything: its interpreter is missing.
    fn check(&self, spec: &TaskSpec) -> Option<Problem>;

    /// Whether this run could be started now, as far as that can be told without starting it. Starts nothing.
    fn ready(&self, launch: Launch) -> impl Future<Output = Result<(), ActError>> + Send;

    /// Starts a run. The future ends when the process was started, not when it is over.
    fn start(&self, launch: Launch) -> impl Future<Output = Result<Started, ActError>> + Send;
}

/// Why a run could not be started.
#[derive(Debug, thiserror::Error)]
pub enum ActError {
    /// The folder of its version could not be made.
    #[error("cannot make the folder of {unit} at {path}")]
    Folder {
        /// The unit.
        unit: UnitId,
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file of its version is not in the store, or is damaged there.
    #[error("the stored file {hash} of {unit} is missing or damaged")]
    Blob {
        /// The unit.
        unit: UnitId,
        /// The content's hash.
        hash: String,
    },
    /// The process could not be started.
    #[error("cannot start {program}")]
    Spawn {
        /// The program.
        program: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The input cannot be given to a run.
    #[error("the input of the run is refused")]
    Input(#[source] InputRefusal),
}

/// Why an input cannot be given to a run.
#[derive(Debug, thiserror::Error)]
pub enum InputRefusal {
    /// It is no JSON text that can be taken.
    #[error("it {0}")]
    NotJson(JsonRefusal),
    /// It is larger than [`MAX_MESSAGE_BYTES`].
    #[error("it has {0} bytes, more than the {MAX_MESSAGE_BYTES} allowed")]
    TooLarge(usize),
}

/// Largest input and largest output that travel on the private channel, in bytes.
pub const MAX_MESSAGE_BYTES: usize = 16 << 20;

/// Checks whether a text can be given to a run as its input.
///
/// # Errors
/// Why it cannot.
pub fn check_input(input: &str) -> Result<(), InputRefusal> {
    if input.len() > MAX_MESSAGE_BYTES {
        return Err(InputRefusal::TooLarge(input.len()));
    }
    json::check(input).map_err(InputRefusal::NotJson)
}
