//! Reads cron expressions. Stricter than Vixie where Vixie takes what nobody means: an empty item, a step that is
//! larger than its field.

use std::str::FromStr;

use super::{Cron, Stars};

/// Why a text is no cron expression: the end of a sentence that begins with what holds it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CronError(pub(super) String);

/// Names for whole expressions, and what they stand for.
const NAMED: [(&str, &str); 7] = [
    ("@hourly", "0 * * * *"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@weekly", "0 0 * * 0"),
    ("@monthly", "0 0 1 * *"),
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
];

/// Longest item that a message repeats, in characters: with letters in it, and without.
const MAX_SHOWN: usize = 12;
const MAX_NUMBERS_SHOWN: usize = 40;

/// A field: what it is called and what it may hold.
pub(super) struct Field {
    pub name: &'static str,
    pub min: u8,
    pub max: u8,
    words: &'static [&'static str],
}

const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

pub(super) const FIELDS: [Field; 5] = [
    Field { name: "minute", min: 0, max: 59, words: &[] },
    Field { name: "hour", min: 0, max: 23, words: &[] },
    Field { name: "day of month", min: 1, max: 31, words: &[] },
    Field { name: "month", min: 1, max: 12, words: &MONTHS },
    // 0 and 7 are both Sunday.
    Field { name: "day of week", min: 0, max: 7, words: &WEEKDAYS },
];

impl Cron {
    /// The names for whole expressions.
    pub const NAMES: [&str; 7] = {
        let mut names = [""; 7];
        let mut at = 0;
        while at < names.len() {
            names[at] = NAMED[at].0;
            at += 1;
        }
        names
    };
}

const UNKNOWN_NAME: &str = "begins with `@` and is no known name";

impl CronError {
    /// Whether a name such as `@daily` was wanted, and another one stood there.
    #[must_use]
    pub fn is_unknown_name(&self) -> bool {
        self.0.starts_with(UNKNOWN_NAME)
    }
}

impl FromStr for Cron {
    type Err = CronError;

    fn from_str(text: &str) -> Result<Self, CronError> {
        let fields = fields(text)?;
        let mut sets = [0u64; 5];
        for ((set, field), text) in sets.iter_mut().zip(&FIELDS).zip(&fields) {
            *set = field.read(text)?;
        }
        let stars = fields.map(|field| field.starts_with('*'));
        let [minutes, hours, days, months, weekdays] = sets;
        let weekdays = (weekdays | weekdays >> 7) & 0x7f;
        let cron = Self {
            minutes,
            hours: narrow(hours),
            days: narrow(days),
            months: narrow(months),
            weekdays: narrow(weekdays),
            stars: Stars { minutes: stars[0], hours: stars[1], days: stars[2], weekdays: stars[4] },
        };
        cron.check_dates()?;
        Ok(cron)
    }
}

/// The bits of a field, of which none is beyond its type.
fn narrow<T: TryFrom<u64> + Default>(bits: u64) -> T {
    T::try_from(bits).unwrap_or_default()
}

/// The five fields of an expression, or of what a name stands for.
pub(super) fn fields(text: &str) -> Result<[&str; 5], CronError> {
    let text = text.trim();
    if let Some(name) = text.strip_prefix('@') {
        return named(text, name);
    }
    let found: Vec<&str> = text.split_whitespace().collect();
    let count = found.len();
    <[&str; 5]>::try_from(found).map_err(|_| {
        CronError(match count {
            0 => "is empty; it needs five fields, such as `0 6 * * 1-5`".into(),
            6 | 7 => format!(
                "has {count} fields; it needs five: minute, hour, day of month, month, day of week. There are no \
                 seconds and no years"
            ),
            _ => format!(
                "has {count} {}; it needs five: minute, hour, day of month, month, day of week",
                if count == 1 { "field" } else { "fields" }
            ),
        })
    })
}

fn named<'a>(text: &str, name: &str) -> Result<[&'a str; 5], CronError> {
    let found = NAMED.iter().find(|(known, _)| known.eq_ignore_ascii_case(text));
    if let Some((_, expression)) = found {
        return fields(expression);
    }
    let first = name.split_whitespace().next().unwrap_or_default().to_ascii_lowercase();
    Err(CronError(match first.as_str() {
        "every" => "names `@every`, which is not of cron; write it as fields, such as `*/15 * * * *`".into(),
        "reboot" => "names `@reboot`; what starts with kindling is a `daemon`".into(),
        _ => {
            format!("{UNKNOWN_NAME}; known: {}", Cron::NAMES.join(", "))
        }
    }))
}

impl Field {
    /// The values of a field's text.
    fn read(&self, text: &str) -> Result<u64, CronError> {
        let mut set = 0;
        for item in text.split(',') {
            if item.is_empty() {
                return Err(self.error("has an empty item in its list"));
            }
            set |= self.item(item)?;
        }
        Ok(set)
    }

