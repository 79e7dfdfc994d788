//! Calls to the service. One call, one answer; what is decided stays on the other side.

use std::marker::PhantomData;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::api::code;
use crate::api::wire::{DeliveryAnswer, ErrorView, SamplePush};

use super::error::{CliError, chain};

use super::find::{Found, TOKEN, Whence, is_loopback};
use super::sse::Frames;

/// A service that takes no connection within this time is not reached.
const CONNECT: Duration = Duration::from_secs(5);

/// A listing that takes longer than this is given up; calls that wait for work have limits of their own.
const ANSWER: Duration = Duration::from_secs(60);

/// The service.
pub struct Client {
    http: reqwest::Client,
    found: Found,
}

/// Parameters of a call; those without a value are left out.
pub type Query<'a> = &'a [(&'a str, Option<&'a str>)];

impl Client {
    /// A client of the service that was found. Nothing is sent yet.
    ///
    /// # Errors
    /// TLS cannot be set up.
    pub fn new(found: Found) -> Result<Self, CliError> {
        crate::observe::git::install_tls();
        let loopback = is_loopback(&found.url);
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("kindling/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT)
            // A token follows nobody to another place.
            .redirect(reqwest::redirect::Policy::none());
        if loopback {
            // The name must not lead anywhere else, and nobody stands in between.
            let port = found.url.port_or_known_default().unwrap_or_default();
            let local = [
                SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
                SocketAddr::from((Ipv6Addr::LOCALHOST, port)),
            ];
            builder = builder.no_proxy().resolve_to_addrs("localhost", &local);
        }
        if found.url.scheme() == "http" {
            // Reading the system's certificates takes longer than the rest of a command.
            builder = builder.tls_certs_only([]);
        }
        let http = builder.build().map_err(|error| CliError::outside("cannot set up TLS").because(&error))?;
        tracing::debug!("service at {}; {}; token: {}", found.address(), found.whence, found.token.is_some());
        Ok(Self { http, found })
    }

    /// The address of the service.
    #[must_use]
    pub fn address(&self) -> &str {
        self.found.address()
    }

    /// `GET`, with the parts of the path below `/api/v1`.
    ///
    /// # Errors
    /// The service is not reached, or says no.
    pub async fn get<T: DeserializeOwned>(&self, path: &[&str], query: Query<'_>) -> Result<T, CliError> {
        let request = self.request(Method::GET, path, query).timeout(ANSWER);
        self.json(request).await
    }

    /// [`Client::get`] that lasts as long as the work that it waits for.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn await_get<T: DeserializeOwned>(&self, path: &[&str]) -> Result<T, CliError> {
        self.json(self.request(Method::GET, path, &[])).await
    }

