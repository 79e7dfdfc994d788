//! Which files of a unit differ between two versions.

use std::cmp::Ordering;

use crate::model::unit::{FileChange, FileChangeKind, UnitFile};

/// The changes from `old` to `new`; both in byte order of their paths.
#[must_use]
pub fn files(old: &[UnitFile], new: &[UnitFile]) -> Vec<FileChange> {
    let (mut old, mut new) = (old.iter().peekable(), new.iter().peekable());
    let mut changes = Vec::new();
    loop {
        let (file, kind) = match (old.peek(), new.peek()) {
            (None, None) => return changes,
            (Some(_), None) => (old.next(), FileChangeKind::Removed),
            (None, Some(_)) => (new.next(), FileChangeKind::Added),
            (Some(a), Some(b)) => match a.path.cmp(&b.path) {
                Ordering::Less => (old.next(), FileChangeKind::Removed),
                Ordering::Greater => (new.next(), FileChangeKind::Added),
                Ordering::Equal => {
                    let same = a.mode == b.mode && a.hash == b.hash;
                    new.next();
                    let file = old.next();
                    if same {
                        continue;
                    }
                    (file, FileChangeKind::Changed)
                }
            },
        };
        changes.extend(file.map(|file| FileChange { path: file.path.clone(), kind }));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::model::path::RelPath;
    use crate::model::unit::FileMode;
    use crate::plan::hash;

    fn list(files: &BTreeMap<String, u8>) -> Vec<UnitFile> {
        let file = |(path, byte): (&String, &u8)| UnitFile {
            path: RelPath::parse(path).unwrap(),
            mode: FileMode::Regular,
            hash: hash::content(&[*byte]),
            size: 1,
        };
        files.iter().map(file).collect()
    }

    proptest! {
        #[test]
        fn applying_the_changes_gives_the_new_files(
            old in proptest::collection::btree_map("[a-c]{1,2}", 0u8..3, 0..8),
            new in proptest::collection::btree_map("[a-c]{1,2}", 0u8..3, 0..8),
        ) {
            let mut at = old.clone();
            for change in files(&list(&old), &list(&new)) {
                let path = change.path.to_string();
                prop_assert_eq!(change.kind == FileChangeKind::Added, !at.contains_key(&path));
                match change.kind {
                    FileChangeKind::Removed => prop_assert!(at.remove(&path).is_some()),
                    _ => prop_assert_ne!(at.insert(path.clone(), new[&path]), Some(new[&path])),
                }
            }
            prop_assert_eq!(at, new);
        }
    }
}
