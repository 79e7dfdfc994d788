//! Settings: kindling.yaml as typed values, every default filled in and every rule checked.
//!
//! Reads the file once, and again when the caller reloads. Never keeps or records anything, never looks at the store,
//! a source or the network, and never reads the environment but through the function that it is given.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::model::hook::HookPath;
use crate::model::id::SourceName;
use crate::model::limits::Limits;
use crate::model::problem::Position;
use crate::model::retention::Retention;
use crate::model::source::SourceSpec;

use self::forge::{GitHubSettings, PublicUrl};
use self::locate::Env;
use self::relay::RelayUrl;
use self::secret::Secret;
use self::yaml::Budget;

pub mod duration;
pub mod forge;
pub mod locate;
pub mod node;
pub mod relay;
pub mod remote;
pub mod repository;
mod retention;
pub mod secret;
mod sections;
mod trust;
pub mod words;
pub mod yaml;

pub use self::sections::{DEFAULT_DATA_DIR, DEFAULT_LISTEN, DEFAULT_WEBHOOK_BYTES, is_inside};

/// What kindling.yaml says.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The file itself, absolute.
    pub file: PathBuf,
    /// Where the service listens.
    pub listen: SocketAddr,
    /// The API's token; `None` where the service makes its own, or where a client cannot have it.
    pub token: Option<Secret>,
    /// The URL that others reach the service by.
    pub public_url: Option<PublicUrl>,
    /// Where commits are told how they fare.
    pub github: GitHubSettings,
    /// Whether plain HTTP off loopback is allowed.
    pub insecure_http: bool,
    /// Paths of task webhooks that anybody may call although they have neither secret nor token.
    pub open_hooks: BTreeSet<HookPath>,
    /// Where the store, git objects and versions lie; absolute.
    pub data_dir: PathBuf,
    /// The sources, in the order of the file. No two have one name.
    pub sources: Vec<SourceSpec>,
    /// The line of each one's name in the file, from 1.
    pub source_lines: BTreeMap<SourceName, u32>,
    /// The secrets of push webhooks, of the sources that have one.
    pub webhooks: BTreeMap<SourceName, Vec<Secret>>,
    /// The relays of the sources that have one; each of them has a webhook.
    pub relays: BTreeMap<SourceName, RelayUrl>,
    /// Programs of runtimes by the runtime's word, in place of those on `PATH`; absolute.
    pub programs: BTreeMap<String, PathBuf>,
    /// The files that its secrets were read from; absolute.
    pub secret_files: BTreeSet<PathBuf>,
    /// Variables that a key ending in `_env` names anywhere in the file: no unit may have them.
    pub own_variables: BTreeSet<String>,
    /// Limits for units.
    pub limits: Limits,
    /// How long and how much is kept.
    pub retention: Retention,
    /// Largest body of a push webhook, in bytes.
    pub webhook_bytes: u64,
}

/// What of a configuration leads a client to the service. Each part stands for itself: a mistake elsewhere in the file
/// takes none of them away.
#[derive(Clone, Debug)]
pub struct Lead {
    /// Where the service listens; `None` where what is written cannot be.
    pub listen: Option<SocketAddr>,
    /// Where its address and token lie, absolute; `None` where what is written is no path.
    pub data_dir: Option<PathBuf>,
    /// The API's token.
    pub token: LeadToken,
}

/// The token that a configuration leads to.
#[derive(Clone, Debug)]
pub enum LeadToken {
    /// It names none: the service makes its own.
    NotNamed,
    /// This one.
    Given(Secret),
    /// It names one that a client cannot have: its variable is not set here, or its file cannot be read.
    Elsewhere,
    /// What it says of a token cannot be understood.
    Unknown,
}

/// Who reads the settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The service: what its configuration asks for must be there.
    Service,
    /// A client, which may lack the service's environment and rights: a token that cannot be had is none.
    Client,
}

/// One thing that is wrong with the configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{}: {message}", file.display(), at.map_or_else(String::new, |at| format!(":{}:{}", at.line, at.column)))]
pub struct ConfigError {
    /// The configuration file.
    pub file: PathBuf,
    /// Where in the file; `None` where it is the file as a whole.
    pub at: Option<Position>,
    /// What is wrong, as a sentence without its full stop. Holds no value of the file.
    pub message: String,
    /// What to do about it, where the message does not say.
    pub hint: Option<String>,
}

/// Reads a configuration file.
///
/// # Errors
/// Everything that is wrong with it, in the order of the file: at least one error.
pub fn load(file: &Path, env: Env<'_>, role: Role) -> Result<Settings, Vec<ConfigError>> {
    parse(file, &text(file)?, env, role)
}

/// The text of a configuration file, as far as it may be long.
///
/// # Errors
/// It cannot be read: one error.
pub fn text(file: &Path) -> Result<Vec<u8>, Vec<ConfigError>> {
    read_bounded(file, Budget::settings().bytes).map_err(|error| {
        vec![ConfigError {
            file: file.to_owned(),
            at: None,
            message: format!("cannot be read: {error}"),
            hint: Some("`kindling init` makes a configuration".into()),
        }]
    })
}

/// Reads the text of a configuration file; paths in it are relative to the directory of `file`.
///
/// # Errors
/// As [`load`].
pub fn parse(file: &Path, text: &[u8], env: Env<'_>, role: Role) -> Result<Settings, Vec<ConfigError>> {
    // Fails only for an empty path, or where the working directory is gone.
    let file = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    sections::read(&file, text, env, role).1
}

/// Reads what leads a client to the service, which a file gives although something else in it is wrong: `None` where
/// it is no YAML, or no map. Beside it everything that is wrong with the file.
#[must_use]
pub fn lead(file: &Path, env: Env<'_>) -> (Option<Lead>, Vec<ConfigError>) {
    let text = match text(file) {
        Ok(text) => text,
        Err(errors) => return (None, errors),
    };
    let file = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    let (lead, settings) = sections::read(&file, &text, env, Role::Client);
    (lead, settings.err().unwrap_or_default())
}

/// The file's bytes: at most one more than `limit`, so that the caller sees that it is too large.
fn read_bounded(file: &Path, limit: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    crate::support::file::open(file)?.take(limit + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests;
