//! The real binary as a benchmark uses it: started on a free port, asked over HTTP, listened to, killed at the end.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Longest wait for anything.
const BOUND: Duration = Duration::from_secs(300);

/// A running service.
pub struct Service {
    child: Child,
    data: PathBuf,
    address: String,
    token: String,
}

impl Service {
    /// Starts it in `dir` with these entries of `sources:`.
    pub fn start(dir: &Path, sources: &str) -> Self {
        let file = dir.join("kindling.yaml");
        let text = format!("server: {{listen: 127.0.0.1:0}}\ndata_dir: data\nsources:\n  {sources}");
        fs::write(&file, text).unwrap();
        let log = File::create(dir.join("log")).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_kindling"))
            .args(["serve", "--config", file.to_str().unwrap()])
            .stderr(log)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let data = dir.join("data");
        let mut made = Self { child, data, address: String::new(), token: String::new() };
        let read =
            |name: &str| fs::read_to_string(made.data.join(name)).unwrap_or_default().trim().to_owned();
        let deadline = Instant::now() + BOUND;
        let (address, token) = loop {
            let found = (read("address"), read("token"));
            if !found.0.is_empty() && !found.1.is_empty() {
                break found;
            }
            assert!(Instant::now() < deadline, "the service did not start");
            std::thread::park_timeout(Duration::from_millis(2));
        };
        (made.address, made.token) = (address, token);
        made
    }

    /// Where it listens.
    pub fn address(&self) -> &str {
        &self.address
    }

    fn send(&self, method: &str, path: &str, body: &str) -> BufReader<TcpStream> {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_nodelay(true).unwrap();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            self.address,
            self.token,
            body.len()
        );
        stream.write_all(request.as_bytes()).unwrap();
        BufReader::new(stream)
    }

    /// Posts and waits for the answer.
    pub fn post(&self, path: &str, body: &str) -> String {
        let mut answer = String::new();
        self.send("POST", path, body).read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 2"), "{answer}");
        answer
    }

    /// Gets an answer.
    pub fn get(&self, path: &str) -> String {
        self.call("GET", path, "").rest()
    }

    /// Sends a call and waits for nothing.
    pub fn call(&self, method: &str, path: &str, body: &str) -> Call {
        Call(self.send(method, path, body))
    }

    /// Waits until this many units are ready.
    pub fn wait_for_units(&self, units: usize) {
        let deadline = Instant::now() + BOUND;
        loop {
            let mut answer = String::new();
            self.send("GET", "/api/v1/status", "").read_to_string(&mut answer).unwrap();
            if answer.contains("\"ready\":true") && answer.contains(&format!("\"units\":{units},")) {
                return;
            }
            assert!(Instant::now() < deadline, "not ready: {answer:.500}");
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }

    /// The events from now on.
    pub fn events(&self) -> Events {
        let mut stream = self.send("GET", "/api/v1/events", "");
        let mut line = String::new();
        while stream.read_line(&mut line).unwrap() > 2 {
            line.clear();
        }
        Events(stream)
    }

    /// Resident memory now and at its most, in MiB.
    pub fn memory(&self) -> (f64, f64) {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let field = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name)).unwrap();
            line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
        };
        (field("VmRSS:"), field("VmHWM:"))
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A call that was sent.
pub struct Call(BufReader<TcpStream>);

impl Call {
    /// The whole answer.
    pub fn rest(mut self) -> String {
        let mut answer = String::new();
        self.0.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 2"), "{answer}");
        answer
    }
}

/// A stream of events.
pub struct Events(BufReader<TcpStream>);

impl Events {
    /// Waits for an update of this unit; gives back its event.
    pub fn wait_for(&mut self, unit: &str) -> serde_json::Value {
        let wanted = format!("\"unit\":\"{unit}\"");
        let mut line = String::new();
        while self.0.read_line(&mut line).unwrap() > 0 {
            if line.contains("\"unit.updated\"") && line.contains(&wanted) {
                return serde_json::from_str(line.trim_start_matches("data:")).unwrap();
            }
            line.clear();
        }
        panic!("the stream of events ended");
    }
}
