//! What inotify does and does not say (each was seen), and that the tree is right all the same.

use std::os::unix::fs::symlink;
use std::pin::pin;
use std::task::{Context, Waker};

use notify::event::Flag;
use notify::{Event, EventKind};

use super::*;

#[tokio::test]
async fn new_directory_with_files_inside() {
    let mut site = Site::seen(&["a/x"]).await;
    for round in 0..50 {
        site.write(&format!("new{round}/file"), "at once");
        site.write(&format!("deep{round}/b/c/file"), "at once");
        site.settle().await;
    }
    assert_eq!(site.paths().len(), 101);
    // What is written into it later is seen as well.
    site.write("deep7/b/c/file", "later");
    site.hint_of("deep7/b/c/file").await;
    assert_eq!(site.settle().await, set(&["deep7/b/c/file"]));
}

#[tokio::test]
async fn mkdir_p_with_files_at_once() {
    let mut site = Site::seen(&[]).await;
    for name in ["p/q/r/s/1", "p/q/r/2", "p/q/3", "p/4", "p/q/r/s/t/u/v/5"] {
        site.write(name, name);
    }
    site.settle().await;
    assert_eq!(site.paths(), ["p/4", "p/q/3", "p/q/r/2", "p/q/r/s/1", "p/q/r/s/t/u/v/5"]);
}

#[tokio::test]
async fn rename_over_save() {
    let mut site = Site::seen(&["task.yaml", "b"]).await;
    for round in 0..20 {
        site.write(".task.yaml.tmp", &format!("round {round}"));
        site.rename(".task.yaml.tmp", "task.yaml");
        assert!(site.settle().await.contains("task.yaml"));
        assert_eq!(site.text("task.yaml").await.unwrap(), format!("round {round}"));
    }
}

#[tokio::test]
async fn unlink_and_create() {
    let mut site = Site::seen(&["a/x", "a/y"]).await;
    site.remove("a/x");
    site.write("a/x", "as git checkout writes it");
    assert!(site.settle().await.contains("a/x"));
    assert_eq!(site.text("a/x").await.unwrap(), "as git checkout writes it");
}

#[tokio::test]
async fn vim_backup_style() {
    let mut site = Site::seen(&["task.ts"]).await;
    site.write("4913", "");
    site.remove("4913");
    site.rename("task.ts", "task.ts~");
    site.write("task.ts", "new text");
    site.remove("task.ts~");
    let changed = site.settle().await;
    assert!(changed.contains("task.ts"));
    assert_eq!(site.paths(), ["task.ts"]);
    assert_eq!(site.text("task.ts").await.unwrap(), "new text");
}

