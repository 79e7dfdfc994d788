//! Nothing of what a file holds, and no secret, reaches the log or the API.

use serde_json::json;

use super::{LOCAL, text};
use crate::service::{Service, manifest};

/// Stands for everything that a file may hold and nobody else shall see.
const CANARY: &str = "c4n4ryZq";

/// Manifests that hold the canary in every way in which a value can be right or wrong. A name of a field and a word
/// of a closed list are no values: messages repeat those.
fn manifests() -> Vec<(String, String)> {
    let lines = [
        "env: {A: \"CANARY\"}",
        "description: CANARY",
        "params: {a: CANARY, b: {type: number, default: CANARY}}",
        "timeout: CANARY",
        "timeout: {CANARY: 1}",
        "env: CANARY",
        "env: [CANARY, CANARY]",
        "env: {A: [CANARY]}",
        "env: {A: \"CANARY",
        "env: {A: 'CANARY}",
        "env: {A: CANARY",
        "env: {A: \"\\qCANARY\"}",
        "env: {A: CANARY: b}",
        "env: {A: !!int CANARY}",
        "env: {A: !!binary CANARY*}",
        "env: {A: !CANARY b}",
        "env: {A: &x CANARY, B: *y}",
        "env: {A: &CANARY b, B: *CANARY}",
        "exclude: CANARY",
        "exclude: [\"CANARY[\"]",
        "exclude: [\"{CANARY\"]",
        "trigger: CANARY",
        "command: CANARY",
        "CANARY",
        "\tCANARY",
        "- CANARY",
        "@CANARY",
        "--- CANARY",
        "%CANARY",
        "? [CANARY]",
        "<<: CANARY",
        "description: |\n\tCANARY",
        "description: \"CANARY\0\"",
    ];
    let whole = |(number, line): (usize, &&str)| {
        let text = format!("{}{}\n", manifest("a", "manual: true"), line.replace("CANARY", CANARY));
        (format!("t{number}"), text)
    };
    let mut all: Vec<(String, String)> = lines.iter().enumerate().map(whole).collect();
    all.push(("bare".into(), CANARY.into()));
    all.push(("list".into(), format!("[{CANARY}, {CANARY}]")));
    all
}

#[tokio::test]
async fn what_files_hold_stays_out_of_log_and_api() {
    let service = Service::new(LOCAL);
    for (key, manifest) in manifests() {
        service.write(&format!("src/{key}/task.yaml"), manifest);
        service.write(&format!("src/{key}/task.sh"), format!("# {CANARY}\n"));
        service.write(&format!("src/{key}/notes.txt"), CANARY);
    }
    service.task("src/speaks", &format!("echo {CANARY}; echo {CANARY} >&2; exit 3\n"));
    service.write("src/d/task.yaml", manifest("d", "daemon: true"));
    service.write("src/d/task.sh", format!("echo {CANARY}\nexit 4 # {CANARY}\n"));
    let mut service = service.with_arguments(&["--log-level", "trace"]);
    let client = service.start().await;
    client.reconcile().await;
    service.write("src/t0/task.yaml", format!("{}: {CANARY}", manifest("a", "manual: true")));
    client.reconcile().await;
    let mut paths: Vec<String> =
        ["status", "sources", "units", "history?limit=1000"].map(str::to_owned).into();
    let units = client.items("/api/v1/units").await;
    assert_eq!(units.len(), manifests().len() + 2);
    paths.extend(units.iter().map(|unit| format!("why?unit={}", text(unit, "id"))));
    for path in paths {
        let answer = client.call("GET", &format!("/api/v1/{path}"), None).await.unwrap();
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        assert!(!answer.body.contains(CANARY), "{path}: {}", answer.body);
    }
    for path in ["reconcile", "wait", "diff"] {
        let answer = client.call("POST", &format!("/api/v1/{path}"), Some(&json!({}))).await.unwrap();
        assert!(!answer.body.contains(CANARY), "{path}: {}", answer.body);
    }
    // What a run says belongs to the run, and to nobody who reads the service's log.
    let run = client.run("dir/speaks").await;
    assert_eq!((text(&run, "status"), text(&run, "output")), ("failed", CANARY), "{run:#}");
    let token = std::fs::read_to_string(service.data_dir().join("token")).unwrap();
    assert!(service.terminate().await.success());
    let log = service.log();
    assert!(log.contains("task/t1 registered") && log.contains("task/t9 failed"), "{log}");
    for line in log.lines() {
        assert!(!line.contains(CANARY) && !line.contains(token.trim()), "{line}");
    }
}

#[tokio::test]
async fn what_a_configuration_holds_stays_out_of_its_errors() {
    let lines = [
        "    git: {url: \"https://user:CANARY@example.org/a.git\"}",
        "    git: {url: \"CANARY\"}",
        "    git: {url: \"https://example.org/a.git\", poll_interval: CANARY}",
        "    git: {url: \"https://example.org/a.git\", branch: \"CANARY..\"}",
        "    local: {path: a, debounce: CANARY}",
        "    local: {path: a, debounce: \"CANARY}",
        "    local: [CANARY]",
    ];
    for line in lines {
        let line = line.replace("CANARY", CANARY);
        let service = Service::new(&format!("sources:\n  - name: a\n{line}\n"));
        let (code, said) = service.refused().await;
        assert_eq!(code, Some(2), "{line}: {said}");
        // Where a person looks at a terminal the line itself is shown; this is none.
        assert!(said.contains("kindling.yaml:4:") && !said.contains(CANARY), "{line}: {said}");
    }
}
