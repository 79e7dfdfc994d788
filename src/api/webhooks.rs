//! Push webhooks: who signed a delivery with the secret of a source is believed, and only as far as to look at the source.
//! Everybody else gets one and the same answer, and leaves no trace but a line of the log now and then.
//!
//! The order is that of DESIGN 9: size, time, the memory that bodies may take, signature, and only then what it says.
//! What has no signature to check is not read at all.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use axum::Json;
use axum::extract::{ConnectInfo, Request, State as AxumState};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use hmac::Mac;
use schemars::JsonSchema;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::act::Target;
use crate::config::secret::Secret;
use crate::model::delivery::{self, Announcement, Delivery, Provider, Verdict, Via};
use crate::model::hash::ContentHash;
use crate::model::hook::HookPath;
use crate::model::id::SourceName;
use crate::model::source::{GitRef, Origin, Revision};
use crate::plan::push::{Concern, Push};
use crate::reconcile::core::Live;
use crate::reconcile::handle::Handle;
use crate::reconcile::ledger::Ledger;
use crate::reconcile::message::{Refusal, RefusalKind};
use crate::record::Noted;

use super::State;
use super::error::Failure;
use super::given::{Params, Part};
use super::hooks::HookRules;
use super::inbound::{Bodies, Key, Refused, Sender, Standing, key, signature, signed};
use super::listings::{LARGEST_PAGE, PAGE};
use super::subject;
use super::wire::{DeliveryAnswer, DeliveryView, Items, SamplePush};

/// Longest id, name of an event and name of a ref that is kept, in bytes.
const MAX_TEXT_BYTES: usize = 1024;

/// What the ids of samples begin with: they come from here, and show nothing of the provider.
const SAMPLE_ID: &str = "test-";

/// What deliveries are checked with.
pub struct Webhooks {
    keys: Live<BTreeMap<SourceName, Vec<Key>>>,
    /// What the signature of a delivery to nobody is compared with: it takes as long as any other.
    nobody: Key,
    refused: Refused,
    /// How bodies come in, those of task webhooks too.
    pub(super) bodies: Bodies,
    /// What holds for task webhooks.
    pub(super) hooks: HookRules,
}

impl Default for Webhooks {
    /// No source has one.
    fn default() -> Self {
        Self {
            keys: Live::from(BTreeMap::new()),
            nobody: key(b"nobody"),
            refused: Refused::new("deliveries without a right signature"),
            bodies: Bodies::default(),
            hooks: HookRules::default(),
        }
    }
}

impl Webhooks {
    /// Takes these secrets and this largest size, in bytes, from now on.
    pub fn set(&self, secrets: &BTreeMap<SourceName, Vec<Secret>>, max_bytes: u64) {
        let prepared = |(name, secrets): (&SourceName, &Vec<Secret>)| {
            (name.clone(), secrets.iter().map(|secret| key(secret.reveal().as_bytes())).collect())
        };
        self.keys.set(secrets.iter().map(prepared).collect());
        self.bodies.set_max(max_bytes);
    }

    /// Takes these paths of task webhooks that anybody may call from now on.
    pub fn set_open_hooks(&self, open: BTreeSet<HookPath>) {
        self.hooks.set_open(open);
    }

    /// The signature of `body` for a source, as its provider would send it; `None` where it has no webhook.
    #[must_use]
    pub fn sign(&self, source: &SourceName, body: &[u8]) -> Option<String> {
        let keys = self.keys.get();
        let mac = keys.get(source)?.first()?.clone().chain_update(body).finalize().into_bytes();
        Some(format!("sha256={}", ContentHash::new(mac.into())))
    }

    fn is_there(&self, source: &SourceName) -> bool {
        self.keys.get().contains_key(source)
    }

    fn is_signed(&self, source: Option<&SourceName>, signature: Option<[u8; 32]>, body: &[u8]) -> bool {
        let keys = self.keys.get();
        let known = source.and_then(|source| keys.get(source));
        let nobody = std::slice::from_ref(&self.nobody);
        let own = known.map_or(nobody, Vec::as_slice);
        signed(own, signature, body) && known.is_some()
    }
}

