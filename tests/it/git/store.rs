//! The repository of our own: what it survives.

use super::*;

#[tokio::test]
async fn stale_locks_are_cleared() {
    both(&[("a", "1")], |bench| async move {
        look(&mut bench.source()).await;
        bench.repo.publish(&[("a", "2")]);
        let locks = ["shallow.lock", "packed-refs.lock", "refs/kindling/live.lock", "HEAD.lock"];
        for name in locks {
            let path = bench.store().join(name);
            std::fs::write(&path, "").unwrap();
            let old = std::fs::metadata(&path).unwrap().modified().unwrap() - Duration::from_secs(120);
            std::fs::File::options().write(true).open(&path).unwrap().set_modified(old).unwrap();
        }
        std::fs::write(bench.store().join("objects/pack/pack-dead.keep"), "").unwrap();
        let mut source = bench.source();
        look(&mut source).await;
        assert_eq!(text(&mut source, "a").await, "2");
        for name in locks.into_iter().chain(["objects/pack/pack-dead.keep"]) {
            assert!(!bench.store().join(name).exists(), "{name}");
        }
    })
    .await;
}

/// Everything that a crash or a disk can do to our own repository, by name.
fn damages() -> BTreeMap<&'static str, fn(&Path)> {
    fn packs(store: &Path, ending: &str) -> Vec<PathBuf> {
        let files = std::fs::read_dir(store.join("objects/pack")).unwrap().flatten().map(|file| file.path());
        files.filter(|path| path.extension().is_some_and(|e| e == ending)).collect()
    }
    fn overwrite(path: &Path, bytes: &[u8]) {
        std::fs::remove_file(path).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
    BTreeMap::from([
        ("no HEAD", (|store| std::fs::remove_file(store.join("HEAD")).unwrap()) as fn(&Path)),
        ("no refs", |store| std::fs::remove_dir_all(store.join("refs")).unwrap()),
        ("no objects", |store| std::fs::remove_dir_all(store.join("objects")).unwrap()),
        ("no packs", |store| {
            packs(store, "pack").iter().for_each(|path| std::fs::remove_file(path).unwrap());
        }),
        ("empty live ref", |store| std::fs::write(store.join("refs/kindling/live"), "").unwrap()),
        ("foreign live ref", |store| {
            std::fs::write(store.join("refs/kindling/live"), format!("{}\n", "1".repeat(40))).unwrap();
        }),
        ("bad config", |store| std::fs::write(store.join("config"), "[core\n").unwrap()),
        ("empty pack", |store| packs(store, "pack").iter().for_each(|path| overwrite(path, b""))),
        ("empty index", |store| packs(store, "idx").iter().for_each(|path| overwrite(path, b""))),
        ("zeroed pack", |store| {
            for path in packs(store, "pack") {
                let length = std::fs::metadata(&path).unwrap().len();
                let mut bytes = std::fs::read(&path).unwrap()[..12].to_vec();
                bytes.resize(usize::try_from(length).unwrap(), 0);
                overwrite(&path, &bytes);
            }
        }),
        ("bad shallow file", |store| std::fs::write(store.join("shallow"), "what?\n").unwrap()),
        ("all gone", |store| std::fs::remove_dir_all(store).unwrap()),
    ])
}

#[tokio::test]
async fn a_damaged_store_heals() {
    both(&[("a", "1")], |bench| async move {
        let mut first = at(&look(&mut bench.source()).await).to_owned();
        for (name, damage) in damages() {
            for moved in [false, true] {
                damage(&bench.store());
                if moved {
                    bench.repo.publish(&[("a", name)]);
                }
                let mut source = bench.source();
                let seen = source.observe(Ask::Hinted, Some(Revision::new(&first))).await;
                let seen = seen.unwrap_or_else(|error| panic!("{name} {moved}: {error}: {:?}", error.source));
                assert!(!seen.rewritten, "{name} {moved}");
                first = at(&seen).to_owned();
                let there = std::fs::read_to_string(bench.repo.work().join("a")).unwrap();
                assert_eq!(text(&mut source, "a").await, there, "{name} {moved}");
            }
        }
        let left: Vec<_> = std::fs::read_dir(bench.data.path().join("git")).unwrap().flatten().collect();
        assert_eq!(left.len(), 1, "nothing is left beside the store");
    })
    .await;
}

