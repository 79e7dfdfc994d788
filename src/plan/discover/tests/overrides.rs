use std::time::Duration;

use super::sets::set;
use super::*;

#[test]
fn a_default_time_limit_passes_daemons_by() {
    let mut world = World::default();
    let daemon = "apiVersion: kindling/v1\nkind: Task\nname: d\nruntime: shell\ntrigger: {daemon: true}\n";
    world.task("t", "t").task("d", "d").put("d/task.yaml", daemon);
    world.set(
        "",
        "  defaults: {timeout: 5m}\n  entries:\n    t: {ref: {path: t}}\n    d: {ref: {path: d}}\n    made: {ref: {path: t}, overrides: {trigger: {daemon: true}}}\n    wrong: {ref: {path: d}, overrides: {timeout: 5m}}\n",
    );
    world.look(&Changes::All);
    let timeout = |key: &str| world.units()[key].as_ref().unwrap().spec.timeout;
    assert_eq!((timeout("t"), timeout("d"), timeout("made")), (Some(Duration::from_secs(300)), None, None));
    // What is said of the daemon itself is a mistake.
    insta::assert_snapshot!(world.problem("wrong"), @"InvalidManifest: taskset.yaml:9:50: `timeout` is not for daemons: they have no end");
    let manifest =
        crate::config::node::Node::read(daemon.as_bytes(), &crate::config::yaml::Budget::manifest(1 << 18));
    assert!(world.catalog.origins("d", manifest.ok()).is_empty(), "nothing is said to have set it");
}

#[test]
fn an_override_of_no_entry_is_told_and_changes_nothing_below_its_set() {
    let mut world = World::default();
    let outer = |name: &str| {
        set(&format!(
            "  entries:\n    in:\n      ref: {{path: in}}\n      overrides:\n        entries:\n          {name}: {{enabled: false}}\n"
        ))
    };
    let inner = "  entries: {digest: {ref: {path: d}}, report: {ref: {path: r}}}\n";
    world.task("in/d", "d").task("in/r", "r").task("in/n", "n").set("in", inner);
    world.put("taskset.yaml", &outer("digest")).look(&Changes::All);
    assert_eq!(world.keys(), ["in/report"]);
    let report = world.hash("in/report");
    world.put("taskset.yaml", &outer("digset")).look(&paths(&["taskset.yaml"]));
    insta::assert_snapshot!(world.source_problems().join("\n"), @"taskset.yaml:9:11: unknown entry `digset`; did you mean `digest`? known: digest, report; nothing below this set changes until it has it");
    assert_eq!(world.keys(), ["in/report"]);
    // Whatever happens below it meanwhile, and wherever everything is looked at.
    world.put("in/d/task.sh", "other").put("in/r/task.sh", "other");
    world.set("in", &inner.replace("report: {", "new: {ref: {path: n}}, report: {"));
    world.look(&paths(&["in/d/task.sh", "in/d/task.yaml", "in/r/task.sh", "in/taskset.yaml"]));
    world.look(&Changes::All);
    assert_eq!((world.keys(), world.hash("in/report")), (vec!["in/report".to_owned()], report.clone()));
    // It is made up for once the override says what was meant, or the set has the entry.
    let mended = world.clone().put("taskset.yaml", &outer("digest")).look(&paths(&["taskset.yaml"])).keys();
    assert_eq!(mended, ["in/new", "in/report"]);
    world.set("in", &inner.replace("digest: {", "digset: {ref: {path: n}}, digest: {"));
    world.look(&paths(&["in/taskset.yaml"]));
    assert_eq!(world.keys(), ["in/digest", "in/report"]);
    assert_ne!(world.hash("in/report"), report);
    assert!(world.source_problems().is_empty());
}

#[test]
fn an_override_of_no_entry_is_told_at_any_depth_and_only_a_warning_in_dicodes_words() {
    let mut world = World::default();
    world.task("s2/t", "t").task("a", "a");
    world
        .set("s1", "  entries: {two: {ref: {path: ../s2}}}\n")
        .set("s2", "  entries: {t: {ref: {path: t}}}\n");
    let outer = "  entries:\n    a: {ref: {path: a}}\n    one: {ref: {path: s1}, overrides: {entries: {two: {entries: {x: {}, t: {}, gone: null}}}}}\n";
    world.set("", outer).look(&Changes::All);
    insta::assert_snapshot!(world.source_problems().join("\n"), @"taskset.yaml:6:66: unknown entry `x`; known: t; nothing below this set changes until it has it");
    assert_eq!(world.keys(), ["a"]);
    world
        .put("taskset.yaml", &set(outer).replace("kindling/v1", "dicode/v1"))
        .look(&paths(&["taskset.yaml"]));
    assert_eq!(world.keys(), ["a", "one/two/t"]);
    let warnings: Vec<String> = world.catalog.warnings().map(ToString::to_string).collect();
    insta::assert_snapshot!(warnings.join("\n"), @"taskset.yaml:6:66: unknown entry `x`; known: t; it has no effect");
    assert!(world.source_problems().is_empty());
}

#[test]
fn what_a_dicode_set_says_never_breaks_a_task_that_cannot_have_it() {
    let mut world = World::default();
    let task = |more: &str| {
        format!(
            "apiVersion: kindling/v1\nkind: Task\nname: t\nruntime: shell\ntrigger: {{manual: true}}\n{more}"
        )
    };
    world.task("t", "t").task("u", "u").put("t/task.yaml", &task("permissions: {env: [TOKEN]}\n"));
    world.put("u/task.yaml", &task("env: {TOKEN: own}\n"));
    let text = "  defaults: {env: {TOKEN: default}}\n  entries:\n    t: {ref: {path: t}, overrides: {net: [example.org]}}\n    value: {ref: {path: t}, overrides: {env: [TOKEN=given]}}\n    host: {ref: {path: u}, overrides: {env: [TOKEN]}}\n    u: {ref: {path: u}}\n";
    world.put("taskset.yaml", &set(text).replace("kindling/v1", "dicode/v1")).look(&Changes::All);
    let spec = |key: &str| {
        let units = world.units();
        units[key].as_ref().map_or_else(|why| panic!("{key}: {why}"), |unit| Arc::clone(&unit.spec))
    };
    let shown = |key: &str| {
        let spec = spec(key);
        let host: Vec<&String> = spec.permissions.env.keys().collect();
        format!("{:?} {host:?}", spec.env)
    };
    assert_eq!(shown("t"), r#"{} ["TOKEN"]"#);
    assert!(spec("t").permissions.sandbox.is_none());
    assert_eq!(shown("value"), r#"{"TOKEN": "given"} []"#);
    assert_eq!(shown("host"), r#"{} ["TOKEN"]"#);
    assert_eq!(shown("u"), r#"{"TOKEN": "own"} []"#);
    let warnings: Vec<String> =
        world.units()["t"].as_ref().unwrap().warnings.iter().map(ToString::to_string).collect();
    insta::assert_snapshot!(warnings.join("\n"), @"taskset.yaml:6:37: `net` has no effect: `shell` does not confine a script");
}
