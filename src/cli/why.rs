//! `kindling why`.

use crate::api::exit;
use crate::api::wire::{ConditionView, FieldPlaceView, FieldView, HistoryView, UnitView, WhyView};
use crate::model::time::Timestamp;
use crate::support::text::printable;

use super::Context;
use super::advice::advice;
use super::error::{CliError, Ended};
use super::output::{Format, Output, age, short, short_revision};
use super::{report, rows};

/// Explain the last decision about a unit: trigger, files, rule, action, result
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Explain this unit: its id or the end of one
    unit: String,
}

pub async fn why(args: &Args, context: &mut Context) -> Ended {
    let client = context.client()?;
    let why: WhyView = client.get(&["why"], &[("unit", Some(&args.unit))]).await?;
    let output = &mut context.output;
    match output.format {
        Format::Json | Format::Yaml => output.value(&why)?,
        Format::Name => output.line(&printable(&why.id))?,
        Format::Table | Format::Wide => explain(output, &why)?,
    }
    Ok(exit::DONE)
}

fn explain(output: &mut Output, why: &WhyView) -> Result<(), CliError> {
    let now = output.now();
    let mut lines = match &why.unit {
        Some(unit) => standing(unit, now),
        None => vec![("gone".to_owned(), "it is no longer there; this is the last that was done".to_owned())],
    };
    if let Some(unready) = &why.source_unready {
        lines.extend(source_lines(&why.id, unready));
    }
    match &why.last {
        Some(row) => lines.extend(decision(row, now)),
        None => lines.push(("last change".into(), "none was recorded".into())),
    }
    lines.extend(why.fields.iter().map(field));

    let heading = output.bold(&printable(&why.id));
    output.line(&heading)?;
    let width = lines.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    for (name, text) in lines {
        output.line(&format!("  {name:width$}  {}", printable(&text)))?;
    }
    Ok(())
}

type Lines = Vec<(String, String)>;

fn standing(unit: &UnitView, now: Timestamp) -> Lines {
    let mut lines = Lines::new();
    let mut put = |name: &str, text: String| lines.push((name.to_owned(), text));
    let next = next_step(unit);
    for condition in &unit.conditions {
        put(&condition.kind.to_lowercase(), told(condition, now));
    }
    for problem in &unit.problems {
        put("problem", report::place_and_message(problem));
    }
    for warning in &unit.warnings {
        put("warning", report::place_and_message(warning));
    }
    put("hash", hashes(unit));
    if let Some(revision) = &unit.deployed_revision {
        put("revision", revision.clone());
    }
    if let Some(dev) = rows::dev_of_unit(unit) {
        put("source", dev);
    }
    put("decision", ruled(unit.action.as_deref(), unit.rule.as_deref(), &unit.reason));
    if let Some(hook) = &unit.hook {
        put("webhook", hook.clone());
    }
    if let Some(at) = &unit.last_run_at {
        put("last run", format!("{at} ({} ago)", age(at, now)));
    }
    if let Some(at) = &unit.next_run_at {
        put("next run", format!("{at} ({})", rows::ahead(at, now).unwrap_or_default()));
    }
    if let Some(suspended) = &unit.suspended {
        put("suspended", format!("{} (for {})", suspended.reason, age(&suspended.since, now)));
    }
    if let Some(held) = rows::hold(unit) {
        let since = unit.held.as_ref().map(|held| age(&held.since, now)).unwrap_or_default();
        put("hold", format!("{held} (for {since})"));
    }
    if let Some(next) = next {
        put("next", next);
    }
    lines
}

/// That its source is not ready, which keeps changes from it, and what mends that.
fn source_lines(id: &str, unready: &str) -> Lines {
    let name = id.split('/').next().unwrap_or_default();
    let reason = unready.split(':').next().unwrap_or_default();
    let mut lines = vec![("source".to_owned(), format!("{name} is not ready: {unready}"))];
    lines.extend(advice(name, reason).map(|next| ("next".to_owned(), next)));
    lines
}

/// What mends it, if it is not as it should be.
fn next_step(unit: &UnitView) -> Option<String> {
    let ready = rows::condition(&unit.conditions, "Ready").filter(|ready| ready.status == "False");
    let reason = ready.map(|ready| ready.reason.as_str());
    let stopped = unit.suspended.as_ref().map(|_| "Suspended");
    advice(&unit.id, reason.or(stopped)?)
}

/// A field of which sets speak, with every place that set it, the lowest first.
fn field(field: &FieldView) -> (String, String) {
    let place = |place: &FieldPlaceView| {
        let clears = if place.clears { " (takes it away)" } else { "" };
        format!("{}:{}{clears}", place.file, place.line)
    };
    let chain: Vec<String> = field.chain.iter().map(place).collect();
    ("field".into(), format!("{}: {}", field.field, chain.join(" < ")))
}

fn told(condition: &ConditionView, now: Timestamp) -> String {
    let ConditionView { status, reason, message, since, .. } = condition;
    format!("{status} {reason}: {message} (for {})", age(since, now))
}

fn hashes(unit: &UnitView) -> String {
    let or_none = |hash: &Option<String>| match hash {
        Some(hash) => short(Some(hash)),
        None => "none".into(),
    };
    if unit.desired_hash.is_some() && unit.desired_hash == unit.deployed_hash {
        return format!("{} deployed, as desired", or_none(&unit.deployed_hash));
    }
    format!("{} deployed, {} desired", or_none(&unit.deployed_hash), or_none(&unit.desired_hash))
}

fn ruled(action: Option<&str>, rule: Option<&str>, reason: &str) -> String {
    match (action, rule) {
        (Some(action), Some(rule)) => format!("{action} by {rule}: {reason}"),
        _ => "nothing was decided yet".into(),
    }
}

fn decision(row: &HistoryView, now: Timestamp) -> Lines {
    let mut lines = Lines::new();
    let mut put = |name: &str, text: String| lines.push((name.to_owned(), text));
    put("last change", format!("{} ago, generation {} ({})", age(&row.at, now), row.generation, row.at));
    let trigger = &row.trigger;
    let detail = if trigger.detail.is_empty() { String::new() } else { format!(": {}", trigger.detail) };
    put("trigger", format!("{}{detail}", trigger.kind));
    if let Some(revision) = &row.revision {
        let rewritten = if row.rewritten { " (the branch was rewritten)" } else { "" };
        put("commit", format!("{}{rewritten}", short_revision(Some(revision))));
    }
    if let Some(path) = &row.dev_path {
        put("working copy", path.clone());
    }
    for file in &row.files {
        put("file", format!("{} {}", file.change, file.path));
    }
    put("rule", format!("{}: {}", row.rule, row.reason));
    let or_none = |hash: Option<&str>| hash.map_or_else(|| "none".to_owned(), |hash| short(Some(hash)));
    let (from, to) = (or_none(row.from_hash.as_deref()), or_none(row.to_hash.as_deref()));
    put("action", format!("{} {from} -> {to}", row.action));
    let proof = if row.proof.is_empty() { String::new() } else { format!(", proof: {}", row.proof) };
    let error = if row.error.is_empty() { String::new() } else { format!(": {}", row.error) };
    put("result", format!("{}{proof}{error}", row.outcome));
    if !row.phases.is_empty() {
        put("phases", rows::phases(&row.phases));
    }
    lines
}
