//! The outbox: what commits are to be told, and what became of it.

use std::collections::BTreeSet;

use sqlx::{SqliteConnection, query, query_as, query_scalar};

use crate::model::commit_status::{CommitPlace, CommitState, OutboxRow, Repository, Tell, Verdict};
use crate::model::id::SourceName;
use crate::model::source::Revision;
use crate::model::time::Timestamp;

use super::docs;
use super::error::{BoxError, StoreError};
use super::store::Store;

/// What a recording changes in the outbox.
#[derive(Clone, Debug)]
pub struct Telling {
    /// The commit.
    pub place: CommitPlace,
    /// The base of the API of its host.
    pub api: String,
    /// What is told of it.
    pub tell: Tell,
    /// Whether it stands back behind whatever is known of the commit already.
    pub is_first: bool,
    /// What commits of the source are told that were pending while it took their place.
    pub superseded: Verdict,
}

/// What of one source is shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// The newest commit that was told something, what, and when.
    pub last: Option<(Revision, CommitState, Timestamp)>,
    /// Why the newest commit could not be told something, and which one it is.
    pub wrong: Option<(Revision, String)>,
}

/// How an attempt to say something ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// It was said.
    Yes,
    /// It was not, because of this; it is tried again then.
    Later(String, Timestamp),
    /// It was not and will not be, because of this.
    Never(String),
}

pub(super) async fn put(
    conn: &mut SqliteConnection,
    telling: &Telling,
    now: Timestamp,
) -> Result<(), sqlx::Error> {
    let Telling { place, api, tell, is_first, superseded } = telling;
    let source = place.source.as_str();
    let verdict = match tell {
        Tell::Say(verdict) => verdict,
        Tell::End(verdict) => return end_pending(conn, source, None, verdict, now).await,
    };
    let (repository, revision) = (place.repository.to_string(), place.revision.as_str());
    let (state, summary, times) = (verdict.state.as_str(), &verdict.summary, &verdict.times);
    query!(
        "INSERT INTO outbox (source, api, repository, revision, state, summary, times, changed_at, due_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?8)
         ON CONFLICT (source, repository, revision) DO UPDATE SET
             api = excluded.api, state = excluded.state, summary = excluded.summary, times = excluded.times,
             changed_at = excluded.changed_at, attempts = 0, error = '',
             due_at = CASE WHEN posted_state = excluded.state AND api = excluded.api
                                AND (posted_summary = excluded.summary OR excluded.state = 'pending')
                           THEN NULL ELSE excluded.changed_at END
         WHERE NOT ?9 AND (state <> excluded.state OR api <> excluded.api
                           OR (summary <> excluded.summary AND excluded.state <> 'pending'))",
        source,
        api,
        repository,
        revision,
        state,
        summary,
        times,
        now.0,
        is_first
    )
    .execute(&mut *conn)
    .await?;
    end_pending(conn, source, Some((&repository, revision)), superseded, now).await
}

/// Ends what was called pending of a source, but for one commit: just before that one, which is the newest.
async fn end_pending(
    conn: &mut SqliteConnection,
    source: &str,
    but: Option<(&str, &str)>,
    verdict: &Verdict,
    now: Timestamp,
) -> Result<(), sqlx::Error> {
    let (repository, revision) = but.unwrap_or_default();
    let (state, summary) = (verdict.state.as_str(), &verdict.summary);
    query!(
        "UPDATE outbox SET state = ?1, summary = ?2, times = '', changed_at = ?3 - (?6 <> ''), due_at = ?3,
             attempts = 0,
             error = ''
         WHERE source = ?4 AND state = 'pending' AND NOT (repository = ?5 AND revision = ?6)",
        state,
        summary,
        now.0,
        source,
        repository,
        revision
    )
    .execute(conn)
    .await?;
    Ok(())
}

