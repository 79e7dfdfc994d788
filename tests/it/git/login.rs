//! Tokens: who gets them, and what happens when they are wrong, missing or replaced.

use super::*;
use crate::http_backend::Answer;

/// A server that wants this token, and notes what it was shown.
struct Locked {
    bench: Bench,
    server: HttpRemote,
    wanted: Arc<Mutex<String>>,
    shown: Arc<Mutex<Vec<Option<String>>>>,
}

/// `x-access-token:TOKEN` as the header has it; made by the program that knows how.
pub(super) fn header(token: &str) -> String {
    use std::io::Write;
    let mut child = std::process::Command::new("base64")
        .arg("-w0")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(format!("x-access-token:{token}").as_bytes()).unwrap();
    format!("Basic {}", String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap())
}

impl Locked {
    fn new() -> Self {
        let bench = Bench::new(Via::Http, Repo::with(&[("a", "1")]));
        let (wanted, shown) = (Arc::new(Mutex::new(header("right-t0ken"))), Arc::new(Mutex::new(Vec::new())));
        let server = HttpRemote::serve_with(bench.repo.root(), {
            let (wanted, shown) = (Arc::clone(&wanted), Arc::clone(&shown));
            move |request| {
                let got = request.header("authorization").map(str::to_owned);
                let is_right = got.as_ref() == Some(&*wanted.lock().unwrap());
                shown.lock().unwrap().push(got);
                if is_right { Answer::Git } else { Answer::Status(401) }
            }
        });
        Self { bench, server, wanted, shown }
    }

    fn file(&self) -> PathBuf {
        self.bench.data.path().join("token")
    }

    fn write(&self, token: &str) {
        std::fs::write(self.file(), format!("{token}\n")).unwrap();
    }

    fn source(&self, auth: Option<GitAuth>) -> GitSource {
        let mut options = self.bench.options(&self.server.url("remote.git"));
        options.origin.auth = auth;
        GitSource::open(options)
    }

    fn with_file(&self) -> GitSource {
        self.source(Some(GitAuth::TokenFile(self.file())))
    }
}

fn said(error: &ObserveError) -> String {
    let why = error.source.as_ref().map(ToString::to_string).unwrap_or_default();
    format!("{error} {why} {error:?}")
}

#[tokio::test]
async fn a_token_opens_a_repository_and_is_read_anew_for_each_attempt() {
    let locked = Locked::new();
    locked.write("right-t0ken");
    let mut source = locked.with_file();
    assert_eq!(paths(&look(&mut source).await), ["a"]);
    assert_eq!(text(&mut source, "a").await, "1");
    // It is replaced on both sides while the source is followed.
    *locked.wanted.lock().unwrap() = header("newer-t0ken");
    assert_eq!(fail(&mut source).await.reason, "AuthenticationFailed");
    locked.write("newer-t0ken");
    locked.bench.repo.publish(&[("a", "2")]);
    assert_eq!(changed(&look(&mut source).await), ["a"]);
    assert!(locked.shown.lock().unwrap().iter().all(Option::is_some), "it is sent with every request");
}

#[tokio::test]
async fn wrong_credentials_stall_at_the_third_refusal_in_a_row() {
    let locked = Locked::new();
    locked.write("wrong-s3cret");
    let mut source = locked.with_file();
    for stalled in [false, false, true, true] {
        let error = fail(&mut source).await;
        assert_eq!((error.reason, error.stalled), ("AuthenticationFailed", stalled));
        assert!(error.message.contains("refuses the credentials (HTTP status 401)"), "{}", error.message);
        assert!(!said(&error).contains("s3cret"), "{}", said(&error));
    }
    assert!(!format!("{source:?}").contains("s3cret"));
    locked.write("right-t0ken");
    look(&mut source).await;
    locked.write("wrong-s3cret");
    assert!(!fail(&mut source).await.stalled, "counted from the start after a success");
    let mut source = locked.source(None);
    let error = fail(&mut source).await;
    assert!(error.message.contains("wants credentials") && !error.stalled, "{}", error.message);
}

#[tokio::test]
async fn a_refusal_between_other_failures_is_not_in_a_row() {
    let bench = Bench::new(Via::Http, Repo::with(&[("a", "1")]));
    let status = Arc::new(AtomicUsize::new(401));
    let server = HttpRemote::serve_with(bench.repo.root(), {
        let status = Arc::clone(&status);
        move |_| Answer::Status(u16::try_from(status.load(Ordering::SeqCst)).unwrap())
    });
    let mut source = GitSource::open(bench.options(&server.url("remote.git")));
    for now in [401, 401, 503, 403, 403] {
        status.store(now, Ordering::SeqCst);
        assert!(!fail(&mut source).await.stalled, "{now}");
    }
    assert!(fail(&mut source).await.stalled);
}

