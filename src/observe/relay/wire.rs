//! The connection to a relay: HTTP, or what a test plays.

use std::future::Future;
use std::time::Duration;

use reqwest::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE};
use reqwest::{Client, Response};

use super::super::git::{chain, install_tls};
use crate::config::relay::RelayUrl;
use crate::support::text::printable;

/// The media type of a stream of events. A relay gives its page to whoever asks for anything else.
const STREAM: &str = "text/event-stream";
/// A connection that is not up by then is given up.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Connects to a channel.
pub trait Wire: Send + 'static {
    /// An open stream.
    type Stream: Stream;

    /// Opens one; the error says why not, as the end of a sentence that begins with the relay.
    fn open(&mut self) -> impl Future<Output = Result<Self::Stream, String>> + Send;
}

/// What comes in on a channel.
pub trait Stream: Send {
    /// The next piece; `None` at the end. Cancel safe.
    fn chunk(&mut self) -> impl Future<Output = Result<Option<Vec<u8>>, String>> + Send;
}

/// A channel over HTTP.
#[derive(Debug)]
pub struct Http {
    url: RelayUrl,
    client: Option<Client>,
}

impl Http {
    /// The channel at `url`; nothing is connected yet.
    #[must_use]
    pub fn new(url: RelayUrl) -> Self {
        Self { url, client: None }
    }

    fn client(&mut self) -> Result<Client, reqwest::Error> {
        if let Some(client) = &self.client {
            return Ok(client.clone());
        }
        install_tls();
        let builder = Client::builder()
            // The channel would be told to whoever the redirect names.
            .redirect(reqwest::redirect::Policy::none())
            // Proxy variables of the environment would catch loopback and internal hosts too.
            .no_proxy()
            .referer(false)
            .user_agent(concat!("kindling/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_max_idle_per_host(0);
        let is_secure = self.url.reveal().to_ascii_lowercase().starts_with("https:");
        let client = if is_secure { builder } else { builder.tls_certs_only([]) }.build()?;
        Ok(self.client.insert(client).clone())
    }
}

impl Wire for Http {
    type Stream = Response;

    async fn open(&mut self) -> Result<Response, String> {
        let client = self.client().map_err(|error| failed(error, "cannot be asked"))?;
        let request = client.get(self.url.reveal()).header(ACCEPT, STREAM).header(CACHE_CONTROL, "no-cache");
        let response = request.send().await.map_err(|error| failed(error, "cannot be reached"))?;
        let status = response.status();
        if status.is_redirection() {
            return Err("points to another place, which is not followed".into());
        }
        if !status.is_success() {
            return Err(format!("answers with HTTP status {status}"));
        }
        let kind =
            response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let media = kind.split(';').next().unwrap_or_default().trim();
        if !media.eq_ignore_ascii_case(STREAM) {
            let media: String = media.chars().take(60).collect();
            return Err(format!("answers with `{}`, which is no stream of events", printable(&media)));
        }
        Ok(response)
    }
}

impl Stream for Response {
    async fn chunk(&mut self) -> Result<Option<Vec<u8>>, String> {
        let chunk = Response::chunk(self).await;
        Ok(chunk.map_err(|error| failed(error, "broke the connection"))?.map(Into::into))
    }
}

/// What failed, without the URL, which opens the channel.
fn failed(error: reqwest::Error, what: &str) -> String {
    format!("{what}: {}", chain(&error.without_url()))
}
