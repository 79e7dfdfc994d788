//! Opening: a database is looked at before anything of it is changed, copied before it is migrated.

use std::ffi::OsString;
use std::fs::{self, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{ConnectOptions as _, Connection as _, SqliteConnection};

use super::error::{Context, StoreError};
use super::store::Store;

static MIGRATOR: Migrator = sqlx::migrate!();

/// How long a call waits for another process that holds the database.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Connections that read.
const READERS: u32 = 2;

/// A connection that reads is ended when it was not used for so long; its memory goes with it.
const READER_IDLE: Duration = Duration::from_secs(60);

/// Largest page caches, in KiB (SQLite's default is 2,000 for each connection).
const WRITER_CACHE: &str = "-1024";
const READER_CACHE: &str = "-512";

/// The log is moved into the database when it has this many pages: one save in some hundred waits for the disk then.
/// Most pages of the log are the same few, so moving four times as many as by SQLite's default costs little more.
const CHECKPOINT_PAGES: &str = "4000";

/// The log is cut back to this many bytes after a large recording.
const JOURNAL_SIZE_LIMIT: &str = "4194304";

/// What a service that ran leaves beside its database: the contents of files, and the mark of its processes.
const SIGNS: [&str; 2] = ["blobs", "mark"];

/// Copies from before a migration that are kept.
const COPIES: usize = 3;

impl Store {
    /// Opens the database at `path`, or makes it, readable for its owner only. Its folder must be there.
    ///
    /// A database of an earlier version is first copied to `PATH.before-N`, where N is the number of the first
    /// migration that it has not seen; the last three copies are kept.
    ///
    /// # Errors
    /// [`StoreError::Newer`] and [`StoreError::Corrupt`] leave the file as it is.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        Self::open_with(path, &MIGRATOR).await
    }

    async fn open_with(path: &Path, migrator: &Migrator) -> Result<Self, StoreError> {
        let at = Context { what: "open the database", path };
        // SQLite takes a name that begins with `file:` for a URI.
        let path = std::path::absolute(path).map_err(|e| at.io(e))?;
        let at = Context { path: &path, ..at };
        refuse_emptied(&path)?;
        create(&path).map_err(|e| at.io(e))?;
        let seen = examine(at, migrator).await?;
        fs::set_permissions(&path, Permissions::from_mode(0o600)).map_err(|e| at.io(e))?;
        let options = writer_options(&path);
        let mut conn = options.connect().await.map_err(|e| at.sql(e))?;
        migrate(&mut conn, at, migrator, seen).await?;
        let readers = readers(&path);
        Ok(Self::new(path, conn, Some(options), Some(readers)))
    }

    /// Looks at the database at `path` without changing it: gives back the number of the newest migration that it has
    /// seen, `None` if it is empty.
    ///
    /// # Errors
    /// It cannot be read, or is none that this version could open.
    pub async fn examine(path: &Path) -> Result<Option<i64>, StoreError> {
        refuse_emptied(path)?;
        examine(Context { what: "read the database", path }, &MIGRATOR).await
    }

    /// [`Store::examine`], and reads all of it.
    ///
    /// # Errors
    /// As there, or something in it is damaged.
    pub async fn verify(path: &Path) -> Result<Option<i64>, StoreError> {
        let seen = Self::examine(path).await?;
        if seen.is_some() {
            let at = Context { what: "read the database", path };
            let mut conn = untouched(at).connect().await.map_err(|e| at.sql(e))?;
            let found = sqlx::query_scalar("PRAGMA quick_check(1)").fetch_one(&mut conn).await;
            let found: String = found.map_err(|e| at.sql(e))?;
            conn.close().await.map_err(|e| at.sql(e))?;
            if found != "ok" {
                return Err(at.corrupt(found));
            }
        }
        Ok(seen)
    }

    /// Makes a database in memory, which is gone with the store.
    ///
    /// # Errors
    /// SQLite refused.
    pub async fn in_memory() -> Result<Self, StoreError> {
        let path = PathBuf::from(":memory:");
        let at = Context { what: "make a database", path: &path };
        let mut conn = quiet(&path).in_memory(true).connect().await.map_err(|e| at.sql(e))?;
        migrate(&mut conn, at, &MIGRATOR, None).await?;
        Ok(Self::new(path, conn, None, None))
    }
}

