//! Task webhooks: a call of a path that a live task asks for becomes a run of just the version that was found there, and
//! its output the answer.
//!
//! Whoever is not let in gets no run and leaves no trace but a number and a line of the log now and then. A client that
//! goes away ends nothing.

mod answer;
mod gate;
mod input;
mod list;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Json;
use axum::extract::{ConnectInfo, Request, State as AxumState};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::act::Target;
use crate::model::hook::{Hook, HookMethod};
use crate::model::id::RunId;
use crate::model::run::Run;
use crate::model::unit::Version;
use crate::reconcile::core::Core;
use crate::reconcile::fire::Fire;
use crate::reconcile::message::{Refusal, RefusalKind};

use super::error::Failure;
use super::inbound::{Sender, Standing};
use super::{Api, State};

pub(super) use self::gate::HookRules;
pub(super) use self::list::list;

/// Every path of a task webhook.
pub(super) const ROUTE: &str = "/hooks/{*path}";

/// What became of a call, with the word that it is counted by.
struct Told {
    result: &'static str,
    response: Response,
}

impl Told {
    fn refused(failure: Failure) -> Self {
        Self { result: "refused", response: failure.into_response() }
    }

    fn invalid(failure: Failure) -> Self {
        Self { result: "invalid", response: failure.into_response() }
    }

    fn unavailable(failure: Failure) -> Self {
        Self { result: "unavailable", response: failure.into_response() }
    }
}

pub(super) async fn serve<T: Target>(
    AxumState(api): State<T>,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    request: Request,
) -> Response {
    let core = api.service.core();
    // Looked up once: whatever is saved meanwhile, this version checks, runs and answers.
    let version = core.registry.coming_to_hook(request.uri().path()).await;
    let Some((version, hook)) = version.as_ref().and_then(|version| Some((version, version.spec.hook()?)))
    else {
        return Failure::not_found("there is no such hook").into_response();
    };
    let told = match admitted(&api, version, hook, from, request).await {
        Ok((call, may_run)) => {
            let unrecorded = |refusal: Refusal| not_run(&api, from, refusal);
            run(core, Arc::clone(version), call, may_run).await.unwrap_or_else(unrecorded)
        }
        Err(told) => told,
    };
    core.metrics().hooked(&version.unit, told.result);
    told.response
}

/// A call that may become a run.
struct Call {
    /// `POST /hooks/deploy`.
    detail: String,
    /// What the run gets: JSON text.
    input: Arc<str>,
    /// Whether the answer waits for the end of the run.
    waits: bool,
}

/// What a caller shows is looked at before anything that the caller says.
async fn admitted<T: Target>(
    api: &Arc<Api<T>>,
    version: &Version,
    hook: &Hook,
    from: SocketAddr,
    request: Request,
) -> Result<(Call, OwnedSemaphorePermit), Told> {
    let (core, rules) = (api.service.core(), &api.webhooks.hooks);
    let (parts, body) = request.into_parts();
    let method = HookMethod::parse(parts.method.as_str());
    let Some(method) = method.filter(|method| hook.takes(*method)) else {
        let response = (([(header::ALLOW, hook.allow())]), Failure::method(&hook.allow())).into_response();
        return Err(Told { result: "invalid", response });
    };
    let stranger = |failure| {
        rules.refused.note(from.ip());
        Told::refused(failure)
    };
    // Without its secret nobody can be right.
    let keys = core.hooks.keys(hook).map_err(|_| stranger(Failure::unproven()))?;
    if hook.is_bare() && !rules.is_open(&hook.path) {
        gate::check_local(from.ip(), &parts.headers).map_err(|why| stranger(Failure::forbidden(why)))?;
    }
    gate::check_bearer(&keys, &parts.headers).map_err(stranger)?;
    let signature = gate::shown_signature(&keys, &parts.headers).map_err(stranger)?;
    let standing = if keys.bearer.is_some() { Standing::Proven } else { Standing::Unknown };
    let sender = Sender::new(from.ip(), &parts.headers, standing);
    let body = api.webhooks.bodies.read(&parts.headers, body, sender).await.map_err(unread)?;
    gate::check_signature(&keys, signature, &body).map_err(stranger)?;
    if !hook.is_bare() {
        api.webhooks.bodies.prove(sender);
    }
    if core.board.is_suspended(&version.unit) {
        return Err(Told::unavailable(Failure::failed("the task is suspended")));
    }
    let call = read(method, &parts, &body).map_err(Told::invalid)?;
    let may_run = rules.enter(call.input.len()).ok_or_else(|| {
        Told::unavailable(Failure::failed("too many calls wait for their runs; come again later"))
    })?;
    Ok((call, may_run))
}

