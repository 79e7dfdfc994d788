//! What tasks are chained to across sources, as their manifests say it now, and how one source's loop reaches another.
//!
//! Decides nothing: each loop looks for circles itself (`circles`).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc::UnboundedSender;

use crate::model::id::{SourceName, UnitId};

use super::message::Message;

/// What a manifest says of the task that starts its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Link {
    /// It is chained to what `from` names.
    To(Arc<str>),
    /// It is not chained, whatever its live version is.
    None,
    /// The manifest cannot be read, or there is none: what is live counts.
    Unknown,
}

/// The links of all sources.
#[derive(Default)]
pub struct Links(Mutex<Known>);

#[derive(Default)]
struct Known {
    links: HashMap<UnitId, Link>,
    /// From what a `from` names, as it is written, to the tasks that name it.
    named: HashMap<Arc<str>, BTreeSet<UnitId>>,
    loops: HashMap<SourceName, UnboundedSender<Message>>,
    /// Sources whose first look is not over, with the units of others that wait for it.
    awaited: BTreeMap<SourceName, BTreeSet<UnitId>>,
}

impl Links {
    /// Sources are about to be started: until each was looked at, nobody knows what its tasks are chained to.
    pub(super) fn await_looks(&self, sources: impl Iterator<Item = SourceName>) {
        let mut known = self.known();
        for source in sources {
            known.awaited.entry(source).or_default();
        }
    }

    /// The first look at a source is over, however it ended, or there will be none; whoever waits for it is told.
    pub(super) fn looked(&self, source: &SourceName) {
        let mut known = self.known();
        if let Some(waiting) = known.awaited.remove(source) {
            known.tell(waiting);
        }
    }

    /// Whether the first look at any source is not over.
    pub(super) fn is_any_awaited(&self) -> bool {
        !self.known().awaited.is_empty()
    }

    /// Whether the first look at a source is not over.
    pub(super) fn is_awaited(&self, source: &SourceName) -> bool {
        self.known().awaited.contains_key(source)
    }

    /// Has the loop of a unit look at it again as soon as the first look at `source` is over.
    pub(super) fn wake_after(&self, source: &SourceName, unit: UnitId) {
        let mut known = self.known();
        match known.awaited.get_mut(source) {
            Some(waiting) => drop(waiting.insert(unit)),
            None => known.tell([unit]),
        }
    }

    /// A source's loop begins.
    pub(super) fn join(&self, source: SourceName, inbox: UnboundedSender<Message>) {
        self.known().loops.insert(source, inbox);
    }

    /// A source is gone, and its tasks with it; whoever is chained to one of them is told.
    pub(super) fn leave(&self, source: &SourceName) {
        let mut known = self.known();
        known.loops.remove(source);
        if let Some(waiting) = known.awaited.remove(source) {
            known.tell(waiting);
        }
        let gone: Vec<UnitId> = known.links.keys().filter(|unit| unit.source == *source).cloned().collect();
        for unit in gone {
            known.set(unit, Link::Unknown);
        }
        let is_in = |from: &Arc<str>| from.split_once('/').is_some_and(|(name, _)| name == source.as_str());
        let followers = known.named.iter().filter(|(from, _)| is_in(from));
        let followers: Vec<UnitId> = followers.flat_map(|(_, units)| units.iter().cloned()).collect();
        known.tell(followers);
    }

    /// What the manifest of a unit says now.
    pub(super) fn set(&self, unit: UnitId, link: Link) {
        self.known().set(unit, link);
    }

    pub(super) fn get(&self, unit: &UnitId) -> Link {
        self.known().links.get(unit).cloned().unwrap_or(Link::Unknown)
    }

    /// Has the loops of other sources look again at those of their tasks that name one of `units`.
    pub(super) fn tell_followers(&self, units: impl Iterator<Item = UnitId>) {
        let known = self.known();
        if known.named.is_empty() {
            return;
        }
        let followers = units.flat_map(|unit| {
            let named = known.named.get(unit.to_string().as_str()).into_iter().flatten();
            named.filter(move |follower| follower.source != unit.source)
        });
        let followers: Vec<UnitId> = followers.cloned().collect();
        known.tell(followers);
    }

