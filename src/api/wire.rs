//! The JSON of the API: a contract (docs/formats.md). camelCase; hashes in 64 digits; times in RFC 3339.
//!
//! The command line reads the same types, so that both sides of the wire are one text. Nothing here holds a secret or
//! anything of a file's content.

mod any;
mod commit_status;
mod convert;
mod webhooks;

pub use any::AnyJson;
pub use commit_status::CommitStatusView;
pub use webhooks::{DeliveryAnswer, DeliveryView, HookView, RelayView, SamplePush, WebhookView};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A listing.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "{T}List")]
pub struct Items<T> {
    /// Its rows.
    pub items: Vec<T>,
}

/// A unit.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UnitView {
    /// `source/key`.
    pub id: String,
    /// `task`.
    pub kind: String,
    /// Its name to show.
    pub name: String,
    /// The source it comes from.
    pub source: String,
    /// The working copy that stands for the source's repository; null where dev mode is off.
    pub dev_path: Option<String>,
    /// Since when dev mode is on; null where it is off.
    pub dev_since: Option<String>,
    /// The hash that its source asks for; null where its files cannot be read.
    pub desired_hash: Option<String>,
    /// The hash of the last step that was begun.
    pub attempted_hash: Option<String>,
    /// The hash of the last step that took effect.
    pub deployed_hash: Option<String>,
    /// The commit that it was deployed from; null from a local directory.
    pub deployed_revision: Option<String>,
    /// What was decided last.
    pub action: Option<String>,
    /// The rule that decided.
    pub rule: Option<String>,
    /// Why.
    pub reason: String,
    /// Its generation.
    pub generation: u64,
    /// Set while nothing is done about it.
    pub suspended: Option<SuspensionView>,
    /// A hash that is not deployed again.
    pub held: Option<HoldView>,
    /// What keeps it from being deployed.
    pub problems: Vec<ProblemView>,
    /// What in its manifest has no effect, or another one than it seems.
    #[serde(default)]
    pub warnings: Vec<ProblemView>,
    /// The path at which its webhook is served; null where it has none, or another unit has that path.
    #[serde(default)]
    pub hook: Option<String>,
    /// When it runs next by the clock; null where it does not, or is suspended.
    #[serde(default)]
    pub next_run_at: Option<String>,
    /// The time of its schedule that fired last.
    #[serde(default)]
    pub last_run_at: Option<String>,
    /// Its conditions.
    pub conditions: Vec<ConditionView>,
    /// Milliseconds by phase of the last step that took effect.
    #[serde(default)]
    pub phases: Phases,
    /// When this was last changed.
    pub updated_at: String,
}

/// Why a source or a unit is left as it is.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct SuspensionView {
    /// What the person said.
    pub reason: String,
    /// Since when.
    pub since: String,
}

/// "Not this hash again."
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct HoldView {
    /// The hash.
    pub hash: String,
    /// `user` or `crash`.
    pub by: String,
    /// Why.
    pub reason: String,
    /// Since when.
    pub since: String,
}

/// A condition.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ConditionView {
    /// What it speaks of.
    #[serde(rename = "type")]
    pub kind: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// One word.
    pub reason: String,
    /// A sentence.
    pub message: String,
    /// Since when the status is what it is.
    pub since: String,
}

/// What keeps a unit from being deployed.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ProblemView {
    /// One word.
    pub reason: String,
    /// A sentence.
    pub message: String,
    /// The file, relative to the source's path.
    pub file: Option<String>,
    /// Line, from 1.
    pub line: Option<u32>,
    /// Column, from 1.
    pub column: Option<u32>,
}

/// A source.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SourceView {
    /// Its name.
    pub name: String,
    /// `git` or `local`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The URL or the directory.
    pub location: String,
    /// The branch that is followed; null where something else is, and for a local source. All four are null where it
    /// is the branch that the remote's HEAD names.
    pub branch: Option<String>,
    /// The tag that is followed.
    #[serde(default)]
    pub tag: Option<String>,
    /// The range of versions of which the highest tag is followed.
    #[serde(default)]
    pub semver: Option<String>,
    /// The commit that is followed, by its full id.
    #[serde(default)]
    pub commit: Option<String>,
    /// The directory of the repository that holds the units; null for a local source.
    pub path: Option<String>,
    /// `file` or `command`.
    pub declared: String,
    /// Its commits.
    pub revision: RevisionsView,
    /// The working copy that stands for its repository; null where dev mode is off.
    pub dev_path: Option<String>,
    /// Since when dev mode is on; null where it is off.
    pub dev_since: Option<String>,
    /// When dev mode ends by itself; null where it does not.
    pub dev_until: Option<String>,
    /// When its tree was last looked at with success.
    pub last_fetch_at: Option<String>,
    /// How many passes found nothing.
    pub passes: u64,
    /// How its push webhook fares; null where it has none.
    #[serde(default)]
    pub webhook: Option<WebhookView>,
    /// How its relay fares; null where it has none.
    #[serde(default)]
    pub relay: Option<RelayView>,
    /// What its commits were told last where they are hosted; null where they are told nothing.
    #[serde(default)]
    pub status: Option<CommitStatusView>,
    /// Set while nothing is done about it.
    pub suspended: Option<SuspensionView>,
    /// Its conditions.
    pub conditions: Vec<ConditionView>,
}

