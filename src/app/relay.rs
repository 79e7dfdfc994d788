//! Relays: one task for each source that has one. What a relay passes on goes the way of every delivery; what its
//! signature does not fit is told of, and costs whoever posts it more than the service.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::api::{Passed, Webhooks, take_relayed};
use crate::config::relay::RelayUrl;
use crate::model::delivery::{Delivery, Provider, RelayHealth, Verdict, Via};
use crate::model::id::SourceName;
use crate::model::time::Timestamp;
use crate::observe::relay::{Http, Pace, Relay, Relayed, Signal};
use crate::plan::hash;
use crate::reconcile::chance;
use crate::reconcile::ledger::Ledger;
use crate::reconcile::runs::chain;
use crate::support::lifecycle::Lifecycle;
use crate::support::text::printable;

use super::Service;

/// What is altered within this time has one row in the ledger.
const ALTERED_ROW: Duration = Duration::from_mins(1);
/// A body that came before is taken so often, under whatever id: whoever reads along can post it again.
const REPEAT_EVERY: Duration = Duration::from_mins(1);
/// Time between two lines of the log on what is no delivery.
const TELL_EVERY: Duration = Duration::from_mins(1);
/// A stranger who posts without end wakes the source's loop this often, which then looks less often still.
const SOONER_EVERY: Duration = Duration::from_secs(1);
/// A relay that is away for so long is told of in the log.
const AWAY: Duration = Duration::from_mins(1);
/// What history says of a look that follows a connection.
const CONNECTED: &str = "the relay was connected";
/// Characters of what a stranger may have written that are kept.
const MAX_CHARS: usize = 60;

/// The relays that are followed.
pub(super) struct Relays {
    desk: Desk,
    lifecycle: Lifecycle,
    running: Mutex<BTreeMap<SourceName, Running>>,
}

/// What deliveries are taken with.
#[derive(Clone)]
struct Desk {
    service: Service,
    webhooks: Arc<Webhooks>,
    ledger: Ledger,
}

struct Running {
    url: RelayUrl,
    max_body: u64,
    task: JoinHandle<()>,
    stop: DropGuard,
}

impl Relays {
    /// None is followed yet.
    pub(super) fn new(service: Service, webhooks: Arc<Webhooks>, lifecycle: Lifecycle) -> Self {
        let ledger = Ledger::new(service.core().store.clone());
        Self { desk: Desk { service, webhooks, ledger }, lifecycle, running: Mutex::default() }
    }

    /// Follows these from now on, and no others. `max_body` is the most bytes that a body may have.
    pub(super) fn set(&self, relays: &BTreeMap<SourceName, RelayUrl>, max_body: u64) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.retain(|name, _| relays.contains_key(name));
        for (name, url) in relays {
            let before = running.remove(name);
            let next = match before {
                Some(same) if same.url == *url && same.max_body == max_body => same,
                before => self.start(name, url, max_body, before),
            };
            running.insert(name.clone(), next);
        }
    }

    fn start(&self, name: &SourceName, url: &RelayUrl, max_body: u64, before: Option<Running>) -> Running {
        let stop = self.lifecycle.soft().child_token();
        let relay = Relay::new(Http::new(url.clone()), max_body, Pace::default(), chance);
        let health = RelayHealth { place: url.to_string(), ..RelayHealth::default() };
        let (desk, source) = (self.desk.clone(), name.clone());
        let (told, repeated, sooner, away_since) = (None, None, None, None);
        let (altered, shown) = (None, Shown::Nothing);
        let following =
            Following { desk, source, health, altered, told, repeated, sooner, away_since, shown };
        let guard = stop.clone().drop_guard();
        let task = self.lifecycle.spawn(async move {
            if let Some(Running { task, stop, .. }) = before {
                drop(stop);
                // It says how it fares until it is over.
                let _ = task.await;
            }
            following.follow(relay, &stop).await;
        });
        Running { url: url.clone(), max_body, task, stop: guard }
    }
}

