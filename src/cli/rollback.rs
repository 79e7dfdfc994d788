//! `kindling rollback`.

use crate::api::wire::{ReportView, RollbackRequest};

use super::Context;
use super::error::Ended;
use super::{report, values};

/// Deploy an earlier version of a unit, and hold the one that its source asks for
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Roll back this unit: its id or the end of one
    unit: String,
    /// Deploy the version whose hash begins so; without it the one before
    #[arg(long, value_name = "HASH", value_parser = values::prefix)]
    to: Option<String>,
}

pub async fn rollback(args: &Args, context: &mut Context) -> Ended {
    let client = context.client()?;
    let request = RollbackRequest { unit: args.unit.clone(), to: args.to.clone() };
    let mut done: ReportView = client.post(&["rollback"], &request).await?;
    // That the desired version is held now is what was asked for; other units were not asked about.
    done.problems.clear();
    done.unready.clear();
    report::print(&mut context.output, &done, "nothing changed")?;
    Ok(report::exit_of(&done))
}
