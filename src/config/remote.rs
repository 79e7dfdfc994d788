//! Rules for what names a repository and what is followed of it. They hold for kindling.yaml and for `source add` alike.
//!
//! A URL ends up in logs, in the API and in the arguments of a fetch: it carries no credential and cannot be taken
//! for an option.

use semver::VersionReq;

/// Longest URL or name, in bytes.
const MAX_BYTES: usize = 2048;

/// How a repository is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// It is a directory of this machine.
    File,
    /// `http:` or `https:`.
    Web {
        /// Whether nobody on the way can read along: https, or this machine.
        is_private: bool,
    },
    /// `ssh:`, or `user@host:path`.
    Ssh,
}

/// Checks the URL of a repository: `https:`, `http:`, `ssh:`, `user@host:path`, `file:` or an absolute path.
///
/// # Errors
/// The rule that it breaks, as the end of a sentence that begins with its name.
pub fn check_url(url: &str) -> Result<(), &'static str> {
    reach(url).map(drop)
}

/// How the repository at `url` is reached.
///
/// # Errors
/// See [`check_url`].
pub fn reach(url: &str) -> Result<Reach, &'static str> {
    common(url)?;
    if url.starts_with('/') {
        return Ok(Reach::File);
    }
    let Some((scheme, rest)) = url.split_once("://") else {
        return SshUrl::parse(url).map(|_| Reach::Ssh);
    };
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    match scheme.to_ascii_lowercase().as_str() {
        "https" => check_web(authority, path).map(|()| Reach::Web { is_private: true }),
        "http" => check_web(authority, path).map(|()| Reach::Web { is_private: is_loopback(authority) }),
        "file" if path.starts_with('/') && matches!(authority, "" | "localhost") => Ok(Reach::File),
        "file" => Err("must have an absolute path after `file://`"),
        "ssh" => SshUrl::parse(url).map(|_| Reach::Ssh),
        _ => Err(KINDS),
    }
}

const KINDS: &str =
    "must be a URL with https, http, ssh or file, `user@host:path` for ssh, or an absolute path";

/// Whether `HOST[:PORT]` is this machine.
fn is_loopback(authority: &str) -> bool {
    let port_at = authority.rfind(':').filter(|at| !authority[*at..].contains(']'));
    let host = &authority[..port_at.unwrap_or(authority.len())];
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
}

/// A repository that is reached over ssh. User, host and path cannot be taken for options.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SshUrl {
    /// The account; `None` for the one that kindling runs as.
    pub user: Option<String>,
    /// The host in lower case, an IPv6 address without its brackets.
    pub host: String,
    /// `None` for the usual one, 22.
    pub port: Option<u16>,
    /// Absolute, or relative to the account's home directory.
    pub path: String,
}

impl SshUrl {
    /// Reads `ssh://[user@]host[:port]/path` and `[user@]host:path`.
    ///
    /// # Errors
    /// The rule that it breaks, as the end of a sentence that begins with its name.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        common(text)?;
        let (authority, path, is_short) = match text.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("ssh") => {
                let (authority, path) = rest.split_at(rest.find('/').ok_or("must have a path")?);
                (authority, path, false)
            }
            Some(_) => return Err(KINDS),
            None => {
                let after_bracket = text.find(']').unwrap_or(0);
                let colon = text[after_bracket..].find(':').ok_or(KINDS)? + after_bracket;
                (&text[..colon], &text[colon + 1..], true)
            }
        };
        // `ext::sh` is a helper, `a/b:c` and `file:/x` are paths.
        if is_short && (path.starts_with(':') || authority.contains('/') || authority == "file") {
            return Err(KINDS);
        }
        let (user, place) = match authority.rsplit_once('@') {
            Some((user, place)) => (Some(user), place),
            None => (None, authority),
        };
        // `user:password@host:path` would be the path `password@host:path` on the host `user`.
        if user.is_some_and(|user| user.contains([':', '@'])) || (is_short && path.contains('@')) {
            return Err("must not carry credentials");
        }
        if user.is_some_and(|user| !is_plain(user)) {
            return Err("must name a user of letters, digits, `.`, `_` and `-`");
        }
        let (host, port) = host_and_port(place, is_short)?;
        let path = path.trim_end_matches('/');
        if path.is_empty() || path.starts_with('-') {
            return Err("must have a path that does not begin with `-`");
        }
        if path.contains(['?', '#']) {
            return Err("must not have a `?` or `#` part");
        }
        let host = host.to_ascii_lowercase();
        Ok(Self {
            user: user.map(Into::into),
            host,
            port: port.filter(|port| *port != 22),
            path: path.into(),
        })
    }
}

