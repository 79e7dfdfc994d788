//! One observation: what has to be looked at, looking, and telling what differs. Blocks; runs off the async threads.

use std::collections::{BTreeSet, HashSet};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tracing::debug;

use super::LocalOptions;
use super::hints::{Pending, Scope, Shared};
use super::ignore::IgnoreFile;
use super::memory::{Memory, Moment};
use super::root::{self, Place, Root};
use super::scan::{self, Found, Job, View};
use super::watch::{NeedsRenewal, Watch, place};
use super::worktree::Outside;
use crate::model::path::RelPath;
use crate::model::tree::Changes;
use crate::observe::{Ask, Observation, ObserveError};
use crate::support::clock::Clock;

/// Directories on the way to a unit; its own limit comes on top.
const DEPTH: usize = 64;

/// How often an observation begins again because the root was replaced meanwhile.
const ATTEMPTS: usize = 3;

/// See the module.
#[derive(Debug)]
pub(super) struct Observer {
    pub(super) options: LocalOptions,
    pub(super) shared: Arc<Shared>,
    pub(super) clock: Clock,
    pub(super) memory: Memory,
    prune: Arc<[String]>,
    skip: Arc<HashSet<RelPath>>,
    watch: Watch,
    outside: Outside,
    /// The device at the first look.
    device: Option<u64>,
    /// The directory whose content is watched; `None` while there is none.
    armed: Option<Place>,
    /// Whether the last look saw everything that it had to see.
    is_whole: bool,
    /// Whether everything counts as changed to whoever asks.
    owes_all: bool,
}

/// Why a look ended before its end.
enum Stop {
    /// Watch everything anew and begin again.
    Again,
    /// It cannot be done.
    Failed(ObserveError),
}

impl From<NeedsRenewal> for Stop {
    fn from(_: NeedsRenewal) -> Self {
        Self::Again
    }
}

impl Observer {
    pub(super) fn new(options: LocalOptions, shared: Arc<Shared>) -> Self {
        Self {
            watch: Watch::new(Arc::clone(&shared), options.max_watches),
            prune: options.prune.clone().into(),
            skip: Arc::default(),
            clock: Clock::default(),
            memory: Memory::default(),
            outside: Outside::default(),
            device: None,
            armed: None,
            is_whole: false,
            owes_all: true,
            options,
            shared,
        }
    }

    /// Looks, and tells what is not as it was told before. `was_told`: whether the answer before this one reached
    /// whoever asked.
    pub(super) fn observe(&mut self, ask: Ask, was_told: bool) -> Result<Observation, ObserveError> {
        if was_told {
            self.memory.was_told();
            self.owes_all = false;
        }
        let pending = self.shared.take();
        let everything = ask != Ask::Hinted
            || pending.full
            || pending.rearm
            || !self.is_whole
            || self.watch.is_unreliable();
        let looked = self.look(ask, everything, &pending);
        let warnings: Vec<String> = self.watch.warning().into_iter().chain(self.outside.trouble()).collect();
        self.shared.set_warning((!warnings.is_empty()).then(|| warnings.join("; ")));
        looked?;
        if ask == Ask::Rescan {
            self.memory.bump_all();
            self.owes_all = true;
        }
        Ok(Observation {
            tree: Arc::clone(self.memory.tree()),
            changes: if self.owes_all { Changes::All } else { self.memory.changes() },
            revision: None,
            rewritten: false,
        })
    }

    fn look(&mut self, ask: Ask, mut everything: bool, pending: &Pending) -> Result<(), ObserveError> {
        let mut judge = !std::mem::replace(&mut self.is_whole, false);
        let mut rearm = pending.rearm;
        for _ in 0..ATTEMPTS {
            let moment = Moment::new(self.clock.now_ms());
            let root = self.find_root()?;
            let is_armed = self.armed.as_ref() == Some(&root.place);
            if !is_armed || rearm || (everything && (!self.watch.is_running() || self.watch.is_littered())) {
                self.arm(&root.place);
                everything = true;
            }
            let walk = Walk {
                root: &root,
                replaced: &pending.replaced,
                moment,
                timed: root.timed(),
                quick: everything && ask != Ask::Rescan,
            };
            match self.scan(&walk, &pending.touched, everything, judge) {
                Ok(()) if root.is_in_place() => {
                    self.is_whole = true;
                    return Ok(());
                }
                Ok(()) | Err(Stop::Again) => (judge, rearm) = (true, true),
                Err(Stop::Failed(error)) => return Err(error),
            }
        }
        Err(root::replaced(&self.options.root))
    }