#[tokio::test]
async fn a_credential_that_is_missing_is_named() {
    let locked = Locked::new();
    let file = locked.file().display().to_string();
    let error = fail(&mut locked.with_file()).await;
    assert_eq!((error.reason, error.stalled), ("CredentialMissing", true));
    assert!(error.message.contains(&file), "{}", error.message);
    let mut unset = locked.source(Some(GitAuth::TokenEnv("KINDLING_NO_SUCH_TOKEN".into())));
    let error = fail(&mut unset).await;
    assert!(error.stalled && error.message.contains("KINDLING_NO_SUCH_TOKEN"), "{}", error.message);
    assert_eq!(locked.server.requests(), 0, "nobody was asked without it");
}

#[tokio::test]
async fn a_token_never_follows_a_redirect_to_another_host() {
    let locked = Locked::new();
    locked.write("right-t0ken");
    let to = format!("{}/info/refs?service=git-upload-pack", locked.server.url("remote.git"));
    let server = HttpRemote::serve_with(locked.bench.repo.root(), move |_| Answer::Redirect(to.clone()));
    let mut options = locked.bench.options(&server.url("remote.git"));
    options.origin.auth = Some(GitAuth::TokenFile(locked.file()));
    let error = fail(&mut GitSource::open(options)).await;
    assert_eq!(error.reason, "RedirectRefused");
    assert!(!said(&error).contains("t0ken"));
    assert!(locked.shown.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_token_is_never_sent_where_others_can_read_along() {
    let bench = Bench::new(Via::Http, Repo::with(&[("a", "1")]));
    for (url, auth) in [
        ("http://git.example.org/x", GitAuth::TokenEnv("PATH".into())),
        ("ssh://git@example.org/x", GitAuth::TokenEnv("PATH".into())),
        ("https://git.example.org/x", GitAuth::SshKeyFile("/id".into())),
    ] {
        let mut options = bench.options(url);
        options.origin.auth = Some(auth);
        let error = fail(&mut GitSource::open(options)).await;
        assert_eq!((error.reason, error.stalled), ("BadCredential", true), "{url}");
    }
}

/// Makes a pipe that nobody writes to.
fn pipe(path: &Path) {
    use rustix::fs::{CWD, FileType, mknodat};
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    mknodat(CWD, path, FileType::Fifo, 0o600.into(), 0).unwrap();
}

#[tokio::test]
async fn what_is_no_file_is_no_credential_and_is_not_waited_for() {
    let locked = Locked::new();
    let ssh = locked.bench.options("ssh://git@127.0.0.1:1/x");
    let key = |path: PathBuf| {
        let mut options = GitOptions { origin: ssh.origin.clone(), ..ssh.clone() };
        options.origin.auth = Some(GitAuth::SshKeyFile(path));
        GitSource::open(options)
    };
    let at = |name: &str| locked.bench.data.path().join(name);
    pipe(&at("pipe"));
    std::fs::create_dir(at("dir")).unwrap();
    for name in ["pipe", "dir"] {
        for mut source in [locked.source(Some(GitAuth::TokenFile(at(name)))), key(at(name))] {
            let failed = tokio::time::timeout(Duration::from_secs(20), fail(&mut source)).await;
            let error = failed.expect("nobody waits for a pipe");
            assert_eq!((error.reason, error.stalled), ("CredentialMissing", true));
            assert!(error.message.contains("it is not a regular file"), "{}", error.message);
        }
    }
    pipe(&at("ssh/known_hosts"));
    std::fs::write(at("key"), "no key\n").unwrap();
    let failed = tokio::time::timeout(Duration::from_secs(20), fail(&mut key(at("key")))).await.unwrap();
    assert!(failed.message.contains("known_hosts is not a regular file"), "{}", failed.message);
}

#[tokio::test]
async fn a_file_that_changes_is_noticed_without_a_request() {
    let locked = Locked::new();
    let polled = |auth: Option<GitAuth>| {
        let mut options = locked.bench.options(&locked.server.url("remote.git"));
        (options.origin.auth, options.origin.poll_interval) = (auth, Duration::from_millis(20));
        GitSource::open(options)
    };
    let mut source = polled(Some(GitAuth::TokenFile(locked.file())));
    let quiet = async |source: &mut GitSource| {
        tokio::time::timeout(Duration::from_millis(200), source.mended()).await.is_err()
    };
    let told = async |source: &mut GitSource| {
        tokio::time::timeout(Duration::from_secs(20), source.mended()).await.is_ok()
    };
    assert_eq!(fail(&mut source).await.reason, "CredentialMissing");
    assert!(quiet(&mut source).await);
    locked.write("wrong-s3cret");
    assert!(told(&mut source).await && quiet(&mut source).await);
    assert_eq!(locked.server.requests(), 0);
    // What the server refuses is a file's too, and is counted anew.
    for stalled in [false, false, true] {
        assert_eq!(fail(&mut source).await.stalled, stalled);
    }
    assert!(quiet(&mut source).await);
    let asked = locked.server.requests();
    locked.write("right-t0ken");
    assert!(told(&mut source).await);
    assert_eq!(locked.server.requests(), asked);
    look(&mut source).await;
    assert!(quiet(&mut source).await);
    // A variable of the environment cannot change.
    let mut unset = polled(Some(GitAuth::TokenEnv("KINDLING_NO_SUCH_TOKEN".into())));
    assert!(fail(&mut unset).await.stalled && quiet(&mut unset).await);
}
