//! The forge: where repositories are hosted, and commits are told how they fare.
//!
//! Says one thing at a time and reports how that ended. Never decides what is said, never tries again, never follows a
//! redirect, and sends its token to nobody but the API that it was made for.

mod answer;
mod github;

use std::time::Duration;

use crate::model::commit_status::{CommitState, Repository};
use crate::model::source::Revision;

pub use answer::Grant;
pub use github::{CheckError, ForgeError, GitHub};

/// What is said of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Post {
    /// Where it is.
    pub repository: Repository,
    /// The commit.
    pub revision: Revision,
    /// Who says it: what is said later under the same name takes its place.
    pub context: String,
    /// How it fares.
    pub state: CommitState,
    /// In words.
    pub description: String,
    /// Where there is more.
    pub link: Option<String>,
}

/// How saying something ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was said.
    Posted,
    /// It was said, and nothing more is taken from anybody with this token for a while.
    PostedLast {
        /// For how long.
        wait: Duration,
        /// Why.
        why: String,
    },
    /// It will never be taken, because of this.
    Refused(String),
    /// Nothing is taken from anybody with this token for a while.
    Wait {
        /// For how long.
        wait: Duration,
        /// Why.
        why: String,
    },
    /// It was not taken this time, because of this.
    Again(String),
    /// Nobody answered, because of this.
    Away(String),
}

/// A place where commits are told how they fare.
pub trait Forge: Send + Sync + 'static {
    /// The base of its API.
    fn api(&self) -> &str;

    /// A number that is another one with another token. Nothing of the token can be told by it; it is never shown.
    fn token(&self) -> u64;

    /// Says something of a commit.
    fn post(&self, post: &Post) -> impl Future<Output = Outcome> + Send;
}
