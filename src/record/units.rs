//! Units that are there, and the names of those that are gone.

use serde::Serialize;
use sqlx::{query, query_as};

use crate::model::hash::UnitHash;
use crate::model::id::UnitId;
use crate::model::source::Revision;
use crate::model::step::{Action, Generation, Rule};
use crate::model::time::Timestamp;

use super::commit::piece;
use super::docs;
use super::error::{BoxError, StoreError};
use super::rows::{HeldBy, Hold, RemovedUnit, UnitRecord};
use super::store::{Store, Tx};

impl Store {
    /// All units that are there, by id.
    ///
    /// # Errors
    /// They could not be read.
    pub async fn units(&self) -> Result<Vec<UnitRecord>, StoreError> {
        let at = self.at("read the units");
        let mut conn = self.read(at).await?;
        let rows = query_as!(
            UnitRow,
            "SELECT id, name, desired, attempted, deployed, deployed_revision, generation, action, rule, reason,
                    conditions, problems, held_hash, held_by, held_reason, held_since,
                    suspended_reason, suspended_since, failures, retry_at, pinned, updated_at, warnings,
                    phases
             FROM units ORDER BY id"
        )
        .fetch_all(&mut *conn)
        .await
        .map_err(|e| at.sql(e))?;
        rows.into_iter()
            .map(|row| {
                let id = row.id.clone();
                row.try_into().map_err(|e: BoxError| self.at(&format!("read the unit {id}")).corrupt(e))
            })
            .collect()
    }

    /// Units that are gone and of which something is still kept, by id.
    ///
    /// # Errors
    /// They could not be read.
    pub async fn removed_units(&self) -> Result<Vec<RemovedUnit>, StoreError> {
        let at = self.at("read the removed units");
        let mut conn = self.read(at).await?;
        let rows = query!("SELECT unit, generation, removed_at FROM removed_units ORDER BY unit")
            .fetch_all(&mut *conn)
            .await
            .map_err(|e| at.sql(e))?;
        let read = |unit: &str, generation, removed_at| {
            Ok(RemovedUnit {
                id: UnitId::parse(unit).map_err(|e| at.corrupt(e))?,
                generation: Generation(docs::natural(generation)),
                removed_at: Timestamp(removed_at),
            })
        };
        rows.iter().map(|row| read(&row.unit, row.generation, row.removed_at)).collect()
    }
}

/// Takes units away, keeping when they went.
pub(super) async fn remove(tx: &mut Tx<'_>, mut units: &[UnitId], now: Timestamp) -> Result<(), StoreError> {
    while let Some(ids) = piece(&mut units, UnitId::to_string) {
        query!(
            "INSERT INTO removed_units (unit, generation, removed_at)
             SELECT id, generation, ?1 FROM units WHERE id IN (SELECT value FROM json_each(?2))
             ON CONFLICT (unit) DO UPDATE SET generation = excluded.generation, removed_at = excluded.removed_at",
            now.0,
            ids
        )
        .execute(&mut **tx)
        .await
        .map_err(|e| tx.at().sql(e))?;
        query!("DELETE FROM units WHERE id IN (SELECT value FROM json_each(?))", ids)
            .execute(&mut **tx)
            .await
            .map_err(|e| tx.at().sql(e))?;
    }
    Ok(())
}

/// Puts units in place.
pub(super) async fn upsert(tx: &mut Tx<'_>, mut units: &[UnitRecord]) -> Result<(), StoreError> {
    while let Some(rows) = piece(&mut units, UnitDoc::from) {
        query!(
            "INSERT INTO units (id, source, name, desired, attempted, deployed, deployed_revision, generation,
                 action, rule, reason, conditions, problems, held_hash, held_by, held_reason, held_since,
                 suspended_reason, suspended_since, failures, retry_at, pinned, updated_at, warnings,
                 phases)
             SELECT value ->> 'id', value ->> 'source', value ->> 'name', value ->> 'desired',
                 value ->> 'attempted', value ->> 'deployed', value ->> 'deployed_revision',
                 value ->> 'generation', value ->> 'action', value ->> 'rule', value ->> 'reason',
                 value -> 'conditions', value -> 'problems', value ->> 'held_hash', value ->> 'held_by',
                 value ->> 'held_reason', value ->> 'held_since', value ->> 'suspended_reason',
                 value ->> 'suspended_since', value ->> 'failures', value ->> 'retry_at', value ->> 'pinned',
                 value ->> 'updated_at', value -> 'warnings',
                 value -> 'phases'
             FROM jsonb_each(?) WHERE true
             ON CONFLICT (id) DO UPDATE SET name = excluded.name, desired = excluded.desired,
                 attempted = excluded.attempted, deployed = excluded.deployed,
                 deployed_revision = excluded.deployed_revision, generation = excluded.generation,
                 action = excluded.action, rule = excluded.rule, reason = excluded.reason,
                 conditions = excluded.conditions, problems = excluded.problems,
                 held_hash = excluded.held_hash, held_by = excluded.held_by,
                 held_reason = excluded.held_reason, held_since = excluded.held_since,
                 suspended_reason = excluded.suspended_reason, suspended_since = excluded.suspended_since,
                 failures = excluded.failures, retry_at = excluded.retry_at, pinned = excluded.pinned,
                 updated_at = excluded.updated_at, warnings = excluded.warnings,
                 phases = excluded.phases",
            rows
        )
        .execute(&mut **tx)
        .await
        .map_err(|e| tx.at().sql(e))?;
    }
    Ok(())
}

