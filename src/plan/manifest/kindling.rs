//! Tasks of `kindling/v1`: a field that is not known is an error.

use std::collections::BTreeMap;
use std::time::Duration;

use ignore::gitignore::GitignoreBuilder;

use super::hook::{hook, keep_from_run};
use super::params::params;
use super::permissions::permissions;
use super::trigger::{chain, concurrency, named_place, refuse_required, retries, schedule};
use super::{Errors, RESERVED_PREFIX, TaskRead, bad_name, is_name, name, surprise, without_nul, word};
use crate::config::duration::{DURATION, duration};
use crate::config::node::{Field, Fields, Value};
use crate::config::words::quoted;
use crate::config::yaml::YamlError;
use crate::model::path::RelPath;
use crate::model::spec::{Concurrency, DEFAULT_TIMEOUT, RestartPolicy, Retries, Runtime, TaskSpec, Trigger};

const FIELDS: [&str; 15] = [
    "apiVersion",
    "kind",
    "name",
    "description",
    "runtime",
    "command",
    "entry",
    "trigger",
    "params",
    "env",
    "timeout",
    "retries",
    "concurrency",
    "exclude",
    "permissions",
];

/// Most patterns in `exclude`, and most bytes of one: they are compiled together, and a hostile set of 200 with 800
/// bytes each took 0.2 s.
const MAX_EXCLUDES: usize = 100;
const MAX_EXCLUDE_BYTES: usize = 256;

/// Reads the task; apiVersion and kind were looked at.
pub(super) fn task(document: &Field<'_>, errors: &mut Errors) -> Option<TaskRead> {
    let fields = document.fields(&FIELDS, errors)?;
    let mut lints = Vec::new();
    let name = fields.required("name", errors).and_then(|field| name(&field, errors));
    let description = fields.get("description").and_then(|field| field.text(errors));
    let runtime = runtime(&fields, errors);
    let entry = fields.get("entry").and_then(|field| entry(&field, &fields, errors));
    let trigger = fields.required("trigger", errors).and_then(|field| trigger(&field, errors, &mut lints));
    let timeout = timeout(&fields, trigger.as_ref(), errors);
    let (retries, concurrency) =
        (attempts(&fields, trigger.as_ref(), errors), bounds(&fields, trigger.as_ref(), errors));
    let params = fields.get("params").and_then(|field| params(&field, errors));
    let env = fields.get("env").and_then(|field| env(&field, errors)).unwrap_or_default();
    let permissions =
        fields.get("permissions").and_then(|field| permissions(&field, runtime.as_ref(), &env, errors));
    keep_from_run(trigger.as_ref(), permissions.as_ref(), &fields, errors);
    let exclude = fields.get("exclude").and_then(|field| exclude(&field, errors));
    if let (Some(field), Some(trigger)) = (fields.get("params"), &trigger)
        && trigger.is_automatic()
        && params.as_ref().is_some_and(|params| params.values().any(|param| param.required))
    {
        refuse_required(&field, trigger, errors);
    }
    let script = ["entry", "runtime", "command"].iter().find_map(|name| fields.get(name));
    let script_at = script.map_or(fields.at, |field| field.node.at);
    let spec = TaskSpec {
        name: name?,
        description: description.unwrap_or_default().into(),
        runtime: runtime?,
        entry,
        trigger: trigger?,
        params: params.unwrap_or_default(),
        env,
        timeout,
        retries: retries.unwrap_or_default(),
        concurrency: concurrency?,
        exclude: exclude.unwrap_or_default(),
        permissions: permissions.unwrap_or_default(),
    };
    let named_at = named_place(&fields);
    Some(TaskRead {
        spec,
        script_at,
        named_at,
        has_entry: true,
        warnings: lints.into_iter().map(surprise).collect(),
    })
}

fn runtime(fields: &Fields<'_>, errors: &mut Errors) -> Option<Runtime> {
    let all = [Runtime::Shell, Runtime::Python, Runtime::Node, Runtime::Deno, Runtime::Bun, Runtime::Ruby];
    let known = all.map(|runtime| (runtime.as_str(), runtime));
    let known: Vec<_> = known.into_iter().chain([("js", Runtime::Deno)]).collect();
    match (fields.get("runtime"), fields.get("command")) {
        (Some(field), None) => word(Some(field), "runtime", &known, errors),
        (None, Some(field)) => command(&field, errors),
        (Some(one), Some(other)) => {
            let at = one.key_at.max(other.key_at);
            errors.push(fields.error(at, "a task has `runtime` or `command`, not both"));
            None
        }
        (None, None) => {
            let why = "the field `runtime` is missing, or `command` in its place";
            fields.missing(&["runtime", "command"], why, errors);
            None
        }
    }
}

