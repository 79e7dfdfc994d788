//! Remotes that misbehave, refuse or vanish.

use super::*;
use crate::http_backend::Answer;

#[tokio::test]
async fn a_server_that_hangs_or_drips_costs_the_deadline_and_no_more() {
    let is_fetch = |method: &str| method == "POST";
    for (on_post, answer) in [
        (false, Answer::Hang),
        (false, Answer::HangInside),
        (true, Answer::Hang),
        (true, Answer::HangInside),
        (false, Answer::Drip),
        (true, Answer::Drip),
    ] {
        let bench = Bench::new(Via::Http, Repo::with(&[("a", "1")]));
        let ill = Arc::new(AtomicBool::new(true));
        let server = HttpRemote::serve_with(bench.repo.root(), {
            let (ill, answer) = (Arc::clone(&ill), answer.clone());
            move |request| {
                let now = ill.load(Ordering::SeqCst) && is_fetch(&request.method) == on_post;
                if now { answer.clone() } else { Answer::Git }
            }
        });
        let limit = Duration::from_millis(400);
        let mut source = bench.impatient(&server.url("remote.git"), limit);
        let begun = Instant::now();
        let error = fail(&mut source).await;
        let took = begun.elapsed();
        assert_eq!((error.reason, error.stalled), ("FetchTimedOut", false), "{answer:?}: {error:?}");
        assert!(took >= limit && took < Duration::from_secs(20), "{answer:?} took {took:?}");
        ill.store(false, Ordering::SeqCst);
        let mut patient = bench.options(&server.url("remote.git"));
        patient.fetch_timeout = Duration::from_secs(30);
        assert_eq!(paths(&look(&mut GitSource::open(patient)).await), ["a"]);
    }
}

#[tokio::test]
async fn a_page_for_people_is_told_apart_from_a_git_server() {
    let bench = Bench::new(Via::Http, Repo::with(&[("a", "1")]));
    let server = HttpRemote::serve_with(bench.repo.root(), |_| Answer::Page);
    let error = fail(&mut GitSource::open(bench.options(&server.url("remote.git")))).await;
    assert_eq!(error.reason, "FetchFailed");
    let why = std::error::Error::source(&error).unwrap().to_string();
    assert!(why.starts_with("what answers there is no git server"), "{why}");
}

#[tokio::test]
async fn a_server_that_hangs_before_any_handshake() {
    let bench = Bench::new(Via::Http, Repo::with(&[("a", "1")]));
    // The system takes connections that nobody ever answers.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    for scheme in ["http", "https"] {
        let url = format!("{scheme}://{}/remote.git", listener.local_addr().unwrap());
        let begun = Instant::now();
        let error = fail(&mut bench.impatient(&url, Duration::from_millis(400))).await;
        assert_eq!((error.reason, error.stalled), ("FetchTimedOut", false), "{scheme}: {error:?}");
        assert!(begun.elapsed() < Duration::from_secs(20), "{scheme} took {:?}", begun.elapsed());
    }
}

#[tokio::test]
async fn a_server_that_answers_out_of_a_stale_cache_is_believed() {
    let bench = Bench::new(Via::Http, Repo::with(&[("a", "1")]));
    let is_stale = Arc::new(AtomicBool::new(true));
    let server = HttpRemote::serve_with(bench.repo.root(), {
        let is_stale = Arc::clone(&is_stale);
        move |_| if is_stale.load(Ordering::SeqCst) { Answer::Remembered } else { Answer::Git }
    });
    let mut source = GitSource::open(bench.options(&server.url("remote.git")));
    let first = look(&mut source).await;
    bench.repo.publish(&[("a", "2")]);
    assert_eq!(at(&look(&mut source).await), at(&first));
    is_stale.store(false, Ordering::SeqCst);
    assert_eq!(changed(&look_from(&mut source, at(&first)).await), ["a"]);
}

