//! Lists directories and compares them with what is remembered. Reads the file system, changes nothing in memory.

use std::collections::{HashMap, HashSet};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{AtFlags, FileType, Stat};
use rustix::io::Errno;

use super::ignore::{IgnoreFile, Rules};
use super::names::{self, Names};
use super::open;
use super::stat::{self, Fields};
use super::worktree::WorkTree;
use crate::model::path::{PathRefusal, RelPath};
use crate::model::tree::{Node, NodeKind, Refused};

/// Fewer directories than this are listed faster by one thread than by two.
const WORTH_A_THREAD: usize = 64;

/// What is remembered of one directory.
#[derive(Clone, Debug, Default)]
pub(super) struct Dir {
    /// Whether it was listed at all.
    pub listed: bool,
    /// Whether there is a watch on it.
    pub watched: bool,
    /// What it holds.
    pub listing: Listing,
}

/// What one directory holds; each list in byte order.
#[derive(Clone, Debug, Default)]
pub(super) struct Listing {
    /// All that is no directory.
    pub files: Vec<(RelPath, Node)>,
    /// Directories that are entered, and whether they are ignored: then only what is tracked in them counts.
    pub dirs: Vec<(RelPath, bool)>,
    /// Names that are ignored, and whether they are directories.
    pub ignored: Vec<(Box<[u8]>, bool)>,
    /// Names that can never be paths.
    pub refused: Vec<Refused>,
    /// Files that stay although they are ignored, because they are tracked.
    pub kept: Vec<RelPath>,
    /// Its own `.gitignore`.
    pub own: Option<IgnoreFile>,
    /// What holds in it.
    pub rules: Option<Arc<Rules>>,
    /// Whether it lies in an ignored directory.
    pub excluded: bool,
    /// Its own fields before it was read, if they tell when an entry comes or goes.
    pub stamp: Option<Fields>,
    /// Its device and inode.
    pub place: Option<(u64, u64)>,
}

/// A directory to list.
#[derive(Clone, Debug)]
pub(super) struct Job {
    /// Which one.
    pub dir: RelPath,
    /// What holds in it from above.
    pub above: Option<Arc<Rules>>,
    /// Whether it lies in an ignored directory.
    pub excluded: bool,
    /// Whether the directories in it are listed too even if they are known.
    pub deep: bool,
    /// Whether what was judged by ignore rules has to be judged again.
    pub judge: bool,
}

/// What listing a directory gave.
#[derive(Debug)]
pub(super) enum Found {
    /// It is not there any more.
    Gone,
    /// It is another directory than the one that is remembered, and the watch is on that one.
    Replaced,
    /// As it is remembered, but for its stamp and which directory it is.
    Same(Option<Fields>, (u64, u64)),
    /// Not as it is remembered, or not known to be so.
    Listed(Box<Listing>),
}

/// A directory that could not be listed, which must not look like an empty one.
#[derive(Debug)]
pub(super) struct Unreadable {
    /// Which one.
    pub dir: RelPath,
    /// Why.
    pub error: Errno,
}

/// All that listing looks at.
#[derive(Debug)]
pub(super) struct View<'a> {
    /// The root.
    pub root: BorrowedFd<'a>,
    /// What is remembered.
    pub dirs: &'a HashMap<RelPath, Dir>,
    /// The work tree around the root.
    pub work_tree: Option<&'a WorkTree>,
    /// The root's path in it.
    pub prefix: &'a [u8],
    /// Names of directories that are never entered.
    pub prune: &'a [String],
    /// Paths that are never entered.
    pub skip: &'a HashSet<RelPath>,
    /// Most directories on the way to a file.
    pub depth: usize,
    /// A change at this moment or later (nanoseconds since 1970) may hide another one.
    pub fresh: i64,
    /// The device of directories whose times tell when an entry comes or goes; `None` if there is none.
    pub timed: Option<u64>,
    /// Whether a directory need not be read if its times and all its files are as they were.
    pub quick: bool,
}

/// Lists directories, with two threads where that is faster. Gives back what was found, in the order of `jobs`, up to
/// the first that could not be read.
pub(super) fn scan(view: &View<'_>, jobs: &[Job]) -> (Vec<Found>, Option<Unreadable>) {
    if jobs.len() < WORTH_A_THREAD {
        return scan_on_this_thread(view, jobs);
    }
    let (ours, theirs) = jobs.split_at(jobs.len() / 2);
    let (mut found, failed, theirs) = std::thread::scope(|scope| {
        let theirs = scope.spawn(|| scan_on_this_thread(view, theirs));
        let (found, failed) = scan_on_this_thread(view, ours);
        (found, failed, theirs.join())
    });
    let theirs = theirs.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    if failed.is_some() {
        return (found, failed);
    }
    found.extend(theirs.0);
    (found, theirs.1)
}

