//! `kindling wait`.

use std::time::Duration;

use crate::api::wire::{EventView, Items, ReportView, SourceView, SubjectRequest, UnitView};
use crate::api::{code, exit};

use super::Context;
use super::client::{Client, Stream};
use super::error::{CliError, Ended};
use super::output::short;
use super::rows::condition;
use super::{report, values};

/// Not every change brings an event: this often it is looked again without one.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// Wait until all that was on disk at the call is decided and live
///
/// Ends with 0 if all is ready, with 1 and the reasons if not, with 124 if the time was over before.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Wait only for this source, or the unit with this id or end of one
    #[arg(value_name = "SOURCE|UNIT")]
    subject: Option<String>,
    /// Wait until the commit that begins so is deployed
    #[arg(long, value_name = "SHA", conflicts_with = "hash", value_parser = values::prefix)]
    revision: Option<String>,
    /// Wait until the unit's hash that begins so is deployed
    #[arg(long, value_name = "HASH", requires = "subject", value_parser = values::prefix)]
    hash: Option<String>,
    /// Wait no longer than this
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = values::time)]
    timeout: Duration,
}

pub async fn wait(args: &Args, context: &mut Context) -> Ended {
    let client = context.client()?;
    let mut standing = String::new();
    let waited = tokio::time::timeout(args.timeout, until_so(args, &client, &mut standing)).await;
    let Ok(settled) = waited else {
        let message = if standing.is_empty() { "it was not settled in time".into() } else { standing };
        return Err(CliError::timed_out(message).hint("see `kindling status`, or wait longer with --timeout"));
    };
    let settled = settled?;
    if context.output.format.is_data() || report::exit_of(&settled) != exit::DONE {
        report::print(&mut context.output, &settled, "")?;
    }
    Ok(report::exit_of(&settled))
}

/// What is waited for, as it stands.
enum Standing {
    /// It is deployed.
    Deployed,
    /// It was decided on and did not take effect; more waiting changes that only if somebody does something.
    Failed,
    /// Not yet: what is deployed now.
    NotYet(String),
}

async fn until_so(args: &Args, client: &Client, standing: &mut String) -> Result<ReportView, CliError> {
    let request = SubjectRequest { subject: args.subject.clone() };
    let settle = async || client.post::<ReportView>(&["wait"], &request).await;
    let (prefix, is_hash) = match (&args.hash, &args.revision) {
        (Some(hash), _) => (hash, true),
        (None, Some(revision)) => (revision, false),
        (None, None) => return settle().await,
    };
    // Listening first, so that no change falls between a look and the wait for the next one.
    let mut events = client.stream::<EventView>(&["events"], &[]).await?;
    loop {
        let mut settled = settle().await?;
        let subject = args.subject.as_deref();
        let now = if is_hash {
            hash_standing(client, subject.unwrap_or_default(), prefix, &mut settled).await?
        } else {
            revision_standing(client, subject, prefix, &settled).await?
        };
        match now {
            Standing::Deployed | Standing::Failed => return Ok(settled),
            Standing::NotYet(what) => *standing = what,
        }
        next_change(&mut events).await?;
    }
}

async fn next_change(events: &mut Stream<EventView>) -> Result<(), CliError> {
    match tokio::time::timeout(LOOK_AGAIN, events.next()).await {
        Ok(Ok(None)) => Err(CliError::outside("the service ended while it was waited for")),
        Ok(Err(error)) => Err(error),
        Ok(Ok(Some(_))) | Err(_) => Ok(()),
    }
}

async fn hash_standing(
    client: &Client,
    subject: &str,
    prefix: &str,
    settled: &mut ReportView,
) -> Result<Standing, CliError> {
    let Some(unit) = unit(client, subject).await? else {
        return Err(CliError::usage(format!("{subject} is a source: --hash is for a unit")));
    };
    let begins = |hash: &Option<String>| hash.as_deref().is_some_and(|hash| hash.starts_with(prefix));
    if begins(&unit.deployed_hash) {
        // That another version is held back is no news to somebody who waits for this one.
        if condition(&unit.conditions, "Ready").is_some_and(|ready| ready.reason == "Held") {
            settled.unready.retain(|unready| unready.name != unit.id);
        }
        return Ok(Standing::Deployed);
    }
    if begins(&unit.attempted_hash) && !settled.unready.is_empty() {
        return Ok(Standing::Failed);
    }
    let deployed = short(unit.deployed_hash.as_deref());
    let deployed = if deployed.is_empty() { "nothing" } else { &deployed };
    Ok(Standing::NotYet(format!("{} has {deployed} deployed, not {prefix}", unit.id)))
}

/// A unit's commit is as good as its source's: a commit that did not touch the unit is deployed with the source.
async fn revision_standing(
    client: &Client,
    subject: Option<&str>,
    prefix: &str,
    settled: &ReportView,
) -> Result<Standing, CliError> {
    let unit = match subject {
        Some(subject) => unit(client, subject).await?,
        None => None,
    };
    let begins = |commit: &Option<String>| commit.as_deref().is_some_and(|commit| commit.starts_with(prefix));
    if unit.as_ref().is_some_and(|unit| begins(&unit.deployed_revision)) {
        return Ok(Standing::Deployed);
    }
    let name = unit.as_ref().map(|unit| unit.source.as_str()).or(subject);
    let sources: Items<SourceView> = client.get(&["sources"], &[("name", name)]).await?;
    let mut sources: Vec<SourceView> =
        sources.items.into_iter().filter(|source| source.kind == "git").collect();
    if sources.is_empty() {
        return Err(CliError::usage("--revision is for sources from git, and for units of them"));
    }
    sources.retain(|source| !begins(&source.revision.deployed));
    let Some(behind) = sources.first() else { return Ok(Standing::Deployed) };
    if !settled.unready.is_empty() && sources.iter().all(|source| begins(&source.revision.attempted)) {
        return Ok(Standing::Failed);
    }
    let deployed = behind.revision.deployed.as_deref().unwrap_or("nothing");
    Ok(Standing::NotYet(format!("{} has {deployed} deployed, not {prefix}", behind.name)))
}

/// The unit that is meant; `None` where a source is. The service has refused what is neither.
async fn unit(client: &Client, subject: &str) -> Result<Option<UnitView>, CliError> {
    match client.get::<Items<SourceView>>(&["sources"], &[("name", Some(subject))]).await {
        Ok(_) => return Ok(None),
        Err(error) if error.is(code::NOT_FOUND) => {}
        Err(error) => return Err(error),
    }
    let units: Items<UnitView> = client.get(&["units"], &[("name", Some(subject))]).await?;
    Ok(units.items.into_iter().next())
}
