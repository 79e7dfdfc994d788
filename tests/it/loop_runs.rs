//! Runs with a fake target: who waits for whom, what is tried again, what follows from what.

use std::collections::BTreeMap;
use std::time::Duration;

use kindling::act::Exit;
use kindling::model::event::EventType;
use kindling::model::id::RunId;
use kindling::model::limits::{Limits, RunLimits};
use kindling::model::run::{Run, RunStatus};
use kindling::reconcile::handle::{Reconcile, Subject};
use kindling::reconcile::message::RefusalKind;
use kindling::reconcile::runs::Asked;
use kindling::record::RunQuery;

use crate::world::{FakeFiles, World, manifest, unit};

fn put(files: &FakeFiles, name: &str, trigger: &str, more: &str) {
    files.put(&format!("{name}/task.yaml"), &format!("{}{more}", manifest(name, trigger)));
    files.put(&format!("{name}/task.sh"), "echo\n");
}

/// A service with these tasks: name, trigger, more of the manifest.
async fn world(tasks: &[(&str, &str, &str)]) -> World {
    let files = FakeFiles::default();
    for (name, trigger, more) in tasks {
        put(&files, name, trigger, more);
    }
    let world = World::start(&files).await;
    world.until("all is live", |world| tasks.iter().all(|(name, ..)| world.live(name).is_some())).await;
    world
}

async fn run(world: &World, task: &str) -> Asked {
    world.service.run(&unit(task), &BTreeMap::new(), "[1]".into()).await.unwrap()
}

async fn row(world: &World, id: &RunId) -> Run {
    world.store.run(id).await.unwrap().unwrap()
}

async fn status(world: &World, asked: &Asked) -> &'static str {
    row(world, &asked.id).await.status.as_str()
}

/// All runs, oldest first.
async fn all(world: &World) -> Vec<Run> {
    let query = RunQuery { limit: 1000, ..RunQuery::default() };
    world.store.runs(query).await.unwrap().into_iter().rev().collect()
}

async fn running(world: &World, task: &str, count: usize) {
    world.until("so many run", |world| world.target.alive(&unit(task)).len() == count).await;
}

async fn end(world: &World, asked: &mut Asked) -> Run {
    let over = tokio::time::timeout(crate::world::BOUND, asked.end()).await;
    assert!(over.is_ok(), "{} is not over: {:?}", asked.id, all(world).await);
    row(world, &asked.id).await
}

fn limit(world: &World, runs: RunLimits) {
    world.service.core().limits.set(Limits { runs, ..Limits::default() });
}

fn ok(output: &str) -> Exit {
    Exit { code: Some(0), output: Some(output.into()), ..Exit::default() }
}

#[tokio::test(start_paused = true)]
async fn above_the_limit_of_the_service_runs_wait_in_order() {
    let world =
        world(&[("a", "manual: true", ""), ("b", "manual: true", ""), ("d", "daemon: true", "")]).await;
    limit(&world, RunLimits { at_once: 1, ..RunLimits::default() });
    let mut one = run(&world, "a").await;
    let (mut two, mut three, mut four) =
        (run(&world, "b").await, run(&world, "a").await, run(&world, "b").await);
    assert_eq!(status(&world, &one).await, "running", "a daemon does not count");
    for waits in [&two, &three, &four] {
        assert_eq!(status(&world, waits).await, "queued");
        assert!(world.service.core().runner.follow(&waits.id).is_some(), "its log can be waited for");
    }
    // One that waits can be cancelled, and was never started.
    world.service.cancel(&three.id).unwrap();
    let cancelled = end(&world, &mut three).await;
    assert_eq!((cancelled.status, cancelled.error.as_str()), (RunStatus::Cancelled, "it was cancelled"));
    world.target.end_with(&unit("a"), &ok("1"));
    assert_eq!(end(&world, &mut one).await.status, RunStatus::Succeeded);
    running(&world, "b", 1).await;
    assert_eq!((status(&world, &two).await, status(&world, &four).await), ("running", "queued"));
    world.target.end_with(&unit("b"), &ok("1"));
    end(&world, &mut two).await;
    running(&world, "b", 1).await;
    assert_eq!(status(&world, &four).await, "running");
    // At the end of kindling one that waits is told so.
    let mut five = run(&world, "a").await;
    world.service.close().await;
    assert_eq!(end(&world, &mut four).await.status, RunStatus::Interrupted);
    let interrupted = end(&world, &mut five).await;
    assert_eq!(
        (interrupted.status, interrupted.error.as_str()),
        (RunStatus::Interrupted, "kindling ended before its turn came")
    );
    let started = world.target.started();
    assert_eq!(started.iter().filter(|unit| *unit != "s/d").collect::<Vec<_>>(), ["s/a", "s/b", "s/b"]);
}

