//! Repositories that sets lead to, in the loop: each is observed beside the source, and holds up nobody.

use std::time::Duration;

use kindling::model::condition::ConditionType;
use kindling::model::event::EventType;
use kindling::reconcile::handle::Reconcile;
use kindling::record::HistoryQuery;

use crate::world::{FakeFiles, World, all, manifest, source, unit};

const OTHER: &str = "/srv/other.git";

fn set(entries: &str) -> String {
    format!(
        "apiVersion: kindling/v1\nkind: TaskSet\nspec:\n  entries:\n    own: {{ref: {{path: own}}}}\n{entries}"
    )
}

/// A source whose set leads to a set of another repository.
fn nested() -> (FakeFiles, FakeFiles) {
    let files = FakeFiles::default();
    let other = files.copy_at(OTHER);
    other
        .task("t", "echo 1\n")
        .put("in/taskset.yaml", &set("").replace("own", "t").replace("path: t", "path: ../t"));
    other.commit(&"1".repeat(40));
    files.task("own", "echo own\n");
    files.put("taskset.yaml", &set(&format!("    far: {{ref: {{url: {OTHER}, path: in}}}}\n")));
    (files, other)
}

/// `STATUS REASON: MESSAGE` of the source's Ready condition.
fn ready(world: &World) -> String {
    let record = world.service.core().board.source(&source()).unwrap();
    let found = record.conditions.get(ConditionType::Ready);
    found.map_or_else(String::new, |c| format!("{} {}: {}", c.status.as_str(), c.reason, c.message))
}

