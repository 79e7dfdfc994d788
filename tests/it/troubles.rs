//! Staged failures, seen with `status`, `why` and `check` alone: each must name the cause and the next step.
//!
//! `cargo test --test it troubles -- --nocapture` prints what docs/troubleshooting.md shows.

use std::net::TcpListener;

use crate::faults::disk::SmallDisk;
use crate::http_backend::{Answer, HttpRemote};
use crate::repo::Repo;
use crate::service::client::condition;
use crate::service::{Service, manifest};

/// The page that shows what these commands print.
const PAGE: &str = include_str!("../../docs/troubleshooting.md");
const LOCAL: &str = "sources: [{name: local, local: {path: tasks}}]\n";

/// What the three commands say together.
async fn said(service: &Service, title: &str, about: Option<&str>) -> String {
    let mut all = String::new();
    let commands: [Option<Vec<&str>>; 3] =
        [Some(vec!["status"]), about.map(|unit| vec!["why", unit]), Some(vec!["check"])];
    for arguments in commands.into_iter().flatten() {
        let ended = service.attempt(&arguments).await;
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        all += &format!("$ kindling {}\n{}{}", arguments.join(" "), text(ended.stdout), text(ended.stderr));
        all += &format!("[exit {}]\n\n", ended.status.code().unwrap());
    }
    let root = service.root().canonicalize().unwrap();
    let all = all.replace(root.to_str().unwrap(), "/srv/try");
    println!("=== {title}\n{all}");
    assert!(PAGE.contains(&format!("\n## {title}\n")), "docs/troubleshooting.md has no {title}");
    all
}

#[track_caller]
fn assert_told(said: &str, words: &[&str]) {
    for word in words {
        assert!(said.contains(word), "{word:?} is not in\n{said}");
        assert!(PAGE.contains(word), "{word:?} is not in docs/troubleshooting.md");
    }
}

/// A service with this task, in the state that it comes to.
async fn with_task(name: &str, manifest: &str, script: &str) -> Service {
    let mut service = Service::new(LOCAL);
    service.write(&format!("tasks/{name}/task.yaml"), manifest);
    service.write(&format!("tasks/{name}/task.sh"), script);
    service.start().await;
    service
}

#[tokio::test]
async fn a_wrong_token_for_a_repository() {
    let repo = Repo::with(&[("t/task.yaml", &manifest("t", "manual: true")), ("t/task.sh", "echo t\n")]);
    let server = HttpRemote::serve_with(repo.root(), |_| Answer::Status(403));
    let url = server.url("remote.git");
    let auth = "auth: {token_file: git-token}";
    let mut service = Service::new(&format!(
        "sources: [{{name: team, git: {{url: \"{url}\", poll_interval: 1s, {auth}}}}}]\n"
    ));
    service.write("git-token", "0123456789\n");
    let client = service.start().await;
    client.source_until("team", "is stalled", |source| !condition(source, "Stalled").is_empty()).await;
    let said = said(&service, "A wrong token for a repository", None).await;
    assert_told(
        &said,
        &[
            "AuthenticationFailed: ",
            "HTTP status 403",
            "-> put the right one where `auth` of team in kindling.yaml points, then `kindling reconcile team`",
            "others may read its token",
            "chmod 600 /srv/try/git-token",
        ],
    );
}

#[tokio::test]
async fn an_interpreter_that_is_missing() {
    let text = manifest("digest", "manual: true").replace("runtime: shell", "command: [rscript, digest.R]");
    let service = with_task("digest", &text, "").await;
    let said = said(&service, "A missing interpreter", Some("digest")).await;
    assert_told(
        &said,
        &[
            "MissingInterpreter: ",
            "rscript",
            "-> install it; a runtime's program can be named as `runtimes` in kindling.yaml",
            "fail  interpreter",
            "-> install rscript",
        ],
    );
}

#[tokio::test]
async fn a_manifest_with_a_mistake() {
    let service = with_task("digest", &manifest("digest", "manual: true"), "echo 1\n").await;
    service.write("tasks/digest/task.yaml", manifest("digest", "manual: true").replace("name", "nmae"));
    service.client().reconcile().await;
    let said = said(&service, "A broken manifest", Some("digest")).await;
    assert_told(
        &said,
        &[
            "InvalidManifest: digest/task.yaml:3:1: unknown field `nmae`; did you mean `name`?",
            "still running",
            "-> mend it and save",
            "next         mend it and save",
            "1 broken",
            "-> kindling validate /srv/try/tasks",
        ],
    );
}

