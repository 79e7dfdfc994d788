//! The store as a whole: what goes in comes out, all of it or nothing.

use std::collections::HashSet;
use std::future::Future;
use std::pin::pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use sqlx::Row as _;

use super::samples::*;
use super::*;
use crate::model::history::HistoryRow;
use crate::model::id::{SourceName, UnitId};
use crate::model::run::{Run, RunStatus};
use crate::model::source::Revision;
use crate::model::step::Generation;
use crate::model::time::Timestamp;

async fn store() -> Store {
    let store = Store::in_memory().await.unwrap();
    store.put_source(&local()).await.unwrap();
    store
}

async fn on_disk() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("store.db")).await.unwrap();
    store.put_source(&local()).await.unwrap();
    (dir, store)
}

async fn all_history(store: &Store) -> Vec<HistoryRow> {
    let ask = HistoryQuery { limit: u32::MAX, ..HistoryQuery::default() };
    store.history(ask).await.unwrap().into_iter().map(|(_, row)| row).collect()
}

#[tokio::test]
async fn sources_come_back_as_they_were() {
    let store = store().await;
    store.put_source(&git()).await.unwrap();
    assert_eq!(store.sources().await.unwrap(), [local(), git()]);

    let mut changed = SourceRecord { passes: 500, ..local() };
    changed.spec = crate::model::source::SourceSpec { name: source_name(), ..git().spec };
    store.put_source(&changed).await.unwrap();
    changed.passes = 0;
    assert_eq!(store.sources().await.unwrap()[0], changed, "the count of one that is there stays");

    let mut recording = Recording::new(Timestamp(1));
    recording.source = Some(SourceState { name: source_name(), ..git().state() });
    store.commit(recording).await.unwrap();
    let read = store.sources().await.unwrap().swap_remove(0);
    assert_eq!(read.state(), SourceState { name: source_name(), ..git().state() });
    assert_eq!((read.spec, read.declared), (changed.spec, changed.declared));
}

#[tokio::test]
async fn a_path_that_is_not_utf8_is_refused() {
    use std::os::unix::ffi::OsStringExt as _;
    let mut source = local();
    let path = std::ffi::OsString::from_vec(vec![b'/', 0xff]).into();
    source.spec.origin =
        crate::model::source::Origin::Local(crate::model::source::LocalOrigin { path, debounce: None });
    let error = store().await.put_source(&source).await.unwrap_err();
    assert!(matches!(error, StoreError::Other { .. }), "{error:?}");
}

#[tokio::test]
async fn units_come_back_as_they_were() {
    let store = store().await;
    let empty = UnitRecord::new(id(2), "", Timestamp(0));
    let mut recording = Recording::new(Timestamp(1));
    recording.units = vec![empty.clone(), full_unit(1)];
    store.commit(recording).await.unwrap();
    assert_eq!(store.units().await.unwrap(), [full_unit(1), empty]);

    let mut recording = Recording::new(Timestamp(1));
    recording.units =
        vec![UnitRecord { id: id(1), ..UnitRecord::new(id(1), "", Timestamp(0)) }, full_unit(2)];
    store.commit(recording.clone()).await.unwrap();
    assert_eq!(store.units().await.unwrap(), recording.units, "every column is written over");
}

#[tokio::test]
async fn versions_come_back_as_they_were() {
    let store = store().await;
    let mut recording = recording([1, 2], 1, 50);
    recording.versions.push(version(1, 2));
    store.commit(recording).await.unwrap();
    assert_eq!(store.version(&id(1), &hash(1, 2)).await.unwrap(), Some(version(1, 2)));
    assert_eq!(store.version(&id(1), &hash(2, 1)).await.unwrap(), None);
    assert_eq!(store.deployed_versions().await.unwrap(), [version(1, 1), version(2, 1)]);
    assert_eq!(store.kept_versions().await.unwrap(), HashSet::from([hash(1, 1), hash(2, 1), hash(1, 2)]));
    let contents = store.referenced_contents().await.unwrap();
    let expected: HashSet<_> =
        [version(1, 1), version(2, 1), version(1, 2)].iter().map(|v| v.files[0].hash).collect();
    assert_eq!(contents, expected);
}

