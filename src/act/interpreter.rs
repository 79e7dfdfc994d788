//! Finds the programs that run tasks. Starts none of them.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::Access;

use super::environment::search_path;
use crate::model::problem::{Problem, Reason};
use crate::model::spec::{Runtime, TaskSpec};
use crate::support::text::printable;

/// After this long the whole of `PATH` is searched again; a program that was found is looked at each time.
const SEARCH_AGAIN: Duration = Duration::from_secs(1);

/// Finds programs, and remembers where they were. Clones share what they remember.
#[derive(Clone, Debug, Default)]
pub struct Interpreters {
    seen: Arc<Mutex<HashMap<(String, OsString), Look>>>,
    set: Arc<Paths>,
}

/// Programs of runtimes by the runtime's word, in place of those on `PATH`; absolute.
pub type Paths = BTreeMap<String, PathBuf>;

/// What a search gave.
#[derive(Clone, Debug)]
struct Look {
    found: Option<PathBuf>,
    at: Instant,
}

impl Interpreters {
    /// Takes these programs in place of those on `PATH`.
    #[must_use]
    pub fn new(set: Paths) -> Self {
        Self { seen: Arc::default(), set: Arc::new(set) }
    }

    fn set(&self, runtime: &Runtime) -> Option<&PathBuf> {
        self.set.get(runtime.as_str()).filter(|_| !matches!(runtime, Runtime::Command(_)))
    }

    /// What keeps this machine from running `spec`: the program is missing. A command that is a file of the unit
    /// (its name has a slash) is found only in the version's folder, so it is never a problem here.
    #[must_use]
    pub fn check(&self, spec: &TaskSpec) -> Option<Problem> {
        if let Some(path) = self.set(&spec.runtime) {
            return (!is_program(path)).then(|| problem_of_set(&spec.runtime, path));
        }
        let program = spec.runtime.interpreter();
        let missing = match Place::of(program) {
            Place::OfTheUnit => false,
            Place::Absolute => !is_program(Path::new(program)),
            Place::OnPath => self.search(program, search_path(spec)).is_none(),
        };
        missing.then(|| problem(spec))
    }

    /// The program of `spec`, as an absolute path; `folder` is the version's.
    ///
    /// # Errors
    /// There is none: what to do about it.
    pub fn find(&self, spec: &TaskSpec, folder: &Path) -> Result<PathBuf, Problem> {
        if let Some(path) = self.set(&spec.runtime) {
            return Ok(path.clone());
        }
        let program = spec.runtime.interpreter();
        let found = match Place::of(program) {
            // Not there or not executable: the system's own error says which when it is started.
            Place::OfTheUnit | Place::Absolute => Some(folder.join(program)),
            Place::OnPath => self.search(program, search_path(spec)),
        };
        found.ok_or_else(|| problem(spec))
    }

    fn search(&self, program: &str, path: OsString) -> Option<PathBuf> {
        let key = (program.to_owned(), path);
        let now = Instant::now();
        let known = self.seen.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        if let Some(look) = known.filter(|look| now.duration_since(look.at) < SEARCH_AGAIN) {
            match look.found {
                Some(found) if is_program(&found) => return Some(found),
                None => return None,
                Some(_) => {}
            }
        }
        let found = search_in(program, &key.1);
        let look = Look { found: found.clone(), at: now };
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).insert(key, look);
        found
    }
}

/// Where a program is looked for.
enum Place {
    /// Its name has no slash.
    OnPath,
    /// Relative to the version's folder.
    OfTheUnit,
    Absolute,
}

impl Place {
    fn of(program: &str) -> Self {
        match program {
            _ if program.starts_with('/') => Self::Absolute,
            _ if program.contains('/') => Self::OfTheUnit,
            _ => Self::OnPath,
        }
    }
}

/// Relative parts of a `PATH` are left out: they would mean the unit's folder.
fn search_in(program: &str, path: &OsStr) -> Option<PathBuf> {
    if program.is_empty() {
        return None;
    }
    let places = std::env::split_paths(path).filter(|dir| dir.is_absolute());
    places.map(|dir| dir.join(program)).find(|file| is_program(file))
}

fn is_program(file: &Path) -> bool {
    file.is_file() && rustix::fs::access(file, Access::EXEC_OK).is_ok()
}

/// What the system would say to a start of this program, as far as it can be told without one.
///
/// # Errors
/// It is not there or not executable, or the program is not that its first line names.
pub(super) fn startable(program: &Path) -> io::Result<()> {
    let missing = |why| Err(io::Error::new(io::ErrorKind::NotFound, why));
    if !is_program(program) {
        return missing("it is not there or not executable");
    }
    match named_in_first_line(program)? {
        Some(named) if named.is_absolute() && !is_program(&named) => {
            missing("the program that its first line names is not there or not executable")
        }
        _ => Ok(()),
    }
}

/// The program in the `#!` line of a script.
fn named_in_first_line(script: &Path) -> io::Result<Option<PathBuf>> {
    // As much as the kernel reads.
    let mut start = Vec::new();
    match File::open(script) {
        Ok(file) => drop(file.take(256).read_to_end(&mut start)?),
        // One may be allowed to execute what one may not read.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(None),
        Err(error) => return Err(error),
    }
    let line = start.strip_prefix(b"#!").and_then(|rest| rest.split(|byte| *byte == b'\n').next());
    let name = line
        .and_then(|line| line.trim_ascii_start().split(|byte| matches!(byte, b' ' | b'\t' | b'\0')).next());
    Ok(name.filter(|name| !name.is_empty()).map(|name| PathBuf::from(OsStr::from_bytes(name))))
}

