//! Canaries: secrets that are given to the service by variable and by file, searched for in all that it says and
//! keeps. What a task itself prints is its own affair; these print nothing of theirs.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::api::calls;
use crate::http_backend::{Answer, HttpRemote};
use crate::repo::Repo;
use crate::service::client::{Client, condition};
use crate::service::{Service, manifest, until};
use crate::statuses::github::{GitHub, Reply};

/// The API's token, in a variable.
const API: &str = "canary-api-0f1e2d3c4b5a";
/// A token for a repository, in a variable.
const GIT_VARIABLE: &str = "canary-git-variable-77aa88bb";
/// A token for another one, in a file.
const GIT_FILE: &str = "canary-git-file-cc99dd00";
/// A value that a task asks for and may have.
const RUN: &str = "canary-run-123abc456def";
/// A value of the environment that no task may have.
const OTHER: &str = "canary-other-9876fedcba";

/// The secret of a webhook, in a file.
const WEBHOOK: &str = "canary-webhook-5e6f7a8b9c";

/// The token that commits are told with, in a file.
const GITHUB: &str = "canary-github-6c7d8e9fa0";

const ALL: [&str; 7] = [API, GIT_VARIABLE, GIT_FILE, RUN, OTHER, WEBHOOK, GITHUB];

/// How a secret may look: as it is, and as a header or a URL would have it.
fn looks(secret: &str) -> Vec<String> {
    let login = base64(&format!("x-access-token:{secret}"));
    vec![secret.to_owned(), base64(secret), login]
}

fn base64(text: &str) -> String {
    use std::io::Write as _;
    let mut child = Command::new("base64")
        .arg("-w0")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("base64 of the system");
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap().trim_end_matches('=').to_owned()
}

fn assert_clean(place: &str, bytes: &[u8]) {
    for secret in ALL {
        for look in looks(secret) {
            let found = bytes.windows(look.len()).any(|window| window == look.as_bytes());
            assert!(!found, "{place} holds {secret}");
        }
    }
}

fn files(dir: &Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.symlink_metadata().unwrap().is_dir() { files(&path, found) } else { found.push(path) }
    }
}

fn asks(name: &str, trigger: &str, runtime: &str) -> String {
    manifest(name, trigger).replace("shell", runtime) + "permissions: {env: [APP_SECRET]}\n"
}

/// A service whose sources succeed and fail in every way that a secret takes part in.
async fn start(good: &HttpRemote, bad: &HttpRemote, github: &GitHub) -> (Service, Client) {
    let variables = [
        format!("THE_TOKEN={API}"),
        format!("GIT_TOKEN={GIT_VARIABLE}"),
        format!("APP_SECRET={RUN}"),
        format!("OTHER_SECRET={OTHER}"),
    ];
    let mut wrapper = vec!["env"];
    wrapper.extend(variables.iter().map(String::as_str));
    let mut service = Service::new("").with_arguments(&["--log-level", "trace"]).through(&wrapper);
    let (good, bad, api) = (good.url("team/jobs.git"), bad.url("remote.git"), github.url());
    service.write(
        "kindling.yaml",
        format!(
            "server: {{listen: \"127.0.0.1:0\", token_env: THE_TOKEN}}\nsources:\n  - name: local\n    \
             local: {{path: tasks}}\n    allow: {{env: [APP_SECRET]}}\n  - name: good\n    git: {{url: \"{good}\", \
             poll_interval: 1s, auth: {{token_env: GIT_TOKEN}}, webhook: {{secret_file: hook}}}}\n  - name: bad\n    git: {{url: \"{bad}\", \
             poll_interval: 1s, auth: {{token_file: git-token}}}}\ngithub: {{token_file: github-token, api_url: '{api}'}}\n"
        ),
    );
    service.write("git-token", format!("{GIT_FILE}\n"));
    service.write("github-token", GITHUB);
    service.write("hook", WEBHOOK);
    service.write("tasks/well/task.yaml", asks("well", "manual: true", "shell"));
    service.write("tasks/well/task.sh", "test -n \"$APP_SECRET\" && echo has it\n");
    service.write("tasks/fails/task.yaml", asks("fails", "manual: true", "shell"));
    service.write("tasks/fails/task.sh", "test -n \"$APP_SECRET\"; exit 3\n");
    service.write("tasks/beat/task.yaml", asks("beat", "daemon: true", "shell"));
    service.write("tasks/beat/task.sh", "exit 1\n");
    service.write(
        "tasks/greedy/task.yaml",
        asks("greedy", "manual: true", "shell").replace("APP_SECRET", "OTHER_SECRET, THE_TOKEN, GIT_TOKEN"),
    );
    service.write("tasks/greedy/task.sh", "env\n");
    service.write("tasks/plain/task.yaml", manifest("plain", "manual: true"));
    service.write("tasks/plain/task.sh", "env; cat /proc/$PPID/environ 2>/dev/null | head -c 0\n");
    service.write("tasks/broken/task.yaml", "name: [\n");
    service.spawn();
    let address = until("it listens", async || {
        fs::read_to_string(service.data_dir().join("address")).ok().filter(|text| text.ends_with('\n'))
    })
    .await;
    let client = Client::new(address.trim(), API);
    until("it is ready", async || {
        client.call("GET", "/readyz", None).await.is_ok_and(|answer| answer.status == 200).then_some(())
    })
    .await;
    (service, client)
}