#[derive(Serialize)]
struct UnitDoc<'a> {
    id: String,
    source: &'a str,
    name: &'a str,
    desired: Option<String>,
    attempted: Option<String>,
    deployed: Option<String>,
    deployed_revision: Option<&'a str>,
    generation: i64,
    action: Option<&'a str>,
    rule: Option<&'a str>,
    reason: &'a str,
    conditions: Vec<docs::ConditionDoc>,
    problems: Vec<docs::ProblemDoc>,
    held_hash: Option<String>,
    held_by: Option<&'a str>,
    held_reason: Option<&'a str>,
    held_since: Option<i64>,
    suspended_reason: Option<&'a str>,
    suspended_since: Option<i64>,
    failures: u32,
    retry_at: Option<i64>,
    pinned: Option<String>,
    updated_at: i64,
    warnings: Vec<docs::ProblemDoc>,
    phases: Vec<(&'a str, f64)>,
}

impl<'a> From<&'a UnitRecord> for UnitDoc<'a> {
    fn from(unit: &'a UnitRecord) -> Self {
        let hash = |hash: &Option<UnitHash>| hash.map(|hash| hash.to_string());
        let (hold, suspended) = (unit.hold.as_ref(), unit.suspended.as_ref());
        Self {
            id: unit.id.to_string(),
            source: unit.id.source.as_str(),
            name: &unit.name,
            desired: hash(&unit.desired),
            attempted: hash(&unit.attempted),
            deployed: hash(&unit.deployed),
            deployed_revision: unit.deployed_revision.as_ref().map(Revision::as_str),
            generation: docs::integer(unit.generation.0),
            action: unit.action.map(Action::as_str),
            rule: unit.rule.map(Rule::as_str),
            reason: &unit.reason,
            conditions: docs::conditions(&unit.conditions),
            problems: docs::problems(&unit.problems),
            held_hash: hold.map(|hold| hold.hash.to_string()),
            held_by: hold.map(|hold| hold.by.as_str()),
            held_reason: hold.map(|hold| hold.reason.as_str()),
            held_since: hold.map(|hold| hold.since.0),
            suspended_reason: suspended.map(|s| s.reason.as_str()),
            suspended_since: suspended.map(|s| s.since.0),
            failures: unit.failures,
            retry_at: unit.retry_at.map(|at| at.0),
            pinned: hash(&unit.pinned),
            updated_at: unit.updated_at.0,
            warnings: docs::problems(&unit.warnings),
            phases: docs::phases(&unit.phases),
        }
    }
}

struct UnitRow {
    id: String,
    name: String,
    desired: Option<String>,
    attempted: Option<String>,
    deployed: Option<String>,
    deployed_revision: Option<String>,
    generation: i64,
    action: Option<String>,
    rule: Option<String>,
    reason: String,
    conditions: String,
    problems: String,
    held_hash: Option<String>,
    held_by: Option<String>,
    held_reason: Option<String>,
    held_since: Option<i64>,
    suspended_reason: Option<String>,
    suspended_since: Option<i64>,
    failures: i64,
    retry_at: Option<i64>,
    pinned: Option<String>,
    updated_at: i64,
    warnings: String,
    phases: String,
}

impl TryFrom<UnitRow> for UnitRecord {
    type Error = BoxError;

    fn try_from(row: UnitRow) -> Result<Self, BoxError> {
        Ok(Self {
            hold: row.hold()?,
            id: UnitId::parse(&row.id)?,
            name: row.name,
            desired: docs::hash("desired hash", row.desired.as_deref())?,
            attempted: docs::hash("attempted hash", row.attempted.as_deref())?,
            deployed: docs::hash("deployed hash", row.deployed.as_deref())?,
            deployed_revision: row.deployed_revision.as_deref().map(Revision::new),
            generation: Generation(docs::natural(row.generation)),
            action: row
                .action
                .as_deref()
                .map(|word| docs::known("action", word, Action::parse))
                .transpose()?,
            rule: row.rule.as_deref().map(|id| docs::known("rule", id, Rule::parse)).transpose()?,
            reason: row.reason,
            conditions: docs::read_conditions(&row.conditions)?,
            problems: docs::read_problems(&row.problems)?,
            suspended: docs::suspension(row.suspended_reason, row.suspended_since),
            failures: u32::try_from(row.failures)?,
            retry_at: row.retry_at.map(Timestamp),
            pinned: docs::hash("pinned hash", row.pinned.as_deref())?,
            updated_at: Timestamp(row.updated_at),
            warnings: docs::read_problems(&row.warnings)?,
            phases: docs::read_phases(&row.phases)?,
        })
    }
}

impl UnitRow {
    fn hold(&self) -> Result<Option<Hold>, BoxError> {
        let Some(hash) = docs::hash("held hash", self.held_hash.as_deref())? else { return Ok(None) };
        Ok(Some(Hold {
            hash,
            by: docs::known("holder", self.held_by.as_deref().unwrap_or_default(), HeldBy::parse)?,
            reason: self.held_reason.clone().unwrap_or_default(),
            since: Timestamp(self.held_since.unwrap_or_default()),
        }))
    }
}
