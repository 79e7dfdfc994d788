//! The answer to a call: what the run gave, or that it came to nothing.

use axum::Json;
use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::act::response::Response as Set;
use crate::api::error::code;
use crate::model::hash::UnitHash;
use crate::model::id::RunId;
use crate::model::run::{Run, RunStatus};

use super::Told;

/// The header that names the run.
const RUN: HeaderName = HeaderName::from_static("kindling-run");
/// The header that names the version which it executed.
const HASH: HeaderName = HeaderName::from_static("kindling-hash");

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";

/// The answer that a run which is over makes.
pub(super) fn of_run(run: &Run) -> Told {
    let (result, response) = match run.status {
        RunStatus::Succeeded => ("succeeded", succeeded(run)),
        RunStatus::TimedOut => {
            ("timedOut", nothing(run, StatusCode::GATEWAY_TIMEOUT, "TimedOut", "ran out of time"))
        }
        RunStatus::Cancelled => {
            ("cancelled", nothing(run, StatusCode::SERVICE_UNAVAILABLE, "Cancelled", "was cancelled"))
        }
        RunStatus::Interrupted => {
            let why = "was interrupted: kindling ended";
            ("interrupted", nothing(run, StatusCode::SERVICE_UNAVAILABLE, "Interrupted", why))
        }
        RunStatus::Skipped => {
            let why = "was skipped: another run of the task is not over";
            ("skipped", nothing(run, StatusCode::CONFLICT, code::CONFLICT, why))
        }
        RunStatus::Failed | RunStatus::Queued | RunStatus::Running => ("failed", failed(run)),
    };
    Told { result, response: marked(response, &run.id, &run.hash) }
}

/// Names run and version.
pub(super) fn marked(mut response: Response, run: &RunId, hash: &UnitHash) -> Response {
    for (name, value) in [(RUN, run.to_string()), (HASH, hash.to_string())] {
        if let Ok(value) = HeaderValue::from_str(&value) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

/// What a script raised is for its owner, in the log; a caller may be anybody.
fn failed(run: &Run) -> Response {
    nothing(run, StatusCode::INTERNAL_SERVER_ERROR, code::FAILED, "failed")
}

fn nothing(run: &Run, status: StatusCode, code: &str, what: &str) -> Response {
    let message = format!("run {} {what}", run.id);
    (status, Json(json!({ "code": code, "message": message, "run": run.id.as_str() }))).into_response()
}

fn succeeded(run: &Run) -> Response {
    let Some(set) = &run.response else {
        return body(run.output.as_deref().unwrap_or("null")).into_response();
    };
    // It was read once, when it was taken from the script.
    match Set::read(set) {
        Ok(set) => by_script(&set).unwrap_or_else(|| failed(run)),
        Err(_) => failed(run),
    }
}

/// JSON text as a body: a text as it is.
fn body(json: &str) -> ([(HeaderName, &'static str); 1], String) {
    match serde_json::from_str::<String>(json) {
        Ok(text) => ([(header::CONTENT_TYPE, TEXT)], text),
        Err(_) => ([(header::CONTENT_TYPE, JSON)], json.to_owned()),
    }
}

fn by_script(set: &Set) -> Option<Response> {
    let status = StatusCode::from_u16(set.status).ok()?;
    let json = set.body.get();
    let is_empty = matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) || json == "null";
    let mut response = if is_empty { Body::empty().into_response() } else { body(json).into_response() };
    *response.status_mut() = status;
    if set.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type")) {
        response.headers_mut().remove(header::CONTENT_TYPE);
    }
    for (name, value) in &set.headers {
        let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
        response.headers_mut().append(name, HeaderValue::from_str(value).ok()?);
    }
    Some(response)
}
