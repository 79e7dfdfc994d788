//! Log lines on stderr, for people or for programs.
//!
//! Times are written in the machine's time zone by jiff, which this module therefore uses too. Text from outside is
//! escaped here, once for all: no event can start a line of its own or move the cursor. Never fails the program:
//! a stderr that is gone loses lines and nothing else.

use std::ffi::OsString;
use std::fmt::{self, Write as _};
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

use super::clock::Clock;
use super::text::printable;

/// How lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// `[10:00:01.123] message key=value`.
    #[default]
    Text,
    /// One JSON object per line: `at`, `level`, `target`, `message`, `fields`.
    Json,
}

impl Format {
    /// Reads `text` or `json`.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "text" => Some(Self::Text),
            "json" => Some(Self::Json),
            _ => None,
        }
    }
}

/// Reads `error`, `warn`, `info`, `debug` or `trace`, in any case.
#[must_use]
pub fn parse_level(word: &str) -> Option<Level> {
    [Level::ERROR, Level::WARN, Level::INFO, Level::DEBUG, Level::TRACE]
        .into_iter()
        .find(|level| level.as_str().eq_ignore_ascii_case(word))
}

/// What stderr is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stderr {
    /// Whether levels may be coloured: a terminal, and nobody set `NO_COLOR`.
    pub colour: bool,
    /// Whether systemd's journal reads it, which keeps times of its own.
    pub journal: bool,
}

impl Stderr {
    /// Looks at this process's stderr; `env` gives the variables of the environment.
    #[must_use]
    pub fn look(env: &dyn Fn(&str) -> Option<OsString>) -> Self {
        let stderr = io::stderr();
        let plain = env("NO_COLOR").is_some_and(|value| !value.is_empty());
        // Programs started from a desktop inherit the variable; only its device and inode tell (systemd.exec(5)).
        let stat = rustix::fs::fstat(stderr.as_fd()).ok();
        let ours = stat.map(|stat| OsString::from(format!("{}:{}", stat.st_dev, stat.st_ino)));
        Self {
            colour: stderr.is_terminal() && !plain,
            journal: ours.is_some() && env("JOURNAL_STREAM") == ours,
        }
    }
}

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
#[error("logging was set up before")]
pub struct AlreadySet;

/// Sends what happens from now on to stderr: kindling's own events from `level` up, those of its dependencies from
/// warnings up, unless `level` is trace.
///
/// # Errors
/// It was called before.
pub fn init(level: Level, format: Format, stderr: Stderr) -> Result<(), AlreadySet> {
    let subscriber = subscriber(level, Lines { format, stderr, clock: Clock::System }, io::stderr);
    tracing::subscriber::set_global_default(subscriber).map_err(|_| AlreadySet)
}

fn subscriber<W>(level: Level, lines: Lines, writer: W) -> impl Subscriber + Send + Sync
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let others = if level == Level::TRACE { level } else { level.min(Level::WARN) };
    let filter = Targets::new()
        .with_target(env!("CARGO_CRATE_NAME"), LevelFilter::from_level(level))
        .with_default(LevelFilter::from_level(others));
    let layer = tracing_subscriber::fmt::layer()
        .event_format(lines)
        .with_writer(writer)
        // It would report a failed write on stderr, and panic if that fails too.
        .log_internal_errors(false)
        // The lines below are escaped already; the layer would escape their colours.
        .with_ansi_sanitization(false);
    tracing_subscriber::registry().with(layer.with_filter(filter))
}

/// Writes events as lines.
struct Lines {
    format: Format,
    stderr: Stderr,
    clock: Clock,
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let line = match self.format {
            Format::Text => self.text(*event.metadata().level(), &fields),
            Format::Json => self.json(event, &fields),
        };
        writeln!(writer, "{line}")
    }
}

impl Lines {
    fn now(&self) -> jiff::Timestamp {
        jiff::Timestamp::from_millisecond(self.clock.now_ms()).unwrap_or(jiff::Timestamp::UNIX_EPOCH)
    }

    fn text(&self, level: Level, fields: &Fields) -> String {
        let (dim, colour, reset) = match level {
            _ if !self.stderr.colour => ("", "", ""),
            Level::ERROR => ("\u{1b}[2m", "\u{1b}[31m", "\u{1b}[0m"),
            Level::WARN => ("\u{1b}[2m", "\u{1b}[33m", "\u{1b}[0m"),
            _ => ("\u{1b}[2m", "\u{1b}[2m", "\u{1b}[0m"),
        };
        let mut line = String::new();
        if !self.stderr.journal {
            let time = self.now().to_zoned(jiff::tz::TimeZone::system()).strftime("%H:%M:%S%.3f");
            line = format!("{dim}[{time}]{reset} ");
        }
        if level != Level::INFO {
            line.push_str(&format!("{colour}{level}{reset} "));
        }
        line.push_str(&printable(&fields.message));
        for (name, value) in &fields.rest {
            let value = match value {
                Value::String(text) => bare_or_quoted(text),
                other => other.to_string(),
            };
            line.push_str(&format!(" {name}={value}"));
        }
        line
    }

    fn json(&self, event: &Event<'_>, fields: &Fields) -> String {
        let level = event.metadata().level().as_str().to_ascii_lowercase();
        let line = serde_json::json!({
            "at": format!("{:.3}", self.now()),
            "level": level,
            "target": event.metadata().target(),
            "message": fields.message,
            "fields": fields.rest,
        });
        line.to_string()
    }
}

/// A value as it stands after `key=`: in quotes where its end would not be seen otherwise.
fn bare_or_quoted(text: &str) -> String {
    if text.is_empty() || text.contains([' ', '"', '=']) {
        format!("{text:?}")
    } else {
        printable(text).into_owned()
    }
}

