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
use crate::model::step::{Action, Rule, Step};
use crate::model::unit::Version;
use crate::observe::Source;
use crate::plan::catalog::{Found, Resolved};
use crate::plan::hook::{Move, Taken};
use crate::plan::{chain, hook};

use super::message::{Look, Refusal, RefusalKind};
use super::pass::{Decision, Verdict};
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
    /// Why the webhook of a unit cannot be served, whatever its path.
    pub(super) fn secretless(&self, unit: &Resolved) -> Option<Problem> {
        let problem = self.core.hooks.keys(unit.spec.hook()?).err()?;
        Some(chain::at_place(problem, unit))
    }

    /// Refuses what would come to a path that another task has, and what is second at its own.
    ///
    /// Only decisions count, not what files ask for: who is broken, held or put off stays where it is.
    pub(super) fn refuse_taken(&self, decisions: &mut [Decision]) {
        let moves: Vec<(usize, Move)> = decisions
            .iter()
            .enumerate()
            .filter_map(|(at, decision)| Some((at, self.decided_move(decision)?)))
            .collect();
        if moves.is_empty() {
            return;
        }
        let (places, moves): (Vec<usize>, Vec<Move>) = moves.into_iter().unzip();
        for (at, taken) in hook::refused(&moves, |path| self.core.registry.hooked(path)) {
            let decision = &mut decisions[places[at]];
            decision.verdict = Verdict::Broken(vec![self.taken(&decision.key, &taken)]);
        }
    }

    fn decided_move(&self, decision: &Decision) -> Option<Move> {
        match &decision.verdict {
            Verdict::Step(step, version) => self.move_of(step, version.as_ref()),
            Verdict::Broken(_) => None,
        }
    }

    /// What a step does with the path of its unit; `None` where it is nowhere before and after, or nothing is done.
    pub(super) fn move_of(&self, step: &Step, version: Option<&Arc<Version>>) -> Option<Move> {
        let path = |version: &Arc<Version>| Some(version.spec.hook()?.path.clone());
        let from = self.core.registry.get(&step.unit).as_ref().and_then(path);
        let to = match step.action {
            Action::Noop if step.rule == Rule::Same => from.clone(),
            Action::Noop => return None,
            Action::Sync => version.and_then(path),
            Action::Remove => None,
        };
        (from.is_some() || to.is_some()).then(|| Move { unit: step.unit.clone(), from, to })
    }

    /// What is wrong with a unit that came to a path after another one.
    pub(super) fn taken(&self, key: &Arc<str>, taken: &Taken) -> Problem {
        let problem = hook::taken(&taken.path, &taken.by);
        match self.catalog.get(key).map(|entry| &entry.state) {
            Some(Ok(unit)) => chain::at_place(problem, unit),
            _ => problem,
        }
    }

    /// The units that ask for a path which one of these decisions leaves.
    pub(super) fn heirs(&self, decisions: &[Decision]) -> impl Iterator<Item = Arc<str>> {
        let left = decisions.iter().filter_map(|decision| {
            let one = self.decided_move(decision)?;
            one.from.filter(|from| one.to.as_ref() != Some(from))
        });
        left.flat_map(|path| self.catalog.hooked(&path).cloned().collect::<Vec<_>>())
            .filter(|key| !self.is_unread(key))
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
