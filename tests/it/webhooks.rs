//! Push webhooks through the real binary: pushes to a real repository, signed as GitHub signs them.

use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::repo::Repo;
use crate::service::client::{Answer, Client, condition};
use crate::service::{BOUND, Service, manifest, until};

mod examples;
mod floods;
mod refusals;
mod relay;
mod restarts;
mod smee;
mod visible;

const SECRET: &str = "0123456789abcdef-new";
const OLD_SECRET: &str = "0123456789abcdef-old";

/// A service with one source whose webhook has two secrets.
struct Place {
    repo: Repo,
    service: Service,
}

impl Place {
    /// Its source is not polled in the time of a test.
    fn new(more: &str) -> Self {
        Self::polled("1h", more)
    }

    fn polled(interval: &str, more: &str) -> Self {
        Self::followed(interval, "", more)
    }

    /// The same with more keys in its `git` section.
    fn followed(interval: &str, git: &str, more: &str) -> Self {
        let repo = Repo::new();
        let webhook = format!("webhook: {{secret_file: [new, old]}}{git}");
        let git = format!(
            "git: {{url: '{}', branch: main, poll_interval: {interval}, {webhook}}}",
            repo.bare().display()
        );
        let service = Service::new(&format!("sources: [{{name: s, {git}}}]\n{more}"));
        service.write("new", SECRET);
        service.write("old", format!("{OLD_SECRET}\n"));
        Self { repo, service }
    }

    /// Commits and pushes a task that prints `text`.
    fn publish(&self, text: &str) -> String {
        let task = manifest("t", "manual: true");
        self.repo.publish(&[("t/task.yaml", &task), ("t/task.sh", &format!("printf '%s' '{text}'\n"))])
    }

    /// The payload of a push of `commit` to `branch`.
    fn push(&self, branch: &str, commit: &str) -> String {
        let url = self.repo.bare().display().to_string();
        json!({"ref": format!("refs/heads/{branch}"), "after": commit, "repository": {"clone_url": url}})
            .to_string()
    }
}

fn sign(secret: &str, body: &[u8]) -> String {
    let mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap().chain_update(body).finalize();
    let hex: String = mac.into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256={hex}")
}

/// A delivery as it goes over the wire.
#[derive(Clone)]
struct Delivery {
    path: String,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

impl Delivery {
    fn new(event: &str, id: &str, body: &str) -> Self {
        let headers = vec![
            ("X-GitHub-Event", event.to_owned()),
            ("X-GitHub-Delivery", id.to_owned()),
            ("X-Hub-Signature-256", sign(SECRET, body.as_bytes())),
            ("Content-Type", "application/json".to_owned()),
        ];
        Self { path: "/webhooks/s".into(), headers, body: body.as_bytes().to_vec() }
    }

    fn with(mut self, name: &'static str, value: &str) -> Self {
        self.headers.retain(|(known, _)| *known != name);
        self.headers.push((name, value.to_owned()));
        self
    }

    fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(known, _)| *known != name);
        self
    }

    async fn send(&self, client: &Client) -> Answer {
        let mut stream = TcpStream::connect(client.address()).await.unwrap();
        let mut text = format!("POST {} HTTP/1.0\r\nHost: hooks.example.org\r\n", self.path);
        for (name, value) in &self.headers {
            text += &format!("{name}: {value}\r\n");
        }
        text += &format!("Content-Length: {}\r\n\r\n", self.body.len());
        stream.write_all(text.as_bytes()).await.unwrap();
        // A body that is refused unread ends the connection.
        let _ = stream.write_all(&self.body).await;
        answer(stream).await
    }
}

async fn answer(mut stream: TcpStream) -> Answer {
    let mut text = Vec::new();
    let read = timeout(BOUND, stream.read_to_end(&mut text)).await.expect("an answer within the bound");
    let text = String::from_utf8_lossy(&text).into_owned();
    assert!(read.is_ok() || !text.is_empty(), "{read:?}");
    let status = text.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default();
    let body = text.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default();
    Answer { status, body }
}

/// `STATUS outcome: reason`.
fn told(answer: &Answer) -> String {
    let json = answer.json();
    let text = |key: &str| json[key].as_str().unwrap_or_default().to_owned();
    format!("{} {}: {}", answer.status, text("outcome"), text("reason"))
}

