//! A place of its own for one test: a directory, an empty environment, and the real binary.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Ends of a command.
pub struct Ended {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Ended {
    /// All of it as one text.
    pub fn shown(&self) -> String {
        let mut text = format!("exit {}\n", self.code);
        for (name, stream) in [("out", &self.out), ("err", &self.err)] {
            for line in stream.lines() {
                text.push_str(&format!("{name}: {line}\n").replace(": \n", ":\n"));
            }
        }
        text
    }

    /// stderr as the one object that it must be.
    pub fn error(&self) -> serde_json::Value {
        serde_json::from_str(&self.err).unwrap_or_else(|error| panic!("{error}: {}", self.err))
    }
}

pub struct Place {
    root: tempfile::TempDir,
    env: Vec<(String, String)>,
    here: PathBuf,
}

impl Place {
    pub fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let here = root.path().canonicalize().unwrap().join("work");
        std::fs::create_dir(&here).unwrap();
        std::fs::create_dir(root.path().join("home")).unwrap();
        Self { root, env: Vec::new(), here }
    }

    pub fn set(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// The working directory.
    pub fn here(&self) -> &Path {
        &self.here
    }

    pub fn write(&self, path: &str, text: &str) -> &Self {
        let path = self.here.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
        self
    }

    pub fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.here.join(path)).unwrap()
    }

    /// A task that is whole.
    pub fn task(&self, dir: &str) -> &Self {
        let manifest =
            "apiVersion: kindling/v1\nkind: Task\nname: x\nruntime: shell\ntrigger: {manual: true}\n";
        self.write(&format!("{dir}/task.yaml"), manifest).write(&format!("{dir}/task.sh"), "echo hi\n")
    }

    pub fn command(&self, args: &[impl AsRef<OsStr>]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kindling"));
        let home = self.root.path().join("home");
        command
            .args(args)
            .current_dir(&self.here)
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("HOME", &home)
            .env("XDG_CONFIG_HOME", home.join("config"))
            .env("COLUMNS", "100")
            .env("TZ", "UTC")
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null());
        command
    }

    pub fn run(&self, args: &[impl AsRef<OsStr>]) -> Ended {
        self.ended(&self.command(args).output().unwrap())
    }

    /// What came out, with the place's own path as `[ROOT]`.
    pub fn ended(&self, output: &Output) -> Ended {
        let root = self.here.parent().unwrap().display().to_string();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap().replace(&root, "[ROOT]");
        Ended {
            code: output.status.code().expect("no signal ended it"),
            out: text(&output.stdout),
            err: text(&output.stderr),
        }
    }
}
