use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use super::*;
use crate::act::tasks::tests::{Blobs, version_of};
use crate::model::unit::FileMode::{self, Executable, Link, Regular};

struct Bench {
    dir: tempfile::TempDir,
    blobs: Arc<Blobs>,
    folders: Folders,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Arc::new(Blobs::new(dir.path().join("blobs")));
        let folders = Folders::new(dir.path().join("data/versions"), blobs.clone());
        Self { dir, blobs, folders }
    }

    fn version(&self, files: &[(&str, FileMode, &str)]) -> Version {
        version_of("team/a", &self.blobs, files)
    }

    fn entries(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.folders.root()) else { return Vec::new() };
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

#[tokio::test]
async fn a_folder_holds_the_files_with_their_modes_and_links() {
    let bench = Bench::new();
    let version = bench.version(&[
        ("bin/run", Executable, "#!/bin/sh\n"),
        ("deep/er/data.bin", Regular, "\0\u{7f}"),
        ("empty", Regular, ""),
        ("link", Link, "deep/er/data.bin"),
    ]);
    let lease = bench.folders.acquire(&version).await.unwrap();
    assert_eq!(lease.path(), bench.folders.root().join(version.hash.to_string()));
    let meta = |path: &str| fs::symlink_metadata(lease.path().join(path)).unwrap();
    assert_eq!(fs::read(lease.path().join("link")).unwrap(), b"\0\x7f");
    assert_eq!(meta("bin/run").permissions().mode() & 0o7777, 0o755);
    assert_eq!(meta("deep/er/data.bin").permissions().mode() & 0o7777, 0o644);
    assert_eq!(meta("deep").permissions().mode() & 0o7777, 0o755);
    assert_eq!((meta("empty").size(), meta("empty").mtime()), (0, 1_000_000_000));
    assert_eq!((meta("link").is_symlink(), meta("link").mtime()), (true, 1_000_000_000));
    // Never a hard link: writing to the folder must not reach the store.
    assert!(["bin/run", "deep/er/data.bin", "empty"].iter().all(|path| meta(path).nlink() == 1));
    assert_eq!(bench.entries(), [version.hash.to_string()]);
    assert_eq!(fs::metadata(bench.folders.root()).unwrap().permissions().mode() & 0o777, 0o700);
}

#[tokio::test]
async fn a_folder_without_files_is_a_folder() {
    let bench = Bench::new();
    let version = bench.version(&[]);
    let lease = bench.folders.acquire(&version).await.unwrap();
    assert!(lease.path().is_dir());
}

#[tokio::test]
async fn what_a_run_adds_is_tolerated_and_nothing_is_copied_again() {
    let bench = Bench::new();
    let version = bench.version(&[("task.py", Regular, "x = 1\n")]);
    let lease = bench.folders.acquire(&version).await.unwrap();
    fs::create_dir(lease.path().join("__pycache__")).unwrap();
    fs::write(lease.path().join("__pycache__/x.pyc"), "cache").unwrap();
    let before = fs::metadata(lease.path().join("task.py")).unwrap().ino();
    let again = bench.folders.acquire(&version).await.unwrap();
    assert_eq!(fs::metadata(again.path().join("task.py")).unwrap().ino(), before);
    assert!(again.path().join("__pycache__/x.pyc").exists());
}

#[tokio::test]
async fn a_changed_folder_is_made_again_and_never_handed_out() {
    let files = [("a.txt", Regular, "good"), ("d/run", Executable, "run"), ("l", Link, "a.txt")];
    type Change = fn(&Path);
    let tamper: [(&str, Change); 7] = [
        ("content of equal length", |dir| fs::write(dir.join("a.txt"), "evil").unwrap()),
        ("length", |dir| fs::write(dir.join("a.txt"), "longer than before").unwrap()),
        ("mode", |dir| fs::set_permissions(dir.join("a.txt"), fs::Permissions::from_mode(0o755)).unwrap()),
        ("removed", |dir| fs::remove_file(dir.join("d/run")).unwrap()),
        ("link", |dir| {
            fs::remove_file(dir.join("l")).unwrap();
            symlink("d/run", dir.join("l")).unwrap();
        }),
        ("file for a link", |dir| {
            fs::remove_file(dir.join("l")).unwrap();
            fs::write(dir.join("l"), "a.txt").unwrap();
        }),
        ("directory for a link", |dir| {
            fs::rename(dir.join("d"), dir.join("elsewhere")).unwrap();
            symlink("elsewhere", dir.join("d")).unwrap();
        }),
    ];
    for (what, change) in tamper {
        let bench = Bench::new();
        let version = bench.version(&files);
        let running = bench.folders.acquire(&version).await.unwrap();
        change(running.path());
        let lease = bench.folders.acquire(&version).await.unwrap();
        assert_eq!(fs::read_to_string(lease.path().join("l")).unwrap(), "good", "{what}");
        assert_eq!(fs::metadata(lease.path().join("a.txt")).unwrap().mode() & 0o777, 0o644, "{what}");
        assert_eq!(fs::read_to_string(lease.path().join("d/run")).unwrap(), "run", "{what}");
        // What the running one stands in stays until nobody uses this version.
        assert_eq!(bench.entries().len(), 2, "{what}");
        let keep = HashSet::from([version.hash]);
        assert_eq!(bench.folders.prune(&keep).await.unwrap(), 0, "{what}");
        drop((running, lease));
        assert_eq!(bench.folders.prune(&keep).await.unwrap(), 1, "{what}");
        assert_eq!(bench.entries(), [version.hash.to_string()], "{what}");
    }
}

