//! Repositories that sets lead to: which of them a source may have (DESIGN 4, Trust), and which are at hand.
//!
//! Each is a part of the source's tree, below a first part that no other path can have ([`RelPath::mount`]).

use std::collections::BTreeSet;

use crate::config::remote::{Reach, SshUrl, reach};
use crate::model::path::RelPath;
use crate::model::problem::{Problem, Reason};
use crate::model::source::{Allow, DEFAULT_POLL_INTERVAL, Declared};
use crate::model::source::{GitAuth, GitOrigin, GitRef, Origin, Rewrite, SourceSpec};

use super::trust::remedy;

/// Repositories inside one another: each costs a round, and a pass has 16.
pub(super) const MOST_REPOSITORIES: usize = 3;

/// What is known of the repositories that a source's sets lead to.
#[derive(Clone, Debug, Default)]
pub struct Repositories {
    /// The source whose sets lead there; without it nothing is fetched, and what lies there is not known.
    pub source: Option<SourceSpec>,
    /// Whether it was added by command.
    pub is_added: bool,
    /// Those whose files are in the tree.
    pub here: BTreeSet<RelPath>,
    /// Those that cannot be had at the moment: units below them stay as they are.
    pub away: BTreeSet<RelPath>,
}

impl Repositories {
    /// Those of a source of which none is at hand.
    #[must_use]
    pub fn of(source: SourceSpec) -> Self {
        Self { source: Some(source), ..Self::default() }
    }

    /// Who brought the source in.
    pub(super) fn declared(&self) -> Declared {
        if self.is_added { Declared::Command } else { Declared::File }
    }

    /// Whether units in the repository at `root` stay as they are, for nobody knows them.
    pub(super) fn is_away(&self, root: &RelPath) -> bool {
        self.source.is_none() || self.away.contains(root)
    }
}

/// A place on the network: scheme, host, port.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Server {
    scheme: &'static str,
    host: String,
    /// `None` for the scheme's own.
    port: Option<u16>,
}

impl Server {
    /// `HOST` or `HOST:PORT`, as `allow.hosts` has it.
    fn name(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        self.port.map_or(host.clone(), |port| format!("{host}:{port}"))
    }
}

/// The server of a URL that was checked; `None` for a directory of this machine.
fn server(url: &str) -> Option<Server> {
    match reach(url).ok()? {
        Reach::File => None,
        Reach::Ssh => {
            let SshUrl { host, port, .. } = SshUrl::parse(url).ok()?;
            Some(Server { scheme: "ssh", host, port })
        }
        Reach::Web { .. } => {
            let (scheme, rest) = url.split_once("://")?;
            let (scheme, usual) =
                if scheme.eq_ignore_ascii_case("https") { ("https", 443) } else { ("http", 80) };
            let authority = rest.split('/').next()?.to_ascii_lowercase();
            let port_at = authority.rfind(':').filter(|at| !authority[*at..].contains(']'));
            let host = &authority[..port_at.unwrap_or(authority.len())];
            let port = match port_at.map(|at| &authority[at + 1..]).filter(|port| !port.is_empty()) {
                Some(port) => Some(port.parse().ok()?),
                None => None,
            };
            let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
            Some(Server { scheme, host, port: port.filter(|port| *port != usual) })
        }
    }
}

fn is_file(url: &str) -> bool {
    reach(url) == Ok(Reach::File)
}

