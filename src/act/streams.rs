//! Reads what a run writes, line by line, at the pace of whoever takes the lines.
//!
//! A reader that stalls stalls the run in its turn: the pipe fills and the program waits. Nothing is lost, and
//! memory stays bounded: a piece of a line, the lines that wait, and what may be an output.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::lines::Splitter;
use crate::model::run::Stream;

/// Takes the lines of a run's log.
pub(crate) type LogSender = mpsc::Sender<(Stream, String)>;

/// Lines that wait for a slow reader, before the run is stalled.
pub(crate) const WAITING_LINES: usize = 1024;

/// How much of a program's standard output becomes the run's output, in bytes.
pub(crate) const MAX_PROGRAM_OUTPUT: usize = 1 << 20;

/// How long a pipe is read on when the whole group is gone: only a process that left the group can still write.
pub(crate) const DRAIN: Duration = Duration::from_millis(200);

/// How much is read on then from a writer that never pauses: more than a pipe or a socket can have held.
const DRAIN_BYTES: usize = 2 << 20;

/// Small, because an idle daemon keeps two of them.
const READ_BYTES: usize = 8 << 10;

/// Says until when pipes are read, once the run's group is gone.
pub(crate) type Gone = watch::Receiver<Option<Instant>>;

/// Reads to the end of a stream, but not much beyond the end of the group.
pub(crate) struct Reader<R> {
    stream: R,
    gone: Gone,
    buffer: Vec<u8>,
    spare: usize,
    was_held: bool,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    /// Reads `stream` until it ends, or until `gone` says that it is time to give up.
    pub(crate) fn new(stream: R, gone: Gone) -> Self {
        Self { stream, gone, buffer: vec![0; READ_BYTES], spare: DRAIN_BYTES, was_held: false }
    }

    /// The next bytes; none at the end. Cancel safe.
    pub(crate) async fn next(&mut self) -> &[u8] {
        if self.spare == 0 {
            self.was_held = true;
            return &[];
        }
        let mut gone = self.gone.clone();
        let read = tokio::select! {
            // What is there is read first, however late it is: only waiting for more has a limit.
            biased;
            read = self.stream.read(&mut self.buffer) => read.unwrap_or(0),
            () = overdue(&mut gone) => {
                self.was_held = true;
                0
            }
        };
        if self.gone.borrow().is_some_and(|until| Instant::now() > until) {
            self.spare = self.spare.saturating_sub(read);
        }
        &self.buffer[..read]
    }

    /// Whether it was given up while somebody could still write.
    pub(crate) fn was_held(&self) -> bool {
        self.was_held
    }
}

async fn overdue(gone: &mut Gone) {
    match gone.wait_for(Option::is_some).await.map(|until| *until) {
        Ok(Some(until)) => tokio::time::sleep_until(until).await,
        // Only while everything is dropped.
        _ => std::future::pending().await,
    }
}

/// Sends every line of a stream to the log. Gives back whether somebody still held the stream open at the end.
pub(crate) async fn log<R: AsyncRead + Unpin>(
    mut reader: Reader<R>,
    stream: Stream,
    lines: &LogSender,
) -> bool {
    let (mut splitter, mut ready) = (Splitter::default(), Vec::new());
    loop {
        let bytes = reader.next().await;
        let is_end = bytes.is_empty();
        splitter.push(bytes, &mut ready);
        if is_end {
            splitter.end(&mut ready);
        }
        send(lines, stream, &mut ready).await;
        if is_end {
            return reader.was_held();
        }
    }
}

/// Sends lines on; forgets them where nobody takes them any more.
pub(crate) async fn send(lines: &LogSender, stream: Stream, ready: &mut Vec<String>) {
    for line in ready.drain(..) {
        let _ = lines.send((stream, line)).await;
    }
}

/// What becomes of standard output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Not known yet: it depends on whether the script has a `main`.
    Open,
    /// Lines of the log.
    Log,
    /// The run's output.
    Output,
}

/// What standard output came to.
#[derive(Debug, Default)]
pub(crate) struct Stdout {
    /// The run's output; `None` where it was log.
    pub output: Option<Vec<u8>>,
    /// Whether the output was longer than [`MAX_PROGRAM_OUTPUT`].
    pub was_cut: bool,
    /// Whether somebody still held the stream open at the end.
    pub was_held: bool,
}

