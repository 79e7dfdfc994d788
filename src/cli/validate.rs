//! `kindling validate`.

use std::path::{Path, PathBuf};

use crate::api::exit;
use crate::api::wire::ProblemView;
use crate::config::locate::LocateError;
use crate::config::{Role, Settings};
use crate::model::limits::Limits;
use crate::model::problem::{Position, Problem};
use crate::model::source::Origin;
use crate::plan::discover::{SET_MANIFEST, TASK_MANIFEST};
use crate::plan::{chain, hook};
use crate::support::text::{count, printable};

use super::error::{CliError, Ended};
use super::look::{look, told_of};
use super::output::{Format, Output};
use super::{Context, report, values};

/// Most characters of a line that are shown around a mistake.
const SHOWN: usize = 100;

/// Check manifests without a service
///
/// Ends with 0 if all of them are good, with 1 if there is a problem, with 2 if a directory is not there; the others
/// are checked all the same.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Check what is below this directory; without it every local source of the configuration, or else this directory
    path: Option<PathBuf>,
}

/// What is looked at, and how.
struct Plan {
    roots: Vec<PathBuf>,
    skip: Vec<PathBuf>,
    limits: Limits,
}

/// A problem, with the file that it is in.
struct Found {
    problem: Problem,
    file: Option<PathBuf>,
}

pub async fn validate(args: &Args, context: &mut Context) -> Ended {
    let plan = plan(args, context)?;
    let (mut found, mut warnings, mut units, mut roots) = (Vec::new(), Vec::new(), 0, Vec::new());
    let mut elsewhere = 0;
    let mut failed: Option<CliError> = None;
    for root in plan.roots {
        let looked = match look(&root, &plan.skip, &plan.limits, false).await {
            Ok(looked) => looked,
            Err(error) => {
                failed = Some(match failed {
                    None => error,
                    Some(first) => first.and(&error),
                });
                continue;
            }
        };
        units += looked.catalog.len();
        elsewhere += looked.catalog.elsewhere();
        let (circles, unknown) = chain::of_nameless(&looked.catalog);
        let taken = hook::of_nameless(&looked.catalog);
        let broken = looked.catalog.iter().filter_map(|(_, entry)| entry.state.as_ref().err());
        let homeless = looked.catalog.homeless_problems();
        let problems = broken.flatten().chain(homeless).chain(&looked.strays).chain(&circles).chain(&taken);
        found.extend(in_order(&root, problems));
        warnings.extend(in_order(&root, looked.catalog.warnings().chain(&unknown)));
        roots.push(root);
    }
    print(&mut context.output, &context.here, (&found, &warnings, elsewhere))?;
    if !roots.is_empty() {
        tell_sum(&mut context.output, units, (found.len(), warnings.len()), &roots);
        if let Some(told) = told_of(elsewhere).filter(|_| !context.output.format.is_data()) {
            context.output.note(&told);
        }
    }
    match failed {
        Some(error) => Err(error),
        None => Ok(if found.is_empty() { exit::DONE } else { exit::NOT_SO }),
    }
}

/// Problems of a root in the order of their places. One mistake of a set can break many units and is told once.
fn in_order<'a>(root: &Path, problems: impl Iterator<Item = &'a Problem>) -> Vec<Found> {
    let mut problems: Vec<Problem> = problems.cloned().collect();
    problems.sort_by(|a, b| (&a.file, a.at, &a.message).cmp(&(&b.file, b.at, &b.message)));
    problems.dedup();
    let found = |problem: Problem| Found {
        file: problem.file.as_ref().map(|file| root.join(file.as_str())),
        problem,
    };
    problems.into_iter().map(found).collect()
}

fn plan(args: &Args, context: &Context) -> Result<Plan, CliError> {
    let settings = match context.locate() {
        Ok(_) => Some(context.settings(Role::Client)),
        Err(error @ LocateError::NotThere { .. }) => return Err(CliError::no_configuration(&error)),
        Err(LocateError::NotFound { .. }) => None,
    };
    let Some(path) = &args.path else {
        // Only what is looked at without a path depends on the configuration.
        return match settings.transpose()? {
            Some(settings) => of_sources(&settings),
            None => {
                Ok(Plan { roots: vec![context.here.clone()], skip: Vec::new(), limits: Limits::default() })
            }
        };
    };
    let mut root = context.absolute(path);
    if root.is_file() && root.file_name().is_some_and(|name| name == TASK_MANIFEST || name == SET_MANIFEST) {
        root.pop();
    }
    if !root.is_dir() {
        return Err(CliError::usage(format!("there is no directory {}", path.display())));
    }
    let settings = settings.and_then(Result::ok);
    let skip = settings.iter().map(|settings| settings.data_dir.clone()).collect();
    Ok(Plan { roots: vec![root], skip, limits: settings.map(|settings| settings.limits).unwrap_or_default() })
}