fn command(field: &Field<'_>, errors: &mut Errors) -> Option<Runtime> {
    let argv = argv(field, errors)?;
    let is_relative = argv.first().is_some_and(|program| program.contains('/') && !program.starts_with('/'));
    let command = Runtime::Command(argv);
    if is_relative && command.own_program().is_none() {
        errors.push(
            field.error(
                "names a program outside the unit: one with a slash is a file of the unit, or absolute",
            ),
        );
        return None;
    }
    Some(command)
}

fn argv(field: &Field<'_>, errors: &mut Errors) -> Option<Vec<String>> {
    if field.node.text().is_some() {
        errors.push(field.error("must be a list of arguments, such as `[sh, -c, \"make all\"]`, not text"));
        return None;
    }
    let argv: Option<Vec<String>> =
        field.list(errors)?.iter().map(|argument| without_nul(argument, errors)).collect();
    let argv = argv?;
    if argv.first().is_none_or(String::is_empty) {
        errors.push(field.error("must name a program first"));
        return None;
    }
    Some(argv)
}

fn entry(field: &Field<'_>, fields: &Fields<'_>, errors: &mut Errors) -> Option<String> {
    if fields.get("command").is_some() {
        errors.push(field.error("goes with `runtime`; a `command` names its own files"));
        return None;
    }
    let text = field.text(errors)?;
    match RelPath::parse(text) {
        Ok(path) if path.is_root() => errors.push(field.error("must name a file of the unit")),
        Ok(path) => return Some(path.as_str().into()),
        Err(refusal) => errors.push(field.error(&format!("must be a path inside the unit: {refusal}"))),
    }
    None
}

/// Kinds of triggers.
const KINDS: [&str; 5] = ["manual", "daemon", "cron", "chain", "webhook"];

/// Options of a trigger and the kind that they go with.
const OPTIONS: [(&str, &str); 6] = [
    ("restart", "daemon"),
    ("timezone", "cron"),
    ("catchUp", "cron"),
    ("methods", "webhook"),
    ("webhook_secret", "webhook"),
    ("bearer", "webhook"),
];

