//! Task sets in the loop: what is written in a set becomes what is deployed, and nothing half-written takes anything
//! away.

use std::time::Duration;

use kindling::model::condition::{ConditionStatus, ConditionType};
use kindling::model::event::EventType;
use kindling::reconcile::handle::Reconcile;
use tokio::time::Instant;

use crate::world::{FakeFiles, World, all, manifest, source, unit};

fn set(entries: &str) -> String {
    format!("apiVersion: kindling/v1\nkind: TaskSet\nspec:\n  entries:\n{entries}")
}

fn entries(count: usize) -> String {
    (0..count).map(|n| format!("    e{n}: {{ref: {{path: tasks/t{n}}}}}\n")).collect()
}

/// `STATUS REASON: MESSAGE` of the source's Ready condition.
fn ready(world: &World) -> String {
    let record = world.service.core().board.source(&source()).unwrap();
    let found = record.conditions.get(ConditionType::Ready);
    found.map_or_else(String::new, |c| format!("{} {}: {}", c.status.as_str(), c.reason, c.message))
}

/// Whether a version of the unit is recorded as deployed.
fn is_deployed(world: &World, key: &str) -> bool {
    world.record(key).is_some_and(|record| record.deployed.is_some() && record.deployed == record.desired)
}

fn is_unready(world: &World) -> bool {
    let record = world.service.core().board.source(&source()).unwrap();
    record.conditions.get(ConditionType::Ready).is_some_and(|ready| ready.status == ConditionStatus::False)
}