#[tokio::test(start_paused = true)]
async fn what_would_wait_beyond_the_limit_is_refused_or_skipped() {
    let world = world(&[
        ("a", "manual: true", ""),
        ("b", "manual: true", "retries: {limit: 1, backoff: 1s}\n"),
        ("next", "chain: {from: b, on: always}", ""),
    ])
    .await;
    let few = RunLimits { at_once: 1, queued: 3, queued_of_task: 2, ..RunLimits::default() };
    limit(&world, few);
    let refused = async |task: &str| {
        let refusal = world.service.run(&unit(task), &BTreeMap::new(), "[1]".into()).await.unwrap_err();
        assert_eq!(refusal.kind, RefusalKind::Busy);
        refusal.message
    };
    let mut first = run(&world, "b").await;
    let mut waits = vec![run(&world, "a").await, run(&world, "a").await];
    assert_eq!(refused("a").await, "2 runs of s/a wait already, as many as `limits.task_queued_runs` allows");
    waits.push(run(&world, "b").await);
    assert_eq!(refused("b").await, "3 runs wait already, as many as `limits.queued_runs` allows");
    assert_eq!(all(&world).await.len(), 4, "what is refused is not recorded");
    // The attempt that would follow is skipped, and the reason stands in its row.
    limit(&world, RunLimits { queued: 2, ..few });
    world.target.end(&unit("b"), 1);
    let failed = end(&world, &mut first).await;
    assert_eq!((failed.status, failed.retried_by), (RunStatus::Failed, None), "nothing tries again");
    let why = "2 runs wait already, as many as `limits.queued_runs` allows";
    let rows = all(&world).await;
    let retry = rows.iter().find(|run| run.attempt == 2).unwrap();
    assert_eq!((retry.status, retry.error.as_str()), (RunStatus::Skipped, why));
    assert_eq!(retry.first.as_ref(), Some(&first.id));
    let log = world.store.log(&first.id, 0, 10).await.unwrap();
    assert_eq!(log[0].text, format!("attempt 1 of 2 failed; it is not tried again: {why}"));
    // So this was its end, and what is chained to it is told.
    let chained = rows.iter().find(|run| run.task == unit("next")).unwrap();
    assert_eq!((chained.status, chained.error.as_str()), (RunStatus::Skipped, why));
    // Whoever begins or is cancelled makes room.
    running(&world, "a", 1).await;
    world.service.cancel(&waits[2].id).unwrap();
    end(&world, &mut waits[2]).await;
    let more = run(&world, "b").await;
    assert_eq!(status(&world, &more).await, "queued");
}

#[tokio::test(start_paused = true)]
async fn a_failure_that_may_not_be_tried_again_starts_what_follows_a_failure() {
    let world = world(&[
        ("a", "manual: true", "retries: {limit: 1, backoff: 1s}\nconcurrency: {limit: 1}\n"),
        ("next", "chain: {from: a, on: failure}", ""),
    ])
    .await;
    let mut first = run(&world, "a").await;
    let (_, _) = (run(&world, "a").await, run(&world, "a").await);
    running(&world, "a", 1).await;
    limit(&world, RunLimits { queued_of_task: 1, ..RunLimits::default() });
    world.target.end(&unit("a"), 1);
    end(&world, &mut first).await;
    let rows = all(&world).await;
    let retry = rows.iter().find(|run| run.attempt == 2).unwrap();
    let why = "1 run of s/a waits already, as many as `limits.task_queued_runs` allows";
    assert_eq!((retry.status, retry.error.as_str()), (RunStatus::Skipped, why));
    running(&world, "next", 1).await;
    assert!(rows.iter().any(|run| run.task == unit("next") && run.detail == first.id.as_str()));
}

