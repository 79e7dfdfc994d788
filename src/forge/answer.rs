//! What GitHub's answers mean. Pure: a status, a few headers and a message in, an outcome out.

use std::time::Duration;

use super::Outcome;

/// How long nothing is said where a limit was hit and no time is named, as GitHub asks.
const UNNAMED_WAIT: Duration = Duration::from_mins(1);
/// Longest wait that is believed.
const LONGEST_WAIT: Duration = Duration::from_hours(24);

/// What of an answer is looked at.
#[derive(Clone, Debug, Default)]
pub(super) struct Answer {
    pub status: u16,
    /// `retry-after`, in seconds.
    pub retry_after: Option<u64>,
    /// `x-ratelimit-remaining`.
    pub remaining: Option<u64>,
    /// `x-ratelimit-reset`, in seconds since 1970.
    pub reset: Option<u64>,
    /// `x-oauth-scopes`.
    pub scopes: Option<String>,
    /// What it says, for people.
    pub message: String,
}

impl Answer {
    /// What became of a post; `now` in seconds since 1970.
    pub fn outcome(&self, now: u64) -> Outcome {
        match self.status {
            200..=299 => match self.until_reset(now).filter(|seconds| *seconds > 0) {
                None => Outcome::Posted,
                Some(_) => Outcome::PostedLast { wait: self.wait(now), why: "its limit is used up".into() },
            },
            403 | 429 if self.is_limit() => Outcome::Wait { wait: self.wait(now), why: self.words() },
            408 | 500..=599 if self.retry_after.is_some() => {
                Outcome::Wait { wait: self.wait(now), why: self.words() }
            }
            408 | 500..=599 => Outcome::Again(self.words()),
            _ => Outcome::Refused(self.words()),
        }
    }

    /// Whether it says nothing of what was asked: the host is in trouble, or takes no calls for a while.
    pub fn is_passing(&self) -> bool {
        match self.status {
            403 | 429 => self.is_limit(),
            408 | 500..=599 => true,
            _ => false,
        }
    }

    /// A refusal that is one for now only.
    fn is_limit(&self) -> bool {
        self.status == 429
            || self.retry_after.is_some()
            || self.remaining == Some(0)
            || self.message.to_ascii_lowercase().contains("rate limit")
    }

    fn wait(&self, now: u64) -> Duration {
        let named = self.retry_after.or_else(|| self.until_reset(now)).map(Duration::from_secs);
        named.unwrap_or(UNNAMED_WAIT).clamp(Duration::from_secs(1), LONGEST_WAIT)
    }

    /// Seconds until a limit that is used up begins anew.
    fn until_reset(&self, now: u64) -> Option<u64> {
        self.reset.filter(|_| self.remaining == Some(0)).map(|at| at.saturating_sub(now))
    }

    /// The status, what it means here, and what was said.
    pub fn words(&self) -> String {
        let status = self.status;
        let meaning = match status {
            300..=399 => " (the repository has moved: name its new URL in kindling.yaml)",
            401 => " (the token is wrong, or was withdrawn)",
            403 if !self.is_limit() => " (the token may not write commit statuses there)",
            404 => " (there is no such repository, or the token does not see it)",
            422 => " (the commit is not there, or has 1,000 statuses)",
            _ => "",
        };
        let said = if self.message.is_empty() { String::new() } else { format!(": {}", self.message) };
        format!("it answered {status}{meaning}{said}")
    }
}

/// Whether a token suffices, as far as reading tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Grant {
    /// It does.
    Enough,
    /// It does where it may write commit statuses, which reading does not tell: it is fine-grained.
    Perhaps,
    /// It does not; the words that say what it lacks.
    Lacks(String),
}

