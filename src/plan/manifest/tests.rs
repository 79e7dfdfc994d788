use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::model::spec::{
    CatchUp, Chain, ChainOn, Concurrency, DEFAULT_TIMEOUT, HostVariable, Overlap, Param, ParamKind,
    ParamValue, Permissions, RestartPolicy, Retries, Runtime, Sandbox, Schedule, Trigger,
};

mod hooks;

fn read(text: &str) -> Result<TaskSpec, Vec<String>> {
    read_task(text.as_bytes(), &Limits::default()).map(|read| read.spec).map_err(|problems| {
        problems
            .iter()
            .map(|problem| {
                assert_eq!((problem.reason, &problem.file), (Reason::InvalidManifest, &None));
                let at = problem.at.unwrap();
                format!("{}:{} {}", at.line, at.column, problem.message)
            })
            .collect()
    })
}

/// A manifest whose header, name and trigger are on the first line.
fn with(rest: &str) -> Result<TaskSpec, Vec<String>> {
    read(&format!("{{apiVersion: kindling/v1, kind: Task, name: t, {rest}}}"))
}

fn manual(rest: &str) -> Result<TaskSpec, Vec<String>> {
    with(&format!("runtime: shell, trigger: {{manual: true}}, {rest}"))
}

const FULL: &str = "\
apiVersion: kindling/v1
kind: Task
name: Slack digest
description: |
  Sends a digest.
runtime: python
entry: src/main.py
trigger:
  daemon: true
  restart: on-failure
params:
  channel: '#general'
  count: {type: number, default: 1.50, description: how many}
  dry-run: false
  token: {description: secret of nobody}
env:
  MODE: 0755
  DEBUG: True
  EMPTY: \"\"
exclude: ['*.tmp', /data/]
";

#[test]
fn reads_every_field() {
    let spec = read(FULL).unwrap();
    let text = |text: &str| ParamValue::String(text.into());
    let expected = TaskSpec {
        name: "Slack digest".into(),
        description: "Sends a digest.\n".into(),
        runtime: Runtime::Python,
        entry: Some("src/main.py".into()),
        trigger: Trigger::Daemon(RestartPolicy::OnFailure),
        params: BTreeMap::from([
            ("channel".into(), Param { default: Some(text("#general")), ..Param::default() }),
            (
                "count".into(),
                Param {
                    kind: ParamKind::Number,
                    default: Some(ParamValue::Number("1.50".into())),
                    description: "how many".into(),
                    ..Param::default()
                },
            ),
            (
                "dry-run".into(),
                Param {
                    kind: ParamKind::Boolean,
                    default: Some(ParamValue::Boolean(false)),
                    ..Param::default()
                },
            ),
            ("token".into(), Param { description: "secret of nobody".into(), ..Param::default() }),
        ]),
        env: BTreeMap::from(
            [("DEBUG", "True"), ("EMPTY", ""), ("MODE", "0755")].map(|(k, v)| (k.into(), v.into())),
        ),
        timeout: None,
        retries: crate::model::spec::Retries::default(),
        concurrency: crate::model::spec::Concurrency::of(&Trigger::Manual),
        exclude: vec!["*.tmp".into(), "/data/".into()],
        permissions: crate::model::spec::Permissions::default(),
    };
    assert_eq!(spec, expected);
}

#[test]
fn fills_in_the_defaults() {
    let spec = manual("").unwrap();
    let expected = TaskSpec {
        name: "t".into(),
        description: String::new(),
        runtime: Runtime::Shell,
        entry: None,
        trigger: Trigger::Manual,
        params: BTreeMap::new(),
        env: BTreeMap::new(),
        timeout: Some(DEFAULT_TIMEOUT),
        retries: crate::model::spec::Retries::default(),
        concurrency: crate::model::spec::Concurrency::of(&Trigger::Manual),
        exclude: Vec::new(),
        permissions: crate::model::spec::Permissions::default(),
    };
    assert_eq!(spec, expected);
    let command = with("command: [sleep, 5, true], trigger: {daemon: true}").unwrap();
    assert_eq!(command.runtime, Runtime::Command(["sleep", "5", "true"].map(String::from).to_vec()));
    assert_eq!(command.trigger, Trigger::Daemon(RestartPolicy::Always));
    assert_eq!(command.timeout, None);
    assert_eq!(manual("description: ~, params: null, env:, entry: ~").unwrap(), expected);
}

