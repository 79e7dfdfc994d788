//! Dev mode of the real binary: a clean clone changes nothing, a save is live at once, a kill is survived.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::repo::{self, Repo};
use crate::service::client::{Client, condition};
use crate::service::{Service, manifest, until};

/// Saves whose time is taken.
const SAVES: usize = 20;

/// A repository with two tasks below `jobs`, and rules for what is not in it.
fn repository() -> Repo {
    Repo::with(&[
        (".gitignore", "node_modules/\ndist/\n*.log\n"),
        ("README.md", "not below jobs\n"),
        ("jobs/.gitignore", "cache\n"),
        ("jobs/a/task.yaml", &manifest("a", "manual: true")),
        ("jobs/a/task.sh", "echo 1\n"),
        ("jobs/a/lib/x.txt", "x\r\n"),
        ("jobs/b/task.yaml", &manifest("b", "manual: true")),
        ("jobs/b/task.sh", "echo b\n"),
    ])
}

fn configuration(repo: &Repo, poll: &str) -> String {
    let url = repo.bare();
    format!(
        "sources:\n  - name: team\n    git: {{url: \"{}\", path: jobs, poll_interval: {poll}}}\n",
        url.display()
    )
}

/// A clone with what work leaves in one.
fn used_clone(repo: &Repo) -> PathBuf {
    let clone = repo.root().join("clone");
    repo::run(repo.root(), &["clone", "--quiet", repo.bare().to_str().unwrap(), "clone"], b"");
    for (path, text) in [
        ("node_modules/left-pad/index.js", "x"),
        ("jobs/a/node_modules/m/task.yaml", "not: a unit\n"),
        ("jobs/a/dist/out.js", "built"),
        ("jobs/a/debug.log", "noise"),
        ("jobs/cache/task.yaml", "broken: ["),
    ] {
        write(&clone.join(path), text);
    }
    clone
}

fn write(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

/// Every path below `dir` with its bytes and when it was written.
fn all_files(dir: &Path) -> BTreeMap<PathBuf, (Vec<u8>, std::time::SystemTime)> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let (entry, path) = entry.map(|entry| (entry.metadata().unwrap(), entry.path())).unwrap();
        if entry.is_dir() {
            found.append(&mut all_files(&path));
        } else {
            found.insert(path.clone(), (std::fs::read(&path).unwrap(), entry.modified().unwrap()));
        }
    }
    found
}

