//! How the process ends: softly at the first signal, hard at the second or after a minute.
//!
//! Soft means: take no new work, finish what was begun. Hard means: leave now. SIGPIPE stays as Rust sets it (a write
//! to a closed pipe is an error). SIGHUP ends nothing: it asks for the configuration to be read again. Never ends the process itself: `app` waits for
//! [`Lifecycle::ended`] and returns.

use std::future::{Future, poll_fn};
use std::io;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long a soft end may take. Service managers wait 90 s before they kill (systemd's default).
pub const HARD_AFTER: Duration = Duration::from_secs(60);

/// Why the process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// SIGTERM.
    Terminate,
    /// SIGINT: Ctrl-C.
    Interrupt,
    /// The program itself is done.
    Done,
    /// A task that never ends on its own did, or panicked: a bug. Its name.
    Bug(&'static str),
}

/// The tokens and the tasks of the process. Clones speak of the same process.
#[derive(Clone, Debug, Default)]
pub struct Lifecycle {
    soft: CancellationToken,
    hard: CancellationToken,
    tasks: TaskTracker,
    why: Arc<OnceLock<Stop>>,
    hangup: Arc<Notify>,
}

impl Lifecycle {
    /// A process that runs.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Cancelled when no new work may begin.
    #[must_use]
    pub fn soft(&self) -> &CancellationToken {
        &self.soft
    }

    /// Cancelled when nothing is waited for any more.
    #[must_use]
    pub fn hard(&self) -> &CancellationToken {
        &self.hard
    }

    /// Begins the soft end. The first reason stands.
    pub fn stop(&self, why: Stop) {
        let _ = self.why.set(why);
        self.soft.cancel();
    }

    /// Starts work that the end waits for.
    pub fn spawn<F>(&self, work: F) -> JoinHandle<F::Output>
    where
        F: Future<Output: Send + 'static> + Send + 'static,
    {
        self.tasks.spawn(work)
    }

    /// Starts work that ends only after the soft token was cancelled. If it ends earlier, by a panic or not, the
    /// process stops with [`Stop::Bug`]: better a restart than a service that quietly lacks a part.
    pub fn spawn_long(&self, name: &'static str, work: impl Future<Output = ()> + Send + 'static) {
        let guard = Guard { name, lifecycle: self.clone() };
        self.tasks.spawn(async move {
            let _guard = guard;
            work.await;
        });
    }

    /// Waits until a stop was asked for and all tasks have ended, or the hard token was cancelled. Cancel safe.
    pub async fn ended(&self) -> Stop {
        self.soft.cancelled().await;
        self.tasks.close();
        tokio::select! {
            () = self.tasks.wait() => {}
            () = self.hard.cancelled() => {}
        }
        // The soft token is cancelled by `stop` alone, after the reason was set.
        self.why.get().copied().unwrap_or(Stop::Done)
    }

    /// Waits for the next SIGHUP; one that came since the wait before counts. Cancel safe.
    pub async fn hung_up(&self) {
        self.hangup.notified().await;
    }

    /// Takes SIGTERM, SIGINT and SIGHUP over from now on.
    ///
    /// # Errors
    /// The system refuses a handler.
    pub fn take_signals(&self) -> io::Result<()> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut hangup = signal(SignalKind::hangup())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        // Not among the tasks: the end does not wait for the next signal.
        let told = Arc::clone(&self.hangup);
        tokio::spawn(async move {
            while hangup.recv().await.is_some() {
                told.notify_one();
            }
        });
        tokio::spawn(self.clone().obey(move |cx| {
            if let Poll::Ready(Some(())) = terminate.poll_recv(cx) {
                return Poll::Ready(Stop::Terminate);
            }
            match interrupt.poll_recv(cx) {
                Poll::Ready(Some(())) => Poll::Ready(Stop::Interrupt),
                // `None` comes only when the runtime is gone.
                _ => Poll::Pending,
            }
        }));
        Ok(())
    }

    /// The first signal, or any other soft end, starts the minute; the next signal cuts it short.
    async fn obey(self, mut signal: impl FnMut(&mut Context<'_>) -> Poll<Stop>) {
        tokio::select! {
            stop = poll_fn(&mut signal) => self.stop(stop),
            () = self.soft.cancelled() => {}
        }
        tokio::select! {
            _ = poll_fn(&mut signal) => {}
            () = tokio::time::sleep(HARD_AFTER) => {}
        }
        self.hard.cancel();
    }
}

struct Guard {
    name: &'static str,
    lifecycle: Lifecycle,
}

impl Drop for Guard {
    fn drop(&mut self) {
        if !self.lifecycle.soft.is_cancelled() || std::thread::panicking() {
            self.lifecycle.stop(Stop::Bug(self.name));
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;
    use tokio::time::{Instant, timeout};

    use super::*;

    const SOON: Duration = Duration::from_secs(5);

    /// A process whose signals a test sends.
    fn process() -> (Lifecycle, mpsc::Sender<Stop>) {
        let (sender, mut signals) = mpsc::channel(4);
        let lifecycle = Lifecycle::new();
        tokio::spawn(lifecycle.clone().obey(move |cx| match signals.poll_recv(cx) {
            Poll::Ready(Some(stop)) => Poll::Ready(stop),
            _ => Poll::Pending,
        }));
        (lifecycle, sender)
    }

    #[tokio::test]
    async fn the_first_signal_lets_work_finish() {
        let (lifecycle, signals) = process();
        let (finish, finished) = tokio::sync::oneshot::channel::<()>();
        lifecycle.spawn(finished);
        signals.send(Stop::Terminate).await.unwrap();
        timeout(SOON, lifecycle.soft().cancelled()).await.unwrap();
        assert!(!lifecycle.hard().is_cancelled());
        finish.send(()).unwrap();
        assert_eq!(timeout(SOON, lifecycle.ended()).await.unwrap(), Stop::Terminate);
        assert!(!lifecycle.hard().is_cancelled());
    }

    #[tokio::test]
    async fn the_second_signal_waits_for_nothing() {
        let (lifecycle, signals) = process();
        lifecycle.spawn(std::future::pending::<()>());
        signals.send(Stop::Interrupt).await.unwrap();
        signals.send(Stop::Terminate).await.unwrap();
        assert_eq!(timeout(SOON, lifecycle.ended()).await.unwrap(), Stop::Interrupt);
        assert!(lifecycle.hard().is_cancelled());
    }

    #[tokio::test(start_paused = true)]
    async fn a_soft_end_takes_a_minute_at_most() {
        let (lifecycle, _signals) = process();
        lifecycle.spawn(std::future::pending::<()>());
        let before = Instant::now();
        lifecycle.stop(Stop::Done);
        assert_eq!(lifecycle.ended().await, Stop::Done);
        assert_eq!(before.elapsed().as_secs(), HARD_AFTER.as_secs());
    }

    #[tokio::test]
    async fn a_long_task_that_panics_or_ends_stops_the_process() {
        let lifecycle = Lifecycle::new();
        lifecycle.spawn_long("loop", async { panic!("on purpose") });
        assert_eq!(timeout(SOON, lifecycle.ended()).await.unwrap(), Stop::Bug("loop"));

        let lifecycle = Lifecycle::new();
        lifecycle.spawn_long("short", async {});
        assert_eq!(timeout(SOON, lifecycle.ended()).await.unwrap(), Stop::Bug("short"));
    }

    #[tokio::test]
    async fn a_long_task_that_ends_after_the_soft_token_is_no_bug() {
        let lifecycle = Lifecycle::new();
        let soft = lifecycle.soft().clone();
        lifecycle.spawn_long("loop", async move { soft.cancelled().await });
        lifecycle.stop(Stop::Done);
        assert_eq!(timeout(SOON, lifecycle.ended()).await.unwrap(), Stop::Done);
    }

    /// What [`real_signals_are_taken_over`] runs in a process of its own: a handler stays for the life of a process.
    #[tokio::test]
    #[ignore = "a helper of real_signals_are_taken_over"]
    async fn waits_for_a_signal() {
        let lifecycle = Lifecycle::new();
        lifecycle.take_signals().unwrap();
        eprintln!("ready");
        let stop = tokio::select! {
            stop = timeout(SOON, lifecycle.ended()) => format!("{:?}", stop.unwrap()),
            () = lifecycle.hung_up() => "hung up".into(),
        };
        eprintln!("{stop}");
    }

    #[tokio::test]
    async fn real_signals_are_taken_over() {
        use rustix::process::{Pid, Signal, kill_process};
        use tokio::io::{AsyncBufReadExt, BufReader};

        for (signal, expected) in
            [(Signal::TERM, "Terminate"), (Signal::INT, "Interrupt"), (Signal::HUP, "hung up")]
        {
            let name = "support::lifecycle::tests::waits_for_a_signal";
            let mut child = tokio::process::Command::new(std::env::current_exe().unwrap())
                .args(["--exact", name, "--ignored", "--nocapture"])
                .stdout(std::process::Stdio::null())
                .stderr(std::process::Stdio::piped())
                .kill_on_drop(true)
                .spawn()
                .unwrap();
            let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
            let mut line = async || timeout(SOON, lines.next_line()).await.unwrap().unwrap();
            assert_eq!(line().await.as_deref(), Some("ready"));
            let pid = i32::try_from(child.id().unwrap()).unwrap();
            kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
            assert_eq!(line().await.as_deref(), Some(expected));
            assert!(timeout(SOON, child.wait()).await.unwrap().unwrap().success());
        }
    }
}
