//! Keeps what runs say.
//!
//! Lines are written in batches, bounded by their number and by their bytes. While one is written the next one
//! gathers, and a run that is faster than the store waits: nothing is lost, and memory stays bounded.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::{Active, Runner, chain, until_written};
use crate::act::Target;
use crate::model::id::RunId;
use crate::model::run::{LogLine, Stream};
use crate::model::time::Timestamp;

/// Most lines that are written together.
const LOG_BATCH: usize = 8192;
/// About the most bytes that are written together.
const LOG_BATCH_BYTES: usize = 1 << 20;
/// Longest time that a line waits for others to be written with.
const LOG_WAIT: Duration = Duration::from_millis(40);
/// Lines that are taken at once.
const TAKEN: usize = 256;
/// About how much of a daemon's log is kept, in bytes: it may write for ever.
pub(super) const DAEMON_LOG: usize = 64 << 20;
/// About how much of any other run's log is kept, in bytes.
pub(super) const RUN_LOG: usize = 1 << 30;
/// What a line takes in the store beside its text, in bytes, roughly.
const LINE_BYTES: usize = 32;

/// Lines as a run writes them.
type Lines = mpsc::Receiver<(Stream, String)>;

impl<T: Target> Runner<T> {
    /// Writes down what a run says, to its end; only about the newest `most` bytes of it are kept. Gives back the
    /// number of the last line.
    pub(super) async fn keep_log(&self, id: &RunId, active: &Active, mut lines: Lines, most: usize) -> u64 {
        let mut length = LogLength::new(most);
        let (mut seq, mut batch, mut taken) = (0, Vec::new(), Vec::with_capacity(TAKEN));
        while gather(&mut lines, &mut taken, &mut batch).await {
            let bytes = batch.iter().map(|(_, text)| text.len() + LINE_BYTES).sum();
            self.write_log(id, &mut seq, batch.drain(..)).await;
            if let Some(first) = length.grow(bytes, seq)
                && let Err(error) = self.store.trim_log(id, first).await
            {
                // The next part that is full takes this one with it.
                tracing::warn!("{}", chain(&error));
            }
            active.lines.send_replace(seq);
        }
        seq
    }

    /// Writes lines after the line `seq`, and counts them there.
    pub(super) async fn write_log(
        &self,
        id: &RunId,
        seq: &mut u64,
        lines: impl Iterator<Item = (Stream, String)>,
    ) {
        let at = Timestamp(self.clock.now_ms());
        let number = |(n, (stream, text)): (u64, (Stream, String))| LogLine { seq: n, at, stream, text };
        let numbered: Vec<LogLine> = (*seq + 1..).zip(lines).map(number).collect();
        until_written!(self.store.append_log(id, &numbered));
        *seq += numbered.len() as u64;
    }
}

/// Waits for lines, and then a moment for more; `false` at the end of all.
async fn gather(
    lines: &mut Lines,
    taken: &mut Vec<(Stream, String)>,
    batch: &mut Vec<(Stream, String)>,
) -> bool {
    if lines.recv_many(taken, TAKEN).await == 0 {
        return false;
    }
    let (deadline, mut bytes) = (Instant::now() + LOG_WAIT, 0);
    loop {
        bytes += taken.iter().map(|(_, text)| text.len()).sum::<usize>();
        batch.append(taken);
        if batch.len() >= LOG_BATCH || bytes >= LOG_BATCH_BYTES {
            return true;
        }
        match tokio::time::timeout_at(deadline, lines.recv_many(taken, TAKEN)).await {
            Ok(0) | Err(_) => return true,
            Ok(_) => {}
        }
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

    /// Counts so many bytes of lines of which `last` is the last one's number; gives back the first line that stays,
    /// if others go.
    fn grow(&mut self, bytes: usize, last: u64) -> Option<u64> {
        self.bytes += bytes;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_without_end_keeps_its_newest_parts() {
        let mut length = LogLength::new(8_000);
        let firsts: Vec<u64> = (1..=20).filter_map(|batch| length.grow(1_000, batch * 10)).collect();
        // Each batch fills one part of 1,000 bytes; eight are kept.
        assert_eq!(firsts[..3], [11, 21, 31]);
        assert_eq!(firsts.last(), Some(&131), "lines 131 to 200 stay, and a part that grows");
    }

    #[tokio::test(start_paused = true)]
    async fn batches_are_bounded_and_wait_for_more_only_a_moment() {
        let (sender, mut lines) = mpsc::channel(20_000);
        let (mut taken, mut batch) = (Vec::new(), Vec::new());
        let line = |bytes: usize| (Stream::Stdout, "x".repeat(bytes));
        sender.send(line(1)).await.unwrap();
        let began = Instant::now();
        assert!(gather(&mut lines, &mut taken, &mut batch).await);
        assert_eq!((batch.len(), began.elapsed().as_millis() / 10), (1, LOG_WAIT.as_millis() / 10));
        for _ in 0..20_000 {
            sender.try_send(line(1)).unwrap();
        }
        batch.clear();
        assert!(gather(&mut lines, &mut taken, &mut batch).await);
        assert_eq!(batch.len(), LOG_BATCH);
        while lines.try_recv().is_ok() {}
        for _ in 0..500 {
            sender.try_send(line(16 << 10)).unwrap();
        }
        batch.clear();
        assert!(gather(&mut lines, &mut taken, &mut batch).await);
        assert!(batch.len() <= TAKEN, "{}", batch.len());
        drop(sender);
        while gather(&mut lines, &mut taken, &mut batch).await {}
        assert!(batch.len() >= 500);
    }
}
