//! Which task webhooks there are, and what each wants of its callers; never what that is compared with.

use std::sync::Arc;

use axum::Json;
use axum::extract::State as AxumState;

use crate::act::Target;
use crate::api::State;
use crate::api::wire::{HookView, Items};
use crate::model::hook::{Hook, HookMethod, HookPath};
use crate::model::unit::Version;

use super::HookRules;

pub(in crate::api) async fn list<T: Target>(AxumState(api): State<T>) -> Json<Items<HookView>> {
    let core = api.service.core();
    let view = |(path, version): (HookPath, Arc<Version>)| {
        let hook = version.spec.hook()?;
        let methods = HookMethod::ALL.into_iter().filter(|method| hook.takes(*method));
        Some(HookView {
            path: path.to_string(),
            task: version.unit.to_string(),
            methods: methods.map(|method| method.as_str().to_owned()).collect(),
            needs: needs(hook, &api.webhooks.hooks),
            suspended: core.board.is_suspended(&version.unit),
        })
    };
    Json(Items { items: core.registry.at_hooks().into_iter().filter_map(view).collect() })
}

/// What a caller needs, in words.
fn needs(hook: &Hook, rules: &HookRules) -> Vec<String> {
    let is_local = hook.is_bare() && !rules.is_open(&hook.path);
    let needs = [(hook.secret.is_some(), "signature"), (hook.bearer.is_some(), "token"), (is_local, "local")];
    needs.into_iter().filter(|(is_needed, _)| *is_needed).map(|(_, word)| word.to_owned()).collect()
}