#[tokio::test]
async fn a_store_that_is_damaged_while_it_is_used_heals() {
    both(&[("a", "1"), ("b", "1")], |bench| async move {
        let mut source = bench.source();
        let first = look(&mut source).await;
        for (name, damage) in damages() {
            damage(&bench.store());
            bench.repo.publish(&[("a", name)]);
            let seen = look_from(&mut source, at(&first)).await;
            assert!(!seen.rewritten, "{name}");
            assert_eq!(text(&mut source, "a").await, name);
        }
        // Noticed by a read alone: the next look mends it, although nothing new was pushed.
        std::fs::remove_dir_all(bench.store()).unwrap();
        look(&mut source).await;
        let _ = source.read(vec![want("a")], no_sink()).await;
        look(&mut source).await;
        assert!(read(&mut source, "a").await.content.is_ok());
    })
    .await;
}

#[tokio::test]
async fn healing_waits_for_a_remote_that_is_away() {
    both(&[("a", "1")], |bench| async move {
        let mut source = bench.source();
        look(&mut source).await;
        damages()["no packs"](&bench.store());
        bench.repo.publish(&[("a", "2")]);
        let aside = bench.repo.root().join("aside");
        std::fs::rename(bench.repo.bare(), &aside).unwrap();
        assert_eq!(fail(&mut source).await.reason, "RemoteUnreachable");
        std::fs::rename(&aside, bench.repo.bare()).unwrap();
        look(&mut source).await;
        assert_eq!(text(&mut source, "a").await, "2");
    })
    .await;
}

#[tokio::test]
async fn a_folder_of_somebody_else_is_never_touched() {
    let bench = Bench::new(Via::File, Repo::with(&[("a", "1")]));
    std::fs::create_dir_all(bench.store()).unwrap();
    std::fs::write(bench.store().join("thesis.txt"), "years of work").unwrap();
    let error = fail(&mut bench.source()).await;
    assert_eq!((error.reason, error.stalled), ("StoreDamaged", true));
    let left: Vec<_> = std::fs::read_dir(bench.store()).unwrap().flatten().collect();
    assert_eq!(left.len(), 1);
}

#[tokio::test]
async fn a_blob_that_the_remote_lacks_is_named_and_fetched_again_once() {
    let bench = Bench::new(Via::File, Repo::with(&[("a", "1")]));
    let mut source = bench.source();
    look(&mut source).await;
    // One loose object takes the pack's place, without the blob.
    let blob = bench.repo.git(&["rev-parse", "HEAD:a"]);
    let pack = bench.store().join("objects/pack");
    let keep: Vec<_> =
        ["HEAD", "HEAD^{tree}"].iter().map(|what| bench.repo.git(&["rev-parse", what])).collect();
    std::fs::remove_dir_all(&pack).unwrap();
    std::fs::create_dir(&pack).unwrap();
    for id in keep {
        let (dir, rest) = id.split_at(2);
        let to = bench.store().join("objects").join(dir);
        std::fs::create_dir_all(&to).unwrap();
        std::fs::copy(bench.repo.work().join(".git/objects").join(dir).join(rest), to.join(rest)).unwrap();
    }
    let mut source = bench.source();
    look(&mut source).await;
    let refusal = read(&mut source, "a").await.content.unwrap_err();
    assert!(refusal.to_string().contains(&blob), "{refusal}");
    // Whoever could not read something reads it again.
    assert_eq!(look(&mut source).await.changes, Changes::All);
    assert!(look(&mut source).await.changes.is_none());
    assert_eq!(text(&mut source, "a").await, "1");
}