fn host_and_port(place: &str, is_short: bool) -> Result<(&str, Option<u16>), &'static str> {
    const HOST: &str = "must name a host";
    let (host, port) = match place.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']').ok_or(HOST)?;
            host.parse::<std::net::Ipv6Addr>().map_err(|_| HOST)?;
            (host, after.strip_prefix(':').or((!after.is_empty()).then_some("bad")))
        }
        None => match place.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (place, None),
        },
    };
    if !place.starts_with('[') && !is_plain(host) {
        return Err(HOST);
    }
    match port {
        None => Ok((host, None)),
        Some(text) if !is_short => match text.parse() {
            Ok(port) if port > 0 && text.bytes().all(|byte| byte.is_ascii_digit()) => Ok((host, Some(port))),
            _ => Err("must have a port from 1 to 65535"),
        },
        Some(_) => Err(HOST),
    }
}

/// Whether this is a name that neither ssh nor a shell reads anything into.
fn is_plain(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(['-', '.'])
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

fn check_web(authority: &str, path: &str) -> Result<(), &'static str> {
    if authority.contains('@') {
        return Err("must not carry credentials");
    }
    if authority.is_empty() || authority.starts_with([':', '-']) || authority.contains('\\') {
        return Err("must name a host");
    }
    if path.contains(['?', '#']) {
        return Err("must not have a `?` or `#` part");
    }
    Ok(())
}

fn common(text: &str) -> Result<(), &'static str> {
    match text {
        "" => Err("is empty"),
        _ if text.len() > MAX_BYTES => Err("is longer than 2048 bytes"),
        _ if text.starts_with('-') => Err("must not begin with `-`"),
        _ if text.chars().any(|c| c.is_control() || c.is_whitespace()) => {
            Err("must not have a space or a control character in it")
        }
        _ => Ok(()),
    }
}

/// Checks the name of a branch by the rules of `git check-ref-format --branch`.
///
/// # Errors
/// The rule that it breaks, as the end of a sentence that begins with its name.
pub fn check_branch(branch: &str) -> Result<(), &'static str> {
    common(branch)?;
    if branch.starts_with("refs/") {
        return Err("must be the short name, without `refs/heads/`");
    }
    if is_ref_name(branch) { Ok(()) } else { Err("is not a name that git takes for a branch") }
}

/// Checks the name of a tag by the rules of `git check-ref-format`.
///
/// # Errors
/// The rule that it breaks, as the end of a sentence that begins with its name.
pub fn check_tag(tag: &str) -> Result<(), &'static str> {
    common(tag)?;
    if tag.starts_with("refs/") {
        return Err("must be the short name, without `refs/tags/`");
    }
    if is_ref_name(tag) { Ok(()) } else { Err("is not a name that git takes for a tag") }
}

fn is_ref_name(name: &str) -> bool {
    let parts_are_bad =
        name.split('/').any(|part| part.is_empty() || part.starts_with('.') || part.ends_with(".lock"));
    let is_bad = matches!(name, "@" | "HEAD")
        || name.ends_with('.')
        || name.contains("..")
        || name.contains("@{")
        || name.contains(['~', '^', ':', '?', '*', '[', '\\'])
        || parts_are_bad;
    !is_bad
}

/// Checks a range of versions, such as `>=1.2, <2`, `^1.4` or `1.x`.
///
/// # Errors
/// The rule that it breaks, as the end of a sentence that begins with its name.
pub fn check_range(range: &str) -> Result<(), &'static str> {
    let is_range = range.len() <= MAX_BYTES && VersionReq::parse(range).is_ok();
    if is_range { Ok(()) } else { Err("must be a range of versions such as `>=1.2, <2`, `^1.4` or `1.x`") }
}

