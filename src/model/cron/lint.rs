//! What surprises in an expression that is right: it does something else than most people read in it.

use jiff::civil::{Date, DateTime, Time};

use super::parse::{CronError, FIELDS, fields};
use super::{Cron, Zone, bit};

/// Days of each month in a leap year.
const LENGTHS: [u8; 12] = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

/// A year that is ahead of any table of exceptions: what holds in it are a zone's standing rules.
const YEAR: i16 = 2037;

impl Cron {
    /// Refuses days that are in none of its months.
    pub(super) fn check_dates(&self) -> Result<(), CronError> {
        if self.has_some_date(29) {
            return Ok(());
        }
        Err(CronError("never fires: none of its months has such a day".into()))
    }

    /// Whether a day of it is in one of its months, where February has this many days.
    fn has_some_date(&self, february: u8) -> bool {
        // Either field of the days is enough where none begins with `*`.
        if !self.stars.days && !self.stars.weekdays {
            return true;
        }
        (1..=12u8).zip(LENGTHS).any(|(month, length)| {
            let length = if month == 2 { february } else { length };
            self.months >> month & 1 == 1 && self.days.trailing_zeros() <= length.into()
        })
    }

    /// What surprises in it: sentences without a full stop. `text` is what it was read from; without a zone nothing is
    /// said about clocks that are set.
    #[must_use]
    pub fn lints(&self, text: &str, zone: Option<&Zone>) -> Vec<String> {
        let Ok(fields) = fields(text) else { return Vec::new() };
        let mut lints: Vec<String> = FIELDS
            .iter()
            .zip(fields)
            .filter_map(|(field, text)| uneven(field.name, field.min, field.max, text))
            .collect();
        lints.extend(self.days_together(fields[2], fields[4]));
        if !self.has_some_date(28) {
            lints.push("fires only in leap years: no other month of it has such a day".into());
        }
        lints.extend(zone.and_then(|zone| self.left_out(zone)));
        lints
    }

    /// Both days restricted.
    fn days_together(&self, days: &str, weekdays: &str) -> Option<String> {
        if days == "*" || weekdays == "*" {
            return None;
        }
        Some(if self.stars.days || self.stars.weekdays {
            "fires only on days that match both the day of month and the day of week, because one of them begins \
             with `*`"
                .into()
        } else {
            "fires on days that match the day of month or the day of week, not only on those that match both"
                .into()
        })
    }

    /// A fixed time that clocks jump over when they are set forward.
    fn left_out(&self, zone: &Zone) -> Option<String> {
        if self.is_wild() {
            return None;
        }
        let begin = Date::new(YEAR, 1, 1).ok()?.to_datetime(Time::midnight());
        let begin = zone.0.to_ambiguous_timestamp(begin).earlier().ok()?;
        for transition in zone.0.following(begin).take(2) {
            let set = transition.timestamp();
            let after = zone.0.to_datetime(set);
            let before = zone.0.to_offset(set - jiff::SignedDuration::from_secs(1)).to_datetime(set);
            if before < after && bit(self.months.into(), after.month()) && self.may_be_on(after.date()) {
                let lost = minutes(before, after)
                    .find(|local| bit(self.hours.into(), local.hour()) && bit(self.minutes, local.minute()));
                if let Some(lost) = lost {
                    let name = zone.name().unwrap_or("this zone");
                    return Some(format!(
                        "names {:02}:{:02}, which {name} leaves out on one day of the year when clocks are set \
                         forward: it fires at {:02}:{:02} on that day",
                        lost.hour(),
                        lost.minute(),
                        after.hour(),
                        after.minute()
                    ));
                }
            }
        }
        None
    }

    /// Whether some year may have clocks set on a day of it: they are set on a weekday, of which the date moves.
    fn may_be_on(&self, date: Date) -> bool {
        let on_weekday = bit(self.weekdays.into(), date.weekday().to_sunday_zero_offset());
        let near = (date.day() - 6).max(1)..=(date.day() + 6).min(31);
        let near_day = near.into_iter().any(|day| bit(self.days.into(), day));
        if self.stars.days || self.stars.weekdays { on_weekday && near_day } else { on_weekday || near_day }
    }
}