impl Store {
    /// Records what commits are told, in one transaction.
    ///
    /// # Errors
    /// It could not be written; then nothing of it is there.
    pub async fn tell(&self, tellings: &[Telling], now: Timestamp) -> Result<(), StoreError> {
        let at = self.at("record what commits are told");
        let mut tx = self.begin(at).await?;
        for telling in tellings {
            put(&mut tx, telling, now).await.map_err(|e| at.sql(e))?;
        }
        tx.commit().await
    }

    /// What is to be said at an API by `now`, what is due longest first, `limit` at most.
    ///
    /// # Errors
    /// It could not be read.
    pub async fn due_tellings(
        &self,
        api: &str,
        now: Timestamp,
        limit: u32,
    ) -> Result<Vec<OutboxRow>, StoreError> {
        let at = self.at("read what commits are to be told");
        let mut conn = self.read(at).await?;
        let rows = query_as!(
            Row,
            "SELECT source, repository, revision, state, summary, times, changed_at, posted_state, posted_at,
                    attempts, due_at, error
             FROM outbox WHERE due_at <= ? AND api = ? ORDER BY due_at, rowid LIMIT ?",
            now.0,
            api,
            limit
        )
        .fetch_all(&mut *conn)
        .await
        .map_err(|e| at.sql(e))?;
        rows.into_iter().map(|row| row.try_into().map_err(|e: BoxError| at.corrupt(e))).collect()
    }

    /// When something is to be said at an API next.
    ///
    /// # Errors
    /// It could not be read.
    pub async fn next_telling(&self, api: &str) -> Result<Option<Timestamp>, StoreError> {
        let at = self.at("read when commits are told next");
        let mut conn = self.read(at).await?;
        let next = query_scalar!(
            r#"SELECT min(due_at) AS "due: i64" FROM outbox WHERE due_at IS NOT NULL AND api = ?"#,
            api
        )
        .fetch_one(&mut *conn)
        .await
        .map_err(|e| at.sql(e))?;
        Ok(next.map(Timestamp))
    }

    /// Records how the attempt to say `row` ended at `now`. What was decided meanwhile stays due.
    ///
    /// # Errors
    /// It could not be written.
    pub async fn told(&self, row: &OutboxRow, said: &Said, now: Timestamp) -> Result<(), StoreError> {
        let at = self.at("record what commits were told");
        let (source, repository) = (row.place.source.as_str(), row.place.repository.to_string());
        let revision = row.place.revision.as_str();
        let (state, summary) = (row.verdict.state.as_str(), &row.verdict.summary);
        let mut conn = self.write(at).await?;
        let done = match said {
            Said::Yes => {
                query!(
                    "UPDATE outbox SET posted_state = ?1, posted_summary = ?2, posted_at = ?3, attempts = 0, error = '',
                         due_at = CASE WHEN state = ?1 AND summary = ?2 THEN NULL ELSE due_at END
                     WHERE source = ?4 AND repository = ?5 AND revision = ?6",
                    state,
                    summary,
                    now.0,
                    source,
                    repository,
                    revision
                )
                .execute(&mut *conn)
                .await
            }
            Said::Later(..) | Said::Never(_) => {
                let (error, due) = match said {
                    Said::Later(error, due) => (error.as_str(), Some(due.0)),
                    Said::Never(error) => (error.as_str(), None),
                    Said::Yes => ("", None),
                };
                query!(
                    "UPDATE outbox SET attempts = attempts + 1, error = ?, due_at = ?
                     WHERE source = ? AND repository = ? AND revision = ? AND state = ? AND summary = ?",
                    error,
                    due,
                    source,
                    repository,
                    revision,
                    state,
                    summary
                )
                .execute(&mut *conn)
                .await
            }
        };
        done.map(drop).map_err(|e| at.sql(e))
    }