/// A body that gave way to others may be sent again.
fn unread(failure: Failure) -> Told {
    if failure.status.is_server_error() { Told::unavailable(failure) } else { Told::invalid(failure) }
}

fn read(method: HookMethod, parts: &Parts, body: &[u8]) -> Result<Call, Failure> {
    let path = parts.uri.path();
    let (query, wait) = input::query(parts.uri.query().unwrap_or_default());
    let waits = match wait.as_deref() {
        None | Some("true") => true,
        Some("false") => false,
        Some(_) => return Err(Failure::malformed("`wait` is `true` or `false`")),
    };
    let input = input::input(method, path, query, &parts.headers, body)?;
    Ok(Call { detail: format!("{} {path}", method.as_str()), input: input.into(), waits })
}

/// Why the store or the disk does not take a run is for the log; a caller may be anybody.
fn not_run<T: Target>(api: &Api<T>, from: SocketAddr, refusal: Refusal) -> Told {
    if refusal.kind != RefusalKind::Failed {
        return Told::unavailable(refusal.into());
    }
    api.webhooks.hooks.unrecorded.note_why(from.ip(), &refusal.message);
    Told::unavailable(Failure::failed("the run could not be recorded; come again later"))
}

/// Runs the task and answers with what came of it.
///
/// # Errors
/// It was not begun.
async fn run<T: Target>(
    core: &Arc<Core<T>>,
    version: Arc<Version>,
    call: Call,
    may_run: OwnedSemaphorePermit,
) -> Result<Told, Refusal> {
    let (core, waits) = (Arc::clone(core), call.waits);
    let hash = version.hash;
    let (told, started) = oneshot::channel();
    // On its own: a client that goes away takes its call along, and not the run.
    let work = tokio::spawn(async move {
        let run = follow(&core, version, call, told).await;
        drop(may_run);
        run
    });
    let lost = || Told::unavailable(Failure::failed("the run's end was not seen"));
    let told = match started.await {
        Err(_) => lost(),
        Ok(Err(refusal)) => return Err(refusal),
        Ok(Ok(run)) if !waits => {
            let body = Json(json!({ "run": run.as_str() }));
            let response = (StatusCode::ACCEPTED, body).into_response();
            Told { result: "accepted", response: answer::marked(response, &run, &hash) }
        }
        Ok(Ok(_)) => match work.await {
            Ok(Some(run)) => answer::of_run(&run),
            _ => lost(),
        },
    };
    Ok(told)
}

/// Starts the run, tells its id, and follows it to the end of its last attempt.
async fn follow<T: Target>(
    core: &Core<T>,
    version: Arc<Version>,
    call: Call,
    told: oneshot::Sender<Result<RunId, Refusal>>,
) -> Option<Arc<Run>> {
    let nothing = BTreeMap::new();
    let fire = Fire { trigger: "webhook", detail: call.detail, params: &nothing, input: call.input };
    let mut asked = match core.fire_version(version, fire, &()).await {
        Ok(asked) => asked,
        Err(refusal) => {
            // Nobody listens any more only where the client has gone.
            let _ = told.send(Err(refusal));
            return None;
        }
    };
    let _ = told.send(Ok(asked.id.clone()));
    let mut run = asked.end().await?;
    while let Some(next) = &run.retried_by {
        if let Some(mut lines) = core.runner.follow(next) {
            // The sender goes away with the run.
            while lines.changed().await.is_ok() {}
        }
        run = Arc::new(core.store.run(next).await.ok()??);
    }
    Some(run)
}
