//! A local directory as a source: watched, listed, read.
//!
//! An event only says where to look first; what is so is always found by `lstat`. Never writes below the root, never
//! follows a link, never opens anything but directories, regular files and `.gitignore`.

mod doorstep;
mod hints;
mod ignore;
mod memory;
mod names;
mod observer;
mod open;
mod read;
mod root;
mod scan;
mod stat;
mod watch;
mod worktree;

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use self::doorstep::Doorstep;
use self::hints::Shared;
use self::observer::Observer;
use super::{Ask, Hint, Observation, ObserveError, Reading, Sink, Source, Want};
use crate::model::limits::Limits;
use crate::model::source::Revision;
use crate::support::clock::Clock;

/// A `.git/index.lock` that is older than this was left behind, in milliseconds (DESIGN 4).
const LOCK_MS: u64 = 5000;

/// What a local source looks at.
#[derive(Clone, Debug, Default)]
pub struct LocalOptions {
    /// The directory, absolute. It may be a link, and may be missing at times.
    pub root: PathBuf,
    /// Names of directories that are never entered, at any depth.
    pub prune: Vec<String>,
    /// Absolute paths that are never entered: the data directory.
    pub skip: Vec<PathBuf>,
    /// `depth` bounds how deep below the root directories are entered: so many on top of 64.
    pub limits: Limits,
    /// Most directories to watch, below the system's own limit; `None` for that limit alone.
    pub max_watches: Option<usize>,
}

/// A local directory. Its content is watched from the first observation on.
///
/// [`Changes::Paths`](crate::model::tree::Changes::Paths) also names a directory where the names that are refused in
/// it are not what they were.
///
/// The tree of an observation is changed in place for the next one; whoever still holds it then makes that cost a
/// copy of it.
#[derive(Debug)]
pub struct LocalSource {
    options: LocalOptions,
    shared: Arc<Shared>,
    clock: Clock,
    /// `None` while it is at work, and after it failed.
    observer: Option<Box<Observer>>,
    /// Work that began. It gives the observer back, also when the call that began it was dropped.
    work: Option<JoinHandle<Box<Observer>>>,
    doorstep: Doorstep,
    /// Whether the last answer was given out, and not lost with a call that was dropped.
    was_told: bool,
}

impl LocalSource {
    /// A source that was not looked at yet. Never fails: a missing root is found by [`Source::observe`].
    #[must_use]
    pub fn open(options: LocalOptions) -> Self {
        let (shared, clock) = (Arc::default(), Clock::default());
        let doorstep = Doorstep::new(options.root.clone());
        Self { options, shared, clock, observer: None, work: None, doorstep, was_told: false }
    }

    /// The observer, when the work that began before has ended.
    async fn observer(&mut self) -> Result<Box<Observer>, ObserveError> {
        self.join().await?;
        Ok(self.observer.take().unwrap_or_else(|| {
            // At first, and after a failure, when nothing that was remembered is trusted.
            self.was_told = false;
            Box::new(Observer::new(self.options.clone(), Arc::clone(&self.shared)))
        }))
    }

    /// Runs blocking work.
    async fn run<T: Send + 'static>(
        &mut self,
        mut observer: Box<Observer>,
        work: impl FnOnce(&mut Observer) -> Result<T, ObserveError> + Send + 'static,
    ) -> Result<T, ObserveError> {
        let (give, done) = oneshot::channel();
        self.work = Some(tokio::task::spawn_blocking(move || {
            let result = work(&mut observer);
            // Nobody waits for it if the call was dropped. What was found is told by the next one.
            drop(give.send(result));
            observer
        }));
        match done.await {
            Ok(result) => result,
            Err(error) => {
                self.join().await?;
                Err(internal(error))
            }
        }
    }

    /// Waits for the work that began before to end.
    async fn join(&mut self) -> Result<(), ObserveError> {
        if let Some(work) = &mut self.work {
            let back = work.await;
            self.work = None;
            self.observer = Some(back.map_err(internal)?);
        }
        Ok(())
    }
}

fn internal(error: impl std::error::Error + Send + Sync + 'static) -> ObserveError {
    ObserveError {
        reason: "Internal",
        message: "the observer of a local directory failed".into(),
        stalled: false,
        source: Some(error.into()),
    }
}

impl Source for LocalSource {
    async fn observe(&mut self, ask: Ask, _deployed: Option<Revision>) -> Result<Observation, ObserveError> {
        let observer = self.observer().await?;
        let was_told = std::mem::take(&mut self.was_told);
        let seen = self.run(observer, move |observer| observer.observe(ask, was_told)).await;
        self.doorstep.looked(seen.as_ref().err().is_some_and(|error| error.reason == root::MISSING));
        let seen = seen?;
        self.was_told = true;
        Ok(seen)
    }

    async fn read(&mut self, wants: Vec<Want>, sink: Sink) -> Result<Vec<Reading>, ObserveError> {
        let observer = self.observer().await?;
        self.run(observer, move |observer| observer.read(&wants, &sink)).await
    }

    async fn hint(&mut self) -> Hint {
        tokio::select! {
            biased;
            hint = self.shared.hint() => hint,
            () = self.doorstep.changed() => Hint(".".into()),
        }
    }

    fn is_busy(&self) -> bool {
        let Some(git_dir) = self.shared.scope().git_dir.clone() else { return false };
        let Ok(stat) = rustix::fs::lstat(git_dir.join("index.lock")) else { return false };
        let since = stat::Fields::of(&stat).modified / 1_000_000;
        self.clock.now_ms().abs_diff(since) < LOCK_MS
    }

    fn warning(&self) -> Option<String> {
        self.shared.warning()
    }
}