#[tokio::test]
async fn a_mode_is_seen() {
    use std::os::unix::fs::PermissionsExt;
    let mut site = Site::seen(&["run.sh"]).await;
    std::fs::set_permissions(site.at("run.sh"), std::fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(site.settle().await, set(&["run.sh"]));
}

#[tokio::test]
async fn directory_moved_in_and_out() {
    let mut site = Site::seen(&["keep", "d/one", "d/sub/two"]).await;
    let outside = site.temp.path().join("outside");
    std::fs::rename(site.at("d"), &outside).unwrap();
    assert_eq!(site.settle().await, set(&["d/one", "d/sub/two"]));
    std::fs::write(outside.join("sub/three"), "while it was away").unwrap();
    std::fs::rename(&outside, site.at("e")).unwrap();
    assert_eq!(site.settle().await, set(&["e/one", "e/sub/two", "e/sub/three"]));
    // Its watches report the place where it is now.
    site.drain().await;
    site.write("e/sub/two", "changed");
    site.hint_of("e/sub/two").await;
    assert_eq!(site.settle().await, set(&["e/sub/two"]));
}

#[tokio::test]
async fn directory_moved_within_and_back() {
    let mut site = Site::seen(&["d/sub/one"]).await;
    for round in 0..10 {
        site.rename("d", "e");
        site.settle().await;
        site.write("e/sub/one", &format!("moved {round}"));
        assert_eq!(site.settle().await, set(&["e/sub/one"]));
        site.rename("e", "d");
        site.settle().await;
        site.write("d/sub/one", &format!("back {round}"));
        assert_eq!(site.settle().await, set(&["d/sub/one"]));
    }
}

#[tokio::test]
async fn directory_removed_and_made_again() {
    let mut site = Site::seen(&["d/sub/one", "keep"]).await;
    for round in 0..30 {
        site.remove("d");
        site.write("d/sub/one", &format!("made again {round}"));
        site.settle().await;
        // A watch on the directory that is gone would not see this.
        site.write("d/sub/one", &format!("written {round}"));
        assert_eq!(site.settle().await, set(&["d/sub/one"]), "round {round}");
    }
}

/// Should an event be lost in spite of all, a full look finds what is there and watches it.
#[tokio::test]
async fn a_directory_that_was_replaced_unseen_is_watched_anew() {
    for moved_before in [false, true] {
        replaced_unseen(moved_before).await;
    }
}

async fn replaced_unseen(moved_before: bool) {
    let mut site = Site::seen(&["d/sub/one", "keep"]).await;
    site.quiet().await;
    if moved_before {
        // It is watched anew, and holds what it held.
        site.rename("d", "e");
        site.rename("e", "d");
        site.settle().await;
        site.quiet().await;
    }
    site.write("next/sub/one", "another");
    std::fs::rename(site.at("d"), site.temp.path().join("away")).unwrap();
    site.rename("next", "d");
    site.hint().await;
    // Past the last event, which names `d`.
    while tokio::time::timeout(Duration::from_millis(50), site.source.hint()).await.is_ok() {}
    site.source.shared.take();
    assert_eq!(site.observe(Ask::Full).await, set(&["d/sub/one"]));
    site.write("d/sub/one", "seen");
    site.hint_of("d/sub/one").await;
    assert_eq!(site.settle().await, set(&["d/sub/one"]));
}

#[tokio::test]
async fn root_removed_and_made_again() {
    let mut site = Site::seen(&["a/x", "a/y"]).await;
    std::fs::remove_dir_all(&site.root).unwrap();
    site.hint().await;
    let error = site.try_observe(Ask::Hinted).await.unwrap_err();
    assert_eq!((error.reason, error.stalled), ("RootMissing", false));
    assert!(error.to_string().contains("root"));
    site.drain_errors().await;
    std::fs::create_dir(&site.root).unwrap();
    site.hint().await;
    let mut changed = site.observe(Ask::Hinted).await;
    site.write("a/x", "a/x");
    site.write("b/z", "new");
    changed.extend(site.settle().await);
    // Only what differs from before it went away.
    assert_eq!(changed, set(&["a/x", "a/y", "b/z"]));
    site.write("b/z", "watched again");
    assert_eq!(site.settle().await, set(&["b/z"]));
}

#[tokio::test]
async fn a_root_that_comes_back_as_it_was_changes_nothing() {
    let mut site = Site::seen(&["a/x", "a/y"]).await;
    site.quiet().await;
    let away = site.temp.path().join("away");
    std::fs::rename(&site.root, &away).unwrap();
    site.hint().await;
    assert_eq!(site.try_observe(Ask::Full).await.unwrap_err().reason, "RootMissing");
    std::fs::write(away.join("a/y"), "other").unwrap();
    std::fs::rename(&away, &site.root).unwrap();
    site.hint().await;
    assert_eq!(site.observe(Ask::Hinted).await, set(&["a/y"]));
}

#[tokio::test]
async fn a_directory_far_above_the_root_is_renamed() {
    let temp = tempfile::tempdir().unwrap();
    let above = temp.path().canonicalize().unwrap().join("above");
    std::fs::create_dir_all(above.join("between/root")).unwrap();
    let mut site = Site::with(|options| options.root = above.join("between/root"));
    site.observe(Ask::Full).await;
    let _ = tokio::time::timeout(Duration::from_millis(100), site.source.hint()).await;
    for _ in 0..2 {
        let began = Instant::now();
        std::fs::rename(&above, temp.path().join("away")).unwrap();
        site.hint().await;
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        assert_eq!(site.try_observe(Ask::Hinted).await.unwrap_err().reason, "RootMissing");
        std::fs::rename(temp.path().join("away"), &above).unwrap();
        site.hint().await;
        site.try_observe(Ask::Hinted).await.unwrap();
    }
}

#[tokio::test]
async fn root_renamed_over() {
    let mut site = Site::seen(&["a/x"]).await;
    let next = site.temp.path().join("next");
    std::fs::create_dir_all(next.join("b")).unwrap();
    std::fs::write(next.join("b/y"), "y").unwrap();
    std::fs::rename(&site.root, site.temp.path().join("old")).unwrap();
    std::fs::rename(&next, &site.root).unwrap();
    assert_eq!(site.settle().await, set(&["a/x", "b/y"]));
    site.write("b/y", "watched");
    assert_eq!(site.settle().await, set(&["b/y"]));
}

/// Kubernetes updates mounted files by swapping a link to a directory.
#[tokio::test]
async fn symlink_swap() {
    let mut site = Site::new();
    site.write("..1/file", "one");
    site.write("..2/file", "two");
    symlink("..1", site.at("..data")).unwrap();
    site.observe(Ask::Hinted).await;
    symlink("..2", site.at("..data_tmp")).unwrap();
    site.rename("..data_tmp", "..data");
    assert!(site.settle().await.contains("..data"));
    assert_eq!(site.read("..data").await.content.unwrap().target.as_deref(), Some("..2"));
}

/// The same with a root that is the link.
#[tokio::test]
async fn a_root_that_is_a_link_is_swapped() {
    let mut site = Site::with(|options| {
        let base = options.root.parent().unwrap().to_path_buf();
        for name in ["one", "two"] {
            std::fs::create_dir(base.join(name)).unwrap();
            std::fs::write(base.join(name).join(name), name).unwrap();
        }
        options.root = base.join("current");
        symlink("one", &options.root).unwrap();
    });
    site.observe(Ask::Hinted).await;
    assert_eq!(site.paths(), ["one"]);
    let next = site.temp.path().join("next");
    symlink("two", &next).unwrap();
    std::fs::rename(&next, &site.options.root).unwrap();
    assert_eq!(site.settle().await, set(&["one", "two"]));
    assert_eq!(site.paths(), ["two"]);
}

#[tokio::test]
async fn queue_overflow() {
    let mut site = Site::seen(&["a/x", "b/y"]).await;
    // A full look tells what was written a moment before the one before it once more.
    site.quiet().await;
    // As notify reports it: no path, only the flag.
    site.source.shared.event(Ok(Event::new(EventKind::Other).set_flag(Flag::Rescan)));
    site.hint_of(".").await;
    // Nothing but the flag leads there.
    site.write("a/x", "lost");
    site.source.shared.take();
    site.source.shared.event(Ok(Event::new(EventKind::Other).set_flag(Flag::Rescan)));
    assert_eq!(site.observe(Ask::Hinted).await, set(&["a/x"]));
    site.write("b/y", "watched anew");
    assert_eq!(site.settle().await, set(&["b/y"]));
}

#[tokio::test]
async fn a_failed_watcher_is_made_anew() {
    let mut site = Site::seen(&["a/x"]).await;
    site.quiet().await;
    site.source.shared.event(Err(notify::Error::generic("gone wrong")));
    site.hint_of(".").await;
    assert_eq!(site.observe(Ask::Hinted).await, set(&[]));
    site.write("a/x", "watched anew");
    assert_eq!(site.settle().await, set(&["a/x"]));
}

#[tokio::test]
async fn watch_limit() {
    let mut site = Site::with(|options| options.max_watches = Some(4));
    for name in ["a/1", "b/2", "c/3", "d/4", "e/5"] {
        site.write(name, name);
    }
    site.observe(Ask::Hinted).await;
    let warning = site.source.warning().unwrap();
    assert!(warning.contains("sudo sysctl fs.inotify.max_user_watches="), "{warning}");
    // Every observation scans now, whatever hints say.
    for name in ["a/1", "e/5", "f/new"] {
        site.write(name, "changed");
        assert!(site.observe(Ask::Hinted).await.contains(name));
    }
    // The limit is no longer reached: the next full look watches what is left.
    for name in ["b", "c", "d", "e", "f"] {
        site.remove(name);
    }
    site.observe(Ask::Full).await;
    site.observe(Ask::Full).await;
    assert_eq!(site.source.warning(), None);
    site.drain().await;
    site.write("a/1", "watched");
    assert_eq!(site.settle().await, set(&["a/1"]));
}

#[tokio::test]
async fn reads_by_ourselves_do_not_wake_us() {
    let names: Vec<String> = (0..200).map(|n| format!("d{}/f{n}", n % 20)).collect();
    let mut site = Site::seen(&names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    site.drain().await;
    for _ in 0..3 {
        for name in &names {
            assert!(site.read(name).await.content.is_ok());
        }
        site.observe(Ask::Hinted).await;
        site.observe(Ask::Full).await;
    }
    site.no_hint().await;
}

#[tokio::test]
async fn what_does_not_matter_does_not_wake_us() {
    let mut site = Site::new();
    site.write(".gitignore", "*.log\nbuild/\n");
    site.write("a/x", "x");
    site.write("a/y.log", "y");
    site.write("node_modules/m/index.js", "m");
    site.git(&["init", "-q"]);
    site.observe(Ask::Hinted).await;
    site.quiet().await;
    site.write("a/y.log", "more");
    site.write("a/z.log", "new");
    std::fs::create_dir(site.at("build")).unwrap();
    site.write("build/out", "out");
    site.write("node_modules/m/index.js", "other");
    std::fs::create_dir(site.at("a/node_modules")).unwrap();
    site.write(".git/index.lock", "");
    std::fs::write(site.temp.path().join("beside"), "not ours").unwrap();
    site.no_hint().await;
    assert_eq!(site.observe(Ask::Full).await, set(&[]));
}

#[tokio::test]
async fn cp_r_of_2000_files() {
    let mut site = Site::seen(&["x"]).await;
    let from = site.temp.path().join("from");
    for n in 0..2000 {
        let dir = from.join(format!("d{}/e{}", n % 20, n % 40));
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join(format!("f{n}")), n.to_string()).unwrap();
    }
    let mut copy = Command::new("cp").arg("-r").arg(&from).arg(site.at("to")).spawn().unwrap();
    while copy.try_wait().unwrap().is_none() {
        if tokio::time::timeout(Duration::from_millis(5), site.source.hint()).await.is_ok() {
            site.observe(Ask::Hinted).await;
        }
    }
    site.settle().await;
    assert_eq!(site.paths().len(), 2001);
}

#[tokio::test]
async fn git_checkout_storm() {
    let mut site = Site::new();
    site.git(&["init", "-q"]);
    for n in 0..600 {
        site.write(&format!("one/d{}/f{n}", n % 100), &format!("one {n}"));
        site.write(&format!("both/d{}/f{n}", n % 50), "one");
    }
    site.git(&["add", "."]);
    site.git(&["commit", "-qm", "one"]);
    site.git(&["checkout", "-qb", "two"]);
    site.git(&["rm", "-rq", "one"]);
    for n in 0..600 {
        site.write(&format!("two/d{}/f{n}", n % 100), &format!("two {n}"));
        site.write(&format!("both/d{}/f{n}", n % 50), "other");
    }
    site.git(&["add", "."]);
    site.git(&["commit", "-qm", "two"]);
    site.observe(Ask::Hinted).await;
    for branch in ["main", "two", "main"] {
        site.git(&["checkout", "-q", branch]);
        site.settle().await;
        assert_eq!(site.paths().len(), 1200);
    }
    assert!(!site.source.is_busy());
}

#[tokio::test]
async fn a_dropped_wait_loses_no_hint() {
    let mut site = Site::seen(&["a"]).await;
    site.drain().await;
    for _ in 0..20 {
        site.write("a", "again");
        let begun = Instant::now();
        // Waits that are given up all the time, as in a select.
        while tokio::time::timeout(Duration::from_micros(100), site.source.hint()).await.is_err() {
            assert!(begun.elapsed() < LIMIT);
        }
        site.drain().await;
    }
}

#[test]
fn a_dropped_observation_is_told_by_the_next() {
    // One thread for blocking work, which is busy until it is let go.
    let runtime = tokio::runtime::Builder::new_current_thread().max_blocking_threads(1).enable_all().build();
    runtime.unwrap().block_on(async {
        let mut site = Site::seen(&["a", "b"]).await;
        site.quiet().await;
        site.write("a", "changed");
        site.hint().await;
        let (go, wait) = std::sync::mpsc::channel::<()>();
        let busy = tokio::task::spawn_blocking(move || wait.recv().is_err());
        {
            let mut looking = pin!(site.source.observe(Ask::Full, None));
            // Begins the work and gives it up.
            assert!(looking.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        }
        drop(go);
        assert!(busy.await.unwrap());
        assert_eq!(site.observe(Ask::Hinted).await, set(&["a"]));
    });
}

impl Site {
    /// Takes hints while the root is missing.
    async fn drain_errors(&mut self) {
        while tokio::time::timeout(Duration::from_millis(50), self.source.hint()).await.is_ok() {
            self.try_observe(Ask::Hinted).await.unwrap_err();
        }
    }
}
