//! Runs on the real binary: much log at once, and what follows from what over kills.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::kill::Dice;
use crate::service::client::Client;
use crate::service::{Service, manifest, until};

const CONFIG: &str = "sources:\n  - name: s\n    local: {path: src}\n";

async fn begin(client: &Client, task: &str) -> String {
    client.post("/api/v1/runs", json!({ "task": task })).await["id"].as_str().unwrap().to_owned()
}

fn is_over(run: &Value) -> bool {
    !matches!(run["status"].as_str(), Some("queued" | "running"))
}

#[tokio::test]
async fn a_burst_of_lines_is_kept_whole_and_in_order_beside_readers_that_stall() {
    const LINES: usize = 200_000;
    let mut service = Service::new(CONFIG);
    service.task("src/burst", &format!("seq -f 'error %.0f' {LINES} >&2\n"));
    service.write("src/burst/task.yaml", format!("{}timeout: 10m\n", manifest("burst", "manual: true")));
    service.task("src/other", "echo 1\n");
    let client = service.start().await;
    let run = begin(&client, "s/burst").await;
    let path = format!("/api/v1/runs/{run}");
    let mut stalled = Vec::new();
    for _ in 0..3 {
        // Sent and never read: its connection is full after a moment.
        stalled.push(client.ask("GET", &format!("{path}/log?follow=true"), None).await.unwrap());
    }
    let follower = tokio::process::Command::from(service.command(&["logs", "-f", &run]))
        .stdout(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let other = client.run("s/other").await;
    assert_eq!(other["status"], "succeeded", "another run is not held up: {other}");
    let ended = until("it is over", async || Some(client.get(&path).await).filter(is_over)).await;
    assert_eq!(ended["status"], "succeeded", "{ended}");
    let mut after = 0;
    loop {
        let page = client.items(&format!("{path}/log?after={after}")).await;
        if page.is_empty() {
            break;
        }
        for line in page {
            after += 1;
            assert_eq!((&line["seq"], &line["stream"]), (&json!(after), &json!("stderr")));
            assert_eq!(line["text"], format!("error {after}"));
        }
    }
    assert_eq!(after, LINES);
    let heard =
        tokio::time::timeout(crate::service::BOUND, follower.wait_with_output()).await.unwrap().unwrap();
    let heard = String::from_utf8(heard.stdout).unwrap();
    assert!(heard.lines().enumerate().all(|(at, line)| line == format!("error {}", at + 1)));
    assert_eq!(heard.lines().count(), LINES, "one that reads gets all of it, live");
    drop(stalled);
}

#[tokio::test]
async fn what_is_chained_follows_once_whenever_the_service_is_killed() {
    const KILLS: usize = 8;
    let mut service = Service::new(CONFIG);
    let ledger = service.root().join("ledger");
    service.task("src/first", "echo '\"out\"'\n");
    service.write("src/second/task.sh", format!("echo $KINDLING_RUN $(cat) >> {}\n", ledger.display()));
    service.write("src/second/task.yaml", manifest("second", "chain: {from: first}"));
    let mut client = service.start().await;
    let mut dice = Dice::new(7);
    for _ in 0..KILLS {
        let pester = {
            let client = client.clone();
            tokio::spawn(async move {
                while client.call("POST", "/api/v1/runs", Some(&json!({"task": "s/first"}))).await.is_ok() {}
            })
        };
        tokio::time::sleep(std::time::Duration::from_millis(50 + dice.below(200))).await;
        service.kill();
        pester.await.unwrap();
        client = service.start().await;
    }
    client.run("s/first").await;
    until("all is over", async || {
        let (running, queued) = ("/api/v1/runs?status=running", "/api/v1/runs?status=queued");
        let none = client.items(running).await.is_empty() && client.items(queued).await.is_empty();
        none.then_some(())
    })
    .await;
    let runs = {
        let mut all = Vec::new();
        loop {
            let before = all.last().map(|run: &Value| format!("&before={}", run["id"].as_str().unwrap()));
            let page = client.items(&format!("/api/v1/runs?limit=1000{}", before.unwrap_or_default())).await;
            if page.is_empty() {
                break all;
            }
            all.extend(page);
        }
    };
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let mut followers: BTreeMap<String, u32> = BTreeMap::new();
    for run in runs.iter().filter(|run| run["task"] == "s/second") {
        assert_eq!(run["trigger"], "chain");
        *followers.entry(text(&run["triggerDetail"])).or_default() += 1;
    }
    let mut succeeded = 0;
    for run in runs.iter().filter(|run| run["task"] == "s/first") {
        let expected = u32::from(run["status"] == "succeeded");
        succeeded += expected;
        assert_eq!(followers.remove(&text(&run["id"])).unwrap_or(0), expected, "{run}");
    }
    assert!(followers.is_empty() && succeeded > 0);
    let ran = std::fs::read_to_string(&ledger).unwrap();
    let mut ids: Vec<_> = ran.lines().map(|line| line.split_once(' ').unwrap_or((line, ""))).collect();
    // One that had begun when the service was killed may have got no input any more.
    assert!(ids.iter().all(|(_, input)| matches!(*input, "\"out\"" | "")), "{ran}");
    ids.sort_unstable();
    assert!(ids.windows(2).all(|pair| pair[0] != pair[1]), "no run took place twice");
}

#[tokio::test]
async fn a_run_that_waited_when_the_service_was_killed_is_interrupted() {
    let mut service = Service::new(&format!("{CONFIG}limits: {{runs: 1}}\n"));
    service.task("src/long", "sleep 1000\n");
    let client = service.start().await;
    let (long, waits) = (begin(&client, "s/long").await, begin(&client, "s/long").await);
    assert_eq!(client.get(&format!("/api/v1/runs/{waits}")).await["status"], "queued");
    let queued = client.items("/api/v1/runs?status=queued").await;
    assert_eq!(queued.len(), 1);
    service.kill();
    let client = service.start().await;
    for (run, why) in [(long, "kindling ended while it ran"), (waits, "kindling ended before its turn came")]
    {
        let run = client.get(&format!("/api/v1/runs/{run}")).await;
        assert_eq!((&run["status"], &run["error"]), (&json!("interrupted"), &json!(why)));
    }
}

#[tokio::test]
async fn parameters_and_input_come_as_they_are_given_and_what_does_not_fit_is_named() {
    let mut service = Service::new(CONFIG);
    service.write("src/p/task.sh", "printf '%s|%s|' \"$PARAM_N\" \"$PARAM_WHO\"; cat\n");
    let params = "params: {n: {type: number, required: true}, who: you}\n";
    service.write("src/p/task.yaml", format!("{}{params}", manifest("p", "manual: true")));
    service.write("in.json", "{\"a\": [1]}");
    service.start().await;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    for (arguments, expected) in [
        (&["-p", "n=1e3"][..], "1e3|you|null\n"),
        (&["-p", "n=2", "-p", "who=a=b", "--input", "[1]"], "2|a=b|[1]\n"),
        (&["-p", "n=2", "--input-file", "in.json"], "2|you|{\"a\":[1]}\n"),
    ] {
        let ended = service.attempt(&[&["run", "p"], arguments].concat()).await;
        assert_eq!((ended.status.code(), text(&ended.stdout).as_str()), (Some(0), expected), "{arguments:?}");
    }
    for (arguments, expected) in [
        (&[][..], "parameter `n` is required"),
        (&["-p", "n=two"], "parameter `n` must be a number"),
        (&["-p", "n=2", "-p", "whom=x"], "unknown parameter `whom`; known: n, who"),
    ] {
        let ended = service.attempt(&[&["run", "p"], arguments].concat()).await;
        assert_eq!(ended.status.code(), Some(2), "{arguments:?}");
        assert!(text(&ended.stderr).contains(expected), "{}", text(&ended.stderr));
    }
    // Over standard input too.
    let mut child =
        tokio::process::Command::from(service.command(&["run", "p", "-p", "n=3", "--input-file", "-"]));
    let mut child = child
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut child.stdin.take().unwrap(), b"\"in\"").await.unwrap();
    let ended = tokio::time::timeout(crate::service::BOUND, child.wait_with_output()).await.unwrap().unwrap();
    assert_eq!(text(&ended.stdout), "3|you|\"in\"\n");
}
