//! The answers of a service that had something to do, held against the schemas of its description.

use serde_json::{Value, json};

use super::service;

/// What does not fit, as `PLACE: WHAT`. It knows as much of JSON Schema as the description uses.
fn misfits(document: &Value, schema: &Value, value: &Value, place: &str, found: &mut Vec<String>) {
    if let Some(name) = schema["$ref"].as_str() {
        let of = &document.pointer(name.trim_start_matches('#')).unwrap_or(&Value::Null);
        assert!(!of.is_null(), "{name} leads nowhere");
        return misfits(document, of, value, place, found);
    }
    if let Some(any) = schema["anyOf"].as_array() {
        let fits = |of: &Value| {
            let mut found = Vec::new();
            misfits(document, of, value, place, &mut found);
            found.is_empty()
        };
        if !any.iter().any(fits) {
            found.push(format!("{place}: fits none"));
        }
        return;
    }
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(n) if n.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let kinds: Vec<&str> = match &schema["type"] {
        Value::String(one) => vec![one],
        Value::Array(some) => some.iter().filter_map(Value::as_str).collect(),
        // Any JSON.
        _ => return,
    };
    let fits = kinds.contains(&kind) || (kind == "integer" && kinds.contains(&"number"));
    if !fits {
        return found.push(format!("{place}: {kind} is none of {kinds:?}"));
    }
    for (at, item) in value.as_array().into_iter().flatten().enumerate() {
        misfits(document, &schema["items"], item, &format!("{place}[{at}]"), found);
    }
    let (Some(fields), Some(known)) = (value.as_object(), schema["properties"].as_object()) else { return };
    for (name, field) in fields {
        match known.get(name) {
            Some(of) => misfits(document, of, field, &format!("{place}.{name}"), found),
            None => found.push(format!("{place}.{name}: is not described")),
        }
    }
    let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let missing = required.filter(|name| !fields.contains_key(*name));
    found.extend(missing.map(|name| format!("{place}.{name}: is missing")));
    // What is given has every field, so that a client may count on it.
    let given = known.keys().filter(|name| !fields.contains_key(*name));
    found.extend(given.map(|name| format!("{place}.{name}: is described and not given")));
}

fn schema_of<'a>(document: &'a Value, path: &str, method: &str, kind: &str) -> &'a Value {
    let answers = document["paths"][path][method]["responses"].as_object().unwrap();
    let (_, answer) = answers.iter().find(|(status, _)| status.starts_with('2')).unwrap();
    &answer["content"][kind]["schema"]
}

fn assert_fits(document: &Value, path: &str, method: &str, value: &Value) {
    let mut found = Vec::new();
    let schema = schema_of(document, path, method, "application/json");
    assert!(schema.is_object(), "{method} {path} has no schema");
    misfits(document, schema, value, path, &mut found);
    assert!(found.is_empty(), "{method} {path}:\n{}\n{value:#}", found.join("\n"));
}

#[tokio::test]
async fn answers_are_as_described_to_the_last_field() {
    let mut service = service();
    let client = service.start().await;
    let document = client.get("/openapi.json").await;
    let mut events = client.events().await;
    service.task("tasks/hello", "echo hello again; echo a line >&2\n");
    let event = events.until("unit.updated", "team/hello").await;
    let mut found = Vec::new();
    let schema = schema_of(&document, "/api/v1/events", "get", "text/event-stream");
    misfits(&document, schema, &event, "event", &mut found);
    assert!(found.is_empty(), "{found:?}");

    let run = client.run("hello").await;
    assert_fits(&document, "/api/v1/runs/{id}", "get", &run);
    let id = run["id"].as_str().unwrap();
    let rollback = client.post("/api/v1/rollback", json!({ "unit": "team/hello" })).await;
    assert_fits(&document, "/api/v1/rollback", "post", &rollback);
    assert!(rollback["steps"][0]["files"][0].is_object() && rollback["unready"][0].is_object(), "{rollback}");
    let suspended = json!({ "subject": "team/hello", "reason": "a test" });
    client.post("/api/v1/suspend", suspended).await;
    let reconciled = client.reconcile().await;
    assert_fits(&document, "/api/v1/reconcile", "post", &reconciled);
    for (path, call) in [
        ("/api/v1/status", "/api/v1/status".to_owned()),
        ("/api/v1/sources", "/api/v1/sources".to_owned()),
        ("/api/v1/units", "/api/v1/units".to_owned()),
        ("/api/v1/history", "/api/v1/history".to_owned()),
        ("/api/v1/why", "/api/v1/why?unit=team/hello".to_owned()),
        ("/api/v1/why", "/api/v1/why?unit=broken".to_owned()),
        ("/api/v1/runs", "/api/v1/runs".to_owned()),
        ("/api/v1/runs/{id}/log", format!("/api/v1/runs/{id}/log")),
    ] {
        let value = client.get(&call).await;
        assert!(value["items"].as_array().is_none_or(|items| !items.is_empty()), "{call} is empty");
        assert_fits(&document, path, "get", &value);
    }
    let error = client.call("GET", "/api/v1/why?unit=nothing", None).await.unwrap().json();
    let mut found = Vec::new();
    let schema = &document["components"]["responses"]["error"]["content"]["application/json"]["schema"];
    misfits(&document, schema, &error, "error", &mut found);
    assert!(found.is_empty(), "{found:?}");
}

#[tokio::test]
async fn the_description_names_every_schema_once_and_uses_all() {
    let mut service = service();
    let document = service.start().await.get("/openapi.json").await;
    let text = document.to_string();
    for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
        assert!(text.contains(&format!("\"#/components/schemas/{name}\"")), "nothing leads to {name}");
        assert!(schema["description"].is_string(), "{name} says nothing of itself");
        for (field, of) in schema["properties"].as_object().into_iter().flatten() {
            assert!(of["description"].is_string(), "{name}.{field} says nothing of itself");
        }
    }
    let calls =
        document["paths"].as_object().unwrap().values().flat_map(|of| of.as_object().unwrap().values());
    let ids: Vec<&str> = calls.map(|call| call["operationId"].as_str().unwrap()).collect();
    let distinct: std::collections::BTreeSet<_> = ids.iter().collect();
    assert_eq!(ids.len(), distinct.len());
}
