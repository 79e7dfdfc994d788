use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::model::spec::Trigger;

/// A set's manifest with these entries, each line indented by four spaces.
pub(super) fn set(rest: &str) -> String {
    format!("apiVersion: kindling/v1\nkind: TaskSet\nspec:\n{rest}")
}

impl World {
    pub(super) fn set(&mut self, dir: &str, rest: &str) -> &mut Self {
        let at = if dir.is_empty() { "taskset.yaml".to_owned() } else { format!("{dir}/taskset.yaml") };
        self.put(&at, &set(rest))
    }

    pub(super) fn keys(&self) -> Vec<String> {
        self.catalog.iter().map(|(key, _)| key.to_string()).collect()
    }

    fn env(&self, key: &str) -> BTreeMap<String, String> {
        self.units()[key].as_ref().unwrap().spec.env.clone()
    }

    pub(super) fn source_problems(&self) -> Vec<String> {
        self.catalog.homeless_problems().map(ToString::to_string).collect()
    }

    pub(super) fn hash(&self, key: &str) -> String {
        self.units()[key].as_ref().unwrap().hash.to_string()
    }
}

#[test]
fn ids_are_the_sets_directory_and_the_chain_of_keys() {
    let mut world = World::default();
    world.task("jobs/a", "x").task("jobs/lost", "x").task("out", "x").task("jobs/inner/b", "x");
    world.set("jobs", "  entries:\n    one: {ref: {path: a}}\n    two: {ref: {path: ./a/task.yaml}}\n    in: {ref: {path: inner}}\n");
    world.set(
        "jobs/inner",
        "  entries:\n    b: {ref: {path: b}}\n    up: {ref: {path: ../../out}}\n    x/y: {ref: {path: b}}\n",
    );
    world.look(&Changes::All);
    // Below a set only what is referenced is a unit; a directory may be the task of several entries.
    assert_eq!(world.keys(), ["jobs/in/b", "jobs/in/up", "jobs/in/x/y", "jobs/one", "jobs/two", "out"]);
    assert_eq!(world.files_of("jobs/one"), ["task.sh", "task.yaml"]);
    assert_ne!(world.hash("jobs/one"), world.hash("jobs/two"));
    let mut world = World::default();
    world.task("a", "x").set("", "  entries: {a: {ref: {path: a}}}\n").look(&Changes::All);
    assert_eq!(world.keys(), ["a"]);
}

#[test]
fn a_units_files_leave_out_what_other_entries_lead_to() {
    let mut world = World::default();
    world.task("a", "x").task("a/inner", "x").task("a/fixture", "x");
    world
        .set("", "  entries:\n    a: {ref: {path: a}}\n    inner: {ref: {path: a/inner}}\n")
        .look(&Changes::All);
    let whole = ["fixture/task.sh", "fixture/task.yaml", "task.sh", "task.yaml"];
    assert_eq!(world.files_of("a"), whole);
    world.set("", "  entries:\n    a: {ref: {path: a}}\n").look(&paths(&["taskset.yaml"]));
    assert_eq!(world.files_of("a").len(), 6);
    world
        .set("", "  entries:\n    a: {ref: {path: a}}\n    f: {ref: {path: a/fixture}}\n")
        .look(&paths(&["taskset.yaml"]));
    assert_eq!(world.files_of("a"), ["inner/task.sh", "inner/task.yaml", "task.sh", "task.yaml"]);
}

/// Four layers that all speak of one task: its manifest, the defaults of two sets, and overrides at two depths.
fn layered() -> World {
    let mut world = World::default();
    world.set("", "  defaults: {timeout: 5m, env: {A: outer, B: outer, C: outer, D: outer}}\n  entries:\n    in:\n      ref: {path: in}\n      overrides: {entries: {t: {env: {B: patch, C: patch}}}}\n");
    world.set("in", "  defaults:\n    timeout: 3m\n    env: {A: inner, D: inner}\n  entries:\n    t:\n      ref: {path: t}\n      overrides:\n        env: {C: own}\n    u: {ref: {path: u}}\n");
    world.task("in/t", "t").task("in/u", "u");
    world.put("in/t/task.yaml", &format!("{}env: {{D: task}}\n", MANUAL.replace("NAME", "t")));
    world.look(&Changes::All);
    world
}

