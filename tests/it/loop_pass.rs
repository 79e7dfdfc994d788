//! The loop with a fake source and target: what is desired becomes what is deployed, whatever happens on the way.

use std::time::Duration;

use kindling::model::condition::ConditionType::{Ready, Stalled};
use kindling::model::event::EventType;
use kindling::model::history::{Outcome, TriggerKind};
use kindling::model::step::{Action, Rule};
use kindling::model::time::Timestamp;
use kindling::model::unit::FileChangeKind;
use kindling::observe::Ask;
use kindling::reconcile::handle::{Reconcile, Subject};
use kindling::reconcile::message::RefusalKind;
use kindling::record::HistoryQuery;

use crate::world::{FakeFiles, World, all, manifest, source, unit};

async fn history(world: &World) -> Vec<kindling::model::history::HistoryRow> {
    let rows = world.store.history(HistoryQuery { limit: 100, ..HistoryQuery::default() }).await.unwrap();
    rows.into_iter().map(|(_, row)| row).collect()
}

#[tokio::test(start_paused = true)]
async fn a_save_is_registered_recorded_and_told_in_this_order() {
    let files = FakeFiles::default();
    files.task("a", "echo 1\n");
    let mut world = World::start(&files).await;
    let first = world.event(EventType::UnitRegistered, "a").await;
    files.put("a/task.sh", "echo 2\n");
    let second = world.event(EventType::UnitUpdated, "a").await;
    assert_ne!(first.hash, second.hash);
    // When the event comes, a run started now uses the new version and the store has it.
    assert_eq!(world.live("a").map(|version| version.hash), second.hash);
    assert_eq!(world.store.units().await.unwrap()[0].deployed, second.hash);
    let rows = history(&world).await;
    assert_eq!(rows.len(), 2);
    assert_eq!((rows[0].cause.kind, rows[0].cause.detail.as_str()), (TriggerKind::File, "a/task.sh"));
    assert_eq!(
        (rows[0].rule, rows[0].action, rows[0].outcome),
        (Rule::Updated, Action::Sync, Outcome::Succeeded)
    );
    assert_eq!(rows[0].files[0].path.as_str(), "task.sh");
    assert_eq!((rows[1].cause.kind, rows[1].rule), (TriggerKind::Start, Rule::Added));
    assert_eq!(
        world.condition("a", Ready),
        format!("True Deployed: version {} is live", second.hash.unwrap().short())
    );
}

#[tokio::test(start_paused = true)]
async fn a_broken_manifest_keeps_the_last_good_version_and_heals_by_itself() {
    let files = FakeFiles::default();
    files.task("a", "echo 1\n").task("b", "echo 1\n");
    let mut world = World::start(&files).await;
    let good = world.event(EventType::UnitRegistered, "a").await.hash;
    files.put("a/task.yaml", &format!("{}naem: a\n", manifest("a", "manual: true")));
    world.event(EventType::UnitFailed, "a").await;
    assert_eq!(world.live("a").map(|version| version.hash), good);
    let short = good.unwrap().short();
    let told = world.condition("a", Ready);
    assert!(told.starts_with("False InvalidManifest: a/task.yaml:6:1: unknown field `naem`"), "{told}");
    assert!(told.ends_with(&format!("(still running {short})")), "{told}");
    assert!(world.condition("a", Stalled).starts_with("True InvalidManifest"));
    assert!(world.condition("b", Ready).starts_with("True"));
    files.put("a/task.yaml", &manifest("a", "manual: true"));
    world.until("a is ready", |world| world.condition("a", Ready).starts_with("True")).await;
    assert_eq!(world.condition("a", Stalled), "");
}

