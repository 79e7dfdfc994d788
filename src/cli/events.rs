//! `kindling events`.

use std::time::Duration;

use crate::api::exit;
use crate::api::wire::EventView;
use crate::support::text::printable;

use super::Context;
use super::error::{CliError, Ended};
use super::output::{Format, Output, short, short_revision};
use super::values::{self, Since};

/// What is printed without `--since` and `-f`.
const LOOK_BACK: Since = Since::Ago(Duration::from_secs(3600));

/// Events of the past are sent together. Without `-f` the listing ends when nothing more came for so long.
const PAST_IS_OVER: Duration = Duration::from_millis(500);

/// Print what happened, or with -f what happens from now on
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print events as they happen, until interrupted
    #[arg(short, long)]
    follow: bool,
    /// Begin with events since this time, or so long ago; one hour ago unless -f is given
    #[arg(long, value_name = "TIME", value_parser = values::since)]
    since: Option<Since>,
}

pub async fn events(args: &Args, context: &mut Context) -> Ended {
    let client = context.client()?;
    let now = context.output.now();
    let since = args.since.or((!args.follow).then_some(LOOK_BACK)).map(|since| since.at(now).to_string());
    let mut events = client.stream::<EventView>(&["events"], &[("since", since.as_deref())]).await?;
    let mut last = None;
    loop {
        let next = if args.follow {
            events.next().await?
        } else {
            match tokio::time::timeout(PAST_IS_OVER, events.next()).await {
                Ok(next) => next?,
                Err(_) => return Ok(exit::DONE),
            }
        };
        let Some(event) = next else { break };
        print(&mut context.output, &event)?;
        if context.output.is_closed() {
            return Ok(exit::DONE);
        }
        last = Some(event.at);
    }
    if !args.follow {
        return Ok(exit::DONE);
    }
    let error = CliError::outside("the service ended the stream of events");
    Err(match last {
        Some(at) => error.hint(format!("go on with `kindling events -f --since {at}`")),
        None => error,
    })
}

fn print(output: &mut Output, event: &EventView) -> Result<(), CliError> {
    match output.format {
        Format::Json | Format::Yaml => output.record(event),
        Format::Name => {
            output.line(&printable(event.unit.as_deref().unwrap_or(&event.source)))?;
            output.flush()
        }
        Format::Table | Format::Wide => {
            let about = event.unit.as_deref().unwrap_or(&event.source);
            let hash =
                event.hash.as_deref().map(|hash| format!(" {}", short(Some(hash)))).unwrap_or_default();
            let revision = event
                .revision
                .as_deref()
                .map(|of| format!(" @{}", short_revision(Some(of))))
                .unwrap_or_default();
            let line = format!("{} {} {about}{hash}{revision} {}", event.at, event.kind, event.message);
            output.line(printable(&line).trim_end())?;
            output.flush()
        }
    }
}
