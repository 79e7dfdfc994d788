//! Rules for what names a repository and a branch. They hold for kindling.yaml and for `source add` alike.
//!
//! A URL ends up in logs, in the API and in the arguments of a fetch: it carries no credential and cannot be taken
//! for an option.

/// Longest URL or branch, in bytes.
const MAX_BYTES: usize = 2048;

/// Checks the URL of a repository: `https:`, `http:`, `file:` or an absolute path.
///
/// # Errors
/// The rule that it breaks, as the end of a sentence that begins with its name.
pub fn check_url(url: &str) -> Result<(), &'static str> {
    common(url)?;
    if url.starts_with('/') {
        return Ok(());
    }
    let Some((scheme, rest)) = url.split_once("://") else {
        // git takes `host:path` for ssh; `file:/x` and helpers such as `ext::` are something else.
        let before = url.split_once(':').map(|(before, after)| (before, after.starts_with(':')));
        let is_ssh = before.is_some_and(|(host, helper)| !helper && !host.contains('/') && host != "file");
        return Err(if is_ssh { SSH } else { KINDS });
    };
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    match scheme.to_ascii_lowercase().as_str() {
        "http" | "https" => check_web(authority, path),
        "file" if path.starts_with('/') && matches!(authority, "" | "localhost") => Ok(()),
        "file" => Err("must have an absolute path after `file://`"),
        "ssh" | "git+ssh" | "ssh+git" => Err(SSH),
        _ => Err(KINDS),
    }
}

const KINDS: &str = "must be a URL with https, http or file, or an absolute path";
const SSH: &str = "is reached over ssh, which is not supported; use https, http, file or an absolute path";

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
    let parts_are_bad =
        branch.split('/').any(|part| part.is_empty() || part.starts_with('.') || part.ends_with(".lock"));
    let is_bad = matches!(branch, "@" | "HEAD")
        || branch.ends_with('.')
        || branch.contains("..")
        || branch.contains("@{")
        || branch.contains(['~', '^', ':', '?', '*', '[', '\\'])
        || parts_are_bad;
    if is_bad { Err("is not a name that git takes for a branch") } else { Ok(()) }
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
            ("git@github.com:team/jobs.git", "ssh"),
            ("host:path", "ssh"),
            ("ssh://git@host/x", "ssh"),
            ("git://host/x", "https, http or file"),
            ("ext::sh -c id", "space"),
            ("ext::id", "https, http or file"),
            ("./jobs", "absolute path"),
            ("file://relative/x", "absolute path"),
            ("file:/x", "https, http or file"),
        ];
        for (url, part) in bad {
            let error = check_url(url).unwrap_err();
            assert!(error.contains(part), "{url}: {error}");
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
