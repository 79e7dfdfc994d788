//! Runs: start, follow, cancel, list.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State as AxumState;
use axum::http::StatusCode;
use axum::response::sse::Event as Frame;
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::sync::watch;

use crate::act::{Target, check_input};
use crate::model::id::RunId;
use crate::model::run::{LogLine, Run, RunStatus};
use crate::reconcile::runs::chain;
use crate::record::RunQuery;

use super::error::Failure;
use super::events::{answer, frame};
use super::given::{Body, Params, Part};
use super::listings::{LARGEST_PAGE, PAGE};
use super::subject;
use super::wire::{Items, LogView, NewRun, RunView};
use super::{Api, State};

/// A `cancel` that is not over after this long looks whether the end can be recorded at all.
const CANCEL_ROUND: Duration = Duration::from_secs(10);
/// After so many rounds it answers in any case: a run is killed 10 s after it was told to end.
const CANCEL_ROUNDS: usize = 3;
/// Lines of log that are read together.
const LOG_PAGE: u32 = 1000;

#[derive(Deserialize, JsonSchema)]
pub(super) struct OfRuns {
    /// Only this task: an id or a unique suffix of one.
    task: Option<String>,
    /// Only runs that stand so.
    status: Option<String>,
    /// So many rows at most: 1 to 1,000, 50 without it.
    limit: Option<u32>,
    /// Only runs older than the one with this id.
    before: Option<String>,
}

pub(super) async fn list<T: Target>(
    AxumState(api): State<T>,
    Params(query): Params<OfRuns>,
) -> Result<Json<Items<RunView>>, Failure> {
    let task = match &query.task {
        Some(typed) => Some(subject::unit_or_gone(&api.service, typed)?),
        None => None,
    };
    let status = match &query.status {
        Some(word) => Some(RunStatus::parse(word).ok_or_else(|| {
            Failure::invalid(
                "a run is queued, running, succeeded, failed, timedOut, cancelled, interrupted or skipped",
            )
        })?),
        None => None,
    };
    let limit = query.limit.unwrap_or(PAGE).clamp(1, LARGEST_PAGE);
    let before = query.before.as_deref().map(RunId::recorded);
    let runs = api.service.core().store.runs(RunQuery { task, status, before, limit }).await?;
    Ok(Json(Items { items: runs.iter().map(Into::into).collect() }))
}

pub(super) async fn start<T: Target>(
    AxumState(api): State<T>,
    Body(new): Body<NewRun>,
) -> Result<(StatusCode, Json<RunView>), Failure> {
    let task = subject::unit(&api.service, &new.task)?;
    let input = new.input.in_one_line();
    check_input(&input).map_err(|why| Failure::invalid(format!("the input of the run is refused: {why}")))?;
    let asked = api.service.run(&task.id, &new.params, input).await?;
    let run = recorded(&api, asked.id.as_str()).await?;
    Ok((StatusCode::CREATED, Json((&run).into())))
}

async fn recorded<T: Target>(api: &Api<T>, id: &str) -> Result<Run, Failure> {
    subject::run(&api.service, id).await
}

pub(super) async fn one<T: Target>(
    AxumState(api): State<T>,
    Part(id): Part,
) -> Result<Json<RunView>, Failure> {
    Ok(Json((&recorded(&api, &id).await?).into()))
}

/// Answers when the run is over.
pub(super) async fn wait<T: Target>(
    AxumState(api): State<T>,
    Part(id): Part,
) -> Result<Json<RunView>, Failure> {
    let run = recorded(&api, &id).await?;
    if let Some(mut lines) = api.service.core().runner.follow(&run.id) {
        // The sender goes away with the run.
        while lines.changed().await.is_ok() {}
    }
    Ok(Json((&recorded(&api, run.id.as_str()).await?).into()))
}

pub(super) async fn cancel<T: Target>(
    AxumState(api): State<T>,
    Part(id): Part,
) -> Result<Json<RunView>, Failure> {
    let run = recorded(&api, &id).await?;
    api.service.cancel(&run.id)?;
    let (id, store) = (run.id.to_string(), api.service.core().store.clone());
    let mut over = Box::pin(wait(AxumState(api), Part(id.clone())));
    for _ in 0..CANCEL_ROUNDS {
        if let Ok(ended) = tokio::time::timeout(CANCEL_ROUND, &mut over).await {
            return ended;
        }
        // A run that ends in its own time is waited for; one whose end cannot be recorded is not.
        if let Err(error) = store.check_writable().await {
            return Err(unrecorded(&id, &format!(": {}", chain(&error))));
        }
    }
    Err(unrecorded(&id, ""))
}

fn unrecorded(id: &str, why: &str) -> Failure {
    let message = format!("run {id} was told to end, but its end is not recorded yet{why}");
    Failure::failed(message).hint("kindling get runs")
}

#[derive(Deserialize, JsonSchema)]
pub(super) struct OfLog {
    /// Only lines behind the one with this number.
    after: Option<u64>,
    /// Stay, and send each line as a server-sent event until the run is over.
    #[serde(default)]
    follow: bool,
}

pub(super) async fn log<T: Target>(
    AxumState(api): State<T>,
    Part(id): Part,
    Params(query): Params<OfLog>,
) -> Result<Response, Failure> {
    let run = recorded(&api, &id).await?;
    let after = query.after.unwrap_or(0);
    if query.follow {
        // Listen first, so that no line falls between what is read and what is waited for.
        let news = api.service.core().runner.follow(&run.id);
        let tail = Tail { api, run: run.id, after, queue: VecDeque::new(), news };
        return Ok(answer(stream::unfold(tail, next)).into_response());
    }
    let lines = api.service.core().store.log(&run.id, after, LOG_PAGE).await?;
    Ok(Json(Items { items: lines.iter().map(LogView::from).collect() }).into_response())
}

struct Tail<T> {
    api: Arc<Api<T>>,
    run: RunId,
    after: u64,
    queue: VecDeque<LogLine>,
    /// `None` once the run is over.
    news: Option<watch::Receiver<u64>>,
}

async fn next<T: Target>(mut tail: Tail<T>) -> Option<(Result<Frame, Infallible>, Tail<T>)> {
    while tail.queue.is_empty() {
        let lines = tail.api.service.core().store.log(&tail.run, tail.after, LOG_PAGE).await.ok()?;
        if !lines.is_empty() {
            tail.queue = lines.into();
            break;
        }
        let news = tail.news.as_mut()?;
        // A service that ends also ends its runs, so this does too.
        if news.changed().await.is_err() {
            // One more look: the last lines came before the end.
            tail.news = None;
        }
    }
    let line = tail.queue.pop_front()?;
    tail.after = line.seq;
    Some((Ok(frame(&LogView::from(&line))), tail))
}
