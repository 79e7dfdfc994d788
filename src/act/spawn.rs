//! Starts one process: its program, arguments, environment and streams. Blocking; waits for nothing but the start.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use command_fds::{CommandFdExt, FdMapping};
use rustix::process::Signal;
use tokio::net::UnixStream;
use tokio::process::{ChildStderr, ChildStdin, ChildStdout};

use super::environment;
use super::group::Group;
use super::remaining::{self, Remaining};
use crate::model::id::RunId;

/// The descriptor at which a shim finds its end of the private channel. Low, so that Node.js closes it in the
/// processes that a script starts in its turn.
const CHANNEL_FD: i32 = 3;

/// A process to start.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    /// The run that it is.
    pub run: RunId,
    /// Absolute.
    pub program: PathBuf,
    /// All but the program's own name.
    pub args: Vec<OsString>,
    /// The whole environment.
    pub env: BTreeMap<OsString, OsString>,
    /// The working directory.
    pub dir: PathBuf,
    /// Whether it gets a private channel.
    pub has_channel: bool,
}

/// A process that was started.
#[derive(Debug)]
pub(crate) struct Spawned {
    /// Its group; dropping it kills it.
    pub group: Group,
    /// Its standard input, output and error stream.
    pub stdin: Option<ChildStdin>,
    pub stdout: Option<ChildStdout>,
    pub stderr: Option<ChildStderr>,
    /// Our end of the private channel.
    pub channel: Option<UnixStream>,
}

impl Order {
    /// Starts it. Needs the runtime.
    ///
    /// # Errors
    /// What the system says of the program, or of the lack of something that a start needs.
    pub(crate) fn spawn(&self) -> io::Result<Spawned> {
        let mut command = Command::new(&self.program);
        command.args(&self.args).env_clear().envs(&self.env).current_dir(&self.dir).process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let channel = if self.has_channel { Some(give_channel(&mut command)?) } else { None };
        let mut command = tokio::process::Command::from(command);
        let mut child = command.spawn().inspect_err(|error| self.forget(error))?;
        // It holds the other end of the channel, whose closing tells that the child has ended.
        drop(command);
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        Ok(Spawned { group: Group::new(child, self.run.clone()), stdin, stdout, stderr, channel })
    }

    /// A start can fail when the process is there already: no descriptor was left to watch it with.
    fn forget(&self, error: &io::Error) {
        if !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) {
            let run = format!("{}={}", environment::RUN, self.run);
            for stat in Remaining::with_entry(run).find() {
                remaining::signal(stat.key(), Signal::KILL);
            }
        }
    }
}

fn give_channel(command: &mut Command) -> io::Result<UnixStream> {
    let (ours, theirs) = StdUnixStream::pair()?;
    ours.set_nonblocking(true)?;
    let mapping = FdMapping { parent_fd: OwnedFd::from(theirs), child_fd: CHANNEL_FD };
    command.fd_mappings(vec![mapping]).map_err(io::Error::other)?;
    UnixStream::from_std(ours)
}
