//! Dev mode in the loop, with fake trees: what stands for what, what is recorded, what ends it.

use std::time::Duration;

use kindling::model::condition::ConditionType::{self, DevMode, Ready, Stalled};
use kindling::model::event::{Event, EventType};
use kindling::model::history::{HistoryRow, TriggerKind};
use kindling::model::source::Revision;
use kindling::observe::Ask;
use kindling::reconcile::handle::Reconcile;
use kindling::reconcile::message::RefusalKind;
use kindling::record::{HistoryQuery, SourceRecord};
use std::sync::Arc;

use crate::world::{BOUND, FakeFiles, World, all, manifest, source, unit};

const COPY: &str = "/home/me/work";
const HOUR: Duration = Duration::from_hours(1);

fn shown(world: &World) -> Arc<SourceRecord> {
    world.service.core().board.source(&source()).unwrap()
}

fn condition(world: &World, kind: ConditionType) -> String {
    let record = shown(world);
    let found = record.conditions.get(kind);
    found.map_or_else(String::new, |c| format!("{} {}: {}", c.status.as_str(), c.reason, c.message))
}

async fn history(world: &World) -> Vec<HistoryRow> {
    let rows = world.store.history(HistoryQuery { limit: 100, ..HistoryQuery::default() }).await.unwrap();
    rows.into_iter().map(|(_, row)| row).collect()
}

/// A repository with one task `a` that says 1, deployed at the commit `c1`, and a working copy in which it says 2
/// under the same manifest.
async fn deployed() -> (World, FakeFiles, FakeFiles) {
    let files = FakeFiles::default();
    files.task("a", "echo 1\n").commit("c1");
    let copy = files.copy_at(COPY);
    copy.task("a", "echo 2\n");
    let mut world = World::start_git(&files, HOUR).await;
    world.event(EventType::UnitRegistered, "a").await;
    world.until("c1 is deployed", |world| shown(world).revisions.deployed.is_some()).await;
    (world, files, copy)
}

async fn told(world: &mut World, kind: EventType) -> Event {
    tokio::time::timeout(BOUND, async {
        loop {
            let batch = world.events.recv().await.unwrap();
            if let Some(event) = batch.iter().find(|event| event.kind == kind) {
                return event.clone();
            }
        }
    })
    .await
    .unwrap_or_else(|_| panic!("no {}", kind.as_str()))
}

#[tokio::test(start_paused = true)]
async fn where_the_manifests_are_equal_the_local_script_runs_and_no_commit_is_claimed() {
    let (mut world, files, copy) = deployed().await;
    let git = world.live("a").unwrap().hash;
    let report = world.service.dev_on(&source(), COPY, None).await.unwrap();
    assert_eq!(report.steps.len(), 1);
    let local = world.live("a").unwrap();
    assert_ne!(local.hash, git);
    assert_eq!(local.revision, None);
    assert_eq!(world.record("a").unwrap().deployed_revision, None);
    let row = history(&world).await.swap_remove(0);
    assert_eq!((row.cause.kind, row.cause.detail.as_str()), (TriggerKind::Dev, COPY));
    assert_eq!((row.dev_path.as_deref(), row.revision), (Some(COPY), None));
    assert!(condition(&world, DevMode).starts_with(&format!("True WorkingCopy: units come from {COPY}")));
    assert_eq!(told(&mut world, EventType::DevEnabled).await.message, format!("units come from {COPY}"));
    let record = shown(&world);
    assert!(record.has_strayed && record.dev.as_ref().unwrap().since.0 > 0);
    assert_eq!(world.store.sources().await.unwrap()[0].dev, record.dev);

    // Saves are followed in the copy, new directories too, and nowhere else.
    copy.task("deep/b", "echo b\n");
    world.event(EventType::UnitRegistered, "deep/b").await;
    files.task("c", "echo c\n");
    copy.task("d", "echo d\n");
    world.event(EventType::UnitRegistered, "d").await;
    assert!(world.record("c").is_none());
    assert_eq!(history(&world).await[0].dev_path.as_deref(), Some(COPY));

    // And back: git's content, git's commit, and nothing of the copy.
    world.service.dev_off(&source()).await.unwrap();
    assert_eq!(world.live("a").unwrap().hash, git);
    assert_eq!(world.record("a").unwrap().deployed_revision, Some(Revision::new("c1")));
    assert!(world.record("d").is_none() && world.record("c").is_some());
    let record = shown(&world);
    assert!(!record.has_strayed && record.dev.is_none());
    assert_eq!(record.revisions.deployed, Some(Revision::new("c1")));
    assert_eq!(condition(&world, DevMode), "");
    let row = history(&world).await.swap_remove(0);
    assert_eq!(
        (row.cause.kind, row.dev_path, row.revision),
        (TriggerKind::Dev, None, Some(Revision::new("c1")))
    );
    assert!(!copy.is_observed());
    told(&mut world, EventType::DevDisabled).await;
}

