//! Paths inside a source or a unit.
//!
//! One type stands between hostile names (from a repository or a disk) and every use of a path. It never
//! touches the file system.

use std::fmt;
use std::sync::Arc;

/// Longest path that is accepted, in bytes. Linux's `PATH_MAX` is 4,096 including the root's own part.
pub const MAX_PATH_BYTES: usize = 2048;

/// A relative path with `/` between its parts; the empty path is the root it is relative to.
///
/// Holds no `.` or `..` part, no empty part, no control character and no spelling of `.git`. Ordered by bytes,
/// so all paths below one directory lie together.
///
/// The first part may stand for another repository ([`RelPath::mount`]): what lies below it is in that repository's
/// tree. No name from outside can be such a part, and nothing lies above it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelPath(Arc<str>);

/// Why a name or a path is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathRefusal {
    /// The bytes are not UTF-8.
    #[error("the name is not valid UTF-8")]
    NotUtf8,
    /// An empty part, as in `a//b`.
    #[error("the path has an empty part")]
    Empty,
    /// A `.` or `..` part.
    #[error("the path has a `.` or `..` part")]
    Dots,
    /// Begins at the root of the file system.
    #[error("the path is absolute")]
    Absolute,
    /// NUL, a line break or another control character.
    #[error("the name has a control character")]
    Control,
    /// `.git` in any spelling that some file system would take for it.
    #[error("the name is a spelling of `.git`")]
    DotGit,
    /// Longer than [`MAX_PATH_BYTES`].
    #[error("the path is longer than {MAX_PATH_BYTES} bytes")]
    TooLong,
    /// Below more directories than are entered.
    #[error("it lies below too many directories")]
    TooDeep,
    /// A name with a slash in it, where one part was expected.
    #[error("the name has a slash in it")]
    Slash,
}

/// Begins a part that stands for another repository.
const MOUNT: char = '\u{1}';
/// Stands for a slash in such a part.
const SLASH: char = '\u{2}';
/// Stands between the URL and the branch in it.
const BRANCH: char = '\u{3}';

impl RelPath {
    /// The root of another repository, by its URL and the branch that is followed (`None` for its default one).
    ///
    /// # Errors
    /// They are too long, or hold a control character.
    pub fn mount(url: &str, branch: Option<&str>) -> Result<Self, PathRefusal> {
        let has_control = |text: &str| text.chars().any(char::is_control);
        if url.is_empty() || has_control(url) || branch.is_some_and(has_control) {
            return Err(if url.is_empty() { PathRefusal::Empty } else { PathRefusal::Control });
        }
        let branch = branch.map(|branch| format!("{BRANCH}{branch}")).unwrap_or_default();
        let text = format!("{MOUNT}{url}{branch}").replace('/', &SLASH.to_string());
        // The rest is for paths in it.
        if text.len() > MAX_PATH_BYTES / 2 { Err(PathRefusal::TooLong) } else { Ok(Self(Arc::from(text))) }
    }

    /// The root of the repository that it lies in, if that is another one.
    #[must_use]
    pub fn mount_point(&self) -> Option<RelPath> {
        let first = self.0.split('/').next().filter(|first| first.starts_with(MOUNT))?;
        Some(if first.len() == self.0.len() { self.clone() } else { Self(Arc::from(first)) })
    }

    /// URL and branch of the repository that it lies in, if that is another one.
    #[must_use]
    pub fn repository(&self) -> Option<(String, Option<String>)> {
        let first = self.0.split('/').next()?.strip_prefix(MOUNT)?;
        let (url, branch) = match first.split_once(BRANCH) {
            Some((url, branch)) => (url, Some(branch)),
            None => (first, None),
        };
        let plain = |text: &str| text.replace(SLASH, "/");
        Some((plain(url), branch.map(plain)))
    }

    /// Reads back [`RelPath::as_str`], which is trusted to name another repository.
    ///
    /// # Errors
    /// The first part that is refused says why.
    pub fn recorded(text: &str) -> Result<Self, PathRefusal> {
        if !text.starts_with(MOUNT) {
            return Self::parse(text);
        }
        let (first, rest) = text.split_once('/').unwrap_or((text, ""));
        Ok(Self(Arc::from(first)).append(&Self::parse(rest)?))
    }

