//! YAML, read with bounds. The only place that configures the parser.
//!
//! Everything read here is hostile: sizes are checked before parsing, expansion while parsing. Messages name a
//! place and what is wrong with it; they never repeat a value of the file, because they reach logs and the API.

use serde::de::DeserializeOwned;
use serde_saphyr::granit_parser::ErrorKind;
use serde_saphyr::options::DuplicateKeyPolicy;
use serde_saphyr::{Error, ExternalMessageSource, MergeKeyPolicy, Options};

use super::words::{quoted, unknown, unknown_value};
use crate::model::problem::Position;

pub use serde_saphyr::Spanned;

/// What one file may cost (DESIGN 12).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Largest file, in bytes.
    pub bytes: u64,
    /// The key that sets `bytes`; `None` where it is fixed.
    pub bytes_key: Option<&'static str>,
    /// Most scalars, lists and maps, those that aliases bring in included.
    pub nodes: usize,
    /// Most lists and maps inside one another.
    pub depth: usize,
    /// Most aliases.
    pub aliases: usize,
}

impl Budget {
    /// For task.yaml, whose size `limits.manifest` sets.
    #[must_use]
    pub const fn manifest(bytes: u64) -> Self {
        Self { bytes, bytes_key: Some("limits.manifest"), nodes: 20_000, depth: 32, aliases: 200 }
    }

    /// For taskset.yaml, whose size `limits.taskset` sets.
    #[must_use]
    pub const fn taskset(bytes: u64) -> Self {
        Self { bytes_key: Some("limits.taskset"), nodes: 1_000_000, ..Self::manifest(bytes) }
    }

    /// For kindling.yaml: 256 KiB.
    #[must_use]
    pub const fn settings() -> Self {
        Self { bytes_key: None, ..Self::manifest(256 << 10) }
    }

    /// Most bytes of text after aliases were replaced: four times the file, or 1 MiB if that is more.
    fn text_bytes(file_bytes: usize) -> usize {
        file_bytes.saturating_mul(4).max(1 << 20)
    }
}

/// Why a file cannot be read, or what is wrong with a value in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct YamlError {
    /// What is wrong, as a sentence without its full stop. Holds no value of the file.
    pub message: String,
    /// Where; `None` where it is the file as a whole.
    pub at: Option<Position>,
}

impl YamlError {
    /// An error at a place.
    #[must_use]
    pub fn at(at: Position, message: impl Into<String>) -> Self {
        Self { message: message.into(), at: Some(at) }
    }

    fn whole(message: impl Into<String>) -> Self {
        Self { message: message.into(), at: None }
    }
}

/// Reads a file that holds exactly one document.
///
/// # Errors
/// The text breaks the budget, is no YAML, or does not fit `T`. The first such place is reported.
pub fn read<T: DeserializeOwned>(text: &[u8], budget: &Budget) -> Result<T, YamlError> {
    let text = checked(text, budget)?;
    serde_saphyr::from_str_with_options(text, options(text, budget)).map_err(|error| explain(&error, budget))
}

/// The text, if it is small enough, UTF-8 and not empty.
pub(super) fn checked<'a>(bytes: &'a [u8], budget: &Budget) -> Result<&'a str, YamlError> {
    if bytes.len() as u64 > budget.bytes {
        let size = bytes.len();
        let limit = match budget.bytes_key {
            Some(key) => format!("{} that `{key}` allows", budget.bytes),
            None => format!("{} that are read", budget.bytes),
        };
        return Err(YamlError::whole(format!("the file has {size} bytes, more than the {limit}")));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| not_utf8(bytes, error.valid_up_to()))?;
    if is_blank(text) {
        return Err(YamlError::at(Position { line: 1, column: 1 }, "the file is empty"));
    }
    Ok(text)
}

fn not_utf8(bytes: &[u8], valid: usize) -> YamlError {
    let before = String::from_utf8_lossy(&bytes[..valid]);
    let (line, column) =
        (before.matches('\n').count(), before.rsplit('\n').next().unwrap_or("").chars().count());
    let at = Position { line: index(line as u64 + 1), column: index(column as u64 + 1) };
    YamlError::at(at, "the file is not UTF-8 from this byte on")
}

/// Whether there is nothing but comments and document markers.
pub(super) fn is_blank(text: &str) -> bool {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    text.lines()
        .map(str::trim)
        .all(|line| line.is_empty() || line.starts_with('#') || line == "---" || line == "...")
}

