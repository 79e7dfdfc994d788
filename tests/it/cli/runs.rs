//! Runs: started, followed, cancelled.

use std::process::{Child, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::fake::{Answer, Fake};
use super::with;

fn run(status: &str, output: &Value) -> Value {
    json!({"id": "00000000000000ab", "task": "local/t", "hash": "a1b2c3d4", "revision": null, "trigger": "manual",
        "status": status, "exitCode": null, "startedAt": "2020-01-01T00:00:00Z", "endedAt": null, "output": output,
        "error": if status == "failed" { "it ended with exit code 3" } else { "" }})
}

/// A service whose one run ends so.
fn running(status: &str, output: &Value) -> Fake {
    let line =
        json!({"seq": 1, "at": "2020-01-01T00:00:00Z", "stream": "stderr", "text": "log\tline\u{1b}[2J"});
    Fake::start()
        .gives("POST /api/v1/runs", &run("running", &Value::Null))
        .on("GET /api/v1/runs/00000000000000ab/log", [Answer::EventsThenEnd(vec![line])])
        .gives("GET /api/v1/runs/00000000000000ab/wait", &run(status, output))
}

#[test]
fn run_prints_the_log_on_stderr_and_the_output_on_stdout() {
    let fake = running("succeeded", &json!("plain\ntext"));
    let place = with(&fake);
    let ended = place.run(&["run", "t", "-p", "a=b=c", "--param", "d=", "--input", "[1]"]);
    insta::assert_snapshot!(ended.shown(), @r#"
    exit 0
    out: plain
    out: text
    err: log	line\u{1b}[2J
    "#);
    let body: Value = serde_json::from_str(&fake.calls()[0].body).unwrap();
    assert_eq!(body, json!({"task": "t", "params": {"a": "b=c", "d": ""}, "input": [1]}));
    assert_eq!(place.run(&["run", "t", "-o", "json"]).out, "\"plain\\ntext\"\n");
    let map = running("succeeded", &json!({"a": [1]}));
    assert_eq!(with(&map).run(&["run", "t"]).out, "{\n  \"a\": [\n    1\n  ]\n}\n");
    let nothing = running("succeeded", &Value::Null);
    assert_eq!(with(&nothing).run(&["run", "t"]).out, "");
    assert_eq!(with(&nothing).run(&["run", "t", "--detach"]).out, "00000000000000ab\n");
}

#[test]
fn run_ends_as_its_run_did() {
    let nothing = Value::Null;
    for (status, code) in
        [("failed", 1), ("cancelled", 1), ("interrupted", 1), ("timedOut", 124), ("succeeded", 0)]
    {
        assert_eq!(with(&running(status, &nothing)).run(&["run", "t"]).code, code, "{status}");
    }
    insta::assert_snapshot!(with(&running("failed", &nothing)).run(&["run", "t"]).shown(), @r#"
    exit 1
    err: log	line\u{1b}[2J
    err: error: run 00000000000000ab of local/t failed: it ended with exit code 3
    err: hint: kindling logs 00000000000000ab
    "#);
    let ended = with(&running("timedOut", &nothing)).run(&["run", "t", "-o", "json"]);
    let last: Value = serde_json::from_str(ended.err.lines().last().unwrap()).unwrap();
    assert_eq!((&last["code"], &last["exit"]), (&json!("TimedOut"), &json!(124)));
}

#[test]
fn run_ends_as_the_last_attempt_did() {
    let mut first = run("failed", &Value::Null);
    first["retriedBy"] = json!("00000000000000cd");
    let mut second = run("succeeded", &json!("out"));
    second["id"] = json!("00000000000000cd");
    let line = |text: &str| json!({"seq": 1, "at": "2020-01-01T00:00:00Z", "stream": "system", "text": text});
    let fake = Fake::start()
        .gives("POST /api/v1/runs", &run("running", &Value::Null))
        .on("GET /api/v1/runs/00000000000000ab/log", [Answer::EventsThenEnd(vec![line("again")])])
        .gives("GET /api/v1/runs/00000000000000ab/wait", &first)
        .on("GET /api/v1/runs/00000000000000cd/log", [Answer::EventsThenEnd(vec![line("second")])])
        .gives("GET /api/v1/runs/00000000000000cd/wait", &second)
        .gives("GET /api/v1/runs/00000000000000cd", &second);
    insta::assert_snapshot!(with(&fake).run(&["run", "t"]).shown(), @r"
    exit 0
    out: out
    err: again
    err: second
    ");
    let skipped = with(&running("skipped", &Value::Null)).run(&["run", "t"]);
    assert_eq!(skipped.code, 1);
}

#[test]
fn run_takes_its_input_from_a_file() {
    let fake = running("succeeded", &Value::Null);
    let place = with(&fake);
    place.write("in.json", "{\"x\": 1}").write("bad.json", "{");
    assert_eq!(place.run(&["run", "t", "--input-file", "in.json"]).code, 0);
    assert!(fake.calls()[0].body.contains(r#""input":{"x": 1}"#), "it travels as it is written");
    insta::assert_snapshot!(place.run(&["run", "t", "--input-file", "bad.json"]).shown(), @r#"
    exit 2
    err: error: the input file bad.json is not JSON
    err:   caused by: EOF while parsing an object at line 1 column 1
    "#);
    assert_eq!(place.run(&["run", "t", "--input-file", "none.json"]).code, 2);
    assert_eq!(place.run(&["run", "t", "-p", "a=1", "-p", "a=2"]).code, 2);
}

/// A service whose run goes on until it is cancelled; its log ends then, if it ends.
fn until_cancelled(log: Answer) -> Fake {
    let cancelled = run("cancelled", &Value::Null);
    let cancel = "POST /api/v1/runs/00000000000000ab/cancel";
    Fake::start()
        .gives(cancel, &cancelled)
        .gives("POST /api/v1/runs", &run("running", &Value::Null))
        .on("GET /api/v1/runs/00000000000000ab/log", [log])
        .on("GET /api/v1/runs/00000000000000ab/wait", [Answer::After(cancel, cancelled.to_string())])
}

fn interrupt(child: &Child) {
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    kill_process(pid, Signal::INT).unwrap();
}

#[test]
fn ctrl_c_cancels_the_run_and_waits_for_its_end() {
    let fake = until_cancelled(Answer::EventsThenEnd(vec![]));
    let place = with(&fake);
    let child = place.command(&["run", "t"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    fake.wait_for("GET /api/v1/runs/00000000000000ab/wait");
    interrupt(&child);
    insta::assert_snapshot!(place.ended(&child.wait_with_output().unwrap()).shown(), @r#"
    exit 1
    err: error: run 00000000000000ab of local/t cancelled
    err: hint: kindling logs 00000000000000ab
    "#);
}

#[test]
fn the_second_ctrl_c_does_not_wait() {
    let fake = until_cancelled(Answer::Events(vec![]));
    let place = with(&fake);
    let child = place.command(&["run", "t"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    fake.wait_for("GET /api/v1/runs/00000000000000ab/log");
    interrupt(&child);
    fake.wait_for("POST /api/v1/runs/00000000000000ab/cancel");
    interrupt(&child);
    insta::assert_snapshot!(place.ended(&child.wait_with_output().unwrap()).shown(), @r#"
    exit 1
    err: error: run 00000000000000ab is being cancelled
    err: hint: `kindling get runs 00000000000000ab` shows how it ended
    "#);
}

#[test]
fn logs_are_found_by_run_and_by_unit() {
    let line = |seq: u32, text: &str| json!({"seq": seq, "at": "2020-01-01T10:00:01.123Z", "stream": "stdout", "text": text});
    let fake = Fake::start()
        .gives(
            "GET /api/v1/runs/00000000000000ab/log?after=0",
            &json!({"items": [line(1, "one"), line(2, "two\u{1b}[m")]}),
        )
        .gives("GET /api/v1/runs/00000000000000ab/log?after=2", &json!({"items": [line(3, "three")]}))
        .gives("GET /api/v1/runs/00000000000000ab/log?after=3", &json!({"items": []}))
        .on("GET /api/v1/runs/cafe", [Answer::error(404, "NotFound", "there is no run cafe", 2)])
        .gives("GET /api/v1/runs?task=cafe&limit=1", &json!({"items": [run("succeeded", &Value::Null)]}))
        .gives("GET /api/v1/runs?task=new", &json!({"items": []}))
        .gives("GET /api/v1/runs/0000", &run("succeeded", &Value::Null));
    let place = with(&fake);
    insta::assert_snapshot!(place.run(&["logs", "0000"]).shown(), @r#"
    exit 0
    out: one
    out: two\u{1b}[m
    out: three
    "#);
    insta::assert_snapshot!(place.run(&["logs", "cafe", "-o", "wide"]).shown(), @r#"
    exit 0
    out: 10:00:01.123 stdout one
    out: 10:00:01.123 stdout two\u{1b}[m
    out: 10:00:01.123 stdout three
    "#);
    insta::assert_snapshot!(place.run(&["logs", "new"]).shown(), @r#"
    exit 1
    err: error: new has no run yet
    err: hint: `kindling run new` starts one
    "#);
    let all: Value = serde_json::from_str(&place.run(&["logs", "0000", "-o", "json"]).out).unwrap();
    assert_eq!(all["items"].as_array().unwrap().len(), 3);
}
