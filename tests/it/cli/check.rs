//! `check`: what a machine lacks, each with what mends it.

use std::net::TcpListener;

use serde_json::Value;

use super::place::Place;

/// The findings of one check, as `STATUS MESSAGE -> HINT`.
fn findings(place: &Place, of: &str) -> Vec<String> {
    let listing: Value = serde_json::from_str(&place.run(&["check", "-o", "json"]).out).unwrap();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let of = listing["items"].as_array().unwrap().iter().filter(|found| found["check"] == of);
    of.map(|found| {
        format!("{} {} -> {}", text(&found["status"]), text(&found["message"]), text(&found["hint"]))
    })
    .collect()
}

#[track_caller]
fn assert_found(place: &Place, of: &str, words: &[&str]) {
    let found = findings(place, of);
    for word in words {
        assert!(found.iter().any(|line| line.contains(word)), "{word:?} is not in {found:#?}");
    }
}

fn git(auth: &str) -> Place {
    let place = Place::new();
    place.write(
        "kindling.yaml",
        &format!(
            "server: {{listen: \"127.0.0.1:1\"}}\nsources:\n  - name: team\n    git: {{url: \"git@git.example.org:jobs.git\", \
             auth: {{{auth}}}}}\n"
        ),
    );
    place
}

#[test]
fn credentials_of_sources_are_looked_for_and_never_shown() {
    let place = git("ssh_key_file: key");
    assert_found(
        &place,
        "source team",
        &["fail its key in [ROOT]/work/key cannot be read", "chmod 600 [ROOT]/work/key"],
    );
    place.write("key", "");
    assert_found(&place, "source team", &["fail [ROOT]/work/key is empty"]);
    place.write("key", "hunter2hunter2\n");
    assert_found(&place, "source team", &["warn others may read its key", "-> chmod 600 [ROOT]/work/key"]);
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(place.here().join("key"), mode).unwrap();
    assert_found(&place, "source team", &["ok its key is in"]);
    assert!(!place.run(&["check"]).shown().contains("hunter2"));
}

#[test]
fn secrets_that_are_missing_are_told_with_the_other_mistakes() {
    let place = Place::new();
    place.write("kindling.yaml", "server: {token_env: NOT_SET}\nnonsense: 1\n");
    let found = findings(&place, "configuration");
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].contains(":1:21: `server.token_env` names a variable that is not set"), "{found:?}");
    assert!(found[1].contains(":2:1: unknown field `nonsense`"), "{found:?}");
}

#[test]
fn what_a_service_that_is_started_here_would_lack_is_a_failure() {
    let place = Place::new();
    place.write(
        "kindling.yaml",
        "sources:\n  - name: team\n    git: {url: \"https://git.example.org/jobs.git\", auth: {token_env: GIT_TOKEN}}\n",
    );
    assert_found(
        &place,
        "source team",
        &["fail its token is in GIT_TOKEN, which is not set here", "-> set GIT_TOKEN"],
    );
    assert_eq!(place.run(&["check"]).code, 1);
    let place = place.set("GIT_TOKEN", "hunter2hunter2");
    assert_found(&place, "source team", &["ok its token is in GIT_TOKEN -> "]);
}

#[test]
fn credentials_of_the_service_manager_are_told_as_such() {
    let place = Place::new();
    let given = "/run/credentials/kindling-that-is-not-there.service";
    let text = format!(
        "server: {{listen: \"127.0.0.1:1\", token_file: {given}/api-token}}\nsources:\n  - name: team\n    git: {{url: \
         \"https://git.example.org/jobs.git\", auth: {{token_file: {given}/git-token}}}}\n"
    );
    place.write("kindling.yaml", &text);
    let hint =
        |name: &str| format!("-> systemd gives it to the service alone, by `LoadCredential={name}:FILE`");
    assert_found(&place, "source team", &["fail its token in /run/credentials", &hint("git-token")]);
    assert_found(
        &place,
        "configuration",
        &[
            "fail [ROOT]/work/kindling.yaml:1:45: `server.token_file` names a file that cannot be read",
            &hint("api-token"),
        ],
    );
    assert_eq!(place.run(&["check"]).code, 1);
    // Where it runs with credentials of its own, these are looked at, under whatever name its unit has.
    place.write("own/api-token", "hunter2hunter2hunter2\n");
    place.write("own/git-token", "hunter2hunter2hunter2\n");
    let own = place.here().join("own").display().to_string();
    let place = place.set("CREDENTIALS_DIRECTORY", &own);
    assert_found(&place, "source team", &["ok its token is in [ROOT]/work/own/git-token"]);
    assert_found(&place, "token", &["ok the configuration names one"]);
    let shown = place.run(&["check"]);
    assert!(!shown.shown().contains("hunter2"), "{}", shown.shown());
}

#[test]
fn ssh_is_needed_by_who_is_reached_by_it() {
    let place = git("ssh_key_file: key").set("PATH", "/nowhere");
    assert_found(
        &place,
        "ssh",
        &["fail ssh is not on PATH; ", "source team is fetched with it", "openssh-client"],
    );
    let local = Place::new();
    local.write("kindling.yaml", "sources: []\n");
    assert!(findings(&local, "ssh").is_empty());
}

#[test]
fn a_port_that_cannot_be_had_is_told_while_no_service_answers() {
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = other.local_addr().unwrap().port();
    let place = Place::new();
    place.write("kindling.yaml", &format!("server: {{listen: \"127.0.0.1:{port}\"}}\n"));
    // The service left another address, at which nobody answers any more.
    place.write(".kindling/address", "127.0.0.1:1\n");
    assert_found(
        &place,
        "listen",
        &[
            &format!("fail another program listens on 127.0.0.1:{port}, so the service cannot start"),
            &format!("`ss -ltnp sport = :{port}` names it"),
        ],
    );
    drop(other);
    assert!(findings(&place, "listen").is_empty());
}

#[test]
fn secrets_of_task_webhooks_are_looked_for_and_never_shown() {
    let place = Place::new();
    place.write(
        "kindling.yaml",
        "server: {listen: \"127.0.0.1:1\"}\nsources:\n  - name: s\n    local: {path: tasks}\n    allow: {env: [HOOK_A, HOOK_B]}\n",
    );
    let task = |name: &str, option: &str| {
        let text = format!(
            "apiVersion: kindling/v1\nkind: Task\nname: {name}\nruntime: shell\ntrigger: {{webhook: /hooks/{name}{option}}}\n"
        );
        place.write(&format!("tasks/{name}/task.yaml"), &text);
        place.write(&format!("tasks/{name}/task.sh"), "echo\n");
    };
    task("a", ", webhook_secret: '${HOOK_A}'");
    task("b", ", bearer: '${HOOK_B}'");
    task("open", "");
    let place = place.set("HOOK_B", "hunter2hunter2hunter2");
    assert_found(
        &place,
        "task webhook",
        &[
            "fail s/a: `trigger.webhook_secret` names the variable `HOOK_A`, which is not set",
            "-> set HOOK_A where the service starts, and here to check it",
            "ok s/b: what callers of /hooks/b need is set",
        ],
    );
    assert_eq!(findings(&place, "task webhook").len(), 2);
    let shown = place.run(&["check"]);
    assert!(shown.code == 1 && !shown.shown().contains("hunter2"), "{}", shown.shown());
}
