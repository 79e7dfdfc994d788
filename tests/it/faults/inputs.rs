//! Bad input, all of it at once in one source: each unit says what is wrong with it and where, and the good ones
//! beside them are live.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::{Value, json};

use super::{LOCAL, assert_prints, text, with_tasks};
use crate::repo::Repo;
use crate::service::client::{Client, condition};
use crate::service::{Service, manifest};

/// What is wrong with one unit, and how it is told: the reason, the file below the unit's directory, line and column,
/// and a part of the message.
struct Bad {
    key: &'static str,
    reason: &'static str,
    file: &'static str,
    at: Option<(u32, u32)>,
    message: &'static str,
}

const fn bad(
    key: &'static str,
    reason: &'static str,
    file: &'static str,
    at: Option<(u32, u32)>,
    message: &'static str,
) -> Bad {
    Bad { key, reason, file, at, message }
}

const YAML: &str = "InvalidManifest";
const PATH: &str = "RefusedPath";
const LIMIT: &str = "LimitExceeded";

/// Manifests that are wrong, by their line after the five of a good one.
const LINES: [(&str, &str); 9] = [
    ("unknown-field", "timout: 5s\n"),
    ("wrong-type", "timeout: [5, 6]\n"),
    ("duplicate-key", "name: twice\n"),
    ("text-for-map", "params: none\n"),
    ("dots-in-path", "entry: ../up.sh\n"),
    ("nul-in-path", "entry: \"a\\0b\"\n"),
    ("missing-entry", "entry: nowhere.sh\n"),
    ("unclosed", "env: {A: \"b\n"),
    ("tab", "env:\n\tA: b\n"),
];

const LOCAL_BAD: [Bad; 26] = [
    bad("unknown-field", YAML, "task.yaml", Some((6, 1)), "unknown field `timout`; did you mean `timeout`?"),
    bad("wrong-type", YAML, "task.yaml", Some((6, 10)), "must be"),
    bad("duplicate-key", YAML, "task.yaml", Some((6, 1)), "the key `name` is given twice"),
    bad("text-for-map", YAML, "task.yaml", Some((6, 9)), "must be a map"),
    bad("dots-in-path", YAML, "task.yaml", Some((6, 8)), "`..`"),
    bad("nul-in-path", YAML, "task.yaml", Some((6, 8)), "control character"),
    bad("missing-entry", "MissingEntry", "task.yaml", Some((6, 8)), "nowhere.sh"),
    bad("unclosed", YAML, "task.yaml", Some((6, 10)), "quote is not closed"),
    bad("tab", YAML, "task.yaml", Some((7, 2)), "indent with spaces"),
    bad("alias-bomb", YAML, "task.yaml", Some((10, 14)), "values"),
    bad("deep", YAML, "task.yaml", Some((6, 37)), "inside one another"),
    bad("large-manifest", LIMIT, "task.yaml", Some((1, 1)), "limits.manifest"),
    bad("not-utf8", YAML, "task.yaml", Some((3, 7)), "not UTF-8"),
    bad("empty", YAML, "task.yaml", Some((1, 1)), "empty"),
    bad("no-script", "MissingEntry", "task.yaml", Some((4, 10)), "task.sh"),
    bad("no-interpreter", "MissingInterpreter", "", None, "no-such-program"),
    bad("linked-manifest", PATH, "task.yaml", Some((1, 1)), "regular file"),
    bad("large-file", LIMIT, "data.bin", None, "limits.file"),
    bad("name-not-utf8", PATH, "", None, "not valid UTF-8"),
    bad("name-control", PATH, "", None, "control character"),
    bad("link-absolute", PATH, "out", None, "leads out of the unit"),
    bad("link-up", PATH, "below/out", None, "leads out of the unit"),
    bad("dot-git", PATH, "", None, "spelling of `.git`"),
    bad("short-git", PATH, "", None, "spelling of `.git`"),
    bad("pipe", PATH, "pipe", None, "pipes"),
    bad(
        "too-deep",
        LIMIT,
        "1/2/3/4/5/6/7/8/9/10/11/12/13/14/15/16/17/18/19/20/21/22/23/24/25/26/27/28/29/30/31/32/f",
        None,
        "limits.depth",
    ),
];

