//! A small client of the service's API: one connection a call, in HTTP/1.0, so that an answer ends with it.

use std::io;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{BOUND, until};

/// Asks one service.
#[derive(Clone, Debug)]
pub struct Client {
    address: String,
    token: String,
}

/// A call that was sent.
pub struct Call(BufReader<TcpStream>);

impl Call {
    /// The second half: waits for the answer.
    pub async fn answer(mut self) -> io::Result<Answer> {
        let work = async {
            let status = head(&mut self.0).await?;
            let mut body = String::new();
            self.0.read_to_string(&mut body).await?;
            Ok(Answer { status, body })
        };
        timeout(BOUND, work).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }
}

/// What it answered.
#[derive(Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The body.
    pub body: String,
}

impl Answer {
    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

impl Client {
    /// A client of the service at `address`, with its token.
    pub fn new(address: &str, token: &str) -> Self {
        Self { address: address.into(), token: token.into() }
    }

    /// The address of the service.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// One call; fails where the service is not there, and where it does not answer in time.
    pub async fn call(&self, method: &str, path: &str, body: Option<&Value>) -> io::Result<Answer> {
        self.ask(method, path, body).await?.answer().await
    }

    /// The first half of a call: it is sent, and its answer may take its time.
    pub async fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> io::Result<Call> {
        let mut stream = TcpStream::connect(&self.address).await?;
        let (address, token) = (&self.address, &self.token);
        let mut text =
            format!("{method} {path} HTTP/1.0\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\n");
        let body = body.map(Value::to_string).unwrap_or_default();
        if !body.is_empty() {
            text += &format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
        }
        stream.write_all(format!("{text}\r\n{body}").as_bytes()).await?;
        Ok(Call(BufReader::new(stream)))
    }

    /// What `GET` gives; it must succeed.
    pub async fn get(&self, path: &str) -> Value {
        succeeded(path, &self.call("GET", path, None).await.unwrap())
    }

    /// What `POST` gives; it must succeed.
    pub async fn post(&self, path: &str, body: Value) -> Value {
        succeeded(path, &self.call("POST", path, Some(&body)).await.unwrap())
    }

    /// The items of a listing.
    pub async fn items(&self, path: &str) -> Vec<Value> {
        match self.get(path).await["items"].take() {
            Value::Array(items) => items,
            other => panic!("{path}: {other}"),
        }
    }

    /// The unit with this id, as it stands; null if there is none.
    pub async fn unit(&self, id: &str) -> Value {
        self.items("/api/v1/units").await.into_iter().find(|unit| unit["id"] == id).unwrap_or_default()
    }

    /// Makes a pass over everything and waits for its end.
    pub async fn reconcile(&self) -> Value {
        self.post("/api/v1/reconcile", json!({})).await
    }

    /// Runs a task to its end.
    pub async fn run(&self, task: &str) -> Value {
        let run = self.post("/api/v1/runs", json!({ "task": task })).await;
        self.get(&format!("/api/v1/runs/{}/wait", run["id"].as_str().unwrap())).await
    }

    /// Waits until the unit is as `is_so` says.
    pub async fn unit_until(&self, id: &str, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        until(&format!("{id} {what}"), async || Some(self.unit(id).await).filter(&is_so)).await
    }

    /// Waits until the source is as `is_so` says.
    pub async fn source_until(&self, name: &str, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let path = format!("/api/v1/sources?name={name}");
        until(&format!("{name} {what}"), async || self.items(&path).await.into_iter().next().filter(&is_so))
            .await
    }

    /// Listens to the events from now on.
    pub async fn events(&self) -> Events {
        let Call(mut stream) = self.ask("GET", "/api/v1/events", None).await.unwrap();
        assert_eq!(head(&mut stream).await.unwrap(), 200);
        Events { stream }
    }
}

/// A condition of a source or a unit as `STATUS REASON: MESSAGE`; empty if it has none of this type.
pub fn condition(of: &Value, kind: &str) -> String {
    let all = of["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    let found = all.iter().find(|condition| condition["type"] == kind);
    let text = |condition: &Value, key: &str| condition[key].as_str().unwrap_or_default().to_owned();
    found.map_or_else(String::new, |c| {
        format!("{} {}: {}", text(c, "status"), text(c, "reason"), text(c, "message"))
    })
}

fn succeeded(path: &str, answer: &Answer) -> Value {
    assert!((200..300).contains(&answer.status), "{path}: {answer:?}");
    answer.json()
}

/// Reads the status line and all headers.
async fn head(stream: &mut BufReader<TcpStream>) -> io::Result<u16> {
    let mut line = String::new();
    stream.read_line(&mut line).await?;
    let status = line.split(' ').nth(1).and_then(|status| status.parse().ok());
    while line.trim_end() != "" {
        line.clear();
        stream.read_line(&mut line).await?;
    }
    status.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}

/// The stream of events.
pub struct Events {
    stream: BufReader<TcpStream>,
}

impl Events {
    /// The next event; `None` when the service has closed the stream.
    pub async fn next(&mut self) -> Option<Value> {
        loop {
            let mut line = String::new();
            let read = timeout(BOUND, self.stream.read_line(&mut line)).await;
            if read.expect("an event within the bound").ok()? == 0 {
                return None;
            }
            if let Some(data) = line.strip_prefix("data:") {
                return Some(serde_json::from_str(data).unwrap());
            }
        }
    }

    /// Waits for an event of this type about this unit.
    pub async fn until(&mut self, kind: &str, unit: &str) -> Value {
        loop {
            let event = self.next().await.expect("the stream stays open");
            if event["type"] == kind && event["unit"] == unit {
                return event;
            }
        }
    }
}
