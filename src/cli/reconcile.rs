//! `kindling reconcile`.

use std::time::Duration;

use crate::api::wire::{ReconcileRequest, ReportView};

use super::Context;
use super::error::{CliError, Ended};
use super::{report, values};

/// Make one pass now and wait for its end
///
/// Ends with 1 if something failed or is not ready afterwards, with 124 if the time was over before.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Look only at this source, or the unit with this id or end of one
    #[arg(value_name = "SOURCE|UNIT")]
    subject: Option<String>,
    /// Read every file again, and trust nothing that was known of them
    #[arg(long)]
    rescan: bool,
    /// Deploy again what did not change
    #[arg(long)]
    force: bool,
    /// Remove units even where the removal guard says no
    #[arg(long)]
    allow_removals: bool,
    /// Deploy a rewritten branch even where the source's `rewrite: guard` says no
    #[arg(long)]
    allow_rewrite: bool,
    /// Wait no longer than this
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = values::time)]
    timeout: Duration,
}

pub async fn reconcile(args: &Args, context: &mut Context) -> Ended {
    let client = context.client()?;
    let request = ReconcileRequest {
        subject: args.subject.clone(),
        rescan: args.rescan,
        force: args.force,
        allow_removals: args.allow_removals,
        allow_rewrite: args.allow_rewrite,
    };
    let pass = client.post::<ReportView>(&["reconcile"], &request);
    let done = tokio::time::timeout(args.timeout, pass).await.map_err(|_| {
        CliError::timed_out("the pass did not end in time; it goes on").hint("see `kindling status`")
    })??;
    report::print(&mut context.output, &done, "nothing changed")?;
    Ok(report::exit_of(&done))
}
