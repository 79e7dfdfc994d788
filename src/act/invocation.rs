//! How the program of a task is called: its arguments, its channel, and what its runtime wants in the environment.

use std::ffi::OsString;
use std::io;
use std::path::Path;

use super::deno;
use super::places::Places;
use super::shims::Shims;
use super::spawn::Wire;
use crate::model::spec::Runtime;
use crate::model::unit::Version;

/// How a program is called.
#[derive(Debug)]
pub(crate) struct Invocation {
    /// All but the program's own name.
    pub args: Vec<OsString>,
    /// The private channel, for a script that may have a `main`.
    pub channel: Option<Wire>,
    /// Variables that the runtime itself reads, where the task sets none of this name.
    pub env: &'static [(&'static str, &'static str)],
}

impl Invocation {
    fn plain(args: Vec<OsString>) -> Self {
        Self { args, channel: None, env: &[] }
    }

    /// How `version` is called.
    ///
    /// # Errors
    /// A script or a shim cannot be had.
    pub(crate) fn of(version: &Version, places: Places<'_>, shims: &Shims) -> io::Result<Self> {
        let spec = &version.spec;
        let entry = || {
            let missing = || io::Error::new(io::ErrorKind::NotFound, "the task has no entry");
            spec.entry.as_deref().ok_or_else(missing)
        };
        let path = || entry().map(|entry| places.task.join(entry).into_os_string());
        // The task's id is there for whoever reads the list of processes.
        let shimmed = |shim: OsString| -> io::Result<Vec<OsString>> {
            Ok(vec![shim, path()?, version.unit.to_string().into()])
        };
        let on_socket = |args| Self { args, channel: Some(Wire::Socket), env: &[] };
        Ok(match &spec.runtime {
            Runtime::Shell => Self::plain(vec![format!("./{}", entry()?).into()]),
            Runtime::Command(argv) => Self::plain(argv.iter().skip(1).map(OsString::from).collect()),
            Runtime::Python => on_socket(shimmed(shims.python()?.into())?),
            Runtime::Node => on_socket(shimmed(shims.javascript()?.into())?),
            Runtime::Ruby => on_socket(shimmed(shims.ruby()?.into())?),
            Runtime::Bun if may_have_main(Path::new(&path()?))? => {
                on_socket(shimmed(shims.javascript()?.into())?)
            }
            Runtime::Bun => Self::plain(vec!["run".into(), path()?]),
            Runtime::Deno => {
                let shim = shims.javascript()?;
                let mut args = deno::flags(version, places, &shim);
                let has_main = may_have_main(Path::new(&path()?))?;
                args.extend(if has_main { shimmed(shim.into())? } else { vec![path()?] });
                Self { args, channel: has_main.then_some(Wire::Pipes), env: deno::ENVIRONMENT }
            }
        })
    }
}

/// Whether the text of a script leaves it open that it exports a `main`. One that does not is a program, and is started
/// as one: only then does it find that it is the main module.
fn may_have_main(script: &Path) -> io::Result<bool> {
    const ASKS: &[u8] = b"import.meta.";
    let text = std::fs::read(script)?;
    let places = |word: &'static str| {
        text.windows(word.len())
            .enumerate()
            .filter(move |(_, part)| *part == word.as_bytes())
            .map(|(at, _)| at)
    };
    let has = |word| places(word).next().is_some();
    // `import.meta.main` asks whether this is the main module, and exports nothing.
    let has_main = places("main").any(|at| !text[..at].ends_with(ASKS));
    Ok(has("export") && (has("default") || has_main || has("exports")))
}