/// Asks for everything that can be asked for, and looks at each answer.
async fn ask_all(client: &Client, address: &str) {
    let document = client.get("/openapi.json").await;
    let wrong = Client::new(address, &API.to_uppercase());
    let bodies = [json!({}), json!({ "subject": "local" }), json!({ "unit": "well" }), json!({ "x": 1 })];
    for (method, path, _) in calls(&document) {
        if path == "/api/v1/events" || (method == "DELETE" && !path.ends_with("dev")) {
            continue;
        }
        for body in bodies.iter().filter(|_| method != "GET").map(Some).chain([None]) {
            for caller in [client, &wrong] {
                let answer = caller.call(&method, &path, body).await.unwrap();
                assert_clean(&format!("{method} {path}"), answer.body.as_bytes());
            }
        }
    }
    for query in
        ["why?unit=well", "why?unit=greedy", "history?limit=1000", "runs?limit=1000", "units", "sources"]
    {
        let answer = client.call("GET", &format!("/api/v1/{query}"), None).await.unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_clean(query, answer.body.as_bytes());
    }
}

async fn run_commands(service: &Service) {
    let lines: [&[&str]; 19] = [
        &["status"],
        &["status", "-o", "json"],
        &["get", "units", "-o", "wide"],
        &["get", "sources", "-o", "yaml"],
        &["get", "sources", "-o", "wide"],
        &["get", "runs", "-o", "wide"],
        &["why", "greedy"],
        &["why", "beat"],
        &["history", "-o", "json"],
        &["events", "--since", "1h", "-o", "json"],
        &["logs", "fails"],
        &["run", "well"],
        &["run", "fails", "-o", "json"],
        &["run", "plain", "-p", "nothing=1"],
        &["reconcile", "bad"],
        &["check"],
        &["webhook", "test", "good"],
        &["get", "deliveries", "-o", "json"],
        &["source", "remove", "good"],
    ];
    for line in lines {
        for token in [API, GIT_FILE] {
            let mut command = tokio::process::Command::from(service.command(line));
            let ended = command.env("KINDLING_TOKEN", token).output().await.unwrap();
            assert_clean(&format!("{line:?} on stdout"), &ended.stdout);
            assert_clean(&format!("{line:?} on stderr"), &ended.stderr);
        }
    }
}

#[tokio::test]
async fn no_secret_is_said_or_kept_anywhere() {
    let repo = Repo::with(&[("t/task.yaml", &manifest("t", "manual: true")), ("t/task.sh", "echo t\n")]);
    let good = HttpRemote::serve_with(repo.root(), move |request| {
        let shown = request.header("authorization").unwrap_or_default().to_owned();
        let wanted = base64(&format!("x-access-token:{GIT_VARIABLE}"));
        if shown.contains(&wanted) { Answer::Git } else { Answer::Status(401) }
    });
    let bad = HttpRemote::serve_with(repo.root(), |_| Answer::Status(403));
    std::fs::create_dir(repo.root().join("team")).unwrap();
    std::os::unix::fs::symlink("../remote.git", repo.root().join("team/jobs.git")).unwrap();
    // It says the token back, as a proxy might.
    let github = GitHub::new().await;
    github.rule(|seen| Reply::refusal(403, &format!("no: {}", seen.authorization)));
    let (mut service, client) = start(&good, &bad, &github).await;
    let address = fs::read_to_string(service.data_dir().join("address")).unwrap();
    client.unit_until("good/t", "is live", |unit| unit["deployedHash"].is_string()).await;
    let untold =
        |source: &Value| source["status"]["error"].as_str().is_some_and(|error| error.contains("403"));
    client.source_until("good", "could not be told of", untold).await;
    assert!(github.seen().iter().all(|seen| seen.authorization.ends_with(GITHUB)), "it gets the token");
    client.source_until("bad", "is stalled", |source| !condition(source, "Stalled").is_empty()).await;
    assert_eq!(client.run("well").await["output"], json!("has it"), "the value reaches who may have it");
    assert_eq!(client.run("fails").await["exitCode"], json!(3));
    assert!(condition(&client.unit("local/greedy").await, "Ready").contains("NotAllowed"));
    let plain = client.run("plain").await["output"].to_string();
    assert_clean("the environment of a task that asks for nothing", plain.as_bytes());
    run_commands(&service).await;
    ask_all(&client, address.trim()).await;
    // An edit that is wrong is told too.
    let text = fs::read_to_string(service.configuration()).unwrap();
    service.write("kindling.yaml", text.replace("poll_interval: 1s", "poll: 1s"));
    until("the edit is refused", async || {
        let status: Value = client.get("/api/v1/status").await;
        status["unready"].to_string().contains("InvalidConfiguration").then_some(())
    })
    .await;
    service.write("kindling.yaml", text);
    let metrics = client.call("GET", "/metrics", None).await.unwrap();
    assert_clean("/metrics", metrics.body.as_bytes());
    service.kill();

    service.spawn();
    until("it listens again", async || service.log().matches("serving on").nth(1).map(drop)).await;
    assert_eq!(service.terminate().await.code(), Some(0));
    let mut all = Vec::new();
    files(&service.data_dir(), &mut all);
    files(&service.root().join("home"), &mut all);
    assert!(all.iter().any(|path| path.ends_with("kindling.db")) && all.len() > 10, "{all:?}");
    for path in all {
        assert_clean(&path.display().to_string(), &fs::read(&path).unwrap());
    }
}
