//! Units and their versions.

use std::sync::Arc;

use super::hash::{ContentHash, UnitHash};
use super::id::UnitId;
use super::path::RelPath;
use super::source::Revision;
use super::spec::TaskSpec;

/// The mode class of a file: all that the unit hash and a version keep of its mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FileMode {
    /// A regular file.
    Regular,
    /// A regular file that its owner may execute.
    Executable,
    /// A symbolic link; its content is its target's text.
    Link,
}

impl FileMode {
    /// One letter for file lists: `f`, `x` or `l`.
    #[must_use]
    pub fn letter(self) -> char {
        match self {
            Self::Regular => 'f',
            Self::Executable => 'x',
            Self::Link => 'l',
        }
    }

    /// Reads [`FileMode::letter`].
    #[must_use]
    pub fn from_letter(letter: char) -> Option<Self> {
        match letter {
            'f' => Some(Self::Regular),
            'x' => Some(Self::Executable),
            'l' => Some(Self::Link),
            _ => None,
        }
    }
}

/// One file of a unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnitFile {
    /// Relative to the unit's directory.
    pub path: RelPath,
    /// Its mode class.
    pub mode: FileMode,
    /// SHA-256 of its content.
    pub hash: ContentHash,
    /// Length in bytes.
    pub size: u64,
}

/// The files of a unit, in byte order of their paths.
pub type FileList = Arc<[UnitFile]>;

/// One version of a unit: all that is needed to run it again without its source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// The unit.
    pub unit: UnitId,
    /// The unit hash over `spec` and `files`.
    pub hash: UnitHash,
    /// The resolved spec.
    pub spec: Arc<TaskSpec>,
    /// Its files.
    pub files: FileList,
    /// The commit that it was first seen in; `None` from a local directory.
    pub revision: Option<Revision>,
}

/// How one file of a unit differs between two versions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileChange {
    /// Relative to the unit's directory.
    pub path: RelPath,
    /// What happened to it.
    pub kind: FileChangeKind,
}

/// What happened to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileChangeKind {
    /// It was not there before.
    Added,
    /// Its content or mode differs.
    Changed,
    /// It is gone.
    Removed,
}

impl FileChangeKind {
    /// The word in history rows.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Changed => "changed",
            Self::Removed => "removed",
        }
    }

    /// Reads [`FileChangeKind::as_str`].
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Added, Self::Changed, Self::Removed].into_iter().find(|kind| kind.as_str() == word)
    }
}
