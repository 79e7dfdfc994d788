//! The JSON of push webhooks.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How a push webhook fares.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WebhookView {
    /// When the last push came in that concerned the source.
    pub last_delivery_at: Option<String>,
    /// How many commits a poll found that no delivery named, since the service started.
    pub missed: u64,
    /// The newest of them; null once a delivery came in again.
    pub missed_revision: Option<String>,
    /// When that was noticed.
    pub missed_at: Option<String>,
}

/// How the relay of a source fares.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RelayView {
    /// Its host, and the beginning of its channel; the rest opens the channel.
    pub place: String,
    /// Since when it is connected; null while it is not.
    pub connected_since: Option<String>,
    /// Since when it is not; null while it is, and before the first attempt is over.
    pub lost_since: Option<String>,
    /// Why the last connection failed or ended; null before one did.
    pub error: Option<String>,
}

/// The answer to a delivery.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct DeliveryAnswer {
    /// Its number in the ledger, or that of the one it is a duplicate of.
    pub number: Option<i64>,
    /// `accepted`, `ignored` or `duplicate`.
    pub outcome: String,
    /// Why; empty where there is nothing to say.
    pub reason: String,
}

impl DeliveryAnswer {
    pub(in crate::api) fn new(number: Option<i64>, outcome: &str, reason: &str) -> Self {
        Self { number, outcome: outcome.into(), reason: reason.into() }
    }
}

/// A delivery in the ledger.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeliveryView {
    /// Its number, which grows.
    pub number: i64,
    /// The source that it was sent to.
    pub source: String,
    /// `github` or `gitea`.
    pub provider: String,
    /// `direct`, or `relay` where a relay passed it on.
    #[serde(default)]
    pub via: String,
    /// The provider's id of it.
    pub id: String,
    /// The event.
    pub event: String,
    /// The full name of the ref that was pushed.
    #[serde(rename = "ref")]
    pub reference: Option<String>,
    /// The commit that it named.
    pub revision: Option<String>,
    /// `accepted`, `ignored` or `relay-altered`.
    pub outcome: String,
    /// Why it was ignored, or what was altered.
    pub reason: String,
    /// Whether the same body had come before under another id.
    pub repeat: bool,
    /// How often the same id came again; of altered ones, how many more there were.
    pub duplicates: u64,
    /// When it came in.
    pub received_at: String,
}

/// A path at which a task webhook is served.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct HookView {
    /// The path.
    pub path: String,
    /// The task that it runs.
    pub task: String,
    /// The methods that it takes.
    pub methods: Vec<String>,
    /// What callers need: `signature`, `token`, both, or `local` where only programs of this machine may call; nothing
    /// where anybody may.
    pub needs: Vec<String>,
    /// Whether calls are refused because a person suspended the task or its source.
    pub suspended: bool,
}

/// A push that was signed to try a webhook.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct SamplePush {
    /// The headers to send.
    pub headers: BTreeMap<String, String>,
    /// The body to send, byte by byte.
    pub body: String,
}
