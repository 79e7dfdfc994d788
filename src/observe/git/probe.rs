//! Looks at the refs of a repository on this machine without asking git: a poll that finds nothing costs two small
//! files. Never writes, never reads an object.

use std::path::{Path, PathBuf};

use gix::bstr::{BStr, ByteSlice};
use gix::refs::file::Store;
use gix::refs::{FullName, Target};
use gix::{ObjectId, hash};
use semver::VersionReq;

use super::reference::{Followed, TAGS, highest};

/// Links between refs that are followed; git follows five as well.
const MAX_LINKS: usize = 5;

/// What a look found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Probe {
    /// The ref is at this object, which for a tag may be a tag's own.
    At(ObjectId),
    /// There is nothing at the path.
    Gone,
    /// Not to be told so simply: a fetch must find out.
    Unsure,
}

/// Reads the ref that is followed in the repository at `path`.
pub(super) fn look(path: &Path, followed: &Followed) -> Probe {
    let Some(git_dir) = git_dir(path) else {
        return if path.exists() { Probe::Unsure } else { Probe::Gone };
    };
    let options = gix::refs::store::init::Options::default();
    let store = Store::at_opts(git_dir, hash::Kind::Sha1, options);
    let found = match followed {
        Followed::Head => FullName::try_from("HEAD").ok().and_then(|head| read(&store, head)),
        Followed::Ref(name) => read(&store, name.clone()),
        Followed::Highest(range) => read_highest(&store, range),
        Followed::Commit(id) => Some(*id),
    };
    found.map_or(Probe::Unsure, Probe::At)
}

/// The folder that holds the refs, for the layouts whose refs are plain files there.
pub(super) fn git_dir(path: &Path) -> Option<PathBuf> {
    let holds_refs = |dir: &Path| dir.join("HEAD").is_file() && dir.join("refs").is_dir();
    let inner = path.join(".git");
    if holds_refs(path) { Some(path.to_owned()) } else { holds_refs(&inner).then_some(inner) }
}

fn read_highest(store: &Store, range: &VersionReq) -> Option<ObjectId> {
    let refs = store.iter().ok()?;
    let tags = refs.prefixed(BStr::new(TAGS).try_into().ok()?).ok()?.filter_map(|tag| {
        let tag = tag.ok()?;
        let Target::Object(id) = tag.target else { return None };
        let name = tag.name.as_bstr().strip_prefix(TAGS.as_bytes())?;
        Some((name.to_str().ok()?.to_owned(), id))
    });
    highest(range, tags).map(|(_, id)| id)
}

fn read(store: &Store, mut name: FullName) -> Option<ObjectId> {
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