#[tokio::test]
async fn a_source_recovers_from_a_hanging_server_by_itself() {
    let bench = Bench::new(Via::Http, Repo::with(&[("a", "1")]));
    let ill = Arc::new(AtomicBool::new(false));
    let server = HttpRemote::serve_with(bench.repo.root(), {
        let ill = Arc::clone(&ill);
        move |_| if ill.load(Ordering::SeqCst) { Answer::Hang } else { Answer::Git }
    });
    let mut source = bench.impatient(&server.url("remote.git"), Duration::from_secs(4));
    let first = look(&mut source).await;
    bench.repo.publish(&[("a", "2")]);
    ill.store(true, Ordering::SeqCst);
    // More often than threads may hang at a time: each ends when it is abandoned.
    for _ in 0..5 {
        let brief = Duration::from_millis(50);
        assert!(tokio::time::timeout(brief, source.observe(Ask::Full, None)).await.is_err());
    }
    assert_eq!(fail(&mut source).await.reason, "FetchTimedOut");
    assert_eq!(text(&mut source, "a").await, "1", "what was observed stays readable");
    ill.store(false, Ordering::SeqCst);
    assert_eq!(changed(&look_from(&mut source, at(&first)).await), ["a"]);
    let store = bench.store_of(&server.url("remote.git"));
    assert_eq!(refs(&store), ["refs/kindling/live"], "no attempt left a ref");
}

#[tokio::test]
async fn a_file_remote_that_hangs_costs_the_deadline_and_no_more() {
    let bench = Bench::new(Via::File, Repo::with(&[("a", "1")]));
    let mut source = bench.impatient(&bench.url(), Duration::from_secs(2));
    let first = look(&mut source).await;
    // Reading a pipe that nobody writes to blocks in the kernel.
    let branch = bench.repo.bare().join("refs/heads/main");
    std::fs::remove_file(&branch).unwrap();
    let made = std::process::Command::new("mkfifo").arg(&branch).status().unwrap();
    assert!(made.success());
    for _ in 0..2 {
        assert_eq!(fail(&mut source).await.reason, "FetchTimedOut");
    }
    // Whoever opens the other end ends the threads that hang.
    drop(std::fs::File::options().read(true).write(true).open(&branch).unwrap());
    std::fs::remove_file(&branch).unwrap();
    std::fs::write(&branch, at(&first)).unwrap();
    assert!(look(&mut source).await.changes.is_none());
}

#[tokio::test]
async fn redirect_to_another_host_is_refused() {
    let bench = Bench::new(Via::Http, Repo::with(&[("a", "1")]));
    let elsewhere = bench.server.url("remote.git");
    let to = format!("{elsewhere}/info/refs?service=git-upload-pack");
    let server = HttpRemote::serve_with(bench.repo.root(), move |_| Answer::Redirect(to.clone()));
    let error = fail(&mut GitSource::open(bench.options(&server.url("remote.git")))).await;
    assert_eq!((error.reason, error.stalled), ("RedirectRefused", false));
    assert!(error.message.contains(&elsewhere), "{}", error.message);
    assert_eq!(bench.server.requests(), 0);
}

#[tokio::test]
async fn redirect_within_the_host_is_followed_but_not_for_ever() {
    let bench = Bench::new(Via::Http, Repo::with(&[("a", "1")]));
    let server = HttpRemote::serve_with(bench.repo.root(), |request| {
        let (path, rest) = request.target[1..].split_once('/').unwrap();
        match path {
            "old" => Answer::Redirect(format!("/remote.git/{rest}")),
            "circle" => Answer::Redirect(format!("/circle/{rest}")),
            "elsewhere" => Answer::Redirect("/login".to_owned()),
            _ => Answer::Git,
        }
    });
    let source = |path: &str| GitSource::open(bench.options(&server.url(path)));
    for path in ["circle", "elsewhere"] {
        assert_eq!(fail(&mut source(path)).await.reason, "RedirectRefused", "{path}");
    }
    assert_eq!(paths(&look(&mut source("old")).await), ["a"]);
}

