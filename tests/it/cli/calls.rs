//! Calls to a service: the token, errors, and what a call's end means for the exit code.

use serde_json::{Value, json};

use super::fake::{Answer, Fake};
use super::listings::source;
use super::place::{Ended, Place};
use super::with;

fn shown(ended: &Ended, fake: &Fake) -> String {
    let address = fake.address();
    let port = format!("sport = :{}", address.rsplit(':').next().unwrap());
    ended.shown().replace(&address, "[ADDRESS]").replace(&port, "sport = :[PORT]")
}

#[test]
fn errors_of_the_service_keep_their_words_and_exit_codes() {
    let ambiguous = "digest may be 2 units: a/digest, b/digest\u{1b}[2J";
    let fake = Fake::start()
        .on("GET /api/v1/why", [Answer::error(409, "Ambiguous", ambiguous, 2)])
        .on("POST /api/v1/reconcile", [Answer::error(409, "Conflict", "source team is suspended", 1)])
        .on("POST /api/v1/diff", [Answer::error(503, "Failed", "the remote hangs", 3)])
        .on("GET /api/v1/status", [Answer::Body(404, "<html>".into())])
        .on("GET /api/v1/sources", [Answer::Body(200, "{}".into())])
        .on("GET /api/v1/units", [Answer::Redirect("http://127.0.0.1:1/".into())])
        .on("GET /api/v1/runs", [Answer::error(500, "Failed", "odd", 0)]);
    let place = with(&fake);
    insta::assert_snapshot!(place.run(&["why", "digest"]).shown(), @r#"
    exit 2
    err: error: digest may be 2 units: a/digest, b/digest\u{1b}[2J
    "#);
    insta::assert_snapshot!(place.run(&["reconcile"]).shown(), @r#"
    exit 1
    err: error: source team is suspended
    "#);
    insta::assert_snapshot!(place.run(&["diff"]).shown(), @r#"
    exit 3
    err: error: the remote hangs
    "#);
    insta::assert_snapshot!(shown(&place.run(&["status"]), &fake), @r#"
    exit 3
    err: error: what answers at http://[ADDRESS] is not kindling (it said HTTP 404 Not Found); the address is from KINDLING_SERVER
    err: hint: if another program listens there, `ss -ltnp sport = :[PORT]` names it
    "#);
    insta::assert_snapshot!(shown(&place.run(&["get", "sources"]), &fake), @r#"
    exit 3
    err: error: the answer of http://[ADDRESS] cannot be read
    err:   caused by: missing field `items` at line 1 column 2
    err: hint: the service may be another version of kindling, or something else
    "#);
    insta::assert_snapshot!(shown(&place.run(&["get", "units"]), &fake), @r#"
    exit 3
    err: error: what answers at http://[ADDRESS] is not kindling (it said HTTP 307 Temporary Redirect); the address is from KINDLING_SERVER
    err: hint: if another program listens there, `ss -ltnp sport = :[PORT]` names it
    "#);
    assert_eq!(place.run(&["get", "runs"]).code, 3);
    let error = place.run(&["why", "digest", "-o", "json"]).error();
    assert_eq!((&error["code"], &error["message"]), (&json!("Ambiguous"), &json!(ambiguous)));
}

#[test]
fn the_token_goes_to_loopback_past_any_proxy() {
    let fake = Fake::start().gives("GET /api/v1/units", &json!({"items": []}));
    let proxy = "http://127.0.0.1:1";
    let place = with(&fake).set("http_proxy", proxy).set("HTTP_PROXY", proxy).set("ALL_PROXY", proxy);
    assert_eq!(place.run(&["get", "units"]).code, 0);
    let calls = fake.calls();
    assert_eq!(calls[0].header("authorization"), Some("Bearer 0123456789abcdef"));

    // The name is held to this machine as well, whatever a resolver says.
    let named = with(&fake).set("KINDLING_SERVER", &fake.address().replace("127.0.0.1", "localhost"));
    assert_eq!(named.run(&["get", "units"]).code, 0);

    let place = Place::new();
    place.write("kindling.yaml", "{}\n").write(".kindling/address", &fake.address());
    place.write(".kindling/token", "the-token-of-the-file\n");
    assert_eq!(place.run(&["get", "units"]).code, 0);
    assert_eq!(fake.calls()[2].header("authorization"), Some("Bearer the-token-of-the-file"));
}

#[test]
fn a_refused_token_is_explained() {
    let refusal = Answer::error(401, "Unauthorized", "the token is missing or wrong", 3);
    let fake = Fake::start().on("GET", [refusal]);
    let place = Place::new();
    place.write("kindling.yaml", &format!("server: {{listen: '{}'}}\n", fake.address()));
    insta::assert_snapshot!(shown(&place.run(&["get", "units"]), &fake), @r#"
    exit 3
    err: error: the token is missing or wrong
    err: hint: another service than the one of this configuration may be at http://[ADDRESS]; `kindling serve` starts this one
    "#);
    assert_eq!(fake.calls()[0].header("authorization"), None);
    // What was sent is named by where it is from.
    place.write(".kindling/token", "the-token-of-the-file\n");
    insta::assert_snapshot!(shown(&place.run(&["get", "units"]), &fake), @r#"
    exit 3
    err: error: the token is missing or wrong
    err: hint: what was sent is from [ROOT]/work/.kindling/token; KINDLING_TOKEN takes the token of the service at http://[ADDRESS], which is in its data directory or where its configuration says
    "#);
    let place = place.set("KINDLING_TOKEN", "hunter2hunter2hunter2");
    insta::assert_snapshot!(shown(&place.run(&["get", "units"]), &fake), @r#"
    exit 3
    err: error: the token is missing or wrong
    err: hint: what was sent is the value of KINDLING_TOKEN; KINDLING_TOKEN takes the token of the service at http://[ADDRESS], which is in its data directory or where its configuration says
    "#);
    let place = Place::new();
    insta::assert_snapshot!(shown(&place.run(&["get", "units", "--server", &fake.address()]), &fake), @r#"
    exit 3
    err: error: the token is missing or wrong
    err: hint: there is no KINDLING_TOKEN, and no configuration that leads to a token; KINDLING_TOKEN takes the token of the service at http://[ADDRESS], which is in its data directory or where its configuration says
    "#);
}

#[test]
fn a_token_that_cannot_be_sent_is_told_before_anything_is_sent() {
    let fake = Fake::start();
    let place = Place::new().set("KINDLING_TOKEN", "0123456789abcdef\n0123456789abcdef");
    insta::assert_snapshot!(place.run(&["get", "units", "--server", &fake.address()]).shown(), @r#"
    exit 2
    err: error: KINDLING_TOKEN has a space, a line break or a character that is not ASCII in it: no service takes that
    err: hint: it is the text of a single token, without quotes around it
    "#);
    let place = Place::new();
    place.write("kindling.yaml", "{}\n").write(".kindling/address", &fake.address());
    place.write(".kindling/token", "0123456789abcdef 0123456789abcdef\n");
    let ended = place.run(&["get", "units"]);
    assert!(ended.err.contains("the token in ") && ended.err.contains("hint: rm "), "{}", ended.err);
    assert!(fake.calls().is_empty() && !ended.err.contains("0123456789"));
}

#[test]
fn a_mistake_elsewhere_in_the_configuration_hides_neither_address_nor_token() {
    let fake = Fake::start().gives("GET /api/v1/units", &json!({"items": []}));
    let place = Place::new();
    place.write("secret", "the-token-that-is-named\n").write("data/address", &fake.address());
    for mistake in [
        "sources: [{name: team}]",
        "limits: {files: many}",
        "nonsense: 1",
        "server: {token_file: secret, listen: x}",
    ] {
        let server = if mistake.starts_with("server") { "" } else { "server: {token_file: secret}\n" };
        place.write("kindling.yaml", &format!("data_dir: data\n{server}{mistake}\n"));
        assert_eq!(place.run(&["get", "units"]).shown(), "exit 0\nerr: no units\n", "{mistake}");
        let sent = fake.calls().pop().unwrap();
        assert_eq!(sent.header("authorization"), Some("Bearer the-token-that-is-named"), "{mistake}");
    }
    // Where no service has left its address, the one that is written leads there.
    std::fs::remove_file(place.here().join("data/address")).unwrap();
    let server = format!("server: {{token_file: secret, listen: '{}'}}\n", fake.address());
    place.write("kindling.yaml", &format!("{server}nonsense: 1\n"));
    assert_eq!(place.run(&["get", "units"]).code, 0);
}

#[test]
fn a_configuration_that_cannot_be_read_is_not_taken_for_a_missing_token() {
    let refusal = || Answer::error(401, "Unauthorized", "the token is missing or wrong", 3);
    let fake = Fake::start().on("GET", [refusal()]);
    let place = Place::new();
    place.write(".kindling/address", &fake.address()).write("kindling.yaml", "server:\n  token_file: [\n");
    insta::assert_snapshot!(shown(&place.run(&["get", "units"]), &fake), @r#"
    exit 2
    err: error: [ROOT]/work/kindling.yaml:2:15: the configuration cannot be read, so its token is not known: a bracket is not closed
    err: hint: `kindling check` tells all that is wrong with it; until it is mended, KINDLING_TOKEN takes the token of the service at http://[ADDRESS]
    "#);
    let error = place.run(&["get", "units", "-o", "json"]).error();
    assert_eq!((&error["line"], &error["exit"]), (&json!(2), &json!(2)), "{error}");
    // What is said of the token cannot be understood.
    place.write("kindling.yaml", "server: {token_fil: secret}\n");
    insta::assert_snapshot!(shown(&place.run(&["get", "units"]), &fake), @r#"
    exit 2
    err: error: [ROOT]/work/kindling.yaml:1:10: the configuration cannot be read, so its token is not known: `server`: unknown field `token_fil`; did you mean `token_file`? known: listen, token_env, token_file, insecure_http, public_url, open_hooks
    err: hint: `kindling check` tells all that is wrong with it; until it is mended, KINDLING_TOKEN takes the token of the service at http://[ADDRESS]
    "#);
    // It is understood, and cannot be had here.
    place.write("kindling.yaml", "server: {token_file: secret}\nnonsense: 1\n");
    insta::assert_snapshot!(shown(&place.run(&["get", "units"]), &fake), @r#"
    exit 3
    err: error: the token is missing or wrong
    err: hint: there is no KINDLING_TOKEN, and the token that [ROOT]/work/kindling.yaml names cannot be had here; KINDLING_TOKEN takes the token of the service at http://[ADDRESS], which is in its data directory or where its configuration says
    "#);
    // Nothing leads to the service.
    std::fs::remove_file(place.here().join(".kindling/address")).unwrap();
    place.write("kindling.yaml", "server: [\n");
    insta::assert_snapshot!(shown(&place.run(&["get", "units"]), &fake), @r#"
    exit 2
    err: error: [ROOT]/work/kindling.yaml:1:9: a bracket is not closed
    "#);
}

#[test]
fn plain_http_to_another_machine_is_refused_before_anything_is_sent() {
    let place = Place::new().set("KINDLING_TOKEN", "0123456789abcdef");
    insta::assert_snapshot!(place.run(&["status", "--server", "http://192.0.2.1:7070"]).shown(), @r#"
    exit 2
    err: error: plain HTTP would carry the token to http://192.0.2.1:7070/ for everybody to read; the address is from --server
    err: hint: use https, or allow it with --insecure-http
    "#);
}

fn report(steps: &Value, unready: &Value) -> Value {
    json!({"steps": steps, "problems": [], "unready": unready})
}

#[test]
fn passes_end_by_what_they_found() {
    let step = json!({"unit": "local/a", "action": "sync", "restart": "none", "rule": "task.updated", "reason": "it changed",
        "fromHash": "1111111111", "toHash": "2222222222", "files": [{"path": "task.sh", "change": "changed"}], "error": null});
    let nothing = report(&json!([]), &json!([]));
    let bad = report(&json!([]), &json!([{"name": "local/a", "why": "Failed: no"}]));
    let fake = Fake::start()
        .on("POST /api/v1/diff", [Answer::json(&report(&json!([step]), &json!([]))), Answer::json(&nothing)])
        .on("POST /api/v1/wait", [Answer::json(&nothing), Answer::json(&bad), Answer::Never])
        .on("POST /api/v1/reconcile", [Answer::json(&bad), Answer::Never])
        .gives("POST /api/v1/rollback", &bad);
    let place = with(&fake);
    insta::assert_snapshot!(place.run(&["diff"]).shown(), @r#"
    exit 1
    out: UNIT     ACTION  RULE          FROM    TO      REASON
    out: local/a  sync    task.updated  111111  222222  it changed (task.sh)
    "#);
    insta::assert_snapshot!(place.run(&["diff"]).shown(), @r#"
    exit 0
    err: no differences
    "#);
    insta::assert_snapshot!(place.run(&["wait"]).shown(), @"exit 0");
    insta::assert_snapshot!(place.run(&["wait", "local/a"]).shown(), @r#"
    exit 1
    out: local/a is not ready: Failed: no
    "#);
    insta::assert_snapshot!(place.run(&["wait", "--timeout", "10ms"]).shown(), @r#"
    exit 124
    err: error: it was not settled in time
    err: hint: see `kindling status`, or wait longer with --timeout
    "#);
    assert_eq!(place.run(&["reconcile", "--force", "--rescan"]).code, 1);
    assert_eq!(place.run(&["reconcile", "--timeout", "10ms"]).code, 124);
    assert_eq!(place.run(&["rollback", "a", "--to", "ABCD"]).code, 0);
    let body = |line: &str| -> Value {
        let calls = fake.calls();
        serde_json::from_str(&calls.iter().find(|call| call.line == line).unwrap().body).unwrap()
    };
    assert_eq!(
        body("POST /api/v1/reconcile"),
        json!({"subject": null, "rescan": true, "force": true, "allowRemovals": false, "allowRewrite": false})
    );
    assert_eq!(body("POST /api/v1/rollback"), json!({"unit": "a", "to": "abcd"}));
}

#[test]
fn wait_for_a_commit_looks_again_after_each_event() {
    let nothing = report(&json!([]), &json!([]));
    let at = |deployed: &str| {
        let mut source = source("team", "True", "ok");
        source["revision"] = json!({"seen": "feed", "attempted": deployed, "deployed": deployed});
        Answer::json(&json!({"items": [source]}))
    };
    let event = json!({"at": "2020-01-01T00:00:00Z", "type": "source.changed", "source": "team", "unit": null,
        "hash": null, "revision": null, "message": ""});
    let fake = Fake::start()
        .gives("POST /api/v1/wait", &nothing)
        .on("GET /api/v1/events", [Answer::Events(vec![event])])
        .on("GET /api/v1/sources?name=none", [Answer::error(404, "NotFound", "there is no source none", 2)])
        .on("GET /api/v1/sources", [at("0123"), at("0123"), at("feed01"), at("feed01")]);
    let place = with(&fake);
    assert_eq!(place.run(&["wait", "--revision", "FEED"]).code, 0);
    let looks = fake.lines().iter().filter(|line| line.starts_with("GET /api/v1/sources")).count();
    assert_eq!(looks, 3);
    insta::assert_snapshot!(place.run(&["wait", "--revision", "beef", "--timeout", "300ms"]).shown(), @r#"
    exit 124
    err: error: team has feed01 deployed, not beef
    err: hint: see `kindling status`, or wait longer with --timeout
    "#);
    assert_eq!(place.run(&["wait", "--hash", "beef"]).code, 2);
}

#[test]
fn a_source_by_command_is_made_absolute() {
    let fake = Fake::start()
        .gives("POST /api/v1/sources", &report(&json!([]), &json!([])))
        .gives("DELETE /api/v1/sources/mine", &report(&json!([]), &json!([])));
    let place = with(&fake);
    place.task("tasks/x");
    assert_eq!(place.run(&["source", "add", "mine", "--local", "./tasks"]).code, 0);
    let body: Value = serde_json::from_str(&fake.calls()[0].body).unwrap();
    assert_eq!(body["local"], place.here().join("tasks").display().to_string());
    insta::assert_snapshot!(place.run(&["source", "add", "mine", "--local", "nowhere"]).shown(), @r#"
    exit 2
    err: error: there is no directory [ROOT]/work/nowhere
    err: hint: --local takes a directory that is there
    "#);
    assert_eq!(fake.calls().len(), 1);
    assert_eq!(place.run(&["source", "remove", "mine"]).code, 0);
    assert_eq!(place.run(&["source", "remove", "../x"]).code, 2);
    assert_eq!(place.run(&["source", "add", "mine"]).code, 2);
    assert_eq!(place.run(&["source", "add", "m", "--local", ".", "--git", "/x"]).code, 2);
}
