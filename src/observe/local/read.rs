//! Reads files, so that what is hashed, kept and given back are the same bytes, and no link leads out of the root.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{AtFlags, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::memory::Moment;
use super::observer::Observer;
use super::open;
use super::stat::{self, Fields};
use crate::model::path::RelPath;
use crate::model::tree::{Content, NodeKind};
use crate::observe::{ObserveError, ReadRefusal, Reading, STORE_FAILED, Sink, Want};
use crate::plan::hash;

/// How often a file that moves is read before it is refused.
const ATTEMPTS: usize = 4;

/// Fewer files than this are read faster by one thread than by two.
const WORTH_A_THREAD: usize = 64;

impl Observer {
    /// Reads files; see [`crate::observe::Source::read`].
    pub(super) fn read(&mut self, wants: &[Want], sink: &Sink) -> Result<Vec<Reading>, ObserveError> {
        let moment = Moment::new(self.clock.now_ms());
        let root = self.find_root()?;
        let done = read_all(root.fd.as_fd(), wants, sink).map_err(|error| ObserveError {
            reason: STORE_FAILED,
            message: format!("what was read from {} cannot be stored", self.options.root.display()),
            stalled: false,
            source: Some(error.into()),
        })?;
        Ok(done.into_iter().map(|done| self.compare(done, moment)).collect())
    }

    /// What was read is not what the tree says: the next observation has to look there.
    fn compare(&mut self, done: Done, moment: Moment) -> Reading {
        let Done { reading, fields } = done;
        let path = &reading.path;
        let is_as_told = match (&reading.content, fields) {
            (_, Some(fields)) => self.memory.was_read(path, fields, moment),
            (Err(ReadRefusal::Gone), None) => self.memory.tree().get(path).is_none(),
            (Err(ReadRefusal::Moving), None) => false,
            (_, None) => true,
        };
        if !is_as_told && let Some(dir) = path.parent() {
            self.shared.touch(dir, path);
        }
        reading
    }
}

/// A file that was read, and what `lstat` said of it; `None` if it could not be told.
struct Done {
    reading: Reading,
    fields: Option<Fields>,
}

fn read_all(root: BorrowedFd<'_>, wants: &[Want], sink: &Sink) -> io::Result<Vec<Done>> {
    if wants.len() < WORTH_A_THREAD {
        return read_on_this_thread(root, wants, sink);
    }
    let (ours, theirs) = wants.split_at(wants.len() / 2);
    let (ours, theirs) = std::thread::scope(|scope| {
        let theirs = scope.spawn(|| read_on_this_thread(root, theirs, sink));
        (read_on_this_thread(root, ours, sink), theirs.join())
    });
    let theirs = theirs.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    let mut all = ours?;
    all.extend(theirs?);
    Ok(all)
}

fn read_on_this_thread(root: BorrowedFd<'_>, wants: &[Want], sink: &Sink) -> io::Result<Vec<Done>> {
    let mut reader = Reader { root, dir: None };
    let one = |want| {
        let got = reader.get(want);
        let fields = got.as_ref().ok().map(|(_, fields)| *fields);
        let (content, bytes) = match got {
            Ok((found, _)) => {
                let found = found.content(want, sink)?;
                (found.0, found.1)
            }
            Err(refusal) => (Err(refusal), None),
        };
        Ok(Done { reading: Reading { path: want.path.clone(), content, bytes }, fields })
    };
    wants.iter().map(one).collect()
}

/// What stood at a path.
enum Got {
    File(Vec<u8>),
    Link(Vec<u8>),
    TooLarge(u64),
}

type Answer = (Result<Content, ReadRefusal>, Option<Arc<[u8]>>);

impl Got {
    fn content(self, want: &Want, sink: &Sink) -> io::Result<Answer> {
        let (bytes, target) = match self {
            Self::TooLarge(size) => return Ok((Err(ReadRefusal::TooLarge { size, max: want.max }), None)),
            Self::File(bytes) => (bytes, None),
            Self::Link(bytes) => match String::from_utf8(bytes) {
                Ok(target) => (target.clone().into_bytes(), Some(target)),
                Err(_) => {
                    return Ok((Err(ReadRefusal::Failed("its target is not valid UTF-8".into())), None));
                }
            },
        };
        let hash = hash::content(&bytes);
        sink(&hash, &bytes)?;
        let content = Content { hash, size: bytes.len() as u64, target };
        Ok((Ok(content), want.bytes.then(|| bytes.into())))
    }
}

