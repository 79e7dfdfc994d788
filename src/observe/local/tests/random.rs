//! Whatever happens to a tree: hints alone lead to what a new observer sees, and what is told to have changed is
//! exactly what did (which [`Site::try_observe`] checks each time).

use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;

/// A small generator of numbers, so that a failure can be repeated by its seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }

    fn name(&mut self) -> &'static str {
        ["a", "b", "c", "d.log", "e", "f", "node_modules", "g.tmp"][usize::try_from(self.roll(8)).unwrap()]
    }

    fn path(&mut self) -> String {
        let depth = 1 + self.roll(4);
        (0..depth).map(|_| self.name()).collect::<Vec<_>>().join("/")
    }
}

/// Does one thing to the tree. What cannot be done, because something else is in the way, is passed over.
fn act(root: &Path, dice: &mut Dice, step: u64) -> String {
    let (path, other) = (root.join(dice.path()), root.join(dice.path()));
    let dir = path.parent().unwrap();
    let what = dice.roll(16);
    let _ = match what {
        0..=3 => std::fs::create_dir_all(dir).and_then(|()| std::fs::write(&path, format!("{step}"))),
        4 => std::fs::create_dir_all(&path),
        5 => std::fs::remove_file(&path),
        6 => std::fs::remove_dir_all(&path),
        7..=9 => std::fs::rename(&path, &other),
        10 => std::fs::create_dir_all(dir).and_then(|()| symlink("a", &path)),
        11 => std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)),
        12 => {
            let lines = ["*.log\n", "a\n", "b/\n!b/c\n", "", "*.tmp\n!g.tmp\n", "/c\n"];
            let text = lines[usize::try_from(dice.roll(6)).unwrap()];
            std::fs::create_dir_all(dir).and_then(|()| std::fs::write(dir.join(".gitignore"), text))
        }
        13 => {
            // A directory that is there at once with all in it, as unpacking and renaming makes it.
            let whole = root.with_file_name("whole");
            std::fs::create_dir_all(whole.join("a/b"))
                .and_then(|()| std::fs::write(whole.join("a/b/c"), "whole"))
                .and_then(|()| std::fs::rename(&whole, &path))
        }
        14 => {
            let away = root.with_file_name(format!("away{step}"));
            std::fs::rename(&path, away)
        }
        _ => std::fs::remove_dir_all(&path).and_then(|()| std::fs::write(&path, "a file now")),
    };
    let show = |path: &Path| path.strip_prefix(root).unwrap_or(path).display().to_string();
    format!("{what} {} {}", show(&path), show(&other))
}

async fn play(seed: u64, rounds: u64, looks_between: bool) {
    let mut site = Site::new();
    if seed.is_multiple_of(3) {
        site.git(&["init", "-q"]);
        site.write("a/d.log", "tracked");
        site.git(&["add", "."]);
    }
    site.observe(Ask::Hinted).await;
    let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    for round in 0..rounds {
        let mut log = Vec::new();
        for step in 0..=dice.roll(12) {
            log.push(act(&site.root, &mut dice, round * 100 + step));
            if looks_between && dice.roll(4) == 0 {
                let ask = if dice.roll(5) == 0 { Ask::Full } else { Ask::Hinted };
                site.observe(ask).await;
            }
        }
        println!("seed {seed} round {round}: {log:?}");
        site.settle().await;
    }
}

#[tokio::test]
async fn hints_lead_to_what_is_there() {
    for seed in 1..=6 {
        play(seed, 12, false).await;
    }
}

#[tokio::test]
async fn looks_in_the_middle_of_changes_lead_there_too() {
    for seed in 11..=16 {
        play(seed, 12, true).await;
    }
}

/// Changes that go on while it looks and reads, at moments that nobody chose: `KINDLING_LOOP_SEED` repeats what was
/// done, and not exactly when. `KINDLING_LOOP_ROUNDS` is the number of rounds.
async fn play_beside(seed: u64, rounds: u64) {
    let mut site = Site::new();
    site.observe(Ask::Hinted).await;
    let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    for round in 0..rounds {
        let root = site.root.clone();
        let (mut theirs, mut ours) = (Dice(dice.roll(u64::MAX) | 1), Dice(dice.roll(u64::MAX) | 1));
        let changes = std::thread::spawn(move || {
            let mut log = Vec::new();
            for step in 0..4 + theirs.roll(24) {
                log.push(act(&root, &mut theirs, round * 100 + step));
                match theirs.roll(4) {
                    0 => std::thread::park_timeout(Duration::from_micros(theirs.roll(3000))),
                    1 => std::thread::yield_now(),
                    _ => {}
                }
            }
            log
        });
        while !changes.is_finished() {
            match ours.roll(8) {
                0 => drop(site.observe(Ask::Full).await),
                1..=2 if !site.model.is_empty() => {
                    let at = usize::try_from(ours.roll(site.model.len() as u64)).unwrap();
                    let path = site.model.keys().nth(at).unwrap().to_string();
                    // It may be gone, or being written.
                    drop(site.read(&path).await);
                }
                _ => {
                    let wait = Duration::from_micros(ours.roll(2000));
                    if tokio::time::timeout(wait, site.source.hint()).await.is_ok() {
                        site.observe(Ask::Hinted).await;
                    }
                }
            }
        }
        println!("seed {seed} round {round}: {:?}", changes.join().unwrap());
        site.settle().await;
    }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_beside_looks_and_reads_lead_there_too() {
    let rounds = number("KINDLING_LOOP_ROUNDS").unwrap_or(8);
    match number("KINDLING_LOOP_SEED") {
        Some(seed) => play_beside(seed, rounds).await,
        None => {
            for seed in 31..=36 {
                play_beside(seed, rounds).await;
            }
        }
    }
}

/// Without any watch: what is trusted of a directory's times is never wrong.
#[tokio::test]
async fn full_looks_alone_lead_there() {
    for seed in 21..=26 {
        let mut site = Site::with(|options| options.max_watches = Some(0));
        site.observe(Ask::Full).await;
        let mut dice = Dice(seed);
        for round in 0..30 {
            if dice.roll(2) == 0 {
                // At rest, so that times are trusted from here on.
                site.quiet().await;
            }
            let log: Vec<_> =
                (0..=dice.roll(6)).map(|n| act(&site.root, &mut dice, round * 100 + n)).collect();
            println!("seed {seed} round {round}: {log:?}");
            site.observe(Ask::Full).await;
            assert_eq!(site.known(), site.there().await);
        }
    }
}
