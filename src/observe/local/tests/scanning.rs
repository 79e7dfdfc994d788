//! What one look at the directory finds, whatever the watcher says.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::model::path::PathRefusal;
use crate::model::tree::NodeKind;

#[tokio::test]
async fn the_first_look_is_all_and_a_second_one_nothing() {
    let mut site = Site::new();
    site.write("a/x", "x");
    assert_eq!(site.observe(Ask::Hinted).await, set(&["ALL"]));
    assert_eq!(site.observe(Ask::Hinted).await, set(&[]));
    site.quiet().await;
    assert_eq!(site.observe(Ask::Full).await, set(&[]));
}

#[tokio::test]
async fn a_full_look_needs_no_hint() {
    let mut site = Site::seen(&["a/x", "a/y", "b/z", "c/d/e/f"]).await;
    site.quiet().await;
    site.write("a/x", "changed");
    site.remove("b");
    site.rename("c", "g");
    site.write("h/i", "new");
    // As if no event had come.
    site.source.shared.take();
    let expected = ["a/x", "b/z", "c/d/e/f", "g/d/e/f", "h/i"];
    // Full looks tell racy files again, so the paths are compared and not the number of looks.
    assert_eq!(site.observe(Ask::Full).await, set(&expected));
}

#[tokio::test]
async fn a_rescan_trusts_no_stamp() {
    let mut site = Site::seen(&["a/x", "b"]).await;
    let before = site.model.clone();
    assert_eq!(site.observe(Ask::Rescan).await, set(&["ALL"]));
    assert!(before.iter().all(|(path, node)| site.model[path] != *node));
    assert_eq!(site.observe(Ask::Hinted).await, set(&[]));
}

#[tokio::test]
async fn racy_timestamps() {
    let mut site = Site::seen(&["old"]).await;
    site.quiet().await;
    site.write("fresh", "1");
    assert_eq!(site.settle().await, set(&["fresh"]));
    // It was written a moment before it was seen: it is told once more, and only once.
    let mut told = 0;
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(200) || told == 0 {
        let changed = site.observe(Ask::Full).await;
        assert!(changed.is_subset(&set(&["fresh"])) && begun.elapsed() < LIMIT);
        told += changed.len();
    }
    assert_eq!(told, 1);
}

#[tokio::test]
async fn a_racy_file_that_is_read_at_rest_is_not_told_again() {
    let mut site = Site::seen(&["x"]).await;
    site.quiet().await;
    site.write("x", "fresh");
    site.settle().await;
    // At rest as soon as the clock of the files is 20 ms on.
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(40) {
        tokio::task::yield_now().await;
    }
    assert_eq!(site.text("x").await.unwrap(), "fresh");
    assert_eq!(site.observe(Ask::Full).await, set(&[]));
}

/// Somebody writes without a pause, most writes within one tick of the file system's clock and of equal size. Who
/// reads what is told to have changed knows in the end what is there.
#[tokio::test]
async fn a_write_during_the_scan() {
    let mut site = Site::new();
    let names: Vec<String> = (0..40).map(|n| format!("d{}/f{n}", n % 7)).collect();
    names.iter().for_each(|name| site.write(name, "000000"));
    site.observe(Ask::Hinted).await;
    let mut read = BTreeMap::new();
    for name in &names {
        read.insert(name.clone(), site.text(name).await.unwrap());
    }
    let stop = Arc::new(AtomicBool::new(false));
    let writer = {
        let (stop, root, names) = (Arc::clone(&stop), site.root.clone(), names.clone());
        std::thread::spawn(move || {
            for round in 1u32.. {
                let path = root.join(&names[round as usize % names.len()]);
                std::fs::write(path, format!("{round:06}")).unwrap();
                if stop.load(Ordering::Relaxed) {
                    break;
                }
            }
        })
    };
    let begun = Instant::now();
    let mut ask = Ask::Hinted;
    while begun.elapsed() < Duration::from_millis(600) {
        site.follow(ask, &mut read).await;
        ask = if ask == Ask::Hinted { Ask::Full } else { Ask::Hinted };
    }
    stop.store(true, Ordering::Relaxed);
    writer.join().unwrap();
    let is_known = |site: &Site, read: &BTreeMap<String, String>| {
        names.iter().all(|name| std::fs::read_to_string(site.at(name)).unwrap() == read[name])
    };
    let begun = Instant::now();
    while !is_known(&site, &read) {
        assert!(begun.elapsed() < LIMIT, "a write was lost");
        site.follow(Ask::Full, &mut read).await;
    }
}

impl Site {
    /// Observes and reads what is told to have changed, as a pass does.
    async fn follow(&mut self, ask: Ask, read: &mut BTreeMap<String, String>) {
        for path in self.observe(ask).await {
            if let Ok(text) = self.text(&path).await {
                read.insert(path, text);
            }
        }
    }
}

