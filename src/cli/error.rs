//! What went wrong, for people and for programs: one type, its exit code, and how it is told on stderr.

use std::error::Error;
use std::io::Write;
use std::panic::PanicHookInfo;

use crate::api::wire::ErrorView;
use crate::api::{code, exit};
use crate::config::ConfigError;
use crate::config::locate::LocateError;
use crate::support::text::printable;

use super::find::{TELLS_ALL, TOKEN};

/// The end of a command: its exit code, or an error that has one.
pub type Ended = Result<u8, CliError>;

/// Words of errors that only the command line has; those of the service are in [`crate::api::code`].
mod word {
    pub(super) const USAGE: &str = "Usage";
    pub(super) const CONFIGURATION: &str = "Configuration";
    pub(super) const NOT_REACHED: &str = "NotReached";
    pub(super) const NOT_SO: &str = "NotSo";
    pub(super) const TIMED_OUT: &str = "TimedOut";
    pub(super) const BUG: &str = "Bug";
}

/// An error of a command.
#[derive(Debug)]
pub struct CliError {
    view: Box<ErrorView>,
    /// Why, outermost first.
    causes: Vec<String>,
    /// Further errors of the same kind, each with its hint.
    others: Vec<(String, Option<String>)>,
    /// Lines that only people are shown.
    detail: Vec<String>,
}

impl CliError {
    fn new(code: &str, exit: u8, message: impl Into<String>) -> Self {
        let view = ErrorView {
            code: code.into(),
            message: message.into(),
            hint: None,
            file: None,
            line: None,
            column: None,
            exit,
        };
        Self { view: Box::new(view), causes: Vec::new(), others: Vec::new(), detail: Vec::new() }
    }