#[tokio::test]
async fn statuses_of_a_server() {
    let bench = Bench::new(Via::Http, Repo::with(&[("a", "1")]));
    for (status, reason, stalled) in [
        (401, "AuthenticationFailed", false),
        (403, "AuthenticationFailed", false),
        (404, "RemoteUnreachable", false),
        (503, "RemoteUnreachable", false),
    ] {
        let server = HttpRemote::serve_with(bench.repo.root(), move |_| Answer::Status(status));
        let error = fail(&mut GitSource::open(bench.options(&server.url("remote.git")))).await;
        assert_eq!((error.reason, error.stalled), (reason, stalled), "{status}");
        let said =
            format!("{} {}", error.message, error.source.map(|why| why.to_string()).unwrap_or_default());
        assert!(said.contains(&status.to_string()) && said.contains(&server.url("remote.git")), "{said}");
    }
    let error = fail(&mut GitSource::open(bench.options(&bench.server.url("nowhere.git")))).await;
    assert_eq!(error.reason, "RemoteUnreachable");
}

#[tokio::test]
async fn a_page_that_is_no_repository_is_no_repository() {
    let bench = Bench::new(Via::Http, Repo::with(&[("a", "1")]));
    let server = HttpRemote::serve_with(bench.repo.root(), |_| Answer::Status(200));
    let error = fail(&mut GitSource::open(bench.options(&server.url("remote.git")))).await;
    assert_eq!((error.reason, error.stalled), ("FetchFailed", false));
}

#[tokio::test]
async fn addresses_that_are_refused() {
    let bench = Bench::new(Via::File, Repo::with(&[("a", "1")]));
    for url in ["https://me:s3cret@example.org/a", "ssh://-oProxyCommand=id/a", "ext::sh -c id", "a/b"] {
        let error = fail(&mut GitSource::open(bench.options(url))).await;
        assert_eq!((error.reason, error.stalled), ("BadUrl", true), "{url}");
        assert!(!format!("{error} {error:?}").contains("s3cret"));
    }
    for branch in ["-x", "a..b", "a*", "", "a b", "a.lock"] {
        let error = fail(&mut bench.source_at(Some(branch), "")).await;
        assert_eq!((error.reason, error.stalled), ("BadBranch", true), "{branch}");
    }
    assert!(!bench.data.path().join("git").exists(), "nothing was touched");
}

#[tokio::test]
async fn a_connection_that_breaks() {
    for on_post in [false, true] {
        let bench = Bench::new(Via::Http, Repo::with(&[("a", "1")]));
        let ill = Arc::new(AtomicBool::new(true));
        let server = HttpRemote::serve_with(bench.repo.root(), {
            let ill = Arc::clone(&ill);
            move |request| {
                let now = ill.load(Ordering::SeqCst) && (request.method == "POST") == on_post;
                if now { Answer::Cut } else { Answer::Git }
            }
        });
        let mut source = GitSource::open(bench.options(&server.url("remote.git")));
        let error = fail(&mut source).await;
        assert_eq!((error.reason, error.stalled), ("FetchFailed", false));
        ill.store(false, Ordering::SeqCst);
        assert_eq!(paths(&look(&mut source).await), ["a"]);
        assert!(
            bench.store_of(&server.url("remote.git")).join("shallow").exists(),
            "a broken line is no reason to fetch all of the history"
        );
    }
}

#[tokio::test]
async fn odd_paths_of_a_remote() {
    let bench = Bench::new(Via::File, Repo::with(&[("a", "1")]));
    let name = "a b:c@d%20e.git";
    std::fs::rename(bench.repo.bare(), bench.repo.root().join(name)).unwrap();
    let plain = bench.repo.root().join(name).display().to_string();
    let escaped = "a%20b:c@d%2520e.git";
    let file = format!("file://{}/{escaped}", bench.repo.root().display());
    for url in [plain, file, bench.server.url(escaped)] {
        assert_eq!(paths(&look(&mut GitSource::open(bench.options(&url))).await), ["a"], "{url}");
    }
}

#[tokio::test]
async fn both_spellings_of_a_file_remote_work() {
    let bench = Bench::new(Via::File, Repo::with(&[("a", "1")]));
    let url = format!("file://{}/", bench.repo.bare().display());
    assert_eq!(paths(&look(&mut GitSource::open(bench.options(&url))).await), ["a"]);
    let work = bench.repo.work().display().to_string();
    assert_eq!(
        paths(&look(&mut GitSource::open(bench.options(&work))).await),
        ["a"],
        "a work tree has refs too"
    );
}

