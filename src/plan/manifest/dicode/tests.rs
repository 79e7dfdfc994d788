use std::time::Duration;

use super::go_duration;
use crate::model::limits::Limits;
use crate::model::problem::{Problem, Reason};
use crate::model::spec::{
    CatchUp, Chain, ChainOn, HostVariable, ParamKind, ParamValue, RestartPolicy, Runtime, Sandbox, Schedule,
    TaskSpec, Trigger,
};
use crate::plan::manifest::{TaskRead, read_task};

fn places(problems: &[Problem], reason: Reason) -> Vec<String> {
    let told = |problem: &Problem| {
        assert_eq!((problem.reason, &problem.file), (reason, &None));
        let at = problem.at.unwrap();
        format!("{}:{} {}", at.line, at.column, problem.message)
    };
    problems.iter().map(told).collect()
}

fn read(text: &str) -> Result<TaskRead, Vec<String>> {
    read_task(text.as_bytes(), &Limits::default())
        .map_err(|problems| places(&problems, Reason::InvalidManifest))
}

/// A task with these fields, of which nothing is a warning.
fn spec(fields: &str) -> TaskSpec {
    let read = read(&format!("apiVersion: dicode/v1\nkind: Task\nname: t\n{fields}")).unwrap();
    assert!(read.warnings.is_empty(), "{:?}", read.warnings);
    read.spec
}

fn warnings(fields: &str) -> Vec<String> {
    let read =
        read(&format!("{{apiVersion: dicode/v1, name: t, trigger: {{manual: true}}, {fields}}}")).unwrap();
    places(&read.warnings, Reason::IgnoredField)
}

fn problems(fields: &str) -> Vec<String> {
    read(&format!("{{apiVersion: dicode/v1, name: t, {fields}}}")).unwrap_err()
}

const FULL: &str = "\
description: |
  Sends a digest.
runtime: js
trigger:
  daemon: true
  restart: on-failure
params:
  channel: '#general'
  count: 3
  dir: ${DATADIR}/x
  limit:
    type: number
    default: '1.5'
    description: how many
  loud: {type: boolean, default: true}
  when: {type: cron, default: '0 9 * * 1-5'}
  token: {description: optional}
permissions:
  env:
    - SLACK_TOKEN
    - MODE=a=b
    - {name: HOST, from: env:OTHER, optional: true}
    - {name: BARE, from: ANOTHER}
    - {name: FIXED, value: '${TASK_DIR}/x'}
    - {name: SAME}
  fs:
    - {path: '${HOME}/data', permission: rw}
    - {path: /srv, permission: r}
    - {path: /out, permission: w}
  net: [api.slack.com, '127.0.0.1:80']
  run: [git, '*']
  sys: [hostname]
";

#[test]
fn reads_what_dicode_documents() {
    let spec = spec(FULL);
    assert_eq!((spec.runtime, spec.entry, spec.timeout), (Runtime::Deno, None, None));
    assert_eq!(spec.trigger, Trigger::Daemon(RestartPolicy::OnFailure));
    let text = |text: &str| Some(ParamValue::String(text.into()));
    let params: Vec<_> = spec
        .params
        .iter()
        .map(|(name, param)| (name.as_str(), param.kind, param.default.clone(), param.required))
        .collect();
    assert_eq!(
        params,
        [
            ("channel", ParamKind::String, text("#general"), false),
            ("count", ParamKind::String, text("3"), false),
            ("dir", ParamKind::String, text("${DATADIR}/x"), false),
            ("limit", ParamKind::Number, Some(ParamValue::Number("1.5".into())), false),
            ("loud", ParamKind::Boolean, Some(ParamValue::Boolean(true)), false),
            ("token", ParamKind::String, None, false),
            ("when", ParamKind::Cron, text("0 9 * * 1-5"), false),
        ]
    );
    let env: Vec<_> = spec.env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(env, [("FIXED", "${TASK_DIR}/x"), ("MODE", "a=b")]);
    let host = |name: &str, optional| HostVariable { name: name.into(), optional };
    let hosts: Vec<_> = spec.permissions.env.into_iter().collect();
    let expected = [
        ("BARE", host("ANOTHER", false)),
        ("HOST", host("OTHER", true)),
        ("SAME", host("SAME", false)),
        ("SLACK_TOKEN", host("SLACK_TOKEN", false)),
    ];
    assert_eq!(hosts, expected.map(|(name, host)| (name.to_owned(), host)));
    let sandbox = Sandbox {
        read: vec!["${HOME}/data".into(), "/srv".into()],
        write: vec!["${HOME}/data".into(), "/out".into()],
        net: Some(vec!["api.slack.com".into(), "127.0.0.1:80".into()]),
        run: vec!["git".into(), "*".into()],
        sys: vec!["hostname".into()],
    };
    assert_eq!(spec.permissions.sandbox, Some(sandbox));
    assert!(spec.permissions.places);
}

