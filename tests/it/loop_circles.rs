//! The loop with a fake source: tasks that are chained to each other.

use kindling::model::condition::ConditionType::Ready;
use kindling::model::event::EventType;
use kindling::model::id::{SourceName, UnitId};
use kindling::model::problem::Reason;
use kindling::model::source::{Allow, LocalOrigin, Origin, SourceSpec};

use crate::world::{FakeFiles, World, manifest};

fn chained(files: &FakeFiles, dir: &str, from: &str) {
    files
        .task(dir, "echo 1\n")
        .put(&format!("{dir}/task.yaml"), &manifest(dir, &format!("chain: {{from: {from}}}")));
}

#[tokio::test(start_paused = true)]
async fn a_circle_is_a_problem_of_every_task_in_it_and_of_no_other() {
    let files = FakeFiles::default();
    chained(&files, "jobs/a", "b");
    chained(&files, "jobs/b", "s/jobs/c");
    chained(&files, "jobs/c", "a");
    chained(&files, "jobs/d", "a");
    chained(&files, "e", "e");
    let mut world = World::start(&files).await;
    world.event(EventType::UnitRegistered, "jobs/d").await;
    world
        .until("all are looked at", |world| world.record("e").is_some() && world.record("jobs/c").is_some())
        .await;
    assert_eq!(
        world.condition("jobs/b", Ready),
        "False ChainCycle: jobs/b/task.yaml:5:25: is chained to s/jobs/c, which is chained to s/jobs/a, which is \
         chained to s/jobs/b: they would start each other for ever"
    );
    assert_eq!(
        world.condition("e", Ready),
        "False ChainCycle: e/task.yaml:5:25: is chained to itself: its own end would start it for ever"
    );
    assert!(world.condition("jobs/d", Ready).starts_with("True") && world.live("jobs/a").is_none());
    // One that leaves it frees the others.
    files.put("jobs/c/task.yaml", &manifest("c", "manual: true"));
    for key in ["jobs/a", "jobs/b", "jobs/c"] {
        world.until("it is well", |world| world.condition(key, Ready).starts_with("True")).await;
        assert!(world.live(key).is_some() && world.record(key).unwrap().problems.is_empty());
    }
    // Whoever closes one again leaves the last good versions alone, which are in none.
    let before = world.live("jobs/c").unwrap().hash;
    chained(&files, "jobs/c", "a");
    for key in ["jobs/a", "jobs/b", "jobs/c"] {
        world
            .until("it is in a circle", |world| world.condition(key, Ready).starts_with("False ChainCycle"))
            .await;
    }
    assert_eq!(world.live("jobs/c").unwrap().hash, before);
    // The same is said after a restart.
    let world = world.again().await;
    world
        .until("it was looked at", |world| world.service.core().board.is_looked_at(&crate::world::source()))
        .await;
    assert!(world.condition("jobs/a", Ready).starts_with("False ChainCycle"));
    files.remove("jobs/b/task.yaml").remove("jobs/b/task.sh");
    world.until("a is well", |world| world.condition("jobs/a", Ready).starts_with("True")).await;
}

#[tokio::test(start_paused = true)]
async fn a_task_that_follows_nobody_is_ready_with_a_warning() {
    let files = FakeFiles::default();
    chained(&files, "jobs/a", "b");
    let mut world = World::start(&files).await;
    world.event(EventType::UnitRegistered, "jobs/a").await;
    let record = world.record("jobs/a").unwrap();
    assert_eq!(
        (record.warnings[0].reason, record.warnings[0].to_string()),
        (
            Reason::UnknownTask,
            "jobs/a/task.yaml:5:25: `trigger.chain.from` names no task that is there, so nothing starts it: there is \
             no `s/jobs/b`"
                .to_owned()
        )
    );
    assert!(world.condition("jobs/a", Ready).starts_with("True"));
    files.task("jobs/b", "echo 1\n");
    world.until("it is found", |world| world.record("jobs/a").unwrap().warnings.is_empty()).await;
    files.remove("jobs/b/task.yaml").remove("jobs/b/task.sh");
    world.until("it is gone", |world| world.record("jobs/a").unwrap().warnings.len() == 1).await;
}

