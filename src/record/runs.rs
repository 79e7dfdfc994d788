//! Runs of tasks and their logs.

use serde::Serialize;
use sqlx::{SqliteConnection, query, query_as};

use crate::model::id::{RunId, UnitId};
use crate::model::run::{LogLine, ProcessId, Run, RunStatus, Stream};
use crate::model::source::Revision;
use crate::model::time::Timestamp;

use super::along::Along;
use super::commit::piece;
use super::docs;
use super::error::{BoxError, StoreError};
use super::rows::RunQuery;
use super::store::Store;

/// Runs under a condition, newest first; it is written out, as a checked query is one fixed text.
macro_rules! runs {
    ($condition:tt $(, $value:expr)*) => {
        query_as!(
            Row,
            "SELECT id, task, hash, revision, cause, cause_detail, attempt, first, retried_by, status, exit_code,
                    started_at, ended_at, pid, pid_started, boot, error, output, response
             FROM runs WHERE " + $condition + " ORDER BY number DESC LIMIT ?"
            $(, $value)*
        )
    };
}

/// How many candidates a prefix of an id gives at most.
const CANDIDATES: u32 = 10;

impl Store {
    /// Records a run that is about to begin.
    ///
    /// # Errors
    /// It could not be written, or a run with this id is recorded already.
    pub async fn insert_run(&self, run: &Run) -> Result<(), StoreError> {
        self.insert_run_along(run, &()).await
    }

    /// Records a run that is about to begin, and what belongs to its beginning, in one transaction.
    ///
    /// # Errors
    /// As [`Store::insert_run`]; then nothing of it is recorded.
    pub async fn insert_run_along(&self, run: &Run, along: &dyn Along) -> Result<(), StoreError> {
        let what = format!("record the run {}", run.id);
        let at = self.at(&what);
        let mut tx = self.begin(at).await?;
        insert(&mut tx, run).await.map_err(|e| at.sql(e))?;
        along.write(&mut tx).await.map_err(|e| at.sql(e))?;
        tx.commit().await
    }

    /// Records that a queued run begins now. Gives back `false`, and changes nothing, if it does not wait.
    ///
    /// # Errors
    /// It could not be written.
    pub async fn begin_run(&self, run: &RunId) -> Result<bool, StoreError> {
        let what = format!("record the beginning of the run {run}");
        let at = self.at(&what);
        let id = run.as_str();
        let mut conn = self.write(at).await?;
        let done = query!("UPDATE runs SET status = 'running' WHERE id = ? AND status = 'queued'", id)
            .execute(&mut *conn)
            .await
            .map_err(|e| at.sql(e))?;
        Ok(done.rows_affected() > 0)
    }

    /// Records the process of a run. Gives back `false`, and changes nothing, if the run is over or not recorded.
    ///
    /// # Errors
    /// It could not be written.
    pub async fn set_process(&self, run: &RunId, process: &ProcessId) -> Result<bool, StoreError> {
        let what = format!("record the process of the run {run}");
        let at = self.at(&what);
        let (id, started) = (run.as_str(), docs::integer(process.started));
        let mut conn = self.write(at).await?;
        let done = query!(
            "UPDATE runs SET pid = ?, pid_started = ?, boot = ? WHERE id = ? AND status = 'running'",
            process.pid,
            started,
            process.boot,
            id
        )
        .execute(&mut *conn)
        .await
        .map_err(|e| at.sql(e))?;
        Ok(done.rows_affected() > 0)
    }

    /// Records how a run ended: its status, which must be final, exit code, end, output, response, error and next
    /// attempt; and in the same transaction the runs that follow from it. Gives back `false`, and changes nothing, if
    /// the run is over already or not recorded: so whatever repeats this, nothing follows twice.
    ///
    /// # Errors
    /// It could not be written.
    pub async fn finish_run(&self, run: &Run, next: &[Run]) -> Result<bool, StoreError> {
        let what = format!("record the end of the run {}", run.id);
        let at = self.at(&what);
        let (id, status, ended_at) = (run.id.as_str(), run.status.as_str(), run.ended_at.map(|at| at.0));
        let retried_by = run.retried_by.as_ref().map(RunId::as_str);
        let mut tx = self.begin(at).await?;
        let done = query!(
            "UPDATE runs SET status = ?, exit_code = ?, ended_at = ?, output = ?, response = ?, error = ?,
                 retried_by = ?
             WHERE id = ? AND status IN ('queued', 'running')",
            status,
            run.exit_code,
            ended_at,
            run.output,
            run.response,
            run.error,
            retried_by,
            id
        )
        .execute(&mut *tx)
        .await
        .map_err(|e| at.sql(e))?;
        let is_done = done.rows_affected() > 0;
        if is_done {
            for next in next {
                insert(&mut tx, next).await.map_err(|e| at.sql(e))?;
            }
        }
        tx.commit().await?;
        Ok(is_done)
    }

