//! Retention: what is old or too much goes, in small pieces, so that no other write waits long.

use std::time::Duration;

use sqlx::{query, query_scalar};

use crate::model::retention::{Retention, days};
use crate::model::time::Timestamp;

use super::error::{Context, StoreError};
use super::rows::Pruned;
use super::store::Store;

/// Rows that one transaction takes away at most: some milliseconds.
const CHUNK: i64 = 1_000;

/// Newest rows on what relays altered that are kept at most: whoever knows the channel of a relay can have these written.
const MOST_ALTERED: u32 = 1_000;

/// How long it is kept what a commit was told.
const OUTBOX_KEPT: Duration = days(30);

/// Repeats a `DELETE` whose last parameter bounds it until nothing is left for it; gives back how many rows went.
/// Between two rounds other writes have their turn.
macro_rules! chunks {
    ($store:expr, $at:expr, $sql:tt $(, $value:expr)*) => {{
        let mut gone = 0_u64;
        loop {
            let mut conn = $store.write($at).await?;
            let done = query!($sql $(, $value)*, CHUNK).execute(&mut *conn).await.map_err(|e| $at.sql(e))?;
            gone += done.rows_affected();
            if done.rows_affected() < CHUNK.unsigned_abs() {
                break gone;
            }
        }
    }};
}

/// Reads a list of one column.
macro_rules! read {
    ($store:expr, $at:expr, $sql:tt $(, $value:expr)*) => {{
        let mut conn = $store.read($at).await?;
        query_scalar!($sql $(, $value)*).fetch_all(&mut *conn).await.map_err(|e| $at.sql(e))?
    }};
}

impl Store {
    /// Takes away what `keep` does not cover at `now`.
    ///
    /// A version that is desired, attempted, deployed or pinned, or that a run executes which is not over, stays; so
    /// does a run that is not over.
    ///
    /// # Errors
    /// It could not be written; what went by then stays away.
    pub async fn prune(&self, keep: &Retention, now: Timestamp) -> Result<Pruned, StoreError> {
        let at = self.at("remove what is old");
        let before = |age: Duration| now.0.saturating_sub(i64::try_from(age.as_millis()).unwrap_or(i64::MAX));
        let Retention { history, runs, events, deliveries, versions, removed } = *keep;
        let mut pruned = Pruned::default();
        self.prune_removed(at, before(removed), &mut pruned).await?;
        pruned.history += self.prune_history(at, before(history.age), history.count).await?;
        pruned.runs += self.prune_old_runs(at, before(runs.age)).await?;
        pruned.runs += self.prune_excess_runs(at, runs.count).await?;
        pruned.events += self.prune_events(at, before(events.age), events.count).await?;
        self.prune_deliveries(at, before(deliveries.age), deliveries.count).await?;
        self.prune_outbox(at, before(OUTBOX_KEPT)).await?;
        pruned.versions += self.prune_versions(at, versions).await?;
        Ok(pruned)
    }

    async fn prune_history(&self, at: Context<'_>, before: i64, keep: u32) -> Result<u64, StoreError> {
        let mut gone = chunks!(
            self,
            at,
            "DELETE FROM history WHERE id IN (SELECT id FROM history WHERE at < ? LIMIT ?)",
            before
        );
        let units = read!(self, at, "SELECT unit FROM history GROUP BY unit HAVING count(*) > ?", keep);
        for unit in units {
            // Looked up once, so that rows that are added meanwhile move nothing.
            let newest = read!(
                self,
                at,
                "SELECT id FROM history WHERE unit = ? ORDER BY id DESC LIMIT 1 OFFSET ?",
                unit,
                keep
            );
            let Some(newest) = newest.first() else { continue };
            gone += chunks!(
                self,
                at,
                "DELETE FROM history WHERE id IN (SELECT id FROM history WHERE unit = ? AND id <= ? LIMIT ?)",
                unit,
                newest
            );
        }
        Ok(gone)
    }

