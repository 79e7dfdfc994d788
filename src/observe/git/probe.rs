//! Looks at the refs of a repository on this machine without asking git: a poll that finds nothing costs two small
//! files. Never writes, never reads an object.

use std::path::{Path, PathBuf};

use gix::refs::file::Store;
use gix::refs::{FullName, Target};
use gix::{ObjectId, hash};

/// Links between refs that are followed; git follows five as well.
const MAX_LINKS: usize = 5;

/// What a look found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Probe {
    /// The branch is at this commit.
    At(ObjectId),
    /// There is nothing at the path.
    Gone,
    /// Not to be told so simply: a fetch must find out.
    Unsure,
}

/// Reads the ref of `branch`, or the one that HEAD names, in the repository at `path`.
pub(super) fn look(path: &Path, branch: Option<&FullName>) -> Probe {
    let Some(git_dir) = git_dir(path) else {
        return if path.exists() { Probe::Unsure } else { Probe::Gone };
    };
    let options = gix::refs::store::init::Options::default();
    let store = Store::at_opts(git_dir, hash::Kind::Sha1, options);
    read(&store, branch).map_or(Probe::Unsure, Probe::At)
}

/// The folder that holds the refs, for the layouts whose refs are plain files there.
fn git_dir(path: &Path) -> Option<PathBuf> {
    let holds_refs = |dir: &Path| dir.join("HEAD").is_file() && dir.join("refs").is_dir();
    let inner = path.join(".git");
    if holds_refs(path) { Some(path.to_owned()) } else { holds_refs(&inner).then_some(inner) }
}

fn read(store: &Store, branch: Option<&FullName>) -> Option<ObjectId> {
    let mut name = match branch {
        Some(branch) => branch.clone(),
        None => FullName::try_from("HEAD").ok()?,
    };
    for _ in 0..=MAX_LINKS {
        let found = store.try_find(name.as_ref().as_partial_name()).ok()??;
        // gix also looks for the name in other places, as git does for abbreviations.
        if found.name != name {
            return None;
        }
        match found.target {
            Target::Object(id) => return Some(id),
            Target::Symbolic(next) => name = next,
        }
    }
    None
}