#[tokio::test(start_paused = true)]
async fn the_seat_that_a_run_gives_back_is_no_place_in_the_queue() {
    let world = world(&[
        ("a", "manual: true", ""),
        ("b", "manual: true", ""),
        ("n1", "chain: {from: a}", ""),
        ("n2", "chain: {from: a}", ""),
    ])
    .await;
    limit(&world, RunLimits { at_once: 1, queued: 2, ..RunLimits::default() });
    let (mut first, waits) = (run(&world, "a").await, run(&world, "b").await);
    running(&world, "a", 1).await;
    world.target.end_with(&unit("a"), &ok("1"));
    end(&world, &mut first).await;
    running(&world, "b", 1).await;
    assert_eq!(status(&world, &waits).await, "running");
    let rows = all(&world).await;
    let shown: Vec<_> = rows.iter().map(|run| (run.task.to_string(), run.status.as_str())).collect();
    let [_, _, followers @ ..] = shown.as_slice() else { panic!("{shown:?}") };
    assert_eq!(followers, [("s/n1".to_owned(), "queued"), ("s/n2".to_owned(), "queued")], "two may wait");
}

#[tokio::test(start_paused = true)]
async fn inputs_have_limits_too() {
    let world = world(&[("a", "manual: true", ""), ("next", "chain: {from: a}", "")]).await;
    limit(&world, RunLimits { at_once: 1, input_bytes: 5, queued_bytes: 8, ..RunLimits::default() });
    let ask = async |input: &str| world.service.run(&unit("a"), &BTreeMap::new(), input.into()).await;
    let refusal = ask("[1,2,3]").await.unwrap_err();
    let why = "the input of the run has 7 bytes, more than the 5 of `limits.run_input`";
    assert_eq!((refusal.kind, refusal.message.as_str()), (RefusalKind::Invalid, why));
    let mut first = ask("[123]").await.unwrap();
    ask("[123]").await.unwrap();
    let refusal = ask("[123]").await.unwrap_err();
    let why = "the inputs of runs that wait would have more than the 8 bytes of `limits.queued_input`";
    assert_eq!((refusal.kind, refusal.message.as_str()), (RefusalKind::Busy, why));
    running(&world, "a", 1).await;
    world.target.end_with(&unit("a"), &ok("\"more than five\""));
    end(&world, &mut first).await;
    let chained = all(&world).await.into_iter().find(|run| run.task == unit("next")).unwrap();
    let why = "the input of the run has 16 bytes, more than the 5 of `limits.run_input`";
    assert_eq!((chained.status, chained.error.as_str()), (RunStatus::Skipped, why));
}

#[tokio::test(start_paused = true)]
async fn a_task_has_its_own_limit_and_rule_for_one_too_many() {
    let world = world(&[
        ("waits", "manual: true", "concurrency: {limit: 2}\n"),
        ("forbids", "manual: true", "concurrency: {overlap: forbid}\n"),
        ("replaces", "manual: true", "concurrency: {limit: 2, overlap: replace}\n"),
        ("free", "manual: true", ""),
    ])
    .await;
    let waits = [run(&world, "waits").await, run(&world, "waits").await, run(&world, "waits").await];
    assert_eq!(status(&world, &waits[2]).await, "queued");
    for _ in 0..5 {
        assert_eq!(status(&world, &run(&world, "free").await).await, "running", "others are not held up");
    }

    let mut first = run(&world, "forbids").await;
    let mut second = run(&world, "forbids").await;
    let skipped = end(&world, &mut second).await;
    let why = format!("run {} of the task is not over, and the task forbids another one", first.id);
    assert_eq!(
        (skipped.status, skipped.error, skipped.ended_at),
        (RunStatus::Skipped, why, Some(skipped.started_at))
    );
    world.target.end_with(&unit("forbids"), &ok("1"));
    end(&world, &mut first).await;
    assert_eq!(status(&world, &run(&world, "forbids").await).await, "running");

    let mut oldest = run(&world, "replaces").await;
    let newer = run(&world, "replaces").await;
    let newest = run(&world, "replaces").await;
    let gone = end(&world, &mut oldest).await;
    assert_eq!((gone.status, gone.error.as_str()), (RunStatus::Cancelled, "a newer run took its place"));
    running(&world, "replaces", 2).await;
    assert_eq!((status(&world, &newer).await, status(&world, &newest).await), ("running", "running"));
    let started = world.target.started();
    assert_eq!(started.iter().filter(|unit| *unit == "s/replaces").count(), 3);
}