/// The relay of one source.
struct Following {
    desk: Desk,
    source: SourceName,
    health: RelayHealth,
    altered: Option<Altered>,
    /// When the log was told of what is no delivery.
    told: Option<Instant>,
    /// When a body that came before was taken.
    repeated: Option<Instant>,
    /// When the next poll was to come sooner.
    sooner: Option<Instant>,
    away_since: Option<Instant>,
    shown: Shown,
}

/// What the log was told last of the connection: one that comes and goes does not flood it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shown {
    Nothing,
    Connected,
    Away,
}

/// The row of the ledger that speaks for what was altered lately.
struct Altered {
    id: String,
    since: Instant,
    /// How many it does not count yet.
    more: u64,
}

impl Following {
    async fn follow(mut self, mut relay: Relay<Http>, stop: &CancellationToken) {
        self.show();
        loop {
            // Cancel safe: whatever the relay has under way ends with it.
            let signal = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                signal = relay.next() => signal,
            };
            self.take(signal).await;
            if self.altered.as_ref().is_some_and(|altered| altered.since.elapsed() >= ALTERED_ROW) {
                self.count_altered().await;
            }
        }
        self.count_altered().await;
        self.desk.service.core().board.set_relay(&self.source, None);
    }

    async fn take(&mut self, signal: Signal) {
        match signal {
            Signal::Alive => {}
            Signal::Connected => self.connected(),
            Signal::Lost(why) => self.lost(why),
            Signal::Unusable(why) => self.refuse(&why.to_string()),
            Signal::Delivery(message) => self.delivered(&message).await,
        }
    }

    async fn delivered(&mut self, message: &Relayed) {
        let desk = (&self.desk.service, &*self.desk.webhooks, &self.desk.ledger);
        let takes_repeats = self.repeated.is_none_or(|at| at.elapsed() >= REPEAT_EVERY);
        match take_relayed(desk, &self.source, &message.headers, &message.bodies, takes_repeats).await {
            Passed::Taken { is_repeat } => {
                if is_repeat {
                    self.repeated = Some(Instant::now());
                }
            }
            Passed::Repeated => self.look_sooner(),
            Passed::Refused(why) => self.refuse(&why),
            Passed::Unsigned => self.note_altered(message).await,
        }
    }

    fn connected(&mut self) {
        if self.shown != Shown::Connected {
            self.shown = Shown::Connected;
            tracing::info!("source {}: its relay {} is connected", self.source, self.health.place);
        }
        self.away_since = None;
        let now = self.desk.service.core().now();
        (self.health.connected_since, self.health.lost_since) = (Some(now), None);
        self.show();
        // A relay keeps nothing for those who are not there.
        self.desk.service.look_for_missed(&self.source, CONNECTED);
    }

    fn lost(&mut self, why: String) {
        let (name, place) = (&self.source, &self.health.place);
        tracing::debug!("source {name}: its relay {place} {why}");
        let since = *self.away_since.get_or_insert_with(Instant::now);
        if self.shown != Shown::Away && since.elapsed() >= AWAY {
            self.shown = Shown::Away;
            let seconds = AWAY.as_secs();
            tracing::warn!(
                "source {name}: its relay {place} has been away for {seconds} s and more: it {why}"
            );
        }
        let now = self.desk.service.core().now();
        self.health.connected_since = None;
        self.health.lost_since.get_or_insert(now);
        self.health.error = why;
        self.show();
    }

    fn show(&self) {
        self.desk.service.core().board.set_relay(&self.source, Some(self.health.clone()));
    }

    /// Something came that cannot be taken: the log is told now and then, and the next poll comes sooner.
    fn refuse(&mut self, why: &str) {
        if self.told.is_none_or(|at| at.elapsed() >= TELL_EVERY) {
            self.told = Some(Instant::now());
            tracing::warn!(
                "source {}: its relay {} passed on what is refused: {why}",
                self.source,
                self.health.place
            );
        }
        self.look_sooner();
    }

    fn look_sooner(&mut self) {
        if self.sooner.is_none_or(|at| at.elapsed() >= SOONER_EVERY) {
            self.sooner = Some(Instant::now());
            self.desk.service.look_sooner(&self.source);
        }
    }

    /// Notes a delivery whose signature does not fit. The first one within a while has a row, which counts the others.
    async fn note_altered(&mut self, message: &Relayed) {
        self.desk.service.core().metrics().delivered(&self.source, Verdict::RelayAltered.as_str());
        match &mut self.altered {
            Some(altered) if altered.since.elapsed() < ALTERED_ROW => altered.more += 1,
            _ => {
                self.count_altered().await;
                self.begin_row(message).await;
            }
        }
        self.refuse("its signature is missing, or does not fit");
    }

    async fn begin_row(&mut self, message: &Relayed) {
        let now = self.desk.service.core().now();
        let delivery = altered(&self.source, message, now);
        let id = delivery.id.clone();
        match self.desk.ledger.note(delivery).await {
            Ok(_) => self.altered = Some(Altered { id, since: Instant::now(), more: 0 }),
            Err(why) => tracing::warn!("source {}: an altered delivery was not recorded: {why}", self.source),
        }
    }

    /// Writes down how many were altered since the row was begun.
    async fn count_altered(&mut self) {
        let Some(Altered { id, more: more @ 1.., .. }) = self.altered.take() else { return };
        let store = &self.desk.service.core().store;
        if let Err(error) = store.count_deliveries(&self.source, &id, more).await {
            tracing::warn!("source {}: altered deliveries were not counted: {}", self.source, chain(&error));
        }
    }
}