#[derive(Default)]
struct Fields {
    message: String,
    rest: Map<String, Value>,
}

impl Fields {
    fn put(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            ("message", Value::String(text)) => self.message = text,
            (name, value) => {
                self.rest.insert(name.into(), value);
            }
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}").into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value.into());
    }

    /// An error with all its causes.
    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        let mut text = value.to_string();
        for cause in std::iter::successors(value.source(), |cause| cause.source()) {
            // Writing to a String cannot fail.
            let _ = write!(text, ": {cause}");
        }
        self.put(field, text.into());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing::{debug, error, info, trace, warn};

    use super::*;

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn lines(level: Level, format: Format, stderr: Stderr, work: impl FnOnce()) -> Vec<String> {
        let buffer = Buffer::default();
        let made = buffer.clone();
        let clock = Clock::set_to(1_795_000_001_123);
        let subscriber = subscriber(level, Lines { format, stderr, clock }, move || made.clone());
        tracing::subscriber::with_default(subscriber, work);
        let text = String::from_utf8(buffer.0.lock().unwrap().clone()).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    fn text(work: impl FnOnce()) -> Vec<String> {
        lines(Level::INFO, Format::Text, Stderr { journal: true, colour: false }, work)
    }

    #[test]
    fn the_time_comes_first_and_fields_last() {
        let found = lines(Level::DEBUG, Format::Text, Stderr::default(), || {
            info!(source = "local", "task/{} registered (hash: {})", "slack-digest", "a1b2c3");
            warn!(size = 5_u64, ok = true, ratio = 1.5, left = -1, "near a limit");
            debug!("phase");
        });
        // The hour is the machine's own.
        let rests: Vec<&str> = found.iter().map(|line| &line[3..]).collect();
        assert_eq!(
            rests,
            [
                ":06:41.123] task/slack-digest registered (hash: a1b2c3) source=local",
                ":06:41.123] WARN near a limit size=5 ok=true ratio=1.5 left=-1",
                ":06:41.123] DEBUG phase",
            ]
        );
        assert!(found.iter().all(|line| line.starts_with('[') && line.is_char_boundary(3)));
    }

    #[test]
    fn a_journal_has_times_of_its_own() {
        assert_eq!(text(|| error!("gone")), ["ERROR gone"]);
    }

    #[test]
    fn hostile_text_stays_on_its_line_and_moves_nothing() {
        let found =
            text(|| info!(path = "a\u{1b}[2J\nb", what = "x y=\"z\"\n", "one\r\n[10:00] two\u{202e}"));
        let expected = r#"one\r\n[10:00] two\u{202e} path=a\u{1b}[2J\nb what="x y=\"z\"\n""#;
        assert_eq!(found, [expected]);
    }

    #[test]
    fn an_error_brings_its_causes() {
        #[derive(Debug, thiserror::Error)]
        #[error("cannot open the store")]
        struct Outer(#[source] io::Error);
        let outer = Outer(io::Error::other("disk on fire"));
        let found = text(|| info!(error = &outer as &dyn std::error::Error, "failed"));
        assert_eq!(found, [r#"failed error="cannot open the store: disk on fire""#]);
    }

    #[test]
    fn json_keeps_the_parts_apart() {
        let found = lines(Level::INFO, Format::Json, Stderr { colour: true, journal: true }, || {
            warn!(message_of = "a\nb", count = 2, "hi\n");
        });
        let expected = r#"{"at":"2026-11-18T11:06:41.123Z","level":"warn","target":"kindling::support::telemetry::tests","message":"hi\n","fields":{"message_of":"a\nb","count":2}}"#;
        assert_eq!(found, [expected]);
    }

    #[test]
    fn colours_levels_on_a_terminal_only() {
        let found = lines(Level::INFO, Format::Text, Stderr { colour: true, journal: true }, || {
            error!("a");
            info!("b");
        });
        assert_eq!(found, ["\u{1b}[31mERROR\u{1b}[0m a", "b"]);
    }

    #[test]
    fn dependencies_speak_from_warnings_up_unless_all_is_asked_for() {
        let all = || {
            debug!("own");
            debug!(target: "hyper::proto", "noise");
            info!(target: "sqlx::query", "noise");
            warn!(target: "gix_transport", "care");
            trace!("deep");
        };
        let journal = Stderr { journal: true, colour: false };
        assert_eq!(lines(Level::DEBUG, Format::Text, journal, all), ["DEBUG own", "WARN care"]);
        assert_eq!(lines(Level::ERROR, Format::Text, journal, all), Vec::<String>::new());
        assert_eq!(lines(Level::TRACE, Format::Text, journal, all).len(), 5);
    }

    #[test]
    fn stderr_is_a_journal_only_if_it_is_the_one() {
        let look = |value: Option<&str>| {
            Stderr::look(&|name| (name == "JOURNAL_STREAM").then(|| value.map(OsString::from)).flatten())
                .journal
        };
        assert!(!look(None) && !look(Some("1:1")) && !look(Some("")));
        let stat = rustix::fs::fstat(io::stderr()).unwrap();
        assert!(look(Some(&format!("{}:{}", stat.st_dev, stat.st_ino))));
    }

    #[test]
    fn reads_levels_and_formats() {
        assert_eq!(parse_level("Debug"), Some(Level::DEBUG));
        assert_eq!((parse_level("3"), parse_level("off"), parse_level("")), (None, None, None));
        assert_eq!((Format::parse("json"), Format::parse("JSON")), (Some(Format::Json), None));
    }
}
