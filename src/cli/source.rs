//! `kindling source`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Subcommand;

use crate::api::exit;
use crate::api::wire::{DevRequest, Items, NewSource, ReportView, SourceView};
use crate::config::remote;
use crate::model::id::SourceName;
use crate::support::text::printable;

use super::Context;
use super::error::{CliError, Ended};
use super::output::Format;
use super::{get, report, rows, values};

/// List, add or remove sources, or take one from a working copy
#[derive(Debug, clap::Args)]
#[command(arg_required_else_help = false)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List sources
    List {
        /// Print a row again whenever it changes, until interrupted
        #[arg(short, long)]
        watch: bool,
    },
    /// Add a source that is kept by the service, and make its first pass
    Add(Add),
    /// Remove a source that was added by command, with all its units
    Remove {
        /// Remove this source
        #[arg(value_parser = name)]
        name: String,
    },
    /// Take a git source from a working copy for a while, go back, or show which it is
    ///
    /// Without an option it says whether dev mode is on; ends with 0.
    Dev(Dev),
}

#[derive(Debug, clap::Args)]
struct Dev {
    /// Switch this source
    #[arg(value_parser = name)]
    name: String,
    /// Take its units from this directory; it stands for what `path` of the source names
    #[arg(long, value_name = "PATH")]
    local_path: Option<PathBuf>,
    /// Go back by itself after this time, such as 2h
    #[arg(long = "for", value_name = "TIME", requires = "local_path", value_parser = length)]
    length: Option<String>,
    /// Go back to the repository
    #[arg(long, conflicts_with_all = ["local_path", "length"])]
    disable: bool,
}

#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("origin").required(true).args(["git", "local"])))]
struct Add {
    /// Give the source this name
    #[arg(value_parser = name)]
    name: String,
    /// Follow the git repository at this https, http, ssh or file URL, `user@host:path`, or absolute path
    #[arg(long, value_name = "URL")]
    git: Option<String>,
    /// Follow this branch; without it the one that the remote's HEAD names
    #[arg(long, requires = "git", value_parser = branch)]
    branch: Option<String>,
    /// Look for units below this directory of the repository
    #[arg(long, requires = "git")]
    path: Option<String>,
    /// Follow this directory of this machine
    #[arg(long, value_name = "PATH")]
    local: Option<PathBuf>,
}

fn name(text: &str) -> Result<String, String> {
    SourceName::new(text).map(|name| name.to_string()).map_err(|error| error.to_string())
}

fn branch(text: &str) -> Result<String, String> {
    remote::check_branch(text).map(|()| text.into()).map_err(|why| format!("it {why}"))
}

/// Checks a length of time, which is sent as it was typed.
fn length(text: &str) -> Result<String, String> {
    match values::time(text)? {
        Duration::ZERO => Err("a time longer than 0 is wanted".into()),
        _ => Ok(text.into()),
    }
}

pub async fn source(args: Args, context: &mut Context) -> Ended {
    match args.command {
        Command::List { watch } => get::sources(watch, context).await,
        Command::Add(add) => {
            let new = new_source(add, context)?;
            let client = context.client()?;
            let done: ReportView = client.post(&["sources"], &new).await?;
            report::print(&mut context.output, &done, "the source was added")?;
            Ok(report::exit_of(&done))
        }
        Command::Remove { name } => {
            let client = context.client()?;
            let done: ReportView = client.delete(&["sources", &name]).await?;
            report::print(&mut context.output, &done, "the source was removed")?;
            Ok(exit::DONE)
        }
        Command::Dev(args) => dev(args, context).await,
    }
}

/// Problems of units are listed and no failure: the switch is what was asked for.
async fn dev(args: Dev, context: &mut Context) -> Ended {
    let Dev { name, local_path, length, disable } = args;
    if disable {
        let client = context.client()?;
        let done: ReportView = client.delete(&["sources", &name, "dev"]).await?;
        report::print(&mut context.output, &done, switched("dev mode is off", &done).as_str())?;
        return Ok(if is_left_behind(&done) { exit::OUTSIDE } else { exit::DONE });
    }
    if let Some(path) = local_path {
        let request = DevRequest { path: context.directory(&path)?, length };
        let client = context.client()?;
        let done: ReportView = client.put(&["sources", &name, "dev"], &request).await?;
        report::print(&mut context.output, &done, switched("dev mode is on", &done).as_str())?;
        return Ok(exit::DONE);
    }
    let client = context.client()?;
    let found: Items<SourceView> = client.get(&["sources"], &[("name", Some(&name))]).await?;
    match (context.output.format, found.items.first()) {
        (Format::Table | Format::Wide, Some(source)) => {
            let shown = rows::dev(source).unwrap_or_else(|| "dev mode is off".into());
            context.output.line(&printable(&shown))?;
        }
        _ => context.output.listing(&found.items, "no sources")?,
    }
    Ok(exit::DONE)
}

/// Whether something still comes from the working copy after dev mode.
fn is_left_behind(done: &ReportView) -> bool {
    done.unready.iter().any(|unready| unready.why.starts_with("WorkingCopy:"))
}

/// What is said of a switch without a step. Where something is not ready, nobody knows that no unit differs.
fn switched(so: &str, done: &ReportView) -> String {
    if done.unready.is_empty() && done.problems.is_empty() {
        format!("{so}, and no unit differs")
    } else {
        so.into()
    }
}

fn new_source(add: Add, context: &Context) -> Result<NewSource, CliError> {
    // Not by the parser, which repeats what it refuses: a URL may hold a password.
    if let Some(why) = add.git.as_deref().and_then(|url| remote::check_url(url).err()) {
        return Err(CliError::usage(format!("the URL of --git {why}")));
    }
    let local = match add.local {
        None => None,
        Some(path) => {
            let path = context.absolute(&path);
            if !path.is_dir() {
                let message = format!("there is no directory {}", path.display());
                return Err(CliError::usage(message).hint("--local takes a directory that is there"));
            }
            let text = path.into_os_string().into_string();
            Some(text.map_err(|_| CliError::usage("the path of the directory is not UTF-8"))?)
        }
    };
    Ok(NewSource { name: add.name, git: add.git, branch: add.branch, path: add.path, local })
}
