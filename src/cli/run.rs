//! `kindling run`.

use std::io::Read;
use std::path::{Path, PathBuf};

use crate::api::exit;
use crate::api::wire::{AnyJson, LogView, NewRun, RunView};

use super::client::Client;
use super::error::{CliError, Ended};
use super::json::{self, Part};
use super::logs;
use super::output::{Format, Output, printable_text};
use super::{Context, values};

/// Largest input, in bytes: what the service takes.
const MAX_INPUT: u64 = 16 << 20;

/// Run a task, with its log on stderr and its output on stdout
///
/// Ends with 0 if it succeeded, with 1 if it failed, was cancelled or interrupted, with 124 if its time was over. Where
/// the task has retries, that is said of the last attempt.
/// Ctrl-C cancels the run.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Run this task: its id or the end of one
    task: String,
    /// Set a parameter
    #[arg(short, long = "param", value_name = "NAME=VALUE", value_parser = values::pair)]
    params: Vec<(String, String)>,
    /// Give the task this JSON as its input
    #[arg(long, value_name = "JSON", value_parser = values::json)]
    input: Option<AnyJson>,
    /// Give the task the JSON in this file as its input; - is standard input
    #[arg(long, value_name = "FILE", conflicts_with = "input")]
    input_file: Option<PathBuf>,
    /// Print the id of the run and do not wait for its end
    #[arg(long)]
    detach: bool,
}

pub async fn run(args: &Args, context: &mut Context) -> Ended {
    let input = match &args.input_file {
        Some(file) => read_input(file, &context.absolute(file))?,
        None => args.input.clone().unwrap_or_default(),
    };
    let mut new = NewRun { task: args.task.clone(), input, ..NewRun::default() };
    for (name, value) in &args.params {
        if new.params.insert(name.clone(), value.clone()).is_some() {
            return Err(CliError::usage(format!("the parameter {name} is given twice")));
        }
    }
    let client = context.client()?;
    // From here on Ctrl-C ends the run and not this command.
    let mut interrupts = if args.detach { None } else { Some(interrupts()?) };
    let started: RunView = client.post(&["runs"], &new).await?;
    let Some(interrupts) = &mut interrupts else { return detached(&started, &mut context.output) };
    let (mut ended, mut is_cancelled) = follow(&client, &started, &mut context.output, interrupts).await?;
    // What counts is the last attempt.
    while let Some(next) = &ended.retried_by {
        if is_cancelled {
            // The run failed before it could be cancelled; then this is the one to be.
            ended = client.post(&["runs", next, "cancel"], &serde_json::json!({})).await?;
            continue;
        }
        let next: RunView = client.get(&["runs", next], &[]).await?;
        (ended, is_cancelled) = follow(&client, &next, &mut context.output, interrupts).await?;
    }
    finish(&ended, &mut context.output)
}

fn read_input(file: &Path, absolute: &Path) -> Result<AnyJson, CliError> {
    let unreadable = |error: std::io::Error| {
        CliError::usage(format!("the input file {} cannot be read", file.display())).because(&error)
    };
    let mut bytes = Vec::new();
    if file == Path::new("-") {
        std::io::stdin().take(MAX_INPUT + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    } else {
        let open = std::fs::File::open(absolute).map_err(unreadable)?;
        open.take(MAX_INPUT + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    }
    if bytes.len() as u64 > MAX_INPUT {
        return Err(CliError::usage(format!("the input file {} has more than 16 MiB", file.display())));
    }
    serde_json::from_slice(&bytes).map_err(|error| {
        CliError::usage(format!("the input file {} is not JSON", file.display())).because(&error)
    })
}

fn interrupts() -> Result<tokio::signal::unix::Signal, CliError> {
    tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt())
        .map_err(|error| CliError::outside("cannot take Ctrl-C over").because(&error))
}

fn detached(started: &RunView, output: &mut Output) -> Ended {
    if output.format.is_data() {
        output.value(started)?;
    } else {
        output.line(&started.id)?;
    }
    Ok(exit::DONE)
}

/// Tells the log until the run is over. The first Ctrl-C cancels it, the second one does not wait for its end. Gives
/// back also whether there was one.
async fn follow(
    client: &Client,
    started: &RunView,
    output: &mut Output,
    interrupts: &mut tokio::signal::unix::Signal,
) -> Result<(RunView, bool), CliError> {
    let tail = tell_log(client, &started.id, output);
    let over = async {
        // Asked for at once: a service that ends answers what it was asked, and takes no new question.
        let path = ["runs", &started.id, "wait"];
        tokio::try_join!(tail, client.await_get(&path)).map(|((), ended)| ended)
    };
    tokio::pin!(over);
    tokio::select! {
        ended = &mut over => return Ok((ended?, false)),
        _ = interrupts.recv() => {}
    }
    let cancel = async {
        let cancelled: Result<RunView, CliError> =
            client.post(&["runs", &started.id, "cancel"], &serde_json::json!({})).await;
        // A run that ended meanwhile is no longer there to be cancelled; how it ended counts.
        match cancelled {
            Err(error) if error.exit() == exit::OUTSIDE => Err(error),
            _ => Ok(()),
        }
    };
    tokio::select! {
        both = async { tokio::try_join!(cancel, over) } => both.map(|((), ended)| (ended, true)),
        _ = interrupts.recv() => Err(CliError::not_so(format!("run {} is being cancelled", started.id))
            .hint(format!("`kindling get runs {}` shows how it ended", started.id))),
    }
}

async fn tell_log(client: &Client, id: &str, output: &mut Output) -> Result<(), CliError> {
    let mut lines = client.stream::<LogView>(&["runs", id, "log"], &[("follow", Some("true"))]).await?;
    while let Some(line) = lines.next().await? {
        match output.format {
            Format::Json => output.note_record(&line)?,
            format => output.note(&logs::text(&line, format)),
        }
    }
    Ok(())
}

fn finish(run: &RunView, output: &mut Output) -> Ended {
    print_output(&run.output, output)?;
    let how = match run.status.as_str() {
        "succeeded" => return Ok(exit::DONE),
        "timedOut" => "timed out",
        other => other,
    };
    let code = run.exit_code.map(|code| format!(" (exit code {code})")).unwrap_or_default();
    let why = if run.error.is_empty() { String::new() } else { format!(": {}", run.error) };
    let message = format!("run {} of {} {how}{code}{why}", run.id, run.task);
    let error =
        if run.status == "timedOut" { CliError::timed_out(message) } else { CliError::not_so(message) };
    Err(error.hint(format!("kindling logs {}", run.id)))
}

/// Text is printed as text, nothing as nothing, everything else as JSON.
fn print_output(value: &AnyJson, output: &mut Output) -> Result<(), CliError> {
    if output.format.is_data() {
        return output.value(value);
    }
    match json::read(value.text()) {
        Ok(Part::Other("null")) => Ok(()),
        Ok(Part::Text(text)) => {
            let text = if output.is_terminal { printable_text(&text) } else { text };
            let end = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
            output.raw(&format!("{text}{end}"))
        }
        _ => output.value(value),
    }
}