/// Checks the full id of a commit.
///
/// # Errors
/// The rule that it breaks, as the end of a sentence that begins with its name.
pub fn check_commit(id: &str) -> Result<(), &'static str> {
    let is_id = id.len() == 40 && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if is_id { Ok(()) } else { Err("must be the full id of a commit: 40 digits, `0` to `9` and `a` to `f`") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_urls_without_credentials() {
        let good = [
            "https://git.example.org/team/jobs.git",
            "HTTP://127.0.0.1:8080/x",
            "https://[::1]:8443/x",
            "file:///srv/git/jobs.git",
            "file://localhost/srv/git",
            "/srv/git/jobs.git",
            "ssh://git@git.example.org:2222/team/jobs.git",
            "git@github.com:team/jobs.git",
            "host:path",
        ];
        for url in good {
            assert_eq!(check_url(url), Ok(()), "{url}");
        }
        let bad = [
            ("", "empty"),
            ("https://user:token@git.example.org/x", "credentials"),
            ("https://token@git.example.org", "credentials"),
            ("https://a:b@c@git.example.org/x", "credentials"),
            ("https:///x", "host"),
            ("https://-oProxyCommand=x/y", "host"),
            ("https://host\\@evil/x", "credentials"),
            ("https://git.example.org/x?private_token=y", "`?`"),
            ("--upload-pack=touch x", "begin with"),
            ("https://git.example.org/a b", "space"),
            ("https://git.example.org/a\nb", "control"),
            ("git://host/x", "https, http"),
            ("ext::sh -c id", "space"),
            ("ext::id", "https, http"),
            ("./jobs", "absolute path"),
            ("a/b:c", "absolute path"),
            ("file://relative/x", "absolute path"),
            ("file:/x", "https, http"),
            ("git+ssh://host/x", "https, http"),
            ("ssh://host", "path"),
            ("ssh://host/", "path"),
            ("host:", "path"),
            ("host:-x", "begin with"),
            ("ssh://git:s3cret@host/x", "credentials"),
            ("git:s3cret@host:x", "credentials"),
            ("ssh://-oProxyCommand=id/x", "host"),
            ("ssh://host-/x y", "space"),
            ("ssh://-l@host/x", "user"),
            ("a$(id)@host:x", "user"),
            ("ssh://ho`id`st/x", "host"),
            ("ssh://host:0/x", "port"),
            ("ssh://host:+22/x", "port"),
            ("ssh://[::1/x", "host"),
            ("ssh://[nothing]/x", "host"),
            ("ssh://host/x?y", "`?`"),
        ];
        for (url, part) in bad {
            let error = check_url(url).unwrap_err();
            assert!(error.contains(part), "{url}: {error}");
        }
    }

    #[test]
    fn spellings_of_one_place_over_ssh_are_equal() {
        let parse = |text: &str| SshUrl::parse(text).unwrap();
        assert_eq!(parse("ssh://git@Example.org:22/a/b/"), parse("ssh://git@example.org/a/b"));
        assert_eq!(parse("git@example.org:/a/b"), parse("ssh://git@example.org/a/b"));
        let short = parse("git@example.org:a/b.git");
        assert_eq!((short.user.as_deref(), short.host.as_str()), (Some("git"), "example.org"));
        assert_eq!((short.port, short.path.as_str()), (None, "a/b.git"));
        let six = parse("ssh://[::1]:2222/~/x");
        assert_eq!((six.host.as_str(), six.port, six.path.as_str()), ("::1", Some(2222), "/~/x"));
        assert_eq!(parse("[::1]:x").host, "::1");
    }

    #[test]
    fn knows_who_can_read_along() {
        let private = Ok(Reach::Web { is_private: true });
        for url in ["https://a/x", "http://127.0.0.1:80/x", "http://[::1]/x", "http://localhost:1/x"] {
            assert_eq!(reach(url), private, "{url}");
        }
        for url in ["http://a/x", "http://127.0.0.1.example.org/x", "http://[2001:db8::1]:80/x"] {
            assert_eq!(reach(url), Ok(Reach::Web { is_private: false }), "{url}");
        }
    }

    #[test]
    fn takes_tags_ranges_and_full_commits() {
        assert_eq!((check_tag("v1.0"), check_tag("release/1")), (Ok(()), Ok(())));
        for tag in ["refs/tags/v1", "-v", "a..b", "a b", ""] {
            assert!(check_tag(tag).is_err(), "{tag}");
        }
        for range in ["*", "1", "1.x", "^1.4", ">=1.2, <2", "~1.2.3", "=1.0.0-rc.1", ">=2.0.0-rc"] {
            assert_eq!(check_range(range), Ok(()), "{range}");
        }
        for range in ["", "v1", "latest", ">= 1 <2", "1.2.3.4"] {
            assert!(check_range(range).is_err(), "{range}");
        }
        assert_eq!(check_commit(&"0a".repeat(20)), Ok(()));
        for commit in ["", "0a0a", "HEAD", &"0A".repeat(20), &"0g".repeat(20), &"0a".repeat(32)] {
            assert!(check_commit(commit).is_err(), "{commit}");
        }
    }

    #[test]
    fn takes_the_branches_that_git_takes() {
        let good = ["main", "feature/x-1", "v1.0", "a@b", "é", "1.10"];
        for branch in good {
            assert_eq!(check_branch(branch), Ok(()), "{branch}");
        }
        let bad = [
            "",
            "-x",
            "a b",
            "a..b",
            "/a",
            "a/",
            "a//b",
            ".a",
            "a/.b",
            "a.lock",
            "a.lock/b",
            "a.",
            "@",
            "HEAD",
            "a@{1}",
            "a~1",
            "a^",
            "a:b",
            "a?",
            "a*",
            "a[",
            "a\\b",
            "a\u{7f}",
            "refs/heads/main",
        ];
        for branch in bad {
            assert!(check_branch(branch).is_err(), "{branch}");
        }
    }
}