    /// The root itself.
    #[must_use]
    pub fn root() -> Self {
        Self(Arc::from(""))
    }

    /// Reads a path with `/` between its parts; `""` and `"."` are the root.
    ///
    /// # Errors
    /// The first part that is refused says why.
    pub fn parse(text: &str) -> Result<Self, PathRefusal> {
        if text.is_empty() || text == "." {
            return Ok(Self::root());
        }
        if text.starts_with('/') {
            return Err(PathRefusal::Absolute);
        }
        if text.len() > MAX_PATH_BYTES {
            return Err(PathRefusal::TooLong);
        }
        text.split('/').try_for_each(check_name)?;
        Ok(Self(Arc::from(text)))
    }

    /// The path of `name` inside this directory.
    ///
    /// # Errors
    /// `name` is refused, or the whole grows too long.
    pub fn join(&self, name: &str) -> Result<Self, PathRefusal> {
        check_name(name)?;
        if self.0.len() + 1 + name.len() > MAX_PATH_BYTES {
            return Err(PathRefusal::TooLong);
        }
        Ok(if self.is_root() { Self(Arc::from(name)) } else { Self(Arc::from(format!("{}/{name}", self.0))) })
    }

    /// [`RelPath::join`] for a name as it comes from a disk or an object database.
    ///
    /// # Errors
    /// As [`RelPath::join`], and for bytes that are not UTF-8.
    pub fn join_bytes(&self, name: &[u8]) -> Result<Self, PathRefusal> {
        self.join(std::str::from_utf8(name).map_err(|_| PathRefusal::NotUtf8)?)
    }

    /// The path of `below` under this directory; both are already checked.
    #[must_use]
    pub fn append(&self, below: &RelPath) -> Self {
        match (self.is_root(), below.is_root()) {
            (true, _) => below.clone(),
            (_, true) => self.clone(),
            _ => Self(Arc::from(format!("{}/{}", self.0, below.0))),
        }
    }

    /// The text, parts divided by `/`; empty for the root.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is the root.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The last part; `None` for the root.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        (!self.is_root()).then(|| self.0.rsplit('/').next().unwrap_or(&self.0))
    }

    /// The directory that holds it; `None` for the root, and for that of another repository.
    #[must_use]
    pub fn parent(&self) -> Option<RelPath> {
        if self.is_root() || (self.0.starts_with(MOUNT) && !self.0.contains('/')) {
            return None;
        }
        Some(self.0.rfind('/').map_or_else(Self::root, |at| Self(Arc::from(&self.0[..at]))))
    }

    /// Every directory above it, nearest first, the root last.
    pub fn ancestors(&self) -> impl Iterator<Item = RelPath> {
        std::iter::successors(self.parent(), RelPath::parent)
    }

    /// How many parts it has.
    #[must_use]
    pub fn depth(&self) -> usize {
        if self.is_root() { 0 } else { self.0.split('/').count() }
    }

    /// Whether it lies below `dir` or is `dir`.
    #[must_use]
    pub fn is_within(&self, dir: &RelPath) -> bool {
        self.strip_prefix(dir).is_some()
    }

    /// The rest of the path below `dir`; `None` if it does not lie there.
    #[must_use]
    pub fn strip_prefix(&self, dir: &RelPath) -> Option<RelPath> {
        if dir.is_root() {
            return Some(self.clone());
        }
        let rest = self.0.strip_prefix(&*dir.0)?;
        match rest.strip_prefix('/') {
            Some(rest) => Some(Self(Arc::from(rest))),
            None => rest.is_empty().then(Self::root),
        }
    }
}

impl fmt::Display for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((url, branch)) = self.repository() else {
            return f.write_str(if self.is_root() { "." } else { &self.0 });
        };
        f.write_str(&url)?;
        branch.map_or(Ok(()), |branch| write!(f, "#{branch}"))?;
        self.0.split_once('/').map_or(Ok(()), |(_, rest)| write!(f, "//{rest}"))
    }
}

impl fmt::Debug for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::borrow::Borrow<str> for RelPath {
    fn borrow(&self) -> &str {
        &self.0
    }
}

