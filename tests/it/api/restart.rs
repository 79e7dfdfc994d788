//! `kindling restart`.

use serde_json::Value;

use super::{service, settled};
use crate::service::client::Client;
use crate::service::until;

async fn running(client: &Client) -> String {
    until("the daemon runs", async || {
        let runs = client.items("/api/v1/runs?task=beat&status=running").await;
        Some(runs).filter(|runs| runs.len() == 1).map(|runs| runs[0]["id"].as_str().unwrap().to_owned())
    })
    .await
}

#[tokio::test]
async fn a_daemon_gets_another_process_and_keeps_its_version_and_its_hold() {
    let mut service = service();
    let client = settled(&mut service).await;
    let first = running(&client).await;
    let ended = service.attempt(&["restart", "beat"]).await;
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    assert!(String::from_utf8_lossy(&ended.stdout).contains("daemon.restart"), "{ended:?}");
    let second = running(&client).await;
    assert_ne!(first, second);

    service.write("tasks/beat/task.sh", "exec sleep 601\n");
    client.reconcile().await;
    service.attempt(&["rollback", "beat"]).await;
    let held = client.unit("team/beat").await;
    assert!(held["held"].is_object(), "{held}");
    assert_eq!(service.attempt(&["restart", "beat"]).await.status.code(), Some(1), "the hold is still told");
    let after = client.unit("team/beat").await;
    for field in ["held", "desiredHash", "deployedHash"] {
        assert_eq!(held[field], after[field], "{field}");
    }
    let rows = client.items("/api/v1/history?unit=beat&limit=1").await;
    assert_eq!((&rows[0]["rule"], &rows[0]["outcome"]), (&"daemon.restart".into(), &"succeeded".into()));
    assert_eq!(rows[0]["trigger"]["kind"], "command");
}

#[tokio::test]
async fn what_has_no_process_of_its_own_is_not_restarted() {
    let mut service = service();
    service.start().await;
    for (unit, words) in
        [("hello", "is no daemon"), ("broken", "was never deployed"), ("none", "no unit none")]
    {
        let ended = service.attempt(&["restart", unit, "-o", "json"]).await;
        let error: Value = serde_json::from_slice(&ended.stderr).unwrap();
        assert!(error["message"].as_str().unwrap().contains(words), "{error}");
        assert!(error["hint"].as_str().unwrap().starts_with("kindling "), "{error}");
    }
}

#[tokio::test]
async fn what_is_mistyped_is_answered_with_the_nearest_name() {
    let mut service = service();
    service.start().await;
    for (line, words) in [
        (["run", "helo"], "there is no unit helo; did you mean team/hello?"),
        (["why", "team/brokne"], "there is no unit team/brokne; did you mean team/broken?"),
        (["reconcile", "taem"], "there is no source or unit taem; did you mean team?"),
        (["reconcile", "baet"], "there is no source or unit baet; did you mean team/beat?"),
    ] {
        let ended = service.attempt(&line).await;
        let said = String::from_utf8(ended.stderr).unwrap();
        assert!(ended.status.code() == Some(2) && said.contains(words), "{line:?}: {said}");
    }
    let ended = service.attempt(&["get", "sources", "teem"]).await;
    assert!(String::from_utf8_lossy(&ended.stderr).contains("did you mean team?"), "{ended:?}");
    let ended = service.attempt(&["get", "units", "something-else"]).await;
    assert!(!String::from_utf8_lossy(&ended.stderr).contains("did you mean"), "{ended:?}");
}