async fn until_live(client: &Client, commit: &str) -> Value {
    client.unit_until("s/t", "is live", |unit| unit["deployedRevision"] == commit).await
}

#[tokio::test]
async fn a_signed_push_is_live_at_once() {
    let mut place = Place::new("");
    place.publish("one");
    let client = place.service.start().await;
    let commit = place.publish("two");
    let body = place.push("main", &commit);
    let sent = Delivery::new("push", "d-1", &body);
    let mut events = client.events().await;
    assert_eq!(told(&sent.send(&client).await), "202 accepted: ");
    let event = events.until("unit.updated", "s/t").await;
    let unit = until_live(&client, &commit).await;
    assert_eq!(client.run("t").await["output"], "two");
    let row = client.items("/api/v1/history?unit=s/t").await.remove(0);
    assert_eq!(row["trigger"], json!({"kind": "webhook", "detail": "delivery d-1"}));
    for phase in ["propagate", "fetch", "hash", "decide", "act"] {
        assert!(row["phases"][phase].as_f64().is_some_and(|ms| ms >= 0.0), "{phase}: {row}");
    }
    assert_eq!((&event["phases"], &unit["phases"]), (&row["phases"], &row["phases"]));
    // The same again is a duplicate, under another id a repeat; neither changes anything.
    assert_eq!(told(&sent.send(&client).await), "200 duplicate: it came before");
    let again = Delivery::new("push", "d-2", &body).send(&client).await;
    assert_eq!(told(&again), "202 accepted: the same body came before");
    // The other secret holds too, and a form as well as JSON.
    let other =
        Delivery::new("push", "d-3", &body).with("X-Hub-Signature-256", &sign(OLD_SECRET, body.as_bytes()));
    assert_eq!(other.send(&client).await.status, 202);
    let form = format!("payload={}", body.replace('&', "%26").replace('+', "%2B"));
    let form = Delivery::new("push", "d-4", &form).with("Content-Type", "application/x-www-form-urlencoded");
    assert_eq!(form.send(&client).await.status, 202);
    let rows = client.items("/api/v1/deliveries?source=s").await;
    let seen: Vec<_> = rows.iter().map(|row| (&row["id"], &row["repeat"], &row["duplicates"])).collect();
    assert_eq!(
        seen,
        [
            (&json!("d-4"), &json!(false), &json!(0)),
            (&json!("d-3"), &json!(true), &json!(0)),
            (&json!("d-2"), &json!(true), &json!(0)),
            (&json!("d-1"), &json!(false), &json!(1)),
        ]
    );
    assert_eq!(rows[3]["ref"], "refs/heads/main");
    assert_eq!(rows[3]["revision"], *commit);
}

#[tokio::test]
async fn what_concerns_nothing_is_told_why() {
    let mut place = Place::new("");
    let commit = place.publish("one");
    let client = place.service.start().await;
    let main = place.push("main", &commit);
    let cases = [
        ("ping", "{\"zen\": \"x\"}".to_owned(), "200 ignored: pong"),
        ("issues", "{}".to_owned(), "200 ignored: only pushes are followed"),
        ("push", place.push("other", &commit), "200 ignored: it is of another ref"),
        ("push", place.push("main", &"0".repeat(40)), "200 ignored: the ref was deleted"),
        ("push", main.replace("remote.git", "other.git"), "200 ignored: it is of another repository"),
        ("push", "{}".to_owned(), "200 ignored: it names no repository"),
        (
            "push",
            json!({"repository": {"clone_url": 7, "ssh_url": null}}).to_string(),
            "200 ignored: it names no repository",
        ),
        ("push", main.replace("\"ref\"", "\"reff\""), "200 ignored: it names no ref"),
    ];
    for (number, (event, body, expected)) in cases.iter().enumerate() {
        let sent = Delivery::new(event, &format!("d-{number}"), body).send(&client).await;
        assert_eq!(told(&sent), *expected);
    }
    for (number, branch) in
        ["a\u{202e}b", "$(id)", "x'y\"z", "ü/🔥", "..", "a b\n", "%00", ""].iter().enumerate()
    {
        let sent =
            Delivery::new("push", &format!("odd-{number}"), &place.push(branch, &commit)).send(&client).await;
        assert_eq!(told(&sent), "200 ignored: it is of another ref");
    }
}

