//! References that count in dev mode alone.

use super::*;

#[test]
fn a_reference_for_dev_mode_counts_only_there() {
    let mut world = World::default();
    world.task("a", "a").task("dev", "d").set("", "  entries: {a: {ref: {path: a, dev_ref: {path: dev}}}}\n");
    world.look(&Changes::All);
    assert_eq!(world.units()["a"].as_ref().unwrap().spec.name, "a");
    world.dev = true;
    world.look(&Changes::All);
    assert_eq!(world.units()["a"].as_ref().unwrap().spec.name, "d");
}

#[test]
fn a_reference_for_dev_mode_is_checked_in_every_mode() {
    let mut world = World::default();
    world.task("a", "a");
    let wrong = [
        "text",
        "{}",
        "{path: /etc}",
        "{path: ../x}",
        "{pth: a}",
        "{path: a, branch: b}",
        "{url: /srv/x.git}",
        "{path: a, dev_ref: {path: a}}",
    ];
    let entries: String = (0..)
        .zip(wrong)
        .map(|(n, dev)| format!("    e{n}: {{ref: {{path: a, dev_ref: {dev}}}}}\n"))
        .collect();
    world.set("", &format!("  entries:\n    gone: {{ref: {{path: a, dev_ref: {{path: gone}}}}}}\n{entries}"));
    world.look(&Changes::All);
    assert!(world.units()["gone"].is_ok(), "whether it is there is asked in dev mode alone");
    let shown: Vec<String> = world.units().into_values().filter_map(Result::err).collect();
    insta::assert_snapshot!(shown.join("\n"), @"
    InvalidManifest: taskset.yaml:6:34: `spec.entries.e0.ref.dev_ref` must be a map, such as `{path: jobs/digest}`, not text
    InvalidManifest: taskset.yaml:7:34: `spec.entries.e1.ref.dev_ref`: the field `path` is missing
    InvalidManifest: taskset.yaml:8:41: `spec.entries.e2.ref.dev_ref.path` must be relative to the file that names it
    InvalidManifest: taskset.yaml:9:41: `spec.entries.e3.ref.dev_ref.path` leads out of the tree that it is in
    InvalidManifest: taskset.yaml:10:35: `spec.entries.e4.ref.dev_ref`: unknown field `pth`; did you mean `path`? known: path
    InvalidManifest: taskset.yaml:11:44: `spec.entries.e5.ref.dev_ref`: unknown field `branch`; known: path
    InvalidManifest: taskset.yaml:12:40: `dev_ref` leads to a directory beside this file, not to another repository
    InvalidManifest: taskset.yaml:13:44: `spec.entries.e7.ref.dev_ref`: unknown field `dev_ref`; known: path
    ");
    let before: Vec<String> = shown;
    world.dev = true;
    world.look(&Changes::All);
    let shown: Vec<String> = world
        .units()
        .into_iter()
        .filter(|(key, _)| key != "gone")
        .filter_map(|(_, unit)| unit.err())
        .collect();
    assert_eq!(shown, before);
}
