//! The loop with a fake source: what a unit may ask for, and what of its manifest has no effect.

use std::collections::BTreeMap;

use kindling::model::condition::ConditionType::{Ready, Stalled};
use kindling::model::event::EventType;
use kindling::model::problem::Reason;
use kindling::model::run::RunStatus;
use kindling::reconcile::handle::Reconcile;
use kindling::reconcile::runs::Order;
use kindling::record::{HistoryQuery, Recording};

use crate::world::{FakeFiles, World, all, manifest, unit};

fn asking(name: &str, trigger: &str, variables: &str) -> String {
    format!("{}permissions: {{env: [{variables}]}}\n", manifest(name, trigger))
}

#[tokio::test(start_paused = true)]
async fn what_goes_beyond_the_source_is_stalled_with_the_line_to_add() {
    let files = FakeFiles::default();
    files.task("a", "echo 1\n").task("b", "echo 1\n").task("c", "echo 1\n");
    files.put("b/task.yaml", &asking("b", "manual: true", "ALLOWED, HOME"));
    files.put("c/task.yaml", &asking("c", "manual: true", "{name: X, from: OWN_SECRET}"));
    let mut world = World::start(&files).await;
    let good = world.event(EventType::UnitRegistered, "a").await.hash;
    world.until("b is ready", |world| world.condition("b", Ready).starts_with("True")).await;
    // Even what is allowed is not given where it is kindling's own.
    let told = world.condition("c", Ready);
    assert!(
        told.starts_with("False NotAllowed: asks for `OWN_SECRET`, which kindling keeps for itself"),
        "{told}"
    );
    assert!(world.live("c").is_none());
    files.put("a/task.yaml", &asking("a", "manual: true", "ALLOWED, SECRET"));
    world.event(EventType::UnitFailed, "a").await;
    let told = world.condition("a", Stalled);
    assert!(told.contains("gets the line `allow: {env: [ALLOWED, OWN_SECRET, SECRET]}`"), "{told}");
    assert!(told.ends_with(&format!("(still running {})", good.unwrap().short())), "{told}");
    assert_eq!(world.live("a").map(|version| version.hash), good);
    assert_eq!(world.record("a").unwrap().problems[0].reason, Reason::NotAllowed);
    files.put("a/task.yaml", &asking("a", "manual: true", "ALLOWED"));
    let mended = world.event(EventType::UnitUpdated, "a").await.hash;
    assert_eq!((world.condition("a", Stalled), world.record("a").unwrap().deployed), (String::new(), mended));
}

#[tokio::test(start_paused = true)]
async fn a_version_that_is_live_gets_no_variable_that_was_taken_away() {
    let files = FakeFiles::default();
    files.task("a", "echo 1\n").put("a/task.yaml", &asking("a", "manual: true", "ALLOWED"));
    let mut world = World::start(&files).await;
    world.event(EventType::UnitRegistered, "a").await;
    world.service.core().trust.reserve(["ALLOWED".to_owned()].into());
    let version = world.live("a").unwrap();
    let runner = &world.service.core().runner;
    let order = Order::new(version, BTreeMap::new(), "manual");
    let mut run = runner.start(order, &()).await.unwrap();
    let run = run.end().await.unwrap();
    assert_eq!(run.status, RunStatus::Failed);
    assert!(run.error.starts_with("NotAllowed: it asks for `ALLOWED`"), "{}", run.error);
    assert!(world.target.started().is_empty(), "no process was started");
}

#[tokio::test(start_paused = true)]
async fn a_daemon_starts_again_when_a_variable_of_its_process_changes() {
    let files = FakeFiles::default();
    files.daemon("a", "echo 1\n");
    let mut world = World::start(&files).await;
    world.event(EventType::UnitRegistered, "a").await;
    world.until("it runs", |world| world.target.alive(&unit("a")).len() == 1).await;
    let first = world.target.alive(&unit("a"));
    files.put("a/task.yaml", &asking("a", "daemon: true", "ALLOWED"));
    world.event(EventType::UnitUpdated, "a").await;
    world.until("it runs again", |world| world.target.alive(&unit("a")).len() == 1).await;
    assert_ne!(world.target.alive(&unit("a")), first);
}

const DICODE: &str = "apiVersion: dicode/v1\nkind: Task\nname: a\nruntime: shell\ntrigger: {manual: true}\nnotify: {on_failure: true}\n";

#[tokio::test(start_paused = true)]
async fn a_warning_is_kept_beside_a_unit_that_is_ready() {
    let files = FakeFiles::default();
    files.task("a", "echo 1\n").put("a/task.yaml", DICODE);
    let mut world = World::start(&files).await;
    world.event(EventType::UnitRegistered, "a").await;
    let record = world.record("a").unwrap();
    assert!(world.condition("a", Ready).starts_with("True") && record.problems.is_empty());
    let warning = &record.warnings[0];
    assert_eq!(warning.to_string(), "a/task.yaml:6:1: `notify` has no effect: kindling does not have it");
    assert_eq!((record.warnings.len(), warning.reason), (1, Reason::IgnoredField));
    assert_eq!(world.store.units().await.unwrap()[0].warnings, record.warnings);
    // They go with what they are about, and stay while the manifest cannot be read.
    files.put("a/task.yaml", "nonsense");
    world.event(EventType::UnitFailed, "a").await;
    assert_eq!(world.record("a").unwrap().warnings.len(), 1);
    files.put("a/task.yaml", &DICODE.replace("notify: {on_failure: true}\n", ""));
    world.event(EventType::UnitUpdated, "a").await;
    assert!(world.record("a").unwrap().warnings.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_change_of_warnings_alone_is_no_change_of_the_unit() {
    let files = FakeFiles::default();
    files.task("a", "echo 1\n").put("a/task.yaml", DICODE);
    let mut world = World::start(&files).await;
    world.event(EventType::UnitRegistered, "a").await;
    // As if an earlier kindling had not known of the warning.
    let mut record = world.store.units().await.unwrap().remove(0);
    record.warnings.clear();
    let now = record.updated_at;
    world.store.commit(Recording { units: vec![record.clone()], ..Recording::new(now) }).await.unwrap();
    let world = world.again().await;
    world
        .until("the warning is back", |world| world.record("a").is_some_and(|a| a.warnings.len() == 1))
        .await;
    let after = world.record("a").unwrap();
    assert_eq!((after.deployed, after.generation), (record.deployed, record.generation));
    let history = world.store.history(HistoryQuery { limit: 10, ..HistoryQuery::default() }).await.unwrap();
    assert_eq!(history.len(), 1);
    world.service.reconcile(&all(), Reconcile::default()).await.unwrap();
    let history = world.store.history(HistoryQuery { limit: 10, ..HistoryQuery::default() }).await.unwrap();
    assert_eq!(history.len(), 1);
}
