//! What is wrong with a unit or a source, and where.

use super::path::RelPath;

/// One thing that keeps a unit or a source from being deployed.
///
/// Holds nothing of a file's content: it is shown in logs and by the API. A terminal may print the source line
/// itself, from the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// A word in CamelCase for programs, as conditions carry it.
    pub reason: Reason,
    /// What is wrong, as a sentence without its full stop.
    pub message: String,
    /// The file that it is in, relative to the source's path.
    pub file: Option<RelPath>,
    /// Where in the file, from 1.
    pub at: Option<Position>,
}

/// A place in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
}

/// Lines that each file of a merged document has to itself: more than any file that is read may have.
const LINES_OF_A_PART: u32 = 1 << 26;

impl Position {
    /// The place in a document that was merged of several files, of which this is number `part`, from 0 to 63.
    ///
    /// A reader of such a document need not know: the places of one file come after those of the file before it.
    #[must_use]
    pub fn in_part(self, part: u32) -> Self {
        Self { line: part.min(63) * LINES_OF_A_PART + self.line.min(LINES_OF_A_PART - 1), ..self }
    }

    /// The number of the file in a merged document, and the place in that file.
    #[must_use]
    pub fn split(self) -> (u32, Self) {
        (self.line / LINES_OF_A_PART, Self { line: self.line % LINES_OF_A_PART, ..self })
    }
}

/// Reasons of problems, as they stand in conditions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// The manifest cannot be read or breaks a rule of its format.
    InvalidManifest,
    /// The file that `entry` names, or that the runtime looks for, is not there.
    MissingEntry,
    /// The program that runs the unit is not installed.
    MissingInterpreter,
    /// Two manifests would have one id.
    DuplicateId,
    /// A name, a link or a kind of file that is not allowed.
    RefusedPath,
    /// Larger or deeper than a limit allows.
    LimitExceeded,
    /// A file could not be read.
    Unreadable,
    /// It asks for more than its source may give it.
    NotAllowed,
    /// Something in its manifest has no effect: a warning.
    IgnoredField,
    /// A schedule does something else than most people read in it: a warning.
    SurprisingSchedule,
    /// Tasks are chained to each other in a circle.
    ChainCycle,
    /// What a task is chained to is not there: a warning.
    UnknownTask,
    /// Another task is served at the path of its webhook.
    PathTaken,
    /// The secret or the token of its webhook is not there, or too short to be one.
    MissingSecret,
}

impl Reason {
    const ALL: [Self; 14] = [
        Self::InvalidManifest,
        Self::MissingEntry,
        Self::MissingInterpreter,
        Self::DuplicateId,
        Self::RefusedPath,
        Self::LimitExceeded,
        Self::Unreadable,
        Self::NotAllowed,
        Self::IgnoredField,
        Self::SurprisingSchedule,
        Self::ChainCycle,
        Self::UnknownTask,
        Self::PathTaken,
        Self::MissingSecret,
    ];

    /// The word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidManifest => "InvalidManifest",
            Self::MissingEntry => "MissingEntry",
            Self::MissingInterpreter => "MissingInterpreter",
            Self::DuplicateId => "DuplicateId",
            Self::RefusedPath => "RefusedPath",
            Self::LimitExceeded => "LimitExceeded",
            Self::Unreadable => "Unreadable",
            Self::NotAllowed => "NotAllowed",
            Self::IgnoredField => "IgnoredField",
            Self::SurprisingSchedule => "SurprisingSchedule",
            Self::ChainCycle => "ChainCycle",
            Self::UnknownTask => "UnknownTask",
            Self::PathTaken => "PathTaken",
            Self::MissingSecret => "MissingSecret",
        }
    }

    /// Reads [`Reason::as_str`].
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == word)
    }
}

impl Problem {
    /// A problem with a file as a whole.
    #[must_use]
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), file: None, at: None }
    }

    /// Names the file.
    #[must_use]
    pub fn in_file(mut self, file: RelPath) -> Self {
        self.file = Some(file);
        self
    }

    /// Names the place in the file.
    #[must_use]
    pub fn at(mut self, line: u32, column: u32) -> Self {
        self.at = Some(Position { line, column });
        self
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&self.file, self.at) {
            (Some(file), Some(at)) => write!(f, "{file}:{}:{}: {}", at.line, at.column, self.message),
            (Some(file), None) => write!(f, "{file}: {}", self.message),
            (None, _) => f.write_str(&self.message),
        }
    }
}
