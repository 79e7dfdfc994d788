//! Text for people: what comes from outside made safe to print, numbers with their words.

use std::borrow::Cow;

/// The text on one line that no terminal takes for a command: control characters and characters without a shape of
/// their own (escape sequences, line breaks, marks that reverse the direction of writing) are escaped as `\n` or
/// `\u{1b}`. Everything else stays as it is.
#[must_use]
pub fn printable(text: &str) -> Cow<'_, str> {
    if text.chars().all(is_plain) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_plain(c) {
            shown.push(c);
        } else {
            shown.extend(c.escape_debug());
        }
    }
    Cow::Owned(shown)
}

/// A number with its word: `1 unit`, `2 units`.
#[must_use]
pub fn count(number: usize, word: &str) -> String {
    if number == 1 { format!("1 {word}") } else { format!("{number} {word}s") }
}

fn is_plain(c: char) -> bool {
    if c.is_ascii() {
        return !c.is_ascii_control();
    }
    // `escape_debug` knows what is printable. It escapes an accent only where no letter comes before it.
    let mut pair = [b'a'; 5];
    let length = 1 + c.encode_utf8(&mut pair[1..]).len();
    std::str::from_utf8(&pair[..length]).is_ok_and(|pair| pair.escape_debug().count() == 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_what_a_terminal_would_obey() {
        assert!(matches!(printable("it's \"x\" \\ é e\u{301} 漢 🔑"), Cow::Borrowed(_)));
        assert_eq!(printable("a\u{1b}[31m\r\nb\t\u{7f}\u{9b}"), r"a\u{1b}[31m\r\nb\t\u{7f}\u{9b}");
        assert_eq!(
            printable("\u{202e}x\u{200b}\u{200d}\u{2028}\u{feff}"),
            r"\u{202e}x\u{200b}\u{200d}\u{2028}\u{feff}"
        );
    }
}