    /// Has the loops of these units look at them again.
    pub(super) fn tell(&self, units: impl IntoIterator<Item = UnitId>) {
        self.known().tell(units);
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn set(&mut self, unit: UnitId, link: Link) {
        let before = match &link {
            Link::Unknown => self.links.remove(&unit),
            _ => self.links.insert(unit.clone(), link.clone()),
        };
        if let Some(Link::To(from)) = before
            && let Some(units) = self.named.get_mut(&from)
        {
            units.remove(&unit);
            if units.is_empty() {
                self.named.remove(&from);
            }
        }
        if let Link::To(from) = link {
            self.named.entry(from).or_default().insert(unit);
        }
    }

    fn tell(&self, units: impl IntoIterator<Item = UnitId>) {
        let mut by_source: BTreeMap<SourceName, BTreeSet<Arc<str>>> = BTreeMap::new();
        for unit in units {
            by_source.entry(unit.source).or_default().insert(unit.key);
        }
        for (source, keys) in by_source {
            if let Some(inbox) = self.loops.get(&source) {
                // A loop that has ended has nothing to look at.
                let _ = inbox.send(Message::Rechain(keys));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc::unbounded_channel;

    use super::*;

    fn id(text: &str) -> UnitId {
        UnitId::parse(text).unwrap()
    }

    #[test]
    fn tells_the_followers_in_other_sources_and_forgets_who_follows_no_more() {
        let links = Links::default();
        let (inbox, mut told) = unbounded_channel();
        links.join(id("a/x").source, inbox);
        links.set(id("a/x"), Link::To("b/y".into()));
        links.set(id("b/z"), Link::To("b/y".into()));
        links.tell_followers([id("b/y"), id("b/other")].into_iter());
        let Ok(Message::Rechain(keys)) = told.try_recv() else { panic!("nobody was told") };
        assert_eq!(keys, BTreeSet::from(["x".into()]));
        assert!(told.try_recv().is_err());
        links.set(id("a/x"), Link::None);
        links.tell_followers([id("b/y")].into_iter());
        assert!(told.try_recv().is_err());
        assert_eq!((links.get(&id("a/x")), links.get(&id("a/w"))), (Link::None, Link::Unknown));
    }

    #[test]
    fn whoever_waits_for_a_first_look_is_told_when_it_is_over_and_only_then() {
        let links = Links::default();
        let (inbox, mut told) = unbounded_channel();
        let [a, b, c] = ["a/x", "b/x", "c/x"].map(|text| id(text).source);
        links.join(a.clone(), inbox);
        links.await_looks([a.clone(), b.clone(), c.clone()].into_iter());
        links.wake_after(&b, id("a/x"));
        links.wake_after(&c, id("a/y"));
        links.looked(&a);
        assert!(told.try_recv().is_err() && links.is_awaited(&b));
        links.looked(&b);
        let is_of = |message, key: &str| matches!(message, Ok(Message::Rechain(keys)) if keys.contains(key));
        assert!(is_of(told.try_recv(), "x") && !links.is_awaited(&b));
        links.leave(&c);
        assert!(is_of(told.try_recv(), "y") && !links.is_any_awaited());
        // It was over before anybody could wait.
        links.wake_after(&b, id("a/z"));
        assert!(is_of(told.try_recv(), "z"));
    }

    #[test]
    fn a_source_that_leaves_takes_its_links_along_and_its_followers_are_told() {
        let links = Links::default();
        let (inbox, mut told) = unbounded_channel();
        links.join(id("a/x").source, inbox);
        links.set(id("a/x"), Link::To("b/y".into()));
        links.set(id("b/y"), Link::To("a/x".into()));
        links.leave(&id("b/y").source);
        assert!(matches!(told.try_recv(), Ok(Message::Rechain(keys)) if keys.contains("x")));
        assert_eq!(links.get(&id("b/y")), Link::Unknown);
        links.leave(&id("a/x").source);
        assert!(links.known().links.is_empty() && links.known().named.is_empty());
    }
}
