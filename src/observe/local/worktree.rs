//! The git work tree around a source's root: what its index tracks, and the `.gitignore` files above the root.
//!
//! Reads two things of git's: where the index is, and the index. Never writes, never runs git.

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use gix::index::entry::Mode;

use super::ignore::{IgnoreFile, Rules};
use super::open;
use super::stat::Fields;

/// The work tree that a source's root lies in.
#[derive(Debug)]
pub(super) struct WorkTree {
    top: PathBuf,
    git_dir: PathBuf,
    /// Read when something ignored is found for the first time.
    tracked: OnceLock<Tracked>,
}

#[derive(Debug, Default)]
struct Tracked {
    /// Of the index when it was read; `None` where there is none.
    fields: Option<Fields>,
    /// Relative to the top, in byte order.
    paths: Vec<Box<[u8]>>,
    /// Why the index could not be read.
    trouble: Option<String>,
}

impl WorkTree {
    /// The nearest one at `root` or above it.
    fn around(root: &Path) -> Option<Self> {
        root.ancestors().find_map(|top| {
            let git_dir = git_dir(top)?;
            Some(Self { top: top.to_path_buf(), git_dir, tracked: OnceLock::new() })
        })
    }

    /// Whether the index has the file at `full`, a path relative to the top.
    pub(super) fn tracks(&self, full: &[u8]) -> bool {
        self.tracked().paths.binary_search_by(|path| (**path).cmp(full)).is_ok()
    }

    /// Whether the index has a file below the directory `full`.
    pub(super) fn tracks_below(&self, full: &[u8]) -> bool {
        let paths = &self.tracked().paths;
        let is_below =
            |path: &[u8]| path.len() > full.len() && path.starts_with(full) && path[full.len()] == b'/';
        let first = paths.partition_point(|path| {
            // Compares with `full/` without building it.
            path.iter().lt(full.iter().chain(b"/"))
        });
        paths.get(first).is_some_and(|path| is_below(path))
    }

    fn tracked(&self) -> &Tracked {
        self.tracked.get_or_init(|| Tracked::read(&self.index()))
    }

    fn index(&self) -> PathBuf {
        self.git_dir.join("index")
    }

    /// Reads the index again if it was read and is another file now. Gives back whether it tracks other paths.
    fn refresh(&mut self) -> bool {
        let index = self.index();
        let Some(known) = self.tracked.get_mut() else { return false };
        if known.trouble.is_none() && known.fields == fields(&index) {
            return false;
        }
        let mut now = Tracked::read(&index);
        if now.trouble.is_some() {
            // Rather what was true a moment ago than to drop what is tracked.
            now.paths = std::mem::take(&mut known.paths);
            *known = now;
            return false;
        }
        let differs = now.paths != known.paths;
        *known = now;
        differs
    }
}

impl Tracked {
    fn read(index: &Path) -> Self {
        let fields = fields(index);
        if fields.is_none() {
            return Self::default();
        }
        match gix::index::File::at(index, gix::hash::Kind::Sha1, true, gix::index::decode::Options::default())
        {
            Ok(index) => {
                let files = index.entries().iter().filter(|entry| entry.mode != Mode::COMMIT);
                let mut paths: Vec<Box<[u8]>> = files.map(|entry| Box::from(&**entry.path(&index))).collect();
                // The stages of a conflict have one path.
                paths.dedup();
                Self { fields, paths, trouble: None }
            }
            Err(error) => {
                let trouble = format!(
                    "the index {} cannot be read ({error}), so files that .gitignore matches are left out even if \
                     they are tracked",
                    index.display()
                );
                Self { fields, paths: Vec::new(), trouble: Some(trouble) }
            }
        }
    }
}

fn fields(file: &Path) -> Option<Fields> {
    rustix::fs::stat(file).ok().map(|stat| Fields::of(&stat))
}

/// Where the repository of the work tree at `top` is; `None` if there is no work tree.
fn git_dir(top: &Path) -> Option<PathBuf> {
    let dot_git = top.join(".git");
    let git_dir = if fs::metadata(&dot_git).ok()?.is_dir() {
        dot_git
    } else {
        // A linked work tree, or a submodule.
        let text = fs::read_to_string(&dot_git).ok()?;
        top.join(text.strip_prefix("gitdir:")?.trim())
    };
    git_dir.join("HEAD").is_file().then_some(git_dir)
}

