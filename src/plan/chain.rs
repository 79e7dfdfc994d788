//! Tasks that other tasks start: which one `from` means, and circles among them.
//!
//! A task is chained to at most one other, so a circle is found by following.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::model::id::UnitId;
use crate::model::problem::{Problem, Reason};

use super::catalog::{Catalog, Resolved};

/// Most members of a circle that a message names.
const MOST_NAMED: usize = 10;

/// The units that `from` in a manifest of `unit` may mean, the first one that is there counts: the unit of this id,
/// else a key in the same set or directory (DESIGN 5).
#[must_use]
pub fn candidates(unit: &UnitId, from: &str) -> Vec<UnitId> {
    let sibling = UnitId::new(unit.source.clone(), &sibling(&unit.key, from));
    UnitId::parse(from).ok().into_iter().chain([sibling]).collect()
}

/// The keys of the unit's own source among [`candidates`], whatever that source is called, and perhaps others.
pub(super) fn candidate_keys(key: &str, from: &str) -> impl Iterator<Item = Arc<str>> {
    let beside = Arc::from(sibling(key, from));
    let whole = from.split_once('/').map(|(_, rest)| Arc::from(rest));
    [beside].into_iter().chain(whole)
}

/// The key that `from` is beside `key`.
fn sibling(key: &str, from: &str) -> String {
    match key.rsplit_once('/') {
        Some((above, _)) => format!("{above}/{from}"),
        None => from.to_owned(),
    }
}

/// The unit that `from` in a manifest of `unit` means.
#[must_use]
pub fn origin(unit: &UnitId, from: &str, is_there: impl Fn(&UnitId) -> bool) -> Option<UnitId> {
    candidates(unit, from).into_iter().find(is_there)
}

/// Follows chains and remembers what it found, so that looking at many units costs a step for each.
#[derive(Debug)]
pub struct Circles<K> {
    /// Units that were followed, with the circle that they are in.
    known: BTreeMap<K, Option<Arc<[K]>>>,
}

impl<K> Default for Circles<K> {
    fn default() -> Self {
        Self { known: BTreeMap::new() }
    }
}

impl<K: Clone + Ord> Circles<K> {
    /// The circle that `unit` is in, from it on, each chained to the next and the last one to `unit`; `next` gives the
    /// unit that another one is chained to.
    pub fn of(&mut self, unit: &K, next: impl Fn(&K) -> Option<K>) -> Option<Vec<K>> {
        if !self.known.contains_key(unit) {
            self.follow(unit, next);
        }
        let circle = self.known.get(unit)?.as_deref()?;
        let at = circle.iter().position(|member| member == unit)?;
        Some(circle[at..].iter().chain(&circle[..at]).cloned().collect())
    }

    fn follow(&mut self, unit: &K, next: impl Fn(&K) -> Option<K>) {
        let (mut way, mut on_way) = (Vec::new(), BTreeSet::new());
        let mut at = Some(unit.clone());
        while let Some(unit) = at.take_if(|unit| !self.known.contains_key(unit)) {
            if !on_way.insert(unit.clone()) {
                let first = way.iter().position(|other| *other == unit).unwrap_or_default();
                let circle: Arc<[K]> = way.split_off(first).into();
                self.known.extend(circle.iter().map(|member| (member.clone(), Some(circle.clone()))));
                break;
            }
            at = next(&unit);
            way.push(unit);
        }
        self.known.extend(way.into_iter().map(|unit| (unit, None)));
    }
}

/// What is wrong with the first unit of a circle; without its place.
#[must_use]
pub fn circle<K: std::fmt::Display>(members: &[K]) -> Problem {
    let [first, others @ ..] = members else { return Problem::new(Reason::ChainCycle, "") };
    let message = if others.is_empty() {
        "is chained to itself: its own end would start it for ever".to_owned()
    } else {
        let named: Vec<String> = others.iter().take(MOST_NAMED).map(ToString::to_string).collect();
        let more = others.len().saturating_sub(MOST_NAMED);
        let more = if more == 0 { String::new() } else { format!(", {more} more") };
        let named = named.join(", which is chained to ");
        format!(
            "is chained to {named}{more}, which is chained to {first}: they would start each other for ever"
        )
    };
    Problem::new(Reason::ChainCycle, message)
}