#[test]
fn a_timeout_is_a_length_or_none() {
    let timeout = |text: &str| manual(&format!("timeout: {text}")).map(|spec| spec.timeout);
    assert_eq!(timeout("1m30s"), Ok(Some(Duration::from_secs(90))));
    assert_eq!(timeout("none"), Ok(None));
    assert_eq!(timeout("0"), Ok(None));
    assert!(timeout("30").is_err() && timeout("[1s]").is_err());
    let daemon = |text: &str| with(&format!("runtime: node, trigger: {{daemon: true}}, timeout: {text}"));
    assert_eq!(daemon("none").map(|spec| spec.timeout), Ok(None));
    assert_eq!(daemon("5s"), Err(vec!["1:97 `timeout` is not for daemons: they have no end".into()]));
}

#[test]
fn reports_all_mistakes_in_the_order_of_the_file() {
    let found = read(
        "\
apiVersion: kindling/v1
kind: Task
nmae: x
runtime: pyton
entry: ../x
trigger: {corn: '* * * * *'}
timeout: 5
params: {a-b: 1, A_B: 2, 9: x, n: {type: numbr}}
env: {KINDLING_X: 1, a b: 2, LIST: [], N: }
exclude: ['[z-a]', 5]
",
    );
    let expected = [
        "3:1 unknown field `nmae`; did you mean `name`?",
        "4:10 unknown runtime `pyton`; did you mean `python`? known: shell, python, node, deno, bun, ruby, js",
        "5:8 `entry` must be a path inside the unit: the path has a `.` or `..` part",
        "6:11 `trigger`: unknown field `corn`; did you mean `cron`? known: manual, daemon, cron, chain, webhook, \
         restart, timezone, catchUp, methods, webhook_secret, bearer",
        "7:10 `timeout` must be a length of time such as `500ms`, `30s`, `1m30s` or `2h`, a year at most, or `none`",
        "8:18 `params`: `a-b` and `A_B` would both be the variable `PARAM_A_B`",
        "8:26 `params`: `9` is not a name here: letters, digits, `_` and `-`, no digit first, 100 bytes at most",
        "8:42 unknown parameter type `numbr`; did you mean `number`? known: string, number, boolean",
        "9:7 `env`: `KINDLING_X` is reserved: variables in KINDLING_ are kindling's own",
        "9:22 `env`: `a b` is not a name here: letters, digits and `_`, no digit first, 100 bytes at most",
        "9:36 `env.LIST` must be text, not a list",
        "9:41 `env.N` has no value; write `\"\"` for an empty one",
        "10:11 `exclude[0]` is not a pattern in gitignore syntax",
    ];
    assert_eq!(found.unwrap_err(), expected);
}

