//! Events: what clients were told.

use serde::Serialize;
use sqlx::{SqliteConnection, query, query_as};

use crate::model::event::{Event, EventType};
use crate::model::id::{SourceName, UnitId};
use crate::model::source::Revision;
use crate::model::time::Timestamp;

use super::commit::piece;
use super::docs;
use super::error::{BoxError, StoreError};
use super::store::{Store, Tx};

impl Store {
    /// Records events that do not belong to a pass.
    ///
    /// # Errors
    /// They could not be written; then none of them is visible.
    pub async fn put_events(&self, events: &[Event]) -> Result<(), StoreError> {
        let mut tx = self.begin(self.at("record events")).await?;
        add(&mut tx, events).await?;
        tx.commit().await
    }

    /// The newest events, `limit` at most, that were recorded at `since` or later; the oldest comes first.
    ///
    /// # Errors
    /// They could not be read.
    pub async fn events_since(&self, since: Timestamp, limit: u32) -> Result<Vec<Event>, StoreError> {
        let at = self.at("read the events");
        let mut conn = self.read(at).await?;
        let rows = query_as!(
            Row,
            "SELECT at, type AS kind, source, unit, hash, revision, message, phases FROM events
             WHERE at >= ? ORDER BY at DESC, id DESC LIMIT ?",
            since.0,
            limit
        )
        .fetch_all(&mut *conn)
        .await
        .map_err(|e| at.sql(e))?;
        rows.into_iter().rev().map(|row| row.try_into().map_err(|e: BoxError| at.corrupt(e))).collect()
    }
}

/// Adds events.
pub(super) async fn add(tx: &mut Tx<'_>, mut events: &[Event]) -> Result<(), StoreError> {
    while let Some(rows) = piece(&mut events, Doc::from) {
        insert(tx, rows).await.map_err(|e| tx.at().sql(e))?;
    }
    Ok(())
}

async fn insert(conn: &mut SqliteConnection, rows: String) -> Result<(), sqlx::Error> {
    query!(
        "INSERT INTO events (at, type, source, unit, hash, revision, message, phases)
         SELECT value ->> 'at', value ->> 'type', value ->> 'source', value ->> 'unit', value ->> 'hash',
             value ->> 'revision', value ->> 'message', value -> 'phases'
         FROM jsonb_each(?)",
        rows
    )
    .execute(conn)
    .await
    .map(drop)
}

#[derive(Serialize)]
struct Doc<'a> {
    at: i64,
    r#type: &'a str,
    source: &'a str,
    unit: Option<String>,
    hash: Option<String>,
    revision: Option<&'a str>,
    message: &'a str,
    phases: Vec<(&'a str, f64)>,
}

impl<'a> From<&'a Event> for Doc<'a> {
    fn from(event: &'a Event) -> Self {
        Self {
            at: event.at.0,
            r#type: event.kind.as_str(),
            source: event.source.as_str(),
            unit: event.unit.as_ref().map(UnitId::to_string),
            hash: event.hash.map(|hash| hash.to_string()),
            revision: event.revision.as_ref().map(Revision::as_str),
            message: &event.message,
            phases: docs::phases(&event.phases),
        }
    }
}

struct Row {
    at: i64,
    kind: String,
    source: String,
    unit: Option<String>,
    hash: Option<String>,
    revision: Option<String>,
    message: String,
    phases: String,
}

impl TryFrom<Row> for Event {
    type Error = BoxError;

    fn try_from(row: Row) -> Result<Self, BoxError> {
        Ok(Self {
            at: Timestamp(row.at),
            kind: docs::known("type of an event", &row.kind, EventType::parse)?,
            source: SourceName::new(&row.source)?,
            unit: row.unit.as_deref().map(UnitId::parse).transpose()?,
            hash: docs::hash("hash of an event", row.hash.as_deref())?,
            revision: row.revision.as_deref().map(Revision::new),
            message: row.message,
            phases: docs::read_phases(&row.phases)?,
        })
    }
}
