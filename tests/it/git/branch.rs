//! Where a branch is, and how it got there.

use super::*;

#[tokio::test]
async fn first_fetch() {
    both(&[("a/x", "1"), ("a/y", "2"), ("b", "3")], |bench| async move {
        let mut source = bench.source();
        let seen = look(&mut source).await;
        assert_eq!(paths(&seen), ["a/x", "a/y", "b"]);
        assert_eq!(seen.changes, Changes::All);
        assert!(!seen.rewritten);
        assert_eq!(at(&seen), bench.repo.git(&["rev-parse", "HEAD"]));
        assert_eq!(text(&mut source, "a/y").await, "2");
        assert_eq!(refs(&bench.store()), ["refs/kindling/live"]);
    })
    .await;
}

#[tokio::test]
async fn new_commit() {
    both(&[("a/x", "1"), ("a/y", "2"), ("b", "3")], |bench| async move {
        let mut source = bench.source();
        let first = look(&mut source).await;
        std::fs::remove_file(bench.repo.work().join("b")).unwrap();
        let commit = bench.repo.publish(&[("a/y", "20"), ("c/d/e", "4")]);
        let seen = look_from(&mut source, at(&first)).await;
        assert_eq!((at(&seen), seen.rewritten), (commit.as_str(), false));
        assert_eq!(changed(&seen), ["a/y", "b", "c/d/e"]);
        assert_eq!(paths(&seen), ["a/x", "a/y", "c/d/e"]);
        assert_eq!(text(&mut source, "a/y").await, "20");
        assert_eq!(paths(&first), ["a/x", "a/y", "b"], "an observation never changes");
    })
    .await;
}

