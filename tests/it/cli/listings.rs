//! What is listed, and how it is told to people and programs.

use serde_json::{Value, json};

use super::fake::{Answer, Fake};
use super::{NO_ARGUMENTS, with};

fn condition(kind: &str, status: &str, reason: &str, message: &str) -> Value {
    json!({"type": kind, "status": status, "reason": reason, "message": message, "since": "2020-01-01T00:00:00Z"})
}

fn unit(id: &str, conditions: &[Value]) -> Value {
    json!({"id": id, "kind": "task", "name": "n", "source": "local", "devPath": null, "devSince": null, "desiredHash": "a1b2c3d4", "attemptedHash": "a1b2c3d4",
        "deployedHash": "a1b2c3d4", "deployedRevision": null, "action": "sync", "rule": "task.updated",
        "reason": "task.sh changed", "generation": 2, "suspended": null, "held": null, "problems": [], "warnings": [],
        "hook": null, "nextRunAt": null, "lastRunAt": null, "conditions": conditions, "phases": {"hash": 3.8, "act": 0.04},
        "updatedAt": "2020-01-01T00:00:00Z"})
}

pub fn source(name: &str, ready: &str, message: &str) -> Value {
    json!({"name": name, "type": "git", "location": "https://git.example.org/x", "branch": "main", "tag": null, "semver": null, "commit": null, "path": ".",
        "declared": "file", "revision": {"seen": "0123456789ab", "attempted": null, "deployed": "0123456789ab"},
        "devPath": null, "devSince": null, "devUntil": null, "lastFetchAt": null, "passes": 3, "webhook": null, "relay": null, "status": null, "suspended": null, "conditions": [condition("Ready", ready, "R", message)]})
}

