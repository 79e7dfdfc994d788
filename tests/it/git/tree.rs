//! What a commit holds.

use super::*;

#[tokio::test]
async fn missing_path() {
    both(&[("a/x", "1"), ("b/c/y", "1"), ("f", "1")], |bench| async move {
        for path in ["nowhere", "f", "a/x", "b/c/y/z"] {
            let error = fail(&mut bench.source_at(Some("main"), path)).await;
            assert_eq!((error.reason, error.stalled), ("PathMissing", false));
            assert!(error.message.contains(path), "{}", error.message);
        }
        let mut source = bench.source_at(Some("main"), "b/c");
        assert_eq!(paths(&look(&mut source).await), ["y"]);
        bench.repo.git(&["rm", "-r", "--quiet", "b"]);
        bench.repo.publish(&[]);
        for _ in 0..2 {
            assert_eq!(fail(&mut source).await.reason, "PathMissing");
        }
        bench.repo.publish(&[("b/c/z", "1")]);
        assert_eq!(changed(&look(&mut source).await), ["y", "z"]);
        bench.repo.publish(&[("a/x", "2")]);
        assert!(look(&mut source).await.changes.is_none(), "another directory changed");
    })
    .await;
}

#[tokio::test]
async fn odd_names() {
    both(&[("a", "1")], |bench| async move {
        let repo = &bench.repo;
        let blob = repo.blob(b"x");
        let below = repo.tree(&[("100644", b"config", &blob)]);
        let odd: [(&[u8], PathRefusal); 7] = [
            (b"..", PathRefusal::Dots),
            (b".GIT", PathRefusal::DotGit),
            (b"a/b", PathRefusal::Slash),
            (b"bad\xff", PathRefusal::NotUtf8),
            (b"git~1", PathRefusal::DotGit),
            (b"new\nline", PathRefusal::Control),
            (b".", PathRefusal::Dots),
        ];
        let mut entries: Vec<(&str, &[u8], &str)> =
            odd.iter().map(|(name, _)| ("100644", *name, blob.as_str())).collect();
        entries[1] = ("40000", b".GIT", &below);
        entries.push(("100644", b"good", &blob));
        let sub = repo.tree(&entries);
        let top = repo.tree(&[("100644", b"a", &blob), ("40000", b"sub", &sub)]);
        let mut source = bench.source();
        look(&mut source).await;
        repo.commit_tree(&top);
        let seen = look(&mut source).await;
        assert_eq!(paths(&seen), ["a", "sub/good"]);
        assert_eq!(
            changed(&seen),
            ["a", "sub", "sub/good"],
            "the directory stands for what is refused in it"
        );
        let refused: BTreeMap<_, _> =
            seen.tree.refused().iter().map(|one| (one.name.as_str(), one.why)).collect();
        assert_eq!(refused.len(), odd.len());
        for (name, why) in odd {
            assert_eq!(refused[name.escape_ascii().to_string().as_str()], why);
        }
        // Read whole and by differences, a tree is the same; and what is refused goes with its directory.
        let whole = look(&mut bench.source()).await;
        assert_eq!(whole.tree, seen.tree);
        repo.commit_tree(&repo.tree(&[("100644", b"a", &blob)]));
        let seen = look(&mut source).await;
        assert_eq!((changed(&seen), seen.tree.refused().len()), (vec!["sub", "sub/good"], 0));
    })
    .await;
}

#[tokio::test]
async fn kinds_of_entries() {
    both(&[("a", "1")], |bench| async move {
        let repo = &bench.repo;
        let (blob, target, bad) = (repo.blob(b"x"), repo.blob(b"../a"), repo.blob(b"\xff"));
        let commit = repo.git(&["rev-parse", "HEAD"]);
        repo.commit_tree(&repo.tree(&[
            ("100644", b"file", &blob),
            ("100755", b"run", &blob),
            ("120000", b"link", &target),
            ("120000", b"bad", &bad),
            ("160000", b"module", &commit),
        ]));
        let mut source = bench.source();
        let seen = look(&mut source).await;
        let kinds: Vec<_> = seen.tree.iter().map(|(path, node)| (path.as_str(), node.kind)).collect();
        assert_eq!(
            kinds,
            [
                ("bad", NodeKind::Link),
                ("file", NodeKind::Regular),
                ("link", NodeKind::Link),
                ("module", NodeKind::Submodule),
                ("run", NodeKind::Executable),
            ]
        );
        let content = read(&mut source, "link").await.content.unwrap();
        assert_eq!((content.target.as_deref(), content.hash), (Some("../a"), hash::content(b"../a")));
        assert_eq!(read(&mut source, "run").await.content.unwrap().target, None);
        for path in ["bad", "module"] {
            let refusal = read(&mut source, path).await.content.unwrap_err();
            assert!(matches!(refusal, ReadRefusal::Failed(_)), "{path}: {refusal}");
        }
        // A file that becomes executable, one that becomes a directory, and the other way round.
        repo.commit_tree(&repo.tree(&[
            ("100755", b"file", &blob),
            ("120000", b"link", &target),
            ("40000", b"run", &repo.tree(&[("100644", b"inside", &blob)])),
        ]));
        let seen = look(&mut source).await;
        assert_eq!(changed(&seen), ["bad", "file", "module", "run", "run/inside"]);
        repo.commit_tree(&repo.tree(&[("100755", b"file", &blob), ("100644", b"run", &blob)]));
        let seen = look(&mut source).await;
        assert_eq!(changed(&seen), ["link", "run", "run/inside"]);
        assert_eq!(seen.tree, look(&mut bench.source()).await.tree);
    })
    .await;
}

