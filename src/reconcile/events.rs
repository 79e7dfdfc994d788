//! Tells listeners what happened, after it was recorded.

use std::sync::Arc;

use tokio::sync::broadcast;

use crate::model::event::Event;

/// Batches that a slow listener may fall behind before it is told that it missed some.
const BACKLOG: usize = 4096;

/// Where events are published and listened to.
#[derive(Clone, Debug)]
pub struct Events(broadcast::Sender<Arc<[Event]>>);

impl Default for Events {
    fn default() -> Self {
        Self(broadcast::Sender::new(BACKLOG))
    }
}

impl Events {
    /// Tells everybody who listens. Call it only for what the store has.
    pub fn publish(&self, events: Vec<Event>) {
        if !events.is_empty() {
            // An error means that nobody listens.
            let _ = self.0.send(events.into());
        }
    }

    /// Everything that is published from now on.
    #[must_use]
    pub fn listen(&self) -> broadcast::Receiver<Arc<[Event]>> {
        self.0.subscribe()
    }
}
