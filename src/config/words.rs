//! Words of a file in messages: quoted without harm, and compared with the words that are known.

use crate::support::text::printable;

/// Words that other formats have for what a known word means.
const ALIKE: [(&[&str], &str); 3] = [
    (&["int", "integer", "float", "double", "decimal", "num"], "number"),
    (&["bool"], "boolean"),
    (&["str", "text"], "string"),
];

/// Most characters of a file's own word that a message repeats.
const MAX_QUOTED: usize = 40;

/// Lists of known words longer than this are left out where a near one was found.
const SHORT_LIST: usize = 13;

/// Fields that are known at other places, which is likelier than a typo.
const ELSEWHERE: [(&str, &str); 1] = [("entries", "sets have it, and overrides of a set; this is a task")];

/// Lists of known words longer than this are left out in any case.
const LONG_LIST: usize = 40;

/// A name or a word of a closed list from a file, in backticks: control characters escaped, bounded in length.
#[must_use]
pub fn quoted(word: &str) -> String {
    let end = word.char_indices().nth(MAX_QUOTED).map_or(word.len(), |(end, _)| end);
    let rest = if end < word.len() { "…" } else { "" };
    format!("`{}{rest}`", printable(&word[..end]))
}

/// Says that the value `word` is none of `known`. It is repeated only where it is a known word's likely typo: anything
/// else may be a secret that was put at the wrong key.
#[must_use]
pub fn unknown_value(what: &str, word: &str, known: &[&str]) -> String {
    match meant(word, known) {
        Some(_) => unknown(what, word, known),
        None => format!("unknown {what}; known: {}", known.join(", ")),
    }
}

/// As [`unknown_value`], where the list is too long to be shown: without a near word, `else_say` takes its place.
#[must_use]
pub fn unknown_value_of_many(what: &str, word: &str, known: &[&str], else_say: &str) -> String {
    match nearest(word, known) {
        Some(near) => format!("unknown {what} {}; did you mean `{near}`?", quoted(word)),
        None => format!("unknown {what}; {else_say}"),
    }
}

/// Says that the name `word` is none of `known`, with the nearest one: ``unknown field `nmae`; did you mean `name`?``
#[must_use]
pub fn unknown(what: &str, word: &str, known: &[&str]) -> String {
    let mut message = format!("unknown {what} {}", quoted(word));
    let elsewhere = ELSEWHERE.iter().find(|(name, _)| what == "field" && word == *name);
    if let Some((_, where_it_is)) = elsewhere {
        return format!("{message}: {where_it_is}");
    }
    let near = meant(word, known);
    if let Some(near) = near {
        message.push_str(&format!("; did you mean `{near}`?"));
    }
    let most = if near.is_some() { SHORT_LIST } else { LONG_LIST };
    if (1..=most).contains(&known.len()) {
        message.push_str(if near.is_some() { " known: " } else { "; known: " });
        message.push_str(&known.join(", "));
    }
    message
}

/// The known word for what other languages call `word`, or the nearest one.
fn meant<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let lower = word.to_ascii_lowercase();
    let alike = ALIKE.iter().find(|(words, _)| words.contains(&lower.as_str())).map(|(_, meant)| *meant);
    nearest(word, known).or_else(|| known.iter().copied().find(|known| Some(*known) == alike))
}

/// The known word that `word` was probably meant to be: equal but for case, or at most a third of it mistyped.
#[must_use]
pub fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    if word.chars().count() > MAX_QUOTED {
        return None;
    }
    let lower = word.to_lowercase();
    known
        .iter()
        .map(|&candidate| (distance(&lower, &candidate.to_lowercase()), candidate))
        .filter(|(distance, candidate)| *distance <= candidate.chars().count() / 3)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// How many characters have to be added, dropped, replaced or swapped with their neighbour (optimal string
/// alignment).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![(0..=b.len()).collect::<Vec<usize>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut cost = replaced.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                cost = cost.min(rows[i - 2][j - 2] + 1);
            }
            row.push(cost);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suggests_what_was_probably_meant() {
        let known = ["shell", "python", "node"];
        assert_eq!(
            unknown("runtime", "pyton", &known),
            "unknown runtime `pyton`; did you mean `python`? known: shell, python, node"
        );
        assert_eq!(unknown("field", "ruby", &known), "unknown field `ruby`; known: shell, python, node");
        assert_eq!(nearest("apiversion", &["apiVersion"]), Some("apiVersion"));
        assert_eq!(nearest("nmae", &["name", "node"]), Some("name"));
        assert_eq!(nearest("x", &["name", "node", "a"]), None);
        assert_eq!(nearest("A", &["name", "node", "a"]), Some("a"));
        assert_eq!(nearest(&"n".repeat(100_000), &["name"]), None);
    }

    #[test]
    fn knows_the_words_of_other_formats() {
        let kinds = ["string", "number", "boolean"];
        for (word, meant) in
            [("int", "number"), ("Integer", "number"), ("bool", "boolean"), ("str", "string")]
        {
            let said = unknown_value("type", word, &kinds);
            assert_eq!(
                said,
                format!("unknown type `{word}`; did you mean `{meant}`? known: string, number, boolean")
            );
        }
        assert_eq!(unknown_value("type", "int", &["a", "b"]), "unknown type; known: a, b");
        let said = unknown("field", "entries", &["env", "retries"]);
        assert_eq!(said, "unknown field `entries`: sets have it, and overrides of a set; this is a task");
    }

    #[test]
    fn a_value_is_repeated_only_where_it_is_a_known_words_typo() {
        let known = ["shell", "python", "node"];
        assert_eq!(
            unknown_value("runtime", "pyton", &known),
            "unknown runtime `pyton`; did you mean `python`? known: shell, python, node"
        );
        for value in ["ruby", "hunter2", "", "python-token-4711", "\u{1b}[2J"] {
            let said = unknown_value("runtime", value, &known);
            assert_eq!(said, "unknown runtime; known: shell, python, node", "{value}");
        }
    }

    #[test]
    fn repeats_no_control_character_and_no_more_than_its_bound() {
        assert_eq!(quoted("a\u{1b}[31m\n\u{202e}"), r"`a\u{1b}[31m\n\u{202e}`");
        assert_eq!(quoted(&"é".repeat(1000)).chars().count(), MAX_QUOTED + 3);
        assert_eq!(quoted(r#"it's "x"\y"#), r#"`it's "x"\y`"#);
    }
}
