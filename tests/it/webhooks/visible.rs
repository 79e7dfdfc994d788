//! A commit that is announced before the server shows it, with the real binary.
//!
//! `KINDLING_VISIBLE` is the number of rounds (2, and 20 is the whole), `KINDLING_KILL_SEED` repeats the delays. What it
//! took is printed and not judged: it depends on the machine.

use std::time::Instant;

use super::*;
use crate::kill::{Dice, number, seed};

const ROUNDS: u64 = 2;

#[tokio::test]
async fn a_commit_is_live_soon_after_it_is_visible() {
    let (seed, rounds) = (seed(), number("KINDLING_VISIBLE").unwrap_or(ROUNDS));
    println!("KINDLING_KILL_SEED={seed}");
    let mut dice = Dice::new(seed);
    let mut place = Place::new("");
    place.publish("0");
    let client = place.service.start().await;
    // Few rounds are short ones.
    let longest = if rounds < 20 { 1_000 } else { 8_700 };
    let mut took = Vec::new();
    for round in 1..=rounds {
        let mut events = client.events().await;
        place.repo.write("t/task.sh", &format!("printf {round}\n"));
        place.repo.git(&["commit", "--quiet", "--all", "-m", "x"]);
        place.repo.git(&["push", "--quiet", "origin", "HEAD:refs/heads/staged"]);
        let commit = place.repo.git(&["rev-parse", "HEAD"]);
        let sent = Delivery::new("push", &format!("d-{round}"), &place.push("main", &commit));
        assert_eq!(sent.send(&client).await.status, 202);
        let delay = Duration::from_millis(300 + dice.below(longest));
        tokio::time::sleep(delay).await;
        place.repo.bare_git(&["update-ref", "refs/heads/main", &commit]);
        let visible = Instant::now();
        events.until("unit.updated", "s/t").await;
        took.push(visible.elapsed());
        until_live(&client, &commit).await;
        println!("visible after {delay:?}, live {:?} later", took[took.len() - 1]);
    }
    println!("{rounds} rounds, {:?} at most", took.iter().max().unwrap());
}
