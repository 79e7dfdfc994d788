//! The command line: one file per command. It talks to the service as any other program would, over its API, or
//! works alone; nothing is decided here.

use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand};
use tracing::Level;

use crate::api::exit;
use crate::config::locate::{self, LocateError, Located};
use crate::config::{self, Role, Settings};
use crate::support::telemetry;

use self::client::Client;
use self::error::{CliError, Ended};
use self::find::Clues;
use self::output::{Format, Output};

pub mod client;
pub mod error;
pub mod find;
pub mod json;
pub mod output;
pub mod sse;
pub mod table;
pub mod yaml;

mod advice;
mod cancel;
mod check;
mod completions;
mod diff;
mod events;
mod get;
mod history;
mod init;
mod logs;
mod look;
mod preview;
mod reconcile;
mod report;
mod restart;
mod resume;
mod rollback;
mod rows;
mod run;
mod serve;
mod source;
mod status;
mod suspend;
mod validate;
mod values;
mod wait;
mod webhook;
mod why;

/// Keep what runs equal to what is written in git, or in a working copy
///
/// Without a command: the status of everything.
#[derive(Debug, Parser)]
#[command(
    name = "kindling",
    version,
    disable_help_subcommand = true,
    args_conflicts_with_subcommands = false
)]
struct Cli {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    command: Option<Command>,
}

/// Options of every command.
#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
struct Globals {
    /// Read this configuration file
    ///
    /// Without it: KINDLING_CONFIG, kindling.yaml here or above, the user's configuration folder, /etc/kindling.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Ask the service at this address
    ///
    /// Without it: KINDLING_SERVER, the address that the service left in its data directory, `server.listen`.
    #[arg(long, global = true, value_name = "ADDRESS")]
    server: Option<String>,
    /// Allow plain HTTP to an address that is not on this machine
    #[arg(long, global = true)]
    insecure_http: bool,
    #[arg(
        short,
        long,
        global = true,
        value_enum,
        default_value_t,
        value_name = "FORMAT",
        hide_possible_values = true,
        help = "Print results as table, wide, json, yaml or name"
    )]
    output: Format,
    /// Leave out the headers of tables
    #[arg(long, global = true)]
    no_header: bool,
    /// Log from this level up: error, warn, info, debug or trace
    #[arg(long, global = true, env = "LOG_LEVEL", hide_env_values = true, value_name = "LEVEL",
        value_parser = values::level)]
    log_level: Option<Level>,
    /// Write log lines as text or json
    #[arg(long, global = true, value_name = "FORMAT", value_parser = values::log_format)]
    log_format: Option<telemetry::Format>,
}

#[derive(Debug, Subcommand)]
enum Command {
    Init(init::Args),
    Serve(serve::Args),
    Status(status::Args),
    Get(get::Args),
    Reconcile(reconcile::Args),
    Wait(wait::Args),
    Diff(diff::Args),
    Validate(validate::Args),
    Why(why::Args),
    History(history::Args),
    Events(events::Args),
    Logs(logs::Args),
    Run(run::Args),
    Cancel(cancel::Args),
    Rollback(rollback::Args),
    Restart(restart::Args),
    Suspend(suspend::Args),
    Resume(resume::Args),
    Source(source::Args),
    Webhook(webhook::Args),
    Check(check::Args),
    Completions(completions::Args),
}

/// What a command works with.
struct Context {
    globals: Globals,
    here: PathBuf,
    output: Output,
}

impl Context {
    fn env(name: &str) -> Option<OsString> {
        std::env::var_os(name)
    }

    /// The configuration file.
    fn locate(&self) -> Result<Located, LocateError> {
        locate::locate(self.globals.config.as_deref(), &Self::env, &self.here)
    }

    /// The configuration, as a service or a client reads it.
    fn settings(&self, role: Role) -> Result<Settings, CliError> {
        let located = self.locate().map_err(|error| CliError::no_configuration(&error))?;
        config::load(&located.file, &Self::env, role).map_err(|errors| CliError::configuration(&errors))
    }

    /// The service; nothing is sent yet.
    fn client(&self) -> Result<Client, CliError> {
        let found = find::find(&Clues {
            server: self.globals.server.as_deref(),
            config: self.globals.config.as_deref(),
            insecure_http: self.globals.insecure_http,
            env: &Self::env,
            here: &self.here,
        })?;
        Client::new(found)
    }

    /// A path that was typed, absolute. Links stay, unless a `..` has to be followed through them.
    fn absolute(&self, path: &Path) -> PathBuf {
        let path: PathBuf = self.here.join(path).components().collect();
        let climbs = path.components().any(|part| part == Component::ParentDir);
        if climbs { path.canonicalize().unwrap_or(path) } else { path }
    }

    /// A directory that was typed, absolute and as text.
    fn directory(&self, path: &Path) -> Result<String, CliError> {
        let path = self.absolute(path);
        if !path.is_dir() {
            return Err(CliError::usage(format!("there is no directory {}", path.display())));
        }
        let text = path.into_os_string().into_string();
        text.map_err(|_| CliError::usage("the path of the directory is not UTF-8"))
    }

    fn log(&self, quiet: Level) -> Result<(), CliError> {
        let (level, format) =
            (self.globals.log_level.unwrap_or(quiet), self.globals.log_format.unwrap_or_default());
        telemetry::init(level, format, telemetry::Stderr::look(&Self::env))
            .map_err(|error| CliError::bug(error.to_string()))
    }
}

