//! The HTTP interface: what is shown and what is asked for, as JSON. Decides nothing and keeps nothing.

mod auth;
mod commands;
mod error;
mod events;
mod listings;
mod runs;
mod subject;
mod webhooks;
pub mod wire;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware;
use axum::routing::{get, post};
use axum::serve::ListenerExt;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::act::Target;
use crate::reconcile::handle::Handle;
use crate::reconcile::ledger::Ledger;

pub use auth::Access;
pub use error::{code, exit};
pub use webhooks::Webhooks;

/// Largest body of a call: the input of a run, with room for its envelope.
const MAX_BODY: usize = 17 << 20;

/// What every route works with.
pub struct Api<T> {
    service: Handle<T>,
    access: Access,
    /// Where nothing is looked for.
    data_dir: PathBuf,
    webhooks: Arc<Webhooks>,
    ledger: Ledger,
    closing: CancellationToken,
}

type State<T> = axum::extract::State<Arc<Api<T>>>;

/// All routes. Every one but health and push webhooks needs the token; those have signatures. `data_dir` is where the
/// service keeps its own files.
pub fn router<T: Target>(
    service: Handle<T>,
    access: Access,
    data_dir: PathBuf,
    webhooks: Arc<Webhooks>,
    closing: CancellationToken,
) -> Router {
    let ledger = Ledger::new(service.core().store.clone());
    let api = Arc::new(Api { service, access, data_dir, webhooks, ledger, closing });
    let guarded = Router::new()
        .route("/api/v1/status", get(listings::status))
        .route("/api/v1/sources", get(listings::sources).post(commands::add_source))
        .route("/api/v1/sources/{name}", axum::routing::delete(commands::remove_source))
        .route("/api/v1/sources/{name}/dev", axum::routing::put(commands::dev_on).delete(commands::dev_off))
        .route("/api/v1/sources/{name}/sample-push", post(webhooks::sample))
        .route("/api/v1/deliveries", get(webhooks::list))
        .route("/api/v1/deliveries/{number}/redeliver", post(webhooks::redeliver))
        .route("/api/v1/units", get(listings::units))
        .route("/api/v1/why", get(listings::why))
        .route("/api/v1/history", get(listings::history))
        .route("/api/v1/events", get(events::stream))
        .route("/api/v1/reconcile", post(commands::reconcile))
        .route("/api/v1/wait", post(commands::wait))
        .route("/api/v1/diff", post(commands::diff))
        .route("/api/v1/rollback", post(commands::rollback))
        .route("/api/v1/suspend", post(commands::suspend))
        .route("/api/v1/resume", post(commands::resume))
        .route("/api/v1/runs", get(runs::list).post(runs::start))
        .route("/api/v1/runs/{id}", get(runs::one))
        .route("/api/v1/runs/{id}/wait", get(runs::wait))
        .route("/api/v1/runs/{id}/log", get(runs::log))
        .route("/api/v1/runs/{id}/cancel", post(runs::cancel))
        .fallback(error::no_route)
        .method_not_allowed_fallback(error::no_method)
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(middleware::from_fn_with_state(Arc::clone(&api), auth::check_token));
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(listings::ready))
        .merge(guarded)
        .layer(middleware::from_fn_with_state(Arc::clone(&api), auth::check_host))
        // Providers and tunnels name whatever host they like; who has the secret is no page in a browser.
        .route("/webhooks/{source}", post(webhooks::receive).layer(DefaultBodyLimit::disable()))
        .with_state(api)
}

/// Serves until `closing` is cancelled and the calls under way are answered.
///
/// # Errors
/// The listener fails.
pub async fn serve(listener: TcpListener, routes: Router, closing: CancellationToken) -> std::io::Result<()> {
    // An answer must not wait for a second packet: saves are shown in milliseconds.
    let listener = listener.tap_io(|stream| {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!("cannot set TCP_NODELAY: {error}");
        }
    });
    let routes = routes.into_make_service_with_connect_info::<SocketAddr>();
    axum::serve(listener, routes).with_graceful_shutdown(closing.cancelled_owned()).await
}
