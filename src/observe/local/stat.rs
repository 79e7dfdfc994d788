//! What `lstat` tells of one path, as the tree keeps it.

use rustix::fs::{FileType, Stat};

use crate::model::tree::{Node, NodeKind, Stamp};

/// The fields of `lstat` that tell one content of a path from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fields {
    /// Size in bytes.
    pub size: u64,
    /// Last change of the content, nanoseconds since 1970.
    pub modified: i64,
    /// Last change of the inode, nanoseconds since 1970.
    pub changed: i64,
    /// Inode number.
    pub inode: u64,
}

impl Fields {
    /// Takes them from the system's answer.
    pub(super) fn of(stat: &Stat) -> Self {
        Self {
            size: u64::try_from(stat.st_size).unwrap_or(0),
            modified: nanoseconds(stat.st_mtime, stat.st_mtime_nsec),
            changed: nanoseconds(stat.st_ctime, stat.st_ctime_nsec),
            inode: stat.st_ino,
        }
    }

    /// The fields of a stamp that this observer gave, with its round.
    pub(super) fn in_stamp(stamp: &Stamp) -> Option<(Self, u32)> {
        match *stamp {
            Stamp::Stat { size, modified, changed, inode, round } => {
                Some((Self { size, modified, changed, inode }, round))
            }
            Stamp::Object(_) => None,
        }
    }

    /// The stamp of these fields.
    pub(super) fn stamp(self, round: u32) -> Stamp {
        let Self { size, modified, changed, inode } = self;
        Stamp::Stat { size, modified, changed, inode, round }
    }
}

/// The kind of node that stands there; `None` for a directory.
pub(super) fn kind(stat: &Stat) -> Option<NodeKind> {
    const OWNER_MAY_EXECUTE: u32 = 0o100;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => None,
        FileType::RegularFile if stat.st_mode & OWNER_MAY_EXECUTE != 0 => Some(NodeKind::Executable),
        FileType::RegularFile => Some(NodeKind::Regular),
        FileType::Symlink => Some(NodeKind::Link),
        _ => Some(NodeKind::Special),
    }
}

/// The node for a path; `round` is that of the node that stood there before.
pub(super) fn node(kind: NodeKind, fields: Fields, round: u32) -> Node {
    let size = if kind == NodeKind::Special { 0 } else { fields.size };
    Node { kind, size, stamp: fields.stamp(round) }
}

fn nanoseconds(seconds: i64, part: u64) -> i64 {
    seconds.saturating_mul(1_000_000_000).saturating_add(i64::try_from(part).unwrap_or(0))
}
