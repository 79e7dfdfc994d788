//! Bytes of a stream to lines of a log that are safe to print. No input or output.

/// Longest line, in bytes as they were written; a longer one is split. A line of a log stays readable, and 1,024 of
/// them waiting for a slow reader stay within 64 MiB at worst.
pub(crate) const PIECE_BYTES: usize = 16 << 10;

/// Cuts a stream into lines, wherever its reads began and ended.
#[derive(Debug, Default)]
pub(crate) struct Splitter {
    /// The beginning of a line whose end was not read yet.
    pending: Vec<u8>,
}

impl Splitter {
    /// Takes bytes; appends every line that is complete now to `lines`.
    pub(crate) fn push(&mut self, bytes: &[u8], lines: &mut Vec<String>) {
        // In steps, so that taking a piece off the front never moves much.
        for step in bytes.chunks(PIECE_BYTES) {
            self.push_step(step, lines);
        }
    }

    /// The stream ended: its last line needs no line break.
    pub(crate) fn end(&mut self, lines: &mut Vec<String>) {
        if !self.pending.is_empty() {
            lines.push(escape(&self.pending));
            self.pending.clear();
        }
    }

    fn push_step(&mut self, step: &[u8], lines: &mut Vec<String>) {
        let mut rest = step;
        while let Some(at) = rest.iter().position(|byte| *byte == b'\n') {
            if self.pending.is_empty() {
                lines.push(escape(without_return(&rest[..at])));
            } else {
                self.pending.extend_from_slice(&rest[..at]);
                self.cut(lines);
                lines.push(escape(without_return(&self.pending)));
                self.pending.clear();
            }
            rest = &rest[at + 1..];
        }
        self.pending.extend_from_slice(rest);
        self.cut(lines);
    }

    /// Takes pieces off a line that is too long, never through the middle of a character.
    fn cut(&mut self, lines: &mut Vec<String>) {
        // One more byte may be the carriage return of the line break.
        while self.pending.len() > PIECE_BYTES + 1 {
            let at = boundary(&self.pending);
            lines.push(escape(&self.pending[..at]));
            self.pending.drain(..at);
        }
    }
}

fn without_return(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// The last place at or before [`PIECE_BYTES`] where no character of UTF-8 is torn.
fn boundary(bytes: &[u8]) -> usize {
    let continues = |at: &usize| bytes.get(*at).is_some_and(|byte| byte & 0xc0 == 0x80);
    (PIECE_BYTES - 3..=PIECE_BYTES).rev().find(|at| !continues(at)).unwrap_or(PIECE_BYTES)
}

/// The text of a line: bytes that are not UTF-8 and every control character but the tab become `\xNN`, so that
/// nothing that a program wrote reaches a terminal as a command.
pub(crate) fn escape(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.chars().any(must_escape) => text.to_owned(),
        _ => escape_slowly(bytes),
    }
}

fn must_escape(c: char) -> bool {
    c.is_control() && c != '\t'
}

fn escape_slowly(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() + 16);
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if must_escape(c) {
                push_escaped(&mut text, c.encode_utf8(&mut [0; 4]).as_bytes());
            } else {
                text.push(c);
            }
        }
        push_escaped(&mut text, chunk.invalid());
    }
    text
}

fn push_escaped(text: &mut String, bytes: &[u8]) {
    const DIGITS: [char; 16] =
        ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
    for byte in bytes {
        text.push_str("\\x");
        text.push(DIGITS[usize::from(byte >> 4)]);
        text.push(DIGITS[usize::from(byte & 15)]);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn split(reads: &[&[u8]]) -> Vec<String> {
        let (mut splitter, mut lines) = (Splitter::default(), Vec::new());
        for read in reads {
            splitter.push(read, &mut lines);
        }
        splitter.end(&mut lines);
        lines
    }

    #[test]
    fn keeps_every_line_with_or_without_its_break() {
        assert_eq!(split(&[b"a\nb\r\n\n", b"c", b"d\r", b"\nlast"]), ["a", "b", "", "cd", "last"]);
        assert!(split(&[b""]).is_empty());
        assert_eq!(split(&[b"\n"]), [""]);
    }

    #[test]
    fn escapes_what_a_terminal_would_obey() {
        assert_eq!(escape(b"a\x1b[31mred\x07\0\x7f\tb\r"), "a\\x1b[31mred\\x07\\x00\\x7f\tb\\x0d");
        assert_eq!(escape("\u{9b}31m \u{e4}\u{1f600}".as_bytes()), "\\xc2\\x9b31m \u{e4}\u{1f600}");
        assert_eq!(escape(b"\xff\xfe a \xe2\x82"), "\\xff\\xfe a \\xe2\\x82");
    }

    #[test]
    fn splits_a_long_line_between_characters() {
        let long = "\u{20ac}".repeat(PIECE_BYTES);
        let lines = split(&[long.as_bytes(), b"\n", b"next\n"]);
        assert_eq!(lines.last().unwrap(), "next");
        assert_eq!(lines[..lines.len() - 1].concat(), long);
        assert!(lines.iter().all(|line| line.len() <= PIECE_BYTES + 1 && !line.is_empty()));
        for end in ["\n", "\r\n", ""] {
            assert_eq!(split(&["x".repeat(PIECE_BYTES).as_bytes(), end.as_bytes()]).len(), 1, "{end:?}");
        }
    }

    proptest! {
        #[test]
        fn where_reads_end_makes_no_difference(bytes in prop::collection::vec(any::<u8>(), 0..300), step in 1_usize..40) {
            let whole = split(&[&bytes]);
            let parts: Vec<&[u8]> = bytes.chunks(step).collect();
            prop_assert_eq!(split(&parts), whole);
        }
    }
}