#[tokio::test]
async fn odd_names_are_refused_and_hide_nothing() {
    let mut site = Site::seen(&["d/ok"]).await;
    let odd: [(&[u8], PathRefusal, &str); 4] = [
        (b"not\xffutf8", PathRefusal::NotUtf8, "not\\xffutf8"),
        (b"line\nbreak", PathRefusal::Control, "line\\nbreak"),
        (b".GIT", PathRefusal::DotGit, ".GIT"),
        (b"git~1", PathRefusal::DotGit, "git~1"),
    ];
    for (name, _, _) in odd {
        std::fs::write(site.at("d").join(OsStr::from_bytes(name)), "odd").unwrap();
    }
    std::fs::create_dir_all(site.at("d/.git")).unwrap();
    std::fs::write(site.at("d/.git/HEAD"), "skipped").unwrap();
    // The directory is told, for there is no path that could be.
    assert_eq!(site.settle_until(|site| site.model_refused == 4).await, set(&["d"]));
    let refused = site.refused().await;
    for (_, why, text) in odd {
        let found = refused.iter().find(|refused| refused.name == text).unwrap();
        assert_eq!((found.why, found.dir.as_str()), (why, "d"));
    }
    assert_eq!(site.paths(), ["d/ok"]);
    // A directory with such a name is not entered.
    let dir = site.at("d").join(OsStr::from_bytes(b"bad\x01dir"));
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join("x"), "").unwrap();
    site.settle_until(|site| site.model_refused == 5).await;
    site.remove("d");
    site.settle_until(|site| site.model_refused == 0).await;
    assert!(site.paths().is_empty());
}

#[tokio::test]
async fn links_are_not_followed() {
    let mut site = Site::new();
    let outside = site.temp.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("secret"), "secret").unwrap();
    symlink(&outside, site.at("out")).unwrap();
    symlink(".", site.at("loop")).unwrap();
    symlink("missing", site.at("dangling")).unwrap();
    site.write("a/x", "x");
    symlink("../a", site.at("a/up")).unwrap();
    site.observe(Ask::Hinted).await;
    assert_eq!(site.paths(), ["a/up", "a/x", "dangling", "loop", "out"]);
    let kind = |path: &str| site.model[&RelPath::parse(path).unwrap()].kind;
    assert!(["a/up", "dangling", "loop", "out"].into_iter().all(|path| kind(path) == NodeKind::Link));
    // Nothing outside is watched.
    site.drain().await;
    std::fs::write(outside.join("secret"), "changed").unwrap();
    site.no_hint().await;
    // A directory that becomes a link is as good as gone.
    site.remove("a");
    symlink(&outside, site.at("a")).unwrap();
    site.settle().await;
    assert_eq!(site.paths(), ["a", "dangling", "loop", "out"]);
}

#[tokio::test]
async fn special_files_are_named_and_never_opened() {
    let mut site = Site::seen(&["x"]).await;
    let _listener = UnixListener::bind(site.at("socket")).unwrap();
    assert!(Command::new("mkfifo").arg(site.at("pipe")).status().unwrap().success());
    site.settle().await;
    for name in ["socket", "pipe"] {
        let node = site.model[&RelPath::parse(name).unwrap()];
        assert_eq!((node.kind, node.size), (NodeKind::Special, 0));
        // A pipe that is opened to read would wait for a writer.
        assert!(matches!(site.text(name).await, Err(ReadRefusal::Failed(_))));
    }
}

#[tokio::test]
async fn data_directory_inside_the_root() {
    let mut site = Site::with(|options| options.skip = vec![options.root.join(".kindling")]);
    site.write(".kindling/store", "1");
    site.write("sub/.kindling/x", "another one");
    site.observe(Ask::Hinted).await;
    assert_eq!(site.paths(), ["sub/.kindling/x"]);
    site.quiet().await;
    site.write(".kindling/store", "2");
    site.remove(".kindling");
    site.write(".kindling/store", "3");
    site.no_hint().await;
    assert_eq!(site.observe(Ask::Full).await, set(&[]));
}

#[tokio::test]
async fn pruned_names_are_never_entered() {
    let mut site = Site::seen(&["t/node_modules/m/x", "t/.venv/y", "t/__pycache__/z", "t/main.py"]).await;
    assert_eq!(site.paths(), ["t/main.py"]);
    // A file of that name is a file.
    site.remove("t/.venv");
    site.write("t/.venv", "a file");
    site.observe(Ask::Full).await;
    assert_eq!(site.paths(), ["t/.venv", "t/main.py"]);
}