fn of_sources(settings: &Settings) -> Result<Plan, CliError> {
    let roots: Vec<PathBuf> = settings
        .sources
        .iter()
        .filter_map(|source| match &source.origin {
            Origin::Local(local) => Some(local.path.clone()),
            Origin::Git(_) => None,
        })
        .collect();
    if roots.is_empty() {
        let message = format!("{} has no local source to check", settings.file.display());
        return Err(CliError::usage(message).hint("name a directory: kindling validate PATH"));
    }
    Ok(Plan { roots, skip: vec![settings.data_dir.clone()], limits: settings.limits.clone() })
}

fn view(found: &Found, here: &Path) -> ProblemView {
    ProblemView {
        reason: found.problem.reason.as_str().into(),
        message: found.problem.message.clone(),
        file: found.file.as_ref().map(|file| values::near(file, here).display().to_string()),
        line: found.problem.at.map(|at| at.line),
        column: found.problem.at.map(|at| at.column),
    }
}

fn print(
    output: &mut Output,
    here: &Path,
    (found, warnings, elsewhere): (&[Found], &[Found], usize),
) -> Result<(), CliError> {
    let views = found.iter().map(|found| view(found, here));
    match output.format {
        Format::Json | Format::Yaml => output.value(&Checked {
            items: views.collect(),
            warnings: warnings.iter().map(|found| view(found, here)).collect(),
            elsewhere,
        }),
        Format::Name => {
            for view in views {
                output.line(&printable(&view.file.unwrap_or_default()))?;
            }
            Ok(())
        }
        Format::Table | Format::Wide => {
            for (view, found) in views.zip(found) {
                output.line(&printable(&report::place_and_message(&view)))?;
                let place = found.file.as_ref().zip(found.problem.at).filter(|_| output.is_terminal);
                if let Some((file, at)) = place
                    && let Ok(text) = std::fs::read_to_string(file)
                    && let Some(excerpt) = excerpt(&text, at)
                {
                    output.line(&excerpt)?;
                }
            }
            for warning in warnings {
                let line = report::place_and_message(&view(warning, here));
                output.line(&printable(&format!("warning: {line}")))?;
            }
            Ok(())
        }
    }
}

/// What was found, as data.
#[derive(serde::Serialize)]
struct Checked {
    items: Vec<ProblemView>,
    warnings: Vec<ProblemView>,
    /// Entries that lead to other repositories, which were not looked at.
    elsewhere: usize,
}

fn tell_sum(output: &mut Output, units: usize, (problems, warnings): (usize, usize), roots: &[PathBuf]) {
    if output.format.is_data() || output.format == Format::Name {
        return;
    }
    if units == 0 && problems == 0 {
        let roots: Vec<String> = roots.iter().map(|root| root.display().to_string()).collect();
        output.note(&format!("no {TASK_MANIFEST} and no {SET_MANIFEST} below {}", roots.join(", ")));
    } else {
        let more = match warnings {
            0 => String::new(),
            some => format!(", {}", count(some, "warning")),
        };
        let (units, problems) = (count(units, "unit"), count(problems, "problem"));
        output.note(&format!("{units}, {problems}{more}"));
    }
}

/// The line of a mistake with a caret below it. The file belongs to the person who looks at it, so it may be shown,
/// but nothing in it reaches the terminal as a command.
fn excerpt(text: &str, at: Position) -> Option<String> {
    let line = text.lines().nth(usize::try_from(at.line).ok()?.checked_sub(1)?)?;
    let column = usize::try_from(at.column).ok()?.checked_sub(1)?;
    let from = column.saturating_sub(SHOWN / 2);
    let shown: String = line
        .chars()
        .skip(from)
        .take(SHOWN)
        .map(|c| match c {
            '\t' => ' ',
            c if printable(c.encode_utf8(&mut [0; 4])).chars().eq([c]) => c,
            _ => '?',
        })
        .collect();
    let number = at.line;
    let margin = " ".repeat(number.to_string().len());
    Some(format!("  {number} | {shown}\n  {margin} | {}^", " ".repeat(column - from)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_at_the_column_of_the_mistake() {
        let text = "a: 1\n\tb\u{1b}é: x\n";
        let at = |line, column| excerpt(text, Position { line, column });
        assert_eq!(at(2, 6).unwrap(), "  2 |  b?é: x\n    |      ^");
        assert_eq!(at(3, 1), None);
        assert_eq!(at(0, 1), None);
        let long = excerpt(&"x".repeat(1000), Position { line: 1, column: 500 }).unwrap();
        assert!(long.lines().all(|line| line.len() < 120), "{long}");
        assert_eq!(long.lines().last().unwrap().trim_end_matches('^').len(), 6 + SHOWN / 2);
    }
}