#[tokio::test]
async fn two_commands_try_it_and_take_one_again() {
    let mut place = Place::new("");
    place.publish("one");
    let client = place.service.start().await;
    client.source_until("s", "is read", |s| !s["revision"]["deployed"].is_null()).await;
    let output = place.service.attempt(&["webhook", "test", "s"]).await;
    assert_eq!(String::from_utf8_lossy(&output.stdout), "202 accepted\n", "{output:?}");
    let row = client.items("/api/v1/deliveries").await.remove(0);
    // A push that nobody delivers is found by taking an older delivery again.
    let commit = place.publish("two");
    let number = row["number"].to_string();
    let output = place.service.attempt(&["webhook", "redeliver", &number]).await;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    until_live(&client, &commit).await;
    let listed = place.service.attempt(&["webhook", "list", "-o", "name"]).await;
    assert_eq!(String::from_utf8_lossy(&listed.stdout).trim(), number);
    let none = place.service.attempt(&["webhook", "redeliver", "99"]).await;
    assert_eq!(none.status.code(), Some(2), "{none:?}");
}

#[tokio::test]
async fn a_commit_that_is_not_there_yet_is_waited_for() {
    let mut place = Place::new("");
    place.publish("one");
    let client = place.service.start().await;
    // Known to the work tree and to nobody else.
    place.repo.write("t/task.sh", "printf two\n");
    place.repo.git(&["commit", "--quiet", "--all", "-m", "two"]);
    let commit = place.repo.git(&["rev-parse", "HEAD"]);
    let sent = Delivery::new("push", "d-1", &place.push("main", &commit)).send(&client).await;
    assert_eq!(sent.status, 202);
    tokio::time::sleep(Duration::from_millis(700)).await;
    place.repo.git(&["push", "--quiet", "origin", "main"]);
    until_live(&client, &commit).await;
    let row = client.items("/api/v1/history?unit=s/t").await.remove(0);
    assert!(row["phases"]["propagate"].as_f64().unwrap() >= 500.0, "{row}");
}

#[tokio::test]
async fn pushes_in_any_order_end_at_the_newest() {
    let mut place = Place::new("");
    let first = place.publish("one");
    let client = place.service.start().await;
    let a = place.publish("a");
    let b = place.publish("b");
    let send = async |id: &str, commit: &str| {
        Delivery::new("push", id, &place.push("main", commit)).send(&client).await
    };
    // Two at once, the older one last, and one that is long past.
    for (id, commit) in [("b", &b), ("a", &a), ("first", &first)] {
        assert_eq!(send(id, commit).await.status, 202);
    }
    until_live(&client, &b).await;
    // A, B, A: a branch that goes back is at A again.
    place.repo.git(&["reset", "--quiet", "--hard", &a]);
    place.repo.force_push();
    assert_eq!(told(&send("a-again", &a).await), "202 accepted: the same body came before");
    until_live(&client, &a).await;
    assert_eq!(client.run("t").await["output"], "a");
}

#[tokio::test]
async fn a_delivery_that_was_answered_outlives_a_kill() {
    let mut place = Place::new("");
    place.publish("0");
    let mut client = place.service.start().await;
    let mut last = String::new();
    for round in 1..=5 {
        last = place.publish(&format!("{round}"));
        let sent = Delivery::new("push", &format!("d-{round}"), &place.push("main", &last));
        assert_eq!(sent.send(&client).await.status, 202);
        place.service.kill();
        client = place.service.start().await;
        assert_eq!(told(&sent.send(&client).await), "200 duplicate: it came before");
    }
    until_live(&client, &last).await;
    assert_eq!(client.items("/api/v1/deliveries").await.len(), 5);
}