fn scan_on_this_thread(view: &View<'_>, jobs: &[Job]) -> (Vec<Found>, Option<Unreadable>) {
    let mut names = Names::default();
    let mut found = Vec::with_capacity(jobs.len());
    for job in jobs {
        match list(view, job, &mut names) {
            Ok(one) => found.push(one),
            Err(error) => return (found, Some(Unreadable { dir: job.dir.clone(), error })),
        }
    }
    (found, None)
}

/// The device and inode of a directory that is as remembered with all its files, found without opening it.
///
/// Paths are looked up by their whole text here, so a link that was put in place of a directory would be followed.
/// Therefore nothing but equality is taken from it: whatever is reached with the inode and the times of before is
/// what was there before.
fn untouched(view: &View<'_>, job: &Job) -> Option<(u64, u64)> {
    let known = view.dirs.get(&job.dir).filter(|dir| dir.listed).map(|dir| &dir.listing)?;
    if !view.quick || job.judge || job.dir.is_root() || known.own.is_some() || known.stamp.is_none() {
        return None;
    }
    let look = |path: &RelPath| rustix::fs::statat(view.root, path.as_str(), AtFlags::SYMLINK_NOFOLLOW).ok();
    let dir = look(&job.dir).filter(|stat| Some(Fields::of(stat)) == known.stamp)?;
    let is_same = |path: &RelPath, node: &Node| {
        let known = Fields::in_stamp(&node.stamp).map(|(fields, _)| fields);
        look(path)
            .is_some_and(|stat| stat::kind(&stat) == Some(node.kind) && Some(Fields::of(&stat)) == known)
    };
    known.files.iter().all(|(path, node)| is_same(path, node)).then_some((dir.st_dev, dir.st_ino))
}

fn list(view: &View<'_>, job: &Job, names: &mut Names) -> Result<Found, Errno> {
    if let Some(place) = untouched(view, job) {
        return Ok(Found::Same(view.dirs.get(&job.dir).and_then(|dir| dir.listing.stamp), place));
    }
    let fd = match open::dir(view.root, &job.dir) {
        Ok(fd) => fd,
        Err(error) if open::is_gone(error) => return Ok(Found::Gone),
        Err(error) => return Err(error),
    };
    let known = view.dirs.get(&job.dir);
    let stat = rustix::fs::fstat(&fd)?;
    let place = (stat.st_dev, stat.st_ino);
    if known.is_some_and(|dir| dir.watched && dir.listing.place.is_some_and(|before| before != place)) {
        return Ok(Found::Replaced);
    }
    match names.read(&fd) {
        Ok(()) => {}
        Err(error) if open::is_gone(error) => return Ok(Found::Gone),
        Err(error) => return Err(error),
    }
    let own = if names.has_ignore_file {
        IgnoreFile::load(fd.as_fd(), known.and_then(|dir| dir.listing.own.as_ref()), view.fresh)
    } else {
        None
    };
    let same_rules = known.is_some_and(|dir| IgnoreFile::agree(dir.listing.own.as_ref(), own.as_ref()));
    let known = known.filter(|dir| dir.listed);
    let judge = job.judge || !same_rules || known.is_none();
    let skip = view.prefix.len() + job.dir.as_str().len() + usize::from(!job.dir.is_root());
    let rules = match known {
        Some(known) if !judge => known.listing.rules.clone(),
        _ => Rules::add(job.above.as_ref(), own.as_ref(), skip),
    };
    let (excluded, stamp) = (job.excluded, stamp(view, &stat));
    let listing = Listing { own, rules, excluded, stamp, place: Some(place), ..Listing::default() };
    let known = known.map(|dir| &dir.listing);
    let mut lister = Lister { view, dir: &job.dir, fd, known, judge, listing };
    for (name, kind) in names.iter() {
        lister.entry(name, kind)?;
    }
    Ok(match known {
        Some(known) if !judge && known.holds_the_same(&lister.listing) => Found::Same(stamp, place),
        _ => Found::Listed(Box::new(lister.listing)),
    })
}

/// A directory's fields, where equal ones will mean that no entry came or went.
fn stamp(view: &View<'_>, stat: &Stat) -> Option<Fields> {
    let fields = Fields::of(stat);
    (view.timed == Some(stat.st_dev) && fields.changed < view.fresh).then_some(fields)
}

impl Listing {
    fn holds_the_same(&self, other: &Self) -> bool {
        self.files == other.files
            && self.dirs == other.dirs
            && self.ignored == other.ignored
            && self.refused == other.refused
            && self.kept == other.kept
    }
}

/// Lists one directory.
struct Lister<'a> {
    view: &'a View<'a>,
    dir: &'a RelPath,
    fd: OwnedFd,
    known: Option<&'a Listing>,
    judge: bool,
    listing: Listing,
}