fn minutes(from: DateTime, to: DateTime) -> impl Iterator<Item = DateTime> {
    std::iter::successors(Some(from), |at| at.checked_add(jiff::SignedDuration::from_mins(1)).ok())
        .take_while(move |at| *at < to)
}

/// A step of `*` that does not divide its field: the last one before the field begins anew is shorter.
fn uneven(name: &str, min: u8, max: u8, text: &str) -> Option<String> {
    let step: u8 = text.strip_prefix("*/")?.parse().ok().filter(|step| *step > 1)?;
    let (count, whole) = match (name, max) {
        ("day of week", _) => (7, "week"),
        ("day of month", _) => {
            return Some(format!(
                "has the step `*/{step}` in its day of month, which begins anew on the 1st: the last \
                 step of a month is shorter"
            ));
        }
        ("minute", _) => (60, "hour"),
        ("hour", _) => (24, "day"),
        _ => (max - min + 1, "year"),
    };
    (count % step != 0).then(|| {
        let last = count % step;
        format!("has the step `*/{step}` in its {name}, which begins anew with each {whole}: the last step is {last}, not {step}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lints(text: &str, zone: Option<&str>) -> Vec<String> {
        let zone = zone.map(|name| Zone::bundled(name).unwrap());
        text.parse::<Cron>().unwrap().lints(text, zone.as_ref())
    }

    #[test]
    fn says_what_surprises() {
        let cases = [
            ("*/7 * * * *", None),
            ("0 */5 * * *", None),
            ("0 6 */2 * *", None),
            ("0 6 * */5 *", None),
            ("0 6 * * */2", None),
            ("0 6 13 * 5", None),
            ("0 6 */2 * 1", None),
            ("0 6 29 2 *", None),
            ("30 2 * * *", Some("Europe/Berlin")),
            ("15 2 * * *", Some("Australia/Lord_Howe")),
            ("0 2 8-14 3 *", Some("America/New_York")),
        ];
        let found: Vec<String> =
            cases.iter().map(|(text, zone)| format!("{text}: {}", lints(text, *zone).join("; "))).collect();
        insta::assert_snapshot!(found.join("\n"), @"
        */7 * * * *: has the step `*/7` in its minute, which begins anew with each hour: the last step is 4, not 7
        0 */5 * * *: has the step `*/5` in its hour, which begins anew with each day: the last step is 4, not 5
        0 6 */2 * *: has the step `*/2` in its day of month, which begins anew on the 1st: the last step of a month is shorter
        0 6 * */5 *: has the step `*/5` in its month, which begins anew with each year: the last step is 2, not 5
        0 6 * * */2: has the step `*/2` in its day of week, which begins anew with each week: the last step is 1, not 2
        0 6 13 * 5: fires on days that match the day of month or the day of week, not only on those that match both
        0 6 */2 * 1: has the step `*/2` in its day of month, which begins anew on the 1st: the last step of a month is shorter; fires only on days that match both the day of month and the day of week, because one of them begins with `*`
        0 6 29 2 *: fires only in leap years: no other month of it has such a day
        30 2 * * *: names 02:30, which Europe/Berlin leaves out on one day of the year when clocks are set forward: it fires at 03:00 on that day
        15 2 * * *: names 02:15, which Australia/Lord_Howe leaves out on one day of the year when clocks are set forward: it fires at 02:30 on that day
        0 2 8-14 3 *: names 02:00, which America/New_York leaves out on one day of the year when clocks are set forward: it fires at 03:00 on that day
        ");
    }

    #[test]
    fn says_nothing_of_what_is_as_it_reads() {
        for text in [
            "*/5 * * * *",
            "0 */6 * * *",
            "0 6 * * 1-5",
            "0 0 1 */3 *",
            "@daily",
            "5,35 1-4 * jan,jul *",
            "* * * * *",
        ] {
            assert_eq!(lints(text, None), Vec::<String>::new(), "{text}");
        }
        for text in ["*/30 2 * * *", "30 2 * 7 *", "0 3 * * *", "30 1 * * *", "30 2 * * 1-5"] {
            assert_eq!(lints(text, Some("Europe/Berlin")), Vec::<String>::new(), "{text}");
        }
        assert_eq!(lints("30 2 * * *", Some("Asia/Tokyo")), Vec::<String>::new());
    }
}