#[test]
fn what_is_left_out_has_the_documented_default() {
    let bare = spec("trigger: {manual: true}\n");
    assert_eq!((bare.runtime, bare.timeout), (Runtime::Deno, Some(Duration::from_secs(60))));
    // Nothing but every host: deno is always confined.
    assert_eq!(bare.permissions.sandbox, Some(Sandbox::default()));
    assert!(!bare.permissions.places);
    let python = spec("trigger: {manual: true, daemon: false}\nruntime: python\ntimeout: 1.5s\n");
    assert_eq!((python.timeout, python.permissions.sandbox), (Some(Duration::from_millis(1500)), None));
    assert_eq!(
        spec("trigger: {manual: true}\npermissions: {net: []}\n").permissions.sandbox.unwrap().net,
        Some(Vec::new())
    );
    assert_eq!(
        spec("trigger: {manual: true}\npermissions: {net: ['*']}\n").permissions.sandbox.unwrap().net,
        None
    );
    // A daemon has no limit, whichever runtime it has.
    assert_eq!(spec("trigger: {daemon: true}\nruntime: python\n").timeout, None);
}

#[test]
fn schedules_and_chains_are_read() {
    let schedule = Schedule { expression: "*/5 * * * *".into(), timezone: None, catch_up: CatchUp::None };
    assert_eq!(spec("trigger: {cron: '*/5 * * * *', manual: false}\n").trigger, Trigger::Cron(schedule));
    let chain = |from: &str, on| Trigger::Chain(Chain { from: from.into(), on });
    assert_eq!(
        spec("trigger: {chain: {from: infra/build}}\n").trigger,
        chain("infra/build", ChainOn::Success)
    );
    assert_eq!(
        spec("trigger: {chain: {from: a, on: failure}, cron: ''}\n").trigger,
        chain("a", ChainOn::Failure)
    );
    assert_eq!(
        problems("trigger: {chain: {from: a}, cron: '@daily'}"),
        ["1:43 `trigger`: a trigger is `cron` or `chain`, not both"]
    );
    let warned =
        read("{apiVersion: dicode/v1, name: t, trigger: {cron: '*/7 * * * *', timezone: UTC}}").unwrap();
    let reasons: Vec<_> = warned.warnings.iter().map(|warning| warning.reason.as_str()).collect();
    assert_eq!(reasons, ["SurprisingSchedule", "IgnoredField"]);
}

#[test]
fn params_come_as_a_list_too() {
    let spec = spec(
        "trigger: {manual: true}\nparams:\n- name: a\n  type: number\n  required: true\n- {name: b, default: 7}\n",
    );
    assert!(spec.params["a"].required && spec.params["a"].kind == ParamKind::Number);
    assert_eq!(spec.params["b"].default, Some(ParamValue::String("7".into())));
}

#[test]
fn lengths_of_time_are_those_of_go() {
    for (text, millis) in [
        ("0", Some(0)),
        ("1h30m", Some(5_400_000)),
        ("1.5h", Some(5_400_000)),
        (".5s", Some(500)),
        ("100us", Some(1)),
        ("2m0.5s", Some(120_500)),
        ("1s1s", Some(2000)),
        ("30", None),
        ("-1s", None),
        ("1d", None),
        ("", None),
        ("1..5s", None),
        ("99999999h", None),
    ] {
        assert_eq!(go_duration(text), millis.map(Duration::from_millis), "{text}");
    }
}