async fn cli(service: &Service, arguments: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = service.attempt(arguments).await;
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

async fn source(client: &Client) -> Value {
    client.items("/api/v1/sources?name=team").await.remove(0)
}

async fn started(repo: &Repo, poll: &str) -> (Service, Client) {
    let mut service = Service::new(&configuration(repo, poll));
    let client = service.start().await;
    client.source_until("team", "is deployed", |s| s["revision"]["deployed"].is_string()).await;
    (service, client)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clean_clone_of_the_deployed_commit_changes_no_hash_and_writes_no_history() {
    let repo = repository();
    let clone = used_clone(&repo);
    let (service, client) = started(&repo, "1h").await;
    let state = async || {
        let units = client.items("/api/v1/units").await;
        let hashes: Vec<Value> =
            units.iter().map(|u| json!([u["id"], u["deployedHash"], u["deployedRevision"]])).collect();
        (hashes, client.items("/api/v1/history?limit=100").await)
    };
    let (before, files) = (state().await, all_files(&clone));
    assert_eq!(before.0.len(), 2);
    let path = clone.join("jobs");
    let (code, out, err) = cli(&service, &["diff", "team", "--local", path.to_str().unwrap()]).await;
    assert_eq!((code, out.as_str()), (Some(0), ""), "{err}");
    let (code, _, err) =
        cli(&service, &["source", "dev", "team", "--local-path", path.to_str().unwrap()]).await;
    assert_eq!(code, Some(0), "{err}");
    assert_eq!(state().await, before);
    let shown = source(&client).await;
    assert_eq!(shown["devPath"], path.to_str().unwrap());
    assert_eq!(shown["revision"]["deployed"], json!(repo.git(&["rev-parse", "HEAD"])));
    assert!(condition(&shown, "DevMode").starts_with("True WorkingCopy: units come from "));
    client.post("/api/v1/reconcile", json!({"rescan": true})).await;
    assert_eq!(cli(&service, &["source", "dev", "team", "--disable"]).await.0, Some(0));
    assert_eq!(state().await, before);
    assert_eq!(source(&client).await["devPath"], Value::Null);
    assert_eq!(all_files(&clone), files, "nothing below the path was touched");
}

/// Saves and takes the time until each is live.
async fn save_often(client: &Client, script: &Path) {
    let mut events = client.events().await;
    let mut took = Vec::new();
    for number in 0..SAVES {
        let began = Instant::now();
        std::fs::write(script, format!("echo local {number}\n")).unwrap();
        events.until("unit.updated", "team/a").await;
        took.push(began.elapsed());
    }
    println!(
        "save to live in dev mode: first {:?}, slowest of {SAVES} {:?}",
        took[0],
        took.iter().max().unwrap()
    );
    // A debug build beside other tests: the first may meet a busy moment, not all of them.
    assert!(took[0] < Duration::from_secs(1), "{took:?}");
    assert!(took.iter().min().unwrap() < &Duration::from_millis(100), "{took:?}");
}

/// Whether dev mode stands everywhere where sources and units are listed, with its path and since when.
async fn is_listed(service: &Service, since: &str) {
    for (arguments, wanted) in [
        (&["get", "sources"][..], "[dev mode: "),
        (&["source", "list"], "[dev mode: "),
        (&["get", "units"], "[dev mode: "),
        (&["status"], "DEV MODE"),
        (&["source", "dev", "team"], "dev mode: "),
    ] {
        let (code, out, err) = cli(service, arguments).await;
        assert_eq!(code, Some(0), "{arguments:?}: {err}");
        let line = out.lines().find(|line| line.contains("/work/jobs")).unwrap_or_else(|| panic!("{out}"));
        assert!(out.contains(wanted) && line.contains(since), "{arguments:?}: {out}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_save_is_live_at_once_and_a_kill_is_survived() {
    let repo = repository();
    let clone = used_clone(&repo);
    let (mut service, client) = started(&repo, "1s").await;
    let git = client.unit("team/a").await["deployedHash"].clone();
    // Typed relative to where the person is.
    std::os::unix::fs::symlink(&clone, service.root().join("work")).unwrap();
    let (code, _, err) = cli(&service, &["source", "dev", "team", "--local-path", "work/jobs"]).await;
    assert_eq!(code, Some(0), "{err}");
    let script = clone.join("jobs/a/task.sh");
    save_often(&client, &script).await;
    let unit = client.unit("team/a").await;
    assert_ne!(unit["deployedHash"], git);
    assert_eq!((&unit["deployedRevision"], unit["devPath"].is_string()), (&Value::Null, true));
    let row = client.items("/api/v1/history?unit=team/a&limit=1").await.remove(0);
    assert_eq!((row["trigger"]["kind"].as_str(), row["revision"].clone()), (Some("file"), Value::Null));
    assert!(row["devPath"].as_str().unwrap().ends_with("/work/jobs"), "{row}");
    let shown = source(&client).await;
    assert_eq!(shown["revision"]["deployed"], Value::Null);

    // A push is seen and not applied.
    let pushed = repo.publish(&[("jobs/a/task.sh", "echo pushed\n")]);
    let seen = client.source_until("team", "sees it", |s| s["revision"]["seen"] == json!(pushed)).await;
    assert_ne!(seen["revision"]["attempted"], json!(pushed));
    assert_eq!(client.unit("team/a").await["deployedHash"], unit["deployedHash"]);

    let since = shown["devSince"].clone();
    service.kill();
    std::fs::write(&script, "echo while it was down\n").unwrap();
    let client = service.start().await;
    let after =
        client.unit_until("team/a", "is followed", |u| u["deployedHash"] != unit["deployedHash"]).await;
    assert_eq!(after["deployedRevision"], Value::Null);
    let shown = source(&client).await;
    assert_eq!(shown["devSince"], since);
    let run = client.run("team/a").await;
    assert_eq!(
        (run["status"].as_str(), run["output"].as_str()),
        (Some("succeeded"), Some("while it was down"))
    );

    is_listed(&service, since.as_str().unwrap()).await;
    let (code, _, err) = cli(&service, &["source", "dev", "team", "--disable"]).await;
    assert_eq!(code, Some(0), "{err}");
    let back = client.unit("team/a").await;
    assert_eq!(back["deployedRevision"], json!(pushed));
    assert_eq!(source(&client).await["revision"]["deployed"], json!(pushed));
    assert_eq!(client.run("team/a").await["output"], "pushed");
    let row = client.items("/api/v1/history?unit=team/a&limit=1").await.remove(0);
    assert_eq!((row["trigger"]["kind"].as_str(), &row["devPath"]), (Some("dev"), &Value::Null));
    // What is saved there now is nobody's business.
    std::fs::write(&script, "echo ignored\n").unwrap();
    client.reconcile().await;
    assert_eq!(client.unit("team/a").await["deployedHash"], back["deployedHash"]);
    let (_, out, _) = cli(&service, &["source", "dev", "team"]).await;
    assert_eq!(out, "dev mode is off\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_is_refused_and_changes_nothing() {
    let repo = repository();
    let (service, client) = started(&repo, "1h").await;
    service.task("tasks/t", "echo\n");
    let tasks = service.root().join("tasks");
    client.post("/api/v1/sources", json!({"name": "dir", "local": tasks})).await;
    let before = client.items("/api/v1/sources").await;
    let data_dir = service.data_dir();
    for (arguments, wanted) in [
        (&["team", "--local-path", "not/there"][..], "there is no directory"),
        (&["team", "--local-path", "kindling.yaml"], "there is no directory"),
        (&["team", "--local-path", data_dir.to_str().unwrap()], "is the data directory"),
        (&["team", "--local-path", "tasks", "--for", "0s"], "longer than 0"),
        (&["team", "--local-path", "tasks", "--disable"], "cannot be used with"),
        (&["team", "--for", "1h"], "--local-path"),
        (&["dir", "--local-path", "tasks"], "is a directory already"),
        (&["nobody", "--local-path", "tasks"], "there is no source nobody"),
    ] {
        let (code, _, err) = cli(&service, &[&["source", "dev"], arguments].concat()).await;
        assert_eq!(code, Some(2), "{arguments:?}: {err}");
        assert!(err.contains(wanted), "{arguments:?}: {err}");
    }
    for body in
        [json!({"path": "tasks"}), json!({"path": "/not/there"}), json!({"path": tasks, "for": "soon"})]
    {
        let answer = client.call("PUT", "/api/v1/sources/team/dev", Some(&body)).await.unwrap();
        assert_eq!(answer.status, 422, "{body}: {answer:?}");
    }
    let body = json!({"subject": "team", "local": "/not/there"});
    assert_eq!(client.call("POST", "/api/v1/diff", Some(&body)).await.unwrap().status, 422);
    assert_eq!(client.items("/api/v1/sources").await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn problems_are_listed_and_it_ends_by_itself_or_with_its_source() {
    let repo = repository();
    let clone = used_clone(&repo);
    write(&clone.join("jobs/b/task.yaml"), "kind: Task\nname: b\n");
    let mut service = Service::new("");
    let client = service.start().await;
    let new = json!({"name": "team", "git": repo.bare(), "path": "jobs"});
    client.post("/api/v1/sources", new).await;
    let git = client.unit("team/a").await["deployedHash"].clone();
    let path = clone.join("jobs");
    let (code, out, err) = cli(&service, &["diff", "team", "--local", path.to_str().unwrap()]).await;
    assert_eq!(code, Some(1), "{err}");
    assert!(out.contains("team/b: b/task.yaml:"), "{out}");
    let dev = ["source", "dev", "team", "--for", "1s", "--local-path", path.to_str().unwrap()];
    std::fs::write(clone.join("jobs/a/task.sh"), "echo local\n").unwrap();
    let (code, out, err) = cli(&service, &dev).await;
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains("team/b: b/task.yaml:") && out.contains("team/a"), "{out}");
    assert!(source(&client).await["devUntil"].is_string());
    client.source_until("team", "is out of dev mode", |s| s["devPath"].is_null()).await;
    client.unit_until("team/a", "is git's again", |u| u["deployedHash"] == git).await;
    client.unit_until("team/b", "is well", |u| condition(u, "Ready").starts_with("True")).await;

    assert_eq!(
        cli(&service, &["source", "dev", "team", "--local-path", path.to_str().unwrap()]).await.0,
        Some(0)
    );
    assert_eq!(cli(&service, &["source", "remove", "team"]).await.0, Some(0));
    assert!(client.items("/api/v1/units").await.is_empty());
    assert_eq!(cli(&service, &["source", "dev", "team", "--disable"]).await.0, Some(2));
    until("it lives", async || client.call("GET", "/readyz", None).await.ok()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_diff_with_a_directory_needs_no_service_and_writes_nothing() {
    let repo = repository();
    let clone = used_clone(&repo);
    let mut service = Service::new(&configuration(&repo, "1h"));
    let path = clone.join("jobs");
    let diff = ["diff", "team", "-o", "json", "--local", path.to_str().unwrap()];
    let steps = |out: &str| -> Vec<(String, String)> {
        let report: Value = serde_json::from_str(out).unwrap();
        let text = |step: &Value, key: &str| step[key].as_str().unwrap().to_owned();
        report["steps"].as_array().unwrap().iter().map(|s| (text(s, "unit"), text(s, "action"))).collect()
    };
    // Nothing was ever deployed.
    let (code, out, err) = cli(&service, &diff).await;
    assert_eq!(code, Some(1), "{err}");
    assert_eq!(steps(&out), [("team/a".into(), "sync".into()), ("team/b".into(), "sync".into())]);
    assert!(!service.data_dir().exists());

    let client = service.start().await;
    client.source_until("team", "is deployed", |s| s["revision"]["deployed"].is_string()).await;
    // Killed: the store's newest pages are in its log.
    service.kill();
    let before = all_files(&service.data_dir());
    let (code, out, err) = cli(&service, &diff).await;
    assert_eq!((code, steps(&out)), (Some(0), Vec::new()), "{err}");
    std::fs::remove_dir_all(path.join("b")).unwrap();
    write(&path.join("a/task.sh"), "echo 2\n");
    write(&path.join("c/task.yaml"), "kind: Task\nname: c\n");
    let (code, out, err) = cli(&service, &diff).await;
    assert_eq!(code, Some(1), "{err}");
    assert_eq!(steps(&out), [("team/a".into(), "sync".into()), ("team/b".into(), "remove".into())]);
    assert!(out.contains("team/c") && out.contains("task.sh"), "{out}");
    assert_eq!(all_files(&service.data_dir()), before);
    for (arguments, wanted) in [
        (["diff", "nobody", "--local", path.to_str().unwrap()], "there is no source nobody"),
        (["diff", "team", "--local", "not/there"], "there is no directory"),
    ] {
        let (code, _, err) = cli(&service, &arguments).await;
        assert!(code == Some(2) && err.contains(wanted), "{arguments:?}: {err}");
    }
    assert_eq!(cli(&service, &["diff", "team"]).await.0, Some(3));
    // The service says the same, and what the copy was read for is still its own.
    let client = service.start().await;
    client.reconcile().await;
    let (code, answered, err) = cli(&service, &diff).await;
    assert_eq!(code, Some(1), "{err}");
    assert_eq!(steps(&answered), steps(&out));
}

#[tokio::test(flavor = "multi_thread")]
async fn it_ends_at_the_last_decided_commit_where_the_branch_cannot_be_taken() {
    let repo = repository();
    let clone = used_clone(&repo);
    let guarded = configuration(&repo, "1h").replace("path: jobs", "path: jobs, rewrite: guard");
    let mut service = Service::new(&guarded);
    let client = service.start().await;
    client.source_until("team", "is deployed", |s| s["revision"]["deployed"].is_string()).await;
    let decided = client.unit("team/a").await["deployedHash"].clone();
    write(&clone.join("jobs/a/task.sh"), "echo local\n");
    let path = clone.join("jobs").display().to_string();
    let on = ["source", "dev", "team", "--local-path", &path];
    let off = ["source", "dev", "team", "--disable"];
    assert_eq!(cli(&service, &on).await.0, Some(0));
    repo.write("jobs/a/task.sh", "echo evil\n");
    repo.git(&["commit", "--quiet", "--all", "--amend", "-m", "rewritten"]);
    repo.force_push();
    let (code, out, err) = cli(&service, &off).await;
    assert_eq!(code, Some(0), "{err}");
    assert!(
        out.contains("team/a") && out.contains("RewriteGuard") && !out.contains("no unit differs"),
        "{out}"
    );
    assert_eq!(client.unit("team/a").await["deployedHash"], decided);

    // Over a restart, with the repository gone; then without what was kept of it, too.
    assert_eq!(cli(&service, &on).await.0, Some(0));
    std::fs::rename(repo.bare(), repo.root().join("away.git")).unwrap();
    service.kill();
    let client = service.start().await;
    let (code, _, err) = cli(&service, &off).await;
    assert_eq!(code, Some(3), "{err}");
    assert!(err.contains("again") && !err.contains("stay as they are"), "{err}");
    assert_eq!(client.unit("team/a").await["deployedHash"], decided);
    assert_eq!(cli(&service, &on).await.0, Some(0));
    service.kill();
    std::fs::remove_dir_all(service.data_dir().join("git")).unwrap();
    let client = service.start().await;
    let left = format!("what runs still comes from the working copy at {path}, although dev mode is off");
    let (code, out, err) = cli(&service, &off).await;
    assert_eq!((code, out.as_str()), (Some(3), ""), "{err}");
    assert!(err.contains(&left), "{err}");
    let unit = client.unit("team/a").await;
    assert!(unit["deployedHash"] != decided && condition(&unit, "Ready").ends_with(&left), "{unit}");
    let (code, out, _) = cli(&service, &["status"]).await;
    assert!(code == Some(1) && out.contains(&left), "{out}");
}
