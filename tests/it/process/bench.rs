//! A target over a temporary directory, and runs on it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use kindling::act::folder::{BlobSource, Folders};
use kindling::act::tasks::TaskTarget;
use kindling::act::{ActError, Exit, KvCall, Launch, Started, Target};
use kindling::model::hash::{ContentHash, UnitHash};
use kindling::model::id::{RunId, UnitId};
use kindling::model::kv::{KvAnswer, KvRequest};
use kindling::model::path::RelPath;
use kindling::model::run::Stream;
use kindling::model::spec::{ParamValue, RestartPolicy, Runtime, TaskSpec, Trigger};
use kindling::model::unit::{FileMode, UnitFile, Version};
use kindling::plan::hash::content;

/// Nothing that a test waits for takes longer, however busy the machine is.
pub(super) const BOUND: Duration = Duration::from_secs(60);

/// The time between TERM and KILL that tests use where it has to pass.
pub(super) const SHORT_GRACE: Duration = Duration::from_millis(300);

struct Blobs(PathBuf);

impl BlobSource for Blobs {
    fn open(&self, hash: &ContentHash) -> io::Result<fs::File> {
        fs::File::open(self.0.join(hash.to_string()))
    }
}

/// A temporary data directory and a target on it.
pub(super) struct Bench {
    pub(super) dir: tempfile::TempDir,
    pub(super) target: TaskTarget,
    pub(super) mark: String,
}

impl Bench {
    pub(super) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("blobs")).unwrap();
        let folders =
            Folders::new(dir.path().join("data/versions"), Arc::new(Blobs(dir.path().join("blobs"))));
        let mark = format!("test-{:016x}", random());
        Self { target: TaskTarget::new(folders, &mark), dir, mark }
    }

    pub(super) fn with_short_grace() -> Self {
        let bench = Self::new();
        Self { target: bench.target.clone().with_grace(SHORT_GRACE), ..bench }
    }

    /// A shell script.
    pub(super) fn shell(&self, script: &str) -> Job<'_> {
        self.job(Runtime::Shell, "task.sh").file("task.sh", script)
    }

    pub(super) fn python(&self, script: &str) -> Job<'_> {
        self.job(Runtime::Python, "task.py").file("task.py", script)
    }

    pub(super) fn node(&self, entry: &str, script: &str) -> Job<'_> {
        self.job(Runtime::Node, entry).file(entry, script)
    }

    pub(super) fn script(&self, runtime: Runtime, entry: &str, script: &str) -> Job<'_> {
        self.job(runtime, entry).file(entry, script)
    }

    pub(super) fn command(&self, argv: &[&str]) -> Job<'_> {
        let mut job = self.job(Runtime::Command(argv.iter().map(ToString::to_string).collect()), "");
        job.spec.entry = None;
        job
    }

    fn job(&self, runtime: Runtime, entry: &str) -> Job<'_> {
        let spec = TaskSpec {
            name: "test".into(),
            description: String::new(),
            runtime,
            entry: Some(entry.into()),
            trigger: Trigger::Manual,
            params: BTreeMap::new(),
            env: BTreeMap::new(),
            timeout: Some(BOUND),
            retries: kindling::model::spec::Retries::default(),
            concurrency: kindling::model::spec::Concurrency::of(&Trigger::Manual),
            exclude: Vec::new(),
            permissions: kindling::model::spec::Permissions::default(),
        };
        Job { bench: self, spec, files: Vec::new(), params: BTreeMap::new(), input: "null".into() }
    }
}

pub(super) fn random() -> u64 {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).unwrap();
    u64::from_be_bytes(bytes)
}

/// One task, and a run of it.
pub(super) struct Job<'a> {
    bench: &'a Bench,
    pub(super) spec: TaskSpec,
    files: Vec<(String, FileMode, Vec<u8>)>,
    pub(super) params: BTreeMap<String, ParamValue>,
    input: String,
}

