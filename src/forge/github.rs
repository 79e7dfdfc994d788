//! GitHub, and GitHub Enterprise.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use http_body_util::{BodyExt, Limited};
use octocrab::Octocrab;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, timeout_at};

use crate::config::secret::Secret;
use crate::model::commit_status::Repository;
use crate::support::clock::Clock;
use crate::support::text::printable;

use super::answer::{Answer, Grant, grant};
use super::{Forge, Outcome, Post};

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a call may take in all.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the rest of an answer is waited for that took a post: the connection is used again after it, that is all.
const REST_TIMEOUT: Duration = Duration::from_secs(1);
/// Bytes of an answer that are read.
const MAX_ANSWER: usize = 256 << 10;
/// Characters of GitHub's own words that are kept.
const MAX_WORDS: usize = 200;

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
#[error("cannot make a client for {api}: {why}")]
pub struct ForgeError {
    api: String,
    why: String,
}

/// Why a token could not be tried, or is not good.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// Nobody answered.
    #[error("{api} cannot be reached: {why}")]
    Away {
        /// The API.
        api: String,
        /// Why.
        why: String,
    },
    /// The host is in trouble, or takes no calls for a while; the token is not to blame.
    #[error("{api} could not say: {words}")]
    Trouble {
        /// The API.
        api: String,
        /// What it answered.
        words: String,
    },
    /// The answer is none of this API.
    #[error("{api} answered {status} with something else than a repository")]
    NoApi {
        /// The API.
        api: String,
        /// The status.
        status: u16,
    },
    /// The answer was a refusal.
    #[error("{words}")]
    Refused {
        /// The status.
        status: u16,
        /// What it means.
        words: String,
    },
}

/// The API of one host, with one token.
pub struct GitHub {
    api: String,
    token: Secret,
    client: Octocrab,
    clock: Clock,
}

#[derive(Serialize)]
struct NewStatus<'a> {
    state: &'a str,
    context: &'a str,
    description: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    target_url: Option<&'a str>,
}

#[derive(Default, Deserialize)]
struct Message {
    #[serde(default)]
    message: String,
}

#[derive(Default, Deserialize)]
struct RepositoryAnswer {
    #[serde(default)]
    private: bool,
    permissions: Option<Permissions>,
}

#[derive(Deserialize)]
struct Permissions {
    #[serde(default)]
    push: bool,
}

impl GitHub {
    /// A client of the API at `api`, which gets the token. Called within the runtime.
    ///
    /// # Errors
    /// `api` is no URL, or the machine has no certificates to trust.
    pub fn new(api: &str, token: &Secret, clock: Clock) -> Result<Self, ForgeError> {
        let failed = |error: &octocrab::Error| ForgeError { api: api.into(), why: reason(error) };
        // Features that are left out: redirects are not followed, and nothing is tried twice.
        let client = Octocrab::builder()
            .base_uri(api)
            .and_then(|builder| builder.upload_uri(api))
            .and_then(|builder| {
                builder
                    .personal_token(token.reveal())
                    .set_connect_timeout(Some(CONNECT_TIMEOUT))
                    .set_read_timeout(Some(CALL_TIMEOUT))
                    .set_write_timeout(Some(CALL_TIMEOUT))
                    .build()
            })
            .map_err(|error| failed(&error))?;
        Ok(Self { api: api.into(), token: token.clone(), client, clock })
    }

    /// Whether it is the client of this API with this token.
    #[must_use]
    pub fn is_of(&self, api: &str, token: &Secret) -> bool {
        self.api == api && self.token.reveal() == token.reveal()
    }

    /// Whether the token may say something of commits in a repository: one call that changes nothing.
    ///
    /// # Errors
    /// Nobody answered, or the repository is not shown to the token.
    pub async fn check(&self, repository: &Repository) -> Result<Grant, CheckError> {
        let (answer, body) = self
            .call(format!("/repos/{repository}"), None)
            .await
            .map_err(|why| CheckError::Away { api: self.api.clone(), why })?;
        let (api, status, words) = (self.api.clone(), answer.status, answer.words());
        if answer.is_passing() {
            return Err(CheckError::Trouble { api, words });
        }
        if !(200..300).contains(&status) {
            return Err(CheckError::Refused { status, words });
        }
        let body =
            body.ok_or_else(|| CheckError::Away { api: api.clone(), why: "its answer broke off".into() })?;
        let shown: RepositoryAnswer =
            serde_json::from_slice(&body).map_err(|_| CheckError::NoApi { api, status })?;
        let can_push = shown.permissions.map(|permissions| permissions.push);
        Ok(grant(answer.scopes.as_deref(), shown.private, can_push))
    }