    async fn prune_events(&self, at: Context<'_>, before: i64, keep: u32) -> Result<u64, StoreError> {
        let old = chunks!(
            self,
            at,
            "DELETE FROM events WHERE id IN (SELECT id FROM events WHERE at < ? LIMIT ?)",
            before
        );
        // Events only go from the oldest on, so their numbers have no gaps.
        let excess = chunks!(
            self,
            at,
            "DELETE FROM events WHERE id IN
                 (SELECT id FROM events WHERE id <= (SELECT max(id) FROM events) - ? LIMIT ?)",
            keep
        );
        Ok(old + excess)
    }

    async fn prune_deliveries(&self, at: Context<'_>, before: i64, most: u32) -> Result<u64, StoreError> {
        let most_altered = most.min(MOST_ALTERED);
        let old = chunks!(
            self,
            at,
            "DELETE FROM deliveries WHERE number IN
                 (SELECT number FROM deliveries WHERE received_at < ? LIMIT ?)",
            before
        );
        let excess = chunks!(
            self,
            at,
            "DELETE FROM deliveries WHERE number IN
                 (SELECT number FROM deliveries WHERE verdict <> 'relay-altered' AND number <=
                      (SELECT number FROM deliveries WHERE verdict <> 'relay-altered'
                       ORDER BY number DESC LIMIT 1 OFFSET ?)
                  LIMIT ?)",
            most
        );
        // They are to push nothing else out.
        let altered = chunks!(
            self,
            at,
            "DELETE FROM deliveries WHERE number IN
                 (SELECT number FROM deliveries WHERE verdict = 'relay-altered' AND number <=
                      (SELECT number FROM deliveries WHERE verdict = 'relay-altered'
                       ORDER BY number DESC LIMIT 1 OFFSET ?)
                  LIMIT ?)",
            most_altered
        );
        Ok(old + excess + altered)
    }

    /// The newest row of each source stays: it is shown, and what it says is not said again.
    async fn prune_outbox(&self, at: Context<'_>, before: i64) -> Result<u64, StoreError> {
        Ok(chunks!(
            self,
            at,
            "DELETE FROM outbox WHERE rowid IN
                 (SELECT old.rowid FROM outbox AS old WHERE old.changed_at < ? AND EXISTS
                      (SELECT 1 FROM outbox AS newer
                       WHERE newer.source = old.source AND newer.changed_at > old.changed_at) LIMIT ?)",
            before
        ))
    }

    async fn prune_old_runs(&self, at: Context<'_>, before: i64) -> Result<u64, StoreError> {
        let mut gone = 0;
        loop {
            let doomed = read!(self, at, "SELECT number FROM runs WHERE ended_at < ? LIMIT ?", before, CHUNK);
            if doomed.is_empty() {
                return Ok(gone);
            }
            gone += self.delete_runs(at, &doomed).await?;
        }
    }

    async fn prune_excess_runs(&self, at: Context<'_>, keep: u32) -> Result<u64, StoreError> {
        let mut gone = 0;
        let tasks = read!(self, at, "SELECT task FROM runs GROUP BY task HAVING count(*) > ?", keep);
        for task in tasks {
            let newest = read!(
                self,
                at,
                "SELECT number FROM runs WHERE task = ? ORDER BY number DESC LIMIT 1 OFFSET ?",
                task,
                keep
            );
            let Some(newest) = newest.first() else { continue };
            gone += self.delete_runs_of(at, &task, *newest, i64::MAX).await?;
        }
        Ok(gone)
    }

    /// Takes away the runs of a task up to the number `newest` that ended before `before`.
    async fn delete_runs_of(
        &self,
        at: Context<'_>,
        task: &str,
        newest: i64,
        before: i64,
    ) -> Result<u64, StoreError> {
        let mut gone = 0;
        loop {
            let doomed = read!(
                self,
                at,
                "SELECT number FROM runs WHERE task = ? AND number <= ? AND +ended_at < ? LIMIT ?",
                task,
                newest,
                before,
                CHUNK
            );
            if doomed.is_empty() {
                return Ok(gone);
            }
            gone += self.delete_runs(at, &doomed).await?;
        }
    }

