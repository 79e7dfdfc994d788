//! The loop with a fake source: sources that leave the configuration and come back.

use std::time::Duration;

use kindling::model::condition::ConditionType::Ready;
use kindling::model::event::EventType;
use kindling::model::source::{Allow, LocalOrigin, Origin, SourceSpec};

use crate::world::{FakeFiles, World, source};

fn spec() -> SourceSpec {
    let origin = Origin::Local(LocalOrigin { path: "/nowhere".into(), debounce: None });
    SourceSpec { name: source(), origin, allow: Allow::default() }
}

/// What it was declared with is live, shown and recorded, and stays so.
async fn assert_all_there(world: &World, keys: &[&str]) {
    for key in keys {
        world.until("it is live", |world| world.live(key).is_some()).await;
        world.until("it is well", |world| world.condition(key, Ready).starts_with("True")).await;
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    let recorded = world.store.units().await.unwrap();
    for key in keys {
        assert!(world.live(key).is_some() && world.record(key).is_some(), "{key} went");
        assert!(recorded.iter().any(|unit| &*unit.id.key == *key && unit.deployed.is_some()), "{key}");
    }
    let shown = world.service.core().board.source(&source()).expect("the source is shown");
    let ready = shown.conditions.get(Ready).map(|ready| ready.reason.clone());
    assert_eq!(ready.as_deref(), Some("Observed"));
}

#[tokio::test(start_paused = true)]
async fn a_source_that_left_and_came_back_over_a_restart_has_its_units() {
    let files = FakeFiles::default();
    files.task("a", "echo 1\n").daemon("d", "sleep 1\n");
    let mut world = World::start(&files).await;
    world.event(EventType::UnitRegistered, "a").await;
    for turns in 0..8 {
        world.until("d is live", |world| world.live("d").is_some() && world.live("a").is_some()).await;
        world = world.again_without(Some(&source())).await;
        for _ in 0..turns * 3 {
            tokio::task::yield_now().await;
        }
        assert!(world.service.declare(spec(), false).await.unwrap());
        assert_all_there(&world, &["a", "d"]).await;
        files.put("a/task.sh", &format!("echo {turns}\n"));
        world.event(EventType::UnitUpdated, "a").await;
        assert!(world.service.reconcile(&crate::world::all(), Default::default()).await.is_ok());
    }
}

#[tokio::test(start_paused = true)]
async fn a_source_that_leaves_and_comes_back_at_once_answers_commands() {
    let files = FakeFiles::default();
    files.task("a", "echo 1\n").daemon("d", "sleep 1\n");
    let mut world = World::start(&files).await;
    world.event(EventType::UnitRegistered, "d").await;
    world.target.stop_takes(Duration::from_millis(50));
    for _ in 0..8 {
        let service = world.service.clone();
        let left = tokio::spawn(async move { service.withdraw(&source()).await });
        world.until("it left", |world| world.service.core().board.source(&source()).is_none()).await;
        assert!(world.service.declare(spec(), false).await.unwrap());
        assert!(left.await.unwrap().is_ok());
        assert!(world.service.reconcile(&crate::world::all(), Default::default()).await.is_ok());
        assert_all_there(&world, &["a", "d"]).await;
    }
}
