//! History: one row for each step.

use serde::Serialize;
use sqlx::{query, query_as};

use crate::model::hash::UnitHash;
use crate::model::history::{Cause, HistoryRow, Outcome, TriggerKind};
use crate::model::id::UnitId;
use crate::model::source::Revision;
use crate::model::step::{Action, Generation, Rule};
use crate::model::time::Timestamp;

use super::commit::piece;
use super::docs;
use super::error::{BoxError, StoreError};
use super::rows::HistoryQuery;
use super::store::{Store, Tx};

/// A page of history; the condition is written out, as a checked query is one fixed text.
macro_rules! page {
    ($condition:tt $(, $value:expr)*) => {
        query_as!(
            Row,
            "SELECT id, unit, generation, cause, cause_detail, revision, dev_path, rewritten, from_hash, to_hash, action,
                    rule, reason, files, phases, outcome, proof, error, at
             FROM history WHERE " + $condition + " ORDER BY id DESC LIMIT ?"
            $(, $value)*
        )
    };
}

impl Store {
    /// Rows of history with their numbers, newest first.
    ///
    /// # Errors
    /// They could not be read.
    pub async fn history(&self, ask: HistoryQuery) -> Result<Vec<(i64, HistoryRow)>, StoreError> {
        let at = self.at("read the history");
        let before = ask.before.unwrap_or(i64::MAX);
        let mut conn = self.read(at).await?;
        let rows = match (&ask.unit, &ask.source) {
            (Some(unit), _) => {
                let unit = unit.to_string();
                page!("unit = ? AND id < ?", unit, before, ask.limit).fetch_all(&mut *conn).await
            }
            (None, Some(source)) => {
                let source = source.as_str();
                page!("source = ? AND id < ?", source, before, ask.limit).fetch_all(&mut *conn).await
            }
            (None, None) => page!("id < ?", before, ask.limit).fetch_all(&mut *conn).await,
        };
        let read = |row: Row| {
            let id = row.id;
            let row = row
                .try_into()
                .map_err(|e: BoxError| self.at(&format!("read the row {id} of the history")).corrupt(e))?;
            Ok((id, row))
        };
        rows.map_err(|e| at.sql(e))?.into_iter().map(read).collect()
    }
}

/// Adds rows.
pub(super) async fn add(tx: &mut Tx<'_>, mut history: &[HistoryRow]) -> Result<(), StoreError> {
    while let Some(rows) = piece(&mut history, Doc::from) {
        query!(
            "INSERT INTO history (unit, source, generation, cause, cause_detail, revision, dev_path, rewritten,
                 from_hash, to_hash, action, rule, reason, files, phases, outcome, proof, error, at)
             SELECT value ->> 'unit', value ->> 'source', value ->> 'generation', value ->> 'cause',
                 value ->> 'cause_detail', value ->> 'revision', value ->> 'dev_path', value ->> 'rewritten',
                 value ->> 'from_hash', value ->> 'to_hash', value ->> 'action', value ->> 'rule', value ->> 'reason',
                 value -> 'files', value -> 'phases', value ->> 'outcome', value ->> 'proof',
                 value ->> 'error', value ->> 'at'
             FROM jsonb_each(?)",
            rows
        )
        .execute(&mut **tx)
        .await
        .map_err(|e| tx.at().sql(e))?;
    }
    Ok(())
}

#[derive(Serialize)]
struct Doc<'a> {
    unit: String,
    source: &'a str,
    generation: i64,
    cause: &'a str,
    cause_detail: &'a str,
    revision: Option<&'a str>,
    dev_path: Option<&'a str>,
    rewritten: bool,
    from_hash: Option<String>,
    to_hash: Option<String>,
    action: &'a str,
    rule: &'a str,
    reason: &'a str,
    files: Vec<docs::ChangeDoc>,
    phases: Vec<(&'a str, f64)>,
    outcome: &'a str,
    proof: &'a str,
    error: &'a str,
    at: i64,
}

impl<'a> From<&'a HistoryRow> for Doc<'a> {
    fn from(row: &'a HistoryRow) -> Self {
        let hash = |hash: Option<UnitHash>| hash.map(|hash| hash.to_string());
        Self {
            unit: row.unit.to_string(),
            source: row.unit.source.as_str(),
            generation: docs::integer(row.generation.0),
            cause: row.cause.kind.as_str(),
            cause_detail: &row.cause.detail,
            revision: row.revision.as_ref().map(Revision::as_str),
            dev_path: row.dev_path.as_deref(),
            rewritten: row.rewritten,
            from_hash: hash(row.from),
            to_hash: hash(row.to),
            action: row.action.as_str(),
            rule: row.rule.as_str(),
            reason: &row.reason,
            files: docs::changes(&row.files),
            phases: docs::phases(&row.phases),
            outcome: row.outcome.as_str(),
            proof: &row.proof,
            error: &row.error,
            at: row.at.0,
        }
    }
}

struct Row {
    id: i64,
    unit: String,
    generation: i64,
    cause: String,
    cause_detail: String,
    revision: Option<String>,
    dev_path: Option<String>,
    rewritten: i64,
    from_hash: Option<String>,
    to_hash: Option<String>,
    action: String,
    rule: String,
    reason: String,
    files: String,
    phases: String,
    outcome: String,
    proof: String,
    error: String,
    at: i64,
}

impl TryFrom<Row> for HistoryRow {
    type Error = BoxError;

    fn try_from(row: Row) -> Result<Self, BoxError> {
        Ok(Self {
            unit: UnitId::parse(&row.unit)?,
            generation: Generation(docs::natural(row.generation)),
            cause: Cause {
                kind: docs::known("cause", &row.cause, TriggerKind::parse)?,
                detail: row.cause_detail,
            },
            revision: row.revision.as_deref().map(Revision::new),
            dev_path: row.dev_path.map(Into::into),
            rewritten: row.rewritten != 0,
            from: docs::hash("hash before", row.from_hash.as_deref())?,
            to: docs::hash("hash after", row.to_hash.as_deref())?,
            action: docs::known("action", &row.action, Action::parse)?,
            rule: docs::known("rule", &row.rule, Rule::parse)?,
            reason: row.reason,
            files: docs::read_changes(&row.files)?,
            phases: docs::read_phases(&row.phases)?,
            outcome: docs::known("outcome", &row.outcome, Outcome::parse)?,
            proof: row.proof,
            error: row.error,
            at: Timestamp(row.at),
        })
    }
}
