//! What a caller named: a source, a unit or a run, in full or by a part that only one has.

use std::sync::Arc;

use axum::extract::rejection::JsonRejection;
use axum::extract::{FromRequest, FromRequestParts, Json, Query, Request};
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

use crate::act::Target;
use crate::config::words;
use crate::model::id::{SourceName, UnitId};
use crate::model::run::Run;
use crate::reconcile::handle::{Handle, Subject};
use crate::record::{SourceRecord, UnitRecord};

use super::error::Failure;

/// Fewest characters of an id's or a hash's beginning that may stand for it.
const SHORTEST_PREFIX: usize = 4;
/// Candidates that an error lists.
const CANDIDATES: usize = 10;

/// One unit by its id or a unique suffix of it.
pub(super) fn unit<T: Target>(service: &Handle<T>, typed: &str) -> Result<Arc<UnitRecord>, Failure> {
    let mut found = service.core().board.matching(typed);
    match found.len() {
        0 => Err(no_unit(&service.core().board.units(), typed)),
        1 => Ok(found.remove(0)),
        many => {
            let names: Vec<String> = found.iter().take(CANDIDATES).map(|unit| unit.id.to_string()).collect();
            let more = if many > CANDIDATES { ", ..." } else { "" };
            let message = format!("{} may be {many} units: {}{more}", typed.escape_debug(), names.join(", "));
            Err(Failure::ambiguous(message))
        }
    }
}

/// Says that there is no such unit, and which one is nearest in its spelling.
pub(super) fn no_unit(units: &[Arc<UnitRecord>], typed: &str) -> Failure {
    let near = near_unit(units, typed);
    Failure::not_found(format!("there is no unit {}{near}", typed.escape_debug())).hint("kindling get units")
}

/// The unit whose id, or the last part of it, is nearest to what was typed, as the end of a sentence.
fn near_unit(units: &[Arc<UnitRecord>], typed: &str) -> String {
    let ids: Vec<String> = units.iter().map(|unit| unit.id.to_string()).collect();
    let is_whole = typed.contains('/');
    let part = |id: &str| id.rfind('/').filter(|_| !is_whole).map_or(0, |at| at + 1);
    let parts: Vec<&str> = ids.iter().map(|id| &id[part(id)..]).collect();
    let near = words::nearest(typed, &parts).and_then(|near| parts.iter().position(|part| *part == near));
    near.map(|at| format!("; did you mean {}?", ids[at])).unwrap_or_default()
}

/// Says that there is no such source, and which one is nearest in its spelling.
pub(super) fn no_source(sources: &[Arc<SourceRecord>], typed: &str) -> Failure {
    let near = near_source(sources, typed);
    let message = format!("there is no source {}{near}", typed.escape_debug());
    Failure::not_found(message).hint("kindling get sources")
}

fn near_source(sources: &[Arc<SourceRecord>], typed: &str) -> String {
    let names: Vec<&str> = sources.iter().map(|source| source.spec.name.as_str()).collect();
    words::nearest(typed, &names).map(|near| format!("; did you mean {near}?")).unwrap_or_default()
}

/// [`unit`], or the full id of a unit that is gone: it has history and runs too.
pub(super) fn unit_or_gone<T: Target>(service: &Handle<T>, typed: &str) -> Result<UnitId, Failure> {
    match unit(service, typed) {
        Ok(unit) => Ok(unit.id.clone()),
        Err(failure) => UnitId::parse(typed).map_err(|_| failure),
    }
}

/// A source by its name, else a unit.
pub(super) fn subject<T: Target>(service: &Handle<T>, typed: &str) -> Result<Subject, Failure> {
    if let Ok(name) = SourceName::new(typed)
        && service.core().board.source(&name).is_some()
    {
        return Ok(Subject::Source(name));
    }
    match unit(service, typed) {
        Ok(unit) => Ok(Subject::Unit(unit.id.clone())),
        Err(_) if service.core().board.matching(typed).is_empty() => {
            let board = &service.core().board;
            let near = match near_source(&board.sources(), typed) {
                near if near.is_empty() => near_unit(&board.units(), typed),
                near => near,
            };
            let message = format!("there is no source or unit {}{near}", typed.escape_debug());
            Err(Failure::not_found(message).hint("kindling status"))
        }
        Err(ambiguous) => Err(ambiguous),
    }
}

/// The subject that was named, or every source.
pub(super) fn subjects<T: Target>(service: &Handle<T>, typed: Option<&str>) -> Result<Vec<Subject>, Failure> {
    match typed {
        Some(typed) => subject(service, typed).map(|subject| vec![subject]),
        // Somebody who suspended a source does not ask about it when asking about all.
        None => {
            let sources =
                service.core().board.sources().into_iter().filter(|source| source.suspended.is_none());
            Ok(sources.map(|source| Subject::Source(source.spec.name.clone())).collect())
        }
    }
}

/// One run by its id or the beginning of it.
pub(super) async fn run<T: Target>(service: &Handle<T>, typed: &str) -> Result<Run, Failure> {
    let unknown =
        || Failure::not_found(format!("there is no run {}", typed.escape_debug())).hint("kindling get runs");
    if typed.len() < SHORTEST_PREFIX {
        return Err(Failure::invalid(format!(
            "a run is named by at least {SHORTEST_PREFIX} digits of its id"
        )));
    }
    let mut found = service.core().store.runs_by_prefix(typed).await?;
    match found.len() {
        0 => Err(unknown()),
        1 => Ok(found.remove(0)),
        _ => Err(Failure::ambiguous(format!("more than one run begins with {}", typed.escape_debug()))),
    }
}

/// What serde says, in our own words: without Rust's names and without what was given.
fn told(why: &str) -> String {
    let why = why.split(" at line ").next().unwrap_or(why);
    let (name, why) = match why.split_once(": ") {
        Some((name, rest)) if is_name(name) => (format!("`{name}` "), rest),
        _ => (String::new(), why),
    };
    let quoted = |text: &str| text.split('`').nth(1).unwrap_or_default().escape_debug().to_string();
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

/// [`Json`] with our own error answer.
pub(super) struct Body<V>(pub V);

impl<S: Send + Sync, V: DeserializeOwned> FromRequest<S> for Body<V> {
    type Rejection = Failure;

    async fn from_request(request: Request, state: &S) -> Result<Self, Failure> {
        let read = Json::<V>::from_request(request, state).await;
        read.map(|Json(value)| Self(value)).map_err(|why| refused(&why))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_serde_says_is_told_in_our_own_words() {
        for (said, expected) in [
            ("limit: invalid digit found in string", "`limit` must be a whole number, from 0 on"),
            ("limit: number too large to fit in target type", "`limit` must be a whole number, from 0 on"),
            ("follow: provided string was not `true` or `false`", "`follow` must be `true` or `false`"),
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
            ("invalid type: string \"x\", expected struct NewRun at line 1 column 3", "a map is wanted"),
            ("something else", "is not what is wanted there"),
        ] {
            assert_eq!(told(said), expected, "{said}");
        }
    }
}