pub(super) async fn receive<T: Target>(
    AxumState(api): State<T>,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    name: Result<Part, Failure>,
    request: Request,
) -> Result<Response, Failure> {
    let (parts, body) = request.into_parts();
    let source = name.ok().and_then(|Part(name)| SourceName::new(&name).ok());
    let is_there = source.as_ref().is_some_and(|source| api.webhooks.is_there(source));
    let standing = if is_there { Standing::Unknown } else { Standing::Nowhere };
    let sender = Sender::new(from.ip(), &parts.headers, standing);
    let unsigned = || {
        api.webhooks.refused.note(from.ip());
        api.service.core().metrics().refused();
        Failure::unsigned()
    };
    // What shows no signature at all is not worth its memory.
    let signature = signature(&parts.headers).ok_or_else(unsigned)?;
    let body = api.webhooks.bodies.read(&parts.headers, body, sender).await?;
    if !api.webhooks.is_signed(source.as_ref(), Some(signature), &body) {
        return Err(unsigned());
    }
    api.webhooks.bodies.prove(sender);
    let Some(source) = source else { return Err(Failure::unsigned()) };
    let message = Message::read(&parts.headers, &body)?;
    let (status, answer) = message.take(&api.service, &api.ledger, source, &body, Via::Direct).await?;
    Ok((status, Json(answer)).into_response())
}

/// What became of a delivery that a relay passed on.
#[derive(Debug)]
pub enum Passed {
    /// It counts as any other; its body may have come before.
    Taken {
        /// Whether it had.
        is_repeat: bool,
    },
    /// Its body came before, and none of those is taken now. Nothing is written.
    Repeated,
    /// No signature fits.
    Unsigned,
    /// The signature is right, but it is no delivery, or could not be recorded; this says why.
    Refused(String),
}

/// Takes a delivery to `source` that a relay passed on, as any other is taken once its body was read. `bodies` are what
/// its body may have been; the one that the signature fits is it. Who reads along at a relay can post what was signed once
/// again under any id: without `takes_repeats` that is not taken.
pub async fn take_relayed<T: Target>(
    (service, webhooks, ledger): (&Handle<T>, &Webhooks, &Ledger),
    source: &SourceName,
    headers: &[(String, String)],
    bodies: &[Vec<u8>],
    takes_repeats: bool,
) -> Passed {
    let parsed = |(name, value): &(String, String)| {
        Some((HeaderName::from_bytes(name.as_bytes()).ok()?, HeaderValue::from_str(value).ok()?))
    };
    let headers: HeaderMap = headers.iter().filter_map(parsed).collect();
    let signature = signature(&headers);
    let is_signed = |body: &&Vec<u8>| webhooks.is_signed(Some(source), signature, body);
    let Some(body) = bodies.iter().find(is_signed) else { return Passed::Unsigned };
    let hash = ContentHash::new(Sha256::digest(body).into());
    // Where that cannot be read, nothing can be written either, which is told.
    let is_repeat = service.core().store.has_delivered(source, &hash).await.unwrap_or(false);
    if is_repeat && !takes_repeats {
        service.core().metrics().delivered(source, "duplicate");
        return Passed::Repeated;
    }
    let taken = match Message::read(&headers, body) {
        Ok(message) => message.take(service, ledger, source.clone(), body, Via::Relay).await,
        Err(failure) => Err(failure),
    };
    taken.map_or_else(|failure| Passed::Refused(failure.to_string()), |_| Passed::Taken { is_repeat })
}

/// What a delivery says of itself.
struct Message {
    provider: Provider,
    id: String,
    event: String,
    push: Option<Push>,
}

impl Message {
    fn read(headers: &HeaderMap, body: &[u8]) -> Result<Self, Failure> {
        let text = |name: &str| {
            let value = headers.get(name)?.to_str().ok().filter(|value| !value.is_empty())?;
            Some(bounded(value))
        };
        let provider =
            if headers.contains_key("x-gitea-delivery") { Provider::Gitea } else { Provider::GitHub };
        let event = text("x-github-event").ok_or_else(|| Failure::malformed("X-GitHub-Event is missing"))?;
        let id = text("x-github-delivery").or_else(|| text("x-gitea-delivery"));
        let id = id.ok_or_else(|| Failure::malformed("X-GitHub-Delivery is missing"))?;
        let push = if event == "push" { Some(push(headers, body)?) } else { None };
        Ok(Self { provider, id, event, push })
    }

