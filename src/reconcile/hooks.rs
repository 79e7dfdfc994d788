//! Task webhooks: the secrets that they are protected by, and who is served at which path.
//!
//! A path is the task's that was there first. Whoever asks for it too has a problem until it is free, whatever source it
//! is in. Looks secrets up in kindling's environment whenever they are needed and never keeps one.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::sync::Arc;
use std::time::Duration;

use crate::act::Target;
use crate::config::secret::Secret;
use crate::model::hook::{Hook, HookPath};
use crate::model::id::UnitId;
use crate::model::problem::{Problem, Reason};
use crate::observe::Source;
use crate::plan::catalog::{Entry, Found, Resolved};
use crate::plan::{chain, hook};

use super::message::{Look, Refusal, RefusalKind};
use super::source_loop::SourceLoop;

/// Shortest secret, in bytes (DESIGN 9).
const MIN_SECRET_BYTES: usize = 16;

/// Looks up the secrets of task webhooks. Clones are one.
#[derive(Clone)]
pub struct HookSecrets(Arc<Variable>);

/// Gives the value of a variable.
type Variable = dyn Fn(&str) -> Option<OsString> + Send + Sync;

/// What a caller of a task webhook has to know.
#[derive(Clone, Debug)]
pub struct HookKeys {
    /// What the body is signed with.
    pub secret: Option<Secret>,
    /// What the header `Authorization` carries.
    pub bearer: Option<Secret>,
}

impl HookSecrets {
    /// `variable` gives the value of a variable of kindling's environment.
    #[must_use]
    pub fn new(variable: impl Fn(&str) -> Option<OsString> + Send + Sync + 'static) -> Self {
        Self(Arc::new(variable))
    }

    /// What callers of a webhook have to know now.
    ///
    /// # Errors
    /// A variable is not set, or its value is no secret: a problem of the unit, and nobody may be served.
    pub fn keys(&self, hook: &Hook) -> Result<HookKeys, Problem> {
        let of = |option: &str, name: &Option<String>| match name {
            Some(name) => {
                self.secret(name, option == "bearer").map(Some).map_err(|why| hook::secretless(option, &why))
            }
            None => Ok(None),
        };
        Ok(HookKeys { secret: of("webhook_secret", &hook.secret)?, bearer: of("bearer", &hook.bearer)? })
    }

    fn secret(&self, name: &str, is_token: bool) -> Result<Secret, String> {
        let Some(value) = (self.0)(name) else {
            return Err(format!("names the variable `{name}`, which is not set where kindling runs"));
        };
        let is_plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
        match value.into_string() {
            Ok(text) if text.len() < MIN_SECRET_BYTES => {
                Err(format!("names the variable `{name}`, whose value is shorter than 16 bytes"))
            }
            Ok(text) if !is_token || is_plain(&text) => Ok(Secret::new(text)),
            _ => Err(format!(
                "names the variable `{name}`, whose value has a space or a character that is not ASCII"
            )),
        }
    }
}

impl<S: Source, T: Target> SourceLoop<S, T> {
    /// Why the webhook of a unit cannot be served.
    pub(super) fn unserved(&self, key: &Arc<str>, unit: &Resolved) -> Option<Problem> {
        let hook = unit.spec.hook()?;
        let problem = match self.holder(&self.unit_id(key), &hook.path) {
            Some(other) => hook::taken(&hook.path, &other),
            None => self.core.hooks.keys(hook).err()?,
        };
        Some(chain::at_place(problem, unit))
    }

    /// The other unit that has the path which a unit asks for.
    fn holder(&self, unit: &UnitId, path: &HookPath) -> Option<UnitId> {
        let there = self.core.registry.hooked(path);
        let is_live = there.contains(unit);
        let mut before = there.into_iter().take_while(|other| other != unit);
        let earlier = before.find(|other| self.stays_at(other, path));
        let own = || {
            // None of them is live: the first in order is.
            let first = self.catalog.hooked(path).next().filter(|first| **first < unit.key)?;
            Some(self.unit_id(first))
        };
        earlier.or_else(|| if is_live { None } else { own() })
    }

