//! Versions of units: their specs and file lists.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures_util::TryStreamExt as _;
use serde::Serialize;
use sqlx::{query, query_as};

use crate::model::hash::{ContentHash, UnitHash};
use crate::model::id::UnitId;
use crate::model::source::Revision;
use crate::model::time::Timestamp;
use crate::model::unit::Version;
use crate::plan::canonical;

use super::commit::piece;
use super::docs;
use super::error::{BoxError, StoreError};
use super::rows::{UnitRecord, VersionSummary};
use super::store::{Store, Tx};

impl Store {
    /// A version that is kept.
    ///
    /// # Errors
    /// It could not be read.
    pub async fn version(&self, unit: &UnitId, hash: &UnitHash) -> Result<Option<Version>, StoreError> {
        let what = format!("read the version {} of {unit}", hash.short());
        let at = self.at(&what);
        let (unit, hash) = (unit.to_string(), hash.to_string());
        let mut conn = self.read(at).await?;
        let row = query_as!(
            VersionRow,
            "SELECT unit, hash, revision, spec, files FROM versions WHERE unit = ? AND hash = ?",
            unit,
            hash
        )
        .fetch_optional(&mut *conn)
        .await
        .map_err(|e| at.sql(e))?;
        row.map(Version::try_from).transpose().map_err(|e| at.corrupt(e))
    }

    /// The versions that are kept of a unit: the one deployed last comes first, those that never were come last.
    ///
    /// # Errors
    /// They could not be read.
    pub async fn versions(&self, unit: &UnitId) -> Result<Vec<VersionSummary>, StoreError> {
        let what = format!("read the versions of {unit}");
        let at = self.at(&what);
        let unit = unit.to_string();
        let mut conn = self.read(at).await?;
        let rows = query_as!(
            SummaryRow,
            "SELECT hash, revision, deployed_at, name FROM versions WHERE unit = ?
             ORDER BY deployed_at DESC NULLS LAST, id DESC",
            unit
        )
        .fetch_all(&mut *conn)
        .await
        .map_err(|e| at.sql(e))?;
        rows.into_iter().map(|row| row.try_into().map_err(|e: BoxError| at.corrupt(e))).collect()
    }

    /// The versions that are kept of a unit and whose hash begins with `prefix`, ordered as by [`Store::versions`].
    ///
    /// # Errors
    /// They could not be read.
    pub async fn resolve_version(
        &self,
        unit: &UnitId,
        prefix: &str,
    ) -> Result<Vec<VersionSummary>, StoreError> {
        // There are few versions of one unit, and prefixes come from people.
        let mut all = self.versions(unit).await?;
        all.retain(|version| version.hash.to_string().starts_with(prefix));
        Ok(all)
    }

    /// The version that is deployed of each unit, by the unit's id: what is registered at the start.
    ///
    /// # Errors
    /// They could not be read.
    pub async fn deployed_versions(&self) -> Result<Vec<Version>, StoreError> {
        let at = self.at("read the deployed versions");
        let mut conn = self.read(at).await?;
        let mut rows = query_as!(
            VersionRow,
            "SELECT versions.unit, versions.hash, versions.revision, versions.spec, versions.files
             FROM units JOIN versions ON versions.unit = units.id AND versions.hash = units.deployed
             ORDER BY units.id"
        )
        .fetch(&mut *conn);
        let mut all = Vec::new();
        while let Some(row) = rows.try_next().await.map_err(|e| at.sql(e))? {
            let what = format!("read the deployed version of {}", row.unit);
            all.push(row.try_into().map_err(|e: BoxError| self.at(&what).corrupt(e))?);
        }
        Ok(all)
    }

    /// The hashes of all versions that are kept.
    ///
    /// # Errors
    /// They could not be read.
    pub async fn kept_versions(&self) -> Result<HashSet<UnitHash>, StoreError> {
        let at = self.at("list the versions");
        let mut conn = self.read(at).await?;
        let mut rows = query!("SELECT hash FROM versions").fetch(&mut *conn);
        let mut all = HashSet::new();
        while let Some(row) = rows.try_next().await.map_err(|e| at.sql(e))? {
            all.extend(docs::hash("hash of a version", Some(&row.hash)).map_err(|e| at.corrupt(e))?);
        }
        Ok(all)
    }

