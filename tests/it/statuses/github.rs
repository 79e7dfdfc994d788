//! GitHub for tests: a server on loopback that keeps what it is asked, and answers as it is told.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Method, Response, Uri};
use futures_util::{StreamExt, stream};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// What the server was asked.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: String,
    pub path: String,
    pub authorization: String,
    pub body: Value,
}

/// What it answers.
#[derive(Clone, Debug)]
pub enum Reply {
    /// This status, these headers, this body.
    Answer(u16, Vec<(&'static str, String)>, Value),
    /// This status, and a body of which nothing more comes.
    Stall(u16),
    /// This status, and a body that breaks off.
    Break(u16),
    /// Nothing, for ever.
    Hang,
}

impl Reply {
    /// The status was made.
    pub fn created() -> Self {
        Self::Answer(201, Vec::new(), json!({"id": 1}))
    }

    /// A refusal in GitHub's words.
    pub fn refusal(status: u16, message: &str) -> Self {
        Self::Answer(status, Vec::new(), json!({ "message": message }))
    }
}

type Rule = Box<dyn FnMut(&Seen) -> Reply + Send>;

#[derive(Clone)]
struct Shared {
    seen: Arc<Mutex<Vec<Seen>>>,
    rule: Arc<Mutex<Rule>>,
}

/// The server; ends when dropped.
pub struct GitHub {
    address: SocketAddr,
    shared: Shared,
    serving: Option<JoinHandle<()>>,
}

impl GitHub {
    /// A server that takes every status.
    pub async fn new() -> Self {
        let mut made = Self::away().await;
        made.come().await;
        made
    }

    /// An address at which nobody answers yet.
    pub async fn away() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let rule: Rule = Box::new(|_| Reply::created());
        let shared = Shared { seen: Arc::default(), rule: Arc::new(Mutex::new(rule)) };
        Self { address: listener.local_addr().unwrap(), shared, serving: None }
    }

    /// Answers from now on.
    pub async fn come(&mut self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        let routes = Router::new().fallback(answer).with_state(self.shared.clone());
        self.serving = Some(tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() }));
    }

    /// Answers so from now on.
    pub fn rule(&self, rule: impl FnMut(&Seen) -> Reply + Send + 'static) {
        *self.shared.rule.lock().unwrap() = Box::new(rule);
    }

    /// The base of its API.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// All that it was asked.
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap().clone()
    }

    /// The states that a commit was told, in their order.
    pub fn states(&self, commit: &str) -> Vec<String> {
        self.told(commit).iter().map(|seen| seen.body["state"].as_str().unwrap().to_owned()).collect()
    }

    /// What was posted to a commit.
    pub fn told(&self, commit: &str) -> Vec<Seen> {
        let path = format!("/repos/team/jobs/statuses/{commit}");
        self.seen().into_iter().filter(|seen| seen.method == "POST" && seen.path == path).collect()
    }
}

impl Drop for GitHub {
    fn drop(&mut self) {
        if let Some(serving) = self.serving.take() {
            serving.abort();
        }
    }
}

async fn answer(
    State(shared): State<Shared>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response<Body> {
    let authorization =
        headers.get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let seen = Seen {
        method: method.to_string(),
        path: uri.path().to_owned(),
        authorization: authorization.to_owned(),
        body: serde_json::from_slice(&body).unwrap_or_default(),
    };
    let reply = (shared.rule.lock().unwrap())(&seen);
    shared.seen.lock().unwrap().push(seen);
    let begun = stream::once(async { Ok::<_, io::Error>(Bytes::from_static(b"{")) });
    let (status, headers, body) = match reply {
        Reply::Answer(status, headers, body) => (status, headers, Body::from(body.to_string())),
        Reply::Stall(status) => (status, Vec::new(), Body::from_stream(begun.chain(stream::pending()))),
        Reply::Break(status) => {
            // What came before is sent first.
            let broken = stream::once(async {
                tokio::task::yield_now().await;
                Err(io::Error::other("broken off"))
            });
            (status, Vec::new(), Body::from_stream(begun.chain(broken)))
        }
        Reply::Hang => return std::future::pending().await,
    };
    let made = headers
        .iter()
        .fold(Response::builder().status(status), |response, (name, value)| response.header(*name, value));
    made.body(body).unwrap()
}