impl Lister<'_> {
    fn entry(&mut self, name: &[u8], kind: FileType) -> Result<(), Errno> {
        if kind == FileType::Directory {
            self.directory(name);
            return Ok(());
        }
        if kind != FileType::Unknown && self.is_known_as_ignored(name, false) {
            self.listing.ignored.push((name.into(), false));
            return Ok(());
        }
        let stat = match rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            // Removed since it was listed.
            Err(Errno::NOENT) => return Ok(()),
            Err(error) => return Err(error),
        };
        let Some(kind) = stat::kind(&stat) else {
            self.directory(name);
            return Ok(());
        };
        let fields = Fields::of(&stat);
        match self.known_file(name) {
            Some((path, before)) => {
                let (path, node) = (path.clone(), renewed(before, kind, fields));
                if self.judge { self.new_file(name, node) } else { self.known_again(path, node) }
            }
            None => self.new_file(name, stat::node(kind, fields, 0)),
        }
        Ok(())
    }

    fn known_again(&mut self, path: RelPath, node: Node) {
        if self.known.is_some_and(|known| known.kept.binary_search(&path).is_ok()) {
            self.listing.kept.push(path.clone());
        }
        self.listing.files.push((path, node));
    }

    fn new_file(&mut self, name: &[u8], node: Node) {
        let ignored = self.is_ignored(name, false);
        let tracked = ignored && self.view.work_tree.is_some_and(|tree| tree.tracks(&self.full(name)));
        if ignored && !tracked {
            self.listing.ignored.push((name.into(), false));
            return;
        }
        let Some(path) = self.path(name) else { return };
        if tracked {
            self.listing.kept.push(path.clone());
        }
        self.listing.files.push((path, node));
    }

    fn directory(&mut self, name: &[u8]) {
        if self.view.prune.iter().any(|pruned| pruned.as_bytes() == name) {
            return;
        }
        if self.is_known_as_ignored(name, true) {
            self.listing.ignored.push((name.into(), true));
            return;
        }
        if !self.judge
            && let Some(known) = self.known_dir(name)
        {
            self.listing.dirs.push(known.clone());
            return;
        }
        let ignored = self.is_ignored(name, true);
        if ignored && !self.view.work_tree.is_some_and(|tree| tree.tracks_below(&self.full(name))) {
            self.listing.ignored.push((name.into(), true));
            return;
        }
        let Some(path) = self.path(name) else { return };
        if path.depth() > self.view.depth {
            self.refuse(name, PathRefusal::TooDeep);
        } else {
            self.listing.dirs.push((path, ignored));
        }
    }

    /// The path of a name that is not left out; `None` if it is refused, which is noted, or skipped.
    fn path(&mut self, name: &[u8]) -> Option<RelPath> {
        match self.dir.join_bytes(name) {
            Ok(path) => (!self.view.skip.contains(&path)).then_some(path),
            Err(why) => {
                self.refuse(name, why);
                None
            }
        }
    }

    fn refuse(&mut self, name: &[u8], why: PathRefusal) {
        self.listing.refused.push(Refused { dir: self.dir.clone(), name: names::printable(name), why });
    }

    fn is_ignored(&self, name: &[u8], is_dir: bool) -> bool {
        self.listing.excluded
            || (self.listing.rules.is_some()
                && Rules::ignores(self.listing.rules.as_ref(), &self.full(name), is_dir))
    }

    /// The path of a name relative to the top of the work tree.
    fn full(&self, name: &[u8]) -> Vec<u8> {
        let slash: &[u8] = if self.dir.is_root() { b"" } else { b"/" };
        [self.view.prefix, self.dir.as_str().as_bytes(), slash, name].concat()
    }

    fn is_known_as_ignored(&self, name: &[u8], is_dir: bool) -> bool {
        let known = self.known.filter(|_| !self.judge);
        known.is_some_and(|known| {
            known
                .ignored
                .binary_search_by(|(other, other_is_dir)| (&**other, *other_is_dir).cmp(&(name, is_dir)))
                .is_ok()
        })
    }

    fn known_file(&self, name: &[u8]) -> Option<&(RelPath, Node)> {
        let files = &self.known?.files;
        let at = files.binary_search_by(|(path, _)| self.name_of(path).cmp(name)).ok()?;
        files.get(at)
    }

    fn known_dir(&self, name: &[u8]) -> Option<&(RelPath, bool)> {
        let dirs = &self.known?.dirs;
        let at = dirs.binary_search_by(|(path, _)| self.name_of(path).cmp(name)).ok()?;
        dirs.get(at)
    }

    /// The last part of a path in this directory.
    fn name_of<'p>(&self, path: &'p RelPath) -> &'p [u8] {
        let skip = self.dir.as_str().len() + usize::from(!self.dir.is_root());
        path.as_str().as_bytes().get(skip..).unwrap_or_default()
    }
}

/// The node for a path that had one before. Its round is kept, so that no earlier stamp comes back.
fn renewed(before: &Node, kind: NodeKind, fields: Fields) -> Node {
    match Fields::in_stamp(&before.stamp) {
        Some((same, _)) if before.kind == kind && same == fields => *before,
        Some((_, round)) => stat::node(kind, fields, round),
        None => stat::node(kind, fields, 0),
    }
}
