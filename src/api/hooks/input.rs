//! What a run gets of a call: method, path, query, headers and body, without what proves who called.

use axum::http::{HeaderMap, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::act::{MAX_MESSAGE_BYTES, json};
use crate::api::error::Failure;
use crate::api::wire::AnyJson;
use crate::model::hook::HookMethod;

/// The parameter of the query that is kindling's own.
const WAIT: &str = "wait";

/// Headers with what proves who called: no run gets them.
const SECRET_HEADERS: [&str; 9] = [
    "authorization",
    "proxy-authorization",
    "cookie",
    "x-hub-signature",
    "x-hub-signature-256",
    "x-gitea-signature",
    "x-forgejo-signature",
    "x-gogs-signature",
    "x-gitlab-token",
];

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Input<'a> {
    method: &'a str,
    path: &'a str,
    query: Map<String, Value>,
    headers: Map<String, Value>,
    body: AnyJson,
    /// Bytes that are no text.
    #[serde(skip_serializing_if = "Option::is_none")]
    body_base64: Option<String>,
}

/// The query: a text for each name, or a list where it comes more than once; and what it says of waiting.
pub(super) fn query(text: &str) -> (Map<String, Value>, Option<String>) {
    let mut wait = None;
    let others = form_urlencoded::parse(text.as_bytes()).filter(|(name, value)| {
        let is_wait = name == WAIT;
        if is_wait {
            wait = Some(value.clone().into_owned());
        }
        !is_wait
    });
    (fields(others), wait)
}

/// The input of a run: JSON text.
///
/// # Errors
/// The body is not what its type says, or all together is too large.
pub(super) fn input(
    method: HookMethod,
    path: &str,
    query: Map<String, Value>,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<String, Failure> {
    let (body, body_base64) = content(headers, body)?;
    let headers = shown(headers);
    let input = Input { method: method.as_str(), path, query, headers, body, body_base64 };
    let text = serde_json::to_string(&input).map_err(|error| Failure::malformed(&error.to_string()))?;
    if text.len() > MAX_MESSAGE_BYTES {
        let message = format!("the call has {} bytes as JSON, more than {MAX_MESSAGE_BYTES}", text.len());
        return Err(Failure::too_large(message));
    }
    json::check(&text)
        .map_err(|error| Failure::malformed(&format!("the body is no JSON to go on with: {error}")))?;
    Ok(text)
}

/// The body by its type, as JSON; bytes that are no text apart.
fn content(headers: &HeaderMap, body: &[u8]) -> Result<(AnyJson, Option<String>), Failure> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let json = |value: Value| AnyJson::read(&value.to_string()).unwrap_or_default();
    if body.is_empty() {
        return Ok((AnyJson::default(), None));
    }
    if kind == "application/json" || (kind.starts_with("application/") && kind.ends_with("+json")) {
        let wrong = |why: &str| Failure::malformed(&format!("the body, which is JSON by its type, {why}"));
        let text = std::str::from_utf8(body).map_err(|_| wrong("is not UTF-8"))?;
        json::check(text).map_err(|error| wrong(&error.to_string()))?;
        // With every digit, and in one line: programs read it so.
        return AnyJson::read(text).map(|body| (body, None)).ok_or_else(|| wrong("is not JSON"));
    }
    if kind == "application/x-www-form-urlencoded" {
        return Ok((json(Value::Object(fields(form_urlencoded::parse(body)))), None));
    }
    match std::str::from_utf8(body) {
        Ok(text) => Ok((json(Value::from(text)), None)),
        Err(_) => Ok((AnyJson::default(), Some(STANDARD.encode(body)))),
    }
}

/// Names with their values; one that comes more than once has a list.
fn fields<N: AsRef<str>, V: AsRef<str>>(pairs: impl Iterator<Item = (N, V)>) -> Map<String, Value> {
    let mut map = Map::new();
    for (name, value) in pairs {
        let value = Value::from(value.as_ref());
        match map.get_mut(name.as_ref()) {
            None => drop(map.insert(name.as_ref().to_owned(), value)),
            Some(Value::Array(known)) => known.push(value),
            Some(known) => *known = Value::Array(vec![known.take(), value]),
        }
    }
    map
}

