//! Cron expressions by the rules of Vixie cron: what they mean and when they fire. `parse` reads them, `lint` says
//! what surprises in them.
//!
//! No crate keeps Vixie's rules whole (docs/dependencies.md), so they are written out here; `tests/it/cron.rs` holds
//! them against a model of Vixie's own loop.

mod lint;
mod parse;

use std::fmt;
use std::time::Duration;

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::{AmbiguousOffset, Offset, TimeZone, TimeZoneDatabase};

pub use self::parse::CronError;

use super::time::Timestamp;

/// Clocks that are set forward by more than this lose the fixed times between, as in Vixie cron: more than three hours
/// are no summer time.
const LONGEST_GAP: Duration = Duration::from_secs(3 * 3600);

/// An expression with five fields: minute, hour, day of month, month, day of week.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cron {
    /// The values of each field, a bit for each.
    minutes: u64,
    hours: u32,
    days: u32,
    months: u16,
    /// Sunday is bit 0.
    weekdays: u8,
    /// Whether a field begins with `*`, which counts for more than its values.
    stars: Stars,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Stars {
    minutes: bool,
    hours: bool,
    days: bool,
    weekdays: bool,
}

/// A time zone of the IANA database, or the machine's.
#[derive(Clone, PartialEq, Eq)]
pub struct Zone(TimeZone);

impl fmt::Debug for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name().unwrap_or("the machine's"))
    }
}

impl Zone {
    /// The zone of this name in the database that kindling brings along; reads no file.
    #[must_use]
    pub fn bundled(name: &str) -> Option<Self> {
        TimeZoneDatabase::bundled().get(name).ok().map(Self)
    }

    /// The zone of this name as the machine knows it, which may be newer than what kindling brings along.
    #[must_use]
    pub fn of_machine(name: &str) -> Option<Self> {
        jiff::tz::db().get(name).ok().map(Self).or_else(|| Self::bundled(name))
    }

    /// The machine's own zone; UTC where it has none.
    #[must_use]
    pub fn machine() -> Self {
        Self(TimeZone::system())
    }

    /// Its name in the database.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.0.iana_name()
    }

    /// A name of the database that `name` was probably meant to be: its last part, or equal but for case.
    #[must_use]
    pub fn like(name: &str) -> Option<String> {
        let wanted = name.to_ascii_lowercase().replace(' ', "_");
        let ends = |known: &str| known.rsplit('/').next() == Some(wanted.as_str());
        let is_like = |known: &String| !wanted.is_empty() && ends(&known.to_ascii_lowercase());
        Self::names().into_iter().find(is_like)
    }

    /// Every name of the database that kindling brings along.
    #[must_use]
    pub fn names() -> Vec<String> {
        TimeZoneDatabase::bundled().available().map(|name| name.as_str().to_owned()).collect()
    }

    fn local(&self, at: jiff::Timestamp) -> DateTime {
        self.0.to_datetime(at)
    }

    /// The next moment at which clocks are set.
    fn set_after(&self, at: jiff::Timestamp) -> Option<jiff::Timestamp> {
        self.0.following(at).next().map(|transition| transition.timestamp())
    }
}

impl Cron {
    /// When it fires next after this moment: whole minutes, strictly later. `None` if it never does again.
    ///
    /// An expression whose minute or hour begins with `*` goes by real time: in an hour that comes twice it fires in
    /// both, in one that is left out in neither. All others fire once for each of their times: one that is left out
    /// when clocks are set forward fires at the moment they are set, one that comes twice fires at the first.
    #[must_use]
    pub fn next(&self, after: Timestamp, zone: &Zone) -> Option<Timestamp> {
        let after = jiff::Timestamp::from_millisecond(after.0).ok()?;
        let next = if self.is_wild() { self.next_wild(after, zone) } else { self.next_fixed(after, zone) };
        next.map(|at| Timestamp(at.as_millisecond()))
    }

    /// Whether it goes by real time.
    #[must_use]
    pub fn is_wild(&self) -> bool {
        self.stars.minutes || self.stars.hours
    }

