//! Commit statuses through the real binary: a real repository over HTTP, and a GitHub on loopback.

pub mod github;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use self::github::{GitHub, Reply};
use crate::http_backend::HttpRemote;
use crate::repo::Repo;
use crate::service::client::Client;
use crate::service::{Service, manifest, until};

const TOKEN: &str = "github-token-of-the-test";

/// A service with one source that is not polled in the time of a test.
struct Place {
    repo: Repo,
    service: Service,
    _remote: HttpRemote,
}

impl Place {
    fn new(github: &GitHub) -> Self {
        let repo = Repo::new();
        std::fs::create_dir(repo.root().join("team")).unwrap();
        std::os::unix::fs::symlink("../remote.git", repo.root().join("team/jobs.git")).unwrap();
        let remote = HttpRemote::serve(repo.root());
        let url = remote.url("team/jobs.git");
        let service = Service::new("");
        service.write("github-token", format!("{TOKEN}\n"));
        service.write(
            "kindling.yaml",
            format!(
                "server: {{listen: '127.0.0.1:0', public_url: 'https://kindling.example.com/'}}\n\
                 sources:\n- {{name: s, git: {{url: '{url}', branch: main, poll_interval: 1h}}}}\n\
                 github: {{token_file: github-token, api_url: '{}'}}\n",
                github.url()
            ),
        );
        Self { repo, service, _remote: remote }
    }

    /// Commits and pushes a task `t` with this script and this trigger.
    fn publish(&self, script: &str, trigger: &str) -> String {
        self.repo.publish(&[("t/task.yaml", &manifest("t", trigger)), ("t/task.sh", script)])
    }

    fn publish_task(&self, number: usize) -> String {
        self.publish(&format!("echo {number}\n"), "manual: true")
    }
}

async fn until_told(github: &GitHub, commit: &str, states: &[&str]) {
    until(&format!("{commit} is told {states:?}"), async || (github.states(commit) == states).then_some(()))
        .await;
}

/// Waits until the last state that a commit was told is this one.
async fn until_last(github: &GitHub, commit: &str, state: &str) {
    until(&format!("{commit} is told {state} last"), async || {
        github.states(commit).last().filter(|last| *last == state).map(drop)
    })
    .await;
}

async fn status(client: &Client) -> Value {
    client.items("/api/v1/sources?name=s").await.remove(0)["status"].clone()
}

async fn error_until(client: &Client, words: &str) {
    client
        .source_until("s", &format!("says {words}"), |source| {
            source["status"]["error"].as_str().is_some_and(|error| error.contains(words))
        })
        .await;
}

#[tokio::test]
async fn a_commit_is_told_that_it_is_live_and_one_that_is_broken_that_it_is_not() {
    let github = GitHub::new().await;
    let mut place = Place::new(&github);
    let good = place.publish_task(1);
    let client = place.service.start().await;
    until_last(&github, &good, "success").await;
    let states = github.states(&good);
    assert!(states == ["success"] || states == ["pending", "success"], "{states:?}");
    let told = github.told(&good).pop().unwrap();
    assert_eq!(told.authorization, format!("Bearer {TOKEN}"));
    assert_eq!(told.body["context"], "kindling/s");
    assert_eq!(told.body["target_url"], "https://kindling.example.com/");
    let description = told.body["description"].as_str().unwrap();
    assert!(description.starts_with("1 unit live; "), "{description}");
    for phase in ["fetch ", "hash ", "decide ", "act "] {
        assert!(description.contains(phase) && description.ends_with(" ms"), "{description}");
    }
    let shown = client
        .source_until("s", "shows what was posted", |source| source["status"]["state"] == "success")
        .await;
    assert_eq!(shown["status"]["commit"], *good);
    assert!(shown["status"]["postedAt"].is_string() && shown["status"]["error"].is_null(), "{shown}");

    let broken = place.repo.publish(&[("u/task.yaml", "name: [\n")]);
    client.reconcile().await;
    until_last(&github, &broken, "failure").await;
    let told = github.told(&broken).pop().unwrap();
    let description = told.body["description"].as_str().unwrap();
    assert!(description.starts_with("1 of 2 units live, 1 broken (u)"), "{description}");
    // Passes that find nothing new are no news.
    client.reconcile().await;
    let mended =
        place.repo.publish(&[("u/task.yaml", &manifest("u", "manual: true")), ("u/task.sh", "true\n")]);
    client.reconcile().await;
    until_last(&github, &mended, "success").await;
    assert_eq!(github.states(&broken), ["failure"]);
    let wide = place.service.attempt(&["get", "sources", "-o", "wide"]).await;
    let wide = String::from_utf8(wide.stdout).unwrap();
    assert!(wide.contains(&format!("success@{}", &mended[..8])), "{wide}");
    let metrics = client.call("GET", "/metrics", None).await.unwrap().body;
    assert!(metrics.contains("kindling_commit_statuses_total{source=\"s\",result=\"posted\"}"), "{metrics}");
}

