//! The forms in which nested values are kept in columns, and how a column is read back.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::condition::{Condition, ConditionStatus, ConditionType, Conditions};
use crate::model::hash::UnitHash;
use crate::model::id::SourceName;
use crate::model::path::RelPath;
use crate::model::problem::{Position, Problem, Reason};
use crate::model::source::{Allow, GitAuth, GitOrigin, GitRef, LocalOrigin, Origin, Rewrite, SourceSpec};
use crate::model::time::Timestamp;
use crate::model::unit::{FileChange, FileChangeKind, FileList, FileMode, UnitFile};

use super::error::BoxError;
use super::rows::Suspension;

/// Why a column cannot be read back.
#[derive(Debug, thiserror::Error)]
#[error("the recorded {column} `{value}` is not known")]
pub(super) struct Unknown {
    column: &'static str,
    value: String,
}

/// Reads a column by a function that knows its values.
pub(super) fn known<T>(
    column: &'static str,
    value: &str,
    read: impl Fn(&str) -> Option<T>,
) -> Result<T, Unknown> {
    read(value).ok_or_else(|| Unknown { column, value: value.to_owned() })
}

/// Reads a hash where there is one.
pub(super) fn hash(column: &'static str, value: Option<&str>) -> Result<Option<UnitHash>, Unknown> {
    value.map(|text| known(column, text, |text| text.parse().ok())).transpose()
}

/// Reads two columns that are there together or not at all.
pub(super) fn suspension(reason: Option<String>, since: Option<i64>) -> Option<Suspension> {
    reason.zip(since).map(|(reason, since)| Suspension { reason, since: Timestamp(since) })
}

