//! Sets that lead to other repositories.

use super::*;
use crate::model::id::SourceName;
use crate::model::source::{Allow, LocalOrigin, Origin, SourceSpec};
use crate::plan::nested;

const OTHER: &str = "/srv/other.git";

/// A local source whose sets may use `hosts`.
fn world(hosts: &[&str]) -> World {
    let origin = Origin::Local(LocalOrigin { path: "/srv/own".into(), debounce: None });
    let allow = Allow { env: Vec::new(), hosts: hosts.iter().map(ToString::to_string).collect() };
    let spec = SourceSpec { name: SourceName::new("s").unwrap(), origin, allow };
    World { repositories: Repositories::of(spec), ..World::default() }
}

fn set(entries: &str) -> String {
    format!("apiVersion: kindling/v1\nkind: TaskSet\nspec:\n  entries:\n{entries}")
}

fn at(url: &str, path: &str) -> String {
    let root = RelPath::mount(url, None).unwrap();
    root.append(&RelPath::parse(path).unwrap()).as_str().to_owned()
}

impl World {
    fn reach(&mut self, url: &str) -> &mut Self {
        self.reachable.insert(RelPath::mount(url, None).unwrap());
        self
    }

    fn roots(&self) -> Vec<String> {
        self.catalog.repositories().iter().map(ToString::to_string).collect()
    }
}

#[test]
fn an_entry_leads_to_a_task_or_a_set_of_another_repository() {
    let mut world = world(&[]);
    world.reach(OTHER).task(&at(OTHER, "t"), "t").task(&at(OTHER, "in/u"), "u").task(&at(OTHER, "lost"), "x");
    world.put(
        &at(OTHER, "in/taskset.yaml"),
        &set("    u: {ref: {path: u}}\n    up: {ref: {path: ../t}}\n    out: {ref: {path: ../../t}}\n"),
    );
    world.put(
        "taskset.yaml",
        &set(&format!("    t: {{ref: {{url: {OTHER}, path: t}}}}\n    in: {{ref: {{url: {OTHER}, path: in}}, overrides: {{entries: {{u: {{env: {{A: b}}}}}}}}}}\n    gone: {{ref: {{url: {OTHER}, path: nowhere}}}}\n")),
    );
    world.look(&Changes::All);
    assert_eq!(world.keys(), ["gone", "in/out", "in/u", "in/up", "t"]);
    assert_eq!(world.files_of("t"), ["task.sh", "task.yaml"]);
    assert_eq!(world.units()["in/u"].as_ref().unwrap().spec.env["A"], "b");
    assert_eq!(world.roots(), [OTHER]);
    insta::assert_snapshot!(world.problem("gone"), @"InvalidManifest: taskset.yaml:7:23: the directory /srv/other.git//nowhere holds no task.yaml and no taskset.yaml");
    insta::assert_snapshot!(world.problem("in/out"), @"InvalidManifest: /srv/other.git//in/taskset.yaml:7:23: `spec.entries.out.ref.path` leads out of the tree that it is in");
    // A change there is found by its path, and a whole look finds the same.
    world.reads = 0;
    let before = world.units()["t"].as_ref().unwrap().hash;
    let script = at(OTHER, "t/task.sh");
    world.put(&script, "echo other\n").look(&Changes::Paths([RelPath::recorded(&script).unwrap()].into()));
    assert_ne!(world.units()["t"].as_ref().unwrap().hash, before);
    assert_eq!(world.looked_at, ["in/up", "t"]);
    let mut whole = world.clone();
    whole.catalog = Catalog::default();
    assert_eq!(whole.look(&Changes::All).units(), world.units());
    // What nothing leads to any more is gone.
    world.put("taskset.yaml", &set("    none: {inline: {}}\n")).look(&paths(&["taskset.yaml"]));
    assert_eq!((world.keys(), world.roots().len()), (vec!["none".to_owned()], 0));
}

