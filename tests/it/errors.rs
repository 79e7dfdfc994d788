//! What people read when they made a mistake: the exact messages, so that a change of one is a decision.

use std::ffi::OsString;
use std::path::Path;

use kindling::config::{Role, parse};
use kindling::model::limits::Limits;
use kindling::plan::manifest::read_task;

/// A manifest that lacks nothing but its runtime and trigger.
fn task(rest: &str) -> String {
    format!("apiVersion: kindling/v1\nkind: Task\nname: digest\n{rest}")
}

/// The problems of a task.yaml, a line each.
fn manifest(text: &str) -> String {
    let problems = read_task(text.as_bytes(), &Limits::default()).unwrap_err();
    let line = |problem: &kindling::model::problem::Problem| {
        let at = problem.at.unwrap();
        format!("{}:{} {}", at.line, at.column, problem.message)
    };
    problems.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// The errors of a kindling.yaml, a line each, with a line for each hint.
fn configuration(text: &str) -> String {
    let env = |name: &str| (name == "SHORT").then(|| OsString::from("0123456789"));
    let errors = parse(Path::new("/srv/kindling.yaml"), text.as_bytes(), &env, Role::Service).unwrap_err();
    let mut lines = Vec::new();
    for error in errors {
        lines.push(error.to_string());
        lines.extend(error.hint.map(|hint| format!("  hint: {hint}")));
    }
    let text = lines.join("\n");
    assert!(!text.contains("SECRET"), "{text}");
    text
}

#[test]
fn no_yaml_at_all() {
    insta::assert_snapshot!(manifest("just a sentence\n"), @"1:1 the file must be a map, not text");
    insta::assert_snapshot!(manifest("apiVersion: kindling/v1\nkind: Task\nname: \"digest\nruntime: shell\n"), @"4:1 a quote is not closed, or its text is indented too little");
    insta::assert_snapshot!(manifest("apiVersion: kindling/v1\nkind: Task\n	name: digest\n"), @"2:7 a tab follows this text where only spaces may; indent with spaces");
    insta::assert_snapshot!(manifest("apiVersion: kindling/v1\nkind: Task\nname: digest: weekly\n"), @"3:13 a `:` cannot stand here; indent the key, or put text with `: ` in it in quotes");
    insta::assert_snapshot!(manifest("\n# nothing yet\n"), @"1:1 the file is empty");
}

#[test]
fn more_than_one_document_or_value() {
    insta::assert_snapshot!(manifest("apiVersion: kindling/v1\nkind: Task\nname: digest\nruntime: shell\ntrigger: {manual: true}\n---\napiVersion: kindling/v1\nkind: Task\nname: digest\n"), @"7:1 a second document begins here; a file holds one");
    insta::assert_snapshot!(manifest(&task("runtime: shell\ntrigger: {manual: true}\nruntime: python\n")), @"6:1 the key `runtime` is given twice");
}

#[test]
fn another_kind_of_file() {
    insta::assert_snapshot!(manifest("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n"), @r#"
    1:13 unknown apiVersion; known: kindling/v1, dicode/v1
    2:7 unknown kind; known: Task
    "#);
    insta::assert_snapshot!(manifest("name: digest\nruntime: shell\n"), @r#"
    1:1 the field `apiVersion` is missing
    1:1 the field `kind` is missing
    "#);
}

#[test]
fn a_mistyped_field_and_what_it_leaves_out() {
    insta::assert_snapshot!(manifest("apiVersion: kindling/v1\nkind: Task\nnmae: digest\nruntime: pyton\ntriggers: {manual: true}\n"), @r#"
    3:1 unknown field `nmae`; did you mean `name`?
    4:10 unknown runtime `pyton`; did you mean `python`? known: shell, python, node, deno, bun, ruby, js
    5:1 unknown field `triggers`; did you mean `trigger`?
    "#);
}

#[test]
fn what_starts_it() {
    insta::assert_snapshot!(manifest(&task("runtime: shell\ntrigger: manual\n")), @"5:10 `trigger` must be a map, such as `{manual: true}` or `{daemon: true}`, not text");
    insta::assert_snapshot!(manifest(&task("runtime: shell\ntrigger: {cron: '0 9 * * monday'}\n")), @"5:17 `trigger.cron` is no cron expression: its day of week has an unknown name `monday`; did you mean `mon`?");
    insta::assert_snapshot!(manifest(&task("runtime: shell\ntrigger: {crom: '0 9 * * 1'}\n")), @"5:11 `trigger`: unknown field `crom`; did you mean `cron`? known: manual, daemon, cron, chain, webhook, restart, timezone, catchUp, methods, webhook_secret, bearer");
    insta::assert_snapshot!(manifest(&task("runtime: shell\ntrigger: {chain: {from: build, on: ok}}\n")), @"5:36 unknown end of a run; known: success, failure, always");
    insta::assert_snapshot!(manifest(&task("runtime: shell\ntrigger: {daemon: true, restart: sometimes}\ntimeout: 5m\n")), @"5:34 unknown restart policy; known: always, on-failure, never");
}

#[test]
fn what_runs_it() {
    insta::assert_snapshot!(manifest(&task("command: make all\ntrigger: {manual: true}\n")), @r#"4:10 `command` must be a list of arguments, such as `[sh, -c, "make all"]`, not text"#);
    insta::assert_snapshot!(manifest(&task("runtime: node\nentry: /etc/passwd\ntrigger: {manual: true}\n")), @"5:8 `entry` must be a path inside the unit: the path is absolute");
}

#[test]
fn what_it_is_given() {
    insta::assert_snapshot!(manifest(&task("runtime: node\ntrigger: {manual: true}\nparams:\n  count: {type: string, default: 5}\n  dry-run: {required: true, default: true}\nenv:\n  KINDLING_TOKEN: x\n  LIST: [a]\n")), @r#"
    7:34 `params.count.default` must be a string, as `type` says, not a number; put it in quotes
    8:38 `params.dry-run.default` is never used: the parameter is required
    10:3 `env`: `KINDLING_TOKEN` is reserved: variables in KINDLING_ are kindling's own
    11:9 `env.LIST` must be text, not a list
    "#);
    insta::assert_snapshot!(manifest(&task("runtime: node\ntrigger: {manual: true}\ntimeout: 90\nexclude: '*.tmp'\n")), @r#"
    6:10 `timeout` must be a length of time such as `500ms`, `30s`, `1m30s` or `2h`, a year at most, or `none`
    7:10 `exclude` must be a list, not text
    "#);
}

#[test]
fn what_no_manifest_should_try() {
    insta::assert_snapshot!(manifest(&task("runtime: node\ntrigger: {manual: true}\ndescription: &a [*a]\n")), @"6:18 this alias stands inside what it stands for");
    insta::assert_snapshot!(manifest(&task("runtime: node\ntrigger: {manual: true}\ndescription: !!python/object/apply:os.system [id]\n")), @"6:46 this tag is not supported");
    insta::assert_snapshot!(manifest(&task("runtime: node\ntrigger: {manual: true}\n\"\\e[2J\\n\": 1\n")), @r#"6:1 unknown field `\u{1b}[2J\n`; known: apiVersion, kind, name, description, runtime, command, entry, trigger, params, env, timeout, retries, concurrency, exclude, permissions"#);
    insta::assert_snapshot!(manifest(&task(&format!("runtime: node\ntrigger: {{manual: true}}\ndescription: {}{}\n", "[".repeat(40), "]".repeat(40)))), @"6:45 more than 32 lists and maps inside one another");
}

#[test]
fn the_service() {
    insta::assert_snapshot!(configuration("server: {listen: 0.0.0.0:7070}\n"), @r#"
    /srv/kindling.yaml:1:18: `server.listen` is not loopback: token and code would cross the network in plain HTTP
      hint: listen on 127.0.0.1, or set `insecure_http: true` below `server` to allow it
    "#);
    insta::assert_snapshot!(configuration("server:\n  listen: localhost\n  token: SECRET-SECRET-SECRET\n  token_env: NOT_SET\n"), @r#"
    /srv/kindling.yaml:2:11: `server.listen` must be an IP address and a port, such as `127.0.0.1:7070` or `[::1]:7070`
    /srv/kindling.yaml:3:3: `server`: unknown field `token`; known: listen, token_env, token_file, insecure_http, open_hooks
    /srv/kindling.yaml:4:14: `server.token_env` names a variable that is not set
      hint: set it before kindling is started, or use `token_file`
    "#);
    insta::assert_snapshot!(configuration("server: {token_env: SHORT}\ndatadir: x\n"), @"
    /srv/kindling.yaml:1:21: `server.token_env` gives a token shorter than 16 bytes
      hint: `openssl rand -hex 32` makes one
    /srv/kindling.yaml:2:1: unknown field `datadir`; did you mean `data_dir`? known: server, data_dir, sources, runtimes, limits
    ");
}

#[test]
fn sources() {
    insta::assert_snapshot!(configuration("sources:\n  - name: team\n    git: {url: 'https://me:SECRET@git.example.org/x'}\n  - name: team\n    local: {}\n"), @r#"
    /srv/kindling.yaml:3:16: `sources[0].git.url` must not carry credentials
    /srv/kindling.yaml:4:11: `sources[1].name` in line 4 is also the name of the source in line 2
    /srv/kindling.yaml:5:12: `sources[1].local`: the field `path` is missing
    "#);
    insta::assert_snapshot!(configuration("sources:\n  - name: my jobs\n    git: {url: 'git://git.example.org/x', branch: refs/heads/main, poll_interval: 10ms}\n  - local: tasks\n"), @r#"
    /srv/kindling.yaml:2:11: `sources[0].name` is not a name: only ASCII letters, digits, `-`, `_` and `.` are allowed
    /srv/kindling.yaml:3:16: `sources[0].git.url` must be a URL with https, http, ssh or file, `user@host:path` for ssh, or an absolute path
    /srv/kindling.yaml:3:51: `sources[0].git.branch` must be the short name, without `refs/heads/`
    /srv/kindling.yaml:3:83: `sources[0].git.poll_interval` must be at least `1s`
    /srv/kindling.yaml:4:5: `sources[1]`: the field `name` is missing
    /srv/kindling.yaml:4:12: `sources[1].local` must be a map, not text
    "#);
    insta::assert_snapshot!(configuration("sources: {team: {git: {url: /x}}}\n"), @"/srv/kindling.yaml:1:10: `sources` must be a list, not a map");
    insta::assert_snapshot!(configuration("data_dir: tasks\nsources: [{name: a, local: {path: tasks, debounce: fast}}]\nlimits: {file: 10MB, files: many}\n"), @r#"
    /srv/kindling.yaml:2:35: `sources[0].local.path` is the data directory or lies inside it, where no unit is looked for
      hint: name another directory here or in `data_dir`
    /srv/kindling.yaml:2:52: `sources[0].local.debounce` must be a length of time such as `500ms`, `30s`, `1m30s` or `2h`, a year at most
    /srv/kindling.yaml:3:16: `limits.file` must be a size such as `512KiB`, `10MiB` or `1GiB`, or a number of bytes, above 0
    /srv/kindling.yaml:3:29: `limits.files` must be a whole number, above 0
    "#);
}
