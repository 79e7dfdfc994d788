//! Where a repository is hosted, as far as commits can be told there how they fare. Pure.

use crate::config::forge::host_of;
use crate::config::remote::{Reach, SshUrl, reach};
use crate::model::commit_status::Repository;

/// The API of github.com.
pub const GITHUB_API: &str = "https://api.github.com";

/// Names of github.com in the URLs of repositories; the last one is for ssh through the port of https.
const GITHUB_HOSTS: [&str; 3] = ["github.com", "www.github.com", "ssh.github.com"];

/// The repository at `url`, if the API at `api` is that of its host: nobody else is sent the token, or told of commits.
#[must_use]
pub fn repository(url: &str, api: &str) -> Option<Repository> {
    let (host, api) = (host_of(url)?, host_of(api)?);
    let host = if GITHUB_HOSTS.contains(&host.as_str()) { GITHUB_HOSTS[0] } else { &host };
    let fits = host == api || api.strip_prefix("api.").is_some_and(|rest| rest == host);
    fits.then(|| path_of(url)).flatten().and_then(|path| {
        let path = path.trim_matches('/');
        Repository::parse(path.strip_suffix(".git").unwrap_or(path))
    })
}

fn path_of(url: &str) -> Option<String> {
    match reach(url).ok()? {
        Reach::File => None,
        Reach::Ssh => SshUrl::parse(url).ok().map(|url| url.path),
        Reach::Web { .. } => {
            let rest = url.split_once("://")?.1;
            rest.find('/').map(|at| rest[at..].to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(url: &str, api: &str) -> Option<String> {
        repository(url, api).map(|repository| repository.to_string())
    }

    #[test]
    fn every_spelling_of_a_repository_of_github_is_known() {
        for url in [
            "https://github.com/team/jobs",
            "https://GitHub.com:443/team/jobs.git/",
            "http://www.github.com/team/jobs.git",
            "git@github.com:team/jobs.git",
            "ssh://git@ssh.github.com:443/team/jobs.git",
        ] {
            assert_eq!(found(url, GITHUB_API).as_deref(), Some("team/jobs"), "{url}");
        }
    }

    #[test]
    fn the_api_of_one_host_is_not_told_of_another() {
        let enterprise = "https://github.example.com/api/v3";
        assert_eq!(found("git@github.example.com:team/jobs.git", enterprise).as_deref(), Some("team/jobs"));
        assert_eq!(found("https://team.ghe.com/a/b", "https://api.team.ghe.com").as_deref(), Some("a/b"));
        assert_eq!(found("http://127.0.0.1:1/a/b", "http://127.0.0.1:2").as_deref(), Some("a/b"));
        for (url, api) in [
            ("https://github.com/team/jobs", enterprise),
            ("https://github.example.com/team/jobs", GITHUB_API),
            ("https://gitlab.com/team/jobs", GITHUB_API),
            ("https://github.com.evil.example/team/jobs", GITHUB_API),
            ("https://notgithub.com/team/jobs", GITHUB_API),
            ("https://github.com/team", GITHUB_API),
            ("https://github.com/team/jobs/more", GITHUB_API),
            ("https://github.com/team/..", GITHUB_API),
            ("/srv/github.com/team/jobs", GITHUB_API),
        ] {
            assert_eq!(found(url, api), None, "{url} at {api}");
        }
    }
}
