//! Makes the folder of a version and checks one that is there. Blocking; never follows a link out of the folder.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs::{self, DirBuilder, File, FileTimes, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps};

use super::ActError;
use super::folder::BlobSource;
use crate::model::hash::{ContentHash, UnitHash};
use crate::model::unit::{FileMode, UnitFile, Version};
use crate::plan::hash::content;

/// The time of last change that every file gets, in seconds since 1970: a file with another one was written to.
/// Not 0, which some programs take for "unknown"; within 32 bits, as Python's cache files keep it.
const MODIFIED: i64 = 1_000_000_000;

/// Why a folder could not be made.
enum Failure {
    Blob(ContentHash),
    Io(io::Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Sees to it that `path` is the folder of `version`: makes it, or makes it again where somebody changed it. One
/// caller at a time within this process.
pub(super) fn ensure(
    version: &Version,
    root: &Path,
    path: &Path,
    blobs: &dyn BlobSource,
) -> Result<(), ActError> {
    try_ensure(version, root, path, blobs).map_err(|failure| match failure {
        Failure::Blob(hash) => ActError::Blob { unit: version.unit.clone(), hash: hash.to_string() },
        Failure::Io(source) => ActError::Folder { unit: version.unit.clone(), path: path.to_owned(), source },
    })
}

fn try_ensure(version: &Version, root: &Path, path: &Path, blobs: &dyn BlobSource) -> Result<(), Failure> {
    if is_there(path)? {
        if is_whole(version, path)? {
            return Ok(());
        }
        tracing::warn!(unit = %version.unit, hash = %version.hash.short(), "a version's folder was changed; it is made again");
        fs::rename(path, sibling(root, version.hash, Kind::Aside)?)?;
    }
    DirBuilder::new().recursive(true).mode(0o700).create(root)?;
    let temporary = sibling(root, version.hash, Kind::Temporary)?;
    let made = fill(version, &temporary, blobs).and_then(|()| put_in_place(version, &temporary, path));
    if made.is_err() {
        let _ = fs::remove_dir_all(&temporary);
    }
    made
}

fn put_in_place(version: &Version, temporary: &Path, path: &Path) -> Result<(), Failure> {
    match fs::rename(temporary, path) {
        // Another process was faster: what it made is as good, if it is whole.
        Err(error) if is_taken(&error) && is_whole(version, path)? => Ok(fs::remove_dir_all(temporary)?),
        renamed => Ok(renamed?),
    }
}

/// What `rename` says of a directory that is there and not empty depends on the file system.
fn is_taken(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists)
}

fn fill(version: &Version, folder: &Path, blobs: &dyn BlobSource) -> Result<(), Failure> {
    check_links(&version.files, blobs)?;
    make_dir(folder)?;
    for dir in directories(&version.files) {
        make_dir(&folder.join(dir))?;
    }
    let mut copier = Copier { blobs, clones: true, buffer: Vec::new() };
    // Links come last: while files are made there is none in the folder that could be followed.
    let (links, files): (Vec<_>, Vec<_>) = version.files.iter().partition(|file| file.mode == FileMode::Link);
    for file in files {
        copier.copy(file, &folder.join(file.path.as_str()))?;
    }
    for link in links {
        let at = folder.join(link.path.as_str());
        symlink(target(link, blobs)?, &at)?;
        let time = Timespec { tv_sec: MODIFIED, tv_nsec: 0 };
        let times = Timestamps { last_access: time, last_modification: time };
        rustix::fs::utimensat(CWD, &at, &times, AtFlags::SYMLINK_NOFOLLOW).map_err(io::Error::from)?;
    }
    Ok(())
}

/// With its mode set outright: the umask of kindling is no part of a version.
fn make_dir(dir: &Path) -> io::Result<()> {
    fs::create_dir(dir)?;
    fs::set_permissions(dir, Permissions::from_mode(0o755))
}

/// Every directory between the folder and its files, upper ones first.
fn directories(files: &[UnitFile]) -> BTreeSet<&str> {
    let mut dirs = BTreeSet::new();
    for file in files {
        let mut path = file.path.as_str();
        while let Some((dir, _)) = path.rsplit_once('/') {
            if !dirs.insert(dir) {
                break;
            }
            path = dir;
        }
    }
    dirs
}

/// Copies stored files, by reference where the file system can.
struct Copier<'a> {
    blobs: &'a dyn BlobSource,
    /// Whether sharing of data worked so far.
    clones: bool,
    buffer: Vec<u8>,
}

