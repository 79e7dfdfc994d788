//! The private channel between kindling and a shim: a socket, or two pipes, on which the request goes out and log records, the
//! response, the output and the error come back. What the script asks of what its task keeps is answered on it.
//!
//! A frame is one letter, the length of its payload in four bytes (big endian), and the payload. What comes back is
//! written by a stranger: every length is bounded and every JSON text is checked.

use std::collections::BTreeMap;

use serde_json::{Number, Value};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::kv::{self, KvCall};
use super::lines::{Splitter, escape};
use super::response::Response;
use super::spawn::Channel;
use super::streams::{Fate, Gone, LogSender, Reader, send};
use super::{MAX_MESSAGE_BYTES, json};
use crate::model::run::Stream;
use crate::model::spec::ParamValue;

/// Longest error that is kept, in characters; all of it is in the log.
const ERROR_CHARS: usize = 1000;

/// What a shim said.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Said {
    /// What `main` returned: JSON text.
    pub result: Option<String>,
    /// What it set by `output.response`: JSON text.
    pub response: Option<String>,
    /// What it threw, or why what it said is not taken; one line.
    pub error: Option<String>,
}

/// What a shim is told: the parameters and the input, each behind its length.
pub(crate) fn request(params: &BTreeMap<String, ParamValue>, input: &str) -> Vec<u8> {
    let params: Vec<String> = params
        .iter()
        .map(|(name, value)| format!("{}:{}", Value::from(name.as_str()), param(value)))
        .collect();
    let params = format!("{{{}}}", params.join(","));
    // The input was checked before; it travels as it is written, whatever its numbers.
    let parts = [params.as_str(), input];
    let mut all = Vec::with_capacity(parts.iter().map(|part| part.len() + 4).sum());
    for part in parts {
        all.extend_from_slice(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
        all.extend_from_slice(part.as_bytes());
    }
    all
}

/// The value as JSON text.
fn param(value: &ParamValue) -> String {
    match value {
        ParamValue::Boolean(value) => value.to_string(),
        ParamValue::String(text) => Value::from(text.as_str()).to_string(),
        // As it was written, which in YAML can be what JSON has no form for.
        ParamValue::Number(text) if json::check(text).is_ok() => text.clone(),
        ParamValue::Number(text) => {
            let number = text.parse().ok().and_then(Number::from_f64);
            number.map_or_else(|| Value::from(text.as_str()), Value::Number).to_string()
        }
    }
}

/// Sends the request and takes everything that comes back, until the shim's end or until `gone` says so. Gives back
/// also whether somebody still held the channel open then.
pub(crate) async fn converse(
    channel: Channel,
    request: Vec<u8>,
    fate: watch::Sender<Fate>,
    lines: &LogSender,
    keeper: &mpsc::Sender<KvCall>,
    gone: Gone,
) -> (Said, bool) {
    let Channel { read, mut write } = channel;
    let (calls, mut called) = mpsc::channel(kv::WAITING_CALLS);
    let mut end = Over { said: CancellationToken::new(), gone: gone.clone() };
    let over = end.said.clone();
    let frames = Reader::new(read, gone);
    let mut listener = Listener { frames, buffer: Vec::new(), said: Said::default(), calls };
    // Beside what is heard: neither side may wait to be read by the other one while that waits in its turn.
    let answer = async {
        end.write(&mut write, &request).await;
        drop(request);
        while let Some(call) = called.recv().await {
            // What was asked last is done even if nobody is there to hear of it.
            let frame = kv::ask(&call, keeper).await;
            end.write(&mut write, &frame).await;
        }
    };
    let listen = async {
        listener.listen(&fate, lines).await;
        over.cancel();
        let Listener { frames, said, calls, .. } = listener;
        drop(calls);
        (said, frames.was_held())
    };
    tokio::join!(listen, answer).0
}

/// The end of a conversation: nothing more is heard, or the run's group is gone.
struct Over {
    said: CancellationToken,
    gone: Gone,
}

impl Over {
    /// Writes, but not beyond the end. A shim that never reads ended before, and says so by its exit code.
    async fn write(&mut self, write: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) {
        tokio::select! {
            biased;
            () = self.said.cancelled() => {}
            _ = self.gone.wait_for(Option::is_some) => {}
            _ = write.write_all(bytes) => {}
        }
    }
}

struct Listener<R> {
    frames: Reader<R>,
    buffer: Vec<u8>,
    said: Said,
    calls: mpsc::Sender<Vec<u8>>,
}

impl<R: AsyncRead + Unpin> Listener<R> {
    async fn listen(&mut self, fate: &watch::Sender<Fate>, lines: &LogSender) {
        loop {
            while let Some((kind, payload)) = self.take() {
                if let Err(why) = self.hear(kind, payload, fate, lines).await {
                    self.said.error.get_or_insert(why);
                    return;
                }
            }
            let bytes = self.frames.next().await;
            if bytes.is_empty() {
                return;
            }
            self.buffer.extend_from_slice(bytes);
        }
    }

    /// Takes a whole frame off the buffer. One that is too long comes back without its payload, before it was read.
    fn take(&mut self) -> Option<(u8, Option<Vec<u8>>)> {
        let (kind, length) = (*self.buffer.first()?, self.buffer.get(1..5)?);
        let length = length.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
        if length > MAX_MESSAGE_BYTES {
            return Some((kind, None));
        }
        let rest = self.buffer.get(5 + length..)?.to_vec();
        let mut payload = std::mem::replace(&mut self.buffer, rest);
        payload.truncate(5 + length);
        payload.drain(..5);
        Some((kind, Some(payload)))
    }

    async fn hear(
        &mut self,
        kind: u8,
        payload: Option<Vec<u8>>,
        fate: &watch::Sender<Fate>,
        lines: &LogSender,
    ) -> Result<(), String> {
        let Some(payload) = payload else {
            return Err(format!("the output is larger than the {MAX_MESSAGE_BYTES} bytes allowed"));
        };
        match kind {
            b'M' => {
                let is_main = payload == b"main";
                fate.send_if_modified(|fate| {
                    let is_open = *fate == Fate::Open;
                    if is_open {
                        *fate = if is_main { Fate::Log } else { Fate::Output };
                    }
                    is_open
                });
            }
            b'L' => send(lines, Stream::Log, &mut log_lines(&payload)).await,
            // Nobody takes it only while everything is dropped.
            b'K' => drop(self.calls.send(payload).await),
            b'H' => {
                let text = checked("response", payload)?;
                Response::read(&text)?;
                self.said.response = Some(text);
            }
            b'R' => self.said.result = Some(checked("output", payload)?),
            // What came first is the cause of the rest.
            b'E' => {
                self.said.error.get_or_insert_with(|| one_line(&payload));
            }
            _ => return Err("something else than its shim wrote to the private channel".to_owned()),
        }
        Ok(())
    }
}

fn checked(what: &str, payload: Vec<u8>) -> Result<String, String> {
    let text = String::from_utf8(payload).map_err(|_| format!("the {what} is not UTF-8"))?;
    match json::check(&text) {
        Ok(()) => Ok(text),
        Err(why) => Err(format!("the {what} {why}")),
    }
}

/// The lines of a record `LEVEL\nMESSAGE`; only `info` goes without its level.
fn log_lines(record: &[u8]) -> Vec<String> {
    let at = record.iter().position(|byte| *byte == b'\n').unwrap_or(0);
    let (level, message) = (&record[..at], record.get(at + 1..).unwrap_or_default());
    let prefix: &[u8] = match level {
        b"debug" => b"debug: ",
        b"warn" => b"warn: ",
        b"error" => b"error: ",
        _ => b"",
    };
    let (mut splitter, mut lines) = (Splitter::default(), Vec::new());
    for part in [prefix, message, b"\n"] {
        splitter.push(part, &mut lines);
    }
    lines
}

fn one_line(text: &[u8]) -> String {
    let line =
        text.split(|byte| *byte == b'\n').find(|line| !line.trim_ascii().is_empty()).unwrap_or_default();
    escape(line.trim_ascii()).chars().take(ERROR_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::AsyncReadExt;
    use tokio::net::UnixStream;

    use super::*;

    fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&[kind], length.as_slice(), payload].concat()
    }

    /// What kindling makes of `bytes`, written in steps of `step`.
    async fn heard(bytes: Vec<u8>, step: usize) -> (Said, Fate, Vec<String>) {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let (fate, watched) = watch::channel(Fate::Open);
        let (lines, mut log) = mpsc::channel(1000);
        let (_gone, gone) = watch::channel(None);
        let shim = async move {
            for part in bytes.chunks(step) {
                // Broken when kindling has heard enough.
                let _ = theirs.write_all(part).await;
            }
        };
        let both = async {
            let (keeper, _calls) = mpsc::channel(1);
            let request = request(&BTreeMap::new(), "null");
            tokio::join!(converse(ours.into(), request, fate, &lines, &keeper, gone), shim).0
        };
        let (said, was_held) = tokio::time::timeout(Duration::from_secs(10), both).await.unwrap();
        assert!(!was_held);
        let mut all = Vec::new();
        while let Ok((stream, line)) = log.try_recv() {
            assert_eq!(stream, Stream::Log);
            all.push(line);
        }
        (said, *watched.borrow(), all)
    }

    #[tokio::test]
    async fn frames_are_heard_however_they_are_cut() {
        let all = [
            frame(b'M', b"main"),
            frame(b'L', b"warn\ntwo\nlines"),
            frame(b'L', b"info\nplain \x1b[1m"),
            frame(b'H', br#"{"status":201,"headers":{},"body":null}"#),
            frame(b'R', b"12345678901234567890123"),
        ]
        .concat();
        for step in [1, 2, 7, 1000] {
            let (said, fate, lines) = heard(all.clone(), step).await;
            assert_eq!(said.result.as_deref(), Some("12345678901234567890123"));
            assert_eq!(
                (said.response.as_deref(), said.error),
                (Some(r#"{"status":201,"headers":{},"body":null}"#), None)
            );
            assert_eq!(fate, Fate::Log);
            assert_eq!(lines, ["warn: two", "lines", "plain \\x1b[1m"]);
        }
    }

    #[tokio::test]
    async fn what_is_no_frame_ends_the_conversation() {
        for (bytes, why) in [
            (b"hello, world".to_vec(), "larger"),
            (frame(b'x', b""), "something else"),
            (frame(b'R', b"{"), "the output is not JSON"),
            (frame(b'R', b"\xff"), "the output is not UTF-8"),
            (frame(b'H', b"nul"), "the response is not JSON"),
            (frame(b'H', br#"{"status":101,"headers":{},"body":null}"#), "the status 101"),
            (vec![b'R', 1, 0, 0, 1], "larger than the 16777216 bytes"),
        ] {
            let (said, ..) = heard(bytes, 64).await;
            assert!(said.error.as_deref().is_some_and(|error| error.contains(why)), "{said:?}");
            assert_eq!(said.result, None);
        }
        // Cut off in the middle: whoever wrote it ended.
        assert_eq!(heard(frame(b'R', b"[1]")[..6].to_vec(), 64).await.0, Said::default());
        let (said, ..) = heard(frame(b'E', b"\n  ValueError: bad \x1b[0m\nmore"), 64).await;
        assert_eq!(said.error.as_deref(), Some("ValueError: bad \\x1b[0m"));
    }

    #[tokio::test]
    async fn the_request_keeps_every_number_as_it_is_written() {
        let params = BTreeMap::from([
            ("big".to_owned(), ParamValue::Number("12345678901234567890123".into())),
            ("n".to_owned(), ParamValue::Number("1.50".into())),
            ("odd".to_owned(), ParamValue::Number("+.5".into())),
            ("q".to_owned(), ParamValue::String("a\"b".into())),
            ("yes".to_owned(), ParamValue::Boolean(true)),
        ]);
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        let (fate, _watched) = watch::channel(Fate::Open);
        let (lines, _log) = mpsc::channel(1);
        let (_gone, gone) = watch::channel(None);
        let frame = request(&params, "[123456789012345678901234567890,\n 1]");
        let talk = tokio::spawn(async move {
            let (keeper, _calls) = mpsc::channel(1);
            converse(theirs.into(), frame, fate, &lines, &keeper, gone).await
        });
        for expected in [
            r#"{"big":12345678901234567890123,"n":1.50,"odd":0.5,"q":"a\"b","yes":true}"#,
            "[123456789012345678901234567890,\n 1]",
        ] {
            let mut text = vec![0; ours.read_u32().await.unwrap() as usize];
            ours.read_exact(&mut text).await.unwrap();
            assert_eq!(String::from_utf8(text).unwrap(), expected);
        }
        drop(ours);
        assert_eq!(talk.await.unwrap(), (Said::default(), false));
    }
}