    /// The hashes of all files of all versions that are kept.
    ///
    /// # Errors
    /// They could not be read. Then nothing is known of what is needed, and nothing may be swept.
    pub async fn referenced_contents(&self) -> Result<HashSet<ContentHash>, StoreError> {
        let at = self.at("list the files of the versions");
        let mut conn = self.read(at).await?;
        let mut rows = query!("SELECT files FROM versions").fetch(&mut *conn);
        let mut all = HashSet::new();
        while let Some(row) = rows.try_next().await.map_err(|e| at.sql(e))? {
            let files = docs::read_files(&row.files).map_err(|e| at.corrupt(e))?;
            all.extend(files.iter().map(|file| file.hash));
        }
        Ok(all)
    }
}

/// Keeps versions; one that is its unit's deployed one counts as deployed now.
pub(super) async fn put(
    tx: &mut Tx<'_>,
    mut versions: &[Version],
    units: &[UnitRecord],
    now: Timestamp,
) -> Result<(), StoreError> {
    let deployed: HashMap<&UnitId, UnitHash> =
        units.iter().filter_map(|unit| Some((&unit.id, unit.deployed?))).collect();
    while let Some(rows) = piece(&mut versions, |version| VersionDoc::new(version, &deployed, now)) {
        query!(
            "INSERT INTO versions (unit, hash, name, revision, deployed_at, spec, files)
             SELECT value ->> 'unit', value ->> 'hash', value ->> 'name', value ->> 'revision',
                 value ->> 'deployed_at', value ->> 'spec', value ->> 'files'
             FROM jsonb_each(?) WHERE true
             ON CONFLICT (unit, hash) DO UPDATE SET deployed_at = excluded.deployed_at
                 WHERE excluded.deployed_at IS NOT NULL",
            rows
        )
        .execute(&mut **tx)
        .await
        .map_err(|e| tx.at().sql(e))?;
    }
    Ok(())
}

#[derive(Serialize)]
struct VersionDoc<'a> {
    unit: String,
    hash: String,
    name: &'a str,
    revision: Option<&'a str>,
    deployed_at: Option<i64>,
    spec: String,
    files: String,
}

impl<'a> VersionDoc<'a> {
    fn new(version: &'a Version, deployed: &HashMap<&UnitId, UnitHash>, now: Timestamp) -> Self {
        Self {
            unit: version.unit.to_string(),
            hash: version.hash.to_string(),
            name: &version.spec.name,
            revision: version.revision.as_ref().map(Revision::as_str),
            deployed_at: (deployed.get(&version.unit) == Some(&version.hash)).then_some(now.0),
            spec: canonical::encode(&version.spec),
            files: docs::files(&version.files),
        }
    }
}

struct VersionRow {
    unit: String,
    hash: String,
    revision: Option<String>,
    spec: String,
    files: String,
}

impl TryFrom<VersionRow> for Version {
    type Error = BoxError;

    fn try_from(row: VersionRow) -> Result<Self, BoxError> {
        Ok(Self {
            unit: UnitId::parse(&row.unit)?,
            hash: row.hash.parse()?,
            spec: Arc::new(canonical::decode(&row.spec)?),
            files: docs::read_files(&row.files)?,
            revision: row.revision.as_deref().map(Revision::new),
        })
    }
}

struct SummaryRow {
    hash: String,
    revision: Option<String>,
    deployed_at: Option<i64>,
    name: String,
}

impl TryFrom<SummaryRow> for VersionSummary {
    type Error = BoxError;

    fn try_from(row: SummaryRow) -> Result<Self, BoxError> {
        Ok(Self {
            hash: row.hash.parse()?,
            revision: row.revision.as_deref().map(Revision::new),
            deployed_at: row.deployed_at.map(Timestamp),
            name: row.name,
        })
    }
}
