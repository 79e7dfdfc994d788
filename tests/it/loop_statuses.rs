//! The loop with a fake repository and a fake host: what commits are told, and when.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kindling::forge::{Forge, Outcome, Post};
use kindling::model::commit_status::CommitState;
use kindling::model::condition::ConditionType;
use kindling::model::time::Timestamp;
use kindling::reconcile::core::Live;
use kindling::reconcile::handle::{Reconcile, Subject};
use kindling::reconcile::statuses::{Hosting, Speaker};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::world::{FakeFiles, World, all, source, unit};

const API: &str = "https://example.org";
const HOUR: Duration = Duration::from_hours(1);

type Rule = Box<dyn FnMut(&Post) -> Outcome + Send>;

/// A host that keeps what it is told.
#[derive(Clone)]
struct FakeForge {
    posts: Arc<Mutex<Vec<(Instant, Post)>>>,
    rule: Arc<Mutex<Rule>>,
    token: Arc<AtomicU64>,
}

impl FakeForge {
    fn new() -> Self {
        let rule: Rule = Box::new(|_| Outcome::Posted);
        Self { posts: Arc::default(), rule: Arc::new(Mutex::new(rule)), token: Arc::default() }
    }

    fn rule(&self, rule: impl FnMut(&Post) -> Outcome + Send + 'static) {
        *self.rule.lock().unwrap() = Box::new(rule);
    }

    /// What commits were told, as `COMMIT STATE SUMMARY`.
    fn told(&self) -> Vec<String> {
        let posts = self.posts.lock().unwrap();
        let line = |(_, post): &(Instant, Post)| {
            let summary = post.description.split(';').next().unwrap_or_default();
            format!("{} {} {summary}", post.revision, post.state.as_str())
        };
        posts.iter().map(line).collect()
    }

    /// The same without what is `pending`: whether that was said is a matter of moments.
    fn ends(&self) -> Vec<String> {
        self.told().into_iter().filter(|line| !line.contains(" pending ")).collect()
    }

    fn moments(&self) -> Vec<Instant> {
        self.posts.lock().unwrap().iter().map(|(at, _)| *at).collect()
    }
}

impl Forge for FakeForge {
    fn api(&self) -> &str {
        API
    }

    fn token(&self) -> u64 {
        self.token.load(Ordering::SeqCst)
    }

    async fn post(&self, post: &Post) -> Outcome {
        self.posts.lock().unwrap().push((Instant::now(), post.clone()));
        (self.rule.lock().unwrap())(post)
    }
}

/// A repository with two tasks at the commit `c1`, and a host that is told of it.
async fn hosted(forge: &FakeForge) -> (World, FakeFiles) {
    let files = FakeFiles::default();
    files.task("a", "echo 1\n").task("b", "echo 1\n").commit("c1");
    let world = World::start_git(&files, HOUR).await;
    speak(&world, forge);
    (world, files)
}

fn speak(world: &World, forge: &FakeForge) -> CancellationToken {
    let core = world.service.core();
    core.statuses.set_hosting(Some(Hosting { api: API.into(), link: None }));
    let parts = (core.store.clone(), core.board.clone(), core.metrics().clone(), core.clock.clone());
    let speaker = Speaker::new(parts, core.statuses.clone(), Live::from(Some(forge.clone())));
    let closing = core.closing.child_token();
    tokio::spawn(speaker.run(closing.clone()));
    closing
}

async fn pass(world: &World) -> Result<(), String> {
    let done = world.service.reconcile(&all(), Reconcile::default()).await;
    done.map(drop).map_err(|refusal| refusal.to_string())
}

