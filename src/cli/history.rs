//! `kindling history`.

use crate::api::exit;
use crate::api::wire::{EventView, HistoryView, Items};
use crate::support::text::printable;

use super::Context;
use super::client::Client;
use super::error::{CliError, Ended};
use super::output::{Format, Output, Row as _};
use super::table::Table;

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
    /// Print new rows as they come, below, until interrupted
    #[arg(short, long, conflicts_with = "before")]
    watch: bool,
}

pub async fn history(args: &Args, context: &mut Context) -> Ended {
    let client = context.client()?;
    // Listening first, so that no row falls between the listing and the first event.
    let events = match args.watch {
        true => Some(client.stream::<EventView>(&["events"], &[]).await?),
        false => None,
    };
    let mut rows = rows(args, &client).await?;
    let Some(mut events) = events else {
        context.output.listing(&rows, "nothing was done yet")?;
        return Ok(exit::DONE);
    };
    let output = &mut context.output;
    let mut shown = Shown { table: output.table::<HistoryView>(), last: None };
    loop {
        shown.print(output, &rows)?;
        let Some(event) = events.next().await? else {
            return Err(CliError::outside("the service ended the stream of events"));
        };
        rows = if event.kind.starts_with("unit.") { self::rows(args, &client).await? } else { Vec::new() };
        if output.is_closed() {
            return Ok(exit::DONE);
        }
    }
}

async fn rows(args: &Args, client: &Client) -> Result<Vec<HistoryView>, CliError> {
    let (limit, before) = (args.limit.to_string(), args.before.map(|id| id.to_string()));
    let query = [
        ("unit", args.unit.as_deref()),
        ("source", args.source.as_deref()),
        ("limit", Some(limit.as_str())),
        ("before", before.as_deref()),
    ];
    client.get::<Items<HistoryView>>(&["history"], &query).await.map(|rows| rows.items)
}

/// What was printed of a history that is watched.
struct Shown {
    table: Table,
    /// The newest row; `None` before the first printing.
    last: Option<i64>,
}

impl Shown {
    /// Prints the rows that are new, the oldest first: what comes later stands below.
    fn print(&mut self, output: &mut Output, rows: &[HistoryView]) -> Result<(), CliError> {
        let begins = self.last.is_none();
        let last = self.last.unwrap_or(i64::MIN);
        let new: Vec<&HistoryView> = rows.iter().rev().filter(|row| row.id > last).collect();
        self.last = Some(new.last().map_or(last, |row| row.id));
        match output.format {
            Format::Json | Format::Yaml => new.iter().try_for_each(|row| output.record(row))?,
            Format::Name => new.iter().try_for_each(|row| output.line(&printable(&row.name())))?,
            Format::Table | Format::Wide if begins && new.is_empty() => output.note("nothing was done yet"),
            Format::Table | Format::Wide if begins => {
                new.iter().for_each(|row| self.table.push(output.cells(*row)));
                output.print(&self.table)?;
            }
            Format::Table | Format::Wide => {
                for row in new {
                    let cells = output.cells(row);
                    output.print_below(&mut self.table, cells)?;
                }
            }
        }
        output.flush()
    }
}
