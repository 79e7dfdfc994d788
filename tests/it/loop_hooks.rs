//! The loop with a fake source: who is served at the path of a webhook.

use std::time::Duration;

use kindling::model::condition::ConditionType::{Ready, Stalled};
use kindling::model::event::EventType;
use kindling::model::id::{SourceName, UnitId};
use kindling::model::problem::Reason;
use kindling::model::source::{Allow, LocalOrigin, Origin, SourceSpec};
use kindling::reconcile::handle::{Reconcile, Subject};

use crate::world::{FakeFiles, World, all, manifest, unit};

fn hook(files: &FakeFiles, dir: &str, trigger: &str) {
    files
        .put(&format!("{dir}/task.yaml"), &manifest(dir, trigger))
        .put(&format!("{dir}/task.sh"), "echo 1\n");
}

/// The unit that is served at a path.
fn served(world: &World, path: &str) -> Option<String> {
    world.service.core().registry.at_hook(path).map(|version| version.unit.to_string())
}

fn condition_of(world: &World, id: &str) -> String {
    let record = world.service.core().board.unit(&UnitId::parse(id).unwrap());
    let found = record.as_ref().and_then(|record| record.conditions.get(Ready));
    found.map_or_else(String::new, |c| format!("{} {}: {}", c.status.as_str(), c.reason, c.message))
}

/// Adds a second source `t` whose files are given back.
async fn second_source(world: &World) -> FakeFiles {
    let files = world.files.copy_at("/second");
    add(world).await;
    files
}

