//! `/openapi.json`: the API described, from the table of routes and the types of the wire.

use axum::Json;
use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use crate::act::Target;

use super::routes::{self, Endpoint, Gives, Needs};
use super::wire::ErrorView;

/// The document.
pub(super) async fn serve<T: Target>() -> Json<Value> {
    Json(document(routes::table::<T>().iter().map(|route| &route.endpoint)))
}

/// Describes these calls.
fn document<'a>(endpoints: impl Iterator<Item = &'a Endpoint>) -> Value {
    let settings = || {
        let mut settings = SchemaSettings::draft2020_12();
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
        settings
    };
    // What is taken may leave fields out; what is given has them all.
    let mut taken = settings().for_deserialize().into_generator();
    let mut given = settings().for_serialize().into_generator();
    let error = given.subschema_for::<ErrorView>();
    let mut paths = Map::new();
    for endpoint in endpoints {
        let path = paths.entry(endpoint.path).or_insert_with(|| json!({}));
        path[endpoint.method.as_str()] = operation(endpoint, &mut taken, &mut given);
    }
    let mut schemas = taken.take_definitions(true);
    schemas.append(&mut given.take_definitions(true));
    schemas.sort_keys();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "kindling",
            "version": env!("CARGO_PKG_VERSION"),
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        "security": [{ "token": [] }],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": { "error": content("It was not carried out", "application/json", &json!(error)) },
            "securitySchemes": {
                "token": { "type": "http", "scheme": "bearer" },
                "signature": { "type": "apiKey", "in": "header", "name": "X-Hub-Signature-256" },
            },
        },
    })
}

fn operation(endpoint: &Endpoint, taken: &mut SchemaGenerator, given: &mut SchemaGenerator) -> Value {
    let mut answers = Map::new();
    answers.insert(endpoint.status.to_string(), answer(endpoint.gives, given));
    let mut made = json!({ "operationId": endpoint.id, "summary": endpoint.about });
    let parameters = parameters(endpoint, taken);
    if !parameters.is_empty() {
        made["parameters"] = parameters.into();
    }
    if let Some(body) = endpoint.body {
        let schema = body(taken);
        made["requestBody"] =
            json!({ "required": true, "content": { "application/json": { "schema": schema } } });
    }
    match endpoint.needs {
        Needs::Nothing => made["security"] = json!([]),
        Needs::Signature => made["security"] = json!([{ "signature": [] }]),
        Needs::Token => {}
    }
    if endpoint.needs != Needs::Nothing {
        answers.insert("default".into(), json!({ "$ref": "#/components/responses/error" }));
    }
    made["responses"] = answers.into();
    made
}

fn answer(gives: Gives, given: &mut SchemaGenerator) -> Value {
    const JSON: &str = "application/json";
    const EVENTS: &str = "text/event-stream";
    let done = "It was carried out";
    match gives {
        Gives::Text => content(done, "text/plain", &json!({ "type": "string" })),
        Gives::Anything => content(done, JSON, &json!({ "type": "object" })),
        Gives::Json(schema) => content(done, JSON, &json!(schema(given))),
        Gives::Events(schema) => content(done, EVENTS, &json!(schema(given))),
        Gives::Either(schema, event) => {
            let mut both = content(done, JSON, &json!(schema(given)));
            both["content"][EVENTS] = json!({ "schema": event(given) });
            both
        }
    }
}

fn content(about: &str, kind: &str, schema: &Value) -> Value {
    json!({ "description": about, "content": { kind: { "schema": schema } } })
}

/// What stands in the path, then what follows the `?`.
fn parameters(endpoint: &Endpoint, taken: &mut SchemaGenerator) -> Vec<Value> {
    let filled = endpoint.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let mut all: Vec<Value> = filled
        .map(|name| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } }))
        .collect();
    let Some(query) = endpoint.query else { return all };
    let schema = query(taken).to_value();
    let required: Vec<&str> =
        schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    for (name, of) in schema["properties"].as_object().into_iter().flatten() {
        let mut of = of.clone();
        let about = of.as_object_mut().and_then(|of| of.remove("description")).unwrap_or_default();
        all.push(json!({
            "name": name, "in": "query", "required": required.contains(&name.as_str()), "description": about,
            "schema": of,
        }));
    }
    all
}
