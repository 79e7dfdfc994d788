//! `retention`: how long and how much is kept.

use std::time::Duration;

use super::duration::duration;
use super::node::{Field, Fields};
use super::sections::Reader;
use crate::model::retention::{Kept, Retention, days};

const RETENTION: [&str; 6] = ["history", "runs", "events", "deliveries", "versions", "removed"];
const KEPT: [&str; 2] = ["age", "count"];
const AGE: &str = "a length of time such as `12h` or `90d`, above 0 and at most `36500d`";
const COUNT: &str = "a whole number, above 0";
const MOST_DAYS: u64 = 36_500;

impl Reader<'_> {
    /// What is said of it, and the defaults of the rest.
    pub(super) fn retention(&mut self, field: &Field<'_>) -> Retention {
        let default = Retention::default();
        let Some(fields) = field.fields(&RETENTION, &mut self.errors) else { return default };
        let versions = self.part(&fields, "versions", &["count"]);
        let removed = self.part(&fields, "removed", &["age"]);
        Retention {
            history: self.kept(&fields, "history", default.history),
            runs: self.kept(&fields, "runs", default.runs),
            events: self.kept(&fields, "events", default.events),
            deliveries: self.kept(&fields, "deliveries", default.deliveries),
            versions: self.count(versions.as_ref(), default.versions),
            removed: self.age(removed.as_ref(), default.removed),
        }
    }

    fn part<'a>(&mut self, fields: &Fields<'a>, name: &str, known: &[&str]) -> Option<Fields<'a>> {
        fields.get(name)?.fields(known, &mut self.errors)
    }

    fn kept(&mut self, fields: &Fields<'_>, name: &str, default: Kept) -> Kept {
        let part = self.part(fields, name, &KEPT);
        Kept { age: self.age(part.as_ref(), default.age), count: self.count(part.as_ref(), default.count) }
    }

    fn age(&mut self, part: Option<&Fields<'_>>, default: Duration) -> Duration {
        let field = part.and_then(|part| part.get("age"));
        field.and_then(|field| field.parsed(AGE, age, &mut self.errors)).unwrap_or(default)
    }

    fn count(&mut self, part: Option<&Fields<'_>>, default: u32) -> u32 {
        let read = |text: &str| text.parse().ok().filter(|count| *count > 0);
        let field = part.and_then(|part| part.get("count"));
        field.and_then(|field| field.parsed(COUNT, read, &mut self.errors)).unwrap_or(default)
    }
}

/// Days, which is how ages are mostly thought of, or any other length of time.
fn age(text: &str) -> Option<Duration> {
    let age = match text.strip_suffix('d') {
        Some(count) if count.bytes().all(|digit| digit.is_ascii_digit()) => {
            days(count.parse().ok().filter(|count| *count <= MOST_DAYS)?)
        }
        _ => duration(text)?,
    };
    (!age.is_zero()).then_some(age)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_ages() {
        for (text, expected) in [
            ("90d", Some(days(90))),
            ("36500d", Some(days(36_500))),
            ("12h", Some(Duration::from_secs(12 * 3600))),
            ("1m30s", Some(Duration::from_secs(90))),
            ("36501d", None),
            ("99999999999999999999d", None),
            ("0d", None),
            ("0", None),
            ("d", None),
            ("1.5d", None),
            ("-1d", None),
            ("90", None),
        ] {
            assert_eq!(age(text), expected, "{text}");
        }
    }
}
