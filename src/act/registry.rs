//! Which version of each unit is live in this process. Holds values only; starts and stops nothing.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::model::hook::HookPath;
use crate::model::id::UnitId;
use crate::model::spec::Trigger;
use crate::model::unit::Version;

/// The live versions by unit. Clones share one registry.
///
/// A lock is held for one look-up or one change, never across anything that waits.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    live: Arc<RwLock<Live>>,
    changes: Arc<AtomicU64>,
    /// Counts that a unit has left the path of its webhook.
    freed: Arc<watch::Sender<u64>>,
    /// Counts whatever concerns the path of a webhook.
    moves: Arc<watch::Sender<u64>>,
}

/// How long a path that was left is waited for.
const HANDOVER: Duration = Duration::from_secs(1);

/// One change of the registry.
#[derive(Clone, Debug)]
pub enum Change {
    /// This version is the live one of its unit.
    Put(Arc<Version>),
    /// The unit is gone.
    Remove(UnitId),
}

#[derive(Debug, Default)]
struct Live {
    versions: HashMap<UnitId, Arc<Version>>,
    /// Those of them that follow the runs of other tasks.
    chained: BTreeSet<UnitId>,
    /// Those that are called by HTTP, by path, in the order in which they came: the first one is served.
    hooks: HashMap<HookPath, Vec<UnitId>>,
    /// Paths that were left a moment ago, and nobody came to.
    left: HashMap<HookPath, Instant>,
    listeners: Vec<UnboundedSender<UnitId>>,
}

/// What changes did to the paths of webhooks.
#[derive(Clone, Copy, Debug)]
struct Moved {
    /// Whether a unit has left one.
    left: bool,
    /// Whether a unit came to one.
    came: bool,
}

impl Live {
    fn put(&mut self, version: Arc<Version>) -> Option<Arc<Version>> {
        let unit = version.unit.clone();
        self.tell(&unit);
        if matches!(version.spec.trigger, Trigger::Chain(_)) {
            self.chained.insert(unit.clone());
        } else {
            self.chained.remove(&unit);
        }
        if let Some(hook) = version.spec.hook() {
            let there = self.hooks.entry(hook.path.clone()).or_default();
            if !there.contains(&unit) {
                there.push(unit.clone());
            }
            self.left.remove(&hook.path);
        }
        self.versions.insert(unit, version)
    }

    fn at_hook(&self, path: &str) -> Option<Arc<Version>> {
        self.versions.get(self.hooks.get(path)?.first()?).cloned()
    }

    fn remove(&mut self, unit: &UnitId) -> Option<Arc<Version>> {
        self.tell(unit);
        self.chained.remove(unit);
        self.versions.remove(unit)
    }

    /// Takes a unit away from the path that `old` was served at, unless it still is; gives back whether it was.
    fn leave(&mut self, old: Option<&Arc<Version>>) -> bool {
        let Some((version, hook)) = old.and_then(|old| Some((old, old.spec.hook()?))) else { return false };
        let now = self.versions.get(&version.unit).and_then(|version| version.spec.hook());
        if now.is_some_and(|now| now.path == hook.path) {
            return false;
        }
        if let Some(there) = self.hooks.get_mut(&hook.path) {
            there.retain(|unit| *unit != version.unit);
            if there.is_empty() {
                self.hooks.remove(&hook.path);
                let now = Instant::now();
                self.left.retain(|_, left| now - *left < HANDOVER);
                self.left.insert(hook.path.clone(), now);
            }
        }
        true
    }

    /// Gives back the versions before, and what it did to paths.
    fn change(&mut self, changes: Vec<Change>) -> (Vec<Option<Arc<Version>>>, Moved) {
        let is_hook =
            |change: &Change| matches!(change, Change::Put(version) if version.spec.hook().is_some());
        let came = changes.iter().any(is_hook);
        let before: Vec<_> = changes
            .into_iter()
            .map(|change| match change {
                Change::Put(version) => self.put(version),
                Change::Remove(unit) => self.remove(&unit),
            })
            .collect();
        // Whoever comes to a path in the same step was put behind whoever leaves it.
        let left = before.iter().filter(|old| self.leave(old.as_ref())).count();
        (before, Moved { left: left > 0, came })
    }

    fn tell(&mut self, unit: &UnitId) {
        self.listeners.retain(|listener| listener.send(unit.clone()).is_ok());
    }
}

impl Registry {
    /// Makes a version the live one of its unit; gives back the one before.
    pub fn put(&self, version: Arc<Version>) -> Option<Arc<Version>> {
        self.change(vec![Change::Put(version)]).pop().flatten()
    }

    /// Takes a unit out; gives back its version.
    pub fn remove(&self, unit: &UnitId) -> Option<Arc<Version>> {
        self.change(vec![Change::Remove(unit.clone())]).pop().flatten()
    }

