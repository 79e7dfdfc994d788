//! What comes in from strangers, checked before anything is read into it: how large it is, how long it takes, who signed it.
//!
//! Push webhooks and task webhooks share it, and the memory that bodies in flight may take.

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
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

use crate::config::DEFAULT_WEBHOOK_BYTES;
use crate::model::hash::ContentHash;
use crate::reconcile::core::Live;

use super::error::Failure;

/// How long a body may take to come in: providers wait ten seconds for the answer.
const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// Memory for bodies in flight, in bytes, beside the first part of each: to places that are there, and to others.
const BUDGET: usize = 64 << 20;
const BUDGET_OF_STRANGERS: usize = 16 << 20;
/// The part of a body that takes nothing of the budget: an ordinary push is smaller, so that no flood of large bodies
/// holds one up.
const FREE_BYTES: usize = 64 << 10;
/// Time between two lines of the log on what was refused.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// A prepared secret.
pub(super) type Key = Hmac<Sha256>;

/// Takes bodies in, as large and as fast as they may be.
pub(super) struct Bodies {
    max_bytes: Live<u64>,
    budget: Semaphore,
    strangers: Semaphore,
}

impl Default for Bodies {
    fn default() -> Self {
        let (budget, strangers) = (Semaphore::new(BUDGET), Semaphore::new(BUDGET_OF_STRANGERS));
        Self { max_bytes: Live::from(DEFAULT_WEBHOOK_BYTES), budget, strangers }
    }
}

impl Bodies {
    /// Takes bodies of this size at most from now on, in bytes.
    pub(super) fn set_max(&self, max_bytes: u64) {
        self.max_bytes.set(max_bytes);
    }

    /// The whole body. What goes to no place that `is_there` holds up nobody else.
    ///
    /// # Errors
    /// It is too large, did not come in in time, or ended early.
    pub(super) async fn read(
        &self,
        headers: &HeaderMap,
        body: Body,
        is_there: bool,
    ) -> Result<Vec<u8>, Failure> {
        let budget = if is_there { (&self.budget, BUDGET) } else { (&self.strangers, BUDGET_OF_STRANGERS) };
        let read = tokio::time::timeout(READ_TIMEOUT, self.take(headers, body, budget)).await;
        read.map_err(|_| Failure::timed_out("the body did not come in within 10 s"))?
    }

    async fn take(
        &self,
        headers: &HeaderMap,
        body: Body,
        (budget, most): (&Semaphore, usize),
    ) -> Result<Vec<u8>, Failure> {
        let max = usize::try_from(*self.max_bytes.get()).unwrap_or(usize::MAX);
        let too_large =
            || Failure::too_large(format!("a body has {max} bytes at most: `limits.webhook_body`"));
        let told = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        if told.is_some_and(|told: usize| told > max) {
            return Err(too_large());
        }
        let mut bytes = Vec::with_capacity(told.unwrap_or(0).min(FREE_BYTES));
        let mut held: Option<SemaphorePermit<'_>> = None;
        let mut stream = body.into_data_stream();
        while let Some(chunk) = stream.next().await {
            let chunk = chunk.map_err(|_| Failure::invalid("the body ended early"))?;
            if bytes.len() + chunk.len() > max {
                return Err(too_large());
            }
            if held.is_none() && bytes.len() + chunk.len() > FREE_BYTES {
                // All that it may need, at once: bodies that wait for each other's parts would never be whole.
                let rest = told.unwrap_or(max).max(bytes.len() + chunk.len()) - FREE_BYTES;
                held = budget.acquire_many(u32::try_from(rest.min(most)).unwrap_or(u32::MAX)).await.ok();
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
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
        let mut since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        since.count += 1;
        if since.by.len() < 16 || since.by.contains_key(&from) {
            *since.by.entry(from).or_insert(0) += 1;
        }
        if since.told_at.is_some_and(|at| at.elapsed() < TELL_EVERY) {
            return;
        }
        let most = since.by.iter().max_by_key(|(_, count)| **count).map_or(from, |(address, _)| *address);
        tracing::warn!("refused {} {}, most from {most}", since.count, self.what);
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
