//! `webhook` of a trigger and the options beside it, which both formats share.

use super::permissions::refusal_of;
use super::{Errors, word};
use crate::config::node::{Field, Fields};
use crate::config::words::quoted;
use crate::config::yaml::YamlError;
use crate::model::hook::{Hook, HookMethod, HookPath};
use crate::model::spec::{Permissions, Trigger};

/// The options that stand beside `webhook`.
pub(super) const OPTIONS: [&str; 3] = ["methods", "webhook_secret", "bearer"];

/// Reads a trigger by HTTP; `options` are the fields beside it.
pub(super) fn hook(path: &Field<'_>, options: &Fields<'_>, errors: &mut Errors) -> Option<Hook> {
    let methods = match options.get("methods") {
        Some(field) => methods(&field, errors),
        None => Some(Hook::DEFAULT_METHODS.to_vec()),
    };
    let mut variable = |name: &str| match options.get(name) {
        Some(field) => variable(&field, errors).map(Some),
        None => Some(None),
    };
    let (secret, bearer) = (variable("webhook_secret"), variable("bearer"));
    let text = path.text(errors)?;
    let path = HookPath::parse(text).map_err(|refusal| errors.push(path.error(refusal))).ok();
    Some(Hook { path: path?, methods: methods?, secret: secret?, bearer: bearer? })
}

fn methods(field: &Field<'_>, errors: &mut Errors) -> Option<Vec<HookMethod>> {
    let list = field.list(errors)?;
    let known = HookMethod::ALL.map(|method| (method.as_str(), method));
    let mut methods: Vec<HookMethod> =
        list.iter().filter_map(|field| word(Some(field.clone()), "method", &known, errors)).collect();
    if list.is_empty() {
        errors.push(field.error("names no method: leave it out for GET and POST"));
    }
    if methods.len() != list.len() || methods.is_empty() {
        return None;
    }
    methods.sort_unstable();
    methods.dedup();
    Some(methods)
}

/// `${NAME}`: a secret itself has no place in a manifest.
fn variable(field: &Field<'_>, errors: &mut Errors) -> Option<String> {
    let text = field.text(errors)?;
    let Some(name) = text.strip_prefix("${").and_then(|rest| rest.strip_suffix('}')) else {
        let message = "must be `${NAME}`, a variable of kindling's environment that `allow.env` of the source \
                       names: a secret itself does not belong into a file";
        errors.push(field.error(message));
        return None;
    };
    if let Some(refusal) = refusal_of(name) {
        errors.push(field.error(&format!("names {refusal}")));
        return None;
    }
    Some(name.to_owned())
}

/// A run gets no secret of its task's webhook: `permissions.env` cannot name one.
pub(super) fn keep_from_run(
    trigger: Option<&Trigger>,
    permissions: Option<&Permissions>,
    task: &Fields<'_>,
    errors: &mut Errors,
) {
    let (Some(Trigger::Webhook(hook)), Some(permissions)) = (trigger, permissions) else { return };
    for name in hook.variables() {
        if permissions.env.values().any(|host| host.name == name) {
            let env = task.get("permissions").and_then(|field| field.node.get("env"));
            let message = format!(
                "`permissions.env` asks for {}, which protects the webhook: no run gets that; give the task a \
                 variable of its own",
                quoted(name)
            );
            errors.push(YamlError::at(env.map_or(task.at, |env| env.at), message));
        }
    }
}