    /// Makes changes in one step: nobody sees some of them without the others. Gives back the versions before.
    pub fn change(&self, changes: Vec<Change>) -> Vec<Option<Arc<Version>>> {
        let mut live = self.write();
        let (before, moved) = live.change(changes);
        drop(live);
        self.tell(moved);
        before
    }

    /// Makes changes in one step but for those that `refuse` names by their place, which it is asked under the lock, with
    /// the units that are at a path; gives back what it said. So no two come to one path.
    pub fn change_paths<R>(
        &self,
        changes: Vec<Change>,
        refuse: impl FnOnce(&dyn Fn(&HookPath) -> Vec<UnitId>) -> BTreeMap<usize, R>,
    ) -> BTreeMap<usize, R> {
        let mut live = self.write();
        let refused = refuse(&|path| live.hooks.get(path).cloned().unwrap_or_default());
        let admitted = changes.into_iter().enumerate().filter(|(at, _)| !refused.contains_key(at));
        let (_, moved) = live.change(admitted.map(|(_, change)| change).collect());
        drop(live);
        self.tell(moved);
        refused
    }

    fn tell(&self, moved: Moved) {
        if moved.left || moved.came {
            self.moves.send_modify(|count| *count += 1);
        }
        if moved.left {
            self.freed.send_modify(|count| *count += 1);
        }
    }

    /// The live version that is served at a path.
    #[must_use]
    pub fn at_hook(&self, path: &str) -> Option<Arc<Version>> {
        self.read().at_hook(path)
    }

    /// The live version that is served at a path; where the path was left a moment ago, waits for whoever comes to it: a
    /// task that moves from one source to another is gone from the first before the second one is looked at. Cancel safe.
    pub async fn coming_to_hook(&self, path: &str) -> Option<Arc<Version>> {
        let mut moves = self.moves.subscribe();
        loop {
            let until = {
                let live = self.read();
                let version = live.at_hook(path);
                if version.is_some() {
                    return version;
                }
                *live.left.get(path)? + HANDOVER
            };
            tokio::time::timeout_at(until, moves.changed()).await.ok()?.ok()?;
        }
    }

    /// Every live version that is served at a path, by path.
    #[must_use]
    pub fn at_hooks(&self) -> Vec<(HookPath, Arc<Version>)> {
        let live = self.read();
        let first = |(path, units): (&HookPath, &Vec<UnitId>)| {
            Some((path.clone(), Arc::clone(live.versions.get(units.first()?)?)))
        };
        let mut all: Vec<_> = live.hooks.iter().filter_map(first).collect();
        all.sort_by(|(a, _), (b, _)| a.cmp(b));
        all
    }

    /// The units whose live version asks for a path, in the order in which they came: the first one is served.
    #[must_use]
    pub fn hooked(&self, path: &HookPath) -> Vec<UnitId> {
        self.read().hooks.get(path).cloned().unwrap_or_default()
    }

    /// Changes whenever a unit has left the path of its webhook.
    #[must_use]
    pub fn freed(&self) -> watch::Receiver<u64> {
        self.freed.subscribe()
    }

    /// The live version of a unit.
    #[must_use]
    pub fn get(&self, unit: &UnitId) -> Option<Arc<Version>> {
        self.read().versions.get(unit).cloned()
    }

    /// Every live version of which `is_wanted` is true, and from now on the units of which the version changes.
    #[must_use]
    pub fn listen(
        &self,
        is_wanted: impl Fn(&Version) -> bool,
    ) -> (Vec<Arc<Version>>, UnboundedReceiver<UnitId>) {
        let (sender, changes) = unbounded_channel();
        let mut live = self.write();
        live.listeners.push(sender);
        let wanted = live.versions.values().filter(|version| is_wanted(version)).cloned().collect();
        (wanted, changes)
    }

    /// The units whose live version follows the runs of another task.
    #[must_use]
    pub fn chained(&self) -> Vec<UnitId> {
        self.read().chained.iter().cloned().collect()
    }

    /// A number that is another one after every change.
    #[must_use]
    pub fn changes(&self) -> u64 {
        // Taken under the lock, so that no change is half done.
        let _live = self.read();
        self.changes.load(Ordering::Relaxed)
    }