    /// Takes away runs that are over: first their logs, which may be long, then themselves.
    async fn delete_runs(&self, at: Context<'_>, doomed: &[i64]) -> Result<u64, StoreError> {
        let doomed = serde_json::to_string(doomed).map_err(|e| at.other(e))?;
        chunks!(
            self,
            at,
            "DELETE FROM logs WHERE (run, seq) IN
                 (SELECT logs.run, logs.seq FROM json_each(?) AS doomed CROSS JOIN logs
                  WHERE logs.run = doomed.value LIMIT ?)",
            doomed
        );
        let mut conn = self.write(at).await?;
        let done = query!("DELETE FROM runs WHERE number IN (SELECT value FROM json_each(?))", doomed)
            .execute(&mut *conn)
            .await
            .map_err(|e| at.sql(e))?;
        Ok(done.rows_affected())
    }

    async fn prune_versions(&self, at: Context<'_>, keep: u32) -> Result<u64, StoreError> {
        let mut gone = 0;
        let units = read!(self, at, "SELECT unit FROM versions GROUP BY unit HAVING count(*) > ?", keep);
        for unit in units {
            // What is in use is looked at in the same statement, so nothing can come into use in between.
            let mut conn = self.write(at).await?;
            let done = query!(
                "DELETE FROM versions WHERE id IN
                     (SELECT id FROM versions WHERE unit = ?
                      ORDER BY deployed_at DESC NULLS LAST, id DESC LIMIT ? OFFSET ?)
                   AND NOT EXISTS (SELECT 1 FROM units WHERE units.id = versions.unit AND versions.hash IN
                       (units.desired, units.attempted, units.deployed, units.pinned))
                   AND NOT EXISTS (SELECT 1 FROM runs WHERE runs.task = versions.unit
                       AND runs.hash = versions.hash AND +runs.ended_at IS NULL)",
                unit,
                CHUNK,
                keep
            )
            .execute(&mut *conn)
            .await
            .map_err(|e| at.sql(e))?;
            gone += done.rows_affected();
        }
        Ok(gone)
    }

    /// Takes away what is left of units that went before `before`.
    async fn prune_removed(
        &self,
        at: Context<'_>,
        before: i64,
        pruned: &mut Pruned,
    ) -> Result<(), StoreError> {
        let units = read!(self, at, "SELECT unit FROM removed_units WHERE removed_at < ?", before);
        for unit in units {
            // A unit may come back at any moment: then it is not in `removed_units` any more, and keeps what it has.
            pruned.versions += chunks!(
                self,
                at,
                "DELETE FROM versions WHERE id IN
                     (SELECT id FROM versions WHERE unit IN (SELECT unit FROM removed_units WHERE unit = ?)
                        AND NOT EXISTS (SELECT 1 FROM runs WHERE runs.task = versions.unit
                            AND runs.hash = versions.hash AND +runs.ended_at IS NULL)
                      LIMIT ?)",
                unit
            );
            pruned.history += chunks!(
                self,
                at,
                "DELETE FROM history WHERE id IN
                     (SELECT id FROM history WHERE unit IN (SELECT unit FROM removed_units WHERE unit = ?)
                      LIMIT ?)",
                unit
            );
            pruned.values += chunks!(
                self,
                at,
                "DELETE FROM kv WHERE rowid IN
                     (SELECT kv.rowid FROM kv WHERE task IN (SELECT unit FROM removed_units WHERE unit = ?)
                      LIMIT ?)",
                unit
            );
            pruned.runs += self.delete_runs_of(at, &unit, i64::MAX, before).await?;
            let mut conn = self.write(at).await?;
            query!(
                "DELETE FROM cron_state WHERE unit IN (SELECT unit FROM removed_units WHERE unit = ?)",
                unit
            )
            .execute(&mut *conn)
            .await
            .map_err(|e| at.sql(e))?;
            let done = query!(
                "DELETE FROM removed_units WHERE unit = ?
                   AND NOT EXISTS (SELECT 1 FROM runs WHERE task = removed_units.unit)",
                unit
            )
            .execute(&mut *conn)
            .await
            .map_err(|e| at.sql(e))?;
            pruned.units += done.rows_affected();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