#[tokio::test(start_paused = true)]
async fn an_equal_copy_changes_no_hash_and_writes_no_history() {
    let (world, _, copy) = deployed().await;
    copy.put("a/task.sh", "echo 1\n");
    let before = (world.record("a").unwrap(), history(&world).await);
    assert!(world.service.dev_on(&source(), COPY, None).await.unwrap().steps.is_empty());
    assert!(world.service.dev_off(&source()).await.unwrap().steps.is_empty());
    assert_eq!((world.record("a").unwrap(), history(&world).await), before);
    assert_eq!(shown(&world).revisions.deployed, Some(Revision::new("c1")));
    assert!(!shown(&world).has_strayed);
}

#[tokio::test(start_paused = true)]
async fn what_was_tried_out_and_then_committed_is_deployed_from_its_commit() {
    let (world, files, _) = deployed().await;
    world.service.dev_on(&source(), COPY, None).await.unwrap();
    let tried = world.live("a").unwrap().hash;
    let rows = history(&world).await.len();
    files.put("a/task.sh", "echo 2\n").commit("c2");
    world.service.dev_off(&source()).await.unwrap();
    assert_eq!(world.live("a").unwrap().hash, tried);
    assert_eq!(history(&world).await.len(), rows);
    assert_eq!(world.record("a").unwrap().deployed_revision, Some(Revision::new("c2")));
    assert_eq!(shown(&world).revisions.deployed, Some(Revision::new("c2")));
}

