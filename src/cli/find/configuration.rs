//! What the configuration says of the service, however much of it can be read. Sends nothing and asks nobody.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::app::ADDRESS_FILE;
pub(super) use crate::config::LeadToken as Token;
use crate::config::locate::{self, Env, FoundBy, LocateError, Located};
use crate::config::{self, ConfigError, Lead, Role};

use super::super::values::shell_word;
use super::{Clues, small_file};

/// The configuration, or why there is none.
pub(super) enum Configuration {
    Known(Box<Known>),
    Missing(LocateError),
}

/// What of it leads to the service.
pub(super) struct Known {
    /// The file.
    pub file: PathBuf,
    /// How it was found.
    pub by: FoundBy,
    /// Where the service listens; `None` where that cannot be read.
    pub listen: Option<SocketAddr>,
    /// Where the service leaves its address and its token; `None` where that cannot be read.
    pub data_dir: Option<PathBuf>,
    /// The token.
    pub token: Token,
    /// What is wrong with the file.
    pub faults: Vec<ConfigError>,
}

impl Configuration {
    pub(super) fn look(clues: &Clues<'_>) -> Self {
        match locate::locate(clues.config, clues.env, clues.here) {
            Err(error) => match left_without_file(&error, clues) {
                Some(known) => Self::Known(Box::new(known)),
                None => Self::Missing(error),
            },
            Ok(located) => Self::Known(Box::new(read(located, clues.env))),
        }
    }

    /// Whether what is wrong with the file hides which token it names.
    pub(super) fn hides_token(&self) -> bool {
        matches!(self, Self::Known(known) if matches!(known.token, Token::Unknown) && !known.faults.is_empty())
    }

    pub(super) fn into_faults(self) -> Vec<ConfigError> {
        match self {
            Self::Known(known) => known.faults,
            Self::Missing(_) => Vec::new(),
        }
    }

    /// The command that starts the service of this configuration.
    pub(super) fn start(&self) -> String {
        match self {
            Self::Known(known) if matches!(known.by, FoundBy::Flag | FoundBy::Variable) => {
                format!("kindling serve --config {}", shell_word(&known.file.display().to_string()))
            }
            _ => "kindling serve".into(),
        }
    }
}

/// What the file says. A service that runs while it is being edited can be asked all the same, and tells what is wrong
/// with the edit: where the file does not say where it is, it is looked for where a configuration has it that names no
/// other place.
fn read(located: Located, env: Env<'_>) -> Known {
    let Located { file, by } = located;
    let file = std::path::absolute(&file).unwrap_or(file);
    let (lead, faults) = config::lead(&file, env);
    let unread = Lead { listen: None, data_dir: None, token: Token::Unknown };
    let Lead { listen, data_dir, token } = lead.unwrap_or(unread);
    // An edit of the data directory takes effect at the next start.
    let is_there = data_dir.as_ref().is_some_and(|dir| dir.join(ADDRESS_FILE).exists());
    let data_dir = if is_there { data_dir } else { left_running(&file, env).or(data_dir) };
    Known { file, by, listen, data_dir, token, faults }
}

/// The data directory of a configuration that names none, if a service has left its address there.
fn left_running(file: &Path, env: Env<'_>) -> Option<PathBuf> {
    let data_dir = config::parse(file, b"{}", env, Role::Client).ok()?.data_dir;
    small_file(&data_dir.join(ADDRESS_FILE)).map(|_| data_dir)
}

/// The same, where the file is gone: beside where it was named, or here or above.
fn left_without_file(error: &LocateError, clues: &Clues<'_>) -> Option<Known> {
    let known = |file: &Path, by| {
        let data_dir = left_running(file, clues.env)?;
        let (file, faults) = (file.to_owned(), Vec::new());
        Some(Known { file, by, listen: None, data_dir: Some(data_dir), token: Token::NotNamed, faults })
    };
    match error {
        LocateError::NotThere { file, by } => known(file, *by),
        LocateError::NotFound { .. } => clues.here.ancestors().find_map(|dir| {
            let by = if dir == clues.here { FoundBy::Here } else { FoundBy::Above };
            known(&dir.join(locate::FILE_NAME), by)
        }),
    }
}