/// Why a set of `source` may not lead to the repository `url`, with the line to add; `None` where it may. `from` is the
/// repository that the set lies in, where that is not the source's own.
#[must_use]
pub fn refusal(source: &SourceSpec, declared: Declared, from: Option<&str>, url: &str) -> Option<Problem> {
    let own = match &source.origin {
        Origin::Git(git) => Some(git.url.as_str()),
        Origin::Local(_) => None,
    };
    let problem = |why: String| Some(Problem::new(Reason::NotAllowed, why));
    if is_file(url) {
        let is_below_file = own.is_none_or(is_file) && from.is_none_or(is_file);
        return if is_below_file {
            None
        } else {
            problem("leads to a directory of this machine, which only a set of this machine may do".into())
        };
    }
    let Some(wanted) = server(url) else { return problem("leads to no server that could be named".into()) };
    let own = own.and_then(server);
    let is_own = own.as_ref().is_some_and(|own| {
        own.host == wanted.host
            && (wanted.port.is_none() || (own.scheme, own.port) == (wanted.scheme, wanted.port))
    });
    if wanted.scheme == "http" {
        return if own.is_some_and(|own| own == wanted) {
            None
        } else {
            problem("leads to a repository over plain HTTP: use https".into())
        };
    }
    let name = wanted.name();
    if is_own || source.allow.hosts.contains(&name) {
        return None;
    }
    problem(format!(
        "leads to a repository of `{name}`, which its source may not use; {}",
        remedy(&source.name, declared, &source.allow, &[], Some(&name))
    ))
}

/// Where a directory lies in the repository that the source itself follows: below its root, whichever path the source
/// has, and also where an entry leads there by URL. `None` for one of another repository or branch.
pub(super) fn own_place(source: &SourceSpec, dir: &RelPath) -> Option<RelPath> {
    let Origin::Git(git) = &source.origin else { return None };
    let (Some(root), Some((url, branch))) = (dir.mount_point(), dir.repository()) else {
        return Some(git.path.append(dir));
    };
    let is_same_ref = match &git.reference {
        GitRef::Head => branch.is_none(),
        GitRef::Branch(own) => branch.as_ref() == Some(own),
        GitRef::Tag(_) | GitRef::Semver(_) | GitRef::Commit(_) => false,
    };
    let is_own = is_same_ref && normal(&git.url) == normal(&url);
    dir.strip_prefix(&root).filter(|_| is_own)
}

/// A URL as all of its spellings have it: the server, the account and the path.
fn normal(url: &str) -> (Option<String>, Option<String>, String) {
    let bare = |path: &str| {
        let path = path.trim_end_matches('/');
        path.strip_suffix(".git").unwrap_or(path).to_owned()
    };
    let Some(server) = server(url) else {
        return (None, None, bare(url.strip_prefix("file://").unwrap_or(url)));
    };
    let name = Some(format!("{}://{}", server.scheme, server.name()));
    match SshUrl::parse(url) {
        Ok(ssh) if server.scheme == "ssh" => (name, ssh.user, bare(&ssh.path)),
        _ => {
            let path = url.splitn(4, '/').nth(3).unwrap_or_default();
            (name, None, bare(path))
        }
    }
}

/// The repository at `root` as a source of its own: polled like `source`, and given its credential only at the same
/// server.
#[must_use]
pub fn as_source(source: &SourceSpec, root: &RelPath) -> Option<SourceSpec> {
    let (url, branch) = root.repository()?;
    let (auth, poll_interval) = match &source.origin {
        Origin::Git(git) => {
            let is_same = server(&git.url).is_some_and(|own| Some(own) == server(&url));
            (auth_for(git.auth.as_ref(), is_same), git.poll_interval)
        }
        Origin::Local(_) => (None, DEFAULT_POLL_INTERVAL),
    };
    let origin = Origin::Git(GitOrigin {
        url,
        reference: branch.map_or(GitRef::Head, GitRef::Branch),
        path: RelPath::root(),
        poll_interval,
        auth,
        rewrite: Rewrite::Follow,
    });
    Some(SourceSpec { name: source.name.clone(), origin, allow: Allow::default() })
}

