//! The loop with a fake repository: pushes that are announced, and those that are not.

use std::sync::Arc;
use std::time::Duration;

use kindling::model::delivery::{Announcement, WebhookHealth};
use kindling::model::event::EventType;
use kindling::model::history::TriggerKind;
use kindling::model::source::Revision;
use kindling::observe::Ask;
use kindling::record::HistoryQuery;

use crate::world::{FakeFiles, World, all, source, unit};

const HOUR: Duration = Duration::from_hours(1);

/// A repository with one task `a` that is deployed at the commit `c1`.
async fn deployed(poll: Duration) -> (World, FakeFiles) {
    let files = FakeFiles::default();
    files.task("a", "echo 1\n").commit("c1");
    let mut world = World::start_git(&files, poll).await;
    world.service.core().webhooks.set([source()].into());
    world.event(EventType::UnitRegistered, "a").await;
    world.until("c1 is deployed", |world| is_at(world, "c1")).await;
    (world, files)
}

fn is_at(world: &World, commit: &str) -> bool {
    let record = world.service.core().board.source(&source()).unwrap();
    record.revisions.deployed == Some(Revision::new(commit))
}

fn push(commit: Option<&str>) -> Announcement {
    Announcement {
        commit: commit.map(Revision::new),
        root: None,
        deliver: Some(Duration::from_millis(1500)),
        received_at: kindling::model::time::Timestamp(1_795_000_000_000),
        is_proof: true,
        detail: "delivery d".into(),
    }
}

fn announce(world: &World, commit: Option<&str>) {
    world.service.announce(&source(), push(commit));
}

fn health(world: &World) -> WebhookHealth {
    world.service.core().board.webhook(&source())
}

fn looks(files: &FakeFiles) -> usize {
    files.looks().iter().filter(|ask| **ask == Ask::Full).count()
}

#[tokio::test(start_paused = true)]
async fn an_announced_commit_is_looked_for_until_it_is_there() {
    let (world, files) = deployed(HOUR).await;
    let before = looks(&files);
    announce(&world, Some("c2"));
    tokio::time::sleep(Duration::from_secs(5)).await;
    // At once, after 100 ms, and every 200 ms.
    let many = looks(&files) - before;
    assert!((20..=30).contains(&many), "{many}");
    files.silently("a/task.sh", Some("echo 2\n")).commit("c2");
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(is_at(&world, "c2"));
    let row = world
        .service
        .core()
        .store
        .history(HistoryQuery { unit: None, source: None, before: None, limit: 1 })
        .await;
    let row = row.unwrap().remove(0).1;
    assert_eq!((row.cause.kind, row.cause.detail.as_str()), (TriggerKind::Webhook, "delivery d"));
    let phase = |name: &str| row.phases.iter().find(|(phase, _)| phase == name).map(|(_, ms)| *ms);
    assert_eq!(phase("deliver"), Some(1500.0));
    assert!(phase("propagate").is_some_and(|ms| (4900.0..5400.0).contains(&ms)), "{:?}", row.phases);
    // It is there, and nobody looks any more.
    let before = looks(&files);
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert_eq!(looks(&files), before);
    assert_eq!(health(&world).missed, 0);
}

#[tokio::test(start_paused = true)]
async fn a_push_that_is_waited_for_outlives_those_that_come_after_it() {
    let (world, files) = deployed(HOUR).await;
    announce(&world, Some("c2"));
    // One that is live already, and one that names no commit.
    for commit in [Some("c1"), None] {
        tokio::time::sleep(Duration::from_millis(300)).await;
        announce(&world, commit);
    }
    tokio::time::sleep(Duration::from_secs(5)).await;
    files.silently("a/task.sh", Some("echo 2\n")).commit("c2");
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(is_at(&world, "c2"));
    let before = looks(&files);
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert_eq!(looks(&files), before, "nothing is waited for any more");
}