#[test]
fn the_cascade_has_one_order() {
    let world = layered();
    let env = world.env("in/t");
    let found: Vec<_> = env.iter().map(|(name, value)| format!("{name}={value}")).collect();
    // Defaults fill in what the task leaves open, inner ones first; overrides win, the entry's own over all.
    assert_eq!(found, ["A=inner", "B=patch", "C=own", "D=task"]);
    let spec = &world.units()["in/t"].as_ref().unwrap().spec.clone();
    assert_eq!(spec.timeout, Some(Duration::from_secs(180)));
    assert_eq!(world.env("in/u").len(), 4);
}

#[test]
fn overrides_of_all_sets_above_combine() {
    let root = |patch: &str| {
        format!(
            "  entries:\n    one: {{ref: {{path: s1}}, overrides: {{entries: {{two: {{entries: {{t: {{{patch}}}}}}}}}}}}}\n"
        )
    };
    let mut world = World::default();
    world.set("", &root("env: {A: root, B: root}")).task("s2/t", "t").task("s2/u", "u");
    world.set(
        "s1",
        "  entries:\n    two: {ref: {path: ../s2}, overrides: {entries: {t: {env: {B: one, C: one}}}}}\n",
    );
    world.set(
        "s2",
        "  entries:\n    t: {ref: {path: t}, overrides: {env: {C: own}}}\n    u: {ref: {path: u}}\n",
    );
    world.look(&Changes::All);
    assert_eq!(world.keys(), ["one/two/t", "one/two/u"]);
    let said = |world: &World| {
        let env = world.env("one/two/t");
        env.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(said(&world), "A=root B=one C=own");
    world.set("", &root("env: {A: other}")).look(&paths(&["taskset.yaml"]));
    assert_eq!(
        (said(&world).as_str(), world.looked_at.join(" ").as_str()),
        ("A=other B=one C=own", "one/two/t")
    );
    world.set("", &root("enabled: false")).look(&paths(&["taskset.yaml"]));
    assert_eq!(world.keys(), ["one/two/u"]);
    world.set("", &root("env: {A: root}")).look(&paths(&["taskset.yaml"]));
    assert_eq!(said(&world), "A=root B=one C=own");
    // A field that a set does not have is told, also where it reaches the set from further above.
    world.set("", "  entries:\n    one: {ref: {path: s1}, overrides: {entries: {two: {env: {A: x}}}}}\n");
    assert_eq!(world.look(&paths(&["taskset.yaml"])).source_problems().len(), 1);
}

#[test]
fn an_edit_of_a_set_reaches_exactly_the_units_whose_cascade_differs() {
    let mut world = layered();
    let before = (world.hash("in/t"), world.hash("in/u"));
    let outer = world.files["taskset.yaml"].1.clone();
    let outer = String::from_utf8(outer).unwrap();
    world.put("taskset.yaml", &outer.replace("B: patch", "B: other")).look(&paths(&["taskset.yaml"]));
    assert_eq!(world.looked_at, ["in/t"]);
    assert_ne!(world.hash("in/t"), before.0);
    assert_eq!(world.hash("in/u"), before.1);
    assert_eq!(world.env("in/t")["B"], "other");
    // Lines that move change no unit, and the place of a field moves with them.
    let moved = format!("# a\n# b\n{}", outer.replace("B: patch", "B: other"));
    world.put("taskset.yaml", &moved).look(&paths(&["taskset.yaml"]));
    assert!(world.looked_at.is_empty());
    let origins = world.catalog.origins("in/t", None);
    let b = origins.iter().find(|origin| origin.field == "env.B").unwrap();
    assert_eq!(b.chain.last().map(|place| (place.file.as_str(), place.at.line)), Some(("taskset.yaml", 10)));
    // Defaults of the outer set reach all tasks below.
    world
        .put("taskset.yaml", &outer.replace("timeout: 5m, ", "description: d, "))
        .look(&paths(&["taskset.yaml"]));
    assert_eq!(world.looked_at, ["in/t", "in/u"]);
}

#[test]
fn every_overridden_field_knows_its_chain_of_files_and_lines() {
    let world = layered();
    let (_, text) = &world.files["in/t/task.yaml"];
    let budget = crate::config::yaml::Budget::manifest(1 << 18);
    let manifest = crate::config::node::Node::read(text, &budget).ok();
    let shown: Vec<String> = world
        .catalog
        .origins("in/t", manifest)
        .iter()
        .map(|origin| {
            let place = |p: &crate::plan::trace::Place| format!("{}:{}", p.file, p.at.line);
            format!("{}: {}", origin.field, origin.chain.iter().map(place).collect::<Vec<_>>().join(" < "))
        })
        .collect();
    insta::assert_snapshot!(shown.join("\n"), @"
    env.A: in/taskset.yaml:6
    env.B: taskset.yaml:4 < taskset.yaml:8
    env.C: taskset.yaml:4 < taskset.yaml:8 < in/taskset.yaml:11
    timeout: in/taskset.yaml:5
    ");
}

#[test]
fn a_broken_set_keeps_what_is_below_it_and_says_so_on_the_source() {
    let mut world = layered();
    let before = (world.hash("in/t"), world.hash("in/u"));
    for broken in ["", "spec: [", "apiVersion: kindling/v1\nkind: TaskSet\nspec:\n  entries:\n"] {
        for file in ["taskset.yaml", "in/taskset.yaml"] {
            let good = world.files[file].1.clone();
            world.put(file, broken).look(&paths(&[file]));
            assert_eq!((world.hash("in/t"), world.hash("in/u")), before, "{file} {broken}");
            assert_eq!(world.source_problems().len(), 1);
            assert!(
                world.source_problems()[0].starts_with(&format!("{file}:")),
                "{:?}",
                world.source_problems()
            );
            world.look(&Changes::All);
            assert_eq!((world.hash("in/t"), world.hash("in/u")), before, "{file} {broken}");
            // After a restart nothing is known, and nothing is said to be gone.
            let mut fresh = World { catalog: Catalog::default(), ..world.clone() };
            fresh.look(&Changes::All);
            assert!(fresh.catalog.is_kept("in/t") && fresh.catalog.get("in/t").is_none());
            world.put(file, std::str::from_utf8(&good).unwrap()).look(&paths(&[file]));
            assert!(world.source_problems().is_empty() && !world.catalog.is_kept("in/t"));
            assert_eq!((world.hash("in/t"), world.hash("in/u")), before);
        }
    }
}

#[test]
fn a_set_that_is_being_written_keeps_what_is_below_it() {
    let mut world = layered();
    world.put("taskset.yaml", "half");
    let (tree, changes) = (world.tree(), paths(&["taskset.yaml"]));
    let input = world.input(&tree, &changes);
    let mut reads = Reads::default();
    let path = RelPath::parse("taskset.yaml").unwrap();
    reads.insert(path.clone(), FileRead::Later);
    let round = discover(&input, &mut reads);
    assert_eq!(round.later, [Later { key: None, path }]);
    assert!(round.needs.is_empty());
    world.catalog.apply(round.found);
    assert_eq!(world.keys(), ["in/t", "in/u"]);
}

#[test]
fn a_broken_task_below_a_set_is_a_problem_of_its_unit() {
    let mut world = layered();
    world.put("in/u/task.yaml", "kind: [").look(&paths(&["in/u/task.yaml"]));
    assert!(world.problem("in/u").starts_with("InvalidManifest: in/u/task.yaml:1:"));
    assert!(world.units()["in/t"].is_ok() && world.source_problems().is_empty());
    world.files.retain(|path, _| !path.starts_with("in/u/"));
    world.look(&paths(&["in/u/task.yaml", "in/u/task.sh"]));
    insta::assert_snapshot!(world.problem("in/u"), @"InvalidManifest: in/taskset.yaml:12:21: the directory in/u holds no task.yaml and no taskset.yaml");
    world.task("in/u", "u").look(&paths(&["in/u/task.yaml", "in/u/task.sh"]));
    assert!(world.units()["in/u"].is_ok());
}

#[test]
fn what_is_wrong_in_an_override_points_into_its_file() {
    let mut world = layered();
    let outer = String::from_utf8(world.files["taskset.yaml"].1.clone()).unwrap();
    world
        .put("taskset.yaml", &outer.replace("B: patch", "B: patch}, tiemout: {x: y"))
        .look(&paths(&["taskset.yaml"]));
    insta::assert_snapshot!(world.problem("in/t"), @"InvalidManifest: taskset.yaml:8:50: unknown field `tiemout`; did you mean `timeout`?");
    assert!(world.units()["in/u"].is_ok());
    // A broken unit is looked at again where its problem's line moved.
    world.put("taskset.yaml", &format!("#\n{}", outer.replace("B: patch", "B: patch}, tiemout: {x: y")));
    world.look(&paths(&["taskset.yaml"]));
    assert!(
        world.problem("in/t").starts_with("InvalidManifest: taskset.yaml:8:"),
        "{}",
        world.problem("in/t")
    );
}

#[test]
fn mistakes_of_an_entry_are_its_own() {
    let mut world = World::default();
    world
        .task("a", "a")
        .set("s", "  entries: {x: {ref: {path: ../a}}}\n")
        .task("both", "b")
        .set("both", "  entries: {}\n");
    world.put("node_modules/m/task.yaml", "");
    world.set(
        "",
        "  entries:
    good: {ref: {path: a}}
    none: {}
    two: {ref: {path: a}, inline: {}}
    text: {ref: a}
    out: {ref: {path: a/../../b}}
    abs: {ref: {path: /etc}}
    gone: {ref: {path: nowhere}}
    both: {ref: {path: both}}
    never: {ref: {path: node_modules/m}}
    typo: {ref: {path: a}, overides: {}}
    url: {ref: {url: 'https://u:p@git.example.org/x.git', branch: main}}
    kind: {ref: {path: a}, overrides: {kind: Task}}
    s: {ref: {path: s}, overrides: {env: {A: b}}}
    s/x: {ref: {path: a}}
",
    );
    world.look(&Changes::All);
    let shown: Vec<String> =
        world.units().into_iter().filter_map(|(key, unit)| Some(format!("{key} {}", unit.err()?))).collect();
    insta::assert_snapshot!(shown.join("\n"), @"
    abs InvalidManifest: taskset.yaml:10:23: `spec.entries.abs.ref.path` must be relative to the file that names it
    both InvalidManifest: taskset.yaml:12:24: the directory both: a directory holds one manifest, task.yaml or taskset.yaml, not both
    gone InvalidManifest: taskset.yaml:11:24: the directory nowhere holds no task.yaml and no taskset.yaml
    kind InvalidManifest: taskset.yaml:16:40: `spec.entries.kind.overrides`: `kind` cannot be overridden
    never InvalidManifest: taskset.yaml:13:25: the directory node_modules/m never counts: no unit is looked for in it
    none InvalidManifest: taskset.yaml:6:11: `spec.entries.none`: one of `ref` and `inline` is missing
    out InvalidManifest: taskset.yaml:9:23: `spec.entries.out.ref.path` leads out of the tree that it is in
    text InvalidManifest: taskset.yaml:8:17: `spec.entries.text.ref` must be a map, such as `{path: jobs/digest}`, not text
    two InvalidManifest: taskset.yaml:7:27: `spec.entries.two`: an entry has `ref` or `inline`, not both
    typo InvalidManifest: taskset.yaml:14:28: `spec.entries.typo`: unknown field `overides`; did you mean `overrides`? known: ref, inline, overrides, enabled
    url InvalidManifest: taskset.yaml:15:22: `spec.entries.url.ref.url` must not carry credentials
    ");
    assert!(world.units()["good"].is_ok() && !world.units().contains_key("s/x"));
    insta::assert_snapshot!(world.source_problems().join("\n"), @"
    taskset.yaml:18:5: the entry `s/x` lies below the entry `s`: rename one of them
    taskset.yaml:17:37: overrides of a set hold `entries` and `enabled` alone: what all its tasks should have goes into its `defaults`; nothing below this set changes until this is mended
    ");
}

#[test]
fn a_cycle_is_named_and_hides_nothing() {
    let mut world = World::default();
    world.task("t", "t").set("", "  entries: {a: {ref: {path: a}}, t: {ref: {path: t}}}\n");
    world
        .set("a", "  entries: {b: {ref: {path: ../b}}, t: {ref: {path: ../t}}}\n")
        .set("b", "  entries: {a: {ref: {path: ../a}}, me: {ref: {path: .}}}\n");
    world.look(&Changes::All);
    assert_eq!(world.keys(), ["a/t", "t"]);
    insta::assert_snapshot!(world.source_problems().join("\n"), @"
    b/taskset.yaml:4:13: the set refers to itself: a -> b -> a
    b/taskset.yaml:4:37: the set refers to itself: b -> b
    ");
    world.set("b", "  entries: {t: {ref: {path: ../t}}}\n").look(&paths(&["b/taskset.yaml"]));
    assert_eq!(world.keys(), ["a/b/t", "a/t", "t"]);
    assert!(world.source_problems().is_empty());
}

#[test]
fn sets_that_multiply_are_stopped() {
    let limits = Limits { set_entries: 500, ..Limits::default() };
    let mut world = World { limits, ..World::default() };
    world.task("t", "t");
    let ten = |to: &str| (0..10).map(|n| format!("    e{n}: {{ref: {{path: {to}}}}}\n")).collect::<String>();
    world.set("", &format!("  entries:\n{}", ten("b")));
    world.set("b", &format!("  entries:\n{}", ten("../c")));
    world.set("c", &format!("  entries:\n{}", ten("../t")));
    world.look(&Changes::All);
    let first = world.source_problems().remove(0);
    assert!(first.ends_with("more entries than the 500 that `limits.entries` allows"), "{first}");
    assert!(world.keys().len() <= 500);
    let mut world = World::default();
    for n in 0..12 {
        world.set(&format!("d{n}"), &format!("  entries: {{n: {{ref: {{path: ../d{}}}}}}}\n", n + 1));
    }
    world.set("", "  entries: {n: {ref: {path: d0}}}\n").look(&Changes::All);
    assert!(world.source_problems()[0].ends_with("more than 10 sets lie inside one another"));
}

#[test]
fn enabled_false_anywhere_above_wins() {
    let with = |outer: &str, patch: &str, own: &str, inner: &str| {
        let mut world = World::default();
        world.task("in/t", "t").task("in/u", "u");
        world.set("", &format!("  entries:\n    in: {{ref: {{path: in}}, enabled: {outer}, overrides: {{entries: {{t: {{{patch}}}}}}}}}\n"));
        world.set("in", &format!("  entries:\n    t: {{ref: {{path: t}}, enabled: {inner}, overrides: {{{own}}}}}\n    u: {{ref: {{path: u}}}}\n"));
        world.look(&Changes::All);
        world
    };
    assert_eq!(with("true", "", "", "true").keys(), ["in/t", "in/u"]);
    assert!(with("false", "enabled: true", "", "true").keys().is_empty());
    assert_eq!(with("true", "enabled: false", "enabled: true", "true").keys(), ["in/u"]);
    assert_eq!(with("true", "enabled: true", "", "false").keys(), ["in/u"]);
    assert_eq!(with("true", "", "enabled: false", "true").keys(), ["in/u"]);
    let mut world = with("true", "enabled: false", "", "true");
    for (text, keys) in [("true", &["in/t", "in/u"][..]), ("false", &["in/u"])] {
        world.set("", &format!("  entries:\n    in: {{ref: {{path: in}}, overrides: {{entries: {{t: {{enabled: {text}}}}}}}}}\n"));
        world.look(&paths(&["taskset.yaml"]));
        assert_eq!(world.keys(), keys);
    }
}

#[test]
fn a_task_may_be_written_in_the_set() {
    let mut world = World::default();
    world.put("jobs/say.sh", "echo hi\n");
    world.set("jobs", "  defaults: {timeout: 9s}
  entries:
    cmd: {inline: {command: [echo, hi], trigger: {manual: true}}}
    sh: {inline: {name: Said, runtime: shell, entry: say.sh, trigger: {manual: true}}, overrides: {env: {A: b}}}
    none: {inline: {runtime: shell, trigger: {manual: true}}}
    lost: {inline: {runtime: shell, entry: later.sh, trigger: {manual: true}}}
");
    world.look(&Changes::All);
    let units = world.units();
    let cmd = units["jobs/cmd"].as_ref().unwrap();
    assert_eq!(
        (cmd.spec.name.as_str(), cmd.spec.timeout, cmd.files.len()),
        ("cmd", Some(Duration::from_secs(9)), 0)
    );
    assert_eq!(units["jobs/sh"].as_ref().unwrap().spec.name, "Said");
    assert_eq!(world.files_of("jobs/sh"), ["say.sh"]);
    insta::assert_snapshot!(world.problem("jobs/none"), @"MissingEntry: jobs/taskset.yaml:8:30: a task that is written in a set names its script with `entry`, from the set's directory");
    insta::assert_snapshot!(world.problem("jobs/lost"), @r#"MissingEntry: jobs/taskset.yaml:9:44: `entry` names "later.sh", which is not there"#);
    let before = world.hash("jobs/sh");
    world
        .put("jobs/say.sh", "echo other\n")
        .put("jobs/later.sh", "")
        .look(&paths(&["jobs/say.sh", "jobs/later.sh"]));
    assert_eq!(world.looked_at, ["jobs/lost", "jobs/sh"]);
    assert_ne!(world.hash("jobs/sh"), before);
    assert!(world.units()["jobs/lost"].is_ok());
    world
        .set("jobs", "  entries:\n    cmd: {inline: {command: [echo, ho], trigger: {manual: true}}}\n")
        .look(&paths(&["jobs/taskset.yaml"]));
    assert_eq!(world.keys(), ["jobs/cmd"]);
}

#[test]
fn a_set_that_comes_or_goes_changes_what_a_unit_is() {
    let mut world = World::default();
    world.task("x/a", "a").task("x/b", "b").look(&Changes::All);
    let before = world.hash("x/a");
    world
        .set("x", "  entries: {a: {ref: {path: a}}, c: {ref: {path: b}}}\n")
        .look(&paths(&["x/taskset.yaml"]));
    assert_eq!(world.keys(), ["x/a", "x/c"]);
    assert_eq!(world.hash("x/a"), before);
    world.set("", "  entries: {x: {ref: {path: x}}}\n").look(&paths(&["taskset.yaml"]));
    assert_eq!(world.keys(), ["x/a", "x/c"]);
    world.files.remove("taskset.yaml");
    world.files.remove("x/taskset.yaml");
    world.look(&paths(&["taskset.yaml", "x/taskset.yaml"]));
    assert_eq!(world.keys(), ["x/a", "x/b"]);
    world.put("x/taskset.yaml", "half").look(&paths(&["x/taskset.yaml"]));
    assert_eq!(world.keys(), ["x/a", "x/b"]);
    // A directory with both manifests is a problem, and what was there stays.
    world.task("x", "x").look(&paths(&["x/task.yaml", "x/task.sh"]));
    assert_eq!(world.keys(), ["x", "x/a", "x/b"]);
    insta::assert_snapshot!(world.problem("x"), @"InvalidManifest: x/taskset.yaml:1:1: a directory holds one manifest, task.yaml or taskset.yaml, not both");
    world.files.remove("x/taskset.yaml");
    world.look(&paths(&["x/taskset.yaml"]));
    assert_eq!(world.keys(), ["x", "x/a", "x/b"]);
    assert!(world.units()["x"].is_ok());
}

#[test]
fn a_save_reads_neither_the_set_nor_other_tasks() {
    let mut world = World::default();
    let entries: String = (0..50).map(|n| format!("    e{n}: {{ref: {{path: t{n}}}}}\n")).collect();
    for n in 0..50 {
        world.task(&format!("t{n}"), "t");
    }
    world.set("", &format!("  entries:\n{entries}")).look(&Changes::All);
    world.reads = 0;
    world.put("t7/task.sh", "echo other\n").look(&paths(&["t7/task.sh"]));
    assert_eq!((world.reads, world.looked_at.as_slice()), (2, &["e7".to_owned()][..]));
}

#[test]
fn daemons_get_no_time_limit_from_built_in_defaults() {
    let mut world = World::default();
    world.task("a", "a").set("", "  entries: {a: {ref: {path: a}, overrides: {trigger: {daemon: true}}}}\n");
    world.look(&Changes::All);
    let spec = world.units()["a"].as_ref().unwrap().spec.clone();
    assert!(matches!(spec.trigger, Trigger::Daemon(_)) && spec.timeout.is_none());
}

/// A set of this many tasks, and the time that its discovery took.
fn large(tasks: usize) -> (World, Duration) {
    let mut world = World::default();
    for n in 0..tasks {
        world.task(&format!("t{n}"), "t");
    }
    let entry = |n| format!("    e{n}:\n      ref: {{path: t{n}}}\n      overrides: {{env: {{N: '{n}'}}}}\n");
    let entries: String = (0..tasks).map(entry).collect();
    world.set("", &format!("  defaults: {{timeout: 5m}}\n  entries:\n{entries}"));
    let took = world.timed(&Changes::All);
    (world, took)
}

impl World {
    /// Discovers, and gives back how long that took without reading.
    fn timed(&mut self, changes: &Changes) -> Duration {
        let (tree, mut reads, mut took) = (self.tree(), Reads::default(), Duration::ZERO);
        loop {
            let began = std::time::Instant::now();
            let input = self.input(&tree, changes);
            let round = discover(&input, &mut reads);
            took += began.elapsed();
            for need in &round.needs {
                let read = self.read(need);
                reads.insert(need.path.clone(), read);
            }
            if round.needs.is_empty() {
                let began = std::time::Instant::now();
                self.looked_at = round.found.keys().map(ToString::to_string).collect();
                self.catalog.apply(round.found);
                return took + began.elapsed();
            }
        }
    }
}

#[test]
fn large_sets_are_ordinary() {
    let (world, took) = large(500);
    assert_eq!(world.keys().len(), 500);
    println!("discovery of a set of 500 tasks: {took:?}");
    for tasks in [250, 2_000] {
        let (mut world, whole) = large(tasks);
        let mut saves: Vec<Duration> = (0..21)
            .map(|n| {
                let script = format!("t{}/task.sh", n * 11);
                world.put(&script, &format!("echo {n}\n"));
                world.reads = 0;
                let took = world.timed(&paths(&[&script]));
                assert_eq!((world.reads, world.looked_at.len()), (2, 1));
                took
            })
            .collect();
        saves.sort();
        let set = String::from_utf8(world.files["taskset.yaml"].1.clone()).unwrap();
        world.put("taskset.yaml", &set.replace("N: '7'", "N: other"));
        let edit = world.timed(&paths(&["taskset.yaml"]));
        assert_eq!(world.looked_at, ["e7"]);
        println!("{tasks} tasks: discovery {whole:?}, a save {:?}, an edit of the set {edit:?}", saves[10]);
    }
}

/// A random edit of a small world with sets: a path, and what becomes of it.
fn edit() -> impl Strategy<Value = (String, Option<String>)> {
    let task = |env: &str| format!("{}env: {{T: {env}}}\n", MANUAL.replace("NAME", "n"));
    let tasks = ["a/task.yaml", "a/b/task.yaml", "c/task.yaml", "task.yaml"];
    let scripts = ["a/task.sh", "a/b/task.sh", "c/task.sh", "c/x"];
    let sets = ["taskset.yaml", "a/taskset.yaml", "s/taskset.yaml"];
    let bodies = [
        "  entries: {a: {ref: {path: a}}, s: {ref: {path: s}}}\n",
        "  entries: {a: {ref: {path: a/b}}, s: {ref: {path: s}, overrides: {entries: {x: {env: {O: p}}}}}}\n",
        "  defaults: {env: {D: o}}\n  entries: {s: {ref: {path: s}}, c: {ref: {path: c}, enabled: false}}\n",
        "  entries: {x: {ref: {path: ../c}}, y: {ref: {path: ../a}, overrides: {timeout: 5s}}}\n",
        "  defaults: {env: {D: i}}\n\n  entries: {x: {ref: {path: ../c}, overrides: {env: {O: own}}}}\n",
        "  entries: {x: {inline: {command: [x], trigger: {manual: true}}}, n: {ref: {path: ../a/b}}}\n",
    ];
    let task_texts = prop::sample::select(vec![task("1"), task("2")]);
    let set_texts = prop::sample::select(bodies.map(set).to_vec());
    let pick = |paths: &[&str]| {
        prop::sample::select(paths.iter().map(|path| (*path).to_owned()).collect::<Vec<_>>())
    };
    prop_oneof![
        1 => (pick(&tasks), prop::option::weighted(0.7, task_texts)),
        1 => (pick(&scripts), prop::option::weighted(0.8, prop::sample::select(vec!["1".to_owned(), "2".to_owned()]))),
        3 => (pick(&sets), prop::option::weighted(0.8, set_texts)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]
    #[test]
    fn step_by_step_ends_where_a_whole_look_does_also_with_sets(batches in prop::collection::vec(prop::collection::vec(edit(), 1..4), 1..10)) {
        let mut world = World::default();
        world.task("a", "n").task("a/b", "n").task("c", "n").look(&Changes::All);
        for batch in batches {
            for (path, text) in &batch {
                match text {
                    Some(text) => { world.put(path, text); }
                    None => { world.files.remove(path); }
                }
            }
            let changed: Vec<&str> = batch.iter().map(|(path, _)| path.as_str()).collect();
            world.look(&paths(&changed));
            let mut fresh = World { catalog: Catalog::default(), ..world.clone() };
            fresh.look(&Changes::All);
            // What a fresh look cannot tell stays where it was known.
            let ready = |world: &World, kept: &Catalog| -> Vec<(String, String)> {
                let hash = |unit: Result<&Resolved, String>| unit.map(|unit| unit.hash.to_string());
                world.units().into_iter().filter(|(key, _)| !kept.is_kept(key)).filter_map(|(key, unit)| Some((key, hash(unit).ok()?))).collect()
            };
            // It keeps its files from the units around it, too.
            let stayed: Vec<RelPath> = world
                .catalog
                .iter()
                .filter(|(key, _)| fresh.catalog.get(key).is_none())
                .map(|(_, entry)| entry.dir.clone())
                .collect();
            let is_whole = |(key, _): &(String, String)| {
                let dir = world.catalog.dir_of(key).unwrap_or_else(RelPath::root);
                !stayed.iter().any(|stayed| stayed.is_within(&dir))
            };
            let of = |world: &World| -> Vec<_> {
                ready(world, &fresh.catalog).into_iter().filter(is_whole).collect()
            };
            prop_assert_eq!(of(&world), of(&fresh));
            if !["a/a", "a/s", "a/x", "a/y", "a/n", "s/x", "s/y", "s/n"].iter().any(|key| fresh.catalog.is_kept(key)) {
                prop_assert_eq!(world.source_problems(), fresh.source_problems());
            }
        }
    }
}
