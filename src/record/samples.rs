//! Values for tests: everything set, texts awkward.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::model::condition::{ConditionStatus, ConditionType, Conditions};
use crate::model::event::{Event, EventType};
use crate::model::hash::{ContentHash, UnitHash};
use crate::model::history::{Cause, HistoryRow, Outcome, TriggerKind};
use crate::model::id::{RunId, SourceName, UnitId};
use crate::model::path::RelPath;
use crate::model::problem::{Problem, Reason};
use crate::model::run::{LogLine, ProcessId, Run, RunStatus, Stream};
use crate::model::source::{
    Allow, Declared, Dev, GitAuth, GitOrigin, GitRef, LocalOrigin, Origin, Revision, Revisions, Rewrite,
    SourceSpec,
};
use crate::model::spec::{Param, ParamKind, ParamValue, RestartPolicy, Runtime, TaskSpec, Trigger};
use crate::model::step::{Action, Generation, Rule};
use crate::model::time::Timestamp;
use crate::model::unit::{FileChange, FileChangeKind, FileMode, UnitFile, Version};

use super::{HeldBy, Hold, Recording, SourceRecord, Suspension, UnitRecord};

/// A text that every layer has to carry as it is.
pub(super) const AWKWARD: &str = "a \"b\" \\ '; DROP TABLE units; -- \u{0} \n\t é 火 😀 \u{feff}\u{7f}";

pub(super) fn source_name() -> SourceName {
    SourceName::new("local").unwrap()
}

pub(super) fn id(n: u32) -> UnitId {
    UnitId::new(source_name(), &format!("team/unit-{n:05}"))
}

/// A hash for the unit `n` in its version `v`.
pub(super) fn hash(n: u32, v: u32) -> UnitHash {
    let mut bytes = [0xab; 32];
    bytes[..4].copy_from_slice(&v.to_be_bytes());
    bytes[4..8].copy_from_slice(&n.to_be_bytes());
    UnitHash::new(bytes)
}

pub(super) fn commit_id(n: u32) -> Revision {
    Revision::new(&format!("{n:040x}"))
}

pub(super) fn path(text: &str) -> RelPath {
    RelPath::parse(text).unwrap()
}

pub(super) fn conditions() -> Conditions {
    let mut all = Conditions::default();
    all.set(Timestamp(1), ConditionType::Drifted, ConditionStatus::Unknown, "", "");
    all.set(Timestamp(-2), ConditionType::Ready, ConditionStatus::False, "InvalidManifest", AWKWARD);
    all
}

pub(super) fn local() -> SourceRecord {
    let origin = Origin::Local(LocalOrigin { path: "/srv/tasks".into(), debounce: None });
    SourceRecord::new(SourceSpec { name: source_name(), origin, allow: Allow::default() }, Declared::File)
}

pub(super) fn git() -> SourceRecord {
    SourceRecord {
        spec: SourceSpec {
            name: SourceName::new("team.git-1_x").unwrap(),
            origin: Origin::Git(GitOrigin {
                url: "https://example.org/r.git".into(),
                reference: GitRef::Branch("feature/ü".into()),
                path: path("deep/down"),
                poll_interval: Duration::from_millis(1500),
                auth: Some(GitAuth::SshKeyFile("/keys/id".into())),
                rewrite: Rewrite::Guard,
            }),
            allow: Allow::default(),
        },
        declared: Declared::Command,
        revisions: Revisions {
            seen: Some(commit_id(3)),
            attempted: Some(commit_id(2)),
            deployed: Some(commit_id(1)),
        },
        last_fetch_at: Some(Timestamp(99)),
        conditions: conditions(),
        suspended: Some(Suspension { reason: AWKWARD.into(), since: Timestamp(7) }),
        dev: Some(Dev { path: AWKWARD.into(), since: Timestamp(8), until: Some(Timestamp(9)) }),
        has_strayed: true,
        passes: 12,
    }
}

pub(super) fn full_unit(n: u32) -> UnitRecord {
    UnitRecord {
        id: id(n),
        name: AWKWARD.into(),
        desired: Some(hash(n, 3)),
        attempted: Some(hash(n, 2)),
        deployed: Some(hash(n, 1)),
        deployed_revision: Some(commit_id(1)),
        generation: Generation(i64::MAX as u64),
        action: Some(Action::Sync),
        rule: Some(Rule::DaemonChanged),
        reason: AWKWARD.into(),
        conditions: conditions(),
        problems: vec![
            Problem::new(Reason::InvalidManifest, AWKWARD).in_file(path("a b/task.yaml")).at(3, 14),
            Problem::new(Reason::MissingInterpreter, "no python3"),
        ],
        warnings: vec![Problem::new(Reason::IgnoredField, AWKWARD).in_file(path("task.yaml")).at(1, 2)],
        hold: Some(Hold { hash: hash(n, 3), by: HeldBy::Crash, reason: AWKWARD.into(), since: Timestamp(5) }),
        suspended: Some(Suspension { reason: String::new(), since: Timestamp(6) }),
        failures: u32::MAX,
        retry_at: Some(Timestamp(8)),
        pinned: Some(hash(n, 9)),
        phases: vec![("fetch".into(), 0.125), ("act".into(), 12.5)],
        updated_at: Timestamp(i64::MIN),
    }
}

