use super::*;
use crate::model::hook::{Hook, HookMethod, HookPath};

fn trigger(text: &str) -> Result<Trigger, Vec<String>> {
    with(&format!("runtime: shell, trigger: {text}")).map(|spec| spec.trigger)
}

fn hook(path: &str) -> Hook {
    let path = HookPath::parse(path).unwrap();
    Hook { path, methods: Hook::DEFAULT_METHODS.to_vec(), secret: None, bearer: None }
}

#[test]
fn a_webhook_is_read_with_its_defaults() {
    assert_eq!(trigger("{webhook: /hooks/a}"), Ok(Trigger::Webhook(hook("/hooks/a"))));
    let all =
        "{webhook: /hooks/a/b, methods: [POST, DELETE, POST], webhook_secret: '${A_1}', bearer: '${B}'}";
    let expected = Hook {
        methods: vec![HookMethod::Post, HookMethod::Delete],
        secret: Some("A_1".into()),
        bearer: Some("B".into()),
        ..hook("/hooks/a/b")
    };
    assert_eq!(trigger(all), Ok(Trigger::Webhook(expected)));
    let spec = with("runtime: shell, trigger: {webhook: /hooks/a}").unwrap();
    assert_eq!((spec.timeout, spec.concurrency.limit), (Some(DEFAULT_TIMEOUT), None));
}

#[test]
fn what_is_wrong_with_a_webhook_is_told_at_its_place() {
    let told = |text: &str| trigger(text).unwrap_err().join("\n");
    insta::assert_snapshot!(told("{webhook: /deploy, methods: [GTE, GET]}"), @"
    1:83 `trigger.webhook` must be the whole path and begin with `/hooks/`, such as `/hooks/deploy`
    1:102 unknown method `GTE`; did you mean `GET`? known: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS
    ");
    insta::assert_snapshot!(told("{webhook: /hooks/../api, methods: []}"), @"
    1:83 `trigger.webhook` has a part that is empty, `.` or `..`
    1:107 `trigger.methods` names no method: leave it out for GET and POST
    ");
    // What is written there is never repeated: it may be the secret.
    insta::assert_snapshot!(told("{webhook: /hooks/a, webhook_secret: hunter2hunter2hunter2, bearer: $B}"), @"
    1:109 `trigger.webhook_secret` must be `${NAME}`, a variable of kindling's environment that `allow.env` of the source names: a secret itself does not belong into a file
    1:140 `trigger.bearer` must be `${NAME}`, a variable of kindling's environment that `allow.env` of the source names: a secret itself does not belong into a file
    ");
    insta::assert_snapshot!(told("{webhook: /hooks/a, webhook_secret: '${KINDLING_TOKEN}', bearer: '${a b}'}"), @"
    1:109 `trigger.webhook_secret` names `KINDLING_TOKEN`: variables in KINDLING_ are kindling's own
    1:138 `trigger.bearer` names a variable, but `a b` is not a name here: letters, digits and `_`, no digit first, 100 bytes at most
    ");
    assert!(told("{manual: true, bearer: '${B}'}").ends_with("`trigger.bearer` goes with `webhook`"));
    assert!(
        told("{webhook: /hooks/a, manual: true}").contains("a trigger is `manual` or `webhook`, not both")
    );
    let required = with("runtime: shell, trigger: {webhook: /hooks/a}, params: {a: {required: true}}");
    assert!(required.unwrap_err()[0].contains("of a task with `webhook` cannot be required"));
}

#[test]
fn no_run_gets_what_protects_its_webhook() {
    let of = |env: &str| {
        with(&format!(
            "runtime: shell, trigger: {{webhook: /hooks/a, bearer: '${{B}}'}}, permissions: {{env: [{env}]}}"
        ))
    };
    assert!(of("A").is_ok());
    for env in ["B", "{name: X, from: B}", "{name: B, optional: true}"] {
        let told = of(env).unwrap_err().join("\n");
        assert!(told.contains("`permissions.env` asks for `B`, which protects the webhook"), "{told}");
    }
}
