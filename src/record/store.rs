//! The connections: one that writes, a few that read, and what happens when one of them fails.

use std::collections::HashMap;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex as SyncMutex, PoisonError};

use sqlx::pool::PoolConnection;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool};
use sqlx::{ConnectOptions as _, Connection as _, Sqlite, SqliteConnection};
use tokio::sync::{MappedMutexGuard, Mutex, MutexGuard};
use tokio::time::Instant;

use crate::model::id::SourceName;

use super::error::{Context, StoreError};

/// The database. Clones share it.
///
/// There is one writer, so writes wait for each other in the order in which they came and never fail for that; reads
/// wait for nothing. A call whose future is dropped in the middle has either happened or not.
#[derive(Clone)]
pub struct Store {
    pub(super) inner: Arc<Inner>,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("path", &self.inner.path).finish_non_exhaustive()
    }
}

pub(super) struct Inner {
    pub(super) path: PathBuf,
    /// The connection that writes; `None` when it has to be made again, or the store is closed.
    writer: Mutex<Option<SqliteConnection>>,
    /// How to make it again; `None` for a database in memory, which would be lost.
    options: Option<SqliteConnectOptions>,
    /// Set while a transaction may be open of which nobody waits for the end.
    unsettled: AtomicBool,
    closed: AtomicBool,
    /// `None` for a database in memory, which only one connection can see.
    readers: Option<SqlitePool>,
    passes: SyncMutex<Passes>,
}

/// Passes that found nothing and are not written yet.
pub(super) struct Passes {
    pub(super) counts: HashMap<SourceName, u64>,
    pub(super) written_at: Instant,
}

impl Store {
    pub(super) fn new(
        path: PathBuf,
        conn: SqliteConnection,
        options: Option<SqliteConnectOptions>,
        readers: Option<SqlitePool>,
    ) -> Self {
        let passes = SyncMutex::new(Passes { counts: HashMap::new(), written_at: Instant::now() });
        Self {
            inner: Arc::new(Inner {
                path,
                writer: Mutex::new(Some(conn)),
                options,
                unsettled: AtomicBool::new(false),
                closed: AtomicBool::new(false),
                readers,
                passes,
            }),
        }
    }

    /// Looks for damage in the whole database, which takes its time for a large one.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] with what was found first.
    pub async fn check(&self) -> Result<(), StoreError> {
        let at = self.at("check the database");
        let mut conn = self.read(at).await?;
        let found: String =
            sqlx::query_scalar("PRAGMA quick_check(1)").fetch_one(&mut *conn).await.map_err(|e| at.sql(e))?;
        if found == "ok" { Ok(()) } else { Err(at.corrupt(found)) }
    }

    /// Whether a write would succeed now: one page is written to tell.
    ///
    /// # Errors
    /// Why none would.
    pub async fn check_writable(&self) -> Result<(), StoreError> {
        let at = self.at("write");
        let mut tx = self.begin(at).await?;
        sqlx::query("PRAGMA user_version = 0").execute(&mut *tx).await.map_err(|e| at.sql(e))?;
        tx.commit().await
    }

