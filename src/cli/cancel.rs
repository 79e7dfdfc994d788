//! `kindling cancel`.

use crate::api::exit;
use crate::api::wire::RunView;

use super::Context;
use super::error::Ended;
use super::values;

/// End a run
#[derive(Debug, clap::Args)]
pub struct Args {
    /// End the run whose id begins so
    #[arg(value_parser = values::run_id)]
    run: String,
}

pub async fn cancel(args: &Args, context: &mut Context) -> Ended {
    let client = context.client()?;
    let run: RunView = client.post(&["runs", &args.run, "cancel"], &serde_json::json!({})).await?;
    if context.output.format.is_data() {
        context.output.value(&run)?;
    } else {
        context.output.listing(&[run], "")?;
    }
    Ok(exit::DONE)
}
