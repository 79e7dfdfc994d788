//! The figure of DESIGN 14 for many repositories: what it costs to poll 1,000 of them, measured on the real binary with
//! all processes that it starts. Prints CPU as per cent of one core; asserts nothing.
//!
//! `cargo bench --bench repos [-- PART...]` with the parts file and http; both by default.

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

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use http_backend::{Answer, HttpRemote};
use repo::Repo;
use service::Service;

/// Repositories that are polled.
const REPOSITORIES: usize = 1_000;
/// The poll interval of each.
const INTERVAL: Duration = Duration::from_secs(30);
/// Time for the first fetches to be forgotten: a poll of each.
const SETTLE: Duration = Duration::from_secs(40);
/// How long is measured: three polls of each.
const MEASURE: Duration = Duration::from_secs(90);

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|part| !part.starts_with('-')).collect();
    let runs = |part: &str| wanted.is_empty() || wanted.iter().any(|wanted| wanted == part);
    let repo = Repo::with(&[
        (
            "t/task.yaml",
            "apiVersion: kindling/v1\nkind: Task\nname: t\nruntime: shell\ntrigger: {manual: true}\n",
        ),
        ("t/task.sh", "echo t\n"),
    ]);
    for n in 0..REPOSITORIES {
        repo::run(
            repo.root(),
            &["clone", "--quiet", "--bare", "--no-hardlinks", "remote.git", &name(n)],
            b"",
        );
    }
    if runs("file") {
        measure("file", |n| repo.root().join(name(n)).display().to_string());
    }
    if runs("http") {
        // Git itself answers each question once; what the server costs is not measured, but it shares the machine.
        let server = HttpRemote::serve_with(repo.root(), |_| Answer::Remembered);
        measure("http", |n| server.url(&name(n)));
    }
}

fn name(n: usize) -> String {
    format!("repository-{n}.git")
}

fn measure(what: &str, url: impl Fn(usize) -> String) {
    let dir = tempfile::tempdir().unwrap();
    let mut sources = String::new();
    for n in 0..REPOSITORIES {
        let (url, seconds) = (url(n), INTERVAL.as_secs());
        writeln!(
            sources,
            "  - {{name: s{n}, git: {{url: '{url}', branch: main, poll_interval: {seconds}s}}}}"
        )
        .unwrap();
    }
    let began = Instant::now();
    let service = Service::start(dir.path(), sources.trim_start());
    service.wait_for_units(REPOSITORIES);
    println!(
        "{what}: {REPOSITORIES} repositories fetched and live after {:.1} s",
        began.elapsed().as_secs_f64()
    );
    std::thread::park_timeout(SETTLE);
    let (before, began) = (processor_time(dir.path()), Instant::now());
    std::thread::park_timeout(MEASURE);
    let (own, children) = processor_time(dir.path());
    let share = |time: Duration| 100.0 * time.as_secs_f64() / began.elapsed().as_secs_f64();
    let (now, most) = service.memory();
    println!(
        "{what}: {REPOSITORIES} repositories polled every {INTERVAL:?}: {:.1} % of a core, {:.1} % more in children, over \
         {:.0} s; {now:.1} MiB, at most {most:.1} MiB",
        share(own - before.0),
        share(children - before.1),
        began.elapsed().as_secs_f64()
    );
}

/// Processor time of the service in this directory, and of its children that have ended.
fn processor_time(dir: &Path) -> (Duration, Duration) {
    let pid = fs::read_to_string(dir.join("data/lock")).unwrap();
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap();
    let fields = stat.rsplit(')').next().unwrap().split_whitespace().skip(11).take(4);
    let fields: Vec<u64> = fields.flat_map(str::parse).collect();
    // In ticks, of which Linux counts a hundred a second for every program.
    let time = |ticks: u64| Duration::from_millis(ticks * 10);
    (time(fields[0] + fields[1]), time(fields[2] + fields[3]))
}
