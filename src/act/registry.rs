//! Which version of each unit is live in this process. Holds values only; starts and stops nothing.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

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
}

#[derive(Debug, Default)]
struct Live {
    versions: HashMap<UnitId, Arc<Version>>,
    /// Those of them that follow the runs of other tasks.
    chained: BTreeSet<UnitId>,
    listeners: Vec<UnboundedSender<UnitId>>,
}

impl Live {
    fn tell(&mut self, unit: &UnitId) {
        self.listeners.retain(|listener| listener.send(unit.clone()).is_ok());
    }
}

impl Registry {
    /// Makes a version the live one of its unit; gives back the one before.
    pub fn put(&self, version: Arc<Version>) -> Option<Arc<Version>> {
        let mut live = self.write();
        live.tell(&version.unit);
        if matches!(version.spec.trigger, Trigger::Chain(_)) {
            live.chained.insert(version.unit.clone());
        } else {
            live.chained.remove(&version.unit);
        }
        live.versions.insert(version.unit.clone(), version)
    }

    /// Takes a unit out; gives back its version.
    pub fn remove(&self, unit: &UnitId) -> Option<Arc<Version>> {
        let mut live = self.write();
        live.tell(unit);
        live.chained.remove(unit);
        live.versions.remove(unit)
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
    use std::time::{Duration, Instant};

    use super::*;
    use crate::act::tasks::tests::version;

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
