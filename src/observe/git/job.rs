//! Blocking work on a thread of its own, with a deadline.
//!
//! gix blocks, and parts of it cannot be interrupted. A thread that is late is abandoned: it is told so, nobody waits
//! for it, and nothing that it still does is looked at. Never runs anything on the threads of the runtime.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

/// Threads of one source that may be abandoned and still hang before no further one is started.
const MAX_RUNNING: usize = 3;

/// What a thread and the one who waits for it share.
#[derive(Clone)]
pub(super) struct Control {
    interrupted: Arc<AtomicBool>,
    abandoned: CancellationToken,
    until: Arc<watch::Sender<Instant>>,
}

/// The deadline passed, or nobody waits any more.
#[derive(Debug, thiserror::Error)]
#[error("the time is over")]
pub(super) struct TimeOver;

impl Control {
    fn new(until: Instant) -> Self {
        Self {
            interrupted: Arc::default(),
            abandoned: CancellationToken::new(),
            until: Arc::new(watch::Sender::new(until)),
        }
    }

    /// The flag that gix looks at between two pieces of work.
    pub(super) fn interrupted(&self) -> &AtomicBool {
        &self.interrupted
    }

    /// Whether nobody waits for the thread any more.
    pub(super) fn is_abandoned(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }

    /// Cancelled once nobody waits for the thread any more, also because it is done.
    pub(super) fn abandoned(&self) -> CancellationToken {
        self.abandoned.clone()
    }

    /// Moves the deadline to a later moment.
    pub(super) fn extend_to(&self, until: Instant) {
        self.until.send_if_modified(|now| {
            let later = until > *now;
            *now = until.max(*now);
            later
        });
    }

    /// Runs asynchronous work from the thread; ends at the deadline at the latest.
    pub(super) fn block_on<T>(&self, runtime: &Handle, work: impl Future<Output = T>) -> Result<T, TimeOver> {
        runtime.block_on(async {
            tokio::select! {
                biased;
                () = self.abandoned.cancelled() => Err(TimeOver),
                done = work => Ok(done),
                () = self.expired() => Err(TimeOver),
            }
        })
    }

    async fn expired(&self) {
        let mut until = self.until.subscribe();
        loop {
            let at = *until.borrow_and_update();
            tokio::select! {
                () = sleep_until(at) => return,
                // The sender lives as long as `self`.
                _ = until.changed() => {}
            }
        }
    }

    fn abandon(&self) {
        self.interrupted.store(true, Ordering::Relaxed);
        self.abandoned.cancel();
    }
}

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub(super) enum JobError {
    /// The deadline passed; the thread was abandoned.
    #[error("the time is over")]
    TimedOut,
    /// Too many threads that were abandoned still hang.
    #[error("{MAX_RUNNING} earlier attempts still hang")]
    Crowded,
    /// The thread panicked.
    #[error("the work ended in a defect")]
    Died,
    /// The system gave no thread.
    #[error("cannot start a thread")]
    NoThread(#[source] std::io::Error),
}

struct AbandonOnDrop(Control);

impl Drop for AbandonOnDrop {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Runs `work` on a thread of its own until `until`, or the moment that it moves that to. `running` counts the
/// source's threads. Dropping the future abandons the thread.
pub(super) async fn run<T: Send + 'static>(
    running: &Arc<AtomicUsize>,
    until: Instant,
    work: impl FnOnce(&Control) -> T + Send + 'static,
) -> Result<T, JobError> {
    if running.fetch_add(1, Ordering::Relaxed) >= MAX_RUNNING {
        running.fetch_sub(1, Ordering::Relaxed);
        return Err(JobError::Crowded);
    }
    let counted = Counted(Arc::clone(running));
    let control = Control::new(until);
    let guard = AbandonOnDrop(control.clone());
    let (sender, mut result) = oneshot::channel();
    let body = move || {
        let done = work(&control);
        drop(counted);
        // Nobody waits if the thread was abandoned.
        let _ = sender.send(done);
    };
    std::thread::Builder::new().name("git".into()).spawn(body).map_err(JobError::NoThread)?;
    tokio::select! {
        biased;
        done = &mut result => done.map_err(|_| JobError::Died),
        () = guard.0.expired() => Err(JobError::TimedOut),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_millis(50)
    }

    #[tokio::test]
    async fn a_late_thread_is_abandoned_and_told_so() {
        let running = Arc::default();
        let (told, heard) = std::sync::mpsc::channel();
        let work = move |control: &Control| {
            while !control.is_abandoned() {
                std::thread::yield_now();
            }
            told.send(()).unwrap();
        };
        assert!(matches!(run(&running, soon(), work).await, Err(JobError::TimedOut)));
        heard.recv_timeout(Duration::from_secs(10)).unwrap();
    }

    #[tokio::test]
    async fn a_thread_may_move_its_deadline() {
        let (moved, go) = std::sync::mpsc::channel::<()>();
        let late = soon() + Duration::from_millis(50);
        let work = move |control: &Control| {
            control.extend_to(Instant::now() + Duration::from_secs(60));
            go.recv().unwrap();
            7
        };
        let running = Arc::default();
        let job = run(&running, soon(), work);
        let release = async {
            sleep_until(late).await;
            moved.send(()).unwrap();
        };
        assert_eq!(tokio::join!(job, release).0.unwrap(), 7);
    }

    #[tokio::test]
    async fn threads_that_hang_are_bounded() {
        let running = Arc::default();
        let (release, gate) = std::sync::mpsc::channel::<()>();
        let gate = Arc::new(std::sync::Mutex::new(gate));
        for _ in 0..MAX_RUNNING {
            let gate = Arc::clone(&gate);
            let hang = move |_: &Control| gate.lock().unwrap().recv().is_ok();
            assert!(matches!(run(&running, soon(), hang).await, Err(JobError::TimedOut)));
        }
        assert!(matches!(run(&running, soon(), |_| ()).await, Err(JobError::Crowded)));
        drop(release);
        let end = Instant::now() + Duration::from_secs(10);
        while running.load(Ordering::Relaxed) > 0 && Instant::now() < end {
            tokio::task::yield_now().await;
        }
        assert!(run(&running, end, |_| ()).await.is_ok());
    }

    #[tokio::test]
    async fn a_panic_is_an_error() {
        let running = Arc::default();
        let panics = |_: &Control| -> () { panic!("on purpose") };
        assert!(matches!(run(&running, soon() + Duration::from_secs(9), panics).await, Err(JobError::Died)));
        assert_eq!(running.load(Ordering::Relaxed), 0);
    }
}