/// The number as SQLite keeps it; what it cannot keep (2^63 and more) becomes its largest number.
pub(super) fn integer(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// The number that [`integer`] kept.
pub(super) fn natural(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

/// A condition as it is kept.
#[derive(Serialize, Deserialize)]
pub(super) struct ConditionDoc {
    #[serde(rename = "type")]
    kind: String,
    status: String,
    reason: String,
    message: String,
    since: i64,
}

/// Conditions as they are kept.
pub(super) fn conditions(all: &Conditions) -> Vec<ConditionDoc> {
    let doc = |condition: &Condition| ConditionDoc {
        kind: condition.kind.as_str().to_owned(),
        status: condition.status.as_str().to_owned(),
        reason: condition.reason.clone(),
        message: condition.message.clone(),
        since: condition.since.0,
    };
    all.iter().map(doc).collect()
}

/// Reads [`conditions`].
pub(super) fn read_conditions(text: &str) -> Result<Conditions, BoxError> {
    let read = |doc: ConditionDoc| {
        Ok(Condition {
            kind: known("condition", &doc.kind, ConditionType::parse)?,
            status: known("status of a condition", &doc.status, ConditionStatus::parse)?,
            reason: doc.reason,
            message: doc.message,
            since: Timestamp(doc.since),
        })
    };
    let docs: Vec<ConditionDoc> = serde_json::from_str(text)?;
    Ok(Conditions::recorded(docs.into_iter().map(read).collect::<Result<_, BoxError>>()?))
}

/// A problem as it is kept.
#[derive(Serialize, Deserialize)]
pub(super) struct ProblemDoc {
    reason: String,
    message: String,
    file: Option<String>,
    at: Option<(u32, u32)>,
}

/// Problems as they are kept.
pub(super) fn problems(all: &[Problem]) -> Vec<ProblemDoc> {
    let doc = |problem: &Problem| ProblemDoc {
        reason: problem.reason.as_str().to_owned(),
        message: problem.message.clone(),
        file: problem.file.as_ref().map(|file| file.as_str().to_owned()),
        at: problem.at.map(|at| (at.line, at.column)),
    };
    all.iter().map(doc).collect()
}

/// Reads [`problems`].
pub(super) fn read_problems(text: &str) -> Result<Vec<Problem>, BoxError> {
    let read = |doc: ProblemDoc| {
        Ok(Problem {
            reason: known("reason of a problem", &doc.reason, Reason::parse)?,
            message: doc.message,
            file: doc.file.as_deref().map(RelPath::recorded).transpose()?,
            at: doc.at.map(|(line, column)| Position { line, column }),
        })
    };
    let docs: Vec<ProblemDoc> = serde_json::from_str(text)?;
    docs.into_iter().map(read).collect()
}

/// A file that differs, as it is kept.
#[derive(Serialize, Deserialize)]
pub(super) struct ChangeDoc {
    path: String,
    change: String,
}

/// Files that differ, as they are kept.
pub(super) fn changes(all: &[FileChange]) -> Vec<ChangeDoc> {
    all.iter()
        .map(|file| ChangeDoc { path: file.path.as_str().to_owned(), change: file.kind.as_str().to_owned() })
        .collect()
}

/// Reads [`changes`].
pub(super) fn read_changes(text: &str) -> Result<Vec<FileChange>, BoxError> {
    let read = |doc: ChangeDoc| {
        Ok(FileChange {
            path: RelPath::parse(&doc.path)?,
            kind: known("change of a file", &doc.change, FileChangeKind::parse)?,
        })
    };
    let docs: Vec<ChangeDoc> = serde_json::from_str(text)?;
    docs.into_iter().map(read).collect()
}

/// Phases as they are kept: whole microseconds are enough, and read back as they were.
pub(super) fn phases(all: &[(String, f64)]) -> Vec<(&str, f64)> {
    all.iter().map(|(name, ms)| (name.as_str(), (ms * 1000.0).round() / 1000.0)).collect()
}

/// Reads [`phases`].
pub(super) fn read_phases(text: &str) -> Result<Vec<(String, f64)>, BoxError> {
    Ok(serde_json::from_str(text)?)
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
enum OriginDoc {
    Git {
        url: String,
        branch: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pin: Option<PinDoc>,
        path: String,
        poll_ms: u64,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        auth: Option<AuthDoc>,
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        guard_rewrite: bool,
    },
    Local {
        path: String,
        debounce_ms: Option<u64>,
    },
}

/// What is followed where it is no branch.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum PinDoc {
    Tag(String),
    Semver(String),
    Commit(String),
}

/// Where a secret is, never the secret.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum AuthDoc {
    TokenEnv(String),
    TokenFile(String),
    SshKeyFile(String),
}

/// Why a source cannot be kept.
#[derive(Debug, thiserror::Error)]
#[error("the path {0} is not UTF-8")]
struct NotUtf8(PathBuf);

/// A source's configuration as it is kept.
pub(super) fn origin(origin: &Origin) -> Result<String, BoxError> {
    let doc = match origin {
        Origin::Git(git) => {
            let (branch, pin) = match git.reference.clone() {
                GitRef::Head => (None, None),
                GitRef::Branch(branch) => (Some(branch), None),
                GitRef::Tag(tag) => (None, Some(PinDoc::Tag(tag))),
                GitRef::Semver(range) => (None, Some(PinDoc::Semver(range))),
                GitRef::Commit(commit) => (None, Some(PinDoc::Commit(commit))),
            };
            let auth = match &git.auth {
                None => None,
                Some(GitAuth::TokenEnv(name)) => Some(AuthDoc::TokenEnv(name.clone())),
                Some(GitAuth::TokenFile(path)) => Some(AuthDoc::TokenFile(utf8(path)?)),
                Some(GitAuth::SshKeyFile(path)) => Some(AuthDoc::SshKeyFile(utf8(path)?)),
            };
            OriginDoc::Git {
                url: git.url.clone(),
                branch,
                pin,
                path: git.path.as_str().to_owned(),
                poll_ms: millis(git.poll_interval),
                auth,
                guard_rewrite: git.rewrite == Rewrite::Guard,
            }
        }
        Origin::Local(local) => {
            OriginDoc::Local { path: utf8(&local.path)?, debounce_ms: local.debounce.map(millis) }
        }
    };
    Ok(serde_json::to_string(&doc)?)
}

fn utf8(path: &Path) -> Result<String, NotUtf8> {
    path.to_str().map(ToOwned::to_owned).ok_or_else(|| NotUtf8(path.to_owned()))
}

/// Reads [`origin`]. What units may ask for is never kept: only the configuration file says it.
pub(super) fn read_spec(name: &str, text: &str) -> Result<SourceSpec, BoxError> {
    let origin = match serde_json::from_str(text)? {
        OriginDoc::Git { url, branch, pin, path, poll_ms, auth, guard_rewrite } => Origin::Git(GitOrigin {
            url,
            reference: match (pin, branch) {
                (None, None) => GitRef::Head,
                (None, Some(branch)) => GitRef::Branch(branch),
                (Some(PinDoc::Tag(tag)), _) => GitRef::Tag(tag),
                (Some(PinDoc::Semver(range)), _) => GitRef::Semver(range),
                (Some(PinDoc::Commit(commit)), _) => GitRef::Commit(commit),
            },
            path: RelPath::parse(&path)?,
            poll_interval: Duration::from_millis(poll_ms),
            auth: auth.map(|auth| match auth {
                AuthDoc::TokenEnv(name) => GitAuth::TokenEnv(name),
                AuthDoc::TokenFile(path) => GitAuth::TokenFile(path.into()),
                AuthDoc::SshKeyFile(path) => GitAuth::SshKeyFile(path.into()),
            }),
            rewrite: if guard_rewrite { Rewrite::Guard } else { Rewrite::Follow },
        }),
        OriginDoc::Local { path, debounce_ms } => {
            Origin::Local(LocalOrigin { path: path.into(), debounce: debounce_ms.map(Duration::from_millis) })
        }
    };
    Ok(SourceSpec { name: SourceName::new(name)?, origin, allow: Allow::default() })
}

fn millis(length: Duration) -> u64 {
    u64::try_from(length.as_millis()).unwrap_or(u64::MAX)
}

/// A file list as it is kept: a line for each file, which no path can break as none holds a control character.
pub(super) fn files(all: &[UnitFile]) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(all.len() * 100);
    for UnitFile { path, mode, hash, size } in all {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{} {hash} {size} {}", mode.letter(), path.as_str());
    }
    text
}

/// Reads [`files`].
pub(super) fn read_files(text: &str) -> Result<FileList, BoxError> {
    text.lines()
        .map(|line| known("line of a file list", line, read_file))
        .collect::<Result<_, _>>()
        .map_err(Into::into)
}

fn read_file(line: &str) -> Option<UnitFile> {
    let mut parts = line.splitn(4, ' ');
    let mut letters = parts.next()?.chars();
    let (Some(mode), None) = (letters.next().and_then(FileMode::from_letter), letters.next()) else {
        return None;
    };
    let (hash, size) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    Some(UnitFile { path: RelPath::parse(parts.next()?).ok()?, mode, hash, size })
}