/// Reads files below a root, one after another.
struct Reader<'a> {
    root: BorrowedFd<'a>,
    /// The directory of the file before, which often is that of the next.
    dir: Option<(RelPath, OwnedFd)>,
}

impl Reader<'_> {
    fn get(&mut self, want: &Want) -> Result<(Got, Fields), ReadRefusal> {
        let (Some(dir), Some(name)) = (want.path.parent(), want.path.name()) else {
            return Err(ReadRefusal::Failed("it is a directory".into()));
        };
        let dir = self.dir(dir).map_err(refusal)?;
        for _ in 0..ATTEMPTS {
            if let Some(got) = attempt(dir, name, want.max)? {
                return Ok(got);
            }
        }
        Err(ReadRefusal::Moving)
    }

    fn dir(&mut self, dir: RelPath) -> Result<BorrowedFd<'_>, Errno> {
        if self.dir.as_ref().is_none_or(|(open, _)| *open != dir) {
            let fd = open::dir(self.root, &dir)?;
            self.dir = Some((dir, fd));
        }
        self.dir.as_ref().map(|(_, fd)| fd.as_fd()).ok_or(Errno::NOENT)
    }
}

/// Reads what stands at `name`. `None` if it changed meanwhile.
fn attempt(dir: BorrowedFd<'_>, name: &str, max: u64) -> Result<Option<(Got, Fields)>, ReadRefusal> {
    let before = look(dir, name)?;
    let fields = Fields::of(&before);
    match stat::kind(&before) {
        None => Err(ReadRefusal::Gone),
        Some(NodeKind::Link) => {
            let target = match rustix::fs::readlinkat(dir, name, Vec::new()) {
                Ok(target) => target.into_bytes(),
                // It is no link any more, or is gone.
                Err(Errno::INVAL | Errno::NOENT) => return Ok(None),
                Err(error) => return Err(refusal(error)),
            };
            Ok(is_same(&before, &look(dir, name)?).then_some((Got::Link(target), fields)))
        }
        Some(NodeKind::Regular | NodeKind::Executable) if fields.size > max => {
            Ok(Some((Got::TooLarge(fields.size), fields)))
        }
        Some(NodeKind::Regular | NodeKind::Executable) => {
            Ok(file(dir, name, &before)?.map(|got| (got, fields)))
        }
        Some(_) => Err(ReadRefusal::Failed("it is not a regular file".into())),
    }
}

/// Reads the file that `before` tells of. `None` if it is not the same before and after.
fn file(dir: BorrowedFd<'_>, name: &str, before: &Stat) -> Result<Option<Got>, ReadRefusal> {
    // Without waiting, in case that it is a pipe by now.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let fd = match rustix::fs::openat(dir, name, flags, Mode::empty()) {
        Ok(fd) => fd,
        Err(error) if open::is_gone(error) => return Ok(None),
        Err(error) => return Err(refusal(error)),
    };
    if !is_same(before, &rustix::fs::fstat(&fd).map_err(refusal)?) {
        return Ok(None);
    }
    let mut file = File::from(fd);
    let size = Fields::of(before).size;
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0) + 1);
    let read = file.by_ref().take(size + 1).read_to_end(&mut bytes);
    read.map_err(|error| ReadRefusal::Failed(error.to_string()))?;
    let after = rustix::fs::fstat(&file).map_err(refusal)?;
    Ok((is_same(before, &after) && bytes.len() as u64 == size).then_some(Got::File(bytes)))
}

fn look(dir: BorrowedFd<'_>, name: &str) -> Result<Stat, ReadRefusal> {
    rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).map_err(refusal)
}

fn is_same(a: &Stat, b: &Stat) -> bool {
    stat::kind(a) == stat::kind(b) && Fields::of(a) == Fields::of(b)
}

fn refusal(error: Errno) -> ReadRefusal {
    if open::is_gone(error) {
        ReadRefusal::Gone
    } else {
        ReadRefusal::Failed(io::Error::from(error).to_string())
    }
}
