//! Commits are told how they fare: a task beside everything else empties the outbox. No pass ever waits for it.
//!
//! What is told is decided in `plan::status` and recorded with the pass that it speaks of; here it is only said, again
//! where it was not heard, and no faster than the host allows.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::forge::{Forge, Outcome, Post};
use crate::model::commit_status::{CommitState, OutboxRow, Repository, Tell};
use crate::model::id::SourceName;
use crate::model::source::{Origin, SourceSpec};
use crate::model::time::Timestamp;
use crate::plan::{backoff, hosted};
use crate::record::{HostState, Said, Store, StoreError, Telling};
use crate::support::clock::Clock;

use super::board::Board;
use super::core::Live;
use super::metrics::Metrics;
use super::runs::chain;
use super::source_loop::chance;

/// What is said at once.
const IN_FLIGHT: u32 = 2;
/// How long it is tried to say something.
const GIVEN_UP: Duration = Duration::from_hours(24);
/// Time between two attempts while the store cannot be read or written.
const STORE_RETRY: Duration = Duration::from_secs(1);
/// A host that was shut before the start is believed to be for so long at most.
const LONGEST_SHUT: Duration = Duration::from_hours(24);
/// Longest sleep: a clock that is set is noticed after it.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);

/// Where commits are told, and where they lead people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hosting {
    /// The base of the API.
    pub api: String,
    /// Where there is more than fits into a description.
    pub link: Option<String>,
}

/// What source loops and the task that speaks share. Clones are one.
#[derive(Clone)]
pub struct Statuses(Arc<Inner>);

struct Inner {
    hosting: Live<Option<Hosting>>,
    /// Grows whenever the hosting becomes another one.
    epoch: AtomicU64,
    /// What is to be recorded off the path of a pass: one thing of a source, the newest.
    beside: Mutex<BTreeMap<SourceName, Telling>>,
    changed: Notify,
}

impl Default for Statuses {
    /// Nobody is told anything.
    fn default() -> Self {
        Self(Arc::new(Inner {
            hosting: Live::from(None),
            epoch: AtomicU64::new(0),
            beside: Mutex::default(),
            changed: Notify::new(),
        }))
    }
}

impl Statuses {
    /// Tells commits there from now on. Whoever knows of commits says so again.
    pub fn set_hosting(&self, hosting: Option<Hosting>) {
        self.0.hosting.set(hosting);
        self.0.epoch.fetch_add(1, Ordering::Relaxed);
        self.0.changed.notify_one();
    }

    /// Where commits are told.
    #[must_use]
    pub fn hosting(&self) -> Arc<Option<Hosting>> {
        self.0.hosting.get()
    }

    /// A number that is another one whenever commits are told elsewhere, or by another token.
    pub(super) fn epoch(&self) -> u64 {
        self.0.epoch.load(Ordering::Relaxed)
    }

    /// The API where commits of a source are told, and what it calls their repository.
    #[must_use]
    pub fn place_of(&self, spec: &SourceSpec) -> Option<(String, Repository)> {
        let hosting = self.hosting();
        let (Some(hosting), Origin::Git(git)) = (hosting.as_ref(), &spec.origin) else { return None };
        Some((hosting.api.clone(), hosted::repository(&git.url, &hosting.api)?))
    }

    /// Something newer is recorded with a pass than what was to be recorded beside it.
    pub(super) fn forget(&self, source: &SourceName) {
        self.beside().remove(source);
    }

    /// Something may have been recorded that is to be said.
    pub(super) fn wake(&self) {
        self.0.changed.notify_one();
    }

    /// Records this as soon as possible, and says it; nobody waits for that.
    pub(super) fn tell(&self, telling: Telling) {
        self.beside().insert(telling.place.source.clone(), telling);
        self.0.changed.notify_one();
    }

    fn beside(&self) -> MutexGuard<'_, BTreeMap<SourceName, Telling>> {
        self.0.beside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is known of a host.
#[derive(Default)]
struct Host {
    /// The token that it was told something with.
    token: Option<u64>,
    /// Nothing is said before, because of this.
    gate: Option<(Instant, String)>,
    /// Calls in a row that nobody answered.
    unheard: u32,
}

impl Host {
    /// Gives back whether it is closed for longer now.
    fn close(&mut self, wait: Duration, why: &str) -> bool {
        let until = Instant::now() + wait;
        let is_longer = self.gate.as_ref().is_none_or(|(gate, _)| *gate < until);
        if is_longer {
            self.gate = Some((until, why.to_owned()));
        }
        is_longer
    }
}

/// The task that speaks.
pub struct Speaker<F> {
    store: Store,
    board: Board,
    metrics: Metrics,
    clock: Clock,
    statuses: Statuses,
    forge: Live<Option<F>>,
    /// By the base of its API: a host that is left and comes back is as it was.
    hosts: BTreeMap<String, Host>,
    epoch: Option<u64>,
    /// Commits of which it was said without a record that they could not be deployed.
    unrecorded: BTreeSet<(SourceName, String)>,
}

impl<F: Forge> Speaker<F> {
    /// Speaks through `forge`, which is there as long as `statuses` names a hosting.
    #[must_use]
    pub fn new(
        (store, board, metrics, clock): (Store, Board, Metrics, Clock),
        statuses: Statuses,
        forge: Live<Option<F>>,
    ) -> Self {
        Self {
            store,
            board,
            metrics,
            clock,
            statuses,
            forge,
            hosts: BTreeMap::new(),
            epoch: None,
            unrecorded: BTreeSet::new(),
        }
    }