/// What is outside of a source's root and has a say in what its tree holds.
#[derive(Debug, Default)]
pub(super) struct Outside {
    /// The work tree around the root.
    pub work_tree: Option<WorkTree>,
    /// The root relative to the top of the work tree, with a slash at its end; empty if it is the top.
    pub prefix: Vec<u8>,
    /// The `.gitignore` of each directory from the top to the one above the root.
    files: Vec<(PathBuf, Option<IgnoreFile>)>,
    /// What they say together.
    pub rules: Option<Arc<Rules>>,
    /// Whether they ignore the root: then only what is tracked counts.
    pub excluded: bool,
}

impl Outside {
    /// Looks again. Gives back whether anything that was judged by what was there before may be judged otherwise.
    pub(super) fn refresh(&mut self, root: &Path, fresh: i64) -> bool {
        let mut differs = self.find(root);
        for (dir, known) in &mut self.files {
            let now =
                open::root(dir).ok().and_then(|dir| IgnoreFile::load(dir.as_fd(), known.as_ref(), fresh));
            differs |= !IgnoreFile::agree(known.as_ref(), now.as_ref());
            *known = now;
        }
        differs |= self.work_tree.as_mut().is_some_and(WorkTree::refresh);
        if differs {
            self.judge_root();
        }
        differs
    }

    /// Finds the work tree. Gives back whether it is another one than before.
    fn find(&mut self, root: &Path) -> bool {
        let found = WorkTree::around(root);
        let place = |tree: &WorkTree| (tree.top.clone(), tree.git_dir.clone());
        let prefix = found.as_ref().and_then(|tree| root.strip_prefix(&tree.top).ok());
        let prefix = prefix.map(|rest| rest.as_os_str().as_bytes().to_vec()).unwrap_or_default();
        let prefix = if prefix.is_empty() { prefix } else { [&prefix[..], b"/"].concat() };
        if found.as_ref().map(place) == self.work_tree.as_ref().map(place) && prefix == self.prefix {
            return false;
        }
        let top = found.as_ref().map(|tree| tree.top.as_path());
        let above = top.map(|top| root.ancestors().skip(1).take_while(move |dir| dir.starts_with(top)));
        self.files = above.into_iter().flatten().map(|dir| (dir.to_path_buf(), None)).collect();
        self.files.reverse();
        (self.work_tree, self.prefix) = (found, prefix);
        true
    }

    /// Puts the files' patterns together. A root that they ignore counts only by what is tracked in it; if nothing
    /// is, the person who named it as a source means it all the same, and they have no say.
    fn judge_root(&mut self) {
        (self.rules, self.excluded) = (None, false);
        let mut skip = 0;
        for (_, file) in &self.files {
            self.rules = Rules::add(self.rules.as_ref(), file.as_ref(), skip);
            let part = self.prefix[skip..].iter().position(|byte| *byte == b'/').unwrap_or(0);
            if Rules::ignores(self.rules.as_ref(), &self.prefix[..skip + part], true) {
                let root = self.prefix.strip_suffix(b"/").unwrap_or_default();
                self.excluded = self.work_tree.as_ref().is_some_and(|tree| tree.tracks_below(root));
                self.rules = None;
                return;
            }
            skip += part + 1;
        }
    }

    /// The directories above the root whose `.gitignore` matters.
    pub(super) fn dirs(&self) -> BTreeSet<PathBuf> {
        self.files.iter().map(|(dir, _)| dir.clone()).collect()
    }

    /// The folder that git keeps its locks in.
    pub(super) fn git_dir(&self) -> Option<PathBuf> {
        self.work_tree.as_ref().map(|tree| tree.git_dir.clone())
    }

    /// What keeps the index from being read.
    pub(super) fn trouble(&self) -> Option<String> {
        self.work_tree.as_ref()?.tracked.get()?.trouble.clone()
    }
}