    /// Writes what is still to be written, moves the log into the database and ends all connections. Calls after it
    /// fail. A store that is dropped without it loses nothing but counts of passes.
    ///
    /// # Errors
    /// The counts could not be written; the connections are ended all the same.
    pub async fn close(&self) -> Result<(), StoreError> {
        let flushed = self.flush_passes().await;
        if let Some(readers) = &self.inner.readers {
            readers.close().await;
        }
        let mut writer = self.inner.writer.lock().await;
        self.inner.closed.store(true, Ordering::Relaxed);
        let at = self.at("close the database");
        if let Some(mut conn) = writer.take() {
            // Only another process's reader can keep a part of the log from being moved; the next start does it.
            sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&mut conn).await.map_err(|e| at.sql(e))?;
            conn.close().await.map_err(|e| at.sql(e))?;
        }
        flushed
    }

    pub(super) fn at<'a>(&'a self, what: &'a str) -> Context<'a> {
        Context { what, path: &self.inner.path }
    }

    /// A connection for reading.
    pub(super) async fn read(&self, at: Context<'_>) -> Result<Reader<'_>, StoreError> {
        match &self.inner.readers {
            Some(pool) => Ok(Reader::Pooled(pool.acquire().await.map_err(|e| at.sql(e))?)),
            None => Ok(Reader::Writer(self.write(at).await?)),
        }
    }

    /// The connection that writes, for one statement.
    pub(super) async fn write(&self, at: Context<'_>) -> Result<WriteGuard<'_>, StoreError> {
        let mut writer = self.inner.writer.lock().await;
        self.settle(&mut writer).await.map_err(|e| at.sql(e))?;
        MutexGuard::try_map(writer, Option::as_mut).map_err(|_| at.sql(sqlx::Error::PoolClosed))
    }

    /// Brings the connection that writes back to a state in which a transaction can begin.
    ///
    /// sqlx's own transactions are not used: SQLite ends one by itself when the disk is full, and sqlx would go on
    /// counting it as open.
    async fn settle(&self, writer: &mut Option<SqliteConnection>) -> Result<(), sqlx::Error> {
        let inner = &self.inner;
        if inner.closed.load(Ordering::Relaxed) {
            return Err(sqlx::Error::PoolClosed);
        }
        if inner.unsettled.load(Ordering::Relaxed)
            && let Some(conn) = writer
        {
            match sqlx::query("ROLLBACK").execute(conn).await {
                Ok(_) => {}
                // "No transaction is active": it ended by itself.
                Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("1") => {}
                Err(error) if inner.options.is_none() => return Err(error),
                Err(_) => *writer = None,
            }
        }
        inner.unsettled.store(false, Ordering::Relaxed);
        if let (None, Some(options)) = (&writer, &inner.options) {
            *writer = Some(options.connect().await?);
        }
        Ok(())
    }

    /// Begins a transaction on the connection that writes. It is undone unless [`Tx::commit`] succeeds.
    pub(super) async fn begin<'a>(&'a self, at: Context<'a>) -> Result<Tx<'a>, StoreError> {
        let mut tx = Tx { conn: self.write(at).await?, at, open: true, unsettled: &self.inner.unsettled };
        sqlx::query("BEGIN IMMEDIATE").execute(&mut *tx).await.map_err(|e| at.sql(e))?;
        Ok(tx)
    }

    pub(super) fn passes(&self) -> std::sync::MutexGuard<'_, Passes> {
        self.inner.passes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The connection that writes, held by one caller.
pub(super) type WriteGuard<'a> = MappedMutexGuard<'a, SqliteConnection>;

/// A connection for reading, given back when it is dropped.
pub(super) enum Reader<'a> {
    Pooled(PoolConnection<Sqlite>),
    Writer(WriteGuard<'a>),
}

impl Deref for Reader<'_> {
    type Target = SqliteConnection;

    fn deref(&self) -> &SqliteConnection {
        match self {
            Self::Pooled(conn) => conn,
            Self::Writer(conn) => conn,
        }
    }
}

impl DerefMut for Reader<'_> {
    fn deref_mut(&mut self) -> &mut SqliteConnection {
        match self {
            Self::Pooled(conn) => conn,
            Self::Writer(conn) => conn,
        }
    }
}

/// A transaction of the connection that writes.
pub(super) struct Tx<'a> {
    conn: WriteGuard<'a>,
    at: Context<'a>,
    open: bool,
    unsettled: &'a AtomicBool,
}

impl<'a> Tx<'a> {
    /// What it is for.
    pub(super) fn at(&self) -> Context<'a> {
        self.at
    }

    /// Makes all of it visible.
    pub(super) async fn commit(mut self) -> Result<(), StoreError> {
        sqlx::query("COMMIT").execute(&mut *self.conn).await.map_err(|e| self.at.sql(e))?;
        self.open = false;
        Ok(())
    }
}

impl Drop for Tx<'_> {
    fn drop(&mut self) {
        if self.open {
            self.unsettled.store(true, Ordering::Relaxed);
        }
    }
}

impl Deref for Tx<'_> {
    type Target = SqliteConnection;

    fn deref(&self) -> &SqliteConnection {
        &self.conn
    }
}

impl DerefMut for Tx<'_> {
    fn deref_mut(&mut self) -> &mut SqliteConnection {
        &mut self.conn
    }
}
