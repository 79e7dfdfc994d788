//! Repositories that sets lead to, through the real binary.

use serde_json::json;

use super::*;
use crate::http_backend::Backend;
use crate::service::client::{Client, condition};
use crate::service::{Service, manifest};

fn set(entries: &str) -> String {
    format!("apiVersion: kindling/v1\nkind: TaskSet\nspec:\n  entries:\n{entries}")
}

fn publish(repo: &Repo, text: &str) -> String {
    repo.publish(&[
        ("t/task.yaml", &manifest("t", "manual: true")),
        ("t/task.sh", &format!("printf '%s' '{text}'\n")),
    ])
}

async fn prints(client: &Client, unit: &str, text: &str) -> bool {
    client.run(unit).await["output"] == text
}

#[tokio::test]
async fn a_set_of_a_directory_leads_to_a_repository_of_this_machine() {
    let repo = Repo::new();
    let first = publish(&repo, "one");
    let dir = tempfile::tempdir().unwrap();
    let url = repo.bare().display().to_string();
    let entry = format!("    far: {{ref: {{url: '{url}', branch: main, path: t}}}}\n");
    let own = "    own: {inline: {command: ['true'], trigger: {manual: true}}}\n";
    std::fs::write(dir.path().join("taskset.yaml"), set(&format!("{entry}{own}"))).unwrap();
    let mut service =
        Service::new(&format!("sources: [{{name: s, local: {{path: '{}'}}}}]\n", dir.path().display()));
    let client = service.start().await;
    client.reconcile().await;
    assert!(prints(&client, "far", "one").await);
    assert_eq!(client.get("/api/v1/units/s/far").await["deployedRevision"], json!(first));
    let second = publish(&repo, "two");
    client.reconcile().await;
    assert!(prints(&client, "far", "two").await);
    assert_eq!(client.get("/api/v1/units/s/far").await["deployedRevision"], json!(second));
    // It goes away, also over a restart, and comes back.
    let away = repo.root().join("away.git");
    std::fs::rename(repo.bare(), &away).unwrap();
    client.reconcile().await;
    let seen = client.source_until("s", "says so", |s| condition(s, "Ready").starts_with("False")).await;
    assert!(condition(&seen, "Ready").contains(&url), "{seen}");
    assert!(prints(&client, "far", "two").await);
    service.kill();
    let client = service.start().await;
    client.source_until("s", "says so again", |s| condition(s, "Ready").starts_with("False")).await;
    assert!(prints(&client, "far", "two").await);
    std::fs::rename(&away, repo.bare()).unwrap();
    publish(&repo, "three");
    client.reconcile().await;
    client.source_until("s", "is well", |s| condition(s, "Ready").starts_with("True")).await;
    assert!(prints(&client, "far", "three").await);
    std::fs::write(dir.path().join("taskset.yaml"), set(own)).unwrap();
    client.reconcile().await;
    let left = client.items("/api/v1/units").await;
    let left: Vec<_> = left.iter().map(|unit| unit["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(left, ["s/own"]);
}
