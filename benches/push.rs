//! The figures of DESIGN 14 for push webhooks, measured on the real binary: from the delivery to the event at a client,
//! beside `git fetch` of the same push, and how many deliveries are answered a second. Asserts nothing.
//!
//! `cargo bench --bench push [-- PART...]` with the parts file, http and answers; all of them by default.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::expect_used,
    reason = "a benchmark that cannot go on has failed"
)]

#[path = "../tests/it/http_backend.rs"]
#[expect(dead_code, reason = "tests ask it for more")]
mod http_backend;
#[path = "../tests/it/repo.rs"]
#[expect(dead_code, reason = "tests ask it for more")]
mod repo;
#[expect(dead_code, reason = "other benchmarks ask it for more")]
mod service;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hmac::{Hmac, KeyInit, Mac};
use http_backend::HttpRemote;
use repo::Repo;
use service::Service;
use sha2::Sha256;

const SECRET: &str = "0123456789abcdef0123456789abcdef";
/// Tasks of the repository: two files each.
const TASKS: usize = 5_000;
/// Pushes that are measured of each kind.
const ROUNDS: usize = 100;
/// Connections that deliver at a time, and for how long.
const CONNECTIONS: usize = 16;
const LASTS: Duration = Duration::from_secs(5);
/// Size of a delivery, in bytes.
const BODY: usize = 10 << 10;

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|part| !part.starts_with('-')).collect();
    let runs = |part: &str| wanted.is_empty() || wanted.iter().any(|wanted| wanted == part);
    println!("{:<58} {:>9} {:>9} {:>7}", "what", "p50", "p99", "count");
    if runs("file") {
        live("file", |repo| (repo.bare().display().to_string(), None));
    }
    if runs("http") {
        live("smart HTTP", |repo| {
            let server = HttpRemote::serve(repo.root());
            (server.url("remote.git"), Some(server))
        });
    }
    if runs("answers") {
        answers();
    }
}

fn path_of(task: usize) -> String {
    format!("d{}/t{task}", task % 50)
}

/// From the delivery of a push to the event of the task that it changed.
fn live(kind: &str, remote: impl Fn(&Repo) -> (String, Option<HttpRemote>)) {
    let repo = Repo::new();
    for task in 0..TASKS {
        let name = format!("t{task}");
        let manifest = format!(
            "apiVersion: kindling/v1\nkind: Task\nname: {name}\nruntime: shell\ntrigger: {{manual: true}}\n"
        );
        repo.write(&format!("{}/task.yaml", path_of(task)), &manifest);
        repo.write(&format!("{}/task.sh", path_of(task)), &format!("echo {task}\n"));
    }
    repo.commit("all");
    repo.push();
    let (url, _server) = remote(&repo);
    let reference = repo.root().join("reference.git");
    repo::run(repo.root(), &["clone", "--quiet", "--bare", &url, "reference.git"], b"");
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("secret"), SECRET).unwrap();
    let source = format!(
        "- name: s\n    git: {{url: '{url}', branch: main, poll_interval: 1h, webhook: {{secret_file: secret}}}}\n"
    );
    let service = Service::start(dir.path(), &source);
    service.wait_for_units(TASKS);
    let mut events = service.events();
    let (mut times, mut fetches, mut phases) = (Vec::new(), Vec::new(), BTreeMap::new());
    for round in 0..ROUNDS {
        let task = (round * 7919) % TASKS;
        repo.write(&format!("{}/task.sh", path_of(task)), &format!("echo {task} {round}\n"));
        let commit = repo.commit(&format!("round {round}"));
        repo.push();
        let body =
            format!(r#"{{"ref":"refs/heads/main","after":"{commit}","repository":{{"clone_url":"{url}"}}}}"#);
        std::thread::park_timeout(Duration::from_millis(40 + (round as u64 * 7) % 40));
        let mut stream = connect(service.address());
        let began = Instant::now();
        stream.get_mut().write_all(&delivery(&body, &format!("d-{round}"), &sign(&body))).unwrap();
        assert_eq!(status(&mut stream), 202);
        let event = events.wait_for(&format!("s/{}", path_of(task)));
        times.push(began.elapsed());
        for (phase, ms) in event["phases"].as_object().unwrap() {
            let took = Duration::from_secs_f64(ms.as_f64().unwrap() / 1e3);
            phases.entry(phase.clone()).or_insert_with(Vec::new).push(took);
        }
        let began = Instant::now();
        repo::run(&reference, &["fetch", "--quiet", "origin", "+refs/heads/main:refs/heads/main"], b"");
        fetches.push(began.elapsed());
    }
    print(&format!("push webhook to live, {kind} remote, 10,000 files"), times);
    for (phase, times) in phases {
        print(&format!("  of that in the phase {phase}"), times);
    }
    print(&format!("git fetch of the same pushes, {kind}"), fetches);
}

