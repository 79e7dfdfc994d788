//! A secret in memory, from which no way leads to a log, a message or an answer, and where secrets come from.

use std::fmt;
use std::path::Path;

/// A token or password. It cannot be printed, serialised or compared; who must compare it takes [`Secret::reveal`] and
/// does so in constant time.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The secret itself, for the one place that uses it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// The name of a credential that systemd gives to one of its services: of a file `/run/credentials/UNIT/NAME`.
#[must_use]
pub fn credential(file: &Path) -> Option<&str> {
    let mut parts = file.strip_prefix("/run/credentials").ok()?.iter();
    match (parts.next(), parts.next(), parts.next()) {
        (Some(_), Some(name), None) => name.to_str(),
        _ => None,
    }
}

/// How such a credential comes to be there, and how a command gets it too.
#[must_use]
pub fn credential_hint(name: &str) -> String {
    format!(
        "systemd gives it to the service alone, by `LoadCredential={name}:FILE` in its unit; a check that has it too: sudo \
         systemd-run --pipe --wait --uid=USER -p LoadCredential={name}:FILE kindling check"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_the_credentials_of_systemd() {
        let name = |file| credential(Path::new(file));
        assert_eq!(name("/run/credentials/kindling.service/api-token"), Some("api-token"));
        for other in
            ["/run/credentials/x", "/run/credentials/a/b/c", "/etc/kindling/api-token", "run/credentials/a/b"]
        {
            assert_eq!(name(other), None, "{other}");
        }
    }

    #[test]
    fn does_not_print_itself() {
        let secret = Secret::new("hunter2hunter2hunter2".into());
        assert_eq!(format!("{secret:?} {:#?}", Some(&secret)), "(secret) Some(\n    (secret),\n)");
        assert_eq!(secret.reveal(), "hunter2hunter2hunter2");
    }
}