#[tokio::test]
async fn versions_are_listed_by_their_last_deployment() {
    let store = store().await;
    for (v, at) in [(1, 10), (2, 20), (3, 30), (1, 40)] {
        store.commit(recording([1], v, at)).await.unwrap();
    }
    let mut attempt = Recording::new(Timestamp(50));
    attempt.units = vec![deployed_unit(1, 1)];
    attempt.versions = vec![version(1, 4)];
    store.commit(attempt).await.unwrap();
    let listed = store.versions(&id(1)).await.unwrap();
    let listed: Vec<_> =
        listed.iter().map(|v| (v.hash, v.deployed_at.map(|at| at.0), v.name.as_str())).collect();
    let expected =
        [(1, Some(40)), (3, Some(30)), (2, Some(20)), (4, None)].map(|(v, at)| (hash(1, v), at, "digest"));
    assert_eq!(listed, expected);

    let prefix = hash(1, 3).to_string();
    let found = store.resolve_version(&id(1), &prefix[..8]).await.unwrap();
    assert_eq!(found.iter().map(|v| v.hash).collect::<Vec<_>>(), [hash(1, 3)]);
    assert_eq!(store.resolve_version(&id(1), "00").await.unwrap().len(), 4);
    assert!(store.resolve_version(&id(2), "00").await.unwrap().is_empty());
}

#[tokio::test]
async fn a_unit_that_goes_is_remembered_until_it_comes_back() {
    let store = store().await;
    store.commit(recording([1, 2, 3], 7, 10)).await.unwrap();
    let mut removal = Recording::new(Timestamp(20));
    removal.removed = vec![id(1), id(2), id(99)];
    store.commit(removal.clone()).await.unwrap();
    assert_eq!(store.units().await.unwrap().len(), 1);
    let gone = |n| RemovedUnit { id: id(n), generation: Generation(7), removed_at: Timestamp(20) };
    assert_eq!(store.removed_units().await.unwrap(), [gone(1), gone(2)]);
    assert_eq!(store.versions(&id(1)).await.unwrap().len(), 1);
    assert_eq!(all_history(&store).await.len(), 3);

    removal.units = vec![deployed_unit(1, 8)];
    store.commit(removal).await.unwrap();
    assert_eq!(store.removed_units().await.unwrap(), [gone(2)]);
    store.remove_source(&source_name(), Timestamp(30)).await.unwrap();
    assert!(store.units().await.unwrap().is_empty() && store.sources().await.unwrap().is_empty());
    assert_eq!(store.removed_units().await.unwrap().len(), 3);
}

#[tokio::test]
async fn history_comes_back_in_pages() {
    let store = store().await;
    let other = UnitId::new(SourceName::new("other").unwrap(), "x");
    let mut recording = Recording::new(Timestamp(0));
    recording.history = (0..25).map(|n| row(n % 3, i64::from(n))).collect();
    recording.history.push(HistoryRow { unit: other.clone(), ..row(0, 100) });
    store.commit(recording.clone()).await.unwrap();
    let mut expected = recording.history;
    expected.reverse();
    assert_eq!(all_history(&store).await, expected);

    for (ask, expected) in [
        (HistoryQuery::default(), expected.clone()),
        (
            HistoryQuery { unit: Some(id(1)), ..HistoryQuery::default() },
            expected.iter().filter(|row| row.unit == id(1)).cloned().collect(),
        ),
        (
            HistoryQuery { source: Some(source_name()), ..HistoryQuery::default() },
            expected.iter().filter(|row| row.unit != other).cloned().collect(),
        ),
    ] {
        let (mut read, mut before) = (Vec::new(), None);
        loop {
            let page = store.history(HistoryQuery { before, limit: 4, ..ask.clone() }).await.unwrap();
            let Some((last, _)) = page.last() else { break };
            before = Some(*last);
            read.extend(page.into_iter().map(|(_, row)| row));
        }
        assert_eq!(read, expected, "{ask:?}");
    }
}

