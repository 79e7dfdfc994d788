//! Tasks of `dicode/v1`. What kindling has is read as dicode documents it; what it does not have is a warning where the
//! task runs without it, and a problem where it would run as something else.

use std::time::Duration;

use self::permissions::permissions;
use super::hook::{self, hook, keep_from_run};
use super::permissions::CONFINING;
use super::trigger::{chain, named_place, refuse_required, schedule};
use super::{Errors, TaskRead, name, surprise, warning, word};
use crate::config::duration::LONGEST;
use crate::config::node::{Field, Fields, Value};
use crate::config::words::{quoted, unknown};
use crate::config::yaml::YamlError;
use crate::model::problem::Problem;
use crate::model::spec::{
    Concurrency, DEFAULT_TIMEOUT, Permissions, RestartPolicy, Retries, Runtime, TaskSpec, Trigger,
};

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

/// Kinds of triggers.
const KINDS: [&str; 5] = ["manual", "daemon", "cron", "chain", "webhook"];

/// What a reader of the parts of a task collects.
struct Lenient<'e> {
    errors: &'e mut Errors,
    warnings: Vec<YamlError>,
    /// What surprises in a schedule.
    lints: Vec<YamlError>,
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
    let mut read = Lenient { errors, warnings: Vec::new(), lints: Vec::new(), names_places: false };
    read.only(&fields, &FIELDS, &WITHOUT_EFFECT);
    let name = fields.required("name", read.errors).and_then(|field| name(&field, read.errors));
    let description = fields.get("description").and_then(|field| field.text(read.errors)).unwrap_or_default();
    let runtime = runtime(&fields, read.errors);
    let trigger = fields.required("trigger", read.errors).and_then(|field| trigger(&field, &mut read));
    let timeout = timeout(&fields, trigger.as_ref(), &mut read);
    let params = fields.get("params").map(|field| params::params(&field, &mut read)).unwrap_or_default();
    if let (Some(field), Some(trigger)) = (fields.get("params"), &trigger)
        && trigger.is_automatic()
        && params.values().any(|param| param.required)
    {
        refuse_required(&field, trigger, read.errors);
    }
    let asked = permissions(fields.get("permissions").as_ref(), runtime.as_ref(), &mut read);
    keep_from_run(trigger.as_ref(), Some(&asked.permissions), &fields, read.errors);
    let script_at = fields.get("runtime").map_or(fields.at, |field| field.node.at);
    let trigger = trigger?;
    let spec = TaskSpec {
        name: name?,
        description: description.into(),
        runtime: runtime?,
        entry: None,
        concurrency: Concurrency::of(&trigger),
        trigger,
        params,
        env: asked.env,
        timeout,
        retries: Retries::default(),
        exclude: Vec::new(),
        permissions: Permissions { places: read.names_places, ..asked.permissions },
    };
    let ignored = read.warnings.into_iter().map(warning);
    let mut warnings: Vec<Problem> = ignored.chain(read.lints.into_iter().map(surprise)).collect();
    warnings.sort_by_key(|warning| warning.at);
    let named_at = named_place(&fields);
    Some(TaskRead { spec, script_at, named_at, has_entry: false, warnings })
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
    let own: Vec<&str> = KINDS.into_iter().chain(["restart", "auth"]).chain(hook::OPTIONS).collect();
    read.only(&fields, &own, &[]);
    let is_off = |field: &Field<'_>| matches!(field.node.value, Value::Boolean(false, _));
    let mut named = Vec::new();
    for (kind, field) in KINDS.iter().filter_map(|kind| Some((*kind, fields.get(kind)?))) {
        let is_switch = matches!(kind, "manual" | "daemon");
        if !is_switch && !is_off(&field) && field.node.text() != Some("")
            || is_switch && field.boolean(read.errors) == Some(true)
        {
            named.push((kind, field));
        }
    }
    if !named.iter().any(|(kind, _)| *kind == "webhook") {
        for name in hook::OPTIONS.iter().chain(&["auth"]) {
            if let Some(field) = fields.get(name) {
                let message = format!("`{name}` has no effect without `webhook`");
                read.warnings.push(fields.error(field.key_at, &message));
            }
        }
    }
    match named.as_slice() {
        [("manual", _)] => Some(Trigger::Manual),
        [("daemon", _)] => restart(&fields, read.errors).map(Trigger::Daemon),
        [("cron", field)] => {
            // dicode has no options here; what it does not know was warned of.
            schedule(field, None, read.errors, &mut read.lints).map(Trigger::Cron)
        }
        [("webhook", field)] => webhook(field, &fields, read),
        [(_, field)] => {
            let fields = field.map(read.errors)?;
            read.only(&fields, &["from", "on"], &[]);
            chain(&fields, read.errors).map(Trigger::Chain)
        }
        [(one, _), (other, _), ..] => {
            let message = format!("a trigger is `{one}` or `{other}`, not both");
            read.errors.push(fields.error(fields.at, &message));
            None
        }
        [] if read.errors.len() > before => None,
        [] => {
            let message = "the kind is missing: `manual: true`, `daemon: true`, `cron: \"0 6 * * *\"`, `webhook: /hooks/PATH` or \
                           `chain: {from: TASK}`";
            read.errors.push(fields.error(fields.at, message));
            None
        }
    }
}

/// A trigger by HTTP. What dicode protects by a login of its own would be open here.
fn webhook(path: &Field<'_>, fields: &Fields<'_>, read: &mut Lenient<'_>) -> Option<Trigger> {
    if let Some(auth) = fields.get("auth").filter(|auth| auth.boolean(read.errors) == Some(true)) {
        let message =
            "asks for dicode's own login, which kindling does not have; use `webhook_secret` or `bearer`";
        read.errors.push(auth.error(message));
        return None;
    }
    hook(path, fields, read.errors).map(Trigger::Webhook)
}

fn restart(fields: &Fields<'_>, errors: &mut Errors) -> Option<RestartPolicy> {
    let Some(field) = fields.get("restart") else { return Some(RestartPolicy::Always) };
    let policies = [RestartPolicy::Always, RestartPolicy::OnFailure, RestartPolicy::Never];
    word(Some(field), "restart policy", &policies.map(|policy| (policy.as_str(), policy)), errors)
}

/// The time limit: a Go duration; 0 is none.
fn timeout(fields: &Fields<'_>, trigger: Option<&Trigger>, read: &mut Lenient<'_>) -> Option<Duration> {
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
