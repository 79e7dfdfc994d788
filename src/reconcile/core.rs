//! What all source loops share.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError, RwLock};

use tokio_util::sync::CancellationToken;

use crate::act::Target;
use crate::act::registry::Registry;
use crate::model::id::SourceName;
use crate::model::limits::Limits;
use crate::model::time::Timestamp;
use crate::record::{Blobs, Store};
use crate::support::clock::Clock;

use super::board::Board;
use super::daemons::Daemons;
use super::events::Events;
use super::hooks::HookSecrets;
use super::links::Links;
use super::metrics::Metrics;
use super::runs::Runner;
use super::schedule::Schedules;
use super::statuses::Statuses;
use super::trust::Trust;

/// The parts of the service that every source works with.
pub struct Core<T> {
    /// Recorded state.
    pub store: Store,
    /// Contents of versions.
    pub blobs: Blobs,
    /// Versions that a run started now would execute.
    pub registry: Registry,
    /// Where runs are started.
    pub target: Arc<T>,
    /// Runs.
    pub runner: Arc<Runner<T>>,
    /// Daemons.
    pub daemons: Arc<Daemons<T>>,
    /// When tasks run by the clock.
    pub schedules: Schedules,
    /// Events.
    pub events: Events,
    /// What is shown.
    pub board: Board,
    /// What tasks are chained to across sources.
    pub links: Links,
    /// What units may have.
    pub trust: Trust,
    /// What callers of task webhooks have to know.
    pub hooks: HookSecrets,
    /// The time of day.
    pub clock: Clock,
    /// Limits of units.
    pub limits: Live<Limits>,
    /// Which sources have a push webhook.
    pub webhooks: Live<BTreeSet<SourceName>>,
    /// Where commits are told how they fare.
    pub statuses: Statuses,
    /// Cancelled when the service ends.
    pub closing: CancellationToken,
}

/// A setting that may change while the service runs. Clones are one value.
#[derive(Debug)]
pub struct Live<T>(Arc<RwLock<Arc<T>>>);

impl<T> Clone for Live<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> From<T> for Live<T> {
    fn from(value: T) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(value))))
    }
}

impl<T> Live<T> {
    /// The value as it is now.
    #[must_use]
    pub fn get(&self) -> Arc<T> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Another value from now on.
    pub fn set(&self, value: T) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(value);
    }
}

impl<T: Target> Core<T> {
    /// What is counted.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        self.runner.metrics()
    }

    /// The time of day.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        Timestamp(self.clock.now_ms())
    }
}
