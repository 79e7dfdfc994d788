//! The command line as a person or a program meets it: the real binary in an empty environment.

mod calls;
mod check;
mod fake;
mod listings;
pub mod place;
mod runs;
mod service;

use std::process::Stdio;

use serde_json::{Value, json};

use self::fake::Fake;
use self::place::{Ended, Place};

/// Bare `kindling`.
const NO_ARGUMENTS: [&str; 0] = [];

/// A place whose service is `fake`, and knows its token.
fn with(fake: &Fake) -> Place {
    Place::new().set("KINDLING_SERVER", &fake.address()).set("KINDLING_TOKEN", "0123456789abcdef")
}

#[test]
fn help_names_every_command() {
    let place = Place::new();
    let help = place.run(&["-h"]);
    assert_eq!((help.code, help.err.as_str()), (0, ""));
    insta::assert_snapshot!(help.out, @r#"
    Keep what runs equal to what is written in git, or in a working copy

    Usage: kindling [OPTIONS] [COMMAND]

    Commands:
      init         Make a configuration with a task that runs
      serve        Run the service until it is told to end
      status       Show how everything stands, problems first
      get          List sources, units, runs or deliveries of webhooks
      reconcile    Make one pass now and wait for its end
      wait         Wait until all that was on disk at the call is decided and live
      diff         Show what a pass would do, step by step
      validate     Check manifests without a service
      why          Explain the last decision about a unit: trigger, files, rule, action, result
      history      List what was done, newest first
      events       Print what happened, or with -f what happens from now on
      logs         Print the log of a run, or of a task's newest run
      run          Run a task, with its log on stderr and its output on stdout
      cancel       End a run
      rollback     Deploy an earlier version of a unit, and hold the one that its source asks for
      restart      Start the process of a daemon anew, in the version that runs, and wait until it does
      suspend      Stop changes to a source or a unit until it is resumed
      resume       Allow changes again, lift a hold, and make a pass
      source       List, add or remove sources, or take one from a working copy
      webhook      Try a push webhook, list deliveries or take one again, list task webhooks
      check        Check what the service needs, and name the command that mends it
      completions  Print what a shell needs to complete commands and options

    Options:
      -h, --help     Print help (see more with '--help')
      -V, --version  Print version

    Global options:
          --config <FILE>        Read this configuration file
          --server <ADDRESS>     Ask the service at this address
          --insecure-http        Allow plain HTTP to an address that is not on this machine
      -o, --output <FORMAT>      Print results as table, wide, json, yaml or name [default: table]
          --no-header            Leave out the headers of tables
          --log-level <LEVEL>    Log from this level up: error, warn, info, debug or trace [env:
                                 LOG_LEVEL]
          --log-format <FORMAT>  Write log lines as text or json
    "#);
    let version = place.run(&["--version"]);
    assert_eq!((version.code, version.out), (0, format!("kindling {}\n", env!("CARGO_PKG_VERSION"))));
}

#[test]
fn help_of_a_command_names_its_options() {
    let place = Place::new();
    insta::assert_snapshot!(place.run(&["run", "-h"]).out, @r#"
    Run a task, with its log on stderr and its output on stdout

    Usage: kindling run [OPTIONS] <TASK>

    Arguments:
      <TASK>  Run this task: its id or the end of one

    Options:
      -p, --param <NAME=VALUE>  Set a parameter
          --input <JSON>        Give the task this JSON as its input
          --input-file <FILE>   Give the task the JSON in this file as its input; - is standard input
          --detach              Print the id of the run and do not wait for its end
      -h, --help                Print help (see more with '--help')

    Global options:
          --config <FILE>        Read this configuration file
          --server <ADDRESS>     Ask the service at this address
          --insecure-http        Allow plain HTTP to an address that is not on this machine
      -o, --output <FORMAT>      Print results as table, wide, json, yaml or name [default: table]
          --no-header            Leave out the headers of tables
          --log-level <LEVEL>    Log from this level up: error, warn, info, debug or trace [env:
                                 LOG_LEVEL]
          --log-format <FORMAT>  Write log lines as text or json
    "#);
    insta::assert_snapshot!(place.run(&["source"]).shown(), @r#"
    exit 2
    err: error: 'kindling source' requires a subcommand but one was not provided [subcommands: list, add, remove, dev]
    err: Usage: kindling source [OPTIONS] <COMMAND>
    err: hint: `--help` behind the command says what it takes
    "#);
}

#[test]
fn wrong_usage_is_told_with_the_next_step() {
    let place = Place::new();
    insta::assert_snapshot!(place.run(&["statsu"]).shown(), @r#"
    exit 2
    err: error: unrecognized subcommand 'statsu'
    err: Usage: kindling [OPTIONS] [COMMAND]
    err: hint: a similar subcommand exists: 'status'
    "#);
    insta::assert_snapshot!(place.run(&["run"]).shown(), @r#"
    exit 2
    err: error: the following required arguments were not provided: <TASK>
    err: Usage: kindling run <TASK>
    err: hint: `--help` behind the command says what it takes
    "#);
    insta::assert_snapshot!(place.run(&["wait", "x", "--hash", "zz"]).shown(), @r#"
    exit 2
    err: error: invalid value 'zz' for '--hash <HASH>': at least 4 hexadecimal digits are wanted
    err: hint: `--help` behind the command says what it takes
    "#);
    insta::assert_snapshot!(place.run(&["source", "add", "x", "--git", "https://u:p@host/x"]).shown(), @r#"
    exit 2
    err: error: the URL of --git must not carry credentials
    "#);
    insta::assert_snapshot!(place.run(&["source", "add", "x"]).shown(), @r#"
    exit 2
    err: error: the following required arguments were not provided: <--git <URL>|--local <PATH>>
    err: Usage: kindling source add <--git <URL>|--local <PATH>> <NAME>
    err: hint: `--help` behind the command says what it takes
    "#);
    insta::assert_snapshot!(place.run(&["get", "units", "\u{1b}[2J", "x"]).shown(), @r#"
    exit 2
    err: error: unexpected argument 'x' found
    err: Usage: kindling get [OPTIONS] <KIND> [NAME]
    err: hint: `--help` behind the command says what it takes
    "#);
    insta::assert_snapshot!(place.run(&["suspend", "x"]).shown(), @r#"
    exit 2
    err: error: the following required arguments were not provided: --reason <TEXT>
    err: Usage: kindling suspend --reason <TEXT> <SOURCE|UNIT>
    err: hint: `--help` behind the command says what it takes
    "#);
    insta::assert_snapshot!(place.run(&["run", "x", "--input", "{"]).shown(), @r#"
    exit 2
    err: error: invalid value '{' for '--input <JSON>': JSON is wanted: EOF while parsing an object at line 1 column 1
    err: hint: `--help` behind the command says what it takes
    "#);
}

#[test]
fn wrong_usage_is_one_object_for_programs() {
    let place = Place::new();
    for args in [["statsu", "-o", "json"], ["get", "-ojson", "--bad"], ["--output=json", "wait", "--timeout"]]
    {
        let ended = place.run(&args);
        let error = ended.error();
        assert_eq!((ended.code, ended.out.as_str()), (2, ""), "{args:?}");
        assert_eq!((&error["code"], &error["exit"]), (&json!("Usage"), &json!(2)), "{args:?}");
        assert!(!error["message"].as_str().unwrap().contains('\n'), "{error}");
    }
}

#[test]
fn a_wrong_level_in_the_environment_is_told_and_an_empty_one_is_none() {
    let place = Place::new().set("LOG_LEVEL", "loud");
    insta::assert_snapshot!(place.run(&["init", "new"]).shown(), @r#"
    exit 2
    err: error: invalid value 'loud' for '--log-level <LEVEL>': one of error, warn, info, debug and trace is wanted
    err: hint: `--help` behind the command says what it takes
    "#);
    assert_eq!(Place::new().set("LOG_LEVEL", "").run(&["init", "new"]).code, 0);
}

#[test]
fn without_a_configuration_each_command_says_how_to_get_one() {
    let place = Place::new();
    let stable = |ended: Ended| {
        let shown = ended.shown();
        // The directories above the place depend on the machine.
        let (from, to) = (shown.find("; looked at").unwrap(), shown.find("\nerr: hint").unwrap());
        format!("{}{}", &shown[..from], &shown[to..])
    };
    insta::assert_snapshot!(stable(place.run(&["serve"])), @r#"
    exit 2
    err: error: no kindling.yaml was found
    err: hint: `kindling init` makes one here, with a task that runs; then `kindling serve`
    "#);
    insta::assert_snapshot!(stable(place.run(&["status"])), @r#"
    exit 2
    err: error: no kindling.yaml was found
    err: hint: run this where kindling.yaml is, or name the service with --server; `kindling init` makes one
    "#);
    let ended = place.run(&["serve", "--config", "no.yaml", "-o", "json"]);
    assert_eq!(ended.code, 2);
    insta::assert_snapshot!(ended.error(), @r#"{"code":"Configuration","message":"there is no file [ROOT]/work/no.yaml, named by --config","hint":"correct the path, or make the file there with `kindling init`","file":null,"line":null,"column":null,"exit":2}"#);
}

#[test]
fn every_mistake_of_a_configuration_is_told_at_its_place() {
    let place = Place::new();
    place.write("kindling.yaml", "sources:\n  - name: a b\n    local: {path: x}\nserver: {lisen: 1}\n");
    insta::assert_snapshot!(place.run(&["serve"]).shown(), @r#"
    exit 2
    err: error: [ROOT]/work/kindling.yaml:2:11: `sources[0].name` is not a name: only ASCII letters, digits, `-`, `_` and `.` are allowed
    err: error: [ROOT]/work/kindling.yaml:4:10: `server`: unknown field `lisen`; did you mean `listen`? known: listen, token_env, token_file, insecure_http, public_url, open_hooks
    "#);
    let ended = place.run(&["get", "units", "-o", "json"]);
    assert_eq!(ended.code, 2);
    insta::assert_snapshot!(ended.error(), @r#"{"code":"Configuration","message":"`sources[0].name` is not a name: only ASCII letters, digits, `-`, `_` and `.` are allowed (and 1 more)","hint":null,"file":"[ROOT]/work/kindling.yaml","line":2,"column":11,"exit":2}"#);
}

#[test]
fn a_service_that_is_not_there_is_told_with_its_address_and_the_command_that_starts_it() {
    // Nothing listens on a port of the reserved range.
    let place = Place::new();
    place.write("kindling.yaml", "server: {listen: '127.0.0.1:1'}\n");
    insta::assert_snapshot!(place.run(&["status"]).shown(), @r#"
    exit 3
    err: error: no service answers at http://127.0.0.1:1 (Connection refused (os error 111)); the address is `server.listen` of [ROOT]/work/kindling.yaml
    err: hint: start it with `kindling serve`
    "#);
    insta::assert_snapshot!(place.run(&NO_ARGUMENTS).shown(), @r#"
    exit 3
    err: error: no service answers at http://127.0.0.1:1 (Connection refused (os error 111)); the address is `server.listen` of [ROOT]/work/kindling.yaml
    err: hint: start it with `kindling serve`
    "#);
    place.write(".kindling/address", "127.0.0.1:2\n");
    insta::assert_snapshot!(place.run(&["get", "units"]).shown(), @r#"
    exit 3
    err: error: no service answers at http://127.0.0.1:2 (Connection refused (os error 111)); the address is from [ROOT]/work/.kindling/address, which a service wrote that may have ended
    err: hint: start it with `kindling serve`
    "#);
    insta::assert_snapshot!(place.run(&["diff", "--config", "kindling.yaml"]).shown(), @r#"
    exit 3
    err: error: no service answers at http://127.0.0.1:2 (Connection refused (os error 111)); the address is from [ROOT]/work/.kindling/address, which a service wrote that may have ended
    err: hint: start it with `kindling serve --config [ROOT]/work/kindling.yaml`
    "#);
    let named = place.run(&["diff", "--server", "localhost:1", "-o", "json"]);
    assert_eq!(named.code, 3);
    insta::assert_snapshot!(named.error(), @r#"{"code":"NotReached","message":"no service answers at http://localhost:1 (Connection refused (os error 111)); the address is from --server","hint":"start it with `kindling serve`","file":null,"line":null,"column":null,"exit":3}"#);
    let place = place.set("KINDLING_SERVER", "127.0.0.1:1");
    insta::assert_snapshot!(place.run(&["run", "x"]).shown(), @r#"
    exit 3
    err: error: no service answers at http://127.0.0.1:1 (Connection refused (os error 111)); the address is from KINDLING_SERVER
    err: hint: start it with `kindling serve`
    "#);
}

#[test]
fn init_makes_a_task_that_is_valid_and_overwrites_nothing() {
    let place = Place::new();
    insta::assert_snapshot!(place.run(&["init"]).shown(), @r#"
    exit 0
    out: created kindling.yaml
    out: created tasks/hello/task.yaml
    out: created tasks/hello/task.sh
    out:
    out: Next, in two terminals:
    out:   kindling serve
    out:   kindling run hello -p name=you
    "#);
    insta::assert_snapshot!(place.run(&["validate"]).shown(), @r#"
    exit 0
    err: 1 unit, 0 problems
    "#);
    let before = place.read("kindling.yaml");
    insta::assert_snapshot!(place.run(&["init"]).shown(), @r#"
    exit 2
    err: error: [ROOT]/work/kindling.yaml is there already, and nothing was changed
    err: hint: name another directory: kindling init DIR
    "#);
    assert_eq!(place.read("kindling.yaml"), before);
    insta::assert_snapshot!(place.run(&["init", "other place"]).shown(), @r#"
    exit 0
    out: created other place/kindling.yaml
    out: created other place/tasks/hello/task.yaml
    out: created other place/tasks/hello/task.sh
    out:
    out: Next, in two terminals:
    out:   kindling serve --config 'other place/kindling.yaml'
    out:   kindling run hello -p name=you --config 'other place/kindling.yaml'
    "#);
    place.write("third/tasks/hello/task.sh", "mine");
    let refused = place.run(&["init", "third", "-o", "json"]);
    assert_eq!(refused.code, 2);
    assert!(refused.error()["message"].as_str().unwrap().contains("third/tasks/hello/task.sh"));
    assert!(!place.here().join("third/kindling.yaml").exists());
    let made: Value = serde_json::from_str(&place.run(&["init", "fourth", "-o", "json"]).out).unwrap();
    assert_eq!(made["created"][0], "fourth/kindling.yaml");
}

#[test]
fn a_configuration_that_was_named_must_be_there_although_the_service_is_known() {
    let server = || Place::new().set("KINDLING_SERVER", "127.0.0.1:1");
    let told = "exit 2\nerr: error: there is no file [ROOT]/work/no.yaml, named by ";
    let named = server().run(&["status", "--config", "no.yaml"]).shown();
    assert!(named.starts_with(&format!("{told}--config")), "{named}");
    let named = server().set("KINDLING_CONFIG", "no.yaml").run(&["status"]).shown();
    assert!(named.starts_with(&format!("{told}KINDLING_CONFIG")), "{named}");
    // One that nobody named may be missing.
    assert_eq!(server().run(&["status"]).code, 3);
}

#[test]
fn validate_looks_at_every_directory_although_one_is_missing() {
    let place = Place::new();
    place.task("a/good").task("b/good").write("b/bad/task.yaml", "{}\n");
    let source = |name: &str| format!("  - name: {name}\n    local: {{path: {name}}}\n");
    let names = ["a", "gone", "b", "lost"];
    place.write("kindling.yaml", &format!("sources:\n{}", names.map(source).concat()));
    insta::assert_snapshot!(place.run(&["validate"]).shown(), @r#"
    exit 2
    out: b/bad/task.yaml:1:1: the field `apiVersion` is missing
    out: b/bad/task.yaml:1:1: the field `kind` is missing
    err: 3 units, 2 problems
    err: error: the directory [ROOT]/work/gone is missing
    err: error: the directory [ROOT]/work/lost is missing
    "#);
    let ended = place.run(&["validate", "-o", "json"]);
    assert_eq!((ended.code, &ended.error()["exit"]), (2, &json!(2)), "{}", ended.shown());
    assert!(ended.out.contains("b/bad/task.yaml"), "{}", ended.shown());
}

#[test]
fn validate_names_the_one_limit_that_was_passed() {
    let place = Place::new();
    place.task("a");
    place.write("a/data.bin", &"x".repeat(3000));
    place.write(
        "kindling.yaml",
        "limits: {manifest: 100, file: 2KiB}\nsources: [{name: a, local: {path: .}}]\n",
    );
    place.write("b/task.yaml", &"# long\n".repeat(100));
    let shown = place.run(&["validate"]).shown();
    for (file, key) in [("a/data.bin", "limits.file"), ("b/task.yaml:1:1", "limits.manifest")] {
        let line =
            shown.lines().find(|line| line.contains(file)).unwrap_or_else(|| panic!("{file}: {shown}"));
        assert!(line.contains(key) && line.matches("limits.").count() == 1, "{line}");
    }
}

#[test]
fn validate_follows_chains() {
    let place = Place::new();
    let task = |name: &str, from: &str| {
        format!(
            "apiVersion: kindling/v1\nkind: Task\nname: {name}\ncommand: [echo]\ntrigger: {{chain: {{from: {from}}}}}\n"
        )
    };
    for (name, from) in [("a", "b"), ("b", "a"), ("c", "a"), ("d", "nobody"), ("e", "elsewhere/task")] {
        place.write(&format!("jobs/{name}/task.yaml"), &task(name, from));
    }
    insta::assert_snapshot!(place.run(&["validate"]).shown(), @"
    exit 1
    out: jobs/a/task.yaml:5:25: is chained to jobs/b, which is chained to jobs/a: they would start each other for ever
    out: jobs/b/task.yaml:5:25: is chained to jobs/a, which is chained to jobs/b: they would start each other for ever
    out: warning: jobs/d/task.yaml:5:25: `trigger.chain.from` names no task that is there, so nothing starts it: there is no `jobs/nobody`
    err: 5 units, 2 problems, 1 warning
    ");
}

#[test]
fn validate_names_each_mistake_and_its_place() {
    let place = Place::new();
    place.task("good").task("team/bad");
    place.write("team/bad/task.yaml", "apiVersion: kindling/v1\nkind: Task\nname: bad\nruntime: pyton\n");
    place.write(
        "lost/task.yaml",
        "apiVersion: kindling/v1\nkind: Task\nname: l\nruntime: shell\ntrigger: {manual: true}\n",
    );
    insta::assert_snapshot!(place.run(&["validate"]).shown(), @"
    exit 1
    out: lost/task.yaml:4:10: there is no script: task.sh is not there, and no `entry` is given
    out: team/bad/task.yaml:1:1: the field `trigger` is missing
    out: team/bad/task.yaml:4:10: unknown runtime `pyton`; did you mean `python`? known: shell, python, node, deno, bun, ruby, js
    err: 3 units, 3 problems
    ");
    insta::assert_snapshot!(place.run(&["validate", "good"]).shown(), @r#"
    exit 0
    err: 1 unit, 0 problems
    "#);
    assert_eq!(place.run(&["validate", "good/task.yaml"]).code, 0);
    let ended = place.run(&["validate", "team", "-o", "json"]);
    assert_eq!((ended.code, ended.err.as_str()), (1, ""));
    let found: Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!(found["items"][0]["file"], "team/bad/task.yaml");
    assert_eq!(found["items"][1]["line"], 4);
    insta::assert_snapshot!(place.run(&["validate", "nowhere"]).shown(), @r#"
    exit 2
    err: error: there is no directory nowhere
    "#);
    std::fs::create_dir(place.here().join("empty")).unwrap();
    insta::assert_snapshot!(place.run(&["validate", "empty"]).shown(), @r#"
    exit 0
    err: no task.yaml and no taskset.yaml below [ROOT]/work/empty
    "#);
}

#[test]
fn validate_resolves_sets_too() {
    let place = Place::new();
    place.task("jobs/a").task("jobs/b").task("jobs/unused");
    let head = "apiVersion: kindling/v1\nkind: TaskSet\nspec:\n";
    let entries = "  entries:\n    a: {ref: {path: a}, overrides: {tiemout: 5s}}\n    b: {ref: {path: b}}\n    c: {ref: {path: c}}\n";
    place.write("jobs/taskset.yaml", &format!("{head}{entries}"));
    place.write(
        "old/taskset.yaml",
        &format!(
            "{}  defaults: {{retry: 3}}\n  entries: {{a: {{ref: {{path: .}}}}}}\n",
            head.replace("kindling", "dicode")
        ),
    );
    insta::assert_snapshot!(place.run(&["validate"]).shown(), @r#"
    exit 1
    out: jobs/taskset.yaml:5:37: unknown field `tiemout`; did you mean `timeout`?
    out: jobs/taskset.yaml:7:21: the directory jobs/c holds no task.yaml and no taskset.yaml
    out: old/taskset.yaml:5:13: the set refers to itself: old -> old
    out: warning: old/taskset.yaml:4:14: `spec.defaults`: the field `retry` is not supported and has no effect
    err: 3 units, 3 problems, 1 warning
    "#);
    assert_eq!(place.run(&["validate", "jobs/taskset.yaml"]).code, 1);
}

#[test]
fn validate_looks_at_what_a_pass_would_look_at() {
    let place = Place::new();
    place.write(
        "kindling.yaml",
        "sources: [{name: a, local: {path: a}}, {name: b, local: {path: b}}]\ndata_dir: a/data\n",
    );
    place.task("a/x").task("b/y").task("c/z");
    for skipped in ["a/data/v/bad", "a/node_modules/m", "b/.git/hooks"] {
        place.write(&format!("{skipped}/task.yaml"), "broken");
    }
    insta::assert_snapshot!(place.run(&["validate"]).shown(), @r#"
    exit 0
    err: 2 units, 0 problems
    "#);
    place.write("b/y/task.yaml", "{}");
    assert_eq!(place.run(&["validate"]).code, 1);
    std::fs::remove_dir_all(place.here().join("a")).unwrap();
    insta::assert_snapshot!(place.run(&["validate"]).shown(), @r#"
    exit 2
    out: b/y/task.yaml:1:1: the field `apiVersion` is missing
    out: b/y/task.yaml:1:1: the field `kind` is missing
    err: 1 unit, 2 problems
    err: error: the directory [ROOT]/work/a is missing
    "#);
}

#[test]
fn check_names_what_is_missing_and_what_mends_it() {
    let place = Place::new();
    let ended = place.run(&["check"]);
    assert_eq!(ended.code, 1);
    assert!(ended.out.starts_with("fail  configuration  no kindling.yaml was found"), "{}", ended.out);
    place.write("kindling.yaml", "server: {listen: '127.0.0.1:1'}\nsources: [{name: a, local: {path: a}}]\n");
    place.task("a/x");
    place.write("a/p/task.yaml", "apiVersion: kindling/v1\nkind: Task\nname: p\ncommand: [no-such-program-here]\ntrigger: {manual: true}\n");
    let found: Value = serde_json::from_str(&place.run(&["check", "-o", "json"]).out).unwrap();
    let of = |check: &str| {
        let items = found["items"].as_array().unwrap().iter().filter(|item| item["check"] == check);
        items.map(|item| item["status"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(of("configuration"), ["ok"]);
    assert_eq!(of("interpreter"), ["fail", "ok"]);
    assert_eq!(of("service"), ["warn"]);
    assert_eq!(
        (of("database"), of("token"), of("source a")),
        (vec!["ok".into()], vec!["ok".into()], vec!["ok".into()])
    );
    std::fs::remove_dir_all(place.here().join("a/p")).unwrap();
    assert_eq!(place.run(&["check"]).code, 0);
    place.write(
        ".kindling/kindling.db",
        "this is not a database, but it is long enough to look like one ........",
    );
    let ended = place.run(&["check"]);
    assert_eq!(ended.code, 1);
    assert!(ended.out.contains("fail  database"), "{}", ended.out);
    assert!(ended.out.contains("-> chmod 700"), "{}", ended.out);
}

#[test]
fn check_looks_for_ssh_where_a_source_is_reached_over_it() {
    let place = Place::new();
    place.write("kindling.yaml", "server: {listen: '127.0.0.1:1'}\nsources: [{name: a, local: {path: a}}]\n");
    place.task("a/x");
    assert!(!place.run(&["check"]).out.contains(" ssh "));
    let source = "{name: b, git: {url: 'git@git.example.org:team/jobs.git'}}";
    place.write("kindling.yaml", &format!("server: {{listen: '127.0.0.1:1'}}\nsources: [{source}]\n"));
    let with_path = |path: &std::path::Path| {
        let ended = place.ended(&place.command(&["check"]).env("PATH", path).output().unwrap());
        ended.out
    };
    let none = with_path(place.here());
    assert!(none.contains("ssh is not on PATH; source b is fetched with it"), "{none}");
    assert!(none.contains("-> sudo apt install openssh-client"), "{none}");
    place.write("bin/ssh", "#!/bin/sh\necho OpenSSH_9.2p1 >&2\n");
    std::fs::set_permissions(
        place.here().join("bin/ssh"),
        std::os::unix::fs::PermissionsExt::from_mode(0o755),
    )
    .unwrap();
    let found = with_path(&place.here().join("bin"));
    assert!(found.contains("ok    ssh ") && found.contains("OpenSSH_9.2p1"), "{found}");
}

#[test]
fn validate_says_how_much_it_did_not_look_at() {
    let place = Place::new();
    let entry = |name: &str| format!("    {name}: {{ref: {{url: 'https://git.example.org/{name}.git'}}}}\n");
    let set = |more: &str| {
        format!(
            "apiVersion: kindling/v1\nkind: TaskSet\nspec:\n  entries:\n    x: {{ref: {{path: x}}}}\n{more}"
        )
    };
    place.task("a/x");
    place.write("a/taskset.yaml", &set(""));
    let ended = place.run(&["validate", "a"]);
    assert_eq!((ended.code, ended.err.contains("not looked at")), (0, false), "{}", ended.err);
    place.write("a/taskset.yaml", &set(&entry("one")));
    let ended = place.run(&["validate", "a"]);
    let told = "1 entry leads to another repository, which was not looked at\n";
    assert!(ended.code == 0 && ended.err.ends_with(told), "{}", ended.err);
    place.write("a/taskset.yaml", &set(&(entry("one") + &entry("two"))));
    let ended = place.run(&["validate", "a"]);
    assert!(
        ended.err.ends_with("2 entries lead to other repositories, which were not looked at\n"),
        "{}",
        ended.err
    );
    let data: Value = serde_json::from_str(&place.run(&["validate", "a", "-o", "json"]).out).unwrap();
    assert_eq!(data["elsewhere"], 2);
}

#[test]
fn completions_are_scripts_that_parse() {
    let place = Place::new();
    for shell in ["zsh", "fish", "elvish", "powershell"] {
        let ended = place.run(&["completions", shell]);
        assert!(ended.code == 0 && ended.out.contains("reconcile"), "{shell}");
    }
    place.write("k.bash", &place.run(&["completions", "bash"]).out);
    let parsed = std::process::Command::new("bash").arg("-n").arg(place.here().join("k.bash")).output();
    match parsed {
        Ok(parsed) => assert!(parsed.status.success(), "{}", String::from_utf8_lossy(&parsed.stderr)),
        Err(_) => println!("passed over: bash is not installed"),
    }
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let place = Place::new();
    let mut child = place
        .command(&["completions", "bash"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // More comes than a pipe holds.
    drop(child.stdout.take());
    let ended = place.ended(&child.wait_with_output().unwrap());
    assert_eq!((ended.code, ended.err.as_str()), (0, ""));
}
