//! Real git repositories for tests: a work tree and the bare repository that it pushes to.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// A work tree with `origin`, both on branch `main`.
pub struct Repo {
    dir: TempDir,
}

/// `git` that sees no configuration but its own repository's, with a fixed author.
pub fn git(dir: &Path) -> Command {
    let mut git = Command::new("git");
    git.current_dir(dir).env_clear();
    git.env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("HOME", dir).env("LC_ALL", "C");
    git.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
    for role in ["AUTHOR", "COMMITTER"] {
        git.env(format!("GIT_{role}_NAME"), "Test").env(format!("GIT_{role}_EMAIL"), "test@example.org");
    }
    git
}

/// Runs `git` and gives back its standard output, trimmed.
pub fn run(dir: &Path, arguments: &[&str], input: &[u8]) -> String {
    let mut child = git(dir)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("git must be installed");
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "git {arguments:?}: {error}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

impl Repo {
    /// Both repositories, without a commit.
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        run(dir.path(), &["init", "--quiet", "--bare", "-b", "main", "remote.git"], b"");
        run(dir.path(), &["init", "--quiet", "-b", "main", "work"], b"");
        let repo = Self { dir };
        repo.git(&["remote", "add", "origin", repo.bare().to_str().unwrap()]);
        // Smart HTTP takes a push only where that is allowed.
        repo.bare_git(&["config", "http.receivepack", "true"]);
        repo
    }

    /// Like [`Repo::new`], with `files` committed and pushed.
    pub fn with(files: &[(&str, &str)]) -> Self {
        let repo = Self::new();
        repo.publish(files);
        repo
    }

    /// The folder that holds both.
    pub fn root(&self) -> &Path {
        self.dir.path()
    }

    /// The bare repository.
    pub fn bare(&self) -> PathBuf {
        self.root().join("remote.git")
    }

    /// The work tree.
    pub fn work(&self) -> PathBuf {
        self.root().join("work")
    }

    /// Runs `git` in the work tree.
    pub fn git(&self, arguments: &[&str]) -> String {
        run(&self.work(), arguments, b"")
    }

    /// Runs `git` in the bare repository.
    pub fn bare_git(&self, arguments: &[&str]) -> String {
        run(&self.bare(), arguments, b"")
    }

    /// Writes a file of the work tree.
    pub fn write(&self, path: &str, text: &str) {
        let path = self.work().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// Commits the whole work tree; gives back the commit.
    pub fn commit(&self, message: &str) -> String {
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--allow-empty", "-m", message]);
        self.git(&["rev-parse", "HEAD"])
    }

    /// Pushes the current branch.
    pub fn push(&self) {
        self.git(&["push", "--quiet", "origin", "HEAD"]);
    }

    /// Pushes the current branch over whatever is there.
    pub fn force_push(&self) {
        self.git(&["push", "--quiet", "--force", "origin", "HEAD"]);
    }

    /// Writes, commits and pushes; gives back the commit.
    pub fn publish(&self, files: &[(&str, &str)]) -> String {
        for (path, text) in files {
            self.write(path, text);
        }
        let commit = self.commit("change");
        self.push();
        commit
    }

    /// Stores a blob in the bare repository.
    pub fn blob(&self, content: &[u8]) -> String {
        run(&self.bare(), &["hash-object", "-w", "--stdin"], content)
    }

    /// Stores a tree in the bare repository byte for byte, without git's checks. Each entry is a mode, a name and
    /// an object.
    pub fn tree(&self, entries: &[(&str, &[u8], &str)]) -> String {
        let mut raw = Vec::new();
        for (mode, name, object) in entries {
            raw.extend_from_slice(format!("{mode} ").as_bytes());
            raw.extend_from_slice(name);
            raw.push(0);
            let digits: Vec<char> = object.chars().collect();
            raw.extend(digits.chunks(2).map(|pair| {
                let pair: String = pair.iter().collect();
                u8::from_str_radix(&pair, 16).unwrap()
            }));
        }
        run(&self.bare(), &["hash-object", "-w", "-t", "tree", "--literally", "--stdin"], &raw)
    }

    /// Commits a tree of the bare repository onto its branch `main`.
    pub fn commit_tree(&self, tree: &str) -> String {
        let commit = self.bare_git(&["commit-tree", tree, "-m", "odd"]);
        self.bare_git(&["update-ref", "refs/heads/main", &commit]);
        commit
    }
}