async fn reconcile(world: &World) {
    world.service.reconcile(&all(), Reconcile::default()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_push_to_the_other_repository_is_live_and_a_ref_that_goes_takes_its_units_along() {
    let (files, other) = nested();
    let mut world = World::start(&files).await;
    world.event(EventType::UnitRegistered, "far/t").await;
    let deployed =
        |world: &World| world.record("far/t").unwrap().deployed_revision.clone().map(|r| r.to_string());
    assert_eq!(deployed(&world), Some("1".repeat(40)));
    assert_eq!(world.record("own").unwrap().deployed_revision, None);
    let before = world.live("far/t").unwrap().hash;
    // By a command, and by a poll.
    other.silently("t/task.sh", Some("echo 2\n")).commit(&"2".repeat(40));
    reconcile(&world).await;
    assert_ne!(world.live("far/t").unwrap().hash, before);
    assert_eq!(deployed(&world), Some("2".repeat(40)));
    let query = HistoryQuery { unit: Some(unit("far/t")), limit: 9, ..HistoryQuery::default() };
    // In this world each commit rewrites the branch.
    let rows = world.store.history(query).await.unwrap();
    let rewritten: Vec<bool> = rows.iter().map(|(_, row)| row.rewritten).collect();
    assert_eq!(rewritten, [true, false]);
    other.silently("t/task.sh", Some("echo 3\n")).commit(&"3".repeat(40));
    world.until("it is polled", |world| deployed(world) == Some("3".repeat(40))).await;
    // What is broken there is told with its place, and keeps its last version.
    other.silently("t/task.yaml", Some("kind: Nothing\n")).commit(&"4".repeat(40));
    reconcile(&world).await;
    let problem = world.record("far/t").unwrap().problems[0].to_string();
    assert!(problem.starts_with("/srv/other.git//t/task.yaml:1:"), "{problem}");
    assert!(world.live("far/t").is_some() && other.is_observed());
    files.put("taskset.yaml", &set(""));
    world.event(EventType::UnitRemoved, "far/t").await;
    world.until("it is followed no more", |_| !other.is_observed()).await;
    assert!(world.live("own").is_some());
}

#[tokio::test(start_paused = true)]
async fn a_repository_that_cannot_be_reached_keeps_its_units_and_heals() {
    let (files, other) = nested();
    let mut world = World::start(&files).await;
    world.event(EventType::UnitRegistered, "far/t").await;
    other.fail(Some("Unreachable"));
    reconcile(&world).await;
    let why = "False RepositoryUnavailable: /srv/other.git: the source fails";
    assert_eq!(ready(&world), why);
    // Its own files go on meanwhile, also over a restart.
    let before = world.live("own").unwrap().hash;
    files.put("own/task.sh", "echo other\n");
    world.until("its own file is live", |world| world.live("own").unwrap().hash != before).await;
    assert!(world.live("far/t").is_some());
    world = world.again().await;
    world.until("it says so again", |world| ready(world) == why).await;
    reconcile(&world).await;
    assert!(world.live("far/t").is_some() && world.live("own").is_some());
    other.silently("t/task.sh", Some("echo 2\n")).commit(&"2".repeat(40)).fail(None);
    let before = world.live("far/t").unwrap().hash;
    world.until("it is tried again", |world| world.live("far/t").unwrap().hash != before).await;
    world.until("the source is well", |world| ready(world).starts_with("True")).await;
}

#[tokio::test(start_paused = true)]
async fn one_that_failed_is_tried_again_before_the_next_poll() {
    let files = FakeFiles::default();
    // The host of the source itself.
    let url = "https://example.org/other.git";
    let other = files.copy_at(url);
    other.task("t", "echo 1\n").fail(Some("Unreachable"));
    files.task("own", "echo own\n").commit(&"1".repeat(40));
    files.put("taskset.yaml", &set(&format!("    t: {{ref: {{url: '{url}', path: t}}}}\n")));
    let mut world = World::start_git(&files, Duration::from_secs(36_000)).await;
    world.until("it says so", |world| ready(world).starts_with("False RepositoryUnavailable")).await;
    let deployed =
        |world: &World| world.service.core().board.source(&source()).unwrap().revisions.deployed.is_some();
    assert!(!deployed(&world));
    other.commit(&"2".repeat(40)).fail(None);
    world.event(EventType::UnitRegistered, "t").await;
    world.until("its commit counts as deployed", deployed).await;
    assert_eq!(files.looks().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_repository_that_hangs_delays_nobody() {
    let (files, other) = nested();
    other.hang(true);
    let mut world = World::start(&files).await;
    world.event(EventType::UnitRegistered, "own").await;
    assert!(other.is_hanging() && world.live("far/t").is_none());
    let (before, began) = (world.live("own").unwrap().hash, tokio::time::Instant::now());
    files.put("own/task.sh", "echo other\n");
    world.until("its own file is live", |world| world.live("own").unwrap().hash != before).await;
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    other.hang(false);
    world.event(EventType::UnitRegistered, "far/t").await;
}

#[tokio::test(start_paused = true)]
async fn what_the_source_may_not_lead_to_is_not_fetched() {
    let (files, other) = nested();
    let url = "https://other.example.org/x.git";
    files.copy_at(url);
    files.put("taskset.yaml", &set(&format!("    far: {{ref: {{url: '{url}', path: in}}}}\n")));
    let mut world = World::start(&files).await;
    let failed = world.event(EventType::UnitFailed, "far").await;
    assert!(failed.message.contains("hosts: [\"other.example.org\"]}`"), "{}", failed.message);
    world.until("the other task is live", |world| world.live("own").is_some()).await;
    assert!(!files.copy_at(url).is_observed() && !other.is_observed());
}

#[tokio::test(start_paused = true)]
async fn one_that_needs_a_person_is_asked_again_when_a_credential_changes_and_not_before() {
    let (files, other) = nested();
    let mut world = World::start(&files).await;
    world.event(EventType::UnitRegistered, "far/t").await;
    other.fail(Some("Denied"));
    reconcile(&world).await;
    world.until("it says so", |world| ready(world).starts_with("False RepositoryUnavailable")).await;
    let before = other.looks().len();
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert_eq!(other.looks().len(), before);
    other.fail(None).mend();
    world.until("the source is well", |world| ready(world).starts_with("True")).await;
}

const COPY: &str = "/home/me/work";
const LEFT: &str = "what runs still comes from the working copy at /home/me/work, although dev mode is off";

/// A git source whose set leads to a task of another repository, in a working copy to a task of its own.
async fn nested_in_dev_mode() -> (World, FakeFiles) {
    let files = FakeFiles::default();
    let url = "https://example.org/other.git";
    let other = files.copy_at(url);
    other.task("t", "echo 1\n").commit(&"2".repeat(40));
    let led = |more: &str| {
        set(&format!("    t: {{ref: {{url: '{url}', path: t, dev_ref: {{path: here}}}}}}\n{more}"))
    };
    files.task("own", "echo own\n").put("taskset.yaml", &led("")).commit(&"1".repeat(40));
    let copy = files.copy_at(COPY);
    copy.task("own", "echo own\n").put("taskset.yaml", &led(""));
    copy.put("here/task.yaml", &manifest("t", "manual: true")).put("here/task.sh", "echo here\n");
    let mut world = World::start_git(&files, Duration::from_secs(36_000)).await;
    world.event(EventType::UnitRegistered, "t").await;
    let before = world.live("t").unwrap().hash;
    world.service.dev_on(&source(), COPY, None).await.unwrap();
    assert_ne!(world.live("t").unwrap().hash, before);
    (world, other)
}

fn dev_mode(world: &World) -> String {
    let record = world.service.core().board.source(&source()).unwrap();
    let found = record.conditions.get(ConditionType::DevMode);
    found.map_or_else(String::new, |c| format!("{} {}: {}", c.status.as_str(), c.reason, c.message))
}

#[tokio::test(start_paused = true)]
async fn after_dev_mode_one_that_cannot_be_reached_stands_where_it_was_fetched_last() {
    for hangs in [false, true] {
        let (world, other) = nested_in_dev_mode().await;
        let dev = world.live("t").unwrap().hash;
        if hangs {
            other.hang(true)
        } else {
            other.fail(Some("Unreachable"))
        };
        let began = tokio::time::Instant::now();
        let report = world.service.dev_off(&source()).await.unwrap();
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
        assert_eq!(report.steps.len(), 1, "{report:?}");
        assert_ne!(world.live("t").unwrap().hash, dev);
        let record = world.record("t").unwrap();
        assert_eq!(record.deployed_revision.as_ref().map(ToString::to_string), Some("2".repeat(40)));
        assert_eq!(dev_mode(&world), "");
        other.hang(false).silently("t/task.sh", Some("echo 2\n")).commit(&"3".repeat(40)).fail(None);
        let before = world.live("t").unwrap().hash;
        world.until("it is looked at again", |world| world.live("t").unwrap().hash != before).await;
    }
}

#[tokio::test(start_paused = true)]
async fn after_dev_mode_units_of_one_that_is_lost_say_that_they_come_from_the_working_copy() {
    let (world, other) = nested_in_dev_mode().await;
    let dev = world.live("t").unwrap().hash;
    other.forget().fail(Some("Unreachable"));
    let report = world.service.dev_off(&source()).await.unwrap();
    assert!(report.unready.iter().any(|(name, why)| name == "s/t" && why.ends_with(LEFT)), "{report:?}");
    let says = |world: &World| {
        let of_unit = world.condition("t", ConditionType::Ready);
        of_unit.starts_with("False WorkingCopy: ")
            && of_unit.ends_with(LEFT)
            && dev_mode(world).ends_with(LEFT)
    };
    assert!(says(&world) && world.live("t").unwrap().hash == dev);
    assert!(world.condition("own", ConditionType::Ready).starts_with("True"));
    let world = world.again().await;
    world.until("it is looked at", |world| world.service.core().board.is_looked_at(&source())).await;
    assert!(says(&world));
    other.commit(&"2".repeat(40)).fail(None);
    world.until("it is back", |world| world.live("t").unwrap().hash != dev).await;
    world.until("nothing is left behind", |world| dev_mode(world).is_empty()).await;
    assert!(world.condition("t", ConditionType::Ready).starts_with("True"));
}

#[tokio::test(start_paused = true)]
async fn what_a_working_copy_says_of_a_unit_of_another_repository_is_told_after_dev_mode() {
    let (files, other) = (FakeFiles::default(), "https://example.org/other.git");
    let led = |over: &str| set(&format!("    t: {{ref: {{url: '{other}', path: t}}{over}}}\n"));
    let other = files.copy_at(other);
    other.task("t", "echo 1\n").commit(&"2".repeat(40));
    files.task("own", "echo own\n").put("taskset.yaml", &led("")).commit(&"1".repeat(40));
    let over = led(", overrides: {env: {A: b}}");
    files.copy_at(COPY).task("own", "echo own\n").put("taskset.yaml", &over);
    let mut world = World::start_git(&files, Duration::from_secs(36_000)).await;
    world.event(EventType::UnitRegistered, "t").await;
    let before = world.live("t").unwrap().hash;
    world.service.dev_on(&source(), COPY, None).await.unwrap();
    assert_ne!(world.live("t").unwrap().hash, before);
    other.forget().fail(Some("Unreachable"));
    let report = world.service.dev_off(&source()).await.unwrap();
    assert!(report.unready.iter().any(|(name, why)| name == "s/t" && why.ends_with(LEFT)), "{report:?}");
}