    /// One run.
    ///
    /// # Errors
    /// It could not be read.
    pub async fn run(&self, id: &RunId) -> Result<Option<Run>, StoreError> {
        let at = self.at("read a run");
        let id = id.as_str();
        let mut conn = self.read(at).await?;
        let rows = runs!("id = ?", id, 1_u32).fetch_all(&mut *conn).await.map_err(|e| at.sql(e))?;
        Ok(self.read_runs(rows)?.pop())
    }

    /// Runs whose id begins with `prefix`, 10 at most, newest first.
    ///
    /// # Errors
    /// They could not be read.
    pub async fn runs_by_prefix(&self, prefix: &str) -> Result<Vec<Run>, StoreError> {
        let at = self.at("look for a run");
        // Ids are hexadecimal digits, and `g` comes after all of them.
        let end = format!("{prefix}g");
        let mut conn = self.read(at).await?;
        let rows = runs!(
            "id IN (SELECT id FROM runs WHERE id >= ? AND id < ? ORDER BY id LIMIT ?)",
            prefix,
            end,
            CANDIDATES,
            CANDIDATES
        )
        .fetch_all(&mut *conn)
        .await;
        self.read_runs(rows.map_err(|e| at.sql(e))?)
    }

    /// Runs, newest first.
    ///
    /// # Errors
    /// They could not be read.
    pub async fn runs(&self, ask: RunQuery) -> Result<Vec<Run>, StoreError> {
        let at = self.at("read the runs");
        let mut conn = self.read(at).await?;
        let before = match &ask.before {
            None => i64::MAX,
            Some(run) => {
                let id = run.as_str();
                let found =
                    query!("SELECT number FROM runs WHERE id = ?", id).fetch_optional(&mut *conn).await;
                found.map_err(|e| at.sql(e))?.map_or(0, |row| row.number)
            }
        };
        let (task, status) = (ask.task.map(|task| task.to_string()), ask.status.map(RunStatus::as_str));
        let rows = match (task, status) {
            (None, None) => runs!("number < ?", before, ask.limit).fetch_all(&mut *conn).await,
            (Some(task), None) => {
                runs!("task = ? AND number < ?", task, before, ask.limit).fetch_all(&mut *conn).await
            }
            (None, Some(status)) => {
                runs!("status = ? AND number < ?", status, before, ask.limit).fetch_all(&mut *conn).await
            }
            // One task has fewer runs than one status, so its index is the one to use.
            (Some(task), Some(status)) => {
                runs!("task = ? AND +status = ? AND number < ?", task, status, before, ask.limit)
                    .fetch_all(&mut *conn)
                    .await
            }
        };
        self.read_runs(rows.map_err(|e| at.sql(e))?)
    }

    /// All runs that are not over, newest first.
    ///
    /// # Errors
    /// They could not be read.
    pub async fn unfinished_runs(&self) -> Result<Vec<Run>, StoreError> {
        let at = self.at("read the runs that are not over");
        let mut conn = self.read(at).await?;
        let rows = runs!("ended_at IS NULL", i64::MAX).fetch_all(&mut *conn).await;
        self.read_runs(rows.map_err(|e| at.sql(e))?)
    }

    fn read_runs(&self, rows: Vec<Row>) -> Result<Vec<Run>, StoreError> {
        let read = |row: Row| {
            let id = row.id.clone();
            row.try_into().map_err(|e: BoxError| self.at(&format!("read the run {id}")).corrupt(e))
        };
        rows.into_iter().map(read).collect()
    }

    /// Adds lines to a run's log. Lines that are there already are left, so a call may be repeated.
    ///
    /// # Errors
    /// They could not be written, or the run is not recorded; then none of them is visible.
    pub async fn append_log(&self, run: &RunId, lines: &[LogLine]) -> Result<(), StoreError> {
        let what = format!("record the log of the run {run}");
        let at = self.at(&what);
        let id = run.as_str();
        let mut tx = self.begin(at).await?;
        let mut rest = lines;
        while let Some(rows) = piece(&mut rest, LineDoc::from) {
            query!(
                "INSERT INTO logs (run, seq, at, stream, text)
                 SELECT (SELECT number FROM runs WHERE id = ?), value ->> 0, value ->> 1, value ->> 2, value ->> 3
                 FROM jsonb_each(?) WHERE true
                 ON CONFLICT (run, seq) DO NOTHING",
                id,
                rows
            )
            .execute(&mut *tx)
            .await
            .map_err(|e| at.sql(e))?;
        }
        tx.commit().await
    }

    /// Takes the lines of a run's log away that come before the line `first`.
    ///
    /// # Errors
    /// It could not be written.
    pub async fn trim_log(&self, run: &RunId, first: u64) -> Result<(), StoreError> {
        let what = format!("shorten the log of the run {run}");
        let at = self.at(&what);
        let (id, first) = (run.as_str(), docs::integer(first));
        let mut conn = self.write(at).await?;
        query!("DELETE FROM logs WHERE run = (SELECT number FROM runs WHERE id = ?) AND seq < ?", id, first)
            .execute(&mut *conn)
            .await
            .map_err(|e| at.sql(e))?;
        Ok(())
    }