#[tokio::test]
async fn a_commit_that_another_one_overtakes_does_not_stay_pending() {
    let github = GitHub::new().await;
    let mut place = Place::new(&github);
    // It does not end when it is asked to, so that the next version has to wait.
    let stubborn = "trap '' TERM\nwhile :; do sleep 0.05; done\n";
    let first = place.publish(&format!("# 1\n{stubborn}"), "daemon: true");
    let client = place.service.start().await;
    until_last(&github, &first, "success").await;
    let second = place.publish(&format!("# 2\n{stubborn}"), "daemon: true");
    let asked = client.ask("POST", "/api/v1/reconcile", Some(&json!({}))).await.unwrap();
    until_told(&github, &second, &["pending"]).await;
    let third = place.publish("# 3\nwhile :; do sleep 0.05; done\n", "daemon: true");
    client.reconcile().await;
    assert_eq!(asked.answer().await.unwrap().status, 200);
    until_last(&github, &third, "success").await;
    until_told(&github, &second, &["pending", "error"]).await;
    let told = github.told(&second).pop().unwrap();
    let words = format!("superseded by {} before it was live", &third[..8]);
    assert_eq!(told.body["description"], *words);
    assert_eq!(github.states(&third), ["pending", "success"]);
}

#[tokio::test]
async fn what_is_not_taken_is_said_again() {
    let github = GitHub::new().await;
    let mut place = Place::new(&github);
    let one = place.publish_task(1);
    // A success alone is counted: whether it was called pending before is a matter of moments.
    let failures = Arc::new(AtomicUsize::new(0));
    let failing = |reply: Reply| {
        let (left, failures) = (AtomicBool::new(true), Arc::clone(&failures));
        move |seen: &github::Seen| match seen.body["state"] == "success" && left.swap(false, Ordering::SeqCst)
        {
            true => {
                failures.fetch_add(1, Ordering::SeqCst);
                reply.clone()
            }
            false => Reply::created(),
        }
    };
    github.rule(failing(Reply::refusal(500, "Server Error")));
    let client = place.service.start().await;
    let said_twice = async |commit: &str| {
        until(&format!("{commit} is said again"), async || {
            let states = github.states(commit);
            (states.iter().filter(|state| *state == "success").count() == 2).then_some(())
        })
        .await;
        client
            .source_until("s", "is posted", |source| {
                source["status"]["commit"] == commit && source["status"]["error"].is_null()
            })
            .await;
    };
    said_twice(&one).await;
    let waits = vec![("retry-after", "1".to_owned())];
    let limits = vec![("x-ratelimit-remaining", "0".to_owned()), ("x-ratelimit-reset", "1".to_owned())];
    for (number, reply) in [
        Reply::Answer(429, waits.clone(), json!({"message": "slow down"})),
        Reply::Answer(403, waits, json!({"message": "You have exceeded a secondary rate limit"})),
        Reply::Answer(403, limits, json!({"message": "API rate limit exceeded"})),
        Reply::refusal(503, "Unavailable"),
    ]
    .into_iter()
    .enumerate()
    {
        github.rule(failing(reply));
        let commit = place.publish_task(10 + number);
        client.reconcile().await;
        said_twice(&commit).await;
    }
    assert_eq!(failures.load(Ordering::SeqCst), 5);
}

