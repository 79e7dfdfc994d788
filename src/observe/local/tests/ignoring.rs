//! What `.gitignore` leaves out, what git tracks all the same, and how both change.

use std::time::SystemTime;

use super::*;

/// A work tree with some of its files tracked.
async fn tracked(files: &[&str], add: &[&str]) -> Site {
    let mut site = Site::new();
    site.git(&["init", "-q"]);
    files.iter().for_each(|file| site.write(file, file));
    for path in add {
        site.git(&["add", "-f", path]);
    }
    site.observe(Ask::Hinted).await;
    site
}

impl Site {
    fn ignore(&self, dir: &str, lines: &str) {
        self.write(&format!("{dir}.gitignore"), lines);
    }
}

#[tokio::test]
async fn ignored_tracked_and_negated_files() {
    let mut site = Site::new();
    site.ignore("", "*.log\n!keep.log\n/out/\ncache\n");
    site.ignore("t/", "!wanted.log\n*.tmp\n");
    let files = [
        "a.log",
        "keep.log",
        "t/b.log",
        "t/wanted.log",
        "t/c.tmp",
        "c.tmp",
        "out/x",
        "t/out/x",
        "cache/y",
        "t/cache",
        "t/main.ts",
        "tracked.log",
        "out/tracked",
    ];
    files.iter().for_each(|file| site.write(file, file));
    site.git(&["init", "-q"]);
    site.git(&["add", "-f", "tracked.log", "out/tracked"]);
    site.observe(Ask::Hinted).await;
    assert_eq!(
        site.paths(),
        [
            ".gitignore",
            "c.tmp",
            "keep.log",
            "out/tracked",
            "t/.gitignore",
            "t/main.ts",
            "t/out/x",
            "t/wanted.log",
            "tracked.log"
        ]
    );
    // As git sees it.
    let listed = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(&site.root)
        .output()
        .unwrap();
    let mut listed: Vec<String> = String::from_utf8(listed.stdout).unwrap().lines().map(Into::into).collect();
    listed.sort();
    assert_eq!(site.paths(), listed);
    // A tracked file in an ignored directory is watched.
    site.quiet().await;
    site.write("out/tracked", "changed");
    site.write("tracked.log", "changed");
    assert_eq!(site.settle().await, set(&["out/tracked", "tracked.log"]));
}

#[tokio::test]
async fn a_changed_gitignore_changes_exactly_what_it_names() {
    let mut site = Site::new();
    ["a.log", "d/b.log", "d/e/c.log", "d/x", "e/y"].iter().for_each(|file| site.write(file, file));
    site.observe(Ask::Hinted).await;
    site.quiet().await;
    site.ignore("d/", "*.log\n");
    assert_eq!(site.settle().await, set(&["d/.gitignore", "d/b.log", "d/e/c.log"]));
    site.ignore("", "e/\n*.log\n");
    assert_eq!(site.settle().await, set(&[".gitignore", "a.log", "e/y"]));
    site.ignore("d/", "!b.log\n");
    assert_eq!(site.settle().await, set(&["d/.gitignore", "d/b.log"]));
    site.remove(".gitignore");
    assert_eq!(site.settle().await, set(&[".gitignore", "a.log", "d/e/c.log", "e/y"]));
    // What is no longer ignored is watched again.
    site.drain().await;
    site.write("e/y", "changed");
    site.hint_of("e/y").await;
    assert_eq!(site.settle().await, set(&["e/y"]));
}

#[tokio::test]
async fn what_becomes_tracked_or_untracked_is_seen_by_a_full_look() {
    let mut site = Site::new();
    site.ignore("", "*.log\nout/\n");
    site.git(&["init", "-q"]);
    ["a.log", "b.log", "out/c", "x"].iter().for_each(|file| site.write(file, file));
    site.git(&["add", "-f", "a.log"]);
    site.observe(Ask::Hinted).await;
    site.quiet().await;
    assert_eq!(site.paths(), [".gitignore", "a.log", "x"]);
    site.git(&["add", "-f", "b.log", "out/c"]);
    assert_eq!(site.observe(Ask::Full).await, set(&["b.log", "out/c"]));
    site.git(&["rm", "-q", "--cached", "a.log"]);
    assert_eq!(site.observe(Ask::Full).await, set(&["a.log"]));
    site.remove(".git");
    assert_eq!(site.observe(Ask::Full).await, set(&["b.log", "out/c"]));
}