#[test]
fn a_trigger_has_exactly_one_kind() {
    let trigger = |text: &str| with(&format!("runtime: node, trigger: {text}")).unwrap_err().remove(0);
    let cases = [
        (
            "{}",
            "the kind is missing: `manual: true`, `daemon: true`, `cron: \"0 6 * * *\"`, `webhook: /hooks/PATH` or `chain: {from: TASK}`",
        ),
        ("manual", "`trigger` must be a map, such as `{manual: true}` or `{daemon: true}`, not text"),
        ("[manual]", "`trigger` must be a map, not a list"),
        ("{manual: false}", "`trigger.manual` can only be `true`"),
        ("{daemon: yes}", "`trigger.daemon` can only be `true`"),
        ("{manual: true, daemon: true}", "`trigger`: a trigger is `manual` or `daemon`, not both"),
        ("{manual: true, restart: never}", "`trigger.restart` goes with `daemon`"),
        ("{cron: '* * * * *', chain: {from: a}}", "`trigger`: a trigger is `cron` or `chain`, not both"),
        ("{daemon: true, timezone: UTC}", "`trigger.timezone` goes with `cron`"),
        ("{chain: {from: a}, catchUp: all}", "`trigger.catchUp` goes with `cron`"),
        (
            "{cron: 5}",
            "`trigger.cron` has 1 field; it needs five: minute, hour, day of month, month, day of week",
        ),
        ("{cron: [1]}", "`trigger.cron` must be text, not a list"),
        ("{cron: '0 25 * * *'}", "`trigger.cron` is no cron expression: its hour is not from 0 to 23: `25`"),
        (
            "{cron: '@daily', catchUp: onec}",
            "unknown way to catch up `onec`; did you mean `once`? known: none, once, all",
        ),
        ("{cron: '@daily', timezone: Berlin}", "unknown time zone; did you mean `Europe/Berlin`?"),
        (
            "{cron: '@daily', timezone: Europe/Berln}",
            "unknown time zone `Europe/Berln`; did you mean `Europe/Berlin`?",
        ),
        (
            "{cron: '@daily', timezone: hunter2hunter2}",
            "unknown time zone; the names are those of the IANA database, such as `Europe/Berlin` or `UTC`",
        ),
        ("{chain: a}", "`trigger.chain` must be a map, such as `{from: build, on: success}`, not text"),
        ("{chain: {on: success}}", "`trigger.chain`: the field `from` is missing"),
        (
            "{chain: {from: a, on: sucess}}",
            "unknown end of a run `sucess`; did you mean `success`? known: success, failure, always",
        ),
        (
            "{chain: {from: ../a}}",
            "`trigger.chain.from` must be the id of a task: a key in the same directory or set, or `SOURCE/KEY`",
        ),
        (
            "{daemon: true, restart: onfailure}",
            "unknown restart policy `onfailure`; did you mean `on-failure`? known: always, on-failure, never",
        ),
    ];
    for (text, expected) in cases {
        assert!(trigger(text).ends_with(expected), "{text}: {}", trigger(text));
    }
}

#[test]
fn schedules_and_chains_are_read_with_their_defaults() {
    let trigger = |text: &str| with(&format!("runtime: node, trigger: {text}")).unwrap().trigger;
    let schedule = |expression: &str, timezone: Option<&str>, catch_up| {
        Trigger::Cron(Schedule {
            expression: expression.into(),
            timezone: timezone.map(Into::into),
            catch_up,
        })
    };
    assert_eq!(trigger("{cron: ' 0 6 * * MON '}"), schedule("0 6 * * MON", None, CatchUp::None));
    assert_eq!(
        trigger("{cron: '@daily', timezone: europe/berlin, catchUp: all}"),
        schedule("@daily", Some("Europe/Berlin"), CatchUp::All)
    );
    let chain = |from: &str, on| Trigger::Chain(Chain { from: from.into(), on });
    assert_eq!(trigger("{chain: {from: build}}"), chain("build", ChainOn::Success));
    assert_eq!(
        trigger("{chain: {from: team/jobs/build, on: always}}"),
        chain("team/jobs/build", ChainOn::Always)
    );
}

#[test]
fn what_surprises_in_a_schedule_is_a_warning_with_its_place() {
    let text = "apiVersion: kindling/v1\nkind: Task\nname: t\nruntime: node\ntrigger:\n  cron: '30 2 13 * 5'\n  timezone: Europe/Berlin\n";
    let read = read_task(text.as_bytes(), &Limits::default()).unwrap();
    let found: Vec<String> = read
        .warnings
        .iter()
        .map(|warning| {
            format!(
                "{} {:?} {}",
                warning.reason.as_str(),
                warning.at.map(|at| (at.line, at.column)),
                warning.message
            )
        })
        .collect();
    insta::assert_snapshot!(found.join("\n"), @"SurprisingSchedule Some((6, 9)) `trigger.cron` fires on days that match the day of month or the day of week, not only on those that match both");
}