#[tokio::test]
async fn what_is_refused_is_told_here_and_said_again_with_another_token() {
    let github = GitHub::new().await;
    let mut place = Place::new(&github);
    let one = place.publish_task(1);
    let client = place.service.start().await;
    until_last(&github, &one, "success").await;
    // What is refused for good is not said again, and told here with what it means.
    for (number, (code, words, meaning)) in [
        (403, "Resource not accessible by personal access token", "may not write commit statuses"),
        (422, "No commit found for SHA", "the commit is not there"),
        (404, "Not Found", "does not see it"),
        (401, "Bad credentials", "was withdrawn"),
        (307, "Moved", "has moved"),
    ]
    .into_iter()
    .enumerate()
    {
        github.rule(move |_| Reply::refusal(code, words));
        let commit = place.publish_task(20 + number);
        client.reconcile().await;
        error_until(&client, &format!("{}: it answered {code}", &commit[..8])).await;
        let told = status(&client).await;
        let error = told["error"].as_str().unwrap();
        assert!(error.contains(meaning) && error.ends_with(words), "{error}");
        assert_ne!(told["commit"], *commit);
    }
    let before = github.seen().len();
    client.reconcile().await;
    // Another token may be good for what was refused.
    github.rule(|_| Reply::created());
    place.service.write("github-token", "another-token\n");
    let text = std::fs::read_to_string(place.service.configuration()).unwrap();
    place.service.write("kindling.yaml", format!("{text}# again\n"));
    client.source_until("s", "is posted", |source| source["status"]["error"].is_null()).await;
    let after = github.seen().split_off(before);
    assert!(after.iter().all(|seen| seen.authorization == "Bearer another-token"), "{after:?}");
}

#[tokio::test]
async fn a_status_that_was_made_stands_whatever_becomes_of_the_body() {
    let github = GitHub::new().await;
    let mut place = Place::new(&github);
    let mut client = None;
    for (number, reply) in [Reply::Stall(201), Reply::Break(201)].into_iter().enumerate() {
        github.rule(move |_| reply.clone());
        let commit = place.publish_task(number);
        match &client {
            None => client = Some(place.service.start().await),
            Some(client) => drop(client.reconcile().await),
        }
        let posted = client.as_ref().unwrap().source_until("s", "is posted", |source| {
            let status = &source["status"];
            status["commit"] == *commit && status["state"] == "success" && status["error"].is_null()
        });
        posted.await;
        let states = github.states(&commit);
        assert!(states == ["success"] || states == ["pending", "success"], "{states:?}");
    }
}

#[tokio::test]
async fn nobody_waits_for_a_github_that_is_away_or_hangs() {
    let mut github = GitHub::away().await;
    let mut place = Place::new(&github);
    let first = place.publish_task(1);
    let client = place.service.start().await;
    client.unit_until("s/t", "is live", |unit| unit["deployedRevision"] == *first).await;
    error_until(&client, &first[..8]).await;
    // From now on it takes calls and answers none; who deploys does not notice.
    github.rule(|_| Reply::Hang);
    github.come().await;
    let began = Instant::now();
    until("it is asked", async || (!github.seen().is_empty()).then_some(())).await;
    let mut commits = Vec::new();
    for number in 2..12 {
        commits.push(place.publish_task(number));
        client.reconcile().await;
        let unit = client.unit("s/t").await;
        assert_eq!(unit["deployedRevision"], **commits.last().unwrap());
    }
    // A call is given up after 10 s, and then another one may come.
    let most = 2 * (1 + began.elapsed().as_secs() / 10);
    let seen = github.seen();
    assert!(seen.len() as u64 <= most, "no more than two calls at once: {seen:?}");
    // Each commit of the burst is told its newest state, once, and first by the service that comes after a kill.
    place.service.kill();
    let hung: BTreeMap<String, usize> = commits.iter().map(|c| (c.clone(), github.told(c).len())).collect();
    github.rule(|_| Reply::created());
    place.service.start().await;
    for commit in &commits {
        until_last(&github, commit, "success").await;
        let more = &github.states(commit)[hung[commit]..];
        assert_eq!(more, ["success"], "{commit}");
    }
    until_last(&github, &first, "success").await;
}

