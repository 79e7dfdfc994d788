//! `kindling get`.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use serde::de::DeserializeOwned;

use crate::api::wire::{DeliveryView, EventView, Items, RunView, SourceView, UnitView};
use crate::api::{code, exit};

use super::Context;
use super::client::Client;
use super::error::{CliError, Ended};
use super::json::{self, Part};
use super::output::{Format, Output, Row};
use super::table::Table;
use super::values;

/// What no event tells, such as a suspension, is looked for when none came for this long.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// Such a look may take this part of the time, whatever the length of the listing.
const SHARE: u32 = 20;

/// List sources, units, runs or deliveries of webhooks
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Choose what to list: sources, units, runs or deliveries
    #[arg(value_enum, value_name = "KIND", hide_possible_values = true)]
    kind: Kind,
    /// List only this one: a source, a unit by its id or the end of it, or the runs of a task, or the deliveries to a source
    name: Option<String>,
    /// Print a row again whenever it changes, until interrupted
    #[arg(short, long)]
    watch: bool,
    /// List only runs that stand so, such as failed
    #[arg(long)]
    status: Option<String>,
    /// List this many runs or deliveries at most
    #[arg(long, value_name = "N")]
    limit: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// Sources
    #[value(alias = "source")]
    Sources,
    /// Units
    #[value(alias = "unit")]
    Units,
    /// Runs
    #[value(alias = "run")]
    Runs,
    /// Deliveries
    #[value(alias = "delivery")]
    Deliveries,
}

pub async fn get(args: &Args, context: &mut Context) -> Ended {
    if args.kind != Kind::Runs && args.status.is_some() {
        return Err(CliError::usage("--status is for runs only"));
    }
    if !matches!(args.kind, Kind::Runs | Kind::Deliveries) && args.limit.is_some() {
        return Err(CliError::usage("--limit is for runs and deliveries only"));
    }
    let client = context.client()?;
    match args.kind {
        Kind::Sources => list::<SourceView>(args, &client, &mut context.output).await,
        Kind::Units => list::<UnitView>(args, &client, &mut context.output).await,
        Kind::Deliveries => list::<DeliveryView>(args, &client, &mut context.output).await,
        Kind::Runs => list::<RunView>(args, &client, &mut context.output).await,
    }
}

/// `kindling source list`.
pub async fn sources(watch: bool, context: &mut Context) -> Ended {
    let args = Args { kind: Kind::Sources, name: None, watch, status: None, limit: None };
    get(&args, context).await
}

/// `kindling webhook list`.
pub async fn deliveries(
    source: Option<String>,
    limit: Option<u32>,
    watch: bool,
    context: &mut Context,
) -> Ended {
    get(&Args { kind: Kind::Deliveries, name: source, watch, status: None, limit }, context).await
}

/// A kind of thing that can be listed.
trait Listed: Row + DeserializeOwned {
    const NONE: &'static str;
    /// Whether there is an event for every change.
    const EVENTS_TELL_ALL: bool = false;

    async fn all(args: &Args, client: &Client) -> Result<Vec<Self>, CliError>;

    /// The rows that an event may have changed. Rows that are gone are left out.
    async fn changed(args: &Args, client: &Client, event: &EventView) -> Result<Vec<Self>, CliError>;

    /// The row that is gone, if the event says that one is.
    fn gone(event: &EventView) -> Option<&str>;
}

impl Listed for SourceView {
    const NONE: &'static str = "no sources";

    async fn all(args: &Args, client: &Client) -> Result<Vec<Self>, CliError> {
        items(client, "sources", &[("name", args.name.as_deref())]).await
    }

    async fn changed(args: &Args, client: &Client, event: &EventView) -> Result<Vec<Self>, CliError> {
        if args.name.as_ref().is_some_and(|name| *name != event.source) {
            return Ok(Vec::new());
        }
        or_gone(items(client, "sources", &[("name", Some(&event.source))]).await)
    }

    fn gone(_: &EventView) -> Option<&str> {
        None
    }
}