fn write_all_bad(service: &Service) {
    let src = service.root().join("src");
    for (key, line) in LINES {
        service.task(&format!("src/{key}"), ":\n");
        service.write(&format!("src/{key}/task.yaml"), format!("{}{line}", manifest(key, "manual: true")));
    }
    let rest = LOCAL_BAD.iter().map(|bad| bad.key).filter(|key| !LINES.iter().any(|(line, _)| line == key));
    rest.for_each(|key| service.task(&format!("src/{key}"), ":\n"));
    let good = |key: &str| manifest(key, "manual: true");
    let levels = |name: &str, of: &str| format!("  {name}: &{name} [{}]\n", vec![of; 20].join(", "));
    let bomb = format!("params:\n{}{}", levels("a", "x"), levels("b", "*a"));
    let bomb = format!("{bomb}{}{}", levels("c", "*b"), levels("d", "*c"));
    service.write("src/alias-bomb/task.yaml", format!("{}{bomb}", good("alias-bomb")));
    let deep = format!("{}env: {}{}\n", good("deep"), "[".repeat(200), "]".repeat(200));
    service.write("src/deep/task.yaml", deep);
    let large = format!("{}#{}\n", good("large-manifest"), "x".repeat(300 << 10));
    service.write("src/large-manifest/task.yaml", large);
    service.write("src/not-utf8/task.yaml", b"apiVersion: kindling/v1\nkind: Task\nname: \xff\n");
    service.write("src/empty/task.yaml", "");
    fs::remove_file(src.join("no-script/task.sh")).unwrap();
    let command = good("no-interpreter").replace("runtime: shell", "command: [no-such-program-of-kindling]");
    service.write("src/no-interpreter/task.yaml", command);
    service.write("aside.yaml", good("linked-manifest"));
    fs::remove_file(src.join("linked-manifest/task.yaml")).unwrap();
    symlink(service.root().join("aside.yaml"), src.join("linked-manifest/task.yaml")).unwrap();
    File::create(src.join("large-file/data.bin")).unwrap().set_len((10 << 20) + 1).unwrap();
    fs::write(src.join("name-not-utf8").join(OsStr::from_bytes(b"caf\xe9")), "").unwrap();
    fs::write(src.join("name-control/a\nb"), "").unwrap();
    symlink("/etc/hostname", src.join("link-absolute/out")).unwrap();
    fs::create_dir(src.join("link-up/below")).unwrap();
    symlink("../../good/task.sh", src.join("link-up/below/out")).unwrap();
    service.write("src/dot-git/.GIT/config", "");
    service.write("src/short-git/git~1", "");
    rustix::fs::mkfifoat(rustix::fs::CWD, src.join("pipe/pipe"), rustix::fs::Mode::from_raw_mode(0o644))
        .unwrap();
    service.write(&format!("src/too-deep/{}", LOCAL_BAD[25].file), "");
}

async fn assert_told(client: &Client, source: &str, bad: &Bad) {
    let id = format!("{source}/{}", bad.key);
    let unit = client.unit(&id).await;
    assert!(unit["desiredHash"].is_null() && unit["deployedHash"].is_null(), "{id}: {unit:#}");
    let problem = &unit["problems"][0];
    assert_eq!(text(problem, "reason"), bad.reason, "{id}: {problem:#}");
    assert!(text(problem, "message").contains(bad.message), "{id}: {problem:#}");
    let file = match (bad.reason, bad.file) {
        ("MissingInterpreter", _) => Value::Null,
        (_, "") => json!(bad.key),
        (_, file) => json!(format!("{}/{file}", bad.key)),
    };
    assert_eq!(problem["file"], file, "{id}: {problem:#}");
    let at = problem["line"].as_u64().zip(problem["column"].as_u64());
    let expected = bad.at.map(|(line, column)| (u64::from(line), u64::from(column)));
    assert_eq!(at, expected, "{id}: {problem:#}");
    assert!(condition(&unit, "Ready").starts_with(&format!("False {}", bad.reason)), "{id}: {unit:#}");
    // Whoever looks at the whole sees it too, and `why` tells the same.
    let why = client.get(&format!("/api/v1/why?unit={id}")).await;
    assert_eq!(why["unit"]["problems"], unit["problems"]);
}

