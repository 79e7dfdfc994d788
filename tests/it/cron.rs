//! A year of schedules in three zones against a model of Vixie cron that walks minute by minute, with restarts at random
//! moments.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp as Moment};
use kindling::model::cron::{Cron, Zone};
use kindling::model::spec::CatchUp;
use kindling::model::time::Timestamp;
use kindling::plan::schedule::{due, since};

const ZONES: [&str; 3] = ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe"];

const SCHEDULES: [&str; 26] = [
    "* * * * *",
    "*/15 * * * *",
    "*/7 2 * * *",
    "0 * * * *",
    "30 * * * *",
    "* 2 * * *",
    "*/30 1-3 * * *",
    "0 */2 * * *",
    "30 2 * * *",
    "0 2 * * *",
    "0 3 * * *",
    "15 2,14 * * *",
    "0,15,45 1,2,3 * * *",
    "59 1 * * *",
    "0-59/20 2 * * *",
    "30 1 * * sun",
    "45 1,2 * * 7",
    "0 0 * * *",
    "0 6 13 * 5",
    "0 6 */2 * 1",
    "0 6 1-7 * */2",
    "0 0 31 * *",
    "0 0 1 jan,jul *",
    "15 2 29 3 *",
    "10 2 4-10 4,10 sun",
    "30 23 28-31 * mon-fri",
];

fn moment(text: &str) -> Moment {
    text.parse().unwrap()
}

/// The fields of an expression as Vixie's `entry.c` has them: which values they hold, and whether each begins with `*`.
struct Entry {
    fields: [[bool; 60]; 5],
    stars: [bool; 5],
}

impl Entry {
    fn read(text: &str) -> Self {
        let (low, high) = ([0, 0, 1, 1, 0], [59, 23, 31, 12, 7]);
        let texts: Vec<&str> = text.split(' ').collect();
        let mut fields = [[false; 60]; 5];
        for (at, field) in fields.iter_mut().enumerate() {
            for value in texts[at].split(',').flat_map(|item| values(item, low[at], high[at])) {
                field[wrap(at, value) as usize] = true;
            }
        }
        Self { fields, stars: std::array::from_fn(|at| texts[at].starts_with('*')) }
    }

    /// `find_jobs` of `cron.c`.
    fn matches(&self, local: &Local) -> bool {
        let has = |at: usize| self.fields[at][local.0[at] as usize];
        let days = if self.stars[2] || self.stars[4] { has(2) && has(4) } else { has(2) || has(4) };
        has(0) && has(1) && has(3) && days
    }

    fn is_wild(&self) -> bool {
        self.stars[0] || self.stars[1]
    }
}

/// A local minute by the fields of an expression.
struct Local([i8; 5]);

impl Local {
    fn of(local: DateTime) -> Self {
        let weekday = local.weekday().to_sunday_zero_offset();
        Self([local.minute(), local.hour(), local.day(), local.month(), weekday])
    }
}

/// What Vixie's main loop does when it wakes, in each minute of a year.
enum Wake {
    /// The minute after the last one: everything.
    Next(Local),
    /// Clocks were set forward: what goes by real time in this minute, and fixed times of each one since the last.
    Forward(Local, Vec<Local>),
    /// Clocks were set back: until local time is where it was, only what goes by real time.
    Back(Local),
}

fn wrap(at: usize, value: i8) -> i8 {
    if at == 4 && value == 7 { 0 } else { value }
}

fn values(item: &str, low: i8, high: i8) -> Vec<i8> {
    let words = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
    let months = ["", "jan", "feb", "mar", "apr", "may", "jun", "jul"];
    let value = |text: &str| -> i8 {
        let word = words.iter().chain(&months).position(|word| *word == text);
        word.map_or_else(|| text.parse().unwrap(), |at| if at >= 7 { at as i8 - 7 } else { at as i8 })
    };
    let (range, step) =
        item.split_once('/').map_or((item, 1), |(range, step)| (range, step.parse().unwrap()));
    let (first, last) = match range.split_once('-') {
        _ if range == "*" => (low, high),
        Some((first, last)) => (value(first), value(last)),
        None => (value(range), value(range)),
    };
    (first..=last).step_by(step).collect()
}

