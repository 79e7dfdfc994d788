//! Task webhooks of one path: the task that was not there first has a problem. Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use crate::model::hook::HookPath;
use crate::model::id::{SourceName, UnitId};
use crate::model::problem::{Problem, Reason};

use super::catalog::Catalog;
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
    let from: HashMap<&UnitId, &HookPath> = held.iter().map(|(path, unit)| (unit, path)).collect();
    let to = |key: &Arc<str>, path: Option<&HookPath>| {
        let unit = UnitId { source: source.clone(), key: Arc::clone(key) };
        Move { from: from.get(&unit).copied().cloned(), to: path.cloned(), unit }
    };
    let good = catalog.iter().filter(|(_, entry)| entry.state.is_ok());
    let gone = held.values().filter(|unit| {
        unit.source == *source && catalog.get(&unit.key).is_none() && !catalog.is_kept(&unit.key)
    });
    let moves: Vec<Move> = good
        .map(|(key, entry)| to(key, entry.hook_path()))
        .chain(gone.map(|unit| to(&unit.key, None)))
        .collect();
    let there = |path: &HookPath| held.get(path).cloned().into_iter().collect();
    let told = refused(&moves, there).into_iter().filter_map(|(at, other)| {
        let key = &moves[at].unit.key;
        let Ok(unit) = &catalog.get(key)?.state else { return None };
        Some((Arc::clone(key), at_place(taken(&other.path, &other.by), unit)))
    });
    told.collect()
}

/// What a pass would do with the path of a unit.
#[derive(Clone, Debug)]
pub struct Move {
    /// The unit.
    pub unit: UnitId,
    /// The path that its live version asks for.
    pub from: Option<HookPath>,
    /// The path that its version after the step asks for.
    pub to: Option<HookPath>,
}

/// A path that another unit has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// The path.
    pub path: HookPath,
    /// The unit that has it.
    pub by: UnitId,
}

