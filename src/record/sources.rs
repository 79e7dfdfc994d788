//! Sources, and the count of passes that found nothing.

use std::time::Duration;

use serde::Serialize;
use sqlx::{SqliteConnection, query, query_as};
use tokio::time::Instant;

use crate::model::id::SourceName;
use crate::model::source::{Declared, Dev, Revision, Revisions};
use crate::model::time::Timestamp;

use super::docs;
use super::error::{BoxError, Context, StoreError};
use super::rows::{SourceRecord, SourceState};
use super::store::Store;

/// Counts of passes that found nothing are written at most this often.
const PASSES_EVERY: Duration = Duration::from_secs(60);

impl Store {
    /// All sources, by name.
    ///
    /// # Errors
    /// They could not be read.
    pub async fn sources(&self) -> Result<Vec<SourceRecord>, StoreError> {
        let at = self.at("read the sources");
        let mut conn = self.read(at).await?;
        let rows = query_as!(
            SourceRow,
            "SELECT name, declared, spec, seen, attempted, deployed, last_fetch_at, conditions,
                    suspended_reason, suspended_since, dev_path, dev_since, dev_until, strayed, passes
             FROM sources ORDER BY name"
        )
        .fetch_all(&mut *conn)
        .await
        .map_err(|e| at.sql(e))?;
        rows.into_iter().map(|row| self.source(row)).collect()
    }

    fn source(&self, row: SourceRow) -> Result<SourceRecord, StoreError> {
        let name = row.name.clone();
        let mut record: SourceRecord =
            row.try_into().map_err(|e: BoxError| self.at(&format!("read the source {name}")).corrupt(e))?;
        record.passes += self.passes().counts.get(&record.spec.name).copied().unwrap_or(0);
        Ok(record)
    }

    /// Records a source as a whole; of one that is there, the count of passes stays.
    ///
    /// # Errors
    /// It could not be written, or its path is not UTF-8.
    pub async fn put_source(&self, source: &SourceRecord) -> Result<(), StoreError> {
        let what = format!("record the source {}", source.spec.name);
        let at = self.at(&what);
        let name = source.spec.name.as_str();
        let declared = declared(source.declared);
        let spec = docs::origin(&source.spec.origin).map_err(|e| at.other(e))?;
        let passes = docs::integer(source.passes);
        let mut tx = self.begin(at).await?;
        query!(
            "INSERT INTO sources (name, declared, spec, conditions, passes) VALUES (?, ?, ?, '[]', ?)
             ON CONFLICT (name) DO UPDATE SET declared = excluded.declared, spec = excluded.spec",
            name,
            declared,
            spec,
            passes
        )
        .execute(&mut *tx)
        .await
        .map_err(|e| at.sql(e))?;
        update(&mut tx, at, &source.state()).await?;
        tx.commit().await
    }

    /// Takes a source away; units of it that are still there count as removed at `now`.
    ///
    /// # Errors
    /// It could not be written.
    pub async fn remove_source(&self, name: &SourceName, now: Timestamp) -> Result<(), StoreError> {
        let what = format!("remove the source {name}");
        let at = self.at(&what);
        let name_text = name.as_str();
        let mut tx = self.begin(at).await?;
        query!(
            "INSERT INTO removed_units (unit, generation, removed_at)
             SELECT id, generation, ?1 FROM units WHERE source = ?2
             ON CONFLICT (unit) DO UPDATE SET generation = excluded.generation, removed_at = excluded.removed_at",
            now.0,
            name_text
        )
        .execute(&mut *tx)
        .await
        .map_err(|e| at.sql(e))?;
        query!("DELETE FROM units WHERE source = ?", name_text)
            .execute(&mut *tx)
            .await
            .map_err(|e| at.sql(e))?;
        query!("DELETE FROM sources WHERE name = ?", name_text)
            .execute(&mut *tx)
            .await
            .map_err(|e| at.sql(e))?;
        tx.commit().await?;
        self.passes().counts.remove(name);
        Ok(())
    }

    /// Counts a pass that found nothing. Most calls write nothing: counts are kept in memory and written once a
    /// minute and by [`Store::close`]; a crash loses them.
    ///
    /// # Errors
    /// Counts that were due could not be written; they are kept.
    pub async fn count_pass(&self, source: &SourceName) -> Result<(), StoreError> {
        let due = {
            let mut passes = self.passes();
            *passes.counts.entry(source.clone()).or_insert(0) += 1;
            passes.written_at.elapsed() >= PASSES_EVERY
        };
        if due { self.flush_passes().await } else { Ok(()) }
    }

