//! The table of routes: what is served, who may call it, what it takes and what it gives.
//!
//! The router and the description in `/openapi.json` are both made of it, so that none has what the other lacks. Task
//! webhooks alone are not in it: what is below `/hooks/` is the tasks' own.

use std::sync::Arc;

use axum::handler::Handler;
use axum::routing::{MethodFilter, MethodRouter, on};
use schemars::{JsonSchema, Schema, SchemaGenerator};

use crate::act::Target;

use super::listings::{Named, OfHistory, OfUnit};
use super::runs::{OfLog, OfRuns};
use super::webhooks::OfDeliveries;
use super::wire::{
    DeliveryAnswer, DeliveryView, DevRequest, DiffRequest, EventView, HistoryView, HookView, Items, LogView,
    NewRun, NewSource, ReconcileRequest, ReportView, RollbackRequest, RunView, SamplePush, SourceView,
    StatusView, SubjectRequest, SuspendRequest, UnitRequest, UnitView, WhyView,
};
use super::{Api, commands, events, hooks, listings, metrics, openapi, runs, webhooks};

/// Makes the schema of a type.
pub(super) type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

/// What is done to a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    Get,
    Post,
    Put,
    Delete,
}

impl Method {
    /// As OpenAPI writes it.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Post => "post",
            Self::Put => "put",
            Self::Delete => "delete",
        }
    }

    fn filter(self) -> MethodFilter {
        match self {
            Self::Get => MethodFilter::GET,
            Self::Post => MethodFilter::POST,
            Self::Put => MethodFilter::PUT,
            Self::Delete => MethodFilter::DELETE,
        }
    }
}

/// What a caller has to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Needs {
    /// The token, and a `Host` that is served.
    Token,
    /// Nothing but a `Host` that is served.
    Nothing,
    /// The signature of a webhook.
    Signature,
}

/// What a call gives where it succeeds.
#[derive(Clone, Copy)]
pub(super) enum Gives {
    /// Lines of text.
    Text,
    /// Any JSON.
    Anything,
    /// One value.
    Json(SchemaOf),
    /// Server-sent events, each with one value.
    Events(SchemaOf),
    /// A value, or server-sent events.
    Either(SchemaOf, SchemaOf),
}

/// One call as a caller sees it.
pub(super) struct Endpoint {
    pub(super) method: Method,
    /// Written whole, with `{name}` for what a caller fills in.
    pub(super) path: &'static str,
    /// Its name in clients that are made from the description.
    pub(super) id: &'static str,
    /// One sentence.
    pub(super) about: &'static str,
    pub(super) needs: Needs,
    pub(super) query: Option<SchemaOf>,
    pub(super) body: Option<SchemaOf>,
    /// The status where it succeeds.
    pub(super) status: u16,
    pub(super) gives: Gives,
}

/// A call with what carries it out.
pub(super) struct Route<T> {
    pub(super) endpoint: Endpoint,
    pub(super) serve: MethodRouter<Arc<Api<T>>>,
}

impl Endpoint {
    fn new(method: Method, path: &'static str, id: &'static str, about: &'static str) -> Self {
        let (query, body, gives) = (None, None, Gives::Text);
        Self { method, path, id, about, needs: Needs::Token, query, body, status: 200, gives }
    }

    fn open(self) -> Self {
        Self { needs: Needs::Nothing, ..self }
    }

    fn signed(self) -> Self {
        Self { needs: Needs::Signature, ..self }
    }

    fn query<Q: JsonSchema>(self) -> Self {
        Self { query: Some(Q::json_schema), ..self }
    }

    fn takes<B: JsonSchema>(self) -> Self {
        Self { body: Some(SchemaGenerator::subschema_for::<B>), ..self }
    }

    fn gives(self, gives: Gives) -> Self {
        Self { gives, ..self }
    }

    fn json<A: JsonSchema>(self) -> Self {
        self.gives(Gives::Json(SchemaGenerator::subschema_for::<A>))
    }

    fn status(self, status: u16) -> Self {
        Self { status, ..self }
    }

    fn by<T: Target, X: 'static>(self, handler: impl Handler<X, Arc<Api<T>>>) -> Route<T> {
        Route { serve: on(self.method.filter(), handler), endpoint: self }
    }
}

fn get(path: &'static str, id: &'static str, about: &'static str) -> Endpoint {
    Endpoint::new(Method::Get, path, id, about)
}

fn post(path: &'static str, id: &'static str, about: &'static str) -> Endpoint {
    Endpoint::new(Method::Post, path, id, about)
}

/// Every route there is.
pub(super) fn table<T: Target>() -> Vec<Route<T>> {
    [service(), listed(), sources(), pushed(), asked(), started()].into_iter().flatten().collect()
}

fn service<T: Target>() -> Vec<Route<T>> {
    vec![
        get("/healthz", "health", "Answers while the process runs").open().by(async || "ok\n"),
        get("/readyz", "ready", "Answers 200 once the service is ready, else 503 with the reason")
            .open()
            .by(listings::ready),
        get("/openapi.json", "openapi", "Describes the API: this document")
            .gives(Gives::Anything)
            .by(openapi::serve::<T>),
        get("/metrics", "metrics", "Gives figures in the text format of Prometheus").by(metrics::serve),
        get("/api/v1/status", "getStatus", "Shows the service at a glance")
            .json::<StatusView>()
            .by(listings::status),
    ]
}

