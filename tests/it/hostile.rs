//! Hostile sources, as a repository and as a directory: each unit of the corpus is refused with a reason, those beside
//! it are live, nothing is written outside the data directory, and nothing in a tree is executed but what a unit runs.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, makedev, mkfifoat, mknodat};
use serde_json::Value;

use self::corpus::{Hostile, LIMITS, PATH, Thing, content, corpus, hostile};
use crate::repo::Repo;
use crate::service::client::{Client, condition};
use crate::service::{Service, manifest};

mod corpus;

/// Every path below `root` but the data directory and the log, with what it is and holds.
fn listing(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut dirs = vec![root.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            let kind = fs::symlink_metadata(&path).unwrap().file_type();
            if path.ends_with(".kindling") || path.ends_with("stderr.log") {
                continue;
            }
            let is_file = kind.is_file();
            let what = if is_file { fs::read(&path).unwrap() } else { format!("{kind:?}").into_bytes() };
            if kind.is_dir() {
                dirs.push(path.clone());
            }
            found.insert(path, what);
        }
    }
    found
}

/// Asserts that each unit of the corpus says why it is refused.
async fn assert_refused(client: &Client, source: &str, corpus: &[Hostile]) {
    for bad in corpus {
        let id = format!("{source}/{}", bad.key);
        let unit = client.unit(&id).await;
        assert!(unit["deployedHash"].is_null() && unit["desiredHash"].is_null(), "{id}: {unit:#}");
        let problem = &unit["problems"][0];
        assert_eq!(problem["reason"], bad.reason, "{id}: {problem:#}");
        let message = problem["message"].as_str().unwrap();
        assert!(message.contains(bad.message) && message.len() < 1000, "{id}: {problem:#}");
        assert!(!message.contains(char::is_control), "{id}: {problem:#}");
        assert!(condition(&unit, "Stalled").starts_with(&format!("True {}", bad.reason)), "{id}: {unit:#}");
    }
}

async fn assert_prints(client: &Client, task: &str, printed: &str) {
    let run = client.run(task).await;
    assert_eq!(
        (&run["status"], &run["output"]),
        (&Value::from("succeeded"), &Value::from(printed)),
        "{run:#}"
    );
}

/// Every program that git or an editor might start out of a tree or a configuration, and what they would do.
const TEMPTING: [&str; 6] = [
    "hooks/post-checkout",
    "hooks/post-merge",
    ".husky/post-checkout",
    ".githooks/reference-transaction",
    "smudge.sh",
    "fsmonitor.sh",
];

/// Bytes that a checkout with these attributes would change.
const ATTRIBUTES: &str = "* text=auto eol=crlf ident filter=evil working-tree-encoding=UTF-16\n*.sh text eol=crlf ident filter=evil\n";
const SCRIPT: &str = "# $Id$\nprintf 'as it is'\n";

fn entry<'a>(mode: &'a str, name: &'a str, object: &'a str) -> (&'a str, &'a [u8], &'a str) {
    (mode, name.as_bytes(), object)
}

