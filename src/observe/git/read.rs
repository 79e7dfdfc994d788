//! Reads contents out of the object database.

use std::io;
use std::sync::Arc;

use gix::{ObjectId, Repository};

use super::error::flat;
use crate::model::path::RelPath;
use crate::model::tree::{Content, Node, NodeKind, Stamp};
use crate::observe::{ReadRefusal, Reading, Sink, Want};
use crate::plan::hash;

/// What was read, and whether an object is not there that must be.
#[derive(Debug, Default)]
pub(super) struct Readings {
    /// In the order in which they were asked for.
    pub(super) all: Vec<Reading>,
    /// Our own repository is incomplete.
    pub(super) damaged: bool,
}

/// Reads each of `wants` with the node that the observed tree has at its path, until `is_over`.
///
/// # Errors
/// The sink failed.
pub(super) fn read(
    repo: &Repository,
    wants: Vec<(Want, Option<Node>)>,
    sink: &Sink,
    is_over: impl Fn() -> bool,
) -> io::Result<Readings> {
    let mut readings = Readings::default();
    for (want, node) in wants {
        if is_over() {
            break;
        }
        let one = match node {
            None => Err(Unread::Refused(ReadRefusal::Gone)),
            Some(node) => content(repo, node, want.max),
        };
        let (content, bytes) = match one {
            Ok((content, bytes)) => {
                sink(&content.hash, &bytes)?;
                (Ok(content), want.bytes.then(|| Arc::from(bytes)))
            }
            Err(Unread::Refused(refusal)) => (Err(refusal), None),
            Err(Unread::Damaged(why)) => {
                readings.damaged = true;
                (Err(ReadRefusal::Failed(why)), None)
            }
        };
        readings.all.push(Reading { path: want.path, content, bytes });
    }
    Ok(readings)
}

enum Unread {
    Refused(ReadRefusal),
    Damaged(String),
}

fn content(repo: &Repository, node: Node, max: u64) -> Result<(Content, Vec<u8>), Unread> {
    let failed = |why: &str| Unread::Refused(ReadRefusal::Failed(why.to_owned()));
    let Stamp::Object(id) = node.stamp else { return Err(failed("it is not from git")) };
    if matches!(node.kind, NodeKind::Submodule | NodeKind::Special) {
        return Err(failed("it is a submodule, which is never fetched"));
    }
    let id = ObjectId::from(id);
    let damaged = |error: &gix::Error| {
        Unread::Damaged(format!("the object {id} cannot be read from the local copy: {}", flat(error)))
    };
    let header = repo.find_header(id).map_err(|error| damaged(&error))?;
    if header.kind() != gix::objs::Kind::Blob {
        return Err(failed("it is not a file in the object database"));
    }
    if header.size() > max {
        return Err(Unread::Refused(ReadRefusal::TooLarge { size: header.size(), max }));
    }
    let bytes = repo.find_object(id).map_err(|error| damaged(&error))?.detach().data;
    let target = match node.kind {
        NodeKind::Link => Some(target(&bytes).ok_or_else(|| failed("its target is not valid UTF-8"))?),
        _ => None,
    };
    Ok((Content { hash: hash::content(&bytes), size: header.size(), target }, bytes))
}

fn target(bytes: &[u8]) -> Option<String> {
    std::str::from_utf8(bytes).ok().map(str::to_owned)
}

/// Answers for a source that has no tree yet.
pub(super) fn nothing(wants: Vec<Want>) -> Vec<Reading> {
    let gone = |path: RelPath| Reading { path, content: Err(ReadRefusal::Gone), bytes: None };
    wants.into_iter().map(|want| gone(want.path)).collect()
}