#[tokio::test]
async fn no_change() {
    both(&[("a", "1")], |bench| async move {
        let mut source = bench.source();
        let first = look(&mut source).await;
        for _ in 0..3 {
            let seen = look_from(&mut source, at(&first)).await;
            assert!(seen.changes.is_none() && Arc::ptr_eq(&seen.tree, &first.tree));
            assert!(!seen.rewritten);
        }
        let again = source.observe(Ask::Rescan, None).await.unwrap();
        assert_eq!(again.changes, Changes::All);
        let packs = std::fs::read_dir(bench.store().join("objects/pack")).unwrap().flatten();
        assert_eq!(packs.filter(|file| file.path().extension().is_some_and(|e| e == "pack")).count(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_poll_over_http_keeps_its_connection() {
    let bench = Bench::new(Via::Http, Repo::with(&[("a", "1")]));
    let mut source = bench.source();
    look(&mut source).await;
    let before = bench.server.requests();
    for _ in 0..20 {
        look(&mut source).await;
    }
    assert_eq!(bench.server.requests() - before, 40, "one to shake hands, one to list the ref");
    // A second one is made when a request comes a moment before the connection is free again.
    assert!(bench.server.connections() < 5, "{}", bench.server.connections());
}

#[tokio::test]
async fn after_a_restart_only_what_is_new_is_fetched() {
    both(&[("a", "1")], |bench| async move {
        let first = look(&mut bench.source()).await;
        let mut source = bench.source();
        let seen = look_from(&mut source, at(&first)).await;
        assert_eq!((at(&seen), seen.rewritten, &seen.changes), (at(&first), false, &Changes::All));
        bench.repo.publish(&[("a", "2")]);
        let seen = look_from(&mut bench.source(), at(&first)).await;
        assert!(!seen.rewritten);
        assert_eq!(text(&mut source, "a").await, "1", "a source reads what it observed");
    })
    .await;
}

#[tokio::test]
async fn more_fetches_than_one_handle_has_room_for() {
    let bench = Bench::new(Via::File, Repo::with(&[("a", "1")]));
    let mut source = bench.source();
    look(&mut source).await;
    for n in 0..40 {
        bench.repo.publish(&[("a", &n.to_string())]);
        look(&mut source).await;
        assert_eq!(text(&mut source, "a").await, n.to_string());
    }
    assert_eq!(text(&mut bench.restarted().await, "a").await, "39");
}

#[tokio::test]
async fn force_push() {
    both(&[("a", "1"), ("b", "1")], |bench| async move {
        bench.repo.publish(&[("a", "2")]);
        let mut source = bench.source();
        let first = look(&mut source).await;
        bench.repo.git(&["reset", "--quiet", "--hard", "HEAD~1"]);
        bench.repo.write("a", "3");
        let commit = bench.repo.commit("other");
        bench.repo.force_push();
        let seen = look_from(&mut source, at(&first)).await;
        assert_eq!((at(&seen), seen.rewritten), (commit.as_str(), true));
        assert_eq!(changed(&seen), ["a"]);
        assert!(look_from(&mut source, at(&first)).await.rewritten, "as long as the old one is deployed");
        assert!(!look_from(&mut source, &commit).await.rewritten);
    })
    .await;
}

#[tokio::test]
async fn rewind_and_a_branch_that_moves_without_a_pack() {
    both(&[("a", "1")], |bench| async move {
        let (old, new) = (bench.repo.git(&["rev-parse", "HEAD"]), bench.repo.publish(&[("a", "2")]));
        let mut source = bench.source();
        assert_eq!(at(&look(&mut source).await), new);
        bench.repo.bare_git(&["update-ref", "refs/heads/main", &old]);
        let seen = look_from(&mut source, &new).await;
        assert_eq!((at(&seen), seen.rewritten), (old.as_str(), true));
        assert_eq!(text(&mut source, "a").await, "1");
        let packs = || std::fs::read_dir(bench.store().join("objects/pack")).unwrap().count();
        let before = packs();
        bench.repo.bare_git(&["update-ref", "refs/heads/main", &new]);
        let seen = look_from(&mut source, &old).await;
        assert_eq!((at(&seen), seen.rewritten), (new.as_str(), false));
        assert_eq!((changed(&seen), packs()), (vec!["a"], before));
    })
    .await;
}

#[tokio::test]
async fn what_is_deployed_decides_about_rewriting() {
    both(&[("a", "1")], |bench| async move {
        let old = bench.repo.git(&["rev-parse", "HEAD"]);
        for n in 0..5 {
            bench.repo.publish(&[("a", &n.to_string())]);
        }
        // Something is deployed: the first fetch brings the history along, also into a new folder.
        let mut source = bench.source();
        assert!(!look_from(&mut source, &old).await.rewritten);
        assert!(!bench.store().join("shallow").exists());
        for unknown in [&"1".repeat(40), "not a commit"] {
            assert!(look_from(&mut source, unknown).await.rewritten, "{unknown}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_first_fetch_with_nothing_deployed_leaves_the_history_out() {
    both(&[("a", "1")], |bench| async move {
        let old = bench.repo.publish(&[("a", "2")]);
        let first = bench.repo.publish(&[("a", "3")]);
        let mut source = bench.source();
        assert_eq!(at(&look(&mut source).await), first);
        let here = |what: &str| {
            let mut git = crate::repo::git(&bench.store());
            git.args(["cat-file", "-e", what]).output().unwrap().status.success()
        };
        assert!(here(&first) && !here(&old));
        // From then on no depth is asked for, and nothing is missing between the two.
        for n in 0..3 {
            bench.repo.publish(&[("a", &format!("4{n}"))]);
        }
        assert!(!look_from(&mut source, &first).await.rewritten);
        bench.repo.bare_git(&["update-ref", "refs/heads/main", &old]);
        let seen = look_from(&mut source, &first).await;
        assert_eq!((at(&seen), seen.rewritten), (old.as_str(), true));
        assert_eq!(text(&mut source, "a").await, "2");
    })
    .await;
}

#[tokio::test]
async fn empty_remote_then_first_push() {
    both(&[], |bench| async move {
        for branch in [Some("main"), None] {
            let error = fail(&mut bench.source_at(branch, "")).await;
            assert_eq!((error.reason, error.stalled), ("RemoteEmpty", false));
            assert!(error.message.contains(&bench.url()));
        }
        let mut source = bench.source_at(None, "");
        fail(&mut source).await;
        bench.repo.publish(&[("a", "1")]);
        assert_eq!(paths(&look(&mut source).await), ["a"]);
    })
    .await;
}

#[tokio::test]
async fn renamed_default_branch() {
    both(&[("a", "1")], |bench| async move {
        let mut source = bench.source_at(None, "");
        look(&mut source).await;
        bench.repo.bare_git(&["branch", "-m", "main", "trunk"]);
        assert!(look(&mut source).await.changes.is_none());
        bench.repo.git(&["checkout", "--quiet", "-b", "trunk"]);
        let commit = bench.repo.publish(&[("a", "2")]);
        let seen = look_from(&mut source, &commit).await;
        assert_eq!((at(&seen), changed(&seen)), (commit.as_str(), vec!["a"]));
        bench.repo.bare_git(&["symbolic-ref", "HEAD", "refs/heads/nowhere"]);
        let error = fail(&mut source).await;
        assert_eq!(error.reason, "BranchMissing");
        assert!(error.message.ends_with("has no branch `nowhere`; it has `trunk`"), "{}", error.message);
    })
    .await;
}

#[tokio::test]
async fn missing_branch() {
    both(&[("a", "1")], |bench| async move {
        bench.repo.git(&["push", "--quiet", "origin", "HEAD:refs/heads/other", "HEAD:refs/tags/nowhere"]);
        let mut source = bench.source_at(Some("nowhere"), "");
        let error = fail(&mut source).await;
        assert_eq!((error.reason, error.stalled), ("BranchMissing", false));
        assert!(
            error.message.ends_with("has no branch `nowhere`; it has `main`, `other`"),
            "{}",
            error.message
        );
        bench.repo.git(&["push", "--quiet", "origin", "HEAD:refs/heads/nowhere"]);
        assert_eq!(paths(&look(&mut source).await), ["a"]);
        bench.repo.bare_git(&["branch", "--quiet", "-D", "nowhere"]);
        assert_eq!(fail(&mut source).await.reason, "BranchMissing");
    })
    .await;
}

#[tokio::test]
async fn a_branch_whose_name_becomes_a_directory() {
    both(&[("a", "1")], |bench| async move {
        let push = |branch: &str| {
            let to = format!("HEAD:refs/heads/{branch}");
            bench.repo.git(&["push", "--quiet", "origin", &to]);
        };
        push("feature");
        let mut source = bench.source_at(Some("feature"), "");
        look(&mut source).await;
        bench.repo.bare_git(&["branch", "--quiet", "-D", "feature"]);
        bench.repo.write("a", "2");
        bench.repo.commit("below");
        push("feature/x");
        assert_eq!(fail(&mut source).await.reason, "BranchMissing");
        let mut below = bench.source_at(Some("feature/x"), "");
        look(&mut below).await;
        assert_eq!(text(&mut below, "a").await, "2");
        bench.repo.bare_git(&["branch", "--quiet", "-D", "feature/x"]);
        push("feature");
        assert_eq!(changed(&look(&mut source).await), ["a"]);
    })
    .await;
}

#[tokio::test]
async fn a_branch_that_is_no_commit() {
    both(&[("a", "1")], |bench| async move {
        let branch = bench.repo.bare().join("refs/heads/main");
        let good = std::fs::read(&branch).unwrap();
        let mut source = bench.source();
        let blob = bench.repo.blob(b"x");
        std::fs::write(&branch, &blob).unwrap();
        for _ in 0..2 {
            let error = fail(&mut source).await;
            assert_eq!((error.reason, error.stalled), ("FetchFailed", false));
            assert!(error.source.unwrap().to_string().contains(&blob));
        }
        std::fs::write(&branch, "1".repeat(40)).unwrap();
        assert!(!fail(&mut source).await.stalled);
        std::fs::write(&branch, good).unwrap();
        assert_eq!(paths(&look(&mut source).await), ["a"]);
    })
    .await;
}

#[tokio::test]
async fn dropping_an_observation_in_the_middle_is_harmless() {
    both(&[("a", "1")], |bench| async move {
        let mut source = bench.source();
        let mut waited = Duration::ZERO;
        // From before the thread has begun to after it is done.
        for n in 0..20 {
            bench.repo.publish(&[("a", &n.to_string())]);
            waited += Duration::from_millis(3);
            let _ = tokio::time::timeout(waited, source.observe(Ask::Hinted, None)).await;
        }
        let commit = bench.repo.publish(&[("a", "last")]);
        let seen = look(&mut source).await;
        assert_eq!(at(&seen), commit);
        assert_eq!(text(&mut source, "a").await, "last");
    })
    .await;
}

#[tokio::test]
async fn a_hint_never_comes() {
    let bench = Bench::new(Via::File, Repo::with(&[("a", "1")]));
    let mut source = bench.source();
    assert!(tokio::time::timeout(Duration::from_millis(20), source.hint()).await.is_err());
}