#[tokio::test(start_paused = true)]
async fn the_repository_is_fetched_and_shown_and_never_applied() {
    let (mut world, files, _) = deployed().await;
    world.service.dev_on(&source(), COPY, None).await.unwrap();
    let local = world.live("a").unwrap().hash;
    files.put("a/task.sh", "echo 3\n").commit("c2");
    world.service.reconcile(&all(), Reconcile::default()).await.unwrap();
    world.until("c2 is seen", |world| shown(world).revisions.seen == Some(Revision::new("c2"))).await;
    let record = shown(&world);
    assert_eq!(record.revisions.attempted, Some(Revision::new("c1")));
    assert_eq!(world.live("a").unwrap().hash, local);
    let event = loop {
        let event = told(&mut world, EventType::SourceChanged).await;
        if event.revision == Some(Revision::new("c2")) {
            break event;
        }
    };
    assert_eq!(event.message, "a new commit, not applied: dev mode is on");
    // A repository that cannot be fetched harms nothing.
    files.fail(Some("Unreachable"));
    world.service.reconcile(&all(), Reconcile::default()).await.unwrap();
    world.until("it is told", |world| condition(world, DevMode).starts_with("True FetchFailed")).await;
    assert!(condition(&world, Ready).starts_with("True"));
    // Going back, what was seen last is there although nothing can be fetched.
    let refusal = world.service.dev_off(&source()).await.unwrap_err();
    assert_eq!(refusal.kind, RefusalKind::Failed);
    assert_eq!(world.record("a").unwrap().deployed_revision, Some(Revision::new("c2")));
    assert!(condition(&world, Ready).starts_with("False Unreachable"));
    assert!(shown(&world).dev.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_copy_that_vanishes_leaves_the_units_and_comes_back() {
    let (world, _, copy) = deployed().await;
    world.service.dev_on(&source(), COPY, None).await.unwrap();
    let local = world.live("a").unwrap().hash;
    copy.fail(Some("RootMissing")).put("a/task.sh", "echo 3\n");
    world.until("it is stalled", |world| condition(world, Stalled).starts_with("True RootMissing")).await;
    assert!(condition(&world, Ready).starts_with("False RootMissing"));
    assert_eq!(world.live("a").unwrap().hash, local);
    let world = world.again().await;
    world.until("it is stalled", |world| condition(world, Stalled).starts_with("True RootMissing")).await;
    assert_eq!(world.live("a").unwrap().hash, local);
    copy.fail(None);
    world.until("the save is live", |world| world.live("a").is_some_and(|unit| unit.hash != local)).await;
    world.until("it is well", |world| condition(world, Stalled).is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn an_empty_copy_removes_nothing_until_a_person_agrees() {
    let (world, files, _) = deployed().await;
    files.task("b", "echo b\n").commit("c2");
    world.service.reconcile(&all(), Reconcile::default()).await.unwrap();
    files.copy_at("/empty");
    // The switch took place, and says what stands in the way.
    let report = world.service.dev_on(&source(), "/empty", None).await.unwrap();
    assert!(report.unready[0].1.starts_with("RemovalGuard: this would remove 2 units"), "{report:?}");
    assert!(world.live("a").is_some() && world.live("b").is_some());
    assert!(condition(&world, Stalled).starts_with("True RemovalGuard"));
    assert!(shown(&world).dev.is_some());
    let agreed = Reconcile { allow_removals: true, ..Reconcile::default() };
    world.service.reconcile(&all(), agreed).await.unwrap();
    assert!(world.live("a").is_none() && world.live("b").is_none());
    assert!(shown(&world).has_strayed);
    world.service.dev_off(&source()).await.unwrap();
    assert!(world.live("a").is_some() && world.live("b").is_some());
    assert_eq!(shown(&world).revisions.deployed, Some(Revision::new("c2")));
}

#[tokio::test(start_paused = true)]
async fn it_is_stored_and_survives_a_kill() {
    let (world, files, copy) = deployed().await;
    world.service.dev_on(&source(), COPY, None).await.unwrap();
    let (since, local) = (shown(&world).dev.clone(), world.live("a").unwrap().hash);
    let rows = history(&world).await.len();
    let mut world = world.again().await;
    // What ran runs on before anything is looked at.
    assert_eq!(world.live("a").unwrap().hash, local);
    world.until("the copy is looked at", |world| world.service.core().board.is_looked_at(&source())).await;
    assert_eq!((shown(&world).dev.clone(), history(&world).await.len()), (since, rows));
    copy.put("a/task.sh", "echo 3\n");
    world.event(EventType::UnitUpdated, "a").await;
    files.commit("c2");
    world.service.dev_off(&source()).await.unwrap();
    assert_eq!(world.record("a").unwrap().deployed_revision, Some(Revision::new("c2")));
}

#[tokio::test(start_paused = true)]
async fn it_ends_by_itself_also_while_the_service_is_down() {
    let (mut world, _, _) = deployed().await;
    let git = world.live("a").unwrap().hash;
    world.service.dev_on(&source(), COPY, Some(HOUR)).await.unwrap();
    assert_ne!(world.live("a").unwrap().hash, git);
    assert!(condition(&world, DevMode).contains(" until "));
    // The same again takes the new end. From here on nothing is said of the time before it: it may be over at once.
    world.service.dev_on(&source(), COPY, Some(Duration::from_millis(1))).await.unwrap();
    assert_eq!(told(&mut world, EventType::DevDisabled).await.message, "its time is over");
    world.until("git's content is back", |world| world.live("a").unwrap().hash == git).await;

    // It does not end while this service is there: what is recorded then says that its time passed without one.
    world.service.dev_on(&source(), COPY, None).await.unwrap();
    let mut record = (*shown(&world)).clone();
    let world = {
        record.dev = Some(kindling::model::source::Dev {
            path: COPY.into(),
            since: kindling::model::time::Timestamp(1),
            until: Some(kindling::model::time::Timestamp(2)),
        });
        let store = world.store.clone();
        world.service.core().closing.cancel();
        world.service.close().await;
        store.put_source(&record).await.unwrap();
        world.again().await
    };
    world.until("dev mode is off", |world| shown(world).dev.is_none()).await;
    world.until("git's content is back", |world| world.live("a").unwrap().hash == git).await;
    let row = history(&world).await.swap_remove(0);
    assert_eq!((row.cause.kind, row.dev_path), (TriggerKind::Dev, None));
}

#[tokio::test(start_paused = true)]
async fn another_path_takes_its_place_and_the_last_of_two_wins() {
    let (world, files, copy) = deployed().await;
    let other = files.copy_at("/other");
    other.task("a", "echo other\n");
    let name = source();
    let (first, second) =
        tokio::join!(world.service.dev_on(&name, COPY, None), world.service.dev_on(&name, "/other", None));
    first.unwrap();
    second.unwrap();
    assert_eq!(&*shown(&world).dev.as_ref().unwrap().path, "/other");
    assert!(!copy.is_observed() && other.is_observed());
    let local = world.live("a").unwrap().hash;
    let since = shown(&world).dev.as_ref().unwrap().since;
    // The same path again keeps its beginning, and takes the new end.
    world.service.dev_on(&source(), "/other", Some(HOUR)).await.unwrap();
    let dev = shown(&world).dev.clone().unwrap();
    assert_eq!((dev.since, dev.until.is_some()), (since, true));
    assert_eq!(world.live("a").unwrap().hash, local);
    // Off twice is off.
    world.service.dev_off(&source()).await.unwrap();
    assert!(world.service.dev_off(&source()).await.unwrap().steps.is_empty());
    // One fetch at a time, whatever was switched.
    assert!(files.is_observed() && !other.is_observed());
}

#[tokio::test(start_paused = true)]
async fn commands_know_it() {
    let (world, files, copy) = deployed().await;
    world.service.dev_on(&source(), COPY, None).await.unwrap();
    copy.silently("a/task.sh", Some("echo 3\n"));
    let before = world.live("a").unwrap().hash;
    // `wait` looks at what is on disk.
    world.service.settle(&all()).await.unwrap();
    assert_ne!(world.live("a").unwrap().hash, before);
    world.service.reconcile(&all(), Reconcile { rescan: true, ..Reconcile::default() }).await.unwrap();
    assert_eq!(copy.looks().last(), Some(&Ask::Rescan));
    assert!(!files.looks().contains(&Ask::Rescan));
    // Suspended: the switch back takes place, and its pass waits.
    world.service.suspend(&all(), "a pause".into()).await.unwrap();
    let refusal = world.service.dev_on(&source(), "/other", None).await.unwrap_err();
    assert!(refusal.message.contains("is suspended: a pause"), "{refusal}");
    let local = world.live("a").unwrap().hash;
    world.service.dev_off(&source()).await.unwrap();
    assert!(shown(&world).dev.is_none());
    assert_eq!(world.live("a").unwrap().hash, local);
    world.service.resume(&all()).await.unwrap();
    assert_eq!(world.record("a").unwrap().deployed_revision, Some(Revision::new("c1")));
    // After the source ended there is nothing to switch.
    world.service.dev_on(&source(), COPY, None).await.unwrap();
    world.service.withdraw(&source()).await.unwrap();
    let gone = world.service.dev_on(&source(), COPY, None).await.unwrap_err();
    assert_eq!(gone.kind, RefusalKind::NotFound);
    assert!(world.live("a").is_none() && world.store.sources().await.unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_directory_has_no_dev_mode() {
    let files = FakeFiles::default();
    files.task("a", "echo 1\n");
    let world = World::start(&files).await;
    let refusal = world.service.dev_on(&source(), COPY, None).await.unwrap_err();
    assert_eq!(refusal.kind, RefusalKind::Invalid);
    assert!(refusal.message.contains("is a directory already"), "{refusal}");
    assert!(shown(&world).dev.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_switch_waits_for_no_remote_that_hangs() {
    let (world, files, _) = deployed().await;
    files.hang(true);
    let service = world.service.clone();
    let asked = tokio::spawn(async move { service.reconcile(&all(), Reconcile::default()).await });
    world.until("the repository is looked at", |_| files.is_hanging()).await;
    world.service.dev_on(&source(), COPY, None).await.unwrap();
    // Who waited for the repository is answered by a pass over the working copy.
    asked.await.unwrap().unwrap();
    assert_eq!(world.record("a").unwrap().deployed_revision, None);
    files.hang(false);
    world.until("the repository is seen", |_| !files.is_hanging()).await;
    world.service.dev_off(&source()).await.unwrap();
    assert_eq!(world.record("a").unwrap().deployed_revision, Some(Revision::new("c1")));
}

#[tokio::test(start_paused = true)]
async fn a_preview_says_what_switching_would_change_and_changes_nothing() {
    let (world, files, copy) = deployed().await;
    files.task("gone", "echo gone\n").commit("c2");
    world.service.reconcile(&all(), Reconcile::default()).await.unwrap();
    copy.task("new", "echo new\n")
        .put("bad/task.yaml", &format!("{}naem: x\n", manifest("bad", "manual: true")));
    let before = (world.service.core().board.units(), shown(&world).state(), history(&world).await);
    let report = world.service.preview(&source(), COPY).await.unwrap();
    let mut steps: Vec<_> =
        report.steps.iter().map(|done| (done.step.unit.key.to_string(), done.step.action.as_str())).collect();
    steps.sort();
    assert_eq!(steps, [("a".into(), "sync"), ("gone".into(), "remove"), ("new".into(), "sync")]);
    assert_eq!(report.problems[0].0, unit("bad"));
    copy.fail(Some("RootMissing"));
    assert_eq!(world.service.preview(&source(), COPY).await.unwrap_err().kind, RefusalKind::Failed);
    assert_eq!((world.service.core().board.units(), shown(&world).state(), history(&world).await), before);
    assert!(shown(&world).dev.is_none() && !copy.is_observed());
}

#[tokio::test(start_paused = true)]
async fn a_daemon_is_replaced_once_and_only_where_it_differs() {
    let files = FakeFiles::default();
    files.daemon("a", "echo 1\n").daemon("same", "echo same\n").commit("c1");
    let copy = files.copy_at(COPY);
    copy.daemon("a", "echo 2\n").daemon("same", "echo same\n");
    let mut world = World::start_git(&files, HOUR).await;
    world.event(EventType::UnitRegistered, "a").await;
    world.until("both run", |world| world.target.started().len() == 2).await;
    world.target.stop_takes(Duration::from_secs(3));
    // Two switches while the first one's step is under way: one process at any time, and the last wish holds.
    let name = source();
    let (on, off) = tokio::join!(world.service.dev_on(&name, COPY, None), world.service.dev_off(&name));
    on.unwrap();
    off.unwrap();
    world
        .until("git's runs", |world| {
            world.target.alive(&unit("a")) == [world.live("a").unwrap().hash]
                && world.record("a").unwrap().deployed_revision == Some(Revision::new("c1"))
        })
        .await;
    world.service.dev_on(&name, COPY, None).await.unwrap();
    assert_eq!(world.target.alive(&unit("a")), [world.live("a").unwrap().hash]);
    assert_eq!(world.record("a").unwrap().deployed_revision, None);
    assert_eq!(world.target.started().iter().filter(|id| *id == "s/same").count(), 1);
}
