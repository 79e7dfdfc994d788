//! Lengths of time and sizes as people write them in files and flags.

use std::time::Duration;

/// The longest length that is accepted: a year. Anything longer is a slip, and timers could not hold it.
pub const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);

/// How lengths are described in messages.
pub const DURATION: &str = "a length of time such as `500ms`, `30s`, `1m30s` or `2h`, a year at most";

/// How sizes are described in messages.
pub const SIZE: &str = "a size such as `512KiB`, `10MiB` or `1GiB`, or a number of bytes";

/// Reads `500ms`, `30s`, `10m`, `2h` and their combinations from large to small, such as `1m30s`. A bare `0` is no
/// time at all.
#[must_use]
pub fn duration(text: &str) -> Option<Duration> {
    const UNITS: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let (mut rest, mut total, mut units) = (text, 0_u64, &UNITS[..]);
    while !rest.is_empty() {
        let (number, after) = number(rest)?;
        let unit_end = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let unit = units.iter().position(|(name, _)| *name == &after[..unit_end])?;
        total = total.checked_add(number.checked_mul(units[unit].1)?)?;
        units = &units[unit + 1..];
        rest = &after[unit_end..];
    }
    let total = Duration::from_millis(total);
    (!text.is_empty() && total <= LONGEST).then_some(total)
}

/// Reads `512KiB`, `10MiB`, `1GiB` or a number of bytes.
#[must_use]
pub fn size(text: &str) -> Option<u64> {
    let (number, unit) = number(text)?;
    let shift = match unit {
        "" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        _ => return None,
    };
    number.checked_mul(1 << shift)
}

/// The decimal digits at the front, and what follows them.
fn number(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    Some((text[..end].parse().ok()?, &text[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_lengths_of_time() {
        let cases = [
            ("0", Some(0)),
            ("0s", Some(0)),
            ("500ms", Some(500)),
            ("30s", Some(30_000)),
            ("10m", Some(600_000)),
            ("2h", Some(7_200_000)),
            ("1m30s", Some(90_000)),
            ("1h5ms", Some(3_600_005)),
            ("8784h", Some(366 * 24 * 3_600_000)),
            ("8785h", None),
            ("30", None),
            ("", None),
            ("s", None),
            ("1s1m", None),
            ("1s1s", None),
            ("1.5s", None),
            ("-1s", None),
            ("1 s", None),
            ("1d", None),
            ("1sé", None),
            ("99999999999999999999s", None),
            ("9999999999999999999h", None),
        ];
        for (text, millis) in cases {
            assert_eq!(duration(text), millis.map(Duration::from_millis), "{text}");
        }
    }

    #[test]
    fn reads_sizes() {
        let cases = [
            ("0", Some(0)),
            ("1024", Some(1024)),
            ("512KiB", Some(512 << 10)),
            ("10MiB", Some(10 << 20)),
            ("1GiB", Some(1 << 30)),
            ("10MB", None),
            ("10 MiB", None),
            ("MiB", None),
            ("99999999999GiB", None),
        ];
        for (text, bytes) in cases {
            assert_eq!(size(text), bytes, "{text}");
        }
    }
}
