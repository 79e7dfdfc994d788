//! Time that runs fast in tests.

use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How far the test's time goes in [`REAL_STEP`].
const STEP: Duration = Duration::from_millis(10);
/// The real time of a step: long enough for the store's thread to do its part.
const REAL_STEP: Duration = Duration::from_micros(250);

/// Keeps tokio's paused time going at forty times its speed, until it is dropped.
///
/// Paused time left alone jumps to the next timer whenever all tasks wait, be it only for the store's thread: hours
/// would pass within one commit.
pub struct FastTime {
    _held: std::sync::mpsc::Sender<()>,
}

impl FastTime {
    pub fn start() -> Self {
        let (held, release) = std::sync::mpsc::channel();
        let release = Arc::new(Mutex::new(release));
        tokio::spawn(async move {
            loop {
                // A blocking task keeps paused time from jumping while the real step lasts.
                let release = Arc::clone(&release);
                let over = tokio::task::spawn_blocking(move || {
                    let waited = release.lock().unwrap().recv_timeout(REAL_STEP);
                    waited != Err(std::sync::mpsc::RecvTimeoutError::Timeout)
                });
                if over.await.unwrap_or(true) {
                    return;
                }
                tokio::time::advance(STEP).await;
            }
        });
        Self { _held: held }
    }
}
