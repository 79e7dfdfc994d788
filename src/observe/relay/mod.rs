//! A channel of a relay that speaks the protocol of smee.io: deliveries reach a machine that no provider can reach.
//!
//! The machine asks, and the relay sends events for as long as the connection lasts. It keeps nothing: what was posted
//! while nobody was connected is lost, and found by the look that follows each connection. Nothing of what comes in is
//! believed here, and no secret is known; who signed it is for others to tell.

mod frames;
mod message;
mod stringify;
mod wire;

use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout_at};

use crate::plan::backoff;

use self::frames::{Frame, Frames};

pub use self::message::{Relayed, Unusable};
pub use self::wire::{Http, Stream, Wire};

/// What a message holds beside the body, in bytes: headers, and the names of its fields.
const ENVELOPE: usize = 64 << 10;
/// A message may hold its body twice, and the second time with an escape before each quote.
const BODIES: usize = 3;

/// How a channel is followed.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Longest wait before the second attempt, and longest of all.
    pub waits: (Duration, Duration),
    /// A connection is up by then, or given up.
    pub open: Duration,
    /// A connection without a sign of life for so long is given up. smee.io sends one every 30 s.
    pub idle: Duration,
    /// One that held for so long was good: what follows is no failure in a row.
    pub good: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            waits: (Duration::from_millis(750), Duration::from_mins(5)),
            open: Duration::from_secs(20),
            idle: Duration::from_secs(90),
            good: Duration::from_secs(30),
        }
    }
}

/// What a channel brings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signal {
    /// It is connected; what was posted before is lost.
    Connected,
    /// A delivery, whoever sent it.
    Delivery(Relayed),
    /// Something that is no delivery, or too large for one.
    Unusable(Unusable),
    /// A sign of life.
    Alive,
    /// It is not connected, because of this: the end of a sentence that begins with the relay.
    Lost(String),
}

/// Follows one channel.
pub struct Relay<W: Wire> {
    wire: W,
    pace: Pace,
    max_body: usize,
    open: Option<Open<W::Stream>>,
    failures: u32,
    /// When the next attempt is due.
    due: Instant,
    chance: fn() -> f64,
}

/// A connection.
struct Open<S> {
    stream: S,
    frames: Frames,
    since: Instant,
    /// Until when it has to show a sign of life.
    until: Instant,
}

impl<W: Wire> Relay<W> {
    /// A channel that is not connected yet; `max_body` is the most bytes that a body may have, `chance` draws numbers in
    /// `0.0..1.0`.
    #[must_use]
    pub fn new(wire: W, max_body: u64, pace: Pace, chance: fn() -> f64) -> Self {
        let max_body = usize::try_from(max_body).unwrap_or(usize::MAX / BODIES - ENVELOPE);
        Self { wire, pace, max_body, open: None, failures: 0, due: Instant::now(), chance }
    }

    /// What comes next. Where it is dropped unfinished, an attempt to connect is lost and nothing else.
    pub async fn next(&mut self) -> Signal {
        let max_body = self.max_body;
        let Some(open) = &mut self.open else { return self.connect().await };
        match open.next(self.pace.idle).await {
            Ok(Frame::Alive) => Signal::Alive,
            Ok(Frame::TooLarge) => Signal::Unusable(Unusable::TooLarge),
            Ok(Frame::Message(data)) => {
                Relayed::read(&data, max_body).map_or_else(Signal::Unusable, Signal::Delivery)
            }
            Err(why) => self.lost(why),
        }
    }

    async fn connect(&mut self) -> Signal {
        sleep_until(self.due).await;
        let late = Instant::now() + self.pace.open;
        let opened = timeout_at(late, self.wire.open()).await;
        match opened.unwrap_or_else(|_| Err("does not answer".into())) {
            Ok(stream) => {
                let (frames, now) = (Frames::new(self.max_body * BODIES + ENVELOPE), Instant::now());
                self.open = Some(Open { stream, frames, since: now, until: now + self.pace.idle });
                Signal::Connected
            }
            Err(why) => self.lost(why),
        }
    }

    fn lost(&mut self, why: String) -> Signal {
        let was_good = self.open.take().is_some_and(|open| open.since.elapsed() >= self.pace.good);
        self.failures = if was_good { 1 } else { self.failures.saturating_add(1) };
        self.due = Instant::now() + backoff::within(self.pace.waits, self.failures, (self.chance)());
        Signal::Lost(why)
    }
}

impl<S: Stream> Open<S> {
    async fn next(&mut self, idle: Duration) -> Result<Frame, String> {
        loop {
            if let Some(frame) = self.frames.next() {
                self.until = Instant::now() + idle;
                return Ok(frame);
            }
            match timeout_at(self.until, self.stream.chunk()).await {
                Ok(Ok(Some(bytes))) => self.frames.feed(&bytes),
                Ok(Ok(None)) => return Err("ended the connection".into()),
                Ok(Err(why)) => return Err(why),
                Err(_) => return Err(format!("showed no sign of life for {} s", idle.as_secs())),
            }
        }
    }
}

#[cfg(test)]
mod tests;