/// The moves that cannot be made, by their place in `moves`.
///
/// A path is that of the unit that is `there` first and is not moved away; where none stays, of the first move to it. Who
/// is refused stays where it is, which may be the path that another move is to.
#[must_use]
pub fn refused(moves: &[Move], there: impl Fn(&HookPath) -> Vec<UnitId>) -> BTreeMap<usize, Taken> {
    let of_unit: HashMap<&UnitId, usize> =
        moves.iter().enumerate().map(|(at, one)| (&one.unit, at)).collect();
    let mut asking = BTreeMap::<&HookPath, Vec<usize>>::new();
    for (at, one) in moves.iter().enumerate() {
        if let Some(to) = &one.to {
            asking.entry(to).or_default().push(at);
        }
    }
    let mut refused = BTreeMap::new();
    let mut unsettled: BTreeSet<&HookPath> = asking.keys().copied().collect();
    while let Some(path) = unsettled.pop_first() {
        let Some(asking) = asking.get(path) else { continue };
        let stays = |unit: &UnitId| {
            of_unit
                .get(unit)
                .is_none_or(|at| refused.contains_key(at) || moves[*at].to.as_ref() == Some(path))
        };
        let first = || asking.iter().find(|at| !refused.contains_key(*at)).map(|at| moves[*at].unit.clone());
        let Some(owner) = there(path).into_iter().find(stays).or_else(first) else { continue };
        for at in asking.iter().filter(|at| moves[**at].unit != owner) {
            let taken = Taken { path: path.clone(), by: owner.clone() };
            if refused.insert(*at, taken).is_none() {
                unsettled.extend(moves[*at].from.as_ref().filter(|from| *from != path));
            }
        }
    }
    refused
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn path(name: &str) -> HookPath {
        HookPath::parse(&format!("/hooks/{name}")).unwrap()
    }

    /// Moves as `unit from to`, where `-` is none; units that are there as `unit path`, in the order in which they came.
    fn said(moves: &[&str], there: &[&str]) -> Vec<String> {
        let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let at = |word: &String| (word != "-").then(|| path(word));
        let unit = |word: &String| UnitId::parse(&format!("s/{word}")).unwrap();
        let moves: Vec<Move> = moves
            .iter()
            .map(|line| words(line))
            .map(|words| Move { unit: unit(&words[0]), from: at(&words[1]), to: at(&words[2]) })
            .collect();
        let there: Vec<(UnitId, HookPath)> =
            there.iter().map(|line| words(line)).map(|words| (unit(&words[0]), path(&words[1]))).collect();
        let at_path = |path: &HookPath| {
            there.iter().filter(|(_, at)| at == path).map(|(unit, _)| unit.clone()).collect()
        };
        refused(&moves, at_path)
            .iter()
            .map(|(at, taken)| format!("{} by {}", moves[*at].unit.key, taken.by.key))
            .collect()
    }

    #[test]
    fn a_path_is_that_of_whoever_is_there_and_stays() {
        for (moves, there, expected) in [
            (&["a - x"][..], &[][..], &[][..]),
            (&["a - x", "b - x"], &[], &["b by a"]),
            (&["a - x"], &["b x"], &["a by b"]),
            (&["a - x", "b x -"], &["b x"], &[]),
            (&["a - x", "b x x"], &["b x"], &["a by b"]),
            // Two that change places, and three.
            (&["a x y", "b y x"], &["a x", "b y"], &[]),
            (&["a x y", "b y z", "c z x"], &["a x", "b y", "c z"], &[]),
            // Whoever cannot leave stays, and everybody behind it.
            (&["a - x", "b x y", "d z x"], &["b x", "c y", "d z"], &["a by b", "b by c", "d by b"]),
            (&["a - w", "b w x", "c x y"], &["b w", "c x", "other y"], &["a by b", "b by c", "c by other"]),
            // A path that nobody is at is the first one's that asks, even if that one was refused elsewhere.
            (&["a - x", "b - x", "c - y"], &["z y"], &["b by a", "c by z"]),
            // Two at one path, as after an end of the service in the middle: the one that came first has it.
            (&["a x x", "b x x"], &["b x", "a x"], &["a by b"]),
            (&["b x y", "c - x"], &["b x", "a x"], &["c by a"]),
        ] {
            assert_eq!(said(moves, there), expected, "{moves:?} {there:?}");
        }
    }

    fn borrowed(lines: &[String]) -> Vec<&str> {
        lines.iter().map(String::as_str).collect()
    }

    proptest! {
        #[test]
        fn no_path_has_two_and_nobody_is_refused_by_somebody_who_is_not_there(
            units in proptest::collection::vec((0usize..5, 0usize..5, 0usize..4), 1..12),
        ) {
            let name = |at: usize| ["-", "v", "w", "x", "y"][at];
            let mut taken = BTreeSet::new();
            let mut moves = Vec::new();
            let mut there = Vec::new();
            for (at, (from, to, kind)) in units.into_iter().enumerate() {
                let from = if from > 0 && taken.insert(from) { from } else { 0 };
                if from > 0 {
                    there.push(format!("u{at} {}", name(from)));
                }
                // Some do not move.
                if kind > 0 {
                    moves.push(format!("u{at} {} {}", name(from), name(to)));
                }
            }
            let said = said(&borrowed(&moves), &borrowed(&there));
            let mut after: BTreeMap<String, String> = there
                .iter()
                .map(|line| line.split_once(' ').map(|(unit, at)| (unit.to_owned(), at.to_owned())).unwrap())
                .collect();
            for line in &moves {
                let words: Vec<&str> = line.split(' ').collect();
                if !said.iter().any(|said| said.starts_with(&format!("{} by ", words[0]))) {
                    after.remove(words[0]);
                    if words[2] != "-" {
                        after.insert(words[0].into(), words[2].into());
                    }
                }
            }
            let paths: BTreeSet<&String> = after.values().collect();
            prop_assert_eq!(paths.len(), after.len(), "two at one path: {:?}", after);
            for line in &said {
                let (unit, by) = line.split_once(" by ").unwrap();
                let wanted = moves.iter().find(|line| line.starts_with(&format!("{unit} "))).unwrap();
                let wanted = wanted.rsplit(' ').next().unwrap();
                prop_assert_eq!(after.get(by).map(String::as_str), Some(wanted), "{} is not there", by);
            }
        }
    }
}
