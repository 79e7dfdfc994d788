//! What is recorded with the first row of a run, in its transaction: what made a run begin must not do so twice.

use std::fmt;
use std::pin::Pin;

use sqlx::SqliteConnection;

/// A write that happens together with another one, or not at all. Values of this kind are made and implemented here,
/// in `record`; whoever starts a run only hands one over. `()` writes nothing.
pub trait Along: fmt::Debug + Send + Sync {
    /// Writes on the connection of a transaction that is open; must neither begin nor end one.
    ///
    /// # Errors
    /// It could not be written; then the run is not recorded either.
    fn write<'a>(&'a self, conn: &'a mut SqliteConnection) -> Writing<'a>;
}

/// The future of [`Along::write`].
pub type Writing<'a> = Pin<Box<dyn Future<Output = Result<(), sqlx::Error>> + Send + 'a>>;

impl Along for () {
    fn write<'a>(&'a self, _: &'a mut SqliteConnection) -> Writing<'a> {
        Box::pin(std::future::ready(Ok(())))
    }
}
