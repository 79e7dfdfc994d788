//! `/openapi.json`, and who is let in: the routes of the description are the routes of the router, by the same table.

use super::{bare, calls, service};

/// Routes that need no token (DESIGN 11); webhooks come with their own checks.
///
/// Task webhooks, below `/hooks/`, are no part of the description: their paths, methods and answers are those of the
/// tasks, and change with every save.
const OPEN: [&str; 2] = ["/healthz", "/readyz"];

#[tokio::test]
async fn every_route_but_health_refuses_a_call_without_the_token() {
    let mut service = service();
    let client = service.start().await;
    let address = std::fs::read_to_string(service.data_dir().join("address")).unwrap();
    let address = address.trim();
    let calls = calls(&client.get("/openapi.json").await);
    assert!(calls.len() >= 25, "{}", calls.len());
    let host = format!("Host: {address}\r\n");
    let token = std::fs::read_to_string(service.data_dir().join("token")).unwrap();
    for (method, path, is_open) in &calls {
        assert_eq!(OPEN.contains(&path.as_str()), *is_open, "{path}");
        let expected = if *is_open { 200 } else { 401 };
        let wrong = [
            String::new(),
            "Authorization: Bearer \r\n".into(),
            "Authorization: Bearer 0123456789abcdef0123456789abcdef\r\n".into(),
            format!("Authorization: Basic {}\r\n", token.trim()),
            format!("Cookie: token={0}\r\nX-Token: {0}\r\n", token.trim()),
        ];
        for headers in wrong {
            let status = bare(address, method, path, &format!("{host}{headers}")).await;
            assert_eq!(status, expected, "{method} {path} with {headers:?}");
        }
        let status = bare(address, method, &format!("{path}?token={}", token.trim()), &host).await;
        assert_eq!(status, expected, "{method} {path} with the token in its query");
    }
    assert!(!calls.iter().any(|(_, path, _)| path.starts_with("/hooks")));
    for method in ["GET", "POST", "PUT", "DELETE"] {
        assert_eq!(bare(address, method, "/hooks/nothing", &host).await, 404, "{method}");
    }
    // A path that no route has tells a stranger no more than one that is there.
    assert_eq!(bare(address, "GET", "/api/v1/nothing", &host).await, 401);
    assert_eq!(bare(address, "PATCH", "/api/v1/units", &host).await, 401);
}

#[tokio::test]
async fn every_route_refuses_a_page_of_another_place_even_with_the_token() {
    let mut service = service();
    let client = service.start().await;
    let address = std::fs::read_to_string(service.data_dir().join("address")).unwrap();
    let address = address.trim();
    let token = std::fs::read_to_string(service.data_dir().join("token")).unwrap();
    let token = format!("Authorization: Bearer {}\r\n", token.trim());
    for (method, path, _) in calls(&client.get("/openapi.json").await) {
        for place in [
            "Host: evil.example\r\n".to_owned(),
            "Host: localhost.evil.example\r\n".to_owned(),
            String::new(),
            format!("Host: {address}\r\nOrigin: https://evil.example\r\n"),
            format!("Host: {address}\r\nOrigin: null\r\n"),
        ] {
            let status = bare(address, &method, &path, &format!("{place}{token}")).await;
            // A webhook takes no token, and its provider names whatever host it likes.
            let expected = if path.starts_with("/webhooks/") { 401 } else { 403 };
            assert_eq!(status, expected, "{method} {path} with {place:?}");
        }
    }
}

#[tokio::test]
async fn every_route_is_in_the_documents() {
    let mut service = service();
    let document = service.start().await.get("/openapi.json").await;
    let formats = include_str!("../../../docs/formats.md");
    for (path, methods) in document["paths"].as_object().unwrap() {
        let shown = path.replace("{name}", "NAME").replace("{id}", "ID").replace("{number}", "NUMBER");
        for method in methods.as_object().unwrap().keys() {
            let route = format!("| `{} {shown}", method.to_uppercase());
            assert!(formats.contains(&route), "{route} is not in docs/formats.md");
        }
    }
}

#[tokio::test]
async fn every_call_of_the_description_is_answered_and_no_other() {
    let mut service = service();
    let client = service.start().await;
    let document = client.get("/openapi.json").await;
    assert_eq!(document["openapi"], "3.1.0");
    let methods = ["GET", "POST", "PUT", "DELETE", "PATCH"];
    let calls = calls(&document);
    let paths: std::collections::BTreeSet<&str> = calls.iter().map(|(_, path, _)| path.as_str()).collect();
    for path in paths {
        for method in methods {
            if path == "/api/v1/events" && method == "GET" {
                continue;
            }
            let is_there = calls.iter().any(|(known, at, _)| known == method && at == path);
            // A call that needs a body or an argument gets none here: what counts is that it was reached.
            let status = client.call(method, path, None).await.unwrap().status;
            assert_eq!(status != 405, is_there, "{method} {path}: {status}");
        }
    }
}
