//! The loop with a fake source under random changes: saves, removals and renames within one quiet window, events that
//! come while it looks, reads or acts, events that are lost, commands in between. When all is quiet, what is live, what
//! is listed and what runs are what the files say, and history tells each step once.
//!
//! `KINDLING_LOOP_ROUNDS` is the number of rounds, `KINDLING_LOOP_SEED` repeats the choices of an earlier test.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kindling::model::hash::{ContentHash, UnitHash};
use kindling::plan::hash;
use kindling::reconcile::handle::{Reconcile, Subject};
use kindling::record::HistoryQuery;

use crate::kill::{Dice, number};
use crate::world::{FakeFiles, World, all, manifest, source, unit};

/// Rounds where `KINDLING_LOOP_ROUNDS` names no number.
const ROUNDS: u64 = 25;
/// Tasks that nobody touches: a source that lost most of its tasks would wait for a person.
const STEADY: u32 = 12;
/// The tasks that come and go; those that begin with `d` are daemons.
const NAMES: [&str; 6] = ["a", "b", "jobs/a", "jobs/a/deep", "d", "jobs/d"];

struct Player {
    files: FakeFiles,
    dice: Dice,
    saves: u64,
    done: Vec<String>,
}

impl Player {
    /// Writes a file, or removes it; now and then its event is lost.
    fn set(&mut self, path: &str, text: Option<&str>) {
        self.done.push(format!("{} {path}", if text.is_some() { "write" } else { "remove" }));
        match text {
            _ if self.dice.once_in(12) => drop(self.files.silently(path, text)),
            Some(text) => drop(self.files.put(path, text)),
            None => drop(self.files.remove(path)),
        }
    }

    /// Waits as long as a window, a look or nothing takes.
    async fn pause(&mut self) {
        match self.dice.below(4) {
            0 => {}
            1 => tokio::task::yield_now().await,
            2 => self.dice.pause(30).await,
            _ => self.dice.pause(200).await,
        }
    }

    async fn save(&mut self, key: &str) {
        self.saves += 1;
        let is_daemon = key.rsplit('/').next().is_some_and(|name| name.starts_with('d'));
        let trigger = if is_daemon && !self.dice.once_in(6) { "daemon: true" } else { "manual: true" };
        let (saves, once_in) = (self.saves, self.dice.once_in(3));
        self.set(&format!("{key}/task.sh"), Some(&format!("echo {saves}\n")));
        if once_in {
            self.pause().await;
        }
        self.set(&format!("{key}/task.yaml"), Some(&manifest(key, trigger)));
    }

    /// Removes the files of a task, in any order, with any time in between.
    async fn remove(&mut self, key: &str) {
        let (mut names, slowly) = (vec!["task.yaml", "task.sh"], self.dice.once_in(3));
        if self.dice.once_in(2) {
            names.reverse();
        }
        for name in names {
            self.set(&format!("{key}/{name}"), None);
            if slowly {
                self.pause().await;
            }
        }
    }

    async fn rename(&mut self, from: &str, to: &str) {
        for name in ["task.yaml", "task.sh"] {
            if let Some(text) = self.files.text(&format!("{from}/{name}")) {
                self.set(&format!("{to}/{name}"), Some(&text));
                self.set(&format!("{from}/{name}"), None);
            }
        }
    }

    /// Does something to the service, and does not wait for its end.
    fn command(&mut self, world: &World) {
        let (service, what) = (world.service.clone(), self.dice.below(9));
        let key = *self.dice.one_of(&NAMES);
        self.done.push(format!("command {what} {key}"));
        tokio::spawn(async move {
            // Any of them may be refused: there is no such unit at the moment, or a step of it is under way.
            let _ = match what {
                0 => service.reconcile(&all(), Reconcile::default()).await,
                1 => service.reconcile(&Subject::Unit(unit(key)), Reconcile::default()).await,
                2 => service.reconcile(&all(), Reconcile { force: true, ..Reconcile::default() }).await,
                3 => service.settle(&all()).await,
                4 => service.diff(&source()).await,
                5 => service.roll_back(&unit(key), None).await,
                6 => service.restart(&unit(key)).await,
                7 => service.suspend(&Subject::Unit(unit(key)), "a test".into()).await,
                _ => service.resume(&Subject::Unit(unit(key))).await,
            };
        });
    }

    async fn step(&mut self, world: &World) {
        let (key, other) = (*self.dice.one_of(&NAMES), *self.dice.one_of(&NAMES));
        match self.dice.below(16) {
            0..=4 => self.save(key).await,
            5..=9 => self.remove(key).await,
            10 if key != other => self.rename(key, other).await,
            11 => drop(self.files.tear(&format!("{key}/task.yaml"))),
            12 => drop(self.files.reads_take(Duration::from_millis(self.dice.below(40)))),
            13 => drop(self.files.looks_take(Duration::from_millis(self.dice.below(40)))),
            14 => world.target.stop_takes(Duration::from_millis(self.dice.below(300))),
            15 => drop(self.files.fail(self.dice.once_in(3).then_some("Unreadable"))),
            _ => {}
        }
        if self.dice.once_in(6) {
            self.command(world);
        }
        self.pause().await;
    }

