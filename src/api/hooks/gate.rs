//! Who may call a task webhook.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use axum::http::{HeaderMap, HeaderName, header};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::api::auth;
use crate::api::error::Failure;
use crate::api::inbound::{Refused, key, signature, signed};
use crate::model::hook::HookPath;
use crate::reconcile::core::Live;
use crate::reconcile::hooks::HookKeys;

/// Memory for the inputs of runs that are not over, in KiB.
const ROOM_KIB: usize = 256 << 10;
/// What a call takes of it at least, in KiB: so there are 4,096 at most.
const LEAST_KIB: usize = 64;

/// Why a hook without secret and token does not serve a caller.
const LOCAL_ONLY: &str = "this hook has neither secret nor token, so it serves programs of this machine only: give it \
                          `webhook_secret` or `bearer`, or name its path in `server.open_hooks`";

/// What holds for all task webhooks.
pub(in crate::api) struct HookRules {
    open: Live<BTreeSet<HookPath>>,
    pub(super) refused: Refused,
    /// Who may call, and whose run could not be recorded.
    pub(super) unrecorded: Refused,
    room: Arc<Semaphore>,
}

impl Default for HookRules {
    /// None is open.
    fn default() -> Self {
        Self {
            open: Live::from(BTreeSet::new()),
            refused: Refused::new("calls of task webhooks that may not call them"),
            unrecorded: Refused::new("calls of task webhooks that could not become runs"),
            room: Arc::new(Semaphore::new(ROOM_KIB)),
        }
    }
}

impl HookRules {
    /// Lets anybody call these from now on, where they have neither secret nor token.
    pub(in crate::api) fn set_open(&self, open: BTreeSet<HookPath>) {
        self.open.set(open);
    }

    pub(super) fn is_open(&self, path: &HookPath) -> bool {
        self.open.get().contains(path)
    }

    /// Lets a call with an input of `bytes` in until its run is over; `None` where too many wait.
    pub(super) fn enter(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let kib = u32::try_from((bytes >> 10).max(LEAST_KIB)).ok()?;
        Arc::clone(&self.room).try_acquire_many_owned(kib).ok()
    }
}

/// Whether a program of this machine calls, and no page in a browser, no proxy and no tunnel for somebody else.
pub(super) fn check_local(from: IpAddr, headers: &HeaderMap) -> Result<(), &'static str> {
    let one = |name: HeaderName| {
        let mut all = headers.get_all(name).iter();
        all.next().filter(|_| all.next().is_none()).and_then(|value| value.to_str().ok())
    };
    let is_forwarded = headers.keys().any(|name| {
        let name = name.as_str();
        matches!(name, "forwarded" | "via" | "x-real-ip") || name.starts_with("x-forwarded-")
    });
    let host = one(header::HOST).filter(|host| auth::is_loopback(host));
    let is_own = |origin: &str| origin.split_once("://").is_some_and(|(_, from)| Some(from) == host);
    let origin = !headers.contains_key(header::ORIGIN) || one(header::ORIGIN).is_some_and(is_own);
    let site = HeaderName::from_static("sec-fetch-site");
    let site = !headers.contains_key(&site) || matches!(one(site), Some("same-origin" | "none"));
    let is_local = from.to_canonical().is_loopback() && !is_forwarded && host.is_some() && origin && site;
    if is_local { Ok(()) } else { Err(LOCAL_ONLY) }
}

/// Whether a caller shows the token, where one is wanted.
pub(super) fn check_bearer(keys: &HookKeys, headers: &HeaderMap) -> Result<(), Failure> {
    let Some(token) = &keys.bearer else { return Ok(()) };
    if auth::shows(headers, token) { Ok(()) } else { Err(Failure::unproven()) }
}

/// The signature of a body that is still to be read, where it has to have one; without it nobody reads the body.
pub(super) fn shown_signature(keys: &HookKeys, headers: &HeaderMap) -> Result<Option<[u8; 32]>, Failure> {
    let shown = signature(headers);
    if keys.secret.is_some() && shown.is_none() { Err(Failure::unproven()) } else { Ok(shown) }
}

