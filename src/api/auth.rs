//! Who may call: the token on every call, on loopback too, and no page of another origin.

use std::net::IpAddr;

use axum::extract::Request;
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use subtle::ConstantTimeEq;

use crate::act::Target;
use crate::config::secret::Secret;

use super::State;
use super::error::Failure;

/// What a caller must show.
pub struct Access {
    token: Secret,
    listen: IpAddr,
}

impl Access {
    /// `token` is needed on every call; `listen` is the address that is served.
    #[must_use]
    pub fn new(token: Secret, listen: IpAddr) -> Self {
        Self { token, listen }
    }

    fn admits(&self, headers: &HeaderMap) -> bool {
        let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token = given.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
        bool::from(token.as_bytes().ct_eq(self.token.reveal().as_bytes()))
    }

    fn serves(&self, headers: &HeaderMap) -> bool {
        let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or_default());
        let host = text(header::HOST).unwrap_or_default();
        let is_same = |origin: &str| origin.split_once("://").is_some_and(|(_, from)| from == host);
        self.knows_host(host) && text(header::ORIGIN).is_none_or(is_same)
    }

    /// Whether `host` is a name of this machine or the served address: a page that a name was rebound to is not.
    fn knows_host(&self, host: &str) -> bool {
        is_loopback(host)
            || address(host).is_some_and(|host| self.listen.is_unspecified() || host == self.listen)
    }
}

/// Whether `host` is a name of this machine that none but itself can use.
pub(super) fn is_loopback(host: &str) -> bool {
    without_port(host).eq_ignore_ascii_case("localhost")
        || address(host).is_some_and(|host| host.is_loopback())
}

fn address(host: &str) -> Option<IpAddr> {
    without_port(host).trim_start_matches('[').trim_end_matches(']').parse().ok()
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port))
            if port.bytes().all(|b| b.is_ascii_digit()) && (name.ends_with(']') || !name.contains(':')) =>
        {
            name
        }
        _ => host,
    }
}

/// Refuses calls without the token. All refusals are alike.
pub(super) async fn check_token<T: Target>(
    axum::extract::State(api): State<T>,
    request: Request,
    next: Next,
) -> Response {
    if api.access.admits(request.headers()) {
        return next.run(request).await;
    }
    Failure::unauthorized().into_response()
}

/// Refuses calls that a page of another origin, or under a rebound name, makes a browser send.
pub(super) async fn check_host<T: Target>(
    axum::extract::State(api): State<T>,
    request: Request,
    next: Next,
) -> Response {
    if api.access.serves(request.headers()) {
        return next.run(request).await;
    }
    Failure::forbidden("this Host or Origin is not served here").into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_its_own_names_only() {
        let access =
            |listen: &str| Access::new(Secret::new("0123456789abcdef".into()), listen.parse().unwrap());
        let local = access("127.0.0.1");
        for host in ["localhost", "LOCALHOST:7070", "127.0.0.1:7070", "[::1]:7070", "127.0.0.2"] {
            assert!(local.knows_host(host), "{host}");
        }
        for host in ["", "evil.example", "evil.example:7070", "10.0.0.1:7070", "localhost.evil.example"] {
            assert!(!local.knows_host(host), "{host}");
        }
        assert!(access("10.0.0.1").knows_host("10.0.0.1:7070"));
        assert!(access("0.0.0.0").knows_host("10.0.0.1:7070"));
        assert!(!access("0.0.0.0").knows_host("evil.example"));
    }
}