async fn ends(world: &World, forge: &FakeForge, expected: &[&str]) {
    world
        .until(&format!("commits are told {expected:?}, not {:?}", forge.ends()), |_| {
            forge.ends() == expected
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn every_end_of_a_commit_is_told_once() {
    let forge = FakeForge::new();
    let (world, files) = hosted(&forge).await;
    pass(&world).await.unwrap();
    let mut told = vec!["c1 success 2 units live"];
    ends(&world, &forge, &told).await;
    // A commit without a change in any unit is live as well.
    files.commit("c2");
    pass(&world).await.unwrap();
    told.push("c2 success 2 units live");
    ends(&world, &forge, &told).await;
    files.put("b/task.yaml", "name: [").commit("c3");
    pass(&world).await.unwrap();
    told.push("c3 failure 1 of 2 units live, 1 broken (b)");
    ends(&world, &forge, &told).await;
    files.clear().commit("c4");
    assert!(pass(&world).await.unwrap_err().contains("would remove"));
    told.push("c4 failure not deployed: a person has to agree (RemovalGuard)");
    ends(&world, &forge, &told).await;
    files.task("a", "echo 5\n").task("b", "echo 5\n").commit("c5").sink_fails(true);
    pass(&world).await.unwrap_err();
    told.push("c5 error kindling could not deploy it (StoreUnwritable)");
    ends(&world, &forge, &told).await;
    files.sink_fails(false);
    pass(&world).await.unwrap();
    told.push("c5 success 2 units live");
    ends(&world, &forge, &told).await;
    // What is suspended runs on as it was; the next commit is not what runs.
    let a = Subject::Unit(unit("a"));
    world.service.suspend(&a, "freeze".into()).await.unwrap();
    files.task("a", "echo 6\n").commit("c6");
    pass(&world).await.unwrap();
    told.push("c6 failure 1 of 2 units live, 1 suspended (a)");
    ends(&world, &forge, &told).await;
    world.service.resume(&a).await.unwrap();
    told.push("c6 success 2 units live");
    ends(&world, &forge, &told).await;
    pass(&world).await.unwrap();
    let world = world.again().await;
    speak(&world, &forge);
    pass(&world).await.unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    ends(&world, &forge, &told).await;
    let pending = forge.told().into_iter().filter(|line| line.contains(" pending ")).count();
    assert!(pending <= 5, "{:?}", forge.told());
}

#[tokio::test(start_paused = true)]
async fn a_limit_of_the_host_holds_for_every_commit() {
    let forge = FakeForge::new();
    let (wait, mut left) = (Duration::from_secs(90), 1);
    forge.rule(move |_| match std::mem::take(&mut left) {
        0 => Outcome::Posted,
        _ => Outcome::Wait { wait, why: "slow down".into() },
    });
    let (world, files) = hosted(&forge).await;
    pass(&world).await.unwrap();
    world.until("it is told", |_| !forge.told().is_empty()).await;
    files.task("a", "echo 2\n").commit("c2");
    pass(&world).await.unwrap();
    ends(&world, &forge, &["c1 success 2 units live", "c2 success 2 units live"]).await;
    let moments = forge.moments();
    // Two calls may have been under way when the first one was told to wait.
    let late = moments.iter().filter(|at| **at - moments[0] >= wait).count();
    assert!(late >= moments.len() - 2 && late >= 1, "{moments:?}");
}

#[tokio::test(start_paused = true)]
async fn what_is_not_heard_is_said_with_growing_waits_and_given_up_after_a_day() {
    let forge = FakeForge::new();
    forge.rule(|_| Outcome::Away("nobody answers".into()));
    let files = FakeFiles::default();
    files.task("a", "echo 1\n").commit("c1");
    let world = World::start_git(&files, HOUR).await;
    let speaking = speak(&world, &forge);
    pass(&world).await.unwrap();
    world.until("it was tried three times", |_| forge.told().len() >= 3).await;
    speaking.cancel();
    let moments = forge.moments();
    // The third attempt comes after two waits, each a twentieth of its ceiling at least.
    assert!(moments[2] - moments[0] >= Duration::from_millis(112), "{moments:?}");
    let shown = world.service.core().board.told(&source());
    assert!(shown.last.is_none() && shown.wrong.unwrap().1.contains("nobody answers"));
    // The same a day later: the outbox is older than what is still said.
    let store = &world.service.core().store;
    let row = store.due_tellings(API, Timestamp(i64::MAX), 9).await.unwrap().remove(0);
    assert_eq!(row.verdict.state, CommitState::Success);
    let later = row.changed_at.plus(Duration::from_hours(25));
    let core = world.service.core();
    let clock = kindling::support::clock::Clock::set_to(later.0);
    let parts = (store.clone(), core.board.clone(), core.metrics().clone(), clock);
    let other = Speaker::new(parts, core.statuses.clone(), Live::from(Some(FakeForge::new())));
    tokio::spawn(other.run(core.closing.clone()));
    world
        .until("it is given up", |world| {
            let told = world.service.core().board.told(&source());
            told.wrong.is_some_and(|(_, why)| why == "given up after 24 h: nobody answers")
        })
        .await;
}

/// The configuration was edited; commits are told at the same host, with another link.
fn edit(world: &World, link: &str) {
    world.service.core().statuses.set_hosting(Some(Hosting { api: API.into(), link: Some(link.into()) }));
}

#[tokio::test(start_paused = true)]
async fn an_edit_opens_no_gate_and_takes_back_no_refusal_but_another_token_does() {
    let forge = FakeForge::new();
    forge.rule(|_| Outcome::Refused("it answered 403".into()));
    let (world, files) = hosted(&forge).await;
    pass(&world).await.unwrap();
    ends(&world, &forge, &["c1 success 2 units live"]).await;
    edit(&world, "https://one.example/");
    tokio::time::sleep(Duration::from_secs(30)).await;
    ends(&world, &forge, &["c1 success 2 units live"]).await;
    let wait = Duration::from_mins(3);
    forge.rule(move |_| Outcome::Wait { wait, why: "slow down".into() });
    files.task("a", "echo 2\n").commit("c2");
    pass(&world).await.unwrap();
    world
        .until("the host says that it is too much", |_| {
            forge.told().iter().any(|line| line.starts_with("c2"))
        })
        .await;
    forge.rule(|_| Outcome::Posted);
    tokio::time::sleep(Duration::from_secs(5)).await;
    let before = forge.told();
    files.task("a", "echo 3\n").commit("c3");
    pass(&world).await.unwrap();
    // Who looks sees why nothing is said of the newest commit.
    world
        .until("it says that it waits", |world| {
            let wrong = world.service.core().board.told(&source()).wrong;
            wrong.is_some_and(|(commit, why)| {
                commit.as_str() == "c3" && why == "it waits for the host: slow down"
            })
        })
        .await;
    edit(&world, "https://two.example/");
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(forge.told(), before);
    forge.token.store(1, Ordering::SeqCst);
    edit(&world, "https://two.example/");
    world.until("both are said", |_| forge.told().len() >= before.len() + 2).await;
    let said = forge.told().split_off(before.len());
    for line in ["c1 success 2 units live", "c3 success 2 units live"] {
        assert!(said.iter().any(|said| said == line), "{said:?}");
    }
    world.until("nothing is wrong", |world| world.service.core().board.told(&source()).wrong.is_none()).await;
}

#[tokio::test(start_paused = true)]
async fn a_repository_that_cannot_be_reached_takes_back_nothing_that_was_said_of_a_live_commit() {
    let forge = FakeForge::new();
    let files = FakeFiles::default();
    let url = "https://example.org/other.git";
    let other = files.copy_at(url);
    other.task("t", "echo 1\n").commit(&"1".repeat(40));
    let set = format!(
        "apiVersion: kindling/v1\nkind: TaskSet\nspec:\n  entries:\n    own: {{ref: {{path: own}}}}\n    \
         t: {{ref: {{url: '{url}', path: t}}}}\n"
    );
    files.task("own", "echo own\n").put("taskset.yaml", &set).commit("c1");
    let world = World::start_git(&files, HOUR).await;
    speak(&world, &forge);
    let told = ["c1 success 2 units live"];
    ends(&world, &forge, &told).await;
    other.fail(Some("Unreachable"));
    pass(&world).await.unwrap();
    let is_away = |world: &World| {
        let record = world.service.core().board.source(&source()).unwrap();
        record
            .conditions
            .get(ConditionType::Ready)
            .is_some_and(|ready| ready.reason == "RepositoryUnavailable")
    };
    world.until("it is away", is_away).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    ends(&world, &forge, &told).await;
    // A new commit may need what cannot be had.
    files.task("own", "echo other\n").commit("c2");
    pass(&world).await.unwrap();
    let away = "c2 error kindling could not deploy it (RepositoryUnavailable)";
    ends(&world, &forge, &[told[0], away]).await;
    other.fail(None);
    pass(&world).await.unwrap();
    ends(&world, &forge, &[told[0], away, "c2 success 2 units live"]).await;
}

#[tokio::test(start_paused = true)]
async fn what_a_host_said_holds_after_a_restart() {
    let forge = FakeForge::new();
    let wait = Duration::from_secs(90);
    forge.rule(move |post| match post.revision.as_str() {
        "c1" => Outcome::Refused("it answered 403".into()),
        "c2" => Outcome::PostedLast { wait, why: "its limit is used up".into() },
        _ => Outcome::Posted,
    });
    let (world, files) = hosted(&forge).await;
    pass(&world).await.unwrap();
    ends(&world, &forge, &["c1 success 2 units live"]).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    files.task("a", "echo 2\n").commit("c2");
    pass(&world).await.unwrap();
    world.until("it is said", |_| forge.told().iter().any(|line| line.starts_with("c2"))).await;
    let shut = forge.moments()[forge.told().iter().position(|line| line.starts_with("c2")).unwrap()];
    let world = world.again().await;
    speak(&world, &forge);
    files.task("a", "echo 3\n").commit("c3");
    pass(&world).await.unwrap();
    let is_told = |line: &str| forge.told().iter().any(|told| told == line);
    world.until("it is said later", |_| is_told("c3 success 2 units live")).await;
    let late = forge
        .told()
        .iter()
        .zip(forge.moments())
        .all(|(line, at)| !line.starts_with("c3") || at >= shut + wait - Duration::from_millis(10));
    assert!(late, "{:?} {:?} {shut:?}", forge.told(), forge.moments());
    // What was refused is not said again before there is another token.
    let refused = || forge.told().iter().filter(|line| line.starts_with("c1 success")).count();
    assert_eq!(refused(), 1, "{:?}", forge.told());
    forge.token.store(1, Ordering::SeqCst);
    edit(&world, "https://two.example/");
    world.until("it is said again", |_| refused() == 2).await;
}

#[tokio::test(start_paused = true)]
async fn a_commit_whose_last_step_ends_after_a_suspension_is_live() {
    let forge = FakeForge::new();
    let files = FakeFiles::default();
    files.daemon("d", "one\n").commit("c1");
    let world = World::start_git(&files, HOUR).await;
    speak(&world, &forge);
    pass(&world).await.unwrap();
    ends(&world, &forge, &["c1 success 1 unit live"]).await;
    world.target.stop_takes(Duration::from_secs(5));
    files.daemon("d", "two\n").commit("c2");
    let service = world.service.clone();
    let passing = tokio::spawn(async move { service.reconcile(&all(), Reconcile::default()).await });
    world.until("the step is under way", |_| forge.told().iter().any(|line| line.starts_with("c2"))).await;
    world.service.suspend(&Subject::Source(source()), "freeze".into()).await.unwrap();
    passing.await.unwrap().unwrap();
    ends(&world, &forge, &["c1 success 1 unit live", "c2 success 1 unit live"]).await;
    let record = world.service.core().board.source(&source()).unwrap();
    assert!(record.revisions.deployed.as_ref().is_some_and(|commit| commit.as_str() == "c2"));
}

#[tokio::test(start_paused = true)]
async fn each_edit_of_the_host_is_followed_at_once() {
    let forge = FakeForge::new();
    let (world, files) = hosted(&forge).await;
    pass(&world).await.unwrap();
    ends(&world, &forge, &["c1 success 2 units live"]).await;
    // It needs no look at the source.
    files.hang(true);
    let statuses = &world.service.core().statuses;
    for api in ["https://example.org/1", "https://example.org/2", "https://example.org/3"] {
        statuses.set_hosting(Some(Hosting { api: api.into(), link: None }));
        world.service.hosted_elsewhere();
        let due = async {
            while world.store.next_telling(api).await.unwrap().is_none() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(crate::world::BOUND, due).await.expect("it is to be told there");
    }
}