impl Listed for UnitView {
    const NONE: &'static str = "no units";

    async fn all(args: &Args, client: &Client) -> Result<Vec<Self>, CliError> {
        items(client, "units", &[("name", args.name.as_deref())]).await
    }

    async fn changed(args: &Args, client: &Client, event: &EventView) -> Result<Vec<Self>, CliError> {
        let tells = !event.kind.starts_with("run.") && event.kind != "unit.removed";
        let Some(id) = event.unit.as_deref().filter(|_| tells) else {
            return Ok(Vec::new());
        };
        let meant = args.name.as_deref().is_none_or(|name| ends_with(id, name));
        if !meant {
            return Ok(Vec::new());
        }
        let found: Vec<Self> = or_gone(items(client, "units", &[("name", Some(id))]).await)?;
        Ok(found.into_iter().filter(|unit| unit.id == id).collect())
    }

    fn gone(event: &EventView) -> Option<&str> {
        event.unit.as_deref().filter(|_| event.kind == "unit.removed")
    }
}

impl Listed for RunView {
    const NONE: &'static str = "no runs";
    const EVENTS_TELL_ALL: bool = true;

    async fn all(args: &Args, client: &Client) -> Result<Vec<Self>, CliError> {
        let limit = args.limit.map(|limit| limit.to_string());
        let query =
            [("task", args.name.as_deref()), ("status", args.status.as_deref()), ("limit", limit.as_deref())];
        match items(client, "runs", &query).await {
            Err(error) if error.is(code::NOT_FOUND) => match args.name.as_deref() {
                // What names no task may be a run itself.
                Some(id) if values::is_run_id(id) => Ok(vec![client.get(&["runs", id], &[]).await?]),
                _ => Err(error),
            },
            found => found,
        }
    }

    async fn changed(args: &Args, client: &Client, event: &EventView) -> Result<Vec<Self>, CliError> {
        if event.kind.starts_with("run.") { or_gone(Self::all(args, client).await) } else { Ok(Vec::new()) }
    }

    fn gone(_: &EventView) -> Option<&str> {
        None
    }
}

impl Listed for DeliveryView {
    const NONE: &'static str = "no deliveries";

    async fn all(args: &Args, client: &Client) -> Result<Vec<Self>, CliError> {
        let limit = args.limit.map(|limit| limit.to_string());
        items(client, "deliveries", &[("source", args.name.as_deref()), ("limit", limit.as_deref())]).await
    }

    async fn changed(args: &Args, client: &Client, _: &EventView) -> Result<Vec<Self>, CliError> {
        or_gone(Self::all(args, client).await)
    }

    fn gone(_: &EventView) -> Option<&str> {
        None
    }
}

async fn items<T: DeserializeOwned>(
    client: &Client,
    kind: &str,
    query: &[(&str, Option<&str>)],
) -> Result<Vec<T>, CliError> {
    client.get::<Items<T>>(&[kind], query).await.map(|items| items.items)
}

/// No rows where what was named is not there any more.
fn or_gone<T>(found: Result<Vec<T>, CliError>) -> Result<Vec<T>, CliError> {
    match found {
        Err(error) if error.is(code::NOT_FOUND) => Ok(Vec::new()),
        found => found,
    }
}

/// Whether `name` is the id or whole last parts of it.
fn ends_with(id: &str, name: &str) -> bool {
    id.strip_suffix(name).is_some_and(|rest| rest.is_empty() || rest.ends_with('/'))
}