#[tokio::test]
async fn a_set_that_is_half_written() {
    let set =
        "apiVersion: kindling/v1\nkind: TaskSet\nspec:\n  entries:\n    digest: {ref: {path: jobs/digest}}\n";
    let mut service = Service::new(LOCAL);
    service.write("tasks/taskset.yaml", set);
    service.task("tasks/jobs/digest", "echo 1\n");
    let client = service.start().await;
    service.write("tasks/taskset.yaml", &set[..set.len() - 10]);
    client.source_until("local", "says so", |source| condition(source, "Ready").starts_with("False")).await;
    let said = said(&service, "A half-written set", Some("digest")).await;
    assert_told(
        &said,
        &[
            "local  InvalidManifest: taskset.yaml:5:",
            "-> mend it and save; `kindling wait local`",
            "True Deployed: version",
        ],
    );
}

#[tokio::test]
async fn a_source_that_lost_most_of_its_units() {
    let mut service = Service::new(LOCAL);
    for name in ["a", "b", "c"] {
        service.task(&format!("tasks/{name}"), "echo 1\n");
    }
    let client = service.start().await;
    for name in ["a", "b", "c"] {
        std::fs::remove_dir_all(service.root().join("tasks").join(name)).unwrap();
    }
    client.source_until("local", "is stalled", |source| !condition(source, "Stalled").is_empty()).await;
    let said = said(&service, "The removal guard", Some("a")).await;
    assert_told(
        &said,
        &["local  RemovalGuard: ", "; if they are to go: `kindling reconcile local --allow-removals`"],
    );
}

#[tokio::test]
async fn a_unit_that_was_suspended() {
    let service = with_task("digest", &manifest("digest", "manual: true"), "echo 1\n").await;
    service.attempt(&["suspend", "digest", "--reason", "the API moves on Friday"]).await;
    service.write("tasks/digest/task.sh", "echo 2\n");
    service.client().reconcile().await;
    let said = said(&service, "A suspended unit", Some("digest")).await;
    assert_told(
        &said,
        &[
            "Suspended: it is suspended: the API moves on Friday",
            "-> `kindling resume local/digest`",
            "next         `kindling resume local/digest`",
        ],
    );
}

#[tokio::test]
async fn a_version_that_is_held() {
    let service = with_task("digest", &manifest("digest", "manual: true"), "echo 1\n").await;
    service.write("tasks/digest/task.sh", "echo 2\n");
    service.client().reconcile().await;
    service.attempt(&["rollback", "digest"]).await;
    let said = said(&service, "A held version", Some("digest")).await;
    assert_told(
        &said,
        &["Held: version ", "is held: rolled back by a person", "-> `kindling resume local/digest`"],
    );
}

#[tokio::test]
async fn a_variable_that_a_source_may_not_read() {
    let text = manifest("digest", "manual: true") + "permissions: {env: [SLACK_TOKEN]}\n";
    let service = with_task("digest", &text, "echo 1\n").await;
    let said = said(&service, "A variable that the source may not read", Some("digest")).await;
    assert_told(&said, &["NotAllowed: ", "SLACK_TOKEN", "allow", "-> save that line in kindling.yaml"]);
}

#[tokio::test]
async fn a_daemon_that_ends_again_and_again() {
    let service =
        with_task("beat", &manifest("beat", "daemon: true"), "echo cannot connect >&2; exit 7\n").await;
    let client = service.client();
    client
        .unit_until("local/beat", "is in a crash loop", |unit| {
            condition(unit, "Healthy").contains("CrashLoop")
        })
        .await;
    let said = said(&service, "A daemon in a crash loop", Some("beat")).await;
    assert_told(
        &said,
        &[
            "CrashLoop: it ended 5 times in a row: ",
            "exit code 7",
            "-> `kindling logs local/beat` shows why",
            "kindling restart local/beat",
        ],
    );
}

#[tokio::test]
async fn a_directory_that_is_gone() {
    let service = with_task("digest", &manifest("digest", "manual: true"), "echo 1\n").await;
    std::fs::rename(service.root().join("tasks"), service.root().join("moved")).unwrap();
    service.client().source_until("local", "says so", |of| condition(of, "Ready").starts_with("False")).await;
    let said = said(&service, "A directory that is gone", Some("digest")).await;
    assert_told(
        &said,
        &[
            "local  RootMissing: ",
            "-> make the directory",
            "source       local is not ready: RootMissing: ",
            "mkdir -p /srv/try/tasks",
        ],
    );
}

