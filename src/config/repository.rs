//! The `git` section of a source.

use std::time::Duration;

use super::duration::{DURATION, duration};
use super::node::{Field, Fields, Value};
use super::relay::RelayUrl;
use super::remote::{Reach, check_branch, check_commit, check_range, check_tag, check_url, reach};
use super::secret::Secret;
use super::sections::Reader;
use crate::model::path::RelPath;
use crate::model::source::{DEFAULT_POLL_INTERVAL, GitAuth, GitOrigin, GitRef, Rewrite};

/// A shorter interval asks a server more often than any change is worth.
const MIN_POLL_INTERVAL: Duration = Duration::from_secs(1);

/// Shortest secret of a webhook, in bytes (DESIGN 9).
const MIN_SECRET_BYTES: usize = 16;

/// Secrets that a webhook may be signed with at a time (DESIGN 9).
const MOST_SECRETS: usize = 2;

/// Longest name of a variable, in bytes.
const MAX_VARIABLE_BYTES: usize = 255;

pub(super) const GIT: [&str; 11] = [
    "url",
    "branch",
    "tag",
    "semver",
    "commit",
    "path",
    "poll_interval",
    "webhook",
    "relay",
    "auth",
    "rewrite",
];
pub(super) const WEBHOOK: [&str; 2] = ["secret_env", "secret_file"];
pub(super) const RELAY: [&str; 1] = ["url"];
pub(super) const AUTH: [&str; 3] = ["token_env", "token_file", "ssh_key_file"];

/// What is followed: the key, its rule, and what is made of it. At most one of them is given.
type Followed = (&'static str, fn(&str) -> Result<(), &'static str>, fn(String) -> GitRef);
const FOLLOWED: [Followed; 4] = [
    ("branch", check_branch, GitRef::Branch),
    ("tag", check_tag, GitRef::Tag),
    ("semver", check_range, GitRef::Semver),
    ("commit", check_commit, GitRef::Commit),
];