    /// Makes due again what was given up since `since`: another token may be good for it.
    ///
    /// # Errors
    /// It could not be written.
    pub async fn tell_again(&self, api: &str, since: Timestamp, now: Timestamp) -> Result<(), StoreError> {
        let at = self.at("record what commits are told again");
        let mut conn = self.write(at).await?;
        let done = query!(
            "UPDATE outbox SET due_at = ? WHERE due_at IS NULL AND error <> '' AND api = ? AND changed_at >= ?",
            now.0,
            api,
            since.0
        );
        done.execute(&mut *conn).await.map(drop).map_err(|e| at.sql(e))
    }

    /// Records why what is to be said at an API waits, where nothing is known to be wrong with it yet; gives back the
    /// sources that this concerns.
    ///
    /// # Errors
    /// It could not be written.
    pub async fn wait_for_host(&self, api: &str, why: &str) -> Result<BTreeSet<SourceName>, StoreError> {
        let at = self.at("record what commits wait for");
        let mut conn = self.write(at).await?;
        let rows = query_scalar!(
            "UPDATE outbox SET error = ? WHERE due_at IS NOT NULL AND error = '' AND api = ? RETURNING source",
            why,
            api
        );
        let rows = rows.fetch_all(&mut *conn).await.map_err(|e| at.sql(e))?;
        rows.iter().map(|name| SourceName::new(name).map_err(|e| at.corrupt(e))).collect()
    }

    /// What the newest commit of a source of which anything was said was told, and why the newest one was not.
    ///
    /// # Errors
    /// It could not be read.
    pub async fn told_of(&self, source: &SourceName) -> Result<Told, StoreError> {
        let at = self.at("read what commits were told");
        let source = source.as_str();
        let mut conn = self.read(at).await?;
        let last = query!(
            r#"SELECT revision, posted_state AS "state!", posted_at AS "at!" FROM outbox
               WHERE source = ? AND +posted_at IS NOT NULL AND posted_state IS NOT NULL
               ORDER BY changed_at DESC, rowid DESC LIMIT 1"#,
            source
        )
        .fetch_optional(&mut *conn)
        .await
        .map_err(|e| at.sql(e))?;
        let newest = query!(
            "SELECT revision, error FROM outbox WHERE source = ?
             ORDER BY changed_at DESC, rowid DESC LIMIT 1",
            source
        )
        .fetch_optional(&mut *conn)
        .await
        .map_err(|e| at.sql(e))?;
        let last = last.map(|row| {
            let state = docs::known("state of a commit", &row.state, CommitState::parse)?;
            Ok((Revision::new(&row.revision), state, Timestamp(row.at)))
        });
        let wrong = newest.filter(|row| !row.error.is_empty());
        Ok(Told {
            last: last.transpose().map_err(|e: BoxError| at.corrupt(e))?,
            wrong: wrong.map(|row| (Revision::new(&row.revision), row.error)),
        })
    }
}

struct Row {
    source: String,
    repository: String,
    revision: String,
    state: String,
    summary: String,
    times: String,
    changed_at: i64,
    posted_state: Option<String>,
    posted_at: Option<i64>,
    attempts: i64,
    due_at: Option<i64>,
    error: String,
}

impl TryFrom<Row> for OutboxRow {
    type Error = BoxError;

    fn try_from(row: Row) -> Result<Self, BoxError> {
        let state = |word: &str| docs::known("state of a commit", word, CommitState::parse);
        let posted = row.posted_state.as_deref().map(state).transpose()?;
        Ok(Self {
            place: CommitPlace {
                source: SourceName::new(&row.source)?,
                repository: docs::known("repository of a commit", &row.repository, Repository::parse)?,
                revision: Revision::new(&row.revision),
            },
            verdict: Verdict { state: state(&row.state)?, summary: row.summary, times: row.times },
            changed_at: Timestamp(row.changed_at),
            posted: posted.zip(row.posted_at.map(Timestamp)),
            attempts: u32::try_from(row.attempts).unwrap_or(u32::MAX),
            due_at: row.due_at.map(Timestamp),
            error: row.error,
        })
    }
}

#[cfg(test)]
mod tests;
