//! JSON of tasks through the whole service: what a run is given and gives back keeps every digit, and what cannot be
//! kept is told for what it is.

use serde_json::json;

use crate::service::{Service, manifest, until};

/// Beyond 64 bits, beyond a float, a spelling of its own, and names that serde_json gives a meaning to.
const ODD: &str = r#"[12345678901234567890123,0.1000000000000000000001,1.50,{"$serde_json::private::Number":"x","$serde_json::private::RawValue":"y"}]"#;

fn text(output: &std::process::Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[tokio::test]
async fn inputs_and_outputs_keep_every_digit() {
    let mut service = Service::new("sources: [{name: local, local: {path: tasks}}]\n");
    // It gives back what it is given.
    service.task("tasks/echo", "cat\n");
    service.write("tasks/next/task.sh", "cat\n");
    service.write("tasks/next/task.yaml", manifest("next", "chain: {from: echo}"));
    let client = service.start().await;
    let shown = text(&service.attempt(&["run", "echo", "--input", ODD]).await);
    for part in [
        "12345678901234567890123",
        "0.1000000000000000000001",
        "1.50",
        "\"$serde_json::private::Number\": \"x\"",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    service.write("input.json", ODD.replace(',', ",\n "));
    let shown = text(&service.attempt(&["run", "echo", "--input-file", "input.json", "-o", "yaml"]).await);
    assert!(shown.starts_with("- 12345678901234567890123\n- 0.1000000000000000000001\n- 1.50\n"), "{shown}");
    // What is chained to it is given the same, and a listing has one object a line.
    until("the second of them ended", async || {
        let ended = client.items("/api/v1/runs?task=local/next&status=succeeded").await;
        (ended.len() == 2).then_some(())
    })
    .await;
    let all = text(&service.attempt(&["get", "runs", "-o", "json"]).await);
    assert_eq!(all.matches("12345678901234567890123").count(), 4, "{all}");
    let raw = client.call("GET", "/api/v1/runs?task=local/next", None).await.unwrap();
    assert!(raw.body.contains(&format!("\"output\":{ODD}")), "{raw:?}");
}

#[tokio::test]
async fn what_cannot_travel_is_refused_before_a_run_is_made() {
    let mut service = Service::new("sources: [{name: local, local: {path: tasks}}]\n");
    service.task("tasks/echo", "cat\n");
    let client = service.start().await;
    let nested = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
    let deep = service.attempt(&["run", "echo", "--input", &nested(101)]).await;
    let said = String::from_utf8_lossy(&deep.stderr).into_owned();
    assert_eq!(deep.status.code(), Some(2), "{said}");
    assert!(
        said.contains("the input of the run is refused: it is nested deeper than the 100 levels allowed"),
        "{said}"
    );
    assert_eq!(client.get("/api/v1/runs").await["items"], json!([]));
    // The deepest that is allowed is shown in a listing too.
    assert_eq!(
        text(&service.attempt(&["run", "echo", "--input", &nested(100)]).await).matches('[').count(),
        100
    );
    assert_eq!(text(&service.attempt(&["get", "runs", "-o", "yaml"]).await).matches("[]").count(), 1);
}