#[tokio::test]
async fn an_unreadable_directory_is_not_empty() {
    if rustix::process::geteuid().is_root() {
        println!("passed over: root reads every directory");
        return;
    }
    let mut site = Site::seen(&["a/x", "b/y"]).await;
    std::fs::set_permissions(site.at("a"), std::fs::Permissions::from_mode(0o000)).unwrap();
    site.hint().await;
    let error = site.try_observe(Ask::Hinted).await.unwrap_err();
    assert_eq!((error.reason, error.stalled), ("DirectoryUnreadable", false));
    assert!(error.to_string().ends_with("root/a cannot be read"), "{error}");
    std::fs::set_permissions(site.at("a"), std::fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(site.observe(Ask::Hinted).await, set(&[]));
    assert_eq!(site.paths(), ["a/x", "b/y"]);
}

/// A directory that cannot be opened, for root too: the process has no descriptor left for it.
#[test]
fn a_directory_that_cannot_be_opened_is_not_empty() {
    use super::super::scan::{Found, Job, View, scan};
    use std::os::fd::AsFd;
    let temp = tempfile::tempdir().unwrap();
    let root = super::super::open::root(temp.path()).unwrap();
    let name = "n".repeat(300);
    // Longer than a name may be: an error that says neither "gone" nor "not a directory".
    let job =
        Job { dir: RelPath::parse(&name).unwrap(), above: None, excluded: false, deep: true, judge: true };
    let root_job = Job { dir: RelPath::root(), ..job.clone() };
    let (dirs, skip) = (std::collections::HashMap::new(), std::collections::HashSet::new());
    let view = View {
        root: root.as_fd(),
        dirs: &dirs,
        work_tree: None,
        prefix: b"",
        prune: &[],
        skip: &skip,
        depth: 64,
        fresh: 0,
        timed: None,
        quick: false,
    };
    let (found, failed) = scan(&view, &[root_job, job]);
    assert!(matches!(found[..], [Found::Listed(_)]));
    assert_eq!(failed.unwrap().dir.as_str(), name);
}

#[tokio::test]
async fn too_many_levels_are_refused() {
    let mut site = Site::with(|options| options.limits.depth = 2);
    let deep = vec!["d"; 80].join("/");
    std::fs::create_dir_all(site.at(&deep)).unwrap();
    site.write("d/x", "x");
    site.observe(Ask::Hinted).await;
    assert_eq!(site.paths(), ["d/x"]);
    let refused = site.refused().await;
    assert_eq!(refused.len(), 1);
    assert_eq!((refused[0].why, refused[0].dir.depth()), (PathRefusal::TooDeep, 66));
}

#[tokio::test]
async fn a_root_that_is_no_directory() {
    let mut site = Site::seen(&["x"]).await;
    std::fs::remove_dir_all(&site.root).unwrap();
    std::fs::write(&site.root, "a file").unwrap();
    let error = site.try_observe(Ask::Full).await.unwrap_err();
    assert_eq!((error.reason, error.stalled), ("RootNotADirectory", false));
    std::fs::remove_file(&site.root).unwrap();
    site.write("x", "x");
    site.hint().await;
    assert_eq!(site.settle().await, set(&["x"]));
}

#[tokio::test]
async fn a_root_that_was_never_there_comes() {
    let mut site = Site::new();
    std::fs::remove_dir(&site.root).unwrap();
    assert_eq!(site.try_observe(Ask::Full).await.unwrap_err().reason, "RootMissing");
    site.write("x", "x");
    site.hint().await;
    assert_eq!(site.observe(Ask::Hinted).await, set(&["ALL"]));
}

#[tokio::test]
async fn a_root_on_another_device_is_not_the_same() {
    let elsewhere = Path::new("/dev/shm");
    let Ok(other) = tempfile::tempdir_in(elsewhere) else {
        println!("passed over: there is no second file system");
        return;
    };
    let mut site = Site::with(|options| {
        let link = options.root.with_file_name("link");
        symlink(&options.root, &link).unwrap();
        options.root = link;
    });
    site.write("x", "x");
    site.observe(Ask::Hinted).await;
    site.quiet().await;
    let device = |path: &Path| rustix::fs::stat(path).unwrap().st_dev;
    if device(other.path()) == device(&site.root) {
        println!("passed over: there is no second file system");
        return;
    }
    std::fs::remove_file(&site.options.root).unwrap();
    symlink(other.path(), &site.options.root).unwrap();
    let error = site.try_observe(Ask::Full).await.unwrap_err();
    assert_eq!((error.reason, error.stalled), ("RootDeviceChanged", false));
    std::fs::remove_file(&site.options.root).unwrap();
    symlink(&site.root, &site.options.root).unwrap();
    assert_eq!(site.observe(Ask::Hinted).await, set(&[]));
}
