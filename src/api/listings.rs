//! What is: status, sources, units, history and why.

use axum::Json;
use axum::extract::State as AxumState;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::act::Target;
use crate::model::condition::{ConditionStatus, ConditionType};
use crate::model::id::{SourceName, UnitId};
use crate::reconcile::core::Core;
use crate::reconcile::unready;
use crate::record::{HistoryQuery, SourceRecord, UnitRecord};

use super::State;
use super::error::Failure;
use super::given::Params;
use super::subject;
use super::wire::{HistoryView, Items, SourceView, StatusView, SuspensionView, UnitView, Unready, WhyView};

/// Rows of a page where the caller names no number.
pub(super) const PAGE: u32 = 50;
/// Most rows of a page.
pub(super) const LARGEST_PAGE: u32 = 1000;

#[derive(Deserialize, JsonSchema)]
pub(super) struct Named {
    /// Only this one: the name of a source, or a unit's id or a unique suffix of one.
    name: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct NamedUnits {
    name: Option<String>,
    #[serde(default)]
    marked: bool,
}

pub(super) async fn ready<T: Target>(AxumState(api): State<T>) -> Response {
    match api.service.not_ready().await {
        None => "ok\n".into_response(),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
    }
}

pub(super) async fn status<T: Target>(AxumState(api): State<T>) -> Json<StatusView> {
    let board = &api.service.core().board;
    let (sources, units) = (board.sources(), board.units());
    let bad_sources = sources.iter().filter_map(|source| {
        Some(Unready { name: source.spec.name.to_string(), why: unready(&source.conditions)? })
    });
    let bad_units = units
        .iter()
        .filter_map(|unit| Some(Unready { name: unit.id.to_string(), why: unready(&unit.conditions)? }));
    let service = board.service();
    let bad_service = service.get(ConditionType::Ready).filter(|ready| ready.status != ConditionStatus::True);
    let bad_service = bad_service.map(|ready| Unready {
        name: "kindling".into(),
        why: format!("{}: {}", ready.reason, ready.message),
    });
    let unready: Vec<Unready> = bad_service.into_iter().chain(bad_sources).chain(bad_units).collect();
    Json(StatusView {
        version: env!("CARGO_PKG_VERSION").into(),
        ready: unready.is_empty(),
        conditions: service.iter().map(Into::into).collect(),
        sources: sources.iter().map(|source| source_view(&api, source)).collect(),
        units: units.len(),
        unready,
    })
}

/// A source with what is known of its webhook, of its relay and of what its commits were told.
fn source_view<T: Target>(api: &super::Api<T>, source: &SourceRecord) -> SourceView {
    let (core, name) = (api.service.core(), &source.spec.name);
    let webhook = core.webhooks.get().contains(name).then(|| (&core.board.webhook(name)).into());
    let relay = core.board.relay(name).as_ref().map(Into::into);
    let status = core.statuses.place_of(&source.spec).map(|_| core.board.told(name).into());
    SourceView { webhook, relay, status, ..source.into() }
}

pub(super) async fn sources<T: Target>(
    AxumState(api): State<T>,
    Params(named): Params<Named>,
) -> Result<Json<Items<SourceView>>, Failure> {
    let all = api.service.core().board.sources();
    let wanted =
        all.iter().filter(|source| named.name.as_ref().is_none_or(|name| name == source.spec.name.as_str()));
    let items: Vec<SourceView> = wanted.map(|source| source_view(&api, source)).collect();
    match named.name {
        Some(name) if items.is_empty() => Err(subject::no_source(&all, &name)),
        _ => Ok(Json(Items { items })),
    }
}

pub(super) async fn units<T: Target>(
    AxumState(api): State<T>,
    Params(named): Params<NamedUnits>,
) -> Result<Json<Items<UnitView>>, Failure> {
    let board = &api.service.core().board;
    let mut units = match &named.name {
        Some(name) => board.matching(name),
        None => board.units(),
    };
    match named.name {
        Some(name) if units.is_empty() => Err(subject::no_unit(&board.units(), &name)),
        _ => {
            units.retain(|unit| !named.marked || is_marked(unit));
            Ok(Json(Items { items: units.iter().map(|unit| unit_view(api.service.core(), unit)).collect() }))
        }
    }
}

/// Whether a person stopped a unit, or something in its manifest has no effect: easily forgotten where it is ready.
fn is_marked(unit: &UnitRecord) -> bool {
    unit.suspended.is_some() || unit.hold.is_some() || !unit.warnings.is_empty()
}

/// A unit, with what is so of its source and when it runs by the clock.
fn unit_view<T: Target>(core: &Core<T>, unit: &UnitRecord) -> UnitView {
    let source = core.board.source(&unit.id.source);
    let dev = source.as_ref().and_then(|source| source.dev.clone());
    // What stops its source stops it too.
    let of_source = source.as_ref().and_then(|source| source.suspended.as_ref()).map(|stop| SuspensionView {
        reason: format!("its source: {}", stop.reason),
        since: stop.since.to_string(),
    });
    let times = core.schedules.get(&unit.id).unwrap_or_default();
    let next = times.next.filter(|_| !core.board.is_suspended(&unit.id));
    let view: UnitView = unit.into();
    UnitView {
        suspended: view.suspended.clone().or(of_source),
        hook: hook_of(core, &unit.id),
        next_run_at: next.map(|at| at.to_string()),
        last_run_at: times.last.map(|at| at.to_string()),
        dev_path: dev.as_ref().map(|dev| dev.path.to_string()),
        dev_since: dev.map(|dev| dev.since.to_string()),
        ..view
    }
}

/// The path at which a unit is served.
fn hook_of<T: Target>(core: &Core<T>, unit: &UnitId) -> Option<String> {
    let live = core.registry.get(unit)?;
    let path = &live.spec.hook()?.path;
    let served = core.registry.at_hook(path.as_str())?;
    (served.unit == *unit).then(|| path.to_string())
}

#[derive(Deserialize, JsonSchema)]
pub(super) struct OfUnit {
    /// The unit: an id or a unique suffix of one; the full id of one that is gone.
    unit: String,
}

pub(super) async fn why<T: Target>(
    AxumState(api): State<T>,
    Params(query): Params<OfUnit>,
) -> Result<Json<WhyView>, Failure> {
    let id = subject::unit_or_gone(&api.service, &query.unit)?;
    let unit = api.service.core().board.unit(&id);
    let of_unit = HistoryQuery { unit: Some(id.clone()), limit: 1, ..HistoryQuery::default() };
    let rows = api.service.core().store.history(of_unit).await?;
    if unit.is_none() && rows.is_empty() {
        return Err(subject::no_unit(&api.service.core().board.units(), &query.unit));
    }
    Ok(Json(WhyView {
        id: id.to_string(),
        unit: unit.map(|unit| unit_view(api.service.core(), &unit)),
        last: rows.first().map(Into::into),
        fields: api.service.origins(&id).await.iter().map(Into::into).collect(),
        source_unready: api
            .service
            .core()
            .board
            .source(&id.source)
            .and_then(|source| unready(&source.conditions)),
    }))
}

#[derive(Deserialize, JsonSchema)]
pub(super) struct OfHistory {
    /// Only this unit.
    unit: Option<String>,
    /// Only the units of this source.
    source: Option<String>,
    /// So many rows at most: 1 to 1,000, 50 without it.
    limit: Option<u32>,
    /// Only rows older than the one with this number.
    before: Option<i64>,
}

pub(super) async fn history<T: Target>(
    AxumState(api): State<T>,
    Params(query): Params<OfHistory>,
) -> Result<Json<Items<HistoryView>>, Failure> {
    let unit = match &query.unit {
        Some(typed) => Some(subject::unit_or_gone(&api.service, typed)?),
        None => None,
    };
    let source = query.source.as_deref().map(SourceName::new).transpose();
    let source = source.map_err(|why| Failure::invalid(why.to_string()))?;
    let limit = query.limit.unwrap_or(PAGE).clamp(1, LARGEST_PAGE);
    let of = HistoryQuery { unit: unit.clone(), source: source.clone(), before: query.before, limit };
    let rows = api.service.core().store.history(of).await?;
    // What is gone has history too.
    let (nothing, board) = (rows.is_empty(), &api.service.core().board);
    match (unit, source) {
        (Some(unit), _) if nothing && board.unit(&unit).is_none() => {
            Err(subject::no_unit(&board.units(), &unit.to_string()))
        }
        (_, Some(source)) if nothing && board.source(&source).is_none() => {
            Err(subject::no_source(&board.sources(), source.as_str()))
        }
        _ => Ok(Json(Items { items: rows.iter().map(Into::into).collect() })),
    }
}
