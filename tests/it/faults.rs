//! What can go wrong around the real binary: it says so clearly, loses nothing and leaves the rest alone.

pub mod disk;
mod inputs;
mod silence;
mod sources;

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::repo::Repo;
use crate::service::client::{Client, condition};
use crate::service::{Service, manifest, processes, until};

/// A source of tasks in `src` below the root.
const LOCAL: &str = "sources:\n  - name: dir\n    local: {path: src}\n";

/// A service with tasks that print their own keys; it is not started.
fn with_tasks(keys: &[&str]) -> Service {
    let service = Service::new(LOCAL);
    for key in keys {
        service.task(&format!("src/{key}"), &format!("printf '%s' 'this is {key}'\n"));
    }
    service
}

async fn assert_prints(client: &Client, task: &str, output: &str) {
    let run = client.run(task).await;
    assert_eq!((&run["status"], &run["output"]), (&json!("succeeded"), &json!(output)), "{run:#}");
}

fn text<'a>(of: &'a Value, key: &str) -> &'a str {
    of[key].as_str().unwrap_or_default()
}

#[tokio::test]
async fn a_second_service_on_one_data_directory_is_refused_and_names_the_first() {
    let mut service = with_tasks(&["a"]);
    let client = service.start().await;
    let address = fs::read_to_string(service.data_dir().join("address")).unwrap();
    let (code, said) = service.refused().await;
    assert_eq!(code, Some(3), "{said}");
    let process = format!("process {}", service.pid());
    for part in [service.data_dir().to_str().unwrap(), &process, address.trim()] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert_eq!(fs::read_to_string(service.data_dir().join("address")).unwrap(), address);
    assert_prints(&client, "dir/a", "this is a").await;
}

#[tokio::test]
async fn a_service_that_was_killed_leaves_nothing_in_the_way() {
    let mut service = with_tasks(&["a"]);
    service.start().await;
    service.kill();
    assert_prints(&service.start().await, "dir/a", "this is a").await;
}

#[tokio::test]
async fn sigterm_during_a_run_interrupts_it_and_leaves_no_process() {
    let mut service = with_tasks(&["a"]);
    service.task("src/long", "sleep 300 &\nsleep 300\n");
    service.write("src/d/task.yaml", manifest("d", "daemon: true"));
    service.write("src/d/task.sh", "sleep 300\n");
    let client = service.start().await;
    let mark = fs::read_to_string(service.data_dir().join("mark")).unwrap();
    let run = client.post("/api/v1/runs", json!({"task": "dir/long"})).await;
    let path = format!("/api/v1/runs/{}", text(&run, "id"));
    let waiting = client.ask("GET", &format!("{path}/wait"), None).await.unwrap();
    let mut events = client.events().await;
    // Two shells with three processes of their own.
    until("all run", async || (processes::having("KINDLING_MARK", mark.trim()).len() == 5).then_some(()))
        .await;
    let asked = Instant::now();
    assert_eq!(service.terminate().await.code(), Some(0));
    assert!(asked.elapsed() < Duration::from_secs(8), "{:?}", asked.elapsed());
    assert_eq!(processes::having("KINDLING_MARK", mark.trim()).len(), 0);
    assert!(!service.data_dir().join("address").exists());
    assert_eq!(text(&waiting.answer().await.unwrap().json(), "status"), "interrupted");
    while let Some(event) = events.next().await {
        assert_ne!(event["type"], "unit.removed");
    }
    let client = service.start().await;
    let run = client.get(&path).await;
    assert_eq!((text(&run, "status"), run["endedAt"].is_string()), ("interrupted", true), "{run:#}");
    assert_prints(&client, "dir/a", "this is a").await;
}

#[tokio::test]
async fn a_second_sigterm_waits_for_no_run_and_leaves_no_process_either() {
    let mut service = with_tasks(&["a"]);
    let script = "trap '' TERM\necho > \"$READY\"\nsleep 300 &\nwait\nsleep 300\n";
    service.task("src/deaf", script);
    let ready = service.root().join("home/ready");
    let whole = format!("{}env: {{READY: \"{}\"}}\n", manifest("deaf", "manual: true"), ready.display());
    service.write("src/deaf/task.yaml", whole);
    let client = service.start().await;
    let run = client.post("/api/v1/runs", json!({"task": "dir/deaf"})).await;
    until("it is deaf", async || ready.exists().then_some(())).await;
    let asked = Instant::now();
    service.signal(Signal::TERM);
    until("it says so", async || service.log().contains("] ending").then_some(())).await;
    let status = service.terminate().await;
    // The first one alone would wait ten seconds for the run.
    assert!(status.code().is_some() && asked.elapsed() < Duration::from_secs(8), "{status:?}");
    let left = || processes::having("READY", ready.to_str().unwrap());
    until("its processes are gone", async || left().is_empty().then_some(())).await;
    let client = service.start().await;
    let run = client.get(&format!("/api/v1/runs/{}", text(&run, "id"))).await;
    assert_eq!(text(&run, "status"), "interrupted", "{run:#}");
    assert_prints(&client, "dir/a", "this is a").await;
}