    /// Says what is due until `closing`.
    pub async fn run(mut self, closing: CancellationToken) {
        let statuses = self.statuses.clone();
        loop {
            // Dropped in the middle, at worst something is said again after the next start.
            let round = async {
                let forge = self.forge.get();
                match forge.as_ref() {
                    Some(forge) => self.round(forge).await,
                    None => Ok(Instant::now() + LONGEST_SLEEP),
                }
            };
            let next = tokio::select! {
                () = closing.cancelled() => return,
                next = round => next.unwrap_or_else(|error| {
                    tracing::debug!("commits cannot be told how they fare: {}", chain(&error));
                    Instant::now() + STORE_RETRY
                }),
            };
            // Cancel safe: a notice that was not taken is kept.
            tokio::select! {
                () = closing.cancelled() => return,
                () = statuses.0.changed.notified() => {}
                () = tokio::time::sleep_until(next) => {}
            }
        }
    }

    /// Says all that is due; gives back when to look again.
    async fn round(&mut self, forge: &F) -> Result<Instant, StoreError> {
        self.follow_hosting(forge).await?;
        loop {
            self.record_beside(forge).await?;
            let gate = self.hosts.get(forge.api()).and_then(|host| host.gate.as_ref());
            if let Some((gate, why)) = gate.filter(|(gate, _)| *gate > Instant::now()) {
                self.show_waiting(forge.api(), why).await?;
                return Ok(*gate);
            }
            let now = self.now();
            let rows = self.store.due_tellings(forge.api(), now, IN_FLIGHT).await?;
            if rows.is_empty() {
                let next = self.store.next_telling(forge.api()).await?;
                let wait = next.map_or(LONGEST_SLEEP, |next| next.since(self.now()).min(LONGEST_SLEEP));
                return Ok(Instant::now() + wait);
            }
            let outcomes = join_all(rows.iter().map(|row| self.say(forge, row))).await;
            for (row, outcome) in rows.iter().zip(outcomes) {
                self.note(forge.api(), row, outcome).await?;
            }
        }
    }

    /// With another token, what was refused may be taken now. With the same one, what the host said holds.
    async fn follow_hosting(&mut self, forge: &F) -> Result<(), StoreError> {
        let (epoch, api) = (self.statuses.epoch(), forge.api());
        if self.hosts.get(api).is_none_or(|host| host.token != Some(forge.token())) {
            let host = self.recall(api, forge.token()).await?;
            self.hosts.insert(api.to_owned(), host);
        }
        if self.epoch != Some(epoch) {
            for source in self.board.sources() {
                self.show(&source.spec.name).await?;
            }
            self.epoch = Some(epoch);
        }
        Ok(())
    }

    /// What a host said holds after a restart too, as long as the token is the same.
    async fn recall(&self, api: &str, token: u64) -> Result<Host, StoreError> {
        let now = self.now();
        let mut host = Host { token: Some(token), ..Host::default() };
        match self.store.host(api).await?.filter(|state| state.token == token) {
            Some(state) => {
                // The clock may have been set since.
                let shut = state.shut.map(|(until, why)| (until.since(now).min(LONGEST_SHUT), why));
                if let Some((wait, why)) = shut.filter(|(wait, _)| !wait.is_zero()) {
                    host.close(wait, &why);
                }
            }
            None => {
                self.store.tell_again(api, before(now, GIVEN_UP), now).await?;
                self.store.put_host(api, &HostState { token, shut: None }).await?;
            }
        }
        Ok(host)
    }

    /// A host takes nothing for a while, as it said itself.
    async fn shut(&mut self, api: &str, wait: Duration, why: &str) -> Result<(), StoreError> {
        let until = self.now().plus(wait);
        let host = self.hosts.entry(api.to_owned()).or_default();
        match host.token.filter(|_| host.close(wait, why)) {
            Some(token) => {
                let state = HostState { token, shut: Some((until, why.to_owned())) };
                self.store.put_host(api, &state).await
            }
            None => Ok(()),
        }
    }

