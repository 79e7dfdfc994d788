//! What must be so after each restart, seen from outside: by running tasks, in /proc, and in what is listed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::World;
use super::saves::Saves;
use crate::service::client::Client;
use crate::service::until;

/// Rows of a page.
const PAGE: usize = 1000;
const DAEMON: &str = "dir/daemon";
const LONG: &str = "dir/long";

/// What was seen in earlier rounds and must never change.
#[derive(Default)]
pub struct Ledger {
    /// Runs that are over: their last state.
    over: BTreeMap<String, Value>,
    /// The hash that history says is deployed, by unit.
    deployed: BTreeMap<String, Option<String>>,
    /// The newest row of history that was taken in.
    newest: i64,
    rows: usize,
    torn: usize,
}

impl fmt::Display for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let by = |status: &str| self.over.values().filter(|run| run["status"] == status).count();
        let (done, interrupted) = (by("succeeded"), by("interrupted"));
        let (rows, torn) = (self.rows, self.torn);
        write!(
            f,
            "{done} runs succeeded, {interrupted} were interrupted; {rows} rows of history; {torn} checks with a manifest left half written"
        )
    }
}

impl Ledger {
    /// Everything, after the service is ready and nothing is saved any more.
    pub async fn check(&mut self, world: &World, client: &Client, saves: &mut Saves) {
        saves.finish();
        if saves.dice.once_in(3) {
            self.torn += 1;
            with_torn_manifest(world, client, saves).await;
            saves.finish();
        }
        settled(client).await;
        let expected: BTreeMap<String, String> =
            saves.trees.iter().flat_map(super::saves::Tree::outputs).collect();
        let units = client.items("/api/v1/units").await;
        assert_units(&units, &expected.keys().map(String::as_str).chain([DAEMON, LONG]).collect());
        assert_outputs(client, &expected).await;
        assert_daemon(world, client, Some(&saves.trees[0].daemon())).await;
        assert_eq!(world.processes(LONG).len(), 0, "the long run was ended");
        self.runs(world, client).await;
        self.history(client, &units).await;
    }

    /// No run twice, none that was asked for is lost, each that was interrupted is so once and for ever.
    async fn runs(&mut self, world: &World, client: &Client) {
        let (mut seen, mut before) = (BTreeSet::new(), String::new());
        loop {
            let page = client.items(&format!("/api/v1/runs?limit={PAGE}{before}")).await;
            let known = page.iter().all(|run| self.over.contains_key(run["id"].as_str().unwrap()));
            for run in &page {
                assert!(seen.insert(run["id"].to_string()), "listed twice: {run}");
                self.run(run);
            }
            match page.last() {
                Some(last) if !known && page.len() == PAGE => {
                    before = format!("&before={}", last["id"].as_str().unwrap());
                }
                _ => break,
            }
        }
        for id in world.asked.lock().unwrap().iter() {
            assert!(self.over.contains_key(id), "the run {id} was answered and is not recorded");
        }
        let started = std::fs::read_to_string(&world.started).unwrap_or_default();
        let ids: Vec<&str> = started.lines().collect();
        let distinct: BTreeSet<&str> = ids.iter().copied().collect();
        assert_eq!(ids.len(), distinct.len(), "a run was started twice");
        for id in &distinct {
            assert!(self.over.contains_key(*id), "the run {id} began and is not recorded");
        }
    }

    fn run(&mut self, run: &Value) {
        let (id, status) = (run["id"].as_str().unwrap(), run["status"].as_str().unwrap());
        if run["task"] == DAEMON && status == "running" {
            return;
        }
        let allowed: &[&str] = match run["task"].as_str().unwrap() {
            // A save in place can be seen when the script is empty: that one ends at once.
            DAEMON => &["interrupted", "cancelled", "succeeded"],
            LONG => &["interrupted"],
            _ => &["interrupted", "succeeded"],
        };
        assert!(allowed.contains(&status), "{run}");
        assert!(run["endedAt"].is_string(), "{run}");
        let known = self.over.entry(id.to_owned()).or_insert_with(|| run.clone());
        assert_eq!(known, run, "a run that was over changed");
    }

