//! The configuration file under a running service: a valid edit takes effect at once, an invalid one changes nothing.

use std::path::Path;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::repo::Repo;
use crate::service::client::{Client, condition};
use crate::service::{Service, manifest, until};

/// Sources that are directories of the same name.
fn locals(names: &[&str]) -> String {
    let entry = |name: &&str| format!("  - name: {name}\n    local: {{path: {name}}}\n");
    format!("sources:\n{}", names.iter().map(entry).collect::<String>())
}

async fn names(client: &Client) -> Vec<String> {
    let all = client.items("/api/v1/sources").await;
    all.iter().map(|source| source["name"].as_str().unwrap().to_owned()).collect()
}

async fn sources_are(client: &Client, wanted: &[&str]) {
    until(&format!("the sources are {wanted:?}"), async || (names(client).await == wanted).then_some(()))
        .await;
}

async fn service_until(client: &Client, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    until(what, async || Some(client.get("/api/v1/status").await).filter(&is_so)).await
}

async fn told(service: &Service, what: &str) {
    until(&format!("the log says {what}"), async || service.log().contains(what).then_some(())).await;
}

fn hash(unit: &Value) -> &str {
    unit["deployedHash"].as_str().unwrap_or_default()
}

/// As editors save: a temporary file beside it, renamed over it.
fn rename_over(service: &Service, text: &str) {
    let (file, temporary) = (service.configuration(), service.root().join(".kindling.yaml.swp"));
    std::fs::write(&temporary, format!("server: {{listen: \"127.0.0.1:0\"}}\n{text}")).unwrap();
    std::fs::rename(temporary, file).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn sources_come_change_and_go_with_the_file() {
    let mut service = Service::new(&locals(&["one"]));
    for task in ["one/a", "two/a", "two/b", "two/c", "three/a"] {
        service.task(task, &format!("echo {task}\n"));
    }
    let client = service.start().await;
    client.post("/api/v1/sources", json!({"name": "mine", "local": service.root().join("three")})).await;
    sources_are(&client, &["mine", "one"]).await;

    service.configure(&locals(&["one", "two"]));
    sources_are(&client, &["mine", "one", "two"]).await;
    for unit in ["two/a", "two/b", "two/c"] {
        client.unit_until(unit, "is registered", |unit| !hash(unit).is_empty()).await;
    }

    // Another path: the same units go on, no removal between.
    let before = client.unit("one/a").await;
    service.task("elsewhere/a", "echo elsewhere\n");
    rename_over(&service, &locals(&["one", "two"]).replace("{path: one}", "{path: elsewhere}"));
    let after = client.unit_until("one/a", "is the other one", |unit| hash(unit) != hash(&before)).await;
    assert_eq!(after["generation"].as_u64(), before["generation"].as_u64().map(|number| number + 1));
    let rows = client.items("/api/v1/history?unit=one/a").await;
    assert_eq!((rows.len(), rows[0]["rule"].as_str()), (2, Some("task.updated")), "{rows:?}");
    assert_eq!(rows[0]["trigger"], json!({"kind": "command", "detail": "configuration"}));
    service.task("elsewhere/a", "echo again\n");
    client.unit_until("one/a", "is followed there", |unit| hash(unit) != hash(&after)).await;

    // All three units at once, and nobody is asked.
    service.configure(&locals(&["one"]));
    sources_are(&client, &["mine", "one"]).await;
    assert_eq!(client.unit("two/a").await, Value::Null);
    told(&service, "source two left the configuration and was removed with its units: two/a, two/b, two/c")
        .await;
    let rows = client.items("/api/v1/history?source=two").await;
    let removed: Vec<&Value> = rows.iter().filter(|row| row["action"] == "remove").collect();
    assert_eq!(
        (removed.len(), removed[0]["reason"].as_str()),
        (3, Some("its source left the configuration"))
    );
    let run = client.call("POST", "/api/v1/runs", Some(&json!({"task": "two/a"}))).await.unwrap();
    assert_eq!(run.status, 404);

    // It comes back, and what was added by command was there all the time.
    service.configure(&locals(&["one", "two"]));
    client.unit_until("two/c", "is back", |unit| !hash(unit).is_empty()).await;
    assert_eq!(client.run("mine/a").await["output"], "three/a");
    service.kill();
    let client = service.start().await;
    sources_are(&client, &["mine", "one", "two"]).await;
}

/// The file lacked a source when the service was started, and has it again a moment later.
#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_comes_back_while_the_service_starts_has_its_units() {
    let mut service = Service::new(&locals(&["one", "two"]));
    for task in ["one/a", "two/a", "two/b"] {
        service.task(task, &format!("echo {task}\n"));
    }
    service.start().await;
    for round in 0..8 {
        let client = service.client();
        for unit in ["two/a", "two/b"] {
            client.unit_until(unit, "is live", |unit| !hash(unit).is_empty()).await;
        }
        if round % 2 == 0 {
            service.kill();
        } else {
            assert!(service.terminate().await.success());
        }
        service.configure(&locals(&["one"]));
        service.spawn();
        if round < 4 {
            service.listening().await;
        } else {
            until("it has read the file", async || service.is_locked().then_some(())).await;
        }
        service.configure(&locals(&["one", "two"]));
        let client = service.ready().await;
        sources_are(&client, &["one", "two"]).await;
        for unit in ["two/a", "two/b"] {
            client.unit_until(unit, "is live again", |unit| !hash(unit).is_empty()).await;
        }
        // They are there for good, for runs, for commands and in the store.
        client.reconcile().await;
        assert_eq!(client.run("two/b").await["output"], "two/b", "round {round}");
        let all = client.items("/api/v1/sources").await;
        assert!(condition(&all[1], "Ready").starts_with("True Observed"), "round {round}: {all:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_edit_changes_nothing_and_is_told_with_its_place() {
    let mut service = Service::new(&locals(&["one", "two"]));
    for task in ["one/a", "two/a"] {
        service.task(task, "echo\n");
    }
    let client = service.start().await;
    client.unit_until("two/a", "is registered", |unit| !hash(unit).is_empty()).await;
    let before = client.items("/api/v1/units").await;
    let file = service.configuration();
    let wrong = [
        (
            format!("server: {{listen: \"127.0.0.1:0\"}}\n{}    typo: 1\n", locals(&["one"])),
            "5:5: `sources[0]`: unknown field `typo`",
        ),
        ("sources: [\n".to_owned(), "kindling.yaml:"),
        (String::new(), "is empty"),
        ("\n\n".to_owned(), "is empty"),
    ];
    for (text, wanted) in wrong {
        std::fs::write(&file, &text).unwrap();
        let status = service_until(&client, "it is told", |status| {
            condition(status, "Ready").starts_with("False InvalidConfiguration: ")
                && condition(status, "Ready").contains(wanted)
        })
        .await;
        assert_eq!(status["ready"], false);
        assert!(status["unready"][0]["why"].as_str().unwrap().contains(wanted), "{status}");
        let place = format!("{}:", file.display());
        assert!(service.log().lines().any(|line| line.contains(&place) || line.contains(wanted)));
        let screen = service.attempt(&["status"]).await;
        let out = String::from_utf8(screen.stdout).unwrap();
        assert!(screen.status.code() == Some(1) && out.contains(wanted), "{out}");
    }
    std::fs::remove_file(&file).unwrap();
    service_until(&client, "it is missed", |status| condition(status, "Ready").contains("cannot be read"))
        .await;
    assert_eq!(client.items("/api/v1/units").await, before);
    // Mended, by another way of saving.
    rename_over(&service, &locals(&["one"]));
    sources_are(&client, &["one"]).await;
    let status =
        service_until(&client, "it is well", |status| condition(status, "Ready").starts_with("True")).await;
    assert_eq!(status["ready"], true);
    assert_eq!(service.log().matches("unknown field `typo`").count(), 1, "told once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hangup_reads_the_file_and_ends_nothing() {
    let mut service = Service::new(&locals(&["one"]));
    service.task("one/a", "echo\n");
    let client = service.start().await;
    client.unit_until("one/a", "is registered", |unit| !hash(unit).is_empty()).await;
    service.signal(Signal::HUP);
    told(&service, "was read again; nothing changed").await;
    // On a file of which no event tells: a link into another directory, changed there by a link.
    let place = |name: &str| service.root().join(name);
    std::fs::create_dir_all(place("v1")).unwrap();
    std::fs::copy(service.configuration(), place("v1/kindling.yaml")).unwrap();
    link(&place("now"), Path::new("v1"));
    std::fs::remove_file(service.configuration()).unwrap();
    link(&service.configuration(), Path::new("now/kindling.yaml"));
    service.task("v1/one/a", "echo\n");
    std::fs::create_dir_all(place("v2")).unwrap();
    let text = format!("server: {{listen: \"127.0.0.1:0\"}}\n{}", locals(&["one", "two"]));
    std::fs::write(place("v2/kindling.yaml"), text).unwrap();
    std::fs::remove_file(place("now")).unwrap();
    link(&place("now"), Path::new("v2"));
    service.signal(Signal::HUP);
    sources_are(&client, &["one", "two"]).await;
    assert!(service.terminate().await.success());
}

fn link(at: &Path, to: &Path) {
    std::os::unix::fs::symlink(to, at).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_needs_a_restart_says_so_until_it_is_taken_back() {
    let mut service = Service::new(&locals(&["one"]));
    service.task("one/a", "echo\n");
    let client = service.start().await;
    let good = std::fs::read_to_string(service.configuration()).unwrap();
    let token = "0123456789abcdef0123456789abcdef";
    service.write("token.txt", token);
    let other =
        format!("data_dir: other\n{}", good.replace("127.0.0.1:0\"", "127.0.0.1:1\", token_file: token.txt"));
    std::fs::write(service.configuration(), other).unwrap();
    let status = service_until(&client, "a restart is required", |status| {
        condition(status, "RestartRequired").starts_with("True ConfigurationChanged: ")
    })
    .await;
    let said = condition(&status, "RestartRequired");
    for key in ["server.listen", "the token", "data_dir"] {
        assert!(said.contains(key), "{said}");
    }
    assert!(!service.log().contains(token) && !status.to_string().contains(token));
    assert_eq!(condition(&client.get("/api/v1/status").await, "Ready").split(' ').next(), Some("True"));
    let address = std::fs::read_to_string(service.data_dir().join("address")).unwrap();
    let server = ["status", "--server", address.trim()];
    let mut command = service.command(&server);
    command.env("KINDLING_TOKEN", std::fs::read_to_string(service.data_dir().join("token")).unwrap().trim());
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let screen = String::from_utf8(output.stdout).unwrap();
    assert!(screen.contains("RESTART REQUIRED") && screen.contains("data_dir"), "{screen}");
    std::fs::write(service.configuration(), good).unwrap();
    service_until(&client, "none is", |status| condition(status, "RestartRequired").is_empty()).await;
}

/// An edit of what is kept is carried out, and looks at no source for it.
#[tokio::test]
async fn another_retention_holds_at_once() {
    let mut service = Service::new(&locals(&["one"]));
    service.task("one/a", "echo\n");
    let client = service.start().await;
    for _ in 0..4 {
        client.run("a").await;
    }
    assert_eq!(client.items("/api/v1/runs").await.len(), 4);
    service.configure(&format!("retention: {{runs: {{count: 2}}}}\n{}", locals(&["one"])));
    until("the oldest runs are gone", async || (client.items("/api/v1/runs").await.len() == 2).then_some(()))
        .await;
    assert!(!service.log().contains("limits changed"), "{}", service.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn other_limits_hold_at_once() {
    let mut service = Service::new(&locals(&["one"]));
    service.task("one/a", "echo\n");
    service.write("one/a/large.txt", vec![b'x'; 3000]);
    let client = service.start().await;
    client.unit_until("one/a", "is registered", |unit| !hash(unit).is_empty()).await;
    service.configure(&format!("limits: {{file: 1KiB}}\n{}", locals(&["one"])));
    client
        .unit_until("one/a", "is too large", |u| condition(u, "Ready").starts_with("False LimitExceeded"))
        .await;
    service.configure(&format!("limits: {{file: 1MiB}}\n{}", locals(&["one"])));
    client.unit_until("one/a", "is well", |u| condition(u, "Ready").starts_with("True")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_file_takes_over_what_a_command_added_and_dev_mode_survives_an_edit() {
    let repo = Repo::with(&[("a/task.yaml", &manifest("a", "manual: true")), ("a/task.sh", "echo git\n")]);
    let mut service = Service::new("sources: []\n");
    let client = service.start().await;
    client.post("/api/v1/sources", json!({"name": "team", "git": repo.bare()})).await;
    let git = client.unit("team/a").await;
    service.task("copy/a", "echo local\n");
    let dev = json!({"path": service.root().join("copy")});
    assert_eq!(client.call("PUT", "/api/v1/sources/team/dev", Some(&dev)).await.unwrap().status, 200);
    let local = client.unit("team/a").await;
    assert_ne!(hash(&local), hash(&git));
    let of = |poll: &str| {
        format!(
            "sources:\n  - name: team\n    git: {{url: \"{}\", poll_interval: {poll}}}\n",
            repo.bare().display()
        )
    };
    service.configure(&of("2s"));
    let source = client.source_until("team", "is the file's", |source| source["declared"] == "file").await;
    assert!(source["devPath"].is_string());
    told(&service, "source team was added by command and is in the configuration now").await;
    service.configure(&of("1s"));
    told(&service, "source team is configured differently").await;
    client.reconcile().await;
    assert_eq!(hash(&client.unit("team/a").await), hash(&local));
    let pushed = repo.publish(&[("a/task.sh", "echo pushed\n")]);
    client.source_until("team", "sees the push", |s| s["revision"]["seen"] == json!(pushed)).await;
    // A directory in its place ends dev mode, and the units go on.
    service.task("tasks/a", "echo tasks\n");
    service.configure("sources:\n  - name: team\n    local: {path: tasks}\n");
    let source = client.source_until("team", "is a directory", |source| source["type"] == "local").await;
    assert_eq!((&source["devPath"], condition(&source, "DevMode").as_str()), (&Value::Null, ""));
    client.unit_until("team/a", "is the directory's", |unit| hash(unit) != hash(&local)).await;
    assert_eq!(client.run("team/a").await["output"], "tasks");
    let refused = client.call("DELETE", "/api/v1/sources/team", None).await.unwrap();
    assert_eq!(refused.status, 409);
    let line = format!("`- name: team` at {}:3;", service.configuration().display());
    assert!(refused.json()["hint"].as_str().unwrap().contains(&line), "{refused:?}");
    // A name of the file is refused to a command.
    let taken = json!({"name": "team", "local": service.root().join("copy")});
    assert_eq!(client.call("POST", "/api/v1/sources", Some(&taken)).await.unwrap().status, 409);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_branch_and_another_repository_go_on_with_the_same_units() {
    let files = |script: &'static str| [("a/task.sh", script)];
    let repo = Repo::with(&[("a/task.yaml", &manifest("a", "manual: true")), ("a/task.sh", "echo main\n")]);
    repo.git(&["checkout", "--quiet", "-b", "next"]);
    let next = repo.publish(&files("echo next\n"));
    let other = Repo::with(&[("a/task.yaml", &manifest("a", "manual: true")), ("a/task.sh", "echo other\n")]);
    let of = |repo: &Repo, branch: &str| {
        let url = repo.bare();
        format!("sources:\n  - name: team\n    git: {{url: \"{}\", branch: {branch}}}\n", url.display())
    };
    let mut service = Service::new(&of(&repo, "main"));
    let client = service.start().await;
    client.unit_until("team/a", "is registered", |unit| !hash(unit).is_empty()).await;
    let mut commits = vec![next, other.git(&["rev-parse", "HEAD"])].into_iter();
    for (text, output) in [(of(&repo, "next"), "next"), (of(&other, "main"), "other")] {
        service.configure(&text);
        let commit = json!(commits.next());
        client.source_until("team", "is there", |source| source["revision"]["deployed"] == commit).await;
        assert_eq!(client.unit("team/a").await["deployedRevision"], commit);
        assert_eq!(client.run("team/a").await["output"], output);
    }
    let rows = client.items("/api/v1/history?unit=team/a").await;
    let told: Vec<_> =
        rows.iter().map(|row| (row["action"].as_str().unwrap(), row["rewritten"] == true)).collect();
    // Nobody rewrote a branch: another one was asked for.
    assert_eq!(told, [("sync", false); 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_units_may_have_follows_the_file() {
    let config = |more: &str| format!("sources:\n  - name: dir\n    local: {{path: src}}\n{more}");
    let mut service = Service::new(&config(""));
    service.write("src/t/task.sh", "printf '%s' \"$HOME_OF\"\n");
    let asks =
        format!("{}permissions: {{env: [{{name: HOME_OF, from: LANG_X}}]}}\n", manifest("t", "manual: true"));
    service.write("src/t/task.yaml", asks);
    let client = service.start().await;
    let refused = |unit: &Value| condition(unit, "Ready").contains("NotAllowed");
    client.unit_until("dir/t", "is not allowed", refused).await;
    service.configure(&config("    allow: {env: [LANG_X]}\n"));
    client.unit_until("dir/t", "is allowed", |unit| !hash(unit).is_empty()).await;
    // What kindling itself is given is nobody else's, whatever is allowed.
    service.configure(&format!(
        "{}  - name: git\n    git: {{url: \"https://localhost:1/x.git\", auth: {{token_env: LANG_X}}}}\n",
        config("    allow: {env: [LANG_X]}\n")
    ));
    client.unit_until("dir/t", "is kindling's own", refused).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_takes_its_time_to_end_holds_up_no_edit() {
    let mut service = Service::new(&locals(&["one"]));
    service.write("one/slow/task.yaml", manifest("slow", "daemon: true"));
    // It ends when it is told twice: by the signal, and by the file.
    let gate = service.root().join("gate");
    let script = format!("trap '' TERM\nwhile [ ! -e '{}' ]; do sleep 0.02; done\n", gate.display());
    service.write("one/slow/task.sh", script);
    service.task("two/a", "echo\n");
    service.task("three/a", "echo\n");
    let client = service.start().await;
    client.unit_until("one/slow", "runs", |unit| condition(unit, "Healthy").starts_with("True")).await;
    service.configure(&locals(&["two"]));
    client.unit_until("two/a", "is registered", |unit| !hash(unit).is_empty()).await;
    assert!(names(&client).await.contains(&"one".to_owned()), "it is not gone yet");
    // It says so, and whoever asks something of it is told at once.
    let goes = |unit: &Value| condition(unit, "Ready").starts_with("False Removed");
    client.unit_until("one/slow", "says that it goes", goes).await;
    let suspend = json!({"subject": "one", "reason": "x"});
    let refused = client.call("POST", "/api/v1/suspend", Some(&suspend)).await.unwrap();
    assert_eq!((refused.status, condition(&client.unit("one/slow").await, "Ready").is_empty()), (409, false));
    // One that comes back begins when it has left.
    service.configure(&locals(&["one", "three"]));
    client.unit_until("three/a", "is registered", |unit| !hash(unit).is_empty()).await;
    std::fs::write(gate, "").unwrap();
    sources_are(&client, &["one", "three"]).await;
    client.unit_until("one/slow", "is back", |unit| !hash(unit).is_empty()).await;
    told(&service, "source one left the configuration and was removed with its units: one/slow").await;
    assert!(!service.log().contains("cannot be configured differently"), "{}", service.log());
}