/// Refuses an empty file where a database was: what lies beside it shows that the service has run.
fn refuse_emptied(path: &Path) -> Result<(), StoreError> {
    if !fs::metadata(path).is_ok_and(|found| found.is_file() && found.len() == 0) {
        return Ok(());
    }
    // SQLite would drop the log of an empty database without a word.
    let log = beside(path, "-wal");
    let signs = SIGNS.iter().map(|name| path.with_file_name(name)).chain([log]);
    let sign = signs
        .into_iter()
        .find(|sign| fs::metadata(sign).is_ok_and(|found| found.is_dir() || found.len() > 0));
    match sign {
        Some(sign) => {
            let sign = sign.file_name().unwrap_or_default().to_string_lossy().into_owned();
            Err(StoreError::Emptied { path: path.to_owned(), sign })
        }
        None => Ok(()),
    }
}

/// Makes the file, if it is not there, before SQLite would with wider permissions. Its log gets the same ones.
fn create(path: &Path) -> io::Result<()> {
    // Opening for writing fails early where the file cannot be written to.
    OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path).map(drop)
}

/// Looks at the file without changing it: gives back the number of the newest migration that it has seen, `None` if
/// it is empty.
async fn examine(at: Context<'_>, migrator: &Migrator) -> Result<Option<i64>, StoreError> {
    let logged = beside(at.path, "-wal").exists();
    if fs::metadata(at.path).map_err(|e| at.io(e))?.len() == 0 && !logged {
        return Ok(None);
    }
    let mut conn = untouched(at).connect().await.map_err(|e| at.sql(e))?;
    let found = look(&mut conn, at, migrator).await;
    conn.close().await.map_err(|e| at.sql(e))?;
    found
}

/// How a database is read without changing it.
fn untouched(at: Context<'_>) -> SqliteConnectOptions {
    // A journal is only there when kindling died while it made the file; SQLite has to undo that by writing.
    let undo = beside(at.path, "-journal").exists();
    // With nothing beside it, the file can be read as it is, without making a log for it.
    let alone = !beside(at.path, "-wal").exists() && !undo;
    quiet(at.path).read_only(!undo).immutable(alone)
}

async fn look(
    conn: &mut SqliteConnection,
    at: Context<'_>,
    migrator: &Migrator,
) -> Result<Option<i64>, StoreError> {
    let sql = |e| at.sql(e);
    let tables: Vec<String> = sqlx::query_scalar("SELECT name FROM sqlite_schema WHERE type = 'table'")
        .fetch_all(&mut *conn)
        .await
        .map_err(sql)?;
    if tables.is_empty() {
        return Ok(None);
    }
    if !tables.iter().any(|name| name == "_sqlx_migrations") {
        return Err(at.corrupt("its tables are not those of kindling"));
    }
    let applied: Vec<(i64, Vec<u8>)> =
        sqlx::query_as("SELECT version, checksum FROM _sqlx_migrations ORDER BY version")
            .fetch_all(&mut *conn)
            .await
            .map_err(sql)?;
    let known = migrator.iter().map(|m| m.version).max().unwrap_or(0);
    for (version, checksum) in &applied {
        if *version > known {
            return Err(StoreError::Newer { path: at.path.to_owned(), found: *version, known });
        }
        if !migrator.iter().any(|m| m.version == *version && *m.checksum == **checksum) {
            return Err(at.corrupt(format!("its record of migration {version} was changed")));
        }
    }
    let seen = applied.last().map(|(version, _)| *version);
    match made_by(migrator, seen, at).await?.into_iter().find(|table| !tables.contains(table)) {
        Some(missing) => Err(at.corrupt(format!("its table {missing} is missing"))),
        None => Ok(seen),
    }
}

