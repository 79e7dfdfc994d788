//! `kindling completions`.

use clap_complete::Shell;

use crate::api::exit;

use super::Context;
use super::error::{CliError, Ended};

/// Print what a shell needs to complete commands and options
///
/// For bash: source <(kindling completions bash)
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name the shell: bash, zsh, fish, elvish or powershell
    #[arg(value_enum, hide_possible_values = true)]
    shell: Shell,
}

pub fn completions(args: &Args, context: &mut Context) -> Ended {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut super::definition(), "kindling", &mut script);
    let script = String::from_utf8(script)
        .map_err(|error| CliError::bug(format!("the completions are not UTF-8: {error}")))?;
    context.output.raw(&script)?;
    Ok(exit::DONE)
}
