//! `kindling resume`.

use crate::api::wire::{ReportView, SubjectRequest};

use super::Context;
use super::error::Ended;
use super::report;

/// Allow changes again, lift a hold, and make a pass
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Resume this source, or the unit with this id or end of one
    #[arg(value_name = "SOURCE|UNIT")]
    subject: String,
}

pub async fn resume(args: &Args, context: &mut Context) -> Ended {
    let client = context.client()?;
    let request = SubjectRequest { subject: Some(args.subject.clone()) };
    let done: ReportView = client.post(&["resume"], &request).await?;
    report::print(&mut context.output, &done, "nothing had to be changed")?;
    Ok(report::exit_of(&done))
}