#[tokio::test]
async fn every_bad_unit_of_a_directory_is_told_and_no_good_one_suffers() {
    let mut service = with_tasks(&["good", "well"]);
    write_all_bad(&service);
    let client = service.start().await;
    client.post("/api/v1/wait", json!({})).await;
    for task in ["good", "well"] {
        assert_prints(&client, &format!("dir/{task}"), &format!("this is {task}")).await;
    }
    for bad in &LOCAL_BAD {
        assert_told(&client, "dir", bad).await;
        assert!(service.log().contains(&format!("task/{} failed: ", bad.key)), "{}", bad.key);
    }
    assert_eq!(client.items("/api/v1/units").await.len(), LOCAL_BAD.len() + 2);
    let unready = client.get("/api/v1/status").await["unready"].take();
    assert_eq!(unready.as_array().unwrap().len(), LOCAL_BAD.len(), "{unready:#}");
    // A good unit is updated beside them, and a bad one that is mended needs no command.
    service.task("src/good", "printf 'better'\n");
    service.task("src/unclosed", "printf 'mended'\n");
    fs::remove_dir_all(service.root().join("src/dot-git/.GIT")).unwrap();
    for id in ["dir/unclosed", "dir/dot-git"] {
        client.unit_until(id, "is live", |unit| unit["deployedHash"].is_string()).await;
    }
    client.post("/api/v1/wait", json!({})).await;
    assert_prints(&client, "dir/good", "better").await;
    assert_prints(&client, "dir/unclosed", "mended").await;
    let unready = client.get("/api/v1/status").await["unready"].take();
    assert_eq!(unready.as_array().unwrap().len(), LOCAL_BAD.len() - 2, "{unready:#}");
}

#[tokio::test]
async fn two_manifests_with_one_id_are_both_named() {
    let mut service = with_tasks(&["good", "twin"]);
    service.write("src/task.yaml", manifest("twin", "manual: true"));
    service.write("src/task.sh", ":\n");
    let client = service.start().await;
    let unit = client.unit("dir/twin").await;
    let problem = &unit["problems"][0];
    assert_eq!(text(problem, "reason"), "DuplicateId", "{unit:#}");
    assert!(text(problem, "message").contains("twin/task.yaml"), "{unit:#}");
    assert!(unit["desiredHash"].is_null() && problem["line"] == 1, "{unit:#}");
    assert_prints(&client, "dir/good", "this is good").await;
    // One of them gets another name.
    service.write("src/task.yaml", manifest("other", "manual: true"));
    for id in ["dir/twin", "dir/other"] {
        client.unit_until(id, "is live", |unit| unit["deployedHash"].is_string()).await;
    }
    assert_prints(&client, "dir/twin", "this is twin").await;
}

#[tokio::test]
async fn a_last_good_version_outlives_whatever_is_saved_over_it() {
    let mut service = with_tasks(&["a"]);
    service.write("src/d/task.yaml", manifest("d", "daemon: true"));
    service.write("src/d/task.sh", "sleep 300\n");
    let client = service.start().await;
    let running = async || client.items("/api/v1/runs?task=dir/d&status=running").await;
    let daemon = running().await;
    assert_eq!(daemon.len(), 1);
    for broken in ["", "apiVersion: kindling/v1\n", "kind: [", "\u{0}", "{}", "- 1\n", "name: *x\n"] {
        for key in ["a", "d"] {
            service.write(&format!("src/{key}/task.yaml"), broken);
        }
        client.reconcile().await;
        for id in ["dir/a", "dir/d"] {
            let unit = client.unit(id).await;
            assert!(unit["problems"][0]["line"].is_u64() && unit["deployedHash"].is_string(), "{unit:#}");
            assert!(condition(&unit, "Ready").contains("still running"), "{unit:#}");
        }
        assert_prints(&client, "dir/a", "this is a").await;
        assert_eq!(running().await, daemon);
    }
    for (key, trigger) in [("a", "manual: true"), ("d", "daemon: true")] {
        service.write(&format!("src/{key}/task.yaml"), manifest(key, trigger));
        let well = |unit: &Value| condition(unit, "Ready").starts_with("True");
        client.unit_until(&format!("dir/{key}"), "is well again", well).await;
    }
    assert_eq!(running().await, daemon);
}

