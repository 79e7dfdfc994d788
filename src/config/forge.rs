//! Where commits are told how they fare, and the URL that others reach the service by.

use std::net::{IpAddr, Ipv4Addr};

use super::node::{Field, Fields};
use super::remote::{Reach, SshUrl, reach};
use super::secret::Secret;
use super::sections::Reader;

pub(super) const GITHUB: [&str; 4] = ["token_env", "token_file", "statuses", "api_url"];

/// What kindling.yaml says of GitHub.
#[derive(Clone, Debug, Default)]
pub struct GitHubSettings {
    /// The token; `None` where none is named, or where a client cannot have it.
    pub token: Option<Secret>,
    /// Whether commits are told how they fare.
    pub statuses: bool,
    /// The base of the API without a slash at its end; `None` for github.com's.
    pub api_url: Option<String>,
}

/// The URL that others reach the service by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicUrl {
    /// As it is written.
    pub url: String,
    /// Its host as [`host_of`] gives it.
    pub host: String,
}

/// The host that a URL names: in lower case, without a port, brackets or the dot of the root. `None` for a directory of
/// this machine.
#[must_use]
pub fn host_of(url: &str) -> Option<String> {
    match reach(url).ok()? {
        Reach::File => None,
        Reach::Ssh => SshUrl::parse(url).ok().map(|url| url.host),
        Reach::Web { .. } => {
            let rest = url.split_once("://")?.1;
            Some(bare_host(&rest[..rest.find('/').unwrap_or(rest.len())]))
        }
    }
}

/// `HOST[:PORT]` as [`host_of`] gives it.
#[must_use]
pub fn bare_host(authority: &str) -> String {
    let host = match authority.rsplit_once(':') {
        Some((host, port))
            if port.bytes().all(|b| b.is_ascii_digit()) && (host.ends_with(']') || !host.contains(':')) =>
        {
            host
        }
        _ => authority,
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase()
}

fn check_api(url: &str) -> Result<(), &'static str> {
    match reach(url) {
        Ok(Reach::Web { is_private: true }) if url.is_ascii() => Ok(()),
        Ok(Reach::Web { is_private: false }) => Err("would carry the token in plain HTTP; use https"),
        _ => Err("must be an https URL such as `https://github.example.com/api/v3`"),
    }
}

fn check_public(url: &str) -> Result<(), &'static str> {
    match (reach(url), host_of(url)) {
        (Ok(Reach::Web { .. }), Some(host)) if url.is_ascii() => {
            if names_here(&host) {
                Err("names this machine, which others do not reach by that")
            } else {
                Ok(())
            }
        }
        _ => Err("must be an https or http URL such as `https://kindling.example.com`"),
    }
}

/// Whether a host, as [`host_of`] gives it, is this machine for whoever looks it up, in every spelling that resolvers
/// take.
fn names_here(host: &str) -> bool {
    let host = host.trim_end_matches('.');
    let last = host.rsplit('.').next().unwrap_or_default();
    let is_here = |ip: IpAddr| ip.to_canonical().is_loopback() || ip.is_unspecified();
    matches!(last, "localhost" | "ip6-localhost" | "ip6-loopback")
        || host == "localhost.localdomain"
        || host.parse().is_ok_and(is_here)
        || numeric(host).is_some_and(|ip| is_here(ip.into()))
}

/// An IPv4 address as C libraries read it: one to four numbers, decimal, octal or hexadecimal, of which the last one fills
/// what is left.
fn numeric(host: &str) -> Option<Ipv4Addr> {
    let number = |part: &str| match part.strip_prefix("0x") {
        Some("") => Some(0),
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None if part.len() > 1 && part.starts_with('0') => u32::from_str_radix(part, 8).ok(),
        None => part.parse().ok(),
    };
    let parts: Vec<u32> = host.split('.').map(number).collect::<Option<_>>()?;
    let (last, first) = parts.split_last().filter(|(_, first)| first.len() < 4)?;
    let bits = first.iter().zip([24, 16, 8]).try_fold(0_u32, |bits, (part, shift)| {
        u8::try_from(*part).ok().map(|part| bits | u32::from(part) << shift)
    })?;
    Some(Ipv4Addr::from_bits(bits | last))
}

