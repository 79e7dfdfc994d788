//! Calls while the task is saved: none is lost, and each is answered by one version alone.
//!
//! `KINDLING_HOOK_CALLS` is the number of calls; `just hook-test` makes 10,000. There are more where saves take longer.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::repo::Repo;

/// Calls where `KINDLING_HOOK_CALLS` names no number.
const CALLS: usize = 1_000;
/// Saves among them.
const SAVES: usize = 100;
/// Connections that stay open.
const CONNECTIONS: usize = 4;

/// Commits and pushes a task that prints what two of its files hold: the number of the save, both.
fn publish(repo: &Repo, number: usize) {
    let text = format!("{number}\n");
    let script = "read -r one < one; read -r two < two; echo \"$one $two\"\n";
    let manifest = manifest("t", "webhook: /hooks/t");
    repo.publish(&[("t/task.yaml", &manifest), ("t/task.sh", script), ("t/one", &text), ("t/two", &text)]);
}

/// What is done so far.
#[derive(Default)]
struct Done {
    calls: AtomicUsize,
    saves: AtomicUsize,
}

/// Calls until all calls and saves are made; gives back how often each version was seen to print what.
async fn ask(client: Client, calls: usize, done: Arc<Done>) -> BTreeMap<(String, usize), usize> {
    let mut connection = Connection::open(&client).await;
    let (mut seen, mut newest) = (BTreeMap::new(), 0);
    while done.calls.load(Ordering::Relaxed) < calls || done.saves.load(Ordering::Relaxed) < SAVES {
        done.calls.fetch_add(1, Ordering::Relaxed);
        let reply =
            connection.call("POST", "/hooks/t", &[("Content-Type", "application/json")], b"[1]").await;
        assert_eq!(reply.status, 200, "{reply:?}");
        let (one, two) = reply.text().split_once(' ').unwrap_or_default();
        assert_eq!(one, two, "from two versions: {reply:?}");
        let number: usize = one.parse().unwrap();
        assert!(number >= newest, "{number} after {newest}");
        newest = number;
        *seen.entry((reply.header("kindling-hash").to_owned(), number)).or_default() += 1;
    }
    seen
}

/// Calls while `save` makes one save after the other.
async fn beside(client: &Client, mut save: impl AsyncFnMut(usize)) {
    let calls = std::env::var("KINDLING_HOOK_CALLS").map_or(CALLS, |number| number.parse().unwrap());
    let (done, began) = (Arc::new(Done::default()), std::time::Instant::now());
    let asking: Vec<_> =
        (0..CONNECTIONS).map(|_| tokio::spawn(ask(client.clone(), calls, Arc::clone(&done)))).collect();
    for number in 1..=SAVES {
        // Spread over all calls.
        let due = number * calls / (SAVES + 1);
        until("it is time to save", async || {
            let is_over = asking.iter().any(tokio::task::JoinHandle::is_finished);
            (done.calls.load(Ordering::Relaxed) >= due || is_over).then_some(())
        })
        .await;
        save(number).await;
        done.saves.store(number, Ordering::Relaxed);
    }
    let mut seen: BTreeMap<(String, usize), usize> = BTreeMap::new();
    for asking in asking {
        for (version, count) in asking.await.unwrap() {
            *seen.entry(version).or_default() += count;
        }
    }
    let (took, made) = (began.elapsed(), seen.values().sum::<usize>());
    let versions: BTreeSet<&str> = seen.keys().map(|(hash, _)| hash.as_str()).collect();
    println!("{made} calls beside {SAVES} saves took {took:?}; {} versions answered", versions.len());
    assert!(made >= calls);
    assert_eq!(versions.len(), seen.len(), "one version printed two things");
    assert!(versions.len() > SAVES / 2, "{} versions", versions.len());
    assert_eq!(get(client, "/hooks/t").await.text(), format!("{SAVES} {SAVES}"));
    let runs = client.items("/api/v1/runs?limit=1000").await;
    assert!(runs.iter().all(|run| run["status"] == "succeeded" && run["trigger"] == "webhook"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_beside_pushes_are_all_answered_and_each_by_one_version() {
    let repo = Repo::new();
    publish(&repo, 0);
    let git = format!("git: {{url: '{}', branch: main, poll_interval: 1h}}", repo.bare().display());
    let mut service = Service::new(&format!("sources: [{{name: s, {git}}}]\n"));
    let client = service.start().await;
    until_served(&client, "s/t", "/hooks/t").await;
    beside(&client, async |number| {
        let repo = &repo;
        tokio::task::block_in_place(|| publish(repo, number));
        client.reconcile().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_beside_saves_are_all_answered_and_each_by_one_version() {
    let mut service = service();
    shell(&service, "t", "webhook: /hooks/t", "echo 0 0\n");
    let client = service.start().await;
    until_served(&client, "s/t", "/hooks/t").await;
    let (next, script) = (service.root().join("home/next.sh"), service.root().join("tasks/t/task.sh"));
    beside(&client, async |number| {
        // As editors save: a new file in the place of the old one.
        std::fs::write(&next, format!("echo {number} {number}\n")).unwrap();
        std::fs::rename(&next, &script).unwrap();
        client.post("/api/v1/wait", json!({})).await;
    })
    .await;
}