    async fn take<T: Target>(
        self,
        service: &Handle<T>,
        ledger: &Ledger,
        source: SourceName,
        body: &[u8],
        via: Via,
    ) -> Result<(StatusCode, DeliveryAnswer), Failure> {
        let core = service.core();
        let received_at = core.now();
        let Self { provider, id, event, push } = self;
        let concern = match (&push, core.board.source(&source)) {
            (Some(push), Some(record)) => push.concern(&record.spec, &core.board.repositories(&source)),
            (Some(_), None) => Concern::Ignore("the source is not followed".into()),
            (None, _) if event == "ping" => Concern::Ignore("pong".into()),
            (None, _) => Concern::Ignore("only pushes are followed".into()),
        };
        let (verdict, reason) = match &concern {
            Concern::Follow { .. } => (Verdict::Accepted, String::new()),
            Concern::Ignore(why) => (Verdict::Ignored, why.clone()),
        };
        let delivery = Delivery {
            source: source.clone(),
            provider,
            via,
            id,
            event,
            reference: push.as_ref().and_then(|push| push.reference.as_deref().map(bounded)),
            commit: push.as_ref().and_then(|push| push.commit.clone()),
            body: ContentHash::new(Sha256::digest(body).into()),
            verdict,
            reason: reason.clone(),
            received_at,
        };
        let id = delivery.id.clone();
        let noted = match ledger.note(delivery).await {
            Ok(Noted::Duplicate { number }) => {
                service.look_sooner(&source);
                core.metrics().delivered(&source, "duplicate");
                return Ok((
                    StatusCode::OK,
                    DeliveryAnswer::new(Some(number), "duplicate", "it came before"),
                ));
            }
            Ok(Noted::New { number, is_repeat }) => Ok((number, is_repeat)),
            Err(why) => Err(why),
        };
        let follows = matches!(concern, Concern::Follow { .. });
        if let Concern::Follow { commit, root } = concern {
            let deliver = push.and_then(|push| push.delivered_after(received_at));
            let detail = delivery::detail(&id);
            let is_proof = !id.starts_with(SAMPLE_ID);
            service.announce(&source, Announcement { commit, root, deliver, received_at, is_proof, detail });
        }
        // It was announced all the same; who sent it is to know that nothing will remember it.
        let (number, is_repeat) = noted.map_err(|why| {
            tracing::error!("source {source}: a delivery could not be recorded: {why}");
            Failure::failed("the delivery could not be recorded")
        })?;
        core.metrics().delivered(&source, verdict.as_str());
        let status = if follows { StatusCode::ACCEPTED } else { StatusCode::OK };
        let reason = if is_repeat && follows { "the same body came before" } else { &reason };
        Ok((status, DeliveryAnswer::new(Some(number), verdict.as_str(), reason)))
    }
}

/// A text of a provider, cut to what is kept of it.
fn bounded(text: &str) -> String {
    let end = (0..=MAX_TEXT_BYTES.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    text[..end].to_owned()
}

fn push(headers: &HeaderMap, body: &[u8]) -> Result<Push, Failure> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let is_form =
        kind.split(';').next().is_some_and(|kind| kind.trim() == "application/x-www-form-urlencoded");
    let malformed = || Failure::malformed("the payload of a push is a JSON object");
    if !is_form {
        return Push::read(body).map_err(|_| malformed());
    }
    let mut fields = form_urlencoded::parse(body);
    let payload = fields.find(|(name, _)| name == "payload").ok_or_else(malformed)?.1;
    Push::read(payload.as_bytes()).map_err(|_| malformed())
}

#[derive(Deserialize, JsonSchema)]
pub(super) struct OfDeliveries {
    /// Only those to this source.
    source: Option<String>,
    /// So many at most: 1 to 1,000, 50 without it.
    limit: Option<u32>,
}