fn listed<T: Target>() -> Vec<Route<T>> {
    vec![
        get("/api/v1/sources", "listSources", "Lists sources")
            .query::<Named>()
            .json::<Items<SourceView>>()
            .by(listings::sources),
        get("/api/v1/units", "listUnits", "Lists units")
            .query::<Named>()
            .json::<Items<UnitView>>()
            .by(listings::units),
        get("/api/v1/why", "explainUnit", "Explains the last decision about a unit")
            .query::<OfUnit>()
            .json::<WhyView>()
            .by(listings::why),
        get("/api/v1/history", "listHistory", "Lists what was done, newest first")
            .query::<OfHistory>()
            .json::<Items<HistoryView>>()
            .by(listings::history),
        get("/api/v1/events", "followEvents", "Sends every event from now on")
            .query::<events::Since>()
            .gives(Gives::Events(SchemaGenerator::subschema_for::<EventView>))
            .by(events::stream),
    ]
}

fn sources<T: Target>() -> Vec<Route<T>> {
    vec![
        post("/api/v1/sources", "addSource", "Adds a source, and answers after its first pass")
            .takes::<NewSource>()
            .json::<ReportView>()
            .by(commands::add_source),
        Endpoint::new(
            Method::Delete,
            "/api/v1/sources/{name}",
            "removeSource",
            "Removes a source that was added by command, with its units",
        )
        .json::<ReportView>()
        .by(commands::remove_source),
        Endpoint::new(
            Method::Put,
            "/api/v1/sources/{name}/dev",
            "enableDev",
            "Takes a git source from a working copy, and answers after the first pass",
        )
        .takes::<DevRequest>()
        .json::<ReportView>()
        .by(commands::dev_on),
        Endpoint::new(
            Method::Delete,
            "/api/v1/sources/{name}/dev",
            "disableDev",
            "Takes a source from its repository again",
        )
        .json::<ReportView>()
        .by(commands::dev_off),
    ]
}

fn pushed<T: Target>() -> Vec<Route<T>> {
    vec![
        post(
            "/webhooks/{name}",
            "deliverPush",
            "Takes a push webhook that is signed with the secret of the source",
        )
        .signed()
        .status(202)
        .json::<DeliveryAnswer>()
        .by(webhooks::receive),
        post(
            "/api/v1/sources/{name}/sample-push",
            "signSamplePush",
            "Signs a push to try the webhook of a source",
        )
        .json::<SamplePush>()
        .by(webhooks::sample),
        get("/api/v1/deliveries", "listDeliveries", "Lists deliveries of push webhooks, newest first")
            .query::<OfDeliveries>()
            .json::<Items<DeliveryView>>()
            .by(webhooks::list),
        get("/api/v1/hooks", "listHooks", "Lists the paths at which task webhooks are served")
            .json::<Items<HookView>>()
            .by(hooks::list),
        post(
            "/api/v1/deliveries/{number}/redeliver",
            "redeliver",
            "Looks again for what a delivery announced",
        )
        .json::<DeliveryView>()
        .by(webhooks::redeliver),
    ]
}

fn asked<T: Target>() -> Vec<Route<T>> {
    vec![
        post("/api/v1/reconcile", "reconcile", "Makes one pass now, and answers after its steps")
            .takes::<ReconcileRequest>()
            .json::<ReportView>()
            .by(commands::reconcile),
        post("/api/v1/wait", "wait", "Answers when all that was on disk at the call is decided")
            .takes::<SubjectRequest>()
            .json::<ReportView>()
            .by(commands::wait),
        post("/api/v1/diff", "diff", "Says what a pass would do")
            .takes::<DiffRequest>()
            .json::<ReportView>()
            .by(commands::diff),
        post("/api/v1/rollback", "rollBack", "Deploys an earlier version, and holds the desired one")
            .takes::<RollbackRequest>()
            .json::<ReportView>()
            .by(commands::rollback),
        post("/api/v1/restart", "restart", "Starts the process of a daemon anew, in the version that runs")
            .takes::<UnitRequest>()
            .json::<ReportView>()
            .by(commands::restart),
        post("/api/v1/suspend", "suspend", "Stops changes to a source or a unit")
            .takes::<SuspendRequest>()
            .json::<ReportView>()
            .by(commands::suspend),
        post("/api/v1/resume", "resume", "Allows changes again, lifts a hold and makes a pass")
            .takes::<SubjectRequest>()
            .json::<ReportView>()
            .by(commands::resume),
    ]
}

fn started<T: Target>() -> Vec<Route<T>> {
    vec![
        get("/api/v1/runs", "listRuns", "Lists runs, newest first")
            .query::<OfRuns>()
            .json::<Items<RunView>>()
            .by(runs::list),
        post("/api/v1/runs", "startRun", "Starts a run of a task")
            .takes::<NewRun>()
            .status(201)
            .json::<RunView>()
            .by(runs::start),
        get("/api/v1/runs/{id}", "getRun", "Shows a run").json::<RunView>().by(runs::one),
        get("/api/v1/runs/{id}/wait", "waitRun", "Answers when a run is over")
            .json::<RunView>()
            .by(runs::wait),
        get("/api/v1/runs/{id}/log", "getLog", "Gives the lines of a run's log, or follows them")
            .query::<OfLog>()
            .gives(Gives::Either(
                SchemaGenerator::subschema_for::<Items<LogView>>,
                SchemaGenerator::subschema_for::<LogView>,
            ))
            .by(runs::log),
        post("/api/v1/runs/{id}/cancel", "cancelRun", "Ends a run, and answers when it is over")
            .json::<RunView>()
            .by(runs::cancel),
    ]
}
