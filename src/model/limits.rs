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
    /// Most runs at once; others wait. Daemons do not count.
    pub runs: usize,
}

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
            runs: 32,
        }
    }
}