#[tokio::test]
async fn commits_that_do_not_run_are_told_nothing() {
    let github = GitHub::new().await;
    let mut place = Place::new(&github);
    let first = place.publish_task(1);
    let client = place.service.start().await;
    until_last(&github, &first, "success").await;
    let copy = place.repo.work();
    let dev = json!({"path": copy.to_str().unwrap()});
    assert_eq!(client.call("PUT", "/api/v1/sources/s/dev", Some(&dev)).await.unwrap().status, 200);
    let in_dev = place.publish_task(2);
    client.source_until("s", "has seen it", |source| source["revision"]["seen"] == *first).await;
    client.reconcile().await;
    assert!(github.told(&in_dev).is_empty(), "{:?}", github.told(&in_dev));
    assert_eq!(client.call("DELETE", "/api/v1/sources/s/dev", None).await.unwrap().status, 200);
    until_last(&github, &in_dev, "success").await;
    // It was told nothing before it ran: neither when it was seen nor when its files did.
    let states = github.states(&in_dev);
    assert!(states == ["success"] || states == ["pending", "success"], "{states:?}");
    let calls = github.seen().len();

    // A rolled back unit is not what its commit asks for.
    client.post("/api/v1/rollback", json!({"unit": "t"})).await;
    until_last(&github, &in_dev, "failure").await;
    let told = github.told(&in_dev).pop().unwrap();
    assert!(
        told.body["description"].as_str().unwrap().starts_with("0 of 1 unit live, 1 held (t)"),
        "{told:?}"
    );
    client.post("/api/v1/resume", json!({"subject": "t"})).await;
    until_last(&github, &in_dev, "success").await;

    client.post("/api/v1/suspend", json!({"subject": "s", "reason": "freeze"})).await;
    let suspended = place.publish_task(3);
    let refused = client.call("POST", "/api/v1/reconcile", Some(&json!({}))).await.unwrap();
    assert_ne!(refused.status, 500);
    assert!(github.states(&suspended).is_empty());
    assert!(github.seen().len() > calls);
}

#[tokio::test]
async fn check_says_whether_the_token_suffices() {
    let github = GitHub::new().await;
    let place = Place::new(&github);
    let findings = async |code: u16, scopes: Option<&str>, body: Value| {
        let headers: Vec<_> =
            scopes.map(|scopes| ("x-oauth-scopes", scopes.to_owned())).into_iter().collect();
        github.rule(move |_| Reply::Answer(code, headers.clone(), body.clone()));
        let output = place.service.attempt(&["check", "-o", "json"]).await;
        let listing: Value = serde_json::from_slice(&output.stdout).unwrap();
        let found =
            listing["items"].as_array().unwrap().iter().find(|found| {
                found["check"].as_str().is_some_and(|check| check.starts_with("commit status"))
            });
        let found = found.unwrap_or_else(|| panic!("{listing}")).clone();
        let text = |key: &str| found[key].as_str().unwrap_or_default().to_owned();
        format!("{} {} -> {}", text("status"), text("message"), text("hint"))
    };
    let shown = json!({"private": true, "permissions": {"push": true}});
    let cases = [
        (200, Some("repo:status"), shown.clone(), "ok the token may post to team/jobs"),
        (
            200,
            Some("gist"),
            shown.clone(),
            "fail the token may not post to team/jobs: it lacks the scope repo:status",
        ),
        (200, None, shown, "ok the token sees team/jobs; whether it has"),
        (
            200,
            None,
            json!({"permissions": {"push": false}}),
            "fail the token may not post to team/jobs: its user",
        ),
        (401, None, json!({"message": "Bad credentials"}), "-> make another token"),
        (403, None, json!({"message": "SSO"}), "it answered 403"),
        (404, None, json!({"message": "Not Found"}), "a fine-grained token needs"),
    ];
    for (code, scopes, body, expected) in cases {
        let found = findings(code, scopes, body).await;
        assert!(found.contains(expected), "{code}: {found}");
    }
    assert!(github.seen().iter().all(|seen| seen.method == "GET" && seen.path == "/repos/team/jobs"));
}