fn check_name(name: &str) -> Result<(), PathRefusal> {
    match name {
        "" => Err(PathRefusal::Empty),
        "." | ".." => Err(PathRefusal::Dots),
        _ if name.contains('/') => Err(PathRefusal::Slash),
        _ if name.chars().any(char::is_control) => Err(PathRefusal::Control),
        _ if is_dot_git(name) => Err(PathRefusal::DotGit),
        _ => Ok(()),
    }
}

/// Whether some file system would take `name` for `.git`: any case, NTFS's short name `git~1`, trailing dots and
/// spaces or a stream suffix that NTFS drops, and characters that HFS+ ignores (the rules of git's own
/// `core.protectHFS` and `core.protectNTFS`).
#[must_use]
pub fn is_dot_git(name: &str) -> bool {
    let seen: String = name.chars().filter(|c| !is_ignored_by_hfs(*c)).collect::<String>().to_lowercase();
    let stem = seen.split(':').next().unwrap_or_default();
    let stem = stem.trim_end_matches(['.', ' ']);
    stem == ".git" || stem == "git~1"
}

fn is_ignored_by_hfs(c: char) -> bool {
    matches!(c, '\u{200c}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{206a}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_could_leave_the_root_or_reach_git() {
        let cases = [
            ("../x", PathRefusal::Dots),
            ("a/../b", PathRefusal::Dots),
            ("a//b", PathRefusal::Empty),
            ("/etc", PathRefusal::Absolute),
            ("a\0b", PathRefusal::Control),
            ("a\nb", PathRefusal::Control),
            (".git/config", PathRefusal::DotGit),
            ("a/.GIT/x", PathRefusal::DotGit),
            ("git~1", PathRefusal::DotGit),
            (".git. ", PathRefusal::DotGit),
            (".git::$INDEX_ALLOCATION", PathRefusal::DotGit),
            (".g\u{200c}it", PathRefusal::DotGit),
        ];
        for (text, refusal) in cases {
            assert_eq!(RelPath::parse(text), Err(refusal), "{text:?}");
        }
        assert_eq!(RelPath::root().join_bytes(b"\xff"), Err(PathRefusal::NotUtf8));
    }

    #[test]
    fn a_mount_is_a_root_that_no_name_from_outside_can_be() {
        let mount = RelPath::mount("https://h/a/b.git", Some("x/y")).unwrap();
        assert_eq!(mount.repository(), Some(("https://h/a/b.git".into(), Some("x/y".into()))));
        let file = mount.join("jobs").unwrap().join("task.yaml").unwrap();
        assert_eq!(file.to_string(), "https://h/a/b.git#x/y//jobs/task.yaml");
        assert_eq!((file.mount_point(), mount.mount_point()), (Some(mount.clone()), Some(mount.clone())));
        assert_eq!(file.ancestors().last(), Some(mount.clone()));
        assert_eq!(mount.parent(), None);
        assert_eq!(RelPath::recorded(file.as_str()), Ok(file.clone()));
        assert_eq!(RelPath::parse(file.as_str()), Err(PathRefusal::Control));
        assert_eq!(RelPath::root().join(mount.as_str()), Err(PathRefusal::Control));
        assert_eq!(file.strip_prefix(&mount).unwrap().as_str(), "jobs/task.yaml");
        assert_eq!(RelPath::parse("a").unwrap().mount_point(), None);
        assert_eq!(RelPath::mount("https://h/\u{1}", None), Err(PathRefusal::Control));
        assert_eq!(RelPath::mount(&"x".repeat(2000), None), Err(PathRefusal::TooLong));
    }

    #[test]
    fn takes_paths_apart() {
        let path = RelPath::parse("team/jobs/digest").unwrap();
        assert_eq!(path.name(), Some("digest"));
        assert_eq!(path.parent().unwrap().as_str(), "team/jobs");
        let above: Vec<String> = path.ancestors().map(|p| p.to_string()).collect();
        assert_eq!(above, ["team/jobs", "team", "."]);
        assert_eq!(path.strip_prefix(&RelPath::parse("team").unwrap()).unwrap().as_str(), "jobs/digest");
        assert!(!path.is_within(&RelPath::parse("tea").unwrap()));
        assert!(RelPath::parse(".gitignore").is_ok());
    }
}
