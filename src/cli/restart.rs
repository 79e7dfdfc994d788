//! `kindling restart`.

use crate::api::wire::{ReportView, UnitRequest};

use super::Context;
use super::error::Ended;
use super::report;

/// Start the process of a daemon anew, in the version that runs, and wait until it does
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Restart this unit: its id or the end of one
    unit: String,
}

pub async fn restart(args: &Args, context: &mut Context) -> Ended {
    let client = context.client()?;
    let mut done: ReportView = client.post(&["restart"], &UnitRequest { unit: args.unit.clone() }).await?;
    // That another version is desired, or held, was not asked about.
    done.problems.clear();
    report::print(&mut context.output, &done, "nothing changed")?;
    Ok(report::exit_of(&done))
}