/// A unit whose version `v` is deployed.
pub(super) fn deployed_unit(n: u32, v: u32) -> UnitRecord {
    let mut unit = UnitRecord::new(id(n), "digest", Timestamp(i64::from(v)));
    unit.desired = Some(hash(n, v));
    unit.attempted = unit.desired;
    unit.deployed = unit.desired;
    unit.generation = Generation(u64::from(v));
    unit.action = Some(Action::Sync);
    unit.rule = Some(Rule::Updated);
    unit.conditions.set(Timestamp(1), ConditionType::Ready, ConditionStatus::True, "Deployed", "it is live");
    unit
}

pub(super) fn spec() -> TaskSpec {
    let param = Param {
        kind: ParamKind::Number,
        default: Some(ParamValue::Number("1e3".into())),
        required: true,
        description: AWKWARD.into(),
    };
    TaskSpec {
        name: "digest".into(),
        description: AWKWARD.into(),
        runtime: Runtime::Command(vec!["sh".into(), "-c".into(), AWKWARD.into()]),
        entry: Some("task.sh".into()),
        trigger: Trigger::Daemon(RestartPolicy::OnFailure),
        params: BTreeMap::from([("n".into(), param)]),
        env: BTreeMap::from([("A".into(), AWKWARD.into())]),
        timeout: Some(Duration::from_secs(3)),
        retries: crate::model::spec::Retries::default(),
        concurrency: crate::model::spec::Concurrency::of(&Trigger::Manual),
        exclude: vec!["*.tmp".into()],
        permissions: crate::model::spec::Permissions::default(),
    }
}

pub(super) fn version(n: u32, v: u32) -> Version {
    let mut content = *hash(n, v).bytes();
    content[31] = 1;
    let file =
        |name: &str, mode, size| UnitFile { path: path(name), mode, hash: ContentHash::new(content), size };
    Version {
        unit: id(n),
        hash: hash(n, v),
        spec: Arc::new(spec()),
        files: Arc::new([
            file("a link", FileMode::Link, 4),
            file("lib/x y  z 火.sh", FileMode::Executable, u64::MAX),
            file("task.yaml", FileMode::Regular, 0),
        ]),
        revision: v.is_multiple_of(2).then(|| commit_id(v)),
    }
}

pub(super) fn row(n: u32, at: i64) -> HistoryRow {
    HistoryRow {
        unit: id(n),
        generation: Generation(4),
        cause: Cause::new(TriggerKind::Rollback, AWKWARD),
        revision: Some(commit_id(n)),
        dev_path: (!n.is_multiple_of(2)).then(|| AWKWARD.into()),
        rewritten: n.is_multiple_of(2),
        from: None,
        to: Some(hash(n, 1)),
        action: Action::Remove,
        rule: Rule::MetadataOnly,
        reason: AWKWARD.into(),
        files: vec![
            FileChange { path: path("a b"), kind: FileChangeKind::Added },
            FileChange { path: path("c"), kind: FileChangeKind::Removed },
        ],
        phases: vec![("observe".into(), 0.125), ("act".into(), 1234.567), ("act".into(), 0.0)],
        outcome: Outcome::Superseded,
        proof: "gone".into(),
        error: AWKWARD.into(),
        at: Timestamp(at),
    }
}

pub(super) fn event(n: u32, at: i64) -> Event {
    Event {
        at: Timestamp(at),
        kind: EventType::UnitUpdated,
        source: source_name(),
        unit: Some(id(n)),
        hash: Some(hash(n, 1)),
        revision: Some(commit_id(n)),
        message: AWKWARD.into(),
        phases: vec![(AWKWARD.into(), 3.25)],
    }
}

pub(super) fn run_id(n: u32) -> RunId {
    RunId::from_random((u64::from(n) << 32 | 0xabcd).to_be_bytes())
}

/// A run of the unit `n`'s version 1 that is under way.
pub(super) fn run(number: u32, n: u32) -> Run {
    Run {
        id: run_id(number),
        task: id(n),
        hash: hash(n, 1),
        revision: Some(commit_id(1)),
        trigger: "chain".into(),
        detail: AWKWARD.into(),
        attempt: u32::MAX,
        first: Some(run_id(1_000_000)),
        retried_by: None,
        status: RunStatus::Running,
        exit_code: None,
        started_at: Timestamp(i64::from(number)),
        ended_at: None,
        output: None,
        response: None,
        error: String::new(),
        process: None,
    }
}

/// How the run ended, at `at`.
pub(super) fn over(run: &Run, at: i64) -> Run {
    Run {
        status: RunStatus::Failed,
        retried_by: Some(run_id(1_000_001)),
        exit_code: Some(-3),
        ended_at: Some(Timestamp(at)),
        output: Some(format!("{{\"a\": {AWKWARD:?}}}")),
        response: Some("{\"status\":204}".into()),
        error: AWKWARD.into(),
        ..run.clone()
    }
}

pub(super) fn process() -> ProcessId {
    ProcessId { pid: i32::MAX, started: 1 << 60, boot: "6f1d".into() }
}

pub(super) fn line(seq: u64) -> LogLine {
    let stream = [Stream::Stdout, Stream::Stderr, Stream::Log, Stream::System][seq as usize % 4];
    LogLine { seq, at: Timestamp(seq as i64), stream, text: format!("{seq} {AWKWARD}") }
}

/// What a pass records that deploys the version `v` of each unit.
pub(super) fn recording(units: impl IntoIterator<Item = u32>, v: u32, at: i64) -> Recording {
    let mut all = Recording::new(Timestamp(at));
    for n in units {
        all.units.push(deployed_unit(n, v));
        all.versions.push(version(n, v));
        all.history.push(row(n, at));
        all.events.push(event(n, at));
    }
    all
}
