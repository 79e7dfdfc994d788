//! How far the schedules of tasks are settled.

use std::collections::HashMap;

use sqlx::{SqliteConnection, query, query_as};

use crate::model::id::UnitId;
use crate::model::time::Timestamp;

use super::along::{Along, Writing};
use super::error::StoreError;
use super::store::Store;

/// How far the schedule of a unit is settled. Recorded along with the run that a time started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CronState {
    /// The unit.
    pub unit: UnitId,
    /// The schedule that it is about; with another one it says nothing.
    pub schedule: String,
    /// No time up to this one is due any more.
    pub settled_at: Timestamp,
    /// The time that fired last.
    pub fired_at: Option<Timestamp>,
}

impl Along for CronState {
    fn write<'a>(&'a self, conn: &'a mut SqliteConnection) -> Writing<'a> {
        Box::pin(put(conn, self))
    }
}

async fn put(conn: &mut SqliteConnection, state: &CronState) -> Result<(), sqlx::Error> {
    let (unit, fired_at) = (state.unit.to_string(), state.fired_at.map(|at| at.0));
    query!(
        "INSERT INTO cron_state (unit, schedule, settled_at, fired_at) VALUES (?, ?, ?, ?)
         ON CONFLICT (unit) DO UPDATE SET schedule = excluded.schedule, settled_at = excluded.settled_at,
             fired_at = excluded.fired_at",
        unit,
        state.schedule,
        state.settled_at.0,
        fired_at
    )
    .execute(conn)
    .await
    .map(drop)
}

struct Row {
    unit: String,
    schedule: String,
    settled_at: i64,
    fired_at: Option<i64>,
}

impl Store {
    /// How far every schedule is settled, those of units that are gone too.
    ///
    /// # Errors
    /// It could not be read.
    pub async fn cron_states(&self) -> Result<HashMap<UnitId, CronState>, StoreError> {
        let at = self.at("read how far schedules are settled");
        let mut conn = self.read(at).await?;
        let rows = query_as!(Row, "SELECT unit, schedule, settled_at, fired_at FROM cron_state")
            .fetch_all(&mut *conn)
            .await
            .map_err(|e| at.sql(e))?;
        let state = |row: Row| {
            let unit = UnitId::parse(&row.unit).map_err(|e| at.other(e))?;
            let (settled_at, fired_at) = (Timestamp(row.settled_at), row.fired_at.map(Timestamp));
            Ok((unit.clone(), CronState { unit, schedule: row.schedule, settled_at, fired_at }))
        };
        rows.into_iter().map(state).collect()
    }

    /// Records how far schedules are settled of which no time fires now.
    ///
    /// # Errors
    /// It could not be written; then none is recorded.
    pub async fn put_cron_states(&self, states: &[CronState]) -> Result<(), StoreError> {
        if states.is_empty() {
            return Ok(());
        }
        let at = self.at("record how far schedules are settled");
        let mut tx = self.begin(at).await?;
        for state in states {
            put(&mut tx, state).await.map_err(|e| at.sql(e))?;
        }
        tx.commit().await
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{id, run, run_id};
    use super::*;

    fn state(n: u32, at: i64, fired_at: Option<i64>) -> CronState {
        CronState {
            unit: id(n),
            schedule: "0 6 * * *\nEurope/Berlin".into(),
            settled_at: Timestamp(at),
            fired_at: fired_at.map(Timestamp),
        }
    }

    #[tokio::test]
    async fn a_time_is_marked_with_its_run_or_not_at_all() {
        let store = Store::in_memory().await.unwrap();
        store.put_cron_states(&[state(1, 5, None), state(2, 6, None)]).await.unwrap();
        store.put_cron_states(&[]).await.unwrap();
        let fired = state(1, 9, Some(9));
        store.insert_run_along(&run(1, 1), &fired).await.unwrap();
        let found = store.cron_states().await.unwrap();
        assert_eq!((found.len(), &found[&id(1)], &found[&id(2)]), (2, &fired, &state(2, 6, None)));
        // A run that is there already is not recorded again, and neither is its time.
        assert!(store.insert_run_along(&run(1, 1), &state(1, 12, Some(12))).await.is_err());
        assert!(store.run(&run_id(1)).await.unwrap().is_some());
        assert_eq!(store.cron_states().await.unwrap()[&id(1)], fired);
    }
}
