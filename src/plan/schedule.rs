//! Which times of a schedule are due: those that have come since it was settled last, by the rules of catching up.

use std::time::Duration;

use crate::model::cron::{Cron, Zone};
use crate::model::spec::CatchUp;
use crate::model::time::Timestamp;

/// A time that could not fire for longer than this is missed; what becomes of it is the schedule's own choice. A
/// restart, or a machine that is busy, is over sooner.
pub const LATE: Duration = Duration::from_secs(60);

/// Most missed times that are made up for, the newest ones (DESIGN 5 leaves the bound open).
pub const MOST_CAUGHT_UP: usize = 100;

/// Clocks that are set back by more than this are taken as they are, as Vixie cron does.
const SET_BACK: Duration = Duration::from_secs(3 * 3600);

/// The times that are to fire now, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Due {
    /// The times.
    pub times: Vec<Timestamp>,
    /// Whether missed ones are among them: each then waits for the end of the run before it.
    pub is_catching_up: bool,
}

/// What is due at `now` of a schedule of which everything up to `settled` is settled.
#[must_use]
pub fn due(cron: &Cron, zone: &Zone, catch_up: CatchUp, settled: Timestamp, now: Timestamp) -> Due {
    let late = Timestamp(now.0.saturating_sub(millis(LATE)));
    let on_time = between(cron, zone, settled.max(late), now);
    if settled >= late || catch_up == CatchUp::None {
        return Due { times: on_time, is_catching_up: false };
    }
    let most = match catch_up {
        CatchUp::All => MOST_CAUGHT_UP,
        // One that is on time stands for all that were missed.
        CatchUp::Once if on_time.is_empty() => 1,
        CatchUp::Once | CatchUp::None => 0,
    };
    let mut times = newest(cron, zone, settled, late, most);
    let is_catching_up = !times.is_empty();
    times.extend(on_time);
    Due { times, is_catching_up }
}

/// From when on a schedule counts that was settled up to `settled` by a clock that may have been set back since.
///
/// What goes by real time counts from now on. A fixed time does not come twice because a clock is set back a little.
#[must_use]
pub fn since(cron: &Cron, settled: Timestamp, now: Timestamp) -> Timestamp {
    let is_back = settled > now && (cron.is_wild() || settled.since(now) > SET_BACK);
    if is_back { now } else { settled }
}

/// The times after `from`, up to `to`.
fn between(cron: &Cron, zone: &Zone, from: Timestamp, to: Timestamp) -> Vec<Timestamp> {
    let next = |at: &Timestamp| cron.next(*at, zone).filter(|at| *at <= to);
    std::iter::successors(next(&from), next).collect()
}

/// The newest `most` times after `from`, up to `to`. Looks back in steps that double, so that it costs little however
/// long ago `from` is.
fn newest(cron: &Cron, zone: &Zone, from: Timestamp, to: Timestamp, most: usize) -> Vec<Timestamp> {
    if most == 0 {
        return Vec::new();
    }
    let mut window = 3_600_000_i64;
    loop {
        let begin = from.max(Timestamp(to.0.saturating_sub(window)));
        let mut times = between(cron, zone, begin, to);
        if times.len() >= most || begin == from {
            return times.split_off(times.len().saturating_sub(most));
        }
        window = window.saturating_mul(2);
    }
}

fn millis(length: Duration) -> i64 {
    i64::try_from(length.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        Timestamp::parse(text).unwrap()
    }

    fn due_of(text: &str, catch_up: CatchUp, settled: &str, now: &str) -> (Vec<String>, bool) {
        let (cron, zone) = (text.parse().unwrap(), Zone::bundled("UTC").unwrap());
        let due = due(&cron, &zone, catch_up, at(settled), at(now));
        (due.times.iter().map(|at| at.to_string()[5..19].to_owned()).collect(), due.is_catching_up)
    }

    #[test]
    fn what_is_a_moment_late_fires_whatever_is_said_of_catching_up() {
        for catch_up in CatchUp::ALL {
            let found = due_of("* * * * *", *catch_up, "2026-05-01T10:00:00Z", "2026-05-01T10:01:00Z");
            assert_eq!(found, (vec!["05-01T10:01:00".to_owned()], false));
            let found = due_of("* * * * *", *catch_up, "2026-05-01T10:01:00Z", "2026-05-01T10:01:59Z");
            assert_eq!(found, (Vec::new(), false));
        }
    }

    #[test]
    fn what_was_missed_is_dropped_or_made_up_for_once_or_one_by_one() {
        let (settled, now) = ("2026-05-01T10:00:00Z", "2026-05-01T15:20:00Z");
        let of = |text: &str, catch_up| due_of(text, catch_up, settled, now);
        assert_eq!(of("0 * * * *", CatchUp::None), (Vec::new(), false));
        assert_eq!(of("0 * * * *", CatchUp::Once), (vec!["05-01T15:00:00".to_owned()], true));
        let all = of("0 * * * *", CatchUp::All);
        assert_eq!((all.0.len(), all.0[0].as_str(), all.1), (5, "05-01T11:00:00", true));
        // One that is on time stands for all.
        assert_eq!(of("*/20 * * * *", CatchUp::Once), (vec!["05-01T15:20:00".to_owned()], false));
        assert_eq!(of("0 9 * * *", CatchUp::All), (Vec::new(), false));
    }

    #[test]
    fn no_more_than_a_bound_is_made_up_for_however_long_ago_it_was() {
        let began = std::time::Instant::now();
        let (times, _) = due_of("* * * * *", CatchUp::All, "1999-01-01T00:00:00Z", "2026-05-01T10:00:30Z");
        assert_eq!((times.len(), times[0].as_str()), (MOST_CAUGHT_UP + 1, "05-01T08:20:00"));
        let (times, _) = due_of("0 0 29 2 *", CatchUp::All, "1999-01-01T00:00:00Z", "2026-05-01T10:00:30Z");
        assert_eq!(times.len(), 7);
        assert!(began.elapsed().as_secs() < 5, "it looks back in steps that double");
    }

    #[test]
    fn a_clock_that_is_set_back_a_little_repeats_no_fixed_time() {
        let (wild, fixed): (Cron, Cron) = ("*/5 * * * *".parse().unwrap(), "0 6 * * *".parse().unwrap());
        let (now, later, tomorrow) =
            (at("2026-05-01T10:00:00Z"), at("2026-05-01T11:00:00Z"), at("2026-05-02T10:00:00Z"));
        assert_eq!((since(&wild, later, now), since(&fixed, later, now)), (now, later));
        assert_eq!((since(&fixed, tomorrow, now), since(&fixed, now, later)), (now, now));
    }
}
