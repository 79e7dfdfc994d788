//! What all sources share per host: how many fetch from it at once, and the connections kept to it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::Client;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How many fetches one host serves at a time (DESIGN 4).
pub const SLOTS_PER_HOST: usize = 2;

/// A connection that is not up by then is given up, so that the other addresses of a host have their turn.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection on which nothing arrives for so long is given up. The deadline of a first clone is much later.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// A little more than the default poll interval with its jitter, so that the next poll finds the connection.
const KEEP_CONNECTION: Duration = Duration::from_secs(40);

/// Slots and connections per host; clones share them. Make one for all sources of a service.
#[derive(Clone, Default)]
pub struct HostSlots(Arc<Shared>);

#[derive(Default)]
struct Shared {
    slots: Mutex<HashMap<String, Arc<Semaphore>>>,
    plain: Mutex<Option<Client>>,
    secure: Mutex<Option<Client>>,
}

impl HostSlots {
    /// No slot taken, no connection open.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Waits for a slot of `host`; it is free again when the permit is dropped.
    pub(super) async fn acquire(&self, host: &str) -> Option<OwnedSemaphorePermit> {
        let slots = {
            let mut all = self.0.slots.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(all.entry(host.to_owned()).or_insert_with(|| Arc::new(Semaphore::new(SLOTS_PER_HOST))))
        };
        // Fails only when the semaphore is closed, which nothing does.
        slots.acquire_owned().await.ok()
    }

    /// The HTTP client for a scheme; made when first used. One without TLS loads no certificates and works on a
    /// machine that has none.
    pub(super) fn client(&self, scheme: &str) -> Result<Client, reqwest::Error> {
        let kept = if scheme == "https" { &self.0.secure } else { &self.0.plain };
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = &*kept {
            return Ok(client.clone());
        }
        install_tls();
        let builder = Client::builder()
            // Redirects are followed by hand: never to another host.
            .redirect(reqwest::redirect::Policy::none())
            // Proxy variables of the environment would catch loopback and internal hosts too.
            .no_proxy()
            .referer(false)
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(IDLE_TIMEOUT)
            .pool_idle_timeout(KEEP_CONNECTION)
            .pool_max_idle_per_host(SLOTS_PER_HOST);
        let client = if scheme == "https" { builder } else { builder.tls_certs_only([]) }.build()?;
        *kept = Some(client.clone());
        Ok(client)
    }
}

impl std::fmt::Debug for HostSlots {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HostSlots")
    }
}

/// Makes aws-lc-rs the process's TLS provider, unless there is one. Without a provider HTTP clients cannot be built.
/// May be called any number of times.
pub fn install_tls() {
    // The error says that another provider was installed before, which serves as well.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_host_has_two_slots_of_its_own() {
        let slots = HostSlots::new();
        let held = (slots.acquire("a").await, slots.clone().acquire("a").await);
        assert!(slots.acquire("a").now_or_never().is_none());
        assert!(slots.acquire("b").now_or_never().is_some());
        drop(held);
        assert!(slots.acquire("a").now_or_never().is_some());
    }

    #[test]
    fn a_client_is_made_where_nobody_installed_a_tls_provider() {
        let slots = HostSlots::new();
        assert!(slots.client("http").is_ok() && slots.client("https").is_ok());
        install_tls();
        install_tls();
    }
}