#[tokio::test(start_paused = true)]
async fn a_unit_that_never_worked_is_listed_without_hashes() {
    let files = FakeFiles::default();
    files.put("a/task.yaml", "nonsense");
    let mut world = World::start(&files).await;
    world.event(EventType::UnitFailed, "a").await;
    let record = world.record("a").unwrap();
    assert_eq!((record.desired, record.attempted, record.deployed), (None, None, None));
    assert_eq!(record.problems.len(), 1);
    files.remove("a/task.yaml");
    world.until("a is gone", |world| world.record("a").is_none()).await;
    assert!(world.store.units().await.unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn adding_renaming_and_removing_follow_the_tree() {
    let files = FakeFiles::default();
    files.task("a", "echo\n").task("b", "echo\n").task("c", "echo\n");
    let mut world = World::start(&files).await;
    world.event(EventType::UnitRegistered, "c").await;
    files.remove("a/task.yaml").remove("a/task.sh").task("z/a", "echo\n");
    world.event(EventType::UnitRegistered, "z/a").await;
    world.until("a is gone", |world| world.record("a").is_none() && world.live("a").is_none()).await;
    let rows = history(&world).await;
    let removed = rows.iter().find(|row| row.action == Action::Remove).unwrap();
    assert_eq!((removed.unit.clone(), removed.rule, removed.to), (unit("a"), Rule::Removed, None));
}

#[tokio::test(start_paused = true)]
async fn a_lost_event_costs_time_and_never_correctness() {
    let files = FakeFiles::default();
    files.task("a", "echo 1\n");
    let mut world = World::start(&files).await;
    world.event(EventType::UnitRegistered, "a").await;
    files.silently("a/task.sh", Some("echo 2\n"));
    world.event(EventType::UnitUpdated, "a").await;
    assert_eq!(history(&world).await[0].cause.detail, "scan");
}

#[tokio::test(start_paused = true)]
async fn a_file_that_is_being_written_is_read_again() {
    let files = FakeFiles::default();
    files.task("a", "echo 1\n");
    let mut world = World::start(&files).await;
    world.event(EventType::UnitRegistered, "a").await;
    files.tear("a/task.sh").put("a/task.sh", "echo 2\n");
    world.event(EventType::UnitUpdated, "a").await;
    assert_eq!(history(&world).await.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_emptied_source_stalls_until_a_person_agrees() {
    let files = FakeFiles::default();
    files.task("a", "echo\n").task("b", "echo\n");
    let mut world = World::start(&files).await;
    world.event(EventType::UnitRegistered, "b").await;
    files.clear();
    let stalled = |world: &World| {
        let source = world.service.core().board.source(&crate::world::source()).unwrap();
        source.conditions.get(Stalled).is_some_and(|condition| condition.reason == "RemovalGuard")
    };
    world.until("the source stalls", stalled).await;
    let refusal = world.service.reconcile(&all(), Reconcile::default()).await.unwrap_err();
    assert_eq!(refusal.kind, RefusalKind::Conflict);
    assert_eq!(refusal.message, "this would remove 2 units: s/a, s/b");
    assert_eq!(refusal.hint.as_deref(), Some("kindling reconcile s --allow-removals"));
    assert!(world.live("a").is_some() && world.live("b").is_some());
    // Whoever asks what a pass would do is told that it would do none of it.
    let planned = world.service.diff(&crate::world::source()).await.unwrap();
    assert_eq!(planned.steps.len(), 2);
    let why = "RemovalGuard: this would remove 2 units: s/a, s/b; if they are to go: `kindling reconcile s --allow-removals`";
    assert_eq!(planned.guarded, [(crate::world::source(), why.to_owned())]);
    // A tree that comes back heals without a word.
    files.task("a", "echo\n").task("b", "echo\n");
    world.until("the source is well again", |world| !stalled(world)).await;
    files.clear();
    world.until("the source stalls again", stalled).await;
    let allowed = Reconcile { allow_removals: true, ..Reconcile::default() };
    world.service.reconcile(&all(), allowed).await.unwrap();
    assert!(world.record("a").is_none() && world.record("b").is_none());
    assert!(!stalled(&world));
}

#[tokio::test(start_paused = true)]
async fn a_source_that_fails_keeps_its_units_and_is_tried_again() {
    let files = FakeFiles::default();
    files.task("a", "echo 1\n");
    let mut world = World::start(&files).await;
    world.event(EventType::UnitRegistered, "a").await;
    files.fail(Some("RootMissing"));
    let refusal = world.service.reconcile(&all(), Reconcile::default()).await.unwrap_err();
    assert_eq!(refusal.message, "the source fails (its unit stays as it is)");
    assert!(world.live("a").is_some());
    files.silently("a/task.sh", Some("echo 2\n")).fail(None);
    world.event(EventType::UnitUpdated, "a").await;
}

#[tokio::test(start_paused = true)]
async fn what_needs_a_person_is_not_tried_again_until_something_changes() {
    let files = FakeFiles::default();
    files.task("a", "echo 1\n").fail(Some("Denied"));
    let world = World::start(&files).await;
    world.until("it was looked at", |_| !files.looks().is_empty()).await;
    tokio::time::advance(Duration::from_secs(3600)).await;
    assert_eq!(files.looks().len(), 1);
    files.fail(None);
    world.service.reconcile(&all(), Reconcile::default()).await.unwrap();
    assert!(world.live("a").is_some());
}

#[tokio::test(start_paused = true)]
async fn a_pass_that_finds_nothing_writes_one_counter() {
    let files = FakeFiles::default();
    files.task("a", "echo 1\n");
    let mut world = World::start(&files).await;
    world.event(EventType::UnitRegistered, "a").await;
    let before = world.record("a").unwrap();
    for _ in 0..5 {
        assert!(world.service.reconcile(&all(), Reconcile::default()).await.unwrap().steps.is_empty());
    }
    assert_eq!(world.record("a").unwrap(), before);
    assert_eq!(history(&world).await.len(), 1);
    assert_eq!(world.service.core().board.source(&crate::world::source()).unwrap().passes, 5);
    assert_eq!(files.looks().len(), 6);
}

#[tokio::test(start_paused = true)]
async fn a_rescan_trusts_nothing_and_finds_nothing() {
    let files = FakeFiles::default();
    files.task("a", "echo 1\n");
    let mut world = World::start(&files).await;
    world.event(EventType::UnitRegistered, "a").await;
    world.service.reconcile(&all(), Reconcile { rescan: true, ..Reconcile::default() }).await.unwrap();
    assert_eq!(files.looks().last(), Some(&Ask::Rescan));
    assert_eq!(history(&world).await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_rollback_holds_what_was_desired_until_something_else_is() {
    let files = FakeFiles::default();
    files.task("a", "echo 1\n");
    let mut world = World::start(&files).await;
    let one = world.event(EventType::UnitRegistered, "a").await.hash.unwrap();
    files.put("a/task.sh", "echo 2\n");
    let two = world.event(EventType::UnitUpdated, "a").await.hash.unwrap();
    world.service.roll_back(&unit("a"), None).await.unwrap();
    let live = |world: &World| world.live("a").unwrap().hash;
    assert_eq!(live(&world), one);
    let held = world.record("a").unwrap();
    assert_eq!(held.hold.as_ref().unwrap().hash, two);
    assert!(world.condition("a", Ready).starts_with("False Held"), "{}", world.condition("a", Ready));
    // It outlives passes and a restart.
    world.service.reconcile(&all(), Reconcile::default()).await.unwrap();
    let mut world = world.again().await;
    world.service.reconcile(&all(), Reconcile { rescan: true, ..Reconcile::default() }).await.unwrap();
    assert_eq!(live(&world), one);
    assert_eq!(world.record("a").unwrap().hold.as_ref().unwrap().hash, two);
    // Another desired hash clears it.
    files.put("a/task.sh", "echo 3\n");
    world.event(EventType::UnitUpdated, "a").await;
    assert_eq!(world.record("a").unwrap().hold, None);
    let three = live(&world);
    world.service.roll_back(&unit("a"), Some(one)).await.unwrap();
    assert_eq!((live(&world), world.record("a").unwrap().hold.as_ref().unwrap().hash), (one, three));
    // And so does `resume`.
    world.service.resume(&Subject::Unit(unit("a"))).await.unwrap();
    assert_eq!(live(&world), three);
    assert!(world.condition("a", Ready).starts_with("True"));
    let again = world.service.roll_back(&unit("a"), Some(three)).await.unwrap_err();
    assert_eq!(again.kind, RefusalKind::Conflict);
}

#[tokio::test(start_paused = true)]
async fn going_back_in_the_source_to_the_version_that_runs_clears_the_hold() {
    let files = FakeFiles::default();
    files.task("a", "echo 1\n");
    let mut world = World::start(&files).await;
    world.event(EventType::UnitRegistered, "a").await;
    files.put("a/task.sh", "echo 2\n");
    world.event(EventType::UnitUpdated, "a").await;
    world.service.roll_back(&unit("a"), None).await.unwrap();
    files.put("a/task.sh", "echo 1\n");
    world.until("the hold is gone", |world| world.record("a").unwrap().hold.is_none()).await;
    assert!(world.condition("a", Ready).starts_with("True"));
}

#[tokio::test(start_paused = true)]
async fn a_suspended_unit_is_left_alone_and_the_others_are_not() {
    let files = FakeFiles::default();
    files.task("a", "echo 1\n").task("b", "echo 1\n");
    let mut world = World::start(&files).await;
    let old = world.event(EventType::UnitRegistered, "a").await.hash;
    world.service.suspend(&Subject::Unit(unit("a")), "for the demo".into()).await.unwrap();
    files.put("a/task.sh", "echo 2\n").put("b/task.sh", "echo 2\n");
    world.event(EventType::UnitUpdated, "b").await;
    assert_eq!(world.live("a").map(|version| version.hash), old);
    assert!(world.condition("a", Ready).starts_with("False Suspended: it is suspended: for the demo"));
    world.service.resume(&Subject::Unit(unit("a"))).await.unwrap();
    assert_ne!(world.live("a").map(|version| version.hash), old);
}

#[tokio::test(start_paused = true)]
async fn a_suspended_source_is_not_looked_at_and_survives_a_restart() {
    let files = FakeFiles::default();
    files.task("a", "echo 1\n");
    let mut world = World::start(&files).await;
    let old = world.event(EventType::UnitRegistered, "a").await.hash;
    world.service.suspend(&all(), "for the night".into()).await.unwrap();
    let world = world.again().await;
    files.put("a/task.sh", "echo 2\n");
    let looks = files.looks().len();
    tokio::time::advance(Duration::from_secs(600)).await;
    assert_eq!(files.looks().len(), looks);
    let refusal = world.service.reconcile(&all(), Reconcile::default()).await.unwrap_err();
    assert_eq!(refusal.message, "source s is suspended: for the night");
    assert_eq!(world.live("a").map(|version| version.hash), old);
    world.service.resume(&all()).await.unwrap();
    assert_ne!(world.live("a").map(|version| version.hash), old);
}

#[tokio::test(start_paused = true)]
async fn what_is_there_is_compared_with_what_was_recorded() {
    let files = FakeFiles::default();
    files.task("a", "echo 1\n");
    let mut world = World::start(&files).await;
    world.event(EventType::UnitRegistered, "a").await;
    world.service.core().registry.remove(&unit("a"));
    world.event(EventType::UnitUpdated, "a").await;
    let row = &history(&world).await[0];
    assert_eq!((row.cause.kind, row.rule), (TriggerKind::Drift, Rule::Drifted));
    assert_eq!(row.reason, "it was recorded as deployed but is not registered");
}

#[tokio::test(start_paused = true)]
async fn a_dry_pass_says_what_would_be_done_and_does_nothing() {
    let files = FakeFiles::default();
    files.task("a", "echo 1\n").task("b", "echo 1\n");
    let mut world = World::start(&files).await;
    let old = world.event(EventType::UnitRegistered, "a").await.hash;
    world.service.suspend(&all(), "to look".into()).await.unwrap();
    files.silently("a/task.sh", Some("echo 2\n")).silently("c/task.yaml", Some("nonsense"));
    let report = world.service.diff(&crate::world::source()).await.unwrap();
    assert_eq!(report.steps.len(), 1);
    assert_eq!((report.steps[0].step.rule, report.steps[0].step.unit.clone()), (Rule::Updated, unit("a")));
    assert_eq!(report.problems.len(), 1);
    assert_eq!(world.live("a").map(|version| version.hash), old);
    assert_eq!(history(&world).await.len(), 2);
    assert!(world.record("c").is_none());
    world.service.resume(&all()).await.unwrap();
    assert_ne!(world.live("a").map(|version| version.hash), old);
    assert!(world.record("c").is_some());
}

#[tokio::test(start_paused = true)]
async fn a_restart_changes_nothing_and_writes_no_history() {
    let files = FakeFiles::default();
    files.task("a", "echo 1\n").daemon("d", "sleep\n");
    let mut world = World::start(&files).await;
    world.event(EventType::UnitRegistered, "d").await;
    let rows = history(&world).await.len();
    let world = world.again().await;
    assert!(world.live("a").is_some(), "the last good version is registered before anything is looked at");
    world.service.reconcile(&all(), Reconcile::default()).await.unwrap();
    assert_eq!(history(&world).await.len(), rows);
    world.until("the daemon runs", |world| world.target.alive(&unit("d")).len() == 1).await;
    assert_eq!(world.target.started(), ["s/d"]);
}

#[tokio::test(start_paused = true)]
async fn the_last_good_version_is_registered_although_its_source_is_away() {
    let files = FakeFiles::default();
    files.task("a", "echo 1\n").daemon("d", "sleep\n");
    let mut world = World::start(&files).await;
    world.event(EventType::UnitRegistered, "d").await;
    files.fail(Some("RemoteUnreachable"));
    let world = world.again().await;
    world.until("the daemon runs", |world| world.target.alive(&unit("d")).len() == 1).await;
    assert!(world.live("a").is_some());
    let source = world.service.core().board.source(&crate::world::source()).unwrap();
    assert_eq!(source.conditions.get(Ready).unwrap().reason, "RemoteUnreachable");
}

#[tokio::test(start_paused = true)]
async fn a_missing_interpreter_is_a_problem_of_its_unit_and_heals() {
    let files = FakeFiles::default();
    files.task("a", "echo 1\n");
    let mut world = World::start(&files).await;
    let old = world.event(EventType::UnitRegistered, "a").await.hash;
    world.target.interpreter_is_missing(true);
    files.put("a/task.sh", "echo 2\n");
    world.event(EventType::UnitFailed, "a").await;
    assert_eq!(world.live("a").map(|version| version.hash), old);
    assert!(world.condition("a", Ready).starts_with("False MissingInterpreter"));
    world.target.interpreter_is_missing(false);
    world.event(EventType::UnitUpdated, "a").await;
}

#[tokio::test(start_paused = true)]
async fn commits_are_seen_attempted_and_deployed() {
    let files = FakeFiles::default();
    files.task("a", "echo 1\n").commit("1111111111111111111111111111111111111111");
    let mut world = World::start(&files).await;
    world.event(EventType::UnitRegistered, "a").await;
    files.put("a/task.sh", "echo 2\n").commit("2222222222222222222222222222222222222222");
    world.event(EventType::UnitUpdated, "a").await;
    let source = world.service.core().board.source(&crate::world::source()).unwrap();
    let revisions = &source.revisions;
    assert!(revisions.seen.is_some() && revisions.seen == revisions.deployed);
    let row = &history(&world).await[0];
    assert_eq!(row.revision, revisions.seen);
    assert!(row.rewritten, "the fake commit does not descend from the one before");
    assert_eq!(world.record("a").unwrap().deployed_revision, revisions.seen);
}

#[tokio::test(start_paused = true)]
async fn a_command_deploys_again_what_did_not_change() {
    let files = FakeFiles::default();
    files.task("a", "echo 1\n").daemon("d", "sleep\n");
    let mut world = World::start(&files).await;
    world.event(EventType::UnitRegistered, "d").await;
    let forced = Reconcile { force: true, ..Reconcile::default() };
    let report = world.service.reconcile(&Subject::Unit(unit("d")), forced).await.unwrap();
    assert_eq!(report.steps.len(), 1);
    assert_eq!(world.target.started(), ["s/d", "s/d"]);
    assert_eq!(world.target.alive(&unit("d")).len(), 1);
    assert_eq!(history(&world).await[0].rule, Rule::Forced);
}

#[tokio::test(start_paused = true)]
async fn waiting_does_not_make_a_source_that_fails_look_well() {
    let files = FakeFiles::default();
    files.task("a", "echo 1\n").fail(Some("RemoteUnreachable"));
    let world = World::start(&files).await;
    let ready = |world: &World| {
        let source = world.service.core().board.source(&crate::world::source()).unwrap();
        source.conditions.get(Ready).map(|condition| condition.reason.clone())
    };
    world.until("it fails", |world| ready(world).is_some()).await;
    let refused = world.service.settle(&all()).await;
    assert!(refused.is_err() || !refused.unwrap().unready.is_empty());
    assert_eq!(ready(&world).unwrap(), "RemoteUnreachable");
}

#[tokio::test(start_paused = true)]
async fn a_unit_that_is_being_written_at_the_start_is_not_taken_for_gone() {
    let files = FakeFiles::default();
    files.task("a", "echo 1\n").task("b", "echo 1\n");
    let mut world = World::start(&files).await;
    world.event(EventType::UnitRegistered, "b").await;
    let generation = world.record("a").unwrap().generation;
    files.tear("a/task.sh");
    let mut world = world.again().await;
    files.put("b/task.sh", "echo 2\n");
    world.event(EventType::UnitUpdated, "b").await;
    world.service.reconcile(&all(), Reconcile::default()).await.unwrap();
    assert_eq!(world.record("a").unwrap().generation, generation);
    assert!(history(&world).await.iter().all(|row| row.action != Action::Remove));
}

#[tokio::test(start_paused = true)]
async fn a_second_rollback_goes_further_back_and_never_to_what_is_held() {
    let files = FakeFiles::default();
    files.task("a", "echo 1\n");
    let mut world = World::start(&files).await;
    let one = world.event(EventType::UnitRegistered, "a").await.hash.unwrap();
    files.put("a/task.sh", "echo 2\n");
    let two = world.event(EventType::UnitUpdated, "a").await.hash.unwrap();
    files.put("a/task.sh", "echo 3\n");
    let three = world.event(EventType::UnitUpdated, "a").await.hash.unwrap();
    world.service.roll_back(&unit("a"), None).await.unwrap();
    assert_eq!(world.live("a").unwrap().hash, two);
    world.service.roll_back(&unit("a"), None).await.unwrap();
    assert_eq!(world.live("a").unwrap().hash, one);
    assert_eq!(world.record("a").unwrap().hold.as_ref().unwrap().hash, three);
    // Forcing the whole source does not undo it; the desired version itself lifts the hold.
    let forced = Reconcile { force: true, ..Reconcile::default() };
    world.service.reconcile(&all(), forced).await.unwrap();
    assert_eq!(world.live("a").unwrap().hash, one);
    world.service.roll_back(&unit("a"), Some(three)).await.unwrap();
    assert_eq!((world.live("a").unwrap().hash, world.record("a").unwrap().hold.clone()), (three, None));
}

#[tokio::test(start_paused = true)]
async fn asking_what_would_be_done_swallows_nothing() {
    let files = FakeFiles::default();
    files.task("a", "echo 1\n");
    let mut world = World::start(&files).await;
    world.event(EventType::UnitRegistered, "a").await;
    files.silently("a/task.sh", Some("echo 2\n"));
    let asked = tokio::time::Instant::now();
    assert_eq!(world.service.diff(&crate::world::source()).await.unwrap().steps.len(), 1);
    world.event(EventType::UnitUpdated, "a").await;
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_store_that_cannot_keep_contents_is_told_and_made_up_for() {
    let files = FakeFiles::default();
    files.task("a", "echo 1\n");
    let mut world = World::start(&files).await;
    world.event(EventType::UnitRegistered, "a").await;
    files.sink_fails(true).put("a/task.sh", "echo 2\n");
    let reason = |world: &World| {
        let source = world.service.core().board.source(&crate::world::source()).unwrap();
        source.conditions.get(Ready).unwrap().reason.clone()
    };
    world.until("the source says so", |world| reason(world) == "StoreUnwritable").await;
    files.sink_fails(false);
    world.event(EventType::UnitUpdated, "a").await;
    assert_eq!(reason(&world), "Observed");
}

#[tokio::test(start_paused = true)]
async fn what_could_not_be_recorded_and_is_gone_is_not_live() {
    let files = FakeFiles::default();
    files.task("a", "echo 1\n");
    let mut world = World::start(&files).await;
    world.event(EventType::UnitRegistered, "a").await;
    let record = world.service.core().board.source(&source()).unwrap();
    // Without the row of its source nothing of it can be recorded.
    world.store.remove_source(&source(), Timestamp(0)).await.unwrap();
    files.task("b", "echo 1\n");
    world.until("it took effect", |world| world.live("b").is_some()).await;
    assert!(world.record("b").is_none());
    files.remove("b/task.yaml").remove("b/task.sh");
    world.until("it is gone", |world| world.live("b").is_none()).await;
    world.store.put_source(&record).await.unwrap();
    files.task("c", "echo 1\n");
    world.event(EventType::UnitRegistered, "c").await;
    assert!(world.record("b").is_none() && world.live("b").is_none());
}

#[tokio::test(start_paused = true)]
async fn asking_what_would_be_done_names_what_is_known_to_be_broken() {
    let files = FakeFiles::default();
    files.task("a", "echo\n").task("b", "echo\n");
    let mut world = World::start(&files).await;
    world.event(EventType::UnitRegistered, "b").await;
    files.put("a/task.yaml", "kind: [\n");
    world.event(EventType::UnitFailed, "a").await;
    for _ in 0..2 {
        let report = world.service.diff(&crate::world::source()).await.unwrap();
        assert!(report.steps.is_empty(), "{report:?}");
        assert_eq!(report.problems.len(), 1, "{report:?}");
        assert_eq!(report.problems[0].0, unit("a"));
    }
}

#[tokio::test(start_paused = true)]
async fn what_resuming_did_is_told() {
    let files = FakeFiles::default();
    files.task("a", "echo 1\n").task("b", "echo b\n");
    let mut world = World::start(&files).await;
    world.event(EventType::UnitRegistered, "b").await;
    world.until("both are live", |world| world.live("a").is_some()).await;
    let subject = Subject::Unit(unit("a"));
    world.service.suspend(&subject, "a pause".into()).await.unwrap();
    files.put("a/task.sh", "echo 2\n");
    world
        .until("it is seen", |world| {
            world.record("a").unwrap().desired != world.record("a").unwrap().deployed
        })
        .await;
    let steps = |report: &kindling::reconcile::message::Report| -> Vec<String> {
        report.steps.iter().map(|done| done.step.unit.to_string()).collect()
    };
    let report = world.service.resume(&subject).await.unwrap();
    assert_eq!(steps(&report), ["s/a"]);
    world.service.roll_back(&unit("a"), None).await.unwrap();
    let report = world.service.resume(&subject).await.unwrap();
    assert_eq!(steps(&report), ["s/a"]);
}

#[tokio::test(start_paused = true)]
async fn resuming_deploys_what_is_known_also_while_the_source_is_away() {
    let files = FakeFiles::default();
    files.task("a", "echo 1\n");
    let mut world = World::start(&files).await;
    world.event(EventType::UnitRegistered, "a").await;
    files.put("a/task.sh", "echo 2\n");
    let two = world.event(EventType::UnitUpdated, "a").await.hash;
    world.service.roll_back(&unit("a"), None).await.unwrap();
    files.fail(Some("RootMissing"));
    world.service.resume(&Subject::Unit(unit("a"))).await.unwrap_err();
    assert_eq!(world.live("a").map(|version| version.hash), two);
    assert!(world.condition("a", Ready).starts_with("True"));
}

#[tokio::test(start_paused = true)]
async fn history_names_the_files_of_a_new_unit() {
    let files = FakeFiles::default();
    files.task("a", "echo 1\n");
    let mut world = World::start(&files).await;
    world.event(EventType::UnitRegistered, "a").await;
    let rows = history(&world).await;
    let named: Vec<_> = rows[0].files.iter().map(|file| (file.path.as_str(), file.kind)).collect();
    assert_eq!(named, [("task.sh", FileChangeKind::Added), ("task.yaml", FileChangeKind::Added)]);
}