#[tokio::test(start_paused = true)]
async fn what_a_delivery_named_before_the_poll_found_it_is_not_missed_and_a_sample_proves_nothing() {
    let (world, files) = deployed(Duration::from_secs(10)).await;
    announce(&world, Some("c2"));
    tokio::time::sleep(Duration::from_secs(40)).await;
    announce(&world, Some("c1"));
    files.silently("a/task.sh", Some("echo 2\n")).commit("c2");
    tokio::time::sleep(Duration::from_mins(5)).await;
    assert_eq!(health(&world).missed, 0);
    files.silently("a/task.sh", Some("echo 3\n")).commit("c3");
    world.service.announce(&source(), Announcement { is_proof: false, ..push(Some("c3")) });
    tokio::time::sleep(Duration::from_secs(1)).await;
    files.silently("a/task.sh", Some("echo 4\n")).commit("c4");
    tokio::time::sleep(Duration::from_mins(5)).await;
    let before = health(&world);
    assert_eq!((before.missed, before.broken.is_some()), (1, true));
    world.service.announce(&source(), Announcement { is_proof: false, ..push(Some("c4")) });
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(health(&world), before);
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_never_appears_is_given_up() {
    let (world, files) = deployed(HOUR).await;
    let before = looks(&files);
    announce(&world, Some("never"));
    tokio::time::sleep(Duration::from_mins(2)).await;
    let many = looks(&files) - before;
    // 50 in the first ten seconds, one a second for twenty more.
    assert!((65..=80).contains(&many), "{many}");
    assert!(is_at(&world, "c1"));
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_pushes_makes_few_passes() {
    let (world, files) = deployed(HOUR).await;
    let before = looks(&files);
    for _ in 0..1_000 {
        announce(&world, None);
        world.service.look_sooner(&source());
    }
    files.silently("a/task.sh", Some("echo 2\n")).commit("c2");
    announce(&world, Some("c2"));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(is_at(&world, "c2"));
    let many = looks(&files) - before;
    assert!(many < 10, "{many}");
    // A delivery that comes again brings the next poll forward once in five seconds.
    let before = looks(&files);
    for _ in 0..20 {
        world.service.look_sooner(&source());
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let many = looks(&files) - before;
    assert!((3..=5).contains(&many), "{many}");
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_no_delivery_names_is_missed_and_told() {
    let (world, files) = deployed(Duration::from_secs(10)).await;
    files.silently("a/task.sh", Some("echo 2\n")).commit("c2");
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert!(is_at(&world, "c2"));
    assert_eq!(health(&world), WebhookHealth::default(), "a delivery may still come");
    tokio::time::sleep(Duration::from_secs(60)).await;
    let told = health(&world);
    assert_eq!((told.missed, told.broken.map(|(commit, _)| commit)), (1, Some(Revision::new("c2"))));
    let counts = world.service.core().metrics().counts(&[source()].into(), |_| true);
    assert_eq!(counts.sources[&source()].missed, 1);
    // One that is late all the same shows that they come.
    announce(&world, Some("c3"));
    world.until("it is noted", |world| health(world).last_delivery_at.is_some()).await;
    assert_eq!((health(&world).missed, health(&world).broken), (1, None));
}

#[tokio::test(start_paused = true)]
async fn a_delivery_that_comes_after_the_poll_is_not_missed() {
    let (world, files) = deployed(Duration::from_secs(10)).await;
    files.silently("a/task.sh", Some("echo 2\n")).commit("c2");
    world.until("c2 is deployed", |world| is_at(world, "c2")).await;
    announce(&world, Some("c2"));
    tokio::time::sleep(Duration::from_mins(5)).await;
    assert_eq!(health(&world).missed, 0);
}

#[tokio::test(start_paused = true)]
async fn a_suspended_source_takes_the_push_when_it_is_resumed() {
    let (world, files) = deployed(HOUR).await;
    world.service.suspend(&all(), "a night's sleep".into()).await.unwrap();
    files.silently("a/task.sh", Some("echo 2\n")).commit("c2");
    announce(&world, Some("c2"));
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert!(is_at(&world, "c1"));
    world.service.resume(&all()).await.unwrap();
    assert!(is_at(&world, "c2"));
    let version: Option<Arc<_>> = world.live("a");
    assert_eq!(world.record("a").unwrap().deployed, version.map(|version| version.hash));
    assert_eq!(world.service.core().board.unit(&unit("a")).unwrap().problems, []);
}
