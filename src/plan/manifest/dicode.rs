//! Tasks of `dicode/v1`. What kindling has is read as dicode documents it; what it does not have is a warning where the
//! task runs without it, and a problem where it would run as something else.

use std::time::Duration;

use self::permissions::permissions;
use super::permissions::CONFINING;
use super::{Errors, TaskRead, name, warning, word};
use crate::config::duration::LONGEST;
use crate::config::node::{Field, Fields, Value};
use crate::config::words::{quoted, unknown};
use crate::config::yaml::YamlError;
use crate::model::spec::{DEFAULT_TIMEOUT, Permissions, RestartPolicy, Runtime, TaskSpec, Trigger};

mod params;
mod permissions;

/// Fields that are read.
const FIELDS: [&str; 9] =
    ["apiVersion", "kind", "name", "description", "runtime", "trigger", "params", "permissions", "timeout"];

/// Fields that dicode documents and kindling does nothing with.
const WITHOUT_EFFECT: [&str; 9] = [
    "version",
    "author",
    "docker",
    "notify",
    "mcp_port",
    "on_failure_chain",
    "provider",
    "run_inputs",
    "auto_fix",
];

/// Kinds of triggers that kindling does not have yet.
const LATER: [&str; 3] = ["cron", "webhook", "chain"];

/// What a reader of the parts of a task collects.
struct Lenient<'e> {
    errors: &'e mut Errors,
    warnings: Vec<YamlError>,
    /// Whether a value names a place, such as `${TASK_DIR}`.
    names_places: bool,
}

impl Lenient<'_> {
    /// Warns of fields that are not `known`; those in `without_effect` are dicode's own.
    fn only(&mut self, fields: &Fields<'_>, known: &[&str], without_effect: &[&str]) {
        for (name, field) in fields.iter().filter(|(name, _)| !known.contains(name)) {
            let message = if without_effect.contains(&name) {
                format!("{} has no effect: kindling does not have it", quoted(name))
            } else {
                format!("{}; it has no effect", unknown("field", name, known))
            };
            self.warnings.push(fields.error(field.key_at, &message));
        }
    }

    /// Notes which places a value names.
    fn note_places(&mut self, field: &Field<'_>, text: &str) {
        self.names_places |=
            ["${TASK_DIR}", "${HOME}", "${DATADIR}"].iter().any(|place| text.contains(place));
        if text.contains("${TASK_SET_DIR}") {
            let message =
                "names ${TASK_SET_DIR}, which stays as it is: a run has only the files of its own task";
            self.warnings.push(field.error(message));
        }
    }
}

/// Reads the task; apiVersion and kind were looked at.
pub(super) fn task(document: &Field<'_>, errors: &mut Errors) -> Option<TaskRead> {
    let fields = document.map(errors)?;
    let mut read = Lenient { errors, warnings: Vec::new(), names_places: false };
    read.only(&fields, &FIELDS, &WITHOUT_EFFECT);
    let name = fields.required("name", read.errors).and_then(|field| name(&field, read.errors));
    let description = fields.get("description").and_then(|field| field.text(read.errors)).unwrap_or_default();
    let runtime = runtime(&fields, read.errors);
    let trigger = fields.required("trigger", read.errors).and_then(|field| trigger(&field, &mut read));
    let timeout = timeout(&fields, trigger, &mut read);
    let params = fields.get("params").map(|field| params::params(&field, &mut read)).unwrap_or_default();
    if let Some(field) = fields.get("params")
        && matches!(trigger, Some(Trigger::Daemon(_)))
        && params.values().any(|param| param.required)
    {
        read.errors.push(field.error("of a daemon cannot be required: nobody gives them; use `default`"));
    }
    let asked = permissions(fields.get("permissions").as_ref(), runtime.as_ref(), &mut read);
    let script_at = fields.get("runtime").map_or(fields.at, |field| field.node.at);
    let spec = TaskSpec {
        name: name?,
        description: description.into(),
        runtime: runtime?,
        entry: None,
        trigger: trigger?,
        params,
        env: asked.env,
        timeout,
        exclude: Vec::new(),
        permissions: Permissions { places: read.names_places, ..asked.permissions },
    };
    read.warnings.sort_by_key(|error| error.at);
    let warnings = read.warnings.into_iter().map(warning).collect();
    Some(TaskRead { spec, script_at, has_entry: false, warnings })
}

fn runtime(fields: &Fields<'_>, errors: &mut Errors) -> Option<Runtime> {
    let Some(field) = fields.get("runtime").filter(|field| field.node.text() != Some("")) else {
        return Some(Runtime::Deno);
    };
    if let Some(container @ ("docker" | "podman")) = field.node.text() {
        errors
            .push(field.error(&format!("is `{container}`, which this version of kindling does not run yet")));
        return None;
    }
    let known = [
        ("deno", Runtime::Deno),
        ("js", Runtime::Deno),
        ("python", Runtime::Python),
        ("node", Runtime::Node),
        ("bun", Runtime::Bun),
        ("ruby", Runtime::Ruby),
        ("shell", Runtime::Shell),
    ];
    word(Some(field), "runtime", &known, errors)
}