#[test]
fn what_has_no_effect_is_a_warning_with_its_place() {
    insta::assert_snapshot!(warnings("version: 1, notify: {on_success: true}, descripton: x, trigger2: {}").join("\n"), @"
    1:59 `version` has no effect: kindling does not have it
    1:71 `notify` has no effect: kindling does not have it
    1:99 unknown field `descripton`; did you mean `description`? known: apiVersion, kind, name, description, runtime, trigger, params, permissions, timeout; it has no effect
    1:114 unknown field `trigger2`; did you mean `trigger`? known: apiVersion, kind, name, description, runtime, trigger, params, permissions, timeout; it has no effect
    ");
    insta::assert_snapshot!(warnings("on_failure_chain: x, permissions: {dicode: {tasks: ['*']}, fs: [{path: '${TASK_SET_DIR}/x'}]}, params: {a: {enum: [1]}}").join("\n"), @"
    1:59 `on_failure_chain` has no effect: kindling does not have it
    1:94 `permissions`: `dicode` has no effect: kindling does not have it
    1:130 `permissions.fs[0].path` names ${TASK_SET_DIR}, which stays as it is: a run has only the files of its own task
    1:167 `params.a`: unknown field `enum`; known: name, type, default, required, description; it has no effect
    ");
    insta::assert_snapshot!(warnings("permissions: {fs: [{path: /x, mode: r}]}").join("\n"), @"1:89 `permissions.fs[0]`: unknown field `mode`; known: path, permission; it has no effect");
    insta::assert_snapshot!(warnings("runtime: python, permissions: {fs: [], net: [a]}").join("\n"), @"
    1:94 `permissions.fs` has no effect: `python` does not confine a script
    1:103 `permissions.net` has no effect: `python` does not confine a script
    ");
    let daemon =
        read("{apiVersion: dicode/v1, name: t, trigger: {daemon: true, auth: true}, timeout: 5s}").unwrap();
    insta::assert_snapshot!(places(&daemon.warnings, Reason::IgnoredField).join("\n"), @"
    1:58 `trigger`: `auth` has no effect without `webhook`
    1:80 `timeout` has no effect on a daemon: it has no end
    ");
}

#[test]
fn a_kind_of_trigger_that_is_switched_off_is_as_if_it_were_not_there() {
    let spec = spec("trigger: {manual: true, cron: false, webhook: false, chain: false, daemon: false}\n");
    assert_eq!(spec.trigger, Trigger::Manual);
}

#[test]
fn a_webhook_is_read_and_never_left_open_where_dicode_would_ask_for_a_login() {
    let Trigger::Webhook(hook) =
        spec("trigger: {webhook: /hooks/x, webhook_secret: '${S}', auth: false}\n").trigger
    else {
        panic!("no webhook")
    };
    assert_eq!((hook.path.as_str(), hook.secret.as_deref(), hook.bearer), ("/hooks/x", Some("S"), None));
    insta::assert_snapshot!(problems("trigger: {webhook: /hooks/x, auth: true}").join("\n"), @"1:69 `trigger.auth` asks for dicode's own login, which kindling does not have; use `webhook_secret` or `bearer`");
    assert!(problems("trigger: {webhook: x, webhook_secret: abc}").len() == 2);
}

#[test]
fn what_comes_later_or_is_wrong_is_a_problem() {
    insta::assert_snapshot!(problems("runtime: docker, trigger: {cron: '@every 5m'}").join("\n"), @"
    1:43 `runtime` is `docker`, which this version of kindling does not run yet
    1:67 `trigger.cron` names `@every`, which is not of cron; write it as fields, such as `*/15 * * * *`
    ");
    insta::assert_snapshot!(problems("trigger: {manual: true}, timeout: -1s, params: {a: {type: number, default: x}, a b: 1, c: {type: cron, default: hourly}, d: [1]}").join("\n"), @"
    1:68 `timeout` must be a length of time such as `500ms`, `1.5s` or `1h30m`, a year at most
    1:109 `params.a.default` must be a number, as `type` says
    1:113 `params`: `a b` is not a name here: letters, digits, `_` and `-`, no digit first, 100 bytes at most
    1:146 `params.c.default` must be a cron expression, as `type` says
    1:158 `params.d` must be text, not a list
    ");
    insta::assert_snapshot!(problems("trigger: {manual: false}, permissions: {env: [{name: A, secret: k}, {name: B, from: 'task:x'}, {name: C, if_missing: {task: x}}, 1X, KINDLING_TOKEN, {name: D, from: KINDLING_TOKEN}, E, E=1, {name: F, from: A, value: b}], fs: [{path: /x, permission: rx}], net: ['a b']}").join("\n"), @r#"
    1:43 `trigger`: the kind is missing: `manual: true`, `daemon: true`, `cron: "0 6 * * *"`, `webhook: /hooks/PATH` or `chain: {from: TASK}`
    1:98 `permissions.env[0].secret` asks for stored secrets, which kindling does not have yet
    1:118 `permissions.env[1].from` asks another task for a secret, which kindling does not have yet
    1:151 `permissions.env[2].if_missing` asks for tasks that run first, which kindling does not have yet
    1:163 `permissions.env[3]` names a variable, but `1X` is not a name here: letters, digits and `_`, no digit first, 100 bytes at most
    1:167 `permissions.env[4]` names `KINDLING_TOKEN`: variables in KINDLING_ are kindling's own
    1:199 `permissions.env[5].from` names `KINDLING_TOKEN`: variables in KINDLING_ are kindling's own
    1:219 `permissions.env[7]` is named twice
    1:224 `permissions.env[8]` has both `from` and `value`
    1:283 unknown permission; known: r, w, rw
    1:295 `permissions.net[0]` must be the name of a host
    "#);
    assert!(problems("runtime: julia, trigger: {manual: true, daemon: true}").len() == 2);
    let daemon = problems("trigger: {daemon: true}, params: {a: {required: true}}");
    assert!(daemon[0].contains("of a daemon cannot be required"), "{daemon:?}");
    assert!(read("{apiVersion: dicode/v2, kind: Task, name: t}").is_err());
    assert!(read("{apiVersion: dicode/v1, kind: TaskSet, name: t}").is_err());
}
