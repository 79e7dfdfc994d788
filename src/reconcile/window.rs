//! The quiet window between a change and the pass that acts on it (DESIGN 4). Pure: moments are arguments.

use std::collections::HashSet;
use std::time::Duration;

use tokio::time::Instant;

/// Quiet time that a lone change waits for.
const SHORTEST: Duration = Duration::from_millis(10);
/// Quiet time that the largest burst waits for.
const LONGEST: Duration = Duration::from_millis(100);
/// Distinct paths that one window takes before its quiet time doubles.
const PATHS_PER_STEP: usize = 8;
/// Longest time from the first change to the pass, where no process is restarted.
pub const CAP: Duration = Duration::from_millis(100);
/// Longest time from the first change to the pass, where a process would be restarted.
pub const CAP_FOR_PROCESS: Duration = Duration::from_millis(500);
/// A window that the user set is capped at this many times its length.
const CAP_OF_DEBOUNCE: u32 = 5;

/// Collects changes until it is time to act on them.
#[derive(Debug)]
pub struct Window {
    debounce: Option<Duration>,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    first: Instant,
    last: Instant,
    cap: Duration,
    paths: HashSet<String>,
    first_path: String,
}

impl Window {
    /// A closed window; `debounce` is what the user set.
    #[must_use]
    pub fn new(debounce: Option<Duration>) -> Self {
        Self { debounce, open: None }
    }

    /// Takes a change in at `now`; `restarts` says that acting on it would restart a process.
    pub fn change(&mut self, now: Instant, path: String, restarts: bool) {
        let cap = if restarts { CAP_FOR_PROCESS } else { CAP };
        let open = self.open.get_or_insert_with(|| Open {
            first: now,
            last: now,
            cap,
            paths: HashSet::new(),
            first_path: path.clone(),
        });
        open.last = now;
        open.cap = open.cap.max(cap);
        open.paths.insert(path);
    }

    /// When the pass is due; `None` while there is no change.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        let open = self.open.as_ref()?;
        let (quiet, cap) = self.lengths(open);
        Some((open.last + quiet).min(open.first + cap))
    }

    fn lengths(&self, open: &Open) -> (Duration, Duration) {
        match self.debounce {
            Some(length) => (length, length * CAP_OF_DEBOUNCE),
            None => (quiet_for(open.paths.len()), open.cap),
        }
    }

    /// Moves the due moment to `until`, whatever the cap.
    pub fn postpone(&mut self, until: Instant) {
        if let Some(mut open) = self.open.take() {
            let (quiet, cap) = self.lengths(&open);
            open.first = open.first.max(until.checked_sub(cap).unwrap_or(until));
            open.last = until.checked_sub(quiet).unwrap_or(until);
            self.open = Some(open);
        }
    }

    /// The first path that was changed.
    #[must_use]
    pub fn first_path(&self) -> Option<&str> {
        self.open.as_ref().map(|open| open.first_path.as_str())
    }

    /// Closes the window; gives back the first path that was changed and when that was.
    pub fn close(&mut self) -> Option<(String, Instant)> {
        self.open.take().map(|open| (open.first_path, open.first))
    }
}

fn quiet_for(paths: usize) -> Duration {
    let steps = u32::try_from(paths.saturating_sub(1) / PATHS_PER_STEP).unwrap_or(u32::MAX);
    SHORTEST.saturating_mul(2u32.saturating_pow(steps)).min(LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn a_lone_change_waits_10_ms_and_a_new_window_begins_there_again() {
        let start = Instant::now();
        let mut window = Window::new(None);
        assert_eq!(window.due(), None);
        window.change(start, "a".into(), false);
        assert_eq!(window.due(), Some(start + ms(10)));
        assert_eq!(window.close().unwrap().0, "a");
        window.change(start + ms(50), "b".into(), false);
        assert_eq!(window.due(), Some(start + ms(60)));
    }

    #[test]
    fn repeats_of_a_path_re_arm_but_do_not_lengthen() {
        let start = Instant::now();
        let mut window = Window::new(None);
        for at in 0..40 {
            window.change(start + ms(at), "a".into(), false);
        }
        assert_eq!(window.due(), Some(start + ms(49)));
    }

    #[test]
    fn distinct_paths_lengthen_it_up_to_100_ms() {
        for (paths, quiet) in [(8, 10), (9, 20), (16, 20), (17, 40), (25, 80), (33, 100), (1000, 100)] {
            assert_eq!(quiet_for(paths), ms(quiet), "{paths} paths");
        }
    }

    #[test]
    fn the_cap_counts_from_the_first_change() {
        let start = Instant::now();
        let mut window = Window::new(None);
        window.change(start, "a".into(), false);
        window.change(start + ms(95), "a".into(), false);
        assert_eq!(window.due(), Some(start + CAP));
        window.change(start + ms(97), "daemon".into(), true);
        assert_eq!(window.due(), Some(start + ms(107)));
        window.change(start + ms(498), "daemon".into(), true);
        assert_eq!(window.due(), Some(start + CAP_FOR_PROCESS));
    }

    #[test]
    fn a_postponed_window_is_due_at_that_moment() {
        let start = Instant::now();
        let mut window = Window::new(None);
        window.change(start, "a".into(), false);
        window.postpone(start + ms(300));
        assert_eq!(window.due(), Some(start + ms(300)));
    }

    #[test]
    fn a_debounce_of_the_user_trails_and_is_capped_at_five_times_its_length() {
        let start = Instant::now();
        let mut window = Window::new(Some(ms(200)));
        window.change(start, "a".into(), false);
        assert_eq!(window.due(), Some(start + ms(200)));
        window.change(start + ms(990), "b".into(), false);
        assert_eq!(window.due(), Some(start + ms(1000)));
    }
}
