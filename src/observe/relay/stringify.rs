//! JSON as JavaScript's `JSON.stringify` writes what `JSON.parse` read.
//!
//! A relay that is written in JavaScript parses a body and writes it again; the signature is of what was there before.
//! Whatever survives that (the order of keys, the values of numbers, every character) is written here in the one way
//! that JavaScript writes it.

use std::collections::HashMap;
use std::fmt::Write as _;

/// Deepest nesting that is followed; no payload of a push comes near it.
const MAX_DEPTH: usize = 128;

/// The largest index of an array of JavaScript: such keys come first in an object, in their order.
const MAX_INDEX: u64 = 0xffff_fffe;

/// Writes a JSON text again; `None` where it is none, or is nested too deeply.
pub(super) fn stringify(json: &str) -> Option<String> {
    let mut reader = Reader { text: json, at: 0, depth: 0 };
    let mut out = String::with_capacity(json.len());
    reader.value(&mut out)?;
    reader.blank();
    (reader.at == json.len()).then_some(out)
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn blank(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    /// Takes one byte, after blanks; gives back whether it was there.
    fn take(&mut self, byte: u8) -> bool {
        self.blank();
        let is_there = self.peek() == Some(byte);
        self.at += usize::from(is_there);
        is_there
    }

    fn value(&mut self, out: &mut String) -> Option<()> {
        self.blank();
        match self.peek()? {
            b'{' => self.nested(|reader| reader.object(out)),
            b'[' => self.nested(|reader| reader.array(out)),
            b'"' => self.string(out),
            b't' => self.word("true", out),
            b'f' => self.word("false", out),
            b'n' => self.word("null", out),
            _ => self.number(out),
        }
    }

    fn nested(&mut self, read: impl FnOnce(&mut Self) -> Option<()>) -> Option<()> {
        self.depth += 1;
        self.at += 1;
        (self.depth <= MAX_DEPTH).then_some(())?;
        read(self)?;
        self.depth -= 1;
        Some(())
    }

    fn word(&mut self, word: &str, out: &mut String) -> Option<()> {
        self.text[self.at..].starts_with(word).then_some(())?;
        self.at += word.len();
        out.push_str(word);
        Some(())
    }

    fn array(&mut self, out: &mut String) -> Option<()> {
        out.push('[');
        let mut is_first = true;
        while !(is_first && self.take(b']')) {
            if !std::mem::take(&mut is_first) {
                out.push(',');
            }
            self.value(out)?;
            if self.take(b']') {
                break;
            }
            self.take(b',').then_some(())?;
        }
        out.push(']');
        Some(())
    }

    fn object(&mut self, out: &mut String) -> Option<()> {
        // A string has one way to be written, so the written key stands for the key.
        let mut members: Vec<(String, String)> = Vec::new();
        let mut places: HashMap<String, usize> = HashMap::new();
        while !(members.is_empty() && self.take(b'}')) {
            let (mut key, mut value) = (String::new(), String::new());
            self.blank();
            self.string(&mut key)?;
            self.take(b':').then_some(())?;
            self.value(&mut value)?;
            // The last one of a name counts, in the place of the first.
            match places.get(&key) {
                Some(place) => members[*place].1 = value,
                None => {
                    places.insert(key.clone(), members.len());
                    members.push((key, value));
                }
            }
            if self.take(b'}') {
                break;
            }
            self.take(b',').then_some(())?;
        }
        // Stable: names that are no index keep their order.
        members.sort_by_key(|(key, _)| index(key).map_or((1, 0), |index| (0, index)));
        out.push('{');
        for (at, (key, value)) in members.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            // Writing to a string cannot fail.
            let _ = write!(out, "{comma}{key}:{value}");
        }
        out.push('}');
        Some(())
    }

    fn string(&mut self, out: &mut String) -> Option<()> {
        (self.peek()? == b'"').then_some(())?;
        self.at += 1;
        out.push('"');
        loop {
            let rest = &self.text[self.at..];
            let plain = rest.find(|c: char| matches!(c, '"' | '\\') || c < ' ')?;
            out.push_str(&rest[..plain]);
            self.at += plain + 1;
            match rest.as_bytes()[plain] {
                b'"' => break,
                b'\\' => self.escape(out)?,
                _ => return None,
            }
        }
        out.push('"');
        Some(())
    }

    fn escape(&mut self, out: &mut String) -> Option<()> {
        let kind = self.peek()?;
        self.at += 1;
        match kind {
            b'"' | b'\\' => out.extend(['\\', char::from(kind)]),
            b'/' => out.push('/'),
            b'b' | b'f' | b'n' | b'r' | b't' => out.extend(['\\', char::from(kind)]),
            b'u' => {
                let unit = self.unit()?;
                self.character(unit, out)?;
            }
            _ => return None,
        }
        Some(())
    }

    /// Four hexadecimal digits.
    fn unit(&mut self) -> Option<u16> {
        let digits = self.text.get(self.at..self.at + 4)?;
        digits.bytes().all(|byte| byte.is_ascii_hexdigit()).then_some(())?;
        self.at += 4;
        u16::from_str_radix(digits, 16).ok()
    }

    /// Writes the character that begins with this half or whole one.
    fn character(&mut self, unit: u16, out: &mut String) -> Option<()> {
        if matches!(unit, 0xd800..=0xdbff) && self.text[self.at..].starts_with("\\u") {
            let before = self.at;
            self.at += 2;
            let second = self.unit()?;
            if let Some(Ok(c)) = char::decode_utf16([unit, second]).next() {
                out.push(c);
                return Some(());
            }
            self.at = before;
        }
        match char::from_u32(u32::from(unit)) {
            Some('"') => out.push_str("\\\""),
            Some('\\') => out.push_str("\\\\"),
            Some('\u{8}') => out.push_str("\\b"),
            Some('\u{c}') => out.push_str("\\f"),
            Some('\n') => out.push_str("\\n"),
            Some('\r') => out.push_str("\\r"),
            Some('\t') => out.push_str("\\t"),
            Some(c) if c >= ' ' => out.push(c),
            _ => {
                let _ = write!(out, "\\u{unit:04x}");
            }
        }
        Some(())
    }

    fn number(&mut self, out: &mut String) -> Option<()> {
        let rest = &self.text[self.at..];
        let end =
            rest.find(|c: char| !matches!(c, '0'..='9' | '+' | '-' | '.' | 'e' | 'E')).unwrap_or(rest.len());
        is_number(&rest[..end]).then_some(())?;
        self.at += end;
        write_number(rest[..end].parse().ok()?, out);
        Some(())
    }
}

