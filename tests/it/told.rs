//! What callers are told when what they ask is wrong, or cannot be done: in kindling's own words.

use serde_json::json;

use crate::service::{Service, manifest};

#[tokio::test]
async fn wrong_queries_and_bodies_are_told_in_our_own_words() {
    let mut service = Service::new("sources: []\n");
    let client = service.start().await;
    let error = async |method: &str, path: &str, body: Option<serde_json::Value>| {
        let answer = client.call(method, path, body.as_ref()).await.unwrap();
        let said = answer.json();
        assert_eq!((answer.status, &said["code"]), (422, &json!("Invalid")), "{said}");
        assert!(said["hint"].as_str().is_some_and(|hint| hint.contains("openapi.json")), "{said}");
        said["message"].as_str().unwrap().to_owned()
    };
    assert_eq!(
        error("GET", "/api/v1/runs?limit=x", None).await,
        "the query does not fit: `limit` must be a whole number, from 0 on"
    );
    assert_eq!(
        error("GET", "/api/v1/units?marked=perhaps", None).await,
        "the query does not fit: `marked` must be `true` or `false`"
    );
    assert_eq!(
        error("POST", "/api/v1/runs", Some(json!({}))).await,
        "the body does not fit: the field `task` is missing"
    );
    assert_eq!(
        error("POST", "/api/v1/runs", Some(json!({"tsk": "hunter2"}))).await,
        "the body does not fit: unknown field `tsk`; did you mean `task`? known: task, params, input"
    );
    assert_eq!(
        error("POST", "/api/v1/runs", Some(json!({"task": 4711}))).await,
        "the body does not fit: `task` must be text"
    );
    assert_eq!(
        error("GET", "/api/v1/runs?limit=1&limit=2", None).await,
        "the query does not fit: the field `limit` is given more than once"
    );
    // A list is no object, although its entries might be the fields.
    assert_eq!(
        error("POST", "/api/v1/runs", Some(json!(["local/a", {}, null]))).await,
        "the body does not fit: a map is wanted"
    );
    assert_eq!(
        error("GET", "/api/v1/runs/%FF", None).await,
        "a part of the path is not UTF-8 behind its `%`"
    );
}

#[tokio::test]
async fn parts_of_a_path_that_can_be_nothing_are_answered_as_json() {
    let mut service = Service::new("sources: []\n");
    let client = service.start().await;
    for (path, status, message) in [
        ("/api/v1/deliveries/abc/redeliver", 404, "there is no delivery abc"),
        ("/api/v1/deliveries/7/redeliver", 404, "there is no delivery 7"),
        ("/api/v1/sources/%FF/sample-push", 422, "a part of the path is not UTF-8 behind its `%`"),
        ("/webhooks/%00%ff", 401, "there is no such webhook, or the signature is missing or wrong"),
        ("/webhooks/nobody", 401, "there is no such webhook, or the signature is missing or wrong"),
        ("/hooks/%ff", 404, ""),
        ("/%ff", 404, "there is no such path; this may be another version of kindling"),
    ] {
        let answer = client.call("POST", path, Some(&json!({}))).await.unwrap();
        assert_eq!(answer.status, status, "{path}: {}", answer.body);
        assert!(answer.json()["message"].as_str().unwrap().contains(message), "{path}: {}", answer.body);
    }
}

#[tokio::test]
async fn a_diff_of_a_source_that_has_only_problems_shows_them() {
    let mut service = Service::new("sources: [{name: local, local: {path: tasks}}]\n");
    service.write("tasks/taskset.yaml", "apiVersion: kindling/v1\nkind: TaskSet\nspec: {entries: [1]}\n");
    // Without a service, and with one.
    let args: [&[&str]; 2] = [&["diff", "local", "--local", "tasks"], &["diff", "local"]];
    for (at, args) in args.into_iter().enumerate() {
        if at == 1 {
            service.start().await;
        }
        let ended = service.attempt(args).await;
        let out = String::from_utf8(ended.stdout).unwrap() + &String::from_utf8(ended.stderr).unwrap();
        assert_eq!(ended.status.code(), Some(1), "{out}");
        assert!(out.contains("local: ") && out.contains("taskset.yaml:3:"), "{out}");
        assert!(!out.contains("no differences"), "{out}");
    }
}

#[tokio::test]
async fn a_diff_with_a_directory_tells_of_paths_that_are_taken() {
    let mut service =
        Service::new("sources:\n  - {name: one, local: {path: one}}\n  - {name: two, local: {path: two}}\n");
    let hook = |service: &Service, dir: &str, path: &str| {
        let name = dir.rsplit('/').next().unwrap();
        service.write(&format!("{dir}/task.yaml"), manifest(name, &format!("webhook: {path}")));
        service.write(&format!("{dir}/task.sh"), "echo\n");
    };
    hook(&service, "one/a", "/hooks/x");
    let client = service.start().await;
    client.unit_until("one/a", "is served", |unit| unit["hook"] == "/hooks/x").await;
    assert!(service.terminate().await.success());
    for (dir, path) in [("other/b", "/hooks/x"), ("other/c", "/hooks/y"), ("other/d", "/hooks/y")] {
        hook(&service, dir, path);
    }
    let ended = service.attempt(&["diff", "two", "--local", "other"]).await;
    let out = String::from_utf8(ended.stdout).unwrap() + &String::from_utf8(ended.stderr).unwrap();
    assert!(out.contains("asks for `/hooks/x`, where `one/a` is served"), "{out}");
    assert!(out.contains("asks for `/hooks/y`, where `two/c` is served"), "{out}");
    assert!(out.contains("two/c") && out.matches("is served").count() == 2, "{out}");
}
