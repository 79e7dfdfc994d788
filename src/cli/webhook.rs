//! `kindling webhook`.

use clap::Subcommand;

use crate::api::exit;
use crate::api::wire::{DeliveryAnswer, DeliveryView, HookView, Items, SamplePush};

use super::Context;
use super::error::Ended;
use super::get;

/// Try a push webhook, list deliveries or take one again, list task webhooks
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Sign a push of the commit that was seen last and post it to the running service
    ///
    /// Ends with 0 where it was accepted.
    Test {
        /// Try the webhook of this source
        source: String,
    },
    /// List deliveries, the newest first
    List {
        /// List only those of this source
        source: Option<String>,
        /// List this many at most
        #[arg(long, value_name = "N")]
        limit: Option<u32>,
        /// Print each one again when it changes, until Ctrl-C
        #[arg(short, long)]
        watch: bool,
    },
    /// List the paths of task webhooks, with what callers need
    Tasks,
    /// Look at the source again for what a delivery announced
    Redeliver {
        /// Take the delivery of this number
        number: i64,
    },
}

pub async fn webhook(args: &Args, context: &mut Context) -> Ended {
    let client = context.client()?;
    match &args.command {
        Command::Test { source } => {
            let sample: SamplePush =
                client.post(&["sources", source, "sample-push"], &serde_json::json!({})).await?;
            let (status, answer): (u16, DeliveryAnswer) = client.deliver(source, &sample).await?;
            if context.output.format.is_data() {
                context.output.value(&answer)?;
            } else {
                let why =
                    if answer.reason.is_empty() { String::new() } else { format!(": {}", answer.reason) };
                context.output.line(&format!("{status} {}{why}", answer.outcome))?;
            }
            Ok(if status == 202 { exit::DONE } else { exit::NOT_SO })
        }
        Command::List { source, limit, watch } => {
            get::deliveries(source.clone(), *limit, *watch, context).await
        }
        Command::Tasks => {
            let hooks: Items<HookView> = client.get(&["hooks"], &[]).await?;
            context.output.listing(&hooks.items, "no task webhooks")?;
            Ok(exit::DONE)
        }
        Command::Redeliver { number } => {
            let number = number.to_string();
            let row: DeliveryView =
                client.post(&["deliveries", &number, "redeliver"], &serde_json::json!({})).await?;
            if context.output.format.is_data() {
                context.output.value(&row)?;
            } else {
                context.output.listing(&[row], "")?;
            }
            Ok(exit::DONE)
        }
    }
}
