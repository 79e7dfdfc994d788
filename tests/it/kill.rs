//! Kills the real binary at random moments under a stream of saves and pushes, with a daemon and a long run active,
//! and finds each time after a restart what the sources say, everything once and nothing left over.
//!
//! `KINDLING_KILLS` is the number of moments, `KINDLING_KILL_SEED` repeats the choices of an earlier test. The
//! moments themselves depend on the machine, so a seed repeats what was done and not exactly when.

mod check;
mod saves;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use self::check::Ledger;
use self::saves::{Kind, Saves, Tree};
use crate::repo::Repo;
use crate::service::client::Client;
use crate::service::{Service, processes, until};

/// Moments where `KINDLING_KILLS` names no number.
const KILLS: u32 = 30;
/// Longest time between the beginning of a round and its kill.
const LATEST: u64 = 400;
/// Tasks that each source begins with.
const TASKS: u32 = 6;

/// Numbers that a seed determines (SplitMix64).
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// Numbers that this seed determines.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `most`.
    pub fn below(&mut self, most: u64) -> u64 {
        self.next() % most
    }

    /// Whether a thing happens that happens once in `times`.
    pub fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    /// One of these.
    pub fn one_of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[usize::try_from(self.below(all.len() as u64)).unwrap()]
    }

    /// Waits for less than so many milliseconds.
    pub async fn pause(&mut self, longest: u64) {
        tokio::time::sleep(Duration::from_millis(self.below(longest))).await;
    }
}

/// What a variable of the test's environment says.
pub fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

/// The seed that the environment names, else a random one.
pub fn seed() -> u64 {
    number("KINDLING_KILL_SEED").unwrap_or_else(|| {
        let mut bytes = [0; 4];
        getrandom::fill(&mut bytes).unwrap();
        u64::from(u32::from_be_bytes(bytes))
    })
}

/// The service under test with its sources.
pub struct World {
    pub service: Service,
    /// Every run of a manual task adds its id here.
    pub started: PathBuf,
    /// Every process of the daemon adds its number and version here.
    pub daemons: PathBuf,
    /// Runs that the service said it had begun.
    pub asked: Arc<Mutex<Vec<String>>>,
    dice: Dice,
}

impl World {
    fn new(seed: u64) -> (Self, Saves) {
        let repo = Repo::new();
        let config = format!(
            "sources:\n  - name: dir\n    local: {{path: src}}\n  - name: repo\n    git: {{url: \"{}\", poll_interval: 1s}}\n",
            repo.bare().display()
        );
        let service = Service::new(&config);
        let (started, daemons) = (service.root().join("started"), service.root().join("daemons"));
        let mut dir = Tree::new("dir", service.root().join("src"), None, &started);
        let mut git = Tree::new("repo", repo.work(), Some(repo), &started);
        for tree in [&mut dir, &mut git] {
            (0..TASKS).for_each(|_| tree.add(false));
        }
        dir.put("daemon", &Kind::Daemon(daemons.clone()));
        dir.put("long", &Kind::Long);
        git.publish();
        let saves = Saves { trees: [dir, git], dice: Dice(seed) };
        let dice = Dice(seed ^ 0xffff);
        (Self { service, started, daemons, asked: Arc::default(), dice }, saves)
    }

    /// Processes of a unit: what it starts has its variables.
    pub fn processes(&self, unit: &str) -> Vec<processes::Process> {
        let mut all = processes::having("STARTED", self.started.to_str().unwrap());
        all.retain(|process| process.environment.get("KINDLING_TASK").is_some_and(|task| task == unit));
        all
    }

    /// Starts the long run and waits until it runs.
    async fn start_long_run(&self, client: &Client) {
        let run = client.post("/api/v1/runs", json!({"task": "dir/long"})).await;
        self.asked.lock().unwrap().push(run["id"].as_str().unwrap().to_owned());
        until("the long run runs", async || (!self.processes("dir/long").is_empty()).then_some(())).await;
    }

    /// Asks for runs and passes until the service is gone.
    fn pester(&mut self, client: Client) -> JoinHandle<()> {
        let (asked, mut dice) = (Arc::clone(&self.asked), Dice(self.dice.next()));
        tokio::spawn(async move {
            loop {
                let Ok(units) = client.call("GET", "/api/v1/units", None).await else { return };
                let units = units.json();
                let ids = units["items"].as_array().unwrap().iter().map(|unit| unit["id"].as_str().unwrap());
                let tasks: Vec<&str> = ids.filter(|id| id.contains("/t")).collect();
                let (path, body) = match dice.once_in(4) {
                    true => ("/api/v1/reconcile", json!({})),
                    false => ("/api/v1/runs", json!({ "task": dice.one_of(&tasks) })),
                };
                match client.call("POST", path, Some(&body)).await {
                    Err(_) => return,
                    Ok(answer) if answer.status == 201 => {
                        asked.lock().unwrap().push(answer.json()["id"].as_str().unwrap().to_owned());
                    }
                    Ok(_) => {}
                }
                dice.pause(40).await;
            }
        })
    }

    /// Kills the service that runs, at a moment within [`LATEST`] from now.
    async fn kill_soon(&mut self) {
        self.dice.pause(LATEST).await;
        self.service.kill();
    }
}

/// Saves and pushes until it is told to stop.
struct Stream {
    stop: Arc<AtomicBool>,
    work: JoinHandle<Saves>,
}

impl Stream {
    fn start(mut saves: Saves) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let work = tokio::spawn(async move {
            while !told.load(Ordering::Relaxed) {
                saves.step();
                saves.dice.pause(30).await;
            }
            saves
        });
        Self { stop, work }
    }

    async fn stop(self) -> Saves {
        self.stop.store(true, Ordering::Relaxed);
        self.work.await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_any_moment_it_comes_back_to_what_its_sources_say() {
    let seed = seed();
    let kills = number("KINDLING_KILLS").map_or(KILLS, |kills| u32::try_from(kills).unwrap());
    println!("KINDLING_KILL_SEED={seed}");
    let (began, mut killed, mut back) = (Instant::now(), 0, Vec::new());
    let (mut world, mut saves) = World::new(seed);
    let mut ledger = Ledger::default();
    let mut client = world.service.start().await;
    while killed < kills {
        world.start_long_run(&client).await;
        let stream = Stream::start(saves);
        let pest = world.pester(client);
        world.kill_soon().await;
        killed += 1;
        pest.await.unwrap();
        // A start is killed too, now and then.
        while killed < kills && world.dice.once_in(4) {
            world.service.spawn();
            world.kill_soon().await;
            killed += 1;
        }
        let restarted = Instant::now();
        world.service.spawn();
        world.dice.pause(100).await;
        saves = stream.stop().await;
        client = world.service.ready().await;
        back.push(restarted.elapsed());
        println!("-- {killed} kills, {:?}", began.elapsed());
        ledger.check(&world, &client, &mut saves).await;
    }
    assert!(world.service.terminate().await.success());
    assert_eq!(processes::having("STARTED", world.started.to_str().unwrap()).len(), 0);
    back.sort();
    println!(
        "{killed} kills in {:?}; ready after {:?} (median), {:?} (longest); {ledger}",
        began.elapsed(),
        back[back.len() / 2],
        back[back.len() - 1]
    );
}
