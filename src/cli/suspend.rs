//! `kindling suspend`.

use crate::api::exit;
use crate::api::wire::{ReportView, SuspendRequest};

use super::Context;
use super::error::Ended;
use super::values;

/// Stop changes to a source or a unit until it is resumed
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Suspend this source, or the unit with this id or end of one
    #[arg(value_name = "SOURCE|UNIT")]
    subject: String,
    /// Say why; every listing shows it
    #[arg(long, value_name = "TEXT", value_parser = values::some_text)]
    reason: String,
}

pub async fn suspend(args: &Args, context: &mut Context) -> Ended {
    let client = context.client()?;
    let request = SuspendRequest { subject: args.subject.clone(), reason: args.reason.clone() };
    let report: ReportView = client.post(&["suspend"], &request).await?;
    if context.output.format.is_data() {
        context.output.value(&report)?;
    } else {
        context.output.note(&format!("{} is suspended", args.subject));
    }
    Ok(exit::DONE)
}
