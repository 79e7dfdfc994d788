//! `kindling history`.

use crate::api::exit;
use crate::api::wire::{HistoryView, Items};

use super::Context;
use super::error::Ended;

/// List what was done, newest first
#[derive(Debug, clap::Args)]
pub struct Args {
    /// List only what was done to this unit: its id or the end of one
    unit: Option<String>,
    /// List only what was done to units of this source
    #[arg(long, value_name = "NAME", conflicts_with = "unit")]
    source: Option<String>,
    /// List this many rows at most
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: u32,
    /// List only rows older than the one with this number
    #[arg(long, value_name = "ID")]
    before: Option<i64>,
}

pub async fn history(args: &Args, context: &mut Context) -> Ended {
    let client = context.client()?;
    let (limit, before) = (args.limit.to_string(), args.before.map(|id| id.to_string()));
    let query = [
        ("unit", args.unit.as_deref()),
        ("source", args.source.as_deref()),
        ("limit", Some(limit.as_str())),
        ("before", before.as_deref()),
    ];
    let rows: Items<HistoryView> = client.get(&["history"], &query).await?;
    context.output.listing(&rows.items, "nothing was done yet")?;
    Ok(exit::DONE)
}
