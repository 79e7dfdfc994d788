//! SHA-256 of contents and of units (DESIGN 3).

use sha2::{Digest, Sha256};

use crate::model::hash::{ContentHash, UnitHash};
use crate::model::spec::TaskSpec;
use crate::model::unit::UnitFile;

use super::canonical;

/// Names the encoding; another encoding gets another tag, so that no two can give one hash.
const FORMAT: &[u8] = b"kindling unit 1";

/// SHA-256 of a file's bytes.
#[must_use]
pub fn content(bytes: &[u8]) -> ContentHash {
    ContentHash::new(Sha256::digest(bytes).into())
}

/// SHA-256 of a unit: format tag, kind, key, canonical spec, then path, mode class and content hash of each file.
///
/// Every part is preceded by its length, so that no two units encode alike. `files` may come in any order.
#[must_use]
pub fn task(key: &str, spec: &TaskSpec, files: &[UnitFile]) -> UnitHash {
    let mut encoding = Encoding(Sha256::new());
    encoding.part(FORMAT);
    encoding.part(b"Task");
    encoding.part(key.as_bytes());
    encoding.part(canonical::encode(spec).as_bytes());
    let mut ordered: Vec<&UnitFile> = files.iter().collect();
    ordered.sort_by(|a, b| a.path.cmp(&b.path));
    for file in ordered {
        encoding.part(file.path.as_str().as_bytes());
        encoding.part(&[file.mode.letter() as u8]);
        encoding.part(file.hash.bytes());
    }
    UnitHash::new(encoding.0.finalize().into())
}

struct Encoding(Sha256);

impl Encoding {
    fn part(&mut self, bytes: &[u8]) {
        self.0.update((bytes.len() as u64).to_be_bytes());
        self.0.update(bytes);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::model::path::RelPath;
    use crate::model::spec::{Runtime, Trigger};
    use crate::model::unit::FileMode;

    fn spec() -> TaskSpec {
        TaskSpec {
            name: "a".into(),
            description: String::new(),
            runtime: Runtime::Shell,
            entry: Some("task.sh".into()),
            trigger: Trigger::Manual,
            params: BTreeMap::new(),
            env: BTreeMap::new(),
            timeout: None,
            retries: crate::model::spec::Retries::default(),
            concurrency: crate::model::spec::Concurrency::of(&Trigger::Manual),
            exclude: Vec::new(),
            permissions: crate::model::spec::Permissions::default(),
        }
    }

    fn file(path: &str, mode: FileMode, bytes: &[u8]) -> UnitFile {
        UnitFile { path: RelPath::parse(path).unwrap(), mode, hash: content(bytes), size: bytes.len() as u64 }
    }

    #[test]
    fn everything_that_is_the_unit_changes_the_hash() {
        let base = task("a", &spec(), &[file("x", FileMode::Regular, b"1")]);
        let others = [
            task("b", &spec(), &[file("x", FileMode::Regular, b"1")]),
            task("a", &TaskSpec { description: "d".into(), ..spec() }, &[file("x", FileMode::Regular, b"1")]),
            task("a", &spec(), &[file("y", FileMode::Regular, b"1")]),
            task("a", &spec(), &[file("x", FileMode::Executable, b"1")]),
            task("a", &spec(), &[file("x", FileMode::Link, b"1")]),
            task("a", &spec(), &[file("x", FileMode::Regular, b"2")]),
            task("a", &spec(), &[]),
        ];
        for (at, other) in others.iter().enumerate() {
            assert_ne!(base, *other, "case {at}");
        }
    }

    #[test]
    fn the_encoding_is_fixed() {
        let files =
            [file("task.sh", FileMode::Executable, b"echo hi\n"), file("lib/x", FileMode::Regular, b"")];
        insta::assert_snapshot!(task("team/a", &spec(), &files), @"a4bd6129437115bbce99e7b545b103656403a8606d02327a8b378663831b6d5b");
    }

    proptest! {
        #[test]
        fn order_does_not_matter(names in proptest::collection::btree_set("[a-z]{1,6}", 1..6), seed in any::<u64>()) {
            let files: Vec<UnitFile> = names.iter().map(|n| file(n, FileMode::Regular, n.as_bytes())).collect();
            let mut other = files.clone();
            other.rotate_left((seed as usize) % files.len());
            prop_assert_eq!(task("k", &spec(), &files), task("k", &spec(), &other));
        }

        #[test]
        fn a_boundary_cannot_be_shifted(text in "[a-z]{2,12}", at in 1usize..11, to in 1usize..11) {
            let (at, to) = (at.min(text.len() - 1), to.min(text.len() - 1));
            prop_assume!(at != to);
            let split = |at: usize| task(&text[..at], &TaskSpec { name: text[at..].into(), ..spec() }, &[]);
            prop_assert_ne!(split(at), split(to));
        }
    }
}