/// The circles of a catalog whose source has no name yet, a problem for each unit in one; and the warnings of units that
/// are chained to a neighbour that is not there.
#[must_use]
pub fn of_nameless(catalog: &Catalog) -> (Vec<Problem>, Vec<Problem>) {
    let (mut circles, mut problems, mut warnings) = (Circles::default(), Vec::new(), Vec::new());
    let next = |key: &Arc<str>| {
        // A whole id may be one of another source: only what is beside the task is surely its own.
        let beside = sibling(key, catalog.get(key)?.chained_to()?);
        catalog.get(&beside).map(|_| Arc::from(beside))
    };
    for (key, entry) in catalog.iter() {
        let (Some(from), Ok(unit)) = (entry.chained_to(), &entry.state) else { continue };
        if let Some(members) = circles.of(key, next) {
            problems.push(at_place(circle(&members), unit));
        } else if !from.contains('/') && next(key).is_none() {
            warnings.push(at_place(not_there(&sibling(key, from)), unit));
        }
    }
    (problems, warnings)
}

/// A problem at the place where the trigger of `unit` names another task, or a path.
#[must_use]
pub fn at_place(problem: Problem, unit: &Resolved) -> Problem {
    match &unit.named_at {
        Some((file, at)) => problem.in_file(file.clone()).at(at.line, at.column),
        None => problem,
    }
}

/// The warning of a unit that is chained to nothing that is there; without its place.
#[must_use]
pub fn unknown(unit: &UnitId, from: &str) -> Problem {
    let looked: Vec<String> = candidates(unit, from).iter().map(ToString::to_string).collect();
    not_there(&looked.join("` and no `"))
}

fn not_there(looked: &str) -> Problem {
    let message = "`trigger.chain.from` names no task that is there, so nothing starts it: there is no";
    Problem::new(Reason::UnknownTask, format!("{message} `{looked}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> UnitId {
        UnitId::parse(text).unwrap()
    }

    fn circle_of(links: &[(&str, &str)], unit: &str) -> Option<Vec<String>> {
        let next = |unit: &UnitId| links.iter().find(|(from, _)| id(from) == *unit).map(|(_, to)| id(to));
        let mut circles = Circles::default();
        // Whatever was looked at before.
        links.iter().for_each(|(unit, _)| drop(circles.of(&id(unit), next)));
        let fresh = Circles::default().of(&id(unit), next);
        assert_eq!(circles.of(&id(unit), next), fresh);
        Some(fresh?.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_full_id_counts_before_a_neighbour() {
        let unit = id("team/jobs/digest");
        let all = |from: &str| candidates(&unit, from).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(all("build"), ["team/jobs/build"]);
        assert_eq!(all("other/build"), ["other/build", "team/jobs/other/build"]);
        assert_eq!(candidates(&id("team/a"), "b"), [id("team/b")]);
        let there = |known: &'static str| move |unit: &UnitId| *unit == id(known);
        assert_eq!(origin(&unit, "sub/x", there("team/jobs/sub/x")), Some(id("team/jobs/sub/x")));
        assert_eq!(origin(&unit, "team/x", there("team/x")), Some(id("team/x")));
        assert_eq!(origin(&unit, "x", there("team/x")), None);
    }

    #[test]
    fn finds_the_circle_that_a_unit_is_in_and_none_that_it_only_leads_to() {
        let links =
            [("s/a", "s/b"), ("s/b", "t/c"), ("t/c", "s/a"), ("s/d", "s/a"), ("s/e", "s/e"), ("s/f", "s/g")];
        assert_eq!(circle_of(&links, "s/b").unwrap(), ["s/b", "t/c", "s/a"]);
        assert_eq!(circle_of(&links, "s/e").unwrap(), ["s/e"]);
        assert_eq!(
            (circle_of(&links, "s/d"), circle_of(&links, "s/f"), circle_of(&links, "s/x")),
            (None, None, None)
        );
    }

    #[test]
    fn a_chain_of_many_costs_a_step_for_each() {
        let steps = std::cell::Cell::new(0);
        let next = |unit: &UnitId| {
            steps.set(steps.get() + 1);
            let number: u32 = unit.key.parse().unwrap();
            (number < 5_000).then(|| UnitId::new(unit.source.clone(), &(number + 1).to_string()))
        };
        let mut circles = Circles::default();
        for number in 0..=5_000 {
            assert_eq!(circles.of(&id(&format!("s/{number}")), next), None);
        }
        assert_eq!(steps.get(), 5_001);
    }

    #[test]
    fn names_the_circle() {
        let said =
            |members: &[&str]| circle(&members.iter().map(|text| id(text)).collect::<Vec<_>>()).message;
        assert_eq!(said(&["s/a"]), "is chained to itself: its own end would start it for ever");
        assert_eq!(
            said(&["s/a", "s/b", "s/c"]),
            "is chained to s/b, which is chained to s/c, which is chained to s/a: they would start each other for ever"
        );
        assert!(
            said(&["s/a"; 40])
                .ends_with(", 29 more, which is chained to s/a: they would start each other for ever")
        );
        assert_eq!(
            unknown(&id("s/a"), "b/c").message,
            "`trigger.chain.from` names no task that is there, so nothing starts it: there is no `b/c` and no `s/b/c`"
        );
    }
}
