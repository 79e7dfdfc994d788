//! Retention: its bounds hold, and nothing goes that is in use.

use crate::model::id::{RunId, SourceName, UnitId};
use crate::model::run::Run;

use super::super::samples::*;
use super::super::*;
use super::*;

const NOW: i64 = 1_000 * DAY_MS;

fn days_ago(days: i64) -> i64 {
    NOW - days * DAY_MS
}

async fn store() -> Store {
    let store = Store::in_memory().await.unwrap();
    store.put_source(&local()).await.unwrap();
    store
}

/// Keeps everything.
fn all() -> Retention {
    Retention {
        history_days: u32::MAX,
        history_per_unit: u32::MAX,
        runs_days: u32::MAX,
        runs_per_task: u32::MAX,
        events_days: u32::MAX,
        events_max: u32::MAX,
        deliveries_days: u32::MAX,
        deliveries_max: u32::MAX,
        outbox_days: u32::MAX,
        versions_per_unit: u32::MAX,
        removed_days: u32::MAX,
    }
}

async fn prune(store: &Store, keep: &Retention) -> Pruned {
    store.prune(keep, Timestamp(NOW)).await.unwrap()
}

async fn history(store: &Store) -> Vec<(UnitId, i64)> {
    let ask = HistoryQuery { limit: u32::MAX, ..HistoryQuery::default() };
    store.history(ask).await.unwrap().into_iter().map(|(_, row)| (row.unit, row.at.0)).collect()
}

async fn runs(store: &Store) -> Vec<RunId> {
    let ask = RunQuery { limit: u32::MAX, ..RunQuery::default() };
    store.runs(ask).await.unwrap().into_iter().map(|run| run.id).collect()
}

#[tokio::test]
async fn history_goes_by_age_and_count() {
    let store = store().await;
    let mut recording = Recording::new(Timestamp(0));
    recording.history = (0..3500).map(|n| row(n % 2, days_ago(1) + i64::from(n))).collect();
    recording.history.extend((0..1500).map(|n| row(2, days_ago(91) + i64::from(n))));
    store.commit(recording).await.unwrap();
    assert_eq!(prune(&store, &all()).await, Pruned::default());

    let keep = Retention { history_days: 90, ..all() };
    assert_eq!(prune(&store, &keep).await, Pruned { history: 1500, ..Pruned::default() });
    let keep = Retention { history_per_unit: 20, ..all() };
    assert_eq!(prune(&store, &keep).await, Pruned { history: 3460, ..Pruned::default() });
    let left = history(&store).await;
    let newest: Vec<_> = (3460..3500).rev().map(|n| (id(n % 2), days_ago(1) + i64::from(n))).collect();
    assert_eq!(left, newest);
    assert_eq!(prune(&store, &keep).await, Pruned::default());
}

#[tokio::test]
async fn events_go_by_age_and_count() {
    let store = store().await;
    let events: Vec<_> = (0..2500).map(|n| event(n, days_ago(8) + i64::from(n))).collect();
    store.put_events(&events).await.unwrap();
    let fresh: Vec<_> = (0..50).map(|n| event(n, days_ago(1))).collect();
    store.put_events(&fresh).await.unwrap();
    let keep = Retention { events_days: 7, ..all() };
    assert_eq!(prune(&store, &keep).await, Pruned { events: 2500, ..Pruned::default() });
    let keep = Retention { events_max: 20, ..all() };
    assert_eq!(prune(&store, &keep).await, Pruned { events: 30, ..Pruned::default() });
    assert_eq!(store.events_since(Timestamp(0), 1000).await.unwrap(), fresh[30..]);
}

#[tokio::test]
async fn runs_go_by_age_and_count_with_their_logs() {
    let store = store().await;
    for number in 0..30 {
        let run = run(number, number % 2);
        store.insert_run(&run).await.unwrap();
        store.append_log(&run.id, &(1..=150).map(line).collect::<Vec<_>>()).await.unwrap();
        // Runs 0, 7, 14, 21 and 28 are not over.
        if number % 7 != 0 {
            let days = if number < 10 { 40 } else { 1 };
            store.finish_run(&over(&run, days_ago(days)), &[]).await.unwrap();
        }
    }
    let keep = Retention { runs_days: 30, ..all() };
    assert_eq!(prune(&store, &keep).await, Pruned { runs: 8, ..Pruned::default() });
    assert_eq!(runs(&store).await.len(), 22);
    let keep = Retention { runs_per_task: 3, ..all() };
    prune(&store, &keep).await;
    let expected = [29, 28, 27, 26, 25, 24, 21, 14, 7, 0].map(run_id);
    assert_eq!(runs(&store).await, expected);
    for run in &expected {
        assert_eq!(store.log(run, 0, 1000).await.unwrap().len(), 150);
    }
    let mut conn = store.read(store.at("count")).await.unwrap();
    let lines: i64 = sqlx::query_scalar("SELECT count(*) FROM logs").fetch_one(&mut *conn).await.unwrap();
    assert_eq!(lines, 1500, "no log without its run");
}