fn options(text: &str, budget: &Budget) -> Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_nodes: budget.nodes,
            max_depth: budget.depth,
            max_aliases: budget.aliases,
            max_total_scalar_bytes: Budget::text_bytes(text.len()),
            // Each list or map is two events, each alias one; the stream and its document are four.
            max_events: 2 * budget.nodes + budget.aliases + 8,
            // Copies that the parser keeps of what is inside an anchor, once for each anchor around it.
            max_recorded_anchor_events: 4 * budget.nodes,
            max_recorded_anchor_bytes: Budget::text_bytes(text.len()),
            max_anchors: budget.nodes,
            // The counts above bound aliases; a ratio would refuse files that are well within them.
            enforce_alias_anchor_ratio: false,
        },
        duplicate_keys: DuplicateKeyPolicy::Error,
        merge_keys: MergeKeyPolicy::Merge,
        strict_booleans: true,
        legacy_octal_numbers: false,
        reject_unsupported_tags: true,
        // Comments carry nothing here; emitted, they would count as events.
        emit_comments: false,
        // A snippet repeats the file's text.
        with_snippet: false,
    }
}

/// The parser's error in our words.
pub(super) fn explain(error: &Error, budget: &Budget) -> YamlError {
    let inner = innermost(error);
    let found = match inner {
        // What went too far is the alias; what it stands for may be harmless.
        Error::Budget { .. } => error.location(),
        _ => inner.location().or_else(|| error.location()),
    };
    let at = found.filter(|at| at.line() > 0).map(|at| position(&at));
    YamlError { message: message(inner, budget), at: at.or(Some(Position { line: 1, column: 1 })) }
}

fn innermost(mut error: &Error) -> &Error {
    while let Error::AliasError { error: inner, .. } | Error::WithSnippet { error: inner, .. } = error {
        error = inner;
    }
    error
}

pub(super) fn position(at: &serde_saphyr::Location) -> Position {
    Position { line: index(at.line()), column: index(at.column()) }
}

fn index(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn message(error: &Error, budget: &Budget) -> String {
    match error {
        Error::SerdeUnknownField { field, expected, .. } => unknown("field", field, expected),
        Error::SerdeUnknownVariant { variant, expected, .. } => unknown_value("value", variant, expected),
        Error::SerdeMissingField { field, .. } => format!("the field `{field}` is missing"),
        Error::DuplicateMappingKey { key: Some(key), .. } => {
            format!("the key {} is given twice", quoted(key))
        }
        Error::DuplicateMappingKey { .. } => "the same key is given twice".into(),
        Error::SerdeInvalidType { unexpected, expected, .. }
        | Error::SerdeInvalidValue { unexpected, expected, .. } => {
            format!("expected {}, found {}", kind(expected), found(unexpected))
        }
        Error::SerdeInvalidLength { len, expected, .. } => {
            format!("expected {expected}, found {len} entries")
        }
        Error::InvalidScalar { ty, .. } => format!("expected {}", kind(ty)),
        Error::InvalidBooleanStrict { .. } => "expected `true` or `false`".into(),
        Error::Unexpected { expected, .. } => format!("expected {}", kind(expected)),
        Error::NullIntoString { .. } => "expected text, found nothing".into(),
        Error::NonFiniteFloat { .. } => "the number is not finite; put it in quotes if it is text".into(),
        Error::Budget { breach, .. } => breached(breach, budget),
        Error::AliasReplayLimitExceeded { .. } | Error::AliasReplayStackDepthExceeded { .. } => {
            "aliases expand to too much".into()
        }
        Error::ExternalMessage { source, .. } => match &**source {
            ExternalMessageSource::Parser(error) => syntax(error.kind(), budget),
            _ => "not valid YAML".into(),
        },
        other => fixed(other).into(),
    }
}

/// Errors whose message depends on nothing.
fn fixed(error: &Error) -> &'static str {
    match error {
        Error::Eof { .. } => "the text ends where a value is expected",
        Error::MultipleDocuments { .. } => "a second document begins here; a file holds one",
        Error::UnsupportedTag { .. } | Error::UnsupportedIncludeForm { .. } => "this tag is not supported",
        Error::UnknownAnchor { .. } => "this alias names an anchor that is not defined above it",
        Error::RecursiveReferencesRequireWeakTypes { .. } => "this alias stands inside what it stands for",
        Error::MergeValueNotMapOrSeqOfMaps { .. } => "`<<` takes a map or a list of maps",
        Error::InvalidBinaryBase64 { .. }
        | Error::BinaryNotUtf8 { .. }
        | Error::TaggedScalarCannotDeserializeIntoString { .. } => "the value does not fit its tag",
        // Everything else that a type may say of itself could repeat the value.
        _ => "the value is not accepted here",
    }
}