fn problem_of_set(runtime: &Runtime, path: &Path) -> Problem {
    let (word, path) = (runtime.as_str(), printable(&path.display().to_string()).into_owned());
    let message = format!("`runtimes.{word}` names {path}, which is not there or not executable");
    Problem::new(Reason::MissingInterpreter, message)
}

fn problem(spec: &TaskSpec) -> Problem {
    let program = spec.runtime.interpreter();
    let message = match &spec.runtime {
        Runtime::Shell => "`sh` is not on PATH: install a POSIX shell".to_owned(),
        Runtime::Python => "`python3` is not on PATH: install Python 3.8 or later (`apt install python3`, \
             `dnf install python3`, `apk add python3`)"
            .to_owned(),
        Runtime::Node => "`node` is not on PATH: install Node.js 18 or later (https://nodejs.org, \
             `apt install nodejs`, `apk add nodejs`)"
            .to_owned(),
        Runtime::Deno => "`deno` is not on PATH: install Deno 2 or later (https://deno.com, `npm install -g \
             deno`), or name it with `runtimes.deno` in kindling.yaml"
            .to_owned(),
        Runtime::Bun => "`bun` is not on PATH: install Bun 1.1 or later (https://bun.com, `npm install -g \
             bun`), or name it with `runtimes.bun` in kindling.yaml"
            .to_owned(),
        Runtime::Ruby => {
            "`ruby` is not on PATH: install Ruby 3.0 or later (`apt install ruby`, `dnf install \
             ruby`, `apk add ruby`)"
                .to_owned()
        }
        Runtime::Command(_) if program.is_empty() => "the command is empty: name a program".to_owned(),
        Runtime::Command(_) if program.starts_with('/') => {
            format!("`{program}` is not there or not executable: install it")
        }
        Runtime::Command(_) => format!(
            "`{program}` is not on PATH: install it, or write `./{program}` if it is a file of the unit"
        ),
    };
    Problem::new(Reason::MissingInterpreter, message)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::act::tasks::tests::version;

    fn spec(argv: &[&str], path: &Path) -> TaskSpec {
        let mut spec = (*version("team/a", 1).spec).clone();
        spec.runtime = Runtime::Command(argv.iter().map(|part| (*part).to_owned()).collect());
        spec.env.insert("PATH".into(), format!("relative:{}", path.display()));
        spec
    }

    #[test]
    fn a_start_that_must_fail_is_told_before() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("x");
        assert!(startable(&file).is_err());
        for (text, mode, is_startable) in [
            ("#!/bin/sh\n", 0o755, true),
            ("#! /bin/sh -e\n", 0o755, true),
            ("#!/bin/sh\n", 0o644, false),
            ("#!/no/such/program x\n", 0o755, false),
            ("#!\n", 0o755, true),
            ("", 0o755, true),
        ] {
            fs::write(&file, text).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
            let told = startable(&file).map_err(|error| error.to_string());
            assert_eq!(told.is_ok(), is_startable, "{text} {mode:o} {told:?}");
            assert!(!format!("{told:?}").contains("such"), "nothing of what a file holds is told: {told:?}");
        }
        assert!(startable(Path::new("/bin/sh")).is_ok());
    }

    #[test]
    fn notices_what_is_installed_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        let tool = dir.path().join("tool");
        let spec = spec(&["tool"], dir.path());
        let all = Interpreters::default();
        let first = Instant::now();
        let missing = all.check(&spec).unwrap();
        assert_eq!(missing.reason, Reason::MissingInterpreter);
        assert!(missing.message.contains("`tool`") && missing.message.contains("install"), "{missing}");

        fs::write(&tool, "#!/bin/sh\n").unwrap();
        fs::set_permissions(&tool, fs::Permissions::from_mode(0o755)).unwrap();
        let remembered = all.check(&spec).is_some();
        assert!(remembered || first.elapsed() >= SEARCH_AGAIN, "a miss is remembered for a while");
        let began = Instant::now();
        while all.check(&spec).is_some() {
            assert!(began.elapsed() < Duration::from_secs(10), "it never looked again");
            std::thread::yield_now();
        }
        assert_eq!(all.find(&spec, dir.path()).unwrap(), tool);
        fs::remove_file(&tool).unwrap();
        assert!(all.check(&spec).is_some(), "a removal is seen at once");
        fs::write(&tool, "#!/bin/sh\n").unwrap();
        assert!(Interpreters::default().check(&spec).is_some(), "what may not be executed is no program");
    }

    #[test]
    fn a_setting_stands_in_for_the_path() {
        let dir = tempfile::tempdir().unwrap();
        let mut spec = spec(&[], dir.path());
        spec.runtime = Runtime::Deno;
        let all = Interpreters::new(BTreeMap::from([("deno".into(), dir.path().join("deno"))]));
        let missing = all.check(&spec).unwrap();
        assert!(missing.message.starts_with("`runtimes.deno` names "), "{missing}");
        fs::write(dir.path().join("deno"), "").unwrap();
        fs::set_permissions(dir.path().join("deno"), fs::Permissions::from_mode(0o755)).unwrap();
        assert!(all.check(&spec).is_none());
        assert_eq!(all.find(&spec, Path::new("/x")).unwrap(), dir.path().join("deno"));
    }

    #[test]
    fn a_slash_means_the_unit_or_the_machine() {
        let dir = tempfile::tempdir().unwrap();
        let all = Interpreters::default();
        let own = spec(&["bin/tool"], dir.path());
        assert!(all.check(&own).is_none());
        assert_eq!(all.find(&own, dir.path()).unwrap(), dir.path().join("bin/tool"));
        assert!(all.check(&spec(&["/no/such/program"], dir.path())).is_some());
        assert!(all.check(&spec(&["/bin/sh"], dir.path())).is_none());
        assert!(all.check(&spec(&[], dir.path())).unwrap().message.contains("empty"));
    }
}