/// Last seen, last attempted and last deployed are separate facts.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct RevisionsView {
    /// The newest that was fetched.
    pub seen: Option<String>,
    /// The newest that a pass decided on.
    pub attempted: Option<String>,
    /// The newest of which every unit took effect; null while something that is deployed came from a working copy.
    pub deployed: Option<String>,
}

/// A source to add.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewSource {
    /// Its name.
    pub name: String,
    /// The repository's URL; exclusive with `local`.
    pub git: Option<String>,
    /// The branch.
    pub branch: Option<String>,
    /// The directory of the repository that holds the units.
    pub path: Option<String>,
    /// An absolute directory; exclusive with `git`.
    pub local: Option<String>,
}

/// Milliseconds by phase, in the order in which they ran.
pub type Phases = serde_json::Map<String, Value>;

/// A row of history.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HistoryView {
    /// The row's number; `before` of the next page.
    pub id: i64,
    /// The unit.
    pub unit: String,
    /// Its generation.
    pub generation: u64,
    /// What woke the pass.
    pub trigger: TriggerView,
    /// The commit.
    pub revision: Option<String>,
    /// The working copy that the files came from; null where they did not.
    pub dev_path: Option<String>,
    /// Whether the branch had been rewritten.
    pub rewritten: bool,
    /// The hash before.
    pub from_hash: Option<String>,
    /// The hash after; null for a removal.
    pub to_hash: Option<String>,
    /// What was done.
    pub action: String,
    /// The rule that decided.
    pub rule: String,
    /// Why.
    pub reason: String,
    /// The files that differ.
    pub files: Vec<FileChangeView>,
    /// Milliseconds by phase.
    pub phases: Phases,
    /// How it ended.
    pub outcome: String,
    /// What proves it.
    pub proof: String,
    /// Why it failed.
    pub error: String,
    /// When it ended.
    pub at: String,
}

/// What woke a pass.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct TriggerView {
    /// One word.
    pub kind: String,
    /// What it said of itself.
    pub detail: String,
}

/// A file that differs.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct FileChangeView {
    /// Relative to the unit.
    pub path: String,
    /// `added`, `changed` or `removed`.
    pub change: String,
}

/// A run.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunView {
    /// Its id.
    pub id: String,
    /// The task.
    pub task: String,
    /// The version that it executes.
    pub hash: String,
    /// The commit that the version was deployed from.
    pub revision: Option<String>,
    /// What started it.
    pub trigger: String,
    /// More of it: the run that it follows, or the instant that was due.
    #[serde(default)]
    pub trigger_detail: String,
    /// Which attempt it is, from 1.
    #[serde(default)]
    pub attempt: u32,
    /// The first attempt, where it is another one.
    #[serde(default)]
    pub first_attempt: Option<String>,
    /// The next attempt, once there is one.
    #[serde(default)]
    pub retried_by: Option<String>,
    /// How it stands.
    pub status: String,
    /// The task's own exit code.
    pub exit_code: Option<i32>,
    /// When it was asked for.
    pub started_at: String,
    /// When it was over.
    pub ended_at: Option<String>,
    /// What it gave back.
    pub output: AnyJson,
    /// Why it failed.
    pub error: String,
}

/// A line of a run's log.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct LogView {
    /// Its number in the run.
    pub seq: u64,
    /// When it was read.
    pub at: String,
    /// Where it came from.
    pub stream: String,
    /// The text.
    pub text: String,
}

/// `POST /api/v1/runs`: a run to start.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewRun {
    /// The task: an id or a unique suffix of one.
    pub task: String,
    /// Parameters by name.
    #[serde(default)]
    pub params: std::collections::BTreeMap<String, String>,
    /// The input: any JSON.
    #[serde(default)]
    pub input: AnyJson,
}

/// `POST /api/v1/reconcile`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ReconcileRequest {
    /// A source, or a unit by its id or a unique suffix; absent: all sources.
    pub subject: Option<String>,
    /// Trust nothing that was known of the files.
    pub rescan: bool,
    /// Deploy again although nothing changed.
    pub force: bool,
    /// Remove units whatever the removal guard says.
    pub allow_removals: bool,
    /// Deploy a rewritten branch whatever the rewrite guard says.
    pub allow_rewrite: bool,
}

/// `POST /api/v1/diff`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct DiffRequest {
    /// A source, or a unit by its id or a unique suffix; absent: all sources.
    pub subject: Option<String>,
    /// Compare this directory, an absolute path, in place of the source's own tree; needs a subject.
    pub local: Option<String>,
}

