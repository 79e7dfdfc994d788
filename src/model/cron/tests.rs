//! Whether expressions are read as Vixie cron reads them; a year in three zones is in `tests/it/cron.rs`.

use super::*;

fn cron(text: &str) -> Cron {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn at(text: &str) -> Timestamp {
    Timestamp::parse(text).unwrap()
}

/// The next `count` moments, in the zone.
fn fires(text: &str, zone: &str, after: &str, count: usize) -> Vec<String> {
    let zone = Zone::bundled(zone).unwrap();
    let (cron, mut after) = (cron(text), at(after));
    (0..count)
        .map_while(|_| {
            after = cron.next(after, &zone)?;
            let local = jiff::Timestamp::from_millisecond(after.0).unwrap().to_zoned(zone.0.clone());
            Some(local.strftime("%Y-%m-%d %H:%M %Z").to_string())
        })
        .collect()
}

#[test]
fn reads_names_ranges_lists_and_steps() {
    let cases = [
        ("0 6 * * mon-fri", "0 6 * * 1-5"),
        ("0 6 * * FRI-SUN", "0 6 * * 5,6,0"),
        ("0 6 * * 7", "0 6 * * sun"),
        ("0 6 * * 5-7", "0 6 * * 0,5,6"),
        ("0 0 1 jan-mar,Dec *", "0 0 1 1,2,3,12 *"),
        ("10-30/10 * * * *", "10,20,30 * * * *"),
        ("@hourly", "0 * * * *"),
        ("@Midnight", "0 0 * * *"),
        ("  0\t6  * * *  ", "0 6 * * *"),
    ];
    for (one, other) in cases {
        assert_eq!(cron(one), cron(other), "{one}");
    }
    // A field that begins with `*` is another one than its values say.
    assert_ne!(cron("0-59 0 * * *"), cron("* 0 * * *"));
}

/// Texts that are no expressions.
const WRONG: [&str; 41] = [
    "",
    "@every 5m",
    "@reboot",
    "@dayly",
    "* * * *",
    "0 0 6 * * *",
    "0 0 6 * * * 2027",
    "60 * * * *",
    "* 24 * * *",
    "* * 0 * *",
    "* * 32 * *",
    "* * * 13 *",
    "* * * * 8",
    "*/0 * * * *",
    "*/90 * * * *",
    "* */24 * * *",
    "5/15 * * * *",
    "22-2 * * * *",
    "1,2,,3 * * * *",
    ", * * * *",
    "5- * * * *",
    "*/ * * * *",
    "x * * * *",
    "-1 * * * *",
    "1.5 * * * *",
    "* * * * monday",
    "* * * juli *",
    "* * L * *",
    "* * 15W * *",
    "* * * * 5#2",
    "* * ? * *",
    "H * * * *",
    "** * * * *",
    "*-5 * * * *",
    "99999999999 * * * *",
    "* * * * fri-sunday",
    "hunter2hunter2hunter2 * * * *",
    "\u{1b}[2J * * * *",
    "0 0 30 2 *",
    "0 0 31 4,6,9,11 *",
    "0 0 31 2 */2",
];

#[test]
fn says_what_is_wrong() {
    let found: Vec<String> = WRONG
        .iter()
        .map(|text| {
            format!("{text:?}: {}", text.parse::<Cron>().map_or_else(|e| e.to_string(), |_| "READ".into()))
        })
        .collect();
    insta::assert_snapshot!(found.join("\n"), @r#"
    "": is empty; it needs five fields, such as `0 6 * * 1-5`
    "@every 5m": names `@every`, which is not of cron; write it as fields, such as `*/15 * * * *`
    "@reboot": names `@reboot`; what starts with kindling is a `daemon`
    "@dayly": begins with `@` and is no known name; known: @hourly, @daily, @midnight, @weekly, @monthly, @yearly, @annually
    "* * * *": has 4 fields; it needs five: minute, hour, day of month, month, day of week
    "0 0 6 * * *": has 6 fields; it needs five: minute, hour, day of month, month, day of week. There are no seconds and no years
    "0 0 6 * * * 2027": has 7 fields; it needs five: minute, hour, day of month, month, day of week. There are no seconds and no years
    "60 * * * *": is no cron expression: its minute is not from 0 to 59: `60`
    "* 24 * * *": is no cron expression: its hour is not from 0 to 23: `24`
    "* * 0 * *": is no cron expression: its day of month is not from 1 to 31: `0`
    "* * 32 * *": is no cron expression: its day of month is not from 1 to 31: `32`
    "* * * 13 *": is no cron expression: its month is not from 1 to 12: `13`
    "* * * * 8": is no cron expression: its day of week is not from 0 to 7: `8`
    "*/0 * * * *": is no cron expression: its minute has a step of 0: `*/0`
    "*/90 * * * *": is no cron expression: its minute has a step that is larger than its range, so that only the first value fires: `*/90`
    "* */24 * * *": is no cron expression: its hour has a step that is larger than its range, so that only the first value fires: `*/24`
    "5/15 * * * *": is no cron expression: its minute has a step after a single value in `5/15`; write a range before it, such as `0-59/2`
    "22-2 * * * *": is no cron expression: its minute has a range that ends before it begins: `22-2`
    "1,2,,3 * * * *": is no cron expression: its minute has an empty item in its list
    ", * * * *": is no cron expression: its minute has an empty item in its list
    "5- * * * *": is no cron expression: its minute has a range or a step without its beginning or end: `5-`
    "*/ * * * *": is no cron expression: its minute has a step that is no number: `*/`
    "x * * * *": is no cron expression: its minute takes numbers, `*`, ranges, lists and steps, not `x`
    "-1 * * * *": is no cron expression: its minute has a range or a step without its beginning or end: `-1`
    "1.5 * * * *": is no cron expression: its minute takes numbers, `*`, ranges, lists and steps, not `1.5`
    "* * * * monday": is no cron expression: its day of week has an unknown name `monday`; did you mean `mon`?
    "* * * juli *": is no cron expression: its month has an unknown name `juli`; did you mean `jul`?
    "* * L * *": is no cron expression: its day of month takes numbers, `*`, ranges, lists and steps, not `L`
    "* * 15W * *": is no cron expression: its day of month takes numbers, `*`, ranges, lists and steps, not `15W`
    "* * * * 5#2": is no cron expression: its day of week takes numbers, names such as `mon`, `*`, ranges, lists and steps, not `5#2`
    "* * ? * *": is no cron expression: its day of month has a `?`, which is not of cron; write `*`
    "H * * * *": is no cron expression: its minute takes numbers, `*`, ranges, lists and steps, not `H`
    "** * * * *": is no cron expression: its minute takes numbers, `*`, ranges, lists and steps, not `**`
    "*-5 * * * *": is no cron expression: its minute takes numbers, `*`, ranges, lists and steps, not `*-5`
    "99999999999 * * * *": is no cron expression: its minute is not from 0 to 59: `99999999999`
    "* * * * fri-sunday": is no cron expression: its day of week has an unknown name `fri-sunday`; did you mean `sun`?
    "hunter2hunter2hunter2 * * * *": is no cron expression: its minute takes numbers, `*`, ranges, lists and steps, and nothing else
    "\u{1b}[2J * * * *": is no cron expression: its minute takes numbers, `*`, ranges, lists and steps, and nothing else
    "0 0 30 2 *": never fires: none of its months has such a day
    "0 0 31 4,6,9,11 *": never fires: none of its months has such a day
    "0 0 31 2 */2": never fires: none of its months has such a day
    "#);
}

#[test]
fn days_of_month_and_week_are_joined_as_vixie_does() {
    let week = "2026-11-01T00:00:00Z";
    // Friday, or the 13th.
    assert_eq!(
        fires("0 0 13 * 5", "UTC", week, 4),
        ["2026-11-06 00:00 UTC", "2026-11-13 00:00 UTC", "2026-11-20 00:00 UTC", "2026-11-27 00:00 UTC"]
    );
    assert_eq!(fires("0 0 3 * 5", "UTC", week, 2), ["2026-11-03 00:00 UTC", "2026-11-06 00:00 UTC"]);
    // `*/2` counts as `*`: odd days that are Mondays.
    assert_eq!(fires("0 0 */2 * 1", "UTC", week, 2), ["2026-11-09 00:00 UTC", "2026-11-23 00:00 UTC"]);
    // The 29th of February: over a century that has none, and on one weekday only.
    assert_eq!(
        fires("0 0 29 2 *", "UTC", "2092-03-01T00:00:00Z", 2),
        ["2096-02-29 00:00 UTC", "2104-02-29 00:00 UTC"]
    );
    assert_eq!(fires("0 0 29 2 */6", "UTC", "2097-01-01T00:00:00Z", 1), ["2116-02-29 00:00 UTC"]);
}

#[test]
fn a_time_that_is_left_out_fires_when_clocks_are_set_and_one_that_comes_twice_fires_first() {
    let spring = "2026-03-28T12:00:00Z";
    assert_eq!(
        fires("30 2 * * *", "Europe/Berlin", spring, 2),
        ["2026-03-29 03:00 CEST", "2026-03-30 02:30 CEST"]
    );
    assert_eq!(
        fires("15,45 2,14 * * *", "Europe/Berlin", spring, 4),
        ["2026-03-28 14:15 CET", "2026-03-28 14:45 CET", "2026-03-29 03:00 CEST", "2026-03-29 14:15 CEST"]
    );
    // By real time nothing is left out and nothing made up for.
    assert_eq!(
        fires("*/30 2,3 * * *", "Europe/Berlin", spring, 3),
        ["2026-03-29 03:00 CEST", "2026-03-29 03:30 CEST", "2026-03-30 02:00 CEST"]
    );
    let autumn = "2026-10-31T12:00:00Z";
    assert_eq!(
        fires("30 1 * * *", "America/New_York", autumn, 2),
        ["2026-11-01 01:30 EDT", "2026-11-02 01:30 EST"]
    );
    assert_eq!(
        fires("*/30 1 * * *", "America/New_York", autumn, 5),
        [
            "2026-11-01 01:00 EDT",
            "2026-11-01 01:30 EDT",
            "2026-11-01 01:00 EST",
            "2026-11-01 01:30 EST",
            "2026-11-02 01:00 EST"
        ]
    );
    // From a moment within the second pass on.
    assert_eq!(fires("45 1 * * *", "America/New_York", "2026-11-01T06:10:00Z", 1), ["2026-11-02 01:45 EST"]);
}

#[test]
fn half_an_hour_is_a_change_too_and_a_whole_day_is_none() {
    assert_eq!(
        fires("10 2 * * *", "Australia/Lord_Howe", "2026-10-03T00:00:00Z", 2),
        ["2026-10-04 02:30 +11", "2026-10-05 02:10 +11"]
    );
    assert_eq!(
        fires("45 1 * * *", "Australia/Lord_Howe", "2026-04-04T00:00:00Z", 2),
        ["2026-04-05 01:45 +11", "2026-04-06 01:45 +1030"]
    );
    // Samoa left out the 30th of December 2011.
    assert_eq!(
        fires("0 9 * * *", "Pacific/Apia", "2011-12-29T12:00:00Z", 2),
        ["2011-12-29 09:00 -10", "2011-12-31 09:00 +14"]
    );
}

#[test]
fn a_zone_is_found_by_its_name_and_by_its_city() {
    assert_eq!(Zone::bundled("europe/berlin").unwrap().name(), Some("Europe/Berlin"));
    assert!(Zone::bundled("Europe/Berln").is_none() && Zone::bundled("../../etc/passwd").is_none());
    assert_eq!(Zone::like("berlin").as_deref(), Some("Europe/Berlin"));
    assert_eq!(Zone::like("New York").as_deref(), Some("America/New_York"));
    assert_eq!((Zone::like(""), Zone::like("Atlantis")), (None, None));
}