impl Copier<'_> {
    fn copy(&mut self, file: &UnitFile, to: &Path) -> Result<(), Failure> {
        let stored = open(file, self.blobs)?;
        let mut made = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(to)?;
        self.clones = self.clones && rustix::fs::ioctl_ficlone(&made, &stored).is_ok();
        // What is verified is what stays: the clone itself, or the bytes that are written.
        let verified = if self.clones { &made } else { &stored };
        read_verified(file, verified, &mut self.buffer)?;
        if !self.clones {
            made.write_all(&self.buffer)?;
        }
        made.set_permissions(Permissions::from_mode(mode_bits(file.mode)))?;
        let modified = UNIX_EPOCH + Duration::from_secs(MODIFIED.unsigned_abs());
        Ok(made.set_times(FileTimes::new().set_modified(modified))?)
    }
}

fn open(file: &UnitFile, blobs: &dyn BlobSource) -> Result<File, Failure> {
    blobs.open(&file.hash).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Failure::Blob(file.hash),
        _ => Failure::Io(error),
    })
}

/// Reads at most one byte more than the file has, so that a damaged store costs no memory.
fn read_verified(file: &UnitFile, from: &File, buffer: &mut Vec<u8>) -> Result<(), Failure> {
    buffer.clear();
    from.take(file.size + 1).read_to_end(buffer)?;
    let whole = u64::try_from(buffer.len()) == Ok(file.size) && content(buffer) == file.hash;
    if whole { Ok(()) } else { Err(Failure::Blob(file.hash)) }
}

fn target(link: &UnitFile, blobs: &dyn BlobSource) -> Result<String, Failure> {
    let mut bytes = Vec::new();
    read_verified(link, &open(link, blobs)?, &mut bytes)?;
    String::from_utf8(bytes).map_err(|_| Failure::Blob(link.hash))
}

fn mode_bits(mode: FileMode) -> u32 {
    if mode == FileMode::Executable { 0o755 } else { 0o644 }
}

/// Refuses links that are absolute or would lead out of the folder, also through other links.
fn check_links(files: &[UnitFile], blobs: &dyn BlobSource) -> Result<(), Failure> {
    let mut links = BTreeMap::new();
    for link in files.iter().filter(|file| file.mode == FileMode::Link) {
        links.insert(link.path.as_str(), target(link, blobs)?);
    }
    match links.keys().find(|path| !stays_inside(path, &links)) {
        Some(path) => Err(io::Error::other(format!("the link {path} leads out of the unit")).into()),
        None => Ok(()),
    }
}

/// Walks where the kernel would walk: `..` leaves the directory that was really reached.
fn stays_inside(link: &str, links: &BTreeMap<&str, String>) -> bool {
    // As many as the kernel follows in one path.
    const MOST_LINKS: usize = 40;
    let mut todo: VecDeque<&str> = link.split('/').collect();
    let mut at: Vec<&str> = Vec::new();
    let mut followed = 0;
    while let Some(part) = todo.pop_front() {
        match part {
            "" | "." => continue,
            ".." if at.pop().is_none() => return false,
            ".." => continue,
            name => at.push(name),
        }
        let Some(target) = links.get(at.join("/").as_str()) else { continue };
        followed += 1;
        if target.starts_with('/') || target.is_empty() || target.contains('\0') || followed > MOST_LINKS {
            return false;
        }
        at.pop();
        for part in target.split('/').rev() {
            todo.push_front(part);
        }
    }
    true
}

