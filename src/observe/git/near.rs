//! Copies what a push brought from a repository on this machine, where git would start three programs for it.
//!
//! Only a few objects that lead to what is here already, each checked against its id; whatever is odd, large or not to be
//! read is left to a fetch, which also says what is wrong. Never writes to the other repository and runs nothing.

use std::collections::HashSet;
use std::path::Path;

use gix::objs::{CommitRef, Exists, Find, FindHeader, Kind, TagRefIter, TreeRefIter};
use gix::{ObjectId, OdbHandle, Repository};

use super::fetch::is_foreign;
use super::job::Control;
use super::store::{self, Store};
use super::{pack, probe};

/// Objects that are copied at most: above, git's own pack costs less.
const MOST_OBJECTS: usize = 10_000;

/// Bytes that are copied at most; they are in memory at a time.
const MOST_BYTES: u64 = 32 << 20;

/// Why nothing was copied.
pub(super) enum Left {
    /// It is a fetch's.
    Fetch,
    /// An object there is missing or is not what its id says: a fetch will fail, and say less of it.
    Damaged(ObjectId),
}

/// Brings the object at which a ref of the repository at `path` was seen, and all that it leads to, into ours; gives
/// back the commit.
pub(super) fn copy(
    path: &Path,
    seen: ObjectId,
    ours: &Repository,
    store: &Store,
    attempt: u64,
    control: &Control,
) -> Result<ObjectId, Left> {
    // git reads no repository of somebody else, unless it is told to.
    let dir = probe::git_dir(path).filter(|dir| !is_foreign(path) && !is_foreign(dir)).ok_or(Left::Fetch)?;
    let theirs = store::open_other(&dir).map_err(|_| Left::Fetch)?.to_thread_local();
    let mut here = ours.objects.clone();
    // What is not found is copied, and not looked for again on the disk.
    here.refresh_never();
    let mut copy = Copy {
        theirs: &theirs.objects,
        ours: here,
        todo: vec![seen],
        met: HashSet::new(),
        objects: Vec::new(),
        bytes: 0,
    };
    copy.collect(control)?;
    if !copy.objects.is_empty() {
        pack::put(store, attempt, &copy.objects, control).map_err(|_| Left::Fetch)?;
    }
    let commit = store::peel(ours, seen).ok().flatten().ok_or(Left::Fetch)?;
    ours.find_commit(commit).map_err(|_| Left::Fetch).map(|_| commit)
}

struct Copy<'a> {
    theirs: &'a OdbHandle,
    ours: OdbHandle,
    todo: Vec<ObjectId>,
    met: HashSet<ObjectId>,
    objects: Vec<(Kind, Vec<u8>)>,
    bytes: u64,
}

impl Copy<'_> {
    /// Reads whatever is there and not here. What is here is whole: packs come with all that they lead to.
    fn collect(&mut self, control: &Control) -> Result<(), Left> {
        while let Some(id) = self.todo.pop() {
            if !self.met.insert(id) || self.ours.exists(&id) {
                continue;
            }
            if id.is_empty_tree() {
                // git knows it without having it.
                self.objects.push((Kind::Tree, Vec::new()));
                continue;
            }
            let damaged = || Left::Damaged(id);
            self.bytes += self.theirs.try_header(&id).ok().flatten().ok_or_else(damaged)?.size;
            if control.is_abandoned() || self.objects.len() == MOST_OBJECTS || self.bytes > MOST_BYTES {
                return Err(Left::Fetch);
            }
            let mut bytes = Vec::new();
            let found = self.theirs.try_find(&id, &mut bytes).ok().flatten().ok_or_else(damaged)?;
            found.verify_checksum(&id).map_err(|_| damaged())?;
            let kind = found.kind;
            self.lead_on(kind, &bytes, id.kind()).ok_or_else(damaged)?;
            self.objects.push((kind, bytes));
        }
        Ok(())
    }

    fn lead_on(&mut self, kind: Kind, bytes: &[u8], hash: gix::hash::Kind) -> Option<()> {
        match kind {
            Kind::Blob => {}
            Kind::Tag => self.todo.push(TagRefIter::from_bytes(bytes, hash).target_id().ok()?),
            Kind::Commit => {
                let commit = CommitRef::from_bytes(bytes, hash).ok()?;
                self.todo.push(commit.tree());
                self.todo.extend(commit.parents());
            }
            Kind::Tree => {
                for entry in TreeRefIter::from_bytes(bytes, hash) {
                    let entry = entry.ok()?;
                    // What a submodule is at is no object of this repository.
                    if !entry.mode.is_commit() {
                        self.todo.push(entry.oid.to_owned());
                    }
                }
            }
        }
        Some(())
    }
}