/// What the scopes of a token are good for; `can_push` is what its user may do in the repository.
pub(super) fn grant(scopes: Option<&str>, is_private: bool, can_push: Option<bool>) -> Grant {
    if can_push == Some(false) {
        return Grant::Lacks("its user may not write to the repository".into());
    }
    let Some(scopes) = scopes else { return Grant::Perhaps };
    let has = |wanted: &str| scopes.split(',').any(|scope| scope.trim() == wanted);
    if has("repo") || has("repo:status") || (!is_private && has("public_repo")) {
        Grant::Enough
    } else {
        Grant::Lacks("it lacks the scope repo:status".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16) -> Answer {
        Answer { status, ..Answer::default() }
    }

    fn outcome(answer: &Answer) -> (&'static str, u64) {
        match answer.outcome(1_000) {
            Outcome::Posted => ("posted", 0),
            Outcome::PostedLast { wait, .. } => ("last", wait.as_secs()),
            Outcome::Refused(_) => ("refused", 0),
            Outcome::Wait { wait, .. } => ("wait", wait.as_secs()),
            Outcome::Again(_) => ("again", 0),
            Outcome::Away(_) => ("away", 0),
        }
    }

    #[test]
    fn every_answer_has_its_meaning() {
        let cases = [
            (answer(201), ("posted", 0)),
            (Answer { remaining: Some(0), reset: Some(1_090), ..answer(201) }, ("last", 90)),
            (Answer { remaining: Some(0), reset: Some(1_000), ..answer(201) }, ("posted", 0)),
            (Answer { remaining: Some(0), ..answer(201) }, ("posted", 0)),
            (Answer { remaining: Some(1), reset: Some(1_090), ..answer(201) }, ("posted", 0)),
            (answer(301), ("refused", 0)),
            (answer(401), ("refused", 0)),
            (answer(403), ("refused", 0)),
            (answer(404), ("refused", 0)),
            (answer(408), ("again", 0)),
            (answer(422), ("refused", 0)),
            (answer(500), ("again", 0)),
            (answer(503), ("again", 0)),
            (Answer { retry_after: Some(7), ..answer(503) }, ("wait", 7)),
            (answer(429), ("wait", 60)),
            (Answer { retry_after: Some(7), ..answer(429) }, ("wait", 7)),
            (Answer { retry_after: Some(7), ..answer(403) }, ("wait", 7)),
            (Answer { retry_after: Some(u64::MAX), ..answer(429) }, ("wait", 86_400)),
            (Answer { remaining: Some(0), reset: Some(1_090), ..answer(403) }, ("wait", 90)),
            (Answer { remaining: Some(0), reset: Some(9), ..answer(403) }, ("wait", 1)),
            (Answer { remaining: Some(9), reset: Some(1_090), ..answer(403) }, ("refused", 0)),
            (
                Answer { message: "You have exceeded a secondary rate limit".into(), ..answer(403) },
                ("wait", 60),
            ),
        ];
        for (answer, expected) in cases {
            assert_eq!(outcome(&answer), expected, "{answer:?}");
        }
    }

    #[test]
    fn a_refusal_says_what_it_means() {
        let answer =
            Answer { message: "Resource not accessible by personal access token".into(), ..answer(403) };
        let words = "it answered 403 (the token may not write commit statuses there): \
                     Resource not accessible by personal access token";
        assert_eq!(answer.words(), words);
    }

    #[test]
    fn scopes_suffice_or_say_what_is_missing() {
        assert_eq!(grant(Some("gist, repo:status"), true, Some(true)), Grant::Enough);
        assert_eq!(grant(Some("repo"), true, None), Grant::Enough);
        assert_eq!(grant(Some("public_repo"), false, Some(true)), Grant::Enough);
        assert!(matches!(grant(Some("public_repo"), true, Some(true)), Grant::Lacks(_)));
        assert!(matches!(grant(Some(""), false, Some(true)), Grant::Lacks(_)));
        assert!(matches!(grant(Some("repo"), true, Some(false)), Grant::Lacks(_)));
        assert_eq!(grant(None, true, Some(true)), Grant::Perhaps);
    }
}
