//! A source's tree of files at one moment, without their contents.

use std::collections::BTreeMap;
use std::ops::Bound;

use super::hash::ContentHash;
use super::path::{PathRefusal, RelPath};

/// What kind of thing stands at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NodeKind {
    /// A regular file without an execute bit for its owner.
    Regular,
    /// A regular file with an execute bit for its owner.
    Executable,
    /// A symbolic link.
    Link,
    /// A git submodule: never entered, never fetched.
    Submodule,
    /// A socket, pipe or device.
    Special,
}

/// What tells one content of a path from another without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stamp {
    /// A git object id. Equal ids are equal contents.
    Object([u8; 20]),
    /// Fields of `lstat`. Equal fields are equal contents, unless the file was written while it was looked at:
    /// the observer keeps git's rule for racy timestamps and gives such a file a new `round`.
    Stat {
        /// Size in bytes.
        size: u64,
        /// Last change of the content, nanoseconds since 1970.
        modified: i64,
        /// Last change of the inode, nanoseconds since 1970.
        changed: i64,
        /// Inode number.
        inode: u64,
        /// Grows when the content was seen to differ under equal fields.
        round: u32,
    },
}

/// One path of a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Node {
    /// What it is.
    pub kind: NodeKind,
    /// Size in bytes; 0 where the observer does not know it before reading.
    pub size: u64,
    /// Changes whenever the content may have changed.
    pub stamp: Stamp,
}

/// A name that stands in the tree but can never be a path of kindling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The directory that holds it.
    pub dir: RelPath,
    /// The name, with unprintable bytes escaped.
    pub name: String,
    /// Why it is refused.
    pub why: PathRefusal,
}

/// All paths of a source below its `path`, directories left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tree {
    nodes: BTreeMap<RelPath, Node>,
    refused: Vec<Refused>,
}

impl Tree {
    /// The node at `path`.
    #[must_use]
    pub fn get(&self, path: &RelPath) -> Option<&Node> {
        self.nodes.get(path)
    }

    /// The node at `path`, with the tree's own copy of the path.
    #[must_use]
    pub fn get_entry(&self, path: &RelPath) -> Option<(&RelPath, &Node)> {
        self.nodes.get_key_value(path)
    }

    /// Puts a node in place; gives back what was there.
    pub fn insert(&mut self, path: RelPath, node: Node) -> Option<Node> {
        self.nodes.insert(path, node)
    }

    /// Takes a node out.
    pub fn remove(&mut self, path: &RelPath) -> Option<Node> {
        self.nodes.remove(path)
    }

    /// Every path and node, in byte order.
    pub fn iter(&self) -> impl Iterator<Item = (&RelPath, &Node)> {
        self.nodes.iter()
    }

    /// Every path and node below `dir`, in byte order; costs in proportion to what is there.
    pub fn below<'a>(&'a self, dir: &RelPath) -> impl Iterator<Item = (&'a RelPath, &'a Node)> + use<'a> {
        // `0` is the byte after `/`, so this range holds exactly what begins with `dir/`.
        let (from, to) = (format!("{}/", dir.as_str()), format!("{}0", dir.as_str()));
        let range = if dir.is_root() {
            self.nodes.range::<str, _>((Bound::Unbounded, Bound::Unbounded))
        } else {
            self.nodes.range::<str, _>((Bound::Included(from.as_str()), Bound::Excluded(to.as_str())))
        };
        range.collect::<Vec<_>>().into_iter()
    }

    /// How many paths it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether it holds no path.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Names that were refused, in the order of their directories.
    #[must_use]
    pub fn refused(&self) -> &[Refused] {
        &self.refused
    }

    /// Names that were refused in `dir` or below it.
    pub fn refused_below<'a>(&'a self, dir: &'a RelPath) -> impl Iterator<Item = &'a Refused> {
        self.refused.iter().filter(move |refused| refused.dir.is_within(dir))
    }

    /// Replaces the refused names of the directories for which `stale` holds by `fresh`.
    pub fn replace_refused(&mut self, stale: impl Fn(&RelPath) -> bool, fresh: Vec<Refused>) {
        self.refused.retain(|refused| !stale(&refused.dir));
        self.refused.extend(fresh);
        self.refused.sort_by(|a, b| (&a.dir, &a.name).cmp(&(&b.dir, &b.name)));
    }
}

/// Which paths of a tree are not what they were at the observation before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changes {
    /// Unknown, or too much to list: look at everything.
    All,
    /// Exactly these: added, changed or gone. Empty when nothing changed.
    Paths(std::collections::BTreeSet<RelPath>),
}

impl Changes {
    /// No change at all.
    #[must_use]
    pub fn none() -> Self {
        Self::Paths(std::collections::BTreeSet::new())
    }

    /// Whether nothing changed.
    #[must_use]
    pub fn is_none(&self) -> bool {
        matches!(self, Self::Paths(paths) if paths.is_empty())
    }

    /// Adds what another observation found.
    pub fn add(&mut self, more: Changes) {
        match (&mut *self, more) {
            (Self::Paths(all), Self::Paths(more)) => all.extend(more),
            _ => *self = Self::All,
        }
    }
}

/// A file's content, read once: what was hashed is what is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// SHA-256 of the bytes; of a link, of its target's text.
    pub hash: ContentHash,
    /// Length in bytes.
    pub size: u64,
    /// A link's target as it is written; `None` for a file.
    pub target: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node() -> Node {
        Node { kind: NodeKind::Regular, size: 0, stamp: Stamp::Object([0; 20]) }
    }

    #[test]
    fn lists_exactly_what_lies_below_a_directory() {
        let mut tree = Tree::default();
        for path in ["a-b/x", "a/x", "a/y/z", "a0", "a.b", "b"] {
            tree.insert(RelPath::parse(path).unwrap(), node());
        }
        let below = |dir: &str| -> Vec<String> {
            tree.below(&RelPath::parse(dir).unwrap()).map(|(path, _)| path.to_string()).collect()
        };
        assert_eq!(below("a"), ["a/x", "a/y/z"]);
        assert_eq!(below("a/y"), ["a/y/z"]);
        assert_eq!(below("").len(), 6);
        assert!(below("c").is_empty());
    }
}