impl Job<'_> {
    pub(super) fn file(self, path: &str, text: &str) -> Self {
        self.file_of(path, FileMode::Regular, text)
    }

    pub(super) fn file_of(mut self, path: &str, mode: FileMode, text: &str) -> Self {
        self.files.push((path.into(), mode, text.into()));
        self
    }

    pub(super) fn input(mut self, json: &str) -> Self {
        self.input = json.into();
        self
    }

    pub(super) fn param(mut self, name: &str, value: ParamValue) -> Self {
        self.params.insert(name.into(), value);
        self
    }

    pub(super) fn env(mut self, name: &str, value: &str) -> Self {
        self.spec.env.insert(name.into(), value.into());
        self
    }

    pub(super) fn timeout(mut self, timeout: Duration) -> Self {
        self.spec.timeout = Some(timeout);
        self
    }

    pub(super) fn daemon(mut self) -> Self {
        self.spec.trigger = Trigger::Daemon(RestartPolicy::Always);
        self.spec.timeout = None;
        self
    }

    pub(super) fn launch(&self) -> Launch {
        static RUNS: AtomicU32 = AtomicU32::new(0);
        let blobs = self.bench.dir.path().join("blobs");
        let store = |(path, mode, bytes): &(String, FileMode, Vec<u8>)| {
            let hash = content(bytes);
            fs::write(blobs.join(hash.to_string()), bytes).unwrap();
            UnitFile { path: RelPath::parse(path).unwrap(), mode: *mode, hash, size: bytes.len() as u64 }
        };
        let mut files: Vec<UnitFile> = self.files.iter().map(store).collect();
        files.sort_by(|a, b| a.path.cmp(&b.path));
        let version = Version {
            unit: UnitId::parse("team/jobs/digest").unwrap(),
            hash: UnitHash::new(*content(format!("{:?} {files:?}", self.spec).as_bytes()).bytes()),
            spec: Arc::new(self.spec.clone()),
            files: files.into(),
            revision: None,
        };
        Launch {
            // Unlike any other run's on this machine: processes are found by it.
            run: RunId::recorded(&format!("{:016x}{}", random(), RUNS.fetch_add(1, Ordering::Relaxed))),
            version: Arc::new(version),
            params: self.params.clone(),
            input: self.input.clone(),
        }
    }

    pub(super) async fn start(&self) -> Result<Started, ActError> {
        bound(self.bench.target.start(self.launch())).await
    }

    /// Runs it to its end.
    pub(super) async fn run(&self) -> Done {
        finish(self.start().await.unwrap()).await
    }
}

/// A run that is over.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) exit: Exit,
    pub(super) log: Vec<(Stream, String)>,
    /// What was kept.
    pub(super) kept: BTreeMap<String, String>,
}

impl Done {
    pub(super) fn of(&self, stream: Stream) -> Vec<&str> {
        self.log.iter().filter(|(of, _)| *of == stream).map(|(_, line)| line.as_str()).collect()
    }

    /// The output, which must be there.
    pub(super) fn output(&self) -> serde_json::Value {
        let text = self.exit.output.as_deref();
        serde_json::from_str(text.unwrap_or_else(|| panic!("no output: {self:?}"))).unwrap()
    }

    /// Asserts that it ended well, and gives the output.
    pub(super) fn well(&self) -> serde_json::Value {
        assert_eq!((self.exit.code, &self.exit.error), (Some(0), &None), "{self:?}");
        self.output()
    }
}

/// Takes every line of a run and its end; keeps its values as long as it runs.
pub(super) async fn finish(mut started: Started) -> Done {
    bound(async {
        let (mut log, mut kept) = (Vec::new(), BTreeMap::new());
        loop {
            tokio::select! {
                Some(KvCall { request, answer }) = started.kv.recv() => {
                    // The script may be gone.
                    let _ = answer.send(keep(&mut kept, request));
                }
                line = started.lines.recv() => match line {
                    Some(line) => log.push(line),
                    None => break,
                },
            }
        }
        Done { log, exit: started.ended.await.unwrap(), kept }
    })
    .await
}

/// Keeps values as kindling does, but for its limits: a key `full` finds no room.
fn keep(kept: &mut BTreeMap<String, String>, request: KvRequest) -> Result<KvAnswer, String> {
    Ok(match request {
        KvRequest::Get(key) => KvAnswer::Value(kept.get(key.as_str()).cloned()),
        KvRequest::Set(key, _) if key.as_str() == "full" => return Err("kv: `full` finds no room".into()),
        KvRequest::Set(key, value) => {
            kept.insert(key.as_str().to_owned(), value);
            KvAnswer::Kept
        }
        KvRequest::Delete(key) => KvAnswer::Deleted(kept.remove(key.as_str()).is_some()),
        KvRequest::List(prefix) => {
            KvAnswer::Keys(kept.keys().filter(|key| key.starts_with(&prefix)).cloned().collect())
        }
    })
}

/// The next line of a run's log.
pub(super) async fn line(started: &mut Started) -> String {
    bound(started.lines.recv()).await.expect("the log has ended").1
}

pub(super) async fn bound<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(BOUND, future).await.expect("it took too long")
}

/// Whether the process is there and does something; one that has ended and was not waited for does not.
pub(super) fn is_alive(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

/// Waits until the process is gone.
pub(super) async fn gone(pid: i32) {
    bound(async {
        while is_alive(pid) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// Whether `program` can be had; says so where a test is passed over. With `KINDLING_REQUIRE_TOOLS` set, as in CI, a gap
/// is a failure.
pub(super) fn has(program: &str) -> bool {
    let found =
        std::process::Command::new(program).arg("--version").output().is_ok_and(|out| out.status.success());
    if !found {
        assert!(std::env::var_os("KINDLING_REQUIRE_TOOLS").is_none(), "{program} is not installed");
        println!("passed over: {program} is not installed");
    }
    found
}