#[tokio::test]
async fn a_missing_or_damaged_blob_is_named_and_leaves_nothing() {
    let bench = Bench::new();
    let version = bench.version(&[("a", Regular, "first"), ("b", Regular, "second"), ("c", Link, "a")]);
    for (at, damage) in [(1, None), (1, Some("secono")), (1, Some("longer than it was")), (2, Some("b"))] {
        let hash = version.files[at].hash;
        let stored = bench.blobs.path(&hash);
        let whole = fs::read(&stored).unwrap();
        match damage {
            None => fs::remove_file(&stored).unwrap(),
            Some(text) => fs::write(&stored, text).unwrap(),
        }
        let error = bench.folders.acquire(&version).await.unwrap_err();
        assert!(error.to_string().contains(&hash.to_string()), "{error}");
        assert!(matches!(error, ActError::Blob { .. }), "{damage:?}");
        assert!(bench.entries().is_empty(), "{damage:?}: {:?}", bench.entries());
        fs::write(&stored, whole).unwrap();
    }
    bench.folders.acquire(&version).await.unwrap();
}

#[tokio::test]
async fn a_link_out_of_the_unit_is_refused() {
    let bench = Bench::new();
    for target in ["/etc/passwd", "../outside", "d/../../outside"] {
        let version = bench.version(&[("d/x", Regular, "x"), ("link", Link, target)]);
        let error = bench.folders.acquire(&version).await.unwrap_err();
        let ActError::Folder { source, .. } = error else { panic!("{error}") };
        assert!(source.to_string().contains("leads out"), "{source}");
        assert!(bench.entries().is_empty());
    }
    // A file below a link could be written anywhere.
    let version = bench.version(&[("d", Link, "e"), ("d/x", Regular, "x"), ("e/y", Regular, "y")]);
    assert!(bench.folders.acquire(&version).await.is_err());
    assert!(bench.entries().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_makers_at_once_get_one_whole_folder() {
    let bench = Bench::new();
    let files: Vec<(String, String)> =
        (0..200).map(|at| (format!("d{}/f{at}", at % 7), at.to_string())).collect();
    let files: Vec<_> = files.iter().map(|(path, text)| (path.as_str(), Regular, text.as_str())).collect();
    let version = Arc::new(bench.version(&files));
    // Two that know nothing of each other, as two processes would.
    let other = Folders::new(bench.folders.root().to_owned(), bench.blobs.clone());
    let makers: Vec<_> = (0..12)
        .map(|at| {
            let (folders, version) =
                (if at % 2 == 0 { &bench.folders } else { &other }.clone(), version.clone());
            tokio::spawn(async move { folders.acquire(&version).await.unwrap() })
        })
        .collect();
    for maker in makers {
        let lease = maker.await.unwrap();
        for (path, _, text) in &files {
            assert_eq!(fs::read_to_string(lease.path().join(path)).unwrap(), *text);
        }
    }
    assert_eq!(bench.entries(), [version.hash.to_string()]);
}

#[tokio::test]
async fn prune_keeps_what_is_kept_or_in_use() {
    let bench = Bench::new();
    let versions: Vec<Version> =
        ["one", "two", "three"].iter().map(|text| bench.version(&[("f", Regular, *text)])).collect();
    let mut leases = Vec::new();
    for version in &versions {
        leases.push(bench.folders.acquire(version).await.unwrap());
    }
    let root = bench.folders.root();
    fs::create_dir_all(root.join(format!(".tmp-{}-00112233aabbccdd/d", versions[1].hash))).unwrap();
    fs::create_dir(root.join("not-ours")).unwrap();
    leases.truncate(1);
    let keep = HashSet::from([versions[1].hash]);
    assert_eq!(bench.folders.prune(&keep).await.unwrap(), 2);
    let mut left = vec![versions[0].hash.to_string(), versions[1].hash.to_string(), "not-ours".to_owned()];
    left.sort();
    assert_eq!(bench.entries(), left);
    drop(leases);
    assert_eq!(bench.folders.prune(&HashSet::new()).await.unwrap(), 2);
    assert_eq!(bench.entries(), ["not-ours"]);
    let elsewhere = Folders::new(bench.dir.path().join("nowhere"), bench.blobs.clone());
    assert_eq!(elsewhere.prune(&HashSet::new()).await.unwrap(), 0);
}
