//! `kindling status`.

use crate::api::exit;
use crate::api::wire::{Items, SourceView, StatusView, UnitView, Unready};
use crate::support::text::{count, printable};

use super::Context;
use super::advice::advice;
use super::error::{CliError, Ended};
use super::output::{Format, Output};
use super::rows;

/// Lines of one kind on the screen; the rest is counted.
const MOST_LINES: usize = 15;

/// Show how everything stands, problems first
///
/// Ends with 1 if anything is not ready.
#[derive(Debug, clap::Args)]
pub struct Args {}

pub async fn status(_: &Args, context: &mut Context) -> Ended {
    let client = context.client()?;
    let status: StatusView = client.get(&["status"], &[]).await?;
    let output = &mut context.output;
    match output.format {
        Format::Json | Format::Yaml => output.value(&status)?,
        Format::Name => {
            for unready in &status.unready {
                output.line(&printable(&unready.name))?;
            }
        }
        Format::Table | Format::Wide => {
            let units: Items<UnitView> = client.get(&["units"], &[("marked", Some("true"))]).await?;
            screen(output, &status, &units.items, client.address())?;
        }
    }
    Ok(if status.ready { exit::DONE } else { exit::NOT_SO })
}

fn screen(
    output: &mut Output,
    status: &StatusView,
    units: &[UnitView],
    address: &str,
) -> Result<(), CliError> {
    if !status.unready.is_empty() {
        let heading = output.bold("NOT READY");
        output.line(&heading)?;
        lines(output, &status.unready, true, "kindling get units")?;
        output.line("")?;
    }
    if let Some(restart) = rows::condition(&status.conditions, "RestartRequired") {
        let heading = output.bold("RESTART REQUIRED");
        output.line(&heading)?;
        output.line(&format!("  {}", printable(&restart.message)))?;
        output.line("")?;
    }
    let dev: Vec<Unready> = status
        .sources
        .iter()
        .filter_map(|source| Some(Unready { name: source.name.clone(), why: rows::dev(source)? }))
        .collect();
    if !dev.is_empty() {
        let heading = output.bold("DEV MODE");
        output.line(&heading)?;
        lines(output, &dev, false, "kindling get sources")?;
        output.line("")?;
    }
    let stopped = stopped(&status.sources, units);
    if !stopped.is_empty() {
        let heading = output.bold("STOPPED");
        output.line(&heading)?;
        lines(output, &stopped, false, "kindling get units -o wide")?;
        output.line("")?;
    }
    if status.sources.is_empty() {
        output.line("no sources: add one to kindling.yaml, or with `kindling source add`")?;
    } else {
        let mut table = output.table::<SourceView>();
        for source in status.sources.iter().take(MOST_LINES) {
            table.push(output.cells(source));
        }
        output.print(&table)?;
        more(output, status.sources.len(), "kindling get sources")?;
    }
    output.line("")?;
    let unready = match status.unready.len() {
        0 => "everything is ready".to_owned(),
        some => format!("{some} not ready"),
    };
    if let Some(line) = warned(units) {
        output.line(&line)?;
    }
    let units = count(status.units, "unit");
    output.line(&format!("{units}, {unready}; kindling {} at {address}", printable(&status.version)))
}

/// How many units have warnings, and where they are told.
fn warned(units: &[UnitView]) -> Option<String> {
    let warned: Vec<&UnitView> = units.iter().filter(|unit| !unit.warnings.is_empty()).collect();
    let first = warned.first()?;
    let warnings = warned.iter().map(|unit| unit.warnings.len()).sum();
    let (warnings, units) = (count(warnings, "warning"), count(warned.len(), "unit"));
    Some(format!("{warnings} on {units}: kindling why {}", printable(&first.id)))
}

/// What a person has stopped: it may be ready all the same, and is easily forgotten.
fn stopped(sources: &[SourceView], units: &[UnitView]) -> Vec<Unready> {
    let sources = sources.iter().filter_map(|source| {
        let why = rows::suspension(source.suspended.as_ref())?;
        Some(Unready { name: source.name.clone(), why })
    });
    let units = units.iter().filter_map(|unit| {
        let parts: Vec<String> =
            rows::suspension(unit.suspended.as_ref()).into_iter().chain(rows::hold(unit)).collect();
        (!parts.is_empty()).then(|| Unready { name: unit.id.clone(), why: parts.join("; ") })
    });
    sources.chain(units).collect()
}

/// A line for each, and below what mends it, where that is wanted and known.
fn lines(output: &mut Output, all: &[Unready], mend: bool, command: &str) -> Result<(), CliError> {
    let width =
        all.iter().take(MOST_LINES).map(|line| printable(&line.name).chars().count()).max().unwrap_or(0);
    for line in all.iter().take(MOST_LINES) {
        output.line(&format!("  {:width$}  {}", printable(&line.name), printable(&line.why)))?;
        let reason = line.why.split(':').next().unwrap_or_default();
        if let Some(advice) = advice(&line.name, reason).filter(|_| mend) {
            output.line(&format!("  {:width$}  -> {}", "", printable(&advice)))?;
        }
    }
    more(output, all.len(), command)
}

fn more(output: &mut Output, all: usize, command: &str) -> Result<(), CliError> {
    if all > MOST_LINES {
        output.line(&format!("  and {} more: {command}", all - MOST_LINES))?;
    }
    Ok(())
}
