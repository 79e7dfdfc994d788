//! The small programs that run scripts with a `main`, and where an interpreter finds them.
//!
//! They stand in files, and not in an argument: `ps` stays readable, and processes that a script forks in its turn
//! are started with the same arguments.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

const PYTHON: &str = include_str!("shim/shim.py");
const PYTHON_MODULE: &str = include_str!("shim/kindling_shim.py");
const JAVASCRIPT: &str = include_str!("shim/shim.cjs");
const RUBY: &str = include_str!("shim/shim.rb");

/// The folder that holds the shims.
#[derive(Clone, Debug)]
pub(crate) struct Shims {
    dir: PathBuf,
}

impl Shims {
    /// Shims in `dir`, which is made when it is needed.
    pub(crate) fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// The shim for Python.
    ///
    /// # Errors
    /// It can be neither read nor written.
    pub(crate) fn python(&self) -> io::Result<PathBuf> {
        self.file("kindling_shim.py", PYTHON_MODULE)?;
        self.file("python.py", PYTHON)
    }

    /// The shim for Node.js, Bun and Deno.
    ///
    /// # Errors
    /// It can be neither read nor written.
    pub(crate) fn javascript(&self) -> io::Result<PathBuf> {
        self.file("javascript.cjs", JAVASCRIPT)
    }

    /// The shim for Ruby.
    ///
    /// # Errors
    /// It can be neither read nor written.
    pub(crate) fn ruby(&self) -> io::Result<PathBuf> {
        self.file("ruby.rb", RUBY)
    }

    fn file(&self, name: &str, text: &str) -> io::Result<PathBuf> {
        let path = self.dir.join(name);
        // Read each time: it costs microseconds, and a file that somebody changed never runs.
        if fs::read(&path).is_ok_and(|found| found == text.as_bytes()) {
            return Ok(path);
        }
        fs::create_dir_all(&self.dir)?;
        self.write(&path, text).map(|()| path)
    }

    fn write(&self, path: &Path, text: &str) -> io::Result<()> {
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(io::Error::other)?;
        let temporary = self.dir.join(format!(".tmp-{:016x}", u64::from_be_bytes(random)));
        let written = fs::File::create_new(&temporary)
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .and_then(|()| fs::rename(&temporary, path));
        if written.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        written
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_shim_is_written_again() {
        let dir = tempfile::tempdir().unwrap();
        let shims = Shims::new(dir.path().join("shim"));
        let path = shims.python().unwrap();
        fs::write(&path, "print('somebody else')").unwrap();
        assert_eq!(fs::read_to_string(shims.python().unwrap()).unwrap(), PYTHON);
        assert_eq!(fs::read_to_string(shims.javascript().unwrap()).unwrap(), JAVASCRIPT);
        assert_eq!(fs::read_dir(dir.path().join("shim")).unwrap().count(), 3);
    }
}
