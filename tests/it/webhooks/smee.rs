//! A relay that speaks the protocol of smee.io on loopback, and does whatever else a test wants.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::{Delivery, until};

/// The channel that is served.
const CHANNEL: &str = "/AbCdEf0123456789";

pub struct Smee {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    listening: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct State {
    /// The head of each request.
    asked: Vec<String>,
    open: Vec<TcpStream>,
    /// What is answered in place of a stream.
    answer: Option<String>,
    id: u64,
}

impl Smee {
    pub async fn start() -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut smee = Self { address, state: Arc::default(), listening: None };
        smee.listen().await;
        smee
    }

    /// Listens, after [`Smee::stop`] at the same address.
    pub async fn listen(&mut self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.address = listener.local_addr().unwrap();
        let state = Arc::clone(&self.state);
        self.listening = Some(tokio::spawn(async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else { return };
                let Some((head, mut stream)) = head(stream).await else { continue };
                let answer = state.lock().unwrap().answer.clone();
                let is_stream = answer.is_none();
                let answer = answer.unwrap_or_else(|| {
                    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n\
                     Connection: keep-alive\r\n\r\nid: 0\nevent: ready\ndata: {}\n\n"
                        .into()
                });
                let _ = stream.write_all(answer.as_bytes()).await;
                let mut state = state.lock().unwrap();
                state.asked.push(head);
                if is_stream {
                    state.open.push(stream);
                }
            }
        }));
    }

    /// Ends every connection and refuses more.
    pub fn stop(&mut self) {
        self.listening.take().unwrap().abort();
        self.hang_up();
    }

    /// Ends every connection.
    pub fn hang_up(&self) {
        self.state.lock().unwrap().open.clear();
    }

    /// Answers every request with this from now on.
    pub fn answer(&self, text: &str) {
        self.state.lock().unwrap().answer = Some(text.into());
    }

    /// The URL of the channel.
    pub fn url(&self) -> String {
        format!("http://{}{CHANNEL}", self.address)
    }

    /// The line of kindling.yaml, for the `git` section of a source.
    pub fn key(&self) -> String {
        format!(", relay: {{url: '{}'}}", self.url())
    }

    /// How often somebody connected.
    pub fn asked(&self) -> Vec<String> {
        self.state.lock().unwrap().asked.clone()
    }

    /// Waits until so many connections are open.
    pub async fn until_open(&self, many: usize) {
        until("the relay is connected", async || {
            (self.state.lock().unwrap().open.len() == many).then_some(())
        })
        .await;
    }

    /// Sends these bytes to everybody who is connected.
    pub async fn send(&self, bytes: &[u8]) {
        let mut open = std::mem::take(&mut self.state.lock().unwrap().open);
        for stream in &mut open {
            // Whoever is gone does not read it.
            let _ = stream.write_all(bytes).await;
        }
        self.state.lock().unwrap().open.append(&mut open);
    }

    /// Sends one message.
    pub async fn say(&self, message: &Value) {
        let id = {
            let mut state = self.state.lock().unwrap();
            state.id += 1;
            state.id
        };
        self.send(format!("id: {id}\ndata: {message}\n\n").as_bytes()).await;
    }

    /// Passes a delivery on as smee.io does: its body is parsed and written again.
    pub async fn pass(&self, delivery: &Delivery) {
        self.say(&message(delivery)).await;
    }

    /// Passes a delivery on with its body as it is beside that.
    pub async fn pass_raw(&self, delivery: &Delivery) {
        let mut message = message(delivery);
        message["rawBody"] = json!(String::from_utf8(delivery.body.clone()).unwrap());
        self.say(&message).await;
    }
}

/// What smee.io makes of a delivery.
pub fn message(delivery: &Delivery) -> Value {
    let mut message = json!({"host": "smee.io", "accept": "*/*", "x-forwarded-for": "192.0.2.1"});
    for (name, value) in &delivery.headers {
        message[name.to_ascii_lowercase()] = json!(value);
    }
    message["body"] = serde_json::from_slice(&delivery.body).unwrap_or_default();
    message["query"] = json!({});
    message["timestamp"] = json!(1_700_000_000_000_u64);
    message
}

async fn head(stream: TcpStream) -> Option<(String, TcpStream)> {
    let mut stream = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head).await.ok()? == 0 {
            return None;
        }
    }
    Some((head, stream.into_inner()))
}