    /// One call, with this to post; else why there was no answer. The body is there where all of it came in.
    async fn call(
        &self,
        route: String,
        post: Option<&NewStatus<'_>>,
    ) -> Result<(Answer, Option<Vec<u8>>), String> {
        let end = Instant::now() + CALL_TIMEOUT;
        let sent = async {
            match post {
                Some(post) => self.client._post(route, Some(post)).await,
                None => self.client._get(route).await,
            }
        };
        let response = match timeout_at(end, sent).await {
            Ok(done) => done.map_err(|error| self.without_token(&reason(&error)))?,
            Err(_) => return Err(format!("no answer within {} s", CALL_TIMEOUT.as_secs())),
        };
        let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
        let mut answer = head(response.status().as_u16(), header);
        let is_taken = post.is_some() && answer.status < 300;
        let end = if is_taken { end.min(Instant::now() + REST_TIMEOUT) } else { end };
        // What is longer, breaks off or stalls, takes nothing back: the status stands.
        let body = timeout_at(end, Limited::new(response.into_body(), MAX_ANSWER).collect()).await;
        let body = body.ok().and_then(Result::ok).map(|body| body.to_bytes().to_vec());
        if let Some(body) = body.as_ref().filter(|_| answer.status >= 300) {
            let told: Message = serde_json::from_slice(body).unwrap_or_default();
            answer.message = self.without_token(&told.message);
        }
        Ok((answer, body))
    }

    /// GitHub's words without what they may repeat, bounded.
    fn without_token(&self, words: &str) -> String {
        let words = printable(&words.replace(self.token.reveal(), "(token)")).to_string();
        words.chars().take(MAX_WORDS).collect()
    }
}

impl Forge for GitHub {
    fn api(&self) -> &str {
        &self.api
    }

    fn token(&self) -> u64 {
        // 64 bits of something as long as a token lead back to nothing. Where a later build hashes otherwise, what was
        // refused is said once more.
        let mut hasher = DefaultHasher::new();
        (&self.api, self.token.reveal()).hash(&mut hasher);
        hasher.finish()
    }

    async fn post(&self, post: &Post) -> Outcome {
        let route = format!("/repos/{}/statuses/{}", post.repository, post.revision);
        let status = NewStatus {
            state: post.state.as_str(),
            context: &post.context,
            description: &post.description,
            target_url: post.link.as_deref(),
        };
        match self.call(route, Some(&status)).await {
            Ok((answer, _)) => answer.outcome(self.clock.now_ms().div_euclid(1000).unsigned_abs()),
            Err(why) => Outcome::Away(why),
        }
    }
}

/// What of an answer comes before its body.
fn head<'a>(status: u16, header: impl Fn(&'static str) -> Option<&'a str>) -> Answer {
    let number = |name| header(name).and_then(|value| value.trim().parse().ok());
    Answer {
        status,
        retry_after: number("retry-after"),
        remaining: number("x-ratelimit-remaining"),
        reset: number("x-ratelimit-reset"),
        scopes: header("x-oauth-scopes").map(str::to_owned),
        message: String::new(),
    }
}

/// Why a call came to nothing, from the outside in. The client's own words name a place in its code.
fn reason(error: &octocrab::Error) -> String {
    let mut words: Vec<String> = Vec::new();
    let mut next = std::error::Error::source(error);
    while let Some(error) = next {
        let text = error.to_string();
        if !words.last().is_some_and(|last| last.contains(&text)) {
            words.push(text);
        }
        next = error.source();
    }
    if words.is_empty() { "the client failed".into() } else { words.join(": ") }
}
