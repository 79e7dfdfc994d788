//! What can go wrong, and how it is told.

use std::error::Error;
use std::fmt;
use std::path::PathBuf;

use gix::ObjectId;
use reqwest::StatusCode;
use semver::VersionReq;

use super::http::WireFault;
use super::job::JobError;
use super::plain;
use super::ssh::HostKey;
use crate::model::path::RelPath;
use crate::observe::ObserveError;

/// The word for a repository of our own that cannot be used.
pub(super) const STORE_DAMAGED: &str = "StoreDamaged";

/// The word for a remote that does not take our credentials, or wants some.
pub(super) const AUTHENTICATION_FAILED: &str = "AuthenticationFailed";

/// Most branches or tags that are named when one is missing.
const FEW_NAMES: usize = 10;

/// Longest text that is passed on, in bytes; a line of git's protocol may have 65,516.
const LONGEST_TEXT: usize = 1000;

/// Why a repository was not observed.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The remote has no ref at all.
    Empty,
    /// The remote has refs, but not what is followed: the reason word, what that is, and the names that are there.
    RefMissing { reason: &'static str, what: String, there: Vec<String> },
    /// The commit is not at the remote, or is on none of its branches and tags and the server does not give it out.
    CommitMissing(ObjectId),
    /// The commit has no directory at the source's path.
    PathMissing { commit: ObjectId, path: RelPath },
    /// Nobody answers there, or no repository does.
    Unreachable(String),
    /// The server answered, but no commit came of it.
    Fetch(String),
    /// The deadline passed.
    TimedOut,
    /// The server wants credentials, or does not take ours; how it says so.
    Refused { how: String, asked: bool },
    /// A configured secret is not there, named by where it should be.
    CredentialMissing(String),
    /// The host key of an ssh server is not known.
    HostKeyUnknown(Box<HostKey>),
    /// The host key of an ssh server is not the one that is known.
    HostKeyChanged(Box<HostKey>),
    /// The server points to another place.
    Redirect(String),
    /// Our own repository is unusable.
    StoreDamaged(String),
    /// A folder that is not ours stands where our own repository should be.
    StoreForeign(PathBuf),
    /// More than is ever deployed.
    TreeTooLarge(&'static str),
}

impl Trouble {
    /// Our own repository cannot be read.
    pub(super) fn damaged(error: &gix::Error) -> Self {
        Self::StoreDamaged(flat(error))
    }

    /// Our own repository lacks an object that it must have.
    pub(super) fn lacks(what: &str, id: ObjectId) -> Self {
        Self::StoreDamaged(format!("the {what} {id} is missing"))
    }

    /// The remote does not have the branch.
    pub(super) fn branch_missing(branch: &str, there: Vec<String>) -> Self {
        Self::RefMissing { reason: "BranchMissing", what: format!("branch `{branch}`"), there }
    }

    /// The remote does not have the tag.
    pub(super) fn tag_missing(tag: &str, there: Vec<String>) -> Self {
        Self::RefMissing { reason: "TagMissing", what: format!("tag `{tag}`"), there }
    }

    /// No tag of the remote is a version in the range.
    pub(super) fn version_missing(range: &VersionReq, there: Vec<String>) -> Self {
        let what = format!("tag with a version in `{range}`");
        Self::RefMissing { reason: "VersionMissing", what, there }
    }

    /// gix could not list or fetch.
    pub(super) fn fetch(error: &gix::Error) -> Self {
        Self::Fetch(flat(error))
    }

    /// The sentence and its reason word, whether a person is needed, and the cause.
    pub(super) fn report(self, remote: &dyn fmt::Display) -> ObserveError {
        let error = |reason, message: String| ObserveError {
            reason,
            message: tame(&message),
            stalled: false,
            source: None,
        };
        let caused = |reason, message: String, why: String| ObserveError {
            source: Some(tame(&why).into()),
            ..error(reason, message)
        };
        let stalled = |reason, message: String| ObserveError { stalled: true, ..error(reason, message) };
        match self {
            Self::Empty => error("RemoteEmpty", format!("{remote} has no commit yet")),
            Self::RefMissing { reason, what, there } => {
                error(reason, format!("{remote} has no {what}{}", listed(&there)))
            }
            Self::CommitMissing(id) => error(
                "CommitMissing",
                format!(
                    "{remote} has no commit {id}, or has it on no branch and tag and does not give it out"
                ),
            ),
            Self::PathMissing { commit, path } => error(
                "PathMissing",
                format!("commit {} of {remote} has no directory `{path}`", commit.to_hex_with_len(8)),
            ),
            Self::Unreachable(why) => caused("RemoteUnreachable", format!("cannot reach {remote}"), why),
            Self::Fetch(why) => caused("FetchFailed", format!("cannot fetch {remote}"), why),
            Self::TimedOut => error("FetchTimedOut", format!("{remote} did not answer in time")),
            Self::Refused { how, asked: false } => error(
                AUTHENTICATION_FAILED,
                format!("{remote} wants credentials, or does not exist ({how}); configure `auth`"),
            ),
            Self::Refused { how, asked: true } => {
                error(AUTHENTICATION_FAILED, format!("{remote} refuses the credentials ({how})"))
            }
            Self::CredentialMissing(what) => {
                stalled("CredentialMissing", format!("cannot log in to {remote}: {what}"))
            }
            Self::HostKeyUnknown(key) => stalled("HostKeyUnknown", key.unknown(remote)),
            Self::HostKeyChanged(key) => stalled("HostKeyChanged", key.changed(remote)),
            Self::Redirect(to) => error(
                "RedirectRefused",
                format!(
                    "{remote} redirects to {to}, which is not followed; configure that URL if it is meant"
                ),
            ),
            Self::StoreDamaged(why) => {
                caused(STORE_DAMAGED, format!("the local copy of {remote} is damaged"), why)
            }
            Self::StoreForeign(path) => stalled(
                STORE_DAMAGED,
                format!("{} is in the way: kindling did not make it; move it away", path.display()),
            ),
            Self::TreeTooLarge(why) => error("TreeTooLarge", format!("the tree of {remote} {why}")),
        }
    }
}

impl From<WireFault> for Trouble {
    fn from(fault: WireFault) -> Self {
        match fault {
            WireFault::Status(status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)) => {
                Self::Refused { how: format!("HTTP status {}", status.as_u16()), asked: false }
            }
            WireFault::Status(status) => Self::Unreachable(plain::status(status.as_u16())),
            WireFault::Unreachable(why) => Self::Unreachable(why),
            WireFault::Redirect(to) => Self::Redirect(to),
            WireFault::TimedOut => Self::TimedOut,
            WireFault::Broken(why) => Self::Fetch(why),
        }
    }
}