    fn item(&self, item: &str) -> Result<u64, CronError> {
        let (range, step) = match item.split_once('/') {
            Some((range, step)) => (range, Some(step)),
            None => (item, None),
        };
        let (first, last) = match range.split_once('-') {
            _ if range == "*" => (self.min, self.max.min(self.top())),
            Some((first, last)) => (self.value(first, item)?, self.last(last, item)?),
            None => {
                let only = self.value(range, item)?;
                if step.is_some() {
                    let message = format!(
                        "has a step after a single value{}; write a range before it, such as `{}-{}/2`",
                        shown(item).map(|item| format!(" in {item}")).unwrap_or_default(),
                        self.min,
                        self.top(),
                    );
                    return Err(self.error(&message));
                }
                (only, only)
            }
        };
        if first > last {
            return Err(self.error(&about("has a range that ends before it begins", item)));
        }
        let step = step.map_or(Ok(1), |step| self.step(step, item, last - first))?;
        Ok((first..=last).step_by(usize::from(step)).fold(0, |set, value| set | 1 << value))
    }

    /// The highest value that `*` stands for.
    fn top(&self) -> u8 {
        if self.max == 7 { 6 } else { self.max }
    }

    fn step(&self, text: &str, item: &str, length: u8) -> Result<u8, CronError> {
        let step = number(text).ok_or_else(|| self.error(&about("has a step that is no number", item)))?;
        match u8::try_from(step) {
            Ok(0) => Err(self.error(&about("has a step of 0", item))),
            Ok(step) if step <= length => Ok(step),
            _ => {
                let message = "has a step that is larger than its range, so that only the first value fires";
                Err(self.error(&about(message, item)))
            }
        }
    }

    /// The end of a range, where `sun` is 7.
    fn last(&self, text: &str, item: &str) -> Result<u8, CronError> {
        let value = self.value(text, item)?;
        let is_sunday = self.max == 7 && value == 0 && text.eq_ignore_ascii_case(WEEKDAYS[0]);
        Ok(if is_sunday { 7 } else { value })
    }

    fn value(&self, text: &str, item: &str) -> Result<u8, CronError> {
        let word = self.words.iter().zip(self.min..).find(|(word, _)| word.eq_ignore_ascii_case(text));
        if let Some((_, value)) = word {
            return Ok(value);
        }
        let value = number(text).ok_or_else(|| self.no_value(text, item))?;
        match u8::try_from(value) {
            Ok(value) if (self.min..=self.max).contains(&value) => Ok(value),
            _ => {
                let (min, max) = (self.min, self.max);
                let message = format!("is not from {min} to {max}");
                Err(self.error(&about(&message, item)))
            }
        }
    }

    fn no_value(&self, text: &str, item: &str) -> CronError {
        let begins = |word: &&&str| text.get(..3).is_some_and(|head| head.eq_ignore_ascii_case(word));
        if let Some(word) = self.words.iter().find(begins) {
            let name = shown(item).map(|item| format!(" {item}")).unwrap_or_default();
            return self.error(&format!("has an unknown name{name}; did you mean `{word}`?"));
        }
        match text {
            "?" => self.error("has a `?`, which is not of cron; write `*`"),
            "" => self.error(&about("has a range or a step without its beginning or end", item)),
            _ if self.words.is_empty() => {
                self.error(&format!("takes numbers, `*`, ranges, lists and steps, {}", not(item)))
            }
            _ => {
                let name = self.words[1];
                let takes = format!("takes numbers, names such as `{name}`, `*`, ranges, lists and steps");
                self.error(&format!("{takes}, {}", not(item)))
            }
        }
    }

    fn error(&self, what: &str) -> CronError {
        CronError(format!("is no cron expression: its {} {what}", self.name))
    }
}

fn number(text: &str) -> Option<u32> {
    (!text.is_empty() && text.bytes().all(|c| c.is_ascii_digit())).then(|| text.parse().unwrap_or(u32::MAX))
}

/// What a message says, with the item that it is about.
fn about(message: &str, item: &str) -> String {
    shown(item).map_or_else(|| message.to_owned(), |item| format!("{message}: {item}"))
}

fn not(item: &str) -> String {
    shown(item).map_or_else(|| "and nothing else".to_owned(), |item| format!("not {item}"))
}

/// An item as far as it may be repeated: what is no part of any expression may be a secret that was put here.
fn shown(item: &str) -> Option<String> {
    let is_number = |c: char| c.is_ascii_digit() || "*,-/".contains(c);
    let is_like_cron = |c: char| c.is_ascii_alphanumeric() || "*,-/#?.".contains(c);
    let is_short = item.len() <= MAX_SHOWN && item.chars().all(is_like_cron);
    let is_numbers = item.len() <= MAX_NUMBERS_SHOWN && item.chars().all(is_number);
    (is_short || is_numbers).then(|| format!("`{item}`"))
}