impl Reader<'_> {
    pub(super) fn public_url(&mut self, server: Option<&Fields<'_>>) -> Option<PublicUrl> {
        let url = self.ruled(&server?.get("public_url")?, check_public)?;
        host_of(&url).map(|host| PublicUrl { url, host })
    }

    pub(super) fn github(&mut self, field: &Field<'_>) -> Option<GitHubSettings> {
        let fields = field.fields(&GITHUB, &mut self.errors)?;
        let named = ["token_env", "token_file"].into_iter().any(|name| fields.get(name).is_some());
        let token = self.github_token(&fields);
        let wanted = fields.get("statuses").and_then(|field| Some((field.boolean(&mut self.errors)?, field)));
        if let Some((true, field)) = &wanted
            && !named
        {
            let error = field.error("needs a token: name it by `token_env` or `token_file`");
            self.hinted(error, "a fine-grained token needs \"Commit statuses: read and write\"");
        }
        let statuses = wanted.map_or(named, |(wanted, _)| wanted);
        let api_url = fields.get("api_url").and_then(|field| self.ruled(&field, check_api));
        let api_url = api_url.map(|url| url.trim_end_matches('/').to_owned());
        Some(GitHubSettings { token, statuses, api_url })
    }

    fn github_token(&mut self, fields: &Fields<'_>) -> Option<Secret> {
        let (field, text) = match (fields.get("token_env"), fields.get("token_file")) {
            (None, None) => return None,
            (Some(one), Some(other)) => {
                let at = one.key_at.max(other.key_at);
                self.errors
                    .push(fields.error(at, "a token comes from `token_env` or `token_file`, not both"));
                return None;
            }
            (Some(field), None) => (field.clone(), self.token_from_env(&field, "token_file")?),
            (None, Some(field)) => (field.clone(), self.token_from_file(&field)?),
        };
        let refusal = if text.is_empty() {
            "gives an empty token"
        } else if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            "gives a token with a space or a character that is not ASCII"
        } else {
            return Some(Secret::new(text));
        };
        self.hinted(field.error(refusal), "GitHub shows a token once, when it is made");
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_the_same_in_every_spelling() {
        for url in [
            "https://GitHub.com/a/b",
            "https://github.com.:443/a/b",
            "ssh://git@github.com:22/a/b",
            "git@github.com:a/b",
        ] {
            assert_eq!(host_of(url).unwrap().trim_end_matches('.'), "github.com", "{url}");
        }
        assert_eq!(host_of("https://[2001:DB8::1]:8443/x").unwrap(), "2001:db8::1");
        assert_eq!(host_of("/srv/git/x"), None);
    }

    #[test]
    fn an_api_never_gets_the_token_in_plain_http() {
        for url in ["https://github.example.com/api/v3/", "http://127.0.0.1:8080", "http://[::1]:1/x"] {
            assert_eq!(check_api(url), Ok(()), "{url}");
        }
        for url in
            ["http://github.example.com", "github.example.com", "/x", "git@h:x", "https://t@h/", "https://ü/"]
        {
            assert!(check_api(url).is_err(), "{url}");
        }
    }

    #[test]
    fn a_public_url_is_no_name_of_this_machine() {
        for url in [
            "https://kindling.example.com",
            "http://10.0.0.1:7070/x",
            "https://localhost.example.com",
            "https://10.1",
            "https://0x7f.example.com",
        ] {
            assert_eq!(check_public(url), Ok(()), "{url}");
        }
        for host in [
            "localhost.",
            "LOCALHOST",
            "a.localhost",
            "localhost.localdomain",
            "ip6-localhost",
            "127.1",
            "127.0.0.1.",
            "0x7f.0.0.1",
            "0177.0.0.1",
            "2130706433",
            "0x7F000001",
            "0.0.0.0",
            "0",
            "[::]",
            "[::ffff:127.0.0.1]",
        ] {
            assert!(check_public(&format!("https://{host}:7070/")).is_err(), "{host}");
        }
        for url in
            ["https://localhost:7070", "http://127.0.0.1", "http://[::1]/", "ssh://h/x", "x", "https://h?x"]
        {
            assert!(check_public(url).is_err(), "{url}");
        }
    }
}
