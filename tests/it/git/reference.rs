//! Tags, versions and commits.

use super::*;
use crate::http_backend::Answer;

impl Bench {
    fn tag(&self, name: &str) {
        self.repo.git(&["tag", "--force", name]);
        self.repo.git(&["push", "--quiet", "--force", "origin", &format!("refs/tags/{name}")]);
    }

    fn annotate(&self, name: &str) {
        self.repo.git(&["tag", "--force", "-a", "-m", "release", name]);
        self.repo.git(&["push", "--quiet", "--force", "origin", &format!("refs/tags/{name}")]);
    }

    fn head(&self) -> String {
        self.repo.git(&["rev-parse", "HEAD"])
    }
}

fn tag(name: &str) -> GitRef {
    GitRef::Tag(name.into())
}

#[tokio::test]
async fn a_tag_is_followed_annotated_or_not() {
    both(&[("a", "1")], |bench| async move {
        let first = bench.head();
        bench.tag("plain");
        bench.annotate("v1");
        bench.repo.publish(&[("a", "2")]);
        for name in ["plain", "v1"] {
            let mut source = bench.following(tag(name));
            let seen = look(&mut source).await;
            assert_eq!(at(&seen), first, "{name}");
            assert_eq!(text(&mut source, "a").await, "1");
            assert!(look_from(&mut source, &first).await.changes.is_none(), "{name}");
            let again = look_from(&mut bench.following(tag(name)), &first).await;
            assert_eq!((at(&again), again.rewritten), (first.as_str(), false), "{name}");
        }
        // Both move.
        let second = bench.head();
        bench.tag("plain");
        bench.annotate("v1");
        for name in ["plain", "v1"] {
            let mut source = bench.following(tag(name));
            let seen = look_from(&mut source, &first).await;
            assert_eq!((at(&seen), seen.rewritten), (second.as_str(), false), "{name}");
            assert_eq!(text(&mut source, "a").await, "2");
        }
    })
    .await;
}

#[tokio::test]
async fn an_annotated_tag_that_moves_back_and_one_of_a_tag() {
    both(&[("a", "1")], |bench| async move {
        let first = bench.head();
        bench.annotate("v1");
        let object = bench.repo.git(&["rev-parse", "refs/tags/v1"]);
        let mut source = bench.following(tag("v1"));
        look(&mut source).await;
        let second = bench.repo.publish(&[("a", "2")]);
        bench.annotate("v1");
        assert_eq!(at(&look(&mut source).await), second);
        bench.repo.bare_git(&["update-ref", "refs/tags/v1", &object]);
        assert_eq!(at(&look(&mut source).await), first);
        assert_eq!(text(&mut source, "a").await, "1");
        bench.repo.git(&["tag", "-a", "-m", "again", "outer", "v1"]);
        bench.repo.git(&["push", "--quiet", "origin", "refs/tags/outer"]);
        assert_eq!(at(&look(&mut bench.following(tag("outer"))).await), second);
    })
    .await;
}

#[tokio::test]
async fn a_poll_of_an_annotated_tag_on_this_machine_starts_nothing() {
    let bench = Bench::new(Via::File, Repo::with(&[("a", "1")]));
    bench.annotate("v1");
    for packed in [false, true] {
        if packed {
            bench.repo.bare_git(&["pack-refs", "--all"]);
        }
        for reference in [tag("v1"), GitRef::Semver("*".into())] {
            bench.repo.bare_git(&["tag", "--force", "1.0.0"]);
            let mut source = bench.following(reference);
            let seen = look(&mut source).await;
            // Whoever asks git now fails; refs are still read.
            let objects = bench.repo.bare().join("objects");
            let aside = bench.repo.root().join("aside");
            std::fs::rename(&objects, &aside).unwrap();
            assert!(look_from(&mut source, at(&seen)).await.changes.is_none());
            std::fs::rename(&aside, &objects).unwrap();
        }
    }
}

#[tokio::test]
async fn a_missing_tag_is_told_from_a_branch_of_its_name() {
    both(&[("a", "1")], |bench| async move {
        bench.repo.git(&["push", "--quiet", "origin", "HEAD:refs/heads/v2"]);
        bench.tag("v1");
        let error = fail(&mut bench.following(tag("v2"))).await;
        assert_eq!((error.reason, error.stalled), ("TagMissing", false));
        assert!(error.message.ends_with("has no tag `v2`; it has `v1`"), "{}", error.message);
    })
    .await;
}

#[tokio::test]
async fn a_tag_that_is_no_commit() {
    both(&[("a", "1")], |bench| async move {
        let blob = bench.repo.blob(b"x");
        bench.repo.bare_git(&["update-ref", "refs/tags/v1", &blob]);
        let error = fail(&mut bench.following(tag("v1"))).await;
        assert_eq!((error.reason, error.stalled), ("FetchFailed", false));
    })
    .await;
}