#[test]
fn retries_and_concurrency_are_a_number_or_a_map() {
    let retries = |text: &str| manual(&format!("retries: {text}")).map(|spec| spec.retries);
    let of = |limit, millis| Ok(Retries { limit, backoff: Duration::from_millis(millis) });
    assert_eq!(retries("3"), of(3, 1000));
    assert_eq!(retries("{limit: 2, backoff: 1m30s}"), of(2, 90_000));
    let concurrency = |trigger: &str, text: &str| {
        with(&format!("runtime: node, trigger: {trigger}, concurrency: {text}")).map(|spec| spec.concurrency)
    };
    let of = |limit, overlap| Ok(Concurrency { limit, overlap });
    assert_eq!(concurrency("{manual: true}", "{limit: 2}"), of(Some(2), Overlap::Allow));
    assert_eq!(concurrency("{manual: true}", "{overlap: replace}"), of(Some(1), Overlap::Replace));
    assert_eq!(concurrency("{cron: '@daily'}", "{}"), of(Some(1), Overlap::Forbid));
    assert_eq!(concurrency("{cron: '@daily'}", "{overlap: allow}"), of(None, Overlap::Allow));
    assert_eq!(concurrency("{cron: '@daily'}", "{limit: 3}"), of(Some(3), Overlap::Forbid));
    let wrong = with(
        "runtime: node, trigger: {manual: true}, retries: {backoff: 0}, concurrency: {limit: 0, overlap: forbdi}",
    );
    insta::assert_snapshot!(wrong.unwrap_err().join("\n"), @"
    1:97 `retries`: the field `limit` is missing
    1:107 `retries.backoff` must be a length of time such as `500ms`, `30s`, `1m30s` or `2h`, a year at most
    1:132 `concurrency.limit` must be a number from 1 to 10000
    1:144 unknown way to overlap `forbdi`; did you mean `forbid`? known: forbid, allow, replace
    ");
    let wrong = with("runtime: node, trigger: {daemon: true}, retries: 101, concurrency: 2").unwrap_err();
    insta::assert_snapshot!(wrong.join("\n"), @"
    1:97 `retries` is not for daemons: `restart` says when one is started again
    1:115 `concurrency` is not for daemons: there is always exactly one
    ");
    insta::assert_snapshot!(manual("retries: -1, concurrency: 2").unwrap_err().join("\n"), @"
    1:98 `retries` must be a number from 0 to 100
    1:115 `concurrency` must be a map, such as `{limit: 2, overlap: allow}`, not text
    ");
    let wrong = with("runtime: node, trigger: {cron: '@daily'}, params: {a: {required: true}}").unwrap_err();
    insta::assert_snapshot!(wrong.join("\n"), @"1:98 `params` of a task with `cron` cannot be required: nobody gives them; use `default`");
}

#[test]
fn runtime_and_command_exclude_each_other() {
    let errors = |rest: &str| with(&format!("trigger: {{manual: true}}, {rest}")).unwrap_err().join("; ");
    let cases = [
        ("", "1:1 the field `runtime` is missing, or `command` in its place"),
        ("runtime: shell, command: [x]", "1:89 a task has `runtime` or `command`, not both"),
        ("command: []", "1:82 `command` must name a program first"),
        ("command: ['']", "1:82 `command` must name a program first"),
        (
            "command: ls -l",
            "1:82 `command` must be a list of arguments, such as `[sh, -c, \"make all\"]`, not text",
        ),
        ("command: [a, \"b\\0\"]", "1:86 `command[1]` has a NUL character in it"),
        ("command: [a, [b]]", "1:86 `command[1]` must be text, not a list"),
        ("command: [a], entry: x", "1:94 `entry` goes with `runtime`; a `command` names its own files"),
        ("runtime: node, entry: .", "1:95 `entry` must name a file of the unit"),
        (
            "runtime: node, entry: a/",
            "1:95 `entry` must be a path inside the unit: the path has an empty part",
        ),
        ("runtime: [node]", "1:82 `runtime` must be text, not a list"),
    ];
    for (rest, expected) in cases {
        assert_eq!(errors(rest), expected, "{rest}");
    }
}

#[test]
fn a_default_fits_its_type() {
    let param = |text: &str| manual(&format!("params: {{p: {text}}}")).map(|spec| spec.params["p"].clone());
    let kind = |text: &str| param(text).map(|param| param.kind);
    assert_eq!(kind("{}"), Ok(ParamKind::String));
    assert_eq!(kind("{default: 5}"), Ok(ParamKind::Number));
    assert_eq!(kind("-1e-3"), Ok(ParamKind::Number));
    assert_eq!(kind("{type: boolean}"), Ok(ParamKind::Boolean));
    let cases = [
        ("{type: string, default: 5}", "must be a string, as `type` says, not a number; put it in quotes"),
        ("{type: number, default: x}", "must be a number, as `type` says, not a string"),
        ("{required: true, default: x}", "is never used: the parameter is required"),
        ("{default: [1]}", "must be text, a number or a boolean, not a list"),
        ("0755", "is a number that programs read differently; use decimal digits, or quotes"),
        ("1_000", "is a number that programs read differently; use decimal digits, or quotes"),
        ("\"a\\0\"", "has a NUL character in it"),
        ("", "has no value; write `{}` for a parameter without a default"),
        ("[1]", "must be text, a number or a boolean, not a list"),
        ("{required: 1}", "must be `true` or `false`, not a number"),
        (
            "{defualt: 1}",
            "`params.p`: unknown field `defualt`; did you mean `default`? \
                          known: type, default, required, description",
        ),
    ];
    for (text, expected) in cases {
        let errors = param(text).unwrap_err();
        assert!(errors.len() == 1 && errors[0].ends_with(expected), "{text}: {errors:?}");
    }
}

#[test]
fn exclude_is_bounded() {
    let exclude = |patterns: &[String]| {
        let list = patterns.join(", ");
        manual(&format!("exclude: [{list}]"))
            .map(|spec| spec.exclude.len())
            .map_err(|errors| errors.join("; "))
    };
    assert_eq!(exclude(&vec!["a".into(); 100]), Ok(100));
    assert_eq!(exclude(&vec!["a".into(); 101]), Err("1:98 `exclude` has 101 patterns, more than 100".into()));
    assert_eq!(exclude(&["x".repeat(257)]), Err("1:99 `exclude[0]` is longer than 256 bytes".into()));
    let nothing = "excludes nothing: an empty line or a comment in gitignore syntax";
    assert_eq!(exclude(&["'#x'".into()]), Err(format!("1:99 `exclude[0]` {nothing}")));
    for unclosed in ["'['", "'a[bc'", "'{a'"] {
        let error = "1:99 `exclude[0]` is not a pattern in gitignore syntax";
        assert_eq!(exclude(&[unclosed.into()]), Err(error.into()), "{unclosed}");
    }
    assert_eq!(exclude(&["'a[bc]d'".into(), r"'\[x'".into()]), Ok(2));
}

#[test]
fn nothing_else_is_looked_at_in_another_kind_of_file() {
    let cases = [
        ("a: 1", "1:1 the field `apiVersion` is missing; 1:1 the field `kind` is missing"),
        (
            "apiVersion: dicode/v2\nkind: Task\nx: 1",
            "1:13 unknown apiVersion `dicode/v2`; did you mean `dicode/v1`? known: kindling/v1, dicode/v1",
        ),
        ("apiVersion: kindling/v1\nkind: task", "2:7 unknown kind `task`; did you mean `Task`? known: Task"),
        ("- a", "1:1 the file must be a map, not a list"),
        ("", "1:1 the file is empty"),
    ];
    for (text, expected) in cases {
        assert_eq!(read(text).unwrap_err().join("; "), expected);
    }
}

#[test]
fn no_more_problems_are_reported_than_are_read() {
    let names: Vec<String> = (0..1000).map(|n| format!("x{n}: 1")).collect();
    let found = manual(&names.join(", ")).unwrap_err();
    assert_eq!(found.len(), 20);
    assert!(found[19].ends_with(" (and 980 more problems in this file)"), "{}", found[19]);
}

#[test]
fn the_limit_of_the_file_is_the_configured_one() {
    let limits = Limits { manifest_bytes: 10, ..Limits::default() };
    let problems = read_task(FULL.as_bytes(), &limits).unwrap_err();
    assert_eq!(problems.len(), 1);
    assert_eq!(problems[0].at, Some(Position { line: 1, column: 1 }));
    assert!(problems[0].message.ends_with("more than the 10 that `limits.manifest` allows"));
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = read_task(&bytes, &Limits::default());
    }

    #[test]
    fn a_changed_manifest_is_read_or_has_a_place(
        cut in 0..FULL.len(), length in 0..40_usize, put in "[ -~\n\t&*{}\\[\\]:,é]{0,20}",
    ) {
        let end = (cut + length).min(FULL.len());
        let text = format!("{}{put}{}", &FULL[..cut], &FULL[end..]);
        if let Err(problems) = read_task(text.as_bytes(), &Limits::default()) {
            prop_assert!(!problems.is_empty());
            for problem in problems {
                let at = problem.at.unwrap();
                prop_assert!(at.line >= 1 && at.column >= 1 && at.line as usize <= text.lines().count() + 1);
                prop_assert!(!problem.message.chars().any(char::is_control), "{}", problem.message);
            }
        }
    }
}

#[test]
fn a_daemon_has_nobody_who_gives_it_parameters() {
    let problems =
        with("runtime: shell, trigger: {daemon: true}, params: {a: {required: true}}").unwrap_err();
    insta::assert_snapshot!(problems.join("\n"), @"1:97 `params` of a daemon cannot be required: nobody gives them; use `default`");
}

#[test]
fn permissions_name_what_is_asked_for() {
    let spec = manual("permissions: {env: [A, {name: B, from: C, optional: true}]}").unwrap();
    let host = |name: &str, optional| HostVariable { name: name.into(), optional };
    let env = [("A".to_owned(), host("A", false)), ("B".to_owned(), host("C", true))].into();
    assert_eq!(spec.permissions, Permissions { env, ..Permissions::default() });
    let deno = |rest: &str| with(&format!("runtime: js, trigger: {{manual: true}}, permissions: {{{rest}}}"));
    assert_eq!(deno("env: []").unwrap().permissions.sandbox, None);
    let sandbox =
        deno("fs: [{path: /a}, {path: b, permission: w}], run: [git]").unwrap().permissions.sandbox.unwrap();
    let expected = Sandbox {
        read: vec!["/a".into()],
        write: vec!["b".into()],
        run: vec!["git".into()],
        ..Sandbox::default()
    };
    assert_eq!(sandbox, expected);
    assert_eq!(deno("net: []").unwrap().permissions.sandbox.unwrap().net, Some(Vec::new()));
}

#[test]
fn permissions_that_cannot_be_held_are_errors() {
    insta::assert_snapshot!(manual("env: {A: x}, permissions: {env: [A, B, B, {from: C}, 1x, KINDLING_RUN], net: [], fs: [], all: true}").unwrap_err().join("\n"), @"
    1:122 `permissions.env[0]` is set by `env` too
    1:128 `permissions.env[2]` is named twice
    1:131 `permissions.env[3]`: the field `name` is missing
    1:142 `permissions.env[4]` names a variable, but `1x` is not a name here: letters, digits and `_`, no digit first, 100 bytes at most
    1:146 `permissions.env[5]` names `KINDLING_RUN`: variables in KINDLING_ are kindling's own
    1:166 `permissions.net` cannot be held by `shell`: only `runtime: deno` confines a script
    1:174 `permissions.fs` cannot be held by `shell`: only `runtime: deno` confines a script
    1:178 `permissions`: unknown field `all`; known: env, fs, net, run, sys
    ");
    insta::assert_snapshot!(with("command: [x], trigger: {manual: true}, permissions: {sys: [a]}").unwrap_err().join("\n"), @"1:106 `permissions.sys` cannot be held by `command`: only `runtime: deno` confines a script");
}

#[test]
fn what_deno_cannot_be_told_is_a_problem() {
    let asked = "fs: [{path: 'a,b', permission: rw}], net: ['a,b', c], run: ['x,y'], sys: ['hostname,uid']";
    for text in [
        format!("{{apiVersion: dicode/v1, name: t, trigger: {{manual: true}}, permissions: {{{asked}}}}}"),
        format!(
            "{{apiVersion: kindling/v1, kind: Task, name: t, runtime: deno, trigger: {{manual: true}}, permissions: {{{asked}}}}}"
        ),
    ] {
        let problems = read_task(text.as_bytes(), &Limits::default()).unwrap_err();
        let shown: Vec<&str> = problems.iter().map(|problem| problem.message.as_str()).collect();
        insta::allow_duplicates! { insta::assert_snapshot!(shown.join("\n"), @"
        `permissions.fs[0].path` has a comma in it, by which the flags of `deno run` separate values
        `permissions.net[0]` has a comma in it, by which the flags of `deno run` separate values
        `permissions.run[0]` has a comma in it, by which the flags of `deno run` separate values
        `permissions.sys[0]` has a comma in it, by which the flags of `deno run` separate values
        "); }
    }
}