#[tokio::test]
async fn a_commit_that_was_fetched_is_looked_back_at_without_the_remote() {
    both(&[("a", "1"), ("d/b", "1")], |bench| async move {
        let first = at(&look(&mut bench.source()).await).to_owned();
        // The branch is rewritten: nothing but the look back knows the old commit.
        bench.repo.write("a", "2");
        bench.repo.git(&["commit", "--quiet", "--all", "--amend", "-m", "rewritten"]);
        bench.repo.force_push();
        let second = at(&bench.restarted().await.observe(Ask::Full, None).await.unwrap()).to_owned();
        assert_ne!(first, second);
        let aside = bench.repo.root().join("aside");
        std::fs::rename(bench.repo.bare(), &aside).unwrap();
        for looked in [false, true] {
            let mut source = bench.source();
            if looked {
                fail(&mut source).await;
            }
            let back = source.recall(Some(Revision::new(&first))).await.unwrap();
            assert_eq!((at(&back), back.rewritten), (first.as_str(), false));
            assert!(matches!(back.changes, Changes::All));
            assert_eq!(paths(&back), ["a", "d/b"]);
            assert_eq!(text(&mut source, "a").await, "1");
            let gone = source.recall(Some(Revision::new(&"1".repeat(40)))).await.unwrap_err();
            assert_eq!(gone.reason, "CommitGone");
            assert_eq!(text(&mut source, "a").await, "1", "what was looked back at stays");
        }
        std::fs::rename(&aside, bench.repo.bare()).unwrap();
        let mut source = bench.source();
        source.recall(Some(Revision::new(&first))).await.unwrap();
        let last = source.recall(None).await.unwrap();
        assert_eq!(at(&last), second, "what was fetched last");
        source.recall(Some(Revision::new(&first))).await.unwrap();
        let seen = look_from(&mut source, &first).await;
        assert_eq!((at(&seen), seen.rewritten, changed(&seen)), (second.as_str(), true, vec!["a"]));
        assert_eq!(text(&mut source, "a").await, "2");
        // Without a copy there is nothing to look back at, and nothing is made.
        std::fs::remove_dir_all(bench.store()).unwrap();
        let mut source = bench.source();
        assert_eq!(source.recall(Some(Revision::new(&first))).await.unwrap_err().reason, "CommitGone");
        assert!(!bench.store().exists());
    })
    .await;
}

#[tokio::test]
async fn an_object_that_was_damaged_at_the_remote_is_read_once_it_is_mended() {
    both(&[("a", "1")], |bench| async move {
        let mut source = bench.source();
        look(&mut source).await;
        bench.repo.publish(&[("a", "2")]);
        // git sends what it does not look into: the bytes of another object.
        let (right, wrong) = (bench.repo.git(&["rev-parse", "HEAD:a"]), bench.repo.blob(b"wrong"));
        let place = |id: &str| bench.repo.bare().join("objects").join(&id[..2]).join(&id[2..]);
        let kept = std::fs::read(place(&right)).unwrap();
        std::fs::remove_file(place(&right)).unwrap();
        std::fs::copy(place(&wrong), place(&right)).unwrap();
        for _ in 0..3 {
            match source.observe(Ask::Hinted, None).await {
                Ok(_) => assert!(read(&mut source, "a").await.content.is_err()),
                Err(error) => assert!(format!("{:?}", error.source).contains(&right), "{error:?}"),
            }
        }
        std::fs::remove_file(place(&right)).unwrap();
        std::fs::write(place(&right), kept).unwrap();
        let seen = source.observe(Ask::Rescan, None).await.unwrap();
        assert_eq!(seen.changes, Changes::All);
        assert_eq!(text(&mut source, "a").await, "2");
    })
    .await;
}
