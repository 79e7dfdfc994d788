//! Repositories over ssh, served by a real sshd of the test's own.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use super::*;

/// A server on loopback that lets one key in; ends when dropped.
struct Sshd {
    dir: tempfile::TempDir,
    port: u16,
    process: Child,
}

/// The server's program; `None`, with a line, where there is none.
fn program() -> Option<&'static str> {
    let found = ["/usr/sbin/sshd", "/usr/local/sbin/sshd", "/usr/bin/sshd"];
    let found = found.into_iter().find(|path| Path::new(path).exists());
    if found.is_none() {
        assert!(std::env::var_os("KINDLING_REQUIRE_TOOLS").is_none(), "sshd is missing");
        println!("passed over: sshd is not installed");
    }
    found
}

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

impl Sshd {
    /// `wrapper` is a shell line that runs in place of git, which it finds in `$SSH_ORIGINAL_COMMAND`.
    fn start(program: &str, wrapper: Option<&str>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).display().to_string();
        for name in ["host", "client", "stranger"] {
            run("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", &path(name)]);
        }
        std::fs::copy(path("client.pub"), path("authorized")).unwrap();
        let git = run("git", &["--exec-path"]);
        let path_variable = std::env::var("PATH").unwrap_or_default();
        let command = wrapper.map(|line| format!("ForceCommand {line}\n")).unwrap_or_default();
        // The privilege separation folder of a packaged sshd.
        let _ = std::fs::create_dir_all("/run/sshd");
        let port = free_port();
        let text = format!(
            "ListenAddress 127.0.0.1\nPort {port}\nHostKey {host}\nPidFile none\nUsePAM no\nStrictModes no\n\
             AuthorizedKeysFile {authorized}\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n\
             AcceptEnv GIT_PROTOCOL\nPermitRootLogin prohibit-password\nLogLevel DEBUG\n\
             SetEnv PATH={git}:{path_variable}\n{command}",
            host = path("host"),
            authorized = path("authorized"),
            git = git.trim(),
        );
        std::fs::write(path("config"), text).unwrap();
        let log = std::fs::File::create(path("log")).unwrap();
        let process = Command::new(program)
            .args(["-D", "-e", "-f", &path("config")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let sshd = Self { dir, port, process };
        let end = Instant::now() + Duration::from_secs(30);
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < end, "sshd did not start: {}", sshd.log());
            std::thread::yield_now();
        }
        sshd
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn url(&self, bench: &Bench) -> String {
        format!("ssh://{}@127.0.0.1:{}{}", user(), self.port, bench.repo.bare().display())
    }

    fn options(&self, bench: &Bench, key: &str) -> GitOptions {
        let mut options = bench.options(&self.url(bench));
        options.origin.auth = Some(GitAuth::SshKeyFile(self.path(key)));
        options
    }

    fn source(&self, bench: &Bench, key: &str) -> GitSource {
        GitSource::open(self.options(bench, key))
    }

    /// Does what the message for an unknown host key says.
    fn accept(&self, bench: &Bench) {
        let known = bench.data.path().join("ssh/known_hosts");
        std::fs::create_dir_all(known.parent().unwrap()).unwrap();
        let key = std::fs::read_to_string(self.path("host.pub")).unwrap();
        std::fs::write(known, format!("[127.0.0.1]:{} {key}", self.port)).unwrap();
    }

    fn fingerprint(&self) -> String {
        let shown = run("ssh-keygen", &["-l", "-f", self.path("host.pub").to_str().unwrap()]);
        shown.split(' ').nth(1).unwrap().to_owned()
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn user() -> String {
    run("id", &["-un"]).trim().to_owned()
}

fn bench() -> Bench {
    Bench::new(Via::File, Repo::with(&[("a", "1")]))
}

#[tokio::test]
async fn a_repository_over_ssh() {
    let Some(program) = program() else { return };
    let (sshd, bench) = (Sshd::start(program, None), bench());
    sshd.accept(&bench);
    let mut source = sshd.source(&bench, "client");
    let seen = source.observe(Ask::Full, None).await;
    let seen = seen.unwrap_or_else(|error| panic!("{error}: {:?}; {}", error.source, sshd.log()));
    assert_eq!(paths(&seen), ["a"]);
    let commit = bench.repo.publish(&[("a", "2")]);
    let now = look_from(&mut source, at(&seen)).await;
    assert_eq!((at(&now), now.rewritten), (commit.as_str(), false));
    assert_eq!(text(&mut source, "a").await, "2");
    assert!(look_from(&mut source, &commit).await.changes.is_none());
    let left =
        std::fs::read_dir(bench.data.path().join("ssh")).unwrap().flatten().map(|file| file.file_name());
    let mut left: Vec<_> = left.map(|name| name.into_string().unwrap()).collect();
    left.sort();
    assert_eq!(left, ["known_hosts", "known_hosts.shipped"], "what ssh said is gone with its attempt");
}

#[tokio::test]
async fn an_unknown_host_key_is_shown_with_the_command_that_accepts_it() {
    let Some(program) = program() else { return };
    let (sshd, bench) = (Sshd::start(program, None), bench());
    let mut options = sshd.options(&bench, "client");
    options.origin.poll_interval = Duration::from_millis(20);
    let mut source = GitSource::open(options);
    let error = fail(&mut source).await;
    let quiet = tokio::time::timeout(Duration::from_millis(200), source.mended()).await;
    assert!(quiet.is_err(), "the empty file that the attempt made is no news");
    assert_eq!((error.reason, error.stalled), ("HostKeyUnknown", true), "{error:?}");
    let fingerprint = format!("ssh-ed25519 {}", sshd.fingerprint());
    assert!(error.message.contains(&fingerprint), "{}", error.message);
    let command = error.message.split('`').nth(1).unwrap();
    assert!(command.starts_with("ssh-keyscan "), "{command}");
    // A person does as the message says.
    run("sh", &["-c", command]);
    tokio::time::timeout(Duration::from_secs(20), source.mended()).await.expect("it is noticed");
    assert_eq!(paths(&look(&mut source).await), ["a"]);
}

#[tokio::test]
async fn a_changed_host_key_is_never_accepted_by_itself() {
    let Some(program) = program() else { return };
    let (sshd, bench) = (Sshd::start(program, None), bench());
    let known = bench.data.path().join("ssh/known_hosts");
    std::fs::create_dir_all(known.parent().unwrap()).unwrap();
    let other = std::fs::read_to_string(sshd.path("stranger.pub")).unwrap();
    let line = format!("[127.0.0.1]:{} {other}", sshd.port);
    std::fs::write(&known, &line).unwrap();
    let mut source = sshd.source(&bench, "client");
    for _ in 0..2 {
        let error = fail(&mut source).await;
        assert_eq!((error.reason, error.stalled), ("HostKeyChanged", true), "{error:?}");
        assert!(error.message.contains(&sshd.fingerprint()), "{}", error.message);
        assert_eq!(std::fs::read_to_string(&known).unwrap(), line);
    }
    let error = fail(&mut source).await;
    for command in error.message.split('`').filter(|part| part.starts_with("ssh-key")) {
        run("sh", &["-c", command]);
    }
    assert_eq!(paths(&look(&mut source).await), ["a"]);
}

#[tokio::test]
async fn a_key_that_the_server_does_not_know_stalls_at_the_third_refusal() {
    let Some(program) = program() else { return };
    let (sshd, bench) = (Sshd::start(program, None), bench());
    sshd.accept(&bench);
    let mut source = sshd.source(&bench, "stranger");
    for stalled in [false, false, true] {
        let error = fail(&mut source).await;
        assert_eq!((error.reason, error.stalled), ("AuthenticationFailed", stalled), "{error:?}");
    }
    // The key is replaced; it is read anew.
    for (from, to) in [("client", "stranger"), ("client.pub", "stranger.pub")] {
        std::fs::copy(sshd.path(from), sshd.path(to)).unwrap();
    }
    assert_eq!(paths(&look(&mut source).await), ["a"]);
    let error = fail(&mut sshd.source(&bench, "absent")).await;
    assert_eq!((error.reason, error.stalled), ("CredentialMissing", true));
    assert!(error.message.contains("absent"), "{}", error.message);
}

#[tokio::test]
async fn a_repository_that_is_not_there_over_ssh() {
    let Some(program) = program() else { return };
    let (sshd, bench) = (Sshd::start(program, None), bench());
    sshd.accept(&bench);
    let mut options = sshd.options(&bench, "client");
    options.origin.url.push_str("-not");
    let error = fail(&mut GitSource::open(options)).await;
    assert_eq!((error.reason, error.stalled), ("FetchFailed", false));
    let why = error.source.unwrap().to_string();
    assert!(why.contains("does not appear to be a git repository"), "{why}");
}

#[tokio::test]
async fn nobody_listens_for_ssh() {
    let bench = bench();
    let url = format!("ssh://git@127.0.0.1:{}/x", free_port());
    let error = fail(&mut GitSource::open(bench.options(&url))).await;
    assert_eq!((error.reason, error.stalled), ("RemoteUnreachable", false), "{error:?}");
    assert!(error.message.contains(&url) && error.source.is_some());
}

#[tokio::test]
async fn a_server_that_hangs_before_the_handshake_of_ssh() {
    let bench = bench();
    // The system takes connections that nobody ever answers.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ssh://git@127.0.0.1:{}/x", listener.local_addr().unwrap().port());
    let limit = Duration::from_millis(400);
    let mut source = bench.impatient(&url, limit);
    // More often than threads may hang at a time: the process of each that is abandoned is ended.
    for _ in 0..5 {
        let begun = Instant::now();
        let error = fail(&mut source).await;
        assert_eq!((error.reason, error.stalled), ("FetchTimedOut", false), "{error:?}");
        assert!(begun.elapsed() < Duration::from_secs(10));
        ended(&bench).await;
    }
}

#[tokio::test]
async fn a_server_whose_git_hangs_over_ssh() {
    let Some(program) = program() else { return };
    let (sshd, bench) = (Sshd::start(program, Some("sleep 600")), bench());
    sshd.accept(&bench);
    let mut options = sshd.options(&bench, "client");
    (options.fetch_timeout, options.clone_timeout) = (Duration::from_secs(2), Duration::from_secs(2));
    let mut source = GitSource::open(options);
    for _ in 0..5 {
        let error = fail(&mut source).await;
        assert_eq!((error.reason, error.stalled), ("FetchTimedOut", false), "{error:?}");
        ended(&bench).await;
    }
}

/// Waits until no attempt is under way: each has a file as long as its process lives.
async fn ended(bench: &Bench) {
    let dir = bench.data.path().join("ssh");
    let end = Instant::now() + Duration::from_secs(30);
    let is_over = || {
        !std::fs::read_dir(&dir)
            .unwrap()
            .flatten()
            .any(|file| file.file_name().to_string_lossy().starts_with("attempt-"))
    };
    while !is_over() {
        assert!(Instant::now() < end, "an abandoned attempt goes on");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[test]
fn the_shipped_keys_are_those_that_github_publishes() {
    let Some(_) = program() else { return };
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/src/observe/git/known_hosts");
    let shown = run("ssh-keygen", &["-l", "-f", file]);
    let fingerprints: Vec<_> = shown.lines().map(|line| line.split(' ').nth(1).unwrap()).collect();
    let published = [
        "SHA256:+DiY3wvvV6TuJJhbpZisF/zLDA0zPMSvHdkr4UvCOqU",
        "SHA256:p2QAMXNIC1TJYWeIOttrVc98/R1BUFWu3/LiyKgUfQM",
        "SHA256:uNiVztksCsDhcc0u9e8BujQXVUpKZIDTMczCvj3tD2s",
    ];
    assert_eq!(fingerprints, published);
}
