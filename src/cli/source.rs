//! `kindling source`.

use std::path::PathBuf;

use clap::Subcommand;

use crate::api::exit;
use crate::api::wire::{Items, NewSource, ReportView, SourceView};
use crate::config::remote;
use crate::model::id::SourceName;

use super::Context;
use super::error::{CliError, Ended};
use super::report;

/// List, add or remove sources
#[derive(Debug, clap::Args)]
#[command(arg_required_else_help = false)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List sources
    List,
    /// Add a source that is kept by the service, and make its first pass
    Add(Add),
    /// Remove a source that was added by command, with all its units
    Remove {
        /// Remove this source
        #[arg(value_parser = name)]
        name: String,
    },
}

#[derive(Debug, clap::Args)]
struct Add {
    /// Give the source this name
    #[arg(value_parser = name)]
    name: String,
    /// Follow the git repository at this https, http, ssh or file URL, `user@host:path`, or absolute path
    #[arg(long, value_name = "URL", required_unless_present = "local", conflicts_with = "local")]
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

pub async fn source(args: Args, context: &mut Context) -> Ended {
    match args.command {
        Command::List => {
            let client = context.client()?;
            let sources: Items<SourceView> = client.get(&["sources"], &[]).await?;
            context.output.listing(&sources.items, "no sources")?;
            Ok(exit::DONE)
        }
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
