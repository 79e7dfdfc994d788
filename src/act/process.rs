//! Accompanies one run from its start to the end of its last process.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use rustix::process::Signal;
use tokio::io::AsyncWriteExt;
use tokio::process::{ChildStderr, ChildStdin, ChildStdout};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::channel::{self, Said};
use super::folder::FolderLease;
use super::group::Group;
use super::remaining::Ending;
use super::spawn::{Channel, Spawned};
use super::streams::{self, DRAIN, Fate, LogSender, MAX_PROGRAM_OUTPUT, Reader, Stdout};
use super::{Exit, KvCall, json, lines};
use crate::model::run::{ProcessId, Stream};
use crate::model::time::human;

/// What a run is given and how it is held.
pub(crate) struct Terms {
    /// The version's folder, kept until the run is over.
    pub lease: FolderLease,
    /// What it finds on standard input.
    pub stdin: Vec<u8>,
    /// What its shim is asked, where it has one.
    pub request: Vec<u8>,
    /// What becomes of its standard output.
    pub fate: Fate,
    /// Whether processes that left its group are looked for at its end in any case: a daemon is there exactly once.
    pub is_daemon: bool,
    /// It is ended after this long.
    pub timeout: Option<Duration>,
    /// The time between TERM and KILL.
    pub grace: Duration,
}

/// Where a run reports to, and who may end it.
pub(crate) struct Wires {
    pub lines: LogSender,
    pub kv: mpsc::Sender<KvCall>,
    pub stop: watch::Receiver<bool>,
    pub ended: oneshot::Sender<Exit>,
}

/// A run whose process was started. Dropping it kills the process group.
pub(crate) struct Running {
    // First, so that it is dropped before the folder is given up.
    group: Group,
    stdin: ChildStdin,
    stdout: ChildStdout,
    stderr: ChildStderr,
    channel: Option<Channel>,
    terms: Terms,
    deadline: Option<Instant>,
}

impl Running {
    /// Takes over a process that was just started.
    ///
    /// # Errors
    /// It was started without pipes; it is killed then.
    pub(crate) fn new(spawned: Spawned, terms: Terms) -> io::Result<Self> {
        let Spawned { group, stdin, stdout, stderr, channel } = spawned;
        let (Some(stdin), Some(stdout), Some(stderr)) = (stdin, stdout, stderr) else {
            return Err(io::Error::other("it was started without its pipes"));
        };
        Ok(Self {
            stdin,
            stdout,
            stderr,
            channel,
            deadline: terms.timeout.map(|timeout| Instant::now() + timeout),
            group,
            terms,
        })
    }

    /// Its process.
    pub(crate) fn id(&self) -> Option<ProcessId> {
        self.group.id().cloned()
    }

    /// Stays with it to its end, and reports that.
    pub(crate) async fn accompany(self, wires: Wires) {
        let Self { group, stdin, stdout, stderr, channel, terms, deadline } = self;
        let Terms { lease, stdin: input, request, fate, is_daemon, timeout, grace } = terms;
        // Dropped before the folder is given up, wherever this future ends.
        let mut group = group;
        let Wires { lines, kv, mut stop, mut ended } = wires;
        let (gone_at, gone) = watch::channel(None);
        let (fate_is, fate) = watch::channel(fate);
        let life = async {
            let end = live(&mut group, deadline, grace, asked(&mut stop, &mut ended)).await;
            gone_at.send_replace(Some(Instant::now() + DRAIN));
            end
        };
        let talk = async {
            let Some(channel) = channel else { return (Said::default(), false) };
            channel::converse(channel, request, fate_is, &lines, &kv, gone.clone()).await
        };
        let (end, (), out, err_held, (said, channel_held)) = tokio::join!(
            life,
            feed(stdin, input, gone.clone()),
            streams::stdout(Reader::new(stdout, gone.clone()), fate, &lines),
            streams::log(Reader::new(stderr, gone.clone()), Stream::Stderr, &lines),
            talk,
        );
        let mut notes = end.notes(timeout, grace);
        if is_daemon || out.was_held || err_held || channel_held {
            notes.extend(note_of_rest(&group.escaped_ended(grace).await));
        }
        if out.was_cut {
            notes.push(format!(
                "standard output was cut: only its first {MAX_PROGRAM_OUTPUT} bytes are the output"
            ));
        }
        streams::send(&lines, Stream::System, &mut notes).await;
        drop((group, lease, lines, kv));
        // Nobody has to be interested.
        let _ = ended.send(end.exit(out, said, is_daemon));
    }
}

/// Writes standard input and closes it. A program that does not read it is none the worse.
async fn feed(mut stdin: ChildStdin, input: Vec<u8>, mut gone: streams::Gone) {
    tokio::select! {
        _ = stdin.write_all(&input) => {}
        _ = gone.wait_for(Option::is_some) => {}
    }
}

/// Waits until somebody wants the run to end: by its handle, or because nobody can hear of it any more.
async fn asked(stop: &mut watch::Receiver<bool>, ended: &mut oneshot::Sender<Exit>) {
    if stop.wait_for(|stop| *stop).await.is_err() {
        ended.closed().await;
    }
}