    /// Goes from one setting of the clocks to the next; between two of them local time runs evenly.
    fn next_wild(&self, after: jiff::Timestamp, zone: &Zone) -> Option<jiff::Timestamp> {
        let mut from = after;
        let mut is_first = true;
        loop {
            let offset = zone.0.to_offset(from);
            let begin = if is_first {
                next_minute(offset.to_datetime(from))?
            } else {
                ceil(offset.to_datetime(from))?
            };
            let set = zone.set_after(from);
            let end = set.map(|set| offset.to_datetime(set));
            if let Some(local) = self.next_local(begin, end) {
                return offset.to_timestamp(local).ok();
            }
            from = set?;
            is_first = false;
        }
    }

    fn next_fixed(&self, after: jiff::Timestamp, zone: &Zone) -> Option<jiff::Timestamp> {
        let mut from = next_minute(zone.local(after))?;
        loop {
            let local = self.next_local(from, None)?;
            if let Some(at) = moment(local, zone).filter(|at| *at > after) {
                return Some(at);
            }
            from = next_minute(local)?;
        }
    }

    /// The first local time of the expression from `from` on, a whole minute, and before `end`.
    fn next_local(&self, from: DateTime, end: Option<DateTime>) -> Option<DateTime> {
        let mut date = from.date();
        let mut earliest = from.time();
        loop {
            if end.is_some_and(|end| date > end.date()) {
                return None;
            }
            if !bit(self.months.into(), date.month()) {
                date = date.last_of_month().tomorrow().ok()?;
                earliest = Time::midnight();
                continue;
            }
            if self.has_day(date)
                && let Some(time) = self.next_time(earliest)
            {
                let local = date.to_datetime(time);
                return (end.is_none_or(|end| local < end)).then_some(local);
            }
            date = date.tomorrow().ok()?;
            earliest = Time::midnight();
        }
    }

    /// Both days must match where one of the fields begins with `*`; otherwise either of them.
    fn has_day(&self, date: Date) -> bool {
        let in_month = bit(self.days.into(), date.day());
        let in_week = bit(self.weekdays.into(), date.weekday().to_sunday_zero_offset());
        if self.stars.days || self.stars.weekdays { in_month && in_week } else { in_month || in_week }
    }

    fn next_time(&self, from: Time) -> Option<Time> {
        let hours = (from.hour()..24).filter(|hour| bit(self.hours.into(), *hour));
        hours
            .filter_map(|hour| {
                let first = if hour == from.hour() { from.minute() } else { 0 };
                let minute = (first..60).find(|minute| bit(self.minutes, *minute))?;
                Time::new(hour, minute, 0, 0).ok()
            })
            .next()
    }
}

/// The moment at which a fixed local time fires.
fn moment(local: DateTime, zone: &Zone) -> Option<jiff::Timestamp> {
    match zone.0.to_ambiguous_timestamp(local).offset() {
        AmbiguousOffset::Unambiguous { offset } => offset.to_timestamp(local).ok(),
        AmbiguousOffset::Fold { before, .. } => before.to_timestamp(local).ok(),
        AmbiguousOffset::Gap { before, after } => {
            // By the new offset the time lies before clocks are set.
            let set = zone.set_after(after.to_timestamp(local).ok()?)?;
            (gap(before, after) <= LONGEST_GAP).then_some(set)
        }
    }
}

fn gap(before: Offset, after: Offset) -> Duration {
    Duration::from_secs(u64::try_from(after.seconds() - before.seconds()).unwrap_or_default())
}

/// The first whole minute after a local time.
fn next_minute(local: DateTime) -> Option<DateTime> {
    let whole = local.with().second(0).subsec_nanosecond(0).build().ok()?;
    whole.checked_add(jiff::SignedDuration::from_mins(1)).ok()
}

/// The first whole minute that is not before a local time.
fn ceil(local: DateTime) -> Option<DateTime> {
    let is_whole = local.second() == 0 && local.subsec_nanosecond() == 0;
    if is_whole { Some(local) } else { next_minute(local) }
}

fn bit(set: u64, at: i8) -> bool {
    u32::try_from(at).is_ok_and(|at| set >> at & 1 == 1)
}

#[cfg(test)]
mod tests;
