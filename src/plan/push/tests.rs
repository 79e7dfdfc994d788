//! Tests of what a push says and whom it concerns.

use serde_json::json;

use super::*;
use crate::model::id::SourceName;
use crate::model::path::RelPath;
use crate::model::source::{Allow, DEFAULT_POLL_INTERVAL, GitOrigin, LocalOrigin, Rewrite};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const TAG: &str = "fedcba9876543210fedcba9876543210fedcba98";

fn source(url: &str, reference: GitRef) -> SourceSpec {
    let origin = Origin::Git(GitOrigin {
        url: url.into(),
        reference,
        path: RelPath::root(),
        poll_interval: DEFAULT_POLL_INTERVAL,
        auth: None,
        rewrite: Rewrite::Follow,
    });
    SourceSpec { name: SourceName::new("team").unwrap(), origin, allow: Allow::default() }
}

fn branch(name: &str) -> GitRef {
    GitRef::Branch(name.into())
}

/// A push as GitHub sends it, of which only these fields count.
fn push(reference: &str) -> Value {
    json!({
        "ref": reference,
        "before": "0000000000000000000000000000000000000000",
        "after": COMMIT,
        "created": false,
        "deleted": false,
        "forced": false,
        "commits": [{"id": COMMIT, "added": ["a"], "message": "x"}],
        "head_commit": {"id": COMMIT, "timestamp": "2026-11-21T10:00:00+01:00"},
        "repository": {
            "full_name": "Team/Jobs",
            "clone_url": "https://github.com/Team/Jobs.git",
            "ssh_url": "git@github.com:Team/Jobs.git",
            "git_url": "git://github.com/Team/Jobs.git",
            "html_url": "https://github.com/Team/Jobs",
            "default_branch": "main",
            "pushed_at": 1_795_000_000,
        },
    })
}

fn read(payload: &Value) -> Push {
    Push::read(&serde_json::to_vec(payload).unwrap()).unwrap()
}

fn concern(payload: &Value, source: &SourceSpec) -> Concern {
    read(payload).concern(source, &[])
}

fn followed(commit: Option<&str>) -> Concern {
    Concern::Follow { commit: commit.map(Revision::new), root: None }
}

#[test]
fn urls_of_one_repository_are_equal() {
    let spellings = [
        "https://github.com/team/jobs.git",
        "https://github.com/team/jobs",
        "https://github.com:443/Team/Jobs/",
        "http://github.com/team/jobs.git",
        "HTTPS://GitHub.com/TEAM/jobs.git",
        "git@github.com:team/jobs.git",
        "ssh://git@github.com/team/jobs.git",
        "ssh://git@github.com:22/team/jobs",
        "git://github.com/team/jobs.git",
        "https://user@github.com/team/jobs.git",
    ];
    for url in spellings {
        assert_eq!(normalised(url), "github.com/team/jobs", "{url}");
    }
    assert_eq!(normalised("/srv/git/jobs.git"), normalised("file:///srv/git/jobs"));
    assert_eq!(normalised("file://localhost/srv/git/jobs.git"), "/srv/git/jobs");
    // A path has a case, where the host is not known to have none.
    assert_ne!(normalised("https://git.example.org/Team/x"), normalised("https://git.example.org/team/x"));
    assert_ne!(normalised("https://git.example.org:3000/x"), normalised("https://git.example.org/x"));
    assert_ne!(normalised("https://github.com.evil.example/team/jobs"), "github.com/team/jobs");
}

#[test]
fn a_push_to_the_branch_that_is_followed_concerns_the_source() {
    let spellings = [
        "https://github.com/team/jobs.git",
        "git@github.com:Team/Jobs",
        "ssh://git@github.com/team/jobs.git",
    ];
    for url in spellings {
        assert_eq!(concern(&push("refs/heads/main"), &source(url, branch("main"))), followed(Some(COMMIT)));
        assert_eq!(concern(&push("refs/heads/main"), &source(url, GitRef::Head)), followed(Some(COMMIT)));
    }
    let odd = "feature/ü-🔥-$(id)-%2e&\"'";
    let pushed = push(&format!("refs/heads/{odd}"));
    assert_eq!(concern(&pushed, &source(spellings[0], branch(odd))), followed(Some(COMMIT)));
}

