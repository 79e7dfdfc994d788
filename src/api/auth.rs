//! Who may call: the token on every call, on loopback too, and no page of another origin. Under the name that the world
//! reaches the service by, nothing is served but what is made for the world.

use std::net::IpAddr;

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, Version, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use subtle::ConstantTimeEq;

use crate::act::Target;
use crate::config::forge::{PublicUrl, bare_host};
use crate::config::secret::Secret;
use crate::reconcile::core::Live;

use super::State;
use super::error::Failure;

/// Where the paths begin that are served under the host of the public URL.
const PUBLIC_PATHS: [&str; 2] = ["/webhooks/", "/hooks/"];

/// What a caller must show.
pub struct Access {
    token: Secret,
    listen: IpAddr,
    public: Live<Option<PublicUrl>>,
}

impl Access {
    /// `token` is needed on every call; `listen` is the address that is served, `public` the URL that others reach it
    /// by.
    #[must_use]
    pub fn new(token: Secret, listen: IpAddr, public: Live<Option<PublicUrl>>) -> Self {
        Self { token, listen, public }
    }

    /// Whether this path is served under the host that the caller named.
    fn is_open_under(&self, host: &str, path: &str) -> bool {
        let public = self.public.get();
        let is_public = public.as_ref().as_ref().is_some_and(|public| public.host == bare_host(host));
        !is_public || PUBLIC_PATHS.iter().any(|prefix| path.starts_with(prefix))
    }

    fn admits(&self, headers: &HeaderMap) -> bool {
        shows(headers, &self.token)
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

/// Whether a call shows this token: in the one header `Authorization`, after `Bearer` and one space.
pub(super) fn shows(headers: &HeaderMap, token: &Secret) -> bool {
    let mut all = headers.get_all(header::AUTHORIZATION).iter();
    let given = all.next().filter(|_| all.next().is_none()).map_or(&[][..], HeaderValue::as_bytes);
    let (scheme, given) = given.split_at_checked("Bearer ".len()).unwrap_or_default();
    let is_right = bool::from(given.ct_eq(token.reveal().as_bytes()));
    // RFC 9110: the name of the scheme has no case.
    is_right && scheme.eq_ignore_ascii_case(b"Bearer ")
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

/// Refuses what is not HTTP/1, whose rules are all that calls are checked by.
pub(super) async fn check_version(request: Request, next: Next) -> Response {
    if request.version() <= Version::HTTP_11 {
        return next.run(request).await;
    }
    Failure::version().into_response()
}

/// Refuses everything under the host of the public URL but what is made for it, as if no token were right.
pub(super) async fn check_public<T: Target>(
    axum::extract::State(api): State<T>,
    request: Request,
    next: Next,
) -> Response {
    let uri = request.uri();
    let named = request.headers().get_all(header::HOST).iter().filter_map(|host| host.to_str().ok());
    let mut named = named.chain(uri.authority().map(axum::http::uri::Authority::as_str));
    if named.all(|host| api.access.is_open_under(host, uri.path())) {
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

    fn access(listen: &str, public: Option<&str>) -> Access {
        let public = public.map(|host| PublicUrl { url: format!("https://{host}"), host: host.into() });
        Access::new(Secret::new("0123456789abcdef".into()), listen.parse().unwrap(), Live::from(public))
    }

    #[test]
    fn under_the_public_host_only_webhooks_are_served() {
        let access = access("127.0.0.1", Some("kindling.example.com"));
        for host in ["kindling.example.com", "Kindling.Example.com.:443", "kindling.example.com:7070"] {
            for path in ["/webhooks/s", "/hooks/a/b"] {
                assert!(access.is_open_under(host, path), "{host} {path}");
            }
            for path in
                ["/", "/api/v1/status", "/metrics", "/healthz", "/webhooks", "/hooksx", "//webhooks/s"]
            {
                assert!(!access.is_open_under(host, path), "{host} {path}");
            }
        }
        assert!(access.is_open_under("localhost:7070", "/api/v1/status"));
    }

    #[test]
    fn the_scheme_has_no_case_and_the_token_has() {
        let (token, listen) = (Secret::new("0123456789abcdEF".into()), IpAddr::from([127, 0, 0, 1]));
        let access = Access::new(token, listen, Live::from(None));
        let admits = |value: &str| {
            access.admits(&HeaderMap::from_iter([(header::AUTHORIZATION, value.parse().unwrap())]))
        };
        for value in ["Bearer 0123456789abcdEF", "bearer 0123456789abcdEF", "BEARER 0123456789abcdEF"] {
            assert!(admits(value), "{value}");
        }
        for value in
            ["Bearer 0123456789abcdef", "Basic 0123456789abcdEF", "0123456789abcdEF", "Bearer", "", "bearer "]
        {
            assert!(!admits(value), "{value}");
        }
        assert!(!admits("Bearer  0123456789abcdEF"), "one space, not two");
        let mut twice = HeaderMap::new();
        for _ in 0..2 {
            twice.append(header::AUTHORIZATION, "Bearer 0123456789abcdEF".parse().unwrap());
        }
        assert!(!access.admits(&twice), "one header, not two");
        assert!(!access.admits(&HeaderMap::new()));
    }

    #[test]
    fn knows_its_own_names_only() {
        let access = |listen: &str| access(listen, None);
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
