//! `kindling init`.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::api::exit;
use crate::config::locate::FILE_NAME;
use crate::support::text::printable;

use super::error::{CliError, Ended};
use super::{Context, values};

/// Make a configuration with a task that runs
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Make it in this directory
    #[arg(default_value = ".", hide_default_value = true)]
    dir: PathBuf,
}

const SETTINGS: &str = "\
# The configuration of kindling. All paths are relative to this file.

# Where desired state comes from. A local source is watched: save a file below it, and the task that it
# belongs to is live at once.
sources:
  - name: local
    local:
      path: ./tasks
  # A source from git is polled:
  # - name: team
  #   git:
  #     url: https://git.example.org/team/jobs.git
  #     branch: main

# The service keeps its store and its token here.
data_dir: .kindling

# The service listens here.
server:
  listen: 127.0.0.1:7070
";

const MANIFEST: &str = "\
apiVersion: kindling/v1
kind: Task
name: hello
description: Says hello
runtime: shell
trigger:
  manual: true
params:
  name:
    default: world
    description: Who is greeted
";

const SCRIPT: &str = "\
#!/bin/sh
# Parameters come as PARAM_ and the name in upper case. What is printed here is the run's output;
# what goes to stderr is its log.
echo \"greeting $PARAM_NAME\" >&2
echo \"hello, $PARAM_NAME\"
";

const FILES: [(&str, &str, u32); 3] = [
    (FILE_NAME, SETTINGS, 0o644),
    ("tasks/hello/task.yaml", MANIFEST, 0o644),
    ("tasks/hello/task.sh", SCRIPT, 0o755),
];

#[derive(Serialize)]
struct Made {
    created: Vec<PathBuf>,
    next: Vec<String>,
}

pub fn init(args: &Args, context: &mut Context) -> Ended {
    let dir = context.absolute(&args.dir);
    // A link that leads nowhere is there too.
    if let Some(there) =
        FILES.iter().map(|(name, ..)| dir.join(name)).find(|path| path.symlink_metadata().is_ok())
    {
        return Err(CliError::usage(format!(
            "{} is there already, and nothing was changed",
            there.display()
        ))
        .hint("name another directory: kindling init DIR"));
    }
    let mut created = Vec::new();
    for (name, text, mode) in FILES {
        let path = dir.join(name);
        write_new(&path, text, mode)
            .map_err(|error| CliError::outside(format!("cannot make {}", path.display())).because(&error))?;
        created.push(values::near(&path, &context.here));
    }
    let mut next = vec!["kindling serve".to_owned(), "kindling run hello -p name=you".to_owned()];
    if dir != context.here {
        let config = values::near(&dir, &context.here).join(FILE_NAME);
        next.iter_mut().for_each(|command| {
            command.push_str(&format!(" --config {}", values::shell_word(&config.display().to_string())));
        });
    }
    tell(context, &Made { created, next })?;
    Ok(exit::DONE)
}

fn tell(context: &mut Context, made: &Made) -> Result<(), CliError> {
    let output = &mut context.output;
    if output.format.is_data() {
        return output.value(made);
    }
    for path in &made.created {
        let verb = if output.format == super::output::Format::Name { "" } else { "created " };
        output.line(&format!("{verb}{}", printable(&path.display().to_string())))?;
    }
    if output.format != super::output::Format::Name {
        output.line("")?;
        output.line("Next, in two terminals:")?;
        made.next.iter().try_for_each(|command| output.line(&format!("  {}", printable(command))))?;
    }
    Ok(())
}

fn write_new(path: &Path, text: &str, mode: u32) -> std::io::Result<()> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    // Never over something that came meanwhile.
    OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?.write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Role;
    use crate::model::limits::Limits;

    #[test]
    fn what_is_made_is_valid() {
        let settings = crate::config::parse(
            Path::new("/x/kindling.yaml"),
            SETTINGS.as_bytes(),
            &|_| None,
            Role::Service,
        );
        let settings = settings.unwrap();
        assert_eq!(settings.sources.len(), 1);
        assert_eq!(settings.data_dir, Path::new("/x/.kindling"));
        let spec = crate::plan::manifest::read_task(MANIFEST.as_bytes(), &Limits::default()).unwrap().spec;
        assert_eq!(spec.name, "hello");
    }
}