    /// What the files say: the hashes of script and manifest of each task that is whole.
    fn wanted(&self) -> BTreeMap<String, [ContentHash; 2]> {
        let read = |key: &str, name: &str| self.files.text(&format!("{key}/{name}"));
        let whole = keys().filter_map(|key| {
            let (script, manifest) = (read(&key, "task.sh")?, read(&key, "task.yaml")?);
            Some((key, [script, manifest].map(|text| hash::content(text.as_bytes()))))
        });
        whole.collect()
    }

    /// Tasks whose manifest is there and whose script is not: they are listed, and what was live of them stays.
    fn broken(&self) -> BTreeSet<String> {
        let is_there = |key: &str, name: &str| self.files.text(&format!("{key}/{name}")).is_some();
        let broken = NAMES.iter().filter(|key| is_there(key, "task.yaml") && !is_there(key, "task.sh"));
        broken.map(|key| (*key).to_owned()).collect()
    }
}

/// Every task that may be there.
fn keys() -> impl Iterator<Item = String> {
    let steady = (0..STEADY).map(|n| format!("steady{n}"));
    NAMES.iter().map(|key| (*key).to_owned()).chain(steady)
}

/// What is live of each unit: the hashes of script and manifest.
fn live(world: &World) -> BTreeMap<String, [ContentHash; 2]> {
    let of = |key: &str| {
        let version = world.live(key)?;
        let file =
            |name: &str| version.files.iter().find(|file| file.path.as_str() == name).map(|file| file.hash);
        Some((key.to_owned(), [file("task.sh")?, file("task.yaml")?]))
    };
    keys().filter_map(|key| of(&key)).collect()
}

fn alive(world: &World, key: &str) -> Vec<UnitHash> {
    world.target.alive(&unit(key))
}

/// Why the world is not what the files say; `None` if it is.
fn disagrees(world: &World, player: &Player) -> Option<String> {
    let (wanted, broken, mut live) = (player.wanted(), player.broken(), live(world));
    live.retain(|key, _| !broken.contains(key));
    if wanted != live {
        return Some(format!("live: {:?}, wanted: {:?}", live.keys(), wanted.keys()));
    }
    let listed: BTreeSet<String> =
        world.service.core().board.units().iter().map(|unit| unit.id.key.to_string()).collect();
    let expected: BTreeSet<String> = wanted.keys().chain(&broken).cloned().collect();
    if listed != expected {
        return Some(format!("listed: {listed:?}, wanted: {expected:?}"));
    }
    for key in NAMES.iter().filter(|key| !broken.contains(**key)) {
        let daemon = world.live(key).filter(|version| version.spec.is_daemon());
        let due: Vec<UnitHash> = daemon.iter().map(|version| version.hash).collect();
        if alive(world, key) != due {
            return Some(format!("processes of {key}: {:?}, wanted: {due:?}", alive(world, key)));
        }
    }
    None
}

/// Ends what is half done: nothing fails, nothing is stopped or held.
async fn calm(world: &World, player: &Player) {
    player.files.fail(None).reads_take(Duration::ZERO).looks_take(Duration::ZERO);
    world.target.stop_takes(Duration::from_millis(20));
    for _ in 0..2 {
        for record in world.service.core().board.units() {
            if record.suspended.is_some() || record.hold.is_some() {
                let _ = world.service.resume(&Subject::Unit(record.id.clone())).await;
            }
        }
        // Commands that were under way may have held or suspended something since.
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn whatever_happens_what_is_live_is_what_the_files_say() {
    let seed = number("KINDLING_LOOP_SEED").unwrap_or_else(crate::kill::seed);
    println!("KINDLING_LOOP_SEED={seed}");
    let files = FakeFiles::default();
    for n in 0..STEADY {
        files.task(&format!("steady{n}"), "echo 1\n");
    }
    let world = World::start(&files).await;
    let mut player = Player { files, dice: Dice::new(seed), saves: 0, done: Vec::new() };
    let mut newest = 0;
    for round in 0..number("KINDLING_LOOP_ROUNDS").unwrap_or(ROUNDS) {
        player.done.clear();
        let steps = 1 + player.dice.below(14);
        for _ in 0..steps {
            player.step(&world).await;
        }
        calm(&world, &player).await;
        // Events that were lost are made up for by the next full look.
        let waited = tokio::time::timeout(Duration::from_secs(60), async {
            while disagrees(&world, &player).is_some() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        let is_so = waited.await.is_ok();
        let why = disagrees(&world, &player);
        assert!(is_so, "seed {seed}, round {round}: {why:?}\n{:#?}", player.done);
        let query = HistoryQuery { limit: 1000, ..HistoryQuery::default() };
        let rows = world.store.history(query).await.unwrap();
        let new = rows.iter().filter(|(id, _)| *id > newest).count();
        newest = rows.iter().map(|(id, _)| *id).max().unwrap_or(newest);
        let most = 40 + usize::try_from(steps).unwrap() * 30;
        assert!(new < most, "seed {seed}, round {round}: {new} rows of history\n{:#?}", player.done);
    }
}