#[tokio::test]
async fn an_index_that_cannot_be_read_drops_nothing() {
    let mut site = tracked(&["a.log", "x"], &["a.log"]).await;
    site.ignore("", "*.log\n");
    site.settle().await;
    site.quiet().await;
    assert_eq!(site.paths(), [".gitignore", "a.log", "x"]);
    std::fs::write(site.at(".git/index"), "not an index").unwrap();
    assert_eq!(site.observe(Ask::Full).await, set(&[]));
    assert!(site.source.warning().unwrap().contains(".git/index"));
    std::fs::remove_file(site.at(".git/index")).unwrap();
    site.git(&["add", "-f", "a.log"]);
    assert_eq!(site.observe(Ask::Full).await, set(&[]));
    assert_eq!(site.source.warning(), None);
}

/// The source is a directory of a larger work tree.
fn inside(top: &str) -> Site {
    let mut site = Site::with(|options| {
        options.root = options.root.join("team/tasks");
        std::fs::create_dir_all(&options.root).unwrap();
    });
    site.git_top(&["init", "-q"]);
    site.ignore("", top);
    site.root = site.options.root.clone();
    site
}

impl Site {
    fn git_top(&self, args: &[&str]) {
        git(&self.temp.path().join("root"), args);
    }
}

#[tokio::test]
async fn files_above_the_root_count_up_to_the_top_of_the_work_tree() {
    let mut site = inside("*.log\n/team/tasks/private\n/private2\n");
    // Not part of the work tree.
    std::fs::write(site.temp.path().join(".gitignore"), "*\n").unwrap();
    site.write("../.gitignore", "!keep.log\ntasks/*.tmp\n");
    ["a.log", "keep.log", "b.tmp", "private", "private2", "x"].iter().for_each(|f| site.write(f, f));
    site.git_top(&["add", "-f", "team/tasks/b.tmp"]);
    site.observe(Ask::Hinted).await;
    assert_eq!(site.paths(), ["b.tmp", "keep.log", "private2", "x"]);
    // They are watched too.
    site.quiet().await;
    site.write("../.gitignore", "x\n");
    assert_eq!(site.settle().await, set(&["keep.log", "x"]));
}

#[tokio::test]
async fn a_root_that_is_ignored_itself_is_meant_all_the_same() {
    let mut site = inside("*\n");
    site.ignore("", "*.log\n");
    site.write("x", "x");
    site.write("y.log", "y");
    site.observe(Ask::Hinted).await;
    assert_eq!(site.paths(), [".gitignore", "x"]);
    // Where git tracks some of it, git's answer holds.
    site.git_top(&["add", "-f", "team/tasks/y.log"]);
    site.observe(Ask::Full).await;
    assert_eq!(site.paths(), ["y.log"]);
}

#[tokio::test]
async fn an_ignored_odd_name_is_not_refused() {
    let mut site = Site::new();
    site.ignore("", "*.bak\n");
    site.write("d/x\u{7}.bak", "");
    site.write("d/x\u{7}.txt", "");
    site.observe(Ask::Hinted).await;
    let refused = site.refused().await;
    assert_eq!(refused.iter().map(|r| r.name.as_str()).collect::<Vec<_>>(), ["x\\u{7}.txt"]);
}

#[tokio::test]
async fn a_linked_work_tree_has_its_own_index() {
    let mut site = tracked(&["a.log"], &["a.log"]).await;
    site.git(&["commit", "-qm", "one"]);
    let linked = site.temp.path().join("linked");
    site.git(&["worktree", "add", "-q", linked.to_str().unwrap()]);
    site.root = linked.clone();
    site.options.root = linked;
    site.source = LocalSource::open(site.options.clone());
    site.ignore("", "*.log\n");
    site.write("b.log", "");
    site.observe(Ask::Hinted).await;
    assert_eq!(site.paths(), [".gitignore", "a.log"]);
}

#[tokio::test]
async fn busy_while_git_holds_its_lock() {
    let mut site = tracked(&["d/x"], &[]).await;
    assert!(!site.source.is_busy());
    let lock = std::fs::File::create(site.at(".git/index.lock")).unwrap();
    assert!(site.source.is_busy());
    // Left behind by a git that was killed.
    #[expect(clippy::disallowed_methods, reason = "a file's own time is set")]
    let old = SystemTime::now() - Duration::from_secs(6);
    lock.set_modified(old).unwrap();
    assert!(!site.source.is_busy());
    site.observe(Ask::Full).await;
}
