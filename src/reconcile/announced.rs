//! Pushes that were announced: the source is looked at until the commit is there, and a webhook that does not deliver
//! is noticed.
//!
//! A payload is a hint: what a look finds is deployed, whatever was announced. So an announcement that is lost, late or
//! made up costs a look.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use crate::act::Target;
use crate::model::delivery::Announcement;
use crate::model::history::{Cause, Phases, TriggerKind};
use crate::model::source::Revision;
use crate::observe::{Observation, Source};

use super::message::{Look, PassOrder};
use super::source_loop::SourceLoop;

/// While an announced commit is not visible: the first look again, those that follow, and how long (DESIGN 9).
const FIRST_WAIT: Duration = Duration::from_millis(100);
const WAIT: Duration = Duration::from_millis(200);
const WAIT_LASTS: Duration = Duration::from_secs(10);
const LATE_WAIT: Duration = Duration::from_secs(1);
/// How long a commit is waited for in all.
pub(super) const GIVEN_UP: Duration = Duration::from_secs(30);

/// A delivery that comes again brings a look forward at most this often (DESIGN 9).
const SOONER: Duration = Duration::from_secs(5);

/// How long a delivery may take that names a commit which a poll found first (DESIGN 9).
const DELIVERY_LIMIT: Duration = Duration::from_secs(120);

/// Commits that deliveries named lately, and pushes that are waited for at a time; the newest count.
const MOST_NAMED: usize = 64;

/// What a source knows of pushes.
#[derive(Default)]
pub(super) struct Announced {
    /// The pushes that are waited for, the newest last.
    pushes: VecDeque<Waited>,
    /// When the source is looked at for them again; `None` while a look is queued or under way.
    next: Option<Instant>,
    /// What a look that found it adds to the phases.
    found: Phases,
    /// When a look is due that was brought forward.
    sooner: Option<Instant>,
    /// When the last such look was due.
    brought: Option<Instant>,
    /// The commit that a poll found first, and until when a delivery may still name it.
    polled: Option<(Revision, Instant)>,
    /// What deliveries named lately, and when.
    named: VecDeque<(Revision, Instant)>,
}

struct Waited {
    push: Announcement,
    since: Instant,
}

impl Announced {
    /// When something is to be done.
    pub(super) fn due(&self) -> Option<Instant> {
        self.next.into_iter().chain(self.sooner).min()
    }

    /// Whether a look is due that was brought forward.
    pub(super) fn take_sooner(&mut self, now: Instant) -> bool {
        let is_due = self.sooner.take_if(|at| *at <= now).is_some();
        if is_due {
            self.brought = Some(now);
        }
        is_due
    }

    /// Why a look is due now, if one is.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<Cause> {
        self.next.take_if(|next| *next <= now)?;
        let newest = self.pushes.back()?;
        Some(Cause::new(TriggerKind::Webhook, newest.push.detail.clone()))
    }

    fn wait_for(&mut self, push: Announcement, now: Instant) {
        let is_same = |known: &Waited| known.push.commit == push.commit && known.push.root == push.root;
        self.pushes.retain(|known| !is_same(known));
        if self.pushes.len() == MOST_NAMED {
            self.pushes.pop_front();
        }
        self.pushes.push_back(Waited { push, since: now });
        // A look is queued.
        self.next = None;
    }

    fn note_named(&mut self, commit: Revision, now: Instant) {
        self.named.retain(|(_, at)| *at + DELIVERY_LIMIT > now);
        if self.named.len() == MOST_NAMED {
            self.named.pop_front();
        }
        self.named.push_back((commit, now));
    }

    /// The phases before the look that found the commit.
    pub(super) fn phases(&mut self) -> Phases {
        std::mem::take(&mut self.found)
    }
}

impl<S: Source, T: Target> SourceLoop<S, T> {
    /// Takes note of a push and looks at once.
    pub(super) fn announce(&mut self, push: Announcement) {
        let (name, now) = (self.record.spec.name.clone(), Instant::now());
        if push.is_proof {
            self.core.board.change_webhook(&name, |health| {
                health.last_delivery_at = Some(push.received_at);
                health.broken = None;
            });
            if let (None, Some(commit)) = (&push.root, &push.commit) {
                self.announced.note_named(commit.clone(), now);
            }
        }
        if self.is_suspended() {
            return;
        }
        if self.record.dev.is_some() {
            // Fetched and shown as seen, never applied.
            self.look_behind_soon();
            return;
        }
        let cause = Cause::new(TriggerKind::Webhook, push.detail.clone());
        self.announced.wait_for(push, now);
        self.queue_look(cause);
    }

    /// Looks although no push came in: those that did may have been lost on their way.
    pub(super) fn look_for_missed(&mut self, detail: &'static str) {
        if self.is_suspended() {
            return;
        }
        if self.record.dev.is_some() {
            self.look_behind_soon();
            return;
        }
        self.queue_look(Cause::new(TriggerKind::Webhook, detail));
    }

    fn queue_look(&mut self, cause: Cause) {
        // One look that has not begun serves every push before it.
        let queued = self.queue.iter_mut().find(|(order, reply)| {
            reply.is_none() && order.cause.kind == TriggerKind::Webhook && order.look == Look::Full
        });
        match queued {
            Some((order, _)) => order.cause = cause,
            None => self.queue.push_back((PassOrder::new(cause, Look::Full), None)),
        }
    }

