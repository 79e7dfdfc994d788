//! Results on stdout, notes on stderr.
//!
//! What comes from a source, a task or the service is escaped wherever a person reads it. A reader of stdout who
//! goes away ends the output and nothing else.

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};

use clap::ValueEnum;
use serde::Serialize;

use crate::api::wire::Items;
use crate::model::time::{Timestamp, human};
use crate::support::clock::Clock;
use crate::support::text::printable;

use super::error::CliError;
use super::json;
use super::table::{Table, colour_of};
use super::yaml;

/// How results are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A table
    #[default]
    Table,
    /// A table with more columns
    Wide,
    /// JSON
    Json,
    /// YAML
    Yaml,
    /// Names only, one a line
    Name,
}

impl Format {
    /// Whether a program reads it, and not a person.
    #[must_use]
    pub fn is_data(self) -> bool {
        matches!(self, Self::Json | Self::Yaml)
    }
}

/// Something that a listing shows.
pub trait Row: Serialize {
    /// The headers of its columns, in upper case.
    fn headers(wide: bool) -> Vec<&'static str>;

    /// Its cells, as many as there are headers; an empty one is shown as `-`.
    fn cells(&self, wide: bool, now: Timestamp) -> Vec<String>;

    /// What commands call it.
    fn name(&self) -> String;
}

/// What a command writes to.
pub struct Output {
    stdout: Box<dyn Write>,
    stderr: Box<dyn Write>,
    closed: bool,
    colour: bool,
    /// Whether stdout is a terminal.
    pub is_terminal: bool,
    /// Whether stderr is a terminal, and may be coloured.
    pub notes_in_colour: bool,
    /// How results are printed.
    pub format: Format,
    /// Whether tables have headers.
    pub header: bool,
    clock: Clock,
}

/// Whether a stream may be coloured: a terminal, and nobody set `NO_COLOR`.
#[must_use]
pub fn may_colour(is_terminal: bool, env: &dyn Fn(&str) -> Option<OsString>) -> bool {
    let plain = env("NO_COLOR").is_some_and(|value| !value.is_empty());
    is_terminal && !plain && env("TERM").is_none_or(|term| term != "dumb")
}

impl Output {
    /// This process's own streams.
    #[must_use]
    pub fn of_process(format: Format, header: bool, env: &dyn Fn(&str) -> Option<OsString>) -> Self {
        let (stdout, stderr) = (io::stdout(), io::stderr());
        let is_terminal = stdout.is_terminal();
        let notes_in_colour = may_colour(stderr.is_terminal(), env);
        Self {
            colour: may_colour(is_terminal, env),
            is_terminal,
            notes_in_colour,
            stdout: Box::new(io::BufWriter::new(stdout)),
            stderr: Box::new(stderr),
            closed: false,
            format,
            header,
            clock: Clock::System,
        }
    }

    /// Streams of a test.
    #[cfg(test)]
    pub(super) fn to(stdout: Box<dyn Write>, stderr: Box<dyn Write>, format: Format, clock: Clock) -> Self {
        Self {
            stdout,
            stderr,
            closed: false,
            colour: false,
            is_terminal: false,
            notes_in_colour: false,
            format,
            header: true,
            clock,
        }
    }