#[test]
fn tags_concern_sources_that_follow_tags() {
    let mut pushed = push("refs/tags/v1.2.0");
    // An annotated tag is an object of its own; the commit is what it leads to.
    pushed["after"] = TAG.into();
    let url = "https://github.com/team/jobs.git";
    assert_eq!(concern(&pushed, &source(url, GitRef::Tag("v1.2.0".into()))), followed(Some(COMMIT)));
    assert_eq!(concern(&pushed, &source(url, GitRef::Semver(">=1".into()))), followed(None));
    for other in [branch("v1.2.0"), GitRef::Tag("v1".into()), GitRef::Head] {
        assert!(matches!(concern(&pushed, &source(url, other)), Concern::Ignore(why) if why.contains("ref")));
    }
    pushed["deleted"] = true.into();
    assert_eq!(concern(&pushed, &source(url, GitRef::Semver(">=1".into()))), followed(None));
    assert!(matches!(concern(&pushed, &source(url, GitRef::Tag("v1.2.0".into()))), Concern::Ignore(_)));
}

#[test]
fn what_does_not_concern_the_source_says_why() {
    let url = "https://github.com/team/jobs.git";
    let main = source(url, branch("main"));
    let why = |payload: &Value, source: &SourceSpec| match concern(payload, source) {
        Concern::Ignore(why) => why,
        Concern::Follow { .. } => panic!("it was followed"),
    };
    assert_eq!(why(&push("refs/heads/other"), &main), "it is of another ref");
    assert_eq!(why(&push("refs/heads/main/x"), &main), "it is of another ref");
    assert_eq!(why(&push("main"), &main), "it is of another ref");
    assert_eq!(why(&json!({}), &main), "it names no repository");
    let mut gone = push("refs/heads/main");
    gone["after"] = "0".repeat(40).into();
    assert_eq!(why(&gone, &main), "the ref was deleted");
    let mut other = push("refs/heads/main");
    for field in ["clone_url", "ssh_url", "git_url", "html_url"] {
        other["repository"][field] = "https://evil.example/Team/Jobs.git".into();
    }
    // The same full name is not the same repository.
    assert_eq!(why(&other, &main), "it is of another repository");
    let pinned = source(url, GitRef::Commit(COMMIT.into()));
    assert!(why(&push("refs/heads/main"), &pinned).contains("one commit"));
    let origin = Origin::Local(LocalOrigin { path: "/srv".into(), debounce: None });
    assert_eq!(why(&push("refs/heads/main"), &SourceSpec { origin, ..main }), "the source is a directory");
}

#[test]
fn a_push_to_a_repository_of_a_set_names_its_root() {
    let own = source("https://github.com/team/other.git", branch("main"));
    let roots = [
        RelPath::mount("https://github.com/team/jobs", Some("dev")).unwrap(),
        RelPath::mount("https://github.com/team/jobs", Some("main")).unwrap(),
    ];
    let concern = read(&push("refs/heads/main")).concern(&own, &roots);
    let commit = Some(Revision::new(COMMIT));
    assert_eq!(concern, Concern::Follow { commit, root: Some(roots[1].clone()) });
    let other = read(&push("refs/heads/x")).concern(&own, &roots);
    assert!(matches!(other, Concern::Ignore(why) if why.contains("another ref")));
}

#[test]
fn fields_of_other_types_count_as_missing() {
    for body in ["", "[]", "null", "7", "{", "\"x\"", "{\"ref\":1}x", "\u{feff}{}"] {
        assert!(Push::read(body.as_bytes()).is_err(), "{body}");
    }
    let odd = json!({
        "ref": 5, "after": ["x"], "deleted": "no", "head_commit": 9,
        "repository": {"clone_url": {}, "default_branch": 1, "pushed_at": "yesterday"},
    });
    assert_eq!(read(&odd), Push::default());
    for repository in [json!("x"), json!([]), Value::Null] {
        assert_eq!(read(&json!({ "repository": repository })), Push::default());
    }
    let upper = COMMIT.to_ascii_uppercase();
    for commit in ["", "main", &COMMIT[1..], &upper, "--upload-pack=x"] {
        assert_eq!(read(&json!({ "after": commit })).commit, None, "{commit}");
    }
}

#[test]
fn tells_how_long_the_delivery_took() {
    let push = read(&push("refs/heads/main"));
    assert_eq!(push.delivered_after(Timestamp(1_795_000_002_500)), Some(Duration::from_millis(2500)));
    assert_eq!(push.delivered_after(Timestamp(0)), Some(Duration::ZERO), "their clock is ahead");
    assert_eq!(push.delivered_after(Timestamp(1_999_000_000_000)), None, "sent again by hand");
    assert_eq!(Push::default().delivered_after(Timestamp(5)), None);
}
