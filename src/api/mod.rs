//! The HTTP interface: what is shown and what is asked for, as JSON. Decides nothing and keeps nothing.

mod auth;
mod commands;
mod error;
mod events;
mod given;
mod hooks;
mod inbound;
mod listings;
mod metrics;
mod openapi;
mod routes;
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
use axum::routing::any;
use axum::serve::ListenerExt;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::act::Target;
use crate::reconcile::handle::Handle;
use crate::reconcile::ledger::Ledger;

use self::routes::{Needs, Route};

pub use auth::Access;
pub use error::{code, exit};
pub use webhooks::{Passed, Webhooks, take_relayed};

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

/// All routes of the table. Every one but health and push webhooks needs the token; those have signatures. `data_dir` is
/// where the service keeps its own files.
pub fn router<T: Target>(
    service: Handle<T>,
    access: Access,
    data_dir: PathBuf,
    webhooks: Arc<Webhooks>,
    closing: CancellationToken,
) -> Router {
    let ledger = Ledger::new(service.core().store.clone());
    let api = Arc::new(Api { service, access, data_dir, webhooks, ledger, closing });
    let (mut open, mut guarded, mut signed) = (Router::new(), Router::new(), Router::new());
    for Route { endpoint, serve } in routes::table() {
        let router = match endpoint.needs {
            Needs::Nothing => &mut open,
            Needs::Token => &mut guarded,
            Needs::Signature => &mut signed,
        };
        *router = std::mem::take(router).route(endpoint.path, serve);
    }
    let guarded = guarded
        .fallback(error::no_route)
        .method_not_allowed_fallback(error::no_method)
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(middleware::from_fn_with_state(Arc::clone(&api), auth::check_token));
    open.merge(guarded)
        .layer(middleware::from_fn_with_state(Arc::clone(&api), auth::check_host))
        // Providers and tunnels name whatever host they like; who has the secret is no page in a browser. Tasks whose
        // webhook has none look at the host themselves.
        .merge(
            signed
                .method_not_allowed_fallback(error::no_method)
                .route(hooks::ROUTE, any(hooks::serve))
                .layer(DefaultBodyLimit::disable()),
        )
        .layer(middleware::from_fn_with_state(Arc::clone(&api), auth::check_public))
        // The listener takes the other one too, where a client begins with it.
        .layer(middleware::from_fn(auth::check_version))
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
