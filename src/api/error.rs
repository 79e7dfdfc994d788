//! Answers of calls that were not carried out.

use std::fmt;

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use crate::reconcile::message::{Refusal, RefusalKind};
use crate::reconcile::runs::chain;
use crate::record::StoreError;

use super::wire::ErrorView;

/// Exit codes of the command line (DESIGN 11); an error answer carries its own.
pub mod exit {
    /// Done.
    pub const DONE: u8 = 0;
    /// What was asked about is not so.
    pub const NOT_SO: u8 = 1;
    /// Usage or configuration.
    pub const USAGE: u8 = 2;
    /// The outside failed.
    pub const OUTSIDE: u8 = 3;
    /// A bug.
    pub const BUG: u8 = 70;
    /// Timed out.
    pub const TIMED_OUT: u8 = 124;
}

/// Words of error answers.
pub mod code {
    /// What was named does not exist.
    pub const NOT_FOUND: &str = "NotFound";
    /// What was named may be several.
    pub const AMBIGUOUS: &str = "Ambiguous";
    /// It cannot be done as things stand.
    pub const CONFLICT: &str = "Conflict";
    /// There is too much to do already; later it may be done.
    pub const TOO_MANY: &str = "TooMany";
    /// What was given is wrong.
    pub const INVALID: &str = "Invalid";
    /// The source, the disk or the service failed.
    pub const FAILED: &str = "Failed";
    /// The token is missing or wrong.
    pub const UNAUTHORIZED: &str = "Unauthorized";
    /// The caller's origin is not served.
    pub const FORBIDDEN: &str = "Forbidden";
}

/// An answer that says no.
#[derive(Debug)]
pub struct Failure {
    pub(super) status: StatusCode,
    code: &'static str,
    pub(super) message: String,
    hint: Option<String>,
    exit: u8,
}

impl Failure {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>, exit: u8) -> Self {
        Self { status, code, message: message.into(), hint: None, exit }
    }

    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, code::NOT_FOUND, message, exit::USAGE)
    }

    pub(super) fn ambiguous(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, code::AMBIGUOUS, message, exit::USAGE)
    }

    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, code::INVALID, message, exit::USAGE)
    }

    pub(super) fn failed(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, code::FAILED, message, exit::OUTSIDE)
    }

    pub(super) fn malformed(message: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code::INVALID, message, exit::USAGE)
    }

    pub(super) fn too_large(message: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, code::INVALID, message, exit::USAGE)
    }

    pub(super) fn timed_out(message: &str) -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, code::INVALID, message, exit::USAGE)
    }

    /// A delivery to a source that has no webhook, or without its signature: nobody learns which.
    pub(super) fn unsigned() -> Self {
        let message = "there is no such webhook, or the signature is missing or wrong";
        Self::new(StatusCode::UNAUTHORIZED, code::UNAUTHORIZED, message, exit::OUTSIDE)
    }

    /// A call of a task webhook without what it wants: nobody learns which of them is wrong.
    pub(super) fn unproven() -> Self {
        let message = "the signature or the token is missing or wrong";
        Self::new(StatusCode::UNAUTHORIZED, code::UNAUTHORIZED, message, exit::OUTSIDE)
    }

    /// A call with another method than those of `allow`.
    pub(super) fn method(allow: &str) -> Self {
        let message = format!("this hook takes {allow} only");
        Self::new(StatusCode::METHOD_NOT_ALLOWED, code::INVALID, message, exit::USAGE)
    }

    pub(super) fn version() -> Self {
        let message = "only HTTP/1.0 and HTTP/1.1 are spoken here";
        Self::new(StatusCode::HTTP_VERSION_NOT_SUPPORTED, code::INVALID, message, exit::USAGE)
    }

    pub(super) fn unauthorized() -> Self {
        let message = "the token is missing or wrong";
        Self::new(StatusCode::UNAUTHORIZED, code::UNAUTHORIZED, message, exit::OUTSIDE)
            .hint("set KINDLING_TOKEN, or run the command where the service's data directory is")
    }

    pub(super) fn forbidden(message: &str) -> Self {
        Self::new(StatusCode::FORBIDDEN, code::FORBIDDEN, message, exit::OUTSIDE)
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let (status, code, exit) = match refusal.kind {
            RefusalKind::NotFound => (StatusCode::NOT_FOUND, code::NOT_FOUND, exit::USAGE),
            RefusalKind::Conflict => (StatusCode::CONFLICT, code::CONFLICT, exit::NOT_SO),
            RefusalKind::Busy => (StatusCode::TOO_MANY_REQUESTS, code::TOO_MANY, exit::NOT_SO),
            RefusalKind::Invalid => (StatusCode::UNPROCESSABLE_ENTITY, code::INVALID, exit::USAGE),
            RefusalKind::Failed => (StatusCode::SERVICE_UNAVAILABLE, code::FAILED, exit::OUTSIDE),
        };
        Self { hint: refusal.hint, ..Self::new(status, code, refusal.message, exit) }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::failed(chain(&error))
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let view = ErrorView {
            code: self.code.into(),
            message: self.message,
            hint: self.hint,
            file: None,
            line: None,
            column: None,
            exit: self.exit,
        };
        (self.status, Json(view)).into_response()
    }
}

/// A path that no route has.
pub(super) async fn no_route() -> Failure {
    Failure::not_found("there is no such path; this may be another version of kindling")
}

/// A path that a route has, with another method.
pub(super) async fn no_method() -> Failure {
    let message = "this path does not take this method";
    Failure::new(StatusCode::METHOD_NOT_ALLOWED, code::INVALID, message, exit::USAGE)
}
