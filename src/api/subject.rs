//! What a caller named: a source, a unit or a run, in full or by a part that only one has.

use std::sync::Arc;

use crate::act::Target;
use crate::config::words;
use crate::model::id::{SourceName, UnitId};
use crate::model::run::Run;
use crate::reconcile::handle::{Handle, Subject, is_leaving};
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
        // Somebody who suspended or removed a source does not ask about it when asking about all.
        None => {
            let sources = service.core().board.sources().into_iter();
            let sources = sources.filter(|source| source.suspended.is_none() && !is_leaving(source));
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