fn is_there(path: &Path) -> io::Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether every file of the version is as it was made, by its `lstat`; what else lies in the folder is no concern.
fn is_whole(version: &Version, folder: &Path) -> io::Result<bool> {
    let is_dir = |path: &Path| fs::symlink_metadata(path).is_ok_and(|meta| meta.is_dir());
    if !is_dir(folder) || !directories(&version.files).iter().all(|dir| is_dir(&folder.join(dir))) {
        return Ok(false);
    }
    for file in version.files.iter() {
        match is_as_made(file, &folder.join(file.path.as_str())) {
            Ok(true) => {}
            Ok(false) => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

fn is_as_made(file: &UnitFile, path: &Path) -> io::Result<bool> {
    let meta = fs::symlink_metadata(path)?;
    if meta.size() != file.size || meta.mtime() != MODIFIED || meta.mtime_nsec() != 0 {
        return Ok(false);
    }
    if file.mode == FileMode::Link {
        use std::os::unix::ffi::OsStrExt;
        return Ok(meta.is_symlink() && content(fs::read_link(path)?.as_os_str().as_bytes()) == file.hash);
    }
    Ok(meta.is_file() && meta.mode() & 0o7777 == mode_bits(file.mode))
}

/// A name beside the folders that is no folder of a version.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    /// It is being made.
    Temporary,
    /// It was a folder, and waits for its removal.
    Aside,
}

/// A fresh name for `hash` beside its folder.
pub(super) fn sibling(root: &Path, hash: UnitHash, kind: Kind) -> io::Result<PathBuf> {
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(io::Error::other)?;
    let prefix = match kind {
        Kind::Temporary => TEMPORARY,
        Kind::Aside => ASIDE,
    };
    Ok(root.join(format!("{prefix}{hash}-{:016x}", u64::from_be_bytes(random))))
}

const TEMPORARY: &str = ".tmp-";
const ASIDE: &str = ".aside-";

/// The version that a name in the root belongs to, and whether it is its folder; `None` for what kindling never
/// made.
pub(super) fn hash_of_name(name: &str) -> Option<(UnitHash, bool)> {
    if let Ok(hash) = name.parse() {
        return Some((hash, true));
    }
    let rest = name.strip_prefix(TEMPORARY).or_else(|| name.strip_prefix(ASIDE))?;
    let (hash, random) = rest.split_once('-')?;
    let is_random = random.len() == 16 && random.bytes().all(|byte| byte.is_ascii_hexdigit());
    hash.parse().ok().filter(|_| is_random).map(|hash| (hash, false))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_followed_as_the_kernel_would() {
        let check = |links: &[(&str, &str)]| {
            let all: BTreeMap<&str, String> = links.iter().map(|(at, to)| (*at, (*to).to_owned())).collect();
            all.keys().all(|link| stays_inside(link, &all))
        };
        assert!(check(&[("a/x", "../b/y"), ("c", "a/./x"), ("d", "gone/../b")]));
        assert!(check(&[("dir", "a"), ("z", "dir/x")]));
        for bad in [
            &[("x", "/etc/passwd")][..],
            &[("x", "..")],
            &[("a/x", "../../y")],
            &[("a/x", "b/../../../y")],
            // Each looks as if it stayed inside; together they leave.
            &[("a/b/c/d", "../../../e"), ("a/b/c/x", "d/../../secret")],
            &[("x", "y"), ("y", "x")],
            &[("x", "")],
        ] {
            assert!(!check(bad), "{bad:?}");
        }
    }

    #[test]
    fn knows_its_own_names() {
        let hash = UnitHash::new([7; 32]);
        for kind in [Kind::Temporary, Kind::Aside] {
            let path = sibling(Path::new("/r"), hash, kind).unwrap();
            assert_eq!(hash_of_name(path.file_name().unwrap().to_str().unwrap()), Some((hash, false)));
        }
        assert_eq!(hash_of_name(&hash.to_string()), Some((hash, true)));
        for other in ["", "lost+found", ".tmp-x", &format!(".tmp-{hash}-precious"), &format!("{hash}.bak")] {
            assert_eq!(hash_of_name(other), None, "{other}");
        }
    }
}