    /// Each row begins where the row before of its unit ended.
    async fn history(&mut self, client: &Client, units: &[Value]) {
        let mut rows = client.items(&format!("/api/v1/history?limit={PAGE}")).await;
        rows.retain(|row| row["id"].as_i64().unwrap() > self.newest);
        assert!(rows.len() < PAGE, "more rows than a page holds");
        for row in rows.iter().rev() {
            let unit = row["unit"].as_str().unwrap();
            let deployed = self.deployed.entry(unit.to_owned()).or_default();
            assert_eq!(row["fromHash"].as_str(), deployed.as_deref(), "the chain is broken: {row:#}");
            if row["outcome"] == "succeeded" {
                *deployed = row["toHash"].as_str().map(str::to_owned);
            }
            self.newest = row["id"].as_i64().unwrap();
        }
        self.rows += rows.len();
        let listed: BTreeMap<&str, &str> = units
            .iter()
            .map(|unit| (unit["id"].as_str().unwrap(), unit["deployedHash"].as_str().unwrap()))
            .collect();
        let told: BTreeMap<&str, &str> =
            self.deployed.iter().filter_map(|(unit, hash)| Some((unit.as_str(), hash.as_deref()?))).collect();
        assert_eq!(listed, told, "history and units tell the same");
    }
}

/// Waits until a pass over everything leaves nothing to be done.
async fn settled(client: &Client) {
    let mut left = Value::Null;
    let settle = until("everything is ready", async || {
        client.reconcile().await;
        left = client.post("/api/v1/wait", json!({})).await["unready"].take();
        (left == json!([])).then_some(())
    });
    settle.await;
}

/// One manifest is half written when the service looks: it says so, and the last good version stays.
async fn with_torn_manifest(world: &World, client: &Client, saves: &mut Saves) {
    let keys: Vec<String> = saves.trees[0].outputs().into_keys().collect();
    let id = if saves.dice.once_in(2) { DAEMON.to_owned() } else { saves.dice.one_of(&keys).clone() };
    let key = id.strip_prefix("dir/").unwrap();
    saves.trees[0].tear(key, &mut saves.dice);
    client.reconcile().await;
    let unit = client.unit(&id).await;
    let problem = &unit["problems"][0];
    assert_eq!(problem["file"], format!("{key}/task.yaml"), "{unit:#}");
    assert!(problem["line"].is_u64() && problem["column"].is_u64(), "{unit:#}");
    if id == DAEMON {
        assert_daemon(world, client, None).await;
    } else if unit["deployedHash"].is_string() {
        let run = client.run(&id).await;
        assert_eq!(run["status"], "succeeded", "{run:#}");
        assert_eq!(run["hash"], unit["deployedHash"], "{run:#}");
    }
}

fn assert_units(units: &[Value], expected: &BTreeSet<&str>) {
    let listed: BTreeSet<&str> = units.iter().map(|unit| unit["id"].as_str().unwrap()).collect();
    assert_eq!(listed, *expected);
    for unit in units {
        assert!(unit["deployedHash"].is_string() && unit["deployedHash"] == unit["desiredHash"], "{unit:#}");
    }
}

/// Each task does what its source's files say now.
async fn assert_outputs(client: &Client, expected: &BTreeMap<String, String>) {
    let run = async |task: &String| (task.clone(), client.run(task).await);
    for (task, run) in join_all(expected.keys().map(run)).await {
        assert_eq!(run["status"], "succeeded", "{run:#}");
        assert_eq!(run["output"], expected[&task].as_str(), "{task}: {run:#}");
    }
}

/// One process of the daemon and no other, of this version.
async fn assert_daemon(world: &World, client: &Client, version: Option<&str>) {
    let one = until("the daemon has begun", async || {
        let mut all = world.processes(DAEMON);
        assert_eq!(all.len(), 1, "processes of the daemon: {all:#?}");
        all.pop().filter(|process| process.environment.contains_key("V"))
    });
    let one = one.await;
    if let Some(version) = version {
        assert_eq!(one.environment["V"], version);
        let starts = std::fs::read_to_string(&world.daemons).unwrap();
        assert_eq!(starts.lines().last().unwrap(), format!("{} {version}", one.pid));
    }
    let rows = client.items(&format!("/api/v1/runs?task={DAEMON}&status=running")).await;
    assert_eq!(rows.len(), 1, "{rows:#?}");
}