    /// What was typed cannot be carried out.
    #[must_use]
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(word::USAGE, exit::USAGE, message)
    }

    /// What was asked about is not so.
    #[must_use]
    pub fn not_so(message: impl Into<String>) -> Self {
        Self::new(word::NOT_SO, exit::NOT_SO, message)
    }

    /// The outside failed: a disk, the network, the service.
    #[must_use]
    pub fn outside(message: impl Into<String>) -> Self {
        Self::new(code::FAILED, exit::OUTSIDE, message)
    }

    /// No service answers.
    #[must_use]
    pub fn not_reached(message: impl Into<String>) -> Self {
        Self::new(word::NOT_REACHED, exit::OUTSIDE, message)
    }

    /// The time that was given is over.
    #[must_use]
    pub fn timed_out(message: impl Into<String>) -> Self {
        Self::new(word::TIMED_OUT, exit::TIMED_OUT, message)
    }

    /// kindling itself is wrong.
    #[must_use]
    pub fn bug(message: impl Into<String>) -> Self {
        Self::new(word::BUG, exit::BUG, message).hint("please report it, with the command that shows it")
    }

    /// An error that the service answered with.
    #[must_use]
    pub fn answered(mut view: ErrorView) -> Self {
        // An error is never a success, whatever the other side says.
        if view.exit == exit::DONE {
            view.exit = exit::OUTSIDE;
        }
        Self { view: Box::new(view), causes: Vec::new(), others: Vec::new(), detail: Vec::new() }
    }

    /// Everything that is wrong with a configuration file.
    #[must_use]
    pub fn configuration(errors: &[ConfigError]) -> Self {
        let mut all = errors.iter();
        let Some(first) = all.next() else {
            return Self::bug("a configuration was refused without a reason");
        };
        let mut error = Self::new(word::CONFIGURATION, exit::USAGE, first.message.clone());
        error.view.file = Some(first.file.display().to_string());
        error.view.line = first.at.map(|at| at.line);
        error.view.column = first.at.map(|at| at.column);
        error.view.hint.clone_from(&first.hint);
        error.others = all.map(|error| (error.to_string(), error.hint.clone())).collect();
        error
    }

    /// The service wants a token, and what is wrong with the configuration hides which one.
    #[must_use]
    pub fn hidden_token(faults: &[ConfigError], address: &str) -> Self {
        let mut error = Self::configuration(faults).hint(format!(
            "{TELLS_ALL}; until it is mended, {TOKEN} takes the token of the service at {address}"
        ));
        let why = std::mem::take(&mut error.view.message);
        error.view.message = format!("the configuration cannot be read, so its token is not known: {why}");
        error
    }

    /// There is no configuration file.
    #[must_use]
    pub fn no_configuration(error: &LocateError) -> Self {
        Self::new(word::CONFIGURATION, exit::USAGE, error.to_string()).hint(error.hint())
    }

    /// What clap says of the arguments.
    #[must_use]
    pub fn arguments(error: &clap::Error) -> Self {
        let text = error.render().to_string();
        let mut paragraphs = text.split("\n\n").map(|paragraph| {
            paragraph.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>()
        });
        let first = paragraphs.next().unwrap_or_default().join(" ");
        let mut made = Self::usage(first.strip_prefix("error: ").unwrap_or(&first));
        made.view.hint = Some("`--help` behind the command says what it takes".into());
        let more = |lines: &Vec<&str>| !lines.is_empty() && !lines[0].starts_with("For more information");
        for paragraph in paragraphs.filter(more) {
            match paragraph[0].strip_prefix("tip: ") {
                Some(tip) => made.view.hint = Some(tip.to_owned()),
                None => made.detail.extend(paragraph.into_iter().map(str::to_owned)),
            }
        }
        made
    }

    /// Adds another error that is told with it; the exit code stays.
    #[must_use]
    pub fn and(mut self, other: &Self) -> Self {
        self.others.push((other.sentence(), other.view.hint.clone()));
        self
    }

    /// Adds what to do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.view.hint = Some(hint.into());
        self
    }

    /// Adds why, with everything below it.
    #[must_use]
    pub fn because(mut self, cause: &(dyn Error + 'static)) -> Self {
        self.causes.extend(chain(cause).map(ToString::to_string));
        self
    }

    /// Adds what is below an error whose own words are the message already.
    #[must_use]
    pub fn because_of(self, error: &(dyn Error + 'static)) -> Self {
        match error.source() {
            Some(cause) => self.because(cause),
            None => self,
        }
    }

    /// The exit code.
    #[must_use]
    pub fn exit(&self) -> u8 {
        self.view.exit
    }

    /// Whether the service answered with this word.
    #[must_use]
    pub fn is(&self, code: &str) -> bool {
        self.view.code == code
    }

    /// Whether no service answered.
    #[must_use]
    pub fn is_not_reached(&self) -> bool {
        self.is(word::NOT_REACHED)
    }

    /// All of it in one sentence, without the hint.
    #[must_use]
    pub fn sentence(&self) -> String {
        let mut text = self.placed();
        for cause in &self.causes {
            text.push_str(": ");
            text.push_str(cause);
        }
        text
    }

    /// What to do next.
    #[must_use]
    pub fn advice(&self) -> Option<&str> {
        self.view.hint.as_deref()
    }

    fn placed(&self) -> String {
        let view = &self.view;
        match (&view.file, view.line, view.column) {
            (Some(file), Some(line), Some(column)) => format!("{file}:{line}:{column}: {}", view.message),
            (Some(file), ..) => format!("{file}: {}", view.message),
            (None, ..) => view.message.clone(),
        }
    }

    /// The object that programs are given.
    #[must_use]
    pub fn view(&self) -> ErrorView {
        let mut view = (*self.view).clone();
        for cause in &self.causes {
            view.message.push_str(": ");
            view.message.push_str(cause);
        }
        if !self.others.is_empty() {
            view.message.push_str(&format!(" (and {} more)", self.others.len()));
        }
        view
    }

    /// Tells it. Whether anybody can be told is not looked at: there is no other place to say so.
    pub fn tell(&self, json: bool, colour: bool, stderr: &mut dyn Write) {
        let _ = if json { self.tell_program(stderr) } else { self.tell_person(colour, stderr) };
    }

    fn tell_program(&self, stderr: &mut dyn Write) -> std::io::Result<()> {
        let text = serde_json::to_string(&self.view()).unwrap_or_default();
        writeln!(stderr, "{text}")?;
        stderr.flush()
    }

    fn tell_person(&self, colour: bool, stderr: &mut dyn Write) -> std::io::Result<()> {
        let (red, cyan, reset) =
            if colour { ("\u{1b}[1;31m", "\u{1b}[36m", "\u{1b}[0m") } else { ("", "", "") };
        writeln!(stderr, "{red}error:{reset} {}", printable(&self.placed()))?;
        for cause in &self.causes {
            writeln!(stderr, "  caused by: {}", printable(cause))?;
        }
        for line in &self.detail {
            writeln!(stderr, "{}", printable(line))?;
        }
        // Each stands behind its error; one that several have is told once.
        let mut told = Vec::new();
        let mut tell_hint = |hint: &Option<String>, stderr: &mut dyn Write| match hint {
            Some(hint) if !told.contains(hint) => {
                told.push(hint.clone());
                writeln!(stderr, "{cyan}hint:{reset} {}", printable(hint))
            }
            _ => Ok(()),
        };
        tell_hint(&self.view.hint, stderr)?;
        for (other, hint) in &self.others {
            writeln!(stderr, "{red}error:{reset} {}", printable(other))?;
            tell_hint(hint, stderr)?;
        }
        stderr.flush()
    }
}

/// An error and what is below it, outermost first.
pub fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    let mut next = Some(error);
    std::iter::from_fn(move || {
        let now = next?;
        next = now.source();
        Some(now)
    })
}

