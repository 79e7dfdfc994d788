//! Daemons in the loop: exactly one process, of the right version, whatever is saved and whatever ends.

use std::time::Duration;

use kindling::model::condition::ConditionType::{Healthy, Ready};
use kindling::model::event::EventType;
use kindling::model::history::Outcome;
use kindling::model::run::RunStatus;
use kindling::model::step::Rule;
use kindling::reconcile::handle::{Reconcile, Subject};
use kindling::record::{HistoryQuery, RunQuery};
use tokio::time::Instant;

use crate::world::{FakeFiles, World, all, manifest, unit};

async fn with_daemon() -> (FakeFiles, World) {
    let files = FakeFiles::default();
    files.daemon("d", "one\n").task("a", "echo\n");
    let mut world = World::start(&files).await;
    world.event(EventType::UnitRegistered, "d").await;
    (files, world)
}

#[tokio::test(start_paused = true)]
async fn a_new_version_starts_after_the_old_one_has_ended() {
    let (files, mut world) = with_daemon().await;
    assert_eq!(world.target.alive(&unit("d")).len(), 1);
    world.target.stop_takes(Duration::from_secs(3));
    let asked = Instant::now();
    files.put("d/task.sh", "two\n");
    let live = world.event(EventType::UnitUpdated, "d").await.hash.unwrap();
    assert!(asked.elapsed() >= Duration::from_secs(3));
    assert_eq!(world.target.alive(&unit("d")), [live]);
    let runs = world.store.runs(RunQuery { limit: 10, ..RunQuery::default() }).await.unwrap();
    assert_eq!(runs.len(), 2);
    assert_eq!(
        (runs[1].status, runs[1].error.as_str()),
        (RunStatus::Cancelled, "a newer version took its place")
    );
}

#[tokio::test(start_paused = true)]
async fn others_do_not_wait_for_a_daemon_that_ends_slowly() {
    let (files, mut world) = with_daemon().await;
    world.target.stop_takes(Duration::from_secs(60));
    let asked = Instant::now();
    files.put("d/task.sh", "two\n").put("a/task.sh", "echo 2\n");
    world.event(EventType::UnitUpdated, "a").await;
    assert!(asked.elapsed() < Duration::from_secs(2));
    assert!(
        world.condition("d", Ready).starts_with("Unknown Progressing"),
        "{}",
        world.condition("d", Ready)
    );
    // `reconcile` waits for the end of what is under way.
    world.service.reconcile(&all(), Reconcile::default()).await.unwrap();
    assert!(asked.elapsed() >= Duration::from_secs(60));
    assert!(world.condition("d", Ready).starts_with("True"));
}

#[tokio::test(start_paused = true)]
async fn of_several_saves_during_a_stop_only_the_newest_is_started() {
    let (files, world) = with_daemon().await;
    world.target.stop_takes(Duration::from_secs(5));
    for n in 0..10 {
        files.put("d/task.sh", &format!("version {n}\n"));
        tokio::time::sleep(Duration::from_millis(700)).await;
    }
    let newest = |world: &World| world.record("d").unwrap().desired;
    world.until("the newest is live", |world| world.record("d").unwrap().deployed == newest(world)).await;
    world.service.settle(&all()).await.unwrap();
    assert_eq!(world.target.alive(&unit("d")), [newest(&world).unwrap()]);
    let rows = world.store.history(HistoryQuery { limit: 100, ..HistoryQuery::default() }).await.unwrap();
    let of = |outcome| rows.iter().filter(|(_, row)| row.unit == unit("d") && row.outcome == outcome).count();
    assert!(of(Outcome::Superseded) > 0, "{rows:#?}");
    assert_eq!(of(Outcome::Failed), 0);
    // To end the one before is what the step did; to be up is what proves it.
    let live = rows.iter().find(|(_, row)| row.outcome == Outcome::Succeeded).unwrap();
    let [.., (act, took), (healthy, _)] = &live.1.phases[..] else { panic!("{live:?}") };
    assert_eq!((act.as_str(), healthy.as_str()), ("act", "healthy"));
    assert!(*took > 1000.0, "{:?}", live.1.phases);
    assert_eq!(world.record("d").unwrap().phases, live.1.phases);
    assert!(world.target.started().len() < 6, "{:?}", world.target.started());
}