const GIT_BAD: [Bad; 7] = [
    bad("broken", YAML, "task.yaml", Some((6, 1)), "unknown field `timout`"),
    bad("name-dot-git", PATH, "", None, "spelling of `.git`"),
    bad("name-dots", PATH, "", None, "`..`"),
    bad("name-not-utf8", PATH, "", None, "not valid UTF-8"),
    bad("link-out", PATH, "out", None, "leads out of the unit"),
    bad("submodule", PATH, "module", None, "submodules are refused"),
    bad("large", LIMIT, "data.bin", None, "limits.file"),
];

/// Commits the seven bad units of [`GIT_BAD`] and a good one, in trees that git itself would not make; or the same
/// units mended.
fn commit_tasks(repo: &Repo, mended: bool) {
    let script = repo.blob(b"printf good\n");
    let (empty, link) = (repo.blob(b""), repo.blob(b"../../etc/passwd"));
    let large = repo.blob(&vec![b'x'; (10 << 20) + 1]);
    let commit = repo.commit_tree(&repo.tree(&[]));
    let task = |key: &str, odd: Option<(&str, &[u8], &str)>| {
        let more = if key == "broken" && !mended { "timout: 1s\n" } else { "" };
        let manifest = repo.blob(format!("{}{more}", manifest(key, "manual: true")).as_bytes());
        let mut entries: Vec<(&str, &[u8], &str)> =
            vec![("100644", b"task.sh", &script), ("100644", b"task.yaml", &manifest)];
        entries.extend(odd.filter(|_| !mended));
        entries.sort_by_key(|(_, name, _)| name.to_vec());
        repo.tree(&entries)
    };
    let trees = [
        ("broken", task("broken", None)),
        ("good", task("good", None)),
        ("large", task("large", Some(("100644", b"data.bin", &large)))),
        ("link-out", task("link-out", Some(("120000", b"out", &link)))),
        ("name-dot-git", task("name-dot-git", Some(("100644", b".GiT ", &empty)))),
        ("name-dots", task("name-dots", Some(("100644", b"..", &empty)))),
        ("name-not-utf8", task("name-not-utf8", Some(("100644", b"caf\xe9", &empty)))),
        ("submodule", task("submodule", Some(("160000", b"module", &commit)))),
    ];
    let entries: Vec<(&str, &[u8], &str)> =
        trees.iter().map(|(name, tree)| ("40000", name.as_bytes(), tree.as_str())).collect();
    repo.commit_tree(&repo.tree(&entries));
}

fn from_git(bare: &Path) -> String {
    format!("sources:\n  - name: repo\n    git: {{url: \"{}\"}}\n", bare.display())
}

#[tokio::test]
async fn every_bad_unit_of_a_repository_is_told_and_no_good_one_suffers() {
    let repo = Repo::new();
    commit_tasks(&repo, false);
    let mut service = Service::new(&from_git(&repo.bare()));
    let client = service.start().await;
    client.reconcile().await;
    assert_prints(&client, "repo/good", "good").await;
    for bad in &GIT_BAD {
        assert_told(&client, "repo", bad).await;
    }
    assert_eq!(client.items("/api/v1/units").await.len(), GIT_BAD.len() + 1);
    commit_tasks(&repo, true);
    client.reconcile().await;
    for bad in &GIT_BAD {
        assert_prints(&client, &format!("repo/{}", bad.key), "good").await;
    }
}

#[tokio::test]
async fn a_hostile_value_never_becomes_a_line_of_the_log() {
    let mut service = Service::new(LOCAL);
    let name = "evil\n[00:00:00.000] task/forged registered (hash: aaaaaa) source=dir\u{1b}[2J";
    service.write(&format!("src/{name}/task.yaml"), manifest("a", "manual: true"));
    service.write(
        "src/a/task.yaml",
        format!("{}\"x\\n[00:00:00.000] forged\": 1\n", manifest("a", "manual: true")),
    );
    service.task("src/good", "printf good\n");
    let client = service.start().await;
    client.post("/api/v1/wait", json!({})).await;
    assert_prints(&client, "dir/good", "good").await;
    let log = service.log();
    assert!(log.lines().all(|line| line.starts_with('[') && !line.starts_with("[00:00:00.000]")), "{log}");
    assert!(!log.contains('\u{1b}'), "{log}");
}
