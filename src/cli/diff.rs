//! `kindling diff`.

use std::path::PathBuf;

use crate::api::exit;
use crate::api::wire::{DiffRequest, ReportView};

use super::Context;
use super::error::Ended;
use super::{preview, report};

/// Show what a pass would do, step by step
///
/// Ends with 0 if it would do nothing, with 1 if it would do something or a unit is broken. With --local it works
/// without a service too: then it compares with what the last one recorded.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Look only at this source
    source: Option<String>,
    /// Compare what is deployed with this directory, as if dev mode were switched on with it
    #[arg(long, value_name = "PATH", requires = "source")]
    local: Option<PathBuf>,
}

pub async fn diff(args: &Args, context: &mut Context) -> Ended {
    let local = args.local.as_deref().map(|path| context.directory(path)).transpose()?;
    let request = DiffRequest { subject: args.source.clone(), local };
    let asked = async { context.client()?.post::<ReportView>(&["diff"], &request).await }.await;
    let mut planned = match (asked, &args.source, &args.local) {
        (Err(error), Some(source), Some(path)) if error.is_not_reached() => {
            let (planned, not_seen) =
                preview::preview(context, source, &context.absolute(path), error).await?;
            not_seen.iter().for_each(|told| context.output.note(told));
            planned
        }
        (asked, ..) => asked?,
    };
    // What is not ready now is status' question.
    planned.unready.clear();
    report::print(&mut context.output, &planned, "no differences")?;
    let is_same = planned.steps.is_empty() && planned.problems.is_empty();
    Ok(if is_same { exit::DONE } else { exit::NOT_SO })
}