#[tokio::test(start_paused = true)]
async fn what_only_people_read_restarts_nothing() {
    let (files, mut world) = with_daemon().await;
    let before = world.target.alive(&unit("d"));
    let manifest = manifest("d", "daemon: true");
    files.put("d/task.yaml", &format!("{manifest}description: now with words\n"));
    world.event(EventType::UnitUpdated, "d").await;
    assert_eq!(world.target.alive(&unit("d")), before);
    assert_eq!(world.record("d").unwrap().rule, Some(Rule::MetadataOnly));
    files.put("d/task.yaml", &format!("{manifest}# and a comment\n"));
    world.event(EventType::UnitUpdated, "d").await;
    assert_eq!(world.target.started().len(), 1);
    files.put("d/task.yaml", &format!("{manifest}env: {{A: b}}\n"));
    world.event(EventType::UnitUpdated, "d").await;
    assert_eq!(world.target.started().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_broken_manifest_never_stops_it() {
    let (files, world) = with_daemon().await;
    let before = world.target.alive(&unit("d"));
    for broken in ["", "apiVersion: kindling/v1\n", "kind: [", "\u{0}", "trigger: {manual: true}"] {
        files.put("d/task.yaml", broken);
        world
            .until("it is broken", |world| world.condition("d", Ready).starts_with("False InvalidManifest"))
            .await;
        assert_eq!(world.target.alive(&unit("d")), before);
        files.put("d/task.yaml", &manifest("d", "daemon: true"));
        world.until("it is mended", |world| world.condition("d", Ready).starts_with("True")).await;
    }
    assert_eq!((world.target.alive(&unit("d")), world.target.started().len()), (before, 1));
}

#[tokio::test(start_paused = true)]
async fn it_is_started_again_with_growing_waits_and_a_crash_loop_says_so() {
    let (files, mut world) = with_daemon().await;
    let mut waits = Vec::new();
    for starts in 1..7 {
        world.target.end(&unit("d"), 3);
        let ended = Instant::now();
        world.until("it runs again", |world| world.target.started().len() > starts).await;
        waits.push(ended.elapsed().as_secs());
        world.until("it is alive", |world| world.target.alive(&unit("d")).len() == 1).await;
    }
    assert_eq!(waits, [0, 1, 2, 4, 8, 16]);
    world.target.end(&unit("d"), 3);
    world
        .until("it says so", |world| world.condition("d", Healthy).starts_with("False CrashLoop: it ended 7"))
        .await;
    let told = world.condition("d", Healthy);
    assert_eq!(
        told,
        "False CrashLoop: it ended 7 times in a row: it ended with exit code 3; it is started again after 32s"
    );
    assert!(
        world.condition("d", Ready).ends_with(
            ": it ended 7 times in a row: it ended with exit code 3; it is started again after 32s"
        )
    );
    assert!(world.condition("d", Ready).starts_with("False CrashLoop: version "));
    // A new version does not wait.
    files.put("d/task.sh", "mended\n");
    let asked = Instant::now();
    world.event(EventType::UnitUpdated, "d").await;
    assert!(asked.elapsed() < Duration::from_secs(1));
    world.until("it is well", |world| world.condition("d", Healthy).starts_with("True")).await;
    // It was mended while it waited, and is not taken for what it was.
    assert!(world.condition("d", Healthy).starts_with("True Running"));
    assert!(world.condition("d", Ready).starts_with("True Deployed"));
}

#[tokio::test(start_paused = true)]
async fn a_crash_loop_is_over_when_it_ran_for_a_while_and_not_at_its_next_start() {
    let (_files, world) = with_daemon().await;
    for starts in 1..6 {
        world.target.end(&unit("d"), 3);
        world.until("it runs again", |world| world.target.started().len() > starts).await;
        world.until("it is alive", |world| world.target.alive(&unit("d")).len() == 1).await;
    }
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert!(world.condition("d", Healthy).starts_with("False CrashLoop: it ended 5 times in a row"));
    tokio::time::sleep(Duration::from_secs(11)).await;
    world.until("it is well", |world| world.condition("d", Healthy).starts_with("True Running")).await;
}

#[tokio::test(start_paused = true)]
async fn its_policy_says_when_it_stays_ended() {
    let files = FakeFiles::default();
    files.put("d/task.yaml", &manifest("d", "daemon: true, restart: on-failure")).put("d/task.sh", "");
    let mut world = World::start(&files).await;
    world.event(EventType::UnitRegistered, "d").await;
    world.target.end(&unit("d"), 1);
    world.until("it runs again", |world| world.target.started().len() == 2).await;
    world.target.end(&unit("d"), 0);
    world.until("it is ended", |world| world.condition("d", Healthy).starts_with("True Completed")).await;
    tokio::time::advance(Duration::from_secs(600)).await;
    assert_eq!(world.target.started().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn removing_it_ends_it_and_moving_it_never_runs_two() {
    let (files, mut world) = with_daemon().await;
    world.target.stop_takes(Duration::from_secs(2));
    files.remove("d/task.yaml").remove("d/task.sh").daemon("moved", "one\n");
    let moved = world.event(EventType::UnitRegistered, "moved").await;
    assert_eq!(world.target.alive(&unit("d")), []);
    assert_eq!(world.target.alive(&unit("moved")), [moved.hash.unwrap()]);
    world.until("d is gone", |world| world.record("d").is_none()).await;
}

#[tokio::test(start_paused = true)]
async fn a_daemon_that_becomes_a_task_ends() {
    let (files, mut world) = with_daemon().await;
    files.put("d/task.yaml", &manifest("d", "manual: true"));
    world.event(EventType::UnitUpdated, "d").await;
    assert_eq!(world.target.alive(&unit("d")), []);
    assert_eq!(world.condition("d", Healthy), "");
    files.put("d/task.yaml", &manifest("d", "daemon: true"));
    world.event(EventType::UnitUpdated, "d").await;
    assert_eq!(world.target.alive(&unit("d")).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_version_that_cannot_be_started_gives_way_to_the_last_good_one() {
    let (files, mut world) = with_daemon().await;
    let good = world.record("d").unwrap().deployed.unwrap();
    world.target.cannot_start(true);
    files.put("d/task.sh", "two\n");
    world.event(EventType::UnitFailed, "d").await;
    assert_eq!(world.live("d").unwrap().hash, good);
    assert_eq!(world.record("d").unwrap().deployed, Some(good));
    world.target.cannot_start(false);
    world.event(EventType::UnitUpdated, "d").await;
    let live = world.record("d").unwrap().deployed.unwrap();
    world.until("the new one runs", |world| world.target.alive(&unit("d")) == [live]).await;
    assert_ne!(live, good);
}

#[tokio::test(start_paused = true)]
async fn a_version_of_which_it_is_seen_that_it_cannot_be_started_ends_no_process() {
    let (files, mut world) = with_daemon().await;
    let good = world.record("d").unwrap().deployed.unwrap();
    world.target.is_not_ready(true);
    files.put("d/task.sh", "two\n");
    for _ in 0..3 {
        world.event(EventType::UnitFailed, "d").await;
        assert_eq!(world.target.alive(&unit("d")), [good]);
        assert_eq!(world.live("d").unwrap().hash, good);
    }
    let starts = |world: &World| world.target.started().len();
    assert_eq!(starts(&world), 1, "it is the same process");
    // If it ends, it is the good version that is started again.
    world.target.end(&unit("d"), 1);
    world.until("it runs again", |world| starts(world) == 2).await;
    assert_eq!(world.target.alive(&unit("d")), [good]);
    world.target.is_not_ready(false);
    world.event(EventType::UnitUpdated, "d").await;
    let live = world.record("d").unwrap().deployed.unwrap();
    world.until("the new one runs", |world| world.target.alive(&unit("d")) == [live]).await;
    assert_ne!(live, good);
}

#[tokio::test(start_paused = true)]
async fn closing_ends_it_as_interrupted_and_starts_nothing() {
    let (_files, world) = with_daemon().await;
    world.service.close().await;
    assert_eq!(world.target.alive(&unit("d")), []);
    let runs = world.store.runs(RunQuery { limit: 10, ..RunQuery::default() }).await.unwrap();
    assert_eq!(runs.iter().map(|run| run.status).collect::<Vec<_>>(), [RunStatus::Interrupted]);
}

#[tokio::test(start_paused = true)]
async fn one_that_goes_away_while_it_is_started_does_not_stay() {
    let (files, world) = with_daemon().await;
    world.target.stop_takes(Duration::from_secs(5));
    files.put("d/task.sh", "two\n");
    world.until("the step is under way", |world| world.condition("d", Ready).starts_with("Unknown")).await;
    files.remove("d/task.yaml").remove("d/task.sh");
    world.until("d is gone", |world| world.record("d").is_none()).await;
    assert_eq!(world.target.alive(&unit("d")), []);
    world.service.settle(&all()).await.unwrap();
    assert!(world.record("d").is_none() && world.live("d").is_none());
}

#[tokio::test(start_paused = true)]
async fn a_removal_that_takes_its_time_is_told_once() {
    let (files, mut world) = with_daemon().await;
    world.target.stop_takes(Duration::from_secs(10));
    files.put("d/task.sh", "two\n");
    world.until("it is being stopped", |world| world.condition("d", Ready).starts_with("Unknown")).await;
    // The end of the step that this one takes the place of is told while it is under way.
    files.remove("d/task.yaml").remove("d/task.sh");
    world.event(EventType::UnitRemoved, "d").await;
    let query = HistoryQuery { unit: Some(unit("d")), limit: 100, ..HistoryQuery::default() };
    let rows = world.store.history(query).await.unwrap();
    let told: Vec<_> = rows.iter().map(|(_, row)| (row.action.as_str(), row.outcome)).collect();
    assert_eq!(
        told,
        [("remove", Outcome::Succeeded), ("sync", Outcome::Superseded), ("sync", Outcome::Succeeded)]
    );
    assert!(world.target.alive(&unit("d")).is_empty() && world.record("d").is_none());
}

#[tokio::test(start_paused = true)]
async fn a_new_one_that_goes_away_before_it_runs_does_not_stay() {
    let (files, world) = with_daemon().await;
    world.target.stop_takes(Duration::from_secs(5));
    // The new daemon waits for the end of the one that it replaces.
    files.remove("d/task.yaml").remove("d/task.sh").daemon("e", "one\n");
    world.until("the step is under way", |world| world.condition("e", Ready).starts_with("Unknown")).await;
    files.remove("e/task.yaml").remove("e/task.sh").task("f", "echo\n");
    world.until("both are gone", |world| world.record("d").is_none() && world.record("e").is_none()).await;
    world.service.settle(&all()).await.unwrap();
    assert_eq!((world.target.alive(&unit("e")), world.live("e").is_none()), (vec![], true));
}

#[tokio::test(start_paused = true)]
async fn rows_of_history_follow_each_other_when_steps_overlap() {
    let (files, world) = with_daemon().await;
    world.target.stop_takes(Duration::from_secs(2));
    files.put("d/task.sh", "two\n");
    world.until("the step is under way", |world| world.condition("d", Ready).starts_with("Unknown")).await;
    // The second version starts while the pass that finds the third one still reads.
    files.reads_take(Duration::from_secs(6)).put("d/task.sh", "three\n").put("d/more.txt", "new\n");
    world.until("the second one runs", |world| world.target.started().len() == 2).await;
    world.until("the third one runs", |world| world.target.started().len() == 3).await;
    world.service.settle(&all()).await.unwrap();
    let mut rows = world.store.history(HistoryQuery { limit: 9, ..HistoryQuery::default() }).await.unwrap();
    rows.retain(|(_, row)| row.unit == unit("d"));
    assert_eq!(rows.len(), 3, "{rows:#?}");
    assert_eq!(rows[0].1.from, rows[1].1.to, "{rows:#?}");
    assert_eq!(rows[1].1.from, rows[2].1.to, "{rows:#?}");
    assert_eq!(world.record("d").unwrap().deployed, rows[0].1.to);
}

#[tokio::test(start_paused = true)]
async fn one_that_went_away_and_comes_back_is_started() {
    let (files, mut world) = with_daemon().await;
    files.remove("d/task.yaml").remove("d/task.sh");
    world.until("d is gone", |world| world.record("d").is_none()).await;
    files.daemon("d", "again\n");
    world.event(EventType::UnitRegistered, "d").await;
    world.until("it runs", |world| world.target.alive(&unit("d")).len() == 1).await;
    files.remove("d/task.yaml").remove("d/task.sh");
    world.until("d is gone", |world| world.record("d").is_none()).await;
    let mut world = world.again().await;
    files.daemon("d", "once more\n");
    world.event(EventType::UnitRegistered, "d").await;
    assert!(world.record("d").unwrap().generation.0 > 3, "{:?}", world.record("d").unwrap().generation);
}

#[tokio::test(start_paused = true)]
async fn a_failed_start_is_tried_again_soon_and_a_mended_version_at_once() {
    let (files, mut world) = with_daemon().await;
    world.target.cannot_start(true);
    files.put("d/task.sh", "two\n");
    world.event(EventType::UnitFailed, "d").await;
    world.event(EventType::UnitFailed, "d").await;
    world.target.cannot_start(false);
    let mended = Instant::now();
    files.put("d/task.sh", "three\n");
    world.event(EventType::UnitUpdated, "d").await;
    assert!(mended.elapsed() < Duration::from_secs(2), "{:?}", mended.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_manifest_that_breaks_while_a_step_is_under_way_stays_a_problem() {
    let (files, mut world) = with_daemon().await;
    world.target.stop_takes(Duration::from_secs(3));
    files.put("d/task.sh", "two\n");
    world.until("the stop is under way", |world| world.condition("d", Ready).contains("Progressing")).await;
    files.put("d/task.yaml", "kind: [\n");
    world.event(EventType::UnitFailed, "d").await;
    world.event(EventType::UnitUpdated, "d").await;
    world.service.settle(&all()).await.unwrap();
    let ready = world.condition("d", Ready);
    assert!(ready.starts_with("False InvalidManifest"), "{ready}");
    assert_eq!(world.record("d").unwrap().desired, None);
    assert_eq!(world.target.alive(&unit("d")).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn who_asks_about_one_unit_does_not_wait_for_the_others() {
    let (files, mut world) = with_daemon().await;
    files.put("a/task.sh", "echo 2\n");
    world.event(EventType::UnitUpdated, "a").await;
    world.target.stop_takes(Duration::from_secs(3600));
    files.put("d/task.sh", "two\n");
    world.until("its stop is under way", |world| world.condition("d", Ready).contains("Progressing")).await;
    let (asked, about) = (Instant::now(), Subject::Unit(unit("a")));
    world.service.settle(&about).await.unwrap();
    world.service.reconcile(&about, Reconcile::default()).await.unwrap();
    world.service.roll_back(&unit("a"), None).await.unwrap();
    world.service.suspend(&about, "to look".into()).await.unwrap();
    world.service.resume(&about).await.unwrap();
    world.service.diff(&crate::world::source()).await.unwrap();
    assert!(asked.elapsed() < Duration::from_secs(60), "{:?}", asked.elapsed());
    assert!(world.condition("d", Ready).contains("Progressing"));
}

#[tokio::test(start_paused = true)]
async fn a_manifest_that_is_away_for_a_moment_stops_nothing() {
    let (files, mut world) = with_daemon().await;
    let before = world.target.alive(&unit("d"));
    let whole = manifest("d", "daemon: true");
    // As programs save that put the old file aside first.
    for _ in 0..3 {
        files.remove("d/task.yaml");
        tokio::time::sleep(Duration::from_millis(150)).await;
        files.put("d/task.yaml", &whole);
        files.put("a/task.sh", "echo more\n");
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    assert_eq!((world.target.alive(&unit("d")), world.target.started().len()), (before, 1));
    files.remove("d/task.yaml");
    world.event(EventType::UnitRemoved, "d").await;
    assert_eq!(world.target.alive(&unit("d")), []);
}