/// The row on a delivery that was altered. Its id is our own: one that a stranger names must not stand in the way of the
/// delivery that has it.
fn altered(source: &SourceName, message: &Relayed, now: Timestamp) -> Delivery {
    let text = |wanted: &str| {
        let found = message.headers.iter().find(|(name, _)| name == wanted);
        let text: Option<String> = found.map(|(_, value)| value.chars().take(MAX_CHARS).collect());
        text.filter(|text| !text.is_empty())
    };
    let gitea = text("x-gitea-delivery");
    let provider = if gitea.is_some() { Provider::Gitea } else { Provider::GitHub };
    let id = text("x-github-delivery").or(gitea);
    let id = id.map(|id| format!(" of delivery {}", printable(&id))).unwrap_or_default();
    let reason = match text("x-hub-signature-256") {
        None => {
            format!("the signature{id} is missing: the webhook has no secret, or anybody posted to the relay")
        }
        Some(_) => {
            format!("the signature{id} does not fit: the relay wrote the body anew, or the secret is another")
        }
    };
    Delivery {
        source: source.clone(),
        provider,
        via: Via::Relay,
        id: format!("altered-{}", now.0),
        event: text("x-github-event").unwrap_or_else(|| "unknown".into()),
        reference: None,
        commit: None,
        body: hash::content(message.bodies.first().map_or(&[][..], Vec::as_slice)),
        verdict: Verdict::RelayAltered,
        reason,
        received_at: now,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_stranger_posts_names_no_delivery_but_in_words_and_not_at_length() {
        let source = SourceName::new("s").unwrap();
        let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let message = Relayed {
            headers: vec![
                header("x-github-event", &"e".repeat(5000)),
                header("x-github-delivery", "d\u{1b}[2J"),
                header("x-hub-signature-256", "sha256=00"),
            ],
            bodies: vec![b"x".to_vec()],
        };
        let row = altered(&source, &message, Timestamp(7));
        assert_eq!(
            (row.id.as_str(), row.event.len(), row.provider),
            ("altered-7", MAX_CHARS, Provider::GitHub)
        );
        assert!(
            row.reason.starts_with("the signature of delivery d\\u{1b}[2J does not fit"),
            "{}",
            row.reason
        );
        let bare = altered(&source, &Relayed { headers: Vec::new(), bodies: vec![Vec::new()] }, Timestamp(7));
        assert_eq!((bare.event.as_str(), bare.reference, bare.commit), ("unknown", None, None));
        assert!(bare.reason.starts_with("the signature is missing"), "{}", bare.reason);
    }
}
