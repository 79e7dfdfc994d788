//! git's smart HTTP for tests: a small HTTP/1.1 server on loopback that runs `git http-backend` for each request,
//! and can be told to misbehave.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::repo;

/// What the server does with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// What git says.
    Git,
    /// What git says to those who know only the first version of its protocol.
    OldGit,
    /// What git said to the same request the first time.
    Remembered,
    /// This status and nothing else.
    Status(u16),
    /// A page for people.
    Page,
    /// This, as the type that git gives its answers.
    Says(Vec<u8>),
    /// A redirect to this URL.
    Redirect(String),
    /// Nothing, for ever.
    Hang,
    /// The first bytes of what git says, then nothing, for ever.
    HangInside,
    /// The first bytes of what git says, then the end of the connection.
    Cut,
    /// What git says, with another byte in a pack.
    Damaged,
    /// What git says, one byte every 20 ms.
    Drip,
}

/// A request without its body.
pub struct Request {
    pub method: String,
    /// Path and query.
    pub target: String,
    headers: HashMap<String, String>,
}

impl Request {
    /// A header by its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

/// Method and target, and the body.
type Question = (String, Vec<u8>);

type Rule = Box<dyn Fn(&Request) -> Answer + Send + Sync>;

/// The server; ends when dropped.
pub struct HttpRemote {
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

struct Shared {
    address: SocketAddr,
    root: PathBuf,
    rule: Rule,
    memory: Mutex<HashMap<Question, Arc<[u8]>>>,
    requests: AtomicUsize,
    connections: Mutex<Vec<TcpStream>>,
    accepted: AtomicUsize,
    stopped: Mutex<bool>,
    stop: Condvar,
}

impl HttpRemote {
    /// Serves every repository below `root`.
    pub fn serve(root: &Path) -> Self {
        Self::serve_with(root, |_| Answer::Git)
    }

    /// Serves every repository below `root` as `rule` says.
    pub fn serve_with(root: &Path, rule: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let shared = Arc::new(Shared {
            address: listener.local_addr().unwrap(),
            root: root.to_owned(),
            rule: Box::new(rule),
            memory: Mutex::default(),
            requests: AtomicUsize::new(0),
            connections: Mutex::default(),
            accepted: AtomicUsize::new(0),
            stopped: Mutex::new(false),
            stop: Condvar::new(),
        });
        let accepting = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || accept(&listener, &shared)
        });
        Self { shared, accepting: Some(accepting) }
    }

    /// The URL of a repository, by its path below the root.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.shared.address)
    }

    /// How many requests came in.
    pub fn requests(&self) -> usize {
        self.shared.requests.load(Ordering::SeqCst)
    }

    /// How many connections were made.
    pub fn connections(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }
}

impl Drop for HttpRemote {
    fn drop(&mut self) {
        *self.shared.stopped.lock().unwrap() = true;
        self.shared.stop.notify_all();
        // Wakes the thread that accepts.
        drop(TcpStream::connect(self.shared.address));
        for connection in self.shared.connections.lock().unwrap().drain(..) {
            let _ = connection.shutdown(Shutdown::Both);
        }
        if let Some(accepting) = self.accepting.take() {
            accepting.join().unwrap();
        }
    }
}

impl Shared {
    fn remembered(&self, request: &Request, body: Vec<u8>) -> Arc<[u8]> {
        let key = (format!("{} {}", request.method, request.target), body);
        if let Some(answer) = self.memory.lock().unwrap().get(&key) {
            return Arc::clone(answer);
        }
        let answer: Arc<[u8]> = whole(&backend(&self.root, request, &key.1)).into();
        self.memory.lock().unwrap().insert(key, Arc::clone(&answer));
        answer
    }

    /// Waits; `true` once the server is to end.
    fn pause(&self, time: Duration) -> bool {
        let stopped = self.stopped.lock().unwrap();
        *self.stop.wait_timeout_while(stopped, time, |stopped| !*stopped).unwrap().0
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for stream in listener.incoming() {
        if *shared.stopped.lock().unwrap() {
            return;
        }
        let Ok(stream) = stream else { continue };
        stream.set_nodelay(true).unwrap();
        shared.accepted.fetch_add(1, Ordering::SeqCst);
        shared.connections.lock().unwrap().push(stream.try_clone().unwrap());
        let shared = Arc::clone(shared);
        // An error is a client that went away.
        std::thread::spawn(move || drop(converse(&shared, &stream)));
    }
}

/// Answers request after request until the client is done.
fn converse(shared: &Shared, mut stream: &TcpStream) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    while let Some(request) = read_request(&mut reader)? {
        shared.requests.fetch_add(1, Ordering::SeqCst);
        let body = read_body(&mut reader, &request)?;
        match (shared.rule)(&request) {
            Answer::Git => stream.write_all(&whole(&backend(&shared.root, &request, &body)))?,
            Answer::Remembered => stream.write_all(&shared.remembered(&request, body))?,
            Answer::OldGit => {
                let mut request = request;
                request.headers.remove("git-protocol");
                stream.write_all(&whole(&backend(&shared.root, &request, &body)))?;
            }
            Answer::Status(status) => stream.write_all(&status_only(status, ""))?,
            Answer::Page => {
                let page = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 4\r\n\r\n<p>x";
                stream.write_all(page.as_bytes())?;
            }
            Answer::Says(body) => {
                let what = if request.method == "POST" { "result" } else { "advertisement" };
                let head = format!(
                    "HTTP/1.1 200 OK\r\nContent-Type: application/x-git-upload-pack-{what}\r\nContent-Length: {}\r\n\r\n",
                    body.len()
                );
                stream.write_all(&[head.as_bytes(), &body].concat())?;
            }
            Answer::Redirect(to) => stream.write_all(&status_only(302, &format!("Location: {to}\r\n")))?,
            Answer::Hang => {
                shared.pause(Duration::from_secs(600));
                return Ok(());
            }
            how @ (Answer::HangInside | Answer::Cut) => {
                let answer = whole(&backend(&shared.root, &request, &body));
                stream.write_all(&answer[..answer.len() - 10])?;
                if how == Answer::HangInside {
                    shared.pause(Duration::from_secs(600));
                }
                return stream.shutdown(Shutdown::Both);
            }
            Answer::Damaged => {
                let mut answer = whole(&backend(&shared.root, &request, &body));
                if let Some(at) = answer.windows(4).position(|part| part == b"PACK") {
                    answer[at + 25] ^= 0x55;
                }
                stream.write_all(&answer)?;
            }
            Answer::Drip => {
                for byte in whole(&backend(&shared.root, &request, &body)) {
                    stream.write_all(&[byte])?;
                    if shared.pause(Duration::from_millis(20)) {
                        return Ok(());
                    }
                }
            }
        }
    }
    Ok(())
}

