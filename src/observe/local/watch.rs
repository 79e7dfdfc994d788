//! The file watcher: one inotify watch for each directory, added one by one.
//!
//! notify's recursive mode cannot leave out ignored trees, so it is never used. Watches are hints only: nothing that
//! fails here fails an observation, it only makes scanning necessary.

use std::collections::{BTreeSet, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use notify::event::EventKindMask;
use notify::{Config, ErrorKind, PathOp, RecommendedWatcher, RecursiveMode, WatchPathConfig, Watcher};
use rustix::io::Errno;
use tracing::warn;

use super::hints::Shared;

/// More paths than this whose old watch has to be taken away first: a new watcher is cheaper, for notify looks
/// through all its watches for each of them.
const MAX_STALE: usize = 128;

/// How long an old watcher may take to give its watches back before a new one is made. They count against the
/// system's limit until then.
const END_LIMIT: Duration = Duration::from_secs(5);

/// Why watching cannot be relied on.
#[derive(Debug)]
enum Trouble {
    /// The system's limit of watches, with the number that could be had.
    Watches(usize),
    /// The limit of inotify instances or of open files.
    Instances,
    /// Anything else.
    Other(String),
}

/// The watcher of one source. Made without one; see [`Watch::renew`].
#[derive(Debug)]
pub(super) struct Watch {
    shared: Arc<Shared>,
    running: Option<Running>,
    /// Directories outside of the root.
    outer: BTreeSet<PathBuf>,
    /// Paths that we no longer use and under which notify may still keep a watch. It takes a second watch on such a
    /// path for done already, so the old one is taken away in the same call.
    stale: HashSet<PathBuf>,
    count: usize,
    max: Option<usize>,
    trouble: Option<Trouble>,
}

#[derive(Debug)]
struct Running {
    watcher: RecommendedWatcher,
    /// Disconnected when the watcher's thread is gone.
    ended: mpsc::Receiver<()>,
}

/// Too many old watches stand in the way: make a new watcher, then look at everything.
#[derive(Debug)]
pub(super) struct NeedsRenewal;

impl Watch {
    /// `max` bounds the number of watches, as the system's limit does.
    pub(super) fn new(shared: Arc<Shared>, max: Option<usize>) -> Self {
        Self {
            shared,
            running: None,
            outer: BTreeSet::new(),
            stale: HashSet::new(),
            count: 0,
            max,
            trouble: None,
        }
    }

    /// Ends the watcher with all its watches and makes a new one without any.
    pub(super) fn renew(&mut self) {
        if let Some(Running { watcher, ended }) = self.running.take() {
            drop(watcher);
            if ended.recv_timeout(END_LIMIT) == Err(mpsc::RecvTimeoutError::Timeout) {
                warn!("the old file watcher did not end in {END_LIMIT:?}");
            }
        }
        self.outer.clear();
        self.stale.clear();
        self.count = 0;
        self.trouble = None;
        match start(&self.shared) {
            Ok(running) => self.running = Some(running),
            Err(error) => self.trouble = Some(Trouble::of(&error, 0)),
        }
    }

    /// Whether there is a watcher.
    pub(super) fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Whether some directory may change without a hint.
    pub(super) fn is_unreliable(&self) -> bool {
        self.trouble.is_some()
    }

    /// Forgets why watching failed, so that it is tried again.
    pub(super) fn try_again(&mut self) {
        if self.is_running() {
            self.trouble = None;
        }
    }

    /// Watches exactly these directories outside of the root. One that cannot be watched is tried again each time;
    /// it is no loss, for the root is looked for at every full observation too.
    pub(super) fn set_outer(&mut self, dirs: &BTreeSet<PathBuf>) {
        let gone: Vec<PathBuf> = self.outer.difference(dirs).cloned().collect();
        self.outer.retain(|dir| dirs.contains(dir));
        self.forget(gone);
        let new: Vec<PathBuf> = dirs.difference(&self.outer).cloned().collect();
        let added = self.add(&new).unwrap_or_default();
        self.outer.extend(new.into_iter().zip(added).filter(|(_, added)| *added).map(|(dir, _)| dir));
    }

    /// Watches directories, before they are listed. Gives back for each whether it is watched now.
    ///
    /// # Errors
    /// [`NeedsRenewal`] where that would take longer than to watch everything anew.
    pub(super) fn add(&mut self, dirs: &[PathBuf]) -> Result<Vec<bool>, NeedsRenewal> {
        let mut added = vec![false; dirs.len()];
        if !self.is_running() || self.is_unreliable() {
            return Ok(added);
        }
        let stale = dirs.iter().filter(|dir| self.stale.contains(*dir)).count();
        if stale > MAX_STALE && self.purge() > MAX_STALE {
            return Err(NeedsRenewal);
        }
        let room = self.max.map_or(dirs.len(), |max| max.saturating_sub(self.count).min(dirs.len()));
        let mut ops = Vec::with_capacity(room + stale);
        for dir in &dirs[..room] {
            if self.stale.remove(dir) {
                ops.push(PathOp::unwatch(dir));
            }
            let once = WatchPathConfig::new(RecursiveMode::NonRecursive).with_dereference_symlinks(false);
            ops.push(PathOp::Watch(dir.clone(), once));
        }
        let failed = self.apply(ops);
        for (dir, added) in dirs[..room].iter().zip(&mut added) {
            *added = !failed.contains(dir);
            self.count += usize::from(*added);
        }
        self.stale.extend(failed);
        if room < dirs.len() && !self.is_unreliable() {
            self.trouble = Some(Trouble::Watches(self.count));
        }
        Ok(added)
    }

    /// No longer uses the watches of these directories.
    pub(super) fn forget(&mut self, dirs: impl IntoIterator<Item = PathBuf>) {
        let before = self.stale.len();
        self.stale.extend(dirs);
        self.count = self.count.saturating_sub(self.stale.len() - before);
    }

    /// Whether so many unused watches are left that a new watcher is due.
    pub(super) fn is_littered(&mut self) -> bool {
        self.stale.len() > MAX_STALE && self.purge() > MAX_STALE
    }

    /// What a person should know and do.
    pub(super) fn warning(&self) -> Option<String> {
        self.trouble.as_ref().map(Trouble::message)
    }

    /// Drops from `stale` what notify gave up by itself, as it does with removed directories. Gives back what is left.
    fn purge(&mut self) -> usize {
        let Some(Running { watcher, .. }) = &self.running else { return 0 };
        match watcher.watched_paths() {
            Ok(kept) => {
                let kept: HashSet<PathBuf> = kept.into_iter().map(|(path, _)| path).collect();
                self.stale.retain(|path| kept.contains(path));
                self.stale.len()
            }
            Err(_) => usize::MAX,
        }
    }

    /// Applies `ops`, those after a failed one too. Gives back the directories that could not be watched.
    fn apply(&mut self, mut ops: Vec<PathOp>) -> HashSet<PathBuf> {
        let mut failed = HashSet::new();
        let Some(Running { watcher, .. }) = &mut self.running else { return failed };
        while let Err(error) = watcher.update_paths(std::mem::take(&mut ops)) {
            let is_of_the_directory = match error.origin {
                // notify had given it up already, which is what was wanted.
                Some(PathOp::Unwatch(_)) => true,
                Some(PathOp::Watch(dir, _)) => {
                    failed.insert(dir);
                    is_of_the_directory(&error.source)
                }
                None => false,
            };
            ops = error.remaining;
            if !is_of_the_directory {
                self.trouble = Some(Trouble::of(&error.source, self.count + failed.len()));
                failed.extend(ops.into_iter().map(PathOp::into_path));
                break;
            }
        }
        failed
    }
}

/// Whether watching failed for what the directory is, which listing it will tell, and not for want of something.
fn is_of_the_directory(error: &notify::Error) -> bool {
    match &error.kind {
        ErrorKind::PathNotFound => true,
        ErrorKind::Io(error) => {
            let gone = [Errno::NOENT, Errno::NOTDIR, Errno::LOOP, Errno::ACCESS];
            error.raw_os_error().is_some_and(|code| gone.contains(&Errno::from_raw_os_error(code)))
        }
        _ => false,
    }
}

fn start(shared: &Arc<Shared>) -> notify::Result<Running> {
    let (alive, ended) = mpsc::channel::<()>();
    let shared = Arc::clone(shared);
    let handler = move |event| {
        // Held until the watcher's thread drops this closure.
        let _alive = &alive;
        shared.event(event);
    };
    // Reading is left out, or our own reads would wake us.
    let config = Config::default().with_event_kinds(EventKindMask::CORE).with_follow_symlinks(false);
    Ok(Running { watcher: RecommendedWatcher::new(handler, config)?, ended })
}

impl Trouble {
    fn of(error: &notify::Error, count: usize) -> Self {
        match &error.kind {
            ErrorKind::MaxFilesWatch => Self::Watches(count),
            ErrorKind::Io(error) if is_limit_of_files(error) => Self::Instances,
            _ => Self::Other(error.to_string()),
        }
    }

    fn message(&self) -> String {
        match self {
            Self::Watches(count) => format!(
                "only {count} directories could be watched before the system's limit was reached, so changes are \
                 found by scanning; raise it with `sudo sysctl fs.inotify.max_user_watches=524288`"
            ),
            Self::Instances => "the system's limit of file watchers or of open files is reached, so changes are \
                 found by scanning; raise it with `sudo sysctl fs.inotify.max_user_instances=1024` (or `ulimit -n`)"
                .into(),
            Self::Other(error) => {
                format!("files cannot be watched, so changes are found by scanning: {error}")
            }
        }
    }
}

fn is_limit_of_files(error: &io::Error) -> bool {
    let code = error.raw_os_error();
    [Errno::MFILE, Errno::NFILE].into_iter().any(|limit| code == Some(limit.raw_os_error()))
}

/// The absolute path of a directory for the watcher.
pub(super) fn place(root: &Path, dir: &str) -> PathBuf {
    if dir.is_empty() { root.to_path_buf() } else { root.join(dir) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_says_which_command_raises_it() {
        let trouble = |error| Trouble::of(&error, 7).message();
        let watches = trouble(notify::Error::new(ErrorKind::MaxFilesWatch));
        assert!(watches.contains("only 7") && watches.contains("max_user_watches=524288"));
        let instances = trouble(notify::Error::io(io::Error::from_raw_os_error(24)));
        assert!(instances.contains("max_user_instances"));
    }
}
