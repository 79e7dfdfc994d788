//! Backup and restore as docs/operations.md has them, with the real binary.

use std::path::Path;
use std::process::Command;

use serde_json::json;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _};

use crate::service::{Service, until};

const LOCAL: &str = "sources: [{name: local, local: {path: tasks}}]\n";

fn copy(options: &str, from: &Path, to: &Path) {
    let status = Command::new("cp").arg(options).arg(from).arg(to).status().unwrap();
    assert!(status.success(), "cp {options} {} {}", from.display(), to.display());
}

/// What `.backup` of sqlite3 does: a whole copy of a database that is written to meanwhile.
async fn copy_database(from: &Path, to: &Path) {
    let mut conn = SqliteConnectOptions::new().filename(from).connect().await.unwrap();
    sqlx::query("VACUUM INTO ?").bind(to.to_str().unwrap()).execute(&mut conn).await.unwrap();
    conn.close().await.unwrap();
}

#[tokio::test]
async fn a_backup_of_a_running_service_brings_back_versions_holds_and_history() {
    let mut service = Service::new(LOCAL);
    for text in ["one", "two", "three"] {
        service.task("tasks/digest", &format!("printf {text}\n"));
        if text == "one" {
            service.start().await;
        }
        service.client().reconcile().await;
    }
    let client = service.client();
    client.post("/api/v1/rollback", json!({ "unit": "digest" })).await;
    let (unit, history) = (client.unit("local/digest").await, client.items("/api/v1/history").await);
    assert!(unit["held"].is_object() && history.len() == 4, "{unit} {history:?}");

    let backup = service.root().join("backup");
    std::fs::create_dir(&backup).unwrap();
    copy("-a", &service.data_dir().join("blobs"), &backup);
    copy_database(&service.data_dir().join("kindling.db"), &backup.join("kindling.db")).await;
    copy("-an", &service.data_dir().join("blobs"), &backup);
    // What comes later is lost, and so is the data directory.
    service.write("tasks/digest/task.sh", "printf four\n");
    client.reconcile().await;
    service.kill();
    std::fs::remove_dir_all(service.data_dir()).unwrap();
    service.write("tasks/digest/task.sh", "printf three\n");

    std::fs::create_dir(service.data_dir()).unwrap();
    copy("-a", &backup.join("blobs"), &service.data_dir());
    copy("-a", &backup.join("kindling.db"), &service.data_dir());
    assert_eq!(service.attempt(&["check"]).await.status.code(), Some(0));
    let client = service.start().await;
    until("the first pass is done", async || {
        let source = &client.items("/api/v1/sources").await[0];
        source["lastFetchAt"].is_string().then_some(())
    })
    .await;
    let restored = client.unit("local/digest").await;
    for field in ["held", "deployedHash", "desiredHash", "generation"] {
        assert_eq!(unit[field], restored[field], "{field}");
    }
    assert_eq!(client.items("/api/v1/history").await, history);
    assert_eq!(client.run("digest").await["output"], "two");
    // The oldest version lies in the backup alone: its source has forgotten it.
    let first = history.last().unwrap()["toHash"].as_str().unwrap();
    client.post("/api/v1/rollback", json!({ "unit": "digest", "to": first })).await;
    assert_eq!(client.run("digest").await["output"], "one");
}