/// A second source beside the one of the world, with its own files.
async fn other(world: &World, files: &FakeFiles) -> FakeFiles {
    let place = "/elsewhere";
    let copy = files.copy_at(place);
    copy.clear();
    let origin = Origin::Local(LocalOrigin { path: place.into(), debounce: None });
    let spec = SourceSpec { name: SourceName::new("t").unwrap(), origin, allow: Allow::default() };
    world.service.add_source(spec).await.unwrap();
    copy
}

fn ready(world: &World, unit: &str) -> String {
    let record = world.service.core().board.unit(&UnitId::parse(unit).unwrap());
    let found = record.as_ref().and_then(|record| record.conditions.get(Ready));
    found.map_or_else(String::new, |c| format!("{} {}", c.status.as_str(), c.reason))
}

#[tokio::test(start_paused = true)]
async fn a_circle_through_two_sources_stands_on_both_and_goes_when_either_breaks_it() {
    let files = FakeFiles::default();
    chained(&files, "a", "t/b");
    let mut world = World::start(&files).await;
    world.event(EventType::UnitRegistered, "a").await;
    assert_eq!(world.record("a").unwrap().warnings.len(), 1, "t/b is not there");
    let elsewhere = other(&world, &files).await;
    elsewhere.task("b", "echo 1\n");
    world.until("b is found", |world| world.record("a").unwrap().warnings.is_empty()).await;
    // Whoever closes it is refused, and the other one is told.
    chained(&elsewhere, "b", "c");
    chained(&elsewhere, "c", "s/a");
    let all = ["s/a", "t/b", "t/c"];
    for unit in all {
        world.until("it is in a circle", |world| ready(world, unit) == "False ChainCycle").await;
    }
    assert!(world.live("a").is_some(), "its last good version stays");
    // The same after a restart, whoever of them is looked at first.
    let mut world = world.again().await;
    for source in ["s", "t"] {
        let name = SourceName::new(source).unwrap();
        world.until("both were looked at", |world| world.service.core().board.is_looked_at(&name)).await;
    }
    for unit in all {
        world.until("it is in a circle still", |world| ready(world, unit) == "False ChainCycle").await;
    }
    files.put("a/task.yaml", &manifest("a", "manual: true"));
    for unit in all {
        world.until("it is well", |world| ready(world, unit).starts_with("True")).await;
    }
    // Closed and opened again from the other side.
    chained(&files, "a", "t/b");
    for unit in all {
        world.until("it is in a circle again", |world| ready(world, unit) == "False ChainCycle").await;
    }
    elsewhere.put("c/task.yaml", &manifest("c", "manual: true"));
    for unit in all {
        world.until("it is well again", |world| ready(world, unit).starts_with("True")).await;
    }
    // Whoever is chained to a source that goes is told.
    world.service.remove_source(&SourceName::new("t").unwrap()).await.unwrap();
    world.until("nothing starts it", |world| world.record("a").unwrap().warnings.len() == 1).await;
    files.task("d", "echo 1\n");
    world.event(EventType::UnitRegistered, "d").await;
}

#[tokio::test(start_paused = true)]
async fn what_went_while_nobody_looked_is_in_no_circle() {
    let files = FakeFiles::default();
    chained(&files, "x", "t/x");
    let mut world = World::start(&files).await;
    world.event(EventType::UnitRegistered, "x").await;
    let elsewhere = other(&world, &files).await;
    chained(&elsewhere, "y", "s/x");
    elsewhere.task("x", "echo 1\n");
    world
        .until("all are well", |world| {
            ready(world, "t/y").starts_with("True") && world.record("x").unwrap().warnings.is_empty()
        })
        .await;
    // It closes a circle through a task that is not there any more; whoever is looked at first.
    world.service.core().closing.cancel();
    files.remove("x/task.yaml").remove("x/task.sh");
    chained(&elsewhere, "x", "y");
    let world = world.again().await;
    for unit in ["t/x", "t/y"] {
        world.until("it is well", |world| ready(world, unit).starts_with("True")).await;
    }
    world
        .until("nothing starts y", |world| {
            let y = world.service.core().board.unit(&UnitId::parse("t/y").unwrap()).unwrap();
            y.warnings.len() == 1
        })
        .await;
}