#[tokio::test]
async fn a_source_in_dev_mode_takes_deliveries_and_applies_nothing() {
    let mut place = Place::new("");
    place.publish("one");
    let client = place.service.start().await;
    client.reconcile().await;
    let path = place.repo.work().display().to_string();
    let answer = client.call("PUT", "/api/v1/sources/s/dev", Some(&json!({ "path": path }))).await.unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    let commit = place.publish("two");
    place.repo.write("t/task.sh", "printf mine\n");
    client.unit_until("s/t", "is that of the working copy", |unit| unit["deployedRevision"].is_null()).await;
    let sent = Delivery::new("push", "d-1", &place.push("main", &commit)).send(&client).await;
    assert_eq!(sent.status, 202);
    client.source_until("s", "has seen it", |s| s["revision"]["seen"] == *commit).await;
    until("the working copy runs", async || (client.run("t").await["output"] == "mine").then_some(())).await;
}

#[tokio::test]
async fn secrets_change_with_the_configuration() {
    let mut place = Place::new("");
    let commit = place.publish("one");
    let client = place.service.start().await;
    let body = place.push("main", &commit);
    assert_eq!(Delivery::new("push", "d-1", &body).send(&client).await.status, 202);
    let text = std::fs::read_to_string(place.service.configuration()).unwrap();
    std::fs::write(place.service.configuration(), text.replace("[new, old]", "old")).unwrap();
    let mut number = 0;
    until("the old secret alone holds", async || {
        number += 1;
        (Delivery::new("push", &format!("n-{number}"), &body).send(&client).await.status == 401).then_some(())
    })
    .await;
    let old =
        Delivery::new("push", "d-2", &body).with("X-Hub-Signature-256", &sign(OLD_SECRET, body.as_bytes()));
    assert_eq!(old.send(&client).await.status, 202);
    // A secret whose file is not there yet counts as soon as it is.
    std::fs::write(place.service.configuration(), text.replace("[new, old]", "late")).unwrap();
    until("it is told", async || {
        (!client.get("/api/v1/status").await["ready"].as_bool().unwrap()).then_some(())
    })
    .await;
    let late = "0123456789abcdef-late";
    place.service.write("late", late);
    until("the late secret holds", async || {
        number += 1;
        let sent = Delivery::new("push", &format!("n-{number}"), &body);
        let sent = sent.with("X-Hub-Signature-256", &sign(late, body.as_bytes()));
        (sent.send(&client).await.status == 202).then_some(())
    })
    .await;
    let source = client.source_until("s", "is there", |_| true).await;
    assert!(condition(&source, "Ready").starts_with("True"), "{source}");
    assert!(source["webhook"]["lastDeliveryAt"].is_string() && source["webhook"]["missed"] == 0, "{source}");
}

#[tokio::test]
async fn a_secret_that_is_given_anew_holds_without_a_command() {
    let mut place = Place::new("");
    let commit = place.publish("one");
    let client = place.service.start().await;
    let body = place.push("main", &commit);
    let newest = "fedcba9876543210-newest";
    let signed =
        Delivery::new("push", "d-1", &body).with("X-Hub-Signature-256", &sign(newest, body.as_bytes()));
    assert_eq!(signed.send(&client).await.status, 401);
    // As a service manager or an editor puts it there.
    place.service.write("next", newest);
    std::fs::rename(place.service.root().join("next"), place.service.root().join("new")).unwrap();
    until("the new secret holds", async || (signed.send(&client).await.status == 202).then_some(())).await;
    let old = Delivery::new("push", "d-2", &body);
    assert_eq!(old.send(&client).await.status, 401, "the one before is no secret any more");
    // One that is half written takes nothing away.
    place.service.write("new", "short");
    until("it is told", async || place.service.log().contains("shorter than 16 bytes").then_some(())).await;
    assert_eq!(signed.send(&client).await.status, 200);
}

#[tokio::test]
async fn a_push_whose_commit_is_not_there_yet_is_waited_for_after_a_kill() {
    let mut place = Place::new("");
    place.publish("one");
    let client = place.service.start().await;
    place.repo.write("t/task.sh", "printf two\n");
    let commit = place.repo.commit("two");
    let sent = Delivery::new("push", "d-1", &place.push("main", &commit));
    assert_eq!(told(&sent.send(&client).await), "202 accepted: ");
    place.service.kill();
    let client = place.service.start().await;
    client.source_until("s", "was looked at", |source| !source["lastFetchAt"].is_null()).await;
    place.repo.push();
    until_live(&client, &commit).await;
    assert_eq!(client.run("t").await["output"], "two");
}