fn trigger(field: &Field<'_>, read: &mut Lenient<'_>) -> Option<Trigger> {
    let before = read.errors.len();
    let fields = field.map(read.errors)?;
    read.only(
        &fields,
        &["manual", "daemon", "restart", "cron", "webhook", "chain", "webhook_secret", "auth"],
        &[],
    );
    let is_off = |field: &Field<'_>| matches!(field.node.value, Value::Boolean(false, _));
    for (kind, field) in LATER.iter().filter_map(|kind| Some((kind, fields.get(kind)?))) {
        if is_off(&field) {
            continue;
        }
        let message = format!("`{kind}` is a trigger that this version of kindling does not have yet");
        read.errors.push(fields.error(field.key_at, &message));
    }
    if read.errors.len() > before {
        return None;
    }
    for (name, field) in ["webhook_secret", "auth"].iter().filter_map(|name| Some((name, fields.get(name)?)))
    {
        read.warnings.push(fields.error(field.key_at, &format!("`{name}` has no effect without `webhook`")));
    }
    let mut on = |name: &str| fields.get(name).and_then(|field| field.boolean(read.errors)).unwrap_or(false);
    let (manual, daemon) = (on("manual"), on("daemon"));
    match (manual, daemon) {
        (true, false) => Some(Trigger::Manual),
        (false, true) => restart(&fields, read.errors).map(Trigger::Daemon),
        (true, true) => {
            read.errors.push(fields.error(fields.at, "a trigger is `manual` or `daemon`, not both"));
            None
        }
        (false, false) if read.errors.len() > before => None,
        (false, false) => {
            let message = "one of `manual: true` and `daemon: true` is missing";
            read.errors.push(fields.error(fields.at, message));
            None
        }
    }
}

fn restart(fields: &Fields<'_>, errors: &mut Errors) -> Option<RestartPolicy> {
    let Some(field) = fields.get("restart") else { return Some(RestartPolicy::Always) };
    let policies = [RestartPolicy::Always, RestartPolicy::OnFailure, RestartPolicy::Never];
    word(Some(field), "restart policy", &policies.map(|policy| (policy.as_str(), policy)), errors)
}

/// The time limit: a Go duration; 0 is none.
fn timeout(fields: &Fields<'_>, trigger: Option<Trigger>, read: &mut Lenient<'_>) -> Option<Duration> {
    let is_daemon = matches!(trigger, Some(Trigger::Daemon(_)));
    let default = (!is_daemon).then_some(DEFAULT_TIMEOUT);
    let Some(field) = fields.get("timeout") else { return default };
    let what = "a length of time such as `500ms`, `1.5s` or `1h30m`, a year at most";
    let Some(limit) = field.parsed(what, go_duration, read.errors) else { return default };
    if is_daemon {
        if !limit.is_zero() {
            read.warnings.push(field.error("has no effect on a daemon: it has no end"));
        }
        return None;
    }
    (!limit.is_zero()).then_some(limit)
}

/// Reads what Go's `time.ParseDuration` reads, but for a sign; what is shorter than a millisecond counts as one.
fn go_duration(text: &str) -> Option<Duration> {
    const UNITS: [(&str, f64); 7] =
        [("ns", 1e-9), ("us", 1e-6), ("µs", 1e-6), ("ms", 1e-3), ("s", 1.0), ("m", 60.0), ("h", 3600.0)];
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let (mut rest, mut seconds) = (text, 0.0);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at(digits);
        let letters = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, next) = after.split_at(letters);
        let (_, scale) = UNITS.into_iter().find(|(name, _)| *name == unit)?;
        seconds += number.parse::<f64>().ok()? * scale;
        rest = next;
    }
    let limit =
        Duration::try_from_secs_f64(seconds).ok().filter(|limit| *limit <= LONGEST && !text.is_empty())?;
    let whole = Duration::from_millis(u64::try_from(limit.as_millis()).ok()?);
    Some(if whole.is_zero() && !limit.is_zero() { Duration::from_millis(1) } else { whole })
}

/// Fields that confine a script, of a runtime that cannot hold them.
fn warn_of_unheld(fields: &Fields<'_>, runtime: &Runtime, read: &mut Lenient<'_>) {
    for field in CONFINING.iter().filter_map(|name| fields.get(name)) {
        let message = format!("has no effect: `{}` does not confine a script", runtime.as_str());
        read.warnings.push(field.error(&message));
    }
}

/// Whether a value is a list; the two forms of `params` are told apart by it.
fn is_list(field: &Field<'_>) -> bool {
    matches!(field.node.value, Value::List(_))
}

#[cfg(test)]
mod tests;