    /// Whether a unit that is live at a path will be there after this pass.
    fn stays_at(&self, other: &UnitId, path: &HookPath) -> bool {
        if other.source != self.record.spec.name {
            return true;
        }
        let is_kept = self.is_suspended()
            || self
                .units
                .get(&other.key)
                .is_some_and(|unit| unit.record.suspended.is_some() || unit.record.hold.is_some());
        match self.catalog.get(&other.key) {
            None => is_kept || self.catalog.is_kept(&other.key),
            Some(Entry { state: Err(_), .. }) => true,
            Some(entry) => is_kept || entry.hook_path() == Some(path),
        }
    }

    /// Before the catalog takes `found` in: the paths that units ask for of which something differs.
    pub(super) fn before_hooks(&self, found: &Found) -> BTreeSet<HookPath> {
        found.keys().filter_map(|key| self.catalog.get(key)?.hook_path().cloned()).collect()
    }

    /// After the catalog took it in: decides about every unit that asks for a path which another one comes to or leaves.
    pub(super) fn after_hooks(&mut self, mut paths: BTreeSet<HookPath>, changed: &[Arc<str>]) {
        paths.extend(changed.iter().filter_map(|key| self.catalog.get(key)?.hook_path().cloned()));
        for path in paths {
            self.undecided.extend(self.catalog.hooked(&path).cloned());
        }
    }

    /// A path may be free: whoever waits for one is decided.
    pub(super) fn path_freed(&mut self) {
        let waits = |unit: &&super::units::Unit| {
            unit.record.problems.iter().any(|problem| problem.reason == Reason::PathTaken)
        };
        let keys: Vec<Arc<str>> =
            self.units.restless().filter(waits).map(|unit| Arc::clone(&unit.record.id.key)).collect();
        if !keys.is_empty() {
            self.undecided.extend(keys);
            self.pass_after(Duration::ZERO, Look::Away);
        }
    }

    /// Why a unit may not go back to a version.
    pub(super) fn refused_path(&self, unit: &UnitId, hook: Option<&Hook>) -> Option<Refusal> {
        let path = &hook?.path;
        let other = self.core.registry.hooked(path).into_iter().next().filter(|first| first != unit)?;
        let message = format!("that version of {unit} asks for {path}, where {other} is served");
        Some(Refusal::new(RefusalKind::Conflict, message).hint(format!("kindling why {other}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secrets() -> HookSecrets {
        HookSecrets::new(|name| match name {
            "GOOD" => Some("0123456789abcdef".into()),
            "SHORT" => Some("0123456789abcde".into()),
            "SPACED" => Some("0123456789 abcdef".into()),
            "EMPTY" => Some(OsString::new()),
            _ => None,
        })
    }

    fn told(secret: Option<&str>, bearer: Option<&str>) -> Result<(bool, bool), String> {
        let hook = Hook {
            path: HookPath::parse("/hooks/a").unwrap(),
            methods: Hook::DEFAULT_METHODS.to_vec(),
            secret: secret.map(str::to_owned),
            bearer: bearer.map(str::to_owned),
        };
        let keys = secrets().keys(&hook).map_err(|problem| {
            assert_eq!(problem.reason, Reason::MissingSecret);
            problem.message
        })?;
        Ok((keys.secret.is_some(), keys.bearer.is_some()))
    }

    #[test]
    fn a_secret_that_is_not_one_leaves_nothing_open() {
        assert_eq!(told(None, None), Ok((false, false)));
        assert_eq!(told(Some("GOOD"), Some("GOOD")), Ok((true, true)));
        assert_eq!(told(Some("SPACED"), None), Ok((true, false)));
        for (secret, bearer) in [
            (Some("NONE"), None),
            (Some("SHORT"), None),
            (Some("EMPTY"), None),
            (Some("GOOD"), Some("NONE")),
            (Some("NONE"), Some("GOOD")),
            (None, Some("SPACED")),
            (None, Some("SHORT")),
        ] {
            assert!(told(secret, bearer).is_err(), "{secret:?} {bearer:?}");
        }
        insta::assert_snapshot!(told(Some("NONE"), None).unwrap_err(), @"`trigger.webhook_secret` names the variable `NONE`, which is not set where kindling runs, so the webhook is not served");
        insta::assert_snapshot!(told(None, Some("SHORT")).unwrap_err(), @"`trigger.bearer` names the variable `SHORT`, whose value is shorter than 16 bytes, so the webhook is not served");
    }
}