/// Walks through every minute: the loop compares local time with the minute that it did last.
fn wakes(zone: &TimeZone, from: Moment, to: Moment) -> Vec<Wake> {
    let minute = SignedDuration::from_mins(1);
    let (mut wakes, mut now) = (Vec::new(), from);
    let mut done = zone.to_datetime(now);
    while now < to {
        now += minute;
        let local = zone.to_datetime(now);
        let jump = local.duration_since(done).as_mins();
        wakes.push(match jump {
            1 => Wake::Next(Local::of(local)),
            2..=180 => {
                let skipped = (1..=jump).map(|by| done.checked_add(minute * by as i32).unwrap());
                Wake::Forward(Local::of(local), skipped.map(Local::of).collect())
            }
            -180..=0 => Wake::Back(Local::of(local)),
            _ => panic!("clocks were set by {jump} minutes"),
        });
        if jump > 0 {
            done = local;
        }
    }
    wakes
}

/// What it fires, in milliseconds since 1970.
fn vixie(entry: &Entry, wakes: &[Wake], from: Moment) -> Vec<i64> {
    let is_due = |wake: &Wake| match wake {
        Wake::Next(local) => entry.matches(local),
        Wake::Forward(local, skipped) if entry.is_wild() => entry.matches(local) && !skipped.is_empty(),
        Wake::Forward(_, skipped) => skipped.iter().any(|local| entry.matches(local)),
        Wake::Back(local) => entry.is_wild() && entry.matches(local),
    };
    let due = wakes.iter().enumerate().filter(|(_, wake)| is_due(wake));
    due.map(|(at, _)| from.as_millisecond() + (at as i64 + 1) * 60_000).collect()
}

/// Numbers that look random and are the same in every run (`xorshift64*`).
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: i64) -> i64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as i64 % most
    }
}

/// What a service fires that looks at its schedules when one is due, or half a minute later at most, and that is killed
/// and started again at random moments: half of the kills are just before it writes down what it fired, which then was
/// not fired.
fn service(cron: &Cron, zone: &Zone, catch_up: CatchUp, (from, to): (i64, i64), dice: &mut Dice) -> Vec<i64> {
    let (mut fired, mut recorded, mut now) = (Vec::new(), from, from);
    while now < to {
        // A start: everything but what was recorded is forgotten.
        let mut settled = since(cron, Timestamp(recorded), Timestamp(now));
        let killed = (now + 1 + dice.below(9 * 24 * 3_600_000)).min(to);
        loop {
            let due = due(cron, zone, catch_up, settled, Timestamp(now));
            for time in due.times {
                if now >= killed && dice.below(2) == 0 {
                    break;
                }
                fired.push(time.0);
                (recorded, settled) = (time.0, time);
            }
            if now >= killed {
                break;
            }
            settled = settled.max(Timestamp(now - 60_000));
            let next = cron.next(settled, zone).map_or(to, |at| at.0);
            now = next.max(now + 1 + dice.below(30_000)).min(killed);
        }
        // Down for less than a minute, so that nothing is missed.
        now += dice.below(20_000);
    }
    fired
}

#[test]
fn a_year_fires_what_vixie_cron_fires() {
    let (from, to) = (moment("2026-01-01T00:00:00Z"), moment("2027-01-01T00:00:00Z"));
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    for name in ZONES {
        let (zone, wakes) = (Zone::bundled(name).unwrap(), wakes(&TimeZone::get(name).unwrap(), from, to));
        for text in SCHEDULES {
            let cron: Cron = text.parse().unwrap();
            let expected = vixie(&Entry::read(text), &wakes, from);
            assert!(!expected.is_empty(), "{text} in {name}");
            let next = |at: &Timestamp| cron.next(*at, &zone).filter(|at| at.0 <= to.as_millisecond());
            let found: Vec<i64> =
                std::iter::successors(next(&Timestamp(from.as_millisecond())), next).map(|at| at.0).collect();
            assert_same(&found, &expected, &format!("{text} in {name}"));
            let span = (from.as_millisecond(), to.as_millisecond());
            let restarted = service(&cron, &zone, CatchUp::None, span, &mut dice);
            let end = restarted.len().min(expected.len());
            assert!(expected.len() - end <= 1, "the last one may be due when the year is over");
            assert_same(&restarted, &expected[..end], &format!("{text} in {name}, restarted"));
        }
    }
}

#[track_caller]
fn assert_same(found: &[i64], expected: &[i64], what: &str) {
    let shown = |at: Option<&i64>| at.map(|at| Moment::from_millisecond(*at).unwrap().to_string());
    if let Some(at) = (0..found.len().max(expected.len())).find(|at| found.get(*at) != expected.get(*at)) {
        panic!("{what}: number {at} is {:?}, not {:?}", shown(found.get(at)), shown(expected.get(at)));
    }
}
