//! Doubt about removals: a manifest that stopped declaring units may be a save half done.
//!
//! Only delays. It never decides what is removed, and a person's command does not wait for it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::act::Target;
use crate::model::history::TriggerKind;
use crate::model::path::RelPath;
use crate::model::step::Action;
use crate::model::tree::Tree;
use crate::observe::Source;
use crate::plan::catalog::{Catalog, Found, is_within};

use super::message::{Look, PassOrder};
use super::pass::{Decision, Verdict};
use super::source_loop::SourceLoop;

/// How long a manifest that stopped declaring units has to be at rest before they go. An editor that writes in place
/// takes some milliseconds, a program that writes file by file some more.
const REST: Duration = Duration::from_millis(300);

/// The same where its last line lost its end: whoever wrote it most likely has not finished. Other tools that wait for
/// writes to finish wait as long by default.
const CUT_REST: Duration = Duration::from_secs(2);

/// How long a manifest that never rests is waited for.
const LONGEST: Duration = Duration::from_secs(10);

/// A unit that nothing declares any more.
struct Suspect {
    /// The directory that its files were in.
    dir: RelPath,
    /// What is held back with it: an entry that got another key is not to run beside its old self.
    scope: Arc<str>,
}

/// Units that would go although their directory is still there.
#[derive(Default)]
pub(super) struct Doubts {
    suspects: BTreeMap<Arc<str>, Suspect>,
    /// Sets whose manifest ended with a whole line before, and does not now.
    cut: BTreeSet<Arc<str>>,
    /// When the first of them came up, and when a manifest that matters changed last.
    since: Option<(Instant, Instant)>,
}

impl Doubts {
    /// Takes note of what a discovery found, before `catalog` knows it.
    pub fn note(&mut self, found: &Found, catalog: &Catalog, now: Instant) {
        let mut moved = false;
        for (key, entry) in found.gone(catalog) {
            // What another repository's commit says is whole.
            if entry.dir.mount_point().is_some() {
                continue;
            }
            let scope = found.reread_above(catalog, key).cloned();
            let scope =
                scope.unwrap_or_else(|| if entry.dir.is_root() { "".into() } else { Arc::clone(key) });
            moved |=
                self.suspects.insert(Arc::clone(key), Suspect { dir: entry.dir.clone(), scope }).is_none();
        }
        for (set, was_whole, is_whole) in found.reread(catalog) {
            if is_whole {
                self.cut.remove(set);
            } else if was_whole {
                self.cut.insert(Arc::clone(set));
            }
            moved |= self.suspects.values().any(|suspect| is_within(&suspect.scope, set));
        }
        if moved {
            let since = self.since.map_or(now, |(since, _)| since);
            self.since = Some((since, now));
        }
    }

    /// Forgets those that are declared again and those whose directory is gone.
    pub fn keep(&mut self, catalog: &Catalog, tree: &Tree) {
        self.suspects
            .retain(|key, suspect| catalog.get(key).is_none() && tree.below(&suspect.dir).next().is_some());
        if self.suspects.is_empty() {
            self.clear();
        }
    }

    fn clear(&mut self) {
        // A manifest that has rested without the end of its last line is one that has none.
        *self = Self::default();
    }

    /// Until when they stay.
    fn until(&self) -> Option<Instant> {
        let (since, moved) = self.since?;
        let is_cut = |suspect: &Suspect| self.cut.iter().any(|set| is_within(&suspect.scope, set));
        let rest = if self.suspects.values().any(is_cut) { CUT_REST } else { REST };
        Some((moved + rest).min(since + LONGEST))
    }
}

impl<S: Source, T: Target> SourceLoop<S, T> {
    /// Takes out of a pass what is held back while units would go whose directory is still there: an editor or a
    /// program may be in the middle of a save of the manifest that declares them. They go if it says the same after a
    /// rest. Gives back what is left to do, and the keys that were held back.
    pub(super) fn hold_doubtful(
        &mut self,
        order: &PassOrder,
        decisions: Vec<Decision>,
    ) -> (Vec<Decision>, BTreeSet<Arc<str>>) {
        let now = Instant::now();
        let follows = matches!(order.cause.kind, TriggerKind::File | TriggerKind::Poll);
        let Some(until) = self.doubts.until().filter(|until| follows && now < *until) else {
            self.doubts.clear();
            return (decisions, BTreeSet::new());
        };
        let scopes: BTreeSet<&Arc<str>> = decisions
            .iter()
            .filter(|decision| matches!(&decision.verdict, Verdict::Step(step, _) if step.action == Action::Remove))
            .filter_map(|decision| Some(&self.doubts.suspects.get(&decision.key)?.scope))
            .collect();
        let is_held = |decision: &Decision| scopes.iter().any(|scope| is_within(&decision.key, scope));
        let (held, free): (Vec<_>, Vec<_>) = decisions.into_iter().partition(is_held);
        if !held.is_empty() {
            self.pass_after(until - now, Look::Full);
        }
        (free, held.into_iter().map(|decision| decision.key).collect())
    }
}