/// The tables that a database has which saw the migrations up to `seen`.
async fn made_by(migrator: &Migrator, seen: Option<i64>, at: Context<'_>) -> Result<Vec<String>, StoreError> {
    let sql = |e| at.sql(e);
    let mut conn = quiet(Path::new(":memory:")).in_memory(true).connect().await.map_err(sql)?;
    for migration in migrator.iter().filter(|m| Some(m.version) <= seen) {
        sqlx::raw_sql(migration.sql.clone()).execute(&mut conn).await.map_err(sql)?;
    }
    let tables = sqlx::query_scalar("SELECT name FROM sqlite_schema WHERE type = 'table'");
    let tables = tables.fetch_all(&mut conn).await.map_err(sql)?;
    conn.close().await.map_err(sql)?;
    Ok(tables)
}

/// Applies what the database has not seen; a database that has seen something is copied before.
async fn migrate(
    conn: &mut SqliteConnection,
    at: Context<'_>,
    migrator: &Migrator,
    seen: Option<i64>,
) -> Result<(), StoreError> {
    let next = migrator.iter().map(|m| m.version).find(|version| Some(*version) > seen);
    if let (Some(_), Some(next)) = (seen, next) {
        copy(conn, at, next).await?;
    }
    migrator.run_direct(None, conn, false).await.map_err(|error| match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => at.sql(error),
        other => at.other(other),
    })
}

async fn copy(conn: &mut SqliteConnection, at: Context<'_>, next: i64) -> Result<(), StoreError> {
    let at = Context { what: "copy the database before it is migrated", ..at };
    let (part, whole) = (beside(at.path, ".before-part"), beside(at.path, &format!(".before-{next}")));
    // SQLite takes a file that is there only if it is empty; made here, it has the right permissions.
    if part.exists() {
        fs::remove_file(&part).map_err(|e| at.io(e))?;
    }
    create(&part).map_err(|e| at.io(e))?;
    let target = part.to_str().ok_or_else(|| at.other("its path is not UTF-8"))?;
    sqlx::query("VACUUM INTO ?").bind(target).execute(conn).await.map_err(|e| at.sql(e))?;
    // What goes back to it must not find half of it.
    let synced = |path: &Path| fs::File::open(path).and_then(|file| file.sync_all());
    synced(&part).map_err(|e| at.io(e))?;
    fs::rename(&part, &whole).map_err(|e| at.io(e))?;
    at.path.parent().map_or(Ok(()), synced).map_err(|e| at.io(e))?;
    for old in copies(at.path).map_err(|e| at.io(e))?.into_iter().skip(COPIES) {
        fs::remove_file(old).map_err(|e| at.io(e))?;
    }
    Ok(())
}

/// The copies beside the database, newest first.
fn copies(path: &Path) -> io::Result<Vec<PathBuf>> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
        return Ok(Vec::new());
    };
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let number = entry
            .file_name()
            .to_str()
            .and_then(|text| text.strip_prefix(name)?.strip_prefix(".before-")?.parse::<i64>().ok());
        found.extend(number.map(|number| (number, entry.path())));
    }
    found.sort_by_key(|(number, _)| std::cmp::Reverse(*number));
    Ok(found.into_iter().map(|(_, path)| path).collect())
}

/// The file whose name is the database's with something behind it.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

fn quiet(path: &Path) -> SqliteConnectOptions {
    // sqlx's own log lines would hold SQL, with no word on what kindling was doing.
    SqliteConnectOptions::new().filename(path).busy_timeout(BUSY_TIMEOUT).disable_statement_logging()
}

fn writer_options(path: &Path) -> SqliteConnectOptions {
    quiet(path)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Normal)
        .pragma("cache_size", WRITER_CACHE)
        .pragma("wal_autocheckpoint", CHECKPOINT_PAGES)
        .pragma("journal_size_limit", JOURNAL_SIZE_LIMIT)
        // Recordings are cut into pieces, so what SQLite keeps aside for one statement is small.
        .pragma("temp_store", "MEMORY")
}

fn readers(path: &Path) -> SqlitePool {
    let options =
        quiet(path).read_only(true).pragma("cache_size", READER_CACHE).pragma("temp_store", "MEMORY");
    SqlitePoolOptions::new().max_connections(READERS).idle_timeout(READER_IDLE).connect_lazy_with(options)
}

#[cfg(test)]
mod tests;