/// Ages depend on the day.
fn ageless(text: &str) -> String {
    text.split('\n')
        .map(|line| {
            let is_age = |word: &str| word.strip_suffix('d').is_some_and(|days| days.parse::<u32>().is_ok());
            let words: Vec<&str> =
                line.split(' ').map(|word| if is_age(word) { "[AGE]" } else { word }).collect();
            words.join(" ").trim_end().to_owned()
        })
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn listings_show_holds_and_suspensions_and_escape_what_is_hostile() {
    let mut held = unit("local/held", &[condition("Ready", "True", "Deployed", "version a1b2c3 is live")]);
    held["held"] =
        json!({"hash": "ffffffff", "by": "user", "reason": "rolled back", "since": "2020-01-01T00:00:00Z"});
    let mut stopped = unit("local/stopped", &[condition("Ready", "True", "Deployed", "fine")]);
    stopped["suspended"] = json!({"reason": "lunch", "since": "2020-01-01T00:00:00Z"});
    let crash = [
        condition("Ready", "False", "CrashLoop", "it fell"),
        condition("Healthy", "False", "CrashLoop", "it fell"),
    ];
    let hostile =
        unit("local/\u{1b}[2J", &[condition("Ready", "False", "X", "a\r\n\u{1b}]0;title\u{7}b\u{202e}")]);
    let items = json!({"items": [held, stopped, unit("local/crash", &crash), hostile]});
    let fake = Fake::start().gives("GET /api/v1/units", &items);
    let place = with(&fake);
    insta::assert_snapshot!(ageless(&place.run(&["get", "units"]).out), @r#"
    NAME             KIND  READY  HASH    ACTION  AGE    MESSAGE
    local/held       task  True   a1b2c3  sync    [AGE]  [ffffff held by user: rolled back] version a1b2c3 is live
    local/stopped    task  True   a1b2c3  sync    [AGE]  [suspended: lunch] fine
    local/crash      task  False  a1b2c3  sync    [AGE]  it fell
    local/\u{1b}[2J  task  False  a1b2c3  sync    [AGE]  a\r\n\u{1b}]0;title\u{7}b\u{202e}
    "#);
    insta::assert_snapshot!(ageless(&place.run(&["get", "units", "-o", "wide", "--no-header"]).out), @r#"
    local/held       task  True   a1b2c3  sync    [AGE]  local   -         task.updated  ffffff  -          -         -         -         -     hash 3.8ms, act 0.0ms  [ffffff held by user: rolled back] version a1b2c3 is live
    local/stopped    task  True   a1b2c3  sync    [AGE]  local   -         task.updated  -       [AGE]      -         -         -         -     hash 3.8ms, act 0.0ms  [suspended: lunch] fine
    local/crash      task  False  a1b2c3  sync    [AGE]  local   -         task.updated  -       -          -         -         -         -     hash 3.8ms, act 0.0ms  it fell
    local/\u{1b}[2J  task  False  a1b2c3  sync    [AGE]  local   -         task.updated  -       -          -         -         -         -     hash 3.8ms, act 0.0ms  a\r\n\u{1b}]0;title\u{7}b\u{202e}
    "#);
    insta::assert_snapshot!(place.run(&["get", "units", "-o", "name"]).out, @r#"
    local/held
    local/stopped
    local/crash
    local/\u{1b}[2J
    "#);
    let back: Value = serde_json::from_str(&place.run(&["get", "units", "-o", "json"]).out).unwrap();
    assert_eq!(back, items);
    let yaml = place.run(&["get", "units", "-o", "yaml"]).out;
    assert!(!yaml.contains('\u{1b}') && !yaml.contains('\u{202e}'));
}

#[test]
fn a_webhook_and_a_relay_that_fail_are_told_of() {
    let place = "smee.io/AbCd...";
    let relay = |lost: Value, error: Value| {
        let since = lost.is_null().then_some("2020-01-01T00:00:00Z");
        json!({"place": place, "connectedSince": since, "lostSince": lost, "error": error})
    };
    let mut away = source("away", "True", "fine");
    away["relay"] = relay(json!("2020-01-01T00:00:00Z"), json!("cannot be reached: no route"));
    let mut away_now = source("away-now", "True", "fine");
    away_now["relay"] = relay(json!("2999-01-01T00:00:00Z"), json!("ended the connection"));
    let mut there = source("there", "True", "fine");
    there["relay"] = relay(Value::Null, json!("ended the connection"));
    there["webhook"] = json!({"lastDeliveryAt": null, "missed": 3, "missedRevision": "0123456789ab",
                              "missedAt": "2020-01-01T00:00:00Z"});
    let fake = Fake::start().gives("GET /api/v1/sources", &json!({"items": [away, away_now, there]}));
    let out = with(&fake).run(&["get", "sources", "--no-header"]).out;
    let lines: Vec<&str> = out.lines().collect();
    assert!(lines[0].contains("[its relay smee.io/AbCd... has been away for "), "{out}");
    assert!(lines[0].ends_with(": it cannot be reached: no route] fine"), "{out}");
    // One that comes and goes is no news.
    assert!(lines[1].ends_with(" fine") && !lines[1].contains("relay"), "{out}");
    assert!(lines[2].ends_with("[its webhook did not deliver 01234567 (3 missed)] fine"), "{out}");
    let wide = with(&fake).run(&["get", "sources", "-o", "wide", "--no-header"]).out;
    assert!(wide.contains("smee.io/AbCd... connected ") && wide.contains("smee.io/AbCd... away "), "{wide}");
}

#[test]
fn status_shows_problems_first_and_ends_with_1() {
    let unready = json!([{"name": "local/b", "why": "Failed: no\u{1b}[1m"}]);
    let status = json!({"version": "0.1.0", "ready": false, "conditions": [], "sources": [source("team", "True", "ok")], "units": 2,
        "unready": unready});
    let mut stopped = unit("local/a", &[condition("Ready", "True", "Deployed", "fine")]);
    stopped["suspended"] = json!({"reason": "lunch", "since": "2020-01-01T00:00:00Z"});
    let fake = Fake::start()
        .gives("GET /api/v1/status", &status)
        .gives("GET /api/v1/units?marked=true", &json!({"items": [stopped]}));
    let place = with(&fake);
    let ended = place.run(&NO_ARGUMENTS);
    assert_eq!(ended.code, 1);
    insta::assert_snapshot!(ageless(&ended.out.replace(&fake.address(), "[ADDRESS]")), @r#"
    NOT READY
      local/b  Failed: no\u{1b}[1m
               -> `kindling logs local/b` shows its last run; `kindling reconcile local/b` tries again

    STOPPED
      local/a  suspended: lunch

    NAME  TYPE  READY  REVISION       AGE    MESSAGE
    team  git   True   main@01234567  [AGE]  ok

    2 units, 1 not ready; kindling 0.1.0 at http://[ADDRESS]
    "#);
    assert_eq!(place.run(&["status", "-o", "name"]).out, "local/b\n");
    let json: Value = serde_json::from_str(&place.run(&["status", "-o", "json"]).out).unwrap();
    assert_eq!(json, status);
}

#[test]
fn events_are_lines_for_people_and_programs() {
    let event = |message: &str| {
        json!({"at": "2020-01-01T00:00:00.000Z", "type": "unit.updated", "source": "local", "unit": "local/a",
            "hash": "a1b2c3d4e5", "revision": "0123456789ab", "message": message, "phases": {"act": 0.5}})
    };
    let events = vec![event("updated\u{1b}[2J"), event("again")];
    let fake = Fake::start()
        .on("GET /api/v1/events?since=", [Answer::Events(events.clone())])
        .on("GET /api/v1/events", [Answer::EventsThenEnd(events.clone())]);
    let place = with(&fake);
    insta::assert_snapshot!(place.run(&["events"]).shown(), @r#"
    exit 0
    out: 2020-01-01T00:00:00.000Z unit.updated local/a a1b2c3 @01234567 updated\u{1b}[2J
    out: 2020-01-01T00:00:00.000Z unit.updated local/a a1b2c3 @01234567 again
    "#);
    insta::assert_snapshot!(place.run(&["events", "-f"]).shown(), @r#"
    exit 3
    out: 2020-01-01T00:00:00.000Z unit.updated local/a a1b2c3 @01234567 updated\u{1b}[2J
    out: 2020-01-01T00:00:00.000Z unit.updated local/a a1b2c3 @01234567 again
    err: error: the service ended the stream of events
    err: hint: go on with `kindling events -f --since 2020-01-01T00:00:00.000Z`
    "#);
    let json = place.run(&["events", "--since", "2020-01-01T00:00:00Z", "-o", "json"]);
    let back: Vec<Value> = json.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(back, events);
    assert!(fake.lines().contains(&"GET /api/v1/events?since=2020-01-01T00%3A00%3A00.000Z".to_owned()));
}

#[test]
fn watch_prints_a_row_again_when_it_changed() {
    let ready = |message: &str| unit("local/a", &[condition("Ready", "True", "Deployed", message)]);
    let event = |kind: &str, unit: &str| {
        json!({"at": "2020-01-01T00:00:00Z", "type": kind, "source": "local", "unit": unit, "hash": null,
            "revision": null, "message": ""})
    };
    let events = vec![
        event("unit.updated", "local/a"),
        event("unit.updated", "local/a"),
        event("run.started", "local/a"),
        event("unit.removed", "local/a"),
        event("unit.removed", "local/a"),
    ];
    let items = |rows: &[Value]| Answer::json(&json!({"items": rows}));
    let fake = Fake::start()
        .on("GET /api/v1/events", [Answer::EventsThenEnd(events)])
        .on("GET /api/v1/units?name=", [items(&[ready("second")])])
        .on("GET /api/v1/units", [items(&[ready("first")])]);
    let ended = with(&fake).run(&["get", "units", "--watch"]);
    insta::assert_snapshot!(ageless(&ended.shown()), @r#"
    exit 3
    out: NAME     KIND  READY  HASH    ACTION  AGE    MESSAGE
    out: local/a  task  True   a1b2c3  sync    [AGE]  first
    out: local/a  task  True   a1b2c3  sync    [AGE]  second
    out: local/a  -     -      -       -       -      removed
    err: error: the service ended the stream of events
    "#);
}

#[test]
fn a_watch_that_begins_empty_has_its_header_with_the_first_row() {
    let event = json!({"at": "2020-01-01T00:00:00Z", "type": "unit.registered", "source": "local",
        "unit": "local/with-a-long-name", "hash": null, "revision": null, "message": ""});
    let items = |rows: &[Value]| Answer::json(&json!({"items": rows}));
    let row = unit("local/with-a-long-name", &[condition("Ready", "True", "Deployed", "live")]);
    let fake = Fake::start()
        .on("GET /api/v1/events", [Answer::EventsThenEnd(vec![event])])
        .on("GET /api/v1/units?name=", [items(&[row])])
        .on("GET /api/v1/units", [items(&[])]);
    let place = with(&fake);
    insta::assert_snapshot!(ageless(&place.run(&["get", "units", "--watch"]).shown()), @r#"
    exit 3
    out: NAME                    KIND  READY  HASH    ACTION  AGE    MESSAGE
    out: local/with-a-long-name  task  True   a1b2c3  sync    [AGE]  live
    err: no units
    err: error: the service ended the stream of events
    "#);
    insta::assert_snapshot!(ageless(&place.run(&["get", "units", "--watch", "-o", "name"]).shown()), @r#"
    exit 3
    out: local/with-a-long-name
    err: error: the service ended the stream of events
    "#);
}

#[test]
fn history_and_sources_are_watched_too() {
    let event = json!({"at": "2020-01-01T00:00:00Z", "type": "unit.updated", "source": "team", "unit": "team/a",
        "hash": null, "revision": null, "message": ""});
    let row = |id: i64, reason: &str| {
        json!({"id": id, "unit": "team/a", "generation": id, "trigger": {"kind": "file", "detail": ""}, "revision": null,
            "devPath": null, "rewritten": false, "fromHash": null, "toHash": "a1b2c3d4", "action": "sync",
            "rule": "task.updated", "reason": reason, "files": [], "phases": {}, "outcome": "succeeded", "proof": "",
            "error": "", "at": "2020-01-01T00:00:00Z"})
    };
    let items = |rows: &[Value]| Answer::json(&json!({"items": rows}));
    let fake = Fake::start()
        .on("GET /api/v1/events", [Answer::EventsThenEnd(vec![event.clone(), event])])
        .on(
            "GET /api/v1/history",
            [
                items(&[row(2, "second"), row(1, "first")]),
                items(&[row(3, "third"), row(2, "second"), row(1, "first")]),
            ],
        )
        .on("GET /api/v1/sources?name=team", [items(&[source("team", "False", "gone")])])
        .on("GET /api/v1/sources", [items(&[source("team", "True", "fine")])]);
    let place = with(&fake);
    insta::assert_snapshot!(place.run(&["history", "-w"]).shown(), @r#"
    exit 3
    out: AT                    UNIT    GEN  ACTION  FROM  TO      OUTCOME    TRIGGER  REASON
    out: 2020-01-01T00:00:00Z  team/a  1    sync    -     a1b2c3  succeeded  file     first
    out: 2020-01-01T00:00:00Z  team/a  2    sync    -     a1b2c3  succeeded  file     second
    out: 2020-01-01T00:00:00Z  team/a  3    sync    -     a1b2c3  succeeded  file     third
    err: error: the service ended the stream of events
    "#);
    insta::assert_snapshot!(ageless(&place.run(&["source", "list", "-w"]).shown()), @r#"
    exit 3
    out: NAME  TYPE  READY  REVISION       AGE    MESSAGE
    out: team  git   True   main@01234567  [AGE]  fine
    out: team  git   False  main@01234567  [AGE]  gone
    err: error: the service ended the stream of events
    "#);
}

#[test]
fn why_tells_the_whole_story() {
    let mut unit = unit("local/a", &[condition("Ready", "False", "InvalidManifest", "a/task.yaml:3:1: no")]);
    unit["desiredHash"] = Value::Null;
    unit["problems"] = json!([{"reason": "InvalidManifest", "message": "no\u{1b}", "file": "a/task.yaml", "line": 3, "column": 1}]);
    let last = json!({"id": 7, "unit": "local/a", "generation": 2, "trigger": {"kind": "file", "detail": "a/task.sh"},
        "revision": null, "rewritten": false, "fromHash": "1111111111", "toHash": "a1b2c3d4", "action": "sync",
        "rule": "task.updated", "reason": "task.sh changed", "files": [{"path": "task.sh", "change": "changed"}],
        "phases": {"observe": 1.25, "act": 0.5}, "outcome": "succeeded", "proof": "registered", "error": "",
        "at": "2020-01-01T00:00:00Z"});
    let place = |file: &str, line: u32, clears: bool| json!({"file": file, "line": line, "column": 3, "clears": clears});
    let chain = json!([
        place("a/task.yaml", 5, false),
        place("in/taskset.yaml", 9, false),
        place("taskset.yaml", 4, true)
    ]);
    let fields = json!([{"field": "env.MODE", "chain": chain}]);
    let fake = Fake::start()
        .gives(
            "GET /api/v1/why?unit=a",
            &json!({"id": "local/a", "unit": unit, "last": last, "fields": fields}),
        )
        .gives("GET /api/v1/history?unit=a&limit=50", &json!({"items": [last]}));
    let place = with(&fake);
    insta::assert_snapshot!(ageless(&place.run(&["why", "a"]).out.replace("d)", "d )")), @r#"
    local/a
      ready        False InvalidManifest: a/task.yaml:3:1: no (for [AGE] )
      problem      a/task.yaml:3:1: no\u{1b}
      hash         a1b2c3 deployed, none desired
      decision     sync by task.updated: task.sh changed
      next         mend it and save; `kindling wait local/a` tells when it is live
      last change  [AGE] ago, generation 2 (2020-01-01T00:00:00Z)
      trigger      file: a/task.sh
      file         changed task.sh
      rule         task.updated: task.sh changed
      action       sync 111111 -> a1b2c3
      result       succeeded, proof: registered
      phases       observe 1.2ms, act 0.5ms
      field        env.MODE: a/task.yaml:5 < in/taskset.yaml:9 < taskset.yaml:4 (takes it away)
    "#);
    insta::assert_snapshot!(place.run(&["history", "a", "-o", "wide"]).out, @r#"
    AT                    UNIT     GEN  ACTION  FROM    TO      OUTCOME    TRIGGER  REVISION  RULE          PROOF       TOOK   REASON
    2020-01-01T00:00:00Z  local/a  2    sync    111111  a1b2c3  succeeded  file     -         task.updated  registered  1.8ms  task.sh changed
    "#);
}
