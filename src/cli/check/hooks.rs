//! Whether the secrets of task webhooks are there. None is ever shown.

use crate::config::Settings;
use crate::model::hook::Hook;
use crate::model::id::SourceName;
use crate::model::source::Origin;
use crate::reconcile::hooks::HookSecrets;

use super::super::{Context, preview};
use super::Findings;

/// What callers of these webhooks have to know, each with the unit that it is of; and of what the last service deployed
/// from repositories.
pub(super) async fn secrets(mut hooks: Vec<(String, Hook)>, settings: &Settings, findings: &mut Findings) {
    let is_repository = |name: &SourceName| {
        let mut all = settings.sources.iter();
        all.any(|source| source.name == *name && matches!(source.origin, Origin::Git(_)))
    };
    // A database that cannot be read is a finding of its own; a service that holds it tells what it lacks.
    let deployed = preview::deployed(settings).await.ok().flatten().unwrap_or_default();
    let deployed = deployed.iter().filter(|version| is_repository(&version.unit.source));
    hooks.extend(
        deployed.filter_map(|version| Some((version.unit.to_string(), version.spec.hook()?.clone()))),
    );
    let here = HookSecrets::new(Context::env);
    for (unit, hook) in hooks.into_iter().filter(|(_, hook)| !hook.is_bare()) {
        match here.keys(&hook) {
            Ok(_) => {
                findings.ok("task webhook", format!("{unit}: what callers of {} need is set", hook.path));
            }
            Err(problem) => {
                let names = hook.variables().collect::<Vec<_>>().join(", ");
                let hint = format!("set {names} where the service starts, and here to check it");
                findings.fail("task webhook", format!("{unit}: {}", problem.message), hint);
            }
        }
    }
}