#[tokio::test]
async fn the_highest_version_in_a_range_is_followed() {
    both(&[("a", "0")], |bench| async move {
        let mut source = bench.following(GitRef::Semver("^1".into()));
        let error = fail(&mut source).await;
        assert_eq!((error.reason, error.stalled), ("VersionMissing", false));
        assert!(error.message.ends_with("has no tag with a version in `^1`"), "{}", error.message);
        let mut published = Vec::new();
        for name in ["v1.2.0", "1.10.0", "v1.9.0", "v2.0.0", "v1.11.0-rc.1"] {
            published.push(bench.repo.publish(&[("a", name)]));
            bench.annotate(name);
        }
        let seen = look(&mut source).await;
        assert_eq!(at(&seen), published[1], "1.10 is above 1.9; 2.0 and the pre-release are outside");
        assert!(look_from(&mut source, &published[1]).await.changes.is_none());
        let newest = bench.repo.publish(&[("a", "1.11.0")]);
        bench.tag("v1.11.0");
        let seen = look_from(&mut source, &published[1]).await;
        assert_eq!((at(&seen), seen.rewritten), (newest.as_str(), false));
        assert_eq!(text(&mut source, "a").await, "1.11.0");
        // It is taken back: the one before is the highest again, and that is a rewrite.
        bench.repo.bare_git(&["tag", "-d", "v1.11.0"]);
        let seen = look_from(&mut source, &newest).await;
        assert_eq!((at(&seen), seen.rewritten), (published[1].as_str(), true));
        let pre = GitRef::Semver(">=1.11.0-rc".into());
        assert_eq!(at(&look(&mut bench.following(pre)).await), published[3]);
        let error = fail(&mut bench.following(GitRef::Semver(">=3".into()))).await;
        assert!(error.message.contains("it has `1.10.0`, `v1.11.0-rc.1`"), "{}", error.message);
    })
    .await;
}

#[tokio::test]
async fn an_empty_remote_has_no_tag_and_no_commit() {
    both(&[], |bench| async move {
        for reference in [tag("v1"), GitRef::Semver("*".into()), GitRef::Commit("1".repeat(40))] {
            assert_eq!(fail(&mut bench.following(reference)).await.reason, "RemoteEmpty");
        }
    })
    .await;
}

#[tokio::test]
async fn a_commit_is_followed_by_its_id_and_never_asked_for_again() {
    both(&[("a", "1"), ("b", "1")], |bench| async move {
        let old = bench.repo.publish(&[("a", "2")]);
        bench.repo.publish(&[("a", "3")]);
        let pin = GitRef::Commit(old.clone());
        let mut source = bench.following(pin.clone());
        let seen = look(&mut source).await;
        assert_eq!((at(&seen), seen.rewritten), (old.as_str(), false));
        assert_eq!(text(&mut source, "a").await, "2");
        // The remote may go away for ever.
        let asked = bench.server.requests();
        std::fs::rename(bench.repo.bare(), bench.repo.root().join("aside")).unwrap();
        for _ in 0..3 {
            assert!(look_from(&mut source, &old).await.changes.is_none());
        }
        let mut restarted = bench.following(pin);
        assert_eq!(at(&look_from(&mut restarted, &old).await), old);
        assert_eq!(text(&mut restarted, "a").await, "2");
        assert_eq!(bench.server.requests(), asked);
    })
    .await;
}

#[tokio::test]
async fn a_commit_that_the_server_does_not_give_out_by_its_id() {
    let bench = Bench::new(Via::Http, Repo::with(&[("a", "1")]));
    let old = bench.repo.publish(&[("a", "2")]);
    bench.repo.publish(&[("a", "3")]);
    // Without the newer protocol git gives out only what a ref is at.
    let server = HttpRemote::serve_with(bench.repo.root(), |_| Answer::OldGit);
    let mut options = bench.options(&server.url("remote.git"));
    options.origin.reference = GitRef::Commit(old.clone());
    let mut source = GitSource::open(options);
    assert_eq!(at(&look(&mut source).await), old);
    assert_eq!(text(&mut source, "a").await, "2");
    let mut options = bench.options(&server.url("remote.git"));
    options.origin.reference = GitRef::Commit(old);
    assert_eq!(refs(&options.stores.path_of(&options.origin).unwrap()), ["refs/kindling/live"]);
}

#[tokio::test]
async fn a_commit_that_is_not_there_and_comes() {
    both(&[("a", "1")], |bench| async move {
        bench.repo.write("a", "2");
        let commit = bench.repo.commit("not pushed");
        let mut source = bench.following(GitRef::Commit(commit.clone()));
        for _ in 0..2 {
            let error = fail(&mut source).await;
            assert_eq!((error.reason, error.stalled), ("CommitMissing", false));
            assert!(error.message.contains(&format!("has no commit {commit}")), "{}", error.message);
        }
        bench.repo.push();
        assert_eq!(at(&look(&mut source).await), commit);
        assert_eq!(text(&mut source, "a").await, "2");
    })
    .await;
}

#[tokio::test]
async fn a_commit_whose_id_is_of_something_else() {
    both(&[("a", "1")], |bench| async move {
        let blob = bench.repo.git(&["rev-parse", "HEAD:a"]);
        let error = fail(&mut bench.following(GitRef::Commit(blob))).await;
        assert!(["FetchFailed", "CommitMissing"].contains(&error.reason), "{}", error.reason);
    })
    .await;
}

#[tokio::test]
async fn references_that_are_refused() {
    let bench = Bench::new(Via::File, Repo::with(&[("a", "1")]));
    for (reference, reason) in [
        (tag("-x"), "BadTag"),
        (GitRef::Semver("newest".into()), "BadRange"),
        (GitRef::Commit("abc123".into()), "BadCommit"),
    ] {
        let error = fail(&mut bench.following(reference)).await;
        assert_eq!((error.reason, error.stalled), (reason, true));
    }
    assert!(!bench.data.path().join("git").exists(), "nothing was touched");
}