/// Deliveries a second: with a wrong signature, and such that are accepted and recorded.
fn answers() {
    let repo = Repo::with(&[("t/task.sh", "echo\n")]);
    let url = repo.bare().display().to_string();
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("secret"), SECRET).unwrap();
    let source = format!(
        "- name: s\n    git: {{url: '{url}', branch: main, poll_interval: 1h, webhook: {{secret_file: secret}}}}\n"
    );
    let service = Service::start(dir.path(), &source);
    service.wait_for_units(0);
    let head =
        format!(r#"{{"ref":"refs/heads/main","repository":{{"clone_url":"{url}"}},"commits":[{{"message":""#);
    let body = format!("{head}{}\"}}]}}", "x".repeat(BODY.saturating_sub(head.len() + 5)));
    let right = sign(&body);
    for (what, signature, expected) in
        [("wrong signature", sign("another body"), 401), ("accepted and recorded", right, 202)]
    {
        let number = AtomicUsize::new(0);
        let until = Instant::now() + LASTS;
        let work = || {
            let mut stream = connect(service.address());
            let mut times = Vec::new();
            while Instant::now() < until {
                let id = format!("a-{}", number.fetch_add(1, Ordering::Relaxed));
                let message = delivery(&body, &id, &signature);
                let began = Instant::now();
                stream.get_mut().write_all(&message).unwrap();
                assert_eq!(status(&mut stream), expected);
                times.push(began.elapsed());
            }
            times
        };
        let times: Vec<Duration> = std::thread::scope(|scope| {
            let all: Vec<_> = (0..CONNECTIONS).map(|_| scope.spawn(work)).collect();
            all.into_iter().flat_map(|one| one.join().unwrap()).collect()
        });
        let rate = times.len() as f64 / LASTS.as_secs_f64();
        print(&format!("10 KB, {what}: {rate:.0} a second"), times);
    }
}

fn connect(address: &str) -> BufReader<TcpStream> {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    BufReader::new(stream)
}

fn sign(body: &str) -> String {
    let mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap().chain_update(body).finalize();
    mac.into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn delivery(body: &str, id: &str, signature: &str) -> Vec<u8> {
    format!(
        "POST /webhooks/s HTTP/1.1\r\nHost: x\r\nX-GitHub-Event: push\r\nX-GitHub-Delivery: {id}\r\n\
         X-Hub-Signature-256: sha256={signature}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// Reads one answer; gives back its status.
fn status(stream: &mut BufReader<TcpStream>) -> u16 {
    let (mut line, mut status, mut length) = (String::new(), 0, 0);
    loop {
        line.clear();
        assert!(stream.read_line(&mut line).unwrap() > 0, "the connection ended");
        let text = line.trim_end();
        if let Some(rest) = text.strip_prefix("HTTP/1.1 ") {
            status = rest[..3].parse().unwrap();
        } else if let Some(value) = text.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        } else if text.is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).unwrap();
    status
}

fn print(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at = |per_cent: usize| times[(times.len() * per_cent / 100).min(times.len() - 1)].as_secs_f64() * 1e3;
    println!("{what:<58} {:>6.1} ms {:>6.1} ms {:>7}", at(50), at(99), times.len());
}
