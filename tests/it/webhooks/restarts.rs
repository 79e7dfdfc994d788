//! Deliveries of which every third is a duplicate, while the service is killed and started again.
//!
//! `KINDLING_DELIVERIES` is their number (1,000 without it), `KINDLING_KILL_SEED` repeats the choices of an earlier test.

use std::fmt::Write as _;

use super::floods::try_send;
use super::*;
use crate::kill::{Dice, number, seed};
use crate::repo;

/// Deliveries where `KINDLING_DELIVERIES` names no number.
const DELIVERIES: u64 = 1000;
const KILLS: u64 = 5;

/// Commits of which each adds a task of its own to those before, beside the branch; gives back their ids.
fn stage(place: &Place, many: u64) -> Vec<String> {
    let mut stream = String::new();
    for n in 1..=many {
        let (task, script) = (manifest(&format!("p{n}"), "manual: true"), format!("printf {n}\n"));
        let _ = write!(
            stream,
            "commit refs/staged\nmark :{n}\ncommitter T <t@example.org> {n} +0000\ndata 1\nx\n"
        );
        for (name, text) in [("task.yaml", &task), ("task.sh", &script)] {
            let _ = write!(stream, "M 100644 inline p{n}/{name}\ndata {}\n{text}\n", text.len());
        }
    }
    repo::run(&place.repo.bare(), &["fast-import", "--quiet"], stream.as_bytes());
    let all = place.repo.bare_git(&["rev-list", "--reverse", "refs/staged"]);
    all.lines().map(str::to_owned).collect()
}

/// The service, its provider, and who kills it.
struct Sending {
    place: Place,
    client: Client,
    dice: Dice,
    commits: Vec<String>,
    /// The newest push, from 1.
    pushed: u64,
    duplicates: u64,
    resent: u64,
    killed: u64,
}

impl Sending {
    fn commit(&self, push: u64) -> String {
        self.commits[usize::try_from(push - 1).unwrap()].clone()
    }

    /// The next push, or one that there was again.
    fn next(&mut self, is_duplicate: bool) -> Delivery {
        let push = if is_duplicate {
            self.duplicates += 1;
            1 + self.dice.below(self.pushed)
        } else {
            self.pushed += 1;
            self.place.repo.bare_git(&["update-ref", "refs/heads/main", &self.commit(self.pushed)]);
            self.pushed
        };
        Delivery::new("push", &format!("d-{push}"), &self.place.push("main", &self.commit(push)))
    }

    /// Kills the service while it answers, or between the answer and the pass, and starts it again.
    async fn send_and_kill(&mut self, sent: &Delivery) {
        let answer = if self.dice.once_in(2) {
            let (client, delivery) = (self.client.clone(), sent.clone());
            let sending = tokio::spawn(async move { try_send(&client, &delivery).await });
            self.dice.pause(4).await;
            self.place.service.kill();
            sending.await.unwrap()
        } else {
            let answer = try_send(&self.client, sent).await;
            self.place.service.kill();
            answer
        };
        self.killed += 1;
        self.client = self.place.service.start().await;
        if answer.is_none() {
            // The provider's list shows it as failed, and somebody sends it again.
            self.resent += 1;
            self.send(sent).await;
        }
        self.until_applied().await;
    }

    async fn send(&self, sent: &Delivery) {
        let answer = try_send(&self.client, sent).await;
        assert!(answer.is_some_and(|status| status < 300), "{answer:?}");
    }

    /// Waits until the newest push is deployed; then all before it are.
    async fn until_applied(&self) {
        let (pushed, commit) = (self.pushed, self.commit(self.pushed));
        let what = format!("has applied push {pushed}");
        self.client.source_until("s", &what, |s| s["revision"]["deployed"] == *commit).await;
        let units = self.client.items("/api/v1/units").await;
        for n in 1..=pushed {
            let id = format!("s/p{n}");
            let unit = units.iter().find(|unit| unit["id"] == *id).unwrap_or_else(|| panic!("{id} is lost"));
            assert!(condition(unit, "Ready").starts_with("True Deployed"), "{unit}");
        }
        assert!(!self.place.service.log().contains("panicked"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_distinct_push_is_applied_although_the_service_is_killed() {
    let (seed, deliveries) = (seed(), number("KINDLING_DELIVERIES").unwrap_or(DELIVERIES));
    println!("KINDLING_KILL_SEED={seed}");
    let mut place = Place::new("");
    let commits = stage(&place, deliveries - deliveries / 3);
    place.repo.bare_git(&["update-ref", "refs/heads/main", &commits[0]]);
    let client = place.service.start().await;
    let (pushed, duplicates, resent, killed) = (0, 0, 0, 0);
    let mut all =
        Sending { place, client, dice: Dice::new(seed), commits, pushed, duplicates, resent, killed };
    let part = deliveries / KILLS;
    let mut kill_at = all.dice.below(part);
    for number in 0..deliveries {
        let sent = all.next(number % 3 == 2);
        if number == kill_at {
            all.send_and_kill(&sent).await;
            kill_at = all.killed * part + all.dice.below(part);
        } else {
            all.send(&sent).await;
        }
    }
    all.until_applied().await;
    assert_eq!((all.killed, all.pushed), (KILLS, all.commits.len() as u64));
    let rows = all.client.items("/api/v1/deliveries?limit=1000").await;
    let again: u64 = rows.iter().map(|row| row["duplicates"].as_u64().unwrap()).sum();
    let Sending { duplicates, resent, pushed, .. } = all;
    assert_eq!(rows.len() as u64, pushed, "each push once");
    assert!((duplicates..=duplicates + resent).contains(&again), "{again} of {duplicates} and {resent}");
    println!(
        "{deliveries} deliveries, {duplicates} duplicates, {KILLS} kills, {resent} sent again: {pushed} applied"
    );
}
