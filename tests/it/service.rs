//! The real binary for tests: `kindling serve` in an environment and a directory of its own.
//!
//! It is started, asked over HTTP, told to end or killed, and started again over the same data directory. What it
//! wrote on stderr is printed when the test fails; whatever it left running is ended with the test.

pub mod client;
pub mod processes;

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::time::Instant;

use self::client::Client;

/// Longest time that a test waits for a state of the service. Far above what any of them takes: a machine that is
/// busy with other tests is no failure.
pub const BOUND: Duration = Duration::from_secs(60);
/// Time between two looks at a state.
const LOOK: Duration = Duration::from_millis(5);
/// Bytes of the log that a failed test prints, from its end.
const SHOWN: usize = 40_000;

/// One service: its directory holds `kindling.yaml`, the data directory and whatever the test puts there.
pub struct Service {
    root: TempDir,
    arguments: Vec<String>,
    wrapper: Vec<String>,
    process: Option<Child>,
}

impl Service {
    /// A service that is not started, with these lines in its configuration. Paths in them are relative to
    /// [`Service::root`].
    pub fn new(configuration: &str) -> Self {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("home")).unwrap();
        let service = Self { root, arguments: Vec::new(), wrapper: Vec::new(), process: None };
        service.configure(configuration);
        service
    }

    /// Writes the configuration again; the port is any that is free.
    pub fn configure(&self, configuration: &str) {
        let text = format!("server: {{listen: \"127.0.0.1:0\"}}\n{configuration}");
        std::fs::write(self.configuration(), text).unwrap();
    }

    /// More arguments of `serve`.
    pub fn with_arguments(mut self, arguments: &[&str]) -> Self {
        self.arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        self
    }

    /// Starts the binary by this program, which must become it (`exec`).
    pub fn through(mut self, program: &[&str]) -> Self {
        self.wrapper = program.iter().map(|part| (*part).to_owned()).collect();
        self
    }

    /// The directory that everything of it lies in.
    pub fn root(&self) -> &Path {
        self.root.path()
    }

    /// Where it keeps what it knows.
    pub fn data_dir(&self) -> PathBuf {
        self.root().join(".kindling")
    }

    /// Its configuration file.
    pub fn configuration(&self) -> PathBuf {
        self.root().join("kindling.yaml")
    }

    /// Writes a file below the root, and the directories that lead to it.
    pub fn write(&self, path: &str, text: impl AsRef<[u8]>) {
        let path = self.root().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// Writes a manual shell task into the directory `dir` below the root.
    pub fn task(&self, dir: &str, script: &str) {
        let name = dir.rsplit('/').next().unwrap();
        self.write(&format!("{dir}/task.sh"), script);
        self.write(&format!("{dir}/task.yaml"), manifest(name, "manual: true"));
    }

    /// The binary with these arguments, in the service's environment; it is not started.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut words = self.wrapper.iter().map(String::as_str).chain([env!("CARGO_BIN_EXE_kindling")]);
        let mut command = Command::new(words.next().unwrap_or_default());
        command.args(words).args(arguments).current_dir(self.root());
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("HOME", self.root().join("home")).env("TZ", "UTC");
        command.stdin(Stdio::null());
        command
    }

    /// Runs the binary with these arguments to its end.
    pub async fn attempt(&self, arguments: &[&str]) -> Output {
        let mut command = tokio::process::Command::from(self.command(arguments));
        let output = command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true).output();
        tokio::time::timeout(BOUND, output).await.expect("an end within the bound").unwrap()
    }

    /// Tries to start a service that must refuse to: gives back its exit code and what it said.
    pub async fn refused(&self) -> (Option<i32>, String) {
        let output = self.attempt(&["serve", "--config", self.configuration().to_str().unwrap()]).await;
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    }

    /// Starts the service, and waits for nothing.
    pub fn spawn(&mut self) {
        assert!(self.process.is_none(), "it runs already");
        let log = OpenOptions::new().create(true).append(true).open(self.log_file()).unwrap();
        let configuration = self.configuration();
        let mut command = self.command(&["serve", "--config", configuration.to_str().unwrap()]);
        command.args(&self.arguments).stdout(Stdio::null()).stderr(log);
        self.process = Some(command.spawn().unwrap());
    }

    /// Starts the service and waits until it is ready.
    pub async fn start(&mut self) -> Client {
        self.spawn();
        self.ready().await
    }

    /// Waits until it listens.
    pub async fn listening(&mut self) -> Client {
        until("it listens", async || {
            self.assert_alive();
            self.address()
        })
        .await;
        self.client()
    }

    /// Waits until it says that it is ready.
    pub async fn ready(&mut self) -> Client {
        let client = self.listening().await;
        until("it is ready", async || {
            self.assert_alive();
            client.call("GET", "/readyz", None).await.is_ok_and(|answer| answer.status == 200).then_some(())
        })
        .await;
        client
    }

    /// A client of the process that runs.
    pub fn client(&self) -> Client {
        let address = self.address().expect("it listens");
        let token = std::fs::read_to_string(self.data_dir().join("token")).unwrap();
        Client::new(&address, token.trim())
    }

    /// The address, if it was written by the process that runs: one that was killed leaves its own behind.
    fn address(&self) -> Option<String> {
        let read = |name| std::fs::read_to_string(self.data_dir().join(name)).unwrap_or_default();
        if !self.is_locked() {
            return None;
        }
        read("address").strip_suffix('\n').map(str::to_owned)
    }

    /// Whether the process that runs holds the data directory.
    pub fn is_locked(&self) -> bool {
        std::fs::read_to_string(self.data_dir().join("lock"))
            .is_ok_and(|text| text.trim() == self.pid().to_string())
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.as_ref().expect("it runs").id()
    }

    /// Kills it with SIGKILL. What it had started lives on.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        let mut process = self.process.take().expect("it runs");
        process.wait().unwrap();
    }

    /// Asks it to end with SIGTERM, and waits for that.
    pub async fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.ended().await
    }

    /// Waits until it ends.
    pub async fn ended(&mut self) -> ExitStatus {
        let process = self.process.as_mut().expect("it runs");
        let status = until("it ends", async || process.try_wait().unwrap()).await;
        self.process = None;
        status
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = self.process.as_ref().and_then(|process| i32::try_from(process.id()).ok());
        kill_process(pid.and_then(Pid::from_raw).expect("it runs"), signal).unwrap();
    }

    fn assert_alive(&mut self) {
        let status = self.process.as_mut().expect("it was started").try_wait().unwrap();
        assert!(status.is_none(), "it ended: {status:?}");
    }

    /// All that it wrote on stderr, whenever it ran.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.log_file()).unwrap_or_default()).into_owned()
    }

    fn log_file(&self) -> PathBuf {
        self.root().join("home/stderr.log")
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
        if let Ok(mark) = std::fs::read_to_string(self.data_dir().join("mark")) {
            processes::end_all("KINDLING_MARK", mark.trim());
        }
        if std::thread::panicking() {
            let log = self.log();
            let from = log.len().saturating_sub(SHOWN);
            let from = (from..log.len()).find(|at| log.is_char_boundary(*at)).unwrap_or(0);
            eprintln!("--- stderr of the service:\n{}---", &log[from..]);
        }
    }
}

/// A shell task's manifest.
pub fn manifest(name: &str, trigger: &str) -> String {
    format!("apiVersion: kindling/v1\nkind: Task\nname: {name}\nruntime: shell\ntrigger: {{{trigger}}}\n")
}

/// Waits until `look` gives something.
pub async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + BOUND;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < deadline, "not within {BOUND:?}: {what}");
        tokio::time::sleep(LOOK).await;
    }
}