/// The headers that a run may see: names in lower case, values of one name joined.
fn shown(headers: &HeaderMap) -> Map<String, Value> {
    let names = headers.keys().filter(|name| !SECRET_HEADERS.contains(&name.as_str()));
    let joined = |name| {
        let values = headers.get_all(name).iter();
        values.map(|value| String::from_utf8_lossy(value.as_bytes())).collect::<Vec<_>>().join(", ")
    };
    names.map(|name| (name.as_str().to_owned(), Value::from(joined(name)))).collect()
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use serde_json::json;

    use super::*;

    fn of(kind: &str, body: &[u8]) -> Result<Value, Failure> {
        let mut headers = HeaderMap::new();
        if !kind.is_empty() {
            headers.insert("content-type", HeaderValue::from_str(kind).unwrap());
        }
        let text = input(HookMethod::Post, "/hooks/a", Map::new(), &headers, body)?;
        Ok(serde_json::from_str(&text).unwrap())
    }

    #[test]
    fn a_body_is_read_by_its_type() {
        let body = |kind: &str, text: &str| of(kind, text.as_bytes()).unwrap()["body"].clone();
        assert_eq!(body("application/json", " {\"a\": [1]}\n"), json!({"a": [1]}));
        assert_eq!(body("Application/JSON; charset=utf-8", "null"), json!(null));
        assert_eq!(body("application/cloudevents+json", "5"), json!(5));
        assert_eq!(
            body("application/x-www-form-urlencoded", "a=1&b=%C3%A4+c&a=2&d"),
            json!({"a": ["1", "2"], "b": "ä c", "d": ""})
        );
        assert_eq!(body("text/plain", "{\"a\": 1}"), json!("{\"a\": 1}"));
        assert_eq!(body("", "x"), json!("x"));
        assert_eq!(body("application/json", ""), json!(null));
        let bytes = of("image/png", b"\x89PNG\xff").unwrap();
        assert_eq!((&bytes["body"], &bytes["bodyBase64"]), (&json!(null), &json!("iVBOR/8=")));
        assert!(of("text/plain", b"x").unwrap().get("bodyBase64").is_none());
    }

    #[test]
    fn what_is_not_json_is_told_with_its_place() {
        let wrong = |body: &[u8]| {
            let Failure { message, status, .. } = of("application/json", body).unwrap_err();
            format!("{} {message}", status.as_u16())
        };
        assert_eq!(
            wrong(b"{\"a\": }"),
            "400 the body, which is JSON by its type, is not JSON: expected value at line 1 column 7"
        );
        assert_eq!(
            wrong(b"1 2"),
            "400 the body, which is JSON by its type, is not JSON: trailing characters at line 1 column 3"
        );
        assert_eq!(wrong(b"\"\xff\""), "400 the body, which is JSON by its type, is not UTF-8");
        let deep = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert!(
            wrong(deep(101).as_bytes()).starts_with("400 ")
                && wrong(deep(100_000).as_bytes()).starts_with("400 ")
        );
        assert!(of("application/json", deep(99).as_bytes()).is_ok());
        assert!(of("application/json", b"1e999").is_err());
        assert!(of("application/octet-stream", &vec![0xff; 13 << 20]).is_err(), "larger than a run may get");
    }

    #[test]
    fn numbers_stay_as_they_are_written_and_all_is_one_line() {
        let mut headers = HeaderMap::new();
        headers.insert("content-type", HeaderValue::from_static("application/json"));
        let text = input(
            HookMethod::Get,
            "/hooks/a",
            Map::new(),
            &headers,
            b"[123456789012345678901234567890,\n 1.10]",
        );
        assert!(text.unwrap().contains("[123456789012345678901234567890,1.10]"));
    }

    #[test]
    fn no_run_sees_what_proves_who_called() {
        let mut headers = HeaderMap::new();
        for name in SECRET_HEADERS {
            headers.insert(name, HeaderValue::from_static("hidden"));
        }
        headers.append("X-Many", HeaderValue::from_static("a"));
        headers.append("x-many", HeaderValue::from_static("b"));
        let text = input(HookMethod::Head, "/hooks/a/b", Map::new(), &headers, b"").unwrap();
        assert_eq!(
            text,
            r#"{"method":"HEAD","path":"/hooks/a/b","query":{},"headers":{"x-many":"a, b"},"body":null}"#
        );
    }

    #[test]
    fn the_query_keeps_all_but_the_wish_to_wait() {
        let (all, wait) = query("a=1&wait=false&b=&a=%20&c");
        assert_eq!(
            (Value::Object(all), wait.as_deref()),
            (json!({"a": ["1", " "], "b": "", "c": ""}), Some("false"))
        );
        assert_eq!(query("").1, None);
    }
}