    /// Lines of a run's log, in order, that come after the line `after` (0 for all).
    ///
    /// # Errors
    /// They could not be read.
    pub async fn log(&self, run: &RunId, after: u64, limit: u32) -> Result<Vec<LogLine>, StoreError> {
        let what = format!("read the log of the run {run}");
        let at = self.at(&what);
        let (id, after) = (run.as_str(), docs::integer(after));
        let mut conn = self.read(at).await?;
        let rows = query_as!(
            LineRow,
            "SELECT seq, at, stream, text FROM logs
             WHERE run = (SELECT number FROM runs WHERE id = ?) AND seq > ? ORDER BY seq LIMIT ?",
            id,
            after,
            limit
        )
        .fetch_all(&mut *conn)
        .await
        .map_err(|e| at.sql(e))?;
        rows.into_iter().map(|row| row.try_into().map_err(|e: BoxError| at.corrupt(e))).collect()
    }
}

/// A line of log as it travels: number, time, stream, text.
#[derive(Serialize)]
struct LineDoc<'a>(i64, i64, &'a str, &'a str);

impl<'a> From<&'a LogLine> for LineDoc<'a> {
    fn from(line: &'a LogLine) -> Self {
        Self(docs::integer(line.seq), line.at.0, line.stream.as_str(), &line.text)
    }
}

struct LineRow {
    seq: i64,
    at: i64,
    stream: String,
    text: String,
}

impl TryFrom<LineRow> for LogLine {
    type Error = BoxError;

    fn try_from(row: LineRow) -> Result<Self, BoxError> {
        Ok(Self {
            seq: docs::natural(row.seq),
            at: Timestamp(row.at),
            stream: docs::known("stream", &row.stream, Stream::parse)?,
            text: row.text,
        })
    }
}

async fn insert(conn: &mut SqliteConnection, run: &Run) -> Result<(), sqlx::Error> {
    let (id, task, hash) = (run.id.as_str(), run.task.to_string(), run.hash.to_string());
    let (revision, status) = (run.revision.as_ref().map(Revision::as_str), run.status.as_str());
    let (first, retried_by) =
        (run.first.as_ref().map(RunId::as_str), run.retried_by.as_ref().map(RunId::as_str));
    let ended_at = run.ended_at.map(|at| at.0);
    let process = run.process.as_ref();
    let (pid, boot) = (process.map(|p| p.pid), process.map(|p| p.boot.as_str()));
    let pid_started = process.map(|p| docs::integer(p.started));
    query!(
        "INSERT INTO runs (id, task, hash, revision, cause, cause_detail, attempt, first, retried_by, status,
             exit_code, started_at, ended_at, pid, pid_started, boot, error, output, response)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        id,
        task,
        hash,
        revision,
        run.trigger,
        run.detail,
        run.attempt,
        first,
        retried_by,
        status,
        run.exit_code,
        run.started_at.0,
        ended_at,
        pid,
        pid_started,
        boot,
        run.error,
        run.output,
        run.response
    )
    .execute(conn)
    .await
    .map(drop)
}

struct Row {
    id: String,
    task: String,
    hash: String,
    revision: Option<String>,
    cause: String,
    cause_detail: String,
    attempt: i64,
    first: Option<String>,
    retried_by: Option<String>,
    status: String,
    exit_code: Option<i64>,
    started_at: i64,
    ended_at: Option<i64>,
    pid: Option<i64>,
    pid_started: Option<i64>,
    boot: Option<String>,
    error: String,
    output: Option<String>,
    response: Option<String>,
}

impl TryFrom<Row> for Run {
    type Error = BoxError;

    fn try_from(row: Row) -> Result<Self, BoxError> {
        let process = match (row.pid, row.pid_started, row.boot) {
            (Some(pid), Some(started), Some(boot)) => {
                Some(ProcessId { pid: i32::try_from(pid)?, started: docs::natural(started), boot })
            }
            _ => None,
        };
        Ok(Self {
            id: RunId::recorded(&row.id),
            task: UnitId::parse(&row.task)?,
            hash: row.hash.parse()?,
            revision: row.revision.as_deref().map(Revision::new),
            trigger: row.cause,
            detail: row.cause_detail,
            attempt: u32::try_from(row.attempt)?,
            first: row.first.as_deref().map(RunId::recorded),
            retried_by: row.retried_by.as_deref().map(RunId::recorded),
            status: docs::known("status of a run", &row.status, RunStatus::parse)?,
            exit_code: row.exit_code.map(i32::try_from).transpose()?,
            started_at: Timestamp(row.started_at),
            ended_at: row.ended_at.map(Timestamp),
            output: row.output,
            response: row.response,
            error: row.error,
            process,
        })
    }
}
