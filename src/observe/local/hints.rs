//! What the watcher's thread leaves for the observer: where to look first. Never looks at the file system.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use notify::EventKind;
use notify::event::{CreateKind, ModifyKind, RemoveKind, RenameMode};
use tokio::sync::Notify;
use tracing::{debug, trace};

use super::ignore::{self, Rules};
use crate::model::path::RelPath;
use crate::observe::Hint;

/// Beyond this many directories to look at, looking at all of them is as cheap.
const MAX_TOUCHED: usize = 4096;

/// Beyond this many paths that may have become other directories, all watches are made anew. A rename over a file
/// counts too, so this is larger than what an ordinary checkout brings.
const MAX_REPLACED: usize = 16_384;

/// Hints that wait to be handed out; more of them would say nothing new.
const MAX_HINTS: usize = 1024;

/// Where to look since the observation before.
#[derive(Debug, Default)]
pub(super) struct Pending {
    /// Directories to list.
    pub touched: BTreeSet<RelPath>,
    /// Paths that may have been replaced as a whole: a watch that was there is dead or reports another place.
    pub replaced: BTreeSet<RelPath>,
    /// Everything has to be looked at.
    pub full: bool,
    /// No watch can be relied on any more.
    pub rearm: bool,
}

/// What decides whether an event matters; replaced as a whole after an observation that changed it.
#[derive(Debug, Default)]
pub(super) struct Scope {
    /// The root's canonical path; `None` while there is none.
    pub root: Option<PathBuf>,
    /// Paths at which the root, or a link to it, may appear or go away.
    pub doors: BTreeSet<PathBuf>,
    /// Directories above the root whose `.gitignore` matters.
    pub above: BTreeSet<PathBuf>,
    /// Names of directories that are never entered.
    pub prune: Arc<[String]>,
    /// Paths that are never entered.
    pub skip: Arc<HashSet<RelPath>>,
    /// The root's path in the work tree around it, with a slash at its end; empty if there is none or it is the top.
    pub prefix: Vec<u8>,
    /// Where git keeps the lock of the work tree's index.
    pub git_dir: Option<PathBuf>,
    /// What holds in the root from above.
    pub outside: Option<Arc<Rules>>,
    /// What holds in the directories that have a `.gitignore` of their own.
    pub rules: HashMap<RelPath, Arc<Rules>>,
    /// Files that are tracked although they are ignored.
    pub kept: HashSet<RelPath>,
}

impl Scope {
    fn rules(&self, dir: &RelPath) -> Option<&Arc<Rules>> {
        let text = dir.as_str();
        let slashes = text.rmatch_indices('/').map(|(at, _)| &text[..at]);
        let up = std::iter::once(text).chain(slashes).chain(std::iter::once(""));
        up.into_iter().find_map(|dir| self.rules.get(dir)).or(self.outside.as_ref())
    }

    fn ignores(&self, dir: &RelPath, path: &RelPath, is_dir: bool) -> bool {
        let Some(rules) = self.rules(dir) else { return false };
        let full = [&self.prefix, path.as_str().as_bytes()].concat();
        Rules::ignores(Some(rules), &full, is_dir) && !self.kept.contains(path)
    }
}

#[derive(Debug, Default)]
struct Queue {
    pending: Pending,
    hints: VecDeque<String>,
    queued: HashSet<String>,
}

/// Between the watcher's thread, the observer and whoever waits for hints. No lock in it is held for longer than a
/// few map operations.
#[derive(Debug, Default)]
pub(super) struct Shared {
    queue: Mutex<Queue>,
    scope: RwLock<Arc<Scope>>,
    warning: Mutex<Option<String>>,
    wake: Notify,
}

/// What one event says of one path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Touch {
    /// A file's content, or a file came or went.
    Content,
    /// Mode or times, of a file or of a directory itself.
    Metadata,
    /// Perhaps another thing stands there now; `is_dir` where that is known.
    Replaced { is_dir: bool },
}

impl Shared {
    /// Replaces what decides whether an event matters.
    pub(super) fn set_scope(&self, scope: Scope) {
        *self.scope.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(scope);
    }

