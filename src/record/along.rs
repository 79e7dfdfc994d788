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

#[cfg(test)]
mod tests {
    use super::super::Store;
    use super::super::samples::{over, run, run_id};
    use super::*;
    use crate::model::run::{Run, RunStatus};

    /// Writes a value of a task along with a run, or fails.
    #[derive(Debug)]
    struct Mark(&'static str);

    impl Along for Mark {
        fn write<'a>(&'a self, conn: &'a mut SqliteConnection) -> Writing<'a> {
            Box::pin(async move {
                let sql = format!(
                    "INSERT INTO kv (task, key, value, size, updated_at) VALUES ('s/a', {}, '1', 2, 3)",
                    self.0
                );
                sqlx::query(sqlx::AssertSqlSafe(sql)).execute(conn).await.map(drop)
            })
        }
    }

    #[tokio::test]
    async fn what_belongs_to_the_beginning_of_a_run_is_recorded_with_it_or_not_at_all() {
        let store = Store::in_memory().await.unwrap();
        let kept =
            || async { store.kv_list(&crate::model::id::UnitId::parse("s/a").unwrap(), "").await.unwrap() };
        assert!(store.insert_run_along(&run(1, 1), &Mark("no_such_column")).await.is_err());
        assert!(store.run(&run_id(1)).await.unwrap().is_none());
        store.insert_run_along(&run(1, 1), &Mark("'x'")).await.unwrap();
        assert_eq!(kept().await, ["x"]);
        // The run is there already: its beginning does not count again.
        assert!(store.insert_run_along(&run(1, 1), &Mark("'y'")).await.is_err());
        assert_eq!(kept().await, ["x"]);
    }

    #[tokio::test]
    async fn what_follows_from_the_end_of_a_run_is_recorded_once() {
        let store = Store::in_memory().await.unwrap();
        let (first, second) = (run(1, 1), Run { status: RunStatus::Queued, ..run(2, 2) });
        store.insert_run(&first).await.unwrap();
        // An end that cannot be recorded whole is not recorded.
        assert!(store.finish_run(&over(&first, 9), &[second.clone(), first.clone()]).await.is_err());
        assert_eq!(store.run(&first.id).await.unwrap().unwrap().status, RunStatus::Running);
        assert!(store.run(&second.id).await.unwrap().is_none());
        assert!(store.finish_run(&over(&first, 9), std::slice::from_ref(&second)).await.unwrap());
        assert_eq!(store.run(&second.id).await.unwrap(), Some(second.clone()));
        assert!(!store.finish_run(&over(&first, 9), &[run(3, 3)]).await.unwrap());
        assert!(store.run(&run_id(3)).await.unwrap().is_none());
        // It waits, begins once, and can end without having begun.
        assert_eq!(store.unfinished_runs().await.unwrap(), std::slice::from_ref(&second));
        assert!(store.begin_run(&second.id).await.unwrap() && !store.begin_run(&second.id).await.unwrap());
        assert_eq!(store.run(&second.id).await.unwrap().unwrap().status, RunStatus::Running);
        let third = Run { status: RunStatus::Queued, ..run(4, 2) };
        store.insert_run(&third).await.unwrap();
        assert!(store.finish_run(&over(&third, 9), &[]).await.unwrap());
        assert!(!store.begin_run(&third.id).await.unwrap());
    }
}
