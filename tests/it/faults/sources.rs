//! Sources that cannot be followed, and sources that are gone.

use std::fs;

use serde_json::json;

use super::{LOCAL, text, with_tasks};
use crate::repo::Repo;
use crate::service::client::condition;

#[tokio::test]
async fn a_source_whose_first_pass_fails_says_that_it_was_added_and_is_tried_again() {
    let mut service = with_tasks(&["a"]);
    let client = service.start().await;
    let later = service.root().join("later");
    let new = json!({"name": "later", "local": later});
    let answer = client.call("POST", "/api/v1/sources", Some(&new)).await.unwrap();
    assert_eq!((answer.status, answer.json()["exit"].as_u64()), (503, Some(3)), "{answer:?}");
    let error = answer.json();
    let said = text(&error, "message");
    assert!(said.starts_with("source later was added, but its first pass failed: "), "{said}");
    assert!(
        said.contains(later.to_str().unwrap()) && said.ends_with("; it is tried again by itself"),
        "{said}"
    );
    assert_eq!(text(&error, "hint"), "kindling source remove later");
    fs::create_dir(&later).unwrap();
    client.source_until("later", "is there", |source| condition(source, "Ready").starts_with("True")).await;
    assert!(client.call("DELETE", "/api/v1/sources/later", None).await.unwrap().status == 200);
    // A name that is taken is another matter: nothing was added.
    let new = json!({"name": "dir", "local": later});
    let answer = client.call("POST", "/api/v1/sources", Some(&new)).await.unwrap();
    let error = answer.json();
    assert_eq!(text(&error, "message"), "source dir is declared already, in the configuration file");
}

#[tokio::test]
async fn a_source_that_waits_for_a_person_names_the_command_that_tries_it_again() {
    let mut service = with_tasks(&["a"]);
    let client = service.start().await;
    let repo = Repo::with(&[("a/task.yaml", "nonsense")]);
    // Something that kindling did not make is where it would fetch to.
    let store = service.data_dir().join("git");
    let _ = fs::remove_dir_all(&store);
    fs::write(&store, "years of work").unwrap();
    let new = json!({"name": "closed", "git": repo.bare()});
    let answer = client.call("POST", "/api/v1/sources", Some(&new)).await.unwrap();
    let error = answer.json();
    let said = text(&error, "message");
    assert!(said.starts_with("source closed was added, but its first pass failed: "), "{said}");
    assert!(said.ends_with("; once that is mended, `kindling reconcile closed` tries it again"), "{said}");
}

#[tokio::test]
async fn the_history_of_a_source_that_is_gone_says_what_took_it() {
    let mut service = with_tasks(&["a"]);
    service.task("other/b", "printf b\n");
    let client = service.start().await;
    client.post("/api/v1/sources", json!({"name": "added", "local": service.root().join("other")})).await;
    let answer = client.call("DELETE", "/api/v1/sources/added", None).await.unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    let rows = client.items("/api/v1/history?source=added").await;
    assert_eq!(rows[0]["trigger"], json!({"kind": "command", "detail": "source remove"}), "{rows:#?}");
    assert!(service.terminate().await.success());
    // It leaves the configuration while no service runs.
    service.configure(&LOCAL.replace("dir", "new").replace("src", "other"));
    let client = service.start().await;
    let rows = crate::service::until("it is gone", async || {
        let rows = client.items("/api/v1/history?source=dir").await;
        (rows[0]["action"] == "remove").then_some(rows)
    });
    let rows = rows.await;
    assert_eq!(rows[0]["trigger"], json!({"kind": "start", "detail": ""}), "{rows:#?}");
    let answer = client.call("GET", "/api/v1/history?source=nope", None).await.unwrap();
    let error = answer.json();
    assert_eq!((answer.status, text(&error, "message")), (404, "there is no source nope"), "{error}");
    assert_eq!(client.items("/api/v1/history?source=new").await.len(), 1);
}
