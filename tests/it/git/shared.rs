//! Sources that follow the same share what is fetched.

use super::*;
use crate::http_backend::Answer;

#[tokio::test]
async fn sources_of_one_repository_share_a_fetch_and_a_folder() {
    both(&[("x/a", "1"), ("y/b", "1")], |bench| async move {
        let stores = Stores::new(bench.data.path());
        let source = |path: &str| {
            let mut options = bench.options(&bench.url());
            (options.stores, options.origin.path) = (stores.clone(), RelPath::parse(path).unwrap());
            GitSource::open(options)
        };
        let (mut x, mut y) = (source("x"), source("y"));
        let (first, other) = tokio::join!(x.observe(Ask::Full, None), y.observe(Ask::Full, None));
        let (first, other) = (first.unwrap(), other.unwrap());
        assert_eq!((paths(&first), paths(&other)), (vec!["a"], vec!["b"]));
        assert_eq!(packs(&bench.store()), 1);
        bench.repo.publish(&[("x/a", "2"), ("y/b", "2")]);
        assert_eq!(changed(&look_from(&mut x, at(&first)).await), ["a"]);
        assert_eq!(text(&mut y, "b").await, "1", "what was observed stays readable");
        assert_eq!(changed(&look_from(&mut y, at(&other)).await), ["b"]);
        assert_eq!((text(&mut x, "a").await.as_str(), text(&mut y, "b").await.as_str()), ("2", "2"));
        assert_eq!(packs(&bench.store()), 2, "each commit came once");
        assert_eq!(std::fs::read_dir(bench.data.path().join("git")).unwrap().count(), 1);
    })
    .await;
}

#[tokio::test]
async fn many_that_ask_at_once_are_answered_by_one_look_that_began_later() {
    let bench = Bench::new(Via::Http, Repo::with(&[("a", "1")]));
    let stores = Stores::new(bench.data.path());
    let mut sources: Vec<_> = (0..8)
        .map(|_| {
            let mut options = bench.options(&bench.url());
            options.stores = stores.clone();
            GitSource::open(options)
        })
        .collect();
    for source in &mut sources {
        look(source).await;
    }
    let commit = bench.repo.publish(&[("a", "2")]);
    let before = bench.server.requests();
    let looks = sources.iter_mut().map(|source| source.observe(Ask::Full, None));
    for seen in futures_util::future::join_all(looks).await {
        assert_eq!(at(&seen.unwrap()), commit);
    }
    // One shakes hands, lists and fetches; one more lists for all that asked after that began.
    let asked = bench.server.requests() - before;
    assert!((3..=5).contains(&asked), "{asked}");
}

#[tokio::test]
async fn what_nothing_follows_is_removed() {
    let bench = Bench::new(Via::File, Repo::with(&[("a", "1")]));
    let stores = Stores::new(bench.data.path());
    let source = || {
        let mut options = bench.options(&bench.url());
        options.stores = stores.clone();
        GitSource::open(options)
    };
    let (mut one, mut other) = (source(), source());
    look(&mut one).await;
    look(&mut other).await;
    one.forget().await;
    assert!(bench.store().exists());
    assert!(fail(&mut one).await.stalled, "it is followed no more");
    assert_eq!(text(&mut other, "a").await, "1");
    other.forget().await;
    assert!(!bench.store().exists());
    // At a start: folders of sources that left, and of an earlier version, which had a source's name.
    look(&mut source()).await;
    let old = bench.data.path().join("git/team");
    std::fs::create_dir(&old).unwrap();
    std::fs::write(old.join("kindling-store"), "").unwrap();
    let origin = bench.options(&bench.url()).origin;
    assert_eq!(Stores::new(bench.data.path()).keep_only([&origin].into_iter()).unwrap(), 1);
    assert!(bench.store().exists() && !old.exists());
    assert_eq!(Stores::new(bench.data.path()).keep_only([].into_iter()).unwrap(), 1);
    assert!(!bench.store().exists());
}

#[tokio::test]
async fn a_source_that_needs_the_history_gets_it_although_another_one_did_not() {
    both(&[("a", "1")], |bench| async move {
        let old = bench.repo.git(&["rev-parse", "HEAD"]);
        bench.repo.publish(&[("a", "2")]);
        let newest = bench.repo.publish(&[("a", "3")]);
        look(&mut bench.source()).await;
        assert!(bench.store().join("shallow").exists());
        let mut source = bench.source();
        let seen = look_from(&mut source, &old).await;
        assert_eq!((at(&seen), seen.rewritten), (newest.as_str(), false));
        assert!(!bench.store().join("shallow").exists());
        assert!(
            look_from(&mut source, &"1".repeat(40)).await.rewritten,
            "what nobody knows is not looked for twice"
        );
    })
    .await;
}

#[tokio::test]
async fn fifty_fetches_are_put_into_one_pack_and_stay_readable() {
    let bench = Bench::new(Via::File, Repo::with(&[("a", "1"), ("dir/b", "1")]));
    let mut source = bench.source();
    let first = at(&look(&mut source).await).to_owned();
    let mut commits = Vec::new();
    for n in 0..55 {
        commits.push(bench.repo.publish(&[("a", &format!("text {n}"))]));
        look_from(&mut source, &first).await;
        assert_eq!(text(&mut source, "a").await, format!("text {n}"));
    }
    let end = Instant::now() + Duration::from_secs(60);
    while packs(&bench.store()) > 10 && Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(packs(&bench.store()) <= 10, "{}", packs(&bench.store()));
    assert_eq!(text(&mut source, "a").await, "text 54");
    assert_eq!(text(&mut source, "dir/b").await, "1");
    crate::repo::run(&bench.store(), &["fsck", "--strict", "--no-dangling"], b"");
    for commit in &commits {
        crate::repo::run(&bench.store(), &["cat-file", "-e", &format!("{commit}:a")], b"");
    }
    let commit = bench.repo.publish(&[("a", "last")]);
    let seen = look_from(&mut source, &first).await;
    assert_eq!((at(&seen), seen.rewritten), (commit.as_str(), false));
    assert_eq!(text(&mut bench.restarted().await, "a").await, "last");
}

#[tokio::test]
async fn a_second_source_waits_for_the_first_fetch_of_another_one() {
    let bench = Bench::new(Via::Http, Repo::with(&[("a", "1")]));
    let open = Arc::new(AtomicBool::new(false));
    let server = HttpRemote::serve_with(bench.repo.root(), {
        let open = Arc::clone(&open);
        move |request| {
            // The pack comes slowly, for longer than a look may take.
            let slow = request.method == "POST" && !open.load(Ordering::SeqCst);
            if slow { Answer::Drip } else { Answer::Git }
        }
    });
    let stores = Stores::new(bench.data.path());
    let source = || {
        let mut options = bench.options(&server.url("remote.git"));
        (options.stores, options.fetch_timeout) = (stores.clone(), Duration::from_secs(20));
        GitSource::open(options)
    };
    let (mut one, mut other) = (source(), source());
    let (first, second) = tokio::join!(one.observe(Ask::Full, None), other.observe(Ask::Full, None));
    assert_eq!(at(&first.unwrap()), at(&second.unwrap()));
    open.store(true, Ordering::SeqCst);
}
