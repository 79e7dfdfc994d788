//! Deliveries of push webhooks: what a provider announced, which way it came, and what became of it.

use std::time::Duration;

use crate::support::text::printable;

use super::hash::ContentHash;
use super::id::SourceName;
use super::path::RelPath;
use super::source::Revision;
use super::time::Timestamp;

/// A delivery whose signature was right, or one that a relay altered, as the ledger keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// The source that it was sent to.
    pub source: SourceName,
    /// Who sent it.
    pub provider: Provider,
    /// Which way it came.
    pub via: Via,
    /// The provider's id of it; a second one of the same id is a duplicate.
    pub id: String,
    /// What happened there: `push`, `ping` or another event.
    pub event: String,
    /// The full name of the ref that was pushed.
    pub reference: Option<String>,
    /// The commit that it names; a hint of what to wait for, never what is deployed.
    pub commit: Option<Revision>,
    /// The body's SHA-256.
    pub body: ContentHash,
    /// What became of it.
    pub verdict: Verdict,
    /// Why; empty where it was accepted.
    pub reason: String,
    /// When it came in.
    pub received_at: Timestamp,
}

/// A row of the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerRow {
    /// Its number, which grows.
    pub number: i64,
    /// What came in.
    pub delivery: Delivery,
    /// Whether the same body had come before under another id.
    pub is_repeat: bool,
    /// How often the same id came again; of altered ones, how many more there were.
    pub duplicates: u64,
}

/// Who sends deliveries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Provider {
    /// GitHub, or whoever sends its headers alone.
    GitHub,
    /// Gitea or Forgejo.
    Gitea,
}

impl Provider {
    /// The word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::GitHub => "github",
            Self::Gitea => "gitea",
        }
    }

    /// Reads [`Provider::as_str`].
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        [Self::GitHub, Self::Gitea].into_iter().find(|one| one.as_str() == word)
    }
}

/// Which way a delivery came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Via {
    /// It was posted to the service.
    Direct,
    /// A relay passed it on.
    Relay,
}

impl Via {
    /// The word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Relay => "relay",
        }
    }

    /// Reads [`Via::as_str`].
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Direct, Self::Relay].into_iter().find(|one| one.as_str() == word)
    }
}

/// What became of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The source is looked at because of it.
    Accepted,
    /// It concerns nothing that the source follows.
    Ignored,
    /// It came by a relay and its signature does not fit what the relay made of it.
    RelayAltered,
}

impl Verdict {
    /// The word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Ignored => "ignored",
            Self::RelayAltered => "relay-altered",
        }
    }

    /// Reads [`Verdict::as_str`].
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Accepted, Self::Ignored, Self::RelayAltered].into_iter().find(|one| one.as_str() == word)
    }
}

/// A push that concerns a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// The commit that is to be waited for; `None` where the payload names none that a branch could be at.
    pub commit: Option<Revision>,
    /// The repository where it is not the source's own, as the root of its part of the tree; `None` too where that is
    /// not known any more, after a restart or where the delivery is sent again from here.
    pub root: Option<RelPath>,
    /// Time from the push to the delivery, as far as the payload tells.
    pub deliver: Option<Duration>,
    /// When the delivery came in.
    pub received_at: Timestamp,
    /// Whether it shows that the provider delivers: it is no sample, and none that was sent again from here.
    pub is_proof: bool,
    /// What history says woke the pass.
    pub detail: String,
}

/// What history says of a pass that a delivery woke.
#[must_use]
pub fn detail(id: &str) -> String {
    format!("delivery {}", printable(id))
}

/// How the webhook of a source fares.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WebhookHealth {
    /// When the last push came in that concerned the source.
    pub last_delivery_at: Option<Timestamp>,
    /// Commits that a poll found and no delivery named, since the service started.
    pub missed: u64,
    /// The newest of them, and when it was found; `None` once a delivery came in again.
    pub broken: Option<(Revision, Timestamp)>,
}

/// How the relay of a source fares.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RelayHealth {
    /// The relay, without the part of its URL that opens the channel.
    pub place: String,
    /// Since when it is connected; `None` while it is not.
    pub connected_since: Option<Timestamp>,
    /// Since when it is not; `None` while it is, and before the first attempt is over.
    pub lost_since: Option<Timestamp>,
    /// Why the last connection failed or ended; empty before one did.
    pub error: String,
}
