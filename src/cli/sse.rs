//! Server-sent events: the data of each event, out of the bytes of a stream
//! (<https://html.spec.whatwg.org/multipage/server-sent-events.html>).

use std::collections::VecDeque;

use super::error::CliError;

/// More than this in one event is refused: a line of a run's log, with room.
const MAX_EVENT: usize = 32 << 20;

/// Takes bytes, gives data.
#[derive(Debug, Default)]
pub struct Frames {
    /// The line that has no end yet.
    line: Vec<u8>,
    /// The data of the event that has no end yet.
    data: Option<String>,
    done: VecDeque<String>,
}

impl Frames {
    /// Takes what came in.
    ///
    /// # Errors
    /// One event is too large.
    pub fn put(&mut self, bytes: &[u8]) -> Result<(), CliError> {
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            self.line.extend_from_slice(&rest[..end]);
            rest = &rest[end + 1..];
            let line = std::mem::take(&mut self.line);
            self.take_line(String::from_utf8_lossy(&line).trim_end_matches('\r'));
        }
        self.line.extend_from_slice(rest);
        if self.line.len() + self.data.as_ref().map_or(0, String::len) > MAX_EVENT {
            return Err(CliError::outside("the service sent an event of more than 32 MiB"));
        }
        Ok(())
    }

    /// The data of the next event that is whole.
    pub fn take(&mut self) -> Option<String> {
        self.done.pop_front()
    }

    fn take_line(&mut self, line: &str) {
        if line.is_empty() {
            self.done.extend(self.data.take());
        } else if let Some(data) = line.strip_prefix("data:") {
            let data = data.strip_prefix(' ').unwrap_or(data);
            match &mut self.data {
                Some(before) => {
                    before.push('\n');
                    before.push_str(data);
                }
                None => self.data = Some(data.to_owned()),
            }
        }
        // Comments keep the connection alive; the other fields are not used.
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_whole_events_however_the_bytes_are_cut() {
        let text = ": hello\n\ndata: {\"a\":\"é\"}\n\nevent: x\ndata:1\r\ndata: 2\r\nid: 7\r\n\r\ndata: unfinished\n";
        for size in 1..text.len() {
            let mut frames = Frames::default();
            for bytes in text.as_bytes().chunks(size) {
                frames.put(bytes).unwrap();
            }
            let all: Vec<String> = std::iter::from_fn(|| frames.take()).collect();
            assert_eq!(all, ["{\"a\":\"é\"}", "1\n2"], "chunks of {size}");
        }
    }

    #[test]
    fn an_event_without_an_end_is_refused() {
        let mut frames = Frames::default();
        let chunk = vec![b'x'; 1 << 20];
        let refused = (0..64).find_map(|_| frames.put(&chunk).err());
        assert!(refused.unwrap().sentence().contains("32 MiB"));
    }
}