    /// Opens the root. Where there is none, its parent is watched before anybody is told so.
    pub(super) fn find_root(&mut self) -> Result<Root, ObserveError> {
        let given = self.options.root.clone();
        let root = Root::open(&given).or_else(|_| {
            self.wait_at_the_doors();
            Root::open(&given)
        })?;
        if *self.device.get_or_insert(root.place.device) == root.place.device {
            return Ok(root);
        }
        self.armed = None;
        Err(root::device_changed(&given))
    }

    fn wait_at_the_doors(&mut self) {
        self.armed = None;
        self.renew();
        self.set_scope(None);
        let doors = root::doors(&self.options.root, None);
        self.watch.set_outer(&parents(&doors));
    }

    /// Gives up all watches, to make them again while everything is listed.
    fn renew(&mut self) {
        self.memory.unwatch_all();
        self.watch.renew();
    }

    fn arm(&mut self, place: &Place) {
        debug!("watching {}", place.path.display());
        self.renew();
        self.skip = Arc::new(root::skipped(&self.options.root, &place.path, &self.options.skip));
        self.armed = Some(place.clone());
        self.set_scope(Some(&place.path));
        self.watch_outside(&place.path);
    }

    fn watch_outside(&mut self, path: &Path) {
        let mut dirs = parents(&root::doors(&self.options.root, Some(path)));
        dirs.extend(self.outside.dirs());
        self.watch.set_outer(&dirs);
    }

    /// Tells the watcher's thread what matters.
    fn set_scope(&self, root: Option<&Path>) {
        self.shared.set_scope(Scope {
            root: root.map(Path::to_path_buf),
            doors: root::doors(&self.options.root, root),
            above: self.outside.dirs(),
            prune: Arc::clone(&self.prune),
            skip: Arc::clone(&self.skip),
            prefix: self.outside.prefix.clone(),
            git_dir: self.outside.git_dir(),
            outside: self.outside.rules.clone(),
            rules: self.memory.rules(),
            kept: self.memory.kept(),
        });
    }

    fn scan(
        &mut self,
        walk: &Walk<'_>,
        touched: &BTreeSet<RelPath>,
        everything: bool,
        mut judge: bool,
    ) -> Result<(), Stop> {
        let (path, moment) = (&walk.root.place.path, walk.moment);
        let mut is_other_scope = false;
        if everything {
            self.watch.try_again();
            is_other_scope = self.outside.refresh(path, moment.fresh);
            judge |= is_other_scope;
            self.watch_outside(path);
        }
        for replaced in walk.replaced {
            let unwatched = self.memory.unwatch_below(replaced);
            self.unwatch(path, &unwatched);
        }
        let jobs = if everything { vec![self.everything(judge)] } else { self.touched(touched) };
        self.walk(walk, jobs)?;
        if everything {
            self.memory.settle(moment);
        }
        if self.memory.take_ignore_changed() || is_other_scope {
            self.set_scope(Some(path));
        }
        let what = if everything { "everything" } else { "hints" };
        debug!("looked at {what} in {:?}", moment.started.elapsed());
        Ok(())
    }

    fn everything(&mut self, judge: bool) -> Job {
        // Makes its entry, as for every directory that is to be listed.
        self.memory.dir(&RelPath::root());
        Job {
            dir: RelPath::root(),
            above: self.outside.rules.clone(),
            excluded: self.outside.excluded,
            deep: true,
            judge,
        }
    }

    fn touched(&self, touched: &BTreeSet<RelPath>) -> Vec<Job> {
        let dirs = self.memory.dirs();
        let known = touched.iter().filter_map(|dir| Some((dir, dirs.get(dir)?)));
        let job = |(dir, known): (&RelPath, &scan::Dir)| {
            let parent = dir.parent().and_then(|parent| dirs.get(&parent));
            Job {
                dir: dir.clone(),
                above: parent
                    .map_or_else(|| self.outside.rules.clone(), |parent| parent.listing.rules.clone()),
                excluded: known.listing.excluded,
                deep: false,
                judge: false,
            }
        };
        known.map(job).collect()
    }

