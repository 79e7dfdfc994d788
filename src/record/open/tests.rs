//! Opening: what is copied, what is refused and left alone.

use std::os::unix::fs::PermissionsExt as _;

use sqlx::migrate::{Migration, MigrationType};
use sqlx::{AssertSqlSafe, SqlSafeStr as _};

use super::super::samples::*;
use super::*;

/// The migrations that are embedded, and made-up ones up to the number `last`.
fn later(last: i64) -> Migrator {
    let mut all: Vec<Migration> = MIGRATOR.iter().cloned().collect();
    let first = all.iter().map(|m| m.version).max().unwrap() + 1;
    for number in first..=last {
        let sql = AssertSqlSafe(format!("CREATE TABLE later_{number} (x INTEGER) STRICT")).into_sql_str();
        all.push(Migration::new(number, "later".into(), MigrationType::Simple, sql, false));
    }
    Migrator::with_migrations(all)
}

async fn filled(path: &Path) {
    let store = Store::open(path).await.unwrap();
    store.put_source(&local()).await.unwrap();
    store.commit(recording(0..3, 1, 10)).await.unwrap();
    store.close().await.unwrap();
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn the_database_is_for_its_owner_only() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.db");
    let store = Store::open(&path).await.unwrap();
    store.put_source(&local()).await.unwrap();
    store.sources().await.unwrap();
    assert_eq!(names(dir.path()), ["store.db", "store.db-shm", "store.db-wal"]);
    for file in names(dir.path()) {
        assert_eq!(mode(&dir.path().join(&file)), 0o600, "{file}");
    }
    store.close().await.unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
    Store::open(&path).await.unwrap().close().await.unwrap();
    assert_eq!(mode(&path), 0o600);
}

#[tokio::test]
async fn it_is_copied_before_it_is_migrated_and_three_copies_stay() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.db");
    let now = MIGRATOR.iter().map(|m| m.version).max().unwrap();
    filled(&path).await;
    assert_eq!(names(dir.path()), ["store.db"], "a new database is not copied");
    fs::write(dir.path().join("store.db.before-part"), "left by a crash").unwrap();
    fs::write(dir.path().join("store.db.before-x"), "not ours").unwrap();

    for last in now + 1..=now + 5 {
        let store = Store::open_with(&path, &later(last)).await.unwrap();
        assert_eq!(store.units().await.unwrap().len(), 3);
        store.close().await.unwrap();
        let copy = dir.path().join(format!("store.db.before-{last}"));
        assert_eq!(mode(&copy), 0o600);
        let store =
            Store::open_with(&copy, &later(last - 1)).await.expect("the copy is of the version before");
        assert_eq!(store.units().await.unwrap().len(), 3);
        store.check().await.unwrap();
        store.close().await.unwrap();
    }
    let kept = (now + 3..=now + 5).map(|n| format!("store.db.before-{n}"));
    let mut expected: Vec<_> =
        std::iter::once("store.db".into()).chain(kept).chain(["store.db.before-x".into()]).collect();
    expected.sort();
    assert_eq!(names(dir.path()), expected);
}

#[tokio::test]
async fn a_newer_database_is_named_and_left() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.db");
    let now = MIGRATOR.iter().map(|m| m.version).max().unwrap();
    Store::open_with(&path, &later(now + 2)).await.unwrap().close().await.unwrap();
    let before = fs::read(&path).unwrap();
    let error = Store::open(&path).await.unwrap_err();
    assert!(matches!(&error, StoreError::Newer { found, known, .. } if (*found, *known) == (now + 1, now)));
    assert!(error.to_string().contains("store.db"), "{error}");
    assert_eq!((fs::read(&path).unwrap(), names(dir.path())), (before, vec!["store.db".to_owned()]));
}

/// A database whose newest migration stands only in its log, as after a kill.
#[tokio::test]
async fn a_newer_database_with_a_log_is_left_too() {
    let dir = tempfile::tempdir().unwrap();
    let (path, copy) = (dir.path().join("store.db"), dir.path().join("copy.db"));
    filled(&path).await;
    let now = MIGRATOR.iter().map(|m| m.version).max().unwrap();
    let store = Store::open_with(&path, &later(now + 1)).await.unwrap();
    for suffix in ["", "-wal"] {
        fs::copy(beside(&path, suffix), beside(&copy, suffix)).unwrap();
    }
    store.close().await.unwrap();
    let read = || (fs::read(&copy).unwrap(), fs::read(beside(&copy, "-wal")).unwrap());
    let before = read();
    let error = Store::open(&copy).await.unwrap_err();
    assert!(matches!(&error, StoreError::Newer { found, .. } if *found == now + 1), "{error:?}");
    assert!(read() == before);
    let store = Store::open_with(&copy, &later(now + 1)).await.unwrap();
    assert_eq!(store.units().await.unwrap().len(), 3);
}

