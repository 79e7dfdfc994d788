//! `.gitignore` files: reading one, and the chain of them that holds in a directory.
//!
//! Judges names only. What git tracks stays whatever they say; that is `worktree`'s knowledge.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder};
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use tracing::warn;

use super::stat::Fields;

/// The name of the files.
pub(super) const NAME: &[u8] = b".gitignore";

/// Largest file that is read. Real ones have a few kilobytes; anything beyond is taken for an attack.
const MAX_BYTES: u64 = 1 << 20;

/// One `.gitignore` as it was read.
#[derive(Clone, Debug)]
pub(super) struct IgnoreFile {
    fields: Fields,
    /// Read so shortly after its last change that another one may hide behind equal fields.
    racy: bool,
    patterns: Arc<Patterns>,
}

#[derive(Debug)]
struct Patterns {
    text: Box<[u8]>,
    /// `None` where no line is a pattern.
    matcher: Option<Gitignore>,
}

impl IgnoreFile {
    /// Reads the one in `dir`, unless `known` still holds. `None` if there is none that git would read.
    ///
    /// A file that changed at `fresh` (nanoseconds since 1970) or later is read again the next time.
    pub(super) fn load(dir: BorrowedFd<'_>, known: Option<&Self>, fresh: i64) -> Option<Self> {
        let stat = rustix::fs::statat(dir, NAME, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return None;
        }
        let fields = Fields::of(&stat);
        if let Some(known) = known.filter(|known| known.fields == fields && !known.racy) {
            return Some(known.clone());
        }
        let text = match read(dir) {
            Ok(text) => text,
            Err(error) => {
                warn!("a .gitignore cannot be read and is passed over: {error}");
                return None;
            }
        };
        let patterns = match known {
            Some(known) if *known.patterns.text == *text => Arc::clone(&known.patterns),
            _ => Arc::new(Patterns { matcher: parse(&text), text: text.into() }),
        };
        Some(Self { fields, racy: fields.changed >= fresh, patterns })
    }

    /// Whether both say the same.
    pub(super) fn agree(a: Option<&Self>, b: Option<&Self>) -> bool {
        match (a, b) {
            (Some(a), Some(b)) => Arc::ptr_eq(&a.patterns, &b.patterns) || a.patterns.text == b.patterns.text,
            (None, None) => true,
            _ => false,
        }
    }
}

fn read(dir: BorrowedFd<'_>) -> io::Result<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::openat(dir, NAME, flags, Mode::empty())?);
    let mut text = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut text)?;
    if text.len() as u64 > MAX_BYTES {
        return Err(io::Error::other(format!("it is larger than {MAX_BYTES} bytes")));
    }
    Ok(text)
}

fn parse(text: &[u8]) -> Option<Gitignore> {
    let text = String::from_utf8_lossy(text);
    // Paths are given relative to the file's directory, so the root is empty.
    let mut builder = GitignoreBuilder::new("");
    // As git has it, an unclosed class matches nothing.
    builder.allow_unclosed_class(false);
    for line in text.trim_start_matches('\u{feff}').lines() {
        if let Err(error) = builder.add_line(None, line) {
            warn!("a line of a .gitignore is passed over: {error}");
        }
    }
    match builder.build() {
        Ok(matcher) => (!matcher.is_empty()).then_some(matcher),
        Err(error) => {
            warn!("a .gitignore is passed over: {error}");
            None
        }
    }
}

/// The patterns that hold in a directory: its own file, and those of the directories above it.
#[derive(Debug)]
pub(super) struct Rules {
    above: Option<Arc<Rules>>,
    patterns: Arc<Patterns>,
    /// Length of the file's directory, with its slash, in a full path (see [`Rules::ignores`]).
    skip: usize,
}

impl Rules {
    /// Adds a directory's own file to what holds above it.
    pub(super) fn add(above: Option<&Arc<Self>>, own: Option<&IgnoreFile>, skip: usize) -> Option<Arc<Self>> {
        match own {
            Some(own) if own.patterns.matcher.is_some() => {
                let patterns = Arc::clone(&own.patterns);
                Some(Arc::new(Self { above: above.cloned(), patterns, skip }))
            }
            _ => above.cloned(),
        }
    }

    /// Whether `full` is ignored: a path relative to the top of the work tree, or to the source's root where that
    /// lies in none. The file nearest to it decides, in that its last line that matches.
    pub(super) fn ignores(rules: Option<&Arc<Self>>, full: &[u8], is_dir: bool) -> bool {
        let chain = std::iter::successors(rules, |rules| rules.above.as_ref());
        for rules in chain {
            let (Some(matcher), Some(path)) = (&rules.patterns.matcher, full.get(rules.skip..)) else {
                continue;
            };
            match matcher.matched(Path::new(OsStr::from_bytes(path)), is_dir) {
                Match::None => {}
                Match::Ignore(_) => return true,
                Match::Whitelist(_) => return false,
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    fn file(text: &str) -> IgnoreFile {
        let temp = tempfile::tempdir().unwrap();
        std::fs::write(temp.path().join(".gitignore"), text).unwrap();
        let dir = super::super::open::root(temp.path()).unwrap();
        IgnoreFile::load(dir.as_fd(), None, i64::MAX).unwrap()
    }

    #[test]
    fn the_nearest_file_decides_and_in_it_the_last_line() {
        let top = Rules::add(None, Some(&file("*.log\n/build\nout/\n!keep.log\n[a\n")), 0);
        let deep = Rules::add(top.as_ref(), Some(&file("!*.log\n/only\n")), "src/".len());
        let judge = |rules: &Option<Arc<Rules>>, path: &str, is_dir| {
            Rules::ignores(rules.as_ref(), path.as_bytes(), is_dir)
        };
        assert!(judge(&top, "x.log", false) && judge(&top, "src/x.log", false));
        assert!(!judge(&top, "keep.log", false) && !judge(&deep, "src/x.log", false));
        assert!(judge(&top, "build", true) && !judge(&top, "src/build", true));
        assert!(judge(&top, "src/out", true) && !judge(&top, "src/out", false));
        assert!(judge(&deep, "src/only", false) && !judge(&deep, "src/x/only", false));
        assert!(!judge(&top, "[a", false));
    }

    #[test]
    fn a_file_is_read_again_only_when_it_may_have_changed() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join(".gitignore");
        let dir = super::super::open::root(temp.path()).unwrap();
        let load = |known: Option<&IgnoreFile>, fresh| IgnoreFile::load(dir.as_fd(), known, fresh);
        assert!(load(None, i64::MAX).is_none());
        std::fs::write(&path, "a\n").unwrap();
        let first = load(None, i64::MAX).unwrap();
        assert!(!first.racy && load(None, 0).unwrap().racy);
        let same = load(Some(&first), i64::MAX).unwrap();
        assert!(Arc::ptr_eq(&first.patterns, &same.patterns));
        std::fs::write(&path, "b\n").unwrap();
        let second = load(Some(&first), i64::MAX).unwrap();
        assert!(!IgnoreFile::agree(Some(&first), Some(&second)));
        assert!(IgnoreFile::agree(Some(&first), Some(&same)) && !IgnoreFile::agree(Some(&first), None));
    }
}