/// Whether a body is signed, where it has to be.
pub(super) fn check_signature(
    keys: &HookKeys,
    signature: Option<[u8; 32]>,
    body: &[u8],
) -> Result<(), Failure> {
    let Some(secret) = &keys.secret else { return Ok(()) };
    let key = key(secret.reveal().as_bytes());
    if signed(&[key], signature, body) { Ok(()) } else { Err(Failure::unproven()) }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;
    use crate::config::secret::Secret;

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in lines {
            map.append(*name, HeaderValue::from_str(value).unwrap());
        }
        map
    }

    fn is_local(from: &str, lines: &[(&'static str, &str)]) -> bool {
        check_local(from.parse().unwrap(), &headers(lines)).is_ok()
    }

    #[test]
    fn only_programs_of_this_machine_are_local() {
        let host = ("host", "127.0.0.1:7070");
        for from in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
            assert!(is_local(from, &[host]), "{from}");
        }
        for from in ["10.0.0.1", "192.168.1.1", "8.8.8.8", "::ffff:10.0.0.1", "fe80::1", "0.0.0.0"] {
            assert!(!is_local(from, &[host]), "{from}");
        }
        let local = |lines: &[(&'static str, &str)]| is_local("127.0.0.1", lines);
        for good in ["localhost", "LOCALHOST:1", "[::1]:7070", "127.0.0.2"] {
            assert!(local(&[("host", good)]), "{good}");
        }
        for bad in
            ["evil.example", "evil.example:7070", "", "10.0.0.1:7070", "localhost.evil.example", "0.0.0.0"]
        {
            assert!(!local(&[("host", bad)]), "{bad}");
        }
        assert!(!local(&[]) && !local(&[host, ("host", "localhost")]));
        for bad in [
            ("forwarded", "for=1.2.3.4"),
            ("x-forwarded-for", "127.0.0.1"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-anything", ""),
            ("x-real-ip", "1.2.3.4"),
            ("via", "1.1 proxy"),
            ("origin", "https://evil.example"),
            ("origin", "null"),
            ("origin", "http://localhost:7070"),
            ("origin", "http://127.0.0.1:9999"),
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
            ("sec-fetch-site", ""),
        ] {
            assert!(!local(&[host, bad]), "{bad:?}");
        }
        for good in [
            ("origin", "http://127.0.0.1:7070"),
            ("sec-fetch-site", "same-origin"),
            ("sec-fetch-site", "none"),
            ("user-agent", "x-forwarded-for"),
        ] {
            assert!(local(&[host, good]), "{good:?}");
        }
        let twice = [host, ("sec-fetch-site", "none"), ("sec-fetch-site", "cross-site")];
        assert!(!local(&twice));
    }

    #[test]
    fn the_token_is_the_whole_of_what_follows_the_scheme() {
        let keys = HookKeys { secret: None, bearer: Some(Secret::new("0123456789abcdef".into())) };
        let admits = |lines: &[(&'static str, &str)]| check_bearer(&keys, &headers(lines)).is_ok();
        assert!(admits(&[("authorization", "Bearer 0123456789abcdef")]));
        assert!(admits(&[("authorization", "bearer 0123456789abcdef")]));
        for bad in [
            "",
            "Bearer",
            "Bearer ",
            "Bearer 0123456789abcde",
            "Bearer 0123456789abcdeff",
            "Bearer  0123456789abcdef",
            "Basic 0123456789abcdef",
            "0123456789abcdef",
            "Bearer 0123456789ABCDEF",
        ] {
            assert!(!admits(&[("authorization", bad)]), "{bad:?}");
        }
        assert!(!admits(&[]));
        let right = ("authorization", "Bearer 0123456789abcdef");
        assert!(!admits(&[right, right]), "one header, not two");
        let none = HookKeys { secret: None, bearer: None };
        assert!(check_bearer(&none, &headers(&[])).is_ok() && check_signature(&none, None, b"").is_ok());
    }

    #[test]
    fn the_room_is_as_large_as_its_inputs() {
        let rules = HookRules::default();
        let large: Vec<_> = (0..16).map(|_| rules.enter(16 << 20).unwrap()).collect();
        assert!(rules.enter(0).is_none());
        drop(large);
        let small: Vec<_> = (0..4096).map(|_| rules.enter(0).unwrap()).collect();
        assert!(rules.enter(0).is_none() && small.len() == 4096);
    }
}