fn auth_for(auth: Option<&GitAuth>, is_same_server: bool) -> Option<GitAuth> {
    auth.filter(|_| is_same_server).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::id::SourceName;
    use crate::model::source::LocalOrigin;

    fn local(hosts: &[&str]) -> SourceSpec {
        let origin = Origin::Local(LocalOrigin { path: "/srv".into(), debounce: None });
        let allow = Allow { env: vec!["A".into()], hosts: hosts.iter().map(ToString::to_string).collect() };
        SourceSpec { name: SourceName::new("team").unwrap(), origin, allow }
    }

    fn git(url: &str, hosts: &[&str]) -> SourceSpec {
        let root = RelPath::mount(url, None).unwrap();
        let mut spec = as_source(&local(&[]), &root).unwrap();
        spec.allow = local(hosts).allow;
        if let Origin::Git(git) = &mut spec.origin {
            git.auth = Some(GitAuth::TokenEnv("TOKEN".into()));
        }
        spec
    }

    #[test]
    fn only_the_sources_own_host_and_allowed_ones_are_led_to() {
        let team = "https://git.example.org/team/jobs.git";
        let allowed = [
            (git(team, &[]), "https://git.example.org/other.git"),
            (git(team, &[]), "https://GIT.example.org:443/other.git"),
            (git(team, &[]), "git@git.example.org:other.git"),
            (git(team, &["h:8443"]), "https://h:8443/x"),
            (git(team, &["h"]), "ssh://git@h/x"),
            (local(&["h"]), "https://h/x"),
            (local(&["[::1]:8443"]), "https://[::1]:8443/x"),
            (local(&[]), "/srv/git/x.git"),
            (local(&[]), "file:///srv/git/x.git"),
            (git("/srv/git/a.git", &[]), "/srv/git/b.git"),
            (git("http://127.0.0.1:8080/a", &[]), "http://127.0.0.1:8080/b"),
        ];
        for (source, url) in allowed {
            assert_eq!(refusal(&source, Declared::File, None, url), None, "{url}");
        }
        let refused = [
            (git(team, &[]), "https://h/x", "hosts: [\"h\"]"),
            (git(team, &["h"]), "https://h:8443/x", "hosts: [\"h\", \"h:8443\"]"),
            (git(team, &[]), "https://git.example.org:8443/x", "\"git.example.org:8443\""),
            (git(team, &[]), "https://git.example.org.evil/x", "git.example.org.evil"),
            (git(team, &["h"]), "http://h/x", "plain HTTP"),
            (git(team, &[]), "http://git.example.org/x", "plain HTTP"),
            (local(&["127.0.0.1"]), "http://127.0.0.1/x", "plain HTTP"),
            (git("http://127.0.0.1:8080/a", &[]), "http://127.0.0.1:8081/b", "plain HTTP"),
            (git(team, &[]), "/srv/git/x.git", "this machine"),
            (git(team, &[]), "file:///srv/git/x.git", "this machine"),
            (local(&[]), "git@h:x", "\"h\""),
        ];
        for (source, url, part) in refused {
            let problem = refusal(&source, Declared::File, None, url).unwrap();
            assert_eq!(problem.reason, Reason::NotAllowed);
            assert!(problem.message.contains(part), "{url}: {}", problem.message);
        }
        // A repository from elsewhere leads to no directory of this machine.
        assert!(refusal(&local(&["h"]), Declared::File, Some("https://h/x"), "/srv/git/x.git").is_some());
        assert!(refusal(&local(&["h"]), Declared::File, Some("/srv/git/y.git"), "/srv/git/x.git").is_none());
        insta::assert_snapshot!(refusal(&local(&[]), Declared::File, None, "https://h/x").unwrap(), @"leads to a repository of `h`, which its source may not use; to allow it, the source `team` in kindling.yaml gets the line `allow: {env: [A], hosts: [\"h\"]}`");
    }

    #[test]
    fn a_credential_goes_to_its_own_server_alone() {
        let team = git("https://h:8443/team/jobs.git", &[]);
        let auth =
            |url: &str| match as_source(&team, &RelPath::mount(url, Some("main")).unwrap()).unwrap().origin {
                Origin::Git(git) => {
                    assert_eq!((git.reference, git.url.as_str()), (GitRef::Branch("main".into()), url));
                    git.auth
                }
                Origin::Local(_) => None,
            };
        assert!(auth("https://H:8443/other").is_some());
        for url in
            ["https://h/other", "http://h:8443/other", "ssh://h:8443/other", "https://i:8443/x", "/srv/x"]
        {
            assert_eq!(auth(url), None, "{url}");
        }
    }
}