pub(super) async fn list<T: Target>(
    AxumState(api): State<T>,
    Params(page): Params<OfDeliveries>,
) -> Result<Json<Items<DeliveryView>>, Failure> {
    let core = api.service.core();
    let source = page.source.as_deref().map(|name| known(&api, name)).transpose()?;
    let limit = page.limit.unwrap_or(PAGE).min(LARGEST_PAGE);
    let rows = core.store.deliveries(source.as_ref(), limit).await?;
    Ok(Json(Items { items: rows.iter().map(Into::into).collect() }))
}

pub(super) async fn redeliver<T: Target>(
    AxumState(api): State<T>,
    Part(number): Part,
) -> Result<Json<DeliveryView>, Failure> {
    let core = api.service.core();
    let unknown = || {
        let number = number.escape_debug();
        Failure::not_found(format!("there is no delivery {number}")).hint("kindling webhook list")
    };
    let number: i64 = number.parse().map_err(|_| unknown())?;
    let row = core.store.delivery(number).await?.ok_or_else(unknown)?;
    let delivery = &row.delivery;
    let nothing = match delivery.verdict {
        Verdict::Accepted => None,
        Verdict::Ignored => Some("concerns nothing that is followed"),
        Verdict::RelayAltered => Some("is not known to be what was sent"),
    };
    if let Some(nothing) = nothing {
        let message = format!("delivery {number} {nothing}: {}", delivery.reason);
        return Err(Refusal::new(RefusalKind::Conflict, message).into());
    }
    known(&api, delivery.source.as_str())?;
    let detail = format!("{}, again", delivery::detail(&delivery.id));
    // What is not there within the usual time was pushed away since.
    let (commit, received_at) = (delivery.commit.clone(), core.now());
    let (root, deliver, is_proof) = (None, None, false);
    let push = Announcement { commit, root, deliver, received_at, is_proof, detail };
    api.service.announce(&delivery.source, push);
    Ok(Json((&row).into()))
}

pub(super) async fn sample<T: Target>(
    AxumState(api): State<T>,
    Part(name): Part,
) -> Result<Json<SamplePush>, Failure> {
    let source = known(&api, &name)?;
    let record = api.service.core().board.source(&source);
    let Some((Origin::Git(git), revisions)) =
        record.map(|one| (one.spec.origin.clone(), one.revisions.clone()))
    else {
        return Err(Failure::invalid(format!("source {source} is a directory, which nobody pushes to")));
    };
    let reference = match &git.reference {
        GitRef::Branch(branch) => format!("refs/heads/{branch}"),
        GitRef::Tag(tag) => format!("refs/tags/{tag}"),
        GitRef::Semver(_) => "refs/tags/v0.0.0".into(),
        GitRef::Head | GitRef::Commit(_) => "refs/heads/main".into(),
    };
    let body = serde_json::json!({
        "ref": reference,
        "after": revisions.seen.as_ref().map(Revision::as_str),
        "repository": { "clone_url": git.url },
        "sender": { "login": "kindling webhook test" },
    });
    let body = body.to_string();
    let none = || {
        Failure::from(
            Refusal::new(RefusalKind::Conflict, format!("source {source} has no webhook"))
                .hint("add `webhook: {secret_env: NAME}` to its `git` section in kindling.yaml"),
        )
    };
    let signature = api.webhooks.sign(&source, body.as_bytes()).ok_or_else(none)?;
    let id = format!("{SAMPLE_ID}{}", api.service.core().now().0);
    let headers = [
        ("content-type", "application/json".to_owned()),
        ("x-github-event", "push".to_owned()),
        ("x-github-delivery", id),
        ("x-hub-signature-256", signature),
    ];
    let headers = headers.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    Ok(Json(SamplePush { headers, body }))
}

/// A source that there is.
fn known<T: Target>(api: &super::Api<T>, name: &str) -> Result<SourceName, Failure> {
    let board = &api.service.core().board;
    let source = SourceName::new(name).ok().filter(|name| board.source(name).is_some());
    source.ok_or_else(|| subject::no_source(&board.sources(), name))
}