#[test]
fn a_task_at_the_sources_own_path_has_no_file_of_another_repository() {
    let mut world = world(&[]);
    world.reach(OTHER).task("", "own").task(&at(OTHER, "t"), "t").task("in/x", "x");
    world.put("in/taskset.yaml", &set(&format!("    t: {{ref: {{url: {OTHER}, path: t}}}}\n")));
    world.look(&Changes::All);
    assert_eq!(world.keys(), ["in/t", "own"]);
    assert!(world.files_of("own").iter().all(|file| !file.contains("other")), "{:?}", world.files_of("own"));
}

#[test]
fn what_may_not_be_led_to_is_a_problem_with_the_line_to_add() {
    let mut world = world(&["h"]);
    world.task("ok", "ok");
    world.put(
        "taskset.yaml",
        &set("    ok: {ref: {path: ok}}\n    no: {ref: {url: 'https://other/x.git', path: t}}\n"),
    );
    world.look(&Changes::All);
    assert!(world.units()["ok"].is_ok());
    insta::assert_snapshot!(world.problem("no"), @r#"NotAllowed: taskset.yaml:6:21: leads to a repository of `other`, which its source may not use; to allow it, the source `s` in kindling.yaml gets the line `allow: {hosts: ["h", "other"]}`"#);
}

#[test]
fn a_repository_that_is_away_keeps_its_units() {
    let mut world = world(&[]);
    world.reach(OTHER).task("ok", "ok").task(&at(OTHER, "in/t"), "t");
    world.put(&at(OTHER, "in/taskset.yaml"), &set("    t: {ref: {path: t}}\n"));
    let text = set(&format!(
        "    ok: {{ref: {{path: ok}}}}\n    in: {{ref: {{url: {OTHER}, path: in}}}}\n    t: {{ref: {{url: {OTHER}, path: in/t}}}}\n"
    ));
    world.put("taskset.yaml", &text).look(&Changes::All);
    let before = world.units().into_keys().collect::<Vec<_>>();
    assert_eq!(before, ["in/t", "ok", "t"]);
    let root = RelPath::mount(OTHER, None).unwrap();
    world.files.retain(|path, _| !path.contains("other"));
    world.repositories.here.clear();
    world.repositories.away.insert(root.clone());
    world.look(&Changes::All);
    assert_eq!(world.keys(), before);
    assert!(world.catalog.is_kept("in/t") && world.catalog.is_kept("t") && !world.catalog.is_kept("ok"));
    // Also where nothing was known, nothing below counts as gone.
    world.catalog = Catalog::default();
    world.look(&Changes::All);
    assert!(world.catalog.is_kept("in/t") && world.catalog.is_kept("t") && !world.catalog.is_kept("ok"));
    assert_eq!(world.roots(), [OTHER]);
    world.repositories.away.clear();
    world.task(&at(OTHER, "in/t"), "t").put(&at(OTHER, "in/taskset.yaml"), &set("    t: {ref: {path: t}}\n"));
    world.look(&Changes::All);
    assert_eq!(world.keys(), before);
    assert!(!world.catalog.is_kept("in/t") && !world.catalog.is_kept("t"));
}

#[test]
fn in_dev_mode_a_directory_may_stand_for_a_repository() {
    let mut world = world(&[]);
    world.reach(OTHER).task(&at(OTHER, "t"), "t").task("here", "here");
    let dev = |dev: &str| set(&format!("    t: {{ref: {{url: {OTHER}, path: t, dev_ref: {dev}}}}}\n"));
    world.put("taskset.yaml", &dev("{path: here}")).look(&Changes::All);
    let far = world.units()["t"].clone().unwrap().spec.name.clone();
    world.dev = true;
    world.look(&Changes::All);
    assert_eq!((far.as_str(), world.units()["t"].clone().unwrap().spec.name.as_str()), ("t", "here"));
    assert!(world.roots().is_empty());
    world.put("taskset.yaml", &dev("{url: /srv/third.git}")).look(&paths(&["taskset.yaml"]));
    insta::assert_snapshot!(world.problem("t"), @"InvalidManifest: taskset.yaml:5:60: `dev_ref` leads to a directory beside this file, not to another repository");
}

#[test]
fn repositories_that_lead_to_one_another_come_to_an_end() {
    let urls: Vec<String> = (0..6).map(|n| format!("/srv/r{n}.git")).collect();
    let mut world = world(&[]);
    let to = |url: &str| set(&format!("    on: {{ref: {{url: {url}}}}}\n    t: {{ref: {{path: t}}}}\n"));
    world.task("t", "t").put("taskset.yaml", &to(&urls[0]));
    for (n, url) in urls.iter().enumerate() {
        world.reach(url).task(&at(url, "t"), "t");
        world.put(&at(url, "taskset.yaml"), &to(&urls[(n + 1) % urls.len()]));
    }
    world.look(&Changes::All);
    assert_eq!(world.keys(), ["on/on/on/on", "on/on/on/t", "on/on/t", "on/t", "t"]);
    insta::assert_snapshot!(world.problem("on/on/on/on"), @"InvalidManifest: /srv/r2.git//taskset.yaml:5:21: more than 3 repositories lead to one another");
    // A cycle is told where it closes.
    world.put(&at(&urls[1], "taskset.yaml"), &to(&urls[0])).look(&Changes::All);
    let told: Vec<String> = world.catalog.homeless_problems().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "/srv/r1.git//taskset.yaml:5:5: the set refers to itself: /srv/r0.git -> /srv/r1.git -> /srv/r0.git"
        ]
    );
}