/// How a run ended, but for what it said.
struct End {
    status: io::Result<ExitStatus>,
    timed_out: bool,
    stopped: bool,
    was_killed: bool,
    rest: Ending,
}

/// Waits for the end of the leader and then of its group, and brings it about when it is time.
async fn live(
    group: &mut Group,
    deadline: Option<Instant>,
    grace: Duration,
    asked: impl Future<Output = ()>,
) -> End {
    let (mut timed_out, mut stopped) = (false, false);
    let first = tokio::select! {
        // A run that has ended by itself neither timed out nor was stopped.
        biased;
        status = group.leader_ended() => Some(status),
        () = asked => {
            stopped = true;
            None
        }
        () = reached(deadline) => {
            timed_out = true;
            None
        }
    };
    let (mut kill, mut was_killed) = (None, false);
    let status = if let Some(status) = first {
        status
    } else {
        group.signal(Signal::TERM);
        // One that was stopped by a signal could not act on TERM.
        group.signal(Signal::CONT);
        let at = Instant::now() + grace;
        kill = Some(at);
        tokio::select! {
            biased;
            status = group.leader_ended() => status,
            () = tokio::time::sleep_until(at) => {
                group.signal(Signal::KILL);
                was_killed = true;
                group.leader_ended().await
            }
        }
    };
    let rest = group.rest_ended(kill, grace).await;
    End { status, timed_out, stopped, was_killed, rest }
}

async fn reached(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

impl End {
    /// What a person should know who reads the log.
    fn notes(&self, timeout: Option<Duration>, grace: Duration) -> Vec<String> {
        let mut notes = Vec::new();
        if let Some(timeout) = timeout.filter(|_| self.timed_out) {
            notes.push(format!("ended: its time of {} is over", human(timeout)));
        }
        if self.was_killed {
            notes.push(format!("killed: it did not end within {} of TERM", human(grace)));
        }
        notes.extend(note_of_rest(&self.rest));
        notes
    }

    fn exit(self, out: Stdout, said: Said, is_daemon: bool) -> Exit {
        let (code, signal, unseen) = match &self.status {
            Ok(status) => (status.code(), status.signal(), None),
            Err(error) => (None, None, Some(format!("its end could not be seen: {error}"))),
        };
        let error = said.error.or(unseen);
        let output = match out.output {
            Some(bytes) => program_output(bytes),
            // A `main` that returned nothing gave back `null`.
            None if code == Some(0) && error.is_none() && !is_daemon => said.result.or(Some("null".into())),
            None if error.is_none() => said.result,
            None => None,
        };
        let response = said.response;
        Exit { code, signal, output, response, error, timed_out: self.timed_out, stopped: self.stopped }
    }
}

fn note_of_rest(ending: &Ending) -> Vec<String> {
    let list = |stats: &[super::procfs::Stat]| {
        stats.iter().map(|stat| stat.pid.to_string()).collect::<Vec<_>>().join(", ")
    };
    let mut notes = Vec::new();
    if !ending.signalled.is_empty() {
        notes.push(format!("ended what the main process had left behind: {}", list(&ending.signalled)));
    }
    if !ending.left.is_empty() {
        notes.push(format!("could not end: {}", list(&ending.left)));
    }
    notes
}

/// Standard output as JSON text: itself where it is JSON, otherwise a string without its last line break.
fn program_output(bytes: Vec<u8>) -> Option<String> {
    let text = String::from_utf8(bytes).unwrap_or_else(|error| lossless(error.as_bytes()));
    let text = text.strip_suffix('\n').map_or(text.as_str(), |text| text.strip_suffix('\r').unwrap_or(text));
    if text.is_empty() {
        return None;
    }
    let is_json = json::check(text).is_ok();
    Some(if is_json { text.trim().to_owned() } else { serde_json::Value::from(text).to_string() })
}

/// Bytes that are not UTF-8 are escaped as in the log; the rest stays.
fn lossless(bytes: &[u8]) -> String {
    let chunks = bytes.utf8_chunks();
    chunks.map(|chunk| format!("{}{}", chunk.valid(), lines::escape(chunk.invalid()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn standard_output_becomes_json() {
        let output = |text: &[u8]| program_output(text.to_vec());
        assert_eq!(output(b"{\"a\": 1.50}\n").as_deref(), Some("{\"a\": 1.50}"));
        assert_eq!(output(b" [1,\n2]\n\n").as_deref(), Some("[1,\n2]"));
        assert_eq!(output(b"hello\nworld\r\n").as_deref(), Some("\"hello\\nworld\""));
        assert_eq!(output(b"say \"hi\"\n\n").as_deref(), Some("\"say \\\"hi\\\"\\n\""));
        assert_eq!(output(b"caf\xe9 \xc3\xa9\x1b").as_deref(), Some("\"caf\\\\xe9 \u{e9}\\u001b\""));
        assert_eq!((output(b""), output(b"\n")), (None, None));
    }
}