impl From<JobError> for Trouble {
    fn from(error: JobError) -> Self {
        match error {
            JobError::TimedOut | JobError::Crowded => Self::TimedOut,
            JobError::Died | JobError::NoThread(_) => Self::Fetch(chain(&error)),
        }
    }
}

fn listed(there: &[String]) -> String {
    match there.len() {
        0 => String::new(),
        1..=FEW_NAMES => format!("; it has `{}`", there.join("`, `")),
        many => format!("; it has {many} others"),
    }
}

/// Servers choose names and error texts: what they write is made one short line that controls no terminal.
fn tame(text: &str) -> String {
    let mut line = String::new();
    for c in text.chars() {
        if line.len() >= LONGEST_TEXT {
            line.push_str("...");
            break;
        }
        if c.is_control() { line.extend(c.escape_default()) } else { line.push(c) }
    }
    line
}

/// An error and its causes on one line.
pub(in crate::observe) fn chain(error: &dyn Error) -> String {
    let mut parts = vec![error.to_string()];
    let mut next = error.source();
    while let Some(cause) = next {
        parts.push(cause.to_string());
        next = cause.source();
    }
    join(parts.into_iter())
}

/// [`chain`] for gix, whose errors are trees.
pub(super) fn flat(error: &gix::Error) -> String {
    join(error.iter_errors().map(ToString::to_string))
}

fn join(parts: impl Iterator<Item = String>) -> String {
    let mut line = String::new();
    for part in parts {
        let part = part.split_whitespace().collect::<Vec<_>>().join(" ");
        // Many errors print their cause themselves.
        if part.is_empty() || line.ends_with(&part) {
            continue;
        }
        if !line.is_empty() {
            line.push_str(": ");
        }
        line.push_str(&part);
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_branches_only_when_they_are_few() {
        let missing = |count: usize| {
            let there = (0..count).map(|n| format!("b{n}")).collect();
            Trouble::branch_missing("x", there).report(&"/r").message
        };
        assert_eq!(missing(0), "/r has no branch `x`");
        assert_eq!(missing(2), "/r has no branch `x`; it has `b0`, `b1`");
        assert_eq!(missing(11), "/r has no branch `x`; it has 11 others");
    }

    #[test]
    fn a_server_cannot_write_to_the_terminal() {
        let there = vec!["\u{1b}[2J\n".to_owned(), "x".repeat(2 * LONGEST_TEXT)];
        let said = Trouble::branch_missing("b", there).report(&"/r").message;
        assert!(said.starts_with("/r has no branch `b`; it has `\\u{1b}[2J\\n`, `xxx"), "{said}");
        assert!(said.len() < LONGEST_TEXT + 10);
    }

    #[test]
    fn puts_causes_on_one_line() {
        let inner = std::io::Error::other("refused\n  by peer");
        let outer = JobError::NoThread(inner);
        assert_eq!(chain(&outer), "cannot start a thread: refused by peer");
    }
}
