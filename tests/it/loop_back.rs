//! The way back of a source whose branch cannot be taken: from dev mode, over a restart, behind a guard.

use std::sync::Arc;
use std::time::Duration;

use kindling::model::condition::ConditionType::{self, DevMode, Ready, Stalled};
use kindling::model::event::EventType;
use kindling::model::source::Revision;
use kindling::reconcile::handle::{Reconcile, Subject};
use kindling::reconcile::message::RefusalKind;
use kindling::record::SourceRecord;

use crate::world::{FakeFiles, World, all, source, unit};

const COPY: &str = "/home/me/work";
const HOUR: Duration = Duration::from_hours(1);
const LEFT: &str = "what runs still comes from the working copy at /home/me/work, although dev mode is off";

fn shown(world: &World) -> Arc<SourceRecord> {
    world.service.core().board.source(&source()).unwrap()
}

fn condition(world: &World, kind: ConditionType) -> String {
    let record = shown(world);
    let found = record.conditions.get(kind);
    found.map_or_else(String::new, |c| format!("{} {}: {}", c.status.as_str(), c.reason, c.message))
}

fn revision(world: &World, key: &str) -> Option<Revision> {
    world.record(key).unwrap().deployed_revision.clone()
}

/// A repository with one task `a` that says 1, deployed at the commit `c1`, and a working copy in which it says 2.
async fn deployed(guarded: bool, poll: Duration) -> (World, FakeFiles, FakeFiles) {
    let files = FakeFiles::default();
    files.task("a", "echo 1\n").commit("c1");
    let copy = files.copy_at(COPY);
    copy.task("a", "echo 2\n");
    let mut world =
        if guarded { World::start_guarded(&files, poll).await } else { World::start_git(&files, poll).await };
    world.event(EventType::UnitRegistered, "a").await;
    world.until("c1 is deployed", |world| shown(world).revisions.deployed.is_some()).await;
    (world, files, copy)
}

/// In dev mode, over a restart after which the repository cannot be reached.
async fn cut_off() -> (World, FakeFiles) {
    let (world, files, _) = deployed(false, HOUR).await;
    world.service.dev_on(&source(), COPY, None).await.unwrap();
    files.fail(Some("Unreachable"));
    let world = world.again().await;
    world.until("it is told", |world| condition(world, DevMode).starts_with("True FetchFailed")).await;
    assert_eq!(revision(&world, "a"), None);
    (world, files)
}

#[tokio::test(start_paused = true)]
async fn without_the_repository_dev_mode_ends_at_the_last_decided_commit() {
    let (world, files) = cut_off().await;
    let refusal = world.service.dev_off(&source()).await.unwrap_err();
    assert_eq!(refusal.kind, RefusalKind::Failed);
    assert_eq!(refusal.message, "the source fails (its units are those of commit c1 again)");
    assert_eq!(revision(&world, "a"), Some(Revision::new("c1")));
    assert_eq!(condition(&world, Ready), "False Unreachable: the source fails");
    let record = shown(&world);
    assert!(!record.has_strayed && record.dev.is_none() && condition(&world, DevMode).is_empty());
    assert_eq!(record.revisions.deployed, Some(Revision::new("c1")));
    files.fail(None).put("a/task.sh", "echo 3\n").commit("c2");
    world.service.reconcile(&all(), Reconcile::default()).await.unwrap();
    assert_eq!(revision(&world, "a"), Some(Revision::new("c2")));
}

