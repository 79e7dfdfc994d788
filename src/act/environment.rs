//! The environment that a run gets: nothing of kindling's own but what the design names.

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;

use super::Launch;
use super::places::Places;
use crate::model::spec::{Param, TaskSpec};
use crate::plan::trust::INHERITED;

/// The variable that names the run of a process.
pub(crate) const RUN: &str = "KINDLING_RUN";
/// The variable that names the task of a process.
pub(crate) const TASK: &str = "KINDLING_TASK";
/// The variable that tells the processes of one data directory from all others.
pub(crate) const MARK: &str = "KINDLING_MARK";

/// Where programs are looked for if kindling itself has no `PATH`.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The whole environment of a run: later parts win over earlier ones, kindling's own variables over all.
///
/// # Errors
/// The name of a variable that no program can be given, or whose value none can; a variable that the task needs and
/// kindling does not have.
pub(crate) fn of_run(
    launch: &Launch,
    mark: &str,
    places: Places<'_>,
) -> Result<BTreeMap<OsString, OsString>, String> {
    let spec = &launch.version.spec;
    let expand = |text: &String| if spec.permissions.places { places.expand(text) } else { text.clone() };
    let mut all = BTreeMap::new();
    for name in INHERITED {
        if let Some(value) = env::var_os(name) {
            all.insert(OsString::from(name), value);
        }
    }
    all.insert("PATH".into(), own_path());
    for (name, host) in &spec.permissions.env {
        match env::var_os(&host.name) {
            Some(value) => drop(all.insert(name.into(), value)),
            None if host.optional => {}
            None => return Err(format!("the variable `{}` is not set where kindling runs", host.name)),
        }
    }
    let own =
        [(RUN, launch.run.to_string()), (TASK, launch.version.unit.to_string()), (MARK, mark.to_owned())];
    let given = spec.env.iter().map(|(name, value)| (name.clone(), expand(value)));
    let params = launch.params.iter().map(|(name, value)| (Param::variable(name), value.text()));
    let own = own.into_iter().map(|(name, value)| (name.to_owned(), value));
    for (name, value) in given.chain(params).chain(own) {
        if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
            return Err(format!("the variable `{}` cannot be set", name.escape_debug()));
        }
        all.insert(name.into(), value.into());
    }
    Ok(all)
}

/// Where the program of `spec` is looked for.
pub(crate) fn search_path(spec: &TaskSpec) -> OsString {
    spec.env.get("PATH").map_or_else(own_path, OsString::from)
}

fn own_path() -> OsString {
    env::var_os("PATH").filter(|path| !path.is_empty()).unwrap_or_else(|| DEFAULT_PATH.into())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::act::tasks::tests::version;
    use crate::model::id::RunId;
    use crate::model::spec::{HostVariable, ParamValue, Permissions};

    fn places() -> Places<'static> {
        Places { task: std::path::Path::new("/v"), data: std::path::Path::new("/d") }
    }

    #[test]
    fn takes_from_kindling_what_is_named_and_fails_where_it_is_missing() {
        let of = |name: &str, optional| {
            let mut launch = launch(&[("DIR", "${TASK_DIR}/${USER}")], &[]);
            let mut version = (*launch.version).clone();
            let mut spec = (*version.spec).clone();
            let host = HostVariable { name: name.into(), optional };
            spec.permissions =
                Permissions { env: BTreeMap::from([("MINE".into(), host)]), places: true, sandbox: None };
            version.spec = Arc::new(spec);
            launch.version = Arc::new(version);
            of_run(&launch, "m", places())
        };
        let all = of("CARGO_MANIFEST_DIR", false).unwrap();
        let get = |name: &str| all.get(std::ffi::OsStr::new(name)).and_then(|value| value.to_str());
        assert_eq!((get("MINE"), get("CARGO_MANIFEST_DIR")), (Some(env!("CARGO_MANIFEST_DIR")), None));
        assert_eq!(get("DIR"), Some("/v/${USER}"), "only places are put in");
        assert!(!of("NO_SUCH_VARIABLE", true).unwrap().contains_key(std::ffi::OsStr::new("MINE")));
        let why = of("NO_SUCH_VARIABLE", false).unwrap_err();
        assert_eq!(why, "the variable `NO_SUCH_VARIABLE` is not set where kindling runs");
    }

    fn launch(env: &[(&str, &str)], params: &[(&str, ParamValue)]) -> Launch {
        let mut version = version("team/digest", 1);
        let mut spec = (*version.spec).clone();
        spec.env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        version.spec = Arc::new(spec);
        Launch {
            run: RunId::recorded("00000000000000aa"),
            version: Arc::new(version),
            params: params.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect(),
            input: "null".into(),
        }
    }

    #[test]
    fn names_params_and_keeps_its_own_variables() {
        let env = [("KINDLING_RUN", "x"), ("KINDLING_MARK", "y"), ("A", "1"), ("PARAM_TOP_N", "user")];
        let params = [("top-n", ParamValue::Number("3".into())), ("dry.run", ParamValue::Boolean(true))];
        let all = of_run(&launch(&env, &params), "m4rk", places()).unwrap();
        let get = |name: &str| all.get(std::ffi::OsStr::new(name)).map(|value| value.to_str().unwrap());
        assert_eq!(
            (get("PARAM_TOP_N"), get("PARAM_DRY_RUN"), get("A")),
            (Some("3"), Some("true"), Some("1"))
        );
        assert_eq!(get("KINDLING_RUN"), Some("00000000000000aa"));
        assert_eq!((get("KINDLING_TASK"), get("KINDLING_MARK")), (Some("team/digest"), Some("m4rk")));
        assert!(get("PATH").is_some_and(|path| !path.is_empty()));
        assert!(get("CARGO_MANIFEST_DIR").is_none(), "nothing else of kindling's own environment");
    }

    #[test]
    fn refuses_what_no_program_can_be_given() {
        for (name, value) in [("A=B", "1"), ("", "1"), ("A\0", "1"), ("A", "1\0")] {
            assert!(of_run(&launch(&[(name, value)], &[]), "m", places()).is_err(), "{name:?}");
        }
    }
}