#[tokio::test(start_paused = true)]
async fn every_task_of_a_large_set_is_registered_and_a_script_alone_is_a_new_version() {
    let files = FakeFiles::default();
    for n in 0..200 {
        files.task(&format!("tasks/t{n}"), "echo 1\n");
    }
    files.put("taskset.yaml", &set(&entries(200)));
    let mut world = World::start(&files).await;
    world.until("all are deployed", |world| (0..200).all(|n| is_deployed(world, &format!("e{n}")))).await;
    let before = world.live("e7").unwrap().hash;
    files.put("tasks/t7/task.sh", "echo 2\n");
    let updated = world.event(EventType::UnitUpdated, "e7").await;
    assert_ne!(updated.hash, Some(before));
    let others = world.service.core().board.units();
    assert_eq!(others.iter().filter(|unit| unit.generation.0 > 1).count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_daemon_of_a_set_restarts_when_its_code_changes() {
    let files = FakeFiles::default();
    files.daemon("tasks/t0", "echo 1\n").put("taskset.yaml", &set(&entries(1)));
    let mut world = World::start(&files).await;
    world.event(EventType::UnitRegistered, "e0").await;
    files.put("tasks/t0/lib.sh", "helper\n");
    let updated = world.event(EventType::UnitUpdated, "e0").await;
    assert_eq!(world.target.alive(&unit("e0")), [updated.hash.unwrap()]);
    assert_eq!(world.target.started().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_nested_set_that_goes_together_with_its_directory_takes_its_units_along() {
    let files = FakeFiles::default();
    for dir in ["t", "in/tasks/t0", "in/tasks/t1", "in/deep/tasks/t0"] {
        files.task(dir, "echo\n");
    }
    let deep = format!("{}    deep: {{ref: {{path: deep}}}}\n", entries(2));
    files.put("in/deep/taskset.yaml", &set(&entries(1))).put("in/taskset.yaml", &set(&deep));
    files.put("taskset.yaml", &set("    a: {ref: {path: t}}\n    in: {ref: {path: in}}\n"));
    let world = World::start(&files).await;
    let below = ["in/e0", "in/e1", "in/deep/e0"];
    world.until("all are deployed", |world| below.iter().all(|key| is_deployed(world, key))).await;
    // Both in one look, as a commit brings it.
    for file in files.paths().iter().filter(|path| path.starts_with("in/")) {
        files.silently(file, None);
    }
    files.put("taskset.yaml", &set("    a: {ref: {path: t}}\n"));
    for key in below {
        world.until("it is gone", |world| world.live(key).is_none() && world.record(key).is_none()).await;
    }
    assert!(is_deployed(&world, "a"));
    // It comes back the same way.
    for dir in ["in/tasks/t0", "in/tasks/t1"] {
        files.task(dir, "echo\n");
    }
    files.put("in/taskset.yaml", &set(&entries(2)));
    files.put("taskset.yaml", &set("    a: {ref: {path: t}}\n    in: {ref: {path: in}}\n"));
    for key in ["in/e0", "in/e1"] {
        world.until("it is back", |world| is_deployed(world, key)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_edit_of_a_parents_override_reloads_the_units_that_it_reaches_and_why_tells_the_chain() {
    let files = FakeFiles::default();
    files.task("in/t", "echo\n").task("in/u", "echo\n");
    files.put("in/taskset.yaml", &set("    t: {ref: {path: t}}\n    u: {ref: {path: u}}\n"));
    let outer = |mode: &str| {
        set(&format!(
            "    in:\n      ref: {{path: in}}\n      overrides:\n        entries:\n          t: {{env: {{MODE: {mode}}}}}\n"
        ))
    };
    files.put("taskset.yaml", &outer("one"));
    files.put("in/t/task.yaml", &format!("{}env:\n  MODE: task\n", manifest("t", "manual: true")));
    let mut world = World::start(&files).await;
    world.until("both are deployed", |world| is_deployed(world, "in/t") && is_deployed(world, "in/u")).await;
    let untouched = world.record("in/u").unwrap();
    files.put("taskset.yaml", &outer("two"));
    world.event(EventType::UnitUpdated, "in/t").await;
    assert_eq!(world.live("in/t").unwrap().spec.env["MODE"], "two");
    assert_eq!(world.record("in/u").unwrap(), untouched);
    // Lines that move write no row, and are told where they are now.
    let rows = world.record("in/t").unwrap();
    files.silently("taskset.yaml", Some(&format!("# one line more\n{}", outer("two"))));
    world.service.reconcile(&all(), Reconcile::default()).await.unwrap();
    assert_eq!(world.record("in/t").unwrap(), rows);
    let fields = world.service.origins(&unit("in/t")).await;
    assert_eq!(fields.len(), 1);
    let chain: Vec<String> =
        fields[0].chain.iter().map(|place| format!("{}:{}", place.file, place.at.line)).collect();
    assert_eq!(
        (fields[0].field.as_str(), chain),
        ("env.MODE", vec!["in/t/task.yaml:7".into(), "taskset.yaml:10".into()])
    );
    assert!(world.service.origins(&unit("in/u")).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_set_that_cannot_be_read_keeps_its_units_also_over_a_restart() {
    let files = FakeFiles::default();
    files.task("tasks/t0", "echo\n").daemon("tasks/t1", "echo\n").task("tasks/t2", "echo\n");
    files.put("taskset.yaml", &set(&entries(3)));
    let mut world = World::start(&files).await;
    world.until("all are deployed", |world| (0..3).all(|n| is_deployed(world, &format!("e{n}")))).await;
    files.put("taskset.yaml", "apiVersion: kindling/v1\nkind: TaskSet\nspec:\n  entr");
    world.until("the source says so", is_unready).await;
    assert!(ready(&world).starts_with("False InvalidManifest: taskset.yaml:4:"), "{}", ready(&world));
    assert!((0..3).all(|n| world.live(&format!("e{n}")).is_some()));
    world = world.again().await;
    world.until("the source says so again", is_unready).await;
    world.service.reconcile(&all(), Reconcile { force: true, ..Reconcile::default() }).await.unwrap();
    assert!((0..3).all(|n| world.live(&format!("e{n}")).is_some()));
    world.until("its daemon runs", |world| world.target.alive(&unit("e1")).len() == 1).await;
    // What the set does not declare when it is whole again is gone.
    files.put("taskset.yaml", &set(&entries(2)));
    world.event(EventType::UnitRemoved, "e2").await;
    world.until("the source is well", |world| !is_unready(world)).await;
    assert!((0..2).all(|n| world.live(&format!("e{n}")).is_some()));
}

#[tokio::test(start_paused = true)]
async fn a_nested_set_that_is_gone_removes_nothing_until_the_entry_goes() {
    let files = FakeFiles::default();
    files
        .task("in/t", "echo\n")
        .task("a", "echo\n")
        .put("in/taskset.yaml", &set("    t: {ref: {path: t}}\n"));
    files.put("taskset.yaml", &set("    in: {ref: {path: in}}\n    a: {ref: {path: a}}\n"));
    let mut world = World::start(&files).await;
    world.event(EventType::UnitRegistered, "in/t").await;
    files.remove("in/taskset.yaml");
    let failed = world.event(EventType::UnitFailed, "in").await;
    assert!(
        failed.message.contains("the directory in holds no task.yaml and no taskset.yaml"),
        "{}",
        failed.message
    );
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(world.live("in/t").is_some());
    files.put("taskset.yaml", &set("    a: {ref: {path: a}}\n"));
    world.event(EventType::UnitRemoved, "in/t").await;
    world.until("the broken entry is gone", |world| world.record("in").is_none()).await;
    assert!(world.live("a").is_some());
}

#[tokio::test(start_paused = true)]
async fn a_dicode_set_is_read_as_well() {
    let files = FakeFiles::default();
    files.task("tasks/t0", "echo\n");
    let text = set(&entries(1)).replace("kindling/v1", "dicode/v1");
    files.put(
        "taskset.yaml",
        &text.replace("tasks/t0}", "tasks/t0}, overrides: {env: [MODE=x], timeout: 9s}"),
    );
    let mut world = World::start(&files).await;
    world.event(EventType::UnitRegistered, "e0").await;
    let version = world.live("e0").unwrap();
    assert_eq!(
        (version.spec.env["MODE"].as_str(), version.spec.timeout),
        ("x", Some(Duration::from_secs(9)))
    );
}

/// A set of a daemon and two tasks with a task beside it, and the set's text.
async fn with_daemon() -> (FakeFiles, World, String) {
    let files = FakeFiles::default();
    files.task("s/tasks/t0", "echo\n").daemon("s/tasks/t1", "echo\n").task("s/tasks/t2", "echo\n");
    let text = set(&entries(3));
    files.task("a", "echo\n").put("s/taskset.yaml", &text);
    let world = World::start(&files).await;
    world.until("all are deployed", |world| (0..3).all(|n| is_deployed(world, &format!("s/e{n}")))).await;
    world.until("its daemon runs", |world| world.target.alive(&unit("s/e1")).len() == 1).await;
    (files, world, text)
}

#[tokio::test(start_paused = true)]
async fn a_set_that_is_cut_where_it_reads_well_takes_nothing_away_while_it_is_written() {
    let (files, mut world, text) = with_daemon().await;
    let before = world.target.alive(&unit("s/e1"));
    // Without the end of its last line, and for longer than an editor takes.
    let cut = text.find("    e1:").unwrap() - 1;
    files.put("s/taskset.yaml", &text[..cut]);
    tokio::time::sleep(Duration::from_millis(1200)).await;
    assert!((0..3).all(|n| world.live(&format!("s/e{n}")).is_some()));
    // It holds up nothing beside it.
    let asked = Instant::now();
    files.put("a/task.sh", "echo more\n");
    world.event(EventType::UnitUpdated, "a").await;
    assert!(asked.elapsed() < Duration::from_millis(300), "{:?}", asked.elapsed());
    files.put("s/taskset.yaml", &text);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!((world.target.alive(&unit("s/e1")), world.target.started().len()), (before, 1));
    // What stays so is meant so.
    files.put("s/taskset.yaml", &text[..cut]);
    world.event(EventType::UnitRemoved, "s/e1").await;
}

#[tokio::test(start_paused = true)]
async fn a_set_that_is_written_line_by_line_is_waited_for() {
    let (files, world, text) = with_daemon().await;
    let before = world.target.alive(&unit("s/e1"));
    let header = text.find("    e0:").unwrap();
    let mut written = format!("{}    zero: {{ref: {{path: tasks/t0}}}}\n", &text[..header]);
    for line in text[header..].split_inclusive('\n') {
        files.put("s/taskset.yaml", &written);
        tokio::time::sleep(Duration::from_millis(250)).await;
        written.push_str(line);
    }
    files.put("s/taskset.yaml", &written);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!((world.target.alive(&unit("s/e1")), world.target.started().len()), (before, 1));
    assert!(is_deployed(&world, "s/zero"));
}

#[tokio::test(start_paused = true)]
async fn an_entry_that_is_removed_from_a_whole_set_goes_soon() {
    let (files, mut world, text) = with_daemon().await;
    let line = "    e1: {ref: {path: tasks/t1}}\n";
    let asked = Instant::now();
    files.put("s/taskset.yaml", &text.replace(line, ""));
    world.event(EventType::UnitRemoved, "s/e1").await;
    assert!(asked.elapsed() < Duration::from_millis(500), "{:?}", asked.elapsed());
    // Also where the last line never has an end.
    files.put("s/taskset.yaml", text.replace(line, "").trim_end());
    tokio::time::sleep(Duration::from_secs(5)).await;
    let last = "    e2: {ref: {path: tasks/t2}}\n";
    let asked = Instant::now();
    files.put("s/taskset.yaml", text.replace(line, "").replace(last, "").trim_end());
    world.event(EventType::UnitRemoved, "s/e2").await;
    assert!(asked.elapsed() < Duration::from_millis(500), "{:?}", asked.elapsed());
}