/// Reads standard output to its end, and makes of it what `fate` says. Where nobody says it, it is output.
pub(crate) async fn stdout<R: AsyncRead + Unpin>(
    mut reader: Reader<R>,
    mut fate: watch::Receiver<Fate>,
    lines: &LogSender,
) -> Stdout {
    let mut sorter = Sorter::new(*fate.borrow_and_update());
    let mut is_end = false;
    while !is_end || sorter.fate == Fate::Open {
        tokio::select! {
            biased;
            changed = fate.changed(), if sorter.fate == Fate::Open => {
                sorter.decide(if changed.is_ok() { *fate.borrow_and_update() } else { Fate::Output });
            }
            bytes = reader.next(), if !is_end => {
                is_end = bytes.is_empty();
                sorter.push(bytes);
            }
        }
        send(lines, Stream::Stdout, &mut sorter.ready).await;
    }
    sorter.splitter.end(&mut sorter.ready);
    send(lines, Stream::Stdout, &mut sorter.ready).await;
    let output = (sorter.fate == Fate::Output).then_some(sorter.kept);
    Stdout { output, was_cut: sorter.was_cut, was_held: reader.was_held() }
}

/// Keeps what may become the output. Where that is more than an output may have and nothing is decided yet, it goes
/// to the log as well: it may have to, and the program must never wait for a decision that waits for it.
struct Sorter {
    fate: Fate,
    kept: Vec<u8>,
    was_cut: bool,
    is_logging: bool,
    splitter: Splitter,
    ready: Vec<String>,
}

impl Sorter {
    fn new(fate: Fate) -> Self {
        let is_logging = fate == Fate::Log;
        Self {
            fate,
            kept: Vec::new(),
            was_cut: false,
            is_logging,
            splitter: Splitter::default(),
            ready: Vec::new(),
        }
    }

    fn push(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        if self.fate != Fate::Log {
            let (fits, more) = bytes.split_at(bytes.len().min(MAX_PROGRAM_OUTPUT - self.kept.len()));
            self.kept.extend_from_slice(fits);
            if !more.is_empty() {
                self.was_cut = true;
                if self.fate == Fate::Open && !self.is_logging {
                    self.log_kept();
                    rest = more;
                }
            }
        }
        if self.is_logging {
            self.splitter.push(rest, &mut self.ready);
        }
    }

    fn decide(&mut self, fate: Fate) {
        self.fate = fate;
        match fate {
            Fate::Log => {
                if !self.is_logging {
                    self.log_kept();
                }
                self.kept = Vec::new();
                self.was_cut = false;
            }
            Fate::Output => self.is_logging = false,
            Fate::Open => {}
        }
    }

    fn log_kept(&mut self) {
        self.is_logging = true;
        self.splitter.push(&self.kept, &mut self.ready);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(fates: &[(usize, Fate)], total: usize) -> (Vec<String>, Option<usize>, bool) {
        let mut sorter = Sorter::new(Fate::Open);
        let mut lines = Vec::new();
        for at in 0..total {
            if let Some((_, fate)) = fates.iter().find(|(when, _)| *when == at) {
                sorter.decide(*fate);
            }
            sorter.push(format!("{at:0>9}\n").as_bytes());
            lines.append(&mut sorter.ready);
        }
        sorter.splitter.end(&mut sorter.ready);
        lines.append(&mut sorter.ready);
        (lines, (sorter.fate == Fate::Output).then_some(sorter.kept.len()), sorter.was_cut)
    }

    #[test]
    fn nothing_is_lost_whenever_it_is_decided() {
        let over = MAX_PROGRAM_OUTPUT / 10 + 1_000;
        let all = |count: usize| -> Vec<String> { (0..count).map(|at| format!("{at:0>9}")).collect() };
        assert_eq!(sorted(&[(0, Fate::Log)], 5), (all(5), None, false));
        assert_eq!(sorted(&[(3, Fate::Log)], 5), (all(5), None, false));
        assert_eq!(sorted(&[(3, Fate::Output)], 5), (vec![], Some(50), false));
        assert_eq!(sorted(&[(over - 10, Fate::Log)], over), (all(over), None, false));
        let (_, kept, was_cut) = sorted(&[(over - 10, Fate::Output)], over);
        assert_eq!((kept, was_cut), (Some(MAX_PROGRAM_OUTPUT), true));
        assert_eq!(sorted(&[(0, Fate::Output)], over), (vec![], Some(MAX_PROGRAM_OUTPUT), true));
    }
}