#[tokio::test]
async fn a_lock_that_outlives_its_process_for_a_moment_is_waited_for() {
    let mut service = with_tasks(&["a"]);
    service.start().await;
    service.kill();
    // As a child does that was made by fork and has not become its program yet.
    let path = service.data_dir().join("lock");
    let held = fs::File::open(&path).unwrap();
    held.lock().unwrap();
    service.spawn();
    let fds = format!("/proc/{}/fd", service.pid());
    let opened = || {
        let links = fs::read_dir(&fds).into_iter().flatten().flatten();
        links.filter_map(|link| fs::read_link(link.path()).ok()).any(|file| file == path)
    };
    until("it wants the lock", async || opened().then_some(())).await;
    drop(held);
    let client = service.listening().await;
    assert_prints(&client, "dir/a", "this is a").await;
}

#[tokio::test]
async fn who_runs_a_task_is_told_how_it_ended_when_the_service_ends() {
    let mut service = with_tasks(&["a"]);
    service.task("src/long", "echo begun >&2\nexec sleep 300\n");
    service.start().await;
    let mut command = service.command(&["run", "dir/long"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut runs = command.spawn().unwrap();
    let mut said = String::new();
    let mut log = BufReader::new(runs.stderr.take().unwrap());
    log.read_line(&mut said).unwrap();
    assert!(said.contains("begun"), "{said}");
    assert!(service.terminate().await.success());
    log.read_to_string(&mut said).unwrap();
    let status = runs.wait().unwrap();
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("interrupted: kindling ended while it ran"), "{said}");
}

#[tokio::test]
async fn what_is_gone_is_explained_and_a_refused_name_is_told() {
    let mut service = with_tasks(&["a", "b"]);
    let client = service.start().await;
    std::fs::remove_dir_all(service.root().join("src/b")).unwrap();
    service.task("src/odd\nname", "echo hidden\n");
    client.post("/api/v1/reconcile", json!({})).await;
    let why = client.get("/api/v1/why?unit=dir/b").await;
    assert!(why["unit"].is_null() && why["id"] == "dir/b", "{why:#}");
    assert_eq!((&why["last"]["rule"], &why["last"]["action"]), (&json!("unit.removed"), &json!("remove")));
    let told = client.get("/api/v1/sources").await["items"][0]["conditions"].to_string();
    assert!(told.contains("odd") && told.contains("nothing in it is looked at"), "{told}");
    let checked = service.attempt(&["validate", "--config", service.configuration().to_str().unwrap()]).await;
    assert_eq!(checked.status.code(), Some(1), "{checked:?}");
}

#[tokio::test]
async fn waiting_for_a_repository_does_not_wait_for_its_next_poll() {
    let repo = Repo::with(&[("a/task.yaml", &manifest("a", "manual: true")), ("a/task.sh", "printf one\n")]);
    let url = repo.bare();
    let mut service = Service::new(&format!(
        "sources:\n  - name: repo\n    git: {{url: \"{}\", poll_interval: 1h}}\n",
        url.display()
    ));
    let client = service.start().await;
    for output in ["one", "two"] {
        repo.publish(&[("a/task.sh", &format!("printf {output}\n"))]);
        client.reconcile().await;
        client.post("/api/v1/wait", json!({})).await;
        client.post("/api/v1/wait", json!({"subject": "repo/a"})).await;
        assert_prints(&client, "repo/a", output).await;
    }
}

#[tokio::test]
async fn a_source_path_that_vanishes_keeps_its_units_and_comes_back() {
    let mut service = with_tasks(&["a", "b"]);
    let client = service.start().await;
    let (src, aside) = (service.root().join("src"), service.root().join("aside"));
    fs::rename(&src, &aside).unwrap();
    let source = client
        .source_until("dir", "is missing", |source| {
            condition(source, "Ready").starts_with("False RootMissing")
        })
        .await;
    assert!(condition(&source, "Ready").contains(src.to_str().unwrap()), "{source:#}");
    assert_prints(&client, "dir/a", "this is a").await;
    // A pass that is asked for says so too, and a restart changes nothing.
    let answer = client.call("POST", "/api/v1/reconcile", Some(&json!({}))).await.unwrap();
    assert_eq!(answer.status, 503, "{answer:?}");
    assert!(service.terminate().await.success());
    let client = service.start().await;
    assert_eq!(client.items("/api/v1/units").await.len(), 2);
    assert_prints(&client, "dir/b", "this is b").await;
    fs::write(aside.join("a/task.sh"), "printf back\n").unwrap();
    fs::rename(&aside, &src).unwrap();
    client.source_until("dir", "is there", |source| condition(source, "Ready").starts_with("True")).await;
    client.post("/api/v1/wait", json!({})).await;
    assert_prints(&client, "dir/a", "back").await;
    assert_eq!(client.items("/api/v1/units").await.len(), 2);
}

#[tokio::test]
async fn a_tree_that_is_suddenly_empty_waits_for_a_persons_word() {
    let keys = ["all/a", "all/b", "all/c"];
    let mut service = with_tasks(&keys);
    let client = service.start().await;
    // In one go: what goes bit by bit is no sudden loss.
    fs::rename(service.root().join("src/all"), service.root().join("gone")).unwrap();
    let stalled = |source: &Value| condition(source, "Stalled").starts_with("True RemovalGuard");
    let source = client.source_until("dir", "is stalled", stalled).await;
    for key in keys {
        assert!(condition(&source, "Stalled").contains(&format!("dir/{key}")), "{source:#}");
    }
    assert!(condition(&source, "Ready").starts_with("False RemovalGuard"), "{source:#}");
    // Neither another pass nor a restart takes it for agreed.
    let answer = client.call("POST", "/api/v1/reconcile", Some(&json!({}))).await.unwrap();
    assert_eq!(answer.status, 409, "{answer:?}");
    assert_eq!(text(&answer.json(), "hint"), "kindling reconcile dir --allow-removals");
    service.kill();
    let client = service.start().await;
    client.source_until("dir", "is stalled", stalled).await;
    assert_prints(&client, "dir/all/a", "this is all/a").await;
    assert!(!client.get("/api/v1/status").await["ready"].as_bool().unwrap());
    client.post("/api/v1/reconcile", json!({"subject": "dir", "allowRemovals": true})).await;
    assert_eq!(client.items("/api/v1/units").await, Vec::<Value>::new());
    let source = client.source_until("dir", "is ready", |_| true).await;
    assert!(condition(&source, "Ready").starts_with("True") && condition(&source, "Stalled").is_empty());
}

#[tokio::test]
async fn a_task_that_is_removed_while_it_runs_ends_as_it_would_have() {
    let mut service = with_tasks(&["a"]);
    let gate = service.root().join("gate");
    let script = format!("while [ ! -e '{}' ]; do sleep 0.02; done\ncat words.txt\n", gate.display());
    service.task("src/slow", &script);
    service.write("src/slow/words.txt", "still here");
    let client = service.start().await;
    let run = client.post("/api/v1/runs", json!({"task": "dir/slow"})).await;
    fs::remove_dir_all(service.root().join("src/slow")).unwrap();
    client.reconcile().await;
    assert_eq!(client.unit("dir/slow").await, Value::Null);
    let answer = client.call("POST", "/api/v1/runs", Some(&json!({"task": "dir/slow"}))).await.unwrap();
    assert_eq!(answer.status, 404, "{answer:?}");
    fs::write(gate, "").unwrap();
    let run = client.get(&format!("/api/v1/runs/{}/wait", text(&run, "id"))).await;
    assert_eq!((text(&run, "status"), text(&run, "output")), ("succeeded", "still here"), "{run:#}");
}

#[tokio::test]
async fn a_save_is_told_once() {
    let mut service = with_tasks(&["a"]);
    let client = service.start().await;
    let mut events = client.events().await;
    service.write("src/a/task.sh", "printf again\n");
    events.until("unit.updated", "dir/a").await;
    // A full scan follows, which finds nothing.
    let passes = |source: &Value| source["passes"].as_u64().unwrap();
    let before = passes(&client.items("/api/v1/sources").await[0]);
    client.source_until("dir", "was scanned", |source| passes(source) > before).await;
    assert_eq!(service.log().matches("file changed: ").count(), 1, "{}", service.log());
}

#[tokio::test]
async fn the_data_directory_inside_a_source_is_never_looked_at() {
    let mut service = Service::new("sources:\n  - name: dir\n    local: {path: .}\n");
    service.task("a", "printf a\n");
    let client = service.start().await;
    assert_prints(&client, "dir/a", "a").await;
    // The version's folder holds a manifest, and so does whatever else is put there.
    service.task(".kindling/b", "printf b\n");
    client.post("/api/v1/reconcile", json!({"rescan": true})).await;
    service.kill();
    let client = service.start().await;
    client.reconcile().await;
    let units = client.items("/api/v1/units").await;
    let ids: Vec<&str> = units.iter().map(|unit| text(unit, "id")).collect();
    assert_eq!(ids, ["dir/a"]);
    let mut events = client.events().await;
    service.task("a", "printf b\n");
    events.until("unit.updated", "dir/a").await;
    assert_prints(&client, "dir/a", "b").await;
    assert_eq!(client.items("/api/v1/history").await.len(), 2);
    // The log lies in the source too, and what is written to it wakes nobody.
    assert!(!service.log().contains("stderr.log"), "{}", service.log());
    // Made a source of its own, it is refused.
    service.terminate().await;
    service.configure("sources:\n  - name: dir\n    local: {path: .kindling/versions}\n");
    let (code, said) = service.refused().await;
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("kindling.yaml:4:19") && said.contains("data directory"), "{said}");
}

#[tokio::test]
async fn two_sources_with_one_name_are_refused_with_both_places() {
    let service =
        Service::new("sources:\n  - name: dir\n    local: {path: a}\n  - name: dir\n    local: {path: b}\n");
    let (code, said) = service.refused().await;
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("kindling.yaml:5:11") && said.contains("line 3"), "{said}");
    assert!(!service.data_dir().exists());
}
