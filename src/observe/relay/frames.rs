//! Server-sent events as they come over the wire: lines, and the blank line that ends each event.
//!
//! What a line and an event may hold is bounded: more is dropped as it comes, and told once the event is over.

use std::collections::VecDeque;

/// Longest name of a field or an event that is looked at, in bytes; none that matters is longer.
const MAX_NAME_BYTES: usize = 64;

/// What came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Frame {
    /// The data of an event without a name, or named `message`.
    Message(Vec<u8>),
    /// A sign of life: a comment, or an event of another name.
    Alive,
    /// An event that holds more than it may.
    TooLarge,
}

/// Reads a stream piece by piece.
pub(super) struct Frames {
    max: usize,
    line: Vec<u8>,
    /// The line is longer than it may be; its rest is dropped.
    is_cut: bool,
    /// The byte before was a carriage return, which a line feed belongs to.
    after_return: bool,
    is_first_line: bool,
    name: Vec<u8>,
    data: Option<Vec<u8>>,
    is_too_large: bool,
    ready: VecDeque<Frame>,
}

impl Frames {
    /// Events may hold `max` bytes of data.
    pub(super) fn new(max: usize) -> Self {
        Self {
            max,
            line: Vec::new(),
            is_cut: false,
            after_return: false,
            is_first_line: true,
            name: Vec::new(),
            data: None,
            is_too_large: false,
            ready: VecDeque::new(),
        }
    }

    /// Takes the next piece of the stream.
    pub(super) fn feed(&mut self, mut bytes: &[u8]) {
        while let Some(first) = bytes.first() {
            if std::mem::take(&mut self.after_return) && *first == b'\n' {
                bytes = &bytes[1..];
                continue;
            }
            let end = bytes.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
            self.extend(&bytes[..end.unwrap_or(bytes.len())]);
            let Some(end) = end else { return };
            self.after_return = bytes[end] == b'\r';
            bytes = &bytes[end + 1..];
            self.end_line();
        }
    }

    /// The next thing that came in whole.
    pub(super) fn next(&mut self) -> Option<Frame> {
        self.ready.pop_front()
    }

    fn extend(&mut self, part: &[u8]) {
        let room = (self.max + MAX_NAME_BYTES).saturating_sub(self.line.len());
        self.is_cut |= part.len() > room;
        self.line.extend_from_slice(&part[..part.len().min(room)]);
    }

    fn end_line(&mut self) {
        let mut line = std::mem::take(&mut self.line);
        if std::mem::take(&mut self.is_first_line) && line.starts_with("\u{feff}".as_bytes()) {
            line.drain(..3);
        }
        let is_cut = std::mem::take(&mut self.is_cut);
        match line.iter().position(|byte| *byte == b':') {
            _ if line.is_empty() => self.end_event(),
            Some(0) => self.ready.push_back(Frame::Alive),
            colon => {
                let name = &line[..colon.unwrap_or(line.len())];
                let value = colon.map_or(&[][..], |at| &line[at + 1..]);
                self.field(name, value.strip_prefix(b" ").unwrap_or(value), is_cut);
            }
        }
        // Its room serves the next line, unless it is much.
        if line.capacity() <= MAX_NAME_BYTES * 1024 {
            line.clear();
            self.line = line;
        }
    }

    fn field(&mut self, name: &[u8], value: &[u8], is_cut: bool) {
        match name {
            b"event" => self.name = value[..value.len().min(MAX_NAME_BYTES)].to_vec(),
            b"data" => {
                let data = self.data.get_or_insert_default();
                if is_cut || data.len() + value.len() > self.max {
                    self.is_too_large = true;
                    *data = Vec::new();
                }
                if !self.is_too_large {
                    data.extend_from_slice(value);
                    data.push(b'\n');
                }
            }
            // Ids and times to wait are for relays with a backlog, and for clients that believe a stranger.
            _ => self.is_too_large |= is_cut,
        }
    }

    fn end_event(&mut self) {
        let (name, data) = (std::mem::take(&mut self.name), self.data.take());
        let is_message = name.is_empty() || name == b"message";
        let frame = match data {
            _ if std::mem::take(&mut self.is_too_large) => Frame::TooLarge,
            Some(mut data) if is_message => {
                data.pop();
                Frame::Message(data)
            }
            _ => Frame::Alive,
        };
        self.ready.push_back(frame);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All frames of a stream that comes in pieces of `size` bytes.
    fn frames(text: &[u8], max: usize, size: usize) -> Vec<Frame> {
        let mut frames = Frames::new(max);
        text.chunks(size).for_each(|piece| frames.feed(piece));
        std::iter::from_fn(|| frames.next()).collect()
    }

    fn message(text: &str) -> Frame {
        Frame::Message(text.into())
    }

    #[test]
    fn reads_events_whatever_the_pieces_and_line_ends() {
        let text = "\u{feff}id: 0\nevent: ready\ndata: {}\n\nid: 1\ndata: a\ndata:b\ndata\n\n: comment\n\
                    event: message\r\ndata: c:d\r\n\r\nevent: ping\rdata: {}\r\rdata:  e\n\nretry: 1\n\ndata: never over";
        let expected = [
            Frame::Alive,
            message("a\nb\n"),
            Frame::Alive,
            message("c:d"),
            Frame::Alive,
            message(" e"),
            Frame::Alive,
        ];
        for size in 1..text.len() {
            assert_eq!(frames(text.as_bytes(), 100, size), expected, "{size}");
        }
    }

    #[test]
    fn what_is_too_large_is_dropped_and_told_once() {
        let long = "x".repeat(1000);
        for text in [
            format!("data: {long}\n\n"),
            format!("data: {}\ndata: {}\n\n", &long[..60], &long[..60]),
            format!("{long}\n\n"),
            format!("data: {long}\nevent: ping\ndata: y\n\n"),
        ] {
            let text = format!("data: a\n\n{text}data: b\n\n");
            for size in [1, 7, 5000] {
                let expected = [message("a"), Frame::TooLarge, message("b")];
                assert_eq!(frames(text.as_bytes(), 100, size), expected, "{text}");
            }
        }
        assert_eq!(frames(format!("data: {}\n\n", &long[..99]).as_bytes(), 100, 9), [message(&long[..99])]);
    }

    #[test]
    fn memory_is_bounded_whatever_comes() {
        let mut frames = Frames::new(1000);
        for _ in 0..10_000 {
            frames.feed(&[b'x'; 999]);
            assert!(frames.line.len() <= 1000 + MAX_NAME_BYTES);
        }
        let mut frames = Frames::new(1000);
        for _ in 0..10_000 {
            frames.feed(b"data: 0123456789\n");
            assert!(frames.data.as_ref().is_none_or(|data| data.len() <= 1001));
        }
        frames.feed(b"\n");
        assert_eq!((frames.next(), frames.next()), (Some(Frame::TooLarge), None));
    }
}