#[test]
fn a_way_back_to_the_sources_own_repository_is_a_cycle() {
    use crate::model::source::GitRef;
    for (own, back, reference, path, is_cycle) in [
        ("/srv/a.git", "file:///srv/a/", None, "", true),
        ("https://h/A.git", "https://H:443/A", None, "", true),
        ("git@h:a.git", "git@h:a", None, "", true),
        ("/srv/a.git", "/srv/a.git", Some("main"), "", true),
        ("/srv/a.git", "/srv/a.git", Some("other"), "", false),
        ("/srv/a.git", "/srv/a.git", None, "jobs", true),
        ("/srv/a.git", "/srv/c.git", None, "", false),
    ] {
        let other = if own.starts_with('/') { OTHER } else { "https://h/other" };
        let mut spec = nested::as_source(
            &world(&[]).repositories.source.unwrap(),
            &RelPath::mount(own, reference.map(|_| "main")).unwrap(),
        )
        .unwrap();
        let Origin::Git(git) = &mut spec.origin else { panic!("a git source") };
        git.path = RelPath::parse(path).unwrap();
        assert!(matches!(git.reference, GitRef::Head | GitRef::Branch(_)));
        let mut world = World { repositories: Repositories::of(spec), ..World::default() };
        let root = RelPath::mount(back, reference).unwrap();
        world.reachable.insert(root.clone());
        let to = |at: &str| set(&format!("    on: {{ref: {{{at}}}}}\n    t: {{ref: {{path: t}}}}\n"));
        let first = to(&format!("url: {other}"));
        let branch = reference.map(|branch| format!(", branch: {branch}")).unwrap_or_default();
        let below = if path.is_empty() { String::new() } else { format!(", path: {path}") };
        world.reach(other).task("t", "t").task(&at(other, "t"), "t").put("taskset.yaml", &first);
        world.put(&at(other, "taskset.yaml"), &to(&format!("url: '{back}'{branch}{below}")));
        let again = root.append(&RelPath::parse(path).unwrap());
        world.task(again.append(&RelPath::parse("t").unwrap()).as_str(), "t");
        world.put(again.append(&RelPath::parse("taskset.yaml").unwrap()).as_str(), &to("path: nowhere"));
        world.look(&Changes::All);
        let told: Vec<String> = world.catalog.homeless_problems().map(ToString::to_string).collect();
        let keys = world.keys();
        assert_eq!(keys.contains(&"on/on/t".to_owned()), !is_cycle, "{own} {back}: {keys:?}");
        assert_eq!(told.iter().any(|told| told.contains("the set refers to itself: ")), is_cycle, "{told:?}");
        if is_cycle {
            assert_eq!(keys, ["on/t", "t"], "{own} {back}");
        }
    }
}