    /// Who looks sees that the newest commit waits for its host, and why.
    async fn show_waiting(&self, api: &str, why: &str) -> Result<(), StoreError> {
        let why = format!("it waits for the host: {why}");
        for source in self.store.wait_for_host(api, &why).await? {
            self.show(&source).await?;
        }
        Ok(())
    }

    /// Records what passes left to be recorded.
    async fn record_beside(&mut self, forge: &F) -> Result<(), StoreError> {
        let taken = std::mem::take(&mut *self.statuses.beside());
        if taken.is_empty() {
            return Ok(());
        }
        let tellings: Vec<Telling> = taken.values().cloned().collect();
        let recorded = self.store.tell(&tellings, self.now()).await;
        if recorded.is_err() {
            for telling in &tellings {
                self.say_unrecorded(forge, telling).await;
            }
            let mut beside = self.statuses.beside();
            for (source, telling) in taken {
                beside.entry(source).or_insert(telling);
            }
        }
        recorded
    }

    /// Where nothing can be recorded, that is what is said, once of a commit.
    async fn say_unrecorded(&mut self, forge: &F, telling: &Telling) {
        let place = &telling.place;
        let Tell::Say(verdict) = &telling.tell else { return };
        let commit = (place.source.clone(), place.revision.to_string());
        if verdict.state != CommitState::Error || !self.unrecorded.insert(commit) {
            return;
        }
        let now = self.now();
        let row = OutboxRow {
            place: place.clone(),
            verdict: verdict.clone(),
            changed_at: now,
            posted: None,
            attempts: 0,
            due_at: Some(now),
            error: String::new(),
        };
        if matches!(self.say(forge, &row).await, Some(Outcome::Posted | Outcome::PostedLast { .. })) {
            self.metrics.told(&place.source, "posted");
        }
    }

    /// Says it, unless that was tried for too long.
    async fn say(&self, forge: &F, row: &OutboxRow) -> Option<Outcome> {
        if self.now().since(row.changed_at) > GIVEN_UP {
            return None;
        }
        let post = Post {
            repository: row.place.repository.clone(),
            revision: row.place.revision.clone(),
            context: format!("kindling/{}", row.place.source),
            state: row.verdict.state,
            description: row.verdict.description(),
            link: self.statuses.hosting().as_ref().as_ref().and_then(|hosting| hosting.link.clone()),
        };
        Some(forge.post(&post).await)
    }

    /// Records what became of it.
    async fn note(&mut self, api: &str, row: &OutboxRow, outcome: Option<Outcome>) -> Result<(), StoreError> {
        let now = self.now();
        let later = |why: String, wait: Duration| Said::Later(why, now.plus(wait));
        // Before the row: what it waits for holds whatever becomes of that.
        if let Some(Outcome::Wait { wait, why } | Outcome::PostedLast { wait, why }) = &outcome {
            self.shut(api, *wait, why).await?;
        }
        let host = self.hosts.entry(api.to_owned()).or_default();
        let own_wait = backoff::delay(row.attempts.saturating_add(1), chance());
        if !matches!(outcome, Some(Outcome::Away(_)) | None) {
            host.unheard = 0;
        }
        let (said, result) = match outcome {
            Some(Outcome::Posted | Outcome::PostedLast { .. }) => (Said::Yes, "posted"),
            Some(Outcome::Refused(why)) => (Said::Never(why), "refused"),
            Some(Outcome::Wait { wait, why }) => (later(why, wait), "waited"),
            Some(Outcome::Again(why)) => (later(why, own_wait), "retried"),
            Some(Outcome::Away(why)) => {
                host.unheard = host.unheard.saturating_add(1);
                let wait = backoff::delay(host.unheard, chance());
                host.close(wait, &why);
                (later(why, wait), "retried")
            }
            None => {
                let hours = GIVEN_UP.as_secs() / 3600;
                (Said::Never(format!("given up after {hours} h: {}", row.error)), "given_up")
            }
        };
        let place = &row.place;
        if let Said::Never(why) = &said {
            let (source, commit) = (&place.source, place.revision.short());
            tracing::warn!(
                "source {source}: commit {commit} cannot be told that it is {}: {why}",
                row.verdict.state.as_str()
            );
        }
        self.metrics.told(&place.source, result);
        self.store.told(row, &said, now).await?;
        self.show(&place.source).await
    }

    async fn show(&self, source: &SourceName) -> Result<(), StoreError> {
        self.board.set_told(source, self.store.told_of(source).await?);
        Ok(())
    }

    fn now(&self) -> Timestamp {
        Timestamp(self.clock.now_ms())
    }
}

fn before(now: Timestamp, length: Duration) -> Timestamp {
    Timestamp(now.0.saturating_sub(i64::try_from(length.as_millis()).unwrap_or(i64::MAX)))
}