/// Whether this is a number of JSON: Rust reads more than those.
fn is_number(text: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let text = text.strip_prefix('-').unwrap_or(text);
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (text, None),
    };
    let (whole, part) = match mantissa.split_once('.') {
        Some((whole, part)) => (whole, Some(part)),
        None => (mantissa, None),
    };
    digits(whole)
        && (whole == "0" || !whole.starts_with('0'))
        && part.is_none_or(digits)
        && exponent.is_none_or(|text| digits(text.strip_prefix(['+', '-']).unwrap_or(text)))
}

/// As `Number::toString` of ECMAScript writes it: the shortest digits that lead back to the value.
fn write_number(value: f64, out: &mut String) {
    if !value.is_finite() {
        return out.push_str("null");
    }
    if value == 0.0 {
        return out.push('0');
    }
    if value < 0.0 {
        out.push('-');
    }
    let text = shortest(value.abs());
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let digits = mantissa.replace('.', "");
    let point = exponent.parse::<i32>().unwrap_or(0) + 1;
    let count = i32::try_from(digits.len()).unwrap_or(i32::MAX);
    let zeros = |many: i32| "0".repeat(usize::try_from(many).unwrap_or(0));
    let at = usize::try_from(point).unwrap_or(0);
    // Writing to a string cannot fail.
    let _ = match point {
        _ if count <= point && point <= 21 => write!(out, "{digits}{}", zeros(point - count)),
        1..=21 => write!(out, "{}.{}", &digits[..at], &digits[at..]),
        -5..=0 => write!(out, "0.{}{digits}", zeros(-point)),
        _ => {
            let dot = if count > 1 { "." } else { "" };
            write!(out, "{}{dot}{}e{:+}", &digits[..1], &digits[1..], point - 1)
        }
    };
}

/// One digit, a point and the others, and the power of ten: as few as lead back to the value. Where several of so many
/// do, it is the one that is nearest, and of two that are as near the even one: Rust takes the upper one.
fn shortest(value: f64) -> String {
    let shortest = format!("{value:e}");
    let digits = shortest.bytes().take_while(|byte| *byte != b'e').filter(u8::is_ascii_digit).count();
    let nearest = format!("{value:.*e}", digits.saturating_sub(1));
    if nearest.parse() == Ok(value) { nearest } else { shortest }
}

/// The index that a key is, as it is written.
fn index(key: &str) -> Option<u64> {
    let digits = key.trim_matches('"');
    let is_one = !digits.is_empty()
        && digits.len() <= 10
        && digits.bytes().all(|byte| byte.is_ascii_digit())
        && (digits == "0" || !digits.starts_with('0'));
    digits.parse().ok().filter(|index| is_one && *index <= MAX_INDEX)
}

#[cfg(test)]
mod tests;