/// Entries of a tree: a path, a mode and an object.
type Things = Vec<(Vec<u8>, &'static str, String)>;

/// The directory of a unit as a tree object: things by their paths.
fn tree_of(repo: &Repo, things: &Things) -> String {
    let mut here: Vec<(&str, Vec<u8>, String)> = Vec::new();
    let mut below: BTreeMap<Vec<u8>, Things> = BTreeMap::new();
    for (path, mode, object) in things {
        match path.iter().position(|byte| *byte == b'/') {
            None => here.push((mode, path.clone(), object.clone())),
            Some(at) => below.entry(path[..at].to_vec()).or_default().push((
                path[at + 1..].to_vec(),
                mode,
                object.clone(),
            )),
        }
    }
    for (name, things) in &below {
        here.push(("40000", name.clone(), tree_of(repo, things)));
    }
    // git orders a directory as if its name ended with a slash.
    here.sort_by_key(|(mode, name, _)| [name.as_slice(), if *mode == "40000" { b"/" } else { b"" }].concat());
    let entries: Vec<_> =
        here.iter().map(|(mode, name, object)| (*mode, name.as_slice(), object.as_str())).collect();
    repo.tree(&entries)
}

fn unit_tree(repo: &Repo, bad: &Hostile) -> String {
    let text = bad.manifest.clone().unwrap_or_else(|| manifest(bad.key, "manual: true").into_bytes());
    let mut things = vec![
        (b"task.yaml".to_vec(), "100644", repo.blob(&text)),
        (b"task.sh".to_vec(), "100644", repo.blob(b":\n")),
    ];
    for thing in &bad.files {
        things.push(match thing {
            Thing::File(path) => (path.to_vec(), "100755", repo.blob(&content(path))),
            Thing::Link(path, target) => (path.to_vec(), "120000", repo.blob(target)),
            Thing::Module(path) => (path.to_vec(), "160000", "1".repeat(40)),
        });
    }
    tree_of(repo, &things)
}

fn good_tree(repo: &Repo) -> String {
    let mut things = vec![
        (b"task.yaml".to_vec(), "100644", repo.blob(manifest("good", "manual: true").as_bytes())),
        (b"task.sh".to_vec(), "100644", repo.blob(SCRIPT.as_bytes())),
        (b".gitattributes".to_vec(), "100644", repo.blob(ATTRIBUTES.as_bytes())),
        (
            b".gitmodules".to_vec(),
            "100644",
            repo.blob(b"[submodule \"x\"]\n\tpath = x\n\turl = -u./evil\n\tupdate = !touch marker\n"),
        ),
    ];
    things.extend(TEMPTING.map(|path| (path.as_bytes().to_vec(), "100755", repo.blob(&content(b"")))));
    tree_of(repo, &things)
}

/// What only a repository can hold.
fn corpus_of_git(repo: &Repo) -> (Vec<Hostile>, Vec<(&'static str, String)>) {
    let mut all = corpus();
    all.push(hostile("git-itself", vec![Thing::File(b".git/config")], PATH, ".git"));
    all.push(hostile("name-dots", vec![Thing::File(b"..")], PATH, "`..` part"));
    all.push(hostile("name-dot", vec![Thing::File(b".")], PATH, "`.` or"));
    all.push(hostile("module", vec![Thing::Module(b"vendor")], PATH, "submodules are refused"));
    let mut trees: Vec<_> = all.iter().map(|bad| (bad.key, unit_tree(repo, bad))).collect();
    // A name with a slash in it, more files than a unit may have, and directories below one another without end.
    let (text, script) = (repo.blob(manifest("x", "manual: true").as_bytes()), repo.blob(b":\n"));
    let base = [entry("100644", "task.sh", &script), entry("100644", "task.yaml", &text)];
    let slash = repo.tree(&[entry("100644", "../../evil", &script), base[0], base[1]]);
    let names: Vec<String> = (0..50).map(|n| format!("f{n:02}")).collect();
    let many: Vec<_> = names.iter().map(|name| entry("100644", name, &script)).chain(base).collect();
    let many = repo.tree(&many);
    let mut deep = repo.tree(&[entry("100644", "f", &script)]);
    for _ in 0..40 {
        deep = repo.tree(&[entry("40000", "d", &deep)]);
    }
    let deep = repo.tree(&[entry("40000", "d", &deep), base[0], base[1]]);
    for (key, tree, reason, message) in [
        ("name-slash", slash, PATH, "has a slash in it"),
        ("many-files", many, "LimitExceeded", "limits.files"),
        ("deep-files", deep, "LimitExceeded", "limits.depth"),
    ] {
        all.push(hostile(key, Vec::new(), reason, message));
        trees.push((key, tree));
    }
    (all, trees)
}

/// A user's own configuration that would run programs, and a repository's.
fn tempt(service: &Service, repo: &Repo) {
    let marker = service.root().join("home/marker");
    let program = service.root().join("home/tempt.sh");
    service.write("home/tempt.sh", format!("#!/bin/sh\ntouch {}\nexec cat\n", marker.display()));
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let program = program.display();
    let text = format!(
        "[core]\n\thooksPath = {0}\n\tfsmonitor = {1}\n\tsshCommand = {1}\n\tgitProxy = {1}\n[filter \"evil\"]\n\t\
         smudge = {1}\n\tclean = {1}\n\trequired = true\n[uploadpack]\n\tpackObjectsHook = {1}\n[credential]\n\thelper = {1}\n",
        service.root().join("home").display(),
        program
    );
    // A hook of the packer would be the user's own wish, and reaches git's other side.
    let user = text.replace("packObjectsHook", "unknownHook");
    service.write("home/.gitconfig", user);
    let config = repo.bare().join("config");
    // What a hostile server has in its repository, but for what would let it not be read at all.
    let text = text.replace("[uploadpack]\n", "[uploadpack]\n\tallowAnySHA1InWant = true\n");
    fs::write(&config, format!("{}{text}", fs::read_to_string(&config).unwrap())).unwrap();
    for hook in ["post-checkout", "reference-transaction", "pre-receive", "post-update"] {
        let path = repo.bare().join("hooks").join(hook);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::copy(service.root().join("home/tempt.sh"), path).unwrap();
    }
}

/// Refs that no name rule allows, beside the branch.
fn odd_refs(repo: &Repo, commit: &str) {
    let odd = [
        "heads/../../evil",
        "heads/-u",
        "heads/$(touch marker)",
        "heads/a..b",
        "heads/@{x}",
        "heads/\u{1b}[2J",
        "tags/.lock",
    ];
    let lines: String = odd.iter().map(|name| format!("{commit} refs/{name}\n")).collect();
    fs::write(
        repo.bare().join("packed-refs"),
        format!("# pack-refs with: peeled fully-peeled sorted \n{lines}"),
    )
    .unwrap();
}

#[tokio::test]
async fn a_hostile_repository_harms_nothing_but_itself() {
    let repo = Repo::new();
    let (corpus, trees) = corpus_of_git(&repo);
    let good = good_tree(&repo);
    let mut top: Vec<_> = trees.iter().map(|(key, tree)| entry("40000", key, tree)).collect();
    top.push(entry("40000", "good", &good));
    top.sort_by_key(|(_, name, _)| [*name, b"/"].concat());
    let commit = repo.commit_tree(&repo.tree(&top));
    let mut service = Service::new(&format!(
        "{LIMITS}sources:\n- {{name: bad, git: {{url: {}, branch: main, poll_interval: 1s}}}}\n",
        repo.bare().display()
    ));
    tempt(&service, &repo);
    odd_refs(&repo, &commit);
    let before = (listing(service.root()), listing(repo.root()));
    let client = service.start().await;
    client.source_until("bad", "it was read", |source| source["revision"]["seen"].is_string()).await;
    client.post("/api/v1/wait", serde_json::json!({})).await;
    assert_refused(&client, "bad", &corpus).await;
    assert_prints(&client, "bad/good", "as it is").await;
    // Not a byte is changed on the way, whatever the attributes say.
    let versions = listing(&service.data_dir().join("versions"));
    let scripts: Vec<_> = versions.iter().filter(|(path, _)| path.ends_with("task.sh")).collect();
    assert!(scripts.len() == 1 && *scripts[0].1 == SCRIPT.as_bytes(), "{scripts:?}");
    assert_eq!(client.items("/api/v1/units").await.len(), corpus.len() + 1);
    // The next commit is taken as well.
    let tree = repo.tree(&[entry("40000", "good", &good_tree(&repo)), entry("40000", "next", &good)]);
    repo.commit_tree(&tree);
    client.reconcile().await;
    client.unit_until("bad/next", "is live", |unit| unit["deployedHash"].is_string()).await;
    service.terminate().await;
    let objects = |path: &Path| {
        path.components().any(|part| part.as_os_str() == "objects" || part.as_os_str() == "refs")
    };
    let after = (listing(service.root()), listing(repo.root()));
    assert_eq!(before.0.keys().collect::<Vec<_>>(), after.0.keys().collect::<Vec<_>>());
    assert_eq!(before.0, after.0);
    let own = |all: &BTreeMap<PathBuf, Vec<u8>>| -> Vec<PathBuf> {
        all.keys().filter(|path| !objects(path)).cloned().collect()
    };
    assert_eq!(own(&before.1), own(&after.1));
}

#[tokio::test]
async fn a_tree_of_a_few_objects_without_end_is_refused_as_a_whole() {
    let (repo, good) = (Repo::new(), Repo::new());
    let blob = repo.blob(b"x");
    let names: Vec<String> = (0..10).map(|n| format!("d{n}")).collect();
    let files: Vec<_> = names.iter().map(|name| entry("100644", name, &blob)).collect();
    let mut tree = repo.tree(&files);
    for _ in 0..12 {
        let dirs: Vec<_> = names.iter().map(|name| entry("40000", name, &tree)).collect();
        tree = repo.tree(&dirs);
    }
    repo.commit_tree(&tree);
    good.publish(&[("a/task.yaml", &manifest("a", "manual: true")), ("a/task.sh", "printf 'well'\n")]);
    let mut service = Service::new(&format!(
        "sources:\n- {{name: bomb, git: {{url: {}, branch: main}}}}\n- {{name: good, git: {{url: {}, branch: main}}}}\n",
        repo.bare().display(),
        good.bare().display()
    ));
    let client = service.start().await;
    client.unit_until("good/a", "is live", |unit| unit["deployedHash"].is_string()).await;
    // Before the other one is given up, which takes its time on a busy machine.
    assert_prints(&client, "good/a", "well").await;
    let refused = async {
        loop {
            let sources = client.items("/api/v1/sources?name=bomb").await;
            let told = condition(&sources[0], "Ready");
            if told.starts_with("False") {
                return told;
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    };
    let told = tokio::time::timeout(std::time::Duration::from_secs(300), refused).await.unwrap();
    assert!(told.starts_with("False TreeTooLarge"), "{told}");
    assert_prints(&client, "good/a", "well").await;
}

#[tokio::test]
async fn a_hostile_directory_harms_nothing_but_itself() {
    let mut service = Service::new(&format!("{LIMITS}sources:\n- {{name: bad, local: {{path: ./src}}}}\n"));
    let src = service.root().join("src");
    let corpus = write_local(&service, &src);
    service.task("src/good", SCRIPT);
    for path in TEMPTING {
        service.write(&format!("src/good/{path}"), content(b""));
    }
    service.write("src/good/.gitattributes", ATTRIBUTES);
    // Links that lead nowhere, round in a circle and out of the source stand in no unit and are never entered.
    for (name, target) in [("loop", "."), ("out", "/"), ("gone", "nowhere"), ("self", "self")] {
        symlink(target, src.join(name)).unwrap();
    }
    let before = listing(service.root());
    let client = service.start().await;
    client.post("/api/v1/wait", serde_json::json!({})).await;
    assert_refused(&client, "bad", &corpus).await;
    assert_prints(&client, "bad/good", "as it is").await;
    assert_eq!(client.items("/api/v1/units").await.len(), corpus.len() + 1);
    service.task("src/good", "printf 'saved'\n");
    client.reconcile().await;
    assert_prints(&client, "bad/good", "saved").await;
    service.task("src/good", SCRIPT);
    service.terminate().await;
    assert_eq!(before, listing(service.root()));
}

/// Writes what a directory can hold of the corpus, and what only a directory can.
fn write_local(service: &Service, src: &Path) -> Vec<Hostile> {
    let mut all = corpus();
    for bad in &all {
        let dir = src.join(bad.key);
        service.task(&format!("src/{}", bad.key), ":\n");
        if let Some(text) = &bad.manifest {
            fs::write(dir.join("task.yaml"), text).unwrap();
        }
        for thing in &bad.files {
            let (Thing::File(path) | Thing::Link(path, _) | Thing::Module(path)) = thing;
            let place = dir.join(OsStr::from_bytes(path));
            fs::create_dir_all(place.parent().unwrap()).unwrap();
            match thing {
                Thing::Link(_, target) => symlink(OsStr::from_bytes(target), place).unwrap(),
                _ => fs::write(place, content(path)).unwrap(),
            }
        }
    }
    let special = "sockets, pipes and devices are refused";
    let own = |key: &'static str, message: &'static str| {
        service.task(&format!("src/{key}"), ":\n");
        hostile(key, Vec::new(), PATH, message)
    };
    let mode = Mode::from_raw_mode(0o644);
    all.push(own("pipe", special));
    mkfifoat(CWD, src.join("pipe/p"), mode).unwrap();
    all.push(own("socket", special));
    drop(UnixListener::bind(src.join("socket/s")).unwrap());
    // Only a privileged user makes devices.
    if mknodat(CWD, src.join("null"), FileType::CharacterDevice, mode, makedev(1, 3)).is_ok() {
        all.push(own("device", special));
        fs::rename(src.join("null"), src.join("device/d")).unwrap();
        assert!(fs::symlink_metadata(src.join("device/d")).unwrap().file_type().is_char_device());
    } else {
        println!("passed over: devices, which only a privileged user makes");
    }
    all.push(own("manifest-pipe", "a manifest must be a regular file"));
    fs::remove_file(src.join("manifest-pipe/task.yaml")).unwrap();
    mkfifoat(CWD, src.join("manifest-pipe/task.yaml"), mode).unwrap();
    all.push(own("manifest-link", "a manifest must be a regular file"));
    fs::remove_file(src.join("manifest-link/task.yaml")).unwrap();
    symlink("/etc/passwd", src.join("manifest-link/task.yaml")).unwrap();
    all
}

#[tokio::test]
async fn a_unit_gets_no_variable_that_its_source_may_not_give() {
    let secret = "hunter2hunter2hunter2";
    let mut service =
        Service::new("sources:\n- {name: dir, local: {path: ./src}, allow: {env: [ALLOWED]}}\n").through(&[
            "env",
            "ALLOWED=given",
            "OTHER=hunter3",
            &format!("TOKEN_OF_KINDLING={secret}"),
        ]);
    let asking = |name: &str, variables: &str| {
        format!("{}permissions: {{env: [{variables}]}}\n", manifest(name, "manual: true"))
    };
    let print = "printf '%s' \"${ALLOWED-none}/${OTHER-none}/${MINE-none}/${TOKEN_OF_KINDLING-none}\"\n";
    for (name, variables) in [
        ("none", ""),
        ("one", "ALLOWED, {name: MINE, from: ALLOWED}"),
        ("more", "OTHER"),
        ("lost", "{name: MINE, from: ALLOWED}, USER_OF_NOBODY"),
    ] {
        service.task(&format!("src/{name}"), print);
        service.write(&format!("src/{name}/task.yaml"), asking(name, variables));
    }
    let client = service.start().await;
    client.post("/api/v1/wait", serde_json::json!({})).await;
    assert_prints(&client, "dir/none", "none/none/none/none").await;
    assert_prints(&client, "dir/one", "given/none/given/none").await;
    for (key, line) in
        [("more", "allow: {env: [ALLOWED, OTHER]}"), ("lost", "allow: {env: [ALLOWED, USER_OF_NOBODY]}")]
    {
        let unit = client.unit(&format!("dir/{key}")).await;
        let stalled = condition(&unit, "Stalled");
        assert!(stalled.starts_with("True NotAllowed") && stalled.contains(line), "{unit:#}");
    }
    // The line that it names is the one that is missing; a variable that is not there fails the run by its name.
    service.terminate().await;
    service.configure(
        "sources:\n- {name: dir, local: {path: ./src}, allow: {env: [ALLOWED, USER_OF_NOBODY]}}\n",
    );
    let client = service.start().await;
    client.unit_until("dir/lost", "is live", |unit| unit["deployedHash"].is_string()).await;
    let run = client.run("dir/lost").await;
    assert_eq!(run["status"], "failed", "{run:#}");
    assert!(run["error"].as_str().unwrap().contains("the variable `USER_OF_NOBODY` is not set"), "{run:#}");
    assert!(!service.log().contains("hunter"), "no value is in the log");
}