    /// Lists what `jobs` name, then what that leads to, level by level.
    fn walk(&mut self, walk: &Walk<'_>, mut jobs: Vec<Job>) -> Result<(), Stop> {
        while !jobs.is_empty() {
            self.watch_new(&walk.root.place.path, &jobs)?;
            let view = View {
                root: walk.root.fd.as_fd(),
                dirs: self.memory.dirs(),
                work_tree: self.outside.work_tree.as_ref(),
                prefix: &self.outside.prefix,
                prune: &self.prune,
                skip: &self.skip,
                depth: DEPTH + self.options.limits.depth,
                fresh: walk.moment.fresh,
                timed: walk.timed,
                quick: walk.quick,
            };
            let (found, failed) = scan::scan(&view, &jobs);
            let mut next = Vec::new();
            for (job, found) in jobs.iter().zip(found) {
                self.take(walk, job, found, &mut next)?;
            }
            if let Some(failed) = failed {
                let error = root::dir_unreadable(&self.options.root, &failed.dir, failed.error);
                return Err(Stop::Failed(error));
            }
            jobs = next;
        }
        Ok(())
    }

    /// Watches what is about to be listed, so that nothing is lost between the two.
    fn watch_new(&mut self, root: &Path, jobs: &[Job]) -> Result<(), NeedsRenewal> {
        let dirs = self.memory.dirs();
        let is_new = |job: &&Job| dirs.get(&job.dir).is_some_and(|dir| !dir.watched);
        let new: Vec<RelPath> = jobs.iter().filter(is_new).map(|job| job.dir.clone()).collect();
        if new.is_empty() {
            return Ok(());
        }
        let places: Vec<PathBuf> = new.iter().map(|dir| place(root, dir.as_str())).collect();
        let added = self.watch.add(&places)?;
        for (dir, _) in new.iter().zip(added).filter(|(_, added)| *added) {
            self.memory.dir(dir).watched = true;
        }
        Ok(())
    }

    fn unwatch(&mut self, root: &Path, dirs: &[RelPath]) {
        self.watch.forget(dirs.iter().map(|dir| place(root, dir.as_str())));
    }

    fn take(&mut self, walk: &Walk<'_>, job: &Job, found: Found, next: &mut Vec<Job>) -> Result<(), Stop> {
        let path = &walk.root.place.path;
        let mut below = Below { deep: job.deep, judge: job.judge };
        match found {
            // It has been replaced, or will be missing when it is looked for again.
            Found::Gone if job.dir.is_root() => return Err(Stop::Again),
            Found::Gone => {
                let unwatched = self.memory.forget_entry(&job.dir);
                self.unwatch(path, &unwatched);
                return Ok(());
            }
            // No event told. It is listed again, after its watch was made anew.
            Found::Replaced => {
                let unwatched = self.memory.unwatch_below(&job.dir);
                self.unwatch(path, &unwatched);
                next.push(Job { deep: true, ..job.clone() });
                return Ok(());
            }
            Found::Same(stamp, at) => {
                self.memory.stamp(&job.dir, stamp, at);
                if !job.deep && walk.replaced.is_empty() {
                    return Ok(());
                }
            }
            Found::Listed(listing) => {
                // Another one of the same level may have found that it is gone.
                let Some(known) = self.memory.dirs().get(&job.dir) else { return Ok(()) };
                let agree = IgnoreFile::agree(known.listing.own.as_ref(), listing.own.as_ref());
                below = Below { deep: below.deep || !agree, judge: below.judge || !agree };
                let unwatched = self.memory.apply(&job.dir, *listing, walk.moment);
                self.unwatch(path, &unwatched);
            }
        }
        self.descend(walk, job, below, next);
        Ok(())
    }

    /// Adds the directories in a listed one that have to be listed too.
    fn descend(&mut self, walk: &Walk<'_>, job: &Job, below: Below, next: &mut Vec<Job>) {
        let dirs = self.memory.dirs();
        let Some(known) = dirs.get(&job.dir) else { return };
        let first = next.len();
        for (dir, excluded) in &known.listing.dirs {
            let is_known = dirs.get(dir).is_some_and(|dir| dir.listed);
            if !is_known || below.deep || walk.replaced.contains(dir) {
                next.push(Job {
                    dir: dir.clone(),
                    above: known.listing.rules.clone(),
                    excluded: *excluded,
                    deep: true,
                    judge: below.judge || !is_known,
                });
            }
        }
        for job in &next[first..] {
            self.memory.dir(&job.dir);
        }
    }
}

/// What stays the same during one walk.
struct Walk<'a> {
    root: &'a Root,
    replaced: &'a BTreeSet<RelPath>,
    moment: Moment,
    /// See [`View`].
    timed: Option<u64>,
    quick: bool,
}

/// What holds for the directories in a listed one.
#[derive(Clone, Copy)]
struct Below {
    deep: bool,
    judge: bool,
}

fn parents(paths: &BTreeSet<PathBuf>) -> BTreeSet<PathBuf> {
    paths.iter().filter_map(|path| path.parent()).map(Path::to_path_buf).collect()
}
