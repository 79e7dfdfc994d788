//! Commit statuses: what is said of a commit where its repository is hosted.

use std::fmt;

use super::id::SourceName;
use super::source::Revision;
use super::time::Timestamp;

/// Longest description that a host takes, in characters.
pub const MAX_DESCRIPTION: usize = 140;

/// How a commit fares, in GitHub's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitState {
    /// It is being deployed.
    Pending,
    /// It is live.
    Success,
    /// It is not, because of what it holds or of what a person decided.
    Failure,
    /// It is not, and that is not its fault.
    Error,
}

impl CommitState {
    /// The word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Error => "error",
        }
    }

    /// Reads [`CommitState::as_str`].
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Pending, Self::Success, Self::Failure, Self::Error]
            .into_iter()
            .find(|one| one.as_str() == word)
    }
}

/// A repository as its host's API names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Repository {
    /// The account that it belongs to.
    pub owner: String,
    /// Its name.
    pub name: String,
}

impl Repository {
    /// Takes both parts, of letters, digits, `.`, `_` and `-`; neither can leave its place in a path.
    #[must_use]
    pub fn new(owner: &str, name: &str) -> Option<Self> {
        let is_plain = |part: &str| {
            !part.is_empty()
                && part.len() <= 128
                && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
                && part.bytes().any(|byte| byte != b'.')
        };
        (is_plain(owner) && is_plain(name)).then(|| Self { owner: owner.into(), name: name.into() })
    }

    /// Reads `owner/name`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (owner, name) = text.split_once('/')?;
        Self::new(owner, name)
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.owner, self.name)
    }
}

/// A commit of a source, where it is told of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitPlace {
    /// The source.
    pub source: SourceName,
    /// The repository.
    pub repository: Repository,
    /// The commit.
    pub revision: Revision,
}

/// What is to be said of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// How it fares.
    pub state: CommitState,
    /// Why, in a few words. Two verdicts with one state and one summary say the same.
    pub summary: String,
    /// What else is told: how long it took. It alone is no news.
    pub times: String,
}

impl Verdict {
    /// A verdict that tells no times.
    #[must_use]
    pub fn new(state: CommitState, summary: impl Into<String>) -> Self {
        Self { state, summary: summary.into(), times: String::new() }
    }

    /// Summary and times, as far as a host takes them: times go first.
    #[must_use]
    pub fn description(&self) -> String {
        let mut times: Vec<&str> = self.times.split(", ").filter(|time| !time.is_empty()).collect();
        while !times.is_empty() {
            let whole = format!("{}; {}", self.summary, times.join(", "));
            if whole.chars().count() <= MAX_DESCRIPTION {
                return whole;
            }
            times.pop();
        }
        self.summary.chars().take(MAX_DESCRIPTION).collect()
    }
}

/// What of a commit may be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tell {
    /// This.
    Say(Verdict),
    /// Nothing new; where it was called pending, this is its end.
    End(Verdict),
}

/// What the outbox knows of one commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxRow {
    /// The commit.
    pub place: CommitPlace,
    /// What is to be said.
    pub verdict: Verdict,
    /// When that was decided.
    pub changed_at: Timestamp,
    /// What was said last, and when.
    pub posted: Option<(CommitState, Timestamp)>,
    /// Attempts that failed since the last change.
    pub attempts: u32,
    /// When it is to be said; `None` where it was, or where that was given up.
    pub due_at: Option<Timestamp>,
    /// Why it could not be said; empty where nothing is wrong.
    pub error: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_cannot_leave_its_place_in_a_path() {
        assert_eq!(Repository::parse("a-b/c.d_e").unwrap().to_string(), "a-b/c.d_e");
        for text in ["", "a", "a/", "/b", "a/b/c", "../b", "a/..", "a/.", "a/b?c", "a/b%2f", "a/b c", "ä/b"]
        {
            assert_eq!(Repository::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_description_is_never_longer_than_a_host_takes() {
        let verdict = |summary: &str, times: &str| Verdict {
            times: times.into(),
            ..Verdict::new(CommitState::Success, summary)
        };
        assert_eq!(verdict("3 units live", "").description(), "3 units live");
        let told = verdict("3 units live", "fetch 12 ms, act 3 ms");
        assert_eq!(told.description(), "3 units live; fetch 12 ms, act 3 ms");
        let long = verdict("3 units live", &["phase 1 ms"; 30].join(", ")).description();
        assert!(long.chars().count() <= MAX_DESCRIPTION && long.ends_with("phase 1 ms"), "{long}");
        let keyed = format!("0 of 1 unit live, 1 broken ({})", "k".repeat(90));
        assert_eq!(verdict(&keyed, "fetch 12 ms, act 3 ms").description(), format!("{keyed}; fetch 12 ms"));
        let keyed = format!("0 of 1 unit live, 1 broken ({})", "k".repeat(110));
        assert_eq!(verdict(&keyed, "fetch 12 ms, act 3 ms").description(), keyed);
        assert_eq!(verdict(&"ü".repeat(200), "").description(), "ü".repeat(MAX_DESCRIPTION));
    }
}
