//! Flags of a `deno run`: what the task may do, and nothing that asks a person or changes a file.

use std::ffi::OsString;
use std::path::Path;

use super::places::Places;
use crate::model::spec::Sandbox;
use crate::model::unit::Version;

/// What Deno itself reads from the environment.
pub(super) const ENVIRONMENT: &[(&str, &str)] = &[("DENO_NO_UPDATE_CHECK", "1"), ("NO_COLOR", "1")];

/// The configuration files of Deno, in the order in which it looks for them.
const CONFIGURATIONS: [&str; 2] = ["deno.json", "deno.jsonc"];

/// The pipes of the private channel, by the names under which Deno may open them.
const CHANNEL: [&str; 2] = ["/dev/fd/3", "/dev/fd/4"];

/// `run` and all flags before the script.
pub(super) fn flags(version: &Version, places: Places<'_>, shim: &Path) -> Vec<OsString> {
    let mut args: Vec<OsString> = ["run", "--quiet", "--no-prompt"].map(OsString::from).into();
    let has = |name: &str| version.files.iter().any(|file| file.path.as_str() == name);
    match CONFIGURATIONS.into_iter().find(|name| has(name)) {
        Some(name) => {
            args.push("--config".into());
            args.push(places.task.join(name).into());
        }
        // One above the data directory is nobody's.
        None => args.push("--no-config".into()),
    }
    // A lock file that the unit has is obeyed and never changed; none is made.
    if has("deno.lock") {
        args.extend(["--frozen".into(), "--lock".into(), places.task.join("deno.lock").into()]);
    } else {
        args.push("--no-lock".into());
    }
    match &version.spec.permissions.sandbox {
        None => args.push("--allow-all".into()),
        Some(sandbox) => {
            let expand = |path: &String| {
                if version.spec.permissions.places { places.expand(path) } else { path.clone() }
            };
            args.extend(confined(sandbox, expand, places.task, shim));
        }
    }
    args
}

fn confined(
    sandbox: &Sandbox,
    expand: impl Fn(&String) -> String,
    task: &Path,
    shim: &Path,
) -> Vec<OsString> {
    let own = [task, shim, Path::new(CHANNEL[0])].map(|path| path.display().to_string());
    let read = own.into_iter().chain(sandbox.read.iter().map(&expand));
    let write = [CHANNEL[1].to_owned()].into_iter().chain(sandbox.write.iter().map(&expand));
    // The environment of a run holds only what it may have.
    let mut args = vec![listed("read", read), listed("write", write), "--allow-env".into()];
    match &sandbox.net {
        None => args.push("--allow-net".into()),
        Some(hosts) if hosts.is_empty() => {}
        Some(hosts) => args.push(listed("net", hosts.iter().cloned())),
    }
    for (name, values) in [("run", &sandbox.run), ("sys", &sandbox.sys)] {
        if values.iter().any(|value| value == "*") {
            args.push(format!("--allow-{name}").into());
        } else if !values.is_empty() {
            args.push(listed(name, values.iter().cloned()));
        }
    }
    args
}

/// One flag with its values. Deno knows no way to write one with a comma: the manifest's check refuses those.
fn listed(name: &str, values: impl Iterator<Item = String>) -> OsString {
    let values: Vec<String> = values.collect();
    format!("--allow-{name}={}", values.join(",")).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::act::tasks::tests::version;

    #[test]
    fn permissions_become_flags() {
        let mut version = version("team/a", 1);
        let mut spec = (*version.spec).clone();
        let places = Places { task: Path::new("/v"), data: Path::new("/d") };
        let shown = |version: &Version| {
            let flags = flags(version, places, Path::new("/s/shim.cjs"));
            flags.iter().map(|flag| flag.to_str().unwrap().to_owned()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(shown(&version), "run --quiet --no-prompt --no-config --no-lock --allow-all");
        spec.permissions.sandbox = Some(Sandbox::default());
        version.spec = spec.clone().into();
        assert!(shown(&version).ends_with(
            " --allow-read=/v,/s/shim.cjs,/dev/fd/3 --allow-write=/dev/fd/4 --allow-env --allow-net"
        ));
        spec.permissions.places = true;
        spec.permissions.sandbox = Some(Sandbox {
            read: vec!["${DATADIR}/x".into(), "/a b".into()],
            write: vec!["${TASK_DIR}".into()],
            net: Some(Vec::new()),
            run: vec!["git".into(), "*".into()],
            sys: vec!["hostname".into(), "osRelease".into()],
        });
        version.spec = spec.into();
        assert!(shown(&version).ends_with(
            " --allow-read=/v,/s/shim.cjs,/dev/fd/3,/d/x,/a b --allow-write=/dev/fd/4,/v --allow-env \
             --allow-run --allow-sys=hostname,osRelease"
        ));
    }
}
