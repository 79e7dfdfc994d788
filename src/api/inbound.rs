//! What comes in from strangers, checked before anything is read into it: how large it is, how long it takes, who signed it.
//!
//! Push webhooks and task webhooks share it, and the memory that bodies in flight may take.

mod room;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, header};
use futures_util::StreamExt;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;
use tokio::time::Instant;

use crate::config::DEFAULT_WEBHOOK_BYTES;
use crate::model::hash::ContentHash;
use crate::reconcile::core::Live;

use super::error::Failure;

use self::room::{Place, Room};

pub(super) use self::room::{Network, Standing};

/// How long a body may take to come in: providers wait ten seconds for the answer.
const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// Memory for bodies in flight, in bytes, beside the first part of each.
const BUDGET: usize = 64 << 20;
/// The part of a body that takes nothing of the budget: an ordinary push is smaller, so that no flood of large bodies
/// touches one.
const FREE_BYTES: usize = 64 << 10;
/// Time between two lines of the log on what was refused.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// A prepared secret.
pub(super) type Key = Hmac<Sha256>;

/// Takes bodies in, as large and as fast as they may be.
pub(super) struct Bodies {
    max_bytes: Live<u64>,
    room: Room,
}

impl Default for Bodies {
    fn default() -> Self {
        Self { max_bytes: Live::from(DEFAULT_WEBHOOK_BYTES), room: Room::new(BUDGET) }
    }
}

/// Who sends a body, as far as that is known before it is read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sender {
    network: Network,
    standing: Standing,
}

impl Sender {
    /// Who calls from `from` with these headers.
    pub(super) fn new(from: IpAddr, headers: &HeaderMap, standing: Standing) -> Self {
        Self { network: Network::of_caller(from, headers), standing }
    }
}

impl Bodies {
    /// Takes bodies of this size at most from now on, in bytes.
    pub(super) fn set_max(&self, max_bytes: u64) {
        self.max_bytes.set(max_bytes);
    }

    /// What this one sent was signed rightly: large bodies from there come before those of others for now.
    pub(super) fn prove(&self, sender: Sender) {
        self.room.prove(sender.network);
    }

    /// The whole body. None waits for another one: where there is no room for all, the least known and slowest give way.
    ///
    /// # Errors
    /// It is too large, did not come in in time, ended early, or gave way.
    pub(super) async fn read(
        &self,
        headers: &HeaderMap,
        body: Body,
        sender: Sender,
    ) -> Result<Vec<u8>, Failure> {
        let read = tokio::time::timeout(READ_TIMEOUT, self.take(headers, body, sender)).await;
        read.map_err(|_| Failure::timed_out("the body did not come in within 10 s"))?
    }

    async fn take(&self, headers: &HeaderMap, body: Body, sender: Sender) -> Result<Vec<u8>, Failure> {
        let max = usize::try_from(*self.max_bytes.get()).unwrap_or(usize::MAX);
        let too_large =
            || Failure::too_large(format!("a body has {max} bytes at most: `limits.webhook_body`"));
        let gave_way = || Failure::failed("too many large bodies are on their way; send it again later");
        let told = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        if told.is_some_and(|told: usize| told > max) {
            return Err(too_large());
        }
        let mut bytes = Vec::with_capacity(told.unwrap_or(0).min(FREE_BYTES));
        let mut place: Option<Place<'_>> = None;
        let mut stream = body.into_data_stream();
        loop {
            // Cancel safe: what came in is in `bytes`, and the stream keeps the rest.
            let chunk = tokio::select! {
                biased;
                () = gave_way_of(place.as_ref()) => return Err(gave_way()),
                chunk = stream.next() => chunk,
            };
            let Some(chunk) = chunk else { return Ok(bytes) };
            let chunk = chunk.map_err(|_| Failure::invalid("the body ended early"))?;
            let received = bytes.len() + chunk.len();
            if received > max {
                return Err(too_large());
            }
            if received > FREE_BYTES {
                let place = place.get_or_insert_with(|| self.room.enter(sender.standing, sender.network));
                if !place.grow(received) {
                    return Err(gave_way());
                }
            }
            bytes.extend_from_slice(&chunk);
        }
    }
}

async fn gave_way_of(place: Option<&Place<'_>>) {
    match place {
        Some(place) => place.gave_way().await,
        None => std::future::pending().await,
    }
}

/// What was refused since the log told of it last.
pub(super) struct Refused {
    /// What is refused, in the plural.
    what: &'static str,
    since: Mutex<Since>,
}