impl Reader<'_> {
    pub(super) fn git(&mut self, field: &Field<'_>) -> Option<GitOrigin> {
        let fields = field.fields(&GIT, &mut self.errors)?;
        let url = fields.required("url", &mut self.errors).and_then(|field| self.ruled(&field, check_url));
        let reference = self.reference(&fields);
        let path = fields.get("path").map(|field| self.rel_path(&field));
        let poll_interval = fields.get("poll_interval").and_then(|field| {
            let interval = field.parsed(DURATION, duration, &mut self.errors)?;
            if interval < MIN_POLL_INTERVAL {
                self.errors.push(field.error("must be at least `1s`"));
            }
            Some(interval)
        });
        let auth = fields.get("auth").map(|field| self.auth(&field, url.as_deref()));
        let rewrite = fields.get("rewrite").map(|field| {
            let read = |text: &str| match text {
                "follow" => Some(Rewrite::Follow),
                "guard" => Some(Rewrite::Guard),
                _ => None,
            };
            field.parsed("`follow` or `guard`", read, &mut self.errors)
        });
        self.secrets = fields.get("webhook").map(|field| self.webhook(&field)).unwrap_or_default();
        self.relay =
            fields.get("relay").and_then(|field| self.relay(&field, fields.get("webhook").is_some()));
        Some(GitOrigin {
            url: url?,
            reference: reference?,
            path: path.unwrap_or_else(|| Some(RelPath::root()))?,
            poll_interval: poll_interval.unwrap_or(DEFAULT_POLL_INTERVAL),
            auth: auth.map_or(Some(None), |auth| auth.map(Some))?,
            rewrite: rewrite.unwrap_or_else(|| Some(Rewrite::default()))?,
        })
    }

    fn reference(&mut self, fields: &Fields<'_>) -> Option<GitRef> {
        let given: Vec<_> = FOLLOWED
            .into_iter()
            .filter_map(|(name, rule, make)| Some((fields.get(name)?, name, rule, make)))
            .collect();
        match &given[..] {
            [] => Some(GitRef::Head),
            [(field, _, rule, make)] => self.ruled(field, *rule).map(make),
            several => {
                let names: Vec<_> = several.iter().map(|(_, name, ..)| format!("`{name}`")).collect();
                let at = several.iter().map(|(field, ..)| field.key_at).max().unwrap_or(fields.at);
                let message =
                    format!("one of branch, tag, semver and commit is followed, not {}", names.join(" and "));
                self.errors.push(fields.error(at, &message));
                None
            }
        }
    }

    /// The secrets that a push webhook may be signed with: two while one takes the other's place.
    fn webhook(&mut self, field: &Field<'_>) -> Vec<Secret> {
        let Some(fields) = field.fields(&WEBHOOK, &mut self.errors) else { return Vec::new() };
        let (field, is_env) = match (fields.get("secret_env"), fields.get("secret_file")) {
            (Some(field), None) => (field, true),
            (None, Some(field)) => (field, false),
            (None, None) => {
                let message = "one of the fields `secret_env` and `secret_file` is missing";
                self.errors.push(fields.error(fields.at, message));
                return Vec::new();
            }
            (Some(one), Some(other)) => {
                let at = one.key_at.max(other.key_at);
                let message = "the secrets come from `secret_env` or `secret_file`, not both";
                self.errors.push(fields.error(at, message));
                return Vec::new();
            }
        };
        let is_list = matches!(field.node.value, Value::List(_));
        let named =
            if is_list { field.list(&mut self.errors).unwrap_or_default() } else { vec![field.clone()] };
        if named.is_empty() || named.len() > MOST_SECRETS {
            self.errors.push(field.error("must name one secret, or two while one takes the other's place"));
            return Vec::new();
        }
        named.iter().filter_map(|field| self.webhook_secret(field, is_env)).collect()
    }

    fn webhook_secret(&mut self, field: &Field<'_>, is_env: bool) -> Option<Secret> {
        let text =
            if is_env { self.token_from_env(field, "secret_file")? } else { self.token_from_file(field)? };
        let refusal = if text.len() < MIN_SECRET_BYTES {
            "gives a secret shorter than 16 bytes"
        } else if text.bytes().all(|byte| Some(byte) == text.bytes().next()) {
            "gives a secret of one repeated character"
        } else {
            return Some(Secret::new(text));
        };
        self.hinted(field.error(refusal), "`openssl rand -hex 32` makes one");
        None
    }

    /// The relay that passes deliveries on; what it says counts only with the signature of the webhook.
    fn relay(&mut self, field: &Field<'_>, has_webhook: bool) -> Option<RelayUrl> {
        let fields = field.fields(&RELAY, &mut self.errors)?;
        let place = fields.required("url", &mut self.errors)?;
        let url = RelayUrl::parse(place.text(&mut self.errors)?);
        if let Err(refusal) = url {
            self.errors.push(place.error(refusal));
        }
        if !has_webhook {
            let error = fields.error(
                field.key_at,
                "a relay needs a `webhook`: only its secret tells who sent what it passes on",
            );
            self.hinted(
                error,
                "add `webhook: {secret_env: NAME}` beside it, and give the provider the same secret",
            );
        }
        url.ok()
    }

    fn auth(&mut self, field: &Field<'_>, url: Option<&str>) -> Option<GitAuth> {
        let fields = field.fields(&AUTH, &mut self.errors)?;
        let given: Vec<_> = AUTH.into_iter().filter_map(|name| Some((name, fields.get(name)?))).collect();
        let [(name, field)] = &given[..] else {
            let message = "exactly one of token_env, token_file and ssh_key_file is needed";
            self.errors.push(fields.error(fields.at, message));
            return None;
        };
        let auth = match *name {
            "token_env" => self.ruled(field, check_variable).map(GitAuth::TokenEnv)?,
            "token_file" => self.secret_path(field).map(GitAuth::TokenFile)?,
            _ => self.secret_path(field).map(GitAuth::SshKeyFile)?,
        };
        if let Some(refusal) = url.and_then(|url| mismatch(&auth, url)) {
            self.errors.push(field.error(refusal));
            return None;
        }
        Some(auth)
    }
}

/// Why a credential cannot be used at a URL.
#[must_use]
pub fn mismatch(auth: &GitAuth, url: &str) -> Option<&'static str> {
    let is_token = !matches!(auth, GitAuth::SshKeyFile(_));
    match reach(url).ok()? {
        Reach::Web { is_private: false } if is_token => {
            Some("would cross the network in plain HTTP; use https")
        }
        Reach::Web { .. } if !is_token => Some("is for ssh, but the URL is not"),
        Reach::Ssh | Reach::File if is_token => Some("is for https, but the URL is not"),
        Reach::File => Some("is for ssh, but the URL is not"),
        Reach::Web { .. } | Reach::Ssh => None,
    }
}

/// Whether this can be the name of a variable. What stands there instead may be a secret: it is never repeated.
pub(super) fn check_variable(name: &str) -> Result<(), &'static str> {
    let is_name = !name.starts_with(|c: char| c.is_ascii_digit())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if is_name && (1..=MAX_VARIABLE_BYTES).contains(&name.len()) {
        Ok(())
    } else {
        Err("takes the name of a variable (letters, digits and `_`), not the secret itself")
    }
}
