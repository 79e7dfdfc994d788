//! A service that answers what a test wants, and keeps what it was asked.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use serde_json::Value;

/// A call as it came in.
#[derive(Clone, Debug)]
pub struct Call {
    /// Method and path with its query: `GET /api/v1/status`.
    pub line: String,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Call {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }
}

/// What is answered.
#[derive(Clone)]
pub enum Answer {
    /// A status and a body.
    Body(u16, String),
    /// Server-sent events; the stream stays open.
    Events(Vec<Value>),
    /// Server-sent events; then the stream ends.
    EventsThenEnd(Vec<Value>),
    /// The place to go to.
    Redirect(String),
    /// JSON, once a call that begins so has come in.
    After(&'static str, String),
    /// Nothing, ever.
    Never,
}

impl Answer {
    pub fn json(value: &Value) -> Self {
        Self::Body(200, value.to_string())
    }

    /// An error as the service answers it.
    pub fn error(status: u16, code: &str, message: &str, exit: u8) -> Self {
        let view = serde_json::json!({"code": code, "message": message, "hint": null, "file": null, "line": null,
            "column": null, "exit": exit});
        Self::Body(status, view.to_string())
    }
}

/// Longest wait of a test for a call.
const LIMIT: Duration = Duration::from_secs(20);

/// The calls that came in, and a bell that rings with each.
#[derive(Default)]
struct Calls(Mutex<Vec<Call>>, Condvar);

impl Calls {
    fn put(&self, call: Call) {
        self.0.lock().unwrap().push(call);
        self.1.notify_all();
    }

    /// Waits until a call that begins so has come in; gives back whether one has.
    fn wait_for(&self, line: &str) -> bool {
        let is_missing = |calls: &mut Vec<Call>| !calls.iter().any(|call| call.line.starts_with(line));
        !self.1.wait_timeout_while(self.0.lock().unwrap(), LIMIT, is_missing).unwrap().1.timed_out()
    }
}

type Routes = Arc<Mutex<Vec<(String, Vec<Answer>)>>>;

/// The fake service; it ends with the test's process.
pub struct Fake {
    address: SocketAddr,
    routes: Routes,
    calls: Arc<Calls>,
}

impl Fake {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (routes, calls) = (Routes::default(), Arc::<Calls>::default());
        let (known, kept) = (Arc::clone(&routes), Arc::clone(&calls));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (known, kept) = (Arc::clone(&known), Arc::clone(&kept));
                std::thread::spawn(move || serve(&stream.unwrap(), &known, &kept));
            }
        });
        Self { address, routes, calls }
    }

    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Answers calls that begin so; of several answers each is given once, the last one for ever.
    pub fn on(self, line: &str, answers: impl IntoIterator<Item = Answer>) -> Self {
        self.routes.lock().unwrap().push((line.into(), answers.into_iter().collect()));
        self
    }

    /// [`Fake::on`] for one JSON value.
    pub fn gives(self, line: &str, value: &Value) -> Self {
        self.on(line, [Answer::json(value)])
    }

    pub fn calls(&self) -> Vec<Call> {
        self.calls.0.lock().unwrap().clone()
    }

    pub fn lines(&self) -> Vec<String> {
        self.calls().into_iter().map(|call| call.line).collect()
    }

    /// Waits until a call that begins so has come in.
    pub fn wait_for(&self, line: &str) {
        assert!(self.calls.wait_for(line), "no call {line}");
    }
}

fn serve(stream: &TcpStream, routes: &Routes, calls: &Calls) {
    let mut reader = BufReader::new(stream);
    while let Some(call) = read(&mut reader) {
        calls.put(call.clone());
        let answer = match answer(&call, routes) {
            Answer::After(line, body) if calls.wait_for(line) => Answer::Body(200, body),
            answer => answer,
        };
        if !write(stream, &answer) {
            return;
        }
    }
}

fn read(reader: &mut impl BufRead) -> Option<Call> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
    let mut headers = Vec::new();
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        let Some((name, value)) = header.trim_end().split_once(": ") else { break };
        headers.push((name.to_ascii_lowercase(), value.to_owned()));
    }
    let call =
        Call { line: line.trim_end().trim_end_matches(" HTTP/1.1").to_owned(), headers, body: String::new() };
    let length = call.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Call { body: String::from_utf8(body).ok()?, ..call })
}

fn answer(call: &Call, routes: &Routes) -> Answer {
    let mut routes = routes.lock().unwrap();
    let Some((_, answers)) = routes.iter_mut().find(|(line, _)| call.line.starts_with(line.as_str())) else {
        return Answer::error(404, "NotFound", &format!("the test has no answer to {}", call.line), 2);
    };
    if answers.len() > 1 { answers.remove(0) } else { answers[0].clone() }
}

/// Gives back whether another call may follow.
fn write(mut stream: &TcpStream, answer: &Answer) -> bool {
    let (text, goes_on) = match answer {
        Answer::Body(status, body) => {
            let length = body.len();
            let head = format!(
                "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
            );
            (head + body, true)
        }
        Answer::Redirect(to) => {
            (format!("HTTP/1.1 307 X\r\nlocation: {to}\r\ncontent-length: 0\r\n\r\n"), true)
        }
        Answer::Events(events) | Answer::EventsThenEnd(events) => {
            let head =
                "HTTP/1.1 200 X\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n: hello\n\n";
            let events: String = events.iter().map(|event| format!("data: {event}\n\n")).collect();
            (head.to_owned() + &events, false)
        }
        Answer::After(..) | Answer::Never => (String::new(), false),
    };
    let sent = stream.write_all(text.as_bytes()).is_ok();
    if matches!(answer, Answer::Events(_) | Answer::Never) {
        // Until the other side goes away.
        let _ = stream.read(&mut [0]);
    }
    sent && goes_on
}
