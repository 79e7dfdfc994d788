//! Whether secrets are there, and kept from others. None is ever shown.

use std::io::Read as _;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::app::TOKEN_FILE;
use crate::config::Settings;
use crate::config::secret::{credential, credential_hint};
use crate::model::source::{GitAuth, Origin, SourceSpec};

use super::super::Context;
use super::super::find::TOKEN;
use super::super::values::shell_word;
use super::Findings;

/// Shortest token, in bytes; see the configuration.
const MIN_TOKEN_BYTES: usize = 16;

pub(super) fn token(settings: &Settings, findings: &mut Findings) {
    let check = "token";
    let variable = Context::env(TOKEN).map(|token| token.len()).filter(|length| *length > 0);
    if variable.is_some_and(|length| length < MIN_TOKEN_BYTES) {
        let message = "KINDLING_TOKEN has fewer than 16 bytes: no service takes it";
        findings.warn(check, message, "`openssl rand -hex 32` makes one");
    }
    if settings.token.is_some() {
        findings.ok(check, "the configuration names one");
        return;
    }
    let file = settings.data_dir.join(TOKEN_FILE);
    let Ok(found) = file.metadata() else {
        findings.ok(check, "none in the data directory: the start makes one unless one is configured");
        return;
    };
    let word = shell_word(&file.display().to_string());
    if found.permissions().mode() & 0o077 != 0 {
        let message = format!("others may read {}", file.display());
        findings.fail(check, message, format!("rm {word}, then start the service again: it makes a new one"));
    } else if found.len() < MIN_TOKEN_BYTES as u64 {
        let message = format!("{} is too short", file.display());
        findings.fail(check, message, format!("rm {word}, then start the service again: it makes a new one"));
    } else {
        findings.ok(check, format!("{}", file.display()));
    }
}

/// What sources log in with. The command may run as another user, or with other variables, than the service does.
pub(super) fn credentials(sources: &[SourceSpec], findings: &mut Findings) {
    for source in sources {
        let Origin::Git(git) = &source.origin else { continue };
        let check = format!("source {}", source.name);
        match &git.auth {
            None => {}
            Some(GitAuth::TokenEnv(name)) if Context::env(name).is_some_and(|value| !value.is_empty()) => {
                findings.ok(&check, format!("its token is in {name}"));
            }
            Some(GitAuth::TokenEnv(name)) => {
                let message = format!("its token is in {name}, which is not set here; the service needs it");
                findings.fail(
                    &check,
                    message,
                    format!("set {name} where the service starts, and here to check it"),
                );
            }
            Some(GitAuth::TokenFile(file)) => secret_file(&check, "its token", file, findings),
            Some(GitAuth::SshKeyFile(file)) => secret_file(&check, "its key", file, findings),
        }
    }
}

fn secret_file(check: &str, what: &str, file: &Path, findings: &mut Findings) {
    let (shown, word) = (file.display(), shell_word(&file.display().to_string()));
    let mut first = [0];
    let read = std::fs::File::open(file).and_then(|mut file| {
        let mode = file.metadata()?.permissions().mode();
        Ok((mode, file.read(&mut first)?))
    });
    match read {
        Err(error) => {
            let message = format!("{what} in {shown} cannot be read: {error}");
            let hint = credential(file)
                .map_or_else(|| format!("put it there, then: chmod 600 {word}"), credential_hint);
            findings.fail(check, message, hint);
        }
        Ok((_, 0)) => findings.fail(check, format!("{shown} is empty"), "put the secret into it"),
        // A credential of systemd is for its service alone, whatever its mode says.
        Ok((mode, _)) if mode & 0o077 != 0 && !is_given(file) => {
            findings.warn(check, format!("others may read {what} in {shown}"), format!("chmod 600 {word}"));
        }
        Ok(_) => findings.ok(check, format!("{what} is in {shown}")),
    }
}

fn is_given(file: &Path) -> bool {
    let own = Context::env("CREDENTIALS_DIRECTORY").filter(|dir| !dir.is_empty());
    credential(file).is_some() || own.is_some_and(|dir| file.starts_with(dir))
}
