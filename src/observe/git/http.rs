//! git's smart HTTP for gix, over connections that are kept between polls.
//!
//! gix's own HTTP transport starts a thread, a runtime and a TLS configuration for each fetch, cannot be stopped while
//! a server is silent, and follows redirects to other hosts. This one ends every wait at the deadline, remembers what
//! the server really answered, and never leaves the host that was asked.

use std::any::Any;
use std::io::{self, BufRead, Cursor, Read, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use gix::protocol::transport::client::blocking_io::http;
use http::{GetResponse, Http, PostBodyDataKind, PostResponse};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue, LOCATION};
use reqwest::{RequestBuilder, Response, StatusCode, Url};
use tokio::runtime::Handle;
use tokio::time::timeout;

use super::credential::Login;
use super::error::chain;
use super::job::Control;
use super::plain;
use super::remote::authority;
use super::slots::HostSlots;

/// How many redirects within the host are followed.
const MAX_REDIRECTS: usize = 5;

/// How many pieces of an answer that nobody needs are read, and for how long, before a new connection is cheaper.
const MAX_REST: usize = 4;
const REST_TIMEOUT: Duration = Duration::from_millis(10);

/// What went wrong between the two machines. gix wraps errors in ways that do not tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum WireFault {
    /// No connection, or none that could be trusted.
    Unreachable(String),
    /// The server refused.
    Status(StatusCode),
    /// The server points to another place, which is not followed.
    Redirect(String),
    /// The server was silent for too long.
    TimedOut,
    /// The connection broke in the middle.
    Broken(String),
}

/// The first fault of an attempt, readable after gix gave up.
#[derive(Clone, Default)]
pub(super) struct Verdict(Arc<Mutex<Option<WireFault>>>);

impl Verdict {
    /// What was recorded.
    pub(super) fn fault(&self) -> Option<WireFault> {
        lock(&self.0).clone()
    }

    fn record(&self, fault: WireFault) -> io::Error {
        let text = match &fault {
            WireFault::Unreachable(why) | WireFault::Broken(why) => why.clone(),
            WireFault::Status(status) => format!("HTTP status {status}"),
            WireFault::Redirect(to) => format!("a redirect to {to}"),
            WireFault::TimedOut => "the server is silent".to_owned(),
        };
        lock(&self.0).get_or_insert(fault);
        io::Error::other(text)
    }

    fn record_reqwest(&self, error: reqwest::Error) -> io::Error {
        let place = error.url().map(place_of).unwrap_or_default();
        let error = error.without_url();
        let fault = if error.is_connect() {
            WireFault::Unreachable(plain::unreachable(&error, &chain(&error), &place))
        } else if error.is_timeout() {
            WireFault::TimedOut
        } else {
            let why = chain(&error);
            let last = why.rsplit(": ").next().unwrap_or(&why);
            WireFault::Broken(format!("the connection broke in the middle of an answer ({last})"))
        };
        self.record(fault)
    }
}

/// The host of a URL with the port that is asked.
fn place_of(url: &Url) -> String {
    let port = url.port_or_known_default().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}{port}", url.host_str().unwrap_or_default())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The connection of one attempt.
#[derive(Clone)]
pub(super) struct Wire {
    slots: HostSlots,
    runtime: Handle,
    control: Control,
    verdict: Verdict,
    login: Option<Login>,
    base: Option<String>,
}

impl Wire {
    /// A connection whose faults go to `verdict`. `runtime` drives it.
    pub(super) fn new(
        slots: HostSlots,
        runtime: Handle,
        control: Control,
        verdict: Verdict,
        login: Option<Login>,
    ) -> Self {
        Self { slots, runtime, control, verdict, login, base: None }
    }

    fn request(&self, post: bool, url: &Url, headers: HeaderMap) -> Result<RequestBuilder, io::Error> {
        let client = self
            .slots
            .client(url.scheme())
            .map_err(|error| self.verdict.record(WireFault::Unreachable(chain(&error))))?;
        let request = if post { client.post(url.clone()) } else { client.get(url.clone()) };
        let request = request.headers(headers);
        Ok(match &self.login {
            Some(login) => login.add_to(request, url),
            None => request,
        })
    }

    fn send(&self, request: RequestBuilder) -> Result<Response, io::Error> {
        match self.control.block_on(&self.runtime, async { request.send().await }) {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(self.verdict.record_reqwest(error)),
            Err(_) => Err(self.verdict.record(WireFault::TimedOut)),
        }
    }