    /// What decides whether an event matters.
    pub(super) fn scope(&self) -> Arc<Scope> {
        Arc::clone(&self.scope.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Sets what a person should know.
    pub(super) fn set_warning(&self, warning: Option<String>) {
        *self.warning.lock().unwrap_or_else(PoisonError::into_inner) = warning;
    }

    /// What a person should know.
    pub(super) fn warning(&self) -> Option<String> {
        self.warning.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes what is to be looked at. Hints that nobody took are dropped: what they point at is looked at now.
    pub(super) fn take(&self) -> Pending {
        let mut queue = self.queue();
        queue.hints.clear();
        queue.queued.clear();
        std::mem::take(&mut queue.pending)
    }

    /// Asks for a look at `dir`, because `path` in it was seen to change.
    pub(super) fn touch(&self, dir: RelPath, path: &RelPath) {
        self.add(path.to_string(), |pending| {
            pending.touched.insert(dir);
        });
    }

    /// The next hint.
    pub(super) async fn hint(&self) -> Hint {
        loop {
            // Nothing is awaited between taking a hint and giving it back, so a dropped future loses none.
            if let Some(hint) = self.pop() {
                return Hint(hint);
            }
            self.wake.notified().await;
        }
    }

    /// Takes an event in, or an error of the watcher. Called on the watcher's thread.
    pub(super) fn event(&self, event: notify::Result<notify::Event>) {
        let event = match event {
            Ok(event) if event.need_rescan() => {
                debug!("the queue of file events overflowed");
                return self.add(".".into(), |pending| pending.rearm = true);
            }
            Ok(event) => event,
            Err(error) => {
                debug!("the file watcher failed: {error}");
                return self.add(".".into(), |pending| pending.rearm = true);
            }
        };
        let Some(touch) = touch(&event.kind) else { return };
        let scope = self.scope();
        for path in &event.paths {
            self.path(&scope, path, touch);
        }
    }

    fn path(&self, scope: &Scope, path: &Path, touch: Touch) {
        let below = scope.root.as_ref().and_then(|root| path.strip_prefix(root).ok());
        let Some(below) = below.filter(|below| !below.as_os_str().is_empty()) else {
            return self.outside(scope, path, touch);
        };
        let (above, name) = split(below.as_os_str().as_bytes());
        let is_dir = matches!(touch, Touch::Replaced { is_dir: true });
        if name == b".git" || (is_dir && scope.prune.iter().any(|pruned| pruned.as_bytes() == name)) {
            return;
        }
        // Only directories with names that can be paths are watched.
        let Ok(dir) = RelPath::parse(&String::from_utf8_lossy(above)) else { return };
        let text = below.to_string_lossy().into_owned();
        let Ok(path) = dir.join_bytes(name) else {
            return self.add(text, |pending| pending.touch(dir));
        };
        if scope.skip.contains(&path) || (name != ignore::NAME && scope.ignores(&dir, &path, is_dir)) {
            return;
        }
        // Not before: the file that this line goes to may lie beside what is watched.
        trace!("{touch:?}: {text}");
        self.add(text, |pending| {
            match touch {
                Touch::Content => {}
                Touch::Metadata => pending.touch(path),
                Touch::Replaced { .. } => pending.replace(path),
            }
            pending.touch(dir);
        });
    }

    /// An event of the root itself or of a directory above it.
    fn outside(&self, scope: &Scope, path: &Path, touch: Touch) {
        if scope.doors.contains(path) {
            match touch {
                Touch::Metadata => self.add(".".into(), |pending| pending.touch(RelPath::root())),
                _ => self.add(".".into(), |pending| pending.rearm = true),
            }
        } else if path.file_name() == Some(OsStr::from_bytes(ignore::NAME))
            && path.parent().is_some_and(|dir| scope.above.contains(dir))
        {
            self.add(".".into(), |pending| pending.full = true);
        }
    }

    fn add(&self, hint: String, change: impl FnOnce(&mut Pending)) {
        let mut queue = self.queue();
        change(&mut queue.pending);
        if queue.hints.len() < MAX_HINTS && queue.queued.insert(hint.clone()) {
            queue.hints.push_back(hint);
        }
        drop(queue);
        self.wake.notify_one();
    }

    fn pop(&self) -> Option<String> {
        let mut queue = self.queue();
        let hint = queue.hints.pop_front()?;
        queue.queued.remove(&hint);
        Some(hint)
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pending {
    fn touch(&mut self, dir: RelPath) {
        self.touched.insert(dir);
        if self.touched.len() > MAX_TOUCHED {
            self.touched.clear();
            self.full = true;
        }
    }

    fn replace(&mut self, path: RelPath) {
        self.replaced.insert(path);
        if self.replaced.len() > MAX_REPLACED {
            self.replaced.clear();
            self.rearm = true;
        }
    }
}

/// What an event of this kind means; `None` if it says nothing that another one does not say.
fn touch(kind: &EventKind) -> Option<Touch> {
    Some(match kind {
        EventKind::Access(_) | EventKind::Modify(ModifyKind::Name(RenameMode::Both)) => return None,
        EventKind::Create(CreateKind::File)
        | EventKind::Remove(RemoveKind::File)
        | EventKind::Modify(ModifyKind::Data(_)) => Touch::Content,
        EventKind::Modify(ModifyKind::Metadata(_)) => Touch::Metadata,
        EventKind::Create(CreateKind::Folder) | EventKind::Remove(RemoveKind::Folder) => {
            Touch::Replaced { is_dir: true }
        }
        _ => Touch::Replaced { is_dir: false },
    })
}

fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (b"", path),
    }
}
