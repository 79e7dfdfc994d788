//! What the changes reach: the units and sets that are looked at.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::model::path::RelPath;
use crate::model::tree::Changes;
use crate::plan::catalog::{Known, sets_above};
use crate::plan::exclude;

use super::{SET_MANIFEST, TASK_MANIFEST, Work};

impl Work<'_> {
    pub(super) fn start(&mut self) {
        match self.input.changes {
            Changes::All => self.look_within(&RelPath::root()),
            Changes::Paths(paths) => {
                let mut touched = BTreeSet::new();
                for path in paths {
                    self.changed(path, &mut touched);
                }
                for key in &touched {
                    if self.has_root(key) {
                        self.visit(key);
                    }
                }
            }
        }
    }

    /// Whether `dir` holds a file of this name.
    pub(super) fn holds(&self, dir: &RelPath, name: &str) -> bool {
        dir.join(name).is_ok_and(|path| self.input.tree.get(&path).is_some())
    }

    /// Whether only referenced directories are units here: a set lies in `dir` or above it, or it is in another
    /// repository.
    pub(super) fn is_in_set(&self, dir: &RelPath) -> bool {
        dir.mount_point().is_some()
            || self.holds(dir, SET_MANIFEST)
            || dir.ancestors().any(|above| self.holds(&above, SET_MANIFEST))
    }

    pub(super) fn is_below_set(&self, dir: &RelPath) -> bool {
        dir.ancestors().any(|above| self.holds(&above, SET_MANIFEST))
    }

    /// Whether the set is still there, and still the topmost one, that everything above this key begins with.
    fn has_root(&self, key: &Arc<str>) -> bool {
        let above = sets_above(self.input.catalog, key);
        let root = self.input.catalog.set(above.last().unwrap_or(&key));
        root.is_some_and(|set| self.holds(&set.dir, SET_MANIFEST) && !self.is_below_set(&set.dir))
    }

    fn changed(&mut self, path: &RelPath, touched: &mut BTreeSet<Arc<str>>) {
        let catalog = self.input.catalog;
        let manifest = path.name().filter(|name| matches!(*name, SET_MANIFEST | TASK_MANIFEST));
        if manifest == Some(SET_MANIFEST)
            && !exclude::is_never(path)
            && path.mount_point().is_none()
            && let Some(dir) = path.parent()
            && !self.is_below_set(&dir)
        {
            let key = dir.as_str();
            let was_root = catalog.set(key).is_some() && catalog.declared(key).is_none();
            if was_root != self.holds(&dir, SET_MANIFEST) {
                self.look_within(&dir);
            }
        }
        self.root_is_dirty |= catalog.root().is_some();
        for place in path.ancestors().chain([path.clone()]) {
            let is_manifest_of = manifest.is_some() && path.parent().as_ref() == Some(&place);
            for key in catalog.users_of(&place) {
                let is_set = catalog.set(key).is_some();
                if is_manifest_of && (is_set || catalog.declared(key).is_some()) {
                    touched.insert(Arc::clone(key));
                    self.reread.insert(Arc::clone(key));
                }
                if catalog.get(key).is_some() && Some(key) != self.view.root_key() {
                    self.dirty.insert(Arc::clone(key));
                }
            }
            self.look_at_task(&place);
        }
    }

    /// Looks at a task outside sets, if there is one in `dir`.
    fn look_at_task(&mut self, dir: &RelPath) {
        if !self.holds(dir, TASK_MANIFEST) || exclude::is_never(dir) || self.is_in_set(dir) {
            return;
        }
        if dir.is_root() {
            self.root_is_dirty = true;
            return;
        }
        let key: Arc<str> = Arc::from(dir.as_str());
        if self.view.root_key() == Some(&key) {
            self.root_is_dirty = true;
        }
        self.view.drop_set(&key);
        self.view.drop_declared(&key);
        self.visited.insert(Arc::clone(&key));
        self.dirty.insert(key);
    }

    /// Looks at everything in `dir` and below it.
    fn look_within(&mut self, dir: &RelPath) {
        self.scopes.push(Arc::from(dir.as_str()));
        let paths = || {
            let own = [SET_MANIFEST, TASK_MANIFEST].map(|name| dir.join(name).ok());
            let own = own.into_iter().flatten().filter(|path| self.input.tree.get(path).is_some());
            // Below the source's own path lies everything.
            let own: Vec<RelPath> = if dir.is_root() { Vec::new() } else { own.collect() };
            let below = self.input.tree.below(dir).map(|(path, _)| path.clone());
            let all: BTreeSet<RelPath> = own.into_iter().chain(below).collect();
            all.into_iter().filter(|path| !exclude::is_never(path) && path.mount_point().is_none())
        };
        let (mut sets, mut tasks) = (BTreeSet::new(), Vec::new());
        for path in paths() {
            match (path.name(), path.parent()) {
                (Some(SET_MANIFEST), Some(parent)) => {
                    sets.insert(parent);
                }
                (Some(TASK_MANIFEST), Some(parent)) => tasks.push(parent),
                _ => {}
            }
        }
        let is_below = |dir: &RelPath| dir.ancestors().any(|above| sets.contains(&above));
        let roots: Vec<RelPath> = sets.iter().filter(|dir| !is_below(dir)).cloned().collect();
        for dir in tasks.iter().filter(|dir| !sets.contains(*dir) && !is_below(dir)) {
            self.look_at_task(dir);
        }
        if dir.is_root() && self.input.catalog.root().is_some() {
            self.root_is_dirty = true;
        }
        for root in roots {
            self.visit_root(&root);
        }
    }
}