#[tokio::test]
async fn an_edit_of_the_configuration_with_a_mistake() {
    let service = with_task("digest", &manifest("digest", "manual: true"), "echo 1\n").await;
    service.configure(&LOCAL.replace("name", "nmae"));
    crate::service::until("it is told", async || {
        let status = service.client().get("/api/v1/status").await;
        status["unready"].to_string().contains("InvalidConfiguration").then_some(())
    })
    .await;
    let said = said(&service, "A mistake in kindling.yaml", None).await;
    assert_told(
        &said,
        &[
            "kindling  InvalidConfiguration: ",
            "kindling.yaml:2:12: ",
            "did you mean `name`?",
            "-> mend the file and save it",
            "fail  configuration",
        ],
    );
}

#[tokio::test]
async fn a_port_that_is_taken() {
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = other.local_addr().unwrap().port();
    let service = Service::new("");
    service.write("kindling.yaml", format!("server: {{listen: \"127.0.0.1:{port}\"}}\n"));
    let (code, why) = service.refused().await;
    assert_eq!(code, Some(3), "{why}");
    assert!(why.contains("cannot listen on") && why.contains("hint: name another address"), "{why}");
    // It takes calls and answers none of them as kindling would.
    std::thread::spawn(move || {
        for stream in other.incoming().map_while(Result::ok) {
            let mut stream = stream;
            let _ = std::io::Write::write_all(&mut stream, b"220 mail.example.org ESMTP\r\n");
        }
    });
    let said = said(&service, "A port that another program has", None).await;
    assert_told(
        &said,
        &[
            "the address is `server.listen` of /srv/try/kindling.yaml",
            "if another program listens there, `ss -ltnp sport = :",
            "fail  service",
        ],
    );
}

#[tokio::test]
async fn a_database_that_is_damaged() {
    let mut service = with_task("digest", &manifest("digest", "manual: true"), "echo 1\n").await;
    service.terminate().await;
    let database = service.data_dir().join("kindling.db");
    let mut bytes = std::fs::read(&database).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..].fill(0xa5);
    std::fs::write(&database, bytes).unwrap();
    let said = said(&service, "A damaged database", None).await;
    assert_told(&said, &["fail  database", "is damaged", "-> restore a backup of it, or move it away"]);
}

#[tokio::test]
async fn a_data_directory_that_cannot_be_used() {
    let service = Service::new(LOCAL);
    service.write("tasks/digest/task.yaml", manifest("digest", "manual: true"));
    service.write("tasks/digest/task.sh", "echo 1\n");
    service.write(".kindling", "a file\n");
    assert_eq!(service.refused().await.0, Some(3));
    let said = said(&service, "A data directory that cannot be used", None).await;
    assert_told(&said, &["fail  data directory", "/srv/try/.kindling is no directory", "set `data_dir`"]);
}

#[tokio::test]
async fn a_token_that_the_service_does_not_take() {
    let service = with_task("digest", &manifest("digest", "manual: true"), "echo 1\n").await;
    let mut command = tokio::process::Command::from(service.command(&["status"]));
    let ended = command.env("KINDLING_TOKEN", "0123456789abcdef").output().await.unwrap();
    let said = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(3));
    assert_told(
        &said,
        &["the token is missing or wrong", "hint: what was sent is the value of KINDLING_TOKEN; "],
    );
}

#[tokio::test]
async fn a_disk_that_is_full() {
    let mut service = Service::new(LOCAL);
    let Some(disk) = SmallDisk::mount(&service.data_dir()) else {
        println!("passed over: this user cannot mount a small file system");
        return;
    };
    service.task("tasks/digest", "echo 1\n");
    let client = service.start().await;
    disk.fill();
    service.task("tasks/digest", "echo 2\n");
    client.source_until("local", "says so", |of| condition(of, "Ready").starts_with("False")).await;
    let said = said(&service, "A full disk", Some("digest")).await;
    assert_told(
        &said,
        &["local  ", "Store", "0 MiB are free on its disk", "-> make room: df -h /srv/try/.kindling"],
    );
}