async fn list<R: Listed>(args: &Args, client: &Client, output: &mut Output) -> Ended {
    // Listening first, so that no change falls between the listing and the first event.
    let events = match args.watch {
        true => Some(client.stream::<EventView>(&["events"], &[]).await?),
        false => None,
    };
    let rows = R::all(args, client).await?;
    let Some(mut events) = events else {
        output.listing(&rows, R::NONE)?;
        return Ok(exit::DONE);
    };
    let mut watch = Watch::new(output, &rows)?;
    let mut due = Instant::now() + LOOK_AGAIN;
    loop {
        output.flush()?;
        let is_due = !R::EVENTS_TELL_ALL && due <= Instant::now();
        if is_due {
            let began = Instant::now();
            for row in or_gone(R::all(args, client).await)?.into_iter().rev() {
                watch.show(output, &row)?;
            }
            due = Instant::now() + LOOK_AGAIN.max(began.elapsed() * SHARE);
        } else if let Some(event) = before(due, events.next()).await {
            let Some(event) = event? else { break };
            for row in R::changed(args, client, &event).await?.into_iter().rev() {
                watch.show(output, &row)?;
            }
            if let Some(id) = R::gone(&event) {
                watch.show_gone(output, id)?;
            }
        }
        if output.is_closed() {
            return Ok(exit::DONE);
        }
    }
    Err(CliError::outside("the service ended the stream of events"))
}

/// What comes before `due`; what is dropped here must be cancel safe.
async fn before<T>(due: Instant, coming: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout_at(due.into(), coming).await.ok()
}

/// What was printed last of each row.
struct Watch {
    table: Table,
    last: HashMap<String, String>,
}

impl Watch {
    fn new<R: Listed>(output: &mut Output, rows: &[R]) -> Result<Self, CliError> {
        let mut watch = Self { table: output.table::<R>(), last: HashMap::new() };
        for row in rows {
            watch.table.push(output.cells(row));
            watch.last.insert(row.name(), content(row)?);
        }
        match output.format {
            Format::Table | Format::Wide if rows.is_empty() => output.note(R::NONE),
            Format::Table | Format::Wide => output.print(&watch.table)?,
            Format::Json | Format::Yaml => rows.iter().try_for_each(|row| output.record(row))?,
            Format::Name => output.listing(rows, "")?,
        }
        output.flush()?;
        Ok(watch)
    }

    fn show<R: Row>(&mut self, output: &mut Output, row: &R) -> Result<(), CliError> {
        let content = content(row)?;
        if self.last.get(&row.name()) == Some(&content) {
            return Ok(());
        }
        self.last.insert(row.name(), content);
        match output.format {
            Format::Table | Format::Wide => {
                let cells = output.cells(row);
                self.print(output, cells)
            }
            Format::Json | Format::Yaml => output.record(row),
            Format::Name => self.print(output, vec![row.name()]),
        }
    }

    fn show_gone(&mut self, output: &mut Output, id: &str) -> Result<(), CliError> {
        if self.last.remove(id).is_none() {
            return Ok(());
        }
        match output.format {
            Format::Json | Format::Yaml => output.record(&serde_json::json!({ "id": id, "removed": true })),
            Format::Name => Ok(()),
            Format::Table | Format::Wide => {
                let mut cells = vec![String::new(); self.table.columns()];
                cells[0] = id.to_owned();
                if let Some(last) = cells.last_mut() {
                    *last = "removed".to_owned();
                }
                self.print(output, cells)
            }
        }
    }

    fn print(&mut self, output: &mut Output, cells: Vec<String>) -> Result<(), CliError> {
        output.print_below(&mut self.table, cells)
    }
}

/// What makes a row worth printing again: all of it but what every look at a source changes.
fn content(row: &impl Row) -> Result<String, CliError> {
    let unwritable = |error| CliError::bug(format!("a row cannot be written as JSON: {error}"));
    let text = serde_json::to_string(row).map_err(unwritable)?;
    let mut content = json::read(&text).map_err(unwritable)?;
    if let Part::Map(fields) = &mut content {
        fields.retain(|(name, _)| !matches!(name.as_str(), "passes" | "lastFetchAt"));
    }
    Ok(json::pretty(&content))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_whole_last_parts_of_an_id() {
        assert!(ends_with("team/jobs/digest", "digest") && ends_with("team/jobs/digest", "team/jobs/digest"));
        assert!(!ends_with("team/jobs/digest", "gest"));
    }
}
