//! The figures of DESIGN 14 that the loop touches, measured on the real binary: each ends where a client sees the
//! effect. Prints p50, p99 and count; asserts nothing.
//!
//! `cargo bench --bench loop [-- PART...]` with the parts save, commit, nochange, memory, listing and sets; all of them by
//! default.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a benchmark that cannot go on has failed")]

#[expect(dead_code, reason = "other benchmarks ask it for more")]
mod service;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use service::Service;

/// Saves and commits that are measured of each kind.
const ROUNDS: usize = 200;
/// Passes that are measured of each kind.
const PASSES: usize = 50;

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|part| !part.starts_with('-')).collect();
    let runs = |part: &str| wanted.is_empty() || wanted.iter().any(|wanted| wanted == part);
    println!("{:<58} {:>9} {:>9} {:>7}", "what", "p50", "p99", "count");
    if runs("save") {
        save(1_000);
        save(10_000);
    }
    if runs("commit") {
        commit(1_000);
        commit(10_000);
    }
    if runs("nochange") {
        no_change_local(10_000);
        no_change_git(10_000);
    }
    if runs("sets") {
        set_save(1_000);
        set_save(20_000);
        set_whole(5_000);
    }
    if runs("memory") {
        memory(0);
        memory(1_000);
        memory(10_000);
    }
    if runs("listing") {
        listing(10_000);
    }
}

/// An edited script of one of `tasks` tasks, from the save to the event at a client.
fn save(tasks: usize) {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("tasks");
    fill(&source, tasks);
    let service =
        Service::start(dir.path(), &format!("- name: s\n    local: {{path: {}}}\n", source.display()));
    service.wait_for_units(tasks);
    let mut events = service.events();
    let mut times = Vec::new();
    for round in 0..ROUNDS {
        let task = (round * 7919) % tasks;
        let script = source.join(path_of(task)).join("task.sh");
        settle(round);
        let began = Instant::now();
        fs::write(&script, format!("echo {task} {round}\n")).unwrap();
        events.wait_for(&format!("s/{}", path_of(task)));
        times.push(began.elapsed());
    }
    print(&format!("save to registered, {tasks} tasks"), times);
}

/// An edited script of one of `tasks` tasks of a set, from the save to the event at a client.
fn set_save(tasks: usize) {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("tasks");
    fill_set(&source, tasks);
    let service =
        Service::start(dir.path(), &format!("- name: s\n    local: {{path: {}}}\n", source.display()));
    service.wait_for_units(tasks);
    let mut events = service.events();
    let mut times = Vec::new();
    for round in 0..ROUNDS {
        let task = (round * 7919) % tasks;
        settle(round);
        let began = Instant::now();
        fs::write(source.join(path_of(task)).join("task.sh"), format!("echo {task} {round}\n")).unwrap();
        events.wait_for(&format!("s/entry-{task}"));
        times.push(began.elapsed());
    }
    print(&format!("save to registered, a set of {tasks} tasks"), times);
}

/// A set of `tasks` tasks, from the start of the service until every one is registered, and what that takes.
fn set_whole(tasks: usize) {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("tasks");
    fill_set(&source, tasks);
    let began = Instant::now();
    let service =
        Service::start(dir.path(), &format!("- name: s\n    local: {{path: {}}}\n", source.display()));
    service.wait_for_units(tasks);
    let took = began.elapsed();
    let (now, most) = service.memory();
    println!(
        "{:<58} {took:.1?}, {now:.1} MiB, at most {most:.1} MiB",
        format!("a set of {tasks} tasks, start to registered")
    );
}

/// [`fill`] below a set with an entry and an override for each task.
fn fill_set(root: &Path, tasks: usize) {
    fill(root, tasks);
    let entry = |task| {
        let dir = path_of(task);
        format!(
            "    entry-{task}:\n      ref: {{path: {dir}}}\n      overrides: {{env: {{NUMBER: '{task}'}}}}\n"
        )
    };
    let entries: String = (0..tasks).map(entry).collect();
    let set = format!(
        "apiVersion: kindling/v1\nkind: TaskSet\nspec:\n  defaults: {{timeout: 5m}}\n  entries:\n{entries}"
    );
    fs::write(root.join("taskset.yaml"), set).unwrap();
}

/// A commit of one script, from the end of the push to the event at a client that asked for a pass at once.
fn commit(tasks: usize) {
    let dir = tempfile::tempdir().unwrap();
    let work = dir.path().join("work");
    let bare = repository(dir.path(), &work, tasks);
    let service = Service::start(dir.path(), &git_source(&bare));
    service.wait_for_units(tasks);
    let mut events = service.events();
    let mut times = Vec::new();
    for round in 0..ROUNDS / 4 {
        let task = (round * 7919) % tasks;
        fs::write(work.join(path_of(task)).join("task.sh"), format!("echo {task} {round}\n")).unwrap();
        git(&work, &["commit", "-qam", "edit"]);
        git(&work, &["push", "-q"]);
        let began = Instant::now();
        service.post("/api/v1/reconcile", "{\"subject\":\"s\"}");
        events.wait_for(&format!("s/{}", path_of(task)));
        times.push(began.elapsed());
    }
    print(&format!("commit to registered with a forced poll, {tasks} tasks"), times);
}