#[tokio::test(start_paused = true)]
async fn what_failed_is_tried_again_after_growing_waits() {
    let world = world(&[("a", "manual: true", "retries: {limit: 2, backoff: 10s}\n")]).await;
    let mut first = run(&world, "a").await;
    running(&world, "a", 1).await;
    world.target.end(&unit("a"), 3);
    let ended = end(&world, &mut first).await;
    let second = ended.retried_by.clone().unwrap();
    let queued = row(&world, &second).await;
    assert_eq!(
        (queued.status, queued.attempt, queued.first.clone()),
        (RunStatus::Queued, 2, Some(first.id.clone()))
    );
    assert_eq!((ended.status, ended.attempt, ended.first), (RunStatus::Failed, 1, None));
    let log = world.store.log(&first.id, 0, 10).await.unwrap();
    assert_eq!(log[0].text, format!("attempt 1 of 3 failed; run {second} tries again after 10s"));
    let began = tokio::time::Instant::now();
    running(&world, "a", 1).await;
    assert!(began.elapsed() >= Duration::from_secs(9), "{:?}", began.elapsed());
    world.target.end_with(&unit("a"), &Exit { timed_out: true, signal: Some(15), ..Exit::default() });
    world.until("it is over", |world| world.target.alive(&unit("a")).is_empty()).await;
    let began = tokio::time::Instant::now();
    running(&world, "a", 1).await;
    assert!(began.elapsed() >= Duration::from_secs(19), "{:?}", began.elapsed());
    world.target.end(&unit("a"), 4);
    world.until("it is over", |world| world.target.alive(&unit("a")).is_empty()).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    let rows = all(&world).await;
    let shown: Vec<_> = rows.iter().map(|run| (run.attempt, run.status.as_str(), run.exit_code)).collect();
    assert_eq!(shown, [(1, "failed", Some(3)), (2, "timedOut", None), (3, "failed", Some(4))]);
    assert_eq!(rows[1].retried_by.as_ref(), Some(&rows[2].id));
    assert_eq!((rows[2].first.as_ref(), rows[2].retried_by.as_ref()), (Some(&rows[0].id), None));
    assert_eq!(world.target.inputs(), ["[1]"; 3], "with the same input");
}

