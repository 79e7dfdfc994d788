use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use super::super::folder::BlobSource;
use super::*;
use crate::model::hash::{ContentHash, UnitHash};
use crate::model::id::{RunId, UnitId};
use crate::model::path::RelPath;
use crate::model::spec::{Runtime, Trigger};
use crate::model::unit::{FileMode, UnitFile, Version};
use crate::plan::hash::content;

/// Stored files in a directory, each by the name of its hash.
pub(crate) struct Blobs(PathBuf);

impl Blobs {
    pub(crate) fn new(dir: PathBuf) -> Self {
        fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }

    pub(crate) fn path(&self, hash: &ContentHash) -> PathBuf {
        self.0.join(hash.to_string())
    }
}

impl BlobSource for Blobs {
    fn open(&self, hash: &ContentHash) -> io::Result<fs::File> {
        fs::File::open(self.path(hash))
    }
}

pub(crate) fn version_of(unit: &str, blobs: &Blobs, files: &[(&str, FileMode, &str)]) -> Version {
    let file = |(path, mode, text): &(&str, FileMode, &str)| {
        let hash = content(text.as_bytes());
        fs::write(blobs.path(&hash), text).unwrap();
        UnitFile { path: RelPath::parse(path).unwrap(), mode: *mode, hash, size: text.len() as u64 }
    };
    let mut files: Vec<UnitFile> = files.iter().map(file).collect();
    files.sort_by(|a, b| a.path.cmp(&b.path));
    let hash = UnitHash::new(*content(format!("{unit} {files:?}").as_bytes()).bytes());
    Version { hash, files: files.into(), ..version(unit, 0) }
}

pub(crate) fn version(unit: &str, hash: u8) -> Version {
    let spec = TaskSpec {
        name: "test".into(),
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
    };
    Version {
        unit: UnitId::parse(unit).unwrap(),
        hash: UnitHash::new([hash; 32]),
        spec: Arc::new(spec),
        files: Arc::default(),
        revision: None,
    }
}

#[tokio::test]
async fn an_input_that_cannot_travel_is_refused_before_anything_is_started() {
    let dir = tempfile::tempdir().unwrap();
    let folders = Folders::new(dir.path().join("versions"), Arc::new(Blobs::new(dir.path().join("blobs"))));
    let target = TaskTarget::new(folders, "mark");
    let launch = |input: String| Launch {
        run: RunId::recorded("1"),
        version: Arc::new(version("team/a", 1)),
        params: BTreeMap::new(),
        input,
    };
    let refusal = |error: ActError| std::error::Error::source(&error).unwrap().to_string();
    let error = refusal(target.start(launch("{".into())).await.unwrap_err());
    assert!(error.contains("not JSON"), "{error}");
    let large = format!("\"{}\"", "x".repeat(crate::act::MAX_MESSAGE_BYTES));
    let error = refusal(target.start(launch(large)).await.unwrap_err());
    assert!(error.contains("16777218 bytes, more than the 16777216"), "{error}");
    assert!(!dir.path().join("versions").exists());
}
