//! Puts the many small packs of many fetches into one.
//!
//! Each fetch brings a pack of its own, and a read looks into all of them. The new pack is complete on the disk before
//! an old one is removed, so that everything stays readable whenever this ends. The largest pack, which the first fetch
//! brought, is never rewritten.

use std::fs::{self, File};
use std::io::{self, BufReader, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use gix::ObjectId;
use gix::hash::{Kind, hasher};
use gix::odb::pack;
use gix::progress::Discard;
use gix::zlib;

use super::error::{Trouble, flat};
use super::job::Control;
use super::store::Store;

/// Packs above which they are put together: one for each fetch (DESIGN 4).
pub(super) const MAX_PACKS: usize = 50;

/// A pack with more objects stays as it is: writing it anew would cost more than it brings.
const MAX_OBJECTS: u32 = 100_000;

/// Whether there are more packs than are left alone.
pub(super) fn is_due(store: &Store) -> bool {
    indices(&folder(store)).is_ok_and(|found| found.len() > MAX_PACKS)
}

/// Writes one pack with all objects of the small ones; gives back those that it replaces.
pub(super) fn consolidate(store: &Store, control: &Control) -> Result<Vec<PathBuf>, Trouble> {
    let dir = folder(store);
    let mut packs = Vec::new();
    for index in indices(&dir).map_err(unwritten)? {
        packs.push(pack::Bundle::at(&index, Kind::Sha1).map_err(|error| Trouble::damaged(&error))?);
    }
    packs.sort_by_key(|one| one.index.num_objects());
    packs.pop();
    packs.retain(|one| one.index.num_objects() <= MAX_OBJECTS);
    if packs.len() < 2 {
        return Ok(Vec::new());
    }
    let draft = dir.join(".tmp-consolidated");
    let written = write(&packs, &draft, control).and_then(|()| adopt(&draft, &dir, control));
    // What is left of it is cleared with the stale files.
    let _ = fs::remove_file(&draft);
    let made = written?;
    let old = packs.iter().map(|one| one.index.path().to_owned()).filter(|path| *path != made);
    Ok(old.collect())
}

/// Removes packs that another one replaces.
pub(super) fn remove(indices: &[PathBuf]) {
    for index in indices {
        // The index first: without it the pack is not looked at. What stays is removed the next time.
        let _ = fs::remove_file(index);
        let _ = fs::remove_file(index.with_extension("pack"));
    }
}

fn folder(store: &Store) -> PathBuf {
    store.path().join("objects/pack")
}

fn indices(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|ending| ending == "idx") {
            found.push(path);
        }
    }
    Ok(found)
}

/// Writes every object whole, once.
fn write(packs: &[pack::Bundle], draft: &Path, control: &Control) -> Result<(), Trouble> {
    let mut all: Vec<(ObjectId, usize)> = Vec::new();
    for (number, one) in packs.iter().enumerate() {
        all.extend(one.index.iter().map(|entry| (entry.oid, number)));
    }
    all.sort_unstable();
    all.dedup_by_key(|(id, _)| *id);
    let mut out = Draft::begin(draft, all.len())?;
    let (mut buffer, mut inflate) = (Vec::new(), zlib::Inflate::default());
    for (id, number) in all {
        if control.interrupted().load(Ordering::Relaxed) {
            return Err(Trouble::TimedOut);
        }
        let found = packs[number].find(&id, &mut buffer, &mut inflate, &mut pack::cache::Never);
        let found = found.map_err(|error| Trouble::damaged(&error))?;
        let (object, _) = found.ok_or_else(|| Trouble::lacks("object", id))?;
        out.add(object.kind, object.data)?;
    }
    out.end()
}

/// Puts one pack with these objects into the repository.
pub(super) fn put(
    store: &Store,
    attempt: u64,
    objects: &[(gix::objs::Kind, Vec<u8>)],
    control: &Control,
) -> Result<(), Trouble> {
    let dir = folder(store);
    let draft = dir.join(format!(".tmp-copied-{attempt}"));
    let write = || {
        let mut out = Draft::begin(&draft, objects.len())?;
        objects.iter().try_for_each(|(kind, data)| out.add(*kind, data))?;
        out.end()
    };
    let made = write().and_then(|()| adopt(&draft, &dir, control));
    let _ = fs::remove_file(&draft);
    made.map(drop)
}

/// A pack that is being written: every object whole.
struct Draft(Hashed);

impl Draft {
    fn begin(at: &Path, count: usize) -> Result<Self, Trouble> {
        let count = u32::try_from(count).map_err(|error| unwritten(io::Error::other(error)))?;
        let file = io::BufWriter::new(File::create(at).map_err(unwritten)?);
        let mut out = Hashed { hasher: hasher(Kind::Sha1), file };
        out.write_all(&pack::data::header::encode(pack::data::Version::V2, count)).map_err(unwritten)?;
        Ok(Self(out))
    }

    fn add(&mut self, kind: gix::objs::Kind, data: &[u8]) -> Result<(), Trouble> {
        let header = match kind {
            gix::objs::Kind::Commit => pack::data::entry::Header::Commit,
            gix::objs::Kind::Tree => pack::data::entry::Header::Tree,
            gix::objs::Kind::Blob => pack::data::entry::Header::Blob,
            gix::objs::Kind::Tag => pack::data::entry::Header::Tag,
        };
        header.write_to(data.len() as u64, &mut self.0).map_err(unwritten)?;
        let mut deflate = zlib::stream::deflate::Write::new(&mut self.0, zlib::Compression::BEST_SPEED);
        deflate.write_all(data).and_then(|()| deflate.flush()).map_err(unwritten)
    }

    fn end(self) -> Result<(), Trouble> {
        let Hashed { hasher, mut file } = self.0;
        let id = hasher.try_finalize().map_err(|error| Trouble::damaged(&error))?;
        file.write_all(id.as_slice()).and_then(|()| file.flush()).map_err(unwritten)
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it is what `map_err` gives")]
fn unwritten(error: io::Error) -> Trouble {
    Trouble::StoreDamaged(format!("cannot write a pack: {error}"))
}

/// Reads the draft back, checks every object, and puts it beside the others under its name, with an index.
fn adopt(draft: &Path, dir: &Path, control: &Control) -> Result<PathBuf, Trouble> {
    let file =
        File::open(draft).map_err(|error| Trouble::StoreDamaged(format!("cannot read a pack: {error}")))?;
    let options = pack::bundle::write::Options { thread_limit: Some(1), ..Default::default() };
    let none: Option<gix::objs::find::Never> = None;
    let made = pack::Bundle::write_to_directory(
        &mut BufReader::new(file),
        Some(dir),
        &mut Discard,
        control.interrupted(),
        none,
        Kind::Sha1,
        options,
    );
    let made = made.map_err(|error| Trouble::StoreDamaged(flat(&error)))?;
    if let Some(keep) = made.keep_path {
        let _ = fs::remove_file(keep);
    }
    made.index_path.ok_or_else(|| Trouble::StoreDamaged("a pack was written to no place".to_owned()))
}

/// Writes to a file, and knows the hash of what was written.
struct Hashed {
    hasher: gix::hash::Hasher,
    file: io::BufWriter<File>,
}

impl Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
