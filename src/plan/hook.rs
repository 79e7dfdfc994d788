//! Task webhooks of one path: the task that was not there first has a problem.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::hook::HookPath;
use crate::model::id::{SourceName, UnitId};
use crate::model::problem::{Problem, Reason};

use super::catalog::{Catalog, Entry};
use super::chain::at_place;

/// What is wrong with a unit that asks for a path at which `other` is served; without its place.
#[must_use]
pub fn taken(path: &HookPath, other: &dyn std::fmt::Display) -> Problem {
    let message = format!(
        "`trigger.webhook` asks for `{path}`, where `{other}` is served: a path is one task's, and the other one was \
         there first"
    );
    Problem::new(Reason::PathTaken, message)
}

/// What is wrong with a unit whose secret cannot be had; without its place.
#[must_use]
pub fn secretless(option: &str, why: &str) -> Problem {
    Problem::new(Reason::MissingSecret, format!("`trigger.{option}` {why}, so the webhook is not served"))
}

/// The units of a catalog whose source has no name yet that ask for a path which another one of it has, each with its
/// problem.
#[must_use]
pub fn of_nameless(catalog: &Catalog) -> Vec<Problem> {
    let (mut first, mut problems) = (BTreeMap::<&HookPath, &Arc<str>>::new(), Vec::new());
    for (key, entry) in catalog.iter() {
        let Ok(unit) = &entry.state else { continue };
        let Some(hook) = unit.spec.hook() else { continue };
        match first.get(&hook.path) {
            Some(other) => problems.push(at_place(taken(&hook.path, other), unit)),
            None => drop(first.insert(&hook.path, key)),
        }
    }
    problems
}

/// The units of the catalog of `source` that ask for a path which another one has, each with its problem. `held` are the
/// units that are deployed at paths, of every source.
#[must_use]
pub fn of_source(
    source: &SourceName,
    catalog: &Catalog,
    held: &BTreeMap<HookPath, UnitId>,
) -> BTreeMap<Arc<str>, Problem> {
    let stays = |other: &UnitId, path: &HookPath| {
        other.source != *source
            || match catalog.get(&other.key) {
                None => catalog.is_kept(&other.key),
                Some(Entry { state: Err(_), .. }) => true,
                Some(entry) => entry.hook_path() == Some(path),
            }
    };
    let mut problems = BTreeMap::new();
    for (key, entry) in catalog.iter() {
        let Ok(unit) = &entry.state else { continue };
        let Some(hook) = unit.spec.hook() else { continue };
        let first = || {
            catalog
                .hooked(&hook.path)
                .next()
                .map(|key| UnitId { source: source.clone(), key: Arc::clone(key) })
        };
        let holder = held.get(&hook.path).filter(|other| stays(other, &hook.path)).cloned().or_else(first);
        let other = holder.filter(|holder| holder.source != *source || holder.key != *key);
        if let Some(other) = other {
            problems.insert(Arc::clone(key), at_place(taken(&hook.path, &other), unit));
        }
    }
    problems
}
