//! The store on a real disk: kills, full disks, many callers.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, BufReader};

use kindling::model::event::{Event, EventType};
use kindling::model::hash::ContentHash;
use kindling::model::id::{SourceName, UnitId};
use kindling::model::source::{Allow, Declared, LocalOrigin, Origin, SourceSpec};
use kindling::model::step::Generation;
use kindling::model::time::Timestamp;
use kindling::record::{Blobs, Recording, SourceRecord, Store, StoreError, UnitRecord};

fn source() -> SourceRecord {
    let name = SourceName::new("local").unwrap();
    let origin = Origin::Local(LocalOrigin { path: "/srv/tasks".into(), debounce: None });
    SourceRecord::new(SourceSpec { name, origin, allow: Allow::default() }, Declared::File)
}

/// Two units, always at the same generation, and one event for each generation.
fn recording(generation: u64, text: &str) -> Recording {
    let source = SourceName::new("local").unwrap();
    let mut all = Recording::new(Timestamp(1));
    for key in ["a", "b"] {
        let mut unit = UnitRecord::new(UnitId::new(source.clone(), key), text, Timestamp(1));
        unit.generation = Generation(generation);
        all.units.push(unit);
    }
    all.events.push(Event::new(Timestamp(generation as i64), EventType::SourceChanged, source, text));
    all
}

/// The generation that both units have and that is the number of events.
async fn generation(store: &Store) -> u64 {
    let units = store.units().await.unwrap();
    let generations: HashSet<_> = units.iter().map(|unit| unit.generation.0).collect();
    assert!(generations.len() <= 1, "half of a recording: {generations:?}");
    generations.into_iter().next().unwrap_or(0)
}

async fn open(path: &Path) -> Store {
    let store = Store::open(path).await.unwrap();
    store.put_source(&source()).await.unwrap();
    store
}

#[tokio::test]
async fn a_store_that_was_dropped_has_what_was_recorded() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.db");
    for round in 1..=3 {
        let store = open(&path).await;
        assert_eq!(generation(&store).await, round - 1);
        store.commit(recording(round, "x")).await.unwrap();
    }
}

const KILLED: &str = "KINDLING_TEST_STORE";

/// Not a test of its own: the process that [`a_kill_loses_nothing_that_was_answered`] kills.
#[tokio::test]
#[ignore = "started by another test"]
async fn records_until_it_is_killed() {
    let Some(path) = std::env::var_os(KILLED) else { return };
    let store = open(Path::new(&path)).await;
    let first = generation(&store).await + 1;
    for generation in first..first + 1_000_000 {
        store.commit(recording(generation, &"x".repeat(5000))).await.unwrap();
        println!("\nrecorded {generation}");
    }
}

#[tokio::test]
async fn a_kill_loses_nothing_that_was_answered() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.db");
    let mut answered: u64 = 0;
    for wanted in [1, 20, 150] {
        let mut child = tokio::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "store::records_until_it_is_killed", "--ignored", "--nocapture"])
            .env(KILLED, &path)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut seen = 0;
        let reading = async {
            while let Some(line) = lines.next_line().await.unwrap() {
                let Some(number) = line.strip_prefix("recorded ") else { continue };
                (answered, seen) = (number.parse().unwrap(), seen + 1);
                if seen == wanted {
                    child.start_kill().unwrap();
                }
            }
            child.wait().await.unwrap();
        };
        tokio::time::timeout(Duration::from_secs(60), reading).await.unwrap();
        assert!(seen >= wanted, "{seen} of {wanted}");
        let store = Store::open(&path).await.unwrap();
        let there = generation(&store).await;
        // The last answer may have been lost in the pipe, so one more may be there.
        assert!(there == answered || there == answered + 1, "{there} after {answered}");
        assert_eq!(store.events_since(Timestamp(0), u32::MAX).await.unwrap().len() as u64, there);
        store.check().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn readers_and_writers_at_the_same_time() {
    const WRITERS: u64 = 4;
    const EACH: u64 = 60;
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir.path().join("store.db")).await;
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let store = store.clone();
            tokio::spawn(async move {
                for n in 0..EACH {
                    store.commit(recording(writer * EACH + n, "x")).await.unwrap();
                }
            })
        })
        .collect();
    let readers: Vec<_> = (0..6)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move {
                let mut events = 0;
                while (events as u64) < WRITERS * EACH {
                    generation(&store).await;
                    let now = store.events_since(Timestamp(0), u32::MAX).await.unwrap().len();
                    assert!(now >= events, "what was recorded stays");
                    events = now;
                }
            })
        })
        .collect();
    let all = async {
        for task in writers.into_iter().chain(readers) {
            task.await.unwrap();
        }
    };
    tokio::time::timeout(Duration::from_secs(60), all).await.expect("all end");
}

/// A small file system in memory, taken away again when it is dropped.
struct Tmpfs(PathBuf);

impl Tmpfs {
    fn mount(at: &Path, size: &str) -> Option<Self> {
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(at)
            .stderr(Stdio::null())
            .status();
        mounted.is_ok_and(|status| status.success()).then(|| Self(at.to_owned()))
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[tokio::test]
async fn a_disk_that_is_really_full() {
    let dir = tempfile::tempdir().unwrap();
    let Some(disk) = Tmpfs::mount(dir.path(), "2m") else {
        println!("passed over: no file system can be mounted here");
        return;
    };
    let store = open(&disk.0.join("store.db")).await;
    store.commit(recording(1, "x")).await.unwrap();
    let ballast = disk.0.join("ballast");
    std::fs::write(&ballast, vec![0; 1 << 20]).unwrap();

    let text = "x".repeat(20_000);
    let mut last = 1;
    let error = loop {
        match store.commit(recording(last + 1, &text)).await {
            Ok(()) => last += 1,
            Err(error) => break error,
        }
        assert!(last < 1000, "the disk holds 2 MiB");
    };
    assert!(matches!(&error, StoreError::Full { path, .. } if *path == disk.0.join("store.db")), "{error:?}");
    assert_eq!(generation(&store).await, last);
    assert!(matches!(store.commit(recording(last + 1, &text)).await, Err(StoreError::Full { .. })));

    let blobs = Blobs::new(disk.0.join("blobs"));
    let hash = ContentHash::new([7; 32]);
    let error = blobs.put(&hash, &vec![0; 2 << 20]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
    assert!(!blobs.contains(&hash));

    std::fs::remove_file(&ballast).unwrap();
    store.commit(recording(last + 1, &text)).await.unwrap();
    assert_eq!(generation(&store).await, last + 1);
    store.check().await.unwrap();
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_disk_that_is_full_from_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let Some(disk) = Tmpfs::mount(dir.path(), "64k") else {
        println!("passed over: no file system can be mounted here");
        return;
    };
    let ballast = disk.0.join("ballast");
    let _ = std::fs::write(&ballast, vec![0; 64 << 10]);
    let path = disk.0.join("store.db");
    let error = Store::open(&path).await.unwrap_err();
    assert!(matches!(&error, StoreError::Full { path: named, .. } if *named == path), "{error:?}");
}