async fn add(world: &World) {
    let origin = Origin::Local(LocalOrigin { path: "/second".into(), debounce: None });
    let spec = SourceSpec { name: SourceName::new("t").unwrap(), origin, allow: Allow::default() };
    world.service.add_source(spec).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_path_is_the_tasks_that_was_there_first() {
    let files = FakeFiles::default();
    hook(&files, "b", "webhook: /hooks/x");
    let mut world = World::start(&files).await;
    world.event(EventType::UnitRegistered, "b").await;
    // One that comes before it in the order of ids takes nothing away.
    hook(&files, "a", "webhook: /hooks/x");
    world.until("a is told", |world| world.condition("a", Ready).contains("PathTaken")).await;
    assert_eq!(
        world.condition("a", Ready),
        "False PathTaken: a/task.yaml:5:20: `trigger.webhook` asks for `/hooks/x`, where `s/b` is served: a path is \
         one task's, and the other one was there first"
    );
    assert!(world.condition("a", Stalled).contains("PathTaken") && world.live("a").is_none());
    assert_eq!(served(&world, "/hooks/x").as_deref(), Some("s/b"));
    // A save of the first changes nothing about it, not even one that is broken.
    let before = world.live("b").unwrap().hash;
    files.put("b/task.sh", "echo 2\n");
    world.until("b is newer", |world| world.live("b").is_some_and(|live| live.hash != before)).await;
    files.put("b/task.yaml", "nonsense");
    world.event(EventType::UnitFailed, "b").await;
    assert_eq!(served(&world, "/hooks/x").as_deref(), Some("s/b"));
    assert!(world.condition("a", Ready).contains("PathTaken"));
    // When it goes elsewhere the second one gets it, and the other way round.
    hook(&files, "b", "webhook: /hooks/y");
    world.until("a is served", |world| served(world, "/hooks/x").as_deref() == Some("s/a")).await;
    world.until("b is served", |world| served(world, "/hooks/y").as_deref() == Some("s/b")).await;
    world.until("a is well", |world| world.condition("a", Ready).starts_with("True")).await;
    hook(&files, "b", "webhook: /hooks/x");
    world.until("b is told", |world| world.condition("b", Ready).contains("where `s/a` is served")).await;
    assert_eq!(served(&world, "/hooks/y").as_deref(), Some("s/b"), "its last good version stays");
    files.remove("a/task.yaml").remove("a/task.sh");
    world.until("b is served again", |world| served(world, "/hooks/x").as_deref() == Some("s/b")).await;
    assert!(served(&world, "/hooks/y").is_none());
}

#[tokio::test(start_paused = true)]
async fn two_that_come_together_are_told_apart_by_their_ids() {
    let files = FakeFiles::default();
    for dir in ["c", "a", "b"] {
        hook(&files, dir, "webhook: /hooks/x");
    }
    let mut world = World::start(&files).await;
    world.event(EventType::UnitRegistered, "a").await;
    for key in ["b", "c"] {
        world
            .until("it is told", |world| world.condition(key, Ready).contains("where `s/a` is served"))
            .await;
        assert_eq!(world.record(key).unwrap().problems[0].reason, Reason::PathTaken);
    }
    // It is so after a restart as well, whatever the order.
    let world = world.again().await;
    world.until("c is told", |world| world.condition("c", Ready).contains("PathTaken")).await;
    assert_eq!(served(&world, "/hooks/x").as_deref(), Some("s/a"));
    // One that was never live lets go of it as well.
    files.put("a/task.yaml", &manifest("a", "manual: true"));
    world.until("b is served", |world| served(world, "/hooks/x").as_deref() == Some("s/b")).await;
    world
        .until("c is told of b", |world| world.condition("c", Ready).contains("where `s/b` is served"))
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_directory_that_is_renamed_keeps_its_path() {
    let files = FakeFiles::default();
    hook(&files, "z", "webhook: /hooks/x");
    files.task("other", "echo 1\n").task("another", "echo 1\n");
    let mut world = World::start(&files).await;
    world.event(EventType::UnitRegistered, "z").await;
    let registry = world.service.core().registry.clone();
    let watch = tokio::spawn(async move {
        let mut missing = 0;
        loop {
            match registry.at_hook("/hooks/x") {
                None => missing += 1,
                Some(version) if &*version.unit.key == "moved" => return missing,
                Some(_) => {}
            }
            tokio::task::yield_now().await;
        }
    });
    files.silently("z/task.yaml", None).silently("z/task.sh", None);
    hook(&files, "moved", "webhook: /hooks/x");
    world.service.reconcile(&all(), Reconcile::default()).await.unwrap();
    assert_eq!(watch.await.unwrap(), 0);
    world.until("it is well", |world| world.condition("moved", Ready).starts_with("True")).await;
    assert!(world.live("z").is_none());
}

#[tokio::test(start_paused = true)]
async fn a_path_is_one_tasks_across_sources() {
    let files = FakeFiles::default();
    hook(&files, "a", "webhook: /hooks/x");
    let mut world = World::start(&files).await;
    world.event(EventType::UnitRegistered, "a").await;
    let second = second_source(&world).await;
    hook(&second, "b", "webhook: /hooks/x");
    world.until("b is told", |world| condition_of(world, "t/b").contains("where `s/a` is served")).await;
    // Whoever waits is served as soon as the path is free, without a look at its source.
    let looks = second.looks().len();
    files.remove("a/task.yaml").remove("a/task.sh");
    world.until("b is served", |world| served(world, "/hooks/x").as_deref() == Some("t/b")).await;
    world.until("b is well", |world| condition_of(world, "t/b").starts_with("True")).await;
    assert!(second.looks().len() <= looks + 1, "{} looks", second.looks().len() - looks);
    // Now it is the first source's task that comes second.
    hook(&files, "a", "webhook: /hooks/x");
    world.until("a is told", |world| world.condition("a", Ready).contains("where `t/b` is served")).await;
    // A source that goes takes its paths along.
    let name = SourceName::new("t").unwrap();
    world.service.remove_source(&name).await.unwrap();
    world.until("a is served", |world| served(world, "/hooks/x").as_deref() == Some("s/a")).await;
    assert!(world.service.core().board.unit(&unit("a")).is_some());
}

#[tokio::test(start_paused = true)]
async fn a_version_whose_path_is_taken_meanwhile_cannot_come_back() {
    let files = FakeFiles::default();
    hook(&files, "a", "webhook: /hooks/x");
    let mut world = World::start(&files).await;
    world.event(EventType::UnitRegistered, "a").await;
    hook(&files, "a", "webhook: /hooks/y");
    world.event(EventType::UnitUpdated, "a").await;
    hook(&files, "b", "webhook: /hooks/x");
    world.event(EventType::UnitRegistered, "b").await;
    let refused = world.service.roll_back(&unit("a"), None).await.unwrap_err();
    assert_eq!(refused.message, "that version of s/a asks for /hooks/x, where s/b is served");
    assert_eq!(served(&world, "/hooks/y").as_deref(), Some("s/a"));
    // While a unit is suspended it keeps its path, whatever its files say.
    world.service.suspend(&Subject::Unit(unit("b")), "lunch".into()).await.unwrap();
    hook(&files, "b", "webhook: /hooks/z");
    hook(&files, "c", "webhook: /hooks/x");
    world.until("c is told", |world| world.condition("c", Ready).contains("where `s/b` is served")).await;
    world.service.resume(&Subject::Unit(unit("b"))).await.unwrap();
    world.until("c is served", |world| served(world, "/hooks/x").as_deref() == Some("s/c")).await;
}

#[tokio::test(start_paused = true)]
async fn a_webhook_without_its_secret_is_a_problem_and_is_not_live() {
    let files = FakeFiles::default();
    hook(&files, "a", "webhook: /hooks/a, bearer: '${ALLOWED}'");
    hook(&files, "b", "webhook: /hooks/b, webhook_secret: '${OTHER}'");
    hook(&files, "c", "webhook: /hooks/c, webhook_secret: '${OWN_SECRET}'");
    let mut world = World::start(&files).await;
    world.event(EventType::UnitRegistered, "a").await;
    world.until("b is told", |world| world.condition("b", Stalled).contains("NotAllowed")).await;
    let told = world.condition("b", Ready);
    assert!(told.ends_with("gets the line `allow: {env: [ALLOWED, OWN_SECRET, OTHER]}`"), "{told}");
    world.until("c is told", |world| world.condition("c", Ready).contains("keeps for itself")).await;
    assert!(served(&world, "/hooks/b").is_none() && served(&world, "/hooks/c").is_none());
}

const NOT_ALLOWED: &str = "webhook: /hooks/y, bearer: '${OTHER}'";

#[tokio::test(start_paused = true)]
async fn a_task_that_cannot_leave_its_path_keeps_it() {
    let files = FakeFiles::default();
    hook(&files, "b", "webhook: /hooks/x");
    let mut world = World::start(&files).await;
    world.event(EventType::UnitRegistered, "b").await;
    // It wants to go elsewhere and must not.
    hook(&files, "b", NOT_ALLOWED);
    hook(&files, "a", "webhook: /hooks/x");
    world.until("a is told", |world| world.condition("a", Ready).contains("where `s/b` is served")).await;
    world.until("b is told", |world| world.condition("b", Ready).contains("NotAllowed")).await;
    assert_eq!(served(&world, "/hooks/x").as_deref(), Some("s/b"));
    // A restart changes nothing about it.
    let world = world.again().await;
    world.until("a is told", |world| world.condition("a", Ready).contains("where `s/b` is served")).await;
    assert_eq!(served(&world, "/hooks/x").as_deref(), Some("s/b"));
    // As soon as it may leave, both are where they want to be, in one step.
    let registry = world.service.core().registry.clone();
    let watch = tokio::spawn(async move {
        let mut missing = 0;
        while registry.at_hook("/hooks/y").is_none() {
            missing += usize::from(registry.at_hook("/hooks/x").is_none());
            tokio::task::yield_now().await;
        }
        missing + usize::from(registry.at_hook("/hooks/x").is_none())
    });
    hook(&files, "b", "webhook: /hooks/y");
    world.until("a is well", |world| world.condition("a", Ready).starts_with("True")).await;
    assert_eq!(served(&world, "/hooks/x").as_deref(), Some("s/a"));
    assert_eq!(served(&world, "/hooks/y").as_deref(), Some("s/b"));
    assert_eq!(watch.await.unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_task_that_is_not_served_keeps_nobody_out() {
    let files = FakeFiles::default();
    hook(&files, "a", NOT_ALLOWED);
    hook(&files, "b", "webhook: /hooks/y");
    let mut world = World::start(&files).await;
    world.event(EventType::UnitRegistered, "b").await;
    assert_eq!(served(&world, "/hooks/y").as_deref(), Some("s/b"));
    assert!(world.condition("a", Ready).contains("NotAllowed"));
    // When its own mistake is mended the other one was there first.
    hook(&files, "a", "webhook: /hooks/y");
    world.until("a is told", |world| world.condition("a", Ready).contains("where `s/b` is served")).await;
    assert_eq!(served(&world, "/hooks/y").as_deref(), Some("s/b"));
}

#[tokio::test(start_paused = true)]
async fn a_version_that_is_held_keeps_no_path_but_its_own() {
    let files = FakeFiles::default();
    hook(&files, "a", "webhook: /hooks/x");
    let mut world = World::start(&files).await;
    world.event(EventType::UnitRegistered, "a").await;
    hook(&files, "a", "webhook: /hooks/y");
    world.event(EventType::UnitUpdated, "a").await;
    world.service.roll_back(&unit("a"), None).await.unwrap();
    hook(&files, "b", "webhook: /hooks/y");
    hook(&files, "c", "webhook: /hooks/x");
    world.event(EventType::UnitRegistered, "b").await;
    world.until("c is told", |world| world.condition("c", Ready).contains("where `s/a` is served")).await;
    let paths = || [served(&world, "/hooks/x"), served(&world, "/hooks/y")].map(Option::unwrap);
    assert_eq!(paths(), ["s/a", "s/b"]);
    // The version that is held may not come back to where another one is now.
    world.service.resume(&Subject::Unit(unit("a"))).await.unwrap();
    world.until("a is told", |world| world.condition("a", Ready).contains("where `s/b` is served")).await;
    assert_eq!(paths(), ["s/a", "s/b"]);
    assert!(world.condition("c", Ready).contains("where `s/a` is served"));
}

#[tokio::test(start_paused = true)]
async fn two_tasks_change_places_in_one_step() {
    let files = FakeFiles::default();
    hook(&files, "a", "webhook: /hooks/x");
    hook(&files, "b", "webhook: /hooks/y");
    let mut world = World::start(&files).await;
    world.event(EventType::UnitRegistered, "b").await;
    for (dir, path) in [("a", "/hooks/y"), ("b", "/hooks/x")] {
        files.silently(&format!("{dir}/task.yaml"), Some(&manifest(dir, &format!("webhook: {path}"))));
    }
    world.service.reconcile(&all(), Reconcile::default()).await.unwrap();
    world
        .until("both are well", |world| {
            ["a", "b"].iter().all(|key| world.condition(key, Ready).starts_with("True"))
        })
        .await;
    assert_eq!(served(&world, "/hooks/x").as_deref(), Some("s/b"));
    assert_eq!(served(&world, "/hooks/y").as_deref(), Some("s/a"));
}

#[tokio::test(start_paused = true)]
async fn a_call_waits_for_the_task_that_comes_from_another_source() {
    let files = FakeFiles::default();
    hook(&files, "a", "webhook: /hooks/x");
    let mut world = World::start(&files).await;
    world.event(EventType::UnitRegistered, "a").await;
    let second = second_source(&world).await;
    hook(&second, "b", "webhook: /hooks/x");
    world.until("b is told", |world| condition_of(world, "t/b").contains("where `s/a` is served")).await;
    let registry = world.service.core().registry.clone();
    let calls = tokio::spawn(async move {
        let mut missing = 0;
        loop {
            match registry.coming_to_hook("/hooks/x").await {
                None => missing += 1,
                Some(version) if version.unit.source.as_str() == "t" => return missing,
                Some(_) => {}
            }
            tokio::task::yield_now().await;
        }
    });
    files.remove("a/task.yaml").remove("a/task.sh");
    world.until("b is well", |world| condition_of(world, "t/b").starts_with("True")).await;
    assert_eq!(calls.await.unwrap(), 0);
    // Who moves may be gone before anybody knows where it comes; where nobody comes, nobody waits for long.
    second.remove("b/task.yaml").remove("b/task.sh");
    world.until("b is gone", |world| served(world, "/hooks/x").is_none()).await;
    let registry = world.service.core().registry.clone();
    let call = tokio::spawn(async move { registry.coming_to_hook("/hooks/x").await });
    tokio::time::sleep(Duration::from_millis(500)).await;
    hook(&files, "c", "webhook: /hooks/x");
    assert_eq!(call.await.unwrap().unwrap().unit.to_string(), "s/c");
    files.remove("c/task.yaml").remove("c/task.sh");
    world.until("c is gone", |world| served(world, "/hooks/x").is_none()).await;
    let (registry, began) = (&world.service.core().registry, tokio::time::Instant::now());
    assert!(registry.coming_to_hook("/hooks/x").await.is_none() && began.elapsed() <= Duration::from_secs(1));
    let began = tokio::time::Instant::now();
    assert!(registry.coming_to_hook("/hooks/x").await.is_none() && began.elapsed().is_zero());
    assert!(registry.coming_to_hook("/hooks/none").await.is_none() && began.elapsed().is_zero());
}
