//! Limits on what a source may hold (DESIGN 12). Everything from a repository is hostile input.

use super::kv::KvLimits;

/// Limits that hold for one unit and its manifest; each is a key of `limits` in kindling.yaml.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Largest file of a unit, in bytes.
    pub file_bytes: u64,
    /// Largest sum of a unit's files, in bytes.
    pub unit_bytes: u64,
    /// Most files in a unit.
    pub unit_files: usize,
    /// Most directories between a unit's manifest and one of its files.
    pub depth: usize,
    /// Largest task manifest, in bytes.
    pub manifest_bytes: u64,
    /// Largest set manifest, in bytes.
    pub set_bytes: u64,
    /// Most entries that the sets of a source declare together: sets that refer to sets several times multiply.
    pub set_entries: usize,
    /// What a task may keep between its runs.
    pub kv: KvLimits,
    /// Runs at once and runs that wait.
    pub runs: RunLimits,
}

/// Limits on runs; each is a key of `limits` in kindling.yaml. Daemons do not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunLimits {
    /// Most runs at once; others wait.
    pub at_once: usize,
    /// Most runs that wait.
    pub queued: usize,
    /// Most runs of one task that wait.
    pub queued_of_task: usize,
    /// Largest input of a run, in bytes.
    pub input_bytes: u64,
    /// Largest sum of the inputs of runs that wait, in bytes: they are in memory.
    pub queued_bytes: u64,
}

impl Default for RunLimits {
    fn default() -> Self {
        Self {
            at_once: 32,
            queued: 10_000,
            queued_of_task: 1000,
            input_bytes: MAX_RUN_INPUT_BYTES,
            queued_bytes: 256 << 20,
        }
    }
}

/// The largest input that any configuration allows, in bytes: what travels to a run in one message.
pub const MAX_RUN_INPUT_BYTES: u64 = 16 << 20;

impl Default for Limits {
    fn default() -> Self {
        Self {
            file_bytes: 10 << 20,
            unit_bytes: 100 << 20,
            unit_files: 20_000,
            depth: 32,
            manifest_bytes: 256 << 10,
            set_bytes: 16 << 20,
            set_entries: 200_000,
            kv: KvLimits::default(),
            runs: RunLimits::default(),
        }
    }
}
