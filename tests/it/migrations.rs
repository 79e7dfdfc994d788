//! Every version of the database that there ever was can be opened, and what it held can be read.

use std::path::{Path, PathBuf};

use kindling::model::id::UnitId;
use kindling::model::time::Timestamp;
use kindling::record::{HistoryQuery, RunQuery, Store};
use sqlx::migrate::Migrator;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Row as _, SqliteConnection};

fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

async fn connect(path: &Path) -> SqliteConnection {
    SqliteConnectOptions::new().filename(path).create_if_missing(true).connect().await.unwrap()
}

/// The number of rows of each table.
async fn rows(conn: &mut SqliteConnection) -> Vec<(String, i64)> {
    let tables: Vec<String> = sqlx::query_scalar(
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'
         AND name <> '_sqlx_migrations' ORDER BY name",
    )
    .fetch_all(&mut *conn)
    .await
    .unwrap();
    let mut all = Vec::new();
    for table in tables {
        let count = sqlx::query(AssertSqlSafe(format!("SELECT count(*) FROM {table}")));
        all.push((table, count.fetch_one(&mut *conn).await.unwrap().get(0)));
    }
    all
}

/// Makes a database as it was after the migration `number`, with the sample data of that time.
async fn at(number: i64, path: &Path) -> Vec<(String, i64)> {
    let mut conn = connect(path).await;
    let migrator = Migrator::new(root("migrations").as_path()).await.unwrap();
    migrator.run_direct(Some(number), &mut conn, false).await.unwrap();
    let sample = root(&format!("tests/data/migrations/{number:04}.sql"));
    let sample = std::fs::read_to_string(&sample).unwrap_or_else(|error| {
        panic!("the migration {number} needs sample data: {}: {error}", sample.display())
    });
    sqlx::raw_sql(AssertSqlSafe(sample)).execute(&mut conn).await.unwrap();
    let rows = rows(&mut conn).await;
    conn.close().await.unwrap();
    rows
}

#[tokio::test]
async fn every_earlier_database_can_be_opened_and_read() {
    let migrator = Migrator::new(root("migrations").as_path()).await.unwrap();
    let numbers: Vec<i64> = migrator.iter().map(|m| m.version).collect();
    assert_eq!(numbers, (1..=numbers.len() as i64).collect::<Vec<_>>(), "migrations are numbered from 1");
    for number in numbers {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store.db");
        let before = at(number, &path).await;
        for (table, rows) in &before {
            assert!(*rows > 0, "the sample data of the migration {number} has no row for {table}");
        }
        let store = Store::open(&path).await.unwrap();
        read_all(&store, &before).await;
        store.close().await.unwrap();
    }
}

/// Reads through every call that reads; what is there must be as much as what the sample data put there.
async fn read_all(store: &Store, before: &[(String, i64)]) {
    let count =
        |table: &str| before.iter().find(|(name, _)| name == table).map_or(0, |(_, rows)| *rows as usize);
    store.check().await.unwrap();
    assert_eq!(store.sources().await.unwrap().len(), count("sources"));
    let units = store.units().await.unwrap();
    assert_eq!(units.len(), count("units"));
    assert_eq!(store.removed_units().await.unwrap().len(), count("removed_units"));
    let history = store.history(HistoryQuery { limit: 1000, ..HistoryQuery::default() }).await.unwrap();
    assert_eq!(history.len(), count("history"));
    assert_eq!(store.events_since(Timestamp(0), 1000).await.unwrap().len(), count("events"));
    let runs = store.runs(RunQuery { limit: 1000, ..RunQuery::default() }).await.unwrap();
    assert_eq!(runs.len(), count("runs"));
    let told = store.due_tellings("https://api.github.com", Timestamp(i64::MAX), 1000).await.unwrap();
    assert_eq!(told.len(), usize::from(count("outbox") > 0));
    let mut lines = 0;
    for run in &runs {
        lines += store.log(&run.id, 0, 1000).await.unwrap().len();
    }
    assert_eq!(lines, count("logs"));
    let mut values = 0;
    for task in ["team/jobs/digest", "team/jobs/gone"] {
        values += store.kv_list(&UnitId::parse(task).unwrap(), "").await.unwrap().len();
    }
    assert_eq!(values, count("kv"));
    let mut versions = 0;
    for unit in &units {
        for version in store.versions(&unit.id).await.unwrap() {
            assert!(store.version(&unit.id, &version.hash).await.unwrap().is_some());
            versions += 1;
        }
    }
    assert_eq!(versions, count("versions"));
    let deployed = units.iter().filter(|unit| unit.deployed.is_some()).count();
    assert_eq!(store.deployed_versions().await.unwrap().len(), deployed);
    assert!(!store.referenced_contents().await.unwrap().is_empty());
}