#[tokio::test]
async fn check_does_not_blame_the_token_for_a_github_in_trouble() {
    let github = GitHub::new().await;
    let place = Place::new(&github);
    let text = std::fs::read_to_string(place.service.configuration()).unwrap();
    let first = text.lines().find(|line| line.starts_with("- {name: s,")).unwrap();
    let second = first.replace("name: s,", "name: other,");
    place.service.write("kindling.yaml", text.replace(first, &format!("{first}\n{second}")));
    let findings = async |reply: Reply| {
        let before = github.seen().len();
        github.rule(move |_| reply.clone());
        let output = place.service.attempt(&["check", "-o", "json"]).await;
        let listing: Value = serde_json::from_slice(&output.stdout).unwrap();
        let text = |found: &Value, key: &str| found[key].as_str().unwrap_or_default().to_owned();
        let line = |found: &Value| {
            format!("{} {} -> {}", text(found, "status"), text(found, "message"), text(found, "hint"))
        };
        let is_one = |found: &&Value| text(found, "check").starts_with("commit status");
        let found: Vec<String> =
            listing["items"].as_array().unwrap().iter().filter(is_one).map(line).collect();
        assert_eq!(found.len(), 2, "{listing}");
        (found, github.seen().len() - before)
    };
    let limit = vec![("x-ratelimit-remaining", "0".to_owned())];
    for (reply, words) in [
        (Reply::refusal(500, "Server Error"), "it answered 500: Server Error"),
        (Reply::refusal(503, "Unavailable"), "it answered 503"),
        (Reply::refusal(429, "slow down"), "it answered 429"),
        (Reply::Answer(403, limit, json!({"message": "API rate limit exceeded"})), "it answered 403"),
    ] {
        let (found, _) = findings(reply).await;
        assert!(found.iter().all(|line| line.starts_with("warn ") && line.contains(words)), "{found:?}");
        assert!(found.iter().all(|line| line.contains("-> try again later")), "{found:?}");
    }
    let (found, _) = findings(Reply::Answer(200, Vec::new(), json!("a page"))).await;
    assert!(found[0].starts_with("fail ") && found[0].contains("github.api_url"), "{found:?}");
    // Who does not answer is asked once.
    for reply in [Reply::Break(200), Reply::Hang] {
        let (found, calls) = findings(reply).await;
        assert!(found.iter().all(|line| line.starts_with("warn ")), "{found:?}");
        assert!(found[0].contains("cannot be reached") && found[1].contains("not tried"), "{found:?}");
        assert_eq!(calls, 1);
    }
}

#[tokio::test]
async fn under_the_public_host_nothing_but_webhooks_is_served() {
    let github = GitHub::new().await;
    let mut place = Place::new(&github);
    let client = place.service.start().await;
    let token = std::fs::read_to_string(place.service.data_dir().join("token")).unwrap();
    let ask = async |host: &str, line: &str| {
        let mut stream = TcpStream::connect(client.address()).await.unwrap();
        let text =
            format!("{line} HTTP/1.0\r\nHost: {host}\r\nAuthorization: Bearer {}\r\n\r\n", token.trim());
        stream.write_all(text.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer.split(' ').nth(1).unwrap().parse::<u16>().unwrap()
    };
    let document = client.get("/openapi.json").await;
    for (path, calls) in document["paths"].as_object().unwrap() {
        for method in calls.as_object().unwrap().keys() {
            if path.starts_with("/webhooks/") || path.starts_with("/hooks/") {
                continue;
            }
            let line = format!("{} {}", method.to_uppercase(), path.replace(['{', '}'], "x"));
            for host in ["kindling.example.com", "KINDLING.example.com:443"] {
                assert_eq!(ask(host, &line).await, 401, "{line}");
            }
        }
    }
    assert_eq!(ask("kindling.example.com", "GET /nothing").await, 401);
    assert_eq!(ask("kindling.example.com", "GET /webhooks/s").await, 405, "it is served, but not so");
    assert_eq!(ask(client.address(), "GET /api/v1/status").await, 200);
    // It is followed like the rest of the file.
    let text = std::fs::read_to_string(place.service.configuration()).unwrap();
    place.service.write("kindling.yaml", text.replace("kindling.example.com", "other.example.com"));
    until("the edit is applied", async || {
        (ask("other.example.com", "GET /api/v1/status").await == 401).then_some(())
    })
    .await;
    assert_eq!(ask("kindling.example.com", "GET /api/v1/status").await, 403);
}