#[tokio::test(start_paused = true)]
async fn a_kill_between_the_switch_and_its_pass_leaves_no_working_copy_running() {
    let (world, files) = cut_off().await;
    files.hang(true).forget();
    let service = world.service.clone();
    let asked = tokio::spawn(async move { service.dev_off(&source()).await });
    world.until("it is off", |world| shown(world).dev.is_none()).await;
    assert_eq!(condition(&world, DevMode), format!("False WorkingCopy: {LEFT}"));
    assert_eq!(revision(&world, "a"), None);
    asked.abort();
    files.hang(false).commit("c1");
    let world = world.again().await;
    world.until("c1 is back", |world| revision(world, "a") == Some(Revision::new("c1"))).await;
    world.until("it is told", |world| condition(world, DevMode).is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn dev_mode_ends_without_waiting_for_a_remote_that_hangs() {
    for looked in [false, true] {
        let (world, files, _) = deployed(false, Duration::from_secs(1)).await;
        if looked {
            files.hang(true);
        }
        world.service.dev_on(&source(), COPY, None).await.unwrap();
        files.hang(true);
        if looked {
            world.until("the repository is looked at", |_| files.is_hanging()).await;
        }
        let service = world.service.clone();
        let asked = tokio::spawn(async move { service.dev_off(&source()).await });
        world.until("it is off", |world| shown(world).dev.is_none()).await;
        world.until("c1 is back", |world| revision(world, "a") == Some(Revision::new("c1"))).await;
        assert!(!asked.is_finished() && world.condition("a", Ready).starts_with("True"));
        assert_eq!(condition(&world, DevMode), "");
        files.hang(false);
        let report = asked.await.unwrap().unwrap();
        assert_eq!(report.steps.len(), 1, "{report:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn where_the_commit_is_lost_the_source_and_its_units_say_what_runs() {
    let (world, files) = cut_off().await;
    files.forget();
    let refusal = world.service.dev_off(&source()).await.unwrap_err();
    assert_eq!(refusal.message, format!("the source fails; {LEFT} (the commit is not kept here)"));
    assert_eq!(condition(&world, Ready), format!("False Unreachable: the source fails; {LEFT}"));
    let of_unit = |world: &World| world.condition("a", Ready);
    assert!(of_unit(&world).starts_with("False WorkingCopy: version ") && of_unit(&world).ends_with(LEFT));
    let world = world.again().await;
    world.until("it is looked at", |world| world.service.core().board.is_looked_at(&source())).await;
    assert!(condition(&world, Ready).ends_with(LEFT) && of_unit(&world).ends_with(LEFT));
    files.fail(None).commit("c1");
    world.service.reconcile(&all(), Reconcile::default()).await.unwrap();
    assert_eq!(revision(&world, "a"), Some(Revision::new("c1")));
    assert!(of_unit(&world).starts_with("True Deployed"), "{}", of_unit(&world));
    assert_eq!(
        (condition(&world, DevMode), condition(&world, Ready)),
        (String::new(), "True Observed: it was read whole".into())
    );
}

#[tokio::test(start_paused = true)]
async fn behind_a_guard_dev_mode_ends_at_the_last_decided_commit() {
    let (world, files, _) = deployed(true, HOUR).await;
    world.service.dev_on(&source(), COPY, None).await.unwrap();
    files.put("a/task.sh", "echo evil\n").commit("c2");
    world.service.reconcile(&all(), Reconcile::default()).await.unwrap();
    world.until("c2 is seen", |world| shown(world).revisions.seen == Some(Revision::new("c2"))).await;
    let report = world.service.dev_off(&source()).await.unwrap();
    assert_eq!(report.steps.len(), 1, "{report:?}");
    assert!(report.unready[0].1.starts_with("RewriteGuard: commit c2 does not"), "{report:?}");
    assert_eq!(revision(&world, "a"), Some(Revision::new("c1")));
    assert!(condition(&world, Stalled).starts_with("True RewriteGuard"));
    assert_eq!(shown(&world).revisions.seen, Some(Revision::new("c2")));
    let agreed = Reconcile { allow_rewrite: true, ..Reconcile::default() };
    world.service.reconcile(&all(), agreed).await.unwrap();
    assert_eq!(revision(&world, "a"), Some(Revision::new("c2")));
    // Also where what was seen of the rewritten branch is all that can be had, and where it ends by itself.
    world.service.dev_on(&source(), COPY, None).await.unwrap();
    files.put("a/task.sh", "echo worse\n").commit("c3");
    world.service.reconcile(&all(), Reconcile::default()).await.unwrap();
    world.until("c3 is seen", |world| shown(world).revisions.seen == Some(Revision::new("c3"))).await;
    files.fail(Some("Unreachable"));
    let refusal = world.service.dev_off(&source()).await.unwrap_err();
    assert_eq!(refusal.message, "the source fails (its units are those of commit c2 again)");
    assert_eq!(revision(&world, "a"), Some(Revision::new("c2")));
    world.service.dev_on(&source(), COPY, Some(Duration::from_millis(30))).await.unwrap();
    world.until("it is over", |world| shown(world).dev.is_none()).await;
    world.until("c2 is back", |world| revision(world, "a") == Some(Revision::new("c2"))).await;
}

#[tokio::test(start_paused = true)]
async fn behind_a_guard_a_lost_commit_is_told_with_the_command_that_goes_on() {
    let (world, files, _) = deployed(true, HOUR).await;
    world.service.dev_on(&source(), COPY, None).await.unwrap();
    files.put("a/task.sh", "echo evil\n").commit("c2").forget();
    let refusal = world.service.dev_off(&source()).await.unwrap_err();
    assert_eq!(refusal.kind, RefusalKind::Conflict);
    assert!(refusal.message.contains(LEFT), "{refusal}");
    assert_eq!(refusal.hint.as_deref(), Some("kindling reconcile s --allow-rewrite"));
    assert!(
        condition(&world, Stalled).starts_with("True RewriteGuard")
            && condition(&world, Stalled).ends_with(LEFT)
    );
    assert!(world.condition("a", Ready).ends_with(LEFT));
}

#[tokio::test(start_paused = true)]
async fn behind_a_guard_a_rollback_is_taken_back_also_after_a_restart() {
    let (mut world, files, _) = deployed(true, HOUR).await;
    files.put("a/task.sh", "echo 2\n").commit("c2");
    let agreed = Reconcile { allow_rewrite: true, ..Reconcile::default() };
    world.service.reconcile(&all(), agreed).await.unwrap();
    let decided = world.live("a").unwrap().hash;
    files.put("a/task.sh", "echo evil\n").commit("c3");
    world.service.reconcile(&all(), Reconcile::default()).await.unwrap_err();
    for _ in 0..2 {
        world.service.roll_back(&unit("a"), None).await.unwrap();
        assert_ne!(world.live("a").unwrap().hash, decided);
        world.service.resume(&Subject::Unit(unit("a"))).await.unwrap();
        assert_eq!(world.live("a").unwrap().hash, decided);
        assert!(condition(&world, Stalled).starts_with("True RewriteGuard"));
        world.service.roll_back(&unit("a"), None).await.unwrap();
        world = world.again().await;
        world.until("it is looked at", |world| world.service.core().board.is_looked_at(&source())).await;
        world.service.resume(&Subject::Unit(unit("a"))).await.unwrap();
        assert_eq!(world.live("a").unwrap().hash, decided);
    }
}

#[tokio::test(start_paused = true)]
async fn a_unit_that_the_repository_breaks_says_that_the_working_copy_s_version_runs() {
    let (world, files, _) = deployed(false, HOUR).await;
    files.task("b", "echo b\n").commit("c2");
    world.service.reconcile(&all(), Reconcile::default()).await.unwrap();
    world.service.dev_on(&source(), COPY, None).await.unwrap();
    world
        .service
        .reconcile(&all(), Reconcile { allow_removals: true, ..Reconcile::default() })
        .await
        .unwrap();
    let tried_out = world.live("a").unwrap().hash;
    files.put("a/task.yaml", "kind: Nonsense\n").commit("c3");
    let report = world.service.dev_off(&source()).await.unwrap();
    assert!(report.unready.iter().any(|(name, why)| name == "s/a" && why.ends_with(LEFT)), "{report:?}");
    let says = |world: &World| {
        assert_eq!(world.live("a").unwrap().hash, tried_out);
        assert_eq!(condition(world, DevMode), format!("False WorkingCopy: {LEFT}"));
        assert_eq!(world.condition("a", DevMode), format!("True WorkingCopy: {LEFT}"));
        let ready = world.condition("a", Ready);
        assert!(ready.starts_with("False InvalidManifest: ") && ready.ends_with(LEFT), "{ready}");
        assert!(world.condition("b", DevMode).is_empty() && world.condition("b", Ready).starts_with("True"));
    };
    says(&world);
    let world = world.again().await;
    world.until("it is looked at", |world| world.service.core().board.is_looked_at(&source())).await;
    says(&world);
    // A new mistake is told beside it, and it ends with what mends the unit.
    files.put("a/task.yaml", "kind: Rubbish\n").commit("c4");
    world.service.reconcile(&all(), Reconcile::default()).await.unwrap();
    says(&world);
    files.task("a", "echo 5\n").commit("c5");
    world.service.reconcile(&all(), Reconcile::default()).await.unwrap();
    assert_eq!(revision(&world, "a"), Some(Revision::new("c5")));
    assert!(world.condition("a", Ready).starts_with("True") && world.condition("a", DevMode).is_empty());
    assert_eq!(condition(&world, DevMode), "");
    assert_eq!(shown(&world).revisions.deployed, Some(Revision::new("c5")));
}

#[tokio::test(start_paused = true)]
async fn a_unit_that_is_suspended_when_dev_mode_ends_says_what_runs() {
    let (world, _, _) = deployed(false, HOUR).await;
    world.service.dev_on(&source(), COPY, None).await.unwrap();
    world.service.suspend(&Subject::Unit(unit("a")), "a pause".into()).await.unwrap();
    world.service.dev_off(&source()).await.unwrap();
    assert_eq!(revision(&world, "a"), None);
    let ready = world.condition("a", Ready);
    assert!(ready.starts_with("False Suspended: ") && ready.ends_with(LEFT), "{ready}");
    world.service.resume(&Subject::Unit(unit("a"))).await.unwrap();
    assert_eq!(revision(&world, "a"), Some(Revision::new("c1")));
    world.until("the source says so", |world| condition(world, DevMode).is_empty()).await;
    assert!(world.condition("a", Ready).starts_with("True"));
}

#[tokio::test(start_paused = true)]
async fn a_suspended_source_says_that_its_units_still_come_from_the_working_copy() {
    let (world, _, _) = deployed(false, HOUR).await;
    world.service.dev_on(&source(), COPY, None).await.unwrap();
    world.service.suspend(&all(), "a pause".into()).await.unwrap();
    let report = world.service.dev_off(&source()).await.unwrap();
    assert!(report.unready.iter().any(|(name, why)| name == "s/a" && why.ends_with(LEFT)), "{report:?}");
    world.service.resume(&all()).await.unwrap();
    assert_eq!(revision(&world, "a"), Some(Revision::new("c1")));
    assert!(world.condition("a", Ready).starts_with("True"));
}

#[tokio::test(start_paused = true)]
async fn a_source_that_goes_ends_its_dev_mode() {
    let (mut world, _, _) = deployed(false, HOUR).await;
    world.service.dev_on(&source(), COPY, None).await.unwrap();
    world.service.withdraw(&source()).await.unwrap();
    loop {
        let batch = world.events.recv().await.unwrap();
        if batch.iter().any(|event| event.kind == EventType::DevDisabled) {
            break;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_source_that_is_away_is_looked_at_at_every_poll() {
    let (world, files, _) = deployed(false, Duration::from_secs(1)).await;
    files.fail(Some("Unreachable"));
    let before = files.looks().len();
    world.until("it is polled", |_| files.looks().len() > before + 40).await;
}

#[tokio::test(start_paused = true)]
async fn what_needs_a_person_is_tried_again_when_a_credential_changes_and_not_before() {
    let (world, files, _) = deployed(false, Duration::from_secs(1)).await;
    files.fail(Some("Denied"));
    world.until("it is stalled", |world| condition(world, Stalled).starts_with("True Denied")).await;
    let before = files.looks().len();
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(files.looks().len(), before);
    files.fail(None).mend();
    world.until("it is well", |world| condition(world, Stalled).is_empty()).await;
    // In dev mode the repository is no different.
    files.fail(Some("Denied"));
    world.service.dev_on(&source(), COPY, None).await.unwrap();
    world.until("it is told", |world| condition(world, DevMode).starts_with("True FetchFailed")).await;
    files.fail(None).mend();
    world.until("it is fetched", |world| condition(world, DevMode).starts_with("True WorkingCopy")).await;
}
