//! What can go wrong with the store.

use std::error::Error;
use std::path::{Path, PathBuf};

/// Why a call to the store failed. Nothing of a failed call is visible.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The disk is full, or takes no writes for another reason. The same call works once there is room.
    #[error("cannot {what}: {path} takes no more writes")]
    Full {
        /// What was tried.
        what: String,
        /// The database.
        path: PathBuf,
        /// Why.
        #[source]
        source: BoxError,
    },
    /// The database, or a row of it, cannot be read. It is left as it is.
    #[error("cannot {what}: {path} is damaged, or is no database of kindling; it was left as it is")]
    Corrupt {
        /// What was tried.
        what: String,
        /// The database.
        path: PathBuf,
        /// Why.
        #[source]
        source: BoxError,
    },
    /// The file is empty although there was a database in it. It is left as it is.
    #[error("{path} is empty, but {sign} beside it says that there was a database; it was left as it is")]
    Emptied {
        /// The database.
        path: PathBuf,
        /// What lies beside it.
        sign: String,
    },
    /// The database was written by another version of kindling, whose changes this one does not know. It is left as
    /// it is.
    #[error(
        "{path} was written by a newer version of kindling (its schema has number {found}, this version knows {known}); it was left as it is"
    )]
    Newer {
        /// The database.
        path: PathBuf,
        /// The number of the migration that is not known.
        found: i64,
        /// The number of the newest migration that is known.
        known: i64,
    },
    /// Another process holds the database.
    #[error("cannot {what}: {path} is in use by another process")]
    Busy {
        /// What was tried.
        what: String,
        /// The database.
        path: PathBuf,
        /// Why.
        #[source]
        source: BoxError,
    },
    /// Anything else.
    #[error("cannot {what} in {path}")]
    Other {
        /// What was tried.
        what: String,
        /// The database.
        path: PathBuf,
        /// Why.
        #[source]
        source: BoxError,
    },
}

impl StoreError {
    /// What a person can do about it, where it is not plain from the message.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Corrupt { .. } | Self::Emptied { .. } => Some(
                "restore a backup of it, or move it away with its -wal and -shm: the next start makes a new one and \
                 deploys everything anew; history, runs, holds, suspensions and sources added by command are gone then",
            ),
            Self::Newer { .. } => {
                Some("start the newer version, or restore a copy of before: kindling.db.before-N")
            }
            Self::Full { .. } | Self::Busy { .. } | Self::Other { .. } => None,
        }
    }
}

/// Any cause.
pub(super) type BoxError = Box<dyn Error + Send + Sync>;

/// What was tried, and on which database: all that an error needs besides its cause.
#[derive(Clone, Copy)]
pub(super) struct Context<'a> {
    pub(super) what: &'a str,
    pub(super) path: &'a Path,
}

impl Context<'_> {
    /// Turns what SQLite said into an error that callers can tell apart.
    pub(super) fn sql(self, error: sqlx::Error) -> StoreError {
        let (what, path) = (self.what.to_owned(), self.path.to_owned());
        let kind = kind_of(&error);
        // sqlx repeats the database's words at two levels of the chain; one is enough.
        let source: BoxError = match error {
            sqlx::Error::Database(inner) => inner.into_error(),
            other => Box::new(other),
        };
        match kind {
            Kind::Full => StoreError::Full { what, path, source },
            Kind::Corrupt => StoreError::Corrupt { what, path, source },
            Kind::Busy => StoreError::Busy { what, path, source },
            Kind::Other => StoreError::Other { what, path, source },
        }
    }

    /// An error of the file system.
    pub(super) fn io(self, error: std::io::Error) -> StoreError {
        use std::io::ErrorKind as K;
        let (what, path) = (self.what.to_owned(), self.path.to_owned());
        let full = matches!(error.kind(), K::StorageFull | K::QuotaExceeded | K::ReadOnlyFilesystem);
        let source = Box::new(error);
        if full { StoreError::Full { what, path, source } } else { StoreError::Other { what, path, source } }
    }

    /// Something was recorded that cannot be read back.
    pub(super) fn corrupt(self, source: impl Into<BoxError>) -> StoreError {
        StoreError::Corrupt { what: self.what.to_owned(), path: self.path.to_owned(), source: source.into() }
    }

    /// Anything else.
    pub(super) fn other(self, source: impl Into<BoxError>) -> StoreError {
        StoreError::Other { what: self.what.to_owned(), path: self.path.to_owned(), source: source.into() }
    }
}

enum Kind {
    Full,
    Corrupt,
    Busy,
    Other,
}

/// Sorts SQLite's extended result codes (<https://sqlite.org/rescode.html>).
fn kind_of(error: &sqlx::Error) -> Kind {
    let code = match error {
        sqlx::Error::Database(inner) => inner.code().and_then(|code| code.parse::<u32>().ok()).unwrap_or(0),
        sqlx::Error::PoolTimedOut => return Kind::Busy,
        _ => return Kind::Other,
    };
    match (code & 0xff, code >> 8) {
        (SQLITE_IOERR, IOERR_READ) => Kind::Other,
        // The database's own file was opened before, so what cannot be opened is a file that SQLite had to make.
        (SQLITE_FULL | SQLITE_READONLY | SQLITE_IOERR | SQLITE_CANTOPEN | SQLITE_PERM, _) => Kind::Full,
        (SQLITE_CORRUPT | SQLITE_NOTADB, _) => Kind::Corrupt,
        (SQLITE_BUSY | SQLITE_LOCKED, _) => Kind::Busy,
        _ => Kind::Other,
    }
}

const SQLITE_PERM: u32 = 3;
const SQLITE_BUSY: u32 = 5;
const SQLITE_LOCKED: u32 = 6;
const SQLITE_READONLY: u32 = 8;
const SQLITE_IOERR: u32 = 10;
const SQLITE_CORRUPT: u32 = 11;
const SQLITE_FULL: u32 = 13;
const SQLITE_CANTOPEN: u32 = 14;
const SQLITE_NOTADB: u32 = 26;
const IOERR_READ: u32 = 1;