#[tokio::test]
async fn versions_in_use_stay_whatever_their_age() {
    let store = store().await;
    for v in 1..=30 {
        store.commit(recording([1, 2], v, i64::from(v))).await.unwrap();
    }
    // Attempts that never took effect do not push out what can be gone back to.
    let mut attempts = Recording::new(Timestamp(99));
    attempts.versions = (31..=60).map(|v| version(1, v)).collect();
    let mut unit = deployed_unit(1, 2);
    (unit.desired, unit.attempted, unit.pinned) = (Some(hash(1, 31)), Some(hash(1, 32)), Some(hash(1, 3)));
    attempts.units = vec![unit];
    store.commit(attempts).await.unwrap();
    let running = Run { hash: hash(1, 4), ..run(1, 1) };
    let elsewhere = Run { hash: hash(1, 5), ..run(2, 2) };
    let ended = Run { hash: hash(1, 6), ..run(3, 1) };
    for run in [&running, &elsewhere, &ended] {
        store.insert_run(run).await.unwrap();
    }
    store.finish_run(&over(&ended, NOW), &[]).await.unwrap();

    let keep = Retention { versions_per_unit: 10, ..all() };
    let pruned = prune(&store, &keep).await;
    let kept = |versions: Vec<VersionSummary>| versions.into_iter().map(|v| v.hash).collect::<Vec<_>>();
    let newest = (21..=30).rev();
    let expected: Vec<_> = newest.clone().chain([4, 3, 2, 32, 31]).map(|v| hash(1, v)).collect();
    assert_eq!(kept(store.versions(&id(1)).await.unwrap()), expected);
    let expected: Vec<_> = newest.map(|v| hash(2, v)).collect();
    assert_eq!(kept(store.versions(&id(2)).await.unwrap()), expected);
    assert_eq!(pruned, Pruned { versions: 45 + 20, ..Pruned::default() });
    assert_eq!(prune(&store, &keep).await, Pruned::default());

    store.finish_run(&over(&running, NOW), &[]).await.unwrap();
    assert_eq!(prune(&store, &keep).await.versions, 1);
    let contents = store.referenced_contents().await.unwrap();
    assert!(
        contents.contains(&version(1, 31).files[0].hash) && !contents.contains(&version(1, 4).files[0].hash)
    );
}

#[tokio::test]
async fn what_a_removed_unit_left_goes_after_its_time() {
    let store = store().await;
    store.commit(recording([1, 2, 3, 4], 1, days_ago(50))).await.unwrap();
    for (number, n) in [(1, 1), (2, 2), (3, 3)] {
        let run = run(number, n);
        store.insert_run(&run).await.unwrap();
        if n != 2 {
            store.finish_run(&over(&run, days_ago(45)), &[]).await.unwrap();
        }
    }
    let key = crate::model::kv::KvKey::new("k").unwrap();
    for n in [1, 3, 4] {
        store.kv_set(&id(n), &key, "1", &crate::model::kv::KvLimits::default(), Timestamp(1)).await.unwrap();
    }
    let settled =
        |n| CronState { unit: id(n), schedule: "x".into(), settled_at: Timestamp(1), fired_at: None };
    store.put_cron_states(&[settled(1), settled(3), settled(4)]).await.unwrap();
    for (n, days) in [(1, 31), (2, 31), (3, 29)] {
        let mut removal = Recording::new(Timestamp(days_ago(days)));
        removal.removed = vec![id(n)];
        store.commit(removal).await.unwrap();
    }
    let keep = Retention { removed_days: 30, ..all() };
    let pruned = prune(&store, &keep).await;
    assert_eq!(pruned, Pruned { history: 2, runs: 1, versions: 1, values: 1, units: 1, ..Pruned::default() });
    for (n, kept) in [(1, None), (3, Some("1")), (4, Some("1"))] {
        assert_eq!(store.kv_get(&id(n), &key).await.unwrap().as_deref(), kept);
    }
    let schedules = store.cron_states().await.unwrap();
    assert!(schedules.len() == 2 && schedules.contains_key(&id(3)) && schedules.contains_key(&id(4)));
    let gone: Vec<_> = store.removed_units().await.unwrap().into_iter().map(|unit| unit.id).collect();
    assert_eq!(gone, [id(2), id(3)], "a run of the second is not over");
    assert!(
        store.versions(&id(1)).await.unwrap().is_empty() && store.run(&run_id(1)).await.unwrap().is_none()
    );
    assert!(store.version(&id(2), &hash(2, 1)).await.unwrap().is_some(), "the run needs its version");
    assert!(store.version(&id(3), &hash(3, 1)).await.unwrap().is_some());
    assert!(history(&store).await.iter().all(|(unit, _)| [id(3), id(4)].contains(unit)));

    // The third comes back in time: it keeps what it had.
    store.commit(recording([3], 2, days_ago(28))).await.unwrap();
    store.finish_run(&over(&run(2, 2), days_ago(31)), &[]).await.unwrap();
    let pruned = prune(&store, &keep).await;
    assert_eq!(pruned, Pruned { runs: 1, versions: 1, units: 1, ..Pruned::default() });
    assert_eq!(store.versions(&id(3)).await.unwrap().len(), 2);
    assert!(store.removed_units().await.unwrap().is_empty());
}

#[tokio::test]
async fn other_writes_have_their_turn_while_much_is_pruned() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("store.db")).await.unwrap();
    store.put_source(&local()).await.unwrap();
    let mut old = Recording::new(Timestamp(0));
    old.history = (0..20_000).map(|n| row(n % 10, 0)).collect();
    store.commit(old).await.unwrap();
    let pruning = tokio::spawn({
        let store = store.clone();
        async move { prune(&store, &Retention::default()).await }
    });
    let mut between = 0;
    while !pruning.is_finished() {
        let mut new = Recording::new(Timestamp(NOW));
        new.history = vec![row(11, NOW)];
        store.commit(new).await.unwrap();
        between += 1;
    }
    assert_eq!(pruning.await.unwrap().history, 20_000);
    assert!(between > 5, "{between}");
    assert_eq!(history(&store).await.len(), between);
    let source = SourceName::new("local").unwrap();
    let asked = HistoryQuery { source: Some(source), limit: 1, ..HistoryQuery::default() };
    assert_eq!(store.history(asked).await.unwrap().len(), 1);
}