/// `PUT /api/v1/sources/NAME/dev`: dev mode is switched on; `DELETE` switches it off.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DevRequest {
    /// The directory that stands for the source's `path`; absolute.
    pub path: String,
    /// How long it lasts, such as `2h`; absent: until it is switched off.
    #[serde(rename = "for", default)]
    pub length: Option<String>,
}

/// `POST /api/v1/wait`, `/api/v1/resume`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct SubjectRequest {
    /// A source, or a unit by its id or a unique suffix; absent: all sources, where that makes sense.
    pub subject: Option<String>,
}

/// `POST /api/v1/suspend`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SuspendRequest {
    /// A source, or a unit by its id or a unique suffix.
    pub subject: String,
    /// Why.
    pub reason: String,
}

/// `POST /api/v1/rollback`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RollbackRequest {
    /// The unit: an id or a unique suffix of one.
    pub unit: String,
    /// The version: a hash or a unique prefix of at least 4 digits; absent: the one before.
    pub to: Option<String>,
}

/// `POST /api/v1/restart`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UnitRequest {
    /// The unit: an id or a unique suffix of one.
    pub unit: String,
}

/// `GET /api/v1/why?unit=...`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WhyView {
    /// Its id.
    pub id: String,
    /// The unit as it stands; null where it is gone.
    pub unit: Option<UnitView>,
    /// The last decision that did something; null where there was none.
    pub last: Option<HistoryView>,
    /// The fields of which sets speak, each with every place that had a say.
    #[serde(default)]
    pub fields: Vec<FieldView>,
    /// Why its source is not ready, as `REASON: MESSAGE`; null where it is.
    #[serde(default)]
    pub source_unready: Option<String>,
}

/// Where the value of a field comes from.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct FieldView {
    /// The field, such as `env.MODE`.
    pub field: String,
    /// The places that set it, the lowest first: the last one holds.
    pub chain: Vec<FieldPlaceView>,
}

/// A place that set a field.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct FieldPlaceView {
    /// The file, relative to the source's path.
    pub file: String,
    /// The line, from 1.
    pub line: u32,
    /// The column in characters, from 1.
    pub column: u32,
    /// Whether it takes the field away.
    pub clears: bool,
}

/// An event.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct EventView {
    /// When it was recorded.
    pub at: String,
    /// What happened.
    #[serde(rename = "type")]
    pub kind: String,
    /// The source.
    pub source: String,
    /// The unit; null where it is about the source.
    pub unit: Option<String>,
    /// The unit's hash.
    pub hash: Option<String>,
    /// The commit.
    pub revision: Option<String>,
    /// A sentence.
    pub message: String,
    /// Milliseconds by phase of the step that it tells of; empty where it tells of none.
    #[serde(default)]
    pub phases: Phases,
}

/// What a pass did, or would do.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct ReportView {
    /// Steps that do something.
    pub steps: Vec<StepView>,
    /// Broken units.
    pub problems: Vec<UnitProblems>,
    /// What is not as it should be.
    pub unready: Vec<Unready>,
    /// Of a diff: sources of which a pass would do none of this until a person agrees.
    #[serde(default)]
    pub guarded: Vec<Unready>,
}

/// A step.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StepView {
    /// The unit.
    pub unit: String,
    /// What is done.
    pub action: String,
    /// What is done to its process: `none`, `restart` or `stop`.
    pub restart: String,
    /// The rule that decided.
    pub rule: String,
    /// Why.
    pub reason: String,
    /// The hash before.
    pub from_hash: Option<String>,
    /// The hash after.
    pub to_hash: Option<String>,
    /// The files that differ.
    pub files: Vec<FileChangeView>,
    /// Why it failed.
    pub error: Option<String>,
}

/// A broken unit.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct UnitProblems {
    /// The unit, or the source where they belong to none of its units.
    pub unit: String,
    /// What is wrong with it.
    pub problems: Vec<ProblemView>,
}

/// Something that is not as it should be.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Unready {
    /// The source or the unit.
    pub name: String,
    /// One sentence.
    pub why: String,
}

/// The service at a glance.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct StatusView {
    /// The version of the service.
    pub version: String,
    /// Whether everything is ready.
    pub ready: bool,
    /// What is so of the service itself: Ready is false while its configuration file is wrong.
    #[serde(default)]
    pub conditions: Vec<ConditionView>,
    /// Its sources.
    pub sources: Vec<SourceView>,
    /// How many units there are.
    pub units: usize,
    /// What is not as it should be, problems first.
    pub unready: Vec<Unready>,
}

/// An error of a call or of the command line.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ErrorView {
    /// One word.
    pub code: String,
    /// A sentence.
    pub message: String,
    /// The next command.
    pub hint: Option<String>,
    /// The file.
    pub file: Option<String>,
    /// Line, from 1.
    pub line: Option<u32>,
    /// Column, from 1.
    pub column: Option<u32>,
    /// The exit code of the command line.
    pub exit: u8,
}