/// A kind of value as the parser or a type names it, in the words of the documentation.
fn kind(expected: &str) -> &str {
    match expected {
        "string scalar" | "a string" | "string" => "text",
        "mapping start" | "a map" => "a map",
        "sequence start" | "a sequence" => "a list",
        "boolean" | "a boolean" => "`true` or `false`",
        "floating point" => "a number",
        "i8" | "i16" | "i32" | "i64" | "i128" | "isize" => "a whole number in range",
        "u8" | "u16" | "u32" | "u64" | "u128" | "usize" => "a whole number in range, not below 0",
        expected if expected.starts_with("struct ") => "a map",
        expected => expected,
    }
}

/// The kind of a value that was found, without the value that serde puts behind it.
fn found(unexpected: &str) -> &'static str {
    match unexpected.split([' ', '`', '"']).next() {
        Some("boolean") => "a boolean",
        Some("integer" | "floating") => "a number",
        Some("string" | "character") => "text",
        Some("sequence") => "a list",
        Some("map") => "a map",
        Some("unit" | "Option") => "nothing",
        _ => "something else",
    }
}

fn breached(breach: &serde_saphyr::budget::BudgetBreach, budget: &Budget) -> String {
    use serde_saphyr::budget::BudgetBreach as Breach;
    match breach {
        Breach::Depth { .. } => format!("more than {} lists and maps inside one another", budget.depth),
        Breach::Aliases { .. } => format!("more than {} aliases", budget.aliases),
        Breach::Nodes { .. } | Breach::Events { .. } => {
            format!("more than {} values, those that aliases stand for included", budget.nodes)
        }
        Breach::ScalarBytes { .. } => "aliases expand to more than four times the file's size".into(),
        Breach::RecordedAnchorEvents { .. } | Breach::RecordedAnchorBytes { .. } => {
            "too much stands inside anchors".into()
        }
        _ => "the file costs too much to read".into(),
    }
}

fn syntax(kind: &ErrorKind, budget: &Budget) -> String {
    let text = match kind {
        ErrorKind::TabInPlainScalar => "a tab follows this text where only spaces may; indent with spaces",
        ErrorKind::TabInIndentation
        | ErrorKind::TabInBlockIndentation
        | ErrorKind::TabNotAllowed
        | ErrorKind::TabAtBlockScalarStart => "a tab stands where only spaces may; indent with spaces",
        ErrorKind::UnclosedQuotedScalar => "a quote is not closed",
        ErrorKind::InvalidQuotedScalarIndent => "a quote is not closed, or its text is indented too little",
        ErrorKind::UnclosedFlowCollection { .. }
        | ErrorKind::UnexpectedEofFlowMapping
        | ErrorKind::UnexpectedEofFlowSequence
        | ErrorKind::UnexpectedEofImplicitFlowMapping => "a bracket is not closed",
        ErrorKind::MisplacedFlowCollectionEnd | ErrorKind::MismatchedFlowCollectionEnd { .. } => {
            "this bracket closes nothing"
        }
        ErrorKind::UnexpectedCharacter { .. } => "text cannot begin with this character; put it in quotes",
        ErrorKind::MappingValueNotAllowed => {
            "a `:` cannot stand here; indent the key, or put text with `: ` in it in quotes"
        }
        ErrorKind::SimpleKeyExpected => "a `:` is missing after this key",
        ErrorKind::ExpectedBlockMappingKey => "a key is expected here; look at its indentation",
        ErrorKind::InvalidIndentation
        | ErrorKind::ExpectedDocumentStart
        | ErrorKind::InvalidFlowScalarIndent
        | ErrorKind::InvalidBlockScalarIndent => "the indentation fits no line above",
        ErrorKind::UnknownQuotedScalarEscape => "this escape is not known; in single quotes `\\` is itself",
        ErrorKind::RecursionLimitExceeded => {
            return format!("more than {} lists and maps inside one another", budget.depth);
        }
        // The one kind whose text is not the parser's own.
        ErrorKind::Custom(_) => "not valid YAML",
        other => return format!("not valid YAML: {other}"),
    };
    text.into()
}

#[cfg(test)]
mod tests;