#[tokio::test]
async fn a_server_that_is_not_there() {
    let bench = Bench::new(Via::Http, Repo::with(&[("a", "1")]));
    let url = HttpRemote::serve(bench.repo.root()).url("remote.git");
    for url in [url.clone(), url.replace("http:", "https:")] {
        let error = fail(&mut GitSource::open(bench.options(&url))).await;
        assert_eq!((error.reason, error.stalled), ("RemoteUnreachable", false));
        assert!(error.message.contains(&url) && error.source.is_some());
    }
}

#[tokio::test]
async fn remote_deleted_and_back() {
    both(&[("a", "1")], |bench| async move {
        let mut source = bench.source();
        look(&mut source).await;
        let aside = bench.repo.root().join("aside");
        std::fs::rename(bench.repo.bare(), &aside).unwrap();
        for _ in 0..2 {
            let error = fail(&mut source).await;
            assert_eq!((error.reason, error.stalled), ("RemoteUnreachable", false));
        }
        assert_eq!(text(&mut source, "a").await, "1");
        std::fs::rename(&aside, bench.repo.bare()).unwrap();
        assert!(look(&mut source).await.changes.is_none());
        bench.repo.publish(&[("a", "2")]);
        assert_eq!(changed(&look(&mut source).await), ["a"]);
    })
    .await;
}

#[tokio::test]
async fn remote_made_anew_with_another_history() {
    both(&[("a", "1"), ("b", "1")], |bench| async move {
        let mut source = bench.source();
        let first = look(&mut source).await;
        let other = Repo::with(&[("a", "1"), ("b", "2")]);
        std::fs::remove_dir_all(bench.repo.bare()).unwrap();
        std::fs::rename(other.bare(), bench.repo.bare()).unwrap();
        let seen = look_from(&mut source, at(&first)).await;
        assert_eq!((changed(&seen), seen.rewritten), (vec!["b"], true));
    })
    .await;
}

#[tokio::test]
async fn a_file_that_is_no_repository() {
    let bench = Bench::new(Via::File, Repo::with(&[("a", "1")]));
    std::fs::create_dir(bench.repo.root().join("plain")).unwrap();
    std::fs::write(bench.repo.root().join("file"), "").unwrap();
    for name in ["plain", "file", "absent"] {
        let url = bench.repo.root().join(name).display().to_string();
        let error = fail(&mut GitSource::open(bench.options(&url))).await;
        assert_eq!((error.reason, error.stalled), ("RemoteUnreachable", false), "{name}");
        assert!(error.message.contains(&url));
    }
}

#[tokio::test]
async fn a_host_is_asked_by_two_at_a_time() {
    let bench = Bench::new(Via::Http, Repo::with(&[("a", "1")]));
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let gate = Arc::new(AtomicBool::new(false));
    let server = HttpRemote::serve_with(bench.repo.root(), {
        let (now, most, gate) = (Arc::clone(&now), Arc::clone(&most), Arc::clone(&gate));
        move |request| {
            if request.method == "GET" && !gate.load(Ordering::SeqCst) {
                let count = now.fetch_add(1, Ordering::SeqCst) + 1;
                most.fetch_max(count, Ordering::SeqCst);
                return Answer::Hang;
            }
            Answer::Git
        }
    });
    let stores = Stores::new(bench.data.path());
    let sources = (0..6).map(|n| {
        let mut options = bench.options(&server.url("remote.git"));
        options.stores = stores.clone();
        options.origin.reference = GitRef::Branch(format!("b{n}"));
        options.fetch_timeout = Duration::from_secs(2);
        let mut source = GitSource::open(options);
        tokio::spawn(async move { fail(&mut source).await.reason })
    });
    for source in sources.collect::<Vec<_>>() {
        assert_eq!(source.await.unwrap(), "FetchTimedOut");
    }
    assert_eq!(most.load(Ordering::SeqCst), 2, "the others waited for a slot");
}