fn trigger(field: &Field<'_>, errors: &mut Errors, lints: &mut Vec<YamlError>) -> Option<Trigger> {
    if field.node.text().is_some() {
        errors.push(field.error("must be a map, such as `{manual: true}` or `{daemon: true}`, not text"));
        return None;
    }
    let before = errors.len();
    let known: Vec<&str> = KINDS.into_iter().chain(OPTIONS.map(|(name, _)| name)).collect();
    let fields = field.fields(&known, errors)?;
    let named: Vec<(&str, Field<'_>)> =
        KINDS.into_iter().filter_map(|kind| Some((kind, fields.get(kind)?))).collect();
    let [(kind, field)] = named.as_slice() else {
        match named.as_slice() {
            [(one, at), (other, other_at), ..] => {
                let at = at.key_at.max(other_at.key_at);
                errors.push(fields.error(at, &format!("a trigger is `{one}` or `{other}`, not both")));
            }
            // An unknown kind was reported already.
            _ if errors.len() > before => {}
            _ => errors.push(fields.error(
                fields.at,
                "the kind is missing: `manual: true`, `daemon: true`, `cron: \"0 6 * * *\"`, `webhook: /hooks/PATH` or \
                 `chain: {from: TASK}`",
            )),
        }
        return None;
    };
    for (option, of) in OPTIONS.iter().filter(|(_, of)| of != kind) {
        if let Some(option) = fields.get(option) {
            errors.push(option.error(&format!("goes with `{of}`")));
        }
    }
    match *kind {
        "manual" => on(field, errors).then_some(Trigger::Manual),
        "daemon" => {
            let restart = fields.get("restart").map_or(Some(RestartPolicy::Always), |field| {
                let policies = [RestartPolicy::Always, RestartPolicy::OnFailure, RestartPolicy::Never];
                word(Some(field), "restart policy", &policies.map(|policy| (policy.as_str(), policy)), errors)
            });
            on(field, errors).then_some(Trigger::Daemon(restart?))
        }
        "cron" => schedule(field, Some(&fields), errors, lints).map(Trigger::Cron),
        "webhook" => hook(field, &fields, errors).map(Trigger::Webhook),
        _ => {
            if field.node.text().is_some() {
                errors.push(field.error("must be a map, such as `{from: build, on: success}`, not text"));
                return None;
            }
            let fields = field.fields(&["from", "on"], errors)?;
            chain(&fields, errors).map(Trigger::Chain)
        }
    }
}

/// How often a run is tried again.
fn attempts(fields: &Fields<'_>, trigger: Option<&Trigger>, errors: &mut Errors) -> Option<Retries> {
    let field = fields.get("retries")?;
    if matches!(trigger, Some(Trigger::Daemon(_))) {
        errors.push(field.error("is not for daemons: `restart` says when one is started again"));
        return None;
    }
    retries(&field, errors)
}

/// How many runs there may be at once.
fn bounds(fields: &Fields<'_>, trigger: Option<&Trigger>, errors: &mut Errors) -> Option<Concurrency> {
    let trigger = trigger?;
    let Some(field) = fields.get("concurrency") else { return Some(Concurrency::of(trigger)) };
    if matches!(trigger, Trigger::Daemon(_)) {
        errors.push(field.error("is not for daemons: there is always exactly one"));
        return None;
    }
    concurrency(&field, trigger, errors)
}

/// Whether a kind of trigger is switched on; there is no other way to write one.
fn on(field: &Field<'_>, errors: &mut Errors) -> bool {
    let on = matches!(field.node.value, Value::Boolean(true, _));
    if !on {
        errors.push(field.error("can only be `true`"));
    }
    on
}

/// The time limit; without one or with a bad one, the default.
fn timeout(fields: &Fields<'_>, trigger: Option<&Trigger>, errors: &mut Errors) -> Option<Duration> {
    let is_daemon = matches!(trigger, Some(Trigger::Daemon(_)));
    let default = (!is_daemon).then_some(DEFAULT_TIMEOUT);
    let Some(field) = fields.get("timeout") else { return default };
    let what = format!("{DURATION}, or `none`");
    let read = |text: &str| if text == "none" { Some(Duration::ZERO) } else { duration(text) };
    let Some(limit) = field.parsed(&what, read, errors) else { return default };
    if is_daemon && !limit.is_zero() {
        errors.push(field.error("is not for daemons: they have no end"));
    }
    (!limit.is_zero()).then_some(limit)
}

fn env(field: &Field<'_>, errors: &mut Errors) -> Option<BTreeMap<String, String>> {
    let fields = field.map(errors)?;
    let mut env = BTreeMap::new();
    for (name, field) in fields.iter() {
        if !is_name(name, |_| false) {
            errors.push(fields.error(field.key_at, &bad_name(name, "letters, digits and `_`")));
        } else if name.starts_with(RESERVED_PREFIX) {
            let message =
                format!("{} is reserved: variables in {RESERVED_PREFIX} are kindling's own", quoted(name));
            errors.push(fields.error(field.key_at, &message));
        } else if field.node.value == Value::Null {
            errors.push(field.error("has no value; write `\"\"` for an empty one"));
        } else if let Some(text) = without_nul(&field, errors) {
            env.insert(name.into(), text);
        }
    }
    Some(env)
}

fn exclude(field: &Field<'_>, errors: &mut Errors) -> Option<Vec<String>> {
    let list = field.list(errors)?;
    if list.len() > MAX_EXCLUDES {
        errors.push(field.error(&format!("has {} patterns, more than {MAX_EXCLUDES}", list.len())));
        return None;
    }
    let (before, mut matcher) = (errors.len(), GitignoreBuilder::new("/"));
    // Otherwise a `[` that nothing closes stands for itself; whoever wrote it meant a class.
    matcher.allow_unclosed_class(false);
    let mut patterns = Vec::new();
    for field in &list {
        let Some(text) = field.text(errors) else { continue };
        if text.trim().is_empty() || text.starts_with('#') {
            errors.push(field.error("excludes nothing: an empty line or a comment in gitignore syntax"));
        } else if text.len() > MAX_EXCLUDE_BYTES {
            errors.push(field.error(&format!("is longer than {MAX_EXCLUDE_BYTES} bytes")));
        } else if text.chars().any(char::is_control) || matcher.add_line(None, text).is_err() {
            errors.push(field.error("is not a pattern in gitignore syntax"));
        } else {
            patterns.push(text.into());
        }
    }
    if errors.len() == before && matcher.build().is_err() {
        errors.push(field.error("is too much for one matcher; use fewer or simpler patterns"));
    }
    Some(patterns)
}