#[tokio::test]
async fn events_come_back_oldest_first() {
    let store = store().await;
    let mut recording = Recording::new(Timestamp(0));
    recording.events = (0..5).map(|n| event(n, i64::from(n))).collect();
    store.commit(recording).await.unwrap();
    let bare = crate::model::event::Event { unit: None, hash: None, revision: None, ..event(0, 9) };
    store.put_events(&[bare.clone(), event(6, 9)]).await.unwrap();
    let read = store.events_since(Timestamp(3), 10).await.unwrap();
    assert_eq!(read, [event(3, 3), event(4, 4), bare.clone(), event(6, 9)]);
    assert_eq!(store.events_since(Timestamp(3), 2).await.unwrap(), [bare, event(6, 9)]);
    assert!(store.events_since(Timestamp(10), 2).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_run_is_recorded_once_and_ends_once() {
    let store = store().await;
    let begun = run(1, 1);
    store.insert_run(&begun).await.unwrap();
    assert!(store.insert_run(&run(1, 2)).await.is_err());
    assert_eq!(store.run(&begun.id).await.unwrap(), Some(begun.clone()));
    assert!(store.set_process(&begun.id, &process()).await.unwrap());
    assert_eq!(store.unfinished_runs().await.unwrap()[0].process, Some(process()));

    let ended = over(&Run { process: Some(process()), ..begun.clone() }, 99);
    assert!(store.finish_run(&ended, &[]).await.unwrap());
    assert_eq!(store.run(&begun.id).await.unwrap(), Some(ended.clone()));
    let again = Run { status: RunStatus::Interrupted, error: "lost".into(), ..ended.clone() };
    assert!(!store.finish_run(&again, &[]).await.unwrap());
    assert!(!store.set_process(&begun.id, &process()).await.unwrap());
    assert!(!store.finish_run(&over(&run(2, 1), 1), &[]).await.unwrap());
    assert_eq!(store.run(&begun.id).await.unwrap(), Some(ended.clone()));
    assert!(store.unfinished_runs().await.unwrap().is_empty());

    let whole = Run { id: run_id(3), ..ended };
    store.insert_run(&whole).await.unwrap();
    assert_eq!(store.run(&whole.id).await.unwrap(), Some(whole));
    assert_eq!(store.run(&run_id(9)).await.unwrap(), None);
}

#[tokio::test]
async fn runs_come_back_in_pages() {
    let store = store().await;
    for number in 0..20 {
        let run = run(number, number % 2);
        store.insert_run(&run).await.unwrap();
        if number % 3 == 0 {
            store.finish_run(&over(&run, 50), &[]).await.unwrap();
        }
    }
    let (task, status) = (Some(id(1)), Some(RunStatus::Failed));
    for (task, status) in [(None, None), (task.clone(), None), (None, status), (task, status)] {
        let expected: Vec<_> = (0..20)
            .rev()
            .filter(|n| task.is_none() || n % 2 == 1)
            .filter(|n| status.is_none() || n % 3 == 0)
            .map(run_id)
            .collect();
        let (mut read, mut before) = (Vec::new(), None);
        loop {
            let page = store.runs(RunQuery { task: task.clone(), status, before, limit: 3 }).await.unwrap();
            let Some(last) = page.last() else { break };
            before = Some(last.id.clone());
            read.extend(page.into_iter().map(|run| run.id));
        }
        assert_eq!(read, expected, "{task:?} {status:?}");
    }
    let unknown = RunQuery { before: Some(run_id(77)), limit: 3, ..RunQuery::default() };
    assert!(store.runs(unknown).await.unwrap().is_empty());

    let found = store.runs_by_prefix("0000001").await.unwrap();
    assert_eq!(found.iter().map(|run| run.id.clone()).collect::<Vec<_>>(), [19, 18, 17, 16].map(run_id));
    assert_eq!(store.runs_by_prefix("").await.unwrap().len(), 10);
    assert!(store.runs_by_prefix("1").await.unwrap().is_empty());
}

#[tokio::test]
async fn a_log_comes_back_in_order() {
    let store = store().await;
    store.insert_run(&run(1, 1)).await.unwrap();
    store.insert_run(&run(2, 1)).await.unwrap();
    let lines: Vec<_> = (1..=300).map(line).collect();
    store.append_log(&run_id(1), &lines[..100]).await.unwrap();
    store.append_log(&run_id(1), &lines[50..]).await.unwrap();
    store.append_log(&run_id(2), &lines[..1]).await.unwrap();
    assert_eq!(store.log(&run_id(1), 0, 1000).await.unwrap(), lines);
    assert_eq!(store.log(&run_id(1), 120, 30).await.unwrap(), lines[120..150]);
    store.trim_log(&run_id(1), 251).await.unwrap();
    assert_eq!(store.log(&run_id(1), 0, 1000).await.unwrap(), lines[250..]);
    assert_eq!(store.log(&run_id(2), 0, 1000).await.unwrap(), lines[..1]);
    assert!(store.append_log(&run_id(9), &lines).await.is_err());
    assert!(store.log(&run_id(9), 0, 10).await.unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn passes_are_counted_in_memory_and_written_now_and_then() {
    let store = store().await;
    let written = async || {
        let mut conn = store.read(store.at("look")).await.unwrap();
        sqlx::query("SELECT passes FROM sources").fetch_one(&mut *conn).await.unwrap().get::<i64, _>(0)
    };
    for _ in 0..3 {
        store.count_pass(&source_name()).await.unwrap();
    }
    assert_eq!((store.sources().await.unwrap()[0].passes, written().await), (3, 0));
    tokio::time::advance(Duration::from_secs(61)).await;
    store.count_pass(&source_name()).await.unwrap();
    assert_eq!((store.sources().await.unwrap()[0].passes, written().await), (4, 4));
    store.count_pass(&source_name()).await.unwrap();
    assert_eq!((store.sources().await.unwrap()[0].passes, written().await), (5, 4));
}

#[tokio::test]
async fn a_recording_is_visible_as_a_whole_or_not_at_all() {
    let store = store().await;
    store.commit(recording([1], 1, 10)).await.unwrap();
    let mut bad = recording([1, 2, 3], 2, 20);
    bad.source = Some(git().state());
    bad.source.as_mut().unwrap().name = source_name();
    bad.removed = vec![id(1)];
    bad.units[2].id = UnitId::new(SourceName::new("unknown").unwrap(), "x");
    assert!(matches!(store.commit(bad.clone()).await, Err(StoreError::Other { .. })));
    assert_eq!(store.units().await.unwrap(), [deployed_unit(1, 1)]);
    assert_eq!(store.sources().await.unwrap(), [local()]);
    assert_eq!(all_history(&store).await.len(), 1);
    assert_eq!(store.events_since(Timestamp(0), 9).await.unwrap().len(), 1);

    let mut unknown = Recording::new(Timestamp(1));
    unknown.source = Some(git().state());
    assert!(store.commit(unknown).await.is_err(), "the source is not recorded");
    bad.units.pop();
    store.commit(bad).await.unwrap();
    assert_eq!(store.units().await.unwrap().len(), 2);
}

/// Polls a future `times` times, then drops it.
async fn abandoned<F: Future>(future: F, times: usize) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut polls = 0;
    std::future::poll_fn(|context| {
        polls += 1;
        match future.as_mut().poll(context) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if polls > times => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

#[tokio::test]
async fn an_abandoned_call_has_happened_or_not() {
    let (_dir, disk) = on_disk().await;
    for store in [disk, store().await] {
        let mut finished = false;
        for times in 0..200_u32 {
            let generation = times + 1;
            let mut recording = recording([1, 2, 3], generation, 10);
            recording.history.clear();
            let done = abandoned(store.commit(recording), times as usize).await;
            let seen: HashSet<_> = store.units().await.unwrap().iter().map(|unit| unit.generation).collect();
            assert!(seen.len() <= 1, "{seen:?}");
            if let Some(done) = done {
                done.unwrap();
                assert_eq!(seen, HashSet::from([Generation(u64::from(generation))]));
                finished = true;
                break;
            }
        }
        assert!(finished);
        store.close().await.unwrap();
    }
}

#[tokio::test]
async fn readers_see_the_state_before_while_a_write_is_under_way() {
    let (_dir, store) = on_disk().await;
    store.commit(recording([1], 1, 10)).await.unwrap();
    let mut tx = store.begin(store.at("write")).await.unwrap();
    sqlx::query("DELETE FROM units").execute(&mut *tx).await.unwrap();
    let read =
        tokio::time::timeout(Duration::from_secs(5), store.units()).await.expect("no waiting").unwrap();
    assert_eq!(read.len(), 1);
    tx.commit().await.unwrap();
    assert!(store.units().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_full_disk_is_told_and_leaves_nothing_behind() {
    let (dir, store) = on_disk().await;
    store.commit(recording(0..10, 1, 10)).await.unwrap();
    limit_pages(&store, "PRAGMA max_page_count = 1").await;
    let mut written = 0;
    let error = loop {
        match store.commit(recording(0..200, written + 2, 10)).await {
            Ok(()) => written += 1,
            Err(error) => break error,
        }
        assert!(written < 100, "the limit holds");
    };
    assert!(matches!(&error, StoreError::Full { path, .. } if path.starts_with(dir.path())), "{error:?}");
    assert!(error.to_string().contains("store.db"), "{error}");
    let units = store.units().await.unwrap();
    assert!(units.iter().all(|unit| unit.generation == Generation(u64::from(written) + 1)));
    assert!(matches!(store.commit(recording(0..200, 99, 10)).await, Err(StoreError::Full { .. })));

    limit_pages(&store, "PRAGMA max_page_count = 1000000").await;
    store.commit(recording(0..200, 99, 10)).await.unwrap();
    assert!(store.units().await.unwrap().iter().all(|unit| unit.generation == Generation(99)));
    store.check().await.unwrap();
}

async fn limit_pages(store: &Store, pragma: &'static str) {
    let mut conn = store.write(store.at("limit")).await.unwrap();
    sqlx::query(pragma).execute(&mut *conn).await.unwrap();
}

#[tokio::test]
async fn a_closed_store_refuses_and_has_written_everything() {
    let (dir, store) = on_disk().await;
    store.commit(recording([1], 1, 10)).await.unwrap();
    store.count_pass(&source_name()).await.unwrap();
    store.close().await.unwrap();
    assert!(store.units().await.is_err() && store.commit(recording([2], 1, 10)).await.is_err());
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "only the database is left");
    let store = Store::open(&dir.path().join("store.db")).await.unwrap();
    assert_eq!(store.units().await.unwrap(), [deployed_unit(1, 1)]);
    assert_eq!(store.sources().await.unwrap()[0].passes, 1);
}

#[tokio::test]
async fn a_row_that_cannot_be_read_is_named() {
    let store = store().await;
    store.commit(recording([1], 1, 10)).await.unwrap();
    let mut conn = store.write(store.at("damage")).await.unwrap();
    sqlx::query("UPDATE units SET rule = 'unheard-of'").execute(&mut *conn).await.unwrap();
    drop(conn);
    let error = store.units().await.unwrap_err();
    assert!(matches!(error, StoreError::Corrupt { .. }));
    assert!(error.to_string().contains("local/team/unit-00001"), "{error}");
    let why = std::error::Error::source(&error).unwrap().to_string();
    assert!(why.contains("unheard-of"), "{why}");
}

/// Every query of the offline cache that touches a table that grows goes by an index, and none of them sorts.
#[tokio::test]
async fn queries_use_indexes() {
    let store = store().await;
    let mut conn = store.write(store.at("explain")).await.unwrap();
    let mut seen = 0;
    for file in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.sqlx")).unwrap() {
        let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
        let query =
            serde_json::from_str::<serde_json::Value>(&text).unwrap()["query"].as_str().unwrap().to_owned();
        let explain = sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {query}"));
        let plan: Vec<String> = sqlx::query(explain)
            .fetch_all(&mut *conn)
            .await
            .unwrap()
            .iter()
            .map(|step| step.get("detail"))
            .collect();
        seen += 1;
        for step in &plan {
            let scans = ["history", "runs", "logs", "events", "versions"]
                .iter()
                .any(|table| step.starts_with(&format!("SCAN {table}")) && !step.contains("COVERING INDEX"));
            // One unit's versions and the candidates of a prefix are sorted: there are few.
            let few = query.contains("FROM versions") || query.contains("id IN (SELECT id FROM runs");
            let sorts = step.contains("TEMP B-TREE") && !few;
            let whole = query.trim() == "SELECT files FROM versions";
            assert!(whole || !(scans || sorts), "{query}\n{plan:#?}");
        }
    }
    assert!(seen > 40, "{seen}");
}

/// Calls may be made from tasks of any thread.
#[tokio::test]
async fn every_call_can_be_spawned() {
    fn sent(_: impl Send) {}
    let store = store().await;
    let (run, name, hash) = (run(1, 1), source_name(), hash(1, 1));
    sent((store.sources(), store.put_source(&local()), store.remove_source(&name, Timestamp(0))));
    sent((store.count_pass(&name), store.check(), store.close(), Store::in_memory()));
    sent((store.units(), store.removed_units(), store.commit(Recording::new(Timestamp(0)))));
    sent((store.version(&run.task, &hash), store.versions(&run.task), store.deployed_versions()));
    sent((store.resolve_version(&run.task, ""), store.kept_versions(), store.referenced_contents()));
    sent((
        store.history(HistoryQuery::default()),
        store.events_since(Timestamp(0), 1),
        store.put_events(&[]),
    ));
    sent((store.insert_run(&run), store.set_process(&run.id, &process()), store.finish_run(&run, &[])));
    sent((
        store.run(&run.id),
        store.runs(RunQuery::default()),
        store.runs_by_prefix(""),
        store.unfinished_runs(),
    ));
    let key = crate::model::kv::KvKey::new("k").unwrap();
    let limits = crate::model::kv::KvLimits::default();
    sent((store.kv_get(&run.task, &key), store.kv_set(&run.task, &key, "1", &limits, Timestamp(0))));
    sent((store.kv_delete(&run.task, &key), store.kv_list(&run.task, ""), store.begin_run(&run.id)));
    sent((store.append_log(&run.id, &[]), store.log(&run.id, 0, 1)));
    sent((
        store.prune(&crate::model::retention::Retention::default(), Timestamp(0)),
        Store::open(std::path::Path::new("x")),
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_units_at_once() {
    const COUNT: u32 = 10_000;
    let (_dir, store) = on_disk().await;
    let all = recording(0..COUNT, 1, 10);
    let begun = Instant::now();
    store.commit(all).await.unwrap();
    println!("commit of {COUNT} new units: {:?}", begun.elapsed());

    let mut took: Vec<_> = Vec::new();
    for n in 0..200 {
        let one = recording([n], 2, 20);
        let begun = Instant::now();
        store.commit(one).await.unwrap();
        took.push(begun.elapsed());
    }
    took.sort();
    println!("commit of one unit: p50 {:?}, p99 {:?}", took[100], took[197]);

    let begun = Instant::now();
    let versions = store.deployed_versions().await.unwrap();
    println!("deployed_versions of {COUNT}: {:?}", begun.elapsed());
    let begun = Instant::now();
    let units = store.units().await.unwrap();
    println!("units of {COUNT}: {:?}", begun.elapsed());
    let expected = |n: u32| if n < 200 { 2 } else { 1 };
    assert_eq!((versions.len(), units.len()), (COUNT as usize, COUNT as usize));
    for (n, (version, unit)) in (0..).zip(versions.iter().zip(&units)) {
        assert_eq!((version.hash, unit.deployed), (hash(n, expected(n)), Some(hash(n, expected(n)))));
    }

    let mut removal = Recording::new(Timestamp(30));
    removal.removed = (0..COUNT).map(id).collect();
    let begun = Instant::now();
    store.commit(removal).await.unwrap();
    println!("removal of {COUNT} units: {:?}", begun.elapsed());
    assert!(store.units().await.unwrap().is_empty());
    assert_eq!(store.removed_units().await.unwrap().len(), COUNT as usize);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn any_text_comes_back(texts in prop::collection::vec(any::<String>(), 8), at in any::<i64>(), number in any::<u32>()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let store = store().await;
            let mut all = recording([1], 1, at);
            let unit = &mut all.units[0];
            unit.name.clone_from(&texts[0]);
            unit.reason.clone_from(&texts[1]);
            unit.deployed_revision = Some(Revision::new(&texts[2]));
            unit.suspended = Some(Suspension { reason: texts[3].clone(), since: Timestamp(at) });
            unit.failures = number;
            unit.problems.push(crate::model::problem::Problem::new(
                crate::model::problem::Reason::Unreadable, texts[4].clone()).at(number, 1));
            all.history[0].error.clone_from(&texts[5]);
            all.history[0].phases = vec![(texts[6].clone(), f64::from(number) / 1000.0)];
            all.events[0].message.clone_from(&texts[7]);
            store.commit(all.clone()).await.unwrap();
            assert_eq!(store.units().await.unwrap(), all.units);
            assert_eq!(all_history(&store).await, all.history);
            assert_eq!(store.events_since(Timestamp(i64::MIN), 1).await.unwrap(), all.events);

            let mut run = over(&run(number, 1), at);
            (run.trigger, run.error) = (texts[0].clone(), texts[1].clone());
            (run.output, run.response) = (Some(texts[2].clone()), Some(texts[3].clone()));
            store.insert_run(&run).await.unwrap();
            assert_eq!(store.run(&run.id).await.unwrap(), Some(run.clone()));
            let lines: Vec<_> = texts.iter().zip(1..).map(|(text, seq)| {
                crate::model::run::LogLine { text: text.clone(), ..line(seq) }
            }).collect();
            store.append_log(&run.id, &lines).await.unwrap();
            assert_eq!(store.log(&run.id, 0, 99).await.unwrap(), lines);
        });
    }
}