    fn read(&self) -> RwLockReadGuard<'_, Live> {
        self.live.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Live> {
        let live = self.live.write().unwrap_or_else(PoisonError::into_inner);
        self.changes.fetch_add(1, Ordering::Relaxed);
        live
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::act::tasks::tests::version;
    use crate::model::hook::Hook;

    #[test]
    fn gives_back_what_was_put_in() {
        let registry = Registry::default();
        let (old, new) = (Arc::new(version("team/jobs/digest", 1)), Arc::new(version("team/jobs/digest", 2)));
        assert!(registry.put(old.clone()).is_none());
        assert_eq!(registry.clone().put(new.clone()), Some(old));
        assert_eq!(registry.get(&new.unit), Some(new.clone()));
        assert_eq!(registry.remove(&new.unit), Some(new.clone()));
        assert!(registry.get(&new.unit).is_none() && registry.remove(&new.unit).is_none());
    }

    #[test]
    fn a_listener_hears_of_every_change_and_costs_nothing_when_it_is_gone() {
        let registry = Registry::default();
        let (one, two) = (Arc::new(version("s/one", 1)), Arc::new(version("s/two", 1)));
        registry.put(one.clone());
        registry.put(two.clone());
        let (known, mut changes) = registry.listen(|version| version.unit == one.unit);
        assert_eq!(known, std::slice::from_ref(&one));
        registry.put(one.clone());
        registry.remove(&two.unit);
        assert_eq!(
            (changes.try_recv().unwrap(), changes.try_recv().unwrap()),
            (one.unit.clone(), two.unit.clone())
        );
        drop(changes);
        registry.put(one);
        assert!(registry.read().listeners.is_empty());
    }

    fn hooked(key: &str, mark: u8, path: &str) -> Arc<Version> {
        let mut version = version(key, mark);
        let mut spec = (*version.spec).clone();
        spec.trigger = Trigger::Webhook(Hook {
            path: HookPath::parse(path).unwrap(),
            methods: Hook::DEFAULT_METHODS.to_vec(),
            secret: None,
            bearer: None,
        });
        version.spec = Arc::new(spec);
        Arc::new(version)
    }

    #[test]
    fn a_path_is_served_by_whoever_came_first_and_passes_on() {
        let registry = Registry::default();
        let (one, two) = (hooked("s/one", 1, "/hooks/a"), hooked("s/two", 1, "/hooks/a"));
        let mut freed = registry.freed();
        registry.put(one.clone());
        registry.put(two.clone());
        registry.put(hooked("s/one", 2, "/hooks/a"));
        assert_eq!(registry.at_hook("/hooks/a").unwrap().hash, hooked("s/one", 2, "/hooks/a").hash);
        assert_eq!(registry.hooked(&two.spec.hook().unwrap().path), [one.unit.clone(), two.unit.clone()]);
        assert!(!freed.has_changed().unwrap());
        registry.put(hooked("s/one", 3, "/hooks/b"));
        assert!(freed.has_changed().unwrap());
        freed.mark_unchanged();
        assert_eq!(registry.at_hook("/hooks/a"), Some(two.clone()));
        assert_eq!(registry.at_hook("/hooks/b").unwrap().unit, one.unit);
        let all = registry.at_hooks();
        let all: Vec<_> = all.iter().map(|(path, version)| (path.as_str(), &version.unit)).collect();
        assert_eq!(all, [("/hooks/a", &two.unit), ("/hooks/b", &one.unit)]);
        registry.remove(&two.unit);
        assert!(registry.at_hook("/hooks/a").is_none() && freed.has_changed().unwrap());
        registry.put(Arc::new(version("s/one", 4)));
        assert!(registry.at_hook("/hooks/b").is_none() && registry.read().hooks.is_empty());
    }

    #[test]
    fn a_path_that_goes_from_one_unit_to_another_is_always_served() {
        let registry = Registry::default();
        let (old, new) = (hooked("s/old", 1, "/hooks/a"), hooked("s/new", 1, "/hooks/a"));
        registry.put(old.clone());
        let reader = {
            let registry = registry.clone();
            std::thread::spawn(move || (0..20_000).filter(|_| registry.at_hook("/hooks/a").is_none()).count())
        };
        for _ in 0..2_000 {
            registry.change(vec![Change::Remove(old.unit.clone()), Change::Put(new.clone())]);
            registry.change(vec![Change::Put(old.clone()), Change::Remove(new.unit.clone())]);
        }
        assert_eq!(reader.join().unwrap(), 0);
    }

    #[test]
    fn reads_go_on_while_twenty_thousand_units_are_written() {
        let registry = Registry::default();
        let writer = {
            let registry = registry.clone();
            std::thread::spawn(move || {
                for at in 0..20_000 {
                    registry.put(Arc::new(version(&format!("team/unit-{at}"), 1)));
                }
            })
        };
        let (mut reads, mut longest) = (0, Duration::ZERO);
        while !writer.is_finished() {
            let began = Instant::now();
            let _ = registry.get(&version("team/unit-7", 1).unit);
            longest = longest.max(began.elapsed());
            reads += 1;
        }
        writer.join().unwrap();
        println!("{reads} reads beside 20,000 writes, the longest {longest:?}");
        assert!(registry.get(&version("team/unit-19999", 1).unit).is_some() && reads > 0);
    }
}