    /// The time of day.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        Timestamp(self.clock.now_ms())
    }

    /// Whether nobody reads stdout any more.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Writes text as it is.
    ///
    /// # Errors
    /// stdout takes no more, for another reason than that its reader went away.
    pub fn raw(&mut self, text: &str) -> Result<(), CliError> {
        self.attempt(|stdout| stdout.write_all(text.as_bytes()))
    }

    /// Writes a line, which is whole and seen at once where it is flushed.
    ///
    /// # Errors
    /// As [`Output::raw`].
    pub fn line(&mut self, text: &str) -> Result<(), CliError> {
        self.attempt(|stdout| writeln!(stdout, "{text}"))
    }

    /// Sends off what was written.
    ///
    /// # Errors
    /// As [`Output::raw`].
    pub fn flush(&mut self) -> Result<(), CliError> {
        self.attempt(|stdout| stdout.flush())
    }

    fn attempt(&mut self, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), CliError> {
        if self.closed {
            return Ok(());
        }
        match write(&mut *self.stdout) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.closed = true;
                Ok(())
            }
            Err(error) => {
                // Nothing more is tried: the error would come again when the rest is sent off.
                self.closed = true;
                Err(CliError::outside("cannot write to standard output").because(&error))
            }
        }
    }

    /// Says something on stderr that is no result. Where it cannot be said, nothing depends on it.
    pub fn note(&mut self, text: &str) {
        let _ = writeln!(self.stderr, "{}", printable_text(text));
    }

    /// Says something on stderr to a program: a line of JSON.
    ///
    /// # Errors
    /// The value cannot be written as JSON.
    pub fn note_record(&mut self, value: &impl Serialize) -> Result<(), CliError> {
        let text = serde_json::to_string(value).map_err(|error| unwritable(&error))?;
        let _ = writeln!(self.stderr, "{text}");
        Ok(())
    }

    /// Tells an error.
    pub fn tell(&mut self, error: &CliError) {
        error.tell(self.format == Format::Json, self.notes_in_colour, &mut *self.stderr);
    }

    /// One value as a whole: `-o json` and `-o yaml`.
    ///
    /// # Errors
    /// As [`Output::raw`].
    pub fn value(&mut self, value: &impl Serialize) -> Result<(), CliError> {
        // By way of the text: a value of serde_json's own would lose digits of what a task wrote.
        let text = serde_json::to_string(value).map_err(|error| unwritable(&error))?;
        let value = json::read(&text).map_err(|error| unwritable(&error))?;
        if self.format == Format::Yaml {
            return self.raw(&yaml::document(&value));
        }
        self.line(&json::pretty(&value))
    }

    /// One value of a stream, sent off at once: a line of JSON, or a document of YAML.
    ///
    /// # Errors
    /// As [`Output::raw`].
    pub fn record(&mut self, value: &impl Serialize) -> Result<(), CliError> {
        if self.format == Format::Yaml {
            self.line("---")?;
            self.value(value)?;
        } else {
            let text = serde_json::to_string(value).map_err(|error| unwritable(&error))?;
            self.line(&text)?;
        }
        self.flush()
    }

    /// A listing in the format that was asked for; `none` is said where it is empty.
    ///
    /// # Errors
    /// As [`Output::raw`].
    pub fn listing<R: Row>(&mut self, rows: &[R], none: &str) -> Result<(), CliError> {
        match self.format {
            Format::Json | Format::Yaml => self.value(&Items { items: rows.iter().collect() }),
            Format::Name => rows.iter().try_for_each(|row| self.line(&printable(&row.name()))),
            Format::Table | Format::Wide if rows.is_empty() => {
                if !none.is_empty() {
                    self.note(none);
                }
                Ok(())
            }
            Format::Table | Format::Wide => {
                let mut table = self.table::<R>();
                for row in rows {
                    table.push(self.cells(row));
                }
                self.print(&table)
            }
        }
    }

    /// An empty table for rows of this kind.
    #[must_use]
    pub fn table<R: Row>(&self) -> Table {
        Table::new(&R::headers(self.format == Format::Wide))
    }

    /// The cells of a row, in the format that was asked for.
    #[must_use]
    pub fn cells<R: Row>(&self, row: &R) -> Vec<String> {
        row.cells(self.format == Format::Wide, self.now())
    }

    /// Prints a table.
    ///
    /// # Errors
    /// As [`Output::raw`].
    pub fn print(&mut self, table: &Table) -> Result<(), CliError> {
        let text = table.render(self.header, self.colour);
        self.raw(&text)
    }

    /// Prints one more row below a table that was printed, and sends it off. The table keeps only its widths. The
    /// header of a table that had no row yet comes with its first one, whose widths it takes.
    ///
    /// # Errors
    /// As [`Output::raw`].
    pub fn print_below(&mut self, table: &mut Table, cells: Vec<String>) -> Result<(), CliError> {
        let is_first = table.is_empty();
        table.replace(cells);
        let has_header = is_first && self.header && self.format != Format::Name;
        let text = table.render(has_header, self.colour);
        self.raw(&text)?;
        self.flush()
    }

    /// One of `ok`, `warn` and `fail`, all of one width.
    #[must_use]
    pub fn verdict(&self, word: &str) -> String {
        let code = colour_of(word).filter(|_| self.colour);
        code.map_or_else(|| format!("{word:4}"), |code| format!("\u{1b}[{code}m{word:4}\u{1b}[0m"))
    }

    /// A heading or another word in bold, on a terminal.
    #[must_use]
    pub fn bold(&self, text: &str) -> String {
        if self.colour { format!("\u{1b}[1m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

fn unwritable(error: &serde_json::Error) -> CliError {
    CliError::bug(format!("a result cannot be written as JSON: {error}"))
}

/// Text that no terminal takes for a command, with its tabs and line breaks.
#[must_use]
pub fn printable_text(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for part in text.split_inclusive(['\n', '\t']) {
        let end = part.strip_suffix(['\n', '\t']).map_or(part.len(), str::len);
        shown.push_str(&printable(&part[..end]));
        shown.push_str(&part[end..]);
    }
    shown
}

/// How long ago a time of the API was; empty if it is none.
#[must_use]
pub fn age(at: &str, now: Timestamp) -> String {
    Timestamp::parse(at).map_or_else(String::new, |at| human(now.since(at)))
}

/// The beginning of a hash, as tables show it; empty if there is none.
#[must_use]
pub fn short(hash: Option<&str>) -> String {
    hash.map_or_else(String::new, |hash| hash.chars().take(6).collect())
}

/// The beginning of a commit, as tables show it; empty if there is none.
#[must_use]
pub fn short_revision(revision: Option<&str>) -> String {
    revision.map_or_else(String::new, |revision| revision.chars().take(8).collect())
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use super::*;

    #[derive(Serialize)]
    struct Fruit(&'static str, &'static str);

    impl Row for Fruit {
        fn headers(wide: bool) -> Vec<&'static str> {
            if wide { vec!["NAME", "READY", "MORE"] } else { vec!["NAME", "READY"] }
        }

        fn cells(&self, wide: bool, _: Timestamp) -> Vec<String> {
            let mut cells = vec![self.0.to_owned(), self.1.to_owned()];
            cells.extend(wide.then(String::new));
            cells
        }

        fn name(&self) -> String {
            self.0.to_owned()
        }
    }

    #[derive(Clone, Default)]
    pub(crate) struct Buffer(Rc<RefCell<Vec<u8>>>);

    impl Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.borrow_mut().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn printed(format: Format, work: impl FnOnce(&mut Output)) -> String {
        let buffer = Buffer::default();
        let mut output =
            Output::to(Box::new(buffer.clone()), Box::new(buffer.clone()), format, Clock::set_to(0));
        work(&mut output);
        String::from_utf8(buffer.0.borrow().clone()).unwrap()
    }

    const FRUIT: [Fruit; 2] = [Fruit("apple\u{1b}[2J\nX", "True"), Fruit("fig", "")];

    #[test]
    fn a_listing_in_every_format() {
        let list = |format| printed(format, |output| output.listing(&FRUIT, "no fruit").unwrap());
        let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(
            lines(&list(Format::Table)),
            ["NAME               READY", r"apple\u{1b}[2J\nX  True", "fig                -"]
        );
        assert_eq!(lines(&list(Format::Wide))[2], "fig                -      -");
        assert_eq!(lines(&list(Format::Name)), [r"apple\u{1b}[2J\nX", "fig"]);
        let json: serde_json::Value = serde_json::from_str(&list(Format::Json)).unwrap();
        assert_eq!(json["items"][0][0], "apple\u{1b}[2J\nX");
        assert!(list(Format::Yaml).starts_with("items:\n  - - \"apple\\u001b[2J\\nX\"\n"));
    }

    #[test]
    fn an_empty_listing_says_so_to_people_only() {
        let none: [Fruit; 0] = [];
        let list = |format| printed(format, |output| output.listing(&none, "no fruit").unwrap());
        assert_eq!(list(Format::Table), "no fruit\n");
        assert_eq!(list(Format::Name), "");
        assert_eq!(list(Format::Json), "{\n  \"items\": []\n}\n");
    }

    struct Gone(io::ErrorKind);

    impl Write for Gone {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Err(self.0.into())
        }
    }

    #[test]
    fn a_reader_who_left_ends_the_output_quietly_and_a_full_disk_does_not() {
        let to =
            |kind| Output::to(Box::new(Gone(kind)), Box::new(io::sink()), Format::Table, Clock::set_to(0));
        let mut gone = to(io::ErrorKind::BrokenPipe);
        assert!(gone.line("x").is_ok() && gone.is_closed() && gone.line("y").is_ok());
        let mut full = to(io::ErrorKind::StorageFull);
        assert_eq!(full.line("x").unwrap_err().exit(), 3);
        assert!(full.flush().is_ok());
    }

    #[test]
    fn text_keeps_its_lines_and_loses_its_commands() {
        assert_eq!(printable_text("a\tb\n\n\u{1b}[2Jc\r\n"), "a\tb\n\n\\u{1b}[2Jc\\r\n");
        assert_eq!(printable_text(""), "");
    }

    #[test]
    fn colour_needs_a_terminal_that_nobody_forbade() {
        let with = |name: &'static str, value: &'static str| {
            move |asked: &str| (asked == name).then(|| OsString::from(value))
        };
        assert!(may_colour(true, &with("NO_COLOR", "")) && may_colour(true, &with("TERM", "xterm")));
        assert!(!may_colour(true, &with("NO_COLOR", "1")) && !may_colour(true, &with("TERM", "dumb")));
        assert!(!may_colour(false, &with("TERM", "xterm")));
    }
}
