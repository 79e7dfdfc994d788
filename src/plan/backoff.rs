//! How long a failed attempt waits: exponential with full jitter (DESIGN 2). Pure: chance is an argument.

use std::time::Duration;

/// Longest wait before the second attempt.
pub const FIRST: Duration = Duration::from_millis(750);
/// Longest wait of all.
pub const LONGEST: Duration = Duration::from_mins(15);

/// The wait after the `failures`-th failure in a row, from 1; `chance` in `0.0..1.0` is drawn by the caller.
#[must_use]
pub fn delay(failures: u32, chance: f64) -> Duration {
    within((FIRST, LONGEST), failures, chance)
}

/// The same with other bounds: the longest wait before the second attempt, and the longest of all.
///
/// Never under a twentieth of its ceiling, so that a run of small draws does not become a busy loop.
#[must_use]
pub fn within((first, longest): (Duration, Duration), failures: u32, chance: f64) -> Duration {
    let ceiling = first.saturating_mul(2u32.saturating_pow(failures.saturating_sub(1).min(20))).min(longest);
    ceiling.mul_f64(chance.clamp(0.05, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_to_its_ceiling_and_stays_in_bounds() {
        assert_eq!(delay(1, 1.0), FIRST);
        assert_eq!(delay(3, 1.0), Duration::from_secs(3));
        assert_eq!(delay(u32::MAX, 1.0), LONGEST);
        assert!(delay(1, 0.0) > Duration::from_millis(30));
    }
}
