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
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;
use tokio::net::unix::pipe;
use tokio::process::{ChildStderr, ChildStdin, ChildStdout};

use super::environment;
use super::group::Group;
use super::remaining::{self, Remaining};
use crate::model::id::RunId;

/// The descriptor at which a shim finds its end of the private channel. Low, so that Node.js closes it in the
/// processes that a script starts in its turn.
const CHANNEL_FD: i32 = 3;
/// Where the channel is two pipes, the descriptor on which the shim answers.
const ANSWER_FD: i32 = 4;

/// What the private channel of a process is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wire {
    /// A socket, for both directions.
    Socket,
    /// Two pipes, for a runtime that can open a pipe by its name and use no descriptor that it inherited.
    Pipes,
}

/// Our end of a private channel.
pub(crate) struct Channel {
    pub read: Box<dyn AsyncRead + Send + Unpin>,
    pub write: Box<dyn AsyncWrite + Send + Unpin>,
}

impl std::fmt::Debug for Channel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Channel")
    }
}

impl From<UnixStream> for Channel {
    fn from(stream: UnixStream) -> Self {
        let (read, write) = stream.into_split();
        Self { read: Box::new(read), write: Box::new(write) }
    }
}

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
    /// The private channel that it gets.
    pub channel: Option<Wire>,
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
    pub channel: Option<Channel>,
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
        let channel = self.channel.map(|wire| give_channel(&mut command, wire)).transpose()?;
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

fn give_channel(command: &mut Command, wire: Wire) -> io::Result<Channel> {
    let mapping = |parent_fd: OwnedFd, child_fd| FdMapping { parent_fd, child_fd };
    let (channel, mappings) = match wire {
        Wire::Socket => {
            let (ours, theirs) = StdUnixStream::pair()?;
            ours.set_nonblocking(true)?;
            (UnixStream::from_std(ours)?.into(), vec![mapping(theirs.into(), CHANNEL_FD)])
        }
        Wire::Pipes => {
            let ((hears, asks), (answers, says)) = (io::pipe()?, io::pipe()?);
            let read = pipe::Receiver::from_owned_fd(answers.into())?;
            let write = pipe::Sender::from_owned_fd(asks.into())?;
            let channel = Channel { read: Box::new(read), write: Box::new(write) };
            (channel, vec![mapping(hears.into(), CHANNEL_FD), mapping(says.into(), ANSWER_FD)])
        }
    };
    command.fd_mappings(mappings).map_err(io::Error::other)?;
    Ok(channel)
}
