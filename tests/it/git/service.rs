//! Repositories through the real binary.

use serde_json::{Value, json};

use super::*;
use crate::http_backend::Answer;
use crate::service::client::{Client, condition};
use crate::service::{Service, manifest, until};

fn task(text: &str) -> [(&'static str, String); 2] {
    [("t/task.yaml", manifest("t", "manual: true")), ("t/task.sh", format!("printf '%s' '{text}'\n"))]
}

fn publish(repo: &Repo, text: &str) -> String {
    let files = task(text);
    let files: Vec<_> = files.iter().map(|(path, text)| (*path, text.as_str())).collect();
    repo.publish(&files)
}

/// Replaces the branch's last commit by another one.
fn rewrite(repo: &Repo, text: &str) -> String {
    for (path, text) in task(text) {
        repo.write(path, &text);
    }
    repo.git(&["add", "--all"]);
    repo.git(&["commit", "--quiet", "--amend", "-m", "rewritten"]);
    repo.force_push();
    repo.git(&["rev-parse", "HEAD"])
}

async fn prints(client: &Client, text: &str) -> bool {
    client.run("t").await["output"] == text
}

async fn refused(client: &Client, path: &str, body: Value) -> String {
    let answer = client.call("POST", path, Some(&body)).await.unwrap();
    assert_eq!(answer.status, 409, "{answer:?}");
    answer.body
}

#[tokio::test]
async fn a_guarded_branch_that_was_rewritten_waits_for_a_person() {
    let repo = Repo::new();
    publish(&repo, "first");
    let old = publish(&repo, "old");
    let source =
        format!("git: {{url: '{}', branch: main, poll_interval: 1s, rewrite: guard}}", repo.bare().display());
    let mut service = Service::new(&format!("sources: [{{name: s, {source}}}]\n"));
    let client = service.start().await;
    client.reconcile().await;
    assert!(prints(&client, "old").await);
    let new = rewrite(&repo, "new");
    let seen = client.source_until("s", "is stalled", |s| !condition(s, "Stalled").is_empty()).await;
    let why = format!(
        "RewriteGuard: commit {new} does not descend from {old}, which is deployed; if it is meant: `kindling reconcile s --allow-rewrite`"
    );
    assert_eq!(condition(&seen, "Stalled"), format!("True {why}"));
    assert_eq!(condition(&seen, "Ready"), format!("False {why}"));
    assert_eq!((&seen["revision"]["seen"], &seen["revision"]["deployed"]), (&json!(new), &json!(old)));
    for (path, body) in
        [("reconcile", json!({"subject": "s", "rescan": true})), ("diff", json!({"subject": "s"}))]
    {
        let said = refused(&client, &format!("/api/v1/{path}"), body).await;
        assert!(said.contains("kindling reconcile s --allow-rewrite"), "{said}");
    }
    assert!(prints(&client, "old").await);
    // It holds over a restart, and for what comes after.
    service.kill();
    let client = service.start().await;
    client.source_until("s", "is stalled again", |s| condition(s, "Stalled").contains(&new)).await;
    let newer = publish(&repo, "newer");
    client.source_until("s", "names the newer one", |s| condition(s, "Stalled").contains(&newer)).await;
    assert!(prints(&client, "old").await);
    client.post("/api/v1/reconcile", json!({"subject": "s", "allowRewrite": true})).await;
    assert!(prints(&client, "newer").await);
    let rows = client.items("/api/v1/history?unit=s/t&limit=1").await;
    assert_eq!(rows[0]["rewritten"], true);
    // From there on it is a branch like any other.
    publish(&repo, "last");
    client.reconcile().await;
    assert!(prints(&client, "last").await);
    let rows = client.items("/api/v1/history?unit=s/t&limit=1").await;
    assert_eq!(rows[0]["rewritten"], false);
}

#[tokio::test]
async fn what_mends_a_rewritten_branch_that_a_person_agreed_to_needs_no_second_word() {
    let repo = Repo::new();
    publish(&repo, "first");
    publish(&repo, "old");
    let source =
        format!("git: {{url: '{}', branch: main, poll_interval: 1h, rewrite: guard}}", repo.bare().display());
    let mut service = Service::new(&format!("sources: [{{name: s, {source}}}]\n"));
    let client = service.start().await;
    client.reconcile().await;
    rewrite(&repo, "new");
    refused(&client, "/api/v1/reconcile", json!({})).await;
    repo.publish(&[("t/task.yaml", "kind: Nothing\n")]);
    client.post("/api/v1/reconcile", json!({"allowRewrite": true})).await;
    assert!(prints(&client, "old").await, "its newest version is broken");
    publish(&repo, "mended");
    client.reconcile().await;
    assert!(prints(&client, "mended").await);
}

#[tokio::test]
async fn a_rewritten_branch_without_a_guard_is_followed() {
    let repo = Repo::new();
    publish(&repo, "first");
    publish(&repo, "old");
    let source = format!("git: {{url: '{}', poll_interval: 1h}}", repo.bare().display());
    let mut service = Service::new(&format!("sources: [{{name: s, {source}}}]\n"));
    let client = service.start().await;
    client.reconcile().await;
    rewrite(&repo, "new");
    client.reconcile().await;
    assert!(prints(&client, "new").await);
    assert_eq!(client.items("/api/v1/history?unit=s/t&limit=1").await[0]["rewritten"], true);
}

#[tokio::test]
async fn one_hanging_remote_among_twenty_good_ones_delays_none_of_them() {
    let repo = Repo::new();
    publish(&repo, "first");
    let name = |n: usize| format!("good{n}.git");
    for n in 0..20 {
        crate::repo::run(repo.root(), &["clone", "--quiet", "--bare", "remote.git", &name(n)], b"");
    }
    let hung = Arc::new(AtomicUsize::new(0));
    let server = HttpRemote::serve_with(repo.root(), {
        let hung = Arc::clone(&hung);
        move |request| {
            if request.target.starts_with("/hangs.git") {
                hung.fetch_add(1, Ordering::SeqCst);
                return Answer::Hang;
            }
            Answer::Git
        }
    });
    let source =
        |name: &str, url: String| format!("  - name: {name}\n    git: {{url: '{url}', poll_interval: 1s}}\n");
    let mut sources = source("hangs", server.url("hangs.git"));
    for n in 0..20 {
        sources += &source(&format!("s{n}"), server.url(&name(n)));
    }
    let mut service = Service::new(&format!("sources:\n{sources}"));
    let client = service.start().await;
    let at = async |client: &Client| -> Vec<String> {
        let sources = client.items("/api/v1/sources").await;
        let deployed =
            |source: &Value| source["revision"]["deployed"].as_str().unwrap_or_default().to_owned();
        sources.iter().filter(|source| source["name"] != "hangs").map(deployed).collect()
    };
    let first = repo.git(&["rev-parse", "HEAD"]);
    until("all are deployed", async || at(&client).await.iter().all(|at| *at == first).then_some(())).await;
    until("one hangs", async || (hung.load(Ordering::SeqCst) > 0).then_some(())).await;
    let second = publish(&repo, "second");
    for n in 0..20 {
        crate::repo::run(&repo.bare(), &["push", "--quiet", &format!("../{}", name(n)), "main"], b"");
    }
    let begun = Instant::now();
    until("all are deployed again", async || at(&client).await.iter().all(|at| *at == second).then_some(()))
        .await;
    // Far below the minute after which the hanging one is given up; the host's other slot serves them all.
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    assert_eq!(hung.load(Ordering::SeqCst), 1, "it hangs all the while");
}

#[tokio::test]
async fn wrong_credentials_stall_after_three_refusals_and_are_shown_nowhere() {
    let repo = Repo::new();
    publish(&repo, "text");
    let refusals = Arc::new(AtomicUsize::new(0));
    let server = HttpRemote::serve_with(repo.root(), {
        let refusals = Arc::clone(&refusals);
        move |_| {
            refusals.fetch_add(1, Ordering::SeqCst);
            Answer::Status(403)
        }
    });
    let url = server.url("remote.git");
    let source = format!("git: {{url: '{url}', poll_interval: 1s, auth: {{token_file: secret}}}}");
    let mut service = Service::new(&format!("sources: [{{name: s, {source}}}]\n"))
        .with_arguments(&["--log-level", "trace"]);
    service.write("secret", "c4n4ryT0ken\n");
    let client = service.start().await;
    let seen = client.source_until("s", "is stalled", |s| !condition(s, "Stalled").is_empty()).await;
    let why = condition(&seen, "Stalled");
    assert!(why.starts_with("True AuthenticationFailed: ") && why.contains("HTTP status 403"), "{why}");
    assert_eq!(refusals.load(Ordering::SeqCst), 3);
    let status = client.get("/api/v1/status").await;
    service.terminate().await;
    let sent = super::login::header("c4n4ryT0ken");
    let database = std::fs::read(service.data_dir().join("kindling.db")).unwrap();
    let database = String::from_utf8_lossy(&database);
    for text in [service.log(), seen.to_string(), status.to_string(), database.into_owned()] {
        for shown in ["c4n4ryT0ken", sent.trim_start_matches("Basic ")] {
            assert!(!text.contains(shown), "the token is shown");
        }
    }
}

#[tokio::test]
async fn what_is_followed_is_shown_and_what_was_fetched_goes_with_its_last_source() {
    let repo = Repo::new();
    publish(&repo, "one");
    repo.git(&["tag", "-a", "-m", "first", "v1.0.0"]);
    repo.git(&["push", "--quiet", "origin", "v1.0.0"]);
    let url = repo.bare().display().to_string();
    let tag = format!("sources: [{{name: s, git: {{url: '{url}', semver: '^1', poll_interval: 1h}}}}]\n");
    let mut service = Service::new(&tag);
    let client = service.start().await;
    client.reconcile().await;
    assert!(prints(&client, "one").await);
    let seen = client.source_until("s", "is there", |_| true).await;
    assert_eq!((&seen["semver"], &seen["branch"], &seen["tag"]), (&json!("^1"), &json!(null), &json!(null)));
    client.post("/api/v1/sources", json!({"name": "added", "git": url, "branch": "main"})).await;
    let folders = |service: &Service| std::fs::read_dir(service.data_dir().join("git")).unwrap().count();
    assert_eq!(folders(&service), 2);
    let answer = client.call("DELETE", "/api/v1/sources/added", None).await.unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(folders(&service), 1);
    service.terminate().await;
    assert_eq!(folders(&service), 1, "an end of the service is no end of its sources");
    service.configure("sources: []\n");
    service.start().await;
    assert_eq!(folders(&service), 0);
}