    fn chunk(&self, response: &mut Response, into: &mut Vec<u8>) -> Result<bool, io::Error> {
        into.clear();
        match self.control.block_on(&self.runtime, response.chunk()) {
            Ok(Ok(Some(bytes))) => {
                into.extend_from_slice(&bytes);
                Ok(true)
            }
            Ok(Ok(None)) => Ok(false),
            Ok(Err(error)) => Err(self.verdict.record_reqwest(error)),
            Err(_) => Err(self.verdict.record(WireFault::TimedOut)),
        }
    }

    /// Gets a page below the repository; `tail` is the part of the URL that a redirect must keep.
    fn get_page(&mut self, mut url: Url, tail: &str, headers: &HeaderMap) -> Result<Response, io::Error> {
        for _ in 0..=MAX_REDIRECTS {
            let response = self.send(self.request(false, &url, headers.clone())?)?;
            if !response.status().is_redirection() {
                self.base = url.as_str().strip_suffix(tail).map(str::to_owned);
                return self.check(response);
            }
            url = next_place(&response, tail)
                .map_err(|place| self.verdict.record(WireFault::Redirect(place)))?;
        }
        Err(self.verdict.record(WireFault::Redirect("itself, in a circle".to_owned())))
    }

    fn check(&self, response: Response) -> Result<Response, io::Error> {
        let status = response.status();
        if status.is_redirection() {
            let place = location(&response).map_or_else(String::new, |url| shown(&url));
            return Err(self.verdict.record(WireFault::Redirect(place)));
        }
        if !status.is_success() {
            return Err(self.verdict.record(WireFault::Status(status)));
        }
        Ok(response)
    }
}

fn location(response: &Response) -> Option<Url> {
    let to = response.headers().get(LOCATION)?.to_str().ok()?;
    response.url().join(to).ok()
}

/// Where a redirect leads, if it may be followed: on the same host, to the same page of another repository path.
/// A change from http to https at their usual ports is the same host.
fn next_place(response: &Response, tail: &str) -> Result<Url, String> {
    let from = response.url();
    let Some(to) = location(response) else { return Err("no place".to_owned()) };
    let same = from.scheme() == to.scheme() && authority(from) == authority(&to);
    let upgraded = (from.scheme(), to.scheme()) == ("http", "https")
        && from.host_str() == to.host_str()
        && (from.port_or_known_default(), to.port_or_known_default()) == (Some(80), Some(443));
    let plain = to.username().is_empty() && to.password().is_none();
    if (same || upgraded) && plain && to.as_str().ends_with(tail) { Ok(to) } else { Err(shown(&to)) }
}

fn shown(url: &Url) -> String {
    format!("{}://{}{}", url.scheme(), authority(url), url.path())
}

fn header_map(lines: impl IntoIterator<Item = impl AsRef<str>>) -> HeaderMap {
    let mut map = HeaderMap::new();
    for line in lines {
        // gix writes each as `Name: value`.
        if let Some((name, value)) = line.as_ref().split_once(':')
            && let Ok(name) = HeaderName::from_bytes(name.trim().as_bytes())
            && let Ok(value) = HeaderValue::from_str(value.trim())
        {
            map.append(name, value);
        }
    }
    map
}

fn parse(url: &str) -> gix::Result<Url> {
    Url::parse(url).map_err(gix::Error::from_error)
}

impl Http for Wire {
    type Headers = Headers;
    type ResponseBody = Body;
    type PostBody = Upload;

    fn get(
        &mut self,
        url: &str,
        base_url: &str,
        headers: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> gix::Result<GetResponse<Headers, Body>> {
        let tail = url.strip_prefix(base_url).unwrap_or(url);
        let response =
            self.get_page(parse(url)?, tail, &header_map(headers)).map_err(gix::Error::from_error)?;
        let exchange = Exchange::new(self.clone(), Stage::Open(response));
        Ok(GetResponse { headers: Headers::new(&exchange), body: Body::new(&exchange) })
    }

    fn post(
        &mut self,
        url: &str,
        _base_url: &str,
        headers: impl IntoIterator<Item = impl AsRef<str>>,
        _body: PostBodyDataKind,
    ) -> gix::Result<PostResponse<Headers, Body, Upload>> {
        let request =
            self.request(true, &parse(url)?, header_map(headers)).map_err(gix::Error::from_error)?;
        let exchange = Exchange::new(self.clone(), Stage::Filling(request, Vec::new()));
        Ok(PostResponse {
            post_body: Upload(Arc::clone(&exchange)),
            headers: Headers::new(&exchange),
            body: Body::new(&exchange),
        })
    }

    fn configure(&mut self, _config: &dyn Any) -> gix::Result {
        Ok(())
    }

    fn redirected_base_url(&self) -> Option<String> {
        self.base.clone()
    }
}

enum Stage {
    /// What is to be posted is still written. It is a list of commit ids: small.
    Filling(RequestBuilder, Vec<u8>),
    Open(Response),
    Ended,
}

struct Exchange {
    wire: Wire,
    stage: Stage,
    /// Whether nothing of the answer was read yet.
    is_new: bool,
}

impl Exchange {
    fn new(wire: Wire, stage: Stage) -> Arc<Mutex<Self>> {
        Arc::new(Mutex::new(Self { wire, stage, is_new: true }))
    }

