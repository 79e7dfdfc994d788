//! What a call gives: parts of its path, its query and its body, with our own words where they do not fit.

use std::fmt;
use std::marker::PhantomData;

use axum::extract::rejection::JsonRejection;
use axum::extract::{FromRequest, FromRequestParts, Json, Path, Query, Request};
use axum::http::request::Parts;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, DeserializeOwned, Deserializer, MapAccess, Visitor};

use crate::config::words;

use super::error::Failure;

/// What serde says, in our own words: without Rust's names and without what was given.
fn told(why: &str) -> String {
    let why = why.split(" at line ").next().unwrap_or(why);
    let (name, why) = match why.split_once(": ") {
        Some((name, rest)) if is_name(name) => (format!("`{name}` "), rest),
        _ => (String::new(), why),
    };
    let quoted = |text: &str| text.split('`').nth(1).unwrap_or_default().escape_debug().to_string();
    if why.starts_with("duplicate field") {
        return format!("the field `{}` is given more than once", quoted(why));
    }
    if why.starts_with("missing field") {
        return format!("the field `{}` is missing", quoted(why));
    }
    if why.starts_with("unknown field") {
        let known: Vec<&str> = why.split('`').skip(3).step_by(2).collect();
        return words::unknown("field", &quoted(why), &known);
    }
    let number = ["invalid digit", "cannot parse integer", "number too", "u32", "u64", "i64", "usize"];
    let wanted = if number.iter().any(|word| why.contains(word)) {
        "a whole number, from 0 on"
    } else if why.contains("`true` or `false`") || why.contains("a boolean") {
        "`true` or `false`"
    } else if why.contains("expected a string") || why.contains("expected string") {
        "text"
    } else if why.contains("expected a map") || why.contains("expected struct") {
        "a map"
    } else if why.contains("expected a sequence") {
        "a list"
    } else {
        return format!("{name}is not what is wanted there");
    };
    if name.is_empty() { format!("{wanted} is wanted") } else { format!("{name}must be {wanted}") }
}

/// Whether this is the path of a field, as it stands before what serde says of it.
fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_alphanumeric() || "_.[]-".contains(c))
}

const DESCRIBED: &str = "what each call takes is in docs/formats.md, and in GET /openapi.json of the service";

/// Why a body is not taken.
fn refused(why: &JsonRejection) -> Failure {
    let text = why.body_text();
    let after = |start: &str| text.strip_prefix(start).unwrap_or(&text).to_owned();
    let message = match why {
        JsonRejection::MissingJsonContentType(_) => {
            "the body must be JSON, with `Content-Type: application/json`".into()
        }
        JsonRejection::JsonSyntaxError(_) => {
            format!("the body is not JSON: {}", after("Failed to parse the request body as JSON: "))
        }
        JsonRejection::JsonDataError(_) => {
            let why = after("Failed to deserialize the JSON body into the target type: ");
            format!("the body does not fit: {}", told(&why))
        }
        _ if text.contains("length limit") => "the body is larger than the 17 MiB allowed".into(),
        _ => "the body did not come in whole".into(),
    };
    Failure::invalid(message).hint(DESCRIBED)
}

/// A value that was written as a JSON object: serde would read the fields of a type from a list too.
struct Object<V>(V);

impl<'de, V: DeserializeOwned> Deserialize<'de> for Object<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor(PhantomData)).map(Self)
    }
}

struct ObjectVisitor<V>(PhantomData<V>);

impl<'de, V: DeserializeOwned> Visitor<'de> for ObjectVisitor<V> {
    type Value = V;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<V, A::Error> {
        V::deserialize(MapAccessDeserializer::new(map))
    }
}

/// [`Json`] with our own error answer.
pub(super) struct Body<V>(pub V);

impl<S: Send + Sync, V: DeserializeOwned> FromRequest<S> for Body<V> {
    type Rejection = Failure;

    async fn from_request(request: Request, state: &S) -> Result<Self, Failure> {
        let read = Json::<Object<V>>::from_request(request, state).await;
        read.map(|Json(Object(value))| Self(value)).map_err(|why| refused(&why))
    }
}

/// [`Query`] with our own error answer.
pub(super) struct Params<V>(pub V);

impl<S: Send + Sync, V: DeserializeOwned> FromRequestParts<S> for Params<V> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let read = Query::<V>::from_request_parts(parts, state).await;
        read.map(|Query(value)| Self(value)).map_err(|why| {
            let text = why.body_text();
            let why = text.strip_prefix("Failed to deserialize query string: ").unwrap_or(&text);
            Failure::invalid(format!("the query does not fit: {}", told(why))).hint(DESCRIBED)
        })
    }
}

/// A part of the path, with our own error answer.
pub(super) struct Part(pub String);

impl<S: Send + Sync> FromRequestParts<S> for Part {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let read = Path::<String>::from_request_parts(parts, state).await;
        read.map(|Path(part)| Self(part))
            .map_err(|_| Failure::invalid("a part of the path is not UTF-8 behind its `%`").hint(DESCRIBED))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_serde_says_is_told_in_our_own_words() {
        for (said, expected) in [
            ("limit: invalid digit found in string", "`limit` must be a whole number, from 0 on"),
            ("limit: number too large to fit in target type", "`limit` must be a whole number, from 0 on"),
            ("follow: provided string was not `true` or `false`", "`follow` must be `true` or `false`"),
            ("duplicate field `limit`", "the field `limit` is given more than once"),
            ("task: duplicate field `task` at line 1", "the field `task` is given more than once"),
            ("missing field `task` at line 1 column 2", "the field `task` is missing"),
            (
                "tsk: unknown field `tsk`, expected one of `task`, `params`, `input` at line 1 column 6",
                "unknown field `tsk`; did you mean `task`? known: task, params, input",
            ),
            (
                "task: invalid type: integer `4711`, expected a string at line 1 column 12",
                "`task` must be text",
            ),
            (
                "params: invalid type: string \"hunter2: x\", expected a map at line 1",
                "`params` must be a map",
            ),
            ("invalid type: sequence, expected a map at line 1 column 3", "a map is wanted"),
            ("something else", "is not what is wanted there"),
        ] {
            assert_eq!(told(said), expected, "{said}");
        }
    }
}
