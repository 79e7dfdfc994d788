//! The loop with a fake source and a fake target: tasks that run by the clock.

use std::time::Duration;

use kindling::model::event::EventType;
use kindling::model::time::Timestamp;
use kindling::reconcile::handle::Subject;
use kindling::record::RunQuery;
use kindling::support::clock::Clock;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _};

use crate::service::Service;
use crate::world::{FakeFiles, World, manifest, unit};

fn at(text: &str) -> Timestamp {
    Timestamp::parse(text).unwrap()
}

fn scheduled(files: &FakeFiles, dir: &str, trigger: &str) {
    files.task(dir, "echo 1\n").put(&format!("{dir}/task.yaml"), &manifest(dir, trigger));
}

impl World {
    /// The times that fired, as their runs say it, oldest first.
    async fn fired(&self, key: &str) -> Vec<String> {
        let ask = RunQuery { task: Some(unit(key)), limit: 1000, ..RunQuery::default() };
        let mut runs = self.store.runs(ask).await.unwrap();
        runs.reverse();
        runs.iter()
            .map(|run| {
                assert_eq!(run.trigger, "cron");
                run.detail[5..16].to_owned()
            })
            .collect()
    }

    /// Waits until so many times have fired; ends the runs at once.
    async fn fired_until(&self, key: &str, count: usize) -> Vec<String> {
        let waited = tokio::time::timeout(Duration::from_secs(900), async {
            loop {
                self.target.end(&unit(key), 0);
                let fired = self.fired(key).await;
                if fired.len() >= count {
                    return fired;
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        });
        match waited.await {
            Ok(fired) => fired,
            Err(_) => panic!("{key} fired only {:?}; {:?}", self.fired(key).await, self.next(key)),
        }
    }

    fn next(&self, key: &str) -> Option<String> {
        let times = self.service.core().schedules.get(&unit(key))?;
        times.next.map(|at| at.to_string()[5..16].to_owned())
    }

    /// Moves the time of day.
    fn set(&self, to: &str) {
        let clock = &self.service.core().clock;
        let Clock::Going(began, _) = clock else { panic!("the clock goes with the test's time") };
        began.fetch_add(at(to).0 - clock.now_ms(), std::sync::atomic::Ordering::Relaxed);
    }
}

/// "Cron/manual tasks — next trigger fires with new code", the cron half.
#[tokio::test(start_paused = true)]
async fn a_schedule_fires_the_version_that_is_live_and_says_when_it_is_next() {
    let files = FakeFiles::default();
    scheduled(&files, "a", "cron: '*/2 * * * *', timezone: UTC");
    let mut world = World::start_at(&files, at("2026-05-01T10:00:30Z")).await;
    let first = world.event(EventType::UnitRegistered, "a").await.hash.unwrap();
    world.until("it is taken up", |world| world.next("a").is_some()).await;
    assert_eq!(world.next("a").unwrap(), "05-01T10:02");
    assert_eq!(world.fired_until("a", 1).await, ["05-01T10:02"]);
    // Another script with the same schedule goes on.
    files.put("a/task.sh", "echo 2\n");
    let second = world.event(EventType::UnitUpdated, "a").await.hash.unwrap();
    assert_eq!(world.fired_until("a", 2).await, ["05-01T10:02", "05-01T10:04"]);
    let runs = world.store.runs(RunQuery { limit: 10, ..RunQuery::default() }).await.unwrap();
    assert_eq!((runs[1].hash, runs[0].hash), (first, second));
    let times = world.service.core().schedules.get(&unit("a")).unwrap();
    assert_eq!(times.last, Some(at("2026-05-01T10:04:00Z")));
    // Another schedule counts from now on.
    scheduled(&files, "a", "cron: '5 * * * *', timezone: UTC");
    world.event(EventType::UnitUpdated, "a").await;
    world.until("it is taken up", |world| world.next("a").is_some_and(|at| at.ends_with(":05"))).await;
    assert_eq!(world.fired_until("a", 3).await[2], "05-01T10:05");
    // One that is gone fires no more.
    files.remove("a/task.yaml").remove("a/task.sh");
    world.event(EventType::UnitRemoved, "a").await;
    world.until("it is forgotten", |world| world.service.core().schedules.get(&unit("a")).is_none()).await;
}

#[tokio::test(start_paused = true)]
async fn a_suspended_task_does_not_fire_and_misses_nothing() {
    let files = FakeFiles::default();
    scheduled(&files, "a", "cron: '* * * * *', timezone: UTC, catchUp: all");
    scheduled(&files, "b", "cron: '* * * * *', timezone: UTC");
    let mut world = World::start_at(&files, at("2026-05-01T10:00:30Z")).await;
    world.event(EventType::UnitRegistered, "b").await;
    let task = Subject::Unit(unit("a"));
    world.service.suspend(&task, "a test".into()).await.unwrap();
    world.fired_until("b", 3).await;
    assert!(world.fired("a").await.is_empty());
    let world = world.again().await;
    world.service.resume(&task).await.unwrap();
    let next = world.fired_until("a", 1).await;
    assert!(
        next[0].as_str() > "05-01T10:03",
        "what passed while it was suspended is not made up for: {next:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn after_a_time_of_no_service_each_catches_up_as_it_says() {
    let files = FakeFiles::default();
    for (dir, catch_up) in [("none", "none"), ("once", "once"), ("all", "all")] {
        scheduled(&files, dir, &format!("cron: '0 * * * *', timezone: UTC, catchUp: {catch_up}"));
    }
    let mut world = World::start_at(&files, at("2026-05-01T10:59:30Z")).await;
    world.event(EventType::UnitRegistered, "once").await;
    for key in ["none", "once", "all"] {
        assert_eq!(world.fired_until(key, 1).await, ["05-01T11:00"]);
    }
    world.service.core().closing.cancel();
    world.set("2026-05-01T15:20:00Z");
    let world = world.again().await;
    let all = world.fired_until("all", 5).await;
    assert_eq!(all, ["05-01T11:00", "05-01T12:00", "05-01T13:00", "05-01T14:00", "05-01T15:00"]);
    assert_eq!(world.fired_until("once", 2).await, ["05-01T11:00", "05-01T15:00"]);
    assert_eq!(world.fired("none").await, ["05-01T11:00"]);
    assert_eq!(world.next("none").unwrap(), "05-01T16:00");
    // Once more at once: nothing is due any more.
    let world = world.again().await;
    world.until("they are taken up", |world| world.next("all").is_some()).await;
    assert_eq!((world.fired("all").await.len(), world.fired("once").await.len()), (5, 2));
}

#[tokio::test(start_paused = true)]
async fn what_is_made_up_for_comes_one_by_one() {
    let files = FakeFiles::default();
    scheduled(&files, "a", "cron: '0 * * * *', timezone: UTC, catchUp: all");
    let mut world = World::start_at(&files, at("2026-05-01T10:30:00Z")).await;
    world.event(EventType::UnitRegistered, "a").await;
    world.until("it is taken up", |world| world.next("a").is_some()).await;
    world.service.core().closing.cancel();
    world.set("2026-05-01T13:10:00Z");
    let world = world.again().await;
    for count in 1..=3 {
        world.until("one runs", |world| world.target.started().len() == count).await;
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(world.fired("a").await.len(), count, "the next one waits for its end");
        world.target.end(&unit("a"), 0);
    }
    assert_eq!(world.fired("a").await, ["05-01T11:00", "05-01T12:00", "05-01T13:00"]);
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_loses_nothing_and_repeats_nothing() {
    let files = FakeFiles::default();
    scheduled(&files, "wild", "cron: '* * * * *', timezone: UTC");
    scheduled(&files, "fixed", "cron: '0 12 * * *', timezone: UTC, catchUp: once");
    let mut world = World::start_at(&files, at("2026-05-01T11:58:30Z")).await;
    world.event(EventType::UnitRegistered, "wild").await;
    world
        .until("both are taken up", |world| world.next("wild").is_some() && world.next("fixed").is_some())
        .await;
    // Forward over the noon: a machine that slept.
    world.set("2026-05-01T13:10:30Z");
    assert_eq!(world.fired_until("fixed", 1).await, ["05-01T12:00"]);
    world.until("it is settled", |world| world.next("fixed").is_some_and(|at| at == "05-02T12:00")).await;
    assert_eq!(world.fired_until("wild", 2).await.last().unwrap(), "05-01T13:11");
    // Back by two hours: what goes by real time goes on, noon does not come again.
    world.set("2026-05-01T11:59:30Z");
    let wild = world.fired_until("wild", 5).await;
    assert!(wild[4].as_str() < "05-01T12:05", "{wild:?}");
    assert_eq!(world.fired("fixed").await.len(), 1);
    assert_eq!(world.next("fixed").unwrap(), "05-02T12:00");
}

#[tokio::test(start_paused = true)]
async fn clocks_that_are_set_forward_and_back_in_each_zone() {
    let cases = [
        (
            "Europe/Berlin",
            "2026-03-29T00:59:00Z",
            "2026-03-29T01:00",
            "2026-10-25T00:29:00Z",
            "2026-10-25T00:30",
        ),
        (
            "America/New_York",
            "2026-03-08T06:59:00Z",
            "2026-03-08T07:00",
            "2026-11-01T05:29:00Z",
            "2026-11-01T05:30",
        ),
        (
            "Australia/Lord_Howe",
            "2026-10-03T15:29:00Z",
            "2026-10-03T15:30",
            "2026-04-04T14:44:00Z",
            "2026-04-04T14:45",
        ),
    ];
    for (zone, spring, forward, autumn, back) in cases {
        let (lost, twice) = match zone {
            "Australia/Lord_Howe" => ("10 2 * * *", "45 1 * * *"),
            "Europe/Berlin" => ("30 2 * * *", "30 2 * * *"),
            _ => ("30 2 * * *", "30 1 * * *"),
        };
        for (began, expression, expected) in [(spring, lost, forward), (autumn, twice, back)] {
            let files = FakeFiles::default();
            scheduled(&files, "a", &format!("cron: '{expression}', timezone: {zone}"));
            let mut world = World::start_at(&files, at(began)).await;
            world.event(EventType::UnitRegistered, "a").await;
            assert_eq!(world.fired_until("a", 1).await, [&expected[5..]], "{zone}");
            world
                .until("it was recorded", |world| world.next("a").is_some_and(|at| at != expected[5..]))
                .await;
            let next = world.service.core().schedules.get(&unit("a")).unwrap().next.unwrap();
            assert!(next.since(at(began)) > Duration::from_hours(20), "once on that day: {next}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_recorded_is_not_started() {
    let files = FakeFiles::default();
    scheduled(&files, "a", "cron: '* * * * *', timezone: UTC");
    let mut world = World::start_at(&files, at("2026-05-01T10:00:30Z")).await;
    world.event(EventType::UnitRegistered, "a").await;
    world.until("it is taken up", |world| world.next("a").is_some()).await;
    world.store.close().await.unwrap();
    tokio::time::sleep(Duration::from_secs(35)).await;
    assert_eq!(world.target.started(), Vec::<String>::new());
    assert_eq!(world.next("a").unwrap(), "05-01T10:01", "it is due still");
}

#[tokio::test(start_paused = true)]
async fn restarts_at_any_moment_lose_nothing_and_repeat_nothing() {
    let files = FakeFiles::default();
    scheduled(&files, "a", "cron: '* * * * *', timezone: UTC");
    let mut world = World::start_at(&files, at("2026-05-01T10:00:30Z")).await;
    world.event(EventType::UnitRegistered, "a").await;
    world.until("it is taken up", |world| world.next("a").is_some()).await;
    // From half a second before a full minute to half a second after one, and in between.
    for millis in [29_990, 60_020, 100, 59_800, 100, 61_000] {
        tokio::time::sleep(Duration::from_millis(millis)).await;
        world.target.end(&unit("a"), 0);
        world.service.close().await;
        world = world.again().await;
    }
    world.until("it is taken up", |world| world.next("a").is_some()).await;
    let fired = world.fired_until("a", 4).await;
    let expected: Vec<String> = (1..=fired.len()).map(|minute| format!("05-01T10:{minute:02}")).collect();
    assert_eq!(fired, expected);
}

#[tokio::test(start_paused = true)]
async fn a_time_that_comes_while_a_run_is_there_is_skipped_or_runs_beside_it_or_in_its_place() {
    let files = FakeFiles::default();
    for overlap in ["forbid", "allow", "replace"] {
        let text = manifest(overlap, "cron: '* * * * *', timezone: UTC");
        let text = format!("{text}timeout: none\nconcurrency: {{overlap: {overlap}}}\n");
        files.task(overlap, "echo 1\n").put(&format!("{overlap}/task.yaml"), &text);
    }
    let mut world = World::start_at(&files, at("2026-05-01T10:00:30Z")).await;
    world.event(EventType::UnitRegistered, "replace").await;
    world
        .until("two times have come", |world| {
            world.service.core().clock.now_ms() > at("2026-05-01T10:02:10Z").0
        })
        .await;
    let statuses = async |key: &str| {
        let ask = RunQuery { task: Some(unit(key)), limit: 10, ..RunQuery::default() };
        let mut runs = world.store.runs(ask).await.unwrap();
        runs.reverse();
        assert!(runs.iter().all(|run| run.trigger == "cron"));
        runs.iter().map(|run| run.status.as_str()).collect::<Vec<_>>()
    };
    assert_eq!(statuses("forbid").await, ["running", "skipped"]);
    assert_eq!(statuses("allow").await, ["running", "running"]);
    assert_eq!(statuses("replace").await, ["cancelled", "running"]);
    assert_eq!(world.next("forbid").unwrap(), "05-01T10:03");
}

#[tokio::test]
async fn the_binary_makes_up_for_what_was_missed_once_and_not_again_after_a_kill() {
    let mut service = Service::new("sources: [{name: dir, local: {path: src}}]\n");
    let trigger = "cron: '30 4 1 * *', timezone: Europe/Berlin, catchUp: once";
    service.write("src/a/task.yaml", manifest("a", trigger));
    service.write("src/a/task.sh", "printf made\n");
    let client = service.start().await;
    client.unit_until("dir/a", "is taken up", |unit| unit["nextRunAt"].is_string()).await;
    service.kill();
    // As if it had been down for a year.
    let file = service.data_dir().join("kindling.db");
    let mut store = SqliteConnectOptions::new().filename(&file).connect().await.unwrap();
    let moved =
        sqlx::query("UPDATE cron_state SET settled_at = settled_at - 31536000000 WHERE fired_at IS NULL");
    assert_eq!(moved.execute(&mut store).await.unwrap().rows_affected(), 1);
    store.close().await.unwrap();
    for _ in 0..2 {
        let client = service.start().await;
        let unit = client.unit_until("dir/a", "has fired", |unit| unit["lastRunAt"].is_string()).await;
        let runs = client.items("/api/v1/runs").await;
        assert_eq!((runs.len(), &runs[0]["trigger"]), (1, &serde_json::json!("cron")), "{runs:#?}");
        assert_eq!(runs[0]["triggerDetail"], unit["lastRunAt"]);
        let run = client.get(&format!("/api/v1/runs/{}/wait", runs[0]["id"].as_str().unwrap())).await;
        assert_eq!((&run["status"], &run["output"]), (&"succeeded".into(), &"made".into()), "{run:#}");
        service.kill();
    }
}