    /// Sends what was written, unless that was done.
    fn open(&mut self) -> Result<(), io::Error> {
        if !matches!(self.stage, Stage::Filling(..)) {
            return Ok(());
        }
        if let Stage::Filling(request, body) = std::mem::replace(&mut self.stage, Stage::Ended) {
            let response = self.wire.send(request.body(body))?;
            self.stage = Stage::Open(self.wire.check(response)?);
        }
        Ok(())
    }

    fn headers(&mut self) -> Result<Vec<u8>, io::Error> {
        self.open()?;
        let mut lines = Vec::new();
        if let Stage::Open(response) = &self.stage {
            for (name, value) in response.headers() {
                lines.extend_from_slice(name.as_str().as_bytes());
                lines.push(b':');
                lines.extend_from_slice(value.as_bytes());
                lines.push(b'\n');
            }
        }
        Ok(lines)
    }

    fn next(&mut self, chunk: &mut Vec<u8>) -> Result<(), io::Error> {
        self.open()?;
        chunk.clear();
        while let Stage::Open(response) = &mut self.stage
            && chunk.is_empty()
        {
            if !self.wire.chunk(response, chunk)? {
                // The connection goes back to the pool.
                self.stage = Stage::Ended;
            }
        }
        // gix sees it in some answers only.
        let refusal = if std::mem::take(&mut self.is_new) { plain::refusal(chunk) } else { None };
        refusal.map_or(Ok(()), |said| Err(io::Error::other(said)))
    }
}

impl Drop for Exchange {
    /// Reads the little that gix leaves unread, so that the connection can be used again.
    fn drop(&mut self) {
        let Stage::Open(response) = &mut self.stage else { return };
        if self.wire.verdict.fault().is_some() {
            return;
        }
        let rest = async {
            for _ in 0..MAX_REST {
                if !matches!(response.chunk().await, Ok(Some(_))) {
                    return;
                }
            }
        };
        // Nothing depends on it.
        let _ = self.wire.control.block_on(&self.wire.runtime, async { timeout(REST_TIMEOUT, rest).await });
    }
}

/// The body of a post, sent when the answer is first asked for.
pub(super) struct Upload(Arc<Mutex<Exchange>>);

impl Write for Upload {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut lock(&self.0).stage {
            Stage::Filling(_, body) => body.extend_from_slice(bytes),
            Stage::Open(_) | Stage::Ended => return Err(io::ErrorKind::BrokenPipe.into()),
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The header lines of an answer.
pub(super) struct Headers {
    exchange: Arc<Mutex<Exchange>>,
    lines: Option<Cursor<Vec<u8>>>,
}

impl Headers {
    fn new(exchange: &Arc<Mutex<Exchange>>) -> Self {
        Self { exchange: Arc::clone(exchange), lines: None }
    }
}

impl BufRead for Headers {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.lines.is_none() {
            self.lines = Some(Cursor::new(lock(&self.exchange).headers()?));
        }
        self.lines.as_mut().map_or(Ok(&[]), Cursor::fill_buf)
    }

    fn consume(&mut self, amount: usize) {
        if let Some(lines) = &mut self.lines {
            lines.consume(amount);
        }
    }
}

impl Read for Headers {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        read_buffered(self, into)
    }
}

/// The body of an answer.
pub(super) struct Body {
    exchange: Arc<Mutex<Exchange>>,
    chunk: Vec<u8>,
    at: usize,
}

impl Body {
    fn new(exchange: &Arc<Mutex<Exchange>>) -> Self {
        Self { exchange: Arc::clone(exchange), chunk: Vec::new(), at: 0 }
    }
}

impl BufRead for Body {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at >= self.chunk.len() {
            self.at = 0;
            lock(&self.exchange).next(&mut self.chunk)?;
        }
        Ok(&self.chunk[self.at..])
    }

    fn consume(&mut self, amount: usize) {
        self.at += amount;
    }
}

impl Read for Body {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        read_buffered(self, into)
    }
}

fn read_buffered(from: &mut impl BufRead, into: &mut [u8]) -> io::Result<usize> {
    let some = from.fill_buf()?;
    let length = some.len().min(into.len());
    into[..length].copy_from_slice(&some[..length]);
    from.consume(length);
    Ok(length)
}
