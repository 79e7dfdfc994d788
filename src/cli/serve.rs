//! `kindling serve`.

use tracing::Level;

use crate::api::exit;
use crate::app::{self, AppError};
use crate::config::locate::LocateError;
use crate::config::{Role, Settings};

use super::Context;
use super::error::{self, CliError, Ended};

/// Run the service until it is told to end
///
/// The log is on stderr. SIGTERM and Ctrl-C let it finish what it began; a second one does not wait.
#[derive(Debug, clap::Args)]
pub struct Args {}

pub fn serve(_: &Args, context: &mut Context) -> Ended {
    if let Err(error @ LocateError::NotFound { .. }) = context.locate() {
        return Err(CliError::no_configuration(&error)
            .hint("`kindling init` makes one here, with a task that runs; then `kindling serve`"));
    }
    let settings = context.settings(Role::Service)?;
    context.log(Level::INFO)?;
    error::log_panics();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| CliError::outside("cannot start").because(&error))?;
    runtime.block_on(start(settings))
}

/// The service itself.
async fn start(settings: Settings) -> Ended {
    match app::serve(settings).await {
        Ok(()) => Ok(exit::DONE),
        Err(error @ AppError::Bug(_)) => Err(CliError::bug(error.to_string())),
        Err(error) => {
            let shown = CliError::outside(error.to_string()).because_of(&error);
            Err(hinted(shown, &error))
        }
    }
}

/// The next step, where the error does not say it.
fn hinted(shown: CliError, error: &AppError) -> CliError {
    match error {
        AppError::InUse { .. } => {
            shown.hint("`kindling status` asks the one that runs; end it before another is started")
        }
        AppError::Listen { .. } => {
            shown.hint("name another address as `server: {listen: ...}` in kindling.yaml")
        }
        AppError::Store(error) => match error.hint() {
            Some(hint) => shown.hint(hint),
            None => shown,
        },
        _ => shown,
    }
}