fn read_request(reader: &mut impl BufRead) -> std::io::Result<Option<Request>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut parts = line.split_whitespace().map(str::to_owned);
    let (method, target) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    Ok(Some(Request { method, target, headers }))
}

/// The body with its chunks put together; still compressed if it was sent so, which `http-backend` undoes.
fn read_body(reader: &mut impl BufRead, request: &Request) -> std::io::Result<Vec<u8>> {
    let mut body = Vec::new();
    if let Some(length) = request.headers.get("content-length") {
        reader.take(length.parse().unwrap()).read_to_end(&mut body)?;
    } else if request.headers.get("transfer-encoding").is_some_and(|how| how == "chunked") {
        loop {
            let mut size = String::new();
            reader.read_line(&mut size)?;
            let size = u64::from_str_radix(size.trim(), 16).unwrap();
            reader.by_ref().take(size).read_to_end(&mut body)?;
            reader.read_line(&mut String::new())?;
            if size == 0 {
                break;
            }
        }
    }
    Ok(body)
}

/// Runs `git http-backend`; gives back its answer in the form of CGI.
fn backend(root: &Path, request: &Request, body: &[u8]) -> Vec<u8> {
    let (path, query) = request.target.split_once('?').unwrap_or((&request.target, ""));
    let header = |name: &str| request.headers.get(name).map_or("", String::as_str);
    let mut child = repo::git(root)
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("REQUEST_METHOD", &request.method)
        .env("PATH_INFO", unescape(path))
        .env("QUERY_STRING", query)
        .env("CONTENT_TYPE", header("content-type"))
        .env("CONTENT_LENGTH", body.len().to_string())
        .env("HTTP_CONTENT_ENCODING", header("content-encoding"))
        .env("GIT_PROTOCOL", header("git-protocol"))
        .env("REMOTE_ADDR", "127.0.0.1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("git must be installed");
    let mut stdin = child.stdin.take().unwrap();
    let body = body.to_vec();
    // Written beside the reading: either pipe may fill up. A refusal closes it early.
    let writing = std::thread::spawn(move || drop(stdin.write_all(&body)));
    let output = child.wait_with_output().unwrap();
    writing.join().unwrap();
    output.stdout
}

/// Undoes the `%` escapes of a path.
fn unescape(path: &str) -> String {
    let mut parts = path.split('%');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (digits, rest) = part.split_at(2);
        plain.push(char::from(u8::from_str_radix(digits, 16).unwrap()));
        plain += rest;
    }
    plain
}

/// Turns an answer of CGI into one of HTTP.
fn whole(answer: &[u8]) -> Vec<u8> {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").map_or(answer.len(), |at| at + 4);
    let (head, body) = answer.split_at(end);
    let head = String::from_utf8_lossy(head);
    let mut status = "200 OK".to_owned();
    let mut lines = String::new();
    for line in head.lines().filter(|line| !line.is_empty()) {
        match line.strip_prefix("Status: ") {
            Some(other) => status = other.to_owned(),
            None => lines += &format!("{line}\r\n"),
        }
    }
    let mut all = format!("HTTP/1.1 {status}\r\n{lines}Content-Length: {}\r\n\r\n", body.len()).into_bytes();
    all.extend_from_slice(body);
    all
}

fn status_only(status: u16, headers: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status} Because\r\n{headers}Content-Length: 0\r\n\r\n").into_bytes()
}

#[test]
fn git_itself_clones_from_it_and_pushes_to_it() {
    let repo = repo::Repo::with(&[("a", "1")]);
    let server = HttpRemote::serve(repo.root());
    let other = tempfile::tempdir().unwrap();
    let url = server.url("remote.git");
    repo::run(other.path(), &["clone", "--quiet", &url, "copy"], b"");
    let copy = other.path().join("copy");
    // More than the 1 MiB that git buffers before it sends in chunks.
    let noise: String =
        (0u64..400_000).map(|n| format!("{:x}", n.wrapping_mul(0x9e37_79b9_7f4a_7c15))).collect();
    std::fs::write(copy.join("b"), noise).unwrap();
    repo::run(&copy, &["add", "."], b"");
    repo::run(&copy, &["commit", "--quiet", "-m", "b"], b"");
    repo::run(&copy, &["push", "--quiet", "origin", "main"], b"");
    let pushed = repo::run(&copy, &["rev-parse", "HEAD"], b"");
    assert_eq!(repo.bare_git(&["rev-parse", "main"]), pushed);
}