/// Runs the command that the arguments of this process name.
#[must_use]
pub fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let json = values::wants_json(&arguments);
    error::tell_panics(json);
    // The hook has told everything by then.
    let ended = std::panic::catch_unwind(|| with(&arguments, json)).unwrap_or(exit::BUG);
    ExitCode::from(ended)
}

fn with(arguments: &[OsString], json: bool) -> u8 {
    let format = if json { Format::Json } else { Format::Table };
    match Cli::try_parse_from(arguments) {
        Ok(Cli { globals, command }) => {
            let mut output = Output::of_process(globals.output, !globals.no_header, &Context::env);
            match std::env::current_dir() {
                Ok(here) => finish(Context { globals, here, output }, command),
                Err(error) => {
                    output.tell(&CliError::outside("the working directory is gone").because(&error));
                    exit::OUTSIDE
                }
            }
        }
        Err(error) => {
            let mut output = Output::of_process(format, true, &Context::env);
            let told = if error.use_stderr() {
                Err(CliError::arguments(&error))
            } else {
                output.raw(&error.render().to_string()).map(|()| exit::DONE)
            };
            end(&mut output, told)
        }
    }
}

fn finish(mut context: Context, command: Option<Command>) -> u8 {
    let ended = dispatch(&mut context, command.unwrap_or(Command::Status(status::Args {})));
    end(&mut context.output, ended)
}

fn end(output: &mut Output, ended: Ended) -> u8 {
    let flushed = output.flush();
    match ended.and_then(|code| flushed.map(|()| code)) {
        Ok(code) => code,
        Err(error) => {
            output.tell(&error);
            error.exit()
        }
    }
}

fn dispatch(context: &mut Context, command: Command) -> Ended {
    match command {
        Command::Serve(args) => return serve::serve(&args, context),
        Command::Init(args) => return init::init(&args, context),
        Command::Completions(args) => return completions::completions(&args, context),
        _ => {}
    }
    context.log(Level::WARN)?;
    // One thread is enough for one call, and is there at once.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| CliError::outside("cannot start").because(&error))?;
    runtime.block_on(ask(context, command))
}

async fn ask(context: &mut Context, command: Command) -> Ended {
    match command {
        Command::Status(args) => status::status(&args, context).await,
        Command::Get(args) => get::get(&args, context).await,
        Command::Reconcile(args) => reconcile::reconcile(&args, context).await,
        Command::Wait(args) => wait::wait(&args, context).await,
        Command::Diff(args) => diff::diff(&args, context).await,
        Command::Validate(args) => validate::validate(&args, context).await,
        Command::Why(args) => why::why(&args, context).await,
        Command::History(args) => history::history(&args, context).await,
        Command::Events(args) => events::events(&args, context).await,
        Command::Logs(args) => logs::logs(&args, context).await,
        Command::Run(args) => run::run(&args, context).await,
        Command::Cancel(args) => cancel::cancel(&args, context).await,
        Command::Rollback(args) => rollback::rollback(&args, context).await,
        Command::Restart(args) => restart::restart(&args, context).await,
        Command::Suspend(args) => suspend::suspend(&args, context).await,
        Command::Resume(args) => resume::resume(&args, context).await,
        Command::Source(args) => source::source(args, context).await,
        Command::Webhook(args) => webhook::webhook(&args, context).await,
        Command::Check(args) => check::check(&args, context).await,
        Command::Serve(_) | Command::Init(_) | Command::Completions(_) => Ok(exit::DONE),
    }
}

/// The whole command line, for completions.
fn definition() -> clap::Command {
    Cli::command()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_holds_together() {
        definition().debug_assert();
    }

    #[test]
    fn the_end_of_dev_mode_takes_no_time() {
        let given = |more: &[&str]| {
            definition().try_get_matches_from(["kindling", "source", "dev", "s"].iter().chain(more)).is_ok()
        };
        assert!(given(&["--disable"]) && given(&["--local-path", "/x", "--for", "2s"]));
        assert!(!given(&["--disable", "--for", "2s"]) && !given(&["--disable", "--local-path", "/x"]));
    }

    /// Every line of help, with where it stands.
    fn help_lines(command: &clap::Command, path: &str, lines: &mut Vec<(String, String)>) {
        let path = format!("{path} {}", command.get_name());
        lines.extend(command.get_about().map(|about| (path.clone(), about.to_string())));
        for argument in command.get_arguments() {
            let text = argument.get_help().map(ToString::to_string).unwrap_or_default();
            lines.push((format!("{path} {}", argument.get_id()), text));
        }
        for below in command.get_subcommands() {
            help_lines(below, &path, lines);
        }
    }

    #[test]
    fn every_line_of_help_is_there_and_begins_with_an_imperative() {
        let mut lines = Vec::new();
        help_lines(&definition(), "", &mut lines);
        assert!(lines.len() > 60, "{}", lines.len());
        for (place, text) in lines {
            let first = text.split_whitespace().next().unwrap_or_default();
            assert!(first.starts_with(|c: char| c.is_ascii_uppercase()), "{place}: {text:?}");
            let declares = matches!(first, "The" | "A" | "An" | "This" | "Whether" | "Without" | "Only");
            assert!(!declares && !text.ends_with('.'), "{place}: {text:?}");
        }
    }
}
