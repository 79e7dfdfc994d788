//! What a pass did, or would do, as text.

use crate::api::exit;
use crate::api::wire::{FileChangeView, ProblemView, ReportView, StepView};
use crate::model::time::Timestamp;
use crate::support::text::printable;

use super::error::CliError;
use super::output::{Format, Output, Row, short};

/// Files of a step that are named; the rest is counted.
const MOST_FILES: usize = 3;

impl Row for StepView {
    fn headers(wide: bool) -> Vec<&'static str> {
        let mut headers = vec!["UNIT", "ACTION", "RULE", "FROM", "TO"];
        if wide {
            headers.push("RESTART");
        }
        headers.push("REASON");
        headers
    }

    fn cells(&self, wide: bool, _: Timestamp) -> Vec<String> {
        let mut cells = vec![
            self.unit.clone(),
            self.action.clone(),
            self.rule.clone(),
            short(self.from_hash.as_deref()),
            short(self.to_hash.as_deref()),
        ];
        cells.extend(wide.then(|| self.restart.clone()));
        let files = files(&self.files);
        let reason =
            if files.is_empty() { self.reason.clone() } else { format!("{} ({files})", self.reason) };
        cells.push(match &self.error {
            Some(error) => format!("{reason}; failed: {error}"),
            None => reason,
        });
        cells
    }

    fn name(&self) -> String {
        self.unit.clone()
    }
}

fn files(changes: &[FileChangeView]) -> String {
    let mut names: Vec<String> = changes.iter().take(MOST_FILES).map(|file| file.path.clone()).collect();
    if changes.len() > MOST_FILES {
        names.push(format!("{} more", changes.len() - MOST_FILES));
    }
    names.join(", ")
}

/// Prints a report; `nothing` is said where there is no step.
///
/// # Errors
/// stdout takes no more.
pub fn print(output: &mut Output, report: &ReportView, nothing: &str) -> Result<(), CliError> {
    match output.format {
        Format::Json | Format::Yaml => output.value(report),
        Format::Name => report.steps.iter().try_for_each(|step| output.line(&printable(&step.unit))),
        Format::Table | Format::Wide => {
            output.listing(&report.steps, if report.problems.is_empty() { nothing } else { "" })?;
            for broken in &report.problems {
                for problem in &broken.problems {
                    output.line(&format!(
                        "{}: {}",
                        printable(&broken.unit),
                        printable(&place_and_message(problem))
                    ))?;
                }
            }
            for guarded in &report.guarded {
                output.line(&format!(
                    "{} is held back: {}",
                    printable(&guarded.name),
                    printable(&guarded.why)
                ))?;
            }
            for unready in &report.unready {
                let is_told = report.problems.iter().any(|broken| broken.unit == unready.name);
                if !is_told {
                    output.line(&format!(
                        "{} is not ready: {}",
                        printable(&unready.name),
                        printable(&unready.why)
                    ))?;
                }
            }
            Ok(())
        }
    }
}

/// Where a problem is, and what it is.
#[must_use]
pub fn place_and_message(problem: &ProblemView) -> String {
    match (&problem.file, problem.line, problem.column) {
        (Some(file), Some(line), Some(column)) => format!("{file}:{line}:{column}: {}", problem.message),
        (Some(file), ..) => format!("{file}: {}", problem.message),
        (None, ..) => problem.message.clone(),
    }
}

/// The exit code of a pass that was asked for: whether all that it is about is as it should be.
#[must_use]
pub fn exit_of(report: &ReportView) -> u8 {
    let failed = report.steps.iter().any(|step| step.error.is_some());
    if failed || !report.problems.is_empty() || !report.unready.is_empty() {
        exit::NOT_SO
    } else {
        exit::DONE
    }
}
