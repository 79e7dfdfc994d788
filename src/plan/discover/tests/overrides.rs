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

#[test]
fn overrides_of_a_set_that_cannot_be_meant_change_nothing_below_it() {
    let inner = "  entries: {a: {ref: {path: a}}, d: {ref: {path: d}}}\n";
    let outer = |overrides: &str| {
        set(&format!("  entries:\n    in: {{ref: {{path: in}}, overrides: {overrides}}}\n"))
    };
    let mut world = World::default();
    world.task("in/a", "a").task("in/d", "d").set("in", inner);
    world
        .put("taskset.yaml", &outer("{entries: {a: {env: {A: b}}, d: {enabled: false}}}"))
        .look(&Changes::All);
    assert_eq!(world.keys(), ["in/a"]);
    let before = world.hash("in/a");
    world.put("in/a/task.sh", "other");
    let changed = paths(&["in/a/task.sh", "in/d/task.sh", "in/taskset.yaml", "taskset.yaml"]);
    for wrong in [
        "{entires: {a: {env: {A: b}}, d: {enabled: false}}}",
        "{a: {env: {A: b}}, d: {enabled: false}}",
        "{timeout: 5m, entries: {a: {env: {A: b}}, d: {enabled: false}}}",
        "{entries: 5}",
        "text",
    ] {
        for fresh in [false, true] {
            let mut world = world.clone();
            if fresh {
                world.catalog = Catalog::default();
            }
            world.put("taskset.yaml", &outer(wrong)).look(if fresh { &Changes::All } else { &changed });
            world.put("in/d/task.sh", "other").look(&changed).look(&Changes::All);
            let live = |key: &str| world.units().get(key).is_some_and(Result::is_ok);
            assert!(!live("in/d") && live("in/a") != fresh, "{wrong}");
            assert!(fresh || world.hash("in/a") == before, "{wrong}");
            assert!(world.catalog.is_kept("in/a") && world.catalog.is_kept("in/d"), "{wrong}");
            let told =
                world.source_problems().len() + world.units().values().filter(|unit| unit.is_err()).count();
            assert!(told > 0, "{wrong}");
            world.put("taskset.yaml", &outer("{entries: {a: {env: {A: b}}, d: {enabled: false}}}"));
            world.look(&paths(&["taskset.yaml"]));
            assert_eq!(world.keys(), ["in/a"], "{wrong}");
            assert!(world.hash("in/a") != before && world.source_problems().is_empty(), "{wrong}");
        }
    }
}

#[test]
fn a_task_stays_while_its_entry_leads_to_a_set_with_the_overrides_of_a_task() {
    let text = "  entries:\n    x: {ref: {path: x}, overrides: {timeout: 5m}}\n";
    let mut world = World::default();
    world.task("x", "x").set("", text).look(&Changes::All);
    let before = world.hash("x");
    world.files.remove("x/task.yaml");
    world.task("x/in", "in").set("x", "  entries: {in: {ref: {path: in}}}\n");
    world.look(&paths(&["x/task.yaml", "x/taskset.yaml", "x/in/task.yaml", "x/in/task.sh"]));
    world.put("x/task.sh", "other").look(&paths(&["x/task.sh"])).look(&Changes::All);
    assert_eq!((world.keys(), world.hash("x")), (vec!["x".to_owned()], before));
    insta::assert_snapshot!(world.source_problems().join("\n"), @"taskset.yaml:5:37: overrides of a set hold `entries` and `enabled` alone: what all its tasks should have goes into its `defaults`; nothing below this set changes until this is mended");
    world.set("", "  entries:\n    x: {ref: {path: x}}\n").look(&paths(&["taskset.yaml"]));
    assert_eq!((world.keys(), world.source_problems().len()), (vec!["x/in".to_owned()], 0));
}
