//! Whether the root is still where it was: no watch tells that a directory far above it was renamed.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

/// Time between two looks, each one `stat`.
const EVERY: Duration = Duration::from_secs(1);

/// The device and the inode that the path leads to; `None` where there is nothing.
type Place = Option<(u64, u64)>;

/// See the module.
#[derive(Debug)]
pub(super) struct Doorstep {
    root: PathBuf,
    /// What was found last; `None` before the first look.
    seen: Option<Place>,
    /// Whether the last observation found nothing there.
    is_missing: bool,
    next: Option<Instant>,
    /// A look that is under way: a file system may not answer, and then one thread waits for it.
    looking: Option<JoinHandle<Place>>,
}

impl Doorstep {
    pub(super) fn new(root: PathBuf) -> Self {
        Self { root, seen: None, is_missing: false, next: None, looking: None }
    }

    /// Takes note of how an observation ended.
    pub(super) fn looked(&mut self, is_missing: bool) {
        self.is_missing = is_missing;
    }

    /// Waits until another directory stands there than before, or one where none was found. Cancel safe.
    pub(super) async fn changed(&mut self) {
        loop {
            let wait = if self.seen.is_none() { Duration::ZERO } else { EVERY };
            let next = *self.next.get_or_insert_with(|| Instant::now() + wait);
            sleep_until(next).await;
            let root = &self.root;
            let looking = self.looking.get_or_insert_with(|| {
                let root = root.clone();
                tokio::task::spawn_blocking(move || {
                    fs::metadata(root).ok().map(|meta| (meta.dev(), meta.ino()))
                })
            });
            let found = looking.await;
            (self.looking, self.next) = (None, None);
            let Ok(found) = found else { continue };
            let is_other = self.seen.replace(found).is_some_and(|seen| seen != found);
            // It is told once: what keeps the root from being read is found out by the look that follows.
            if is_other || (found.is_some() && std::mem::take(&mut self.is_missing)) {
                return;
            }
        }
    }
}