    pub(super) async fn flush_passes(&self) -> Result<(), StoreError> {
        let at = self.at("count passes");
        let counts = {
            let mut passes = self.passes();
            passes.written_at = Instant::now();
            passes.counts.clone()
        };
        if counts.is_empty() {
            return Ok(());
        }
        let rows: Vec<(&str, u64)> = counts.iter().map(|(name, count)| (name.as_str(), *count)).collect();
        let rows = serde_json::to_string(&rows).map_err(|e| at.other(e))?;
        let mut conn = self.write(at).await?;
        query!(
            "UPDATE sources SET passes = passes + counted.value ->> 1
             FROM json_each(?) AS counted WHERE name = counted.value ->> 0",
            rows
        )
        .execute(&mut *conn)
        .await
        .map_err(|e| at.sql(e))?;
        let mut passes = self.passes();
        for (name, written) in counts {
            if let Some(count) = passes.counts.get_mut(&name) {
                *count = count.saturating_sub(written);
            }
        }
        passes.counts.retain(|_, count| *count > 0);
        Ok(())
    }
}

/// Records what a pass found out about its source.
pub(super) async fn update(
    conn: &mut SqliteConnection,
    at: Context<'_>,
    state: &SourceState,
) -> Result<(), StoreError> {
    let row = serde_json::to_string(&StateDoc::from(state)).map_err(|e| at.other(e))?;
    let done = query!(
        "UPDATE sources SET
             seen = state ->> 'seen',
             attempted = state ->> 'attempted',
             deployed = state ->> 'deployed',
             last_fetch_at = state ->> 'last_fetch_at',
             conditions = state -> 'conditions',
             suspended_reason = state ->> 'suspended_reason',
             suspended_since = state ->> 'suspended_since',
             dev_path = state ->> 'dev_path',
             dev_since = state ->> 'dev_since',
             dev_until = state ->> 'dev_until',
             strayed = state ->> 'strayed'
         FROM (SELECT ? AS state) WHERE name = state ->> 'name'",
        row
    )
    .execute(conn)
    .await
    .map_err(|e| at.sql(e))?;
    match done.rows_affected() {
        0 => Err(at.other(format!("the source {} is not recorded", state.name))),
        _ => Ok(()),
    }
}

#[derive(Serialize)]
struct StateDoc<'a> {
    name: &'a str,
    seen: Option<&'a str>,
    attempted: Option<&'a str>,
    deployed: Option<&'a str>,
    last_fetch_at: Option<i64>,
    conditions: Vec<docs::ConditionDoc>,
    suspended_reason: Option<&'a str>,
    suspended_since: Option<i64>,
    dev_path: Option<&'a str>,
    dev_since: Option<i64>,
    dev_until: Option<i64>,
    strayed: u8,
}

impl<'a> From<&'a SourceState> for StateDoc<'a> {
    fn from(state: &'a SourceState) -> Self {
        Self {
            name: state.name.as_str(),
            seen: state.revisions.seen.as_ref().map(Revision::as_str),
            attempted: state.revisions.attempted.as_ref().map(Revision::as_str),
            deployed: state.revisions.deployed.as_ref().map(Revision::as_str),
            last_fetch_at: state.last_fetch_at.map(|at| at.0),
            conditions: docs::conditions(&state.conditions),
            suspended_reason: state.suspended.as_ref().map(|s| s.reason.as_str()),
            suspended_since: state.suspended.as_ref().map(|s| s.since.0),
            dev_path: state.dev.as_ref().map(|dev| &*dev.path),
            dev_since: state.dev.as_ref().map(|dev| dev.since.0),
            dev_until: state.dev.as_ref().and_then(|dev| dev.until).map(|at| at.0),
            strayed: u8::from(state.has_strayed),
        }
    }
}

struct SourceRow {
    name: String,
    declared: String,
    spec: String,
    seen: Option<String>,
    attempted: Option<String>,
    deployed: Option<String>,
    last_fetch_at: Option<i64>,
    conditions: String,
    suspended_reason: Option<String>,
    suspended_since: Option<i64>,
    dev_path: Option<String>,
    dev_since: Option<i64>,
    dev_until: Option<i64>,
    strayed: i64,
    passes: i64,
}

impl TryFrom<SourceRow> for SourceRecord {
    type Error = BoxError;

    fn try_from(row: SourceRow) -> Result<Self, BoxError> {
        let revision = |text: Option<String>| text.as_deref().map(Revision::new);
        Ok(Self {
            spec: docs::read_spec(&row.name, &row.spec)?,
            declared: docs::known("origin of a source", &row.declared, read_declared)?,
            revisions: Revisions {
                seen: revision(row.seen),
                attempted: revision(row.attempted),
                deployed: revision(row.deployed),
            },
            last_fetch_at: row.last_fetch_at.map(Timestamp),
            conditions: docs::read_conditions(&row.conditions)?,
            suspended: docs::suspension(row.suspended_reason, row.suspended_since),
            dev: row.dev_path.zip(row.dev_since).map(|(path, since)| Dev {
                path: path.into(),
                since: Timestamp(since),
                until: row.dev_until.map(Timestamp),
            }),
            has_strayed: row.strayed != 0,
            passes: docs::natural(row.passes),
        })
    }
}

fn declared(by: Declared) -> &'static str {
    match by {
        Declared::File => "file",
        Declared::Command => "command",
    }
}

fn read_declared(word: &str) -> Option<Declared> {
    [Declared::File, Declared::Command].into_iter().find(|by| declared(*by) == word)
}
