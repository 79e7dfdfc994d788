//! `kindling logs`.

use crate::api::wire::{Items, LogView, RunView};
use crate::api::{code, exit};
use crate::model::time::Timestamp;
use crate::support::text::printable;

use super::client::Client;
use super::error::{CliError, Ended};
use super::output::{Format, Output, printable_text};
use super::{Context, values};

/// Print the log of a run, or of a task's newest run
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print the log of the run whose id begins so, or of the unit with this id or end of one
    #[arg(value_name = "RUN|UNIT")]
    of: String,
    /// Print lines as they come, until the run is over
    #[arg(short, long)]
    follow: bool,
}

pub async fn logs(args: &Args, context: &mut Context) -> Ended {
    let client = context.client()?;
    let run = find(&client, &args.of).await?;
    if args.follow {
        follow(&client, &run, &mut context.output).await
    } else {
        all(&client, &run, &mut context.output).await
    }
}

/// The run that is meant. What looks like the id of a run and is none may be a unit.
async fn find(client: &Client, of: &str) -> Result<RunView, CliError> {
    if values::is_run_id(of) {
        match client.get(&["runs", of], &[]).await {
            Err(error) if error.is(code::NOT_FOUND) => {}
            found => return found,
        }
    }
    let runs: Items<RunView> = client.get(&["runs"], &[("task", Some(of)), ("limit", Some("1"))]).await?;
    let newest = runs.items.into_iter().next();
    newest.ok_or_else(|| {
        CliError::not_so(format!("{of} has no run yet")).hint(format!("`kindling run {of}` starts one"))
    })
}

async fn follow(client: &Client, run: &RunView, output: &mut Output) -> Ended {
    let mut lines = client.stream::<LogView>(&["runs", &run.id, "log"], &[("follow", Some("true"))]).await?;
    while let Some(line) = lines.next().await? {
        if output.format.is_data() {
            output.record(&line)?;
        } else {
            output.line(&text(&line, output.format))?;
            output.flush()?;
        }
        if output.is_closed() {
            break;
        }
    }
    Ok(exit::DONE)
}

async fn all(client: &Client, run: &RunView, output: &mut Output) -> Ended {
    let mut whole = Vec::new();
    let mut after = 0_u64;
    loop {
        let from = after.to_string();
        let path = ["runs", run.id.as_str(), "log"];
        let page: Items<LogView> = client.get(&path, &[("after", Some(&from))]).await?;
        let Some(last) = page.items.last().map(|line| line.seq).filter(|seq| *seq > after) else { break };
        after = last;
        if output.format.is_data() {
            whole.extend(page.items);
            continue;
        }
        for line in &page.items {
            output.line(&text(line, output.format))?;
        }
        if output.is_closed() {
            break;
        }
    }
    if output.format.is_data() {
        output.value(&Items { items: whole })?;
    }
    Ok(exit::DONE)
}

/// A line as a person reads it.
#[must_use]
pub fn text(line: &LogView, format: Format) -> String {
    let text = printable_text(&line.text);
    if format == Format::Wide {
        let at = Timestamp::parse(&line.at).map(Timestamp::time_of_day).unwrap_or_default();
        return format!("{at} {:6} {text}", printable(&line.stream));
    }
    text
}