    /// Brings the next poll forward, at most once in a while: what comes too soon after is put off, not forgotten.
    pub(super) fn look_sooner(&mut self) {
        // Where a person is needed to reach the source, no look helps until something changes.
        if self.is_suspended() || self.needs_person || self.announced.sooner.is_some() {
            return;
        }
        let now = Instant::now();
        self.announced.sooner = Some(self.announced.brought.map_or(now, |last| now.max(last + SOONER)));
    }

    /// Notes whether a look found what was announced, before its pass.
    pub(super) async fn was_announced(
        &mut self,
        order: &PassOrder,
        observation: &Observation,
        took: Duration,
    ) {
        self.note_polled(order, observation).await;
        let pushes = std::mem::take(&mut self.announced.pushes);
        for waited in pushes {
            if self.has_come(&waited.push, observation).await {
                let deliver = waited.push.deliver.map(|length| ("deliver", length));
                let propagate = ("propagate", waited.since.elapsed().saturating_sub(took));
                self.announced.found = deliver.into_iter().chain([propagate]).collect();
            } else {
                self.announced.pushes.push_back(waited);
            }
        }
    }

    async fn has_come(&mut self, push: &Announcement, observation: &Observation) -> bool {
        let Some(commit) = &push.commit else { return true };
        match &push.root {
            None => {
                self.leads_to(commit, observation.revision.clone()).await
                    || self.nested.revisions().any(|seen| seen == commit)
            }
            Some(root) => match self.nested.revision(root).cloned() {
                Some(seen) if seen == *commit => true,
                Some(seen) => match self.nested.source(root) {
                    Some(source) => source.leads_to(commit, &seen).await,
                    None => false,
                },
                None => false,
            },
        }
    }

    /// Sets when the source is looked at again for what was announced and is not there.
    pub(super) fn await_announced(&mut self) {
        let now = Instant::now();
        let age = |waited: &Waited| now.saturating_duration_since(waited.since);
        let before = self.announced.pushes.len();
        self.announced.pushes.retain(|waited| wait(age(waited)).is_some());
        if self.announced.pushes.len() < before {
            tracing::debug!("source {}: a commit that was announced is not there", self.record.spec.name);
        }
        let waits = self.announced.pushes.iter().filter_map(|waited| wait(age(waited)));
        self.announced.next = waits.min().map(|wait| now + wait);
    }

    async fn leads_to(&mut self, old: &Revision, new: Option<Revision>) -> bool {
        match (&mut self.source, new) {
            (_, Some(new)) if *old == new => true,
            (Some(source), Some(new)) => source.leads_to(old, &new).await,
            _ => false,
        }
    }

    /// Notes a commit that a poll found before any delivery named it.
    async fn note_polled(&mut self, order: &PassOrder, observation: &Observation) {
        let now = Instant::now();
        if let Some((commit, until)) = self.announced.polled.clone() {
            if self.is_named(&commit).await {
                self.announced.polled = None;
            } else if until <= now {
                self.announced.polled = None;
                self.missed(&commit);
            }
        }
        let is_news = self.revision.is_some() && observation.revision != self.revision;
        let name = &self.record.spec.name;
        if order.cause.kind != TriggerKind::Poll || !is_news || !self.core.webhooks.get().contains(name) {
            return;
        }
        if let (None, Some(found)) = (&self.announced.polled, observation.revision.clone())
            && !self.is_named(&found).await
        {
            self.announced.polled = Some((found, now + DELIVERY_LIMIT));
        }
    }

    /// Whether a delivery named a commit lately, or one that came after it.
    async fn is_named(&mut self, commit: &Revision) -> bool {
        let named: Vec<Revision> = self.announced.named.iter().map(|(named, _)| named.clone()).collect();
        for one in named {
            if self.leads_to(commit, Some(one)).await {
                return true;
            }
        }
        false
    }

    fn missed(&mut self, commit: &Revision) {
        let (now, name) = (self.core.now(), &self.record.spec.name);
        self.core.metrics().missed(name);
        tracing::warn!(
            "source {name}: no delivery of its webhook named commit {}, which a poll found {} s ago",
            commit.short(),
            DELIVERY_LIMIT.as_secs()
        );
        self.core.board.change_webhook(name, |health| {
            health.missed += 1;
            health.broken = Some((commit.clone(), now));
        });
    }
}

/// Time to the next look for a commit that was announced so long ago; `None` where it is given up.
fn wait(age: Duration) -> Option<Duration> {
    match age {
        _ if age >= GIVEN_UP => None,
        _ if age < FIRST_WAIT => Some(FIRST_WAIT),
        _ if age < WAIT_LASTS => Some(WAIT),
        _ => Some(LATE_WAIT),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The age of a push at the beginning of each look for it, where a look takes `look`.
    fn looks(look: Duration) -> Vec<Duration> {
        let mut all = vec![Duration::ZERO];
        let mut over = look;
        while let Some(wait) = wait(over) {
            all.push(over + wait);
            over += wait + look;
        }
        all
    }

    #[test]
    fn a_commit_that_shows_within_ten_seconds_is_found_soon() {
        // What a look takes, and what is left of 300 ms for the fetch and the steps behind it.
        for (look, left) in [(1, 99), (20, 80), (40, 60)] {
            let (look, soon) = (Duration::from_millis(look), Duration::from_millis(300 - left));
            let looks = looks(look);
            for visible in (300..9_000).map(Duration::from_millis) {
                let found = looks.iter().find(|begin| **begin >= visible).unwrap();
                assert!(*found - visible <= soon, "{visible:?} is found at {found:?}");
            }
            assert!(looks.len() < 80 && looks[looks.len() - 1] < GIVEN_UP + LATE_WAIT, "{looks:?}");
        }
    }
}