#[tokio::test]
async fn what_is_no_database_of_kindling_is_named_and_left() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.db");
    filled(&path).await;
    let good = fs::read(&path).unwrap();
    let mut torn = good.clone();
    torn[..4096].fill(0x5a);
    let mut bad_header = good.clone();
    bad_header[16..18].fill(0xff);
    let foreign = {
        let other = dir.path().join("foreign.db");
        let mut conn = quiet(&other).create_if_missing(true).connect().await.unwrap();
        sqlx::query("CREATE TABLE accounts (x)").execute(&mut conn).await.unwrap();
        conn.close().await.unwrap();
        let bytes = fs::read(&other).unwrap();
        fs::remove_file(other).unwrap();
        bytes
    };
    for (what, bytes) in [
        ("text", b"these are not the bytes you are looking for".repeat(200)),
        ("short text", b"not a database\n".to_vec()),
        ("cut", good[..good.len() / 2].to_vec()),
        ("torn", torn),
        ("header", bad_header),
        ("foreign", foreign),
    ] {
        fs::write(&path, &bytes).unwrap();
        let error = Store::open(&path).await.expect_err(what);
        assert!(matches!(&error, StoreError::Corrupt { .. }), "{what}: {error:?}");
        assert!(error.to_string().contains("store.db"), "{error}");
        assert!(fs::read(&path).unwrap() == bytes, "{what}");
        assert_eq!(names(dir.path()), ["store.db"], "{what}");
    }
}

#[tokio::test]
async fn damage_within_is_found_on_demand() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.db");
    filled(&path).await;
    let mut bytes = fs::read(&path).unwrap();
    let row = bytes.windows(10).position(|text| text == b"unit-00001").unwrap();
    let page = row / 4096 * 4096;
    bytes[page..page + 4096].fill(0x5a);
    fs::write(&path, &bytes).unwrap();
    let store = Store::open(&path).await.unwrap();
    let error = store.check().await.unwrap_err();
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error:?}");
}

#[tokio::test]
async fn an_empty_file_becomes_a_database() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.db");
    fs::write(&path, "").unwrap();
    filled(&path).await;
    assert_eq!(Store::open(&path).await.unwrap().units().await.unwrap().len(), 3);
}

#[tokio::test]
async fn what_cannot_be_opened_is_named() {
    let dir = tempfile::tempdir().unwrap();
    for path in [dir.path().to_owned(), dir.path().join("missing/store.db")] {
        let error = Store::open(&path).await.unwrap_err();
        assert!(matches!(&error, StoreError::Other { path: named, .. } if *named == path), "{error:?}");
    }
}

#[tokio::test]
async fn an_emptied_database_is_named_and_left() {
    for sign in ["blobs", "mark", "store.db-wal"] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store.db");
        fs::write(&path, "").unwrap();
        let beside = dir.path().join(sign);
        if sign == "blobs" {
            fs::create_dir(&beside).unwrap();
        } else {
            fs::write(&beside, "x").unwrap();
        }
        for error in [Store::open(&path).await.map(drop), Store::examine(&path).await.map(drop)] {
            let error = error.expect_err(sign);
            assert!(matches!(&error, StoreError::Emptied { sign: found, .. } if found == sign), "{error:?}");
            assert!(error.to_string().contains("store.db") && error.hint().is_some(), "{error}");
        }
        assert_eq!(fs::read(&path).unwrap(), b"");
        assert!(beside.exists());
        // Moved away, it is as good as new.
        fs::remove_file(&path).unwrap();
        if sign != "store.db-wal" {
            Store::open(&path).await.unwrap().close().await.unwrap();
        }
    }
}

#[tokio::test]
async fn what_was_changed_by_hand_is_damage_and_no_newer_version() {
    let now = MIGRATOR.iter().map(|m| m.version).max().unwrap();
    for (sql, why) in [
        (
            "UPDATE _sqlx_migrations SET checksum = x'00' WHERE version = 1",
            "its record of migration 1 was changed",
        ),
        ("DROP TABLE units", "its table units is missing"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store.db");
        filled(&path).await;
        let mut conn = quiet(&path).connect().await.unwrap();
        sqlx::query(sql).execute(&mut conn).await.unwrap();
        conn.close().await.unwrap();
        let before = fs::read(&path).unwrap();
        // It is not migrated either.
        for migrator in [later(now), later(now + 1)] {
            let error = Store::open_with(&path, &migrator).await.expect_err(sql);
            let cause = std::error::Error::source(&error).unwrap().to_string();
            assert!(matches!(error, StoreError::Corrupt { .. }) && cause == why, "{sql}: {error:?}");
            assert!(error.hint().unwrap().contains("move it away"));
        }
        assert!(fs::read(&path).unwrap() == before, "{sql}");
        assert_eq!(names(dir.path()), ["store.db"], "{sql}");
    }
}