/// From now on a panic is told as a bug of kindling, in place of Rust's own text.
pub fn tell_panics(json: bool) {
    std::panic::set_hook(Box::new(move |info| {
        of_panic(info).tell(json, false, &mut std::io::stderr());
    }));
}

/// From now on a panic is a line of the log: a service has no other voice.
pub fn log_panics() {
    std::panic::set_hook(Box::new(|info| tracing::error!("{}", of_panic(info).sentence())));
}

fn of_panic(info: &PanicHookInfo<'_>) -> CliError {
    let what = info.payload();
    let what =
        what.downcast_ref::<&str>().copied().or_else(|| what.downcast_ref::<String>().map(String::as_str));
    let at = info.location().map(|at| format!(" at {}:{}", at.file(), at.line())).unwrap_or_default();
    CliError::bug(format!("this is a bug in kindling{at}: {}", what.unwrap_or("no reason was given")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(error: &CliError, json: bool) -> String {
        let mut text = Vec::new();
        error.tell(json, false, &mut text);
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn a_person_reads_message_causes_and_hint() {
        let cause = std::io::Error::other("disk on\u{1b}[2J fire");
        let error = CliError::outside("cannot write\n x").because(&cause).hint("buy a disk");
        assert_eq!(
            told(&error, false),
            "error: cannot write\\n x\n  caused by: disk on\\u{1b}[2J fire\nhint: buy a disk\n"
        );
    }

    #[test]
    fn a_program_reads_one_object() {
        let cause = std::io::Error::other("disk on fire");
        let error = CliError::outside("cannot write").because(&cause);
        let view: serde_json::Value = serde_json::from_str(&told(&error, true)).unwrap();
        assert_eq!(
            view,
            serde_json::json!({"code": "Failed", "message": "cannot write: disk on fire", "hint": null,
                "file": null, "line": null, "column": null, "exit": 3})
        );
    }

    #[test]
    fn a_panic_is_a_bug() {
        let seen = std::sync::Arc::new(std::sync::Mutex::new(None));
        let put = std::sync::Arc::clone(&seen);
        let before = std::panic::take_hook();
        let here = std::thread::current().id();
        std::panic::set_hook(Box::new(move |info| {
            if std::thread::current().id() == here {
                *put.lock().unwrap() = Some(of_panic(info));
            }
        }));
        let caught = std::panic::catch_unwind(|| panic!("on purpose"));
        std::panic::set_hook(before);
        assert!(caught.is_err());
        let error = seen.lock().unwrap().take().unwrap();
        assert_eq!(error.exit(), 70);
        let text = told(&error, false);
        assert!(
            text.starts_with("error: this is a bug in kindling at ") && text.contains(": on purpose"),
            "{text}"
        );
    }
}