    /// `POST`; lasts as long as the work that it asks for.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn post<T: DeserializeOwned>(
        &self,
        path: &[&str],
        body: &impl Serialize,
    ) -> Result<T, CliError> {
        self.json(self.request(Method::POST, path, &[]).json(body)).await
    }

    /// `PUT`; lasts as long as the work that it asks for.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn put<T: DeserializeOwned>(
        &self,
        path: &[&str],
        body: &impl Serialize,
    ) -> Result<T, CliError> {
        self.json(self.request(Method::PUT, path, &[]).json(body)).await
    }

    /// `DELETE`; lasts as long as the work that it asks for.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn delete<T: DeserializeOwned>(&self, path: &[&str]) -> Result<T, CliError> {
        self.json(self.request(Method::DELETE, path, &[])).await
    }

    /// Posts a push to the webhook of a source, as its provider would: gives back the HTTP status and the answer.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn deliver(&self, source: &str, push: &SamplePush) -> Result<(u16, DeliveryAnswer), CliError> {
        let mut url = self.found.url.clone();
        if let Ok(mut parts) = url.path_segments_mut() {
            parts.pop_if_empty().extend(["webhooks", source]);
        }
        let mut request = self.http.post(url).body(push.body.clone());
        for (name, value) in &push.headers {
            request = request.header(name, value);
        }
        let response = self.send(request).await?;
        let status = response.status().as_u16();
        let body = response.bytes().await.map_err(|error| broken(&error))?;
        let answer = serde_json::from_slice(&body).map_err(|error| {
            CliError::outside(format!("the answer of {} cannot be read", self.address())).because(&error)
        })?;
        Ok((status, answer))
    }

    /// A stream of values: returns when the service has begun to send them.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn stream<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: Query<'_>,
    ) -> Result<Stream<T>, CliError> {
        let request = self.request(Method::GET, path, query).header("accept", "text/event-stream");
        let response = self.send(request).await?;
        Ok(Stream { response, frames: Frames::default(), of: PhantomData })
    }

    fn request(&self, method: Method, path: &[&str], query: Query<'_>) -> RequestBuilder {
        let mut url = self.found.url.clone();
        if let Ok(mut parts) = url.path_segments_mut() {
            parts.pop_if_empty().extend(["api", "v1"]).extend(path);
        }
        for (name, value) in query.iter().filter_map(|(name, value)| Some((name, (*value)?))) {
            url.query_pairs_mut().append_pair(name, value);
        }
        let request = self.http.request(method, url);
        match &self.found.token {
            Some(token) => request.bearer_auth(token.reveal()),
            None => request,
        }
    }

    async fn json<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, CliError> {
        let response = self.send(request).await?;
        let body = response.bytes().await.map_err(|error| self.broke(&error))?;
        serde_json::from_slice(&body).map_err(|error| {
            CliError::outside(format!("the answer of {} cannot be read", self.address()))
                .because(&error)
                .hint("the service may be another version of kindling, or something else")
        })
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response, CliError> {
        let response = request.send().await.map_err(|error| self.not_sent(&error))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let body = response.bytes().await.map_err(|error| self.broke(&error))?;
        match serde_json::from_slice::<ErrorView>(&body) {
            Ok(view) if view.code == code::UNAUTHORIZED => Err(self.unauthorized(view)),
            Ok(view) => Err(CliError::answered(view)),
            Err(_) => Err(self.foreign(status)),
        }
    }

    fn not_sent(&self, error: &reqwest::Error) -> CliError {
        if !error.is_connect() {
            return self.broke(error);
        }
        let (address, Found { whence, start, .. }) = (self.address(), &self.found);
        let message = format!("no service answers at {address} ({}); {whence}", root_cause(error));
        // A service with a file like this one would not start.
        self.faulty()
            .unwrap_or_else(|| CliError::not_reached(message).hint(format!("start it with `{start}`")))
    }

    /// What is wrong with the file that the address is from, if anything is: what listens there may be anybody's.
    fn faulty(&self) -> Option<CliError> {
        let Found { faults, whence, .. } = &self.found;
        let is_so = matches!(whence, Whence::Configured(_)) && !faults.is_empty();
        is_so.then(|| CliError::configuration(faults))
    }

    fn unauthorized(&self, mut view: ErrorView) -> CliError {
        if self.found.is_token_hidden {
            return CliError::hidden_token(&self.found.faults, self.address());
        }
        if let Some(faulty) = self.faulty() {
            return faulty.and(&CliError::answered(view));
        }
        let (address, Found { whence, token, looked, withheld, start, .. }) = (self.address(), &self.found);
        view.hint = match (token, withheld, whence) {
            (None, Some(why), _) => Some(why.clone()),
            // A service that runs has left its address, and a token unless it has another one.
            (None, None, Whence::Configured(_)) => Some(format!(
                "another service than the one of this configuration may be at {address}; `{start}` starts this one"
            )),
            _ => Some(format!(
                "{looked}; {TOKEN} takes the token of the service at {address}, which is in its data directory or where its \
                 configuration says"
            )),
        };
        CliError::answered(view)
    }

    fn foreign(&self, status: StatusCode) -> CliError {
        let (address, whence) = (self.address(), &self.found.whence);
        let message = format!("what answers at {address} is not kindling (it said HTTP {status}); {whence}");
        CliError::outside(message).hint(self.who_listens())
    }

    /// [`broken`], with where it was.
    fn broke(&self, error: &reqwest::Error) -> CliError {
        let (address, whence) = (self.address(), &self.found.whence);
        let message = format!("{} at {address}; {whence}", broken(error).sentence());
        CliError::outside(message).hint(self.who_listens())
    }

    /// How to find out what listens there instead.
    fn who_listens(&self) -> String {
        let port = self.found.url.port_or_known_default().unwrap_or_default();
        format!("if another program listens there, `ss -ltnp sport = :{port}` names it")
    }
}

/// The connection was there and is not any more, or nothing came over it for too long.
fn broken(error: &reqwest::Error) -> CliError {
    let what = if error.is_timeout() {
        "the service does not answer"
    } else {
        "the connection to the service broke"
    };
    CliError::outside(format!("{what} ({})", root_cause(error)))
}

/// The innermost reason: the others repeat that something could not be sent.
fn root_cause(error: &reqwest::Error) -> String {
    chain(error).last().map(ToString::to_string).unwrap_or_default()
}

/// Values that come one by one.
pub struct Stream<T> {
    response: Response,
    frames: Frames,
    of: PhantomData<T>,
}

impl<T: DeserializeOwned> Stream<T> {
    /// The next value; `None` when the service has closed the stream. Cancel safe.
    ///
    /// # Errors
    /// The connection broke, or what came is no value.
    pub async fn next(&mut self) -> Result<Option<T>, CliError> {
        loop {
            if let Some(frame) = self.frames.take() {
                return serde_json::from_str(&frame).map(Some).map_err(|error| {
                    CliError::outside("an event of the service cannot be read").because(&error)
                });
            }
            match self.response.chunk().await.map_err(|error| broken(&error))? {
                Some(bytes) => self.frames.put(&bytes)?,
                None => return Ok(None),
            }
        }
    }
}