#[tokio::test(start_paused = true)]
async fn what_a_person_ended_or_what_is_gone_is_not_tried_again() {
    let mut world = world(&[("a", "manual: true", "retries: {limit: 5, backoff: 30s}\n")]).await;
    let mut first = run(&world, "a").await;
    world.service.cancel(&first.id).unwrap();
    let ended = end(&world, &mut first).await;
    assert_eq!((ended.status, ended.retried_by), (RunStatus::Cancelled, None));
    // While it waits for its next attempt it can be cancelled.
    let mut second = run(&world, "a").await;
    running(&world, "a", 1).await;
    world.target.end(&unit("a"), 1);
    let next = end(&world, &mut second).await.retried_by.unwrap();
    world.service.cancel(&next).unwrap();
    while row(&world, &next).await.status != RunStatus::Cancelled {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // Another attempt executes what is live by then; one of a unit that is gone does not come.
    let mut third = run(&world, "a").await;
    running(&world, "a", 1).await;
    let old = world.live("a").unwrap().hash;
    put(&world.files, "a", "manual: true", "retries: {limit: 5, backoff: 30s}\nenv: {X: '1'}\n");
    world.event(EventType::UnitUpdated, "a").await;
    world.target.end(&unit("a"), 1);
    let next = end(&world, &mut third).await.retried_by.unwrap();
    assert_ne!(row(&world, &next).await.hash, old);
    running(&world, "a", 1).await;
    world.files.remove("a/task.yaml").remove("a/task.sh");
    world.event(EventType::UnitRemoved, "a").await;
    world.target.end(&unit("a"), 1);
    world.until("it is over", |world| world.target.alive(&unit("a")).is_empty()).await;
    while row(&world, &next).await.status != RunStatus::Failed {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(row(&world, &next).await.retried_by, None);
}

#[tokio::test(start_paused = true)]
async fn chains_follow_the_end_that_they_name_with_the_output_of_the_run_before() {
    let world = world(&[
        ("a", "manual: true", "retries: {limit: 1, backoff: 1s}\n"),
        ("good", "chain: {from: a}", ""),
        ("bad", "chain: {from: s/a, on: failure}", ""),
        ("ever", "chain: {from: a, on: always}", ""),
        ("then", "chain: {from: good, on: always}", ""),
        ("quiet", "chain: {from: a, on: always}", ""),
    ])
    .await;
    world.service.suspend(&Subject::Unit(unit("quiet")), "holiday".into()).await.unwrap();
    let mut first = run(&world, "a").await;
    running(&world, "a", 1).await;
    world.target.end_with(&unit("a"), &ok("{\"n\":1}"));
    end(&world, &mut first).await;
    running(&world, "good", 1).await;
    running(&world, "ever", 1).await;
    let rows = all(&world).await;
    let shown: Vec<_> = rows
        .iter()
        .map(|run| format!("{} {} {}", run.task, run.trigger, run.detail == first.id.as_str()))
        .collect();
    assert_eq!(shown, ["s/a manual false", "s/ever chain true", "s/good chain true"]);
    assert_eq!(world.target.inputs()[1..], ["{\"n\":1}", "{\"n\":1}"]);
    // What fails leads on, and to nothing that led to it.
    world.target.end(&unit("good"), 1);
    running(&world, "then", 1).await;
    assert_eq!(world.target.inputs().last().unwrap(), "null", "it gave nothing back");
    world.target.end(&unit("then"), 1);
    world.target.end(&unit("ever"), 1);
    world
        .until("all is over", |world| {
            ["then", "ever"].iter().all(|name| world.target.alive(&unit(name)).is_empty())
        })
        .await;
    assert_eq!(all(&world).await.len(), 4);
    // A failure counts when no attempt is left; a run that a person ended leads to nothing.
    let mut second = run(&world, "a").await;
    running(&world, "a", 1).await;
    world.target.end(&unit("a"), 1);
    end(&world, &mut second).await;
    assert_eq!(all(&world).await.len(), 6, "the next attempt and nothing else");
    running(&world, "a", 1).await;
    world.target.end(&unit("a"), 1);
    running(&world, "bad", 1).await;
    running(&world, "ever", 1).await;
    assert_eq!(all(&world).await.len(), 8);
    let mut third = run(&world, "a").await;
    world.service.cancel(&third.id).unwrap();
    end(&world, &mut third).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(all(&world).await.len(), 9);
}

#[tokio::test(start_paused = true)]
async fn many_runs_of_one_task_hold_up_no_other_one_and_go_with_it() {
    let files = FakeFiles::default();
    for name in ["a", "b", "c"] {
        put(&files, name, "manual: true", "");
    }
    let world = World::start(&files).await;
    world.until("all is live", |world| ["a", "b", "c"].iter().all(|name| world.live(name).is_some())).await;
    limit(&world, RunLimits { at_once: 1, ..RunLimits::default() });
    let mut flood = Vec::new();
    for _ in 0..20 {
        flood.push(run(&world, "a").await);
    }
    let (b, c) = (run(&world, "b").await, run(&world, "c").await);
    world.target.end_with(&unit("a"), &ok("1"));
    let first = |world: &World, task: &str| {
        let started = world.target.started();
        started.iter().position(|unit| *unit == format!("s/{task}")).unwrap_or(started.len())
    };
    let are_over = |world: &World| {
        for task in ["a", "b", "c"] {
            world.target.end_with(&unit(task), &ok("1"));
        }
        b.done.borrow().is_some() && c.done.borrow().is_some()
    };
    world.until("both are over", are_over).await;
    for task in ["b", "c"] {
        assert!(first(&world, task) <= 4, "{task}: {:?}", world.target.started());
    }
    for other in [&b, &c] {
        assert_eq!(status(&world, other).await, "succeeded");
    }
    // What waits goes with its task; what has begun goes on.
    running(&world, "a", 1).await;
    files.remove("a/task.yaml").remove("a/task.sh");
    world.service.reconcile(&crate::world::all(), Reconcile::default()).await.unwrap();
    world.until("it is gone", |world| world.live("a").is_none()).await;
    let last = end(&world, flood.last_mut().unwrap()).await;
    let why = "its task was removed before its turn came";
    assert_eq!((last.status, last.error.as_str()), (RunStatus::Cancelled, why));
    assert_eq!(world.target.alive(&unit("a")).len(), 1);
    world.target.end_with(&unit("a"), &ok("1"));
    for asked in &mut flood {
        end(&world, asked).await;
    }
    let ends: Vec<RunStatus> = all(&world).await.iter().map(|run| run.status).collect();
    assert!(ends.iter().all(|end| matches!(end, RunStatus::Succeeded | RunStatus::Cancelled)), "{ends:?}");
}