#[derive(Default)]
struct Since {
    told_at: Option<Instant>,
    count: u64,
    by: HashMap<IpAddr, u64>,
}

impl Refused {
    /// Nothing was refused yet.
    pub(super) fn new(what: &'static str) -> Self {
        Self { what, since: Mutex::default() }
    }

    /// Counts a refusal; the log is told now and then.
    pub(super) fn note(&self, from: IpAddr) {
        self.note_why(from, "");
    }

    /// The same; the log is told why the last one was refused.
    pub(super) fn note_why(&self, from: IpAddr, why: &str) {
        let mut since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        since.count += 1;
        if since.by.len() < 16 || since.by.contains_key(&from) {
            *since.by.entry(from).or_insert(0) += 1;
        }
        if since.told_at.is_some_and(|at| at.elapsed() < TELL_EVERY) {
            return;
        }
        let most = since.by.iter().max_by_key(|(_, count)| **count).map_or(from, |(address, _)| *address);
        let why = if why.is_empty() { String::new() } else { format!(": {why}") };
        tracing::warn!("refused {} {}, most from {most}{why}", since.count, self.what);
        (since.told_at, since.count) = (Some(Instant::now()), 0);
        since.by.clear();
    }
}

/// Prepares a secret.
pub(super) fn key(secret: &[u8]) -> Key {
    // HMAC takes keys of every length; the other arm is for none.
    Key::new_from_slice(secret).unwrap_or_else(|_| Key::new(&hmac::digest::Key::<Key>::default()))
}

/// The signature that a call shows; anything but one SHA-256 in hexadecimal digits is none.
pub(super) fn signature(headers: &HeaderMap) -> Option<[u8; 32]> {
    let mut all = headers.get_all("x-hub-signature-256").iter();
    let (Some(one), None) = (all.next(), all.next()) else { return None };
    let hash: ContentHash = one.to_str().ok()?.strip_prefix("sha256=")?.parse().ok()?;
    Some(*hash.bytes())
}

/// Whether a body is signed with one of these keys. Takes as long whether it is or not.
pub(super) fn signed(keys: &[Key], signature: Option<[u8; 32]>, body: &[u8]) -> bool {
    let given = signature.unwrap_or_default();
    let mut matches = subtle::Choice::from(0);
    for key in keys {
        let right = key.clone().chain_update(body).finalize().into_bytes();
        matches |= right.as_slice().ct_eq(&given);
    }
    bool::from(matches) && signature.is_some()
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use axum::body::Bytes;
    use futures_util::stream;

    use super::*;

    fn sender(from: &str) -> Sender {
        Sender::new(from.parse().unwrap(), &HeaderMap::new(), Standing::Unknown)
    }

    /// So many bytes that come at once, and whether that is all.
    fn body(bytes: usize, is_whole: bool) -> Body {
        let start =
            stream::iter((0..bytes / 1024).map(|_| Ok::<_, Infallible>(Bytes::from_static(&[b'x'; 1024]))));
        if is_whole { Body::from_stream(start) } else { Body::from_stream(start.chain(stream::pending())) }
    }

    #[tokio::test(start_paused = true)]
    async fn bodies_that_never_end_hold_up_no_whole_one() {
        let bodies = std::sync::Arc::new(Bodies::default());
        let mut flood = Vec::new();
        for n in 0..64 {
            let (bodies, from) = (std::sync::Arc::clone(&bodies), format!("192.0.{n}.1"));
            flood.push(tokio::spawn(async move {
                bodies.read(&HeaderMap::new(), body(2 << 20, false), sender(&from)).await
            }));
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        let start = Instant::now();
        for from in ["198.51.100.1", "192.0.63.1"] {
            let read = bodies.read(&HeaderMap::new(), body(3 << 20, true), sender(from)).await;
            assert_eq!(read.map(|bytes| bytes.len()).map_err(|failure| failure.message), Ok(3 << 20));
        }
        assert_eq!(start.elapsed(), Duration::ZERO);
        let mut ends = Vec::new();
        for work in flood {
            ends.push(work.await.unwrap().unwrap_err().status.as_u16());
        }
        assert!(ends.iter().all(|status| matches!(status, 408 | 503)), "{ends:?}");
        let gave_way = ends.iter().filter(|status| **status == 503).count();
        assert!((32..64).contains(&gave_way), "{ends:?}");
    }
}
