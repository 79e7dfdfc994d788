//! The loop with a fake source: chains across sources while the service starts.

use std::collections::BTreeMap;
use std::time::Duration;

use kindling::model::condition::ConditionType::Ready;
use kindling::model::event::EventType;
use kindling::model::id::{SourceName, UnitId};
use tokio::time::Instant;

use crate::world::{FakeFiles, World, manifest};

/// No first pass is waited for longer; with some time for the machine.
const FIRST_PASS: Duration = Duration::from_secs(5);

fn chained(files: &FakeFiles, dir: &str, from: &str) {
    files.task(dir, "echo 1\n");
    files.put(&format!("{dir}/task.yaml"), &manifest(dir, &format!("chain: {{from: {from}}}")));
}

fn id(unit: &str) -> UnitId {
    UnitId::parse(unit).unwrap()
}

fn ready(world: &World, unit: &str) -> String {
    let record = world.service.core().board.unit(&id(unit));
    let found = record.as_ref().and_then(|record| record.conditions.get(Ready));
    found.map_or_else(String::new, |c| format!("{} {}", c.status.as_str(), c.reason))
}

fn is_live(world: &World, unit: &str) -> bool {
    world.service.core().registry.get(&id(unit)).is_some()
}

async fn until_ready(world: &World, unit: &str, wanted: &str) {
    world.until(&format!("{unit} is {wanted}"), |world| ready(world, unit).starts_with(wanted)).await;
}

#[tokio::test(start_paused = true)]
async fn a_circle_through_three_sources_is_refused_at_the_very_first_start() {
    for round in 0..12 {
        let files = FakeFiles::default();
        let [a, b, c] = ["/a", "/b", "/c"].map(|path| files.copy_at(path));
        chained(&a, "x", "b/x");
        chained(&b, "x", "c/y");
        // The way through the third one has a step of its own.
        chained(&c, "y", "x");
        chained(&c, "x", "a/x");
        chained(&a, "outside", "b/x");
        // Whichever is looked at last.
        [&a, &b, &c][round % 3].hang(round > 2);
        let mut world = World::start_sources(&files, &["a", "b", "c"]).await;
        for _ in 0..round {
            tokio::time::sleep(Duration::from_millis(7)).await;
        }
        [&a, &b, &c][round % 3].hang(false);
        for unit in ["a/x", "b/x", "c/x", "c/y"] {
            until_ready(&world, unit, "False ChainCycle").await;
            assert!(!is_live(&world, unit), "{unit}, round {round}");
        }
        until_ready(&world, "a/outside", "True").await;
        while let Ok(events) = world.events.try_recv() {
            for event in events.iter().filter(|event| event.kind == EventType::UnitRegistered) {
                assert_eq!(event.unit, Some(id("a/outside")), "round {round}");
            }
        }
        c.put("x/task.yaml", &manifest("x", "manual: true"));
        for unit in ["a/x", "b/x", "c/x", "c/y"] {
            until_ready(&world, unit, "True").await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_source_that_does_not_answer_holds_up_what_is_chained_to_it_for_a_while_and_nothing_else() {
    let files = FakeFiles::default();
    let [a, b] = ["/a", "/b"].map(|path| files.copy_at(path));
    a.task("plain", "echo 1\n");
    chained(&a, "x", "b/x");
    chained(&a, "y", "plain");
    chained(&b, "x", "a/x");
    b.hang(true);
    let began = Instant::now();
    let world = World::start_sources(&files, &["a", "b"]).await;
    for unit in ["a/plain", "a/y"] {
        until_ready(&world, unit, "True").await;
    }
    assert!(!is_live(&world, "a/x"), "nobody knows what b has");
    until_ready(&world, "a/x", "True").await;
    assert!(began.elapsed() >= FIRST_PASS);
    // What closes the circle is refused all the same, and the other one is told.
    b.hang(false);
    until_ready(&world, "b/x", "False ChainCycle").await;
    until_ready(&world, "a/x", "False ChainCycle").await;
    assert!(!is_live(&world, "b/x") && is_live(&world, "a/x"));
}

#[tokio::test(start_paused = true)]
async fn a_source_that_fails_or_is_suspended_is_not_waited_for() {
    for how in ["fails", "suspended"] {
        let files = FakeFiles::default();
        let [a, b] = ["/a", "/b"].map(|path| files.copy_at(path));
        b.task("x", "echo 1\n");
        let mut world = World::start_sources(&files, &["a", "b"]).await;
        until_ready(&world, "b/x", "True").await;
        if how == "fails" {
            b.fail(Some("Unreachable"));
        } else {
            let subject = kindling::reconcile::handle::Subject::Source(SourceName::new("b").unwrap());
            world.service.suspend(&subject, "a test".into()).await.unwrap();
        }
        chained(&a, "x", "b/x");
        let began = Instant::now();
        world = world.again().await;
        until_ready(&world, "a/x", "True").await;
        assert!(began.elapsed() < FIRST_PASS, "{how}: {:?}", began.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_that_ends_before_its_source_was_looked_at_is_followed_by_what_was_live() {
    let files = FakeFiles::default();
    let [a, b] = ["/a", "/b"].map(|path| files.copy_at(path));
    b.task("x", "echo 1\n");
    chained(&a, "x", "b/x");
    let world = World::start_sources(&files, &["a", "b"]).await;
    until_ready(&world, "a/x", "True").await;
    let before = world.service.core().registry.get(&id("a/x")).unwrap().hash;
    b.hang(true);
    let world = world.again().await;
    a.put("x/task.sh", "echo 2\n");
    let run = world.service.run(&id("b/x"), &BTreeMap::new(), "null".into()).await;
    assert!(run.is_ok());
    world.until("it runs", |world| world.target.started().contains(&"b/x".to_owned())).await;
    world.target.end(&id("b/x"), 0);
    world.until("it is followed", |world| world.target.started().contains(&"a/x".to_owned())).await;
    assert_eq!(world.target.alive(&id("a/x")), [before], "its new version waits");
    world
        .until("the new version is live", |world| {
            world.service.core().registry.get(&id("a/x")).is_some_and(|live| live.hash != before)
        })
        .await;
}