/// A pass over a directory in which nothing changed: a full scan, from the call to its answer.
fn no_change_local(tasks: usize) {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("tasks");
    fill(&source, tasks);
    let service =
        Service::start(dir.path(), &format!("- name: s\n    local: {{path: {}}}\n", source.display()));
    service.wait_for_units(tasks);
    print(&format!("pass that finds nothing, {tasks} units, directory"), passes(&service));
}

/// A pass over a repository in which nothing changed, from the call to its answer.
fn no_change_git(tasks: usize) {
    let dir = tempfile::tempdir().unwrap();
    let bare = repository(dir.path(), &dir.path().join("work"), tasks);
    let service = Service::start(dir.path(), &git_source(&bare));
    service.wait_for_units(tasks);
    print(&format!("pass that finds nothing, {tasks} units, git file remote"), passes(&service));
}

fn passes(service: &Service) -> Vec<Duration> {
    let pass = |_| {
        let began = Instant::now();
        service.post("/api/v1/reconcile", "{\"subject\":\"s\"}");
        began.elapsed()
    };
    // The first ones warm caches and settle racy timestamps.
    for round in 0..5 {
        pass(round);
    }
    (0..PASSES).map(pass).collect()
}

/// Memory of the service that holds `tasks` tasks, at rest.
fn memory(tasks: usize) {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("tasks");
    fs::create_dir_all(&source).unwrap();
    fill(&source, tasks);
    let service =
        Service::start(dir.path(), &format!("- name: s\n    local: {{path: {}}}\n", source.display()));
    service.wait_for_units(tasks);
    service.post("/api/v1/reconcile", "{\"subject\":\"s\"}");
    let (now, most) = service.memory();
    println!("{:<58} {:>5.1} MiB, at most {:.1} MiB", format!("resident memory, {tasks} units"), now, most);
}

/// Answers that hold all of `tasks` units, from the call to their last byte, and what they leave in memory.
fn listing(tasks: usize) {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("tasks");
    fill(&source, tasks);
    let service =
        Service::start(dir.path(), &format!("- name: s\n    local: {{path: {}}}\n", source.display()));
    service.wait_for_units(tasks);
    for path in ["/api/v1/units", "/api/v1/units?name=task-4711", "/api/v1/status", "/metrics"] {
        let mut bytes = 0;
        let mut ask = |_| {
            let began = Instant::now();
            bytes = service.get(path).len();
            began.elapsed()
        };
        let times = (0..ROUNDS).map(&mut ask).collect();
        print(&format!("{path} of {tasks} units, {} KiB", bytes >> 10), times);
    }
    let (now, most) = service.memory();
    println!(
        "{:<58} {now:>5.1} MiB, at most {most:.1} MiB",
        format!("resident memory after listings, {tasks} units")
    );
}

fn path_of(task: usize) -> String {
    format!("group-{}/task-{task}", task / 100)
}

fn fill(root: &Path, tasks: usize) {
    for task in 0..tasks {
        let dir = root.join(path_of(task));
        fs::create_dir_all(&dir).unwrap();
        let manifest = format!(
            "apiVersion: kindling/v1\nkind: Task\nname: task-{task}\ndescription: A task of the benchmark\n\
             runtime: shell\ntrigger:\n  manual: true\nparams:\n  who: world\nenv:\n  MODE: bench\n"
        );
        fs::write(dir.join("task.yaml"), manifest).unwrap();
        fs::write(dir.join("task.sh"), format!("echo {task}\n")).unwrap();
        fs::write(dir.join("lib.sh"), "helper() { echo \"$1\"; }\n".repeat(20)).unwrap();
    }
}

fn repository(dir: &Path, work: &Path, tasks: usize) -> String {
    let bare = dir.join("remote.git");
    git(dir, &["init", "-q", "--bare", "-b", "main", "remote.git"]);
    fill(work, tasks);
    git(work, &["init", "-q", "-b", "main"]);
    git(work, &["add", "."]);
    git(work, &["commit", "-qm", "first"]);
    git(work, &["push", "-q", "-u", bare.to_str().unwrap(), "main"]);
    git(work, &["remote", "add", "origin", bare.to_str().unwrap()]);
    git(work, &["push", "-q", "-u", "origin", "main"]);
    format!("file://{}", bare.display())
}

fn git_source(url: &str) -> String {
    format!("- name: s\n    git: {{url: '{url}', branch: main, poll_interval: 1h}}\n")
}

fn git(dir: &Path, args: &[&str]) {
    let status = Command::new("git")
        .current_dir(dir)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .args(["-c", "user.name=bench", "-c", "user.email=bench@example.org"])
        .args(args)
        .status()
        .unwrap();
    assert!(status.success(), "git {args:?}");
}

/// Saves come at uneven distances, so that they do not fall in step with anything.
fn settle(round: usize) {
    let until = Instant::now() + Duration::from_millis(30 + (round as u64 * 37) % 50);
    while Instant::now() < until {
        std::thread::yield_now();
        std::thread::park_timeout(until.saturating_duration_since(Instant::now()));
    }
}

fn print(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |share: f64| times[((times.len() - 1) as f64 * share).round() as usize].as_secs_f64() * 1e3;
    println!("{what:<58} {:>6.1} ms {:>6.1} ms {:>7}", at(0.5), at(0.99), times.len());
}