#[tokio::test]
async fn reads_what_was_observed_and_no_more_than_is_allowed() {
    both(&[("a", "one"), ("d/b", "two"), ("big", &"x".repeat(1001))], |bench| async move {
        let mut source = bench.source();
        assert_eq!(read(&mut source, "a").await.content, Err(ReadRefusal::Gone), "nothing was observed yet");
        look(&mut source).await;
        let kept = Arc::new(Mutex::new(Vec::new()));
        let sink: Sink = Arc::new({
            let kept = Arc::clone(&kept);
            move |hash, bytes: &[u8]| {
                kept.lock().unwrap().push((*hash, bytes.to_vec()));
                Ok(())
            }
        });
        let mut wants = vec![want("d/b"), want("big"), want("none"), want("a")];
        wants[3].bytes = false;
        let readings = source.read(wants, sink).await.unwrap();
        let content = readings[0].content.as_ref().unwrap();
        assert_eq!((content.hash, content.size), (hash::content(b"two"), 3));
        assert_eq!(readings[0].bytes.as_deref(), Some(&b"two"[..]));
        assert_eq!(readings[1].content, Err(ReadRefusal::TooLarge { size: 1001, max: 1000 }));
        assert_eq!(readings[2].content, Err(ReadRefusal::Gone));
        assert!(readings[3].content.is_ok() && readings[3].bytes.is_none());
        let kept: Vec<_> = kept.lock().unwrap().iter().map(|(_, bytes)| bytes.clone()).collect();
        assert_eq!(kept, [b"two", b"one"]);
        let full: Sink = Arc::new(|_, _| Err(std::io::Error::other("the disk is full")));
        let error = source.read(vec![want("a")], full).await.unwrap_err();
        assert_eq!(error.reason, "ReadFailed");
        assert_eq!(error.source.unwrap().to_string(), "the disk is full");
    })
    .await;
}

#[tokio::test]
async fn one_changed_file_of_a_thousand_is_exactly_one_path() {
    let files: Vec<_> = (0..1000).map(|n| (format!("d{}/f{n}", n % 50), n.to_string())).collect();
    let files: Vec<_> = files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    both(&files, |bench| async move {
        let mut source = bench.source();
        assert_eq!(look(&mut source).await.tree.len(), 1000);
        bench.repo.publish(&[("d7/f507", "new")]);
        assert_eq!(changed(&look(&mut source).await), ["d7/f507"]);
    })
    .await;
}

#[tokio::test]
async fn what_lies_too_deep_is_one_refused_name() {
    let bench = Bench::new(Via::File, Repo::with(&[("a", "1")]));
    let mut source = bench.source();
    look(&mut source).await;
    let blob = bench.repo.blob(b"x");
    let mut deep = bench.repo.tree(&[("100644", b"f", &blob)]);
    for _ in 0..65 {
        deep = bench.repo.tree(&[("40000", b"d", &deep)]);
    }
    for name in ["a", "b"] {
        // The second time only what differs is read.
        let top = bench.repo.tree(&[("100644", name.as_bytes(), &blob), ("40000", b"d", &deep)]);
        bench.repo.commit_tree(&top);
        let tree = look(&mut source).await.tree;
        let paths: Vec<&str> = tree.iter().map(|(path, _)| path.as_str()).collect();
        assert_eq!(paths, [name]);
        let refused = tree.refused();
        assert_eq!(refused.len(), 1);
        assert_eq!((refused[0].why, refused[0].dir.depth()), (PathRefusal::TooDeep, 64));
    }
}

#[tokio::test]
async fn a_tree_without_end_is_refused() {
    let bench = Bench::new(Via::File, Repo::with(&[("a", "1")]));
    // Counting two million names takes a busy machine its time.
    let mut source = bench.impatient(&bench.url(), Duration::from_secs(600));
    let first = look(&mut source).await;
    // A tree of 10^7 names in eight objects.
    let blob = bench.repo.blob(b"x");
    let mut wide = bench.repo.tree(&[("100644", b"f", &blob)]);
    for _ in 0..7 {
        let names: Vec<String> = (0..10).map(|n| n.to_string()).collect();
        let entries: Vec<_> = names.iter().map(|name| ("40000", name.as_bytes(), wide.as_str())).collect();
        wide = bench.repo.tree(&entries);
    }
    bench.repo.commit_tree(&wide);
    let error = fail(&mut source).await;
    assert_eq!((error.reason, error.stalled), ("TreeTooLarge", false));
    bench.repo.bare_git(&["update-ref", "refs/heads/main", at(&first)]);
    assert!(look(&mut source).await.changes.is_none(), "what was observed is as it was");
}
