//! The loop with fake sources: whatever three of them ask for at the same moments, what is said of a path is what is so.

use std::collections::BTreeMap;
use std::time::Duration;

use kindling::model::condition::ConditionType::Ready;
use kindling::model::id::{SourceName, UnitId};
use kindling::model::source::{Allow, LocalOrigin, Origin, SourceSpec};

use crate::kill::{Dice, seed};
use crate::world::{FakeFiles, World, manifest};

const PATHS: [&str; 3] = ["/hooks/x", "/hooks/y", "/hooks/z"];
const KEYS: [&str; 3] = ["a", "b", "c"];
/// Rounds of changes, with a restart now and then.
const ROUNDS: usize = 120;
/// Until when all is at rest, in the test's own time: before the look that is taken every minute in any case.
const REST: Duration = Duration::from_secs(20);

/// What a task's manifest asks for.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Asks {
    Nothing,
    Path(&'static str),
    /// A path, with a token that it may not have.
    InVain(&'static str),
    Gone,
}

struct Sources {
    all: BTreeMap<&'static str, FakeFiles>,
    asks: BTreeMap<String, Asks>,
    dice: Dice,
}

impl Sources {
    fn change(&mut self) {
        let names = ["s", "t", "u"];
        let (source, key) = (*self.dice.one_of(&names), *self.dice.one_of(&KEYS));
        let path = *self.dice.one_of(&PATHS);
        let asks = match self.dice.below(8) {
            0 => Asks::Nothing,
            1 => Asks::Gone,
            2 => Asks::InVain(path),
            _ => Asks::Path(path),
        };
        let trigger = match asks {
            Asks::Nothing => "manual: true".into(),
            Asks::Path(path) => format!("webhook: {path}"),
            Asks::InVain(path) => format!("webhook: {path}, bearer: '${{OTHER}}'"),
            Asks::Gone => String::new(),
        };
        let (files, file) = (&self.all[source], format!("{key}/task.yaml"));
        if asks == Asks::Gone {
            files.remove(&file).remove(&format!("{key}/task.sh"));
        } else {
            files.put(&file, &manifest(key, &trigger)).put(&format!("{key}/task.sh"), "echo 1\n");
        }
        self.asks.insert(format!("{source}/{key}"), asks);
    }
}

fn served(world: &World, path: &str) -> Option<String> {
    world.service.core().registry.at_hook(path).map(|version| version.unit.to_string())
}

/// What is not as it should be.
fn wrong(world: &World, asks: &BTreeMap<String, Asks>) -> Vec<String> {
    let mut wrong = Vec::new();
    for (id, asks) in asks {
        let unit = UnitId::parse(id).unwrap();
        let record = world.service.core().board.unit(&unit);
        let ready = record.as_ref().and_then(|record| record.conditions.get(Ready));
        let told = ready.map_or_else(String::new, |ready| {
            format!("{} {}: {}", ready.status.as_str(), ready.reason, ready.message)
        });
        let is_served = PATHS.iter().any(|path| served(world, path).as_ref() == Some(id));
        let is_right = match asks {
            Asks::Gone => told.is_empty() && !is_served,
            Asks::Nothing => told.starts_with("True") && !is_served,
            Asks::InVain(_) => told.starts_with("False NotAllowed"),
            Asks::Path(path) => match served(world, path) {
                Some(by) if by == *id => told.starts_with("True"),
                Some(by) => told.contains(&format!("for `{path}`, where `{by}` is served")),
                None => false,
            },
        };
        if !is_right {
            let now = PATHS.map(|path| served(world, path));
            wrong.push(format!("{id} asks for {asks:?} and is told `{told}`, while served are {now:?}"));
        }
    }
    wrong
}

#[tokio::test(start_paused = true)]
async fn what_is_said_of_a_path_is_so_whatever_three_sources_ask_for() {
    let files = FakeFiles::default();
    let mut world = World::start(&files).await;
    let mut all = BTreeMap::from([("s", files.clone())]);
    for name in ["t", "u"] {
        let place = format!("/{name}");
        all.insert(name, files.copy_at(&place));
        let origin = Origin::Local(LocalOrigin { path: place.into(), debounce: None });
        let spec = SourceSpec { name: SourceName::new(name).unwrap(), origin, allow: Allow::default() };
        world.service.add_source(spec).await.unwrap();
    }
    let seed = seed();
    println!("KINDLING_KILL_SEED={seed}");
    for files in all.values() {
        // So that it never looks as if a source had lost everything.
        files.task("kept", "echo 1\n");
    }
    let mut sources = Sources { all, asks: BTreeMap::new(), dice: Dice::new(seed) };
    for round in 0..ROUNDS {
        for _ in 0..=sources.dice.below(4) {
            sources.change();
            if sources.dice.once_in(3) {
                sources.dice.pause(30).await;
            }
        }
        if sources.dice.once_in(10) {
            world = world.again().await;
        }
        if sources.dice.once_in(3) {
            continue;
        }
        let rest = tokio::time::timeout(REST, async {
            while !wrong(&world, &sources.asks).is_empty() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        assert!(rest.await.is_ok(), "round {round}: {:#?}", wrong(&world, &sources.asks));
    }
}
